//! How many calls wait at once while CRMs are asked: of this process, and of each account.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{domain::ids::AccountId, telemetry::metrics};

/// Calls of an account.
const WAITING_OF_ACCOUNT_MAX: usize = 8;

/// Who waits.
#[derive(Clone)]
pub(super) struct WaitRoom {
    /// Calls of this process.
    places_max: usize,
    taken: Arc<Mutex<TakenPlaces>>,
}

#[derive(Default)]
struct TakenPlaces {
    all: usize,
    by_account: HashMap<AccountId, usize>,
}

/// A place; dropping it gives it back.
pub(super) struct WaitPlace {
    room: WaitRoom,
    account_id: AccountId,
}

impl WaitRoom {
    /// For so many calls.
    pub(super) fn new(places_max: usize) -> Self {
        Self { places_max, taken: Arc::default() }
    }

    /// A place, if there is one.
    pub(super) fn enter(&self, account_id: AccountId) -> Option<WaitPlace> {
        let mut taken = self.taken();
        let of_account = taken.by_account.get(&account_id).copied().unwrap_or(0);
        if taken.all >= self.places_max || of_account >= WAITING_OF_ACCOUNT_MAX {
            return None;
        }
        taken.all += 1;
        taken.by_account.insert(account_id, of_account + 1);
        metrics::look_asides_waiting(taken.all);
        Some(WaitPlace { room: self.clone(), account_id })
    }

    fn taken(&self) -> MutexGuard<'_, TakenPlaces> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitPlace {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(count) = taken.by_account.get_mut(&self.account_id) {
            *count -= 1;
            if *count == 0 {
                taken.by_account.remove(&self.account_id);
            }
        }
        metrics::look_asides_waiting(taken.all);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn account(number: u128) -> AccountId {
        AccountId(Uuid::from_u128(number))
    }

    #[test]
    fn eighth_of_account_and_sixty_fourth_of_process_are_last() {
        let room = WaitRoom::new(64);
        let mut places = Vec::new();
        for number in 0..8 {
            for _ in 0..8 {
                places.push(room.enter(account(number)).unwrap());
            }
            assert!(room.enter(account(number)).is_none());
        }

        assert!(room.enter(account(9)).is_none(), "64 wait");
    }

    #[test]
    fn dropped_place_is_free_again() {
        let room = WaitRoom::new(64);
        let mut places: Vec<WaitPlace> = (0..8).map(|_| room.enter(account(1)).unwrap()).collect();

        places.pop();
        places.push(room.enter(account(1)).unwrap());

        assert!(room.enter(account(1)).is_none());
        places.clear();
        assert!(room.taken().all == 0 && room.taken().by_account.is_empty());
    }
}
