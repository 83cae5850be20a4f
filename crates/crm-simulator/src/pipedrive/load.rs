//! Fills a company: from a file with one person a line, or with generated people. Invariant: an
//! error names the line and the field, never the value.

use std::io::BufRead;

use super::{
    Pipedrive,
    input::{FieldError, Name, PersonInput},
    person::Entry,
    refusal::PipedriveRefusal,
};
use crate::{
    given::GivenField,
    lines::{LineError, each_object},
    people::{People, Person},
};

/// Persons without times were made this long ago, and one second later for each line.
const FILE_AGE_SECONDS: i64 = 30 * 24 * 3_600;
/// What the numbers of a generated person are called, in their order.
const PHONE_LABELS: [&str; 3] = ["work", "mobile", "home"];

/// Why a persons file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A line is no JSON object.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A field does not hold what it should.
    #[error("line {line}: {field}")]
    Field {
        /// From one.
        line: usize,
        /// Which, and what would be right.
        field: FieldError,
    },
    /// The company cannot take the person: its id is another's.
    #[error("line {line}: {refusal}")]
    Refused {
        /// From one.
        line: usize,
        /// Which field, and why.
        refusal: PipedriveRefusal,
    },
}

impl Pipedrive {
    /// Adds the persons of a file, one JSON object a line, as version 2 writes persons; `org_name`
    /// may stand in it. Absent fields get Pipedrive's defaults, empty lines are skipped. Returns
    /// how many there were. On an error the lines before it have been added.
    pub fn load_persons(&self, lines: impl BufRead) -> Result<usize, LoadError> {
        let oldest = self.now().timestamp() - FILE_AGE_SECONDS;
        each_object(lines, |line, fields| {
            let input = PersonInput::read(fields).map_err(|field| LoadError::Field { line, field })?;
            let fallback = oldest.saturating_add(i64::try_from(line).unwrap_or(0));
            self.state().load(input, fallback).map_err(|refusal| LoadError::Refused { line, refusal })?;
            Ok(())
        })
    }

    /// Adds so many generated people, the same for the same seed and clock.
    pub fn generate_people(&self, count: usize, seed: u64) -> Result<(), PipedriveRefusal> {
        let mut state = self.state();
        for person in People::new(seed, self.now()).take(count) {
            state.load(input_of(person), 0)?;
        }
        Ok(())
    }
}

fn input_of(person: Person) -> PersonInput {
    let entry = |(index, (value, label)): (usize, (String, &str))| Entry {
        value: value.into(),
        is_primary: index == 0,
        label: label.into(),
    };
    let phones = person.phones.into_iter().map(|phone| phone.text).zip(PHONE_LABELS);
    let emails = person.email.into_iter().zip(["work"]);
    PersonInput {
        name: Some(Name::whole(&person.name)),
        emails: Some(emails.enumerate().map(entry).collect()),
        phones: Some(phones.enumerate().map(entry).collect()),
        org_id: i64::try_from(person.organization_index + 1).map_or(GivenField::Absent, GivenField::Value),
        org_name: Some(person.organization),
        add_time: Some(person.created_at.timestamp()),
        update_time: Some(person.updated_at.timestamp()),
        ..PersonInput::default()
    }
}
