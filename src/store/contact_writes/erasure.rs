//! The refs and numbers of a person who is erased.

use super::numbers;
use crate::{
    domain::{
        ids::{AccountId, ContactId, IntegrationId},
        record::RecordKey,
    },
    store::{
        StoreError, Tx,
        erasure::{RefKey, ref_columns, uuids},
        record_keys::key_of,
    },
};

/// The contacts that are one person: the one that lives (or lived last) first, then its aliases.
/// Empty: there is no such contact.
pub async fn find_person(
    tx: &mut Tx,
    account_id: AccountId,
    contact_id: ContactId,
) -> Result<Vec<ContactId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"-- store::contact_writes::erasure::find_person
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

/// Locks the integrations that have records of this person, as a page of a sync does: none is being
/// written meanwhile.
pub async fn lock_integrations(tx: &mut Tx, account_id: AccountId, person: &[ContactId]) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::contact_writes::erasure::lock_integrations
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

/// Removes the person's refs, and those of records without a contact that were merged into them.
/// Returns all of them.
pub async fn remove_refs(
    tx: &mut Tx,
    account_id: AccountId,
    person: &[ContactId],
) -> Result<Vec<(IntegrationId, RecordKey)>, StoreError> {
    let rows = sqlx::query!(
        "-- store::contact_writes::erasure::remove_refs
        delete from external_refs
        where account_id = $1 and contact_id = any($2)
        returning integration_id, object_type, record_id",
        account_id.0,
        &uuids(person),
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut removed: Vec<RefKey> =
        rows.into_iter().map(|row| (row.integration_id, row.object_type, row.record_id)).collect();
    let mut newest = removed.clone();
    // Step by step against the direction of the merges. Each step removes what it finds, so there
    // is an end.
    while !newest.is_empty() {
        newest = remove_losers(tx, account_id, &newest).await?;
        removed.extend(newest.iter().cloned());
    }
    removed
        .into_iter()
        .map(|(integration_id, object_type, id)| Ok((IntegrationId(integration_id), key_of(&object_type, id)?)))
        .collect()
}

/// Removes the refs without a contact (first seen as deleted) of records that were merged into
/// these.
async fn remove_losers(tx: &mut Tx, account_id: AccountId, winners: &[RefKey]) -> Result<Vec<RefKey>, StoreError> {
    let (integrations, types, records) = ref_columns(winners);
    let losers = sqlx::query!(
        "-- store::contact_writes::erasure::remove_losers
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

/// Removes the person's numbers. Returns those that nobody else has.
pub async fn remove_numbers(tx: &mut Tx, account_id: AccountId, person: &[ContactId]) -> Result<Vec<i64>, StoreError> {
    let removed = numbers::remove_all(tx, account_id, &uuids(person)).await?;
    let own = sqlx::query_scalar!(
        r#"-- store::contact_writes::erasure::remove_numbers
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
