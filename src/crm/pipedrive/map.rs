//! Pipedrive persons into records. Empty numbers are dropped: a person without a number may have
//! one that says nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use phone_key::Region;
use serde_json::value::RawValue;

use super::model::{PAGE, PERSON, PhoneField, organization_id, own_values};
use crate::{
    crm::{
        CrmError,
        json::{self, BodyText, JsonCell, JsonFields, TextValues},
        times,
    },
    domain::{
        record::{ObjectType, RawNumber, Record, RecordKey},
        rejected::{PageRejects, RejectReason, ValueLosses},
    },
};

/// A page with more rows than this is not Pipedrive's.
const ROWS_MAX: usize = 1_000;

pub(super) const NO_PAGE: CrmError = CrmError::Unreadable("it is not the JSON that Pipedrive documents");

/// A person whose organization has no name yet.
pub(super) struct PersonRow {
    id: u64,
    updated_at: DateTime<Utc>,
    /// Set by whoever has asked for this very person.
    answered_at: Option<DateTime<Utc>>,
    pub is_deleted: bool,
    pub organization_id: Option<u64>,
    display_name: String,
    numbers: Vec<RawNumber>,
    emails: Vec<String>,
    region: Option<Region>,
}

impl PersonRow {
    /// Which person.
    pub(super) fn key(&self) -> RecordKey {
        key(self.id)
    }

    /// Of an answer about this very person.
    pub(super) fn answered_at(self, at: DateTime<Utc>) -> Self {
        Self { answered_at: Some(at), ..self }
    }
}

/// An answer with persons.
pub(super) struct PersonsPage {
    pub persons: Vec<PersonRow>,
    pub rejects: PageRejects,
    /// `None`: the end, or no list.
    pub next_cursor: Option<String>,
    /// Some have values in fields of the company's own.
    pub has_custom_fields: bool,
}

/// An answer with a page of a list, and where it goes on. Without a word on that nobody knows
/// whether there is more: `next_cursor` must be there, if null.
pub(super) fn page_of_list(body: &BodyText) -> Result<(JsonFields<'_, 'static>, Option<String>), CrmError> {
    let page = body.value().and_then(|page| JsonFields::of(page, &PAGE)).ok_or(NO_PAGE)?;
    let JsonCell::Object(paging) = page.cell("additional_data") else { return Err(NO_PAGE) };
    let paging = JsonFields::of(paging, &["next_cursor"]).ok_or(NO_PAGE)?;
    let next_cursor = match JsonCell::of(paging.raw("next_cursor").ok_or(NO_PAGE)?) {
        JsonCell::Null => None,
        JsonCell::Text(cursor) => Some(cursor.into_owned()),
        _ => return Err(NO_PAGE),
    };
    Ok((page, next_cursor))
}

/// Reads a page of a list.
pub(super) fn page(body: &BodyText, fields: &[PhoneField]) -> Result<PersonsPage, CrmError> {
    let (page, next_cursor) = page_of_list(body)?;
    Ok(PersonsPage { next_cursor, ..rows(body, &page, fields)? })
}

/// Reads the persons that were asked for by their ids.
pub(super) fn listed(body: &BodyText, fields: &[PhoneField]) -> Result<PersonsPage, CrmError> {
    let page = body.value().and_then(|page| JsonFields::of(page, &PAGE)).ok_or(NO_PAGE)?;
    rows(body, &page, fields)
}

fn rows(body: &BodyText, page: &JsonFields<'_, '_>, fields: &[PhoneField]) -> Result<PersonsPage, CrmError> {
    let mut read = PersonsPage::of(body);
    let list = page.list("data").ok_or(NO_PAGE)?;
    if !json::each(list, ROWS_MAX, |row| read.add(row, fields)) {
        return Err(CrmError::Unreadable("a page has more than 1,000 persons"));
    }
    Ok(read)
}

/// Reads the person of an answer about one.
pub(super) fn one(body: &BodyText, fields: &[PhoneField]) -> Result<PersonsPage, CrmError> {
    let page = body.value().and_then(|page| JsonFields::of(page, &PAGE)).ok_or(NO_PAGE)?;
    let mut read = PersonsPage::of(body);
    read.add(page.raw("data").ok_or(NO_PAGE)?, fields);
    Ok(read)
}

impl PersonsPage {
    fn of(body: &BodyText) -> Self {
        let rejects = PageRejects { characters: body.replaced, ..PageRejects::default() };
        Self { persons: Vec::new(), rejects, next_cursor: None, has_custom_fields: false }
    }

    fn add(&mut self, row: &RawValue, fields: &[PhoneField]) {
        let Some((person, has_own)) = person(row, fields, &mut self.rejects) else { return };
        self.persons.push(person);
        self.has_custom_fields |= has_own;
    }
}

/// A person, and whether it has values in fields of the company's own.
fn person(row: &RawValue, fields: &[PhoneField], rejects: &mut PageRejects) -> Option<(PersonRow, bool)> {
    let raw = row.get();
    let mut reject = |id: Option<u64>, reason, field| {
        rejects.reject(ObjectType::Person, id.map(|id| id.to_string()), reason, field, raw);
    };
    let Some(person) = JsonFields::of(row, &PERSON) else {
        reject(None, RejectReason::NotAnObject, "");
        return None;
    };
    let Some(id) = person.cell("id").id() else {
        reject(None, RejectReason::IdUnreadable, "id");
        return None;
    };
    // A person that was never changed may have the time of its creation only.
    let changed = [person.cell("update_time"), person.cell("add_time")];
    let Some(updated_at) = changed.into_iter().find(|cell| !matches!(cell, JsonCell::Null)).and_then(times::read)
    else {
        reject(Some(id), RejectReason::TimeUnreadable, "update_time");
        return None;
    };
    let mut losses = ValueLosses::default();
    let (mut numbers, mut emails) = (TextValues::numbers(), TextValues::emails());
    for field in ["phones", "phone"] {
        numbers.take(person.cell(field), field, "", &mut losses);
    }
    let own = person.cell("custom_fields");
    let has_own = matches!(&own, JsonCell::Object(own) if own.get() != "{}");
    if let Some(values) = own_values(&own, fields) {
        for field in fields {
            numbers.take(values.cell(&field.code), "custom_fields", &field.name, &mut losses);
        }
    }
    for field in ["emails", "email"] {
        emails.take(person.cell(field), field, "", &mut losses);
    }
    // What does not say that it is deleted is there.
    let is_deleted = person.cell("is_deleted").flag_or_loss("is_deleted", &mut losses).unwrap_or(false);
    let display_name = display_name(&person, &mut losses);
    if !is_deleted {
        rejects.lose(ObjectType::Person, Some(id.to_string()), &losses, raw);
    }
    let row = PersonRow {
        id,
        updated_at,
        answered_at: None,
        is_deleted,
        organization_id: organization_id(person.cell("org_id")),
        display_name,
        numbers: numbers.found,
        emails: emails.into_texts(),
        region: country(&person.cell("postal_address")),
    };
    Some((row, has_own))
}

/// The organizations that these persons belong to, each once. Those of the deleted do not matter.
pub(super) fn organization_ids(persons: &[PersonRow]) -> Vec<u64> {
    let mut ids: Vec<u64> =
        persons.iter().filter(|person| !person.is_deleted).filter_map(|person| person.organization_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// A person as a record.
pub(super) fn record(person: PersonRow, base_url: &str, organizations: &HashMap<u64, String>) -> Record {
    Record {
        key: key(person.id),
        updated_at: person.updated_at,
        answered_at: person.answered_at,
        is_gone: person.is_deleted,
        // Polling never names the winner of a merge.
        successor: None,
        display_name: person.display_name,
        organization: person.organization_id.and_then(|id| organizations.get(&id)).cloned().unwrap_or_default(),
        emails: person.emails,
        numbers: person.numbers,
        role: String::new(),
        url: format!("{base_url}/person/{}", person.id),
        region: person.region,
    }
}

/// The key of a person.
pub(super) fn key(id: u64) -> RecordKey {
    RecordKey { object_type: ObjectType::Person, record_id: id.to_string() }
}

/// The country of an address that Pipedrive has taken apart; only with contact sync do persons have
/// one.
fn country(address: &JsonCell<'_>) -> Option<Region> {
    let JsonCell::Object(address) = address else { return None };
    Region::of_country(&JsonFields::of(address, &["country"])?.cell("country").text().ok()??)
}

fn display_name(person: &JsonFields<'_, '_>, losses: &mut ValueLosses) -> String {
    let mut part = |field: &str| {
        let text = person.cell(field).text_or_loss(field, losses).unwrap_or_default();
        text.trim().to_owned()
    };
    let whole = part("name");
    if !whole.is_empty() {
        return whole;
    }
    format!("{} {}", part("first_name"), part("last_name")).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed_of(rows: &[u8]) -> (Vec<Record>, PageRejects) {
        let body = [b"{\"success\":true,\"data\":", rows, b"}"].concat();
        let desk = PhoneField { code: "a1".to_owned(), name: "Desk".to_owned() };
        let PersonsPage { persons, rejects, .. } = listed(&BodyText::json(body).unwrap(), &[desk]).unwrap();
        let organizations = HashMap::from([(9, "Acme".to_owned())]);
        let records = persons.into_iter().map(|person| record(person, "https://acme.pipedrive.com", &organizations));
        (records.collect(), rejects)
    }

    fn records_of(rows: &str) -> Vec<Record> {
        listed_of(rows.as_bytes()).0
    }

    fn numbers(record: &Record) -> Vec<&str> {
        record.numbers.iter().map(|number| number.raw.as_str()).collect()
    }

    /// A person has all its numbers and addresses, without empty ones and repeats.
    #[test]
    fn person_has_distinct_nonempty_numbers_and_addresses() {
        let records = records_of(
            r#"[{"id":1,"name":"Ann Doe","first_name":"Ann","last_name":"Doe","org_id":9,"update_time":"2026-01-01T00:05:00Z",
                "phones":[{"value":"","primary":true,"label":"work"},{"value":"+1 (555) 123-4567","label":"work"},
                    {"value":"555 765 4321","label":null},{"value":"+1 (555) 123-4567","label":"home"},{"value":null},true,{"label":"work"}],
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

    /// A number in a phone field of the company's own counts, by the field's name; other own fields
    /// do not.
    #[test]
    fn own_phone_field_counts_by_its_name() {
        let records = records_of(
            r#"[{"id":1,"name":"Ann","add_time":"2026-01-01T00:00:00Z","phones":[{"value":"1","label":"work"}],
                    "custom_fields":{"a1":"2","a2":"3","a3":null}},
                {"id":2,"add_time":"2026-01-01T00:00:00Z","custom_fields":{"a1":{"value":"4"}}},
                {"id":3,"add_time":"2026-01-01T00:00:00Z","custom_fields":null}]"#,
        );

        let labels: Vec<_> = records[0].numbers.iter().map(|one| (one.raw.as_str(), one.label.as_str())).collect();
        assert_eq!(labels, [("1", "work"), ("2", "Desk")]);
        assert_eq!((numbers(&records[1]), numbers(&records[2])), (vec!["4"], vec![]));
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

    /// The name is the whole one, or made of its parts.
    #[test]
    fn name_is_whole_or_made_of_parts() {
        let names: Vec<String> = records_of(
            r#"[{"id":1,"name":" ","first_name":"Ann","last_name":"Doe","add_time":"2026-01-01T00:00:00Z"},
                {"id":2,"last_name":"Doe","add_time":"2026-01-01T00:00:00Z"},{"id":3,"add_time":"2026-01-01T00:00:00Z"}]"#,
        )
        .into_iter()
        .map(|record| record.display_name)
        .collect();

        assert_eq!(names, ["Ann Doe", "Doe", ""]);
    }

    /// The time is that of the change, else of the creation, in either notation.
    #[test]
    fn time_is_change_else_creation_in_either_notation() {
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
    fn row_that_cannot_be_read_is_rejected_alone() {
        let (records, rejects) = listed_of(
            br#"[{"id":"x","update_time":"2026-01-01T00:05:00Z"},{"id":0,"update_time":"2026-01-01T00:05:00Z"},
                {"id":1,"update_time":"yesterday"},{"id":2},7,null,
                {"id":"4","org_id":{"value":9},"phones":null,"emails":null,"update_time":"2026-01-01T00:05:00Z","surprise":[1]}]"#,
        );

        assert_eq!(records.iter().map(|record| record.key.record_id.as_str()).collect::<Vec<_>>(), ["4"]);
        assert_eq!(records[0].organization, "Acme");
        let reasons: Vec<_> = rejects.kept.iter().map(|kept| (kept.record_id.as_deref(), kept.reason)).collect();
        let (id, time, kind) = (RejectReason::IdUnreadable, RejectReason::TimeUnreadable, RejectReason::NotAnObject);
        assert_eq!(reasons, [(None, id), (None, id), (Some("1"), time), (Some("2"), time), (None, kind), (None, kind)]);
        assert_eq!(rejects.records, 6);
    }

    /// A value that cannot be read costs itself alone, and is counted.
    #[test]
    fn unreadable_value_costs_itself_and_is_counted() {
        let (records, rejects) = listed_of(
            br#"[{"id":1,"name":7,"is_deleted":null,"phones":["+1 555",5551234567,4.155551212E9,null,{"value":5557654321,"label":"work"},
                    {"value":true},[1]],"update_time":"2026-01-01T00:05:00Z"},
                {"id":2,"phones":"+1 556","is_deleted":"no","update_time":"2026-01-01T00:05:00Z"},
                {"id":3,"phone":[{"value":"+1 557"}],"id":3,"update_time":"2026-01-01 00:05:00"},
                {"id":4,"phones":{"value":"+1 558"},"emails":{"a":1},"is_deleted":0,"update_time":"2026-01-01T00:05:00Z"}]"#,
        );

        assert!(records.iter().all(|record| !record.is_gone));
        assert_eq!(numbers(&records[0]), ["+1 555", "5551234567", "4155551212", "5557654321"]);
        assert_eq!(records[0].numbers[3].label, "work");
        let others: Vec<_> = records[1..].iter().map(numbers).collect();
        assert_eq!(others, [["+1 556"], ["+1 557"], ["+1 558"]]);
        assert_eq!((rejects.records, rejects.values, rejects.hidden_numbers), (0, 4, 1));
        assert_eq!(rejects.kept[0].fields, "phones");
        assert_eq!((rejects.kept[1].fields.as_str(), rejects.kept[1].hides_number), ("is_deleted", false));
    }

    /// A page that does not say how it goes on is no page.
    #[test]
    fn page_without_continuation_is_no_page() {
        let page_of = |json: &str| page(&BodyText::json(json.as_bytes().to_vec()).unwrap(), &[]);

        assert_eq!(page_of(r#"{"data":[],"additional_data":{"next_cursor":null}}"#).unwrap().next_cursor, None);
        for json in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"data":null,"additional_data":{"next_cursor":null}}"#,
            r#"{"data":{},"additional_data":{"next_cursor":null}}"#,
            r#"{"additional_data":{"next_cursor":null}}"#,
            r#"{"data":[]}"#,
            r#"{"data":[],"additional_data":null}"#,
            r#"{"data":[],"additional_data":{}}"#,
            r#"{"data":[],"additional_data":[]}"#,
            r#"{"data":[],"additional_data":{"next_cursor":{}}}"#,
        ] {
            assert!(matches!(page_of(json), Err(CrmError::Unreadable(_))), "{json}");
        }
    }

    /// A person with very many numbers keeps the first ones, and the rest is told.
    #[test]
    fn person_with_many_numbers_keeps_first_ones() {
        let phones: Vec<String> = (0..300_000).map(|n| format!(r#""+1310{n:07}""#)).collect();
        let row = format!(r#"[{{"id":1,"add_time":"2026-01-01T00:00:00Z","phones":[{}]}}]"#, phones.join(","));

        let (records, rejects) = listed_of(row.as_bytes());

        assert_eq!(records[0].numbers.len(), crate::domain::record::NUMBERS_MAX);
        assert_eq!((rejects.kept.len(), rejects.kept[0].reason), (1, RejectReason::TooManyNumbers));
    }

    /// Millions of rows are refused before any is kept.
    #[test]
    fn millions_of_rows_are_refused_before_keeping() {
        let body = format!(r#"{{"data":[{}0]}}"#, "0,".repeat(1_000_000)).into_bytes();

        assert!(matches!(listed(&BodyText::json(body).unwrap(), &[]), Err(CrmError::Unreadable(_))));
    }

    #[test]
    fn deleted_row_is_gone() {
        let records = records_of(r#"[{"id":1,"is_deleted":true,"org_id":9,"update_time":"2026-01-01T00:05:00Z"}]"#);

        assert!(records[0].is_gone);
    }
}
