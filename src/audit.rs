//! Refusals, written into the audit beside the calls that met them. A call only leaves a note:
//! whoever asks again and again neither waits for the database nor makes it work, since what waits
//! is bounded and a task of the process writes it, once a second at most. What is more than that is
//! counted. What is done is not here: it is written in its own transaction, see `store::audit`.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    domain::{
        audit::{NO_ACCOUNT, RefusedAction},
        ids::AccountId,
    },
    store::{self, Db, StoreError},
    telemetry::chain,
};

/// From one writing to the next, at least.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Refusals of one account that are written at once, beside the count of the others.
const PER_ACCOUNT_MAX: usize = 10;
/// Of what belongs to no account: anybody who reaches the port makes these.
const WITHOUT_ACCOUNT_MAX: usize = 1;
/// Accounts whose refusals wait at the same time.
const ACCOUNTS_MAX: usize = 100;

/// What waits of one account.
#[derive(Default)]
struct WaitingRefusals {
    /// The first that came.
    kept: Vec<RefusedAction>,
    /// The others.
    left_out: i64,
}

impl WaitingRefusals {
    /// Keeps it while there are fewer than so many.
    fn add(&mut self, refused: RefusedAction, kept_max: usize) {
        if self.kept.len() < kept_max {
            self.kept.push(refused);
        } else {
            self.left_out += 1;
        }
    }

    fn count(&self) -> i64 {
        i64::try_from(self.kept.len()).unwrap_or(i64::MAX).saturating_add(self.left_out)
    }
}

/// Takes refusals down, and writes them.
#[derive(Clone, Default)]
pub struct RefusalRecorder {
    waiting: Arc<Mutex<HashMap<AccountId, WaitingRefusals>>>,
    came: Arc<Notify>,
}

impl RefusalRecorder {
    /// Takes one down; never waits. Under [`NO_ACCOUNT`] what belongs to none.
    pub fn note(&self, account_id: AccountId, refused: RefusedAction) {
        let mut waiting = self.waiting();
        // A token of all accounts may name any number, of accounts that are not there, too.
        if waiting.len() < ACCOUNTS_MAX || waiting.contains_key(&account_id) || account_id == NO_ACCOUNT {
            waiting.entry(account_id).or_default().add(refused, kept_max(account_id));
        } else {
            waiting.entry(NO_ACCOUNT).or_default().left_out += 1;
        }
        drop(waiting);
        self.came.notify_one();
    }

    /// Writes what was noted, until `stop` is cancelled; then what still waits, and ends. What
    /// cannot be written is said in the log, and gone.
    pub async fn write_until(self, db: Db, stop: CancellationToken) {
        loop {
            let is_over = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = self.came.notified() => false,
            };
            self.write(&db).await;
            if is_over {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(WRITE_EVERY) => {}
            }
        }
    }

    /// After a failure the rest is not tried: the database has other troubles.
    async fn write(&self, db: &Db) {
        let waiting = mem::take(&mut *self.waiting());
        let mut left: i64 = waiting.values().map(WaitingRefusals::count).sum();
        if let Err(error) = write_all(db, waiting, &mut left).await {
            warn!(error = %chain(&error), "refusals could not be written into the audit");
        }
        if left > 0 {
            warn!(refusals = left, "refusals are missing in the audit");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<AccountId, WaitingRefusals>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kept_max(account_id: AccountId) -> usize {
    if account_id == NO_ACCOUNT { WITHOUT_ACCOUNT_MAX } else { PER_ACCOUNT_MAX }
}

/// Writes what is under no account last: what turns out to belong there comes to it. Takes from
/// `left` what was written.
async fn write_all(
    db: &Db,
    mut waiting: HashMap<AccountId, WaitingRefusals>,
    left: &mut i64,
) -> Result<(), StoreError> {
    let mut without_account = waiting.remove(&NO_ACCOUNT).unwrap_or_default();
    for (account_id, refusals) in waiting {
        if store::accounts::find(db, account_id).await?.is_some() {
            write_account(db, account_id, refusals, left).await?;
            continue;
        }
        // Under an account that is not there nobody would look, and nothing would be forgotten.
        without_account.left_out += refusals.left_out;
        for refused in refusals.kept {
            without_account.add(refused, WITHOUT_ACCOUNT_MAX);
        }
    }
    write_account(db, NO_ACCOUNT, without_account, left).await
}

/// Writes those of one account. The last one has the count of the others.
async fn write_account(
    db: &Db,
    account_id: AccountId,
    refusals: WaitingRefusals,
    left: &mut i64,
) -> Result<(), StoreError> {
    let last = refusals.kept.len().saturating_sub(1);
    for (at, refused) in refusals.kept.iter().enumerate() {
        let left_out = if at == last { refusals.left_out } else { 0 };
        store::audit::insert_refusal(db, account_id, refused, left_out).await?;
        *left -= 1 + left_out;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::domain::audit::{AuditActor, AuditTarget};

    fn refused() -> RefusedAction {
        let actor = AuditActor {
            event_id: Uuid::max(),
            called_at: DateTime::UNIX_EPOCH,
            subject: None,
            method: "MatchCaller",
            request_id: Uuid::max(),
        };
        RefusedAction { actor, target: AuditTarget::default(), reason: "TOKEN_INVALID".into() }
    }

    fn waiting(recorder: &RefusalRecorder, account_id: AccountId) -> (usize, i64) {
        recorder.waiting().get(&account_id).map(|waiting| (waiting.kept.len(), waiting.left_out)).unwrap_or_default()
    }

    /// A flood leaves one event and a count, and another account's events their room.
    #[test]
    fn flood_leaves_one_event_and_its_count() {
        let (recorder, account_id) = (RefusalRecorder::default(), AccountId(Uuid::max()));
        for _ in 0..100_000 {
            recorder.note(NO_ACCOUNT, refused());
        }
        for _ in 0..12 {
            recorder.note(account_id, refused());
        }

        assert_eq!(waiting(&recorder, NO_ACCOUNT), (1, 99_999));
        assert_eq!(waiting(&recorder, account_id), (10, 2));
    }

    /// Any number of accounts that are not there holds no more memory than a few.
    #[test]
    fn accounts_that_wait_are_bounded_and_counted() {
        let recorder = RefusalRecorder::default();
        for number in 1..=100_000 {
            recorder.note(AccountId(Uuid::from_u128(number)), refused());
        }

        assert_eq!(recorder.waiting().len(), ACCOUNTS_MAX + 1);
        assert_eq!(waiting(&recorder, NO_ACCOUNT), (0, 99_900));
        recorder.note(NO_ACCOUNT, refused());
        assert_eq!(waiting(&recorder, NO_ACCOUNT), (1, 99_900));
    }
}
