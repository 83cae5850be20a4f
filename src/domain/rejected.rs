//! What a page of a CRM could not give: a record that cannot be read, or values that a copied
//! record lacks.

use std::fmt;

use strum::{EnumString, IntoStaticStr, VariantArray};

use super::record::{ObjectType, RecordKey};

/// Bytes that are kept of one raw record.
pub const RAW_BYTES_MAX: usize = 16 * 1024;
/// Rejected records that are kept of one page, and of one integration; more are counted.
pub const KEPT_MAX: usize = 1_000;
/// Names of fields that one rejected record tells.
const FIELDS_MAX: usize = 8;
/// Longest text of those names, in bytes.
const FIELDS_BYTES_MAX: usize = 200;

/// Why a record, or a value of it, was not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum RejectReason {
    /// The row is null, a number, a list: anything but an object.
    NotAnObject,
    /// It does not say which record it is.
    IdUnreadable,
    /// It does not say when it was changed: whether it is newer than what is here cannot be known.
    TimeUnreadable,
    /// A line of CSV that has not as many columns as the first one.
    ColumnsUnreadable,
    /// A value of a kind that the field cannot have, or a number with a character in it that cannot
    /// be read.
    ValueUnreadable,
    /// More numbers than are kept of one record.
    TooManyNumbers,
    /// The CRM left out what it was asked to send beside the records.
    NumbersMissing,
}

impl RejectReason {
    /// As stored and as answers say it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A record that could not be read, or not wholly.
#[derive(Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Its kind.
    pub object_type: ObjectType,
    /// Its id; `None`: it has none that can be read.
    pub record_id: Option<String>,
    /// Why.
    pub reason: RejectReason,
    /// The fields that this is about; possibly empty.
    pub fields: String,
    /// The record itself was copied, without these values.
    pub is_copied: bool,
    /// A phone number may be among what was not copied.
    pub hides_number: bool,
    /// As the CRM sent it, at most [`RAW_BYTES_MAX`].
    pub raw: String,
}

impl RejectedRecord {
    /// Which record it is; `None`: it does not say.
    pub fn key(&self) -> Option<RecordKey> {
        let record_id = self.record_id.clone()?;
        Some(RecordKey { object_type: self.object_type, record_id })
    }
}

// Personal data stays out of logs, also by accident.
impl fmt::Debug for RejectedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectedRecord")
            .field("object_type", &self.object_type)
            .field("record_id", &self.record_id)
            .field("reason", &self.reason)
            .field("fields", &self.fields)
            .field("is_copied", &self.is_copied)
            .finish_non_exhaustive()
    }
}

/// Values of one record that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValueLosses {
    reason: Option<RejectReason>,
    fields: Vec<String>,
    /// How many values.
    pub values: usize,
    /// A phone number may be among them.
    pub hides_number: bool,
}

impl ValueLosses {
    /// One value of this field.
    pub fn add(&mut self, reason: RejectReason, field: &str, hides_number: bool) {
        self.values += 1;
        self.hides_number |= hides_number;
        self.reason.get_or_insert(reason);
        if self.fields.len() < FIELDS_MAX && !self.fields.iter().any(|known| known == field) {
            self.fields.push(field.to_owned());
        }
    }

    /// Those of another part of the same record.
    pub fn absorb(&mut self, other: &Self) {
        self.values += other.values;
        self.hides_number |= other.hides_number;
        self.reason = self.reason.or(other.reason);
        for field in &other.fields {
            if self.fields.len() < FIELDS_MAX && !self.fields.contains(field) {
                self.fields.push(field.clone());
            }
        }
    }

    /// A value that is no number.
    pub fn value(&mut self, field: &str) {
        self.add(RejectReason::ValueUnreadable, field, false);
    }

    /// A value that may be a number.
    pub fn number(&mut self, field: &str) {
        self.add(RejectReason::ValueUnreadable, field, true);
    }
}

/// What a page could not give.
#[derive(Debug, Default)]
pub struct PageRejects {
    /// Records that were not copied.
    pub records: usize,
    /// Values that copied records lack.
    pub values: usize,
    /// Of both, those that may hide a number.
    pub hidden_numbers: usize,
    /// Characters that were replaced, since their bytes are none.
    pub characters: usize,
    /// The first [`KEPT_MAX`] of both.
    pub kept: Vec<RejectedRecord>,
    /// Those beyond.
    pub left_out: usize,
}

impl PageRejects {
    /// A record that is not copied.
    pub fn reject(
        &mut self,
        object_type: ObjectType,
        record_id: Option<String>,
        reason: RejectReason,
        field: &str,
        raw: &str,
    ) {
        self.records += 1;
        self.hidden_numbers += 1;
        self.keep(object_type, record_id, reason, field, true, false, raw);
    }

    /// A record that is copied without some of its values.
    pub fn lose(&mut self, object_type: ObjectType, record_id: Option<String>, losses: &ValueLosses, raw: &str) {
        let Some(reason) = losses.reason else { return };
        self.values += losses.values;
        self.hidden_numbers += usize::from(losses.hides_number);
        let fields = losses.fields.join(", ");
        self.keep(object_type, record_id, reason, &fields, losses.hides_number, true, raw);
    }

    /// Nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.records == 0 && self.values == 0 && self.characters == 0
    }

    /// Adds another page's.
    pub fn absorb(&mut self, other: Self) {
        self.records += other.records;
        self.values += other.values;
        self.hidden_numbers += other.hidden_numbers;
        self.characters += other.characters;
        let room = KEPT_MAX.saturating_sub(self.kept.len());
        self.left_out += other.left_out + other.kept.len().saturating_sub(room);
        self.kept.extend(other.kept.into_iter().take(room));
    }

    /// The records among those that are kept which say who they are.
    pub fn keys(&self) -> impl Iterator<Item = RecordKey> {
        self.kept.iter().filter_map(RejectedRecord::key)
    }

    #[expect(clippy::too_many_arguments, reason = "the one place that builds them")]
    fn keep(
        &mut self,
        object_type: ObjectType,
        record_id: Option<String>,
        reason: RejectReason,
        fields: &str,
        hides_number: bool,
        is_copied: bool,
        raw: &str,
    ) {
        if self.kept.len() >= KEPT_MAX {
            self.left_out += 1;
            return;
        }
        let fields = fields[..fields.floor_char_boundary(FIELDS_BYTES_MAX)].to_owned();
        let raw = raw[..raw.floor_char_boundary(RAW_BYTES_MAX)].to_owned();
        self.kept.push(RejectedRecord { object_type, record_id, reason, fields, is_copied, hides_number, raw });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of a page is bounded, and all is counted.
    #[test]
    fn kept_of_page_is_bounded_all_is_counted() {
        let mut rejects = PageRejects::default();
        let raw = "é".repeat(RAW_BYTES_MAX);
        for _ in 0..KEPT_MAX + 5 {
            rejects.reject(ObjectType::User, None, RejectReason::IdUnreadable, "id", &raw);
        }

        assert_eq!((rejects.records, rejects.kept.len(), rejects.left_out), (KEPT_MAX + 5, KEPT_MAX, 5));
        assert!(rejects.kept.iter().all(|kept| kept.raw.len() <= RAW_BYTES_MAX));
    }

    /// A rejected record is never printed with its content.
    #[test]
    fn rejected_record_never_prints_its_content() {
        let mut rejects = PageRejects::default();
        rejects.reject(ObjectType::User, None, RejectReason::IdUnreadable, "id", "{\"phone\":\"+13108675309\"}");

        assert!(!format!("{rejects:?}").contains("310867"));
    }

    #[test]
    fn a_reason_reads_back_as_it_is_written() {
        for reason in RejectReason::VARIANTS {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
    }
}
