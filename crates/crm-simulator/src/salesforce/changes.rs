//! What Salesforce's calls do to records: create, update, delete, undelete, merge, convert.
//! Invariant: each is the same over REST, over SOAP and from inside the process; a refused call
//! changes nothing. A person account's Contact is kept by `persons`, not by its callers.

use serde_json::{Map, Value};

use super::{
    id::RecordId,
    input::{Changes, read_changes},
    objects::ObjectKind,
    record::{Millis, Record, Values},
    refusal::SalesforceRefusal,
    state::State,
};

/// Records in one merge besides the master.
pub(super) const LOSERS_MAX: usize = 2;

impl State {
    /// Makes a record as a user does.
    pub(super) fn create(
        &mut self,
        kind: ObjectKind,
        fields: &Map<String, Value>,
        now: Millis,
    ) -> Result<RecordId, SalesforceRefusal> {
        let mut changes = read_changes(self, kind, fields, true)?;
        if kind == ObjectKind::Lead {
            changes.set_if_absent(self.schema.object(kind), "Status", "Open - Not Contacted");
        }
        let shadow = if kind == ObjectKind::Account { self.announce_person(&mut changes) } else { None };
        let id = self.take_id(kind);
        self.insert(kind, fresh(id, &changes, now), Some(now))?;
        if let Some(contact) = shadow {
            self.make_person(id, contact, Some(now))?;
        }
        Ok(id)
    }

    /// Changes fields of a record as a user does.
    pub(super) fn update(
        &mut self,
        id: RecordId,
        fields: &Map<String, Value>,
        now: Millis,
    ) -> Result<(), SalesforceRefusal> {
        let (kind, record) = self.live(id)?;
        let object = self.schema.object(kind);
        if kind == ObjectKind::Lead && record.stored_text(object, "IsConverted") == Some("true") {
            return Err(SalesforceRefusal::bad("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead"));
        }
        if kind == ObjectKind::Contact && record.stored_text(object, "IsPersonAccount") == Some("true") {
            let message = "A person account's contact is changed through its account";
            return Err(SalesforceRefusal::bad("INVALID_FIELD_FOR_INSERT_UPDATE", message));
        }
        // A person's name is made of its parts.
        let names_whole = fields.keys().any(|name| name.eq_ignore_ascii_case("Name"));
        if kind == ObjectKind::Account && names_whole && self.person_contact(id).is_some() {
            return Err(SalesforceRefusal::not_writeable("Name"));
        }
        let changes = read_changes(self, kind, fields, false)?;
        self.change(kind, id, now, |record| {
            record.values = record.values.with(&changes.0);
            record.modified = now;
        });
        if kind == ObjectKind::Account {
            self.update_person(id, now);
        }
        Ok(())
    }

    /// Moves a record's `SystemModstamp` alone, as automated processes do.
    pub(super) fn touch(&mut self, id: RecordId, now: Millis) -> Result<(), SalesforceRefusal> {
        let (kind, _) = self.live(id)?;
        self.change(kind, id, now, |_| {});
        Ok(())
    }

    /// Puts a record into the recycle bin; an account's contacts go along.
    pub(super) fn delete(&mut self, id: RecordId, now: Millis) -> Result<(), SalesforceRefusal> {
        let (kind, _) = self.live(id)?;
        if !kind.is_deletable() {
            return Err(SalesforceRefusal::bad(
                "INSUFFICIENT_ACCESS_OR_READONLY",
                "users and permissions are not deleted",
            ));
        }
        self.check_no_shadow(kind, id)?;
        self.change(kind, id, now, |record| record.is_deleted = true);
        if kind == ObjectKind::Account {
            for contact in self.contacts_of(id) {
                if self.live(contact).is_ok() {
                    self.change(ObjectKind::Contact, contact, now, |record| record.is_deleted = true);
                }
            }
        }
        Ok(())
    }

    /// Removes a record for good, in the recycle bin or not: `queryAll` does not show it either.
    pub(super) fn hard_delete(&mut self, id: RecordId, now: Millis) -> Result<(), SalesforceRefusal> {
        let kind = self.find(id).and_then(|_| self.schema.of_id(id)).map(|object| object.kind);
        let kind = kind.filter(|kind| kind.is_deletable()).ok_or_else(|| SalesforceRefusal::unknown_id(id))?;
        self.check_no_shadow(kind, id)?;
        if kind == ObjectKind::Account {
            for contact in self.contacts_of(id) {
                self.purge(ObjectKind::Contact, contact, now);
            }
        }
        self.purge(kind, id, now);
        Ok(())
    }

    /// Takes a record out of the recycle bin; with an account come the contacts that went with it.
    /// The loser of a merge comes back without its master.
    pub(super) fn undelete(&mut self, id: RecordId, now: Millis) -> Result<(), SalesforceRefusal> {
        let kind = self.schema.of_id(id).map(|object| object.kind).ok_or_else(|| SalesforceRefusal::unknown_id(id))?;
        let record = self.find(id).ok_or_else(|| SalesforceRefusal::unknown_id(id))?;
        if !record.is_deleted {
            return Err(SalesforceRefusal::bad("UNDELETE_FAILED", "entity is not in the recycle bin"));
        }
        let deleted_at = record.stamp;
        let undo = |record: &mut Record| {
            record.is_deleted = false;
            record.master = None;
        };
        self.change(kind, id, now, undo);
        if kind == ObjectKind::Account {
            for contact in self.contacts_of(id) {
                if self.find(contact).is_some_and(|contact| contact.is_deleted && contact.stamp == deleted_at) {
                    self.change(ObjectKind::Contact, contact, now, undo);
                }
            }
        }
        Ok(())
    }

    /// Merges `losers` into `master`, which takes `fields` on the way: the losers are deleted and
    /// name it.
    pub(super) fn merge(
        &mut self,
        master: RecordId,
        losers: &[RecordId],
        fields: &Map<String, Value>,
        now: Millis,
    ) -> Result<(), SalesforceRefusal> {
        let refused = |message: &str| Err(SalesforceRefusal::bad("INVALID_OPERATION", message));
        let (kind, _) = self.live(master)?;
        if !kind.is_deletable() {
            return refused("only accounts, contacts and leads can be merged");
        }
        if losers.is_empty() || losers.len() > LOSERS_MAX {
            return refused("a merge takes one or two records besides the master");
        }
        for (at, loser) in losers.iter().enumerate() {
            if *loser == master || losers[..at].contains(loser) {
                return refused("a record cannot be merged with itself");
            }
            let (loser_kind, _) = self.live(*loser)?;
            if loser_kind != kind {
                return refused("the records must be of one object");
            }
            self.check_same_person(kind, master, *loser)?;
        }
        let changes = read_changes(self, kind, fields, false)?;
        for loser in losers {
            self.change(kind, *loser, now, |record| {
                record.is_deleted = true;
                record.master = Some(master);
            });
            if kind == ObjectKind::Account {
                self.move_contacts(*loser, master, now);
            }
        }
        self.change(kind, master, now, |record| {
            record.values = record.values.with(&changes.0);
            record.modified = now;
        });
        if kind == ObjectKind::Account {
            self.update_person(master, now);
        }
        Ok(())
    }

    /// Converts a Lead into `contact`, or into a new Contact at a new Account. Gives the Contact's
    /// id.
    pub(super) fn convert_lead(
        &mut self,
        lead: RecordId,
        contact: Option<RecordId>,
        now: Millis,
    ) -> Result<RecordId, SalesforceRefusal> {
        let (kind, record) = self.live(lead)?;
        let object = self.schema.object(ObjectKind::Lead);
        if kind != ObjectKind::Lead || record.stored_text(object, "IsConverted") == Some("true") {
            return Err(SalesforceRefusal::bad(
                "CANNOT_UPDATE_CONVERTED_LEAD",
                "the record is no Lead, or converted already",
            ));
        }
        let text = |name: &str| record.stored_text(object, name).map(|text| Value::String(text.to_owned()));
        let pick = |names: &[&str]| names.iter().filter_map(|name| Some(((*name).to_owned(), text(name)?))).collect();
        let person: Map<String, Value> = pick(&[
            "FirstName",
            "LastName",
            "Salutation",
            "Title",
            "Phone",
            "MobilePhone",
            "Fax",
            "Email",
            "LeadSource",
        ]);
        let company = text("Company");
        let (account, contact) = if let Some(contact) = contact {
            let (contact_kind, record) = self.live(contact)?;
            if contact_kind != ObjectKind::Contact {
                return Err(SalesforceRefusal::invalid_reference("contactId"));
            }
            let object = self.schema.object(ObjectKind::Contact);
            (object.slot("AccountId").and_then(|slot| record.reference(object, slot)), contact)
        } else {
            let name = company.unwrap_or_else(|| Value::String("Unknown".to_owned()));
            let account = self.create(ObjectKind::Account, &Map::from_iter([("Name".to_owned(), name)]), now)?;
            let mut fields = person;
            fields.insert("AccountId".to_owned(), Value::String(account.to_string()));
            (Some(account), self.create(ObjectKind::Contact, &fields, now)?)
        };
        self.mark_converted(lead, account, contact, now);
        Ok(contact)
    }

    fn mark_converted(&mut self, lead: RecordId, account: Option<RecordId>, contact: RecordId, now: Millis) {
        let object = self.schema.object(ObjectKind::Lead);
        let today = super::record::instant(now).format("%Y-%m-%d").to_string();
        let changes = Changes::default()
            .set(object, "IsConverted", Some("true".to_owned()))
            .set(object, "ConvertedDate", Some(today))
            .set(object, "ConvertedContactId", Some(contact.to_string()))
            .set(object, "ConvertedAccountId", account.map(|id| id.to_string()))
            .set(object, "Status", Some("Closed - Converted".to_owned()));
        self.change(ObjectKind::Lead, lead, now, |record| {
            record.values = record.values.with(&changes.0);
            record.modified = now;
        });
    }
}

/// A record that is made now.
pub(super) fn fresh(id: RecordId, changes: &Changes, now: Millis) -> Record {
    Record {
        id,
        is_deleted: false,
        master: None,
        created: now,
        modified: now,
        stamp: now,
        values: Values::default().with(&changes.0),
    }
}
