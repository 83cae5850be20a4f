//! What Zendesk says of its limits in the headers of its answers: one of the account, one of the
//! export.

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::crm::quota::WindowReport;

/// The window of the export's own limit, 20 requests or 60 with an add-on.
pub(super) const EXPORT_WINDOW: Duration = Duration::from_mins(1);
/// What the export says of that limit: `total=20; remaining=19; resets=42`.
const EXPORT_LIMIT: &str = "zendesk-ratelimit-incremental-exports-cursor";
/// The window of the account's limit for all other requests: 200 to 700 by its plan.
const ACCOUNT_WINDOW: Duration = Duration::from_mins(1);
/// What each answer says of that limit, in Zendesk's older words and its newer ones.
const ACCOUNT_LIMIT: [&str; 2] = ["x-rate-limit", "ratelimit-limit"];
const ACCOUNT_REMAINING: [&str; 2] = ["x-rate-limit-remaining", "ratelimit-remaining"];
const ACCOUNT_RESETS: &str = "ratelimit-reset";

/// What the headers of an answer say of the account's limit.
pub(super) fn account_limit(headers: &HeaderMap) -> Option<WindowReport> {
    let number = |names: &[&str]| {
        let mut told = names.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
        told.next()?.trim().parse::<u32>().ok()
    };
    Some(WindowReport {
        total: number(&ACCOUNT_LIMIT)?,
        remaining: number(&ACCOUNT_REMAINING),
        resets: number(&[ACCOUNT_RESETS]).map(|seconds| Duration::from_secs(seconds.into())),
        length: ACCOUNT_WINDOW,
    })
}

/// What the header of the export says; nothing without `total`.
pub(super) fn export_limit(headers: &HeaderMap) -> Option<WindowReport> {
    let text = headers.get(EXPORT_LIMIT)?.to_str().ok()?;
    let number = |name: &str| {
        let value = text.split(';').find_map(|part| part.trim().strip_prefix(name)?.trim().strip_prefix('='));
        value.and_then(|value| value.trim().parse::<i64>().ok())
    };
    let count = |number: i64| u32::try_from(number.max(0)).ok();
    Some(WindowReport {
        total: number("total").and_then(count).filter(|total| *total > 0)?,
        remaining: number("remaining").and_then(count),
        resets: number("resets").and_then(count).map(|seconds| Duration::from_secs(seconds.into())),
        length: EXPORT_WINDOW,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of the export is read as far as it goes.
    #[test]
    fn export_header_is_read_as_far_as_possible() {
        let told = |text: &'static str| {
            export_limit(&HeaderMap::from_iter([(EXPORT_LIMIT.parse().unwrap(), text.parse().unwrap())]))
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));

        for (text, total, remaining, resets) in [
            ("total=20; remaining=19; resets=42", 20, Some(19), seconds(42)),
            ("remaining=0;total=60", 60, Some(0), None),
            ("total = 20; remaining = -3; resets = -1", 20, Some(0), seconds(0)),
            ("total=20; remaining=many; resets=soon", 20, None, None),
        ] {
            assert_eq!(told(text), Some(WindowReport { total, remaining, resets, length: EXPORT_WINDOW }), "{text}");
        }
        for text in ["", "total=0; remaining=0", "remaining=19; resets=42", "total=-1"] {
            assert_eq!(told(text), None, "{text}");
        }
    }
}
