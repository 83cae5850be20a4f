//! Zendesk's JSON, as far as it is read. Unknown fields are ignored; ids come as numbers or as
//! text. Source: Zendesk developer documentation, "Incremental Exports", "Users", "User
//! Identities".

use serde::Deserialize;

/// What is read of an answer with users.
pub(super) const PAGE: [&str; 4] = ["users", "identities", "after_cursor", "end_of_stream"];

/// What is read of a user. `active` is false of one that is deleted, or merged into another;
/// suspended users are active.
pub(super) const USER: [&str; 9] =
    ["id", "name", "email", "phone", "role", "active", "created_at", "updated_at", CUSTOM_FIELDS];

/// The values of custom fields, by their keys.
pub(super) const CUSTOM_FIELDS: &str = "user_fields";

/// What is read of an address of a user.
pub(super) const IDENTITY: [&str; 3] = ["user_id", "type", "value"];

/// `GET /api/v2/users/me`: an anonymous session answers 200 with a null id.
#[derive(Deserialize)]
pub(super) struct CurrentUser {
    pub user: TokenUser,
}

/// The user of the credentials.
#[derive(Deserialize)]
pub(super) struct TokenUser {
    #[serde(default)]
    pub id: Option<serde_json::Value>,
    #[serde(default)]
    pub role: Option<String>,
}

/// `GET /api/v2/users/count`.
#[derive(Deserialize)]
pub(super) struct UserCount {
    pub count: UserTotal,
}

/// About how many; above 100,000 it is refreshed once a day.
#[derive(Deserialize)]
pub(super) struct UserTotal {
    pub value: i64,
}
