//! What an integration copies and mirrors, as its administrator wishes.

use serde::{Deserialize, Serialize};

use super::{integration::Provider, record::ObjectType};

/// The wishes for one integration. Those for other providers' objects are kept and mean nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Salesforce Contacts.
    pub contacts: ObjectOptions,
    /// Salesforce Leads.
    pub leads: ObjectOptions,
    /// Pipedrive persons.
    pub persons: ObjectOptions,
    /// Zendesk users.
    pub user_roles: UserRoles,
}

/// The wishes for one kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectOptions {
    /// Objects of this kind are copied. Switched off later: what was copied stays, and is not refreshed.
    pub is_copied: bool,
    /// An object deleted in the CRM is deleted here too. Off: it goes on naming its callers, and is never a requester.
    pub mirrors_deletions: bool,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        Self { is_copied: true, mirrors_deletions: true }
    }
}

/// Which Zendesk users are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UserRoles {
    /// Everybody: an agent may call, too.
    #[default]
    All,
    /// End users only. Agents and administrators are treated as deleted.
    EndUsers,
}

impl Options {
    /// The wishes for this kind of object. Zendesk's users are always copied, and their deletion is always mirrored.
    pub fn of(&self, object_type: ObjectType) -> ObjectOptions {
        match object_type {
            ObjectType::User => ObjectOptions::default(),
            ObjectType::Contact => self.contacts,
            ObjectType::Lead => self.leads,
            ObjectType::Person => self.persons,
        }
    }

    /// The wishes for this kind of object, to be changed; `None`: there is nothing to wish.
    pub fn of_mut(&mut self, object_type: ObjectType) -> Option<&mut ObjectOptions> {
        match object_type {
            ObjectType::User => None,
            ObjectType::Contact => Some(&mut self.contacts),
            ObjectType::Lead => Some(&mut self.leads),
            ObjectType::Person => Some(&mut self.persons),
        }
    }

    /// The kinds of objects that are copied from this provider, Contacts before Leads: a converted Lead leads to its Contact.
    pub fn copied(&self, provider: Provider) -> Vec<ObjectType> {
        let all = [ObjectType::User, ObjectType::Contact, ObjectType::Lead, ObjectType::Person].into_iter();
        all.filter(|kind| kind.provider() == provider && self.of(*kind).is_copied).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_copied_and_mirrored_unless_wished_otherwise() {
        let options: Options = serde_json::from_str("{}").unwrap();

        assert_eq!(options.copied(Provider::Salesforce), [ObjectType::Contact, ObjectType::Lead]);
        assert!(options.of(ObjectType::Person).mirrors_deletions);
    }

    #[test]
    fn contacts_and_leads_are_switched_apart() {
        let mut options = Options::default();
        options.of_mut(ObjectType::Lead).unwrap().is_copied = false;

        assert_eq!(options.copied(Provider::Salesforce), [ObjectType::Contact]);
        assert_eq!(serde_json::from_str::<Options>(&serde_json::to_string(&options).unwrap()).unwrap(), options);
    }
}
