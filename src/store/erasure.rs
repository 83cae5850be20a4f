//! Removes everything that is kept of a person, in one transaction, and remembers the marks of the records. Called by `erasure` only.
//! What is left is a tombstone without content, so that an id once given out still leads somewhere.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Db, StoreError, Tx,
    changes::{self, Changed},
    external_refs::key_of,
};
use crate::domain::{
    change::ChangeKind,
    ids::{AccountId, ContactId, IntegrationId},
    record::RecordKey,
};

/// The contacts that are one person: the one that lives (or lived last) first, then its aliases. Empty: there is no such contact.
pub async fn find_person(
    tx: &mut Tx,
    account_id: AccountId,
    contact_id: ContactId,
) -> Result<Vec<ContactId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"-- store::erasure::find_person
        with head as materialized (
            select coalesce(c.survivor_id, c.contact_id) as contact_id
            from contacts c
            where c.account_id = $1 and c.contact_id = $2
        )
        select h.contact_id as "contact_id!"
        from head h
        union all
        select a.contact_id
        from head h
        cross join lateral (
            select c.contact_id from contacts c where c.account_id = $1 and c.survivor_id = h.contact_id
        ) a"#,
        account_id.0,
        contact_id.0,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(ContactId).collect())
}

/// Locks the integrations that have records of this person, as a page of a sync does: none is being written meanwhile.
pub async fn lock_integrations(tx: &mut Tx, account_id: AccountId, person: &[ContactId]) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::erasure::lock_integrations
        select integration_id
        from integrations
        where account_id = $1 and integration_id in (
            select integration_id from external_refs where account_id = $1 and contact_id = any($2)
        )
        order by integration_id
        for no key update",
        account_id.0,
        &uuids(person),
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(())
}

/// Removes the person's refs, and those of records without a contact that were merged into them. Returns all of them.
pub async fn remove_refs(
    tx: &mut Tx,
    account_id: AccountId,
    person: &[ContactId],
) -> Result<Vec<(IntegrationId, RecordKey)>, StoreError> {
    let rows = sqlx::query!(
        "-- store::erasure::remove_refs
        delete from external_refs
        where account_id = $1 and contact_id = any($2)
        returning integration_id, object_type, record_id",
        account_id.0,
        &uuids(person),
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut removed: Vec<Row> =
        rows.into_iter().map(|row| (row.integration_id, row.object_type, row.record_id)).collect();
    let mut newest = removed.clone();
    // Step by step against the direction of the merges. Each step removes what it finds, so there is an end.
    while !newest.is_empty() {
        newest = remove_losers(tx, account_id, &newest).await?;
        removed.extend(newest.iter().cloned());
    }
    removed
        .into_iter()
        .map(|(integration_id, object_type, id)| Ok((IntegrationId(integration_id), key_of(&object_type, id)?)))
        .collect()
}

/// A record: integration, object type and id.
type Row = (Uuid, String, String);

/// Removes the refs without a contact (first seen as deleted) of records that were merged into these.
async fn remove_losers(tx: &mut Tx, account_id: AccountId, winners: &[Row]) -> Result<Vec<Row>, StoreError> {
    let (integrations, types, records) = columns(winners);
    let losers = sqlx::query!(
        "-- store::erasure::remove_losers
        delete from external_refs e
        using unnest($2::uuid[], $3::text[], $4::text[]) as u (integration_id, object_type, record_id)
        where e.account_id = $1 and e.integration_id = u.integration_id and e.successor_type = u.object_type
          and e.successor_id = u.record_id and e.contact_id is null
        returning e.integration_id, e.object_type, e.record_id",
        account_id.0,
        &integrations,
        &types,
        &records,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(losers.into_iter().map(|row| (row.integration_id, row.object_type, row.record_id)).collect())
}

fn columns(rows: &[Row]) -> (Vec<Uuid>, Vec<String>, Vec<String>) {
    let integrations = rows.iter().map(|row| row.0).collect();
    let types = rows.iter().map(|row| row.1.clone()).collect();
    (integrations, types, rows.iter().map(|row| row.2.clone()).collect())
}

/// Removes the person's numbers. Returns those that nobody else has.
pub async fn remove_numbers(tx: &mut Tx, account_id: AccountId, person: &[ContactId]) -> Result<Vec<i64>, StoreError> {
    let removed = sqlx::query_scalar!(
        "-- store::erasure::remove_numbers
        delete from phone_numbers
        where account_id = $1 and contact_id = any($2)
        returning e164",
        account_id.0,
        &uuids(person),
    )
    .fetch_all(&mut **tx)
    .await?;
    let removed: Vec<i64> = removed.into_iter().flatten().collect();
    let own = sqlx::query_scalar!(
        r#"-- store::erasure::remove_numbers (that nobody else has)
        select u.e164 as "e164!"
        from unnest($2::bigint[]) as u (e164)
        where (
            select n.e164 from phone_numbers n where n.account_id = $1 and n.e164 = u.e164 limit 1
        ) is null"#,
        account_id.0,
        &removed,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(own)
}

/// Removes the calls, clicks and choices of the person, and those of numbers that were theirs alone.
pub async fn remove_calls(
    tx: &mut Tx,
    account_id: AccountId,
    person: &[ContactId],
    numbers: &[i64],
) -> Result<(), StoreError> {
    let person = uuids(person);
    sqlx::query!(
        "-- store::erasure::remove_calls
        delete from calls
        where account_id = $1 and (contact_id = any($2) or selection_id = any($2) or e164 = any($3))",
        account_id.0,
        &person,
        numbers,
    )
    .execute(&mut **tx)
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
    Ok(())
}

/// Removes the decisions about the person, and takes the records out of corrections that name them: a reader finds the place of the
/// correction in the feed, and nothing in it.
pub async fn remove_decisions(
    tx: &mut Tx,
    account_id: AccountId,
    person: &[ContactId],
    numbers: &[i64],
    records: &[(IntegrationId, RecordKey)],
) -> Result<(), StoreError> {
    let rows: Vec<Row> = records
        .iter()
        .map(|(integration_id, key)| (integration_id.0, key.object_type.as_str().to_owned(), key.record_id.clone()))
        .collect();
    let (integrations, types, ids) = columns(&rows);
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

/// Leaves a tombstone without content, and says in the feed that the person was erased. False: it was erased before.
pub async fn entomb(
    tx: &mut Tx,
    account_id: AccountId,
    contact_id: ContactId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let erased = sqlx::query_as!(
        Changed,
        "-- store::erasure::entomb
        update contacts
        set display_name = '', organization = '', emails = '{}', is_placeholder = false, deleted_at = coalesce(deleted_at, $3),
            erased_at = $3, updated_at = $3, version = version + 1
        where account_id = $1 and contact_id = $2 and erased_at is null
        returning contact_id, version, survivor_id",
        account_id.0,
        contact_id.0,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Erased, &erased, now).await?;
    Ok(!erased.is_empty())
}

/// Removes the calls, choices and decisions that were being written while their person was erased. Of persons erased since `since`.
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
    Ok(calls.rows_affected() + choices.rows_affected() + decisions.rows_affected())
}

fn uuids(ids: &[ContactId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}
