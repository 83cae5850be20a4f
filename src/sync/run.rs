//! One run, read like a sentence: claim, open the credentials, copy page by page, sweep, end.
//! Decides how a run ends; whether a request is tried again is the matter of `session` and `pacer`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, error_span, field, info, warn};

use super::{
    apply::PageWriter,
    backoff::STALLED_ATTEMPTS_MAX,
    context::SyncContext,
    copy::{PageCopier, PageTimings},
    error::RunError,
    hints::HintDrainer,
    job::SyncJob,
    keep_lease::keep_lease,
    normalize::NumberRules,
    pacer::millis,
    purge::purge,
    push_upkeep::keep_push,
    retry::RejectedRetrier,
    session::CrmSession,
    sweep::Sweeper,
};
use crate::{
    domain::{
        ids::SyncRunId, integration::SyncHold, integration_state::FailureVerdict, notice::Notice, sync_run::SyncKind,
    },
    identity::adoption,
    store::{
        self, StoreError, Transaction, Tx,
        lease::{self, DueIntegration, Lease, LeaseHandover},
        rejected,
        run_progress::{self, PhaseReport},
        sweeps, sync_runs,
    },
    telemetry::{chain, metrics, traces},
};

/// What became of a due integration.
pub(super) enum TurnOutcome {
    /// Somebody else has it.
    Elsewhere,
    /// Its run has ended, or was taken away or given back.
    Over,
    /// Its run goes on after this.
    Parked(Duration),
}

/// What a claim leads to.
enum ClaimedWork {
    Copy(Box<SyncJob>),
    Purge(Lease),
}

impl ClaimedWork {
    const fn lease(&self) -> Lease {
        match self {
            Self::Copy(job) => job.claimed.lease,
            Self::Purge(lease) => *lease,
        }
    }
}

/// Claims a due integration and works on it until it is done, fails, waits, is taken away, or
/// `stop` is cancelled. All messages of it name the integration and the run.
pub(super) async fn run(
    context: &SyncContext,
    due: DueIntegration,
    stop: &CancellationToken,
) -> Result<TurnOutcome, StoreError> {
    // At the highest level, so that no filter of the log takes the names from its warnings.
    let span = error_span!(target: traces::ROOT_TARGET, "sync_run", account.id = %due.account_id, integration.id = %due.integration_id, sync_run.id = field::Empty);
    SyncRunner { context }.run(due, stop).instrument(span).await
}

/// Runs what is due.
struct SyncRunner<'c> {
    context: &'c SyncContext,
}

impl SyncRunner<'_> {
    async fn run(&self, due: DueIntegration, stop: &CancellationToken) -> Result<TurnOutcome, StoreError> {
        let Some(work) = self.claim(due).await? else { return Ok(TurnOutcome::Elsewhere) };
        let lease = work.lease();
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                // A transaction under way finishes by itself, then this goes through, and another
                // worker goes on.
                self.release(lease, None, "waiting for a worker", None).await?;
                Ok(TurnOutcome::Over)
            }
            // Before the lease: a run that has just ended has given it up itself.
            result = self.work(work) => result,
            () = keep_lease(self.context, lease) => {
                warn!("the lease is lost, the run goes on elsewhere or was stopped");
                Ok(TurnOutcome::Over)
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
        let now = self.context.clock.now();
        let due_at = wait.map(|wait| now + TimeDelta::from_std(wait).unwrap_or_default());
        self.context.db.of(lease.account_id).run(ReleaseLease { lease, due_at, phase, error, now }).await
    }

    async fn claim(&self, due: DueIntegration) -> Result<Option<ClaimedWork>, StoreError> {
        let SyncContext { db, clock, ids, settings, .. } = self.context;
        let now = clock.now();
        let new_id = SyncRunId(ids.new_v7(now));
        db.of(due.account_id).run(ClaimRun { due, lease_seconds: settings.lease.as_secs_f64(), new_id, now }).await
    }

    async fn work(&self, work: ClaimedWork) -> Result<TurnOutcome, StoreError> {
        let job = match work {
            ClaimedWork::Copy(job) => *job,
            ClaimedWork::Purge(lease) => return purge(self.context, lease).await.map(|()| TurnOutcome::Over),
        };
        let (lease, run_id) = (job.lease(), job.run.id);
        Span::current().record("sync_run.id", field::display(run_id));
        info!(attempt = job.run.attempt, "sync run begins");
        let copied = self.copy(&job).await;
        let outcome = match &copied {
            Ok(_) => "complete",
            Err(RunError::Parked { .. }) => "parked",
            Err(RunError::LeaseLost | RunError::Store(_) | RunError::RulesChanged) => "left",
            Err(_) => "failed",
        };
        metrics::run_ended(job.provider().as_str(), outcome);
        match copied {
            Ok(timings) => {
                info!(
                    pages = timings.pages,
                    fetch_ms = millis(timings.fetch),
                    normalize_ms = millis(timings.normalize),
                    apply_ms = millis(timings.apply),
                    "sync run is complete"
                );
                Ok(TurnOutcome::Over)
            }
            Err(RunError::LeaseLost) => {
                info!("the run was stopped or taken over");
                Ok(TurnOutcome::Over)
            }
            Err(RunError::Parked { wait, phase, error }) => {
                self.release(lease, Some(wait), phase, error).await?;
                Ok(TurnOutcome::Parked(wait))
            }
            // Others were in the way: the next look takes it up where it was.
            Err(RunError::Store(StoreError::Conflict) | RunError::RulesChanged) => {
                self.release(lease, None, "waiting for a worker", None).await?;
                Ok(TurnOutcome::Over)
            }
            // The lease runs out, and the run is taken up where it was. Trouble with the database
            // is not the run's fault.
            Err(RunError::Store(error)) => {
                if error.is_transient() {
                    run_progress::forgive_attempt(&self.context.db, lease, run_id).await?;
                }
                Err(error)
            }
            Err(error) => self.fail(&job, &error).await.map(|()| TurnOutcome::Over),
        }
    }

    async fn copy(&self, job: &SyncJob) -> Result<PageTimings, RunError> {
        let (context, lease) = (self.context, job.lease());
        if job.run.stalled_attempts > STALLED_ATTEMPTS_MAX {
            return Err(RunError::Stalled);
        }
        let mut session = CrmSession::open(context, job).await?;
        let account = store::accounts::find(&context.db, lease.account_id).await?.ok_or(RunError::Impossible)?;
        let writer = PageWriter { context, job, rules: NumberRules::from(&account) };
        let mut hints = HintDrainer::new(writer);
        hints.drain_between(&mut session).await?;
        // A crash between a page's commit and its second look leaves both: the last page's too,
        // whose run nobody resumes.
        adoption::adopt_all(&context.db, lease.account_id, context.clock.now()).await?;
        // Boxed: it is large, and rare.
        Box::pin(keep_push(&mut session)).await?;
        RejectedRetrier { session: &mut session, writer }.retry().await?;
        if job.run.kind.is_full() && job.run.attempt == 1 {
            let estimated_total = session.ask_optional(&(), |client, ()| client.count()).await?.flatten();
            session.pacer.report(&PhaseReport { phase: "copying", error: None, estimated_total }).await?;
        }
        let timings = if job.run.is_listed {
            PageTimings::default()
        } else {
            PageCopier::new(&mut session, &mut hints).copy_pages().await?
        };
        if let Some(sweep_number) = job.sweep_number {
            let end = timings.end.as_ref().or(job.run.resume_point.as_ref());
            let left = end.map_or_else(Vec::new, |end| session.client().left_at(end));
            Sweeper { session: &mut session, writer, hints: &mut hints, sweep_number }.sweep(&left).await?;
        }
        Ok(timings)
    }

    async fn fail(&self, job: &SyncJob, error: &RunError) -> Result<(), StoreError> {
        let work = FailRun {
            lease: job.lease(),
            run_id: job.run.id,
            verdict: error.verdict(),
            notice: error.notice(),
            now: self.context.clock.now(),
        };
        let reason = work.notice.reason.clone();
        let hold = self.context.db.of(work.lease.account_id).run(work).await?;
        warn!(reason = %reason, error = %chain(error), hold = hold.map(SyncHold::as_str), "sync run failed");
        Ok(())
    }
}

/// Claims what is due, and takes up its run or begins one; `None`: somebody else has it.
struct ClaimRun {
    due: DueIntegration,
    lease_seconds: f64,
    /// Of a run that begins.
    new_id: SyncRunId,
    now: DateTime<Utc>,
}

impl Transaction for ClaimRun {
    const NAME: &'static str = "claim_run";
    type Output = Option<ClaimedWork>;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<Option<ClaimedWork>, StoreError> {
        let Self { due, lease_seconds, new_id, now } = *self;
        let Some(claimed) = lease::claim(tx, due, lease_seconds, now).await? else { return Ok(None) };
        if claimed.is_purging {
            return Ok(Some(ClaimedWork::Purge(claimed.lease)));
        }
        let mut run = run_progress::begin_run(tx, &claimed, new_id, now).await?;
        // A full copy that someone asked for reads everything; any other run goes on where the last
        // one was stopped.
        if run.resume_point.is_none() && (claimed.is_first_copy || run.kind != SyncKind::Initial) {
            let DueIntegration { account_id, integration_id } = due;
            let point = sync_runs::find_unfinished_point(tx, account_id, integration_id, run.kind, run.id).await?;
            if let Some(point) = &point {
                sync_runs::inherit_resume_point(tx, account_id, run.id, point).await?;
            }
            run.resume_point = point;
        }
        if run.kind.is_full() && run.resume_point.is_none() {
            rejected::begin_full(tx, claimed.lease, now).await?;
        }
        let sweep_number = match (run.kind, &run.resume_point) {
            (SyncKind::Sweep, None) => Some(sweeps::begin(tx, claimed.lease, now).await?),
            (SyncKind::Sweep, Some(_)) => Some(claimed.sweep_number),
            (SyncKind::Initial | SyncKind::Incremental, _) => None,
        };
        Ok(Some(ClaimedWork::Copy(Box::new(SyncJob { claimed, run, sweep_number, is_brief: false }))))
    }
}

/// Gives a lease back.
struct ReleaseLease {
    lease: Lease,
    due_at: Option<DateTime<Utc>>,
    phase: &'static str,
    error: Option<Notice>,
    now: DateTime<Utc>,
}

impl Transaction for ReleaseLease {
    const NAME: &'static str = "release_lease";
    type Output = ();
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let handover = LeaseHandover { due_at: self.due_at, phase: self.phase, error: self.error.as_ref() };
        lease::release(tx, self.lease, handover, self.now).await
    }
}

/// Ends a run that failed. Gives the hold that its integration is in now.
struct FailRun {
    lease: Lease,
    run_id: SyncRunId,
    verdict: FailureVerdict,
    notice: Notice,
    now: DateTime<Utc>,
}

impl Transaction for FailRun {
    const NAME: &'static str = "fail_run";
    type Output = Option<SyncHold>;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<Option<SyncHold>, StoreError> {
        if !lease::lock(tx, self.lease).await? {
            return Ok(None);
        }
        run_progress::fail(tx, self.lease, self.run_id, self.verdict, &self.notice, self.now).await
    }
}
