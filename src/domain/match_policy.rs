//! Who comes first of several contacts with one number, as an account wishes it. The order itself
//! is made in SQL: what each policy says of a contact is the piece `MATCH_RANK` of
//! `store::fragments`. An answer is sorted by it in `store::caller_lookup`, a list of contacts in
//! `store::ranked_contacts`.
//!
//! A new policy touches that piece, this enum, the check of `accounts.match_policy`, the enum of
//! `account.proto`, its reading and showing (`rpc::account_requests`, `rpc::convert`,
//! `cli::account`), the page token of a list (`rpc::contact`, which holds the rank), and the tests
//! of policies and of plans. Weaker tiers (`matching::tiers`) take the first created under every
//! policy.

use strum::IntoStaticStr;

use super::ids::IntegrationId;

/// Who comes first of several contacts with one number. Placeholders come last under every policy,
/// and of equals the first created.
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
