//! The company's persons and organisations and everything that changes them. Owns: the persons and
//! their orders by change and by creation. Invariant: every change goes through [`State::change`]
//! or [`State::insert_new`], so that orders and persons agree. Times are whole seconds, as
//! Pipedrive's are: changes within one second tie.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    input::{Name, PersonInput},
    person::{Entry, Person, Stamp},
    refusal::PipedriveRefusal,
};
use crate::given::GivenField;

/// Older copies of changed persons that are kept for the fault that sends them again.
const PREVIOUS_MAX: usize = 10_000;
/// Persons of one company, deleted ones included.
const PERSONS_MAX: usize = 5_000_000;
/// Persons deleted for good that are still told of.
const PURGED_MAX: usize = 1_000_000;

const BLANK_NAME: PipedriveRefusal = PipedriveRefusal::Invalid { field: "name", problem: "is required" };

/// A company that persons work for.
pub(super) struct Organization {
    pub(super) name: String,
    pub(super) add_time: Stamp,
}

#[derive(Default)]
pub(super) struct State {
    persons: BTreeMap<i64, Person>,
    by_update: BTreeSet<(Stamp, i64)>,
    by_add: BTreeSet<(Stamp, i64)>,
    /// Persons that are deleted and still there, by the time of deletion.
    by_delete: BTreeSet<(Stamp, i64)>,
    /// Persons that are there no more, and since when.
    purged: BTreeMap<i64, Stamp>,
    organizations: BTreeMap<i64, Organization>,
    last_id: i64,
    last_organization_id: i64,
    previous: BTreeMap<i64, Person>,
    last_changed: Option<i64>,
}

impl State {
    // Reading.

    pub(super) fn find(&self, id: i64) -> Option<&Person> {
        self.persons.get(&id)
    }

    /// All persons by id, deleted ones included.
    pub(super) fn persons(&self) -> &BTreeMap<i64, Person> {
        &self.persons
    }

    pub(super) fn by_update(&self) -> &BTreeSet<(Stamp, i64)> {
        &self.by_update
    }

    pub(super) fn by_add(&self) -> &BTreeSet<(Stamp, i64)> {
        &self.by_add
    }

    pub(super) fn by_delete(&self) -> &BTreeSet<(Stamp, i64)> {
        &self.by_delete
    }

    pub(super) fn purged(&self) -> &BTreeMap<i64, Stamp> {
        &self.purged
    }

    pub(super) fn organizations(&self) -> &BTreeMap<i64, Organization> {
        &self.organizations
    }

    pub(super) fn organization_name(&self, id: i64) -> Option<&str> {
        self.organizations.get(&id).map(|organization| organization.name.as_str())
    }

    /// The copy of a person before its newest change; of the person changed last if no id is given.
    pub(super) fn previous_copy(&self, id: Option<i64>) -> Option<&Person> {
        self.previous.get(&id.or(self.last_changed)?)
    }

    /// A person as it was then: this copy, or the one before its newest change.
    pub(super) fn copy_before<'a>(&'a self, person: &'a Person, newest: Stamp) -> Option<&'a Person> {
        let copies = [Some(person), self.previous.get(&person.id)];
        let changed_at = |copy: &Person| copy.update_time.max(copy.delete_time.unwrap_or(Stamp::MIN));
        copies.into_iter().flatten().find(|copy| changed_at(copy) <= newest)
    }

    // Changing.

    /// Creates a person as the API does.
    pub(super) fn create(&mut self, input: PersonInput, now: Stamp) -> Result<i64, PipedriveRefusal> {
        // A caller has no say in these.
        let input =
            PersonInput { id: None, add_time: None, update_time: None, is_deleted: None, org_name: None, ..input };
        if input.name.as_ref().is_none_or(|name| name.text.is_empty()) {
            return Err(BLANK_NAME);
        }
        if let GivenField::Value(org_id) = input.org_id
            && !self.organizations.contains_key(&org_id)
        {
            return Err(PipedriveRefusal::Invalid { field: "org_id", problem: "names no organization" });
        }
        self.load(input, now)
    }

    /// Takes a person as it is said to be. `fallback` is its time of creation if it has none.
    pub(super) fn load(&mut self, input: PersonInput, fallback: Stamp) -> Result<i64, PipedriveRefusal> {
        let id = input.id.unwrap_or(self.last_id.saturating_add(1));
        let add_time = input.add_time.or(input.update_time).unwrap_or(fallback);
        let update_time = input.update_time.unwrap_or(add_time);
        let name = input.name.filter(|name| !name.text.is_empty());
        let name = name.unwrap_or_else(|| Name::whole(&format!("Person {id}")));
        let org_id = input.org_id.value();
        if let Some(org_id) = org_id {
            self.name_organization(org_id, input.org_name, add_time);
        }
        self.insert_new(Person {
            id,
            name: name.text.into(),
            first_name_bytes: name.first_bytes,
            emails: input.emails.unwrap_or_default(),
            phones: input.phones.unwrap_or_default(),
            org_id,
            owner_id: input.owner_id.unwrap_or(super::USER_ID),
            add_time,
            update_time,
            delete_time: input.is_deleted.unwrap_or(false).then_some(update_time),
            merged_into: None,
            is_hidden: false,
            rest: (!input.rest.is_empty()).then(|| Box::new(input.rest)),
        })
    }

    /// Updates a person that is not deleted. Lists are replaced whole.
    pub(super) fn update(&mut self, id: i64, input: PersonInput, now: Stamp) -> Result<(), PipedriveRefusal> {
        if input.name.as_ref().is_some_and(|name| name.text.is_empty()) {
            return Err(BLANK_NAME);
        }
        self.live(id)?;
        self.change(id, |person| {
            if let Some(name) = input.name {
                person.name = name.text.into();
                person.first_name_bytes = name.first_bytes;
            }
            person.emails = input.emails.unwrap_or_else(|| std::mem::take(&mut person.emails));
            person.phones = input.phones.unwrap_or_else(|| std::mem::take(&mut person.phones));
            person.org_id = match input.org_id {
                GivenField::Absent => person.org_id,
                org_id => org_id.value(),
            };
            person.owner_id = input.owner_id.unwrap_or(person.owner_id);
            if !input.rest.is_empty() {
                person.rest.get_or_insert_default().extend(input.rest);
            }
            person.update_time = now;
        })
    }

    /// Deletes a person; `touches`: also its time of change.
    pub(super) fn delete(&mut self, id: i64, touches: bool, now: Stamp) -> Result<(), PipedriveRefusal> {
        self.live(id)?;
        self.change(id, |person| {
            person.delete_time = Some(now);
            person.update_time = if touches { now } else { person.update_time };
        })
    }

    /// Brings a deleted person back, but not one that was merged away; `touches`: also its time of
    /// change.
    pub(super) fn restore(&mut self, id: i64, touches: bool, now: Stamp) -> Result<(), PipedriveRefusal> {
        let person = self.find(id).ok_or(PipedriveRefusal::PERSON)?;
        if !person.is_deleted() || person.merged_into.is_some() {
            return Err(PipedriveRefusal::Invalid { field: "id", problem: "names no person that can be restored" });
        }
        self.change(id, |person| {
            person.delete_time = None;
            person.update_time = if touches { now } else { person.update_time };
        })
    }

    /// Takes a person away for good, deleted before or not: nothing but its absence tells of it.
    pub(super) fn purge(&mut self, id: i64, now: Stamp) -> Result<(), PipedriveRefusal> {
        let person = self.persons.remove(&id).ok_or(PipedriveRefusal::PERSON)?;
        self.unindex(&person);
        self.previous.remove(&id);
        if self.purged.len() >= PURGED_MAX {
            self.purged.pop_first();
        }
        self.purged.insert(id, now);
        Ok(())
    }

    /// Merges `loser` into `winner`: the loser is deleted for ever, its numbers and addresses go to
    /// the winner.
    pub(super) fn merge(
        &mut self,
        loser: i64,
        winner: i64,
        touches: (bool, bool),
        now: Stamp,
    ) -> Result<(), PipedriveRefusal> {
        if loser == winner {
            return Err(PipedriveRefusal::Invalid { field: "merge_with_id", problem: "must be another person" });
        }
        self.live(winner)?;
        let (emails, phones) = {
            let lost = self.live(loser)?;
            (lost.emails.clone(), lost.phones.clone())
        };
        let (touches_loser, touches_winner) = touches;
        self.change(loser, |person| {
            person.delete_time = Some(now);
            person.merged_into = Some(winner);
            person.update_time = if touches_loser { now } else { person.update_time };
        })?;
        self.change(winner, |person| {
            adopt(&mut person.emails, emails);
            adopt(&mut person.phones, phones);
            person.update_time = if touches_winner { now } else { person.update_time };
        })
    }

    /// Hides a person from the token's user, or shows it again. Its time of change stays.
    pub(super) fn set_hidden(&mut self, id: i64, is_hidden: bool) -> Result<(), PipedriveRefusal> {
        self.persons.get_mut(&id).ok_or(PipedriveRefusal::PERSON)?.is_hidden = is_hidden;
        Ok(())
    }

    /// Makes an organisation and gives its id.
    pub(super) fn create_organization(&mut self, name: &str, now: Stamp) -> i64 {
        let id = self.last_organization_id + 1;
        self.name_organization(id, Some(name.to_owned()), now);
        id
    }

    /// Makes an organisation of that id if there is none, and gives it the name, if there is one.
    pub(super) fn name_organization(&mut self, id: i64, name: Option<String>, add_time: Stamp) {
        self.last_organization_id = self.last_organization_id.max(id);
        let known = self.organizations.entry(id);
        let organization = known.or_insert_with(|| Organization { name: format!("Organization {id}"), add_time });
        if let Some(name) = name {
            organization.name = name;
        }
    }

    fn live(&self, id: i64) -> Result<&Person, PipedriveRefusal> {
        self.find(id).filter(|person| !person.is_deleted()).ok_or(PipedriveRefusal::PERSON)
    }

    fn change(&mut self, id: i64, change: impl FnOnce(&mut Person)) -> Result<(), PipedriveRefusal> {
        let old = self.persons.remove(&id).ok_or(PipedriveRefusal::PERSON)?;
        self.unindex(&old);
        let mut new = old.clone();
        change(&mut new);
        if self.previous.len() >= PREVIOUS_MAX {
            self.previous.pop_first();
        }
        self.previous.insert(id, old);
        self.last_changed = Some(id);
        self.insert(new);
        Ok(())
    }

    fn insert_new(&mut self, person: Person) -> Result<i64, PipedriveRefusal> {
        if self.persons.contains_key(&person.id) || self.purged.contains_key(&person.id) {
            return Err(PipedriveRefusal::Invalid { field: "id", problem: "is another person's" });
        }
        if self.persons.len() >= PERSONS_MAX {
            return Err(PipedriveRefusal::Invalid {
                field: "id",
                problem: "is beyond the 5,000,000 persons of one company",
            });
        }
        let id = person.id;
        self.last_id = self.last_id.max(id);
        self.insert(person);
        Ok(id)
    }

    fn insert(&mut self, person: Person) {
        self.by_update.insert(person.update_key());
        self.by_add.insert((person.add_time, person.id));
        if let Some(delete_time) = person.delete_time {
            self.by_delete.insert((delete_time, person.id));
        }
        self.persons.insert(person.id, person);
    }

    fn unindex(&mut self, person: &Person) {
        self.by_update.remove(&person.update_key());
        self.by_add.remove(&(person.add_time, person.id));
        if let Some(delete_time) = person.delete_time {
            self.by_delete.remove(&(delete_time, person.id));
        }
    }
}

/// Adds what is not there yet; the main entry stays the main one.
fn adopt(entries: &mut Vec<Entry>, more: Vec<Entry>) {
    for entry in more {
        if entries.iter().all(|known| known.value != entry.value) {
            let is_primary = entries.is_empty();
            entries.push(Entry { is_primary, ..entry });
        }
    }
}
