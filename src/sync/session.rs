//! What one run asks of its CRM. The only place that decides whether a request is tried again, after how long, with which access, and
//! what is left because it is optional.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{
    Syncing,
    run::{Job, RunError, notice_of},
    schedule::{self, RATE_LIMIT_WAITS_MAX},
};
use crate::{
    crm::{Answer, CrmClient, CrmError, Effort, Page, Retry, Target},
    domain::{
        credentials::Access,
        integration::{Organization, Provider},
        notice::Notice,
    },
    store::{
        integrations, lease,
        run_progress::{self, Report},
    },
};

/// A wait up to this keeps the worker's place; during a longer one the place is given back if somebody else needs it.
const PLACE_KEPT_MAX: Duration = Duration::from_secs(1);
/// A run that makes room is due again behind everybody who is due by now.
const BEHIND_THE_OTHERS: Duration = Duration::from_millis(1);
/// Tries of something optional before it is left.
const OPTIONAL_TRIES_MAX: u32 = 3;
/// Halvings of one page that do not count as failures: 2,000 records come down to 31. Each may cost a time-out, so more of them do.
const HALVINGS_UNCOUNTED: u32 = 6;
/// Failures of one page that may be about its size and do not say so, before a smaller one is asked for.
const FAILURES_BEFORE_SMALLER: u32 = 2;

/// A run's way to its CRM.
pub(super) struct Session<'r> {
    /// What it belongs to.
    pub syncing: &'r Syncing,
    /// Which run.
    pub job: &'r Job,
    /// When this worker took the run up.
    pub began: Instant,
    /// As it is called now.
    organization: Organization,
    client: Box<dyn CrmClient>,
    access: Access,
}

/// How often one request has failed.
#[derive(Default)]
struct Tries {
    failures: u32,
    rate_limits: u32,
    /// A new token was got, or a static one was shown again.
    is_renewed: bool,
    /// Its new name was learned.
    is_renamed: bool,
    /// It was asked where the organisation is now.
    is_followed: bool,
}

impl<'r> Session<'r> {
    /// Opens the credentials, or what was got by them.
    pub(super) async fn open(syncing: &'r Syncing, job: &'r Job) -> Result<Self, RunError> {
        let began = Instant::now();
        let (organization, mut tries) = (job.claimed.organization.clone(), Tries::default());
        let (client, access) = connect_again(syncing, job, &organization, None, &mut tries).await?;
        let mut session = Self { syncing, job, began, organization, client, access };
        session.identify_elsewhere(&mut tries).await?;
        Ok(session)
    }

    /// What the run asks.
    pub(super) fn client(&self) -> &dyn CrmClient {
        &*self.client
    }

    /// Asks until there is an answer or no sense in asking.
    pub(super) async fn ask<A: ?Sized + Sync, T>(
        &mut self,
        argument: &A,
        request: impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> Answer<'c, T> + Sync,
    ) -> Result<T, RunError> {
        let mut tries = Tries::default();
        loop {
            match self.ask_once(argument, &request, &mut tries).await? {
                Ok(answer) => return Ok(answer),
                Err(error) => self.wait_after(error, &mut tries).await?,
            }
        }
    }

    /// Asks for what the run can do without, a few times and never for long; `None`: it is left, and why is in the log.
    pub(super) async fn ask_optional<A: ?Sized + Sync, T>(
        &mut self,
        argument: &A,
        request: impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> Answer<'c, T> + Sync,
    ) -> Result<Option<T>, RunError> {
        // Where the organisation is now is asked for by what the run cannot do without.
        let mut tries = Tries { is_followed: true, ..Tries::default() };
        loop {
            let error = match self.ask_once(argument, &request, &mut tries).await? {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => error,
            };
            let asked = tries.count(&error);
            let wait = match error.retry() {
                Retry::After(wait) if asked < OPTIONAL_TRIES_MAX && wait <= schedule::WAIT_MAX => wait,
                Retry::Backoff if asked < OPTIONAL_TRIES_MAX => self.backoff(asked),
                _ => Duration::MAX,
            };
            if wait == Duration::MAX || !self.wait_in_place(wait).await {
                warn!(integration.id = %self.job.claimed.lease.integration_id, sync_run.id = %self.job.begun.id, error = %error, "something optional was not answered, and is left");
                return Ok(None);
            }
        }
    }

    /// The page at a place. One that is too much for the CRM is asked for again, with fewer records; what of it is optional and fails
    /// again and again is left. [`CrmError::PositionRefused`] is the asker's matter.
    pub(super) async fn fetch_page(&mut self, place: Option<&String>) -> Result<Page, RunError> {
        let (mut tries, mut effort) = (Tries::default(), Effort::Whole);
        let (mut at_this_size, mut halvings) = (0, 0);
        loop {
            let asking = (place.map(String::as_str), effort);
            let answer = self
                .ask_once(&asking, &|client, (place, effort)| client.fetch_page(*place, *effort), &mut tries)
                .await?;
            let error = match answer {
                Ok(page) => {
                    self.client.page_size().grow();
                    return Ok(page);
                }
                Err(error) => error,
            };
            if self.is_for_smaller(&error, tries.failures) {
                (at_this_size, halvings) = (0, halvings + 1);
                if halvings <= HALVINGS_UNCOUNTED {
                    // It is another request, which has not failed yet.
                    self.pause(self.backoff(1), "asking for smaller pages", Some(notice_of(&error))).await?;
                    continue;
                }
            } else if error.is_local() {
                at_this_size += 1;
            }
            let is_hopeless = error.retry() == Retry::Never || at_this_size >= OPTIONAL_TRIES_MAX;
            if effort == Effort::Whole && self.client.has_optional_parts() && error.is_local() && is_hopeless {
                effort = Effort::Essential;
                continue;
            }
            self.wait_after(error, &mut tries).await?;
        }
    }

    /// Whether a page that failed is asked for with fewer records from now on.
    fn is_for_smaller(&self, error: &CrmError, earlier_failures: u32) -> bool {
        match error {
            CrmError::TooMuch(_) | CrmError::TimedOut { .. } => self.client.page_size().shrink(),
            // Some say no more than that they failed.
            CrmError::Unavailable(_) | CrmError::ConnectionBroke { .. }
                if (earlier_failures + 1).is_multiple_of(FAILURES_BEFORE_SMALLER) =>
            {
                self.client.page_size().shrink();
                false
            }
            _ => false,
        }
    }

    /// The time.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.syncing.clock.now()
    }

    /// Waits, and tells whoever watches; see [`pause`].
    pub(super) async fn pause(
        &self,
        wait: Duration,
        phase: &'static str,
        error: Option<Notice>,
    ) -> Result<(), RunError> {
        pause(self.syncing, self.job, wait, phase, error).await
    }

    /// Between two pages: gives the worker's place back if the run has had it for a while and somebody else needs it.
    pub(super) fn take_turns(&self) -> Result<(), RunError> {
        if self.began.elapsed() < self.syncing.settings.turn || !self.syncing.crowd.is_waiting_now() {
            return Ok(());
        }
        Err(RunError::Parked { wait: BEHIND_THE_OTHERS, phase: "waiting for its turn", error: None })
    }

    /// Asks once, and once more with new access where the old one has ended, or where the organisation is now.
    async fn ask_once<A: ?Sized + Sync, T>(
        &mut self,
        argument: &A,
        request: &(impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> Answer<'c, T> + Sync),
        tries: &mut Tries,
    ) -> Result<Result<T, CrmError>, RunError> {
        loop {
            match request(&*self.client, argument).await {
                // An access token that has ended; once, so that a CRM which refuses every token is not asked for ever.
                Err(CrmError::CredentialsRefused) if !tries.is_renewed => {
                    tries.is_renewed = true;
                    if self.access.version > 0 {
                        self.renew(tries).await?;
                    } else {
                        // One that was brought as it is: vendors refuse a good one now and then.
                        self.wait_after(CrmError::Unavailable("it refused the token once"), tries).await?;
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

    /// A new access token, and a client that uses it, where the vendor says that the organisation is now.
    async fn renew(&mut self, tries: &mut Tries) -> Result<(), RunError> {
        let used = Some(self.access.version);
        self.connect(used, tries).await?;
        self.identify_elsewhere(tries).await
    }

    async fn connect(&mut self, used: Option<i64>, tries: &mut Tries) -> Result<(), RunError> {
        let connected = connect_again(self.syncing, self.job, &self.organization, used, tries).await?;
        (self.client, self.access) = connected;
        Ok(())
    }

    /// After a host that does not answer for the organisation: asks whoever knows where it is now. A new token names the host, but for
    /// Zendesk, which gives tokens at that very host; a token that was brought may be known elsewhere. Gives the error back where nobody
    /// knows.
    async fn follow(&mut self, error: CrmError, tries: &mut Tries) -> Result<Option<CrmError>, RunError> {
        if self.access.version > 0 && self.organization.provider != Provider::Zendesk {
            tries.failures += 1;
            warn!(integration.id = %self.job.claimed.lease.integration_id, error = %error, "a host does not answer for its organisation, will ask for a token, which names the host");
            return self.renew(tries).await.map(|()| None);
        }
        match self.syncing.crms.find_renamed(&self.organization, &self.access).await {
            Ok(Some(name)) => self.rename(name, tries).await.map(|()| None),
            Ok(None) | Err(_) => Ok(Some(error)),
        }
    }

    /// Where the API lies elsewhere than before, the organisation may have another name, too; that it is the same was proven before the
    /// access was stored.
    async fn identify_elsewhere(&mut self, tries: &mut Tries) -> Result<(), RunError> {
        while self.access.is_elsewhere {
            match self.client.identify().await {
                Ok(()) => self.access.is_elsewhere = false,
                Err(CrmError::Renamed(name)) => self.rename(name, tries).await?,
                Err(error) => self.wait_after(error, tries).await?,
            }
        }
        Ok(())
    }

    /// The organisation has another name now: stored, told, and used from now on.
    async fn rename(&mut self, name: String, tries: &mut Tries) -> Result<(), RunError> {
        let (lease, now) = (self.job.claimed.lease, self.now());
        if !integrations::rename(&self.syncing.db, lease, &name, now).await? {
            return Err(CrmError::OtherOrganization(Some(name)).into());
        }
        let words = format!(
            "the CRM calls {} {name} now; it is the same by the CRM's own number, and was followed",
            self.organization.name
        );
        let notice = Notice::new("ORGANIZATION_RENAMED", words);
        run_progress::notice(&self.syncing.db, lease, self.job.begun.id, &notice, now).await?;
        info!(integration.id = %lease.integration_id, "the organisation has another name in its CRM now, and is followed");
        self.organization.name = name;
        self.connect(None, tries).await
    }

    async fn wait_after(&self, error: CrmError, tries: &mut Tries) -> Result<(), RunError> {
        wait_after(self.syncing, self.job, error, tries).await
    }

    /// Waits without giving the place back; false: somebody else needs it, and a longer wait is not worth it.
    async fn wait_in_place(&self, wait: Duration) -> bool {
        if wait <= PLACE_KEPT_MAX {
            sleep(wait).await;
            return true;
        }
        tokio::select! {
            () = sleep(wait) => true,
            () = self.syncing.crowd.is_waiting() => false,
        }
    }

    fn backoff(&self, attempt: u32) -> Duration {
        backoff(self.syncing, attempt)
    }

    /// Tells whoever watches what the run is doing.
    pub(super) async fn report(&self, told: &Report<'_>) -> Result<(), RunError> {
        report(self.syncing, self.job, told).await
    }
}

impl Tries {
    /// Counts a failure, and says how many of its kind there were.
    const fn count(&mut self, error: &CrmError) -> u32 {
        let tries =
            if matches!(error, CrmError::RateLimited { .. }) { &mut self.rate_limits } else { &mut self.failures };
        *tries += 1;
        *tries
    }
}

async fn report(syncing: &Syncing, job: &Job, report: &Report<'_>) -> Result<(), RunError> {
    let (lease, run_id) = (job.claimed.lease, job.begun.id);
    let is_held = run_progress::report(&syncing.db, lease, run_id, report, syncing.clock.now()).await?;
    if is_held { Ok(()) } else { Err(RunError::LeaseLost) }
}

/// Waits, and tells whoever watches. A long wait gives the worker's place back as soon as somebody else needs it: the run is taken up
/// again when the wait is over.
async fn pause(
    syncing: &Syncing,
    job: &Job,
    wait: Duration,
    phase: &'static str,
    error: Option<Notice>,
) -> Result<(), RunError> {
    report(syncing, job, &Report { phase, error: error.as_ref(), estimated_total: None }).await?;
    if wait <= PLACE_KEPT_MAX {
        sleep(wait).await;
        return Ok(());
    }
    let began = Instant::now();
    tokio::select! {
        () = sleep(wait) => Ok(()),
        () = syncing.crowd.is_waiting() => {
            let wait = wait.saturating_sub(began.elapsed());
            Err(RunError::Parked { wait, phase, error })
        }
    }
}

fn backoff(syncing: &Syncing, attempt: u32) -> Duration {
    let jitter = syncing.ids.with_rng(rand::Rng::next_u32).to_le_bytes()[0];
    schedule::backoff(syncing.settings.backoff_base, attempt, jitter)
}

/// After a failed request: waits before the next try, or says that there is none.
async fn wait_after(syncing: &Syncing, job: &Job, error: CrmError, tries: &mut Tries) -> Result<(), RunError> {
    if let CrmError::Paced { wait } = error {
        return pause(syncing, job, wait, "keeping to its share of the CRM's rate limit", None).await;
    }
    tries.count(&error);
    let settings = &syncing.settings;
    let is_enough = tries.failures >= settings.attempts_max || tries.rate_limits > RATE_LIMIT_WAITS_MAX;
    let wait = match error.retry() {
        Retry::Never => return Err(error.into()),
        _ if is_enough => return Err(error.into()),
        // A long wait frees its place for others: the run ends, and the next one goes on after it.
        Retry::After(wait) if wait > schedule::WAIT_MAX => return Err(error.into()),
        // "0" is no leave to ask as fast as the network allows: about once a second, and less often each time.
        Retry::After(wait) => wait.max(settings.backoff_base * tries.rate_limits.max(1)),
        Retry::Backoff => backoff(syncing, tries.failures.max(tries.rate_limits)),
    };
    warn!(integration.id = %job.claimed.lease.integration_id, sync_run.id = %job.begun.id, error = %error, wait_ms = millis(wait), "a request failed, will try again");
    let is_rate_limit = matches!(error, CrmError::RateLimited { .. });
    let phase = if is_rate_limit { "waiting for the CRM's rate limit" } else { "waiting to try again" };
    pause(syncing, job, wait, phase, Some(notice_of(&error))).await
}

/// As [`connect`], until there is an access token or no sense in asking for one.
async fn connect_again(
    syncing: &Syncing,
    job: &Job,
    organization: &Organization,
    refused_version: Option<i64>,
    tries: &mut Tries,
) -> Result<(Box<dyn CrmClient>, Access), RunError> {
    loop {
        match connect(syncing, job, organization, refused_version).await {
            Err(RunError::Crm(error)) => wait_after(syncing, job, error, tries).await?,
            connected => return connected,
        }
    }
}

async fn connect(
    syncing: &Syncing,
    job: &Job,
    organization: &Organization,
    refused_version: Option<i64>,
) -> Result<(Box<dyn CrmClient>, Access), RunError> {
    let lease = job.claimed.lease;
    if let Some(sealed) = job.claimed.credentials.as_deref()
        && let Some(resealed) = syncing.access_tokens.vault.reseal(lease.account_id, lease.integration_id, sealed)
    {
        lease::reseal(&syncing.db, lease, sealed, &resealed).await?;
        info!(integration.id = %lease.integration_id, "credentials are sealed by the primary key now");
    }
    let access =
        syncing.access_tokens.current(lease.account_id, lease.integration_id, organization, refused_version).await?;
    let target = Target {
        is_trial: false,
        is_first_copy: job.claimed.is_first_copy,
        organization,
        options: job.claimed.options,
        access: access.clone(),
    };
    Ok((syncing.crms.client(target)?, access))
}

/// Whether the host may not be the organisation's any more.
const fn is_away(error: &CrmError) -> bool {
    matches!(error, CrmError::HostMoved | CrmError::NoConnection { .. } | CrmError::OrganizationNotFound)
}

/// As logs write it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
