//! Pipedrive's JSON, as far as it is read. Unknown fields are ignored; ids come as numbers or as
//! text. Source: Pipedrive API reference, versions 1 and 2: "Persons", "Person fields",
//! "Organizations", "Recents", "Users".

use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

use crate::crm::json::{JsonCell, JsonFields};

/// What is read of an answer with rows.
pub(super) const PAGE: [&str; 2] = ["data", "additional_data"];

/// What is read of a person, in version 2 and, where that has another name, in version 1.
pub(super) const PERSON: [&str; 14] = [
    "id",
    "name",
    "first_name",
    "last_name",
    "org_id",
    "add_time",
    "update_time",
    "emails",
    "email",
    "phones",
    "phone",
    "postal_address",
    "custom_fields",
    "is_deleted",
];

/// A field of the company's own that holds a phone number of the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PhoneField {
    /// Under which persons have it.
    pub code: String,
    /// As people call it.
    pub name: String,
}

/// The values of a person's own fields, if there are any.
pub(super) fn own_values<'a, 'n>(cell: &JsonCell<'a>, fields: &'n [PhoneField]) -> Option<JsonFields<'a, 'n>> {
    let JsonCell::Object(own) = cell else { return None };
    let codes: Vec<&'n str> = fields.iter().map(|field| field.code.as_str()).collect();
    JsonFields::of(own, &codes)
}

/// One object; what it is does not matter.
#[derive(Deserialize)]
pub(super) struct SingleAnswer<T> {
    pub data: T,
}

/// An answer with whatever in it.
#[derive(Deserialize)]
pub(super) struct AnyAnswer {
    #[serde(rename = "data")]
    _data: IgnoredAny,
}

/// Longest number of a company.
const COMPANY_ID_BYTES_MAX: usize = 20;

/// `GET /api/v1/users/me`.
#[derive(Deserialize)]
pub(super) struct TokenUser {
    /// The label of the company's address, which its owner may change.
    pub company_domain: String,
    /// The company's number, which stays.
    #[serde(default)]
    pub company_id: Value,
    #[serde(default, deserialize_with = "flag")]
    pub is_admin: bool,
}

impl TokenUser {
    /// The company's number, however it is written.
    pub(super) fn company_id(&self) -> Option<String> {
        let text = self
            .company_id
            .as_str()
            .map_or_else(|| self.company_id.as_u64().map(|id| id.to_string()), |text| Some(text.to_owned()));
        text.filter(|text| (1..=COMPANY_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
    }
}

/// A change of a person in `GET /api/v1/recents` that hints that it was deleted: it has no data any
/// more, or says that it is inactive.
pub(super) fn suspect(change: &RawValue) -> Option<u64> {
    let change = JsonFields::of(change, &["item", "id", "data"])?;
    let is_person = change.cell("item").text().ok()?.as_deref() == Some("person");
    let is_gone = match change.cell("data") {
        JsonCell::Null => true,
        JsonCell::Object(person) => {
            let active = JsonFields::of(person, &["active_flag"])?.raw("active_flag")?;
            JsonCell::of(active).flag() == Ok(Some(false))
        }
        _ => false,
    };
    change.cell("id").id().filter(|_| is_person && is_gone)
}

/// The organization of a person: its id, or in version 1 an object that holds it. A link that
/// cannot be read is none.
pub(super) fn organization_id(cell: JsonCell<'_>) -> Option<u64> {
    match cell {
        JsonCell::Object(link) => JsonFields::of(link, &["value"])?.cell("value").id(),
        other => other.id(),
    }
}

/// Version 1 writes flags as booleans, as 0 and 1, and as text.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Value::deserialize(deserializer).map(|value| is_set(&value))
}

fn is_set(value: &Value) -> bool {
    *value == true || *value == 1 || *value == "1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_persons_without_data_or_inactive_are_suspects() {
        let changes: Vec<Box<RawValue>> = serde_json::from_str(
            r#"[{"item":"person","id":1,"data":{"id":1,"active_flag":true}},
                {"item":"person","id":2,"data":null},{"item":"person","id":3,"data":{"active_flag":false}},
                {"item":"person","id":4,"data":{"active_flag":0}},{"item":"person","id":5,"data":{"name":"no flag"}},
                {"item":"deal","id":6,"data":null},{"item":"person","id":"7"},{"item":"person","data":null},7,null,
                {"item":"person","id":8,"data":{"active_flag":null}},{"item":"person","id":9,"data":[1]}]"#,
        )
        .unwrap();

        let suspects: Vec<u64> = changes.iter().filter_map(|change| suspect(change)).collect();

        assert_eq!(suspects, [2, 3, 4, 7]);
    }

    #[test]
    fn administrator_is_a_flag_in_any_notation() {
        for (text, is_admin) in
            [("true", true), ("1", true), ("\"1\"", true), ("0", false), ("false", false), ("null", false)]
        {
            let me: TokenUser =
                serde_json::from_str(&format!(r#"{{"company_domain":"acme","is_admin":{text}}}"#)).unwrap();

            assert_eq!(me.is_admin, is_admin, "{text}");
        }
    }
}
