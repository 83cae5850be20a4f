//! Merges that the CRM names: which records lead to which, and making a dead contact the alias of its successor's.
//! Called by `identity::merges` only, which decides.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    StoreError, Tx,
    changes::{self, Changed},
    external_refs::{key_columns, key_of, successor_of},
};
use crate::domain::{
    change::ChangeKind,
    ids::{AccountId, ContactId, IntegrationId},
    record::RecordKey,
};

/// A record as a step of a chain of merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Which record.
    pub key: RecordKey,
    /// Its contact; `None`: first seen as deleted.
    pub contact_id: Option<ContactId>,
    /// Not deleted in the CRM.
    pub is_live: bool,
    /// What it was merged or converted into.
    pub successor: Option<RecordKey>,
}

struct Row {
    object_type: String,
    record_id: String,
    contact_id: Option<Uuid>,
    is_live: bool,
    successor_type: Option<String>,
    successor_id: Option<String>,
}

impl TryFrom<Row> for Link {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            key: key_of(&row.object_type, row.record_id)?,
            contact_id: row.contact_id.map(ContactId),
            is_live: row.is_live,
            successor: successor_of(row.successor_type.as_deref(), row.successor_id)?,
        })
    }
}

/// Records that were merged into one of these.
pub async fn find_predecessors(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<Vec<Link>, StoreError> {
    let (types, records) = key_columns(keys);
    let rows = sqlx::query_as!(
        Row,
        "-- store::merges::find_predecessors
        select e.object_type, e.record_id, e.contact_id, e.is_live, e.successor_type, e.successor_id
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        -- One look-up a record; see `external_refs::lock`. Nobody merges a thousand records into one.
        cross join lateral (
            select r.object_type, r.record_id, r.contact_id, r.is_live, r.successor_type, r.successor_id
            from external_refs r
            where r.account_id = $1 and r.integration_id = $2 and r.successor_type = u.object_type and r.successor_id = u.record_id
            limit 1000
        ) e",
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Link::try_from).collect()
}

/// These records, as far as they are known.
pub async fn find(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<Vec<Link>, StoreError> {
    let (types, records) = key_columns(keys);
    let rows = sqlx::query_as!(
        Row,
        "-- store::merges::find
        select e.object_type, e.record_id, e.contact_id, e.is_live, e.successor_type, e.successor_id
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        cross join lateral (
            select r.object_type, r.record_id, r.contact_id, r.is_live, r.successor_type, r.successor_id
            from external_refs r
            where r.account_id = $1 and r.integration_id = $2 and r.object_type = u.object_type and r.record_id = u.record_id
            limit 1
        ) e",
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Link::try_from).collect()
}

/// A contact whose record the CRM has merged away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Succession {
    /// Becomes an alias.
    pub loser_id: ContactId,
    /// The next contact of the chain.
    pub direct_id: ContactId,
    /// The contact at the end of the chain, which is live.
    pub survivor_id: ContactId,
}

/// Makes each loser without a live record an alias of its survivor, and takes its aliases along; the survivor takes the oldest
/// `created_at`, and so its rank. All contacts must be locked.
pub async fn succeed(
    tx: &mut Tx,
    account_id: AccountId,
    successions: &[Succession],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let losers: Vec<Uuid> = successions.iter().map(|succession| succession.loser_id.0).collect();
    let directs: Vec<Uuid> = successions.iter().map(|succession| succession.direct_id.0).collect();
    let survivors: Vec<Uuid> = successions.iter().map(|succession| succession.survivor_id.0).collect();
    let merged = sqlx::query_as!(
        Changed,
        "-- store::merges::succeed (makes aliases)
        update contacts l
        set display_name = '', organization = '', emails = '{}', is_placeholder = false, deleted_at = coalesce(l.deleted_at, $5),
            merged_into = u.direct_id, survivor_id = u.survivor_id, updated_at = $5, version = l.version + 1
        from unnest($2::uuid[], $3::uuid[], $4::uuid[]) as u (loser_id, direct_id, survivor_id)
        where l.account_id = $1 and l.contact_id = u.loser_id
          and (l.merged_into is distinct from u.direct_id or l.survivor_id is distinct from u.survivor_id)
          and not exists (
            select from external_refs e
            where e.account_id = $1 and e.contact_id = l.contact_id and e.is_live
          )
        returning l.contact_id, l.version, l.survivor_id",
        account_id.0,
        &losers,
        &directs,
        &survivors,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Merged, &merged, now).await?;
    let (losers, survivors): (Vec<Uuid>, Vec<Uuid>) =
        merged.into_iter().filter_map(|row| Some((row.contact_id, row.survivor_id?))).unzip();
    if losers.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "-- store::merges::succeed (ends numbers)
        delete from phone_numbers n
        where n.account_id = $1 and n.contact_id = any($2)",
        account_id.0,
        &losers,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::merges::succeed (earlier aliases follow)
        update contacts a
        set survivor_id = u.survivor_id, updated_at = $4
        from unnest($2::uuid[], $3::uuid[]) as u (loser_id, survivor_id)
        where a.account_id = $1 and a.survivor_id = u.loser_id",
        account_id.0,
        &losers,
        &survivors,
        now,
    )
    .execute(&mut **tx)
    .await?;
    age(tx, account_id, &losers, &survivors, now).await
}

/// Makes each survivor as old as the oldest of its losers, and its numbers with it.
async fn age(
    tx: &mut Tx,
    account_id: AccountId,
    losers: &[Uuid],
    survivors: &[Uuid],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let aged = sqlx::query!(
        "-- store::merges::age
        with oldest as (
            select u.survivor_id, min(l.created_at) as created_at
            from unnest($2::uuid[], $3::uuid[]) as u (loser_id, survivor_id)
            join contacts l on l.account_id = $1 and l.contact_id = u.loser_id
            group by u.survivor_id
        )
        update contacts s
        set created_at = o.created_at, updated_at = $4, version = s.version + 1
        from oldest o
        where s.account_id = $1 and s.contact_id = o.survivor_id and s.created_at > o.created_at
        returning s.contact_id, s.created_at, s.version, s.survivor_id",
        account_id.0,
        losers,
        survivors,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    if aged.is_empty() {
        return Ok(());
    }
    let (contact_ids, ranks): (Vec<Uuid>, Vec<DateTime<Utc>>) =
        aged.iter().map(|row| (row.contact_id, row.created_at)).unzip();
    let changed: Vec<Changed> = aged
        .into_iter()
        .map(|row| Changed { contact_id: row.contact_id, version: row.version, survivor_id: row.survivor_id })
        .collect();
    changes::record(tx, account_id, ChangeKind::Changed, &changed, now).await?;
    sqlx::query!(
        "-- store::merges::age (numbers)
        update phone_numbers n
        set contact_created_at = u.created_at
        from unnest($2::uuid[], $3::timestamptz[]) as u (contact_id, created_at)
        where n.account_id = $1 and n.contact_id = u.contact_id",
        account_id.0,
        &contact_ids,
        &ranks,
    )
    .execute(&mut **tx)
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
        "-- store::merges::move_refs
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

/// Gives contacts that live again the aliases back that were merged into them, directly or through others. The feed says where each
/// leads now: it may never have been told of the steps between.
pub async fn give_back(
    tx: &mut Tx,
    account_id: AccountId,
    revived: &[ContactId],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = revived.iter().map(|id| id.0).collect();
    let returned = sqlx::query_as!(
        Changed,
        "-- store::merges::give_back
        update contacts c
        set survivor_id = a.survivor_id, updated_at = $3, version = c.version + 1
        from (
            with recursive alias as (
                select c.contact_id, c.merged_into as survivor_id
                from contacts c
                where c.account_id = $1 and c.merged_into = any($2)
                union
                select c.contact_id, a.survivor_id
                from alias a
                join contacts c on c.account_id = $1 and c.merged_into = a.contact_id
            )
            select contact_id, survivor_id
            from alias
        ) a
        where c.account_id = $1 and c.contact_id = a.contact_id and c.survivor_id <> a.survivor_id
        returning c.contact_id, c.version, c.survivor_id",
        account_id.0,
        &ids,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Merged, &returned, now).await
}
