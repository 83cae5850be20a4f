//! Removes what is kept of an erased person beside contact, refs and numbers (those are
//! `contact_writes::erasure`): calls, clicks, choices, and what was told of them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, StoreError, Tx};
use crate::domain::{
    ids::{AccountId, ContactId, IntegrationId},
    record::RecordKey,
};

/// A record: integration, object type and id.
pub(super) type RefKey = (Uuid, String, String);

pub(super) fn ref_columns(rows: &[RefKey]) -> (Vec<Uuid>, Vec<String>, Vec<String>) {
    let integrations = rows.iter().map(|row| row.0).collect();
    let types = rows.iter().map(|row| row.1.clone()).collect();
    (integrations, types, rows.iter().map(|row| row.2.clone()).collect())
}

/// Removes the calls, clicks and choices of the person, and those of numbers that were theirs
/// alone.
pub async fn remove_calls(
    tx: &mut Tx,
    account_id: AccountId,
    person: &[ContactId],
    numbers: &[i64],
) -> Result<(), StoreError> {
    let person = uuids(person);
    let calls = sqlx::query_scalar!(
        "-- store::erasure::remove_calls
        delete from calls
        where account_id = $1 and (contact_id = any($2) or selection_id = any($2) or e164 = any($3))
        returning call_id",
        account_id.0,
        &person,
        numbers,
    )
    .fetch_all(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::erasure::remove_calls (expected calls)
        delete from expected_calls
        where account_id = $1 and (contact_id = any($2) or e164 = any($3))",
        account_id.0,
        &person,
        numbers,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::erasure::remove_calls (selections)
        delete from selections
        where account_id = $1 and (contact_id = any($2) or e164 = any($3))",
        account_id.0,
        &person,
        numbers,
    )
    .execute(&mut **tx)
    .await?;
    // Whomever they are about: without their call nothing would ever remove them. Last, as
    // everybody locks them after calls, clicks and choices.
    sqlx::query!(
        "-- store::erasure::remove_calls (decisions)
        delete from requester_decisions
        where account_id = $1 and call_id = any($2)",
        account_id.0,
        &calls,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes the decisions about the person, and takes the records out of corrections that name them:
/// a reader finds the place of the correction in the feed, and nothing in it.
pub async fn remove_decisions(
    tx: &mut Tx,
    account_id: AccountId,
    person: &[ContactId],
    numbers: &[i64],
    records: &[(IntegrationId, RecordKey)],
) -> Result<(), StoreError> {
    let rows: Vec<RefKey> = records
        .iter()
        .map(|(integration_id, key)| (integration_id.0, key.object_type.as_str().to_owned(), key.record_id.clone()))
        .collect();
    let (integrations, types, ids) = ref_columns(&rows);
    // Apart, so that each finds its index.
    sqlx::query!(
        "-- store::erasure::remove_decisions
        delete from requester_decisions
        where account_id = $1 and contact_id = any($2)",
        account_id.0,
        &uuids(person),
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::erasure::remove_decisions (by number)
        delete from requester_decisions
        where account_id = $1 and e164 = any($2)",
        account_id.0,
        numbers,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::erasure::remove_decisions (by record)
        delete from requester_decisions d
        using unnest($2::uuid[], $3::text[], $4::text[]) as u (integration_id, object_type, record_id)
        where d.account_id = $1 and d.integration_id = u.integration_id and d.object_type = u.object_type and d.record_id = u.record_id",
        account_id.0,
        &integrations,
        &types,
        &ids,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"-- store::erasure::remove_decisions (corrections)
        update changes c
        set correction = c.correction || '{"is_erased": true, "before": {"outcome": "NONE"}, "after": {"outcome": "NONE"}}'::jsonb
        where c.account_id = $1 and c.kind = 'CORRECTED' and exists (
            select
            from unnest($2::uuid[], $3::text[]) as u (integration_id, record_id)
            where (c.correction ->> 'integration_id') = u.integration_id::text
              and u.record_id in (c.correction -> 'before' ->> 'record_id', c.correction -> 'after' ->> 'record_id')
        )"#,
        account_id.0,
        &integrations,
        &ids,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes the calls, choices and decisions that were being written while their person was erased.
/// Of persons erased since `since`.
pub async fn remove_late_calls(db: &Db, account_id: AccountId, since: DateTime<Utc>) -> Result<u64, StoreError> {
    let erased = sqlx::query_scalar!(
        "-- store::erasure::remove_late_calls (of whom)
        with head as materialized (
            select contact_id
            from contacts
            where account_id = $1 and erased_at >= $2
        )
        select contact_id as \"contact_id!\" from head
        union all
        select a.contact_id
        from head h
        cross join lateral (
            select c.contact_id from contacts c where c.account_id = $1 and c.survivor_id = h.contact_id
        ) a",
        account_id.0,
        since,
    )
    .fetch_all(db.of(account_id))
    .await?;
    // Apart: as one statement it was planned from the calls, and looked at each of them.
    if erased.is_empty() {
        return Ok(0);
    }
    let late = sqlx::query_scalar!(
        "-- store::erasure::remove_late_calls (which)
        select call_id
        from calls
        where account_id = $1 and (contact_id = any($2) or selection_id = any($2))",
        account_id.0,
        &erased,
    )
    .fetch_all(db.of(account_id))
    .await?;
    // Before their calls, without which nothing would find them: whomever they are about.
    let told = sqlx::query!(
        "-- store::erasure::remove_late_calls (decisions of calls)
        delete from requester_decisions
        where account_id = $1 and call_id = any($2)",
        account_id.0,
        &late,
    )
    .execute(db.of(account_id))
    .await?;
    let calls = sqlx::query!(
        "-- store::erasure::remove_late_calls
        delete from calls
        where account_id = $1 and (contact_id = any($2) or selection_id = any($2))",
        account_id.0,
        &erased,
    )
    .execute(db.of(account_id))
    .await?;
    let choices = sqlx::query!(
        "-- store::erasure::remove_late_calls (selections)
        delete from selections
        where account_id = $1 and contact_id = any($2)",
        account_id.0,
        &erased,
    )
    .execute(db.of(account_id))
    .await?;
    let decisions = sqlx::query!(
        "-- store::erasure::remove_late_calls (decisions)
        delete from requester_decisions
        where account_id = $1 and contact_id = any($2)",
        account_id.0,
        &erased,
    )
    .execute(db.of(account_id))
    .await?;
    let removed = [told, calls, choices, decisions];
    Ok(removed.iter().map(sqlx::postgres::PgQueryResult::rows_affected).sum())
}

pub(super) fn uuids(ids: &[ContactId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}
