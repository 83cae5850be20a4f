//! Removes what an integration has copied, for `DisableSync` with PURGE: `sync::purge` calls it,
//! under the lease of its worker.

use chrono::{DateTime, Utc};

use crate::{
    domain::ids::{AccountId, ContactId, IntegrationId},
    store::{
        StoreError, Tx,
        contact_writes::{contacts, purge, refs, tombstones},
    },
};

/// Removes a batch of refs with their numbers, and leaves tombstones of contacts that have no
/// record any more. Returns how many refs it removed.
pub async fn remove_batch(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let keys = purge::find_refs(tx, account_id, integration_id).await?;
    // In the order in which everybody locks refs, which is not that in which they were found.
    let locked = refs::lock(tx, account_id, integration_id, &keys).await?;
    purge::remove_refs(tx, account_id, integration_id, &locked).await?;
    let mut contact_ids: Vec<ContactId> = locked.iter().filter_map(|row| row.contact.map(|(id, _)| id)).collect();
    contact_ids.sort_unstable();
    contact_ids.dedup();
    contacts::lock(tx, account_id, &contact_ids).await?;
    tombstones::tombstone_without_refs(tx, account_id, &contact_ids, now).await?;
    Ok(locked.len())
}
