//! The fields that a caller gives, read against the schema. Owns: types, lengths, who may write
//! what, what must be there. Invariant: an error names the field, never the value.

use chrono::NaiveDate;
use serde_json::{Map, Value};

use super::{
    id::RecordId,
    objects::{Access, Kind, ObjectKind, Source},
    record::read_time,
    refusal::SalesforceRefusal,
    schema::{Field, ObjectSchema, Slot},
    state::State,
};

/// New values of stored fields; `None` is null.
#[derive(Default)]
pub(super) struct Changes(pub(super) Vec<(Slot, Option<String>)>);

impl Changes {
    /// With this value too; nothing changes if the organisation has no such field.
    pub(super) fn set(mut self, object: &ObjectSchema, name: &str, value: Option<String>) -> Self {
        if let Some(slot) = object.slot(name) {
            self.0.retain(|(given, _)| *given != slot);
            self.0.push((slot, value));
        }
        self
    }

    pub(super) fn set_if_absent(&mut self, object: &ObjectSchema, name: &str, value: &str) {
        if let Some(slot) = object.slot(name)
            && !self.0.iter().any(|(given, _)| *given == slot)
        {
            self.0.push((slot, Some(value.to_owned())));
        }
    }
}

/// Reads what a user writes. `attributes` and `Id` are no fields of a body, and passed over.
pub(super) fn read_changes(
    state: &State,
    kind: ObjectKind,
    fields: &Map<String, Value>,
    is_new: bool,
) -> Result<Changes, SalesforceRefusal> {
    let object = state.schema.object(kind);
    let mut changes = Changes::default();
    for (name, value) in fields.iter().filter(|(name, _)| !is_envelope(name)) {
        let no_such = || SalesforceRefusal::no_such_column(name, object.name());
        let slot = object.visible_slot(name).ok_or_else(no_such)?;
        let field = object.field(slot);
        if field.access == Access::System {
            return Err(SalesforceRefusal::not_writeable(&field.name));
        }
        let text = stored_text(field, value)?;
        if text.is_none() && field.access == Access::Required {
            return Err(SalesforceRefusal::missing(&[&field.name]));
        }
        check_reference(state, field, text.as_deref())?;
        changes.0.push((slot, text));
    }
    let is_given = |name: &str| object.slot(name).is_some_and(|slot| changes.0.iter().any(|(given, _)| *given == slot));
    // A person's account has a last name instead of a name.
    let last_name = object.slot("LastName");
    let is_person = kind == ObjectKind::Account
        && changes.0.iter().any(|(given, text)| Some(*given) == last_name && text.is_some());
    if is_person && is_given("Name") {
        return Err(SalesforceRefusal::not_writeable("Name"));
    }
    if is_new && !is_person {
        let missing: Vec<&str> = object
            .visible_fields()
            .filter(|(_, field)| field.access == Access::Required && !is_given(&field.name))
            .map(|(_, field)| field.name.as_str())
            .collect();
        if !missing.is_empty() {
            return Err(SalesforceRefusal::missing(&missing));
        }
    }
    Ok(changes)
}

/// What of a body is not a field: the envelope, and the id of composite calls.
pub(super) fn is_envelope(name: &str) -> bool {
    name == "attributes" || name.eq_ignore_ascii_case("id")
}

/// A JSON value as the stored text of a field. An empty text is null, as in Salesforce.
pub(super) fn stored_text(field: &Field, value: &Value) -> Result<Option<String>, SalesforceRefusal> {
    let name = field.name.as_str();
    let text = match (value, field.kind) {
        (Value::Null, _) => return Ok(None),
        (Value::Bool(flag), Kind::Boolean) => return Ok(Some(flag.to_string())),
        (_, Kind::Boolean) => return Err(SalesforceRefusal::wrong_type(name, "boolean")),
        (Value::String(text), _) if text.is_empty() => return Ok(None),
        (Value::String(text), _) => text,
        _ => return Err(SalesforceRefusal::wrong_type(name, "string")),
    };
    match field.kind {
        Kind::Id | Kind::Reference(..) => {
            let id = RecordId::parse(text).ok_or_else(|| SalesforceRefusal::malformed_id(text))?;
            Ok(Some(id.to_string()))
        }
        Kind::DateTime => {
            let time = read_time(text).ok_or_else(|| SalesforceRefusal::wrong_type(name, "datetime"))?;
            Ok(Some(time.to_string()))
        }
        Kind::Date => {
            let date =
                NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| SalesforceRefusal::wrong_type(name, "date"))?;
            Ok(Some(date.to_string()))
        }
        Kind::Email if !is_email(text) => Err(SalesforceRefusal::invalid_email(name)),
        _ if text.chars().count() > field.length => Err(SalesforceRefusal::too_long(name, field.length)),
        _ => Ok(Some(text.clone())),
    }
}

fn check_reference(state: &State, field: &Field, text: Option<&str>) -> Result<(), SalesforceRefusal> {
    let (Kind::Reference(to, _), Source::Stored, Some(text)) = (field.kind, field.source, text) else { return Ok(()) };
    let is_there = RecordId::parse(text).is_some_and(|id| state.live(id).is_ok_and(|(kind, _)| kind == to));
    if is_there { Ok(()) } else { Err(SalesforceRefusal::invalid_reference(&field.name)) }
}

fn is_email(text: &str) -> bool {
    let parts = text.split_once('@');
    parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@') && !host.contains(' '))
}
