//! The kept events of one object, in order, and the ids of places among them. Owns: how long and
//! how many events are kept, the form of replay ids.

use std::{collections::VecDeque, sync::Arc};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::schema::EventSchema;
use crate::salesforce::{objects::ObjectKind, record::Millis};

/// Events are kept so long, by the organisation's clock.
const KEPT: Millis = 72 * 3_600_000;
/// Events of one topic that are kept at most.
const EVENTS_MAX: usize = 200_000;
/// Objects that can be selected.
pub(super) const CAPTURABLE: [ObjectKind; 3] = [ObjectKind::Account, ObjectKind::Contact, ObjectKind::Lead];

/// An event as it is delivered.
pub(super) struct BusEvent {
    pub(super) id: String,
    pub(super) schema_id: String,
    pub(super) payload: Vec<u8>,
}

/// A place in a topic that was given out.
pub(super) struct TopicEntry {
    pub(super) number: u64,
    pub(super) at: Millis,
    pub(super) ready_at: Instant,
    /// Nothing: only a place.
    pub(super) event: Option<Arc<BusEvent>>,
    /// Whoever reads it learns more than a time.
    pub(super) is_telling: bool,
}

/// One object's events.
pub(super) struct EventTopic {
    pub(super) is_captured: bool,
    /// The newest is last; older events keep theirs.
    pub(super) schemas: Vec<Arc<EventSchema>>,
    pub(super) entries: VecDeque<TopicEntry>,
}

impl EventTopic {
    pub(super) fn schema(&self) -> Option<&Arc<EventSchema>> {
        self.schemas.last()
    }

    /// Where what follows a place begins.
    pub(super) fn after(&self, number: u64) -> usize {
        self.entries.partition_point(|entry| entry.number <= number)
    }

    pub(super) fn tip(&self) -> u64 {
        self.entries.back().map_or(0, |entry| entry.number)
    }

    /// The newest place up to this number by whose event anybody learns more than a time.
    pub(super) fn newest_telling(&self, number: u64) -> Option<u64> {
        let mut entries = self.entries.range(..self.after(number)).rev();
        entries.find(|entry| entry.is_telling).map(|entry| entry.number)
    }

    /// The newest event from then or before.
    pub(super) fn newest_until(&self, then: Millis) -> Option<u64> {
        self.entries.iter().rev().find(|entry| entry.at <= then).map(|entry| entry.number)
    }

    pub(super) fn expire(&mut self, now: Millis) {
        while self.entries.front().is_some_and(|entry| entry.at < now - KEPT) || self.entries.len() > EVENTS_MAX {
            self.entries.pop_front();
        }
    }
}

/// Turns places into replay ids and back.
#[derive(Clone, Copy)]
pub(super) struct PlaceCipher {
    /// What every replay id begins with.
    salt: [u8; 4],
    /// What hides the number.
    key: u64,
}

impl PlaceCipher {
    pub(super) fn roll(dice: &mut ChaCha8Rng) -> Self {
        Self { salt: dice.next_u32().to_be_bytes(), key: dice.next_u64() }
    }

    pub(super) fn replay_id(self, number: u64) -> Vec<u8> {
        self.salt.into_iter().chain((number ^ self.key).to_be_bytes()).collect()
    }

    /// The number of an id that looks like one of these; it may never have been given out.
    pub(super) fn number(self, replay_id: &[u8]) -> Option<u64> {
        let hidden = u64::from_be_bytes(replay_id.strip_prefix(&self.salt)?.try_into().ok()?);
        Some(hidden ^ self.key)
    }
}

/// `/data/ContactChangeEvent`.
pub(super) fn topic_name(kind: ObjectKind) -> String {
    format!("/data/{}ChangeEvent", kind.name())
}
