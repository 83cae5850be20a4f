//! Gives refs the numbers that their texts read as now. The contacts must be locked.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        ids::{AccountId, ContactId, IntegrationId},
        record::RecordKey,
    },
    store::{
        StoreError, Tx,
        contact_writes::{
            contacts,
            numbers::{self, NumberRow},
        },
    },
};

/// A ref of one integration, and whose it is.
type Owner = (ContactId, RecordKey);

/// Locks contacts whose numbers are about to be read again.
pub async fn hold(tx: &mut Tx, account_id: AccountId, contact_ids: &[ContactId]) -> Result<(), StoreError> {
    contacts::lock(tx, account_id, contact_ids).await.map(drop)
}

/// Replaces the numbers of each ref, and says in the feed that its contact has changed. Returns how
/// many contacts that were.
pub async fn renumber(
    tx: &mut Tx,
    account_id: AccountId,
    refs: BTreeMap<(IntegrationId, ContactId, RecordKey), Vec<NumberRow>>,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let changed: BTreeSet<ContactId> = refs.keys().map(|(_, contact_id, _)| *contact_id).collect();
    if changed.is_empty() {
        return Ok(0);
    }
    let mut by_integration: BTreeMap<IntegrationId, (Vec<Owner>, Vec<NumberRow>)> = BTreeMap::new();
    for ((integration_id, contact_id, record), rows) in refs {
        let (owners, numbers) = by_integration.entry(integration_id).or_default();
        owners.push((contact_id, record));
        numbers.extend(rows);
    }
    for (integration_id, (owners, numbers)) in by_integration {
        numbers::replace(tx, account_id, integration_id, &owners, &numbers).await?;
    }
    let changed: Vec<ContactId> = changed.into_iter().collect();
    contacts::touch(tx, account_id, &changed, now).await?;
    Ok(changed.len())
}
