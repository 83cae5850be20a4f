//! When to try again. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{crm::CrmError, domain::integration::Hold};

/// The longest wait within a run; a longer one ends it.
pub(super) const WAIT_MAX: Duration = Duration::from_mins(1);
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

/// The state in which a failed pass leaves its integration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AfterFailure {
    /// No further pass until someone acts.
    pub hold: Option<Hold>,
    /// When to try again; with a hold only if that is `QUOTA_PAUSED`, which ends by itself.
    pub due_at: Option<DateTime<Utc>>,
}

/// What a refusal leads to: refused credentials wait for new ones; other refusals are tried a few times; anything that may pass is
/// tried for ever, a minute later at first and a period later at most (the integration is STALE then, and says so).
pub(super) fn after_failure(
    error: &CrmError,
    earlier_failures: i32,
    period_seconds: i32,
    now: DateTime<Utc>,
) -> AfterFailure {
    if let CrmError::RateLimited { retry_after: Some(wait) } | CrmError::QuotaSpent { resume_after: wait, .. } = error {
        let due_at = now + TimeDelta::from_std(*wait).unwrap_or_default();
        return AfterFailure { hold: Some(Hold::QuotaPaused), due_at: Some(due_at) };
    }
    let hold = match error {
        CrmError::CredentialsRefused
        | CrmError::GrantRefused
        | CrmError::ClientRefused
        | CrmError::KeyUnusable
        | CrmError::PermissionMissing(_) => Some(Hold::AuthFailed),
        CrmError::OrganizationNotFound
        | CrmError::OtherOrganization
        | CrmError::AccountClosed(_)
        | CrmError::Refused(_)
        | CrmError::HostRefused
        | CrmError::HostUnknown(_)
        | CrmError::HostMissing
            if earlier_failures + 1 >= REFUSALS_MAX =>
        {
            Some(Hold::Paused)
        }
        _ => None,
    };
    AfterFailure { hold, due_at: hold.is_none().then(|| now + delay(earlier_failures, period_seconds)) }
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

    #[test]
    fn refused_credentials_are_not_tried_again() {
        for error in [CrmError::CredentialsRefused, CrmError::PermissionMissing("scope")] {
            assert_eq!(
                after_failure(&error, 0, 1800, now()),
                AfterFailure { hold: Some(Hold::AuthFailed), due_at: None }
            );
        }
    }

    #[test]
    fn an_outage_is_tried_for_ever_and_ever_later() {
        let due_in = |failures| {
            after_failure(&CrmError::Unavailable("server error"), failures, 1800, now()).due_at.unwrap() - now()
        };

        assert_eq!(due_in(0), TimeDelta::seconds(60));
        assert_eq!(due_in(3), TimeDelta::seconds(480));
        assert_eq!(due_in(1_000), TimeDelta::seconds(1800));
    }

    #[test]
    fn a_long_rate_limit_says_when_it_goes_on() {
        let error = CrmError::RateLimited { retry_after: Some(Duration::from_mins(10)) };

        let after = after_failure(&error, 0, 1800, now());

        assert_eq!(after, AfterFailure { hold: Some(Hold::QuotaPaused), due_at: Some(now() + TimeDelta::minutes(10)) });
    }

    #[test]
    fn a_spent_quota_pauses_until_there_is_more() {
        let resume_after = Duration::from_hours(6);
        let error = CrmError::QuotaSpent { reason: "DAILY_LIMIT", words: "spent", resume_after };

        let after = after_failure(&error, 4, 1800, now());

        assert_eq!(after, AfterFailure { hold: Some(Hold::QuotaPaused), due_at: Some(now() + TimeDelta::hours(6)) });
    }

    #[test]
    fn a_lasting_refusal_pauses_on_the_third_pass() {
        assert_eq!(after_failure(&CrmError::OrganizationNotFound, 1, 1800, now()).hold, None);
        assert_eq!(after_failure(&CrmError::OrganizationNotFound, 2, 1800, now()).hold, Some(Hold::Paused));
    }
}
