//! What a change event may have changed of what is copied. Pure. A doubt is a change: an event that
//! is taken for one too many costs a look, and one too few a stale contact.

use chrono::{DateTime, TimeDelta, Utc};

use super::avro::{ChangeHeader, HeaderLayout};
use crate::{
    crm::{
        EventCounts, EventReach, StreamBatch, TouchedRecord,
        salesforce::{descriptor::DESCRIPTOR, fields::UntrackedFields},
    },
    domain::{
        record::{ObjectType, RecordKey},
        stream::StreamPlace,
    },
};

/// Records that one batch names; more are told as anything at all, and come by one poll.
const RECORDS_MAX: usize = 25;
/// Of an overflow: no record's id.
const NO_RECORD: &str = "000000000000000AAA";
/// A row is stamped while its transaction runs, and the event when that ends. An answer that was
/// stamped longer before its event is the row as it was before: Salesforce's queries may show that
/// for some seconds more. A transaction that lasts longer costs a few looks in vain.
const STAMPED_BEFORE_MAX: TimeDelta = TimeDelta::seconds(10);
/// 2000-01-01: an event from before has no time.
const EARLIEST_MS: i64 = 946_684_800_000;
/// 2100-01-01: nor has one from after.
const LATEST_MS: i64 = 4_102_444_800_000;

/// What one event may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChangeReach {
    /// It is of another kind of object.
    Foreign,
    /// Nothing that is copied.
    Untouched,
    /// These records.
    Records(Vec<RecordKey>),
    /// These records; Salesforce could not say what of them.
    Gap(Vec<RecordKey>),
    /// More than Salesforce tells.
    Overflow,
    /// It cannot be read, so that anything may have changed.
    Unreadable,
}

/// Reads what an event of this kind of object says.
pub(super) fn reach_of(
    object: ObjectType,
    header: &ChangeHeader,
    layout: &HeaderLayout,
    untracked: &UntrackedFields,
) -> ChangeReach {
    if header.entity != object.as_str() {
        return ChangeReach::Foreign;
    }
    let is_gap = match header.change_type.as_str() {
        "GAP_OVERFLOW" => return ChangeReach::Overflow,
        "GAP_CREATE" | "GAP_UPDATE" | "GAP_DELETE" | "GAP_UNDELETE" => true,
        "UPDATE" if is_untouched(header, &layout.names, untracked) => return ChangeReach::Untouched,
        "CREATE" | "UPDATE" | "DELETE" | "UNDELETE" => false,
        _ => return ChangeReach::Unreadable,
    };
    // A whole kind of records is written as its prefix and an asterisk.
    if header.record_ids.iter().any(|id| id.contains('*') || id == NO_RECORD) {
        return ChangeReach::Overflow;
    }
    let Some(rules) = DESCRIPTOR.objects.iter().find(|rules| rules.object_type == object) else {
        return ChangeReach::Foreign;
    };
    let keys: Result<Vec<RecordKey>, _> = header
        .record_ids
        .iter()
        .map(|id| (rules.parse_id)(id).map(|record_id| RecordKey { object_type: object, record_id }))
        .collect();
    match keys {
        Err(_) => ChangeReach::Unreadable,
        Ok(keys) if is_gap => ChangeReach::Gap(keys),
        Ok(keys) => ChangeReach::Records(keys),
    }
}

/// Whether an update has touched nothing that is copied. One that does not say what it has touched
/// may have touched anything.
fn is_untouched(header: &ChangeHeader, names: &[Box<str>], untracked: &UntrackedFields) -> bool {
    let Some(bitmaps) = &header.changed_fields else { return false };
    bitmaps.iter().all(|bitmap| {
        touched(bitmap, names).is_some_and(|touched| touched.iter().all(|name| untracked.contains(*name)))
    })
}

/// The fields of the record that a bitmap marks: `0x…`, where bit n is field n, or `<field>-0x…`,
/// whose bits are parts of that field. `None`: it cannot be read, or marks what the schema does not
/// have. Source: Salesforce, "Deserialize Bitmap Fields" of the Pub/Sub API.
fn touched<'n>(bitmap: &str, names: &'n [Box<str>]) -> Option<Vec<&'n str>> {
    let (parent, bits) = match bitmap.split_once('-') {
        Some((parent, bits)) => (Some(parent.parse::<usize>().ok()?), bits),
        None => (None, bitmap),
    };
    let digits = bits.strip_prefix("0x").or_else(|| bits.strip_prefix("0X"))?;
    let mut marked = Vec::new();
    for (at, digit) in digits.chars().rev().enumerate() {
        let digit = digit.to_digit(16)?;
        marked.extend((0..4_usize).filter(|bit| digit >> bit & 1 == 1).map(|bit| at * 4 + bit));
    }
    let name = |field: usize| names.get(field).map(|name| &**name);
    match parent {
        Some(_) if marked.is_empty() => Some(Vec::new()),
        Some(parent) => name(parent).map(|name| vec![name]),
        None => marked.into_iter().map(name).collect(),
    }
}

/// When it happened, if that can be.
pub(super) fn event_time(commit_ms: Option<i64>) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(commit_ms.filter(|ms| (EARLIEST_MS..LATEST_MS).contains(ms))?)
}

/// Events that came together.
#[derive(Debug, Default)]
pub(super) struct ChangeBatch {
    records: Vec<TouchedRecord>,
    is_everything: bool,
    counts: EventCounts,
    newest_event_at: Option<DateTime<Utc>>,
    /// So many came.
    pub(super) events: usize,
}

impl ChangeBatch {
    /// Takes an event in.
    pub(super) fn add(&mut self, reach: ChangeReach, event_at: Option<DateTime<Utc>>) {
        self.events += 1;
        self.newest_event_at = self.newest_event_at.max(event_at);
        match reach {
            ChangeReach::Foreign => self.counts.foreign += 1,
            ChangeReach::Untouched => self.counts.untouched += 1,
            ChangeReach::Records(keys) => {
                self.counts.hinted += 1;
                self.name(keys, event_at);
            }
            ChangeReach::Gap(keys) => {
                self.counts.gaps += 1;
                self.name(keys, event_at);
            }
            ChangeReach::Overflow => {
                self.counts.overflows += 1;
                self.is_everything = true;
            }
            ChangeReach::Unreadable => {
                self.counts.unreadable += 1;
                self.is_everything = true;
            }
        }
    }

    fn name(&mut self, keys: Vec<RecordKey>, event_at: Option<DateTime<Utc>>) {
        let updated_at = event_at.map(|at| at - STAMPED_BEFORE_MAX);
        for key in keys {
            if self.is_everything {
                return;
            }
            match self.records.iter_mut().find(|known| known.key == key) {
                Some(known) => known.updated_at = known.updated_at.max(updated_at),
                None => self.records.push(TouchedRecord { updated_at, ..TouchedRecord::of(key) }),
            }
            self.is_everything = self.records.len() > RECORDS_MAX;
        }
    }

    /// What they come to, up to this place.
    pub(super) fn end(self, place: StreamPlace) -> StreamBatch {
        let reach = match (self.is_everything, self.records.is_empty()) {
            (true, _) => EventReach::Everything,
            (false, true) => EventReach::Nothing,
            (false, false) => EventReach::Records(self.records),
        };
        StreamBatch { reach, place, newest_event_at: self.newest_event_at, counts: self.counts }
    }
}

#[cfg(test)]
mod tests;
