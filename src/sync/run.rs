//! One run, read like a sentence: claim, open the credentials, copy page by page, sweep, end. `session` decides whether a request is
//! tried again, this file how a run ends.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Syncing,
    apply::ApplyError,
    copy::Spent,
    normalize::NumberRules,
    schedule::{self, STALLED_ATTEMPTS_MAX, Verdict},
    session::{Session, millis},
};
use crate::{
    credentials::{AccessError, SuppressionKeyError},
    crm::CrmError,
    domain::{ids::SyncRunId, integration::Hold, notice::Notice, sync_run::SyncKind},
    identity::adoption,
    store::{
        self, StoreError,
        lease::{self, Claimed, Due, Handover, Lease},
        rejected,
        run_progress::{self, Begun, Report},
        sweeps, sync_runs,
    },
    telemetry::chain,
};

/// Why a run did not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// Another worker, or a cancellation, has taken over: write nothing more.
    #[error("the lease is lost")]
    LeaseLost,
    /// It waits, and somebody else needs its worker's place: it goes on after this.
    #[error("the run waits")]
    Parked {
        /// Until it goes on.
        wait: Duration,
        /// What it waits for.
        phase: &'static str,
        /// The failure that it waits after.
        error: Option<Notice>,
    },
    /// The CRM.
    #[error("the CRM did not do its part")]
    Crm(#[from] CrmError),
    /// Stored credentials are missing or do not open.
    #[error("the stored credentials cannot be used")]
    Credentials(#[source] Option<crate::credentials::CredentialsError>),
    /// A rotated refresh token is lost.
    #[error("an earlier answer of the CRM, with the refresh token to use from now on, was lost before it was stored")]
    RefreshInterrupted,
    /// The refresh token is not sent again by itself.
    #[error("the stored refresh token was refused, and is not sent again by itself")]
    RefreshSpent,
    /// It has crashed its workers again and again.
    #[error("the run was taken up {STALLED_ATTEMPTS_MAX} times and never got on")]
    Stalled,
    /// The account's row is gone, or the provider cannot be synced: a bug.
    #[error("the run has no account or no client")]
    Impossible,
    /// Whether a record was erased cannot be told.
    #[error(transparent)]
    SuppressionKey(SuppressionKeyError),
    /// The database.
    #[error("the database did not do its part")]
    Store(#[from] StoreError),
}

impl From<AccessError> for RunError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Crm(error) => Self::Crm(error),
            AccessError::Credentials(error) => Self::Credentials(error),
            AccessError::Interrupted => Self::RefreshInterrupted,
            AccessError::Spent => Self::RefreshSpent,
            AccessError::Store(error) => Self::Store(error),
        }
    }
}

impl From<ApplyError> for RunError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::LeaseLost => Self::LeaseLost,
            ApplyError::SuppressionKey(error) => Self::SuppressionKey(error),
            // It goes on where it was, with the new rules.
            ApplyError::RulesChanged => Self::Store(StoreError::Conflict),
            ApplyError::Store(error) => Self::Store(error),
        }
    }
}

/// A run and the right to write for it.
pub(super) struct Job {
    pub claimed: Claimed,
    pub begun: Begun,
    /// Of the sweep that this run is, or goes on with.
    pub sweep_number: Option<i64>,
}

/// What a page's transaction must know of its run.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub lease: Lease,
    pub run_id: SyncRunId,
    pub kind: SyncKind,
    pub sweep_number: Option<i64>,
}

impl Job {
    pub(super) fn mark(&self) -> Mark {
        Mark {
            lease: self.claimed.lease,
            run_id: self.begun.id,
            kind: self.begun.kind,
            sweep_number: self.sweep_number,
        }
    }
}

/// What became of a due integration.
pub(super) enum Turn {
    /// Somebody else has it.
    Elsewhere,
    /// Its run has ended, or was taken away or given back.
    Over,
    /// Its run goes on after this.
    Parked(Duration),
}

/// What a claim leads to.
enum Work {
    Copy(Box<Job>),
    Purge(Lease),
}

impl Syncing {
    /// Claims a due integration and works on it until it is done, fails, waits, is taken away, or `stop` is cancelled.
    pub(super) async fn run(&self, due: Due, stop: &CancellationToken) -> Result<Turn, StoreError> {
        let Some(work) = self.claim(due).await? else { return Ok(Turn::Elsewhere) };
        let lease = match &work {
            Work::Copy(job) => job.claimed.lease,
            Work::Purge(lease) => *lease,
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                // A transaction under way finishes by itself, then this goes through, and another worker goes on.
                self.release(lease, None, "waiting for a worker", None).await?;
                Ok(Turn::Over)
            }
            // Before the lease: a run that has just ended has given it up itself.
            result = self.work(work) => result,
            () = self.keep_lease(lease) => {
                warn!(integration.id = %lease.integration_id, "the lease is lost, the run goes on elsewhere or was stopped");
                Ok(Turn::Over)
            }
        }
    }

    /// Gives the lease back; the run goes on after this, or at once.
    async fn release(
        &self,
        lease: Lease,
        wait: Option<Duration>,
        phase: &'static str,
        error: Option<Notice>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let due_at = wait.map(|wait| now + TimeDelta::from_std(wait).unwrap_or_default());
        self.db
            .transaction(move |tx| {
                let error = error.clone();
                Box::pin(async move {
                    lease::release(tx, lease, Handover { due_at, phase, error: error.as_ref() }, now).await
                })
            })
            .await
    }

    async fn claim(&self, due: Due) -> Result<Option<Work>, StoreError> {
        let (lease_seconds, now) = (self.settings.lease.as_secs_f64(), self.clock.now());
        let new_id = SyncRunId(self.ids.new_v7(now));
        self.db
            .transaction(move |tx| {
                Box::pin(async move {
                    let Some(claimed) = lease::claim(tx, due, lease_seconds, now).await? else { return Ok(None) };
                    if claimed.is_purging {
                        return Ok(Some(Work::Purge(claimed.lease)));
                    }
                    let mut begun = run_progress::begin_run(tx, &claimed, new_id, now).await?;
                    // A full copy that someone asked for reads everything; any other pass goes on where the last one was stopped.
                    if begun.resume_point.is_none() && (claimed.is_first_copy || begun.kind != SyncKind::Initial) {
                        let Due { account_id, integration_id } = due;
                        let point =
                            sync_runs::find_unfinished_point(tx, account_id, integration_id, begun.kind, begun.id)
                                .await?;
                        if let Some(point) = &point {
                            sync_runs::inherit_resume_point(tx, account_id, begun.id, point).await?;
                        }
                        begun.resume_point = point;
                    }
                    if begun.kind.is_full() && begun.resume_point.is_none() {
                        rejected::begin_full(tx, claimed.lease, now).await?;
                    }
                    let sweep_number = match (begun.kind, &begun.resume_point) {
                        (SyncKind::Sweep, None) => Some(sweeps::begin(tx, claimed.lease, now).await?),
                        (SyncKind::Sweep, Some(_)) => Some(claimed.sweep_number),
                        _ => None,
                    };
                    Ok(Some(Work::Copy(Box::new(Job { claimed, begun, sweep_number }))))
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
            match lease::extend(&self.db, lease, self.settings.lease).await {
                Ok(true) => held_until = asked_at + self.settings.lease,
                Err(_) if Instant::now() + margin < held_until => {}
                Ok(false) | Err(_) => return,
            }
        }
    }

    async fn work(&self, work: Work) -> Result<Turn, StoreError> {
        let job = match work {
            Work::Copy(job) => *job,
            Work::Purge(lease) => return self.purge(lease).await.map(|()| Turn::Over),
        };
        let (lease, run_id) = (job.claimed.lease, job.begun.id);
        info!(integration.id = %lease.integration_id, sync_run.id = %run_id, attempt = job.begun.attempt, "sync run begins");
        match self.copy(&job).await {
            Ok(spent) => {
                info!(
                    integration.id = %lease.integration_id,
                    sync_run.id = %run_id,
                    pages = spent.pages,
                    fetch_ms = millis(spent.fetch),
                    normalize_ms = millis(spent.normalize),
                    apply_ms = millis(spent.apply),
                    "sync run is complete"
                );
                Ok(Turn::Over)
            }
            Err(RunError::LeaseLost) => {
                info!(integration.id = %lease.integration_id, sync_run.id = %run_id, "the run was stopped or taken over");
                Ok(Turn::Over)
            }
            Err(RunError::Parked { wait, phase, error }) => {
                self.release(lease, Some(wait), phase, error).await?;
                Ok(Turn::Parked(wait))
            }
            // Others were in the way: the next look takes it up where it was.
            Err(RunError::Store(StoreError::Conflict)) => {
                self.release(lease, None, "waiting for a worker", None).await?;
                Ok(Turn::Over)
            }
            // The lease runs out, and the run is taken up where it was. Trouble with the database is not the run's fault.
            Err(RunError::Store(error)) => {
                if error.is_transient() {
                    run_progress::forgive_attempt(&self.db, lease, run_id).await?;
                }
                Err(error)
            }
            Err(error) => self.fail(&job, &error).await.map(|()| Turn::Over),
        }
    }

    async fn copy(&self, job: &Job) -> Result<Spent, RunError> {
        let lease = job.claimed.lease;
        if job.begun.stalled_attempts > STALLED_ATTEMPTS_MAX {
            return Err(RunError::Stalled);
        }
        let mut session = Session::open(self, job).await?;
        let account = store::accounts::find(&self.db, lease.account_id).await?.ok_or(RunError::Impossible)?;
        let rules = NumberRules::from(&account);
        // A crash between a page's commit and its second look leaves both: the last page's too, whose run nobody resumes.
        adoption::adopt_all(&self.db, lease.account_id, self.clock.now()).await?;
        session.retry_rejected(rules).await?;
        if job.begun.kind.is_full() && job.begun.attempt == 1 {
            let estimated_total = session.ask_optional(&(), |client, ()| client.count()).await?.flatten();
            session.report(&Report { phase: "copying", error: None, estimated_total }).await?;
        }
        let spent = if job.begun.is_listed { Spent::default() } else { session.copy_pages(rules).await? };
        if let Some(number) = job.sweep_number {
            let end = spent.end.as_ref().or(job.begun.resume_point.as_ref());
            let left = end.map_or_else(Vec::new, |end| session.client().left_at(end));
            session.sweep(number, &left, rules).await?;
        }
        Ok(spent)
    }

    async fn fail(&self, job: &Job, error: &RunError) -> Result<(), StoreError> {
        let (lease, run_id, now) = (job.claimed.lease, job.begun.id, self.clock.now());
        let (verdict, notice) = (verdict(error), notice(error));
        let after = self
            .db
            .transaction(move |tx| {
                let notice = notice.clone();
                Box::pin(async move {
                    if !lease::hold(tx, lease).await? {
                        return Ok::<_, StoreError>(None);
                    }
                    let standing = run_progress::standing(tx, lease, run_id).await?;
                    let after = schedule::after_failure(verdict, &standing, now);
                    run_progress::fail(tx, lease, run_id, &notice, &after, now).await?;
                    Ok(Some(after))
                })
            })
            .await?;
        warn!(
            integration.id = %lease.integration_id,
            sync_run.id = %run_id,
            error = %chain(error),
            hold = after.and_then(|after| after.hold).map(Hold::as_str),
            "sync run failed"
        );
        Ok(())
    }
}

/// What a failure says of its integration.
const fn verdict(error: &RunError) -> Verdict {
    match error {
        RunError::Crm(error) => Verdict::of(error),
        // Looked at again without a request to anybody: a key that is restored mends it.
        RunError::Credentials(_) => Verdict::Final { spends_refresh_token: false },
        RunError::RefreshInterrupted | RunError::RefreshSpent => Verdict::Final { spends_refresh_token: true },
        RunError::Stalled
        | RunError::Impossible
        | RunError::SuppressionKey(_)
        | RunError::LeaseLost
        | RunError::Parked { .. }
        | RunError::Store(_) => Verdict::Stops,
    }
}

/// What an operator reads, with what to do next.
fn notice(error: &RunError) -> Notice {
    match error {
        RunError::Crm(error) => notice_of(error),
        RunError::Credentials(None) => {
            Notice::fixed("CREDENTIALS_MISSING", "no credentials are stored; bring them with UpdateSync")
        }
        RunError::Credentials(Some(_)) => Notice::fixed(
            "CREDENTIALS_SEALED_BY_ANOTHER_KEY",
            "the stored credentials do not open with this key ring; restore the key, or bring the credentials again with UpdateSync",
        ),
        RunError::RefreshInterrupted => Notice::new(
            "REFRESH_INTERRUPTED",
            format!("{error} (a process ended, or the connection broke); authorize again"),
        ),
        RunError::RefreshSpent => {
            Notice::new("GRANT_REFUSED", format!("{error}; authorize again, or TriggerSync to try it once more"))
        }
        RunError::SuppressionKey(_) => Notice::fixed(
            "SECRET_SEALED_BY_ANOTHER_KEY",
            "the account's stored secret does not open with this key ring; restore the key",
        ),
        RunError::Stalled => {
            Notice::new("NO_PROGRESS", format!("{error}; see the log for what ended its workers, then TriggerSync"))
        }
        RunError::LeaseLost | RunError::Parked { .. } | RunError::Impossible | RunError::Store(_) => {
            Notice::new("INTERNAL", format!("{error}; see the log"))
        }
    }
}

/// The same of what a CRM did.
pub(super) fn notice_of(error: &CrmError) -> Notice {
    Notice::new(error.reason(), error.to_string())
}
