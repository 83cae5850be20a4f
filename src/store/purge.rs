//! Removes what an integration copied, in batches, for `DisableSync` with PURGE. Under the lease of its worker.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    StoreError, Tx, contact_writes,
    external_refs::{self, key_of},
    integrations,
    lease::Lease,
};
use crate::domain::{ids::ContactId, integration_state::ControlEvent, record::RecordKey};

/// Refs removed by one transaction.
pub const BATCH_MAX: i64 = 1_000;

/// Removes a batch of refs with their numbers, and buries contacts left without a record. Returns how many refs it removed.
pub async fn remove_batch(tx: &mut Tx, lease: Lease, now: DateTime<Utc>) -> Result<usize, StoreError> {
    let rows = sqlx::query!(
        "-- store::purge::remove_batch (finds refs)
        select object_type, record_id
        from external_refs
        where account_id = $1 and integration_id = $2
        order by object_type, record_id
        limit $3",
        lease.account_id.0,
        lease.integration_id.0,
        BATCH_MAX,
    )
    .fetch_all(&mut **tx)
    .await?;
    let keys: Vec<RecordKey> =
        rows.into_iter().map(|row| key_of(&row.object_type, row.record_id)).collect::<Result<_, _>>()?;
    // In the order in which everybody locks refs, which is not the database's.
    let refs = external_refs::lock(tx, lease.account_id, lease.integration_id, &keys).await?;
    let types: Vec<String> = refs.iter().map(|row| row.key.object_type.as_str().to_owned()).collect();
    let records: Vec<String> = refs.iter().map(|row| row.key.record_id.clone()).collect();
    let owners: Vec<Option<Uuid>> = refs.iter().map(|row| row.contact.map(|(id, _)| id.0)).collect();
    sqlx::query!(
        "-- store::purge::remove_batch (numbers)
        delete from phone_numbers n
        using unnest($3::text[], $4::text[], $5::uuid[]) as u (object_type, record_id, contact_id)
        where n.account_id = $1 and n.integration_id = $2 and n.contact_id = u.contact_id
          and n.object_type = u.object_type and n.record_id = u.record_id",
        lease.account_id.0,
        lease.integration_id.0,
        &types,
        &records,
        &owners as &[Option<Uuid>],
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::purge::remove_batch (refs)
        delete from external_refs e
        using unnest($3::text[], $4::text[]) as u (object_type, record_id)
        where e.account_id = $1 and e.integration_id = $2 and e.object_type = u.object_type and e.record_id = u.record_id",
        lease.account_id.0,
        lease.integration_id.0,
        &types,
        &records,
    )
    .execute(&mut **tx)
    .await?;
    let mut contact_ids: Vec<ContactId> = owners.into_iter().flatten().map(ContactId).collect();
    contact_ids.sort_unstable();
    contact_ids.dedup();
    contact_writes::lock(tx, lease.account_id, &contact_ids).await?;
    contact_writes::bury_without_live_refs(tx, lease.account_id, &contact_ids, now).await?;
    Ok(refs.len())
}

/// Marks the removal as done: nothing of this integration is here, and enabling it again starts from nothing.
pub async fn complete(tx: &mut Tx, lease: Lease, now: DateTime<Utc>) -> Result<(), StoreError> {
    integrations::apply_to_own(tx, lease, ControlEvent::PurgeCompleted, now).await?;
    sqlx::query!(
        "-- store::purge::complete
        update integrations
        set checkpoint = null, known_through = null, first_started_at = null, rejected_left_out = 0
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::purge::complete (rejected records)
        delete from rejected_records
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    // A copy that was cut off before must not be gone on with: what it had read is not here any more.
    sqlx::query!(
        "-- store::purge::complete (forgets resume points)
        update sync_runs
        set resume_point = null
        where account_id = $1 and integration_id = $2 and resume_point is not null",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
