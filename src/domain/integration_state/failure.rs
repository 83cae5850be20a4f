//! In which state a failed run leaves its integration.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{ControlState, RefreshUse, RunFailure, UNINSTALLED};
use crate::domain::integration::SyncHold;

/// A wait up to this is part of a run; a longer one ends it.
pub const LONG_WAIT: Duration = Duration::from_mins(1);
/// From the first refusal of credentials to the second look, which must agree before the
/// integration is held.
const SECOND_LOOK_AFTER: TimeDelta = TimeDelta::minutes(3);
/// From look to look at an integration that is held because its CRM refuses it.
const PROBE_EVERY: TimeDelta = TimeDelta::hours(1);
/// Runs in a row that end in a refusal that nothing mends by itself, before someone must look.
const FAILURES_BEFORE_PAUSE: i32 = 3;

/// What a failure says of its integration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureVerdict {
    /// It passes: tried for ever, a minute later at first and a period later at most (the
    /// integration is STALE then, and says so).
    Passes,
    /// It passes, and not sooner.
    Waits(Duration),
    /// The credentials, or what they may do, are refused: believed when a second look minutes later
    /// agrees.
    Refused {
        /// A refresh token that is refused twice is not sent a third time.
        spends_refresh_token: bool,
        /// A page that came meanwhile shows that an earlier refusal was over.
        ends_with_a_page: bool,
    },
    /// It lasts, but it may be mended in the CRM: believed on the third run in a row that fails,
    /// for whatever reason.
    Lasts,
    /// The credentials are of no use, and no second look is needed. Whether to look again by
    /// itself.
    Final {
        /// The refresh token is spent, or its last use is unknown.
        spends_refresh_token: bool,
    },
    /// Only somebody who looks at it may start it again.
    Stops,
}

/// What of the state a failure decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FailureOutcome {
    pub(super) hold: Option<SyncHold>,
    /// The hold is not of this failure: its words stay.
    pub(super) keeps_notice: bool,
    pub(super) due_at: Option<DateTime<Utc>>,
    pub(super) refused_at: Option<DateTime<Utc>>,
    pub(super) spends_refresh_token: bool,
}

impl ControlState {
    /// The state in which a failed run leaves it. A wait for the CRM's quota does not count as a
    /// failed run.
    pub(super) fn fail_run(&self, failure: RunFailure, now: DateTime<Utc>) -> Self {
        let outcome = self.after_failure(failure.verdict, failure.has_progressed, now);
        let hold_notice = if outcome.keeps_notice { self.hold_notice.clone() } else { Some(failure.notice) };
        Self {
            hold: outcome.hold,
            hold_notice: hold_notice.filter(|_| outcome.hold.is_some()),
            refused_at: outcome.refused_at,
            failures: self.failures.saturating_add(i32::from(outcome.hold != Some(SyncHold::QuotaPaused))),
            refresh_use: if outcome.spends_refresh_token { RefreshUse::Spent } else { self.refresh_use },
            due_at: outcome.due_at,
            ..self.clone()
        }
    }

    /// One that is held is looked at every hour, but for a refresh token that must not be sent;
    /// what passes meanwhile does not end its hold, a complete run does.
    pub(super) fn after_failure(
        &self,
        verdict: FailureVerdict,
        has_progressed: bool,
        now: DateTime<Utc>,
    ) -> FailureOutcome {
        let kept = self.hold.filter(|hold| matches!(hold, SyncHold::AuthFailed | SyncHold::Paused));
        let probed_at = Some(now + PROBE_EVERY);
        let next_at = Some(now + delay(self.failures, self.period_seconds));
        let as_before = FailureOutcome { refused_at: self.refused_at, ..FailureOutcome::default() };
        match verdict {
            FailureVerdict::Passes => {
                let due_at = if kept.is_some() { probed_at } else { next_at };
                FailureOutcome { hold: kept, keeps_notice: true, due_at, ..as_before }
            }
            FailureVerdict::Waits(wait) => {
                let wait = TimeDelta::from_std(wait.max(LONG_WAIT)).unwrap_or(PROBE_EVERY);
                let paused = kept.or(Some(SyncHold::QuotaPaused));
                FailureOutcome { hold: paused, keeps_notice: kept.is_some(), due_at: Some(now + wait), ..as_before }
            }
            FailureVerdict::Refused { spends_refresh_token, ends_with_a_page } => {
                let is_new = ends_with_a_page && has_progressed;
                // A clock that was ahead must not put the second look off.
                let first = self.refused_at.filter(|_| !is_new).unwrap_or(now).min(now);
                let refused_at = Some(first);
                if kept != Some(SyncHold::AuthFailed) && now - first < SECOND_LOOK_AFTER {
                    let due_at = Some(first + SECOND_LOOK_AFTER);
                    let keeps_notice = kept.is_some();
                    return FailureOutcome { hold: kept, keeps_notice, due_at, refused_at, ..as_before };
                }
                let due_at = probed_at.filter(|_| !spends_refresh_token);
                let hold = Some(SyncHold::AuthFailed);
                FailureOutcome { hold, keeps_notice: false, due_at, refused_at, spends_refresh_token }
            }
            FailureVerdict::Lasts if kept.is_none() && self.failures + 1 < FAILURES_BEFORE_PAUSE => {
                FailureOutcome { due_at: next_at, ..as_before }
            }
            FailureVerdict::Lasts => {
                FailureOutcome { hold: kept.or(Some(SyncHold::Paused)), due_at: probed_at, ..as_before }
            }
            FailureVerdict::Final { spends_refresh_token } => {
                let due_at = probed_at.filter(|_| !spends_refresh_token);
                let hold = Some(SyncHold::AuthFailed);
                // That nothing is stored any more is no news: why it is so, is what helps.
                let keeps_notice = self.hold == hold
                    && self.hold_notice.as_ref().is_some_and(|notice| notice.reason == UNINSTALLED.reason);
                FailureOutcome { hold, keeps_notice, due_at, spends_refresh_token, ..as_before }
            }
            FailureVerdict::Stops => FailureOutcome { hold: Some(SyncHold::Paused), ..as_before },
        }
    }
}

/// From a failed run to the next.
fn delay(earlier_failures: i32, period_seconds: i32) -> TimeDelta {
    let doubled = 60_i64.saturating_mul(1 << earlier_failures.clamp(0, 20));
    TimeDelta::seconds(doubled.min(i64::from(period_seconds)))
}
