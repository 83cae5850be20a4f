//! What looks aside of this process may take: how many fly at once, how many of one account, and
//! which CRMs are left alone for a while since they refuse. What protects a CRM from all processes
//! together is in the row of its integration.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::domain::{
    ids::{AccountId, IntegrationId},
    integration_state::FailureVerdict,
};

/// Looks at once in a process ..
const FLIGHTS_MAX: usize = 16;
/// .. and of an account.
const FLIGHTS_OF_ACCOUNT_MAX: usize = 4;
/// How long a look waits for its place: then hardly a call waits for it.
const PLACE_WAIT: Duration = Duration::from_millis(1_500);
/// How long a CRM that refuses is not asked.
const REFUSED_REST: TimeDelta = TimeDelta::minutes(1);
/// Accounts and integrations that are known here.
const KNOWN_MAX: u64 = 10_000;
/// An account is forgotten that has had no look for so long.
const ACCOUNT_KEPT: Duration = Duration::from_mins(2);

/// Who flies, and who rests.
pub struct AsideLimits {
    all: Arc<Semaphore>,
    by_account: Cache<AccountId, Arc<Semaphore>>,
    resting_until: Cache<IntegrationId, DateTime<Utc>>,
}

/// A place, until it is dropped.
pub(super) struct FlightPlace {
    _of_account: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for AsideLimits {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(FLIGHTS_MAX)),
            by_account: Cache::builder().max_capacity(KNOWN_MAX).time_to_idle(ACCOUNT_KEPT).build(),
            resting_until: Cache::builder().max_capacity(KNOWN_MAX).build(),
        }
    }
}

impl AsideLimits {
    /// A place, of the account's share; `None`: there is none in time.
    pub(super) async fn enter(&self, account_id: AccountId) -> Option<FlightPlace> {
        let share = self.by_account.get_with(account_id, || Arc::new(Semaphore::new(FLIGHTS_OF_ACCOUNT_MAX)));
        let places = async {
            let of_account = share.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(FlightPlace { _of_account: of_account, _of_all: of_all })
        };
        timeout(PLACE_WAIT, places).await.ok().flatten()
    }

    /// Whether its CRM has refused a moment ago.
    pub(super) fn is_resting(&self, integration_id: IntegrationId, now: DateTime<Utc>) -> bool {
        self.resting_until.get(&integration_id).is_some_and(|until| now < until && until - now <= REFUSED_REST)
    }

    /// A look has failed: a CRM that refuses would refuse the next one, too.
    pub(super) fn note_failure(&self, integration_id: IntegrationId, verdict: FailureVerdict, now: DateTime<Utc>) {
        match verdict {
            FailureVerdict::Refused { .. } | FailureVerdict::Final { .. } | FailureVerdict::Lasts => {
                self.resting_until.insert(integration_id, now + REFUSED_REST);
            }
            // Its quota keeps what the CRM has asked for.
            FailureVerdict::Waits(_) | FailureVerdict::Passes | FailureVerdict::Stops => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn account(number: u128) -> AccountId {
        AccountId(Uuid::from_u128(number))
    }

    #[tokio::test(start_paused = true)]
    async fn account_has_its_share_and_leaves_places_to_others() {
        let limits = AsideLimits::default();
        let mut places = Vec::new();
        for _ in 0..FLIGHTS_OF_ACCOUNT_MAX {
            places.push(limits.enter(account(1)).await.unwrap());
        }

        assert!(limits.enter(account(1)).await.is_none(), "its share is taken");
        places.push(limits.enter(account(2)).await.unwrap());
        places.remove(0);
        places.push(limits.enter(account(1)).await.unwrap());
        for number in 3..20 {
            places.extend(limits.enter(account(number)).await);
        }
        assert_eq!(places.len(), FLIGHTS_MAX);
    }

    #[test]
    fn crm_that_refuses_rests_for_a_minute() {
        let (limits, id) = (AsideLimits::default(), IntegrationId(Uuid::nil()));
        let now: DateTime<Utc> = "2026-12-01T10:00:00Z".parse().unwrap();

        limits.note_failure(id, FailureVerdict::Passes, now);
        assert!(!limits.is_resting(id, now));
        limits.note_failure(id, FailureVerdict::Lasts, now);
        assert!(limits.is_resting(id, now + TimeDelta::seconds(59)));
        assert!(!limits.is_resting(id, now + TimeDelta::seconds(60)));
        assert!(!limits.is_resting(id, now - TimeDelta::hours(1)), "the clock was set back");
    }
}
