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

use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
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
/// Of strangers', whose token is none of ours: anybody who reaches the port makes these.
const STRANGERS_MAX: usize = 1;
/// The longest from one writing of strangers' to the next, while they go on: what one who never
/// ends leaves in a year is half a million rows, not thirty million.
const STRANGERS_PAUSE_MAX: Duration = Duration::from_mins(1);
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

    fn is_empty(&self) -> bool {
        self.count() == 0
    }

    fn count(&self) -> i64 {
        i64::try_from(self.kept.len()).unwrap_or(i64::MAX).saturating_add(self.left_out)
    }
}

/// All that waits.
#[derive(Default)]
struct RefusalQueue {
    /// Under the account; under [`NO_ACCOUNT`] what a known subject asked of none, or of one that
    /// is not the subject's.
    accounts: HashMap<AccountId, WaitingRefusals>,
    strangers: WaitingRefusals,
}

/// When strangers' refusals are written next: after a second, and ever later while they go on.
struct StrangerPace {
    due_at: Instant,
    pause: Duration,
}

impl StrangerPace {
    fn new(now: Instant) -> Self {
        Self { due_at: now, pause: WRITE_EVERY }
    }

    /// They are written now. A flood that has been away for a pause is a new one.
    fn note_written(&mut self, now: Instant) {
        let is_new = now.saturating_duration_since(self.due_at) >= self.pause;
        self.pause = if is_new { WRITE_EVERY } else { (self.pause * 2).min(STRANGERS_PAUSE_MAX) };
        self.due_at = now + self.pause;
    }
}

/// Takes refusals down, and writes them.
#[derive(Clone, Default)]
pub struct RefusalRecorder {
    queue: Arc<Mutex<RefusalQueue>>,
    came: Arc<Notify>,
}

impl RefusalRecorder {
    /// Takes one down; never waits. Under [`NO_ACCOUNT`] what belongs to none.
    pub fn note(&self, account_id: AccountId, refused: RefusedAction) {
        let mut queue = self.queue();
        let accounts = &mut queue.accounts;
        if account_id == NO_ACCOUNT && refused.actor.subject.is_none() {
            queue.strangers.add(refused, STRANGERS_MAX);
        // A token of all accounts may name any number, of accounts that are not there, too.
        } else if accounts.len() < ACCOUNTS_MAX || accounts.contains_key(&account_id) || account_id == NO_ACCOUNT {
            accounts.entry(account_id).or_default().add(refused, PER_ACCOUNT_MAX);
        } else {
            accounts.entry(NO_ACCOUNT).or_default().left_out += 1;
        }
        drop(queue);
        self.came.notify_one();
    }

    /// Writes what was noted, until `stop` is cancelled; then what still waits, and ends. What
    /// cannot be written is said in the log, and gone.
    pub async fn write_until(self, db: Db, stop: CancellationToken) {
        let mut pace = StrangerPace::new(Instant::now());
        loop {
            let is_over = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = self.came.notified() => false,
                () = sleep_until(pace.due_at), if !self.queue().strangers.is_empty() => false,
            };
            let strangers = self.take_strangers(&mut pace, is_over);
            self.write(&db, strangers).await;
            if is_over {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(WRITE_EVERY) => {}
            }
        }
    }

    /// Those of strangers, if it is time for them.
    fn take_strangers(&self, pace: &mut StrangerPace, is_over: bool) -> WaitingRefusals {
        let (now, mut queue) = (Instant::now(), self.queue());
        if queue.strangers.is_empty() || (now < pace.due_at && !is_over) {
            return WaitingRefusals::default();
        }
        pace.note_written(now);
        mem::take(&mut queue.strangers)
    }

    /// After a failure the rest is not tried: the database has other troubles.
    async fn write(&self, db: &Db, strangers: WaitingRefusals) {
        let accounts = mem::take(&mut self.queue().accounts);
        let mut left = accounts.values().map(WaitingRefusals::count).sum::<i64>() + strangers.count();
        if let Err(error) = write_all(db, accounts, strangers, &mut left).await {
            warn!(error = %chain(&error), "refusals could not be written into the audit");
        }
        if left > 0 {
            warn!(refusals = left, "refusals are missing in the audit");
        }
    }

    fn queue(&self) -> MutexGuard<'_, RefusalQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what is under no account last: what turns out to belong there comes to it. Takes from
/// `left` what was written.
async fn write_all(
    db: &Db,
    mut accounts: HashMap<AccountId, WaitingRefusals>,
    strangers: WaitingRefusals,
    left: &mut i64,
) -> Result<(), StoreError> {
    let mut without_account = accounts.remove(&NO_ACCOUNT).unwrap_or_default();
    for (account_id, refusals) in accounts {
        if store::accounts::find(db, account_id).await?.is_some() {
            write_account(db, account_id, refusals, left).await?;
            continue;
        }
        // Under an account that is not there nobody would look, and nothing would be forgotten.
        without_account.left_out += refusals.left_out;
        for refused in refusals.kept {
            without_account.add(refused, PER_ACCOUNT_MAX);
        }
    }
    write_account(db, NO_ACCOUNT, without_account, left).await?;
    write_account(db, NO_ACCOUNT, strangers, left).await
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

    fn refused(subject: Option<&str>) -> RefusedAction {
        let actor = AuditActor {
            event_id: Uuid::max(),
            called_at: DateTime::UNIX_EPOCH,
            subject: subject.map(Arc::from),
            method: "MatchCaller",
            request_id: Uuid::max(),
        };
        RefusedAction { actor, target: AuditTarget::default(), reason: "TOKEN_INVALID".into() }
    }

    fn waiting(recorder: &RefusalRecorder, account_id: AccountId) -> (usize, i64) {
        let queue = recorder.queue();
        queue.accounts.get(&account_id).map(|waiting| (waiting.kept.len(), waiting.left_out)).unwrap_or_default()
    }

    fn strangers(recorder: &RefusalRecorder) -> (usize, i64) {
        let queue = recorder.queue();
        (queue.strangers.kept.len(), queue.strangers.left_out)
    }

    /// A flood leaves one event and a count, and another account's events, and those of whoever has
    /// a token of ours, their room.
    #[test]
    fn flood_leaves_one_event_and_its_count() {
        let (recorder, account_id) = (RefusalRecorder::default(), AccountId(Uuid::max()));
        for _ in 0..100_000 {
            recorder.note(NO_ACCOUNT, refused(None));
        }
        for _ in 0..12 {
            recorder.note(account_id, refused(Some("router")));
        }
        recorder.note(NO_ACCOUNT, refused(Some("router")));

        assert_eq!(strangers(&recorder), (1, 99_999));
        assert_eq!(waiting(&recorder, account_id), (10, 2));
        assert_eq!(waiting(&recorder, NO_ACCOUNT), (1, 0));
    }

    /// Any number of accounts that are not there holds no more memory than a few.
    #[test]
    fn accounts_that_wait_are_bounded_and_counted() {
        let recorder = RefusalRecorder::default();
        for number in 1..=100_000 {
            recorder.note(AccountId(Uuid::from_u128(number)), refused(Some("router")));
        }

        assert_eq!(recorder.queue().accounts.len(), ACCOUNTS_MAX + 1);
        assert_eq!(waiting(&recorder, NO_ACCOUNT), (0, 99_900));
        recorder.note(NO_ACCOUNT, refused(Some("router")));
        assert_eq!(waiting(&recorder, NO_ACCOUNT), (1, 99_900));
    }

    /// Strangers who go on are written ever more seldom, and at once again after they have ceased.
    #[test]
    fn strangers_who_go_on_are_written_more_seldom() {
        let begin = Instant::now();
        let mut pace = StrangerPace::new(begin);
        let mut now = begin;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pace.note_written(now);
            pauses.push((pace.due_at - now).as_secs());
            now = pace.due_at;
        }
        pace.note_written(now + STRANGERS_PAUSE_MAX);

        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(pace.pause, WRITE_EVERY);
    }
}
