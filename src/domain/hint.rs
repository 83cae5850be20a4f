//! Hints: a record may have changed in its CRM. A hint is no data: the record is asked for, and
//! what the CRM says is taken in like a page's. How several become one, and too many become one
//! poll, is decided here; the table is `store::hints`'.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use strum::{EnumString, IntoStaticStr};
use uuid::Uuid;

use super::{
    ids::{AccountId, IntegrationId},
    record::RecordKey,
};

/// Most hints of one integration that wait; more become one of the whole integration. Writers that
/// do not see each other may pass it by as much as they write at once. As many again wait of
/// records that were merged: lists may name no winner, so no poll brings what their events say.
pub const HINTS_MAX: usize = 500;

/// Who says that a record may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum HintReason {
    /// The CRM, by an event that it has pushed.
    Event,
    /// A call that found nobody, and a search in the CRM.
    Miss,
    /// A copy that cannot be put in order with what is held.
    Conflict,
    /// An operator: at once, whatever was tried before.
    Operator,
}

impl HintReason {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One hint, as somebody gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHint {
    /// Which record; `None`: any of the integration, which is to be polled.
    pub key: Option<RecordKey>,
    /// Who says so.
    pub reason: HintReason,
    /// When it changed, by the CRM's clock; `None`: not told.
    pub event_time: Option<DateTime<Utc>>,
    /// The CRM's update time that the record has at least: an answer that is older is asked for
    /// again. `None`: not told.
    pub record_updated_at: Option<DateTime<Utc>>,
    /// What the record was merged into, where the event says so and the record does not.
    pub successor: Option<RecordKey>,
    /// Not looked at before then; `None`: at once.
    pub not_before: Option<DateTime<Utc>>,
}

impl NewHint {
    /// Of a record, and no more is known.
    pub fn of_record(key: RecordKey, reason: HintReason) -> Self {
        Self { key: Some(key), ..Self::of_integration(reason, None) }
    }

    /// Of the whole integration.
    pub const fn of_integration(reason: HintReason, event_time: Option<DateTime<Utc>>) -> Self {
        Self { key: None, reason, event_time, record_updated_at: None, successor: None, not_before: None }
    }

    /// When it is to be looked at: a poll only once the CRM's lists show the change.
    fn due_at(&self, listing_lag: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.key.is_some() {
            return self.not_before.unwrap_or(now);
        }
        // A CRM whose clock is ahead does not put it off.
        let changed_at = self.event_time.map_or(now, |time| time.min(now));
        self.not_before.unwrap_or(now).max(changed_at + listing_lag)
    }

    /// Takes another one of the same record in.
    fn absorb(&mut self, other: &Self) {
        self.reason = self.reason.max(other.reason);
        // Deliveries come in any order: what was said last holds, not what came last.
        if other.successor.is_some() && (self.successor.is_none() || other.event_time >= self.event_time) {
            self.successor.clone_from(&other.successor);
        }
        self.event_time = self.event_time.max(other.event_time);
        self.record_updated_at = self.record_updated_at.max(other.record_updated_at);
        self.not_before =
            if self.reason == HintReason::Operator { None } else { self.not_before.min(other.not_before) };
    }
}

/// Hints of one integration, to be written by one statement.
#[derive(Debug, Clone)]
pub struct HintBatch<'a> {
    /// Whose.
    pub account_id: AccountId,
    /// Of which CRM organisation.
    pub integration_id: IntegrationId,
    /// One record may be among them several times.
    pub hints: &'a [NewHint],
    /// The CRM's: see
    /// [`ProviderDescriptor::listing_lag`](super::descriptor::ProviderDescriptor::listing_lag).
    pub listing_lag: TimeDelta,
    /// Of this write; no other has it.
    pub write_id: Uuid,
    /// The time.
    pub now: DateTime<Utc>,
}

impl HintBatch<'_> {
    /// What is written while so many wait: each record once, in the order of their keys, with when
    /// it is due, and the whole integration last; too many are one hint of the whole integration,
    /// but for merges ([`HINTS_MAX`]).
    pub fn merged(&self, waiting: usize) -> Vec<(NewHint, DateTime<Utc>)> {
        let mut merged: BTreeMap<Option<&RecordKey>, NewHint> = BTreeMap::new();
        for hint in self.hints {
            merged.entry(hint.key.as_ref()).and_modify(|known| known.absorb(hint)).or_insert_with(|| hint.clone());
        }
        let mut kept: Vec<NewHint> = merged.into_values().collect();
        if waiting.saturating_add(kept.len()) > HINTS_MAX {
            let (with_winner, others): (Vec<_>, Vec<_>) = kept.into_iter().partition(|hint| hint.successor.is_some());
            let fits = waiting.saturating_add(with_winner.len()) <= 2 * HINTS_MAX;
            let (named, folded) =
                if fits { (with_winner, others) } else { (Vec::new(), [with_winner, others].concat()) };
            kept = named;
            kept.extend(whole_of(folded));
        }
        let mut rows: Vec<_> = kept.into_iter().map(|hint| self.with_time(hint)).collect();
        rows.sort_by_key(|(hint, _)| hint.key.is_none());
        rows
    }

    fn with_time(&self, hint: NewHint) -> (NewHint, DateTime<Utc>) {
        let due_at = hint.due_at(self.listing_lag, self.now);
        (hint, due_at)
    }
}

/// One hint of the whole integration in the place of these.
fn whole_of(hints: Vec<NewHint>) -> Option<NewHint> {
    let folded = hints.into_iter().reduce(|mut all, hint| {
        all.absorb(&hint);
        all
    })?;
    Some(NewHint::of_integration(folded.reason, folded.event_time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::ObjectType;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_796_000_000 + seconds, 0).unwrap()
    }

    fn key(record_id: usize) -> RecordKey {
        RecordKey { object_type: ObjectType::User, record_id: record_id.to_string() }
    }

    fn event(record_id: usize, time: i64) -> NewHint {
        NewHint { event_time: Some(at(time)), ..NewHint::of_record(key(record_id), HintReason::Event) }
    }

    fn merged(hints: &[NewHint], waiting: usize) -> Vec<(NewHint, DateTime<Utc>)> {
        let batch = HintBatch {
            account_id: AccountId(Uuid::nil()),
            integration_id: IntegrationId(Uuid::nil()),
            hints,
            listing_lag: TimeDelta::seconds(65),
            write_id: Uuid::nil(),
            now: at(100),
        };
        batch.merged(waiting)
    }

    #[test]
    fn hints_of_one_record_become_one() {
        let merge = NewHint { successor: Some(key(9)), ..event(1, 3) };

        let rows = merged(&[event(2, 1), event(1, 5), merge, event(1, 4)], 0);

        let (first, due_at) = &rows[0];
        assert_eq!(rows.len(), 2);
        assert_eq!((&first.key, first.event_time, &first.successor), (&Some(key(1)), Some(at(5)), &Some(key(9))));
        assert_eq!(*due_at, at(100), "a record is asked for at once");
    }

    /// A hint of the whole integration waits until the CRM's lists show the change.
    #[test]
    fn too_many_hints_become_one_poll_after_lag() {
        let many: Vec<NewHint> = (0..200).map(|n| event(n, n.try_into().unwrap())).collect();

        assert_eq!(merged(&many, HINTS_MAX - 200).len(), 200);
        let rows = merged(&many, HINTS_MAX - 199);

        assert_eq!(rows.len(), 1);
        let (whole, due_at) = &rows[0];
        assert_eq!((&whole.key, whole.event_time), (&None, Some(at(199))));
        assert_eq!(*due_at, at(165), "a clock ahead of ours does not put it off");
    }

    /// Deliveries come in any order.
    #[test]
    fn successor_that_was_told_last_holds() {
        let into = |winner, time| NewHint { successor: Some(key(winner)), ..event(1, time) };

        for hints in [[into(8, 1), into(9, 2)], [into(9, 2), into(8, 1)]] {
            assert_eq!(merged(&hints, 0)[0].0.successor, Some(key(9)), "{hints:?}");
        }
        assert_eq!(merged(&[event(1, 5), into(9, 2)], 0)[0].0.successor, Some(key(9)));
    }

    /// Lists do not say who won.
    #[test]
    fn merges_are_not_folded_with_the_rest() {
        let merge = NewHint { successor: Some(key(9)), ..event(1, 3) };
        let hints = [merge.clone(), event(2, 4)];

        let rows = merged(&hints, HINTS_MAX);
        assert_eq!(rows.iter().map(|(hint, _)| hint.key.clone()).collect::<Vec<_>>(), [Some(key(1)), None]);
        assert_eq!(rows[0].0.successor, merge.successor);
        let rows = merged(&hints, 2 * HINTS_MAX);
        assert_eq!(rows.iter().map(|(hint, _)| hint.key.clone()).collect::<Vec<_>>(), [None], "bounded all the same");
        assert_eq!(merged(&[merge], HINTS_MAX).len(), 1, "nothing is folded, so nothing is polled");
    }

    #[test]
    fn operators_word_overrules_what_was_put_off() {
        let put_off = NewHint { not_before: Some(at(200)), ..event(1, 0) };
        let rows = merged(&[put_off.clone(), NewHint::of_record(key(1), HintReason::Operator)], 0);
        assert_eq!((rows[0].0.reason, rows[0].1), (HintReason::Operator, at(100)));
        assert_eq!(merged(&[put_off], 0)[0].1, at(200));
    }
}
