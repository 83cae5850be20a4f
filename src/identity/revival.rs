//! Whether a live copy brings back a record that the CRM has said to be gone. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{domain::record::NormalRecord, store::contact_writes::refs::StoredRef};

/// The time of an answer is cut to whole seconds, and is another machine's than that of a change.
/// Within so much of each other nobody knows which was first.
const CLOCKS_APART_MAX: TimeDelta = TimeDelta::seconds(2);
/// No answer is on its way for so long: one from so long before the CRM said that the record is
/// gone means that the CRM's clock was wrong then.
const ANSWER_AGE_MAX: TimeDelta = TimeDelta::hours(1);

/// Whether this live copy, no older than what is held, is from after the CRM said that its record
/// is gone. False: it may be from before, and the CRM is to be asked for the record.
pub(super) fn is_newer(copy: &NormalRecord, held: &StoredRef) -> bool {
    let Some(gone_at) = held.gone_seen_at else {
        // Ended by a program that kept no time.
        return copy.answered_at.is_some();
    };
    // Of a deletion that a copy of the record has told, the time is the record's own.
    let is_own_time = held.record_updated_at == Some(gone_at);
    let bound = if is_own_time { gone_at } else { gone_at + CLOCKS_APART_MAX };
    copy.updated_at.is_some_and(|updated_at| updated_at > bound)
        || copy.answered_at.is_some_and(|answered_at| is_later_answer(answered_at, gone_at))
}

fn is_later_answer(answered_at: DateTime<Utc>, gone_at: DateTime<Utc>) -> bool {
    answered_at > gone_at || gone_at - answered_at > ANSWER_AGE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::{ObjectType, RecordKey};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + seconds, 0).unwrap()
    }

    fn key() -> RecordKey {
        RecordKey { object_type: ObjectType::Person, record_id: "7".to_owned() }
    }

    /// The last copy was of second 0, or the CRM has told the deletion by a copy of that second.
    fn gone(gone_seen_at: Option<i64>) -> StoredRef {
        StoredRef {
            key: key(),
            contact: None,
            is_contact_live: false,
            is_live: false,
            is_synced: true,
            record_updated_at: Some(at(0)),
            fingerprint: None,
            successor: None,
            gone_seen_at: gone_seen_at.map(at),
        }
    }

    fn live(updated_at: i64, answered_at: Option<i64>) -> NormalRecord {
        NormalRecord {
            key: key(),
            updated_at: Some(at(updated_at)),
            answered_at: answered_at.map(at),
            is_gone: false,
            successor: None,
            display_name: String::new(),
            organization: String::new(),
            emails: Vec::new(),
            numbers: Vec::new(),
            role: String::new(),
            url: String::new(),
            region: None,
            fingerprint: None,
        }
    }

    /// In a list, a copy must be newer than the deletion by more than clocks are apart.
    #[test]
    fn listed_copy_must_be_newer_than_answer_by_more_than_clocks_differ() {
        let told_by_answer = gone(Some(60));
        for (updated_at, is_revived) in [(0, false), (59, false), (60, false), (62, false), (63, true)] {
            assert_eq!(is_newer(&live(updated_at, None), &told_by_answer), is_revived, "{updated_at}");
        }
    }

    /// Two times of one record are of one clock: the later is later, and equal is not.
    #[test]
    fn listed_copy_newer_by_records_own_time_revives() {
        assert!(!is_newer(&live(0, None), &gone(Some(0))));
        assert!(is_newer(&live(1, None), &gone(Some(0))));
    }

    /// Whoever was asked for by id lives, if the answer is later; however old the copy is.
    #[test]
    fn later_answer_revives_however_old_its_copy() {
        for (answered_at, is_revived) in [(59, false), (60, false), (61, true)] {
            assert_eq!(is_newer(&live(0, Some(answered_at)), &gone(Some(60))), is_revived, "{answered_at}");
        }
    }

    /// A time that was told by a wrong clock holds nobody for ever.
    #[test]
    fn deletion_told_by_clock_far_ahead_is_undone_by_an_answer() {
        let year = 365 * 24 * 3_600;

        assert!(is_newer(&live(0, Some(61)), &gone(Some(year))));
        assert!(!is_newer(&live(61, None), &gone(Some(year))));
    }

    /// Of what an older program has ended nobody knows when: only an answer revives.
    #[test]
    fn deletion_without_time_is_undone_by_an_answer_alone() {
        assert!(!is_newer(&live(1_000, None), &gone(None)));
        assert!(is_newer(&live(0, Some(1)), &gone(None)));
    }
}
