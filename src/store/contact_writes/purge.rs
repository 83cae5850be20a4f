//! What an integration has copied, in batches, for `DisableSync` with PURGE.

use uuid::Uuid;

use super::refs::StoredRef;
use crate::{
    domain::{
        ids::{AccountId, IntegrationId},
        record::RecordKey,
    },
    store::{
        StoreError, Tx,
        record_keys::{key_columns, key_of},
    },
};

/// Refs removed by one transaction.
pub const BATCH_MAX: i64 = 1_000;

/// Some refs of an integration; empty: none is left.
pub async fn find_refs(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<Vec<RecordKey>, StoreError> {
    let rows = sqlx::query!(
        "-- store::contact_writes::purge::find_refs
        select object_type, record_id
        from external_refs
        where account_id = $1 and integration_id = $2
        order by object_type, record_id
        limit $3",
        account_id.0,
        integration_id.0,
        BATCH_MAX,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| key_of(&row.object_type, row.record_id)).collect()
}

/// Removes these refs, which must be locked, and their numbers.
pub async fn remove_refs(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    refs: &[StoredRef],
) -> Result<(), StoreError> {
    let keys: Vec<RecordKey> = refs.iter().map(|row| row.key.clone()).collect();
    let (types, records) = key_columns(&keys);
    let owners: Vec<Option<Uuid>> = refs.iter().map(|row| row.contact.map(|(id, _)| id.0)).collect();
    sqlx::query!(
        "-- store::contact_writes::purge::remove_refs (numbers)
        delete from phone_numbers n
        using unnest($3::text[], $4::text[], $5::uuid[]) as u (object_type, record_id, contact_id)
        where n.account_id = $1 and n.integration_id = $2 and n.contact_id = u.contact_id
          and n.object_type = u.object_type and n.record_id = u.record_id",
        account_id.0,
        integration_id.0,
        &types,
        &records,
        &owners as &[Option<Uuid>],
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::contact_writes::purge::remove_refs
        delete from external_refs e
        using unnest($3::text[], $4::text[]) as u (object_type, record_id)
        where e.account_id = $1 and e.integration_id = $2 and e.object_type = u.object_type and e.record_id = u.record_id",
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
