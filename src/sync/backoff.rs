//! When to try again. Pure.

use std::time::Duration;

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
}
