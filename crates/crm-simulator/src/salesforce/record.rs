//! One record and the reading of its fields. Owns: the compact form of values, times and dates on
//! the wire. Invariant: a record that is shared never changes; a change makes another one, so that
//! a page shows its rows as they were when the query was asked.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::{
    id::RecordId,
    objects::{Kind, ObjectKind, Source},
    schema::{ObjectSchema, Slot},
    session::administrator,
};

/// Milliseconds of the organisation's clock since 1970.
pub(super) type Millis = i64;

/// The stored fields of a record that are not null: one text, cut at `ends`.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Values {
    ends: Box<[(Slot, u32)]>,
    text: Box<str>,
}

impl Values {
    pub(super) fn get(&self, wanted: Slot) -> Option<&str> {
        let mut start = 0;
        for (slot, end) in &self.ends {
            let end = *end as usize;
            if *slot == wanted {
                return self.text.get(start..end);
            }
            start = end;
        }
        None
    }

    /// These values with others in the place of some; `None` takes a value away.
    pub(super) fn with(&self, changes: &[(Slot, Option<String>)]) -> Self {
        let is_changed = |slot: Slot| changes.iter().any(|(changed, _)| *changed == slot);
        let kept = self.ends.iter().filter(|(slot, _)| !is_changed(*slot));
        let kept = kept.filter_map(|(slot, _)| Some((*slot, self.get(*slot)?)));
        let new = changes.iter().filter_map(|(slot, value)| Some((*slot, value.as_deref()?)));
        let mut text = String::new();
        let mut ends = Vec::new();
        for (slot, value) in kept.chain(new) {
            text.push_str(value);
            // A request's body is far below 4 GiB.
            ends.push((slot, u32::try_from(text.len()).unwrap_or(u32::MAX)));
        }
        Self { ends: ends.into_boxed_slice(), text: text.into_boxed_str() }
    }
}

/// A record. Stored values are texts: flags `true`, times in milliseconds, dates `2026-01-02`, ids
/// in their long form.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) id: RecordId,
    pub(super) is_deleted: bool,
    /// Into which it was merged, directly.
    pub(super) master: Option<RecordId>,
    pub(super) created: Millis,
    pub(super) modified: Millis,
    pub(super) stamp: Millis,
    pub(super) values: Values,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FieldValue<'a> {
    Null,
    Text(Cow<'a, str>),
    Id(RecordId),
    Flag(bool),
    Time(Millis),
    /// `2026-01-02`.
    Date(&'a str),
}

impl Record {
    pub(super) fn get<'a>(&'a self, object: &ObjectSchema, slot: Slot) -> FieldValue<'a> {
        let field = object.field(slot);
        match field.source {
            Source::Stored => self.stored(field.kind, slot, &field.name),
            Source::Id => FieldValue::Id(self.id),
            Source::IsDeleted => FieldValue::Flag(self.is_deleted),
            Source::MasterRecordId => self.master.map_or(FieldValue::Null, FieldValue::Id),
            Source::CreatedDate => FieldValue::Time(self.created),
            Source::LastModifiedDate => FieldValue::Time(self.modified),
            Source::SystemModstamp => FieldValue::Time(self.stamp),
            Source::Administrator => FieldValue::Id(administrator()),
            Source::Name => self.name(object, slot),
        }
    }

    fn stored(&self, kind: Kind, slot: Slot, name: &str) -> FieldValue<'_> {
        let Some(text) = self.values.get(slot) else {
            return match kind {
                Kind::Boolean => FieldValue::Flag(false),
                Kind::Reference(ObjectKind::User, _) if name == "OwnerId" => FieldValue::Id(administrator()),
                _ => FieldValue::Null,
            };
        };
        match kind {
            Kind::Boolean => FieldValue::Flag(text == "true"),
            Kind::Id | Kind::Reference(..) => RecordId::parse(text).map_or(FieldValue::Null, FieldValue::Id),
            Kind::DateTime => text.parse().map_or(FieldValue::Null, FieldValue::Time),
            Kind::Date => FieldValue::Date(text),
            _ => FieldValue::Text(Cow::Borrowed(text)),
        }
    }

    /// An account's own name, else the first and the last name.
    fn name(&self, object: &ObjectSchema, slot: Slot) -> FieldValue<'_> {
        if let Some(own) = self.values.get(slot) {
            return FieldValue::Text(Cow::Borrowed(own));
        }
        let part = |name| object.slot(name).and_then(|slot| self.values.get(slot));
        match (part("FirstName"), part("LastName")) {
            (Some(first), Some(last)) => FieldValue::Text(Cow::Owned(format!("{first} {last}"))),
            (None, Some(only)) | (Some(only), None) => FieldValue::Text(Cow::Borrowed(only)),
            (None, None) => FieldValue::Null,
        }
    }

    /// A stored field by name; null if the object has none of this name.
    pub(super) fn stored_text(&self, object: &ObjectSchema, name: &str) -> Option<&str> {
        object.slot(name).and_then(|slot| self.values.get(slot))
    }

    /// The record that a field refers to.
    pub(super) fn reference(&self, object: &ObjectSchema, slot: Slot) -> Option<RecordId> {
        if let FieldValue::Id(id) = self.get(object, slot) { Some(id) } else { None }
    }
}

impl FieldValue<'_> {
    /// As in JSON.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Text(text) => Value::String(text.clone().into_owned()),
            Self::Id(id) => Value::String(id.to_string()),
            Self::Flag(flag) => Value::Bool(*flag),
            Self::Time(millis) => Value::String(wire_time(*millis)),
            Self::Date(date) => Value::String((*date).to_owned()),
        }
    }

    /// As in a CSV file, where times end in `Z` and null is empty.
    pub(super) fn to_csv(&self) -> Cow<'_, str> {
        match self {
            Self::Null => Cow::Borrowed(""),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Id(id) => Cow::Owned(id.to_string()),
            Self::Flag(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
            Self::Time(millis) => Cow::Owned(instant(*millis).to_rfc3339_opts(SecondsFormat::Millis, true)),
            Self::Date(date) => Cow::Borrowed(date),
        }
    }
}

/// `2026-01-02T10:05:00.000+0000`: no colon in the offset, as Salesforce has it.
pub(super) fn wire_time(millis: Millis) -> String {
    instant(millis).format("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string()
}

pub(super) fn instant(millis: Millis) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// Reads a time as Salesforce writes it (`+0000`) and as it wants it (`Z`, `+00:00`), with or
/// without milliseconds.
pub(super) fn read_time(text: &str) -> Option<Millis> {
    let time = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    time.ok().map(|time| time.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_replaced_and_taken_away() {
        let set = |slot, text: &str| (Slot(slot), Some(text.to_owned()));

        let values = Values::default().with(&[set(3, "Ann"), set(1, "Müller"), set(7, "")]);
        let changed = values.with(&[set(3, "Bo"), (Slot(1), None), set(9, "x")]);

        assert_eq!([3, 1, 7, 9].map(|slot| values.get(Slot(slot))), [Some("Ann"), Some("Müller"), Some(""), None]);
        assert_eq!([3, 1, 7, 9].map(|slot| changed.get(Slot(slot))), [Some("Bo"), None, Some(""), Some("x")]);
    }

    /// Times are read in every form, and written without a colon in the offset.
    #[test]
    fn times_read_in_every_form_written_without_colon() {
        for text in ["2026-01-02T10:05:00.120Z", "2026-01-02T12:05:00.12+02:00", "2026-01-02T10:05:00.120+0000"] {
            let millis = read_time(text).unwrap();

            assert_eq!(wire_time(millis), "2026-01-02T10:05:00.120+0000", "{text}");
        }
        assert_eq!(read_time("2026-01-02"), None);
        assert_eq!(FieldValue::Time(0).to_csv(), "1970-01-01T00:00:00.000Z");
    }
}
