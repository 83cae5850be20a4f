//! The CRMs by name, and one thing for each. What is known of them is in `descriptor`.

use std::{
    fmt,
    ops::{Index, IndexMut},
};

use strum::{EnumCount, EnumString, IntoStaticStr, VariantArray};

/// A CRM. Its names are made of its variant: `Zendesk` for people, `ZENDESK` as stored, `zendesk`
/// among the settings.
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
