//! A tenant. Nothing is shared between two of them.

use std::{ops::RangeInclusive, time::Duration};

use chrono::{DateTime, Utc};
use phone_key::Region;

use super::{ids::AccountId, match_policy::MatchPolicy};

/// Most characters of an account's name.
pub const NAME_CHARS_MAX: usize = 200;
/// Most further regions of an account.
pub const FURTHER_REGIONS_MAX: usize = 20;
/// How long a call may wait for a look into the CRMs, milliseconds; 0 is none.
pub const LOOK_ASIDE_MS: RangeInclusive<i32> = 200..=1_500;

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
    /// Most milliseconds that a call from an unknown number waits while the CRMs are asked: one of
    /// [`LOOK_ASIDE_MS`], or 0: it does not.
    pub look_aside_ms: i32,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Account {
    /// Whether it has the same settings as this one; when they were made does not count.
    pub fn has_content_of(&self, other: &Self) -> bool {
        let Self { created_at, updated_at, .. } = *self;
        *self == Self { created_at, updated_at, ..other.clone() }
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
    /// The most that a call from an unknown number waits while the CRMs are asked; zero: they are
    /// not.
    pub look_aside: Duration,
    /// Stored numbers are still to be read again by these regions or by newer rules of reading: a
    /// number may not be found yet.
    pub is_reparsing: bool,
}
