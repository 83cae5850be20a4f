//! Salesforce's event bus: changes of records as streams, over the Pub/Sub API (`eventbus.v1`).
//! Owns: what tests do with it. Read: `changes_of` (from changes to events), `schema` and `encode`
//! (their form), `bus` (which are kept and who has read what), `service` (the API), `serve` (TLS).
//! Invariant: events are in the order of the changes. Must not: change records.

mod bus;
mod changes_of;
mod control;
mod encode;
mod report;
mod schema;
mod serve;
mod service;
mod topic;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, time::Instant};

use super::{
    SalesforceConfig, SalesforceRefusal, objects::ObjectKind, record::Millis, schema::Schema, state::ChangeNote,
};
use crate::SimulatorClock;
use bus::{BusState, ReaderStep, StartPlace, TopicReader};
use topic::CAPTURABLE;

pub use report::{EventBusPlan, EventBusReport, GapKind, SubscriptionStart};
pub use serve::serve_eventbus;

/// The certificate that the event bus shows, for `localhost`, `127.0.0.1` and `::1`: PEM. Its key
/// is in this repository, so trust it in tests only.
pub const CERTIFICATE: &str = include_str!("localhost.pem");

/// The id that stands for all records when there were too many changes.
const NO_RECORD: &str = "000000000000000AAA";

/// The API's messages and its server.
pub(super) mod api {
    #![expect(
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::clone_on_ref_ptr,
        clippy::doc_lazy_continuation,
        unreachable_pub,
        reason = "generated code"
    )]

    tonic::include_proto!("eventbus.v1");
}

/// The event bus of a simulated organisation. It keeps events from the beginning, served or not.
pub struct EventBus {
    clock: SimulatorClock,
    state: Mutex<BusState>,
    /// Wakes subscriptions, and tests.
    changed: watch::Sender<()>,
}

impl EventBus {
    pub(super) fn new(config: &SalesforceConfig, schema: &Schema) -> Self {
        let plan = EventBusPlan { deliveries_max: config.deliveries_max, ..EventBusPlan::default() };
        Self {
            clock: Arc::clone(&config.clock),
            state: Mutex::new(BusState::new(config.seed, schema, &config.captured, plan)),
            changed: watch::Sender::new(()),
        }
    }

    // What the organisation says.

    /// One transaction's changes.
    pub(super) fn publish(&self, notes: &[ChangeNote], schema: &Schema) {
        let now = self.now();
        self.update(|state| state.publish(notes, schema, now, Instant::now()));
    }

    // What tests say.

    /// Changes how the bus behaves.
    pub fn change_plan(&self, change: impl FnOnce(&mut EventBusPlan)) {
        self.update(|state| change(&mut state.plan));
    }

    /// Selects an object for events, or not any more: then subscriptions to it end.
    pub fn capture(&self, object: &str, is_captured: bool) -> Result<(), SalesforceRefusal> {
        let kind = capturable(object)?;
        self.update(|state| state.capture(kind, is_captured));
        Ok(())
    }

    /// Tells that records changed and not how, as for changes that are too large. Is not lost.
    pub fn gap(&self, object: &str, ids: &[&str], kind: GapKind) -> Result<(), SalesforceRefusal> {
        self.put_gap(object, ids, kind.change_type())
    }

    /// Tells that too many records changed to name them.
    pub fn overflow(&self, object: &str) -> Result<(), SalesforceRefusal> {
        self.put_gap(object, &[NO_RECORD], "GAP_OVERFLOW")
    }

    /// Tells of changes by the first letters of the ids alone.
    pub fn wildcard(&self, object: &str) -> Result<(), SalesforceRefusal> {
        let ids = format!("{}*", capturable(object)?.prefix());
        self.put_gap(object, &[&ids], GapKind::Update.change_type())
    }

    /// Gives an object one more field: events to come have another schema.
    pub fn new_schema(&self, object: &str) -> Result<(), SalesforceRefusal> {
        let kind = capturable(object)?;
        self.update(|state| state.add_field(kind));
        Ok(())
    }

    /// Ends every open subscription with an error: a word as it stands behind
    /// `sfdc.platform.eventbus.grpc.`, or none.
    pub fn end_streams(&self, word: &str) {
        self.update(|state| state.end_all(word));
    }

    /// Refuses the next subscriptions so many times, with such a word.
    pub fn refuse(&self, word: &str, times: u32) {
        self.update(|state| state.refuse(word, times));
    }

    /// Lets held events go that are as old as [`EventBusPlan::held_ms`] says.
    pub fn deliver_due(&self) {
        let now = self.now();
        self.update(|state| state.let_go(now));
    }

    /// Whether a stream of an object that stands at this place has brought all that it could, but
    /// for events that tell nothing but a time of change.
    pub fn is_read(&self, object: &str, place: &[u8]) -> Result<bool, SalesforceRefusal> {
        let kind = capturable(object)?;
        Ok(self.lock().is_read(kind, place))
    }

    /// Makes the payloads of the next events unreadable.
    pub fn corrupt_payloads(&self, count: u32) {
        self.update(|state| state.corrupt(count));
    }

    /// Sends every open subscription that has nothing to read a response without events now,
    /// instead of within 270 seconds.
    pub fn keep_alive(&self) {
        self.update(BusState::beat);
    }

    /// Forgets every event and every replay id and ends the subscriptions, as when the organisation
    /// moves to another instance.
    pub fn reset_stream(&self) {
        self.update(|state| {
            state.reset();
            state.end_all("service.unavailable");
        });
    }

    /// What the bus did so far.
    pub fn report(&self) -> EventBusReport {
        self.lock().report.clone()
    }

    /// Waits until the report is like this. Waits for ever if it never is: bound it by the test's
    /// own limit.
    pub async fn until(&self, mut condition: impl FnMut(&EventBusReport) -> bool) -> EventBusReport {
        let mut changed = self.changed.subscribe();
        loop {
            let report = self.report();
            if condition(&report) {
                return report;
            }
            changed.changed().await.expect("the sender lives as long as the bus");
        }
    }

    // What subscriptions do.

    fn subscribe(&self, kind: ObjectKind, start: &StartPlace<'_>, asked: u32) -> Result<TopicReader, String> {
        let now = self.now();
        self.update(|state| state.subscribe(kind, start, asked, now, Instant::now()))
    }

    fn step(&self, reader: &mut TopicReader) -> ReaderStep {
        let now = self.now();
        let step = self.lock().step(reader, now, Instant::now());
        if !matches!(step, ReaderStep::Wait(_)) {
            self.changed.send_replace(());
        }
        step
    }

    fn put_gap(&self, object: &str, ids: &[&str], change_type: &'static str) -> Result<(), SalesforceRefusal> {
        let (kind, now) = (capturable(object)?, self.now());
        let put = self.update(|state| state.gap(kind, ids, change_type, now, Instant::now()));
        put.ok_or_else(|| SalesforceRefusal::unsupported_object(object))
    }

    fn now(&self) -> Millis {
        (self.clock)().timestamp_millis()
    }

    fn update<T>(&self, change: impl FnOnce(&mut BusState) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.changed.send_replace(());
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, BusState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn capturable(object: &str) -> Result<ObjectKind, SalesforceRefusal> {
    let found = CAPTURABLE.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(object));
    found.ok_or_else(|| SalesforceRefusal::unsupported_object(object))
}
