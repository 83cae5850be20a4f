//! A tenant. Nothing is shared between two of them.

use chrono::{DateTime, Utc};

use super::{ids::AccountId, phone::Region};

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
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}
