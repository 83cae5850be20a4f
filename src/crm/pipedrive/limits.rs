//! Pipedrive's two limits as its headers tell them: requests of a token within two seconds, and the
//! company's budget of a day, in which a list costs ten times as much as one person. Source:
//! Pipedrive developer documentation, "Rate limiting".

use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::crm::{
    CrmError, http,
    quota::{DailyReport, WindowReport},
};

/// Of the limit of requests.
const BURST_WINDOW: Duration = Duration::from_secs(2);
/// Requests in that window.
const BURST_LIMIT: &str = "x-ratelimit-limit";
/// Those that are left.
const BURST_REMAINING: &str = "x-ratelimit-remaining";
/// Seconds until that window ends.
const BURST_RESET: &str = "x-ratelimit-reset";
/// The company's tokens of a day, spent by all its programs and people.
const DAILY_LIMIT: &str = "x-daily-ratelimit-token-limit";
/// Those that are left.
const DAILY_REMAINING: &str = "x-daily-ratelimit-token-remaining";
/// What the dearest of our requests costs (recent changes: 20, a list: 10, one person: 1; the
/// user's own: 2, which we have not seen documented): with fewer left, it is the day's budget that
/// refuses.
const TOKENS_OF_A_REQUEST_MAX: u64 = 20;
/// Where the answer has no time, this is waited before the day's budget is looked at again.
const DAILY_WAIT: Duration = Duration::from_hours(1);

const DAILY_REASON: &str = "DAILY_LIMIT";
const DAILY_WORDS: &str = "the share of the company's daily Pipedrive API tokens that this service may use is spent; sync goes on after midnight UTC; a longer sync period or more tokens would help";

/// What is told of the requests that the token may make in [`BURST_WINDOW`].
pub(super) fn burst(headers: &HeaderMap) -> Option<WindowReport> {
    let count = |name| number(headers, name).and_then(|number| u32::try_from(number).ok());
    Some(WindowReport {
        total: count(BURST_LIMIT).filter(|limit| *limit > 0)?,
        remaining: count(BURST_REMAINING),
        resets: http::wait(headers, BURST_RESET),
        length: BURST_WINDOW,
    })
}

/// What is spent of the day's budget.
pub(super) fn daily(headers: &HeaderMap) -> Option<DailyReport> {
    let (limit, remaining) = (number(headers, DAILY_LIMIT)?, number(headers, DAILY_REMAINING)?);
    Some(DailyReport {
        used: limit.saturating_sub(remaining),
        limit,
        resume_after: until_midnight(headers),
        reason: DAILY_REASON,
        words: DAILY_WORDS,
    })
}

/// Which of the limits a 429 is about: seconds for the one, hours for the other.
pub(super) fn meaning_of_429(headers: &HeaderMap) -> CrmError {
    if number(headers, DAILY_REMAINING).is_some_and(|remaining| remaining < TOKENS_OF_A_REQUEST_MAX) {
        let resume_after = until_midnight(headers);
        return CrmError::QuotaSpent { reason: DAILY_REASON, words: DAILY_WORDS, resume_after };
    }
    let asked = http::wait(headers, RETRY_AFTER.as_str()).or_else(|| http::wait(headers, BURST_RESET));
    // 0: within this very second.
    CrmError::RateLimited { retry_after: asked.map(|wait| wait.max(Duration::from_secs(1))) }
}

/// The budget is renewed at midnight of the server's clock, which is taken to be UTC.
fn until_midnight(headers: &HeaderMap) -> Duration {
    http::server_time(headers).and_then(to_midnight).unwrap_or(DAILY_WAIT)
}

fn to_midnight(now: DateTime<Utc>) -> Option<Duration> {
    let midnight = now.date_naive().succ_opt()?.and_time(NaiveTime::MIN).and_utc();
    (midnight - now).max(TimeDelta::seconds(1)).to_std().ok()
}

/// A number of requests or tokens, rounded down. Who has overdrawn is told a number below zero:
/// none are left.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let number: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
    number.is_finite().then(|| number.max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    const EVENING: (&str, &str) = ("date", "Sun, 22 Nov 2026 23:00:00 GMT");

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    /// A spent day waits for midnight of the server's clock.
    #[test]
    fn spent_day_waits_for_servers_midnight() {
        for remaining in ["0", "19", "-1", "-5000", "0.5", "19.0"] {
            let error = meaning_of_429(&headers(&[EVENING, (DAILY_REMAINING, remaining), (BURST_RESET, "2")]));

            let CrmError::QuotaSpent { reason, resume_after, .. } = error else { panic!("{error}") };
            assert_eq!((reason, resume_after), ("DAILY_LIMIT", Duration::from_hours(1)));
        }
    }

    #[test]
    fn burst_waits_as_long_as_it_is_told() {
        for (pairs, wait) in [
            (&[(DAILY_REMAINING, "2000"), (BURST_RESET, "2")][..], Some(2)),
            (&[("retry-after", "7"), (BURST_RESET, "2")], Some(7)),
            (&[(BURST_RESET, "99999999")], Some(3600)),
            (&[(BURST_RESET, "0")], Some(1)),
            (&[(BURST_RESET, "soon")], None),
            (&[], None),
        ] {
            let error = meaning_of_429(&headers(pairs));

            let CrmError::RateLimited { retry_after } = error else { panic!("{error}") };
            assert_eq!(retry_after, wait.map(Duration::from_secs), "{pairs:?}");
        }
    }

    #[test]
    fn day_is_known_only_with_both_numbers() {
        let known = daily(&headers(&[EVENING, (DAILY_LIMIT, "30000"), (DAILY_REMAINING, "29990")])).unwrap();

        assert_eq!((known.used, known.limit, known.resume_after), (10, 30_000, Duration::from_hours(1)));
        let overdrawn = daily(&headers(&[EVENING, (DAILY_LIMIT, "30000"), (DAILY_REMAINING, "-20")])).unwrap();
        assert_eq!((overdrawn.used, overdrawn.limit), (30_000, 30_000));
        assert!(daily(&headers(&[(DAILY_REMAINING, "29990")])).is_none());
        assert!(daily(&headers(&[(DAILY_LIMIT, "30000"), (DAILY_REMAINING, "many")])).is_none());
    }

    #[test]
    fn midnight_is_at_most_a_day_away() {
        let at = |text: &str| to_midnight(text.parse().unwrap()).unwrap();

        assert_eq!(at("2026-11-22T00:00:00Z"), Duration::from_hours(24));
        assert_eq!(at("2026-12-31T23:59:59Z"), Duration::from_secs(1));
    }
}
