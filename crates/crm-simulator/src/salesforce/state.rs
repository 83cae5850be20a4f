//! The records of one organisation and what of them can be seen. Owns: the tables, the order of
//! changes, the log of deletions, older copies, the veil over changes that are not visible yet,
//! what sharing hides, notes of what changed. Invariant: every change goes through
//! [`State::insert`], [`State::change`] or [`State::purge`], so that indexes, notes and records
//! agree. Changes at one millisecond have equal stamps, as in life.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    id::RecordId,
    objects::ObjectKind,
    record::{Millis, Record},
    refusal::SalesforceRefusal,
    schema::Schema,
};

/// Records of one object, deleted ones included.
const RECORDS_MAX: usize = 5_000_000;
/// Older copies of changed records that are kept.
const PREVIOUS_MAX: usize = 10_000;

/// The records of one object.
#[derive(Clone, Default)]
pub(super) struct Table {
    records: BTreeMap<RecordId, Arc<Record>>,
    by_stamp: BTreeSet<(Millis, RecordId)>,
    /// Deletions that have not been undone, by time; records deleted for good stay.
    deletions: BTreeSet<(Millis, RecordId)>,
    next_number: u64,
}

impl Table {
    /// By id, deleted ones included.
    pub(super) fn records(&self) -> &BTreeMap<RecordId, Arc<Record>> {
        &self.records
    }

    /// By `SystemModstamp` and id, deleted ones included.
    pub(super) fn by_stamp(&self) -> &BTreeSet<(Millis, RecordId)> {
        &self.by_stamp
    }

    pub(super) fn deletions(&self) -> &BTreeSet<(Millis, RecordId)> {
        &self.deletions
    }
}

/// When a veil lifts.
#[derive(Clone, Copy)]
enum Lifts {
    /// Once so many queries have been answered under it.
    AfterQueries(u32),
    At(Millis),
    WhenRevealed,
}

/// What readers see of a record whose newest changes are not visible yet.
#[derive(Clone)]
struct Veil {
    /// The record before them; nothing if they made it.
    shown: Option<Arc<Record>>,
    lifts: Lifts,
}

/// The tables by the objects' order.
type Tables = [Table; ObjectKind::ALL.len()];

/// What happened to a record, for those who are told of it.
pub(super) struct ChangeNote {
    pub(super) kind: ObjectKind,
    /// Nothing if the record was made.
    pub(super) before: Option<Arc<Record>>,
    pub(super) after: Arc<Record>,
    pub(super) at: Millis,
}

/// The records at some time.
pub(super) struct Snapshot {
    tables: Tables,
    previous: BTreeMap<RecordId, Arc<Record>>,
    veils: BTreeMap<RecordId, Veil>,
    /// How many notes there were.
    notes: usize,
}

pub(super) struct State {
    pub(super) schema: Schema,
    tables: Tables,
    previous: BTreeMap<RecordId, Arc<Record>>,
    last_changed: Option<RecordId>,
    veils: BTreeMap<RecordId, Veil>,
    /// Not shared with the user.
    hidden: BTreeSet<RecordId>,
    /// How long a change stays invisible.
    lag: Millis,
    /// What changed since they were taken. Records that go for good are not in them.
    notes: Vec<ChangeNote>,
}

impl State {
    pub(super) fn new(schema: Schema, lag: Millis) -> Self {
        Self {
            schema,
            tables: Default::default(),
            previous: BTreeMap::new(),
            last_changed: None,
            veils: BTreeMap::new(),
            hidden: BTreeSet::new(),
            lag,
            notes: Vec::new(),
        }
    }

    // Reading.

    pub(super) fn table(&self, kind: ObjectKind) -> &Table {
        &self.tables[kind as usize]
    }

    /// A record as it truly is, deleted or not.
    pub(super) fn find(&self, id: RecordId) -> Option<&Arc<Record>> {
        let kind = ObjectKind::ALL.into_iter().find(|kind| kind.prefix() == id.prefix())?;
        self.table(kind).records.get(&id)
    }

    /// The kind and the record of an id, if it is there and not deleted.
    pub(super) fn live(&self, id: RecordId) -> Result<(ObjectKind, &Arc<Record>), SalesforceRefusal> {
        let kind = self.schema.of_id(id).map(|object| object.kind).ok_or_else(|| SalesforceRefusal::unknown_id(id))?;
        let record = self.table(kind).records.get(&id).ok_or_else(|| SalesforceRefusal::unknown_id(id))?;
        if record.is_deleted { Err(SalesforceRefusal::deleted()) } else { Ok((kind, record)) }
    }

    /// A record as readers see it: its older copy while its newest change is veiled, and nothing if
    /// it is hidden.
    pub(super) fn seen<'a>(&'a self, record: &'a Arc<Record>) -> Option<&'a Arc<Record>> {
        if self.is_hidden(record.id) {
            return None;
        }
        self.veils.get(&record.id).map_or(Some(record), |veil| veil.shown.as_ref())
    }

    /// Whether readers see the newest copy of a record.
    pub(super) fn is_plain(&self, id: RecordId) -> bool {
        !self.veils.contains_key(&id) && !self.is_hidden(id)
    }

    /// Whether sharing hides a record from the user.
    pub(super) fn is_hidden(&self, id: RecordId) -> bool {
        self.hidden.contains(&id)
    }

    /// The older copies that stand in for veiled records of an object.
    pub(super) fn stand_ins(&self, kind: ObjectKind) -> impl Iterator<Item = &Arc<Record>> {
        self.veils
            .values()
            .filter_map(|veil| veil.shown.as_ref())
            .filter(move |shown| shown.id.prefix() == kind.prefix() && !self.is_hidden(shown.id))
    }

    /// The copy of a record before its newest change; of the record changed last if no id is given.
    pub(super) fn previous_copy(&self, id: Option<RecordId>) -> Option<&Arc<Record>> {
        self.previous.get(&id.or(self.last_changed)?)
    }

    /// A record as it was then: this copy, or the one before its newest change.
    pub(super) fn copy_before<'a>(&'a self, record: &'a Arc<Record>, newest: Millis) -> Option<&'a Arc<Record>> {
        let copies = [Some(record), self.previous.get(&record.id)];
        copies.into_iter().flatten().find(|copy| copy.stamp <= newest)
    }

    /// Everything that changes touch, for taking them back.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            tables: self.tables.clone(),
            previous: self.previous.clone(),
            veils: self.veils.clone(),
            notes: self.notes.len(),
        }
    }

    // Changing.

    /// Takes back what was changed since the snapshot.
    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        self.tables = snapshot.tables;
        self.previous = snapshot.previous;
        self.veils = snapshot.veils;
        self.notes.truncate(snapshot.notes);
    }

    /// What changed since the last time this was asked, in order.
    pub(super) fn take_notes(&mut self) -> Vec<ChangeNote> {
        std::mem::take(&mut self.notes)
    }

    /// Reads the id of a record of an object.
    pub(super) fn id_of(&self, object: &str, id: &str) -> Result<RecordId, SalesforceRefusal> {
        let kind = self.schema.find(object)?.kind;
        let read = RecordId::parse(id).ok_or_else(|| SalesforceRefusal::malformed_id(id))?;
        let is_there = read.prefix() == kind.prefix() && self.find(read).is_some();
        if is_there { Ok(read) } else { Err(SalesforceRefusal::no_such_record(id)) }
    }

    pub(super) fn take_id(&mut self, kind: ObjectKind) -> RecordId {
        let table = &mut self.tables[kind as usize];
        table.next_number += 1;
        RecordId::numbered(kind.prefix(), table.next_number)
    }

    /// Adds a record that was made at `now`; `None`: that was there before anybody looked.
    pub(super) fn insert(
        &mut self,
        kind: ObjectKind,
        record: Record,
        now: Option<Millis>,
    ) -> Result<RecordId, SalesforceRefusal> {
        let id = record.id;
        let table = &mut self.tables[kind as usize];
        if table.records.contains_key(&id) {
            return Err(SalesforceRefusal::bad(
                "DUPLICATE_VALUE",
                format!("duplicate value found: Id duplicates record {id}"),
            ));
        }
        if table.records.len() >= RECORDS_MAX {
            return Err(SalesforceRefusal::bad(
                "STORAGE_LIMIT_EXCEEDED",
                "the organisation holds 5,000,000 records at most",
            ));
        }
        table.next_number = table.next_number.max(id.number().unwrap_or(0));
        if record.is_deleted {
            table.deletions.insert((record.stamp, id));
        }
        let record = Arc::new(record);
        self.put(kind, Arc::clone(&record));
        if let Some(now) = now {
            self.notes.push(ChangeNote { kind, before: None, after: record, at: now });
            self.veil_change(id, None, now);
        }
        Ok(id)
    }

    /// Changes one record and gives it the stamp `now`.
    pub(super) fn change(&mut self, kind: ObjectKind, id: RecordId, now: Millis, change: impl FnOnce(&mut Record)) {
        let table = &mut self.tables[kind as usize];
        let Some(old) = table.records.remove(&id) else { return };
        table.by_stamp.remove(&(old.stamp, id));
        let mut new = Record::clone(&old);
        change(&mut new);
        new.stamp = now;
        match (old.is_deleted, new.is_deleted) {
            (false, true) => {
                table.deletions.insert((now, id));
            }
            (true, false) => {
                table.deletions.retain(|(_, deleted)| *deleted != id);
            }
            _ => {}
        }
        let new = Arc::new(new);
        self.put(kind, Arc::clone(&new));
        self.notes.push(ChangeNote { kind, before: Some(Arc::clone(&old)), after: new, at: now });
        if self.previous.len() >= PREVIOUS_MAX && !self.previous.contains_key(&id) {
            self.previous.pop_first();
        }
        self.previous.insert(id, Arc::clone(&old));
        self.last_changed = Some(id);
        self.veil_change(id, Some(old), now);
    }

    /// Removes a record so that no query shows it any more; the log of deletions still does.
    pub(super) fn purge(&mut self, kind: ObjectKind, id: RecordId, now: Millis) {
        let table = &mut self.tables[kind as usize];
        let Some(record) = table.records.remove(&id) else { return };
        table.by_stamp.remove(&(record.stamp, id));
        if !record.is_deleted {
            table.deletions.insert((now, id));
        }
        self.veils.remove(&id);
        self.previous.remove(&id);
    }

    fn put(&mut self, kind: ObjectKind, record: Arc<Record>) {
        let table = &mut self.tables[kind as usize];
        table.by_stamp.insert((record.stamp, record.id));
        table.records.insert(record.id, record);
    }

    // Sharing.

    pub(super) fn hide_from_user(&mut self, id: RecordId) -> Result<(), SalesforceRefusal> {
        self.find(id).ok_or_else(|| SalesforceRefusal::unknown_id(id))?;
        self.hidden.insert(id);
        Ok(())
    }

    pub(super) fn show_to_user(&mut self, id: RecordId) {
        self.hidden.remove(&id);
    }

    // The veil.

    /// Hides the newest change of a record and those to come: for so many queries, or until it is
    /// revealed.
    pub(super) fn hide(&mut self, id: RecordId, queries: Option<u32>) {
        let lifts = queries.map_or(Lifts::WhenRevealed, Lifts::AfterQueries);
        if self.find(id).is_some() {
            let shown = self.veils.remove(&id).map_or_else(|| self.previous.get(&id).cloned(), |veil| veil.shown);
            self.veils.insert(id, Veil { shown, lifts });
        }
    }

    pub(super) fn reveal(&mut self, id: RecordId) {
        self.veils.remove(&id);
    }

    /// Lifts what has had its time. To be called before each query.
    pub(super) fn lift_veils(&mut self, now: Millis) {
        self.veils.retain(|_, veil| match &mut veil.lifts {
            Lifts::AfterQueries(0) => false,
            Lifts::AfterQueries(left) => {
                *left -= 1;
                true
            }
            Lifts::At(time) => now < *time,
            Lifts::WhenRevealed => true,
        });
    }

    fn veil_change(&mut self, id: RecordId, old: Option<Arc<Record>>, now: Millis) {
        if self.lag > 0 {
            let lifts = Lifts::At(now + self.lag);
            let veil = self.veils.entry(id).or_insert(Veil { shown: old, lifts });
            if matches!(veil.lifts, Lifts::At(_)) {
                veil.lifts = lifts;
            }
        }
    }
}
