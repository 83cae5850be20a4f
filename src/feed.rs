//! The feed of changes: numbers what is committed, looks again at what automations were told, and
//! lists it to readers. Whoever reads publishes first: no worker has to run for a reader to be up
//! to date, and a feed that nobody reads costs nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::AtomicUsize},
};

use chrono::{DateTime, Utc};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    domain::{
        change::Change,
        clock::Clock,
        ids::{AccountId, IdSource},
    },
    identity::corrections,
    store::{
        Db, StoreError, Transaction, Tx,
        accounts::RulesCache,
        changes::{self, FeedBounds, UnpublishedChange},
        requester_decisions,
    },
};

/// Decisions looked at again in one transaction, about seven statements each. They are locked until
/// it ends, and a call, a choice or an automation that asks again waits for that, a tenth of a
/// second at most (`app::pool_settings`).
const DECISIONS_MAX: i64 = 5;
/// Such transactions in one round.
const LOOKS_MAX: usize = 20;
/// Rounds that one reader spends on publishing; the next call goes on.
const ROUNDS_MAX: usize = 20;

/// Numbers of a new epoch are at least so far above the last: more than a lost tail, or a restored
/// hour, can have held.
const EPOCH_GAP: i64 = 1 << 32;
/// They begin at its second, counted in millionths: so two databases restored from one backup do
/// not give the same ones. A reader in JavaScript can still hold them (2^53 is reached in the year
/// 2255).
const NUMBERS_PER_SECOND: i64 = 1_000_000;

/// What the feed works with.
#[derive(Clone)]
pub struct ChangeFeed {
    db: Db,
    rules: RulesCache,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    /// How the server is asked which database it is.
    origin_form: Arc<AtomicUsize>,
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy)]
pub struct FeedPosition<'p> {
    /// In which epoch; empty: not said.
    pub epoch: &'p str,
    /// Behind this number; 0: at the beginning.
    pub after: i64,
}

/// A page of the feed.
pub struct FeedPage {
    /// In order, without gaps.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub next_after: i64,
    /// There is more already.
    pub has_more: bool,
    /// In which the numbers are.
    pub epoch: String,
}

/// Why the feed cannot be read from there.
#[derive(Debug, Error)]
pub enum FeedError {
    /// No such account.
    #[error("there is no such account")]
    AccountNotFound,
    /// What comes behind is not kept any more.
    #[error(
        "changes up to number {0} are not kept any more; list the contacts anew, and go on behind the position given"
    )]
    Forgotten(i64),
    /// Nobody was ever given this position.
    #[error("is beyond the newest change, number {0}; was it given by another account or database?")]
    Beyond(i64),
    /// The position was given by a database that this one is not.
    #[error(
        "the database was restored or has failed over since this position was given, and what it had told may be lost; list the \
         contacts anew, and go on behind position {position} in the epoch {epoch}"
    )]
    Reset {
        /// Today's.
        epoch: String,
        /// Behind what was published until now.
        position: i64,
    },
    /// The database did not answer.
    #[error("the changes could not be read")]
    Store(#[from] StoreError),
}

/// What one round of a publisher has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedRound {
    /// Changes that have a number now.
    pub numbered: usize,
    /// Decisions that were looked at again.
    pub looked_at: usize,
}

impl ChangeFeed {
    /// Joins it.
    pub fn new(db: Db, rules: RulesCache, clock: Arc<dyn Clock>, ids: Arc<IdSource>) -> Self {
        Self { db, rules, clock, ids, origin_form: Arc::default() }
    }

    /// Changes behind this position, at most `limit`.
    pub async fn list(
        &self,
        account_id: AccountId,
        position: FeedPosition<'_>,
        limit: usize,
    ) -> Result<FeedPage, FeedError> {
        self.rules.find(account_id).await?.ok_or(FeedError::AccountNotFound)?;
        let begun = self.current_epoch(account_id).await?;
        check_epoch(&begun, position)?;
        let after = position.after;
        let wanted = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut found = changes::list(&self.db, account_id, after, wanted).await?;
        for _ in 0..ROUNDS_MAX {
            if found.len() > limit {
                break;
            }
            let published = self.publish(account_id).await?;
            if published == (PublishedRound { numbered: 0, looked_at: 0 }) {
                break;
            }
            found = changes::list(&self.db, account_id, after, wanted).await?;
        }
        // Once more: between two statements a fail-over may have put another database in the place
        // of the first.
        let bounds = self.current_epoch(account_id).await?;
        if bounds.epoch != begun.epoch {
            return Err(StoreError::Conflict.into());
        }
        check_bounds(&bounds, after)?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next_after = found.last().map_or(after, |change| change.number);
        Ok(FeedPage { changes: found, next_after, has_more, epoch: bounds.epoch.unwrap_or_default() })
    }

    /// The position behind everything that has happened until now and its epoch, for a reader that
    /// begins by listing the contacts.
    pub async fn end(&self, account_id: AccountId) -> Result<(i64, String), FeedError> {
        self.rules.find(account_id).await?.ok_or(FeedError::AccountNotFound)?;
        let bounds = self.current_epoch(account_id).await?;
        Ok((bounds.last_number, bounds.epoch.unwrap_or_default()))
    }

    /// How far the feed reaches, in an epoch of this very database: begins one if the numbers were
    /// given by another.
    async fn current_epoch(&self, account_id: AccountId) -> Result<FeedBounds, StoreError> {
        let origin = changes::find_origin(&self.db, account_id, &self.origin_form).await?;
        if let Some(bounds) = changes::find_bounds(&self.db, account_id).await?
            && bounds.origin.as_deref().is_some_and(|stored| tells(stored, &origin))
        {
            return Ok(bounds);
        }
        let epoch = Uuid::from_u128(self.ids.with_rng(rand::RngExt::random)).simple().to_string();
        self.db.of(account_id).run(BeginEpoch { origin, epoch, now: self.clock.now() }).await
    }

    /// Numbers some of what is committed, marks the decisions that it makes doubtful, and then
    /// looks at some of those again.
    pub async fn publish(&self, account_id: AccountId) -> Result<PublishedRound, StoreError> {
        let (numbered, has_stale) = self.db.of(account_id).run(PublishChanges).await?;
        let looked_at = if has_stale { self.correct_decisions(account_id).await? } else { 0 };
        Ok(PublishedRound { numbered, looked_at })
    }

    /// Looks again at some of what is doubtful, a few decisions a transaction. Returns at how many.
    async fn correct_decisions(&self, account_id: AccountId) -> Result<usize, StoreError> {
        let mut all = 0;
        for _ in 0..LOOKS_MAX {
            let looked_at = self.db.of(account_id).run(CorrectDecisions { now: self.clock.now() }).await?;
            if looked_at == 0 {
                break;
            }
            all += looked_at;
        }
        Ok(all)
    }
}

/// Begins an epoch of this database, unless another reader was quicker. Gives how far the feed
/// reaches then.
struct BeginEpoch {
    /// By what the database is known.
    origin: String,
    /// The new epoch's name.
    epoch: String,
    now: DateTime<Utc>,
}

impl Transaction for BeginEpoch {
    const NAME: &'static str = "begin_epoch";
    type Output = FeedBounds;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<FeedBounds, StoreError> {
        let Self { origin, epoch, now } = self;
        let account_id = tx.account_id();
        let bounds = changes::lock_feed(tx, account_id).await?;
        match bounds.origin.as_deref() {
            Some(stored) if tells(stored, origin) => return Ok(bounds),
            Some(stored) if tells(origin, stored) => {
                // The server tells more than before: the epoch is the same.
                let epoch = bounds.epoch.as_deref().unwrap_or(epoch);
                changes::begin_epoch(tx, account_id, origin, epoch, bounds.epoch_base).await?;
                return changes::lock_feed(tx, account_id).await;
            }
            _ => {}
        }
        let base = epoch_base(&bounds, *now);
        changes::begin_epoch(tx, account_id, origin, epoch, base).await?;
        if base > 0 {
            tracing::warn!(account.id = %account_id, "the feed begins a new epoch: its readers are told to list the contacts anew");
        }
        changes::lock_feed(tx, account_id).await
    }
}

/// Numbers some of what is committed and marks the decisions that it makes doubtful. Gives how many
/// changes, and whether there are such decisions.
struct PublishChanges;

impl Transaction for PublishChanges {
    const NAME: &'static str = "publish_changes";
    type Output = (usize, bool);
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<(usize, bool), StoreError> {
        let account_id = tx.account_id();
        let bounds = changes::lock_feed(tx, account_id).await?;
        let ordered = in_order(changes::find_unpublished(tx, account_id).await?);
        if !ordered.is_empty() {
            changes::number(tx, account_id, &ordered, bounds.last_number).await?;
            let subjects: Vec<Uuid> = ordered.iter().map(|change| change.subject_id).collect();
            requester_decisions::mark_stale(tx, account_id, &subjects).await?;
        }
        Ok((ordered.len(), requester_decisions::has_stale(tx, account_id).await?))
    }
}

/// Decides a few stale decisions again. Gives how many.
struct CorrectDecisions {
    now: DateTime<Utc>,
}

impl Transaction for CorrectDecisions {
    const NAME: &'static str = "correct_decisions";
    type Output = usize;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<usize, StoreError> {
        let account_id = tx.account_id();
        changes::lock_feed(tx, account_id).await?;
        corrections::correct_stale(tx, account_id, DECISIONS_MAX, self.now).await
    }
}

/// Whether what is stored of a database tells that it is this one. A server that grants less tells
/// the end only (the timeline and the database's id, or the id alone), and must not begin an epoch
/// by it: replicas with other rights would reset each other's readers.
fn tells(stored: &str, origin: &str) -> bool {
    stored.strip_suffix(origin).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// Where the numbers of a new epoch begin; the first begins at 0.
fn epoch_base(bounds: &FeedBounds, now: DateTime<Utc>) -> i64 {
    if bounds.epoch.is_none() {
        return 0;
    }
    let by_time = now.timestamp().saturating_mul(NUMBERS_PER_SECOND);
    bounds.last_number.saturating_add(EPOCH_GAP).max(by_time)
}

/// Whether the position is one of this epoch. A number of an earlier one is recognised also if its
/// reader names none.
fn check_epoch(bounds: &FeedBounds, position: FeedPosition<'_>) -> Result<(), FeedError> {
    let FeedPosition { epoch, after } = position;
    let is_other = !epoch.is_empty() && bounds.epoch.as_deref() != Some(epoch);
    if is_other || (after > 0 && after < bounds.epoch_base) {
        let epoch = bounds.epoch.clone().unwrap_or_default();
        return Err(FeedError::Reset { epoch, position: bounds.last_number });
    }
    Ok(())
}

fn check_bounds(bounds: &FeedBounds, after: i64) -> Result<(), FeedError> {
    if after < bounds.forgotten_through {
        return Err(FeedError::Forgotten(bounds.forgotten_through));
    }
    if after > bounds.last_number {
        return Err(FeedError::Beyond(bounds.last_number));
    }
    Ok(())
}

/// By time, and the versions of one subject in their order whatever the clocks said.
fn in_order(mut changes: Vec<UnpublishedChange>) -> Vec<UnpublishedChange> {
    changes.sort_unstable_by_key(|change| (change.subject_id, change.version));
    let mut latest: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
    let mut places: BTreeMap<(DateTime<Utc>, Uuid, i64), UnpublishedChange> = BTreeMap::new();
    for change in changes {
        let at = latest.entry(change.subject_id).or_insert(change.created_at);
        *at = (*at).max(change.created_at);
        places.insert((*at, change.subject_id, change.version), change);
    }
    places.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(subject: u128, version: i64, second: i64) -> UnpublishedChange {
        UnpublishedChange {
            subject_id: Uuid::from_u128(subject),
            version,
            created_at: DateTime::from_timestamp(second, 0).unwrap(),
        }
    }

    /// A database is the same if nothing that both tell of it differs.
    #[test]
    fn databases_differ_only_by_what_both_tell() {
        for same in ["7/00000001/5", "00000001/5", "5"] {
            assert!(tells("7/00000001/5", same), "{same}");
        }
        for other in ["8/00000001/5", "7/00000002/5", "00000002/5", "6", "15", "7/00000001/15"] {
            assert!(!tells("7/00000001/5", other), "{other}");
        }
        assert!(!tells("00000001/5", "7/00000001/5"), "the server tells more than is known");
    }

    fn bounds(epoch: Option<&str>, last_number: i64, epoch_base: i64) -> FeedBounds {
        let epoch = epoch.map(str::to_owned);
        FeedBounds { last_number, forgotten_through: epoch_base, origin: None, epoch, epoch_base }
    }

    /// The first epoch begins at zero, and the next one far above and by the time.
    #[test]
    fn first_epoch_begins_at_zero_next_far_above() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();

        assert_eq!(epoch_base(&bounds(None, 7, 0), at(1_800_000_000)), 0);
        assert_eq!(epoch_base(&bounds(Some("a"), 7, 0), at(1_800_000_000)), 1_800_000_000_000_000);
        // A clock that is behind does not lead back to numbers that were given.
        assert_eq!(epoch_base(&bounds(Some("a"), 7, 0), at(0)), 7 + EPOCH_GAP);
        assert_eq!(epoch_base(&bounds(Some("a"), i64::MAX, 0), at(i64::from(i32::MAX))), i64::MAX);
    }

    /// A position of another epoch is recognised by name or by number.
    #[test]
    fn foreign_epoch_is_recognised_by_name_or_number() {
        let now = bounds(Some("b"), 1_000_007, 1_000_000);
        let is_reset =
            |epoch, after| matches!(check_epoch(&now, FeedPosition { epoch, after }), Err(FeedError::Reset { .. }));

        assert!(is_reset("a", 1_000_003));
        assert!(is_reset("a", 0));
        assert!(is_reset("", 605));
        assert!(!is_reset("b", 1_000_003));
        assert!(!is_reset("", 1_000_000));
        assert!(!is_reset("", 0));
    }

    #[test]
    fn changes_are_in_the_order_of_time() {
        let ordered = in_order(vec![change(1, 2, 30), change(2, 1, 20), change(1, 1, 10)]);

        assert_eq!(ordered, [change(1, 1, 10), change(2, 1, 20), change(1, 2, 30)]);
    }

    /// Versions of one contact keep their order, though a clock was behind.
    #[test]
    fn versions_keep_order_though_clock_was_behind() {
        let ordered = in_order(vec![change(1, 2, 10), change(1, 1, 30), change(2, 1, 20)]);

        assert_eq!(ordered, [change(2, 1, 20), change(1, 1, 30), change(1, 2, 10)]);
    }
}
