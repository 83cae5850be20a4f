//! One run, read like a sentence: open the credentials, then page by page fetch, normalise, apply. The only place that decides
//! whether to try again, to wait or to stop.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Syncing,
    apply::{ApplyError, NormalPage},
    normalize::normalize_page,
    schedule::{self, RATE_LIMIT_WAITS_MAX, STALLED_ATTEMPTS_MAX},
};
use crate::{
    crm::{CrmClient, CrmError, Page, Retry, Target},
    domain::{ids::SyncRunId, integration::Hold, options::Options, phone::Region, sync_run::SyncKind},
    identity::adoption,
    store::{
        self, StoreError,
        lease::{self, Begun, Claimed, Due, Failure, Lease, Report},
        sync_runs,
    },
    telemetry::chain,
};

/// A full pass refreshes the tables' statistics after so many pages.
const ANALYZE_AFTER_PAGES: [u32; 3] = [1, 10, 100];
/// Places of one run that are remembered, to see a circle: 100,000 pages are 100 million users.
const PLACES_MAX: usize = 100_000;
/// How often a run may start its window again because the CRM refused its place.
const RESTARTS_MAX: usize = 2;

/// Why a run did not complete.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// Another worker, or a cancellation, has taken over: write nothing more.
    #[error("the lease is lost")]
    LeaseLost,
    /// The CRM.
    #[error("the CRM did not do its part")]
    Crm(#[from] CrmError),
    /// Stored credentials are missing or do not open.
    #[error("the stored credentials cannot be used")]
    Credentials(#[source] Option<crate::credentials::CredentialsError>),
    /// It has crashed its workers again and again.
    #[error("the run was taken up {STALLED_ATTEMPTS_MAX} times and never got on")]
    Stalled,
    /// The account's row is gone, or the provider cannot be synced: a bug.
    #[error("the run has no account or no client")]
    Impossible,
    /// The database.
    #[error("the database did not do its part")]
    Store(#[from] StoreError),
}

impl From<ApplyError> for RunError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::LeaseLost => Self::LeaseLost,
            ApplyError::Store(error) => Self::Store(error),
        }
    }
}

/// How often one request has failed.
#[derive(Default)]
struct Tries {
    failures: u32,
    rate_limits: u32,
}

/// A run and the right to write for it.
struct Job {
    claimed: Claimed,
    begun: Begun,
}

impl Syncing {
    /// Claims a due integration and works on it until it is done, fails, is taken away, or `stop` is cancelled.
    /// False: somebody else has it.
    pub(super) async fn run(&self, due: Due, stop: &CancellationToken) -> Result<bool, StoreError> {
        let Some((claimed, begun)) = self.claim(due).await? else { return Ok(false) };
        let lease = claimed.lease;
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                // A transaction under way finishes by itself, then this goes through, and another worker goes on.
                self.release(lease).await?;
            }
            // Before the lease: a run that has just ended has given it up itself.
            result = self.work(claimed, begun) => result?,
            () = self.keep_lease(lease) => {
                warn!(integration.id = %lease.integration_id, "the lease is lost, the run goes on elsewhere or was stopped");
            }
        }
        Ok(true)
    }

    async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.db.transaction(move |tx| Box::pin(async move { lease::release(tx, lease, now).await })).await
    }

    async fn claim(&self, due: Due) -> Result<Option<(Claimed, Option<Begun>)>, StoreError> {
        let (lease_seconds, now) = (self.settings.lease.as_secs_f64(), self.clock.now());
        let new_id = SyncRunId(self.ids.new_v7(now));
        self.db
            .transaction(move |tx| {
                Box::pin(async move {
                    let Some(claimed) = lease::claim(tx, due, lease_seconds, now).await? else { return Ok(None) };
                    if claimed.is_purging {
                        return Ok(Some((claimed, None)));
                    }
                    let mut begun = lease::begin_run(tx, &claimed, new_id, now).await?;
                    // A full pass that someone asked for reads everything; any other goes on where the last one was stopped.
                    if begun.resume_point.is_none() && (claimed.is_first_copy || begun.kind == SyncKind::Incremental) {
                        let Due { account_id, integration_id } = due;
                        let point =
                            sync_runs::find_unfinished_point(tx, account_id, integration_id, begun.kind, begun.id)
                                .await?;
                        if let Some(point) = &point {
                            sync_runs::inherit_resume_point(tx, account_id, begun.id, point).await?;
                        }
                        begun.resume_point = point;
                    }
                    Ok(Some((claimed, Some(begun))))
                })
            })
            .await
    }

    /// Extends the lease until it is lost. Also gives up by this machine's own clock: a process that could not reach the database
    /// for a whole lease must not believe that it still holds it.
    async fn keep_lease(&self, lease: Lease) {
        let margin = self.settings.heartbeat;
        let mut held_until = Instant::now() + self.settings.lease;
        loop {
            sleep(self.settings.heartbeat).await;
            let asked_at = Instant::now();
            match lease::extend(&self.db, lease, self.settings.lease.as_secs_f64()).await {
                Ok(true) => held_until = asked_at + self.settings.lease,
                Err(_) if Instant::now() + margin < held_until => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    async fn work(&self, claimed: Claimed, begun: Option<Begun>) -> Result<(), StoreError> {
        let Some(begun) = begun else { return self.purge(claimed.lease).await };
        let job = Job { claimed, begun };
        let (lease, run_id) = (job.claimed.lease, job.begun.id);
        info!(integration.id = %lease.integration_id, sync_run.id = %run_id, attempt = job.begun.attempt, "sync run begins");
        match self.copy(&job).await {
            Ok(()) => {
                info!(integration.id = %lease.integration_id, sync_run.id = %run_id, "sync run is complete");
                Ok(())
            }
            Err(RunError::LeaseLost) => {
                info!(integration.id = %lease.integration_id, sync_run.id = %run_id, "the run was stopped or taken over");
                Ok(())
            }
            // Others were in the way: the next look takes it up where it was.
            Err(RunError::Store(StoreError::Conflict)) => self.release(lease).await,
            // The lease runs out, and the run is taken up where it was. Trouble with the database is not the run's fault.
            Err(RunError::Store(error)) => {
                if error.is_transient() {
                    lease::forgive_attempt(&self.db, lease, run_id).await?;
                }
                Err(error)
            }
            Err(error) => self.fail(&job, &error).await,
        }
    }

    async fn copy(&self, job: &Job) -> Result<(), RunError> {
        let lease = job.claimed.lease;
        if job.begun.stalled_attempts > STALLED_ATTEMPTS_MAX {
            return Err(RunError::Stalled);
        }
        let client = self.client(job).await?;
        let account = store::accounts::find(&self.db, lease.account_id).await?.ok_or(RunError::Impossible)?;
        // A crash between a page's commit and its second look leaves both: the last page's too, whose run nobody resumes.
        adoption::look_everywhere(&self.db, lease.account_id, self.clock.now()).await?;
        if job.begun.kind == SyncKind::Initial && job.begun.attempt == 1 {
            let mut tries = Tries::default();
            let estimated_total = loop {
                match client.count().await {
                    Ok(estimated_total) => break estimated_total,
                    Err(error) => self.wait_after(job, error, &mut tries).await?,
                }
            };
            self.report(job, &Report { phase: "copying", error: "", estimated_total }).await?;
        }
        self.copy_pages(job, &*client, account.default_region).await
    }

    async fn copy_pages(&self, job: &Job, client: &dyn CrmClient, region: Region) -> Result<(), RunError> {
        let checkpoint = job.claimed.checkpoint.clone().filter(|_| job.begun.kind == SyncKind::Incremental);
        let mut position = job.begun.resume_point.clone().or_else(|| checkpoint.clone());
        let (mut restarts, mut pages, mut tries) = (0, 0, Tries::default());
        let mut places = HashSet::new();
        loop {
            let page = match client.fetch_page(position.as_deref()).await {
                Ok(page) => page,
                Err(CrmError::PositionRefused) if restarts < RESTARTS_MAX && position.is_some() => {
                    restarts += 1;
                    places.clear();
                    // From the checkpoint; and if that was what it refused, from the beginning.
                    position = checkpoint.clone().filter(|checkpoint| Some(checkpoint) != position.as_ref());
                    continue;
                }
                Err(error) => {
                    self.wait_after(job, error, &mut tries).await?;
                    continue;
                }
            };
            tries = Tries::default();
            // A CRM that leads in a circle would be read for ever.
            if let Some(next) = page.next.as_ref().filter(|_| !page.is_last)
                && places.len() < PLACES_MAX
                && !places.insert(next.clone())
            {
                return Err(CrmError::Stuck.into());
            }
            let page = self.normal_page(page, position.take(), region);
            let (next, is_last) = (page.next.clone(), page.is_last);
            self.apply(job.claimed.lease, job.begun.id, page).await?;
            pages += 1;
            // Autovacuum would come a minute later: too late for the plans of a first copy.
            if job.begun.kind == SyncKind::Initial
                && ANALYZE_AFTER_PAGES.contains(&pages)
                && let Err(error) = store::schema::analyze_contacts(&self.db).await
            {
                warn!(error = %chain(&error), "the tables' statistics were not refreshed; autovacuum will");
            }
            if is_last {
                return Ok(());
            }
            position = next;
        }
    }

    fn normal_page(&self, page: Page, position: Option<String>, region: Region) -> NormalPage {
        let now = self.clock.now();
        let (records, repeats) = normalize_page(page.records, region);
        NormalPage {
            records,
            repeats,
            rejected: page.rejected,
            next: page.next.or(position),
            is_last: page.is_last,
            // A CRM whose clock is ahead must not promise what has not happened yet.
            known_through: page.known_through.map(|time: DateTime<Utc>| time.min(now)),
        }
    }

    async fn client(&self, job: &Job) -> Result<Box<dyn CrmClient>, RunError> {
        let Lease { account_id, integration_id, .. } = job.claimed.lease;
        let sealed = job.claimed.credentials.as_deref().ok_or(RunError::Credentials(None))?;
        let opened = self.safe.open(account_id, integration_id, sealed);
        let credentials = opened.map_err(|error| RunError::Credentials(Some(error)))?;
        if let Some(resealed) = self.safe.reseal(account_id, integration_id, sealed) {
            lease::reseal(&self.db, job.claimed.lease, sealed, &resealed).await?;
            info!(integration.id = %integration_id, "credentials are sealed by the primary key now");
        }
        let access = credentials.as_access().ok_or(RunError::Impossible)?;
        let target = Target {
            integration_id: Some(integration_id),
            organization: &job.claimed.organization,
            options: Options::default(),
            access,
        };
        Ok(self.crms.client(target)?)
    }

    /// After a failed request: waits before the next try, or says that there is none. Waits are told to whoever watches.
    async fn wait_after(&self, job: &Job, error: CrmError, tries: &mut Tries) -> Result<(), RunError> {
        let is_rate_limit = matches!(error, CrmError::RateLimited { .. });
        if is_rate_limit {
            tries.rate_limits += 1;
        } else {
            tries.failures += 1;
        }
        let is_enough = tries.failures >= self.settings.attempts_max || tries.rate_limits > RATE_LIMIT_WAITS_MAX;
        let wait = match error.retry() {
            Retry::Never => return Err(error.into()),
            _ if is_enough => return Err(error.into()),
            // A long wait frees its place for others: the run ends, and the next one goes on after it.
            Retry::After(wait) if wait > schedule::WAIT_MAX => return Err(error.into()),
            Retry::After(wait) => wait,
            Retry::Backoff => {
                let jitter = self.ids.with_rng(rand::Rng::next_u32).to_le_bytes()[0];
                schedule::backoff(self.settings.backoff_base, tries.failures.max(tries.rate_limits), jitter)
            }
        };
        warn!(integration.id = %job.claimed.lease.integration_id, sync_run.id = %job.begun.id, error = %error, wait_ms = millis(wait), "a request failed, will try again");
        let phase = if is_rate_limit { "waiting for the CRM's rate limit" } else { "waiting to try again" };
        self.report(job, &Report { phase, error: &error.to_string(), estimated_total: None }).await?;
        sleep(wait).await;
        Ok(())
    }

    async fn report(&self, job: &Job, report: &Report<'_>) -> Result<(), RunError> {
        let is_held = lease::report(&self.db, job.claimed.lease, job.begun.id, report, self.clock.now()).await?;
        if is_held { Ok(()) } else { Err(RunError::LeaseLost) }
    }

    async fn fail(&self, job: &Job, error: &RunError) -> Result<(), StoreError> {
        let (lease, run_id, now) = (job.claimed.lease, job.begun.id, self.clock.now());
        let after = match error {
            RunError::Crm(error) => {
                schedule::after_failure(error, job.claimed.failures, job.claimed.period_seconds, now)
            }
            RunError::Credentials(_) => schedule::AfterFailure { hold: Some(Hold::AuthFailed), due_at: None },
            _ => schedule::AfterFailure { hold: Some(Hold::Paused), due_at: None },
        };
        let words = words(error);
        warn!(
            integration.id = %lease.integration_id,
            sync_run.id = %run_id,
            error = %chain(error),
            hold = after.hold.map(Hold::as_str),
            "sync run failed"
        );
        self.db
            .transaction(move |tx| {
                let words = words.clone();
                Box::pin(async move {
                    let failure = Failure { error: &words, hold: after.hold, due_at: after.due_at };
                    lease::fail(tx, lease, run_id, &failure, now).await
                })
            })
            .await?;
        Ok(())
    }
}

/// What an operator reads, with what to do next.
fn words(error: &RunError) -> String {
    match error {
        RunError::Crm(error) => format!("{}: {error}", error.reason()),
        RunError::Credentials(None) => "CREDENTIALS_MISSING: no credentials are stored; bring them with UpdateSync".to_owned(),
        RunError::Credentials(Some(_)) => {
            "CREDENTIALS_SEALED_BY_ANOTHER_KEY: the stored credentials do not open with this key ring; restore the key, or bring the credentials again with UpdateSync"
                .to_owned()
        }
        RunError::Stalled => format!("NO_PROGRESS: {error}; see the log for what ended its workers, then TriggerSync"),
        other => other.to_string(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
