//! When to try again. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    crm::CrmError,
    domain::integration::Hold,
    store::run_progress::{AfterFailure, Standing},
};

/// The longest wait within a run; a longer one ends it.
pub(super) const WAIT_MAX: Duration = Duration::from_mins(1);
/// From the first refusal of credentials to the second look, which must agree before anybody is told.
const SECOND_LOOK_AFTER: TimeDelta = TimeDelta::minutes(3);
/// From look to look at an integration that is held because its CRM refuses it.
const PROBE_EVERY: TimeDelta = TimeDelta::hours(1);
/// Passes in a row that end in a refusal that nothing mends by itself, before someone must look.
const REFUSALS_MAX: i32 = 3;
/// Waits for a rate limit before one page; each up to a minute.
pub(super) const RATE_LIMIT_WAITS_MAX: u32 = 20;
/// Attempts of a run without a page between them: after so many crashes the run itself is the suspect.
pub(super) const STALLED_ATTEMPTS_MAX: i32 = 5;

/// The wait before try number `attempt` (the first retry is 1): doubling from `base`, at most a minute, and between half of that
/// and all of it (`jitter` from 0 to 255), so that many runs do not come back together.
pub(super) fn backoff(base: Duration, attempt: u32, jitter: u8) -> Duration {
    let full = base.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(WAIT_MAX);
    full / 2 + full / 2 * u32::from(jitter) / 255
}

/// What a failure says of its integration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes: tried for ever, a minute later at first and a period later at most (the integration is STALE then, and says so).
    Passes,
    /// It passes, and not sooner.
    Waits(Duration),
    /// The credentials, or what they may do, are refused: believed when a second look minutes later agrees.
    Refused {
        /// A refresh token that is refused twice is not sent a third time.
        spends_refresh_token: bool,
        /// A page that came meanwhile shows that an earlier refusal was over.
        ends_with_a_page: bool,
    },
    /// It lasts, but it may be mended in the CRM: believed on the third pass in a row.
    Lasts,
    /// The credentials are of no use, and no second look is needed. Whether to look again by itself.
    Final {
        /// The refresh token is spent, or its last use is unknown.
        spends_refresh_token: bool,
    },
    /// Only somebody who looks at it may start it again.
    Stops,
}

impl Verdict {
    /// What a CRM's refusal says.
    pub(super) const fn of(error: &CrmError) -> Self {
        match error {
            CrmError::RateLimited { retry_after: Some(wait) } | CrmError::QuotaSpent { resume_after: wait, .. } => {
                Self::Waits(*wait)
            }
            CrmError::RateLimited { retry_after: None }
            | CrmError::Paced { .. }
            | CrmError::Unavailable(_)
            | CrmError::TooMuch(_)
            | CrmError::NoConnection { .. }
            | CrmError::ConnectionBroke { .. }
            | CrmError::TimedOut { .. }
            | CrmError::Unreadable(_)
            | CrmError::Stuck
            | CrmError::PositionRefused
            // The operator mends those for all integrations.
            | CrmError::OwnClientRefused(_)
            | CrmError::OwnClientMissing(_) => Self::Passes,
            CrmError::GrantRefused => Self::Refused { spends_refresh_token: true, ends_with_a_page: true },
            CrmError::CredentialsRefused | CrmError::LoginRefused(_) | CrmError::ClientRefused => {
                Self::Refused { spends_refresh_token: false, ends_with_a_page: true }
            }
            // Other requests than the refused one are answered all the time.
            CrmError::PermissionMissing(_) => Self::Refused { spends_refresh_token: false, ends_with_a_page: false },
            // Nothing was sent, and nothing will be.
            CrmError::KeyUnusable => Self::Final { spends_refresh_token: false },
            CrmError::Uninstalled => Self::Final { spends_refresh_token: true },
            CrmError::OrganizationNotFound
            | CrmError::RecordNotFound
            | CrmError::HostMoved
            | CrmError::OtherOrganization(_)
            | CrmError::Renamed(_)
            | CrmError::AccountClosed(_)
            | CrmError::Refused(_)
            | CrmError::HostRefused
            | CrmError::HostUnknown(_)
            | CrmError::HostMissing => Self::Lasts,
        }
    }
}

/// The state in which a failed pass leaves its integration. One that is held is looked at every hour, but for a refresh token that must
/// not be sent; what passes meanwhile does not end its hold, a complete pass does.
pub(super) fn after_failure(verdict: Verdict, standing: &Standing, now: DateTime<Utc>) -> AfterFailure {
    let kept = standing.hold.filter(|hold| matches!(hold, Hold::AuthFailed | Hold::Paused));
    let probed_at = Some(now + PROBE_EVERY);
    let next_at = Some(now + delay(standing.failures, standing.period_seconds));
    let as_before = AfterFailure { refused_at: standing.refused_at, ..AfterFailure::default() };
    match verdict {
        Verdict::Passes => {
            let due_at = if kept.is_some() { probed_at } else { next_at };
            AfterFailure { hold: kept, keeps_reason: true, due_at, ..as_before }
        }
        Verdict::Waits(wait) => {
            let wait = TimeDelta::from_std(wait.max(WAIT_MAX)).unwrap_or(PROBE_EVERY);
            let paused = kept.or(Some(Hold::QuotaPaused));
            AfterFailure { hold: paused, keeps_reason: kept.is_some(), due_at: Some(now + wait), ..as_before }
        }
        Verdict::Refused { spends_refresh_token, ends_with_a_page } => {
            let is_new = ends_with_a_page && standing.has_progressed;
            // A clock that was ahead must not put the second look off.
            let first = standing.refused_at.filter(|_| !is_new).unwrap_or(now).min(now);
            let refused_at = Some(first);
            if kept != Some(Hold::AuthFailed) && now - first < SECOND_LOOK_AFTER {
                return AfterFailure { due_at: Some(first + SECOND_LOOK_AFTER), refused_at, ..AfterFailure::default() };
            }
            let due_at = probed_at.filter(|_| !spends_refresh_token);
            AfterFailure { hold: Some(Hold::AuthFailed), keeps_reason: false, due_at, refused_at, spends_refresh_token }
        }
        Verdict::Lasts if kept.is_none() && standing.failures + 1 < REFUSALS_MAX => {
            AfterFailure { due_at: next_at, ..as_before }
        }
        Verdict::Lasts => AfterFailure { hold: kept.or(Some(Hold::Paused)), due_at: probed_at, ..as_before },
        Verdict::Final { spends_refresh_token } => {
            let due_at = probed_at.filter(|_| !spends_refresh_token);
            AfterFailure { hold: Some(Hold::AuthFailed), due_at, spends_refresh_token, ..as_before }
        }
        Verdict::Stops => AfterFailure { hold: Some(Hold::Paused), ..as_before },
    }
}

/// From a failed pass to the next.
pub(super) fn delay(earlier_failures: i32, period_seconds: i32) -> TimeDelta {
    let doubled = 60_i64.saturating_mul(1 << earlier_failures.clamp(0, 20));
    TimeDelta::seconds(doubled.min(i64::from(period_seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000, 0).unwrap()
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let base = Duration::from_secs(1);

        assert_eq!(backoff(base, 1, 255), Duration::from_secs(1));
        assert_eq!(backoff(base, 4, 255), Duration::from_secs(8));
        assert_eq!(backoff(base, 40, 255), Duration::from_mins(1));
        assert_eq!(backoff(base, 4, 0), Duration::from_secs(4));
    }

    const REFUSED: Verdict = Verdict::Refused { spends_refresh_token: false, ends_with_a_page: true };
    const GRANT_REFUSED: Verdict = Verdict::Refused { spends_refresh_token: true, ends_with_a_page: true };

    fn standing() -> Standing {
        Standing { period_seconds: 1800, ..Standing::default() }
    }

    fn refused_before(minutes: i64) -> Standing {
        Standing { refused_at: Some(now() - TimeDelta::minutes(minutes)), failures: 1, ..standing() }
    }

    fn held(hold: Hold) -> Standing {
        Standing { hold: Some(hold), failures: 5, ..refused_before(60) }
    }

    #[test]
    fn a_first_refusal_holds_nothing_and_is_looked_at_again_minutes_later() {
        let after = after_failure(REFUSED, &standing(), now());

        assert_eq!((after.hold, after.refused_at), (None, Some(now())));
        assert_eq!(after.due_at, Some(now() + TimeDelta::minutes(3)));
        // Somebody triggered a pass between the two looks: that is no second look.
        let sooner = after_failure(GRANT_REFUSED, &refused_before(1), now());
        assert_eq!((sooner.hold, sooner.spends_refresh_token), (None, false));
        assert_eq!(sooner.due_at, Some(now() + TimeDelta::minutes(2)));
    }

    #[test]
    fn a_second_refusal_minutes_later_is_believed_and_probed_hourly() {
        let after = after_failure(REFUSED, &refused_before(3), now());

        assert_eq!((after.hold, after.due_at), (Some(Hold::AuthFailed), Some(now() + TimeDelta::hours(1))));
        assert!(!after.spends_refresh_token && !after.keeps_reason);
        let again = after_failure(REFUSED, &held(Hold::AuthFailed), now());
        assert_eq!((again.hold, again.due_at), (after.hold, after.due_at));
    }

    #[test]
    fn a_refresh_token_that_is_refused_twice_is_spent_and_not_probed() {
        let after = after_failure(GRANT_REFUSED, &refused_before(3), now());

        assert_eq!((after.hold, after.due_at), (Some(Hold::AuthFailed), None));
        assert!(after.spends_refresh_token);
    }

    #[test]
    fn a_page_between_two_refusals_of_access_makes_the_second_a_first() {
        let progressed = Standing { has_progressed: true, ..refused_before(30) };

        assert_eq!(after_failure(REFUSED, &progressed, now()).hold, None);
        let permission = Verdict::of(&CrmError::PermissionMissing("scope"));
        assert_eq!(after_failure(permission, &progressed, now()).hold, Some(Hold::AuthFailed));
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_put_the_second_look_off() {
        let ahead = refused_before(-600);

        assert_eq!(after_failure(REFUSED, &ahead, now()).due_at, Some(now() + TimeDelta::minutes(3)));
    }

    #[test]
    fn what_no_second_look_could_change_is_believed_at_once() {
        for (verdict, due_at) in [
            (Verdict::of(&CrmError::KeyUnusable), Some(now() + TimeDelta::hours(1))),
            (Verdict::of(&CrmError::Uninstalled), None),
        ] {
            let after = after_failure(verdict, &standing(), now());

            assert_eq!((after.hold, after.due_at), (Some(Hold::AuthFailed), due_at));
        }
    }

    #[test]
    fn an_outage_is_tried_for_ever_and_ever_later() {
        let due_in = |failures| {
            let standing = Standing { failures, ..standing() };
            after_failure(Verdict::Passes, &standing, now()).due_at.unwrap() - now()
        };

        assert_eq!(due_in(0), TimeDelta::seconds(60));
        assert_eq!(due_in(3), TimeDelta::seconds(480));
        assert_eq!(due_in(1_000), TimeDelta::seconds(1800));
    }

    #[test]
    fn what_passes_neither_ends_a_hold_nor_changes_its_words() {
        for hold in [Hold::AuthFailed, Hold::Paused] {
            for verdict in [Verdict::Passes, Verdict::Waits(Duration::from_mins(10))] {
                let after = after_failure(verdict, &held(hold), now());

                assert!(after.hold == Some(hold) && after.keeps_reason && after.refused_at.is_some(), "{after:?}");
            }
        }
        let quota = after_failure(Verdict::Passes, &held(Hold::QuotaPaused), now());
        assert_eq!(quota.hold, None);
    }

    #[test]
    fn a_rate_limit_says_when_it_goes_on_and_is_never_a_hot_loop() {
        for (wait, due_in) in [(0, 60), (1, 60), (600, 600), (21_600, 21_600)] {
            let after = after_failure(Verdict::Waits(Duration::from_secs(wait)), &standing(), now());

            assert_eq!(after.hold, Some(Hold::QuotaPaused));
            assert_eq!(after.due_at, Some(now() + TimeDelta::seconds(due_in)));
        }
    }

    #[test]
    fn a_lasting_refusal_pauses_on_the_third_pass_and_is_probed() {
        let lasts = Verdict::of(&CrmError::OrganizationNotFound);
        let after = |failures| after_failure(lasts, &Standing { failures, ..standing() }, now());

        assert_eq!(after(1).hold, None);
        assert_eq!((after(2).hold, after(2).due_at), (Some(Hold::Paused), Some(now() + TimeDelta::hours(1))));
        assert_eq!(after_failure(Verdict::Stops, &standing(), now()).due_at, None);
    }
}
