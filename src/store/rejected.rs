//! The table `rejected_records`: what pages could not give, until the record comes whole, is gone
//! or erased, a full run does not meet it any more, or nobody has met it for 30 days. Written under
//! the lease of a run, but for what an operator and retention do.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Db, StoreError, Tx, known,
    lease::Lease,
    record_keys::{key_columns, key_of},
};
use crate::domain::{
    ids::{AccountId, IntegrationId, SyncRunId},
    record::RecordKey,
    rejected::RejectReason,
};

/// The key of a record without an id begins with this; no id of a CRM does.
pub const NAMELESS: char = '#';

/// A rejected record to keep.
#[derive(Debug, Clone)]
pub struct NewRejected {
    /// Its kind, and its id, or [`NAMELESS`] and a keyed fingerprint of its content.
    pub key: RecordKey,
    /// Why.
    pub reason: RejectReason,
    /// Which fields.
    pub fields: String,
    /// It was copied without them.
    pub is_copied: bool,
    /// A phone number may be among what was not copied.
    pub hides_number: bool,
    /// Sealed by the vault.
    pub raw: Option<Vec<u8>>,
}

/// A rejected record as it is kept.
#[derive(Debug, Clone)]
pub struct KeptRejected {
    /// Its kind, and its id, or [`NAMELESS`] and a fingerprint.
    pub key: RecordKey,
    /// Why.
    pub reason: RejectReason,
    /// Which fields.
    pub fields: String,
    /// It was copied without them.
    pub is_copied: bool,
    /// The next run asks for it again.
    pub is_retried: bool,
    /// The run that last met it.
    pub sync_run_id: SyncRunId,
    /// When it was first met.
    pub first_seen_at: DateTime<Utc>,
    /// When it was last met.
    pub last_seen_at: DateTime<Utc>,
    /// By how many runs.
    pub times_seen: i64,
    /// Sealed; `None`: there is none (any more).
    pub raw: Option<Vec<u8>>,
}

impl KeptRejected {
    /// It does not say which record it is.
    pub fn is_nameless(&self) -> bool {
        self.key.record_id.starts_with(NAMELESS)
    }
}

struct RejectedRow {
    object_type: String,
    record_key: String,
    reason: String,
    fields: String,
    is_copied: bool,
    is_retried: bool,
    sync_run_id: Uuid,
    first_seen_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    times_seen: i64,
    raw: Option<Vec<u8>>,
}

impl TryFrom<RejectedRow> for KeptRejected {
    type Error = StoreError;

    fn try_from(row: RejectedRow) -> Result<Self, StoreError> {
        Ok(Self {
            key: key_of(&row.object_type, row.record_key)?,
            reason: known(row.reason.parse::<RejectReason>().ok(), "rejected_records", "reason")?,
            fields: row.fields,
            is_copied: row.is_copied,
            is_retried: row.is_retried,
            sync_run_id: SyncRunId(row.sync_run_id),
            first_seen_at: row.first_seen_at,
            last_seen_at: row.last_seen_at,
            times_seen: row.times_seen,
            raw: row.raw,
        })
    }
}

/// The keys of all that is kept of an integration.
pub async fn list_keys(tx: &mut Tx, lease: Lease) -> Result<HashSet<RecordKey>, StoreError> {
    let rows = sqlx::query!(
        "-- store::rejected::list_keys
        select object_type, record_key
        from rejected_records
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| key_of(&row.object_type, row.record_key)).collect()
}

/// Keeps these, each once; of one that is kept already the newer content counts.
pub async fn keep(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    rejected: &[&NewRejected],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let keys: Vec<RecordKey> = rejected.iter().map(|one| one.key.clone()).collect();
    let (types, ids) = key_columns(&keys);
    let reasons: Vec<String> = rejected.iter().map(|one| one.reason.as_str().to_owned()).collect();
    let fields: Vec<String> = rejected.iter().map(|one| one.fields.clone()).collect();
    let copied: Vec<bool> = rejected.iter().map(|one| one.is_copied).collect();
    let hiding: Vec<bool> = rejected.iter().map(|one| one.hides_number).collect();
    let raws: Vec<Option<Vec<u8>>> = rejected.iter().map(|one| one.raw.clone()).collect();
    sqlx::query!(
        "-- store::rejected::keep
        insert into rejected_records (account_id, integration_id, object_type, record_key, reason, fields, is_copied, hides_number, raw, sync_run_id,
            first_seen_at, last_seen_at, times_seen)
        select $1, $2, u.object_type, u.record_key, u.reason, u.fields, u.is_copied, u.hides_number, u.raw, $10, $11, $11, 1
        from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::boolean[], $9::bytea[])
            as u (object_type, record_key, reason, fields, is_copied, hides_number, raw)
        on conflict (account_id, integration_id, object_type, record_key) do update
        set reason = excluded.reason, fields = excluded.fields, is_copied = excluded.is_copied,
            hides_number = excluded.hides_number, raw = excluded.raw,
            is_unseen = false, last_seen_at = excluded.last_seen_at, sync_run_id = excluded.sync_run_id,
            times_seen = rejected_records.times_seen
                + case when rejected_records.sync_run_id = excluded.sync_run_id then 0 else 1 end",
        lease.account_id.0,
        lease.integration_id.0,
        &types,
        &ids,
        &reasons,
        &fields,
        &copied,
        &hiding,
        &raws as &[Option<Vec<u8>>],
        run_id.0,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A page that is stored held a record or a number that could not be read: answers are not
/// complete, until a run that ends finds none of them kept any more
/// ([`run_progress::complete`](super::run_progress::complete)).
pub async fn mark_unread(tx: &mut Tx, lease: Lease) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::rejected::mark_unread
        update integrations
        set has_unread = true
        where account_id = $1 and integration_id = $2 and not has_unread",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Counts those that were met and found no room.
pub async fn leave_out(tx: &mut Tx, lease: Lease, count: i64, now: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::rejected::leave_out
        update integrations
        set rejected_left_out = rejected_left_out + $3, updated_at = $4
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
        count,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets what was rejected of these records: they have come whole, are gone, or are erased.
pub async fn remove(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<(), StoreError> {
    let (types, ids) = key_columns(keys);
    sqlx::query!(
        "-- store::rejected::remove
        delete from rejected_records r
        using unnest($3::text[], $4::text[]) as u (object_type, record_key)
        where r.account_id = $1 and r.integration_id = $2 and r.object_type = u.object_type and r.record_key = u.record_key",
        account_id.0,
        integration_id.0,
        &types,
        &ids,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes the content of records without an id, for an erasure: whose they are cannot be known.
pub async fn empty_nameless(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::rejected::empty_nameless
        update rejected_records
        set raw = null
        where account_id = $1 and integration_id = $2 and record_key like '#%'",
        account_id.0,
        integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Everything is read from the beginning: what is kept is yet to be met, and what finds no room is
/// counted anew.
pub async fn begin_full(tx: &mut Tx, lease: Lease, now: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::rejected::begin_full
        update rejected_records
        set is_unseen = true
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::rejected::begin_full (left out)
        update integrations
        set rejected_left_out = 0, updated_at = $3
        where account_id = $1 and integration_id = $2 and rejected_left_out > 0",
        lease.account_id.0,
        lease.integration_id.0,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Everything was read: what was not met is not there any more.
pub async fn end_full(tx: &mut Tx, lease: Lease) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::rejected::end_full
        delete from rejected_records
        where account_id = $1 and integration_id = $2 and is_unseen",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A page of them in the order of their keys, after this one.
pub async fn list(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    after: Option<&RecordKey>,
    limit: i64,
) -> Result<Vec<KeptRejected>, StoreError> {
    let (after_type, after_key) = after.map_or(("", ""), |key| (key.object_type.as_str(), key.record_id.as_str()));
    let rows = sqlx::query_as!(
        RejectedRow,
        "-- store::rejected::list
        select object_type, record_key, reason, fields, is_copied, is_retried, sync_run_id, first_seen_at, last_seen_at, times_seen, raw
        from rejected_records
        where account_id = $1 and integration_id = $2 and (object_type, record_key) > ($3, $4)
        order by object_type, record_key
        limit $5",
        account_id.0,
        integration_id.0,
        after_type,
        after_key,
        limit,
    )
    .fetch_all(db.of(account_id))
    .await?;
    rows.into_iter().map(KeptRejected::try_from).collect()
}

/// One of them.
pub async fn find(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    key: &RecordKey,
) -> Result<Option<KeptRejected>, StoreError> {
    let row = sqlx::query_as!(
        RejectedRow,
        "-- store::rejected::find
        select object_type, record_key, reason, fields, is_copied, is_retried, sync_run_id, first_seen_at, last_seen_at, times_seen, raw
        from rejected_records
        where account_id = $1 and integration_id = $2 and object_type = $3 and record_key = $4",
        account_id.0,
        integration_id.0,
        key.object_type.as_str(),
        key.record_id,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map(KeptRejected::try_from).transpose()
}

/// How many were met since the last full read began and found no room; `None`: no such integration.
pub async fn find_left_out(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<Option<i64>, StoreError> {
    let left_out = sqlx::query_scalar!(
        "-- store::rejected::find_left_out
        select rejected_left_out
        from integrations
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    Ok(left_out)
}

/// Has the next run ask for this record again, or (`None`) for all that have an id. Returns how
/// many. The integration must be locked.
pub async fn mark_retried(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    key: Option<&RecordKey>,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "-- store::rejected::mark_retried
        update rejected_records
        set is_retried = true
        where account_id = $1 and integration_id = $2 and record_key not like '#%'
          and ($3::text is null or (object_type = $3 and record_key = $4))",
        account_id.0,
        integration_id.0,
        key.map(|key| key.object_type.as_str()),
        key.map(|key| key.record_id.as_str()),
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// Those that are to be asked for again, at most so many.
pub async fn find_retried(db: &Db, lease: Lease, limit: i64) -> Result<Vec<RecordKey>, StoreError> {
    let rows = sqlx::query!(
        "-- store::rejected::find_retried
        select object_type, record_key
        from rejected_records
        where account_id = $1 and integration_id = $2 and is_retried
        order by object_type, record_key
        limit $3",
        lease.account_id.0,
        lease.integration_id.0,
        limit,
    )
    .fetch_all(db.of(lease.account_id))
    .await?;
    rows.into_iter().map(|row| key_of(&row.object_type, row.record_key)).collect()
}

/// These have been asked for, whatever came of it.
pub async fn end_retry(tx: &mut Tx, lease: Lease, keys: &[RecordKey]) -> Result<(), StoreError> {
    let (types, ids) = key_columns(keys);
    sqlx::query!(
        "-- store::rejected::end_retry
        update rejected_records r
        set is_retried = false
        from unnest($3::text[], $4::text[]) as u (object_type, record_key)
        where r.account_id = $1 and r.integration_id = $2 and r.object_type = u.object_type and r.record_key = u.record_key",
        lease.account_id.0,
        lease.integration_id.0,
        &types,
        &ids,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes those of an account that were last met before then. Returns how many.
pub async fn expire(db: &Db, account_id: AccountId, before: DateTime<Utc>) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "-- store::rejected::expire
        delete from rejected_records
        where account_id = $1 and last_seen_at < $2",
        account_id.0,
        before,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(done.rows_affected())
}
