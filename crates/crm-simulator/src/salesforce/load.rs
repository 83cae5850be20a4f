//! Fills an organisation: with records as they are said to be, from a file with one a line, or with
//! generated people. Owns: the reading of such files and their errors. Invariant: an error names
//! the line and the field, never the value.

use std::{
    collections::HashMap,
    io::{self, BufRead},
};

use serde_json::{Map, Value, json};

use super::{
    Salesforce,
    id::RecordId,
    input::stored_text,
    objects::{Kind, ObjectKind, Source},
    record::{Millis, Record, Values, read_time},
    refusal::SalesforceRefusal,
    schema::Slot,
    state::State,
};
use crate::people::{People, Person};

/// Longest line of a file, bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Records without times were made this long ago, and one second later for each line.
const FILE_AGE: Millis = 30 * 24 * 3_600 * 1_000;

/// Why a file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read, or is not UTF-8.
    #[error("line {line} cannot be read")]
    Unreadable {
        /// From one.
        line: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A line is longer than one MiB.
    #[error("line {line} is longer than 1 MiB")]
    TooLong {
        /// From one.
        line: usize,
    },
    /// A line is not a JSON object.
    #[error("line {line} is not a JSON object: mistake at column {column}")]
    NotAnObject {
        /// From one.
        line: usize,
        /// From one; zero if the line is JSON but no object.
        column: usize,
    },
    /// The organisation cannot take the record.
    #[error("line {line}: {refusal}")]
    Refused {
        /// From one.
        line: usize,
        /// Why.
        refusal: SalesforceRefusal,
    },
}

impl Salesforce {
    /// Puts in a record as it is said to be, in Salesforce's own JSON: id, times, deletion, merge.
    /// What is not said has its default; references may lead nowhere. An account with a last name
    /// gets its Contact, unless it names one.
    pub fn load_record(&self, object: &str, record: &Value) -> Result<String, SalesforceRefusal> {
        let fields = record.as_object().ok_or_else(SalesforceRefusal::unreadable)?;
        let mut state = self.state();
        let kind = state.schema.find(object)?.kind;
        Ok(load(&mut state, kind, fields, self.now_millis())?.to_string())
    }

    /// Puts in a record a line, as [`Salesforce::load_record`] does; empty lines are skipped.
    /// Returns how many there were. On an error the lines before it have been added.
    pub fn load_records(&self, object: &str, mut lines: impl BufRead) -> Result<usize, LoadError> {
        let oldest = self.now_millis() - FILE_AGE;
        let mut count = 0;
        let mut buffer = String::new();
        for line in 1.. {
            buffer.clear();
            let mut limited = io::Read::take(&mut lines, LINE_BYTES_MAX as u64 + 1);
            let length = limited.read_line(&mut buffer).map_err(|source| LoadError::Unreadable { line, source })?;
            if length == 0 {
                break;
            }
            if length > LINE_BYTES_MAX {
                return Err(LoadError::TooLong { line });
            }
            // A byte order mark is no part of the first line's JSON.
            let text = buffer.trim_start_matches('\u{feff}').trim();
            if text.is_empty() {
                continue;
            }
            let value: Value =
                serde_json::from_str(text).map_err(|error| LoadError::NotAnObject { line, column: error.column() })?;
            let Value::Object(fields) = value else { return Err(LoadError::NotAnObject { line, column: 0 }) };
            let fallback = oldest.saturating_add(i64::try_from(line).unwrap_or(0) * 1_000);
            let mut state = self.state();
            let refused = |refusal| LoadError::Refused { line, refusal };
            let kind = state.schema.find(object).map_err(refused)?.kind;
            load(&mut state, kind, &fields, fallback).map_err(refused)?;
            count += 1;
        }
        Ok(count)
    }

    /// Adds so many generated Contacts and Leads, and the Accounts of the Contacts; the same for
    /// the same seed and clock.
    pub fn generate_people(&self, contacts: usize, leads: usize, seed: u64) -> Result<(), SalesforceRefusal> {
        let mut people = People::new(seed, self.now());
        let mut state = self.state();
        let mut accounts: HashMap<u64, RecordId> = HashMap::new();
        for person in people.by_ref().take(contacts) {
            let (index, created) = (person.organization_index, person.created_at.timestamp_millis());
            let account = if let Some(account) = accounts.get(&index) {
                *account
            } else {
                let fields = Map::from_iter([("Name".to_owned(), json!(person.organization))]);
                *accounts.entry(index).or_insert(load(&mut state, ObjectKind::Account, &fields, created)?)
            };
            let mut fields = fields_of(&person, ["Phone", "MobilePhone", "HomePhone"]);
            fields.insert("AccountId".to_owned(), json!(account));
            load(&mut state, ObjectKind::Contact, &fields, created)?;
        }
        if leads > 0 {
            state.schema.find(ObjectKind::Lead.name())?;
        }
        for person in people.take(leads) {
            let mut fields = fields_of(&person, ["Phone", "MobilePhone", "Fax"]);
            fields.insert("Company".to_owned(), json!(person.organization));
            fields.insert("Status".to_owned(), json!("Open - Not Contacted"));
            load(&mut state, ObjectKind::Lead, &fields, person.created_at.timestamp_millis())?;
        }
        Ok(())
    }
}

/// A person's fields, the numbers in these.
fn fields_of(person: &Person, phone_fields: [&str; 3]) -> Map<String, Value> {
    let (first, last) =
        person.name.rsplit_once(' ').map_or((None, person.name.as_str()), |(first, last)| (Some(first), last));
    let phones = phone_fields.iter().zip(&person.phones).map(|(field, phone)| (*field, Some(phone.text.as_str())));
    let updated = super::record::wire_time(person.updated_at.timestamp_millis());
    let texts = [
        ("FirstName", first),
        ("LastName", Some(last)),
        ("Email", person.email.as_deref()),
        ("LastModifiedDate", Some(updated.as_str())),
    ];
    let given = texts.into_iter().chain(phones);
    given.filter_map(|(name, text)| Some((name.to_owned(), json!(text?)))).collect()
}

/// Takes a record as it is said to be; `fallback` is its time of creation if it says none.
fn load(
    state: &mut State,
    kind: ObjectKind,
    fields: &Map<String, Value>,
    fallback: Millis,
) -> Result<RecordId, SalesforceRefusal> {
    let said = Said::read(state, kind, fields)?;
    let id = match said.id {
        Some(id) if id.prefix() != kind.prefix() => return Err(SalesforceRefusal::invalid_reference("Id")),
        Some(id) => id,
        None => state.take_id(kind),
    };
    let created = said.created.or(said.modified).or(said.stamp).unwrap_or(fallback);
    let modified = said.modified.unwrap_or(created);
    let mut changes = super::input::Changes(said.values);
    let names_contact = fields.contains_key("PersonContactId");
    let is_account = kind == ObjectKind::Account && !names_contact;
    let shadow = if is_account { state.announce_person(&mut changes) } else { None };
    let record = Record {
        id,
        is_deleted: said.is_deleted || said.master.is_some(),
        master: said.master,
        created,
        modified,
        stamp: said.stamp.unwrap_or(modified),
        values: Values::default().with(&changes.0),
    };
    state.insert(kind, record, None)?;
    if let Some(contact) = shadow {
        state.make_person(id, contact, None)?;
    }
    Ok(id)
}

/// What a line says of its record.
#[derive(Default)]
struct Said {
    id: Option<RecordId>,
    is_deleted: bool,
    master: Option<RecordId>,
    created: Option<Millis>,
    modified: Option<Millis>,
    stamp: Option<Millis>,
    values: Vec<(Slot, Option<String>)>,
}

impl Said {
    fn read(state: &State, kind: ObjectKind, fields: &Map<String, Value>) -> Result<Self, SalesforceRefusal> {
        let object = state.schema.object(kind);
        let mut said = Self::default();
        for (name, value) in fields {
            let Some(slot) = object.slot(name) else {
                // The envelope and parents, as in the answer to a query.
                if name == "attributes" || object.relationship(name).is_some() {
                    continue;
                }
                return Err(SalesforceRefusal::no_such_column(name, object.name()));
            };
            let field = object.field(slot);
            let id = || {
                let text = value.as_str();
                let is_right = value.is_null() || text.is_some();
                let id = text
                    .map(|text| RecordId::parse(text).ok_or_else(|| SalesforceRefusal::malformed_id(text)))
                    .transpose()?;
                if is_right { Ok(id) } else { Err(SalesforceRefusal::wrong_type(&field.name, "id")) }
            };
            let time = || {
                let time = value.as_str().map(|text| read_time(text).ok_or(())).transpose();
                time.map_err(|()| SalesforceRefusal::wrong_type(&field.name, "datetime"))
            };
            match field.source {
                Source::Id => said.id = id()?,
                Source::MasterRecordId => said.master = id()?,
                Source::IsDeleted => said.is_deleted = value.as_bool().unwrap_or(false),
                Source::CreatedDate => said.created = time()?,
                Source::LastModifiedDate => said.modified = time()?,
                Source::SystemModstamp => said.stamp = time()?,
                // Made of the other fields, but for an account's own.
                Source::Name if kind != ObjectKind::Account => {}
                Source::Administrator => {}
                Source::Name | Source::Stored => {
                    let text = stored_text(field, value)?;
                    let is_default = field.kind == Kind::Boolean && text.as_deref() == Some("false");
                    said.values.push((slot, text.filter(|_| !is_default)));
                }
            }
        }
        Ok(said)
    }
}
