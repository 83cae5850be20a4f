//! The CRMs, and what is known of each without asking it. Owns the form of that knowledge and nothing of its content: a vendor's facts
//! stand in its folder under `crm/`, and come to whoever needs them as a value ([decision 21](../../docs/decisions/0021-one-trait-for-three-crms.md)).

use std::{
    fmt,
    ops::{Index, IndexMut},
};

use strum::{EnumCount, EnumString, IntoStaticStr, VariantArray};

use super::{
    credentials::CredentialType,
    host::{HostRules, LoginHosts},
    integration::InvalidOrganization,
    options::Options,
    record::{InvalidRecordKey, ObjectType},
};

/// A CRM. Its names are made of its variant: `Zendesk` for people, `ZENDESK` as stored, `zendesk` among the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumCount, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "UPPERCASE")]
pub enum Provider {
    /// Zendesk Support.
    Zendesk,
    /// Salesforce.
    Salesforce,
    /// Pipedrive.
    Pipedrive,
}

impl Provider {
    /// Every CRM.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Its section among the settings, under `providers`.
    pub fn setting_name(self) -> String {
        self.as_str().to_ascii_lowercase()
    }
}

/// As its vendor writes it.
impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One thing for each CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerProvider<T>([T; Provider::COUNT]);

impl<T> PerProvider<T> {
    /// Makes each.
    pub fn from_fn(mut make: impl FnMut(Provider) -> T) -> Self {
        Self(std::array::from_fn(|at| make(Provider::ALL[at])))
    }

    /// Makes each, unless one cannot be made.
    pub fn try_from_fn<E>(make: impl FnMut(Provider) -> Result<T, E>) -> Result<Self, E> {
        let all = Provider::ALL.iter().copied().map(make).collect::<Result<Vec<T>, E>>()?;
        let Ok(each) = all.try_into() else { unreachable!("one was made for each") };
        Ok(Self(each))
    }

    /// Each with its CRM.
    pub fn iter(&self) -> impl Iterator<Item = (Provider, &T)> {
        Provider::ALL.iter().copied().zip(&self.0)
    }

    /// All of them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T> Index<Provider> for PerProvider<T> {
    type Output = T;

    fn index(&self, provider: Provider) -> &T {
        &self.0[provider as usize]
    }
}

impl<T> IndexMut<Provider> for PerProvider<T> {
    fn index_mut(&mut self, provider: Provider) -> &mut T {
        &mut self.0[provider as usize]
    }
}

impl<T: Default> Default for PerProvider<T> {
    fn default() -> Self {
        Self::from_fn(|_| T::default())
    }
}

/// What is known of every CRM.
pub type Descriptors = PerProvider<&'static ProviderDescriptor>;

/// What is known of a CRM without asking it.
#[derive(Debug)]
pub struct ProviderDescriptor {
    /// Which.
    pub provider: Provider,
    /// The kinds of its objects that stand for a person, in the order of [`ObjectType`].
    pub objects: &'static [ObjectDescriptor],
    /// Says of an object that people name and that is none of those why it is none, if that is worth more than the list of those that are.
    pub explain_object: fn(&str) -> Option<&'static str>,
    /// How an organisation is named.
    pub organization: OrganizationRule,
    /// Where its APIs are, and where tokens are given.
    pub hosts: HostRules,
    /// Where an administrator may say that people log in; `None`: everybody logs in at the vendor's one place.
    pub login_hosts: Option<LoginHosts>,
    /// A new token says where the API is now: after a host that does not answer any more, one is asked for.
    pub tokens_name_the_host: bool,
    /// The kinds of credentials that it takes.
    pub credentials: &'static [CredentialType],
    /// What to give instead of a kind that it does not take, such as "a `refresh_token`".
    pub credentials_hint: &'static str,
    /// What other options of an integration lead to.
    pub options: OptionRules,
    /// Settings, unless the operator has others.
    pub defaults: ProviderDefaults,
}

/// There is one for each CRM.
impl PartialEq for ProviderDescriptor {
    fn eq(&self, other: &Self) -> bool {
        self.provider == other.provider
    }
}

impl Eq for ProviderDescriptor {}

/// A kind of objects of a CRM that stands for a person.
#[derive(Debug)]
pub struct ObjectDescriptor {
    /// Which.
    pub object_type: ObjectType,
    /// Reads an id as people and programs write it, and gives its one form.
    pub parse_id: fn(&str) -> Result<String, InvalidRecordKey>,
}

/// How an organisation of a CRM is named.
#[derive(Debug)]
pub struct OrganizationRule {
    /// The field of a connection in the API that holds the name.
    pub field: &'static str,
    /// Reads the name as an administrator gives it. Never a URL: a tenant must not choose which host this service talks to.
    pub parse: fn(&str) -> Result<String, InvalidOrganization>,
    /// An administrator who is to authorize access is sent to the organisation's own page, so that its name is needed first.
    pub is_needed_to_authorize: bool,
}

/// What other options of an integration lead to, beside kinds that are switched on or off. Both take the new options, and those before.
#[derive(Debug)]
pub struct OptionRules {
    /// Whether more is to be copied than before.
    pub widen: fn(&Options, &Options) -> bool,
    /// Whether everything must be looked at anew.
    pub need_sweep: fn(&Options, &Options) -> bool,
}

/// Settings of a CRM, unless the operator has others.
#[derive(Debug)]
pub struct ProviderDefaults {
    /// The share of the customer's request quota, 1 to 100 percent.
    pub quota_share_percent: u32,
    /// The same while everything is copied for the first time.
    pub first_copy_share_percent: u32,
    /// From sweep to sweep, hours.
    pub sweep_hours: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_names_a_crm_everywhere() {
        for provider in Provider::ALL {
            assert_eq!(provider.as_str().parse(), Ok(*provider));
            assert!(provider.as_str().eq_ignore_ascii_case(&provider.to_string()));
            assert_eq!(provider.setting_name().to_ascii_uppercase(), provider.as_str());
        }
        assert!("zendesk".parse::<Provider>().is_err() && "".parse::<Provider>().is_err());
    }

    #[test]
    fn each_crm_has_its_own() {
        let mut names = PerProvider::from_fn(|provider| provider.to_string());
        names[Provider::Salesforce].push('!');

        assert_eq!(names[Provider::Salesforce], "Salesforce!");
        assert!(names.iter().all(|(provider, name)| name.starts_with(provider.to_string().as_str())));
        let failed = PerProvider::try_from_fn(|provider| if provider == Provider::Pipedrive { Err(()) } else { Ok(1) });
        assert_eq!(failed, Err(()));
    }
}
