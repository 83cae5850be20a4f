//! The feed of changes: numbers what is committed, looks again at what automations were told, and lists it to readers.
//! Whoever reads publishes first: no worker has to run for a reader to be up to date, and a feed that nobody reads costs nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    domain::{change::Change, clock::Clock, ids::AccountId},
    identity::corrections,
    store::{
        Db, StoreError,
        accounts::RulesCache,
        changes::{self, Extent, Unpublished},
        decisions,
    },
};

/// Decisions looked at again in one transaction, about seven statements each. They are locked until it ends, and a call, a choice or an
/// automation that asks again waits for that, a tenth of a second at most (`app::pool_settings`).
const DECISIONS_MAX: i64 = 5;
/// Such transactions in one round.
const LOOKS_MAX: usize = 20;
/// Rounds that one reader spends on publishing; the next call goes on.
const ROUNDS_MAX: usize = 20;

/// What the feed works with.
#[derive(Clone)]
pub struct Feed {
    /// For its transactions.
    pub db: Db,
    /// Which accounts there are.
    pub rules: RulesCache,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// A page of the feed.
pub struct FeedPage {
    /// In order, without gaps.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub next_after: i64,
    /// There is more already.
    pub has_more: bool,
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
    /// The database did not answer.
    #[error("the changes could not be read")]
    Store(#[from] StoreError),
}

/// What one round of a publisher has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Changes that have a number now.
    pub numbered: usize,
    /// Decisions that were looked at again.
    pub looked_at: usize,
}

impl Feed {
    /// Changes behind the number `after` (0: from the beginning), at most `limit`.
    pub async fn list(&self, account_id: AccountId, after: i64, limit: usize) -> Result<FeedPage, FeedError> {
        self.rules.find(account_id).await?.ok_or(FeedError::AccountNotFound)?;
        let wanted = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut found = changes::list(&self.db, account_id, after, wanted).await?;
        for _ in 0..ROUNDS_MAX {
            if found.len() > limit {
                break;
            }
            let published = self.publish(account_id).await?;
            if published == (Published { numbered: 0, looked_at: 0 }) {
                break;
            }
            found = changes::list(&self.db, account_id, after, wanted).await?;
        }
        self.check(account_id, after).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next_after = found.last().map_or(after, |change| change.number);
        Ok(FeedPage { changes: found, next_after, has_more })
    }

    /// The position behind everything that has happened until now, for a reader that begins by listing the contacts.
    pub async fn end(&self, account_id: AccountId) -> Result<i64, FeedError> {
        self.rules.find(account_id).await?.ok_or(FeedError::AccountNotFound)?;
        let extent = changes::find_extent(&self.db, account_id).await?;
        Ok(extent.map_or(0, |extent| extent.last_number))
    }

    async fn check(&self, account_id: AccountId, after: i64) -> Result<(), FeedError> {
        let none = Extent { last_number: 0, forgotten_through: 0 };
        let extent = changes::find_extent(&self.db, account_id).await?.unwrap_or(none);
        if after < extent.forgotten_through {
            return Err(FeedError::Forgotten(extent.forgotten_through));
        }
        if after > extent.last_number {
            return Err(FeedError::Beyond(extent.last_number));
        }
        Ok(())
    }

    /// Numbers some of what is committed, marks the decisions that it makes doubtful, and then looks at some of those again.
    pub async fn publish(&self, account_id: AccountId) -> Result<Published, StoreError> {
        let (numbered, has_stale) = self
            .db
            .transaction(move |tx| {
                Box::pin(async move {
                    let extent = changes::lock_feed(tx, account_id).await?;
                    let ordered = in_order(changes::find_unpublished(tx, account_id).await?);
                    if !ordered.is_empty() {
                        changes::number(tx, account_id, &ordered, extent.last_number).await?;
                        let subjects: Vec<Uuid> = ordered.iter().map(|change| change.subject_id).collect();
                        decisions::mark_stale(tx, account_id, &subjects).await?;
                    }
                    Ok::<_, StoreError>((ordered.len(), decisions::has_stale(tx, account_id).await?))
                })
            })
            .await?;
        let looked_at = if has_stale { self.look_again(account_id).await? } else { 0 };
        Ok(Published { numbered, looked_at })
    }

    /// Looks again at some of what is doubtful, a few decisions a transaction. Returns at how many.
    async fn look_again(&self, account_id: AccountId) -> Result<usize, StoreError> {
        let mut all = 0;
        for _ in 0..LOOKS_MAX {
            let now = self.clock.now();
            let looked_at = self
                .db
                .transaction(move |tx| {
                    Box::pin(async move {
                        changes::lock_feed(tx, account_id).await?;
                        corrections::look_again(tx, account_id, DECISIONS_MAX, now).await
                    })
                })
                .await?;
            if looked_at == 0 {
                break;
            }
            all += looked_at;
        }
        Ok(all)
    }
}

/// By time, and the versions of one subject in their order whatever the clocks said.
fn in_order(mut changes: Vec<Unpublished>) -> Vec<Unpublished> {
    changes.sort_unstable_by_key(|change| (change.subject_id, change.version));
    let mut latest: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
    let mut places: BTreeMap<(DateTime<Utc>, Uuid, i64), Unpublished> = BTreeMap::new();
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

    fn change(subject: u128, version: i64, second: i64) -> Unpublished {
        Unpublished {
            subject_id: Uuid::from_u128(subject),
            version,
            created_at: DateTime::from_timestamp(second, 0).unwrap(),
        }
    }

    #[test]
    fn changes_are_in_the_order_of_time() {
        let ordered = in_order(vec![change(1, 2, 30), change(2, 1, 20), change(1, 1, 10)]);

        assert_eq!(ordered, [change(1, 1, 10), change(2, 1, 20), change(1, 2, 30)]);
    }

    #[test]
    fn versions_of_one_contact_keep_their_order_though_a_clock_was_behind() {
        let ordered = in_order(vec![change(1, 2, 10), change(1, 1, 30), change(2, 1, 20)]);

        assert_eq!(ordered, [change(2, 1, 20), change(1, 1, 30), change(1, 2, 10)]);
    }
}
