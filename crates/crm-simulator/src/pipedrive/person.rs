//! A Pipedrive person as the simulator keeps it, and as the two versions of the API write it.
//! Invariant: what the simulator gives meaning to is a field here; other fields that can be set
//! live in `rest`. Times are whole seconds, as Pipedrive's are.

use std::sync::LazyLock;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

/// Seconds since 1970-01-01T00:00:00Z.
pub(super) type Stamp = i64;

/// Counts and states that are shown only to those who ask by `include_fields`.
pub(super) const INCLUDABLE_FIELDS: [&str; 24] = [
    "next_activity_id",
    "last_activity_id",
    "open_deals_count",
    "related_open_deals_count",
    "closed_deals_count",
    "related_closed_deals_count",
    "participant_open_deals_count",
    "participant_closed_deals_count",
    "email_messages_count",
    "activities_count",
    "done_activities_count",
    "undone_activities_count",
    "files_count",
    "notes_count",
    "followers_count",
    "won_deals_count",
    "related_won_deals_count",
    "lost_deals_count",
    "related_lost_deals_count",
    "last_incoming_mail_time",
    "last_outgoing_mail_time",
    "marketing_status",
    "doi_status",
    "smart_bcc_email",
];

/// A number or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    pub(super) value: Box<str>,
    #[serde(rename = "primary")]
    pub(super) is_primary: bool,
    pub(super) label: Box<str>,
}

#[derive(Clone)]
pub(super) struct Person {
    pub(super) id: i64,
    pub(super) name: Box<str>,
    /// How many bytes of `name` are the first name.
    pub(super) first_name_bytes: usize,
    pub(super) emails: Vec<Entry>,
    pub(super) phones: Vec<Entry>,
    pub(super) org_id: Option<i64>,
    pub(super) owner_id: i64,
    pub(super) add_time: Stamp,
    pub(super) update_time: Stamp,
    /// Set once deleted or merged away.
    pub(super) delete_time: Option<Stamp>,
    /// Only the oracle and version 1 tell.
    pub(super) merged_into: Option<i64>,
    /// The token's user may not see it.
    pub(super) is_hidden: bool,
    /// `visible_to`, `label_ids`, `picture_id`, `custom_fields`, as far as they were set.
    pub(super) rest: Option<Box<Map<String, Value>>>,
}

impl Person {
    pub(super) fn is_deleted(&self) -> bool {
        self.delete_time.is_some()
    }

    pub(super) fn first_name(&self) -> Option<&str> {
        some_text(&self.name[..self.first_name_bytes])
    }

    pub(super) fn last_name(&self) -> Option<&str> {
        some_text(&self.name[self.first_name_bytes..])
    }

    fn rest(&self, field: &str) -> Option<&Value> {
        self.rest.as_ref()?.get(field)
    }

    /// The key of the order by last change.
    pub(super) fn update_key(&self) -> (Stamp, i64) {
        (self.update_time, self.id)
    }
}

fn some_text(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// `2026-01-02T10:00:00Z`, as version 2 writes times.
pub(super) fn wire_time(stamp: Stamp) -> String {
    time_of(stamp).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `2026-01-02 10:00:00`, in UTC, as version 1 writes times.
pub(super) fn wire_time_v1(stamp: Stamp) -> String {
    time_of(stamp).format("%Y-%m-%d %H:%M:%S").to_string()
}

fn time_of(stamp: Stamp) -> DateTime<Utc> {
    DateTime::from_timestamp(stamp, 0).unwrap_or_default()
}

/// What a caller wants to see of persons.
#[derive(Default)]
pub(super) struct Shown<'a> {
    /// Some of [`INCLUDABLE_FIELDS`].
    pub(super) included: Vec<&'a str>,
    /// The keys of `custom_fields` to show; all if empty.
    pub(super) custom_fields: Vec<&'a str>,
    /// A person without a number has one whose value is empty.
    pub(super) has_empty_phones: bool,
}

/// A person in version 2.
pub(super) struct PersonJson<'a> {
    pub(super) person: &'a Person,
    pub(super) shown: &'a Shown<'a>,
}

impl Serialize for PersonJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let person = self.person;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &person.id)?;
        map.serialize_entry("name", &person.name)?;
        map.serialize_entry("first_name", &person.first_name())?;
        map.serialize_entry("last_name", &person.last_name())?;
        map.serialize_entry("owner_id", &person.owner_id)?;
        map.serialize_entry("org_id", &person.org_id)?;
        map.serialize_entry("add_time", &wire_time(person.add_time))?;
        map.serialize_entry("update_time", &wire_time(person.update_time))?;
        map.serialize_entry("emails", &person.emails)?;
        map.serialize_entry("phones", &phones_of(person, self.shown.has_empty_phones))?;
        map.serialize_entry("is_deleted", &person.is_deleted())?;
        map.serialize_entry("visible_to", person.rest("visible_to").unwrap_or(&json!(3)))?;
        map.serialize_entry("label_ids", person.rest("label_ids").unwrap_or(&json!([])))?;
        map.serialize_entry("picture_id", person.rest("picture_id").unwrap_or(&Value::Null))?;
        map.serialize_entry("custom_fields", &self.custom_fields())?;
        for field in &self.shown.included {
            map.serialize_entry(field, &included_default(field))?;
        }
        map.end()
    }
}

impl PersonJson<'_> {
    fn custom_fields(&self) -> Map<String, Value> {
        let Some(fields) = self.person.rest("custom_fields").and_then(Value::as_object) else { return Map::new() };
        let wanted = &self.shown.custom_fields;
        let shown = fields.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(&name.as_str()));
        shown.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

fn included_default(field: &str) -> Value {
    match field {
        "marketing_status" => json!("no_consent"),
        "doi_status" => json!(1),
        _ if field.ends_with("_count") => json!(0),
        _ => Value::Null,
    }
}

/// What a person without a number has instead, where that is so.
static EMPTY_PHONES: LazyLock<[Entry; 1]> =
    LazyLock::new(|| [Entry { value: "".into(), is_primary: true, label: "work".into() }]);

/// The numbers as shown; `has_empty` gives a person without any one that is empty.
fn phones_of(person: &Person, has_empty: bool) -> &[Entry] {
    if person.phones.is_empty() && has_empty { &*EMPTY_PHONES } else { &person.phones }
}

/// A person in version 1, which lives on in `recents` and in the answer to a merge.
pub(super) struct PersonV1Json<'a> {
    pub(super) person: &'a Person,
    pub(super) org_name: Option<&'a str>,
    pub(super) has_empty_phones: bool,
    /// The person that was merged into this one by the call that is answered.
    pub(super) merged: Option<i64>,
}

impl Serialize for PersonV1Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let person = self.person;
        let org = person.org_id.map(|id| {
            json!({"value": id, "name": self.org_name, "people_count": 1, "owner_id": person.owner_id,
                "address": null, "active_flag": true, "cc_email": null})
        });
        let owner = json!({"id": person.owner_id, "value": person.owner_id, "name": "Administrator",
            "email": super::USER_EMAIL, "has_pic": 0, "pic_hash": null, "active_flag": true});
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &person.id)?;
        map.serialize_entry("company_id", &super::COMPANY_ID)?;
        map.serialize_entry("owner_id", &owner)?;
        map.serialize_entry("org_id", &org)?;
        map.serialize_entry("name", &person.name)?;
        map.serialize_entry("first_name", &person.first_name())?;
        map.serialize_entry("last_name", &person.last_name())?;
        map.serialize_entry("active_flag", &!person.is_deleted())?;
        map.serialize_entry("phone", &phones_of(person, self.has_empty_phones))?;
        map.serialize_entry("email", &person.emails)?;
        map.serialize_entry("update_time", &wire_time_v1(person.update_time))?;
        map.serialize_entry("add_time", &wire_time_v1(person.add_time))?;
        map.serialize_entry("delete_time", &person.delete_time.map(wire_time_v1))?;
        map.serialize_entry("visible_to", &visible_to_v1(person))?;
        map.serialize_entry("picture_id", &Value::Null)?;
        map.serialize_entry("org_name", &self.org_name)?;
        map.serialize_entry("owner_name", "Administrator")?;
        if let Some(merged) = self.merged {
            map.serialize_entry("merge_what_id", &merged)?;
        }
        map.end()
    }
}

/// A text in version 1, a number in version 2.
fn visible_to_v1(person: &Person) -> String {
    person.rest("visible_to").and_then(Value::as_i64).unwrap_or(3).to_string()
}
