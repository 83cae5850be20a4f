//! The queries. Every name in them is one of ours or has been checked; every value goes through
//! [`literal`] or [`time`].

use chrono::DateTime;

use super::{fields::ESSENTIAL, position::RowKeyset};
use crate::domain::record::ObjectType;

/// Rows asked for at once: the most that Salesforce gives in one answer.
pub(super) const ROWS_PER_PAGE: usize = 2_000;

/// What of an object is read next, in the order of change and then of id.
#[derive(Clone, Copy)]
pub(super) struct QueryWindow<'a> {
    /// From then on, milliseconds since 1970.
    pub(super) since: Option<i64>,
    /// Behind this row; wins over `since`.
    pub(super) after: Option<&'a RowKeyset>,
    /// Before then, milliseconds since 1970.
    pub(super) before: Option<i64>,
}

/// A page of so many rows.
pub(super) fn page(object: ObjectType, fields: &[String], window: &QueryWindow<'_>, rows: usize) -> String {
    let from = match (window.after, window.since) {
        (Some(RowKeyset { at, id }), _) => {
            let (at, id) = (time(*at), literal(id));
            Some(format!("(SystemModstamp > {at} OR (SystemModstamp = {at} AND Id > {id}))"))
        }
        (None, Some(since)) => Some(format!("SystemModstamp >= {}", time(since))),
        (None, None) => None,
    };
    let to = window.before.map(|before| format!("SystemModstamp < {}", time(before)));
    let conditions: Vec<String> = from.into_iter().chain(to).collect();
    let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("{}{condition} ORDER BY SystemModstamp, Id LIMIT {rows}", all(object, fields))
}

/// What has changed since then, the newest first.
pub(super) fn newest(object: ObjectType, fields: &[String], since: i64, rows: usize) -> String {
    let condition = format!("WHERE SystemModstamp >= {}", time(since));
    format!("{} {condition} ORDER BY SystemModstamp DESC, Id DESC LIMIT {rows}", all(object, fields))
}

/// All rows, in no order: ordering would keep the bulk interface from splitting the work.
pub(super) fn all(object: ObjectType, fields: &[String]) -> String {
    let columns: Vec<&str> = ESSENTIAL.into_iter().chain(fields.iter().map(String::as_str)).collect();
    format!("SELECT {} FROM {}", columns.join(", "), object.as_str())
}

/// Rows by their ids.
pub(super) fn by_ids<'a>(object: ObjectType, fields: &[String], ids: impl Iterator<Item = &'a str>) -> String {
    let ids: Vec<String> = ids.map(literal).collect();
    format!("{} WHERE Id IN ({})", all(object, fields), ids.join(","))
}

/// How many live rows.
pub(super) fn count(object: ObjectType) -> String {
    format!("SELECT count() FROM {}", object.as_str())
}

/// A text between quotes.
pub(super) fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {}
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// `2026-01-02T10:00:00.000Z`, from milliseconds since 1970.
fn time(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).unwrap_or_default().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<String> {
        ["Name", "Account.Name"].map(str::to_owned).to_vec()
    }

    /// A page is asked for by time, then by the last row.
    #[test]
    fn page_is_asked_by_time_then_last_row() {
        let none = QueryWindow { since: None, after: None, before: None };
        let since = QueryWindow { since: Some(1_767_348_000_120), ..none };
        let last = RowKeyset { at: 1_767_348_000_120, id: "003D000000QV9n2IAD".to_owned() };
        let after = QueryWindow { after: Some(&last), before: Some(1_767_348_001_000), ..since };

        assert_eq!(
            page(ObjectType::Contact, &fields(), &none, ROWS_PER_PAGE),
            "SELECT Id, IsDeleted, SystemModstamp, Name, Account.Name FROM Contact ORDER BY SystemModstamp, Id LIMIT 2000"
        );
        assert_eq!(
            page(ObjectType::Lead, &[], &since, 500),
            "SELECT Id, IsDeleted, SystemModstamp FROM Lead WHERE SystemModstamp >= 2026-01-02T10:00:00.120Z ORDER BY SystemModstamp, Id LIMIT 500"
        );
        assert_eq!(
            page(ObjectType::Contact, &[], &after, 1),
            "SELECT Id, IsDeleted, SystemModstamp FROM Contact WHERE (SystemModstamp > 2026-01-02T10:00:00.120Z OR (SystemModstamp = 2026-01-02T10:00:00.120Z AND Id > '003D000000QV9n2IAD')) AND SystemModstamp < 2026-01-02T10:00:01.000Z ORDER BY SystemModstamp, Id LIMIT 1"
        );
    }

    #[test]
    fn newest_come_first() {
        assert_eq!(
            newest(ObjectType::Lead, &[], 1_767_348_000_120, 500),
            "SELECT Id, IsDeleted, SystemModstamp FROM Lead WHERE SystemModstamp >= 2026-01-02T10:00:00.120Z ORDER BY SystemModstamp DESC, Id DESC LIMIT 500"
        );
    }

    #[test]
    fn no_value_leaves_its_quotes() {
        assert_eq!(literal("O'Hara\\"), "'O\\'Hara\\\\'");
        assert_eq!(literal("') OR Id != '\n\u{0}"), "'\\') OR Id != \\''");
        assert_eq!(
            by_ids(ObjectType::Lead, &[], ["a'", "b"].into_iter()),
            "SELECT Id, IsDeleted, SystemModstamp FROM Lead WHERE Id IN ('a\\'','b')"
        );
    }
}
