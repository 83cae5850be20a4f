//! Zendesk's JSON, as far as it is read. Unknown fields are ignored; ids come as numbers or as text.
//! Source: Zendesk developer documentation, "Incremental Exports", "Users", "User Identities".

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

/// A page of the cursor-based incremental export of users. Rows are parsed one by one, so that a bad one is rejected alone.
#[derive(Deserialize)]
pub(super) struct UsersPage {
    pub users: Vec<Box<RawValue>>,
    #[serde(default)]
    pub identities: Option<Vec<Box<RawValue>>>,
    #[serde(default)]
    pub after_cursor: Option<String>,
    pub end_of_stream: bool,
}

/// Users that were asked for by their ids or found by a search.
#[derive(Deserialize)]
pub(super) struct Users {
    pub users: Vec<Box<RawValue>>,
}

/// The identities of one user.
#[derive(Deserialize)]
pub(super) struct Identities {
    pub identities: Vec<Box<RawValue>>,
}

/// A user.
#[derive(Deserialize)]
pub(super) struct User {
    #[serde(deserialize_with = "id")]
    pub id: u64,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub phone: Option<String>,
    #[serde(default)]
    pub role: Option<String>,
    /// False: deleted, or merged into another. Suspended users are active.
    #[serde(default = "yes")]
    pub active: bool,
    pub updated_at: String,
}

/// An address of a user.
#[derive(Deserialize)]
pub(super) struct Identity {
    #[serde(deserialize_with = "id")]
    pub user_id: u64,
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

/// `GET /api/v2/users/me`: an anonymous session answers 200 with a null id.
#[derive(Deserialize)]
pub(super) struct Me {
    pub user: MeUser,
}

/// The user of the credentials.
#[derive(Deserialize)]
pub(super) struct MeUser {
    #[serde(default)]
    pub id: Option<serde_json::Value>,
    #[serde(default)]
    pub role: Option<String>,
}

/// `GET /api/v2/users/count`.
#[derive(Deserialize)]
pub(super) struct Count {
    pub count: CountValue,
}

/// About how many; above 100,000 it is refreshed once a day.
#[derive(Deserialize)]
pub(super) struct CountValue {
    pub value: i64,
}

const fn yes() -> bool {
    true
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    let id = match Either::deserialize(deserializer)? {
        Either::Number(id) => id,
        Either::Text(text) => text.parse().map_err(|_| D::Error::custom("id is not a number"))?,
    };
    if id == 0 { Err(D::Error::custom("id is 0")) } else { Ok(id) }
}
