//! Person accounts: an Account that is a person has a Contact as its shadow. Owns: the shadow's
//! making and its following of the Account. Invariant: the shadow changes whenever its Account
//! does, and only then; both are deleted, restored and merged together.

use super::{
    id::RecordId,
    input::Changes,
    objects::ObjectKind,
    record::{Millis, Record, Values},
    refusal::SalesforceRefusal,
    state::State,
};

/// The Contact's field and the Account's field that it repeats.
const SHADOWED: [(&str, &str); 13] = [
    ("LastName", "LastName"),
    ("FirstName", "FirstName"),
    ("Salutation", "Salutation"),
    ("Phone", "Phone"),
    ("Fax", "Fax"),
    ("MobilePhone", "PersonMobilePhone"),
    ("HomePhone", "PersonHomePhone"),
    ("OtherPhone", "PersonOtherPhone"),
    ("AssistantPhone", "PersonAssistantPhone"),
    ("Email", "PersonEmail"),
    ("Title", "PersonTitle"),
    ("Department", "PersonDepartment"),
    ("AssistantName", "PersonAssistantName"),
];

impl State {
    /// Names the Contact-to-be in an account that is made with a last name: a person's.
    pub(super) fn announce_person(&mut self, account: &mut Changes) -> Option<RecordId> {
        let last_name = self.schema.object(ObjectKind::Account).slot("LastName")?;
        account.0.iter().find(|(slot, name)| *slot == last_name && name.is_some())?;
        let contact = self.take_id(ObjectKind::Contact);
        let object = self.schema.object(ObjectKind::Account);
        let named = std::mem::take(account).set(object, "PersonContactId", Some(contact.to_string()));
        *account = named.set(object, "IsPersonAccount", Some("true".to_owned()));
        Some(contact)
    }

    /// Makes the Contact that a person account names, with the account's times.
    pub(super) fn make_person(
        &mut self,
        account: RecordId,
        contact: RecordId,
        now: Option<Millis>,
    ) -> Result<(), SalesforceRefusal> {
        let (Some(changes), Some(record)) = (self.shadow_of(account), self.find(account)) else { return Ok(()) };
        let contacts = self.schema.object(ObjectKind::Contact);
        let changes = changes.set(contacts, "AccountId", Some(account.to_string())).set(
            contacts,
            "IsPersonAccount",
            Some("true".to_owned()),
        );
        let shadow = Record { id: contact, values: Values::default().with(&changes.0), ..Record::clone(record) };
        self.insert(ObjectKind::Contact, shadow, now)?;
        Ok(())
    }

    /// Lets the Contact of a person account follow it.
    pub(super) fn update_person(&mut self, account: RecordId, now: Millis) {
        let (Some(contact), Some(changes)) = (self.person_contact(account), self.shadow_of(account)) else { return };
        self.change(ObjectKind::Contact, contact, now, |record| {
            record.values = record.values.with(&changes.0);
            record.modified = now;
        });
    }

    /// The Contact of a person account.
    pub(super) fn person_contact(&self, account: RecordId) -> Option<RecordId> {
        let object = self.schema.object(ObjectKind::Account);
        self.find(account)?.stored_text(object, "PersonContactId").and_then(RecordId::parse)
    }

    /// The Contacts at an account, deleted ones included.
    pub(super) fn contacts_of(&self, account: RecordId) -> Vec<RecordId> {
        let object = self.schema.object(ObjectKind::Contact);
        let account = account.to_string();
        let contacts = self.table(ObjectKind::Contact).records().values();
        let of_account = contacts.filter(|contact| contact.stored_text(object, "AccountId") == Some(account.as_str()));
        of_account.map(|contact| contact.id).collect()
    }

    /// Takes an account's contacts to another one; the shadow of a person is merged into the
    /// other's shadow.
    pub(super) fn move_contacts(&mut self, from: RecordId, to: RecordId, now: Millis) {
        let (shadow, master) = (self.person_contact(from), self.person_contact(to));
        for contact in self.contacts_of(from) {
            if Some(contact) == shadow {
                self.change(ObjectKind::Contact, contact, now, |record| {
                    record.is_deleted = true;
                    record.master = master;
                });
            } else {
                let object = self.schema.object(ObjectKind::Contact);
                let changes = Changes::default().set(object, "AccountId", Some(to.to_string()));
                self.change(ObjectKind::Contact, contact, now, |record| {
                    record.values = record.values.with(&changes.0);
                });
            }
        }
    }

    /// A shadow is not deleted or merged by itself.
    pub(super) fn check_no_shadow(&self, kind: ObjectKind, id: RecordId) -> Result<(), SalesforceRefusal> {
        let object = self.schema.object(kind);
        let is_person =
            self.find(id).is_some_and(|record| record.stored_text(object, "IsPersonAccount") == Some("true"));
        if kind == ObjectKind::Contact && is_person {
            let message = "a person account's contact goes with its account";
            return Err(SalesforceRefusal::bad("INSUFFICIENT_ACCESS_OR_READONLY", message));
        }
        Ok(())
    }

    /// Persons merge with persons, companies with companies, and shadows not at all.
    pub(super) fn check_same_person(
        &self,
        kind: ObjectKind,
        left: RecordId,
        right: RecordId,
    ) -> Result<(), SalesforceRefusal> {
        self.check_no_shadow(kind, left)?;
        self.check_no_shadow(kind, right)?;
        if kind == ObjectKind::Account && self.person_contact(left).is_some() != self.person_contact(right).is_some() {
            return Err(SalesforceRefusal::bad(
                "INVALID_OPERATION",
                "a person account cannot be merged with a business account",
            ));
        }
        Ok(())
    }

    /// What the Contact of a person account repeats; `None` if the account is no person.
    fn shadow_of(&self, account: RecordId) -> Option<Changes> {
        let record = self.find(account)?;
        let accounts = self.schema.object(ObjectKind::Account);
        let contacts = self.schema.object(ObjectKind::Contact);
        record.stored_text(accounts, "LastName")?;
        let copy = |changes: Changes, (to, from): &(&str, &str)| {
            changes.set(contacts, to, record.stored_text(accounts, from).map(str::to_owned))
        };
        Some(SHADOWED.iter().fold(Changes::default(), copy))
    }
}
