//! What tests say to the event bus, and what it tells them. Owns: the shapes, inside of the process
//! and under `/__control/eventbus` alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the bus behaves; by default as Salesforce's does when all is well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventBusPlan {
    /// By this chance, from 0 to 1, a change is never told of.
    pub loss: f64,
    /// By this chance an event is there twice.
    pub duplicates: f64,
    /// Events can be read so many milliseconds after their change.
    pub delay_ms: u32,
    /// Events wait until a test lets those go that are so old, by the organisation's clock; without
    /// it none waits.
    pub held_ms: Option<u32>,
    /// Equal changes of one transaction, one after the other, are one event with many ids.
    pub merge_equal: bool,
    /// Subscriptions stay open, and nobody hears anything.
    pub is_muted: bool,
    /// The headers of an answer to Subscribe come with the first message, not before.
    pub late_headers: bool,
    /// Deliveries in 24 hours, to all subscribers together.
    pub deliveries_max: u32,
}

impl Default for EventBusPlan {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicates: 0.0,
            delay_ms: 0,
            held_ms: None,
            merge_equal: true,
            is_muted: false,
            late_headers: true,
            // Of the largest editions.
            deliveries_max: 50_000,
        }
    }
}

/// Kinds of events that say which records changed and not how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapKind {
    /// Made.
    Create,
    /// Changed.
    Update,
    /// Put into the recycle bin.
    Delete,
    /// Taken out of it.
    Undelete,
}

impl GapKind {
    pub(super) fn change_type(self) -> &'static str {
        match self {
            Self::Create => "GAP_CREATE",
            Self::Update => "GAP_UPDATE",
            Self::Delete => "GAP_DELETE",
            Self::Undelete => "GAP_UNDELETE",
        }
    }
}

/// How a subscription began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriptionStart {
    /// `/data/ContactChangeEvent`.
    pub topic: String,
    /// `LATEST`, `EARLIEST`, `CUSTOM`.
    pub preset: &'static str,
    /// After which event, with `CUSTOM`.
    pub replay_id: Option<Vec<u8>>,
    /// How many events were asked for at first.
    pub asked: u32,
}

/// What the bus did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventBusReport {
    /// Open subscriptions by topic.
    pub subscribers: BTreeMap<String, usize>,
    /// The last 1,000 subscriptions that began, the newest last.
    pub starts: Vec<SubscriptionStart>,
    /// Refused subscriptions, and those that were ended by the allocation, by the word behind
    /// `sfdc.platform.eventbus.grpc.`
    pub refused: BTreeMap<String, u64>,
    /// Events that can be read, or could.
    pub published: u64,
    /// Events that were lost.
    pub lost: u64,
    /// Events that were delivered, to each subscriber anew.
    pub delivered: u64,
    /// Responses without events.
    pub beats: u64,
}

impl EventBusReport {
    /// Open subscriptions of all topics.
    pub fn open(&self) -> usize {
        self.subscribers.values().sum()
    }
}

/// What can be said to the bus from another process.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum EventBusOrder {
    Plan(EventBusPlan),
    Capture { object: String, is_captured: bool },
    Gap { object: String, ids: Vec<String>, kind: GapKind },
    Overflow { object: String },
    Wildcard { object: String },
    NewSchema { object: String },
    EndStreams { word: String },
    Refuse { word: String, times: u32 },
    CorruptPayloads { count: u32 },
    KeepAlive,
    DeliverDue,
    ResetStream,
}
