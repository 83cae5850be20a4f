//! Times as vendors write them.

use chrono::{DateTime, NaiveDateTime, Utc};

use super::json::JsonCell;

/// Seconds since 1970 of 2000-01-01 and 2100-01-01: a number outside of them is no time of a
/// change.
const EPOCH: std::ops::Range<i64> = 946_684_800..4_102_444_800;

/// A time in any notation that is known of these vendors; without a zone it is UTC.
pub(super) fn read(cell: JsonCell<'_>) -> Option<DateTime<Utc>> {
    match cell {
        JsonCell::Text(text) => parse(&text),
        JsonCell::Number(number) => {
            let number: i64 = number.parse().ok()?;
            let is_seconds = EPOCH.contains(&number);
            let is_millis = EPOCH.contains(&(number / 1_000));
            if is_seconds {
                DateTime::from_timestamp(number, 0)
            } else {
                is_millis.then(|| DateTime::from_timestamp_millis(number)).flatten()
            }
        }
        _ => None,
    }
}

/// `2026-01-02T10:00:00Z`, `2026-01-02T10:00:00.000+0000`, `2026-01-02 10:00:00`, `2026/01/02
/// 10:00:00 +0000`.
pub(super) fn parse(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let zoned = ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f %z", "%Y/%m/%d %H:%M:%S %z"];
    if let Some(time) = zoned.iter().find_map(|format| DateTime::parse_from_str(text, format).ok()) {
        return Some(time.to_utc());
    }
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    let plain = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    Some(plain.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_each_notation() {
        for text in [
            "2026-01-02T10:00:00Z",
            "2026-01-02T10:00:00.000Z",
            "2026-01-02T10:00:00+0000",
            "2026-01-02T12:00:00.000+0200",
            "2026-01-02T12:00:00+02:00",
            "2026-01-02 10:00:00",
            "2026-01-02 10:00:00.000",
            "2026-01-02T10:00:00",
            "2026-01-02 10:00:00 UTC",
            "2026-01-02 12:00:00 +0200",
            "2026/01/02 11:00:00 +0100",
            " 2026-01-02T10:00:00Z ",
        ] {
            assert_eq!(parse(text).map(|time| time.timestamp()), Some(1_767_348_000), "{text}");
        }
        for number in ["1767348000", "1767348000000"] {
            assert_eq!(read(JsonCell::Number(number)).map(|time| time.timestamp()), Some(1_767_348_000), "{number}");
        }
        for other in ["", "yesterday", "2026-13-45T99:99:99Z", "2026-01-02"] {
            assert_eq!(parse(other), None, "{other}");
        }
        for other in ["0", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(read(JsonCell::Number(other)), None, "{other}");
        }
    }
}
