//! The truth about the company's persons: what a correct copy of them must agree with. Owns: the
//! shape of the control endpoint's oracle. Tells what the API does not: who is hidden, who was
//! merged into whom.

use std::fmt;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    Pipedrive,
    person::{Entry, Person, wire_time},
    state::State,
};
use crate::reply::VendorReply;

/// A person as it truly is. `Debug` shows no name, address or number.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct TruePerson {
    /// Pipedrive's id.
    pub id: i64,
    /// The whole name.
    pub name: String,
    /// Addresses in their order.
    pub emails: Vec<String>,
    /// Numbers as typed, in their order.
    pub phones: Vec<String>,
    /// Where the person works.
    pub org_id: Option<i64>,
    /// What that is called.
    pub org_name: Option<String>,
    /// The user who owns the record.
    pub owner_id: i64,
    /// True once deleted or merged away; a person deleted for good is in no oracle.
    pub is_deleted: bool,
    /// The token's user may not see it.
    pub is_hidden: bool,
    /// The person into which it was merged, directly.
    pub merged_into: Option<i64>,
    /// As on the wire.
    pub add_time: String,
    /// As on the wire.
    pub update_time: String,
}

impl TruePerson {
    fn of(state: &State, person: &Person) -> Self {
        let texts = |entries: &[Entry]| entries.iter().map(|entry| entry.value.to_string()).collect();
        Self {
            id: person.id,
            name: person.name.to_string(),
            emails: texts(&person.emails),
            phones: texts(&person.phones),
            org_id: person.org_id,
            org_name: person.org_id.and_then(|id| state.organization_name(id)).map(str::to_owned),
            owner_id: person.owner_id,
            is_deleted: person.is_deleted(),
            is_hidden: person.is_hidden,
            merged_into: person.merged_into,
            add_time: wire_time(person.add_time),
            update_time: wire_time(person.update_time),
        }
    }
}

impl fmt::Debug for TruePerson {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TruePerson")
            .field("id", &self.id)
            .field("is_deleted", &self.is_deleted)
            .field("is_hidden", &self.is_hidden)
            .field("merged_into", &self.merged_into)
            .finish_non_exhaustive()
    }
}

impl Pipedrive {
    /// Every person that is there, deleted ones included, by id.
    pub fn persons(&self) -> Vec<TruePerson> {
        let state = self.state();
        state.persons().values().map(|person| TruePerson::of(&state, person)).collect()
    }

    /// One person of the oracle.
    pub fn true_person(&self, id: i64) -> Option<TruePerson> {
        let state = self.state();
        state.find(id).map(|person| TruePerson::of(&state, person))
    }

    pub(super) fn oracle_reply(&self) -> VendorReply {
        #[derive(Serialize)]
        struct Oracle {
            now: DateTime<Utc>,
            persons: Vec<TruePerson>,
        }
        VendorReply::json(StatusCode::OK, &Oracle { now: self.now(), persons: self.persons() })
    }
}
