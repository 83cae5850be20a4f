//! Fills an account: from a file with one user a line, or with generated people. Owns: the reading
//! of such files and their errors. Invariant: an error names the line and the field, never the
//! value.

use std::io::BufRead;

use chrono::DateTime;

use super::{
    Zendesk,
    input::{FieldError, GivenField, IdentityInput, UserInput},
    refusal::ZendeskRefusal,
    user::{EMAIL, MICROS, PHONE, Role},
};
use crate::{
    lines::{LineError, each_object},
    people::{People, Person},
};

/// Users without times were made this long ago, and one second later for each line.
const FILE_AGE_SECONDS: i64 = 30 * 24 * 3_600;
/// The first organisation's id.
const FIRST_ORGANIZATION_ID: u64 = 3_900_000_000_001;

/// Why a users file cannot be loaded.
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
    /// The account cannot take the user: its id or address is another's.
    #[error("line {line}: {refusal}")]
    Refused {
        /// From one.
        line: usize,
        /// Which field, and why.
        refusal: ZendeskRefusal,
    },
}

impl Zendesk {
    /// Adds the users of a file, one JSON object a line, as Zendesk writes users; `identities` may
    /// stand in it. Absent fields get Zendesk's defaults, empty lines are skipped. Returns how many
    /// there were. On an error the lines before it have been added.
    pub fn load_users(&self, lines: impl BufRead) -> Result<usize, LoadError> {
        let oldest = self.now().timestamp() - FILE_AGE_SECONDS;
        each_object(lines, |line, fields| {
            let input = UserInput::read(fields).map_err(|field| LoadError::Field { line, field })?;
            let input = UserInput { are_identities_complete: input.identities.is_some(), ..input };
            let fallback = oldest.saturating_add(i64::try_from(line).unwrap_or(0)) * MICROS;
            self.state().load(input, fallback).map_err(|refusal| LoadError::Refused { line, refusal })?;
            Ok(())
        })
    }

    /// Adds so many generated people, the same for the same seed and clock.
    pub fn generate_people(&self, count: usize, seed: u64) -> Result<(), ZendeskRefusal> {
        let people = People::new(seed, self.now());
        let mut state = self.state();
        for person in people.take(count) {
            state.load(input_of(person), 0)?;
        }
        Ok(())
    }

    /// Adds `count` end users who all changed at this second of the past: what makes the export by
    /// time loop, and cursors tie.
    pub fn generate_in_one_second(&self, count: usize, seed: u64, second: i64) -> Result<Vec<i64>, ZendeskRefusal> {
        let people = People::new(seed, DateTime::from_timestamp(second, 0).unwrap_or_default());
        let mut state = self.state();
        let stamp = second.saturating_mul(MICROS);
        people
            .take(count)
            .map(|person| {
                // Without addresses, so that they cannot be those of people already there.
                let person = Person { email: None, is_agent: false, ..person };
                state.load(UserInput { created_at: Some(stamp), updated_at: Some(stamp), ..input_of(person) }, stamp)
            })
            .collect()
    }
}

fn input_of(person: Person) -> UserInput {
    let mut phones = person.phones.into_iter().map(|phone| phone.text);
    let phone = phones.next();
    let mut identities: Vec<IdentityInput> = Vec::new();
    let mut identity = |kind, value| {
        identities.push(IdentityInput { kind: Some(kind), value: Some(value), ..IdentityInput::default() });
    };
    if let Some(email) = &person.email {
        identity(EMAIL, email.clone());
    }
    let given = |text: Option<String>| text.map_or(GivenField::Absent, GivenField::Value);
    // The rule for direct lines holds for the main number; further numbers are identities in any
    // case.
    phones.for_each(|number| identity(PHONE, number));
    UserInput {
        name: GivenField::Value(person.name),
        email: given(person.email),
        phone: given(phone),
        role: person.is_agent.then_some(Role::Agent),
        is_verified: Some(true),
        organization_id: i64::try_from(FIRST_ORGANIZATION_ID + person.organization_index)
            .map_or(GivenField::Absent, GivenField::Value),
        created_at: Some(person.created_at.timestamp_micros()),
        updated_at: Some(person.updated_at.timestamp_micros()),
        identities: Some(identities),
        ..UserInput::default()
    }
}
