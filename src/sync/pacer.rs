//! How a run waits, and who is shown what it waits for. A long wait gives the worker's slot back as
//! soon as somebody else needs it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tracing::warn;

use super::{
    backoff::{self, RATE_LIMIT_WAITS_MAX},
    context::SyncContext,
    error::{RunError, notice_of},
    job::SyncJob,
};
use crate::{
    crm::{CrmError, RetryAdvice},
    domain::notice::Notice,
    store::run_progress::{self, PhaseReport},
};

/// A wait up to this keeps the worker's slot; during a longer one the slot is given back if
/// somebody else needs it.
const SLOT_KEPT_MAX: Duration = Duration::from_secs(1);
/// A run that makes room is due again behind everybody who is due by now.
const BEHIND_THE_OTHERS: Duration = Duration::from_millis(1);
/// Tries of something optional before it is left.
pub(super) const OPTIONAL_TRIES_MAX: u32 = 3;

/// How often one request has failed.
#[derive(Default)]
pub(super) struct RequestTries {
    pub failures: u32,
    pub rate_limits: u32,
    /// A new token was got, or a static one was shown again.
    pub is_renewed: bool,
    /// Its new name was learned.
    pub is_renamed: bool,
    /// It was asked where the organisation is now.
    pub is_followed: bool,
}

impl RequestTries {
    /// Counts a failure, and says how many of its kind there were.
    const fn count(&mut self, error: &CrmError) -> u32 {
        let tries =
            if matches!(error, CrmError::RateLimited { .. }) { &mut self.rate_limits } else { &mut self.failures };
        *tries += 1;
        *tries
    }
}

/// What a run waits for.
pub(super) struct RunPause {
    /// How long.
    pub wait: Duration,
    /// For what, in a word or two.
    pub phase: &'static str,
    /// The failure that it waits after.
    pub error: Option<Notice>,
}

impl RunPause {
    /// What is left of it is waited for without a slot.
    pub(super) fn parked(self, waited: Duration) -> RunError {
        RunError::Parked { wait: self.wait.saturating_sub(waited), phase: self.phase, error: self.error }
    }
}

/// A run as it waits and reports.
#[derive(Clone, Copy)]
pub(super) struct RunPacer<'r> {
    pub context: &'r SyncContext,
    pub job: &'r SyncJob,
    /// When this worker took the run up.
    began: Instant,
}

impl<'r> RunPacer<'r> {
    /// From now on.
    pub(super) fn new(context: &'r SyncContext, job: &'r SyncJob) -> Self {
        Self { context, job, began: Instant::now() }
    }

    /// The time.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.context.clock.now()
    }

    /// Shows whoever watches what the run is doing.
    pub(super) async fn report(&self, report: &PhaseReport<'_>) -> Result<(), RunError> {
        if self.job.is_brief {
            return Ok(());
        }
        let (lease, run_id) = (self.job.lease(), self.job.run.id);
        let is_held = run_progress::report(&self.context.db, lease, run_id, report, self.now()).await?;
        if is_held { Ok(()) } else { Err(RunError::LeaseLost) }
    }

    /// Waits, and shows whoever watches. A long wait gives the worker's slot back as soon as
    /// somebody else needs it: the run is taken up again when the wait is over. A look at hints
    /// waits for nothing long.
    pub(super) async fn pause(&self, wanted: RunPause) -> Result<(), RunError> {
        if self.job.is_brief && wanted.wait > SLOT_KEPT_MAX {
            return Err(wanted.parked(Duration::ZERO));
        }
        self.begin_pause(&wanted).await?;
        let began = Instant::now();
        if self.wait_in_slot(wanted.wait).await {
            return Ok(());
        }
        Err(wanted.parked(began.elapsed()))
    }

    /// Shows whoever watches what is waited for.
    pub(super) async fn begin_pause(&self, pause: &RunPause) -> Result<(), RunError> {
        self.report(&PhaseReport { phase: pause.phase, error: pause.error.as_ref(), estimated_total: None }).await
    }

    /// Between two pages: gives the worker's slot back if the run has had it for a while and
    /// somebody else needs it.
    pub(super) fn make_room(&self) -> Result<(), RunError> {
        if self.began.elapsed() < self.context.settings.turn || !self.context.slot_demand.is_waiting_now() {
            return Ok(());
        }
        Err(RunError::Parked { wait: BEHIND_THE_OTHERS, phase: "waiting for its turn", error: None })
    }

    /// Waits without giving the slot back; false: somebody else needs it, and a longer wait is not
    /// worth it.
    pub(super) async fn wait_in_slot(&self, wait: Duration) -> bool {
        if wait <= SLOT_KEPT_MAX {
            sleep(wait).await;
            return true;
        }
        tokio::select! {
            () = sleep(wait) => true,
            () = self.context.slot_demand.is_waiting() => false,
        }
    }

    pub(super) fn backoff(&self, attempt: u32) -> Duration {
        let jitter = self.context.ids.with_rng(rand::Rng::next_u32).to_le_bytes()[0];
        backoff::backoff(self.context.settings.backoff_base, attempt, jitter)
    }

    /// After a failed request: waits before the next try, or says that there is none.
    pub(super) async fn wait_after(&self, error: CrmError, tries: &mut RequestTries) -> Result<(), RunError> {
        let wanted = self.pause_after(error, tries)?;
        self.pause(wanted).await
    }

    /// After a failed request: what to wait for before the next try; or that there is none.
    pub(super) fn pause_after(&self, error: CrmError, tries: &mut RequestTries) -> Result<RunPause, RunError> {
        if let CrmError::Paced { wait } = error {
            return Ok(RunPause { wait, phase: "keeping to its share of the CRM's rate limit", error: None });
        }
        tries.count(&error);
        let settings = &self.context.settings;
        let is_enough = tries.failures >= settings.attempts_max || tries.rate_limits > RATE_LIMIT_WAITS_MAX;
        if is_enough {
            return Err(error.into());
        }
        let wait = match error.retry() {
            RetryAdvice::Never => return Err(error.into()),
            // A long wait frees its slot for others: the run ends, and the next one goes on after
            // it.
            RetryAdvice::After(wait) if wait > backoff::LONG_WAIT => return Err(error.into()),
            // "0" is no leave to ask as fast as the network allows: about once a second, and less
            // often each time.
            RetryAdvice::After(wait) => wait.max(settings.backoff_base * tries.rate_limits.max(1)),
            RetryAdvice::Backoff => self.backoff(tries.failures.max(tries.rate_limits)),
        };
        warn!(error = %error, wait_ms = millis(wait), "a request failed, will try again");
        let is_rate_limit = matches!(error, CrmError::RateLimited { .. });
        let phase = if is_rate_limit { "waiting for the CRM's rate limit" } else { "waiting to try again" };
        Ok(RunPause { wait, phase, error: Some(notice_of(&error)) })
    }

    /// After a failed request for what the run can do without: waits before the next try; false: it
    /// is left, and why is in the log.
    pub(super) async fn wait_after_optional(&self, error: &CrmError, tries: &mut RequestTries) -> bool {
        let asked = tries.count(error);
        let wait = match error.retry() {
            RetryAdvice::After(_) | RetryAdvice::Backoff if asked >= OPTIONAL_TRIES_MAX => None,
            RetryAdvice::After(wait) => Some(wait).filter(|wait| *wait <= backoff::LONG_WAIT),
            RetryAdvice::Backoff => Some(self.backoff(asked)),
            RetryAdvice::Never => None,
        };
        if let Some(wait) = wait
            && self.wait_in_slot(wait).await
        {
            return true;
        }
        warn!(error = %error, "something optional was not answered, and is left");
        false
    }
}

/// As logs write it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
