//! From what a transaction did to records to what is told of it. Owns: which change has which type,
//! and which changes are told together. Must not: number or keep events.

use super::{
    encode::AvroValue,
    schema::{CHANGE_TYPES, EventSchema},
};
use crate::salesforce::{
    objects::ObjectKind, record::Millis, schema::Schema, session::administrator, state::ChangeNote,
};

/// One event, before it has a place in its topic.
#[derive(Clone, Debug)]
pub(super) struct RecordChange {
    pub(super) kind: ObjectKind,
    pub(super) record_ids: Vec<String>,
    /// One of [`CHANGE_TYPES`].
    pub(super) change_type: &'static str,
    pub(super) at: Millis,
    pub(super) changed: Vec<String>,
    pub(super) nulled: Vec<String>,
    /// The fields' values.
    pub(super) values: Vec<AvroValue>,
    /// It is more than a new time of change.
    pub(super) is_telling: bool,
}

/// What one transaction's changes are told as, in their order. Equal ones, one after the other, are
/// one event if `merges_equal`. A record that was in the recycle bin before and after is not told
/// of.
pub(super) fn changes_of<'a>(
    notes: &[ChangeNote],
    schema: &Schema,
    schema_of: impl Fn(ObjectKind) -> Option<&'a EventSchema>,
    merges_equal: bool,
) -> Vec<RecordChange> {
    let mut changes: Vec<RecordChange> = Vec::new();
    for note in notes {
        let Some(event_schema) = schema_of(note.kind) else { continue };
        let Some(change) = change_of(note, schema, event_schema) else { continue };
        match changes.last_mut().filter(|last| merges_equal && last.is_equal(&change)) {
            Some(last) => last.record_ids.extend(change.record_ids),
            None => changes.push(change),
        }
    }
    changes
}

impl RecordChange {
    /// Without values, as when they are too large or lost.
    pub(super) fn gap(
        schema: &EventSchema,
        kind: ObjectKind,
        ids: &[&str],
        change_type: &'static str,
        at: Millis,
    ) -> Self {
        Self {
            kind,
            record_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            change_type,
            at,
            changed: Vec::new(),
            nulled: Vec::new(),
            values: schema.nothing(),
            is_telling: true,
        }
    }

    /// The place of the type in its enum.
    fn type_place(&self) -> i32 {
        let place = CHANGE_TYPES.iter().position(|known| *known == self.change_type);
        place.and_then(|place| i32::try_from(place).ok()).unwrap_or_default()
    }

    /// The header and the fields' values.
    pub(super) fn datum(&self, schema: &EventSchema, transaction: &str, sequence: i32, commit: i64) -> AvroValue {
        let text = |text: &str| AvroValue::Text(text.to_owned());
        let header = AvroValue::Record(vec![
            text(schema.entity()),
            AvroValue::texts(&self.record_ids),
            AvroValue::Symbol(self.type_place()),
            text("com/salesforce/api/rest/67.0"),
            text(transaction),
            AvroValue::Int(sequence),
            AvroValue::Long(self.at),
            AvroValue::Long(commit),
            AvroValue::Text(administrator().to_string()),
            AvroValue::texts(&self.nulled),
            AvroValue::texts(&[]),
            AvroValue::texts(&self.changed),
        ]);
        AvroValue::Record(std::iter::once(header).chain(self.values.iter().cloned()).collect())
    }

    /// The same happened to another record of the object.
    fn is_equal(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.change_type == other.change_type
            && self.values == other.values
            && self.changed == other.changed
            && self.nulled == other.nulled
            && !other.record_ids.iter().any(|id| self.record_ids.contains(id))
    }
}

fn change_of(note: &ChangeNote, schema: &Schema, event_schema: &EventSchema) -> Option<RecordChange> {
    let object = schema.object(note.kind);
    let whole = |change_type| (change_type, event_schema.whole(object, &note.after), Vec::new(), Vec::new());
    let was_there = note.before.as_ref().map(|before| !before.is_deleted);
    let mut is_telling = true;
    let (change_type, values, changed, nulled) = match (was_there, !note.after.is_deleted) {
        (None, true) => whole("CREATE"),
        (Some(false), true) => whole("UNDELETE"),
        (Some(true), false) => ("DELETE", event_schema.nothing(), Vec::new(), Vec::new()),
        (Some(true), true) => {
            let changes = event_schema.difference(object, note.before.as_ref()?, &note.after);
            is_telling = changes.is_telling;
            ("UPDATE", changes.values, changes.changed, changes.nulled)
        }
        (None | Some(false), false) => return None,
    };
    let record_ids = vec![note.after.id.to_string()];
    Some(RecordChange { kind: note.kind, record_ids, change_type, at: note.at, changed, nulled, values, is_telling })
}
