//! What a sweep has seen, and what it has not. Under the lease of its worker.

use chrono::{DateTime, Utc};

use super::{
    Db, StoreError, Tx,
    lease::Lease,
    record_keys::{key_columns, key_of},
};
use crate::domain::{
    ids::{AccountId, IntegrationId},
    record::{ObjectType, RecordKey},
};

fn names(types: &[ObjectType]) -> Vec<String> {
    types.iter().map(|object_type| object_type.as_str().to_owned()).collect()
}

/// Notes that the sweep has seen these records, or has asked for them.
pub async fn mark_seen(tx: &mut Tx, lease: Lease, sweep_number: i64, keys: &[RecordKey]) -> Result<(), StoreError> {
    let (types, records) = key_columns(keys);
    sqlx::query!(
        "-- store::sweeps::mark_seen
        update external_refs e
        set seen_by_sweep = $5
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        where e.account_id = $1 and e.integration_id = $2 and e.object_type = u.object_type and e.record_id = u.record_id
          and e.seen_by_sweep <> $5",
        lease.account_id.0,
        lease.integration_id.0,
        &types,
        &records,
        sweep_number,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How many records of these kinds are held as live, and how many of them the sweep has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingCounts {
    /// Held as live.
    pub live: i64,
    /// Of those, not seen.
    pub missing: i64,
    /// Known to be gone, with a contact that still lives by them.
    pub undeleted_leftovers: i64,
}

/// Counts what a sweep would end.
pub async fn count_missing(
    db: &Db,
    lease: Lease,
    sweep_number: i64,
    types: &[ObjectType],
) -> Result<MissingCounts, StoreError> {
    let row = sqlx::query!(
        r#"-- store::sweeps::count_missing
        select
            count(*) filter (where e.is_live) as "live!",
            count(*) filter (where e.is_live and e.seen_by_sweep < $4) as "missing!",
            count(*) filter (where not e.is_live and c.deleted_at is null and c.contact_id is not null
                and not exists (select from external_refs l where l.account_id = $1 and l.contact_id = e.contact_id and l.is_live)) as "undeleted_leftovers!"
        from external_refs e
        left join contacts c on c.account_id = $1 and c.contact_id = e.contact_id and not e.is_live
        where e.account_id = $1 and e.integration_id = $2 and e.object_type = any($3)"#,
        lease.account_id.0,
        lease.integration_id.0,
        &names(types),
        sweep_number,
    )
    .fetch_one(db.of(lease.account_id))
    .await?;
    Ok(MissingCounts { live: row.live, missing: row.missing, undeleted_leftovers: row.undeleted_leftovers })
}

/// Live records of these kinds that the sweep has not seen, behind this one in the order of their
/// keys.
pub async fn find_missing(
    db: &Db,
    lease: Lease,
    sweep_number: i64,
    types: &[ObjectType],
    after: Option<&RecordKey>,
    limit: i64,
) -> Result<Vec<RecordKey>, StoreError> {
    let (after_type, after_id) = after.map_or(("", ""), |key| (key.object_type.as_str(), key.record_id.as_str()));
    let rows = sqlx::query!(
        "-- store::sweeps::find_missing
        select e.object_type, e.record_id
        from external_refs e
        where e.account_id = $1 and e.integration_id = $2 and e.object_type = any($3) and e.is_live and e.seen_by_sweep < $4
          and (e.object_type, e.record_id) > ($6, $7)
        order by e.object_type, e.record_id
        limit $5",
        lease.account_id.0,
        lease.integration_id.0,
        &names(types),
        sweep_number,
        limit,
        after_type,
        after_id,
    )
    .fetch_all(db.of(lease.account_id))
    .await?;
    rows.into_iter().map(|row| key_of(&row.object_type, row.record_id)).collect()
}

/// Records of these kinds that are known to be gone, with a contact that still lives by them: their
/// deletion was not mirrored.
pub async fn find_undeleted_leftovers(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    types: &[ObjectType],
    limit: i64,
) -> Result<Vec<RecordKey>, StoreError> {
    let rows = sqlx::query!(
        "-- store::sweeps::find_undeleted_leftovers
        select e.object_type, e.record_id
        from external_refs e
        where e.account_id = $1 and e.integration_id = $2 and e.object_type = any($3) and not e.is_live
          and exists (select from contacts c where c.account_id = $1 and c.contact_id = e.contact_id and c.deleted_at is null)
          and not exists (select from external_refs l where l.account_id = $1 and l.contact_id = e.contact_id and l.is_live)
        order by e.object_type, e.record_id
        limit $4",
        account_id.0,
        integration_id.0,
        &names(types),
        limit,
    )
    .fetch_all(db.of(account_id))
    .await?;
    rows.into_iter().map(|row| key_of(&row.object_type, row.record_id)).collect()
}

/// The next run is a sweep.
pub async fn make_due(tx: &mut Tx, lease: Lease, now: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::sweeps::make_due
        update integrations
        set sweep_due_at = $3, updated_at = $3
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A sweep comes at that time, if none is due before.
pub async fn bring_forward(
    tx: &mut Tx,
    lease: Lease,
    due_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::sweeps::bring_forward
        update integrations
        set sweep_due_at = least(sweep_due_at, $3), updated_at = $4
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
        due_at,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Begins a sweep from its beginning and returns its number; a run that goes on with one keeps the
/// number.
pub async fn begin(tx: &mut Tx, lease: Lease, now: DateTime<Utc>) -> Result<i64, StoreError> {
    let number = sqlx::query_scalar!(
        "-- store::sweeps::begin
        update integrations
        set sweep_number = sweep_number + 1, updated_at = $3
        where account_id = $1 and integration_id = $2
        returning sweep_number",
        lease.account_id.0,
        lease.integration_id.0,
        now,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(number)
}
