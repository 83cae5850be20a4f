//! Rows into records. A row is JSON from REST, with a parent's field inside an object, or a line of
//! CSV from the bulk interface, with a parent's field under its whole name; both are read alike.

use std::borrow::Cow;

use phone_key::Region;

use super::{
    descriptor::DESCRIPTOR,
    fields::{self, ESSENTIAL},
    model::{NO_JSON, QUERY},
    position::RowKeyset,
};
use crate::{
    crm::{
        CrmError,
        json::{self, BodyText, JsonCell, JsonFields, TextValues},
        times,
    },
    domain::{
        record::{ObjectType, Record, RecordKey},
        rejected::{PageRejects, RejectReason, ValueLosses},
    },
};

/// What rows become records by.
#[derive(Clone)]
pub(super) struct RowMapping {
    pub(super) object: ObjectType,
    /// That were asked for, besides the essential ones.
    pub(super) fields: Vec<String>,
    pub(super) base_url: String,
}

/// The rows of an answer.
#[derive(Default)]
pub(super) struct ReadRows {
    /// Whether it says that there are no more.
    pub(super) done: bool,
    /// How many the query has.
    pub(super) total_size: i64,
    /// How many rows there are, whether they can be read or not.
    pub(super) count: usize,
    pub(super) records: Vec<Record>,
    pub(super) rejects: PageRejects,
    /// The last row that tells its place.
    pub(super) last: Option<RowKeyset>,
    /// Every row that says which record it is.
    pub(super) shown: Vec<RecordKey>,
}

impl ReadRows {
    /// Rows that do not say which record they are.
    pub(super) fn nameless(&self) -> usize {
        self.count - self.shown.len()
    }

    /// Adds another answer's rows.
    pub(super) fn absorb(&mut self, other: Self) {
        self.done = other.done;
        self.count += other.count;
        self.records.extend(other.records);
        self.rejects.absorb(other.rejects);
        self.shown.extend(other.shown);
        self.last = other.last.or(self.last.take());
    }

    pub(super) fn add(&mut self, row: &QueryRow<'_, '_>, mapping: &RowMapping, raw: &str) {
        self.count += 1;
        let id = row.id(mapping.object);
        self.shown.extend(id.clone());
        self.last = keyset(row).or(self.last.take());
        let mut losses = ValueLosses::default();
        match mapping.record(row, id.clone(), &mut losses) {
            Ok(record) => {
                if !record.is_gone {
                    self.rejects.lose(mapping.object, Some(record.key.record_id.clone()), &losses, raw);
                }
                self.records.push(record);
            }
            Err((reason, field)) => {
                self.rejects.reject(mapping.object, id.map(|key| key.record_id), reason, field, raw);
            }
        }
    }
}

/// A row by its columns' names.
pub(super) enum QueryRow<'a, 'n> {
    Json(JsonFields<'a, 'n>),
    Line { columns: &'n csv::StringRecord, values: &'a csv::StringRecord },
}

impl<'a> QueryRow<'a, '_> {
    /// A parent's field stands inside an object, or under its whole name.
    fn cell(&self, name: &str) -> JsonCell<'a> {
        match self {
            Self::Line { columns, values } => {
                let value = columns.iter().position(|column| column == name).and_then(|place| values.get(place));
                value
                    .filter(|value| !value.is_empty())
                    .map_or(JsonCell::Null, |value| JsonCell::Text(Cow::Borrowed(value)))
            }
            Self::Json(row) => match (row.raw(name), name.split_once('.')) {
                (None, Some((parent, field))) => match row.cell(parent) {
                    JsonCell::Object(parent) => {
                        JsonFields::of(parent, &[field]).map_or(JsonCell::Null, |parent| parent.cell(field))
                    }
                    other => other,
                },
                (value, _) => value.map_or(JsonCell::Null, JsonCell::of),
            },
        }
    }

    fn id(&self, object: ObjectType) -> Option<RecordKey> {
        key(object, &self.cell("Id").text().ok()??)
    }
}

impl RowMapping {
    /// The rows of an answer to a query.
    pub(super) fn answer(&self, body: &BodyText, rows_max: usize) -> Result<ReadRows, CrmError> {
        let page = body.value().and_then(|page| JsonFields::of(page, &QUERY)).ok_or(NO_JSON)?;
        let mut answer = head(&page)?;
        let mut wanted: Vec<&str> = ESSENTIAL.to_vec();
        for field in &self.fields {
            wanted.push(field);
            wanted.extend(field.split_once('.').map(|(parent, _)| parent));
        }
        let list = page.list("records").ok_or(NO_JSON)?;
        let is_whole = json::each(list, rows_max, |raw| {
            if let Some(row) = JsonFields::of(raw, &wanted) {
                answer.add(&QueryRow::Json(row), self, raw.get());
            } else {
                answer.count += 1;
                answer.rejects.reject(self.object, None, RejectReason::NotAnObject, "", raw.get());
            }
        });
        if !is_whole {
            return Err(CrmError::Unreadable("a page has more rows than can be asked for"));
        }
        answer.rejects.characters += body.replaced;
        if answer.done && usize::try_from(answer.total_size).is_ok_and(|total| answer.count < total) {
            return Err(CrmError::Unreadable("it has fewer rows than it says"));
        }
        Ok(answer)
    }

    fn record(
        &self,
        row: &QueryRow<'_, '_>,
        key: Option<RecordKey>,
        losses: &mut ValueLosses,
    ) -> Result<Record, (RejectReason, &'static str)> {
        let object = self.object;
        let key = key.ok_or((RejectReason::IdUnreadable, "Id"))?;
        let updated_at =
            times::read(row.cell("SystemModstamp")).ok_or((RejectReason::TimeUnreadable, "SystemModstamp"))?;
        let mut flag = |field: &str| row.cell(field).flag_or_loss(field, losses).unwrap_or(false);
        // What does not say that it is deleted is there.
        let is_converted = object == ObjectType::Lead && flag("IsConverted");
        let is_gone = flag("IsDeleted") || is_converted;
        let mut numbers = TextValues::numbers();
        for field in self.fields.iter().filter(|field| fields::is_phone(field)) {
            numbers.take(row.cell(field), field, field, losses);
        }
        let mut emails = TextValues::emails();
        emails.take(row.cell("Email"), "Email", "", losses);
        Ok(Record {
            updated_at,
            answered_at: None,
            is_gone,
            successor: if is_gone { successor(object, row, is_converted) } else { None },
            display_name: display_name(row, losses),
            organization: organization(object, row, losses),
            emails: emails.into_texts(),
            numbers: numbers.found,
            role: String::new(),
            region: country(object, row),
            // Lightning and Classic both lead on from here.
            url: format!("{}/{}", self.base_url, key.record_id),
            key,
        })
    }
}

/// What a query says of itself.
pub(super) fn head(page: &JsonFields<'_, '_>) -> Result<ReadRows, CrmError> {
    let done = page.cell("done").flag().ok().flatten().ok_or(NO_JSON)?;
    let total_size = match page.cell("totalSize") {
        JsonCell::Number(number) => number.parse().unwrap_or(0),
        _ => 0,
    };
    Ok(ReadRows { done, total_size, ..ReadRows::default() })
}

/// Where a row stands in the order of the queries.
fn keyset(row: &QueryRow<'_, '_>) -> Option<RowKeyset> {
    let at = times::read(row.cell("SystemModstamp"))?.timestamp_millis();
    let id = row.cell("Id").text().ok()??;
    Some(RowKeyset { at, id })
}

/// An id of this object in its form of 18 characters.
pub(super) fn key(object: ObjectType, id: &str) -> Option<RecordKey> {
    DESCRIPTOR.parse_record_key(object.as_str(), id).ok()
}

/// Who took this record in: the Contact that a Lead was converted into, or the one that it was
/// merged into.
fn successor(object: ObjectType, row: &QueryRow<'_, '_>, is_converted: bool) -> Option<RecordKey> {
    let text = |field: &str| row.cell(field).text().ok().flatten();
    let contact = if is_converted { text("ConvertedContactId") } else { None };
    let contact = contact.and_then(|id| key(ObjectType::Contact, &id));
    contact.or_else(|| key(object, &text("MasterRecordId")?))
}

fn display_name(row: &QueryRow<'_, '_>, losses: &mut ValueLosses) -> String {
    let mut text = |field: &str| row.cell(field).text_or_loss(field, losses);
    if let Some(name) = text("Name") {
        return name;
    }
    let parts = [text("FirstName"), text("LastName")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The Account of a person account is the person again, and no organisation.
fn organization(object: ObjectType, row: &QueryRow<'_, '_>, losses: &mut ValueLosses) -> String {
    let is_person = row.cell("IsPersonAccount").flag_or_loss("IsPersonAccount", losses).unwrap_or(false);
    let field = match object {
        ObjectType::Lead => "Company",
        _ if is_person => return String::new(),
        _ => fields::ACCOUNT_NAME,
    };
    row.cell(field).text_or_loss(field, losses).unwrap_or_default()
}

/// The country of the address: by its code where the organisation has codes, else by its name.
fn country(object: ObjectType, row: &QueryRow<'_, '_>) -> Option<Region> {
    let fields = match object {
        ObjectType::Lead => ["CountryCode", "Country"],
        _ => ["MailingCountryCode", "MailingCountry"],
    };
    fields.into_iter().find_map(|field| Region::of_country(&row.cell(field).text().ok()??))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "003D000000QV9n2IAD";

    fn mapping(object: ObjectType) -> RowMapping {
        let fields = [
            "Name",
            "FirstName",
            "LastName",
            "Email",
            "Phone",
            "MobilePhone",
            "Fax",
            "Account.Name",
            "Site__c",
            "IsPersonAccount",
            "MasterRecordId",
            "IsConverted",
            "ConvertedContactId",
            "Company",
            "MailingCountryCode",
            "MailingCountry",
            "Country",
        ];
        RowMapping {
            object,
            fields: fields.map(str::to_owned).to_vec(),
            base_url: "https://acme.my.salesforce.com".to_owned(),
        }
    }

    fn answer_of(object: ObjectType, rows: &str) -> ReadRows {
        let json = format!(r#"{{"totalSize":1,"done":true,"records":{rows}}}"#);
        mapping(object).answer(&BodyText::json(json.into_bytes()).unwrap(), 10).unwrap()
    }

    fn record_of(object: ObjectType, row: &Value) -> Option<Record> {
        answer_of(object, &json!([row]).to_string()).records.pop()
    }

    fn contact(more: &Value) -> Option<Record> {
        let mut row = json!({"attributes": {"type": "Contact"}, "Id": ID, "IsDeleted": false, "SystemModstamp": "2026-01-02T10:05:00.120+0000"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record_of(ObjectType::Contact, &row)
    }

    /// A Contact has its numbers under their fields' names.
    #[test]
    fn contact_has_numbers_under_field_names() {
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
    fn without_a_name_first_and_last_make_one() {
        assert_eq!(contact(&json!({"FirstName": "Ann", "LastName": "Doe"})).unwrap().display_name, "Ann Doe");
        assert_eq!(contact(&json!({"FirstName": null, "LastName": "Doe"})).unwrap().display_name, "Doe");
        assert_eq!(contact(&json!({})).unwrap().display_name, "");
    }

    /// The country of the address is its code or its name.
    #[test]
    fn address_country_is_code_or_name() {
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

    /// A converted Lead is gone and names its Contact.
    #[test]
    fn converted_lead_is_gone_and_names_contact() {
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

    /// A row that cannot be read is rejected alone.
    #[test]
    fn unreadable_row_is_rejected_alone() {
        for (more, reason) in [
            (json!({"Id": null}), RejectReason::IdUnreadable),
            (json!({"Id": "00QD000000QV9n2"}), RejectReason::IdUnreadable),
            (json!({"Id": 7}), RejectReason::IdUnreadable),
            (json!({"SystemModstamp": "yesterday"}), RejectReason::TimeUnreadable),
            (json!({"SystemModstamp": null}), RejectReason::TimeUnreadable),
        ] {
            let mut row = json!({"Id": ID, "SystemModstamp": "2026-01-02T10:05:00.120+0000"});
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = answer_of(ObjectType::Contact, &json!([row, 7, null]).to_string());

            assert!(answer.records.is_empty(), "{more}");
            assert_eq!((answer.count, answer.rejects.records), (3, 3), "{more}");
            assert_eq!(answer.rejects.kept[0].reason, reason, "{more}");
            assert_eq!(answer.rejects.kept[1].reason, RejectReason::NotAnObject, "{more}");
        }
    }

    /// A value that cannot be read costs itself alone, and is counted.
    #[test]
    fn unreadable_value_costs_itself_and_is_counted() {
        for (more, numbers, lost) in [
            (json!({"Phone": 4_155_551_212_u64}), &["4155551212"][..], ""),
            (json!({"Phone": 4_155_551_212.0, "Fax": ["1", "2"]}), &["4155551212", "1", "2"], ""),
            (json!({"Phone": {"a": 1}, "Fax": true}), &[], "Phone, Fax"),
            (json!({"IsDeleted": null, "IsPersonAccount": null, "Phone": "1"}), &["1"], ""),
            (json!({"IsDeleted": "perhaps", "Phone": "1"}), &["1"], "IsDeleted"),
            (json!({"IsDeleted": "False", "Account": "Acme", "Phone": "1"}), &["1"], ""),
            (json!({"Name": false, "Account": [1], "Phone": "1"}), &["1"], "Name, Account.Name"),
            (json!({"SystemModstamp": "2026-01-02 10:05:00", "Phone": "1"}), &["1"], ""),
        ] {
            let mut row = json!({"Id": ID, "SystemModstamp": "2026-01-02T10:05:00.120+0000"});
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = answer_of(ObjectType::Contact, &json!([row]).to_string());

            let [record] = &answer.records[..] else { panic!("{more}") };
            assert!(!record.is_gone, "{more}");
            assert_eq!(record.numbers.iter().map(|number| number.raw.as_str()).collect::<Vec<_>>(), numbers, "{more}");
            let fields = answer.rejects.kept.first().map_or("", |kept| kept.fields.as_str());
            assert_eq!(fields, lost, "{more}");
        }
    }

    /// Of a field that comes twice, the last value counts.
    #[test]
    fn repeated_fields_last_value_counts() {
        let rows = format!(r#"[{{"Id":"{ID}","Phone":"1","SystemModstamp":"2026-01-02T10:05:00Z","Phone":"2"}}]"#);

        assert_eq!(answer_of(ObjectType::Contact, &rows).records[0].numbers[0].raw, "2");
    }

    #[test]
    fn an_answer_without_its_rows_is_no_answer() {
        for json in [
            r#"{"totalSize":1,"done":true}"#,
            r#"{"totalSize":1,"done":true,"records":null}"#,
            r#"{"totalSize":1,"done":true,"records":{}}"#,
            r#"{"totalSize":1,"done":true,"records":[]}"#,
            r#"{"totalSize":1,"records":[]}"#,
            r#"{"totalSize":1,"done":null,"records":[]}"#,
            "[]",
        ] {
            let read = mapping(ObjectType::Contact).answer(&BodyText::json(json.as_bytes().to_vec()).unwrap(), 10);
            assert!(matches!(read, Err(CrmError::Unreadable(_))), "{json}");
        }
    }
}
