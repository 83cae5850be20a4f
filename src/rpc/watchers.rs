//! Who watches sync runs: how many at once, and how many of one account, for each costs a look at
//! the database five times a second. A place ends with its call's deadline, even if the client
//! takes nothing and so lets the stream linger.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::Status;

use super::{deadline::CallDeadline, status};
use crate::domain::ids::AccountId;

/// Streams of `WatchSyncRun` at once in this process.
const WATCHERS_MAX: usize = 256;
/// Of them, those of one account.
const WATCHERS_PER_ACCOUNT_MAX: usize = 32;
/// When one who found no place may come again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Everybody who watches; clones share it.
#[derive(Clone, Default)]
pub struct WatchRoom(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    entered: u64,
    places: Vec<Entry>,
}

struct Entry {
    number: u64,
    account_id: AccountId,
    until: Instant,
}

impl WatchRoom {
    /// A place until this deadline, or until it is dropped; `TOO_MANY_WATCHERS` if the account, or
    /// everybody, has enough.
    pub(super) fn enter(&self, account_id: AccountId, deadline: CallDeadline) -> Result<WatchPlace, Status> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        entries.places.retain(|entry| entry.until > now);
        let of_account = entries.places.iter().filter(|entry| entry.account_id == account_id).count();
        let refused = if of_account >= WATCHERS_PER_ACCOUNT_MAX {
            Some("too many calls watch sync runs of this account; try again later, or poll GetSyncRun")
        } else if entries.places.len() >= WATCHERS_MAX {
            Some("too many calls watch sync runs; try again later, or poll GetSyncRun")
        } else {
            None
        };
        if let Some(message) = refused {
            return Err(status::resource_exhausted("TOO_MANY_WATCHERS", message, Some(RETRY_AFTER)));
        }
        entries.entered += 1;
        let number = entries.entered;
        entries.places.push(Entry { number, account_id, until: deadline.instant() });
        Ok(WatchPlace { watchers: self.clone(), number })
    }
}

/// A watcher's place.
pub(super) struct WatchPlace {
    watchers: WatchRoom,
    number: u64,
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        let mut entries = self.watchers.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.places.retain(|entry| entry.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tokio::time::advance;

    use super::*;
    use crate::rpc::deadline::deadline_of;

    fn account(number: u64) -> AccountId {
        format!("7b0c5f9e-58b4-4a3f-9d1e-{number:012x}").parse().unwrap()
    }

    fn in_an_hour() -> CallDeadline {
        deadline_of(&HeaderMap::new(), Some(Duration::from_hours(1)), Instant::now()).unwrap().unwrap()
    }

    /// An account has its share, and all accounts have the rest.
    #[tokio::test(start_paused = true)]
    async fn account_has_share_and_others_have_rest() {
        let watchers = WatchRoom::default();
        let mut places = Vec::new();
        for number in 0..8 {
            for _ in 0..WATCHERS_PER_ACCOUNT_MAX {
                places.push(watchers.enter(account(number), in_an_hour()).unwrap());
            }
            assert!(watchers.enter(account(number), in_an_hour()).is_err(), "account {number} has its share");
        }
        let refused = watchers.enter(account(8), in_an_hour()).err().unwrap();
        assert!(refused.message().starts_with("too many calls watch sync runs;"), "{refused}");

        places.truncate(255);
        places.push(watchers.enter(account(8), in_an_hour()).unwrap());
        places.remove(0);
        places.push(watchers.enter(account(0), in_an_hour()).unwrap());
    }

    /// Who outlives the deadline has no place any more.
    #[tokio::test(start_paused = true)]
    async fn watcher_past_deadline_has_no_place() {
        let watchers = WatchRoom::default();
        let stalled: Vec<WatchPlace> =
            (0..WATCHERS_PER_ACCOUNT_MAX).map(|_| watchers.enter(account(1), in_an_hour()).unwrap()).collect();
        advance(Duration::from_hours(1)).await;

        let place = watchers.enter(account(1), in_an_hour()).unwrap();
        drop(stalled);

        assert_eq!(watchers.0.lock().unwrap().places.len(), 1, "a late end takes nobody else's place");
        drop(place);
    }
}
