//! What one run asks of its CRM: whether a request is asked again with new access, where the
//! organisation is now, or with fewer records, and what is left because it is optional. How long to
//! wait in between is the pacer's matter.

use tracing::{info, warn};

use super::{
    context::SyncContext,
    error::{RunError, notice_of},
    job::SyncJob,
    pacer::{OPTIONAL_TRIES_MAX, RequestTries, RunPacer, RunPause},
};
use crate::{
    crm::{ClientTarget, CrmClient, CrmError, CrmFuture, PageEffort, RecordPage, RecordSightings, RetryAdvice},
    domain::{credentials::CrmAccess, integration::Organization, notice::Notice, record::RecordKey},
    store::{integrations, lease, run_progress},
};

/// Halvings of one page that do not count as failures: 2,000 records come down to 31. Each may cost
/// a time-out, so more of them do.
const HALVINGS_UNCOUNTED: u32 = 6;
/// Failures of one page that may be about its size and do not say so, before a smaller one is asked
/// for.
const FAILURES_BEFORE_SMALLER: u32 = 2;
/// Records asked for one by one that bring no answer, before the CRM as a whole is taken to be in
/// trouble.
const UNANSWERED_MAX: usize = 3;

/// A page that is asked for until it is here.
pub(super) struct PageRequest {
    tries: RequestTries,
    effort: PageEffort,
    at_this_size: u32,
    halvings: u32,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { tries: RequestTries::default(), effort: PageEffort::Whole, at_this_size: 0, halvings: 0 }
    }
}

/// What comes of asking for a page.
pub(super) enum PageAnswer {
    /// Here it is.
    Page(Box<RecordPage>),
    /// It is to be asked for again after this.
    Wait(RunPause),
}

/// A run's way to its CRM.
pub(super) struct CrmSession<'r> {
    pub pacer: RunPacer<'r>,
    /// As it is called now.
    organization: Organization,
    client: Box<dyn CrmClient>,
    access: CrmAccess,
}

impl<'r> CrmSession<'r> {
    /// Opens the credentials, or what was got by them.
    pub(super) async fn open(context: &'r SyncContext, job: &'r SyncJob) -> Result<Self, RunError> {
        let pacer = RunPacer::new(context, job);
        let (organization, mut tries) = (job.claimed.organization.clone(), RequestTries::default());
        let (client, access) = connect(pacer, &organization, None, &mut tries).await?;
        let mut session = Self { pacer, organization, client, access };
        session.identify_elsewhere(&mut tries).await?;
        Ok(session)
    }

    /// What the run asks.
    pub(super) fn client(&self) -> &dyn CrmClient {
        &*self.client
    }

    /// A client that asks beside the run, for a call that waits.
    pub(super) fn beside(&self) -> Result<Box<dyn CrmClient>, CrmError> {
        let RunPacer { context, job, .. } = self.pacer;
        context.crms.client(ClientTarget {
            is_trial: false,
            is_first_copy: job.claimed.is_first_copy,
            is_beside: true,
            organization: &self.organization,
            options: job.claimed.options.clone(),
            access: self.access.clone(),
        })
    }

    /// Asks until there is an answer or no sense in asking.
    pub(super) async fn ask<A: ?Sized + Sync, T>(
        &mut self,
        argument: &A,
        request: impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> CrmFuture<'c, T> + Sync,
    ) -> Result<T, RunError> {
        let mut tries = RequestTries::default();
        loop {
            match self.ask_once(argument, &request, &mut tries).await? {
                Ok(answer) => return Ok(answer),
                Err(error) => self.pacer.wait_after(error, &mut tries).await?,
            }
        }
    }

    /// Asks for what the run can do without, a few times and never for long; `None`: it is left,
    /// and why is in the log.
    pub(super) async fn ask_optional<A: ?Sized + Sync, T>(
        &mut self,
        argument: &A,
        request: impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> CrmFuture<'c, T> + Sync,
    ) -> Result<Option<T>, RunError> {
        // Where the organisation is now is asked for by what the run cannot do without.
        let mut tries = RequestTries { is_followed: true, ..RequestTries::default() };
        loop {
            let error = match self.ask_once(argument, &request, &mut tries).await? {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => error,
            };
            if !self.pacer.wait_after_optional(&error, &mut tries).await {
                return Ok(None);
            }
        }
    }

    /// Asks once for the page at a cursor, and says what to wait for before it is asked for again.
    /// One that is too much for the CRM is asked for with fewer records; what of it is optional and
    /// fails again and again is left.
    /// [`CrmError::PositionRefused`] is the asker's matter.
    pub(super) async fn try_page(
        &mut self,
        cursor: Option<&String>,
        request: &mut PageRequest,
    ) -> Result<PageAnswer, RunError> {
        loop {
            let asking = (cursor.map(String::as_str), request.effort);
            let answer = self
                .ask_once(&asking, &|client, (cursor, effort)| client.fetch_page(*cursor, *effort), &mut request.tries)
                .await?;
            let error = match answer {
                Ok(page) => {
                    self.client.page_size().grow();
                    return Ok(PageAnswer::Page(Box::new(page)));
                }
                Err(error) => error,
            };
            if self.is_for_smaller(&error, request.tries.failures) {
                (request.at_this_size, request.halvings) = (0, request.halvings + 1);
                if request.halvings <= HALVINGS_UNCOUNTED {
                    // It is another request, which has not failed yet.
                    let wait = self.pacer.backoff(1);
                    let error = Some(notice_of(&error));
                    return Ok(PageAnswer::Wait(RunPause { wait, phase: "asking for smaller pages", error }));
                }
            } else if error.is_local() {
                request.at_this_size += 1;
            }
            let is_hopeless = error.retry() == RetryAdvice::Never || request.at_this_size >= OPTIONAL_TRIES_MAX;
            if request.effort == PageEffort::Whole
                && self.client.has_optional_parts()
                && error.is_local()
                && is_hopeless
            {
                request.effort = PageEffort::Essential;
                continue;
            }
            return self.pacer.pause_after(error, &mut request.tries).map(PageAnswer::Wait);
        }
    }

    /// Asks for records once, and waits for nothing.
    pub(super) async fn look_up_once(
        &mut self,
        keys: &[RecordKey],
    ) -> Result<Result<RecordSightings, CrmError>, RunError> {
        // Where the organisation is now is asked for by what the run cannot do without.
        let mut tries = RequestTries { is_followed: true, ..RequestTries::default() };
        self.ask_once(keys, &|client, keys| client.look_up(keys), &mut tries).await
    }

    /// Asks for records, and where that fails for each alone: one that the CRM cannot answer for is
    /// one that it does not show, and costs no other. Where it answers for none, the run fails.
    pub(super) async fn look_up(&mut self, keys: &[RecordKey]) -> Result<RecordSightings, RunError> {
        let error = match self.ask(keys, |client, keys| client.look_up(keys)).await {
            Err(RunError::Crm(error)) if error.is_local() && keys.len() > 1 => error,
            answer => return answer,
        };
        let (mut sightings, mut is_answered, mut unanswered) = (RecordSightings::default(), false, 0);
        for key in keys {
            match self.ask_optional(std::slice::from_ref(key), |client, one| client.look_up(one)).await? {
                Some(some) => {
                    is_answered = true;
                    sightings.absorb(some);
                }
                None => unanswered += 1,
            }
            if !is_answered && unanswered >= UNANSWERED_MAX {
                break;
            }
        }
        if is_answered { Ok(sightings) } else { Err(error.into()) }
    }

    /// Whether a page that failed is asked for with fewer records from now on.
    fn is_for_smaller(&self, error: &CrmError, earlier_failures: u32) -> bool {
        if matches!(error, CrmError::TooMuch(_) | CrmError::TimedOut { .. }) {
            return self.client.page_size().shrink();
        }
        // Some say no more than that they failed.
        if matches!(error, CrmError::Unavailable(_) | CrmError::ConnectionBroke { .. })
            && (earlier_failures + 1).is_multiple_of(FAILURES_BEFORE_SMALLER)
        {
            self.client.page_size().shrink();
        }
        false
    }

    /// Asks once, and once more with new access where the old one has ended, or where the
    /// organisation is now.
    async fn ask_once<A: ?Sized + Sync, T>(
        &mut self,
        argument: &A,
        request: &(impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> CrmFuture<'c, T> + Sync),
        tries: &mut RequestTries,
    ) -> Result<Result<T, CrmError>, RunError> {
        loop {
            match request(&*self.client, argument).await {
                // An access token that has ended; once, so that a CRM which refuses every token is
                // not asked for ever.
                Err(CrmError::CredentialsRefused) if !tries.is_renewed => {
                    tries.is_renewed = true;
                    if self.access.version > 0 {
                        self.renew(tries).await?;
                    } else {
                        // One that was brought as it is: vendors refuse a good one now and then.
                        let error = CrmError::Unavailable("it refused the token once");
                        self.pacer.wait_after(error, tries).await?;
                    }
                }
                Err(CrmError::Renamed(name)) if !tries.is_renamed => {
                    tries.is_renamed = true;
                    self.rename(name, tries).await?;
                }
                Err(error) if is_away(&error) && !tries.is_followed => {
                    tries.is_followed = true;
                    if let Some(error) = self.follow(error, tries).await? {
                        return Ok(Err(error));
                    }
                }
                answer => return Ok(answer),
            }
        }
    }

    /// A new access token, and a client that uses it, where the vendor says that the organisation
    /// is now.
    async fn renew(&mut self, tries: &mut RequestTries) -> Result<(), RunError> {
        let used = Some(self.access.version);
        self.connect(used, tries).await?;
        self.identify_elsewhere(tries).await
    }

    /// The same where nothing was refused: what the integration wishes has changed since.
    pub(super) async fn renew_access(&mut self) -> Result<(), RunError> {
        self.renew(&mut RequestTries { is_followed: true, ..RequestTries::default() }).await
    }

    async fn connect(&mut self, used: Option<i64>, tries: &mut RequestTries) -> Result<(), RunError> {
        (self.client, self.access) = connect(self.pacer, &self.organization, used, tries).await?;
        Ok(())
    }

    /// After a host that does not answer for the organisation: asks whoever knows where it is now.
    /// A new token names the host, unless tokens are given at that very host; a token that was
    /// brought may be known elsewhere. Gives the error back where nobody knows.
    async fn follow(&mut self, error: CrmError, tries: &mut RequestTries) -> Result<Option<CrmError>, RunError> {
        let descriptor = self.pacer.context.crms.descriptor(self.organization.provider);
        if self.access.version > 0 && descriptor.tokens_name_the_host {
            tries.failures += 1;
            warn!(error = %error, "a host does not answer for its organisation, will ask for a token, which names the host");
            return self.renew(tries).await.map(|()| None);
        }
        match self.pacer.context.crms.find_renamed(&self.organization, &self.access).await {
            Ok(Some(name)) => self.rename(name, tries).await.map(|()| None),
            Ok(None) | Err(_) => Ok(Some(error)),
        }
    }

    /// Where the API lies elsewhere than before, the organisation may have another name, too; that
    /// it is the same was proven before the access was stored.
    async fn identify_elsewhere(&mut self, tries: &mut RequestTries) -> Result<(), RunError> {
        while self.access.is_elsewhere {
            match self.client.identify().await {
                Ok(()) => self.access.is_elsewhere = false,
                Err(CrmError::Renamed(name)) => self.rename(name, tries).await?,
                Err(error) => self.pacer.wait_after(error, tries).await?,
            }
        }
        Ok(())
    }

    /// The organisation has another name now: stored, noted in the run, and used from now on.
    async fn rename(&mut self, name: String, tries: &mut RequestTries) -> Result<(), RunError> {
        let RunPacer { context, job, .. } = self.pacer;
        let (lease, now) = (job.lease(), self.pacer.now());
        if !integrations::rename(&context.db, lease, &name, now).await? {
            return Err(CrmError::OtherOrganization(Some(name)).into());
        }
        let words = format!(
            "the CRM calls {} {name} now; it is the same by the CRM's own number, and was followed",
            self.organization.name
        );
        let notice = Notice::new("ORGANIZATION_RENAMED", words);
        run_progress::notice(&context.db, lease, job.run.id, &notice, now).await?;
        info!("the organisation has another name in its CRM now, and is followed");
        self.organization.name = name;
        self.connect(None, tries).await
    }
}

/// A client with access, until there is an access token or no sense in asking for one. `used`: the
/// version of an access that was refused.
async fn connect(
    pacer: RunPacer<'_>,
    organization: &Organization,
    used: Option<i64>,
    tries: &mut RequestTries,
) -> Result<(Box<dyn CrmClient>, CrmAccess), RunError> {
    loop {
        match connect_once(pacer, organization, used).await {
            Err(RunError::Crm(error)) => pacer.wait_after(error, tries).await?,
            connected => return connected,
        }
    }
}

async fn connect_once(
    pacer: RunPacer<'_>,
    organization: &Organization,
    used: Option<i64>,
) -> Result<(Box<dyn CrmClient>, CrmAccess), RunError> {
    let RunPacer { context, job, .. } = pacer;
    let (access_tokens, lease) = (&context.access_tokens, job.lease());
    if let Some(sealed) = job.claimed.credentials.as_deref()
        && let Some(resealed) = access_tokens.vault.reseal(lease.account_id, lease.integration_id, sealed)
    {
        lease::reseal(&context.db, lease, sealed, &resealed).await?;
        info!("credentials are sealed by the primary key now");
    }
    let access = access_tokens.current(lease.account_id, lease.integration_id, organization, used).await?;
    let target = ClientTarget {
        is_trial: false,
        is_first_copy: job.claimed.is_first_copy,
        is_beside: false,
        organization,
        options: job.claimed.options.clone(),
        access: access.clone(),
    };
    Ok((context.crms.client(target)?, access))
}

/// Whether the host may not be the organisation's any more.
const fn is_away(error: &CrmError) -> bool {
    matches!(error, CrmError::HostMoved | CrmError::NoConnection { .. } | CrmError::OrganizationNotFound)
}
