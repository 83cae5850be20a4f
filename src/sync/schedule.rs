//! When to try again, and what a CRM's refusal says of its integration. Pure.

use std::time::Duration;

use crate::{crm::CrmError, domain::integration_state::FailureVerdict};

pub(super) use crate::domain::integration_state::LONG_WAIT;

/// Waits for a rate limit before one page; each up to a minute.
pub(super) const RATE_LIMIT_WAITS_MAX: u32 = 20;
/// Attempts of a run without a page between them: after so many crashes the run itself is the
/// suspect.
pub(super) const STALLED_ATTEMPTS_MAX: i32 = 5;

/// The wait before try number `attempt` (the first retry is 1): doubling from `base`, at most a
/// minute, and between half of that and all of it (`jitter` from 0 to 255), so that many runs do
/// not come back together.
pub(super) fn backoff(base: Duration, attempt: u32, jitter: u8) -> Duration {
    let full = base.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(LONG_WAIT);
    full / 2 + full / 2 * u32::from(jitter) / 255
}

/// What a CRM's refusal says of its integration.
pub(super) const fn verdict_of(error: &CrmError) -> FailureVerdict {
    match error {
        CrmError::RateLimited { retry_after: Some(wait) } | CrmError::QuotaSpent { resume_after: wait, .. } => {
            FailureVerdict::Waits(*wait)
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
        | CrmError::OwnClientMissing(_) => FailureVerdict::Passes,
        CrmError::GrantRefused => FailureVerdict::Refused { spends_refresh_token: true, ends_with_a_page: true },
        CrmError::CredentialsRefused | CrmError::LoginRefused(_) | CrmError::ClientRefused => {
            FailureVerdict::Refused { spends_refresh_token: false, ends_with_a_page: true }
        }
        // Other requests than the refused one are answered all the time.
        CrmError::PermissionMissing(_) => {
            FailureVerdict::Refused { spends_refresh_token: false, ends_with_a_page: false }
        }
        // Nothing was sent, and nothing will be.
        CrmError::KeyUnusable => FailureVerdict::Final { spends_refresh_token: false },
        CrmError::Uninstalled => FailureVerdict::Final { spends_refresh_token: true },
        CrmError::OrganizationNotFound
        | CrmError::RecordNotFound
        | CrmError::HostMoved
        | CrmError::OtherOrganization(_)
        | CrmError::Renamed(_)
        | CrmError::AccountClosed(_)
        | CrmError::Refused(_)
        | CrmError::HostRefused
        | CrmError::HostUnknown(_)
        | CrmError::HostMissing(_) => FailureVerdict::Lasts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let base = Duration::from_secs(1);

        assert_eq!(backoff(base, 1, 255), Duration::from_secs(1));
        assert_eq!(backoff(base, 4, 255), Duration::from_secs(8));
        assert_eq!(backoff(base, 40, 255), Duration::from_mins(1));
        assert_eq!(backoff(base, 4, 0), Duration::from_secs(4));
    }

    #[test]
    fn a_crms_refusal_says_whether_to_wait_to_look_again_or_to_hold() {
        for (error, verdict) in [
            (CrmError::KeyUnusable, FailureVerdict::Final { spends_refresh_token: false }),
            (CrmError::Uninstalled, FailureVerdict::Final { spends_refresh_token: true }),
            (CrmError::OrganizationNotFound, FailureVerdict::Lasts),
            (CrmError::GrantRefused, FailureVerdict::Refused { spends_refresh_token: true, ends_with_a_page: true }),
            (
                CrmError::PermissionMissing("scope"),
                FailureVerdict::Refused { spends_refresh_token: false, ends_with_a_page: false },
            ),
            (CrmError::Unavailable("503"), FailureVerdict::Passes),
        ] {
            assert_eq!(verdict_of(&error), verdict, "{error}");
        }
    }
}
