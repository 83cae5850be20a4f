//! Rows into records. A row is JSON from REST, with a parent's field inside an object, or a line of CSV from the bulk interface, with
//! a parent's field under its whole name; both are read alike.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, value::RawValue};

use super::{fields, position::Keyset};
use crate::domain::{
    integration::Provider,
    phone::Region,
    record::{ObjectType, RawNumber, Record, RecordKey},
};

/// A row by its columns' names.
pub(super) type Row = Map<String, Value>;

/// The field holds what no field of its kind can.
struct Malformed;

/// A row of a query; `None`: no object.
pub(super) fn row(raw: &RawValue) -> Option<Row> {
    serde_json::from_str(raw.get()).ok()
}

/// The row as a record; `None`: it cannot be understood.
pub(super) fn record(object: ObjectType, row: &Row, fields: &[String], base_url: &str) -> Option<Record> {
    read(object, row, fields, base_url).ok()
}

/// Where a row stands in the order of the queries.
pub(super) fn keyset(row: &Row) -> Option<Keyset> {
    let at = time(text(row, "SystemModstamp").ok()??)?.timestamp_millis();
    let id = text(row, "Id").ok()??.to_owned();
    Some(Keyset { at, id })
}

/// An id of this object in its form of 18 characters.
pub(super) fn key(object: ObjectType, id: &str) -> Option<RecordKey> {
    RecordKey::parse(Provider::Salesforce, object.as_str(), id).ok()
}

/// `2026-01-02T10:00:00.000+0000` from REST, `2026-01-02T10:00:00.000Z` from the bulk interface.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    let parsed =
        DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    Some(parsed.ok()?.to_utc())
}

fn read(object: ObjectType, row: &Row, fields: &[String], base_url: &str) -> Result<Record, Malformed> {
    let key = text(row, "Id")?.and_then(|id| key(object, id)).ok_or(Malformed)?;
    let updated_at = text(row, "SystemModstamp")?.and_then(time).ok_or(Malformed)?;
    let is_converted = object == ObjectType::Lead && flag(row, "IsConverted")?;
    let is_gone = flag(row, "IsDeleted")? || is_converted;
    let mut numbers = Vec::new();
    for field in fields.iter().filter(|field| fields::is_phone(field)) {
        let raw = text(row, field)?.map(str::to_owned);
        numbers.extend(raw.map(|raw| RawNumber { raw, label: field.clone() }));
    }
    Ok(Record {
        updated_at,
        is_gone,
        successor: if is_gone { successor(object, row, is_converted)? } else { None },
        display_name: display_name(row)?,
        organization: organization(object, row)?,
        emails: text(row, "Email")?.map(str::to_owned).into_iter().collect(),
        numbers,
        role: String::new(),
        region: country(object, row)?,
        // Lightning and Classic both lead on from here.
        url: format!("{base_url}/{}", key.record_id),
        key,
    })
}

/// Who took this record in: the Contact that a Lead was converted into, or the one that it was merged into.
fn successor(object: ObjectType, row: &Row, is_converted: bool) -> Result<Option<RecordKey>, Malformed> {
    let contact = if is_converted { text(row, "ConvertedContactId")? } else { None };
    let master = text(row, "MasterRecordId")?;
    let contact = contact.and_then(|id| key(ObjectType::Contact, id));
    Ok(contact.or_else(|| master.and_then(|id| key(object, id))))
}

fn display_name(row: &Row) -> Result<String, Malformed> {
    if let Some(name) = text(row, "Name")? {
        return Ok(name.to_owned());
    }
    let parts = [text(row, "FirstName")?, text(row, "LastName")?];
    Ok(parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// The Account of a person account is the person again, and no organisation.
fn organization(object: ObjectType, row: &Row) -> Result<String, Malformed> {
    let name = if object == ObjectType::Lead {
        text(row, "Company")?
    } else if flag(row, "IsPersonAccount")? {
        None
    } else {
        text(row, fields::ACCOUNT_NAME)?
    };
    Ok(name.unwrap_or_default().to_owned())
}

/// The country of the address: by its code where the organisation has codes, else by its name.
fn country(object: ObjectType, row: &Row) -> Result<Option<Region>, Malformed> {
    let [code, name] = match object {
        ObjectType::Lead => ["CountryCode", "Country"],
        _ => ["MailingCountryCode", "MailingCountry"],
    };
    Ok(text(row, code)?.and_then(Region::of_country).or(text(row, name)?.and_then(Region::of_country)))
}

fn value<'a>(row: &'a Row, name: &str) -> Result<&'a Value, Malformed> {
    if let Some(value) = row.get(name) {
        return Ok(value);
    }
    let Some((parent, field)) = name.split_once('.') else { return Ok(&Value::Null) };
    match row.get(parent) {
        None | Some(Value::Null) => Ok(&Value::Null),
        Some(Value::Object(parent)) => Ok(parent.get(field).unwrap_or(&Value::Null)),
        Some(_) => Err(Malformed),
    }
}

/// A text that is not empty; the bulk interface writes null as nothing.
fn text<'a>(row: &'a Row, name: &str) -> Result<Option<&'a str>, Malformed> {
    match value(row, name)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        _ => Err(Malformed),
    }
}

fn flag(row: &Row, name: &str) -> Result<bool, Malformed> {
    match value(row, name)? {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text.is_empty() || text == "false" => Ok(false),
        Value::String(text) if text == "true" => Ok(true),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "003D000000QV9n2IAD";

    fn fields() -> Vec<String> {
        ["Name", "Email", "Phone", "MobilePhone", "Fax", "Account.Name", "Site__c"].map(str::to_owned).to_vec()
    }

    fn record_of(object: ObjectType, row: &Value) -> Option<Record> {
        record(object, row.as_object().unwrap(), &fields(), "https://acme.my.salesforce.com")
    }

    fn contact(more: &Value) -> Option<Record> {
        let mut row = json!({"attributes": {"type": "Contact"}, "Id": ID, "IsDeleted": false, "SystemModstamp": "2026-01-02T10:05:00.120+0000"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record_of(ObjectType::Contact, &row)
    }

    #[test]
    fn a_contact_has_its_numbers_under_their_fields_names() {
        let record = contact(&json!({
            "Name": "Ann Doe", "Email": "ann@example.com", "Phone": "(415) 555-1212", "MobilePhone": null, "Fax": "2", "Site__c": "3",
            "AssistantPhone": "4", "Account": {"attributes": {"type": "Account"}, "Name": "Acme"},
        }))
        .unwrap();

        let numbers: Vec<(&str, &str)> =
            record.numbers.iter().map(|number| (number.label.as_str(), number.raw.as_str())).collect();
        assert_eq!(numbers, [("Phone", "(415) 555-1212"), ("Fax", "2"), ("Site__c", "3")]);
        assert_eq!((record.display_name.as_str(), record.organization.as_str()), ("Ann Doe", "Acme"));
        assert_eq!(record.emails, ["ann@example.com"]);
        assert_eq!(record.url, "https://acme.my.salesforce.com/003D000000QV9n2IAD");
        assert_eq!(record.updated_at.to_rfc3339(), "2026-01-02T10:05:00.120+00:00");
        assert!(!record.is_gone && record.successor.is_none());
    }

    #[test]
    fn a_line_of_csv_is_read_like_json() {
        let row = json!({"Id": ID, "IsDeleted": "false", "SystemModstamp": "2026-01-02T10:05:00.120Z", "Name": "Ann Doe", "Email": "",
            "Phone": "1", "MobilePhone": "", "Account.Name": "Acme", "IsPersonAccount": "false"});

        let from_csv = record_of(ObjectType::Contact, &row).unwrap();

        let from_json =
            contact(&json!({"Name": "Ann Doe", "Email": null, "Phone": "1", "Account": {"Name": "Acme"}})).unwrap();
        assert!(from_csv == from_json);
    }

    #[test]
    fn without_a_name_first_and_last_make_one() {
        assert_eq!(contact(&json!({"FirstName": "Ann", "LastName": "Doe"})).unwrap().display_name, "Ann Doe");
        assert_eq!(contact(&json!({"FirstName": null, "LastName": "Doe"})).unwrap().display_name, "Doe");
        assert_eq!(contact(&json!({})).unwrap().display_name, "");
    }

    #[test]
    fn the_country_of_the_address_is_its_code_or_its_name() {
        let region = |more: serde_json::Value| contact(&more).unwrap().region.map(|region| region.to_string());
        assert_eq!(region(json!({"MailingCountryCode": "DE", "MailingCountry": "Allemagne"})).as_deref(), Some("DE"));
        assert_eq!(region(json!({"MailingCountry": "United Kingdom"})).as_deref(), Some("GB"));
        assert_eq!(region(json!({"MailingCountry": "Wonderland"})), None);
        assert_eq!(region(json!({"MailingCountryCode": null, "MailingCountry": null})), None);

        let lead = json!({"Id": "00QD000000QV9n2", "IsDeleted": "false", "SystemModstamp": "2026-01-02T10:05:00.120Z", "Country": "France"});
        assert_eq!(record_of(ObjectType::Lead, &lead).unwrap().region.unwrap().as_str(), "FR");
    }

    #[test]
    fn a_person_account_is_no_organisation() {
        let record = contact(&json!({"IsPersonAccount": true, "Account": {"Name": "Ann Doe"}})).unwrap();

        assert_eq!(record.organization, "");
    }

    #[test]
    fn a_merged_contact_names_its_winner() {
        let record = contact(&json!({"IsDeleted": true, "MasterRecordId": "003D000000QV9n3"})).unwrap();

        assert!(record.is_gone);
        assert_eq!(record.successor, key(ObjectType::Contact, "003D000000QV9n3"));
        let plain = contact(&json!({"IsDeleted": true, "MasterRecordId": null})).unwrap();
        assert!(plain.is_gone && plain.successor.is_none());
    }

    #[test]
    fn a_converted_lead_is_gone_and_names_its_contact() {
        let lead = |more: &Value| {
            let mut row = json!({"Id": "00QD000000QV9n2", "IsDeleted": false, "SystemModstamp": "2026-01-02T10:05:00.000+0000", "Company": "Acme"});
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            record_of(ObjectType::Lead, &row).unwrap()
        };

        let converted = lead(&json!({"IsConverted": true, "ConvertedContactId": ID}));
        let open = lead(&json!({"IsConverted": false, "ConvertedContactId": null}));

        assert!(converted.is_gone);
        assert_eq!(converted.successor, key(ObjectType::Contact, ID));
        assert!(!open.is_gone && open.successor.is_none());
        assert_eq!(open.organization, "Acme");
        assert_eq!(open.key.record_id.len(), 18);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_none() {
        for more in [
            json!({"Id": null}),
            json!({"Id": "00QD000000QV9n2"}),
            json!({"Id": 7}),
            json!({"SystemModstamp": "yesterday"}),
            json!({"SystemModstamp": null}),
            json!({"Phone": {"a": 1}}),
            json!({"Phone": 5}),
            json!({"Account": "Acme"}),
            json!({"IsDeleted": "perhaps"}),
        ] {
            assert!(contact(&more).is_none(), "{more}");
        }
    }
}
