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

    /// The kinds of objects that are copied from this provider, Contacts before Leads: a converted Lead leads to its Contact.
    pub fn copied(&self, provider: Provider) -> Vec<ObjectType> {
        let all = [ObjectType::User, ObjectType::Contact, ObjectType::Lead, ObjectType::Person].into_iter();
        all.filter(|kind| kind.provider() == provider && self.of(*kind).is_copied).collect()
    }
}

/// What to change of them; `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OptionsChange {
    /// Salesforce Contacts.
    pub contacts: ObjectChange,
    /// Salesforce Leads.
    pub leads: ObjectChange,
    /// Pipedrive persons.
    pub persons: ObjectChange,
    /// Zendesk users.
    pub user_roles: Option<UserRoles>,
}

/// What to change for one kind of object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectChange {
    /// Objects of this kind are copied.
    pub is_copied: Option<bool>,
    /// Deletions are mirrored.
    pub mirrors_deletions: Option<bool>,
}

/// Nothing would be left to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing would be copied; leave one kind of object on, or switch sync OFF")]
pub struct NothingCopied;

impl OptionsChange {
    /// The options with this change.
    pub fn apply(&self, provider: Provider, options: Options) -> Result<Options, NothingCopied> {
        let of = |change: ObjectChange, wishes: ObjectOptions| ObjectOptions {
            is_copied: change.is_copied.unwrap_or(wishes.is_copied),
            mirrors_deletions: change.mirrors_deletions.unwrap_or(wishes.mirrors_deletions),
        };
        let changed = Options {
            contacts: of(self.contacts, options.contacts),
            leads: of(self.leads, options.leads),
            persons: of(self.persons, options.persons),
            user_roles: self.user_roles.unwrap_or(options.user_roles),
        };
        if changed.copied(provider).is_empty() { Err(NothingCopied) } else { Ok(changed) }
    }
}

impl Options {
    /// Whether more is to be copied than before: until it is, "nobody" does not mean nobody.
    pub fn is_wider_than(&self, before: &Self, provider: Provider) -> bool {
        let (copied, copied_before) = (self.copied(provider), before.copied(provider));
        let has_other_users = provider == Provider::Zendesk
            && (self.user_roles, before.user_roles) == (UserRoles::All, UserRoles::EndUsers);
        has_other_users || copied.iter().any(|kind| !copied_before.contains(kind))
    }

    /// Whether after this change everything must be looked at anew: other users are wished, or deletions are to be mirrored that the
    /// CRM lists nowhere. Salesforce lists them, and says itself when that list does not reach back far enough; a kind that is switched
    /// on needs no more than the next pass, which has no place of it to go on from.
    pub fn need_sweep_after(&self, before: &Self, provider: Provider) -> bool {
        match provider {
            Provider::Zendesk => self.user_roles != before.user_roles,
            Provider::Salesforce => false,
            Provider::Pipedrive => self.persons.mirrors_deletions && !before.persons.mirrors_deletions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_everything_can_be_switched_off() {
        let off = ObjectChange { is_copied: Some(false), ..ObjectChange::default() };
        let leads = OptionsChange { leads: off, ..OptionsChange::default() };
        let both = OptionsChange { contacts: off, ..leads };

        assert!(leads.apply(Provider::Salesforce, Options::default()).is_ok());
        assert_eq!(both.apply(Provider::Salesforce, Options::default()), Err(NothingCopied));
        assert!(both.apply(Provider::Zendesk, Options::default()).is_ok());
    }

    /// A late switch to mirrored deletions, and other roles, need a sweep.
    #[test]
    fn late_deletion_mirroring_and_roles_need_sweep() {
        let off = ObjectOptions { mirrors_deletions: false, ..ObjectOptions::default() };
        let before = Options { persons: off, ..Options::default() };
        let end_users = Options { user_roles: UserRoles::EndUsers, ..Options::default() };

        assert!(Options::default().need_sweep_after(&before, Provider::Pipedrive));
        assert!(!Options::default().need_sweep_after(&before, Provider::Salesforce));
        assert!(!before.need_sweep_after(&Options::default(), Provider::Pipedrive));
        assert!(end_users.need_sweep_after(&Options::default(), Provider::Zendesk));
    }

    /// More kinds and more users are wider, and nothing else is.
    #[test]
    fn only_more_kinds_or_users_are_wider() {
        let no_leads =
            Options { leads: ObjectOptions { is_copied: false, ..ObjectOptions::default() }, ..Options::default() };
        let end_users = Options { user_roles: UserRoles::EndUsers, ..Options::default() };
        let all = Options::default();

        assert!(all.is_wider_than(&no_leads, Provider::Salesforce));
        assert!(!no_leads.is_wider_than(&all, Provider::Salesforce));
        assert!(
            all.is_wider_than(&end_users, Provider::Zendesk) && !all.is_wider_than(&end_users, Provider::Salesforce)
        );
        assert!(!end_users.is_wider_than(&all, Provider::Zendesk) && !all.is_wider_than(&all, Provider::Zendesk));
    }

    #[test]
    fn everything_is_copied_and_mirrored_unless_wished_otherwise() {
        let options: Options = serde_json::from_str("{}").unwrap();

        assert_eq!(options.copied(Provider::Salesforce), [ObjectType::Contact, ObjectType::Lead]);
        assert!(options.of(ObjectType::Person).mirrors_deletions);
    }

    #[test]
    fn contacts_and_leads_are_switched_apart() {
        let leads = ObjectOptions { is_copied: false, ..ObjectOptions::default() };
        let options = Options { leads, ..Options::default() };

        assert_eq!(options.copied(Provider::Salesforce), [ObjectType::Contact]);
        assert_eq!(serde_json::from_str::<Options>(&serde_json::to_string(&options).unwrap()).unwrap(), options);
    }
}
