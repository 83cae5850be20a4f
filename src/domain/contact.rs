//! Our person, and what answers show of them.

use std::fmt;

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;

use super::{
    ids::{ContactId, IntegrationId},
    record::RecordKey,
};

/// Most contacts in one answer.
pub const CANDIDATES_MAX: usize = 20;
/// Matches are counted up to here; more is a shared line that says so.
pub const TOTAL_MAX: usize = 200;

/// Most numbers that are shown of a contact; one beyond them still matches.
pub const NUMBERS_SHOWN_MAX: usize = 64;
/// Most records that are shown of a contact, live ones first; one beyond them still is a requester.
pub const RECORDS_SHOWN_MAX: usize = 32;

/// A contact with its numbers and records.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    /// Stable across syncs, restores and adoption.
    pub id: ContactId,
    /// The name to show.
    pub display_name: String,
    /// The organisation's name, possibly empty.
    pub organization: String,
    /// E-mail addresses.
    pub emails: Vec<String>,
    /// Numbers of all its records, or of the placeholder.
    pub numbers: Vec<ContactNumber>,
    /// Its records, live ones first.
    pub records: Vec<ContactRecord>,
    /// Decides "first created".
    pub created_at: DateTime<Utc>,
    /// Set on a tombstone.
    pub deleted_at: Option<DateTime<Utc>>,
    /// The contact that lives on after a merge.
    pub survivor_id: Option<ContactId>,
    /// Made by a call, without any record yet.
    pub is_placeholder: bool,
}

/// A number of a contact.
#[derive(Clone, PartialEq, Eq)]
pub struct ContactNumber {
    /// As written.
    pub raw: String,
    /// Its key, if it can be called.
    pub key: Option<PhoneKey>,
    /// The CRM's name for it.
    pub label: String,
    /// Extension digits.
    pub extension: String,
}

/// A record of a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactRecord {
    /// The integration that it belongs to.
    pub integration_id: IntegrationId,
    /// Which object there.
    pub key: RecordKey,
    /// Where an agent opens it.
    pub url: String,
    /// The CRM's role.
    pub role: String,
    /// Not deleted or merged away.
    pub is_live: bool,
}

// Personal data stays out of logs, also by accident.
impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact")
            .field("id", &self.id)
            .field("records", &self.records)
            .field("deleted_at", &self.deleted_at)
            .field("is_placeholder", &self.is_placeholder)
            .finish_non_exhaustive()
    }
}
