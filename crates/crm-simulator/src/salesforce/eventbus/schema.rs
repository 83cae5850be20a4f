//! What change events of an object look like: the Avro schema, the fields and their bits. Owns:
//! which fields an event has and in which order; names and addresses as records; lists of fields as
//! bits. Must not: know what happened to a record.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::NaiveDate;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::encode::AvroValue;
use crate::salesforce::{
    objects::{Kind, ObjectKind, Source},
    record::{FieldValue, Record},
    schema::{ObjectSchema, Slot},
};

/// Kinds of change, by their place in the enum.
pub(super) const CHANGE_TYPES: [&str; 10] = [
    "CREATE",
    "UPDATE",
    "DELETE",
    "UNDELETE",
    "GAP_CREATE",
    "GAP_UPDATE",
    "GAP_DELETE",
    "GAP_UNDELETE",
    "GAP_OVERFLOW",
    "SNAPSHOT",
];
const NAME_PARTS: [&str; 5] = ["Salutation", "FirstName", "LastName", "MiddleName", "Suffix"];
/// The first five are fields of the simulated organisation; of the others nothing is known.
const ADDRESS_PARTS: [&str; 9] =
    ["Street", "City", "State", "PostalCode", "Country", "StateCode", "CountryCode", "Latitude", "Longitude"];
const STORED_ADDRESS_PARTS: usize = 5;
/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// The schema of an object's change events, at some time.
pub(super) struct EventSchema {
    /// Made of the text, as a fingerprint.
    pub(super) id: String,
    pub(super) json: String,
    entity: &'static str,
    fields: Vec<EventField>,
}

/// A field of an event.
#[derive(Clone)]
struct EventField {
    name: String,
    avro_type: Value,
    shape: FieldShape,
}

/// Where a field's value comes from.
#[derive(Clone)]
enum FieldShape {
    Plain(Slot),
    /// A record of some fields, or a text instead.
    Parts {
        parts: Vec<Option<Slot>>,
        text: Option<Slot>,
    },
    /// In no record.
    Absent,
}

/// What changes with every change.
const STAMPS: [&str; 3] = ["LastModifiedDate", "LastModifiedById", "SystemModstamp"];

/// What an update did.
pub(super) struct FieldChanges {
    /// Of every field: null where nothing changed.
    pub(super) values: Vec<AvroValue>,
    /// The fields that changed, as bits.
    pub(super) changed: Vec<String>,
    /// Those of them that are null now.
    pub(super) nulled: Vec<String>,
    /// More than the time of the change changed.
    pub(super) is_telling: bool,
}

impl EventSchema {
    pub(super) fn new(object: &ObjectSchema) -> Self {
        let mut fields = Vec::new();
        for (slot, field) in object.fields() {
            let is_left_out = matches!(
                field.source,
                Source::Id | Source::IsDeleted | Source::MasterRecordId | Source::SystemModstamp
            );
            if is_left_out || NAME_PARTS.contains(&field.name.as_str()) {
                continue;
            }
            if field.source == Source::Name {
                fields.push(name_field(object, slot));
                continue;
            }
            match address_part(object.kind, &field.name) {
                Some(0) => fields.push(address_field(object)),
                Some(_) => {}
                None => fields.push(EventField {
                    name: field.name.clone(),
                    avro_type: json!(["null", scalar(field.kind)]),
                    shape: FieldShape::Plain(slot),
                }),
            }
        }
        let other = match object.kind {
            ObjectKind::Contact => Some("OtherAddress"),
            ObjectKind::Account => Some("ShippingAddress"),
            _ => None,
        };
        // A type that was defined before, by its name.
        fields.extend(other.map(|name| absent(name, json!(["null", "Address"]))));
        Self::of(object.name(), fields)
    }

    /// The same with one more field, in front of all others: no bit is where it was.
    pub(super) fn with_field(&self, name: &str) -> Self {
        let added = absent(name, json!(["null", "string"]));
        Self::of(self.entity, std::iter::once(added).chain(self.fields.iter().cloned()).collect())
    }

    fn of(entity: &'static str, fields: Vec<EventField>) -> Self {
        let of_record = fields
            .iter()
            .map(|field| json!({"name": field.name, "type": field.avro_type, "doc": "Data", "default": null}));
        let header = json!({"name": "ChangeEventHeader", "type": header_type()});
        let schema = json!({
            "type": "record",
            "name": format!("{entity}ChangeEvent"),
            "namespace": "com.sforce.eventbus",
            "fields": std::iter::once(header).chain(of_record).collect::<Vec<Value>>(),
        });
        let json = schema.to_string();
        let id = URL_SAFE_NO_PAD.encode(&Sha256::digest(json.as_bytes())[..16]);
        Self { id, json, entity, fields }
    }

    /// The name of the object.
    pub(super) fn entity(&self) -> &'static str {
        self.entity
    }

    /// Every field's value, as when a record is made.
    pub(super) fn whole(&self, object: &ObjectSchema, record: &Record) -> Vec<AvroValue> {
        self.fields.iter().map(|field| field.value(object, record, &|_| true)).collect()
    }

    /// No field's value, as when a record is deleted.
    pub(super) fn nothing(&self) -> Vec<AvroValue> {
        self.fields.iter().map(|_| AvroValue::null_branch()).collect()
    }

    /// What is different; if nothing is, the time of change is said to be.
    pub(super) fn difference(&self, object: &ObjectSchema, before: &Record, after: &Record) -> FieldChanges {
        let is_different = |slot: Slot| before.get(object, slot) != after.get(object, slot);
        let is_nulled = |slot: Slot| is_different(slot) && after.get(object, slot) == FieldValue::Null;
        let values = self.fields.iter().map(|field| field.value(object, after, &is_different)).collect();
        let mut changed = self.bits(after, &is_different);
        if changed.is_empty() {
            let modified = object.slot("LastModifiedDate");
            changed = self.bits(after, &|slot| Some(slot) == modified);
        }
        let stamps = STAMPS.map(|name| object.slot(name));
        let is_telling = |slot: Slot| is_different(slot) && !stamps.contains(&Some(slot));
        let is_telling = !self.bits(after, &is_telling).is_empty();
        FieldChanges { values, changed, nulled: self.bits(after, &is_nulled), is_telling }
    }

    /// `0x` and a number of which bit n is the event's field n; for parts of a field also the
    /// field's place, `-`, and the number of the parts.
    fn bits(&self, record: &Record, is_in: &dyn Fn(Slot) -> bool) -> Vec<String> {
        let mut top = Vec::new();
        let mut nested = Vec::new();
        // The header is field 0.
        for (field, place) in self.fields.iter().zip(1..) {
            match &field.shape {
                FieldShape::Absent => {}
                FieldShape::Plain(slot) => top.extend(is_in(*slot).then_some(place)),
                FieldShape::Parts { text: Some(text), .. } if record.values.get(*text).is_some() => {
                    top.extend(is_in(*text).then_some(place));
                }
                FieldShape::Parts { parts, .. } => {
                    let bits: Vec<usize> = parts
                        .iter()
                        .zip(0..)
                        .filter_map(|(part, bit)| part.filter(|part| is_in(*part)).map(|_| bit))
                        .collect();
                    if !bits.is_empty() {
                        nested.push(format!("{place}-{}", hex_of(&bits)));
                    }
                }
            }
        }
        let top = (!top.is_empty()).then(|| hex_of(&top));
        top.into_iter().chain(nested).collect()
    }
}

impl EventField {
    fn value(&self, object: &ObjectSchema, record: &Record, is_in: &dyn Fn(Slot) -> bool) -> AvroValue {
        let scalar = |slot: Slot| if is_in(slot) { avro_value(record.get(object, slot)) } else { None };
        match &self.shape {
            FieldShape::Absent => AvroValue::null_branch(),
            FieldShape::Plain(slot) => AvroValue::nullable(scalar(*slot)),
            FieldShape::Parts { text: Some(text), .. } if record.values.get(*text).is_some() => {
                AvroValue::nullable(scalar(*text))
            }
            FieldShape::Parts { parts, text } => {
                let parts: Vec<_> = parts.iter().map(|part| AvroValue::nullable(part.and_then(scalar))).collect();
                if parts.iter().all(|part| *part == AvroValue::null_branch()) {
                    return AvroValue::null_branch();
                }
                AvroValue::Branch(if text.is_some() { 2 } else { 1 }, Box::new(AvroValue::Record(parts)))
            }
        }
    }
}

fn absent(name: &str, avro_type: Value) -> EventField {
    EventField { name: name.to_owned(), avro_type, shape: FieldShape::Absent }
}

/// A person's name is a record; an account's may be one, or a text.
fn name_field(object: &ObjectSchema, slot: Slot) -> EventField {
    let is_switchable = object.kind == ObjectKind::Account;
    let parts = NAME_PARTS.map(|part| json!({"name": part, "type": ["null", "string"]}));
    let name = if is_switchable { "Switchable_PersonName" } else { "PersonName" };
    let record = json!({"type": "record", "name": name, "fields": parts});
    EventField {
        name: "Name".to_owned(),
        avro_type: if is_switchable { json!(["null", "string", record]) } else { json!(["null", record]) },
        shape: FieldShape::Parts {
            parts: NAME_PARTS.map(|part| object.slot(part)).to_vec(),
            text: is_switchable.then_some(slot),
        },
    }
}

fn address_prefix(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Contact => "Mailing",
        ObjectKind::Account => "Billing",
        _ => "",
    }
}

/// Which part of the object's address a field is.
fn address_part(kind: ObjectKind, field: &str) -> Option<usize> {
    let part = field.strip_prefix(address_prefix(kind))?;
    ADDRESS_PARTS[..STORED_ADDRESS_PARTS].iter().position(|known| *known == part)
}

fn address_field(object: &ObjectSchema) -> EventField {
    let prefix = address_prefix(object.kind);
    let type_of = |part: &str| if part.ends_with("tude") { "double" } else { "string" };
    let parts = ADDRESS_PARTS.map(|part| json!({"name": part, "type": ["null", type_of(part)]}));
    EventField {
        name: format!("{prefix}Address"),
        avro_type: json!(["null", {"type": "record", "name": "Address", "fields": parts}]),
        shape: FieldShape::Parts {
            parts: ADDRESS_PARTS.map(|part| object.slot(&format!("{prefix}{part}"))).to_vec(),
            text: None,
        },
    }
}

fn header_type() -> Value {
    let texts = || json!({"type": "array", "items": "string"});
    let field = |name: &str, avro_type: Value| json!({"name": name, "type": avro_type});
    json!({"type": "record", "name": "ChangeEventHeader", "fields": [
        field("entityName", json!("string")),
        field("recordIds", texts()),
        field("changeType", json!({"type": "enum", "name": "ChangeType", "symbols": CHANGE_TYPES})),
        field("changeOrigin", json!("string")),
        field("transactionKey", json!("string")),
        field("sequenceNumber", json!("int")),
        field("commitTimestamp", json!("long")),
        field("commitNumber", json!("long")),
        field("commitUser", json!("string")),
        field("nulledFields", texts()),
        field("diffFields", texts()),
        field("changedFields", texts()),
    ]})
}

fn scalar(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "boolean",
        Kind::DateTime | Kind::Date => "long",
        _ => "string",
    }
}

fn avro_value(value: FieldValue<'_>) -> Option<AvroValue> {
    Some(match value {
        FieldValue::Null => return None,
        FieldValue::Text(text) => AvroValue::Text(text.into_owned()),
        FieldValue::Id(id) => AvroValue::Text(id.to_string()),
        FieldValue::Flag(flag) => AvroValue::Boolean(flag),
        FieldValue::Time(millis) => AvroValue::Long(millis),
        FieldValue::Date(date) => {
            let date: NaiveDate = date.parse().ok()?;
            AvroValue::Long(i64::from(date.to_epoch_days()) * DAY)
        }
    })
}

fn hex_of(bits: &[usize]) -> String {
    let highest = bits.iter().max().copied().unwrap_or_default();
    let mut digits = vec![0_u32; highest / 4 + 1];
    for bit in bits {
        digits[bit / 4] |= 1 << (bit % 4);
    }
    let digits = digits.iter().rev().filter_map(|digit| char::from_digit(*digit, 16));
    format!("0x{}", digits.map(|digit| digit.to_ascii_uppercase()).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_written_from_the_highest_digit() {
        assert_eq!(hex_of(&[0]), "0x1");
        assert_eq!(hex_of(&[1, 3, 36]), "0x100000000A");
        assert_eq!(hex_of(&[2, 130]), format!("0x4{}4", "0".repeat(31)));
    }
}
