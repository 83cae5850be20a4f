//! One type per kind of id, so that no function takes two bare UUIDs. Owns their making, too: ids
//! come from Rust (never from the database), from a passed clock and seedable randomness.

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

/// The text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an id (a UUID, such as 019a8c5e-7b1c-7d2e-9f3a-0b1c2d3e4f50)")]
pub struct InvalidId;

macro_rules! id_types {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId)
            }
        }
    )+};
}

id_types! {
    /// A tenant. Version 4, or the operator's choice.
    AccountId,
    /// An account's link to one CRM organisation. Version 7.
    IntegrationId,
    /// A person. Version 7, so that ids of one account sort by creation.
    ContactId,
    /// One pass over an integration. Version 7.
    SyncRunId,
    /// A click that waits for its call. Version 7.
    ExpectedCallId,
}

/// Makes ids. Seeded in tests, from the operating system in production.
pub struct IdSource {
    rng: Mutex<StdRng>,
    last_v7: Mutex<u128>,
}

impl IdSource {
    /// Ids that nobody can foresee.
    pub fn from_os() -> Self {
        Self { rng: Mutex::new(rand::make_rng()), last_v7: Mutex::default() }
    }

    /// The same ids for the same seed and clock.
    pub fn seeded(seed: u64) -> Self {
        Self { rng: Mutex::new(StdRng::seed_from_u64(seed)), last_v7: Mutex::default() }
    }

    /// Lends the generator, for keys, nonces and jitter.
    pub fn with_rng<T>(&self, work: impl FnOnce(&mut StdRng) -> T) -> T {
        work(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.with_rng(|rng| rng.fill_bytes(bytes));
    }

    /// A version 7 UUID (RFC 9562) of this moment. Ids of one millisecond grow too (§6.2, method
    /// 2), so that contacts of one page rank in the order in which they were made.
    pub fn new_v7(&self, now: DateTime<Utc>) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        // Room to grow by: the top bit of the part that is counted on.
        random[2] &= 0b1101_1111;
        let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        let fresh = Builder::from_unix_timestamp_millis(millis, &random).into_uuid().as_u128();
        let step = 1 + u128::from(random[9]);
        let mut last = self.last_v7.lock().unwrap_or_else(PoisonError::into_inner);
        *last = if fresh >> 80 == *last >> 80 { *last + step } else { fresh };
        Uuid::from_u128(*last)
    }

    /// A version 4 UUID (RFC 9562).
    pub fn new_v4(&self) -> Uuid {
        let mut random = [0; 16];
        self.fill(&mut random);
        Builder::from_random_bytes(random).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids of one moment grow, and stay version 7.
    #[test]
    fn ids_of_one_moment_grow_as_version_7() {
        let (ids, now) = (IdSource::seeded(1), DateTime::from_timestamp(1_795_305_600, 0).unwrap());

        let made: Vec<Uuid> = (0..10_000).map(|_| ids.new_v7(now)).collect();

        assert!(made.is_sorted_by(|a, b| a < b));
        assert!(made.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));
    }
}
