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
    domain::integration::{Organization, Provider},
    store::{
        lease,
        run_progress::{self, Report},
    },
};

/// A run's way to its CRM.
pub(super) struct Session<'r> {
    /// What it belongs to.
    pub syncing: &'r Syncing,
    /// Which run.
    pub job: &'r Job,
    client: Box<dyn CrmClient>,
    access_version: i64,
}

/// How often one request has failed.
#[derive(Default)]
struct Tries {
    failures: u32,
    rate_limits: u32,
    /// A new token was got, or a static one was shown again.
    is_renewed: bool,
    /// A new token was asked where the organisation is now.
    is_followed: bool,
}

impl<'r> Session<'r> {
    /// Opens the credentials, or what was got by them.
    pub(super) async fn open(syncing: &'r Syncing, job: &'r Job) -> Result<Self, RunError> {
        let (client, access_version) = connect_again(syncing, job, None, &mut Tries::default()).await?;
        Ok(Self { syncing, job, client, access_version })
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
                    if self.access_version > 0 {
                        self.renew(&mut tries).await?;
                    } else {
                        // One that was brought as it is: vendors refuse a good one now and then.
                        self.wait_after(CrmError::Unavailable("it refused the token once"), &mut tries).await?;
                    }
                }
                // The organisation may have moved; whoever gives tokens knows where to.
                Err(error) if self.may_have_moved(&error, &tries) => {
                    tries.is_followed = true;
                    tries.failures += 1;
                    warn!(integration.id = %self.job.claimed.lease.integration_id, error = %error, "a host does not answer for its organisation, will ask for a token, which names the host");
                    self.renew(&mut tries).await?;
                }
                Err(error) => self.wait_after(error, &mut tries).await?,
            }
        }
    }

    /// A new access token, and a client that uses it, where the vendor says that the organisation is now.
    async fn renew(&mut self, tries: &mut Tries) -> Result<(), RunError> {
        let used = Some(self.access_version);
        let (client, access_version) = connect_again(self.syncing, self.job, used, tries).await?;
        self.client = client;
        self.access_version = access_version;
        Ok(())
    }

    /// Whether a new token may name another host. Zendesk gives its tokens at the very host that does not answer.
    fn may_have_moved(&self, error: &CrmError, tries: &Tries) -> bool {
        let names_host = self.job.claimed.organization.provider != Provider::Zendesk;
        let is_away = matches!(error, CrmError::HostMoved | CrmError::NoConnection | CrmError::OrganizationNotFound);
        is_away && names_host && self.access_version > 0 && !tries.is_followed
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
    refused_version: Option<i64>,
    tries: &mut Tries,
) -> Result<(Box<dyn CrmClient>, i64), RunError> {
    loop {
        match connect(syncing, job, refused_version).await {
            Err(RunError::Crm(error)) => wait_after(syncing, job, error, tries).await?,
            connected => return connected,
        }
    }
}

async fn connect(
    syncing: &Syncing,
    job: &Job,
    refused_version: Option<i64>,
) -> Result<(Box<dyn CrmClient>, i64), RunError> {
    let (lease, organization): (_, &Organization) = (job.claimed.lease, &job.claimed.organization);
    if let Some(sealed) = job.claimed.credentials.as_deref()
        && let Some(resealed) = syncing.accesses.safe.reseal(lease.account_id, lease.integration_id, sealed)
    {
        lease::reseal(&syncing.db, lease, sealed, &resealed).await?;
        info!(integration.id = %lease.integration_id, "credentials are sealed by the primary key now");
    }
    let access =
        syncing.accesses.current(lease.account_id, lease.integration_id, organization, refused_version).await?;
    let version = access.version;
    let target =
        Target { integration_id: Some(lease.integration_id), organization, options: job.claimed.options, access };
    Ok((syncing.crms.client(target)?, version))
}

/// As logs write it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
