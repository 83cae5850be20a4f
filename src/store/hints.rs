//! The table `hints`: records that may have changed in their CRM. Anybody writes one, without a
//! lease. Whoever holds the integration's lease takes them, asks for the records, and deletes what
//! it took in the transaction that applies the answer; a hint that was written anew meanwhile has
//! another `write_id`, and stays.

use std::{io, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use tokio::time::timeout;

use super::{Db, StoreError, Tx, lease::Lease, record_keys::key_columns};
use crate::domain::{
    hint::{HintBatch, NewHint},
    ids::{AccountId, IntegrationId},
    record::RecordKey,
};

/// Writes hints, or gives up after this time: then they may have been written or not, and writing
/// them again does no harm. Whoever has written some in a process with workers wakes them.
pub async fn write(db: &Db, batch: &HintBatch<'_>, within: Duration) -> Result<(), StoreError> {
    let writing = async {
        let waiting = count_waiting(db.of(batch.account_id), batch).await?;
        upsert(db.of(batch.account_id), batch, waiting).await
    };
    timeout(within, writing).await.unwrap_or_else(|_| {
        let words = format!("hints were not written within {within:?}");
        Err(StoreError::Timeout(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, words))))
    })
}

/// As [`write()`], in a transaction that does something else besides.
pub async fn write_in(tx: &mut Tx, batch: &HintBatch<'_>) -> Result<(), StoreError> {
    let waiting = count_waiting(&mut **tx, batch).await?;
    upsert(&mut **tx, batch, waiting).await
}

async fn count_waiting<'e>(executor: impl PgExecutor<'e>, batch: &HintBatch<'_>) -> Result<usize, StoreError> {
    let waiting = sqlx::query_scalar!(
        r#"-- store::hints::count_waiting
        select count(*) as "waiting!"
        from hints
        where account_id = $1 and integration_id = $2"#,
        batch.account_id.0,
        batch.integration_id.0,
    )
    .fetch_one(executor)
    .await?;
    Ok(usize::try_from(waiting).unwrap_or(usize::MAX))
}

/// In the order of their keys, so that writers do not wait for each other in a circle.
async fn upsert<'e>(executor: impl PgExecutor<'e>, batch: &HintBatch<'_>, waiting: usize) -> Result<(), StoreError> {
    let rows = batch.merged(waiting);
    if rows.is_empty() {
        return Ok(());
    }
    let of = |part: fn(&NewHint) -> Option<&RecordKey>| -> (Vec<Option<String>>, Vec<Option<String>>) {
        let columns = |key: &RecordKey| (key.object_type.as_str().to_owned(), key.record_id.clone());
        rows.iter().map(|(hint, _)| part(hint).map(columns).unzip()).unzip()
    };
    let (types, ids) = of(|hint| hint.key.as_ref());
    let (successor_types, successor_ids) = of(|hint| hint.successor.as_ref());
    let types: Vec<String> = types.into_iter().map(Option::unwrap_or_default).collect();
    let ids: Vec<String> = ids.into_iter().map(Option::unwrap_or_default).collect();
    let reasons: Vec<String> = rows.iter().map(|(hint, _)| hint.reason.as_str().to_owned()).collect();
    let event_times: Vec<Option<DateTime<Utc>>> = rows.iter().map(|(hint, _)| hint.event_time).collect();
    let updated_at: Vec<Option<DateTime<Utc>>> = rows.iter().map(|(hint, _)| hint.record_updated_at).collect();
    let not_before: Vec<DateTime<Utc>> = rows.iter().map(|(_, due_at)| *due_at).collect();
    sqlx::query!(
        "-- store::hints::upsert
        insert into hints as h (account_id, integration_id, object_type, record_id, reason, event_time, record_updated_at, successor_type, successor_id,
            first_at, last_at, write_id, attempts, not_before)
        select $1, $2, u.object_type, u.record_id, u.reason, u.event_time, u.record_updated_at, u.successor_type, u.successor_id, $11, $11, $12, 0, u.not_before
        from unnest($3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::text[], $10::timestamptz[])
            as u (object_type, record_id, reason, event_time, record_updated_at, successor_type, successor_id, not_before)
        on conflict (account_id, integration_id, object_type, record_id) do update
        set reason = excluded.reason, event_time = greatest(h.event_time, excluded.event_time),
            record_updated_at = greatest(h.record_updated_at, excluded.record_updated_at),
            successor_type = case when h.successor_id is null or (excluded.successor_id is not null and excluded.event_time >= coalesce(h.event_time, excluded.event_time))
                then excluded.successor_type else h.successor_type end,
            successor_id = case when h.successor_id is null or (excluded.successor_id is not null and excluded.event_time >= coalesce(h.event_time, excluded.event_time))
                then excluded.successor_id else h.successor_id end,
            first_at = least(h.first_at, excluded.first_at), last_at = greatest(h.last_at, excluded.last_at), write_id = excluded.write_id,
            attempts = case when excluded.reason = 'OPERATOR' then 0 else h.attempts end,
            not_before = case when excluded.reason = 'OPERATOR' then excluded.not_before else h.not_before end",
        batch.account_id.0,
        batch.integration_id.0,
        &types,
        &ids,
        &reasons,
        &event_times as &[Option<DateTime<Utc>>],
        &updated_at as &[Option<DateTime<Utc>>],
        &successor_types as &[Option<String>],
        &successor_ids as &[Option<String>],
        &not_before,
        batch.now,
        batch.write_id,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Of how many of these records no hint waits, nor one of the whole integration.
pub async fn count_unhinted(tx: &mut Tx, lease: Lease, keys: &[RecordKey]) -> Result<i64, StoreError> {
    let (types, records) = key_columns(keys);
    let count = sqlx::query_scalar!(
        r#"-- store::hints::count_unhinted
        select count(*) as "count!"
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        where not exists (
            select from hints h
            where h.account_id = $1 and h.integration_id = $2
              and (h.record_id = '' or (h.object_type = u.object_type and h.record_id = u.record_id))
        )"#,
        lease.account_id.0,
        lease.integration_id.0,
        &types,
        &records,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(count)
}

/// Forgets the hints of these records, and those that say one was merged into one of them.
pub async fn remove_of(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<(), StoreError> {
    let (types, records) = key_columns(keys);
    sqlx::query!(
        "-- store::hints::remove_of
        delete from hints h
        using unnest($3::text[], $4::text[]) as u (object_type, record_id)
        where h.account_id = $1 and h.integration_id = $2
          and ((h.object_type = u.object_type and h.record_id = u.record_id)
            or (h.successor_type = u.object_type and h.successor_id = u.record_id))",
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets all hints of an integration.
pub async fn remove_all(tx: &mut Tx, lease: Lease) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::hints::remove_all
        delete from hints
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets an account's hints that nobody has written since then. Returns how many. There are a few
/// hundred of an integration at most.
pub async fn expire(db: &Db, account_id: AccountId, written_since: DateTime<Utc>) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "-- store::hints::expire
        delete from hints
        where account_id = $1 and last_at < $2",
        account_id.0,
        written_since,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(done.rows_affected())
}
