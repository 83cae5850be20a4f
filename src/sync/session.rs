//! What one run asks of its CRM. The only place that decides whether a request is tried again, after how long, and with which access.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{
    Syncing,
    run::{Job, RunError},
    schedule::{self, RATE_LIMIT_WAITS_MAX},
};
use crate::{
    crm::{Answer, CrmClient, CrmError, Retry, Target},
    domain::{
        credentials::Access,
        integration::{Organization, Provider},
    },
    store::{
        integrations, lease,
        run_progress::{self, Report},
    },
};

/// A run's way to its CRM.
pub(super) struct Session<'r> {
    /// What it belongs to.
    pub syncing: &'r Syncing,
    /// Which run.
    pub job: &'r Job,
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
        let (organization, mut tries) = (job.claimed.organization.clone(), Tries::default());
        let (client, access) = connect_again(syncing, job, &organization, None, &mut tries).await?;
        let mut session = Self { syncing, job, organization, client, access };
        session.identify_elsewhere(&mut tries).await?;
        Ok(session)
    }

    /// Asks until there is an answer or no sense in asking. [`CrmError::PositionRefused`] is the asker's matter.
    pub(super) async fn ask<A: ?Sized + Sync, T>(
        &mut self,
        argument: &A,
        request: impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> Answer<'c, T> + Sync,
    ) -> Result<T, RunError> {
        let mut tries = Tries::default();
        loop {
            match request(&*self.client, argument).await {
                Ok(answer) => return Ok(answer),
                // An access token that has ended; once, so that a CRM which refuses every token is not asked for ever.
                Err(CrmError::CredentialsRefused) if !tries.is_renewed => {
                    tries.is_renewed = true;
                    if self.access.version > 0 {
                        self.renew(&mut tries).await?;
                    } else {
                        // One that was brought as it is: vendors refuse a good one now and then.
                        self.wait_after(CrmError::Unavailable("it refused the token once"), &mut tries).await?;
                    }
                }
                Err(CrmError::Renamed(name)) if !tries.is_renamed => {
                    tries.is_renamed = true;
                    self.rename(name, &mut tries).await?;
                }
                Err(error) if is_away(&error) && !tries.is_followed => {
                    tries.is_followed = true;
                    self.follow(error, &mut tries).await?;
                }
                Err(error) => self.wait_after(error, &mut tries).await?,
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
    /// Zendesk, which gives tokens at that very host; a token that was brought may be known elsewhere.
    async fn follow(&mut self, error: CrmError, tries: &mut Tries) -> Result<(), RunError> {
        if self.access.version > 0 && self.organization.provider != Provider::Zendesk {
            tries.failures += 1;
            warn!(integration.id = %self.job.claimed.lease.integration_id, error = %error, "a host does not answer for its organisation, will ask for a token, which names the host");
            return self.renew(tries).await;
        }
        match self.syncing.crms.find_renamed(&self.organization, &self.access).await {
            Ok(Some(name)) => self.rename(name, tries).await,
            Ok(None) | Err(_) => self.wait_after(error, tries).await,
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
            return Err(CrmError::OtherOrganization.into());
        }
        let notice = format!(
            "ORGANIZATION_RENAMED: the CRM calls {} {name} now; it is the same by the CRM's own number, and was followed",
            self.organization.name
        );
        run_progress::notice(&self.syncing.db, lease, self.job.begun.id, &notice, now).await?;
        info!(integration.id = %lease.integration_id, "the organisation has another name in its CRM now, and is followed");
        self.organization.name = name;
        self.connect(None, tries).await
    }

    /// The time.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.syncing.clock.now()
    }

    async fn wait_after(&self, error: CrmError, tries: &mut Tries) -> Result<(), RunError> {
        wait_after(self.syncing, self.job, error, tries).await
    }

    /// Tells whoever watches what the run is doing.
    pub(super) async fn report(&self, told: &Report<'_>) -> Result<(), RunError> {
        report(self.syncing, self.job, told).await
    }
}

async fn report(syncing: &Syncing, job: &Job, report: &Report<'_>) -> Result<(), RunError> {
    let (lease, run_id) = (job.claimed.lease, job.begun.id);
    let is_held = run_progress::report(&syncing.db, lease, run_id, report, syncing.clock.now()).await?;
    if is_held { Ok(()) } else { Err(RunError::LeaseLost) }
}

/// After a failed request: waits before the next try, or says that there is none. Waits are told to whoever watches.
async fn wait_after(syncing: &Syncing, job: &Job, error: CrmError, tries: &mut Tries) -> Result<(), RunError> {
    let is_rate_limit = matches!(error, CrmError::RateLimited { .. });
    if is_rate_limit {
        tries.rate_limits += 1;
    } else {
        tries.failures += 1;
    }
    let settings = &syncing.settings;
    let is_enough = tries.failures >= settings.attempts_max || tries.rate_limits > RATE_LIMIT_WAITS_MAX;
    let jitter = syncing.ids.with_rng(rand::Rng::next_u32).to_le_bytes()[0];
    let backoff = schedule::backoff(settings.backoff_base, tries.failures.max(tries.rate_limits), jitter);
    let wait = match error.retry() {
        Retry::Never => return Err(error.into()),
        _ if is_enough => return Err(error.into()),
        // A long wait frees its place for others: the run ends, and the next one goes on after it.
        Retry::After(wait) if wait > schedule::WAIT_MAX => return Err(error.into()),
        // "0" is no leave to ask as fast as the network allows: about once a second, and less often each time.
        Retry::After(wait) => wait.max(settings.backoff_base * tries.rate_limits.max(1)),
        Retry::Backoff => backoff,
    };
    warn!(integration.id = %job.claimed.lease.integration_id, sync_run.id = %job.begun.id, error = %error, wait_ms = millis(wait), "a request failed, will try again");
    let phase = if is_rate_limit { "waiting for the CRM's rate limit" } else { "waiting to try again" };
    report(syncing, job, &Report { phase, error: &error.to_string(), estimated_total: None }).await?;
    sleep(wait).await;
    Ok(())
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
        && let Some(resealed) = syncing.accesses.safe.reseal(lease.account_id, lease.integration_id, sealed)
    {
        lease::reseal(&syncing.db, lease, sealed, &resealed).await?;
        info!(integration.id = %lease.integration_id, "credentials are sealed by the primary key now");
    }
    let access =
        syncing.accesses.current(lease.account_id, lease.integration_id, organization, refused_version).await?;
    let target = Target {
        integration_id: Some(lease.integration_id),
        organization,
        options: job.claimed.options,
        access: access.clone(),
    };
    Ok((syncing.crms.client(target)?, access))
}

/// Whether the host may not be the organisation's any more.
const fn is_away(error: &CrmError) -> bool {
    matches!(error, CrmError::HostMoved | CrmError::NoConnection | CrmError::OrganizationNotFound)
}

/// As logs write it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
