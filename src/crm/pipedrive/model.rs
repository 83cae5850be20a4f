//! Pipedrive's JSON, as far as it is read. Unknown fields are ignored; ids come as numbers or as text.
//! Source: Pipedrive API reference, versions 1 and 2: "Persons", "Organizations", "Recents", "Users".

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Value, value::RawValue};

/// A page of `GET /api/v2/persons`. Rows are parsed one by one, so that a bad one is rejected alone.
#[derive(Deserialize)]
pub(super) struct PersonsPage {
    pub data: Vec<Box<RawValue>>,
    /// Without it nobody knows whether there is more.
    pub additional_data: Paging,
}

/// How the pages lead on.
#[derive(Deserialize)]
pub(super) struct Paging {
    /// `None`: the end.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// Rows that were asked for by their ids.
#[derive(Deserialize)]
pub(super) struct Rows {
    pub data: Vec<Box<RawValue>>,
}

/// One object.
#[derive(Deserialize)]
pub(super) struct One<T> {
    pub data: T,
}

/// A person of version 2.
#[derive(Deserialize)]
pub(super) struct Person {
    #[serde(deserialize_with = "id")]
    pub id: u64,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub first_name: Option<String>,
    #[serde(default)]
    pub last_name: Option<String>,
    #[serde(default, deserialize_with = "lenient_id")]
    pub org_id: Option<u64>,
    #[serde(default)]
    pub add_time: Option<String>,
    #[serde(default)]
    pub update_time: Option<String>,
    /// One that cannot be read costs itself, not its person.
    #[serde(default)]
    pub emails: Option<Vec<Value>>,
    /// As the e-mails.
    #[serde(default)]
    pub phones: Option<Vec<Value>>,
    #[serde(default)]
    pub postal_address: Option<Value>,
    #[serde(default)]
    pub is_deleted: bool,
}

/// A number or an e-mail address.
#[derive(Deserialize)]
pub(super) struct Entry {
    pub value: String,
    #[serde(default)]
    pub label: Option<String>,
}

/// An organization of version 2.
#[derive(Deserialize)]
pub(super) struct Organization {
    #[serde(deserialize_with = "id")]
    pub id: u64,
    #[serde(default)]
    pub name: Option<String>,
}

/// `GET /api/v1/users/me`.
#[derive(Deserialize)]
pub(super) struct Me {
    /// The label of the company's address.
    pub company_domain: String,
    #[serde(default, deserialize_with = "flag")]
    pub is_admin: bool,
}

/// A page of `GET /api/v1/recents`.
#[derive(Deserialize)]
pub(super) struct RecentsPage {
    /// Version 1 says null where there is nothing.
    pub data: Option<Vec<Recent>>,
    #[serde(default)]
    pub additional_data: Option<RecentsPaging>,
}

/// A change.
#[derive(Deserialize)]
pub(super) struct Recent {
    #[serde(default)]
    pub item: String,
    #[serde(default, deserialize_with = "lenient_id")]
    pub id: Option<u64>,
    /// The object in version 1; null where there is none any more.
    #[serde(default)]
    pub data: Value,
}

/// How the changes lead on.
#[derive(Deserialize)]
pub(super) struct RecentsPaging {
    #[serde(default)]
    pub pagination: Option<Offset>,
}

/// Version 1 counts.
#[derive(Deserialize)]
pub(super) struct Offset {
    #[serde(default)]
    pub more_items_in_collection: bool,
    #[serde(default)]
    pub next_start: Option<u64>,
}

impl Recent {
    /// The person that this change hints to be deleted.
    pub(super) fn suspect(&self) -> Option<u64> {
        let is_gone = self.data.is_null() || self.data.get("active_flag").is_some_and(|flag| !is_set(flag));
        self.id.filter(|id| *id > 0 && is_gone && self.item == "person")
    }
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    id_of(&value).ok_or_else(|| D::Error::custom("id is not a number above 0"))
}

/// A link that cannot be read is none.
fn lenient_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Value::deserialize(deserializer).map(|value| id_of(&value))
}

fn id_of(value: &Value) -> Option<u64> {
    let id = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    id.filter(|id| *id > 0)
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
        let page: RecentsPage = serde_json::from_str(
            r#"{"success":true,"data":[{"item":"person","id":1,"data":{"id":1,"active_flag":true}},
                {"item":"person","id":2,"data":null},{"item":"person","id":3,"data":{"active_flag":false}},
                {"item":"person","id":4,"data":{"active_flag":0}},{"item":"person","id":5,"data":{"name":"no flag"}},
                {"item":"deal","id":6,"data":null},{"item":"person","id":"7"},{"item":"person","data":null}]}"#,
        )
        .unwrap();

        let suspects: Vec<u64> = page.data.unwrap().iter().filter_map(Recent::suspect).collect();

        assert_eq!(suspects, [2, 3, 4, 7]);
    }

    #[test]
    fn version_1_says_null_where_there_is_nothing() {
        assert!(serde_json::from_str::<RecentsPage>(r#"{"success":true,"data":null}"#).unwrap().data.is_none());
    }

    #[test]
    fn administrator_is_a_flag_in_any_notation() {
        for (text, is_admin) in
            [("true", true), ("1", true), ("\"1\"", true), ("0", false), ("false", false), ("null", false)]
        {
            let me: Me = serde_json::from_str(&format!(r#"{{"company_domain":"acme","is_admin":{text}}}"#)).unwrap();

            assert_eq!(me.is_admin, is_admin, "{text}");
        }
    }
}
