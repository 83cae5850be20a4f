//! Who is asking: `GET /api/v2/users/me`. Owns: the administrator that an account has though no
//! user of it was given, and the nobody that Zendesk shows without credentials. Must not: put
//! either among the account's users, where an export would find them.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Zendesk, user::wire_time};
use crate::{call::ApiCall, reply::VendorReply};

/// The id of the administrator when no user of the account has the administrator's address.
pub(super) const ADMINISTRATOR_ID: i64 = 1_800_000_000_001;

impl Zendesk {
    /// The administrator: the user of that address, else one that is not among the account's users.
    pub(super) fn show_me(&self, call: &ApiCall) -> VendorReply {
        let owner = self.state().email_owner(&self.config.email);
        if let Some(reply) = owner.and_then(|id| self.show_user(call, id, StatusCode::OK).ok()) {
            return reply;
        }
        let since = wire_time(0);
        let fields = json!({
            "id": ADMINISTRATOR_ID,
            "url": format!("{}/api/v2/users/{ADMINISTRATOR_ID}.json", call.base_url),
            "name": "Administrator",
            "email": self.config.email,
            "role": "admin",
            "verified": true,
            "created_at": since,
            "updated_at": since,
            "moderator": true,
            "restricted_agent": false,
        });
        me(fields)
    }
}

/// What `/users/me` answers without credentials: 200, and nobody.
pub(super) fn anonymous(call: &ApiCall) -> VendorReply {
    let fields = json!({
        "id": null,
        "url": format!("{}/api/v2/users/.json", call.base_url),
        "name": "Anonymous user",
        "email": "invalid@example.com",
        "role": "end-user",
        "verified": false,
        "created_at": null,
        "updated_at": null,
        "moderator": false,
        "restricted_agent": true,
    });
    me(fields)
}

/// The answer of `/users/me`: `fields`, and what is the same for everybody who is no user of the
/// account.
fn me(fields: Value) -> VendorReply {
    let mut user = json!({
        "active": true,
        "phone": null,
        "shared_phone_number": null,
        "photo": null,
        "locale_id": 1,
        "locale": "en-US",
        "time_zone": "Pacific Time (US & Canada)",
        "iana_time_zone": "America/Los_Angeles",
        "organization_id": null,
        "external_id": null,
        "tags": [],
        "alias": "",
        "suspended": false,
        "user_fields": {},
        "authenticity_token": "simulated",
    });
    if let (Value::Object(user), Value::Object(fields)) = (&mut user, fields) {
        user.extend(fields);
    }
    VendorReply::json(StatusCode::OK, &json!({"user": user}))
}
