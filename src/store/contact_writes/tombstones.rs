//! How contacts end that lead nowhere: deleted with their last record, or erased.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::contacts;
use crate::{
    domain::{
        change::ChangeKind,
        ids::{AccountId, ContactId},
    },
    store::{
        StoreError, Tx,
        changes::{self, ChangedContact},
        contact_writes::numbers,
        fragments::statement,
    },
};

/// Makes tombstones of those that have no live record left, forgets what was personal, and ends
/// their numbers (a record whose deletion was not mirrored may have left some). The others have
/// changed.
pub async fn tombstone_without_refs(
    tx: &mut Tx,
    account_id: AccountId,
    contact_ids: &[ContactId],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    let ended = statement!(
        ChangedContact,
        [
            "-- store::contact_writes::tombstones::tombstone_without_refs
            update contacts c
            set " TOMBSTONE "
            where c.account_id = $1 and c.contact_id = any($3) and c.deleted_at is null
              and not exists (
                select from external_refs e
                where e.account_id = $1 and e.contact_id = c.contact_id and e.is_live
              )
            returning c.contact_id, c.version, c.survivor_id"
        ],
        account_id.0,
        now,
        &ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Deleted, &ended, now).await?;
    let ended: Vec<Uuid> = ended.into_iter().map(|row| row.contact_id).collect();
    let others: Vec<ContactId> = contact_ids.iter().filter(|id| !ended.contains(&id.0)).copied().collect();
    if !others.is_empty() {
        contacts::touch(tx, account_id, &others, now).await?;
    }
    if !ended.is_empty() {
        numbers::remove_all(tx, account_id, &ended).await?;
    }
    Ok(())
}

/// Leaves a tombstone of an erased person, and says in the feed that the person was erased. False:
/// it was erased before.
pub async fn tombstone_erased(
    tx: &mut Tx,
    account_id: AccountId,
    contact_id: ContactId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let erased = statement!(
        ChangedContact,
        [
            "-- store::contact_writes::tombstones::tombstone_erased
            update contacts c
            set " TOMBSTONE ", erased_at = $2
            where c.account_id = $1 and c.contact_id = $3 and c.erased_at is null
            returning c.contact_id, c.version, c.survivor_id"
        ],
        account_id.0,
        now,
        contact_id.0,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Erased, &erased, now).await?;
    Ok(!erased.is_empty())
}
