//! The truth about the account: what a correct copy of it must agree with. Owns: the shape of the
//! control endpoint's oracle. Tells what the API does not: who was merged into whom.

use std::fmt;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    Zendesk,
    user::{User, wire_time},
};
use crate::reply::VendorReply;

/// A user as it truly is. `Debug` shows no name, address or number.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct TrueUser {
    /// Zendesk's id.
    pub id: i64,
    /// The whole name.
    pub name: String,
    /// The main address.
    pub email: Option<String>,
    /// The main number as typed.
    pub phone: Option<String>,
    /// `end-user`, `agent` or `admin`.
    pub role: &'static str,
    /// False once deleted or merged away.
    pub active: bool,
    /// Suspended users are not deleted.
    pub suspended: bool,
    /// Deleted for good.
    pub purged: bool,
    /// The user into which it was merged, directly.
    pub merged_into: Option<i64>,
    /// As on the wire, in whole seconds.
    pub created_at: String,
    /// As on the wire, in whole seconds.
    pub updated_at: String,
    /// In the order in which they were added.
    pub identities: Vec<TrueIdentity>,
}

/// An identity as it truly is.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct TrueIdentity {
    /// Zendesk's id.
    pub id: i64,
    /// `email`, `phone_number`, ...
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The address or number.
    pub value: String,
    /// The main one of its kind.
    pub primary: bool,
}

impl TrueUser {
    fn of(user: &User) -> Self {
        let identity = |identity: &super::user::Identity| TrueIdentity {
            id: identity.id,
            kind: identity.kind,
            value: identity.value.clone(),
            primary: identity.is_primary,
        };
        Self {
            id: user.id,
            name: user.name.clone(),
            email: user.email.clone(),
            phone: user.phone.clone(),
            role: user.role.as_str(),
            active: user.is_active,
            suspended: user.is_suspended,
            purged: user.is_purged,
            merged_into: user.merged_into,
            created_at: wire_time(user.created_at),
            updated_at: wire_time(user.updated_at),
            identities: user.identities.iter().map(identity).collect(),
        }
    }

    /// Every number of the user as typed: the main one, then identities with another text.
    pub fn numbers(&self) -> Vec<&str> {
        let identities = self
            .identities
            .iter()
            .filter(|identity| identity.kind == super::user::PHONE)
            .map(|identity| identity.value.as_str());
        let main = self.phone.as_deref();
        main.into_iter().chain(identities.filter(|value| Some(*value) != main)).collect()
    }
}

impl fmt::Debug for TrueUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("TrueUser");
        shown
            .field("id", &self.id)
            .field("active", &self.active)
            .field("merged_into", &self.merged_into)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TrueIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TrueIdentity").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Zendesk {
    /// Every user, removed ones included, by id.
    pub fn oracle(&self) -> Vec<TrueUser> {
        self.state().users().values().map(TrueUser::of).collect()
    }

    /// One user of the oracle.
    pub fn true_user(&self, id: i64) -> Option<TrueUser> {
        self.state().find(id).map(TrueUser::of)
    }

    pub(super) fn oracle_reply(&self) -> VendorReply {
        #[derive(Serialize)]
        struct Oracle {
            now: DateTime<Utc>,
            users: Vec<TrueUser>,
        }
        VendorReply::json(StatusCode::OK, &Oracle { now: self.now(), users: self.oracle() })
    }
}
