//! Pipedrive persons into records. Empty numbers are dropped: a person without a number may have one that says nothing.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Value, value::RawValue};

use super::model::{Entry, Person};
use crate::domain::{
    phone::Region,
    record::{ObjectType, RawNumber, Record, RecordKey},
};

/// What can be understood of the rows.
pub(super) fn persons(rows: &[Box<RawValue>]) -> Vec<Person> {
    rows.iter().filter_map(|row| serde_json::from_str(row.get()).ok()).collect()
}

/// The organizations that these persons belong to, each once. Those of the deleted do not matter.
pub(super) fn organization_ids(persons: &[Person]) -> Vec<u64> {
    let mut ids: Vec<u64> =
        persons.iter().filter(|person| !person.is_deleted).filter_map(|person| person.org_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// A person as a record; `None`: it has no time.
pub(super) fn record(person: Person, base_url: &str, organizations: &HashMap<u64, String>) -> Option<Record> {
    // A person that was never changed may have the time of its creation only.
    let updated_at = time(person.update_time.as_deref().or(person.add_time.as_deref())?)?;
    let organization = person.org_id.and_then(|id| organizations.get(&id)).cloned().unwrap_or_default();
    let display_name = display_name(&person);
    let mut numbers: Vec<RawNumber> = Vec::new();
    for Entry { value: raw, label } in entries(person.phones) {
        if numbers.iter().all(|known| known.raw != raw) {
            numbers.push(RawNumber { raw, label: label.unwrap_or_default() });
        }
    }
    let mut emails: Vec<String> = Vec::new();
    for Entry { value: email, .. } in entries(person.emails) {
        if !emails.contains(&email) {
            emails.push(email);
        }
    }
    Some(Record {
        key: key(person.id),
        updated_at,
        is_gone: person.is_deleted,
        // Polling never names the winner of a merge.
        successor: None,
        display_name,
        organization,
        emails,
        numbers,
        role: String::new(),
        url: format!("{base_url}/person/{}", person.id),
        region: country(person.postal_address.as_ref()),
    })
}

/// The key of a person.
pub(super) fn key(id: u64) -> RecordKey {
    RecordKey { object_type: ObjectType::Person, record_id: id.to_string() }
}

/// The country of an address that Pipedrive has taken apart; only with contact sync do persons have one.
fn country(address: Option<&Value>) -> Option<Region> {
    Region::of_country(address?.get("country")?.as_str()?)
}

fn display_name(person: &Person) -> String {
    let whole = person.name.as_deref().unwrap_or_default().trim();
    if !whole.is_empty() {
        return whole.to_owned();
    }
    let part = |name: &Option<String>| name.as_deref().unwrap_or_default().trim().to_owned();
    format!("{} {}", part(&person.first_name), part(&person.last_name)).trim().to_owned()
}

fn entries(values: Option<Vec<Value>>) -> impl Iterator<Item = Entry> {
    let read = values.unwrap_or_default().into_iter().filter_map(|value| serde_json::from_value::<Entry>(value).ok());
    read.filter(|entry| !entry.value.trim().is_empty())
}

/// `2026-01-02T10:00:00Z`, and as version 1 writes it, in UTC: `2026-01-02 10:00:00`.
fn time(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    Some(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").ok()?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records_of(rows: &str) -> Vec<Record> {
        let rows: Vec<Box<RawValue>> = serde_json::from_str(rows).unwrap();
        let organizations = HashMap::from([(9, "Acme".to_owned())]);
        let persons = persons(&rows).into_iter();
        persons.filter_map(|person| record(person, "https://acme.pipedrive.com", &organizations)).collect()
    }

    #[test]
    fn person_has_all_its_numbers_and_addresses_without_empty_ones_and_repeats() {
        let records = records_of(
            r#"[{"id":1,"name":"Ann Doe","first_name":"Ann","last_name":"Doe","org_id":9,"update_time":"2026-01-01T00:05:00Z",
                "phones":[{"value":"","primary":true,"label":"work"},{"value":"+1 (555) 123-4567","label":"work"},
                    {"value":"555 765 4321","label":null},{"value":"+1 (555) 123-4567","label":"home"},{"value":null},7,{"label":"work"}],
                "emails":[{"value":"ann@example.com"},{"value":" "},{"value":"ann@example.com"}]}]"#,
        );

        let [record] = &records[..] else { panic!("{}", records.len()) };
        let numbers: Vec<_> =
            record.numbers.iter().map(|number| (number.raw.as_str(), number.label.as_str())).collect();
        assert_eq!(numbers, [("+1 (555) 123-4567", "work"), ("555 765 4321", "")]);
        assert_eq!(record.emails, ["ann@example.com"]);
        assert_eq!(record.organization, "Acme");
        assert_eq!(record.display_name, "Ann Doe");
        assert_eq!(record.url, "https://acme.pipedrive.com/person/1");
        assert!(!record.is_gone);
    }

    #[test]
    fn the_country_is_that_of_the_postal_address() {
        let region = |address: &str| {
            let records =
                records_of(&format!(r#"[{{"id":1,"add_time":"2026-01-01T00:00:00Z","postal_address":{address}}}]"#));
            records[0].region.map(|region| region.to_string())
        };
        assert_eq!(region(r#"{"value":"Tartu mnt 80, Tallinn, Estonia","country":"Estonia"}"#).as_deref(), Some("EE"));
        for none in ["null", r#""Tallinn""#, "{}", r#"{"country":null}"#, r#"{"country":"Wonderland"}"#] {
            assert_eq!(region(none), None, "{none}");
        }
    }

    #[test]
    fn name_is_the_whole_one_or_made_of_its_parts() {
        let names: Vec<String> = records_of(
            r#"[{"id":1,"name":" ","first_name":"Ann","last_name":"Doe","add_time":"2026-01-01T00:00:00Z"},
                {"id":2,"last_name":"Doe","add_time":"2026-01-01T00:00:00Z"},{"id":3,"add_time":"2026-01-01T00:00:00Z"}]"#,
        )
        .into_iter()
        .map(|record| record.display_name)
        .collect();

        assert_eq!(names, ["Ann Doe", "Doe", ""]);
    }

    #[test]
    fn time_is_of_the_change_else_of_the_creation_in_either_notation() {
        let times: Vec<String> = records_of(
            r#"[{"id":1,"update_time":"2026-01-01T00:05:00Z","add_time":"2026-01-01T00:00:00Z"},
                {"id":2,"update_time":null,"add_time":"2026-01-01T00:00:00Z"},{"id":3,"update_time":"2026-01-01 00:05:00"}]"#,
        )
        .into_iter()
        .map(|record| record.updated_at.to_rfc3339())
        .collect();

        assert_eq!(times, ["2026-01-01T00:05:00+00:00", "2026-01-01T00:00:00+00:00", "2026-01-01T00:05:00+00:00"]);
    }

    #[test]
    fn row_that_cannot_be_read_is_left_out_alone() {
        let records = records_of(
            r#"[{"id":"x","update_time":"2026-01-01T00:05:00Z"},{"id":0,"update_time":"2026-01-01T00:05:00Z"},
                {"id":1,"update_time":"yesterday"},{"id":2},7,null,{"id":3,"phones":"555","update_time":"2026-01-01T00:05:00Z"},
                {"id":"4","org_id":{"value":9},"phones":null,"emails":null,"update_time":"2026-01-01T00:05:00Z","surprise":[1]}]"#,
        );

        assert_eq!(records.iter().map(|record| record.key.record_id.as_str()).collect::<Vec<_>>(), ["4"]);
    }

    #[test]
    fn deleted_row_is_gone() {
        let records = records_of(r#"[{"id":1,"is_deleted":true,"org_id":9,"update_time":"2026-01-01T00:05:00Z"}]"#);

        assert!(records[0].is_gone);
    }
}
