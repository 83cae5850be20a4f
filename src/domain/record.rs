//! What any CRM tells us about one object, in words that no vendor owns.
//! Ids and object types are checked here, so that nothing behind this point sees an impossible one.

use std::fmt;

use chrono::{DateTime, Utc};
use phone_key::{PhoneKey, Region};
use thiserror::Error;

use super::integration::Provider;

/// Most characters of a record id: Salesforce needs 18, Zendesk and Pipedrive 20.
pub const RECORD_ID_CHARS_MAX: usize = 64;

/// The kinds of CRM objects that stand for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectType {
    /// Zendesk.
    User,
    /// Salesforce; person accounts are Contacts too. Before `Lead`: the better requester.
    Contact,
    /// Salesforce.
    Lead,
    /// Pipedrive.
    Person,
}

impl ObjectType {
    /// The vendor's own spelling; also what is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Contact => "Contact",
            Self::Lead => "Lead",
            Self::Person => "person",
        }
    }

    /// Reads the stored spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Contact, Self::Lead, Self::Person].into_iter().find(|kind| kind.as_str() == text)
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

/// Names one object within an integration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// Its kind.
    pub object_type: ObjectType,
    /// The CRM's id, Salesforce's in its form of 18 characters.
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
    /// Reads a key as a client gives it.
    ///
    /// Salesforce ids of 15 characters get their three-character checksum (Salesforce, "18-digit ids"), so that both forms are one record.
    /// A person account is registered as its Contact; `Account` is refused with the reason.
    pub fn parse(provider: Provider, object_type: &str, record_id: &str) -> Result<Self, InvalidRecordKey> {
        if provider == Provider::Salesforce && object_type == "Account" {
            return Err(InvalidRecordKey::ObjectType(
                "an Account is not a person; register a person account as its Contact, with the id that begins with 003".to_owned(),
            ));
        }
        let object_type =
            ObjectType::parse(object_type).filter(|kind| kind.provider() == provider).ok_or_else(|| {
                let known = match provider {
                    Provider::Zendesk => "`user`",
                    Provider::Salesforce => "`Contact` or `Lead`",
                    Provider::Pipedrive => "`person`",
                };
                InvalidRecordKey::ObjectType(format!("{provider} has no such object here; use {known}"))
            })?;
        let record_id = match provider {
            Provider::Salesforce => salesforce_id(object_type, record_id)?,
            Provider::Zendesk | Provider::Pipedrive => decimal_id(record_id)?,
        };
        Ok(Self { object_type, record_id })
    }

    /// The order of "smallest record id": shorter first, then by character, which for decimal ids is the order of numbers.
    pub fn rank(&self) -> (usize, &str) {
        (self.record_id.len(), &self.record_id)
    }
}

fn decimal_id(text: &str) -> Result<String, InvalidRecordKey> {
    let is_decimal =
        (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if is_decimal {
        Ok(text.to_owned())
    } else {
        Err(InvalidRecordKey::RecordId("must be a whole number above 0, as the CRM shows it".to_owned()))
    }
}

fn salesforce_id(object_type: ObjectType, text: &str) -> Result<String, InvalidRecordKey> {
    let wrong = |reason: &str| Err(InvalidRecordKey::RecordId(reason.to_owned()));
    if !matches!(text.len(), 15 | 18) || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return wrong("must be a Salesforce id of 15 or 18 letters and digits");
    }
    let full = salesforce_id_18(&text[..15]);
    if text.len() == 18 && !full.eq_ignore_ascii_case(text) {
        return wrong("is not a Salesforce id: its last three characters do not fit the first fifteen");
    }
    let prefix = if object_type == ObjectType::Contact { "003" } else { "00Q" };
    if !full.starts_with(prefix) {
        return Err(InvalidRecordKey::RecordId(format!("the id of a {} begins with {prefix}", object_type.as_str())));
    }
    Ok(full)
}

/// Adds the checksum: per five characters, a bit for each capital letter, written as one of A-Z0-5.
pub(super) fn salesforce_id_18(id_15: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    let checksum = id_15.as_bytes().chunks(5).map(|chunk| {
        let capitals = chunk.iter().enumerate().filter(|(_, b)| b.is_ascii_uppercase());
        char::from(ALPHABET[capitals.fold(0, |bits, (place, _)| bits | 1 << place)])
    });
    id_15.chars().chain(checksum).collect()
}

/// One object as a CRM sent it, before normalisation.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Which object.
    pub key: RecordKey,
    /// The CRM's update time; decides which of two copies is newer.
    pub updated_at: DateTime<Utc>,
    /// Deleted in the CRM, merged away, or (a Lead) converted.
    pub is_gone: bool,
    /// The record that this one was merged into or, a Lead, converted into; the CRM names it for records that are gone.
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

    /// Both forms of a Salesforce id are one record.
    #[test]
    fn both_salesforce_id_forms_are_one_record() {
        let short = RecordKey::parse(Provider::Salesforce, "Contact", "003D000000QV9n2").unwrap();
        let long = RecordKey::parse(Provider::Salesforce, "Contact", "003D000000QV9n2IAD").unwrap();
        let shouted = RecordKey::parse(Provider::Salesforce, "Contact", "003D000000QV9n2iad").unwrap();

        assert_eq!(short, long);
        assert_eq!(shouted, long);
        assert_eq!(long.record_id, "003D000000QV9n2IAD");
    }

    #[test]
    fn an_account_is_refused_with_the_reason() {
        let refused = RecordKey::parse(Provider::Salesforce, "Account", "001D000000IRFmaIAH").unwrap_err();

        assert!(refused.to_string().contains("003"), "{refused}");
    }

    /// Ids of the wrong form or kind are refused.
    #[test]
    fn ids_of_wrong_form_or_kind_are_refused() {
        for (provider, object_type, record_id) in [
            (Provider::Zendesk, "user", "0"),
            (Provider::Zendesk, "user", "007"),
            (Provider::Zendesk, "user", "12a"),
            (Provider::Zendesk, "user", ""),
            (Provider::Zendesk, "user", "123456789012345678901"),
            (Provider::Zendesk, "person", "1"),
            (Provider::Pipedrive, "person", "-1"),
            (Provider::Salesforce, "Contact", "00QD000000QV9n2"),
            (Provider::Salesforce, "Lead", "003D000000QV9n2"),
            (Provider::Salesforce, "Contact", "003D000000QV9n2AAA"),
            (Provider::Salesforce, "Contact", "003D000000QV9n"),
        ] {
            assert!(
                RecordKey::parse(provider, object_type, record_id).is_err(),
                "{provider} {object_type} {record_id}"
            );
        }
    }

    #[test]
    fn smallest_record_id_is_the_smallest_number() {
        let small = RecordKey::parse(Provider::Zendesk, "user", "999").unwrap();
        let large = RecordKey::parse(Provider::Zendesk, "user", "1000").unwrap();

        assert!(small.rank() < large.rank());
    }
}
