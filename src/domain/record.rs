//! What any CRM tells us about one object, in words that no vendor owns.
//! Ids and object types are checked here, so that nothing behind this point sees an impossible one.

use std::{
    fmt,
    ops::{Index, IndexMut},
};

use chrono::{DateTime, Utc};
use phone_key::{PhoneKey, Region};
use strum::{EnumCount, EnumString, IntoStaticStr, VariantArray};
use thiserror::Error;

use super::provider::Provider;

/// Most characters of a record id; the vendors that we know need 20 at most.
pub const RECORD_ID_CHARS_MAX: usize = 64;

/// The kinds of CRM objects that stand for a person. Of several that one contact has in a CRM, the
/// kind that stands first here is the better requester.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, EnumCount, EnumString, IntoStaticStr, VariantArray,
)]
pub enum ObjectType {
    /// Zendesk.
    #[strum(serialize = "user")]
    User,
    /// Salesforce; person accounts are Contacts too.
    Contact,
    /// Salesforce.
    Lead,
    /// Pipedrive.
    #[strum(serialize = "person")]
    Person,
}

impl ObjectType {
    /// Every kind.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The vendor's own spelling; also what is stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The CRM that has such objects.
    pub const fn provider(self) -> Provider {
        match self {
            Self::User => Provider::Zendesk,
            Self::Contact | Self::Lead => Provider::Salesforce,
            Self::Person => Provider::Pipedrive,
        }
    }
}

/// One thing for each kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerObjectType<T>([T; ObjectType::COUNT]);

impl<T: Default> Default for PerObjectType<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| T::default()))
    }
}

impl<T> PerObjectType<T> {
    /// Each with its kind.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectType, &T)> {
        ObjectType::ALL.iter().copied().zip(&self.0)
    }
}

impl<T> Index<ObjectType> for PerObjectType<T> {
    type Output = T;

    fn index(&self, object_type: ObjectType) -> &T {
        &self.0[object_type as usize]
    }
}

impl<T> IndexMut<ObjectType> for PerObjectType<T> {
    fn index_mut(&mut self, object_type: ObjectType) -> &mut T {
        &mut self.0[object_type as usize]
    }
}

/// Names one object within an integration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// Its kind.
    pub object_type: ObjectType,
    /// The CRM's id, in the one form that the vendor's rule gives it.
    pub record_id: String,
}

/// Why an object type or record id cannot be one of this provider.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidRecordKey {
    /// The provider has no such object, or we do not register it.
    #[error("{0}")]
    ObjectType(String),
    /// The id does not have the provider's form.
    #[error("{0}")]
    RecordId(String),
}

impl RecordKey {
    /// The order of "smallest record id": shorter first, then by character, which for decimal ids
    /// is the order of numbers.
    pub fn rank(&self) -> (usize, &str) {
        (self.record_id.len(), &self.record_id)
    }
}

/// Ids that are counted, as several vendors have them.
pub fn decimal_id(text: &str) -> Result<String, InvalidRecordKey> {
    let is_decimal =
        (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if is_decimal {
        Ok(text.to_owned())
    } else {
        Err(InvalidRecordKey::RecordId("must be a whole number above 0, as the CRM shows it".to_owned()))
    }
}

/// One object as a CRM sent it, before normalisation.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Which object.
    pub key: RecordKey,
    /// The CRM's update time; decides which of two copies is newer.
    pub updated_at: DateTime<Utc>,
    /// When the CRM answered for this very record, by its own clock, in whole seconds; `None`: it
    /// came in a list, which may be behind.
    pub answered_at: Option<DateTime<Utc>>,
    /// Deleted in the CRM, merged away, or (a Lead) converted.
    pub is_gone: bool,
    /// The record that this one was merged into or, a Lead, converted into; the CRM names it for
    /// records that are gone.
    pub successor: Option<RecordKey>,
    /// The name, possibly empty.
    pub display_name: String,
    /// The organisation's name, possibly empty.
    pub organization: String,
    /// E-mail addresses, as written.
    pub emails: Vec<String>,
    /// Phone numbers, as written.
    pub numbers: Vec<RawNumber>,
    /// The CRM's role, possibly empty.
    pub role: String,
    /// Where an agent opens it, possibly empty.
    pub url: String,
    /// The country of its address, where its numbers were written most likely.
    pub region: Option<Region>,
}

/// A record that the CRM was asked for and does not have: deleted, or never there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentRecord {
    /// Which object.
    pub key: RecordKey,
    /// When the CRM said so, by its own clock, in whole seconds; `None`: it was known before.
    pub seen_at: Option<DateTime<Utc>>,
    /// What it was merged into, as an event has said.
    pub successor: Option<RecordKey>,
}

/// A phone number as a CRM has it.
#[derive(Clone, PartialEq, Eq)]
pub struct RawNumber {
    /// The text.
    pub raw: String,
    /// The CRM's name for it.
    pub label: String,
}

/// One object as identity takes it: bounded, with its numbers read.
#[derive(Clone, PartialEq, Eq)]
pub struct NormalRecord {
    /// Which object.
    pub key: RecordKey,
    /// The CRM's update time; `None`: a click or a report, which knows none.
    pub updated_at: Option<DateTime<Utc>>,
    /// When the CRM answered for this very record, by its own clock; `None`: nobody asked it so.
    pub answered_at: Option<DateTime<Utc>>,
    /// Deleted in the CRM, merged away, or (a Lead) converted.
    pub is_gone: bool,
    /// The record that this one was merged into or, a Lead, converted into.
    pub successor: Option<RecordKey>,
    /// The name to show; empty only for a click or a report that says none.
    pub display_name: String,
    /// The organisation's name, possibly empty.
    pub organization: String,
    /// E-mail addresses; none holds a line break.
    pub emails: Vec<String>,
    /// At most [`NUMBERS_MAX`].
    pub numbers: Vec<NormalNumber>,
    /// The CRM's role, possibly empty.
    pub role: String,
    /// Where an agent opens it, possibly empty.
    pub url: String,
    /// The country of its address; its numbers were read by it.
    pub region: Option<Region>,
    /// Of all of the above; equal: nothing to write. `None`: a click or a report.
    pub fingerprint: Option<i64>,
}

/// Most numbers kept of one record.
pub const NUMBERS_MAX: usize = 64;
/// Most e-mail addresses kept of one record.
pub const EMAILS_MAX: usize = 32;

/// A phone number that has been read.
#[derive(Clone, PartialEq, Eq)]
pub struct NormalNumber {
    /// As written, at most 250 bytes.
    pub raw: String,
    /// The CRM's name for it.
    pub label: String,
    /// The region it was read with, for reading it again after a change of rules.
    pub region: Option<Region>,
    /// Its key; `None`: not a number that can be called.
    pub key: Option<PhoneKey>,
    /// Extension digits, possibly empty.
    pub extension: String,
    /// Its digits, where another region or none may be meant.
    pub local_digits: Option<i64>,
}

// Personal data stays out of logs, also by accident.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("key", &self.key).field("is_gone", &self.is_gone).finish_non_exhaustive()
    }
}

impl fmt::Debug for NormalRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NormalRecord").field("key", &self.key).field("is_gone", &self.is_gone).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_objects_are_read_as_they_are_written() {
        for kind in ObjectType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        assert!("contact".parse::<ObjectType>().is_err() && ObjectType::Contact < ObjectType::Lead);
    }

    #[test]
    fn smallest_record_id_is_the_smallest_number() {
        let key = |record_id: &str| RecordKey { object_type: ObjectType::User, record_id: record_id.to_owned() };

        assert!(key("999").rank() < key("1000").rank());
    }
}
