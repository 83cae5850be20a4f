//! The events of one organisation by topic, and how far each subscription has come. Owns: the
//! events that are kept, their replay ids, the allocation of deliveries, what goes wrong. Pure:
//! times come with each call. Invariant: a replay id is good only if it was given out, by this bus,
//! within 72 hours.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::{
    changes_of::{RecordChange, changes_of},
    report::{EventBusPlan, EventBusReport, SubscriptionStart},
    schema::EventSchema,
    topic::{BusEvent, CAPTURABLE, EventTopic, PlaceCipher, TopicEntry, topic_name},
};
use crate::{
    faults::roll,
    salesforce::{objects::ObjectKind, record::Millis, schema::Schema, session::Usage, state::ChangeNote},
};

/// Events of one response at most: fewer than can be asked for.
const RESPONSE_EVENTS_MAX: usize = 50;
/// Events that a subscription can be owed.
pub(super) const OUTSTANDING_MAX: u32 = 100;
/// An open subscription hears something within this time.
const BEAT_EVERY: Duration = Duration::from_secs(270);
/// A subscription that is owed nothing ends after this time.
const STARVED_MAX: Duration = Duration::from_mins(1);
/// Starts that the report keeps.
const STARTS_MAX: usize = 1_000;

/// Words of refusals, as they stand behind `sfdc.platform.eventbus.grpc.`
pub(super) const LIMIT_EXCEEDED: &str = "subscription.limit.exceeded";
pub(super) const TOPIC_NOT_FOUND: &str = "topic.not.found";
pub(super) const PLACE_CORRUPTED: &str = "subscription.fetch.replayid.corrupted";
pub(super) const PLACE_MISSING: &str = "subscription.fetch.replayid.validation.failed";

/// How far a subscription has come.
pub(super) struct TopicReader {
    pub(super) kind: ObjectKind,
    /// What it read last; 0: nothing.
    position: u64,
    /// How many events it is owed.
    pub(super) outstanding: u32,
    endings: u64,
    beats: u64,
    heard_at: Instant,
    starved_at: Option<Instant>,
}

/// Where a subscription begins.
pub(super) enum StartPlace<'a> {
    Latest,
    Earliest,
    After(&'a [u8]),
}

/// What a subscription has to do now.
pub(super) enum ReaderStep {
    /// Send this: the events, each with its replay id, and the newest replay id of the topic.
    Send { events: Vec<(Vec<u8>, Arc<BusEvent>)>, latest: Vec<u8> },
    /// End with this word.
    End(String),
    /// End without an error.
    Close,
    /// Wait for a change, or until then.
    Wait(Option<Instant>),
}

pub(super) struct BusState {
    dice: ChaCha8Rng,
    cipher: PlaceCipher,
    last_number: u64,
    topics: BTreeMap<ObjectKind, EventTopic>,
    usage: Usage,
    pub(super) plan: EventBusPlan,
    pub(super) report: EventBusReport,
    /// How often all subscriptions were ended, and with which word the last time.
    endings: u64,
    ending: String,
    /// How often all subscriptions were told that they are alive.
    beats: u64,
    /// Refusals to come: word and how often.
    refusals: VecDeque<(String, u32)>,
    /// Payloads to come that nobody can read.
    corrupt: u32,
    /// Where events are held: the newest that anybody may read.
    let_go: u64,
}

impl BusState {
    pub(super) fn new(seed: u64, schema: &Schema, captured: &[String], plan: EventBusPlan) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let offered = schema.objects().map(|object| object.kind).filter(|kind| CAPTURABLE.contains(kind));
        let topic = |kind: ObjectKind| EventTopic {
            is_captured: captured.iter().any(|name| name.eq_ignore_ascii_case(kind.name())),
            schemas: vec![Arc::new(EventSchema::new(schema.object(kind)))],
            entries: VecDeque::new(),
        };
        Self {
            topics: offered.map(|kind| (kind, topic(kind))).collect(),
            cipher: PlaceCipher::roll(&mut dice),
            last_number: u64::from(dice.next_u32()) + 1,
            dice,
            usage: Usage::default(),
            plan,
            report: EventBusReport::default(),
            endings: 0,
            ending: String::new(),
            beats: 0,
            refusals: VecDeque::new(),
            corrupt: 0,
            let_go: 0,
        }
    }

    // What becomes known.

    /// Tells of what one transaction changed; some of it is lost or doubled, as the plan says.
    pub(super) fn publish(&mut self, notes: &[ChangeNote], schema: &Schema, now: Millis, instant: Instant) {
        let schema_of = |kind: ObjectKind| {
            let topic = self.topics.get(&kind).filter(|topic| topic.is_captured)?;
            topic.schema().map(Arc::as_ref)
        };
        let changes = changes_of(notes, schema, schema_of, self.plan.merge_equal);
        let transaction = self.uuid();
        for (change, sequence) in changes.into_iter().zip(1..) {
            if roll(&mut self.dice) < self.plan.loss {
                self.report.lost += 1;
                continue;
            }
            let copies = if roll(&mut self.dice) < self.plan.duplicates { 2 } else { 1 };
            for _ in 0..copies {
                self.put(&change, &transaction, sequence, now, instant);
            }
        }
    }

    /// Tells of a change without its values, whatever the plan says. `None`: no such topic.
    pub(super) fn gap(
        &mut self,
        kind: ObjectKind,
        ids: &[&str],
        change_type: &'static str,
        now: Millis,
        instant: Instant,
    ) -> Option<()> {
        let schema = Arc::clone(self.topics.get(&kind)?.schema()?);
        let change = RecordChange::gap(&schema, kind, ids, change_type, now);
        let transaction = self.uuid();
        self.put(&change, &transaction, 1, now, instant);
        Some(())
    }

    fn put(&mut self, change: &RecordChange, transaction: &str, sequence: i32, now: Millis, instant: Instant) {
        let (id, commit) = (self.uuid(), i64::from(self.dice.next_u32()));
        let number = self.next_number();
        let is_corrupt = self.corrupt > 0;
        self.corrupt = self.corrupt.saturating_sub(1);
        let ready_at = instant + Duration::from_millis(u64::from(self.plan.delay_ms));
        let Some(topic) = self.topics.get_mut(&change.kind) else { return };
        let Some(schema) = topic.schema() else { return };
        let mut payload = change.datum(schema, transaction, sequence, commit).to_bytes();
        if is_corrupt {
            // The first text says to be longer than any message.
            payload = vec![0xff; 9];
        }
        let event = BusEvent { id, schema_id: schema.id.clone(), payload };
        let (event, is_telling) = (Some(Arc::new(event)), change.is_telling);
        topic.entries.push_back(TopicEntry { number, at: now, ready_at, event, is_telling });
        topic.expire(now);
        self.report.published += 1;
    }

    // What is read.

    /// Lets a subscription begin. Errors: the word of the refusal.
    pub(super) fn subscribe(
        &mut self,
        kind: ObjectKind,
        start: &StartPlace<'_>,
        asked: u32,
        now: Millis,
        instant: Instant,
    ) -> Result<TopicReader, String> {
        let outcome = self.start(kind, start, now);
        let position = match outcome {
            Ok(position) => position,
            Err(word) => {
                self.count_refusal(&word);
                return Err(word);
            }
        };
        let (preset, replay_id) = match start {
            StartPlace::Latest => ("LATEST", None),
            StartPlace::Earliest => ("EARLIEST", None),
            StartPlace::After(id) => ("CUSTOM", Some(id.to_vec())),
        };
        let topic = topic_name(kind);
        *self.report.subscribers.entry(topic.clone()).or_default() += 1;
        if self.report.starts.len() >= STARTS_MAX {
            self.report.starts.remove(0);
        }
        self.report.starts.push(SubscriptionStart { topic, preset, replay_id, asked });
        Ok(TopicReader {
            kind,
            position,
            outstanding: asked.min(OUTSTANDING_MAX),
            endings: self.endings,
            beats: self.beats,
            heard_at: instant,
            starved_at: None,
        })
    }

    fn start(&mut self, kind: ObjectKind, start: &StartPlace<'_>, now: Millis) -> Result<u64, String> {
        if let Some(word) = self.next_refusal() {
            return Err(word);
        }
        if self.left(now) == 0 {
            return Err(LIMIT_EXCEEDED.to_owned());
        }
        let cipher = self.cipher;
        let topic = self.captured(kind).ok_or(TOPIC_NOT_FOUND)?;
        topic.expire(now);
        match start {
            StartPlace::Latest => Ok(topic.tip()),
            StartPlace::Earliest => Ok(0),
            StartPlace::After([]) => Err(PLACE_MISSING.to_owned()),
            StartPlace::After(id) => {
                let number = cipher.number(id).ok_or(PLACE_CORRUPTED)?;
                let found = topic.entries.binary_search_by_key(&number, |entry| entry.number);
                found.map(|_| number).map_err(|_| PLACE_CORRUPTED.to_owned())
            }
        }
    }

    /// What a subscription has to do now.
    pub(super) fn step(&mut self, reader: &mut TopicReader, now: Millis, instant: Instant) -> ReaderStep {
        if reader.endings < self.endings {
            return ReaderStep::End(self.ending.clone());
        }
        if self.captured(reader.kind).is_none() {
            return ReaderStep::End(TOPIC_NOT_FOUND.to_owned());
        }
        if self.plan.is_muted {
            return ReaderStep::Wait(None);
        }
        if reader.outstanding == 0 {
            let ends_at = *reader.starved_at.get_or_insert(instant) + STARVED_MAX;
            return if instant >= ends_at { ReaderStep::Close } else { ReaderStep::Wait(Some(ends_at)) };
        }
        reader.starved_at = None;
        let (left, let_go) = (self.left(now), self.readable_until());
        let Some(topic) = self.topics.get_mut(&reader.kind) else { return ReaderStep::Close };
        topic.expire(now);
        let owed = usize::try_from(reader.outstanding).unwrap_or_default().min(RESPONSE_EVENTS_MAX);
        let is_ready = |entry: &&TopicEntry| entry.ready_at <= instant && entry.number <= let_go;
        let ready = topic.entries.range(topic.after(reader.position)..).take_while(is_ready);
        let mut fetched: Vec<(u64, Arc<BusEvent>)> =
            ready.filter_map(|entry| Some((entry.number, Arc::clone(entry.event.as_ref()?)))).take(owed).collect();
        if !fetched.is_empty() {
            if left == 0 {
                self.count_refusal(LIMIT_EXCEEDED);
                return ReaderStep::End(LIMIT_EXCEEDED.to_owned());
            }
            fetched.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            return self.send(reader, fetched, now, instant);
        }
        let next = topic.entries.range(topic.after(reader.position)..).find(|entry| entry.event.is_some());
        let has_next = next.is_some();
        let ready_at = next.filter(|entry| entry.number <= let_go).map(|entry| entry.ready_at);
        let beats_at = reader.heard_at + BEAT_EVERY;
        if reader.beats < self.beats || instant >= beats_at {
            if !has_next {
                reader.position = self.mark(reader.kind, now, instant);
            }
            reader.beats = self.beats;
            reader.heard_at = instant;
            self.report.beats += 1;
            return ReaderStep::Send { events: Vec::new(), latest: self.replay_id(reader.position) };
        }
        ReaderStep::Wait(Some(ready_at.map_or(beats_at, |ready_at| ready_at.min(beats_at))))
    }

    fn send(
        &mut self,
        reader: &mut TopicReader,
        fetched: Vec<(u64, Arc<BusEvent>)>,
        now: Millis,
        instant: Instant,
    ) -> ReaderStep {
        let count = u32::try_from(fetched.len()).unwrap_or(u32::MAX);
        self.usage.count(now, count);
        self.report.delivered += u64::from(count);
        reader.position = fetched.last().map_or(reader.position, |(number, _)| *number);
        reader.outstanding = reader.outstanding.saturating_sub(count);
        reader.heard_at = instant;
        // Of the topic, not of the response: whoever goes on from here loses what lies between.
        let tip = self.topics.get(&reader.kind).map_or(0, EventTopic::tip);
        let events = fetched.into_iter().map(|(number, event)| (self.replay_id(number), event)).collect();
        ReaderStep::Send { events, latest: self.replay_id(tip) }
    }

    /// A subscription is over.
    pub(super) fn leave(&mut self, kind: ObjectKind) {
        let topic = topic_name(kind);
        let count = self.report.subscribers.entry(topic.clone()).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.report.subscribers.remove(&topic);
        }
    }

    /// The newest schema of a topic that can be subscribed to.
    pub(super) fn newest_schema(&mut self, kind: ObjectKind) -> Option<Arc<EventSchema>> {
        self.captured(kind)?.schema().cloned()
    }

    /// A schema by its id.
    pub(super) fn find_schema(&self, id: &str) -> Option<Arc<EventSchema>> {
        self.topics.values().flat_map(|topic| &topic.schemas).find(|schema| schema.id == id).cloned()
    }

    // What tests do.

    pub(super) fn capture(&mut self, kind: ObjectKind, is_captured: bool) {
        if let Some(topic) = self.topics.get_mut(&kind) {
            topic.is_captured = is_captured;
        }
    }

    pub(super) fn add_field(&mut self, kind: ObjectKind) {
        if let Some(topic) = self.topics.get_mut(&kind)
            && let Some(schema) = topic.schema()
        {
            let added = schema.with_field(&format!("Added_{}__c", topic.schemas.len()));
            topic.schemas.push(Arc::new(added));
        }
    }

    pub(super) fn end_all(&mut self, word: &str) {
        self.endings += 1;
        word.clone_into(&mut self.ending);
    }

    pub(super) fn beat(&mut self) {
        self.beats += 1;
    }

    /// Lets held events go that are old enough.
    pub(super) fn let_go(&mut self, now: Millis) {
        let then = now - Millis::from(self.plan.held_ms.unwrap_or_default());
        let newest = self.topics.values().filter_map(|topic| topic.newest_until(then)).max();
        self.let_go = self.let_go.max(newest.unwrap_or_default());
    }

    /// Whether whoever has read up to this place has read all that may be read and tells something.
    pub(super) fn is_read(&self, kind: ObjectKind, place: &[u8]) -> bool {
        let number = self.cipher.number(place).unwrap_or_default();
        let newest = self.topics.get(&kind).and_then(|topic| topic.newest_telling(self.readable_until()));
        newest.is_none_or(|newest| newest <= number)
    }

    fn readable_until(&self) -> u64 {
        if self.plan.held_ms.is_some() { self.let_go } else { u64::MAX }
    }

    pub(super) fn refuse(&mut self, word: &str, times: u32) {
        self.refusals.push_back((word.to_owned(), times));
    }

    pub(super) fn corrupt(&mut self, count: u32) {
        self.corrupt = count;
    }

    /// Forgets every event and every replay id, as when the organisation moves.
    pub(super) fn reset(&mut self) {
        self.cipher = PlaceCipher::roll(&mut self.dice);
        self.topics.values_mut().for_each(|topic| topic.entries.clear());
    }

    /// A random id in the form of a UUID.
    pub(super) fn uuid(&mut self) -> String {
        let (high, low) = (self.dice.next_u64(), self.dice.next_u64());
        let digits = format!("{high:016x}{low:016x}");
        let part = |range: std::ops::Range<usize>| &digits[range];
        format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
    }

    fn captured(&mut self, kind: ObjectKind) -> Option<&mut EventTopic> {
        self.topics.get_mut(&kind).filter(|topic| topic.is_captured)
    }

    /// Deliveries that the day still allows.
    fn left(&mut self, now: Millis) -> u32 {
        self.plan.deliveries_max.saturating_sub(self.usage.used(now))
    }

    fn next_refusal(&mut self) -> Option<String> {
        while let Some((word, times)) = self.refusals.front_mut() {
            if *times > 0 {
                *times -= 1;
                return Some(word.clone());
            }
            self.refusals.pop_front();
        }
        None
    }

    pub(super) fn count_refusal(&mut self, word: &str) {
        *self.report.refused.entry(word.to_owned()).or_default() += 1;
    }

    /// A place behind everything, for one who hears that nothing happened.
    fn mark(&mut self, kind: ObjectKind, now: Millis, instant: Instant) -> u64 {
        let number = self.next_number();
        if let Some(topic) = self.topics.get_mut(&kind) {
            topic.entries.push_back(TopicEntry { number, at: now, ready_at: instant, event: None, is_telling: false });
            topic.expire(now);
        }
        number
    }

    /// Whoever counts places fails.
    fn next_number(&mut self) -> u64 {
        self.last_number += 1 + self.dice.next_u64() % 7;
        self.last_number
    }

    fn replay_id(&self, number: u64) -> Vec<u8> {
        self.cipher.replay_id(number)
    }
}
