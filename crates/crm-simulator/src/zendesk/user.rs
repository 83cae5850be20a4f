//! A Zendesk user and its identities as the simulator keeps them, and as Zendesk writes them.
//! Invariant: what the simulator gives meaning to is a field here; every other field of Zendesk's
//! JSON lives in `rest`, else it has Zendesk's default. Times are microseconds since 1970 inside
//! (every change gets its own), whole seconds on the wire.

use std::sync::LazyLock;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

/// Microseconds since 1970-01-01T00:00:00Z.
pub(super) type Stamp = i64;

pub(super) const MICROS: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    EndUser,
    Agent,
    Admin,
}

impl Role {
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::EndUser, Self::Agent, Self::Admin].into_iter().find(|role| role.as_str() == text)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::EndUser => "end-user",
            Self::Agent => "agent",
            Self::Admin => "admin",
        }
    }
}

/// The kinds of identity that Zendesk documents.
pub(super) const IDENTITY_KINDS: [&str; 11] = [
    "email",
    "twitter",
    "facebook",
    "google",
    "phone_number",
    "agent_forwarding",
    "any_channel",
    "foreign",
    "sdk",
    "messaging",
    "microsoft",
];
pub(super) const EMAIL: &str = "email";
pub(super) const PHONE: &str = "phone_number";

#[derive(Clone)]
pub(super) struct Identity {
    pub(super) id: i64,
    /// One of [`IDENTITY_KINDS`].
    pub(super) kind: &'static str,
    pub(super) value: String,
    pub(super) is_primary: bool,
    pub(super) is_verified: bool,
    pub(super) created_at: Stamp,
    pub(super) updated_at: Stamp,
}

#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each a field of Zendesk's JSON")]
pub(super) struct User {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    /// The number in `phone` was somebody else's already, so that it is no identity of this user.
    /// `None` without a number.
    pub(super) is_phone_shared: Option<bool>,
    pub(super) role: Role,
    /// False once deleted or merged away.
    pub(super) is_active: bool,
    pub(super) is_suspended: bool,
    pub(super) is_verified: bool,
    pub(super) organization_id: Option<i64>,
    pub(super) external_id: Option<String>,
    pub(super) created_at: Stamp,
    pub(super) updated_at: Stamp,
    pub(super) identities: Vec<Identity>,
    /// Only the oracle tells; Zendesk does not.
    pub(super) merged_into: Option<i64>,
    /// Deleted for good: anonymised.
    pub(super) is_purged: bool,
    /// Every other field that was set.
    pub(super) rest: Map<String, Value>,
}

impl User {
    pub(super) fn is_deleted_softly(&self) -> bool {
        !self.is_active && !self.is_purged
    }

    /// Every number of the user: `phone`, then identities with another one.
    pub(super) fn numbers(&self) -> impl Iterator<Item = &str> {
        let phone = self.phone.as_deref();
        let more = self.identity_values(PHONE).filter(move |value| Some(*value) != phone);
        phone.into_iter().chain(more)
    }

    pub(super) fn identity_values(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.identities.iter().filter(move |identity| identity.kind == kind).map(|identity| identity.value.as_str())
    }

    /// The key of the export's order.
    pub(super) fn export_key(&self) -> (Stamp, i64) {
        (self.updated_at, self.id)
    }
}

/// `2026-01-02T10:00:00Z`.
pub(super) fn wire_time(stamp: Stamp) -> String {
    DateTime::from_timestamp_micros(stamp).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The fields that the simulator only keeps and gives back, with an end user's defaults, in
/// Zendesk's order.
static REST_DEFAULTS: LazyLock<Vec<(&'static str, Value)>> = LazyLock::new(|| {
    vec![
        ("time_zone", json!("Pacific Time (US & Canada)")),
        ("iana_time_zone", json!("America/Los_Angeles")),
        ("photo", Value::Null),
        ("locale_id", json!(1)),
        ("locale", json!("en-US")),
        ("tags", json!([])),
        ("alias", json!("")),
        ("shared", json!(false)),
        ("shared_agent", json!(false)),
        ("last_login_at", Value::Null),
        ("two_factor_auth_enabled", Value::Null),
        ("signature", Value::Null),
        ("details", json!("")),
        ("notes", json!("")),
        ("role_type", Value::Null),
        ("custom_role_id", Value::Null),
        ("moderator", json!(false)),
        ("ticket_restriction", json!("requested")),
        ("only_private_comments", json!(false)),
        ("chat_only", json!(false)),
        ("restricted_agent", json!(true)),
        ("default_group_id", Value::Null),
        ("report_csv", json!(false)),
        ("user_fields", json!({})),
    ]
});

/// What differs for somebody who works for the account's owner.
static AGENT_DEFAULTS: LazyLock<Vec<(&'static str, Value)>> = LazyLock::new(|| {
    vec![("ticket_restriction", Value::Null), ("restricted_agent", json!(false)), ("moderator", json!(true))]
});

fn rest_default(role: Role, name: &str, default: &'static Value) -> &'static Value {
    if role == Role::EndUser {
        return default;
    }
    AGENT_DEFAULTS.iter().find(|(agent_name, _)| *agent_name == name).map_or(default, |(_, value)| value)
}

/// A user in Zendesk's JSON. `base_url` as in `http://host:port`.
pub(super) struct UserJson<'a> {
    pub(super) user: &'a User,
    pub(super) base_url: &'a str,
    /// `"result_type": "user"`, as search results have it.
    pub(super) is_search_result: bool,
}

impl Serialize for UserJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let user = self.user;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &user.id)?;
        map.serialize_entry("url", &format_args!("{}/api/v2/users/{}.json", self.base_url, user.id))?;
        map.serialize_entry("name", &user.name)?;
        map.serialize_entry("email", &user.email)?;
        map.serialize_entry("created_at", &wire_time(user.created_at))?;
        map.serialize_entry("updated_at", &wire_time(user.updated_at))?;
        map.serialize_entry("phone", &user.phone)?;
        map.serialize_entry("shared_phone_number", &user.is_phone_shared)?;
        map.serialize_entry("organization_id", &user.organization_id)?;
        map.serialize_entry("role", &user.role)?;
        map.serialize_entry("verified", &user.is_verified)?;
        map.serialize_entry("external_id", &user.external_id)?;
        map.serialize_entry("active", &user.is_active)?;
        map.serialize_entry("suspended", &user.is_suspended)?;
        for (name, default) in REST_DEFAULTS.iter() {
            let value = user.rest.get(*name).unwrap_or_else(|| rest_default(user.role, name, default));
            map.serialize_entry(name, value)?;
        }
        if self.is_search_result {
            map.serialize_entry("result_type", "user")?;
        }
        map.end()
    }
}

/// Whether `name` is a field that is kept and given back as it came.
pub(super) fn is_rest_field(name: &str) -> bool {
    REST_DEFAULTS.iter().any(|(known, _)| *known == name)
}

/// A user as the deleted-users endpoints write it.
pub(super) struct DeletedUserJson<'a> {
    pub(super) user: &'a User,
    pub(super) base_url: &'a str,
}

impl Serialize for DeletedUserJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let user = self.user;
        let rest = |name: &str| {
            let default =
                REST_DEFAULTS.iter().find(|(known, _)| *known == name).map_or(&Value::Null, |(_, default)| default);
            user.rest.get(name).unwrap_or(default)
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &user.id)?;
        map.serialize_entry("url", &format_args!("{}/api/v2/deleted_users/{}.json", self.base_url, user.id))?;
        map.serialize_entry("name", &user.name)?;
        map.serialize_entry("email", &user.email)?;
        map.serialize_entry("phone", &user.phone)?;
        // Always null here, whatever it was before: so the vendor's example and its published types
        // have it.
        map.serialize_entry("shared_phone_number", &Value::Null)?;
        map.serialize_entry("active", &false)?;
        map.serialize_entry("role", &user.role)?;
        map.serialize_entry("organization_id", &user.organization_id)?;
        map.serialize_entry("created_at", &wire_time(user.created_at))?;
        map.serialize_entry("updated_at", &wire_time(user.updated_at))?;
        map.serialize_entry("time_zone", rest("time_zone"))?;
        map.serialize_entry("locale", rest("locale"))?;
        map.serialize_entry("locale_id", rest("locale_id"))?;
        map.serialize_entry("photo", rest("photo"))?;
        map.end()
    }
}

/// An identity in Zendesk's JSON.
pub(super) struct IdentityJson<'a> {
    pub(super) identity: &'a Identity,
    pub(super) user_id: i64,
    pub(super) base_url: &'a str,
}

impl Serialize for IdentityJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { identity, user_id, base_url } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("url", &format_args!("{base_url}/api/v2/users/{user_id}/identities/{}.json", identity.id))?;
        map.serialize_entry("id", &identity.id)?;
        map.serialize_entry("user_id", user_id)?;
        map.serialize_entry("type", identity.kind)?;
        map.serialize_entry("value", &identity.value)?;
        map.serialize_entry("verified", &identity.is_verified)?;
        map.serialize_entry("primary", &identity.is_primary)?;
        map.serialize_entry("created_at", &wire_time(identity.created_at))?;
        map.serialize_entry("updated_at", &wire_time(identity.updated_at))?;
        if identity.kind == EMAIL {
            map.serialize_entry("undeliverable_count", &0)?;
            map.serialize_entry("deliverable_state", "deliverable")?;
        }
        map.end()
    }
}
