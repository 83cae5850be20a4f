//! A person as somebody else writes it: the body of a create or update, or a line of a persons
//! file. Owns: which field may hold what; version 2 takes no text for a number. Invariant: an error
//! names the field and what would be right, never the value.

use chrono::DateTime;
use serde_json::{Map, Value};

use super::person::{Entry, Stamp};
use crate::given::GivenField;

/// Longest text, bytes; Pipedrive's own limit for names is 255 characters.
const TEXT_BYTES_MAX: usize = 65_536;
/// Most numbers or addresses of a person.
const ENTRIES_MAX: usize = 100;
/// Fields that are kept and given back as they came.
const REST_FIELDS: [&str; 4] = ["visible_to", "label_ids", "picture_id", "custom_fields"];

/// A field that does not hold what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field} must be {expected}")]
pub struct FieldError {
    /// The name of the field, as in Pipedrive's JSON.
    pub field: &'static str,
    /// What would be right.
    pub expected: &'static str,
}

/// What is said of a person; `None` is a field that is absent.
#[derive(Default)]
pub(super) struct PersonInput {
    pub(super) id: Option<i64>,
    pub(super) name: Option<Name>,
    pub(super) emails: Option<Vec<Entry>>,
    pub(super) phones: Option<Vec<Entry>>,
    pub(super) org_id: GivenField<i64>,
    /// What the organisation is called; only in persons files.
    pub(super) org_name: Option<String>,
    pub(super) owner_id: Option<i64>,
    pub(super) add_time: Option<Stamp>,
    pub(super) update_time: Option<Stamp>,
    pub(super) is_deleted: Option<bool>,
    pub(super) rest: Map<String, Value>,
}

/// A whole name and how many bytes of it are the first name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) first_bytes: usize,
}

impl Name {
    /// A whole name: the last word is the last name, unless it is the only one.
    pub(super) fn whole(text: &str) -> Self {
        let text = text.trim().to_owned();
        let first_bytes = text.rfind(char::is_whitespace).unwrap_or(text.len());
        Self { text, first_bytes }
    }

    fn of_parts(first: &str, last: &str) -> Self {
        let first = first.trim();
        let text = format!("{first} {}", last.trim()).trim().to_owned();
        Self { first_bytes: first.len(), text }
    }
}

impl PersonInput {
    /// Reads a person's JSON object. Fields that Pipedrive does not have are ignored.
    pub(super) fn read(fields: &Map<String, Value>) -> Result<Self, FieldError> {
        let add_time = time(fields, "add_time")?;
        let rest = fields.iter().filter(|(name, value)| REST_FIELDS.contains(&name.as_str()) && !value.is_null());
        let input = Self {
            id: id(fields, "id")?.value(),
            name: name(fields)?,
            emails: entries(fields, "emails")?,
            phones: entries(fields, "phones")?,
            org_id: id(fields, "org_id")?,
            org_name: text(fields, "org_name")?.map(str::to_owned),
            owner_id: id(fields, "owner_id")?.value(),
            add_time,
            update_time: time(fields, "update_time")?.or(add_time),
            is_deleted: flag(fields, "is_deleted")?,
            rest: rest.map(|(name, value)| (name.clone(), value.clone())).collect(),
        };
        check_rest(&input.rest)?;
        Ok(input)
    }
}

fn check_rest(rest: &Map<String, Value>) -> Result<(), FieldError> {
    let require = |field: &'static str, is_right: fn(&Value) -> bool, expected: &'static str| {
        if rest.get(field).is_none_or(is_right) { Ok(()) } else { Err(FieldError { field, expected }) }
    };
    require("visible_to", Value::is_i64, "a whole number")?;
    require("label_ids", Value::is_array, "a list of numbers")?;
    require("picture_id", Value::is_i64, "a whole number")?;
    require("custom_fields", Value::is_object, "an object")
}

fn name(fields: &Map<String, Value>) -> Result<Option<Name>, FieldError> {
    let (first, last) = (text(fields, "first_name")?, text(fields, "last_name")?);
    let whole = text(fields, "name")?;
    let parts = (first.is_some() || last.is_some())
        .then(|| Name::of_parts(first.unwrap_or_default(), last.unwrap_or_default()));
    // The whole name wins where the parts contradict it.
    Ok(match (whole, parts) {
        (Some(whole), Some(parts)) if parts.text == whole.trim() => Some(parts),
        (Some(whole), _) => Some(Name::whole(whole)),
        (None, parts) => parts,
    })
}

fn entries(fields: &Map<String, Value>, field: &'static str) -> Result<Option<Vec<Entry>>, FieldError> {
    let wrong = FieldError { field, expected: "a list of at most 100 objects with value, primary and label" };
    let list = match fields.get(field) {
        None => return Ok(None),
        Some(Value::Null) => return Ok(Some(Vec::new())),
        Some(Value::Array(list)) if list.len() <= ENTRIES_MAX => list,
        Some(_) => return Err(wrong),
    };
    let mut entries = Vec::with_capacity(list.len());
    for item in list {
        let Some(item) = item.as_object() else { return Err(wrong) };
        let (Ok(Some(value)), Ok(is_primary), Ok(label)) =
            (text(item, "value"), flag(item, "primary"), text(item, "label"))
        else {
            return Err(wrong);
        };
        let label = label.unwrap_or("work").into();
        entries.push(Entry { value: value.into(), is_primary: is_primary.unwrap_or(false), label });
    }
    if !entries.iter().any(|entry| entry.is_primary)
        && let Some(first) = entries.first_mut()
    {
        first.is_primary = true;
    }
    Ok(Some(entries))
}

fn text<'a>(fields: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, FieldError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text)),
        Some(_) => Err(FieldError { field, expected: "a string of at most 65536 bytes, or null" }),
    }
}

fn flag(fields: &Map<String, Value>, field: &'static str) -> Result<Option<bool>, FieldError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(FieldError { field, expected: "true, false or null" }),
    }
}

fn id(fields: &Map<String, Value>, field: &'static str) -> Result<GivenField<i64>, FieldError> {
    match fields.get(field) {
        None => Ok(GivenField::Absent),
        Some(Value::Null) => Ok(GivenField::Null),
        Some(value) => match value.as_i64() {
            Some(id) if id > 0 => Ok(GivenField::Value(id)),
            _ => Err(FieldError { field, expected: "a whole number above zero" }),
        },
    }
}

fn time(fields: &Map<String, Value>, field: &'static str) -> Result<Option<Stamp>, FieldError> {
    let Some(text) = text(fields, field)? else { return Ok(None) };
    let time = parse_time(text);
    time.map(Some).ok_or(FieldError { field, expected: "a time in whole seconds such as 2026-01-02T10:00:00Z" })
}

/// RFC 3339 without fractions of a second, since 1970.
pub(super) fn parse_time(text: &str) -> Option<Stamp> {
    if text.contains('.') {
        return None;
    }
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp()).filter(|stamp| *stamp >= 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<PersonInput, FieldError> {
        PersonInput::read(value.as_object().unwrap())
    }

    #[test]
    fn name_is_put_together_or_taken_apart() {
        for (value, text, first) in [
            (json!({"name": " Ann Marie Doe "}), "Ann Marie Doe", "Ann Marie"),
            (json!({"name": "Ann"}), "Ann", "Ann"),
            (json!({"first_name": "Ann", "last_name": "van Doe"}), "Ann van Doe", "Ann"),
            (json!({"last_name": "Doe"}), "Doe", ""),
            (json!({"name": "Ann van Doe", "first_name": "Ann", "last_name": "van Doe"}), "Ann van Doe", "Ann"),
            (json!({"name": "Eve Roe", "first_name": "Ann"}), "Eve Roe", "Eve"),
        ] {
            let name = read(&value).unwrap().name.unwrap();
            assert_eq!((name.text.as_str(), &name.text[..name.first_bytes]), (text, first), "{value}");
        }
    }

    /// The first entry is the main one, unless another one is.
    #[test]
    fn first_entry_is_primary_unless_another_is() {
        let entries = |value| read(&json!({"phones": value})).unwrap().phones.unwrap();

        assert!(entries(json!([{"value": "1"}, {"value": "2"}]))[0].is_primary);
        let second = entries(json!([{"value": "1"}, {"value": "2", "primary": true, "label": "mobile"}]));
        assert!(!second[0].is_primary && second[1].is_primary && &*second[1].label == "mobile");
    }

    #[test]
    fn wrong_fields_are_named() {
        for (value, field) in [
            (json!({"id": "7"}), "id"),
            (json!({"org_id": "7"}), "org_id"),
            (json!({"name": 7}), "name"),
            (json!({"phones": ["555"]}), "phones"),
            (json!({"phones": "555"}), "phones"),
            (json!({"phones": [{"label": "work"}]}), "phones"),
            (json!({"phones": [{"value": 5}]}), "phones"),
            (json!({"is_deleted": 1}), "is_deleted"),
            (json!({"visible_to": "3"}), "visible_to"),
            (json!({"update_time": "2026-01-02T10:00:00.5Z"}), "update_time"),
            (json!({"add_time": "2026-01-02 10:00:00"}), "add_time"),
        ] {
            assert_eq!(read(&value).err().map(|error| error.field), Some(field), "{value}");
        }
    }
}
