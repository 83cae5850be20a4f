//! The other end of the table `hints`: who has some, what is taken of them, and what becomes of
//! that. Under the lease of whoever asks the CRM, but for the search across accounts and the poll
//! that many of them come to.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Db, StoreError, Tx, known,
    lease::{DueIntegration, Lease},
    record_keys::{key_of, successor_of},
};
use crate::domain::{
    hint::HintReason,
    ids::{AccountId, IntegrationId},
    record::RecordKey,
};

/// A hint that waits for longer than this from now (the longest wait for a CRM is a day) was put
/// there by a clock that was ahead.
const AHEAD_MAX: TimeDelta = TimeDelta::hours(25);
/// An event from further ahead is of a CRM whose clock is: nothing waits for it.
const EVENT_AHEAD_MAX: TimeDelta = TimeDelta::minutes(1);

/// An integration with hints that are due, and which nobody has claimed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintedIntegration {
    /// Which.
    pub due: DueIntegration,
    /// Records are to be asked for, and its lease is free.
    pub has_records: bool,
    /// It is to be polled, and no run is under way or queued.
    pub needs_poll: bool,
}

/// A hint that was read, to be deleted once the record has been asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenHint {
    /// Which record.
    pub key: RecordKey,
    /// The write that was read.
    pub write_id: Uuid,
    /// How often the CRM had no news.
    pub attempts: i32,
    /// The CRM's update time that the record has at least.
    pub record_updated_at: Option<DateTime<Utc>>,
    /// What it was merged into, as an event said.
    pub successor: Option<RecordKey>,
    /// When it was first written.
    pub first_at: DateTime<Utc>,
    /// Who said so.
    pub reason: HintReason,
}

/// Integrations that copy, are on no hold, and have hints that are due, longest due first. Those
/// polled later than `polled_before` wait with their next poll. One of the named statements across
/// accounts.
pub async fn find_due(
    db: &Db,
    now: DateTime<Utc>,
    polled_before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<HintedIntegration>, StoreError> {
    let rows = sqlx::query!(
        r#"-- store::hint_drains::find_due (across accounts)
        select d.account_id as "account_id!", d.integration_id as "integration_id!", d.has_records as "has_records!", d.needs_poll as "needs_poll!"
        from (
            select h.account_id, h.integration_id, min(h.not_before) as since,
                bool_or(h.record_id <> '') and bool_and(
                    i.lease_until is null or i.lease_until < statement_timestamp() or i.lease_until > statement_timestamp() + interval '1 hour'
                ) as has_records,
                bool_or(h.record_id = '') and bool_and(
                    i.failures = 0 and (i.last_completed_at <= $3 or i.last_completed_at > $1)
                ) and not exists (
                    select from sync_runs r
                    where r.account_id = h.account_id and r.integration_id = h.integration_id and r.state in ('QUEUED', 'RUNNING')
                ) as needs_poll
            from hints h
            join integrations i on i.account_id = h.account_id and i.integration_id = h.integration_id
            where (h.not_before <= $1 or h.not_before > $2) and i.is_enabled and i.is_sync_on and i.hold is null
            group by h.account_id, h.integration_id
        ) d
        where d.has_records or d.needs_poll
        order by d.since
        limit $4"#,
        now,
        now + AHEAD_MAX,
        polled_before,
        limit,
    )
    .fetch_all(db.all())
    .await?;
    let hinted = rows.into_iter().map(|row| HintedIntegration {
        due: DueIntegration {
            account_id: AccountId(row.account_id),
            integration_id: IntegrationId(row.integration_id),
        },
        has_records: row.has_records,
        needs_poll: row.needs_poll,
    });
    Ok(hinted.collect())
}

/// The records that are to be asked for now, longest hinted first. Reads only: a hint is there
/// until what the CRM says is stored.
pub async fn take(db: &Db, lease: Lease, now: DateTime<Utc>, limit: i64) -> Result<Vec<TakenHint>, StoreError> {
    let rows = sqlx::query!(
        "-- store::hint_drains::take
        select object_type, record_id, write_id, attempts, record_updated_at, successor_type, successor_id, first_at, reason
        from hints
        where account_id = $1 and integration_id = $2 and record_id <> '' and (not_before <= $3 or not_before > $4)
        order by first_at, object_type, record_id
        limit $5",
        lease.account_id.0,
        lease.integration_id.0,
        now,
        now + AHEAD_MAX,
        limit,
    )
    .fetch_all(db.of(lease.account_id))
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(TakenHint {
                key: key_of(&row.object_type, row.record_id)?,
                write_id: row.write_id,
                attempts: row.attempts,
                record_updated_at: row.record_updated_at,
                successor: successor_of(row.successor_type.as_deref(), row.successor_id)?,
                first_at: row.first_at,
                reason: known(row.reason.parse::<HintReason>().ok(), "hints", "reason")?,
            })
        })
        .collect()
}

/// For `unnest`: types, ids, writes; in the order in which writers lock them.
fn columns(taken: &[TakenHint]) -> (Vec<String>, Vec<String>, Vec<Uuid>) {
    let mut taken: Vec<&TakenHint> = taken.iter().collect();
    taken.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    let types = taken.iter().map(|hint| hint.key.object_type.as_str().to_owned()).collect();
    let ids = taken.iter().map(|hint| hint.key.record_id.clone()).collect();
    (types, ids, taken.iter().map(|hint| hint.write_id).collect())
}

/// Deletes what was taken, in the transaction that stores what the CRM said. What was written anew
/// since stays.
pub async fn remove(tx: &mut Tx, lease: Lease, taken: &[TakenHint]) -> Result<(), StoreError> {
    let (types, ids, writes) = columns(taken);
    sqlx::query!(
        "-- store::hint_drains::remove
        delete from hints h
        using unnest($3::text[], $4::text[], $5::uuid[]) as u (object_type, record_id, write_id)
        where h.account_id = $1 and h.integration_id = $2 and h.object_type = u.object_type and h.record_id = u.record_id
          and h.write_id = u.write_id",
        lease.account_id.0,
        lease.integration_id.0,
        &types,
        &ids,
        &writes,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Lets what was taken wait until then, and counts an attempt if it `is_attempt`. What was written
/// anew since is due as it was written.
pub async fn put_off(
    tx: &mut Tx,
    lease: Lease,
    taken: &[TakenHint],
    is_attempt: bool,
    not_before: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (types, ids, writes) = columns(taken);
    sqlx::query!(
        "-- store::hint_drains::put_off
        update hints h
        set attempts = h.attempts + $6, not_before = $7
        from unnest($3::text[], $4::text[], $5::uuid[]) as u (object_type, record_id, write_id)
        where h.account_id = $1 and h.integration_id = $2 and h.object_type = u.object_type and h.record_id = u.record_id
          and h.write_id = u.write_id",
        lease.account_id.0,
        lease.integration_id.0,
        &types,
        &ids,
        &writes,
        i32::from(is_attempt),
        not_before,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Lets all of an integration's hints that are due before then wait until then: its CRM is in
/// trouble.
pub async fn put_off_all(tx: &mut Tx, lease: Lease, not_before: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::hint_drains::put_off_all
        update hints
        set not_before = $3
        where account_id = $1 and integration_id = $2 and record_id <> '' and not_before < $3",
        lease.account_id.0,
        lease.integration_id.0,
        not_before,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes away all records that wait, but those of which an event alone knows what they were merged
/// into: a poll is to bring them. Gives the latest change that was told of them, by the CRM's
/// clock; `None`: there were none, or none was told.
pub async fn fold(tx: &mut Tx, lease: Lease) -> Result<(u64, Option<DateTime<Utc>>), StoreError> {
    let times = sqlx::query_scalar!(
        "-- store::hint_drains::fold
        delete from hints
        where account_id = $1 and integration_id = $2 and record_id <> '' and successor_id is null
        returning event_time",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok((u64::try_from(times.len()).unwrap_or(u64::MAX), times.into_iter().flatten().max()))
}

/// Takes the hint of the whole integration up, if it is due: in the transaction that starts its
/// poll. One that was written again for events that the CRM's lists do not show yet stays, until
/// they do. False: there is none (any more).
pub async fn take_whole(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    listing_lag: TimeDelta,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let removed = sqlx::query!(
        "-- store::hint_drains::take_whole
        delete from hints
        where account_id = $1 and integration_id = $2 and record_id = '' and (not_before <= $3 or not_before > $4)
          and (event_time is null or event_time <= $5 or event_time > $6)",
        account_id.0,
        integration_id.0,
        now,
        now + AHEAD_MAX,
        now - listing_lag,
        now + EVENT_AHEAD_MAX,
    )
    .execute(&mut **tx)
    .await?;
    if removed.rows_affected() == 1 {
        return Ok(true);
    }
    let kept = sqlx::query!(
        "-- store::hint_drains::take_whole (stays)
        update hints
        set not_before = $5
        where account_id = $1 and integration_id = $2 and record_id = '' and (not_before <= $3 or not_before > $4)",
        account_id.0,
        integration_id.0,
        now,
        now + AHEAD_MAX,
        now + listing_lag,
    )
    .execute(&mut **tx)
    .await?;
    Ok(kept.rows_affected() == 1)
}
