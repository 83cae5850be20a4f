//! Bringing placeholders and records on one number together: finding them, and making two contacts one.
//! Called by `identity::adoption` only, which decides who survives.

use chrono::{DateTime, Utc};
use phone_key::{KEY_VERSION, PhoneKey};
use uuid::Uuid;

use super::{
    CallDb, Db, StoreError, Tx,
    changes::{self, Changed},
    contact_writes, known,
};
use crate::domain::{
    call::Direction,
    change::ChangeKind,
    ids::{AccountId, ContactId, IntegrationId},
    record::{ObjectType, RecordKey},
};

/// The most placeholders that one look takes up.
pub const LOOK_MAX: i64 = 500;

/// A live record on a placeholder's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The stranger's contact.
    pub placeholder_id: ContactId,
    /// The record's contact.
    pub contact_id: ContactId,
    /// Its integration.
    pub integration_id: IntegrationId,
    /// Which record.
    pub record: RecordKey,
}

struct Row {
    placeholder_id: Uuid,
    contact_id: Uuid,
    integration_id: Uuid,
    object_type: String,
    record_id: String,
}

impl TryFrom<Row> for Pair {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            placeholder_id: ContactId(row.placeholder_id),
            contact_id: ContactId(row.contact_id),
            integration_id: IntegrationId(row.integration_id),
            record: RecordKey {
                object_type: known(ObjectType::parse(&row.object_type), "phone_numbers", "object_type")?,
                record_id: row.record_id,
            },
        })
    }
}

/// Placeholders among these numbers that have a record beside them, with all such records.
pub async fn find_pairs(tx: &mut Tx, account_id: AccountId, keys: &[PhoneKey]) -> Result<Vec<Pair>, StoreError> {
    let e164: Vec<i64> = keys.iter().map(|key| key.as_i64()).collect();
    let rows = sqlx::query_as!(
        Row,
        "-- store::adoption::find_pairs
        with stranger as materialized (
            -- One look-up a number: with statistics that have seen no placeholders, a list of numbers scanned all of them (1.9 s).
            select p.contact_id, p.e164
            from unnest($2::bigint[]) as k (e164)
            cross join lateral (
                select n.contact_id, n.e164
                from phone_numbers n
                where n.account_id = $1 and n.e164 = k.e164 and n.is_placeholder
                limit 1
            ) p
        )
        select s.contact_id as placeholder_id, n.contact_id, n.integration_id, n.object_type, n.record_id
        from stranger s
        join phone_numbers n on n.account_id = $1 and n.e164 = s.e164 and not n.is_placeholder",
        account_id.0,
        &e164,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(Pair::try_from).collect()
}

/// Whether a placeholder on this number has a record beside it: the cheap look of the call path.
pub async fn has_pair(db: &CallDb, account_id: AccountId, key: PhoneKey) -> Result<bool, StoreError> {
    db.of(account_id).read(|pool| async move {
        sqlx::query_scalar!(
            r#"-- store::adoption::has_pair
            select exists (select from phone_numbers n where n.account_id = $1 and n.e164 = $2 and n.is_placeholder)
               and exists (select from phone_numbers n where n.account_id = $1 and n.e164 = $2 and not n.is_placeholder) as "has_pair!""#,
            account_id.0,
            key.as_i64(),
        )
        .fetch_one(&pool)
        .await
    })
    .await
}

/// Numbers, from `after` on, whose placeholder has a record beside it: what a crash may have left behind. At most [`LOOK_MAX`].
pub async fn find_left_behind(db: &Db, account_id: AccountId, after: i64) -> Result<Vec<PhoneKey>, StoreError> {
    let keys = sqlx::query_scalar!(
        r#"-- store::adoption::find_left_behind
        select p.e164 as "e164!"
        from phone_numbers p
        where p.account_id = $1 and p.is_placeholder and p.e164 > $2
          and exists (select from phone_numbers n where n.account_id = $1 and n.e164 = p.e164 and not n.is_placeholder)
        order by p.e164
        limit $3"#,
        account_id.0,
        after,
        LOOK_MAX,
    )
    .fetch_all(db.of(account_id))
    .await?;
    keys.into_iter().map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "phone_numbers", "e164")).collect()
}

/// Locks the refs of these contacts, in the order of their keys: before the contacts, as every writer does.
pub async fn lock_refs(tx: &mut Tx, account_id: AccountId, contact_ids: &[ContactId]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    sqlx::query!(
        r#"-- store::adoption::lock_refs
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

/// A contact that ends, and the one that goes on in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// Becomes an alias.
    pub loser_id: ContactId,
    /// Takes the loser's refs and their numbers.
    pub survivor_id: ContactId,
    /// The survivor's rank.
    pub survivor_created_at: DateTime<Utc>,
}

/// Makes each loser an alias of its survivor: refs and their numbers move, a placeholder's number ends, earlier aliases follow.
/// Both must be locked, be live, and no contact may be in two merges as loser.
pub async fn merge(tx: &mut Tx, account_id: AccountId, merges: &[Merge], now: DateTime<Utc>) -> Result<(), StoreError> {
    let losers: Vec<Uuid> = merges.iter().map(|merge| merge.loser_id.0).collect();
    let survivors: Vec<Uuid> = merges.iter().map(|merge| merge.survivor_id.0).collect();
    let ranks: Vec<DateTime<Utc>> = merges.iter().map(|merge| merge.survivor_created_at).collect();
    let both: Vec<Uuid> = losers.iter().chain(&survivors).copied().collect();
    sqlx::query!(
        "-- store::adoption::merge (ends placeholder numbers)
        delete from phone_numbers n
        where n.account_id = $1 and n.contact_id = any($2) and n.is_placeholder",
        account_id.0,
        &both,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::adoption::merge (moves numbers)
        update phone_numbers n
        set contact_id = u.survivor_id, contact_created_at = u.survivor_created_at
        from unnest($2::uuid[], $3::uuid[], $4::timestamptz[]) as u (loser_id, survivor_id, survivor_created_at)
        where n.account_id = $1 and n.contact_id = u.loser_id",
        account_id.0,
        &losers,
        &survivors,
        &ranks,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::adoption::merge (moves refs)
        update external_refs e
        set contact_id = u.survivor_id, updated_at = $4
        from unnest($2::uuid[], $3::uuid[]) as u (loser_id, survivor_id)
        where e.account_id = $1 and e.contact_id = u.loser_id",
        account_id.0,
        &losers,
        &survivors,
        now,
    )
    .execute(&mut **tx)
    .await?;
    // A placeholder that survives takes the name of the record that it turned out to be.
    sqlx::query!(
        "-- store::adoption::merge (names survivors)
        update contacts s
        set display_name = l.display_name, organization = l.organization, emails = l.emails, is_placeholder = false
        from unnest($2::uuid[], $3::uuid[]) as u (loser_id, survivor_id)
        join contacts l on l.account_id = $1 and l.contact_id = u.loser_id and not l.is_placeholder
        where s.account_id = $1 and s.contact_id = u.survivor_id and s.is_placeholder",
        account_id.0,
        &losers,
        &survivors,
    )
    .execute(&mut **tx)
    .await?;
    let adopted = sqlx::query_as!(
        Changed,
        "-- store::adoption::merge (makes aliases)
        update contacts l
        set display_name = '', organization = '', emails = '{}', is_placeholder = false, deleted_at = $4, updated_at = $4,
            merged_into = u.survivor_id, survivor_id = u.survivor_id, version = l.version + 1
        from unnest($2::uuid[], $3::uuid[]) as u (loser_id, survivor_id)
        where l.account_id = $1 and l.contact_id = u.loser_id
        returning l.contact_id, l.version, l.survivor_id",
        account_id.0,
        &losers,
        &survivors,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Adopted, &adopted, now).await?;
    sqlx::query!(
        "-- store::adoption::merge (earlier aliases follow)
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
    let survivors: Vec<ContactId> = merges.iter().map(|merge| merge.survivor_id).collect();
    contact_writes::touch(tx, account_id, &survivors, now).await
}

/// A stranger to make a contact of.
pub struct Stranger<'a> {
    /// The new contact's id.
    pub contact_id: ContactId,
    /// The number.
    pub key: PhoneKey,
    /// As the carrier gave it.
    pub raw: &'a str,
    /// The call to store with it, if it has an id.
    pub call_id: Option<&'a str>,
    /// Which way that call goes.
    pub direction: Direction,
    /// The contact of that call's earlier answer, which is gone.
    pub replaces: Option<ContactId>,
}

/// What became of a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inserted {
    /// The placeholder was made; false: the number has one already (perhaps not visible yet). Look again.
    pub is_new: bool,
    /// The call was stored with it; false: it has another answer, or no id.
    pub is_call_stored: bool,
}

/// Makes the one placeholder of a number, and stores its call.
///
/// One statement, so that a caller who hangs up leaves either all of it or nothing, and routers that race with one call id see
/// both or neither.
pub async fn insert_placeholder(
    db: &CallDb,
    account_id: AccountId,
    stranger: &Stranger<'_>,
    now: DateTime<Utc>,
) -> Result<Inserted, StoreError> {
    let row = sqlx::query!(
        r#"-- store::adoption::insert_placeholder
        with stranger as (
            insert into phone_numbers (account_id, contact_id, integration_id, object_type, record_id, position, raw, region, e164,
                key_version, extension, label, is_placeholder, contact_created_at)
            values ($1, $2, '00000000-0000-0000-0000-000000000000', '', '', 0, $3, '', $4, $5, '', '', true, $6)
            on conflict (account_id, e164) where is_placeholder do nothing
            returning contact_id
        ),
        person as (
            insert into contacts (account_id, contact_id, display_name, organization, emails, is_placeholder, created_at, updated_at)
            select $1, contact_id, $7, '', '{}', true, $6, $6
            from stranger
            returning contact_id
        ),
        change as (
            insert into changes (account_id, subject_id, version, kind, created_at)
            select $1, contact_id, 1, 'CREATED', $6
            from person
        ),
        call as (
            insert into calls as c (account_id, call_id, e164, direction, outcome, contact_id, created_at, updated_at)
            select $1, $8, $4, $9, 'CREATED', contact_id, $6, $6
            from person
            where $8::text is not null
            on conflict (account_id, call_id) do update
            set e164 = excluded.e164, raw = null, direction = excluded.direction, outcome = excluded.outcome,
                contact_id = excluded.contact_id, tier = null, updated_at = excluded.updated_at
            where c.outcome is null
               or (c.e164 = excluded.e164 and (c.outcome in ('NOT_FOUND', 'NOT_KNOWN_YET') or c.contact_id = $10))
            returning c.call_id
        ),
        -- What was told of the call, if it was there before, rests on another answer.
        doubted as (
            update requester_decisions
            set is_stale = true
            where account_id = $1 and call_id = $8 and exists (select from call)
        )
        select exists (select from person) as "is_new!", exists (select from call) as "is_call_stored!""#,
        account_id.0,
        stranger.contact_id.0,
        stranger.raw,
        stranger.key.as_i64(),
        KEY_VERSION,
        now,
        stranger.key.e164(),
        stranger.call_id,
        stranger.direction.as_str(),
        stranger.replaces.map(|id| id.0),
    )
    .fetch_one(db.of(account_id))
    .await?;
    Ok(Inserted { is_new: row.is_new, is_call_stored: row.is_call_stored })
}
