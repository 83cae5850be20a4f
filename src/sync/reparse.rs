//! Reads stored numbers again after a change of rules (a newer library) or of an account's regions:
//! batch by batch, resumable, beside calls and syncs. Any number of processes may try; the
//! account's row lock lets one work at a time.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use phone_key::{PhoneKey, Region};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::normalize::{NumberRules, numbers};
use crate::{
    domain::{
        clock::Clock,
        ids::{AccountId, ContactId, IntegrationId},
        record::{NormalNumber, RawNumber, RecordKey},
    },
    identity::{adoption, renumber},
    store::{
        Db, StoreError, Transaction, Tx,
        contact_writes::numbers::NumberRow,
        reparse::{self, StoredNumber},
    },
    telemetry::chain,
};

/// From look to look for accounts whose numbers are to be read again. Until they are, strangers of
/// those accounts are not surely strangers.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What one batch has done.
struct ReparsedBatch {
    gained: Vec<PhoneKey>,
    changed: usize,
    is_last: bool,
}

/// Reads stored numbers again.
pub struct NumberReparser {
    /// The workers' own pool.
    pub db: Db,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl NumberReparser {
    /// Looks for accounts to read again, until `stop` is cancelled.
    pub async fn reparse_until(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                result = self.reparse_due() => {
                    // What fails in one account is logged there.
                    if let Err(error) = result {
                        debug!(error = %chain(&error), "not all stored numbers were read again");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Reads again whatever is due now, of each account a batch in turn: neither a large account
    /// nor one that fails keeps the others waiting. Returns of how many contacts a number has
    /// changed, or the last failure.
    pub async fn reparse_due(&self) -> Result<usize, StoreError> {
        let (mut changed, mut failure) = (0, None);
        let mut due: VecDeque<(AccountId, usize)> =
            reparse::find_due(&self.db).await?.into_iter().map(|account_id| (account_id, 0)).collect();
        while let Some((account_id, before)) = due.pop_front() {
            match self.reparse_batch(account_id).await {
                Ok(batch) => {
                    changed += batch.changed;
                    let of_account = before + batch.changed;
                    if batch.is_last {
                        info!(account.id = %account_id, contacts = of_account, "stored numbers were read again");
                    } else {
                        due.push_back((account_id, of_account));
                    }
                }
                Err(error) => {
                    warn!(account.id = %account_id, error = %chain(&error), "stored numbers could not be read again, will go on where it was");
                    failure = Some(error);
                }
            }
        }
        failure.map_or(Ok(changed), Err)
    }

    /// Reads the next contacts of an account again.
    async fn reparse_batch(&self, account_id: AccountId) -> Result<ReparsedBatch, StoreError> {
        let now = self.clock.now();
        let batch = self.db.of(account_id).run(ReparseBatch { account_id, now }).await?;
        adoption::adopt_late(&self.db, account_id, batch.gained.clone(), now).await?;
        Ok(batch)
    }
}

/// The next contacts of an account, under its lock.
struct ReparseBatch {
    account_id: AccountId,
    now: DateTime<Utc>,
}

impl Transaction for ReparseBatch {
    const NAME: &'static str = "reparse_batch";
    type Output = ReparsedBatch;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<ReparsedBatch, StoreError> {
        let account_id = self.account_id;
        let done = ReparsedBatch { gained: Vec::new(), changed: 0, is_last: true };
        let Some(due) = reparse::lock(tx, account_id).await? else { return Ok(done) };
        let found = reparse::find_contacts(tx, account_id, due.after).await?;
        let last = found.last().copied();
        let rules = NumberRules { region: due.default_region, has_further_regions: due.has_further_regions };
        renumber::hold(tx, account_id, &found).await?;
        let stored = reparse::list_numbers(tx, account_id, &found).await?;
        let fresh = changed_refs(stored, rules);
        let gained = fresh.values().flatten().filter_map(|row| row.key).collect();
        let changed = renumber::renumber(tx, account_id, fresh, self.now).await?;
        reparse::advance(tx, account_id, last).await?;
        Ok(ReparsedBatch { gained, changed, is_last: last.is_none() })
    }
}

/// A ref, and whose it is.
type Owner = (IntegrationId, ContactId, RecordKey);

/// The numbers of those refs that read otherwise now.
fn changed_refs(stored: Vec<StoredNumber>, rules: NumberRules) -> BTreeMap<Owner, Vec<NumberRow>> {
    let mut refs: BTreeMap<Owner, Vec<StoredNumber>> = BTreeMap::new();
    for number in stored {
        let owner = (number.integration_id, number.contact_id, number.record.clone());
        refs.entry(owner).or_default().push(number);
    }
    refs.into_iter()
        .filter_map(|(owner, old)| {
            let fresh = numbers(&raw_numbers(&old), old.first()?.record_region, rules);
            let is_same = old.len() == fresh.len() && old.iter().zip(&fresh).all(|(old, new)| is_same(old, new));
            let created_at = old.first()?.contact_created_at;
            let rows = (0..).zip(fresh).map(|(position, number)| NumberRow {
                contact_id: owner.1,
                contact_created_at: created_at,
                record: owner.2.clone(),
                position,
                raw: number.raw,
                region: number.region,
                key: number.key,
                extension: number.extension,
                label: number.label,
                local_digits: number.local_digits,
            });
            let rows: Vec<NumberRow> = rows.collect();
            (!is_same).then_some((owner, rows))
        })
        .collect()
}

/// The texts as the CRM had them: a text with several numbers stands once for each.
fn raw_numbers(stored: &[StoredNumber]) -> Vec<RawNumber> {
    let mut texts: Vec<RawNumber> = Vec::new();
    for number in stored {
        if texts.iter().all(|known| known.raw != number.raw || known.label != number.label) {
            texts.push(RawNumber { raw: number.raw.clone(), label: number.label.clone() });
        }
    }
    texts
}

fn is_same(old: &StoredNumber, new: &NormalNumber) -> bool {
    old.raw == new.raw
        && old.key == new.key
        && old.extension == new.extension
        && old.local_digits == new.local_digits
        && old.region == new.region.as_ref().map_or("", Region::as_str)
}
