//! A tenant. Nothing is shared between two of them.

use chrono::{DateTime, Utc};
use phone_key::Region;
use strum::IntoStaticStr;

use super::ids::{AccountId, IntegrationId};

/// Most characters of an account's name.
pub const NAME_CHARS_MAX: usize = 200;
/// Most further regions of an account.
pub const FURTHER_REGIONS_MAX: usize = 20;

/// One customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Chosen by the operator, or made here.
    pub id: AccountId,
    /// 1 to 200 characters.
    pub display_name: String,
    /// The country of numbers written without one.
    pub default_region: Region,
    /// Other countries that the customer works in, at most 20.
    pub further_regions: Vec<Region>,
    /// Who comes first of several contacts with one number.
    pub match_policy: MatchPolicy,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// Who comes first of several contacts with one number. Placeholders come last under every policy, and of equals the first created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum MatchPolicy {
    /// The first created in this service.
    #[default]
    FirstCreated,
    /// The one that an agent last chose for this number.
    LastSelected,
    /// The one whose record the CRM last updated.
    LastUpdated,
    /// Those with a live record in this integration.
    PreferredIntegration(IntegrationId),
}

impl MatchPolicy {
    /// As stored, and as the rule of an answer in lower case.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Puts the stored columns together; `None` if they contradict each other.
    pub fn of(text: &str, preferred: Option<IntegrationId>) -> Option<Self> {
        match (text, preferred) {
            ("FIRST_CREATED", None) => Some(Self::FirstCreated),
            ("LAST_SELECTED", None) => Some(Self::LastSelected),
            ("LAST_UPDATED", None) => Some(Self::LastUpdated),
            ("PREFERRED_INTEGRATION", Some(id)) => Some(Self::PreferredIntegration(id)),
            _ => None,
        }
    }

    /// The integration that comes first.
    pub const fn preferred(self) -> Option<IntegrationId> {
        match self {
            Self::PreferredIntegration(id) => Some(id),
            Self::FirstCreated | Self::LastSelected | Self::LastUpdated => None,
        }
    }

    /// The rule by which a contact came first, as answers name it.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::FirstCreated => "first_created",
            Self::LastSelected => "last_selected",
            Self::LastUpdated => "last_updated",
            Self::PreferredIntegration(_) => "preferred_integration",
        }
    }
}

/// What of an account decides how numbers are read and who comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchRules {
    /// The country of numbers written without one.
    pub default_region: Region,
    /// Other countries that the customer works in.
    pub further_regions: Vec<Region>,
    /// Who comes first.
    pub policy: MatchPolicy,
    /// Stored numbers are still to be read again by these regions or by newer rules of reading: a number may not be found yet.
    pub is_reparsing: bool,
}
