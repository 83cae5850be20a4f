//! Room: how many calls are worked on at once, and how much of it one token and one account may
//! have, so that a noisy customer leaves the others theirs. Nobody has more than twice what is
//! still free: one that is alone gets two thirds, two get two fifths each, and however many are
//! noisy, something is left for who comes next. Nothing has to be tuned. Must not know what a call
//! is about.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::domain::ids::AccountId;

/// Places for calls. Counts those that are taken, in all and by whom.
pub(crate) struct CallRoom {
    places_max: usize,
    taken: Mutex<Taken>,
}

/// Holds an entry only for who has a place, so it cannot outgrow the room.
#[derive(Default)]
struct Taken {
    all: usize,
    by_subject: HashMap<Arc<str>, usize>,
    by_account: HashMap<AccountId, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// All are taken.
    #[error("too many calls at once")]
    Full,
    /// This token's subject has its share.
    #[error("too many calls at once with tokens of this subject: others need room, too")]
    Subject,
    /// This account has its share.
    #[error("too many calls at once for this account: others need room, too")]
    Account,
    /// The database has more to do than it can.
    #[error("too many calls at once for the database")]
    Database,
    /// This connection has as many calls without a token as it may.
    #[error("too many calls without a token on this connection")]
    Connection,
}

impl NoRoom {
    /// For metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Subject => "subject",
            Self::Account => "account",
            Self::Database => "database",
            Self::Connection => "connection",
        }
    }
}

impl CallRoom {
    pub(crate) fn new(places_max: usize) -> Arc<Self> {
        Arc::new(Self { places_max, taken: Mutex::default() })
    }

    /// Places that are taken, and all.
    pub(crate) fn figures(&self) -> (usize, usize) {
        (self.taken().all, self.places_max)
    }

    /// Whether nobody would get a place now.
    pub(crate) fn is_full(&self) -> bool {
        self.taken().all >= self.places_max
    }

    /// A place, of the share of this subject if one is given.
    pub(crate) fn enter(self: &Arc<Self>, subject: Option<&Arc<str>>) -> Result<RoomPlace, NoRoom> {
        let mut taken = self.taken();
        if taken.all >= self.places_max {
            return Err(NoRoom::Full);
        }
        let share = self.share(taken.all);
        if let Some(subject) = subject
            && !take(&mut taken.by_subject, subject, share)
        {
            return Err(NoRoom::Subject);
        }
        taken.all += 1;
        Ok(RoomPlace { room: Arc::clone(self), subject: subject.cloned(), account_id: OnceLock::new() })
    }

    /// What one may have while so many places are taken.
    fn share(&self, taken: usize) -> usize {
        2 * self.places_max.saturating_sub(taken)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place, until it is dropped.
pub(crate) struct RoomPlace {
    room: Arc<CallRoom>,
    subject: Option<Arc<str>>,
    account_id: OnceLock<AccountId>,
}

impl RoomPlace {
    /// The account that it was counted to; `None`: none yet.
    pub(crate) fn account_id(&self) -> Option<AccountId> {
        self.account_id.get().copied()
    }

    /// Counts this place to the account that the request turned out to be for.
    pub(crate) fn take_account(&self, account_id: AccountId) -> Result<(), NoRoom> {
        if self.account_id.get().is_some() {
            return Ok(());
        }
        let mut taken = self.room.taken();
        // This place is taken already, and is the account's.
        let share = self.room.share(taken.all - 1);
        if !take(&mut taken.by_account, &account_id, share) {
            return Err(NoRoom::Account);
        }
        drop(taken);
        // One request is handled by one task: nobody has set it meanwhile.
        let _ = self.account_id.set(account_id);
        Ok(())
    }
}

impl Drop for RoomPlace {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all -= 1;
        if let Some(subject) = &self.subject {
            give_back(&mut taken.by_subject, subject);
        }
        if let Some(account_id) = self.account_id.get() {
            give_back(&mut taken.by_account, account_id);
        }
    }
}

fn take<K: Hash + Eq + Clone>(by: &mut HashMap<K, usize>, who: &K, share: usize) -> bool {
    let count = by.get(who).copied().unwrap_or(0);
    if count >= share {
        return false;
    }
    by.insert(who.clone(), count + 1);
    true
}

fn give_back<K: Hash + Eq>(by: &mut HashMap<K, usize>, who: &K) {
    if let Some(count) = by.get_mut(who) {
        *count -= 1;
        if *count == 0 {
            by.remove(who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> Arc<str> {
        name.into()
    }

    fn account(last: u8) -> AccountId {
        format!("7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e{last:02x}").parse().unwrap()
    }

    /// As many places as this subject gets.
    fn fill(room: &Arc<CallRoom>, name: &str) -> Vec<RoomPlace> {
        std::iter::from_fn(|| room.enter(Some(&subject(name))).ok()).collect()
    }

    /// However many are noisy, something is left for whoever comes next.
    #[test]
    fn noisy_subjects_leave_room_for_next() {
        let room = CallRoom::new(192);
        let mut places = Vec::new();
        for (name, expected) in [("first", 128), ("second", 43), ("third", 14), ("fourth", 5)] {
            let taken = fill(&room, name);
            assert_eq!(taken.len(), expected, "{name}");
            assert_eq!(room.enter(Some(&subject(name))).err(), Some(NoRoom::Subject));
            places.extend(taken);
        }
        assert!(!room.is_full());
    }

    /// A full room has no place for anybody until one is given back.
    #[test]
    fn full_room_reopens_when_place_is_returned() {
        let room = CallRoom::new(5);
        let noisy = fill(&room, "noisy");
        assert_eq!(noisy.len(), 4);
        let other = room.enter(None).unwrap();
        assert!(room.is_full());
        assert_eq!(room.enter(Some(&subject("third"))).err(), Some(NoRoom::Full));

        drop((noisy, other));
        assert!(!room.is_full());
        let taken = room.taken();
        assert!(taken.by_subject.is_empty() && taken.by_account.is_empty() && taken.all == 0);
    }

    /// One account has its share also behind a token of all accounts.
    #[test]
    fn account_has_share_behind_all_accounts_token() {
        let room = CallRoom::new(4);
        let mut places = Vec::new();
        for _ in 0..3 {
            let place = room.enter(None).unwrap();
            place.take_account(account(1)).unwrap();
            // Asked twice of one request, it counts once.
            place.take_account(account(1)).unwrap();
            places.push(place);
        }
        let place = room.enter(None).unwrap();

        assert_eq!(place.take_account(account(1)), Err(NoRoom::Account));
        place.take_account(account(2)).unwrap();
        drop((place, places));

        assert!(room.taken().by_account.is_empty());
    }

    #[test]
    fn a_room_of_one_serves_one() {
        let room = CallRoom::new(1);
        let place = room.enter(Some(&subject("only"))).unwrap();

        place.take_account(account(1)).unwrap();
        assert_eq!(room.enter(Some(&subject("other"))).err(), Some(NoRoom::Full));
        drop(place);
        room.enter(Some(&subject("other"))).unwrap();
    }
}
