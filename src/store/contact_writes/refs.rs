//! Which contact a record is. Refs are locked in the order of their keys, byte by byte, before
//! their contacts.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use phone_key::Region;
use uuid::Uuid;

use crate::{
    domain::{
        ids::{AccountId, ContactId, IntegrationId},
        record::{AbsentRecord, RecordKey},
    },
    store::{
        StoreError, Tx, known,
        record_keys::{key_columns, key_of, successor_of},
    },
};

/// A ref as it stands, with its contact's rank.
#[derive(Debug, Clone)]
pub struct StoredRef {
    /// Which record.
    pub key: RecordKey,
    /// Its contact; `None`: first seen as deleted.
    pub contact: Option<(ContactId, DateTime<Utc>)>,
    /// There is a contact, and it is live.
    pub is_contact_live: bool,
    /// Not deleted in the CRM.
    pub is_live: bool,
    /// A sync brought it.
    pub is_synced: bool,
    /// The CRM's update time of the copy that we have.
    pub record_updated_at: Option<DateTime<Utc>>,
    /// Of everything that a sync copies.
    pub fingerprint: Option<i64>,
    /// What it was merged or converted into.
    pub successor: Option<RecordKey>,
    /// Of one that is not live: when the CRM said so, by its own clock. Of a live one it means
    /// nothing.
    pub gone_seen_at: Option<DateTime<Utc>>,
}

/// Locks the refs of these records, in the order of their keys. Records never seen are absent from
/// the answer.
pub async fn lock(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<Vec<StoredRef>, StoreError> {
    let mut keys = keys.to_vec();
    keys.sort_unstable_by(|a, b| (a.object_type.as_str(), &a.record_id).cmp(&(b.object_type.as_str(), &b.record_id)));
    let (types, records) = key_columns(&keys);
    let rows = sqlx::query!(
        "-- store::contact_writes::refs::lock
        select e.object_type, e.record_id, e.contact_id, e.is_live, e.is_synced, e.record_updated_at, e.fingerprint,
            e.successor_type, e.successor_id, e.gone_seen_at
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        -- One look-up a record, in this order: a join, planned on an empty table, compared each record with each ref (30 s a page).
        cross join lateral (
            select r.object_type, r.record_id, r.contact_id, r.is_live, r.is_synced, r.record_updated_at, r.fingerprint,
                r.successor_type, r.successor_id, r.gone_seen_at
            from external_refs r
            where r.account_id = $1 and r.integration_id = $2 and r.object_type = u.object_type and r.record_id = u.record_id
            limit 1
            for update
        ) e",
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .fetch_all(&mut **tx)
    .await?;
    // Not joined above: after waiting for a merge, the locked ref names its new contact, and a
    // joined row would still be the old one's.
    let contact_ids: Vec<Uuid> = rows.iter().filter_map(|row| row.contact_id).collect();
    let ranks = ranks(tx, account_id, &contact_ids).await?;
    rows.into_iter()
        .map(|row| {
            let rank = |id: Uuid| {
                known(ranks.get(&id).copied(), "external_refs", "contact_id").map(|rank| (ContactId(id), rank.0))
            };
            let is_contact_live = row.contact_id.and_then(|id| ranks.get(&id)).is_some_and(|rank| rank.1);
            Ok(StoredRef {
                key: key_of(&row.object_type, row.record_id)?,
                successor: successor_of(row.successor_type.as_deref(), row.successor_id)?,
                contact: row.contact_id.map(rank).transpose()?,
                is_contact_live,
                is_live: row.is_live,
                is_synced: row.is_synced,
                record_updated_at: row.record_updated_at,
                fingerprint: row.fingerprint,
                gone_seen_at: row.gone_seen_at,
            })
        })
        .collect()
}

/// Since when each contact is there, and whether it lives.
async fn ranks(
    tx: &mut Tx,
    account_id: AccountId,
    contact_ids: &[Uuid],
) -> Result<HashMap<Uuid, (DateTime<Utc>, bool)>, StoreError> {
    let rows = sqlx::query!(
        r#"-- store::contact_writes::refs::ranks
        select contact_id, created_at, deleted_at is null as "is_live!"
        from contacts
        where account_id = $1 and contact_id = any($2)"#,
        account_id.0,
        contact_ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.contact_id, (row.created_at, row.is_live))).collect())
}

/// A ref as it shall be.
pub struct RefRow {
    /// Which record.
    pub key: RecordKey,
    /// Its contact.
    pub contact_id: Option<ContactId>,
    /// Not deleted in the CRM.
    pub is_live: bool,
    /// A sync brought it.
    pub is_synced: bool,
    /// The CRM's update time.
    pub record_updated_at: Option<DateTime<Utc>>,
    /// The CRM's role.
    pub role: String,
    /// Where an agent opens it.
    pub url: String,
    /// The country of its address.
    pub region: Option<Region>,
    /// Of everything that a sync copies.
    pub fingerprint: Option<i64>,
    /// What it was merged or converted into.
    pub successor: Option<RecordKey>,
    /// Of one that is gone: when the CRM said so, by its own clock.
    pub gone_seen_at: Option<DateTime<Utc>>,
}

/// Inserts refs never seen before. [`StoreError::Conflict`] if somebody else inserted one
/// meanwhile: run the transaction again.
pub async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    rows: &[RefRow],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let columns = RefColumns::of(rows);
    let done = sqlx::query!(
        "-- store::contact_writes::refs::insert
        insert into external_refs (account_id, integration_id, object_type, record_id, contact_id, is_live, is_synced, record_updated_at, role, url,
            region, fingerprint, successor_type, successor_id, gone_seen_at, created_at, updated_at)
        select $1, $2, u.*, $16, $16
        from unnest($3::text[], $4::text[], $5::uuid[], $6::boolean[], $7::boolean[], $8::timestamptz[], $9::text[], $10::text[], $11::text[],
            $12::bigint[], $13::text[], $14::text[], $15::timestamptz[]) as u",
        account_id.0,
        integration_id.0,
        &columns.types,
        &columns.records,
        &columns.contacts as &[Option<Uuid>],
        &columns.live,
        &columns.synced,
        &columns.updated as &[Option<DateTime<Utc>>],
        &columns.roles,
        &columns.urls,
        &columns.regions,
        &columns.fingerprints as &[Option<i64>],
        &columns.successor_types as &[Option<String>],
        &columns.successor_ids as &[Option<String>],
        &columns.gone_seen as &[Option<DateTime<Utc>>],
        now,
    )
    .execute(&mut **tx)
    .await;
    match done.map_err(StoreError::from) {
        Ok(_) => Ok(()),
        // Not `on conflict do nothing`: that cost a third more, for what hardly ever happens.
        Err(StoreError::Constraint(name, _)) if name == "external_refs_pkey" => Err(StoreError::Conflict),
        Err(error) => Err(error),
    }
}

/// Overwrites refs that this transaction has locked.
pub async fn update(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    rows: &[RefRow],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let columns = RefColumns::of(rows);
    sqlx::query!(
        "-- store::contact_writes::refs::update
        update external_refs e
        set contact_id = u.contact_id, is_live = u.is_live, is_synced = u.is_synced, record_updated_at = u.record_updated_at,
            role = u.role, url = u.url, region = u.region, fingerprint = u.fingerprint, successor_type = u.successor_type,
            successor_id = u.successor_id, gone_seen_at = u.gone_seen_at, updated_at = $16
        from unnest($3::text[], $4::text[], $5::uuid[], $6::boolean[], $7::boolean[], $8::timestamptz[], $9::text[], $10::text[], $11::text[],
            $12::bigint[], $13::text[], $14::text[], $15::timestamptz[])
            as u (object_type, record_id, contact_id, is_live, is_synced, record_updated_at, role, url, region, fingerprint, successor_type,
                successor_id, gone_seen_at)
        where e.account_id = $1 and e.integration_id = $2 and e.object_type = u.object_type and e.record_id = u.record_id",
        account_id.0,
        integration_id.0,
        &columns.types,
        &columns.records,
        &columns.contacts as &[Option<Uuid>],
        &columns.live,
        &columns.synced,
        &columns.updated as &[Option<DateTime<Utc>>],
        &columns.roles,
        &columns.urls,
        &columns.regions,
        &columns.fingerprints as &[Option<i64>],
        &columns.successor_types as &[Option<String>],
        &columns.successor_ids as &[Option<String>],
        &columns.gone_seen as &[Option<DateTime<Utc>>],
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes the region that a click has named for the record's numbers.
pub async fn set_region(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    key: &RecordKey,
    region: Region,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::contact_writes::refs::set_region
        update external_refs
        set region = $5
        where account_id = $1 and integration_id = $2 and object_type = $3 and record_id = $4",
        account_id.0,
        integration_id.0,
        key.object_type.as_str(),
        key.record_id,
        region.as_str(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Marks refs that this transaction has locked as gone, where the CRM has no copy that says so. The
/// latest time that it said so counts, and what each was merged into, if that is told now or was
/// before.
pub async fn end(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    absent: &[AbsentRecord],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let keys: Vec<RecordKey> = absent.iter().map(|one| one.key.clone()).collect();
    let (types, records) = key_columns(&keys);
    let seen: Vec<Option<DateTime<Utc>>> = absent.iter().map(|one| one.seen_at).collect();
    let successor_columns = |one: &AbsentRecord| {
        one.successor.as_ref().map(|key| (key.object_type.as_str().to_owned(), key.record_id.clone())).unzip()
    };
    let (successor_types, successor_ids): (Vec<Option<String>>, Vec<Option<String>>) =
        absent.iter().map(successor_columns).unzip();
    sqlx::query!(
        "-- store::contact_writes::refs::end
        update external_refs e
        set is_live = false, gone_seen_at = greatest(e.gone_seen_at, u.seen_at), updated_at = $6,
            successor_type = coalesce(u.successor_type, e.successor_type), successor_id = coalesce(u.successor_id, e.successor_id)
        from unnest($3::text[], $4::text[], $5::timestamptz[], $7::text[], $8::text[])
            as u (object_type, record_id, seen_at, successor_type, successor_id)
        where e.account_id = $1 and e.integration_id = $2 and e.object_type = u.object_type and e.record_id = u.record_id
          and (e.is_live or u.seen_at > coalesce(e.gone_seen_at, '-infinity') or (u.successor_id is not null and u.successor_id is distinct from e.successor_id))",
        account_id.0,
        integration_id.0,
        &types,
        &records,
        &seen as &[Option<DateTime<Utc>>],
        now,
        &successor_types as &[Option<String>],
        &successor_ids as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Locks the refs of these contacts, in the order of their keys: before the contacts, as every
/// writer does.
pub async fn lock_of_contacts(tx: &mut Tx, account_id: AccountId, contact_ids: &[ContactId]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    sqlx::query!(
        r#"-- store::contact_writes::refs::lock_of_contacts
        select record_id
        from external_refs
        where account_id = $1 and contact_id = any($2)
        order by integration_id, object_type collate "C", record_id collate "C"
        for update"#,
        account_id.0,
        &ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(())
}

/// Gives converted Leads to the contacts of what they were converted into.
pub async fn move_refs(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    moves: &[(RecordKey, ContactId)],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let keys: Vec<RecordKey> = moves.iter().map(|(key, _)| key.clone()).collect();
    let (types, records) = key_columns(&keys);
    let contact_ids: Vec<Uuid> = moves.iter().map(|(_, contact_id)| contact_id.0).collect();
    sqlx::query!(
        "-- store::contact_writes::refs::move_refs
        update external_refs e
        set contact_id = u.contact_id, updated_at = $6
        from unnest($3::text[], $4::text[], $5::uuid[]) as u (object_type, record_id, contact_id)
        where e.account_id = $1 and e.integration_id = $2 and e.object_type = u.object_type and e.record_id = u.record_id
          and not e.is_live",
        account_id.0,
        integration_id.0,
        &types,
        &records,
        &contact_ids,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(Default)]
struct RefColumns {
    types: Vec<String>,
    records: Vec<String>,
    contacts: Vec<Option<Uuid>>,
    live: Vec<bool>,
    synced: Vec<bool>,
    updated: Vec<Option<DateTime<Utc>>>,
    roles: Vec<String>,
    urls: Vec<String>,
    regions: Vec<String>,
    fingerprints: Vec<Option<i64>>,
    successor_types: Vec<Option<String>>,
    successor_ids: Vec<Option<String>>,
    gone_seen: Vec<Option<DateTime<Utc>>>,
}

impl RefColumns {
    fn of(rows: &[RefRow]) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.types.push(row.key.object_type.as_str().to_owned());
            columns.records.push(row.key.record_id.clone());
            columns.contacts.push(row.contact_id.map(|id| id.0));
            columns.live.push(row.is_live);
            columns.synced.push(row.is_synced);
            columns.updated.push(row.record_updated_at);
            columns.roles.push(row.role.clone());
            columns.urls.push(row.url.clone());
            columns.regions.push(row.region.as_ref().map_or("", Region::as_str).to_owned());
            columns.fingerprints.push(row.fingerprint);
            let successor = row.successor.as_ref();
            columns.successor_types.push(successor.map(|key| key.object_type.as_str().to_owned()));
            columns.successor_ids.push(successor.map(|key| key.record_id.clone()));
            columns.gone_seen.push(row.gone_seen_at);
        }
        columns
    }
}
