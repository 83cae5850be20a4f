//! What an integration copies and mirrors, as its administrator wishes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    provider::Provider,
    record::{ObjectType, PerObjectType},
};

/// The most fields of an integration that are said to hold phone numbers.
pub const PHONE_FIELDS_MAX: usize = 10;
/// Longest key of such a field, in characters.
pub const FIELD_KEY_CHARS_MAX: usize = 100;

/// The wishes for one integration. Those for other providers' objects are kept and mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// By kind of object. Those of a kind that nobody can switch are as by default.
    pub objects: PerObjectType<ObjectOptions>,
    /// Which of a CRM's users are copied, where it has agents and others.
    pub user_roles: UserRoles,
    /// Keys of the CRM's own fields of people that hold phone numbers, where the CRM has no type of
    /// field for those: each once, in the administrator's order.
    pub phone_fields: Vec<String>,
    /// Whether the CRM is to push its changes.
    pub push: PushWish,
}

/// Whether the CRM is to push its changes. Nothing that is copied depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PushWish {
    /// Nobody was asked: the integration is older than the option. It is not, until it is
    /// authorized again.
    #[default]
    Unasked,
    /// It is.
    On,
    /// It is not.
    Off,
}

/// The wishes for one kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectOptions {
    /// Objects of this kind are copied. Switched off later: what was copied stays, and is not
    /// refreshed.
    pub is_copied: bool,
    /// An object deleted in the CRM is deleted here too. Off: it goes on naming its callers, and is
    /// never a requester.
    pub mirrors_deletions: bool,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        Self { is_copied: true, mirrors_deletions: true }
    }
}

/// Which of a CRM's users are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UserRoles {
    /// Everybody: an agent may call, too.
    #[default]
    All,
    /// End users only. Agents and administrators are treated as deleted.
    EndUsers,
}

/// As stored: by the name of each kind.
impl Serialize for PerObjectType<ObjectOptions> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(kind, wishes)| (kind.as_str(), wishes)))
    }
}

/// A kind that is not named is as by default.
impl<'de> Deserialize<'de> for PerObjectType<ObjectOptions> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut read = Self::default();
        for (name, wishes) in BTreeMap::<String, ObjectOptions>::deserialize(deserializer)? {
            if let Ok(kind) = name.parse::<ObjectType>() {
                read[kind] = wishes;
            }
        }
        Ok(read)
    }
}

impl Options {
    /// The wishes for this kind of object.
    pub fn of(&self, object_type: ObjectType) -> ObjectOptions {
        self.objects[object_type]
    }

    /// What decides of what is copied and kept: everything but how soon it comes.
    #[must_use]
    pub fn of_copies(&self) -> Self {
        Self { push: PushWish::Unasked, ..self.clone() }
    }

    /// The kinds of objects that are copied from this provider, in their order.
    pub fn copied(&self, provider: Provider) -> Vec<ObjectType> {
        let of_provider = |kind: &ObjectType| kind.provider() == provider && self.of(*kind).is_copied;
        ObjectType::ALL.iter().copied().filter(of_provider).collect()
    }
}

/// What to change of them; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionsChange {
    /// By kind of object.
    pub objects: PerObjectType<ObjectChange>,
    /// Which of a CRM's users are copied.
    pub user_roles: Option<UserRoles>,
    /// Keys of the CRM's own fields that hold phone numbers, all of them.
    pub phone_fields: Option<Vec<String>>,
    /// Whether the CRM is to push its changes.
    pub push: Option<PushWish>,
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
    pub fn apply(&self, provider: Provider, options: &Options) -> Result<Options, NothingCopied> {
        let mut changed = options.clone();
        for (kind, change) in self.objects.iter() {
            let wishes = &mut changed.objects[kind];
            wishes.is_copied = change.is_copied.unwrap_or(wishes.is_copied);
            wishes.mirrors_deletions = change.mirrors_deletions.unwrap_or(wishes.mirrors_deletions);
        }
        changed.user_roles = self.user_roles.unwrap_or(options.user_roles);
        changed.phone_fields = self.phone_fields.clone().unwrap_or(changed.phone_fields);
        changed.push = self.push.unwrap_or(options.push);
        if changed.copied(provider).is_empty() { Err(NothingCopied) } else { Ok(changed) }
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
        options.objects[ObjectType::Lead].is_copied = false;

        assert_eq!(options.copied(Provider::Salesforce), [ObjectType::Contact]);
        assert_eq!(serde_json::from_str::<Options>(&serde_json::to_string(&options).unwrap()).unwrap(), options);
    }

    #[test]
    fn what_is_not_wished_stays_and_what_is_not_known_is_left() {
        let stored = r#"{"objects":{"Lead":{"is_copied":false,"mirrors_deletions":true},"gone":{"is_copied":true,"mirrors_deletions":true}}}"#;
        let before: Options = serde_json::from_str(stored).unwrap();
        let mut change = OptionsChange { user_roles: Some(UserRoles::EndUsers), ..OptionsChange::default() };
        change.objects[ObjectType::Lead].mirrors_deletions = Some(false);

        let after = change.apply(Provider::Salesforce, &before).unwrap();

        assert_eq!(after.of(ObjectType::Lead), ObjectOptions { is_copied: false, mirrors_deletions: false });
        assert_eq!((after.of(ObjectType::Contact), after.user_roles), (ObjectOptions::default(), UserRoles::EndUsers));
    }
}
