//! A user as somebody else writes it: the body of a create or update, or a line of a users file.
//! Owns: which field may hold what. Invariant: an error names the field and what would be right,
//! never the value.

use chrono::DateTime;
use serde_json::{Map, Value};

use super::user::{IDENTITY_KINDS, Role, Stamp, is_rest_field};
pub(super) use crate::given::GivenField;

/// Longest text field, bytes; Zendesk's own limits are lower for most.
const TEXT_BYTES_MAX: usize = 65_536;
/// Most identities given with a user.
const IDENTITIES_MAX: usize = 100;

/// A field that does not hold what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field} must be {expected}")]
pub struct FieldError {
    /// The name of the field, as in Zendesk's JSON.
    pub field: &'static str,
    /// What would be right.
    pub expected: &'static str,
}

/// What is said of an identity.
#[derive(Default)]
pub(super) struct IdentityInput {
    pub(super) id: Option<i64>,
    pub(super) kind: Option<&'static str>,
    pub(super) value: Option<String>,
    pub(super) is_primary: Option<bool>,
    pub(super) is_verified: Option<bool>,
}

/// What is said of a user.
#[derive(Default)]
pub(super) struct UserInput {
    pub(super) id: Option<i64>,
    pub(super) name: GivenField<String>,
    pub(super) email: GivenField<String>,
    pub(super) phone: GivenField<String>,
    pub(super) is_phone_shared: Option<bool>,
    pub(super) role: Option<Role>,
    pub(super) is_active: Option<bool>,
    pub(super) is_suspended: Option<bool>,
    pub(super) is_verified: Option<bool>,
    pub(super) organization_id: GivenField<i64>,
    pub(super) external_id: GivenField<String>,
    pub(super) created_at: Option<Stamp>,
    pub(super) updated_at: Option<Stamp>,
    pub(super) identities: Option<Vec<IdentityInput>>,
    /// `identities` are all there are: `phone` makes none of its own.
    pub(super) are_identities_complete: bool,
    pub(super) rest: Map<String, Value>,
}

impl UserInput {
    /// Reads a user's JSON object. Fields that Zendesk does not have are ignored, as Zendesk
    /// ignores them.
    pub(super) fn read(fields: &Map<String, Value>) -> Result<Self, FieldError> {
        let mut input = Self {
            id: id(fields, "id")?.value(),
            name: text(fields, "name")?,
            email: text(fields, "email")?,
            phone: text(fields, "phone")?,
            is_phone_shared: flag(fields, "shared_phone_number")?,
            role: None,
            is_active: flag(fields, "active")?,
            is_suspended: flag(fields, "suspended")?,
            is_verified: flag(fields, "verified")?,
            organization_id: id(fields, "organization_id")?,
            external_id: text(fields, "external_id")?,
            created_at: time(fields, "created_at")?,
            updated_at: time(fields, "updated_at")?,
            identities: None,
            are_identities_complete: false,
            rest: fields
                .iter()
                .filter(|(name, _)| is_rest_field(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        };
        if let GivenField::Value(role) = text(fields, "role")? {
            let expected = "end-user, agent or admin";
            input.role = Some(Role::parse(&role).ok_or(FieldError { field: "role", expected })?);
        }
        if let Some(identities) = fields.get("identities") {
            input.identities = Some(read_identities(identities)?);
        }
        Ok(input)
    }
}

impl IdentityInput {
    /// Reads an identity's JSON object.
    pub(super) fn read(fields: &Map<String, Value>) -> Result<Self, FieldError> {
        let kind = match text(fields, "type")? {
            GivenField::Value(kind) => {
                let known = IDENTITY_KINDS.into_iter().find(|known| *known == kind);
                Some(known.ok_or(FieldError {
                    field: "type",
                    expected: "one of Zendesk's kinds of identity, such as phone_number",
                })?)
            }
            GivenField::Absent | GivenField::Null => None,
        };
        let value = text(fields, "value")?.value();
        Ok(Self {
            id: id(fields, "id")?.value(),
            kind,
            value,
            is_primary: flag(fields, "primary")?,
            is_verified: flag(fields, "verified")?,
        })
    }
}

fn read_identities(value: &Value) -> Result<Vec<IdentityInput>, FieldError> {
    let wrong = FieldError { field: "identities", expected: "a list of at most 100 objects, each with type and value" };
    let Some(list) = value.as_array().filter(|list| list.len() <= IDENTITIES_MAX) else {
        return Err(wrong);
    };
    let mut identities = Vec::with_capacity(list.len());
    for item in list {
        let read = item.as_object().map(IdentityInput::read).transpose()?;
        match read {
            Some(identity) if identity.kind.is_some() && identity.value.is_some() => identities.push(identity),
            _ => return Err(wrong),
        }
    }
    Ok(identities)
}

fn text(fields: &Map<String, Value>, field: &'static str) -> Result<GivenField<String>, FieldError> {
    match fields.get(field) {
        None => Ok(GivenField::Absent),
        Some(Value::Null) => Ok(GivenField::Null),
        Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => Ok(GivenField::Value(text.clone())),
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
    let GivenField::Value(text) = text(fields, field)? else { return Ok(None) };
    let time = DateTime::parse_from_rfc3339(&text).ok().filter(|time| time.timestamp() >= 0);
    time.map(|time| Some(time.timestamp_micros()))
        .ok_or(FieldError { field, expected: "a time such as 2026-01-02T10:00:00Z" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<UserInput, FieldError> {
        UserInput::read(value.as_object().unwrap())
    }

    #[test]
    fn absent_null_and_value_are_told_apart() {
        let input = read(&json!({"name": "Ann", "phone": null, "notes": "n", "made_up": 1})).unwrap();

        assert_eq!(input.name, GivenField::Value("Ann".to_owned()));
        assert_eq!(input.phone, GivenField::Null);
        assert_eq!(input.email, GivenField::Absent);
        assert_eq!(input.rest.len(), 1);
    }

    #[test]
    fn wrong_fields_are_named() {
        for (value, field) in [
            (json!({"id": "7"}), "id"),
            (json!({"id": -7}), "id"),
            (json!({"phone": 13_108_675_309_i64}), "phone"),
            (json!({"role": "king"}), "role"),
            (json!({"active": "yes"}), "active"),
            (json!({"created_at": "yesterday"}), "created_at"),
            (json!({"identities": [{"type": "email"}]}), "identities"),
            (json!({"identities": [{"type": "fax", "value": "1"}]}), "type"),
        ] {
            assert_eq!(read(&value).err().map(|error| error.field), Some(field), "{value}");
        }
    }
}
