//! A worker's right to write for one integration: claim, heartbeat, release. The lease number alone
//! fences every write of a run. Leases use the database's clock, as claims of tokens
//! (`store::access`) and the time that calls are kept (`store::retention`) do, and nothing else.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::types::Json;

use super::{Db, StoreError, Tx, known};
use crate::domain::{
    ids::{AccountId, IntegrationId},
    integration::Organization,
    notice::Notice,
    options::Options,
    provider::Provider,
};

/// An integration that is due later than this from now (the longest period is a day) was put there
/// by a clock that was ahead.
const AHEAD_MAX: TimeDelta = TimeDelta::hours(25);

/// An integration that is due; reading it claims nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueIntegration {
    /// Whose.
    pub account_id: AccountId,
    /// Which.
    pub integration_id: IntegrationId,
}

/// The right to write for one integration. Every write of a run carries it, and none passes after
/// it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub account_id: AccountId,
    /// Which.
    pub integration_id: IntegrationId,
    /// Grows with each claim, cancellation and disabling.
    pub number: i64,
}

/// What a claim found.
pub struct ClaimedIntegration {
    /// The right to write.
    pub lease: Lease,
    /// The CRM's organisation.
    pub organization: Organization,
    /// The work is the removal of copied data.
    pub is_purging: bool,
    /// Where the next run starts.
    pub checkpoint: Option<String>,
    /// Sealed by the vault.
    pub credentials: Option<Vec<u8>>,
    /// Nothing was ever copied completely.
    pub is_first_copy: bool,
    /// From the end of a run to the next.
    pub period_seconds: i32,
    /// Runs that failed in a row.
    pub failures: i32,
    /// What is copied and mirrored.
    pub options: Options,
    /// When the next run is to be a sweep; `None`: nobody has said yet.
    pub sweep_due_at: Option<DateTime<Utc>>,
    /// Of the sweep under way, or the last one.
    pub sweep_number: i64,
    /// Deletions that a sweep held back, and somebody has confirmed.
    pub confirmed_deletions: Option<i64>,
}

/// What both ways to claim return.
struct ClaimRow {
    lease_number: i64,
    provider: String,
    organization: String,
    is_purging: bool,
    checkpoint: Option<String>,
    credentials: Option<Vec<u8>>,
    is_first_copy: bool,
    period_seconds: i32,
    failures: i32,
    options: Json<Options>,
    sweep_due_at: Option<DateTime<Utc>>,
    sweep_number: i64,
    confirmed_deletions: Option<i64>,
}

impl ClaimRow {
    fn claimed(self, due: DueIntegration) -> Result<ClaimedIntegration, StoreError> {
        Ok(ClaimedIntegration {
            lease: Lease { account_id: due.account_id, integration_id: due.integration_id, number: self.lease_number },
            organization: Organization {
                provider: known(self.provider.parse::<Provider>().ok(), "integrations", "provider")?,
                name: self.organization,
            },
            is_purging: self.is_purging,
            checkpoint: self.checkpoint,
            credentials: self.credentials,
            is_first_copy: self.is_first_copy,
            period_seconds: self.period_seconds,
            failures: self.failures,
            options: self.options.0,
            sweep_due_at: self.sweep_due_at,
            sweep_number: self.sweep_number,
            confirmed_deletions: self.confirmed_deletions,
        })
    }
}

/// Integrations that are due and not leased, longest due first. One that is due more than a day
/// from now (the longest period) was put there by a clock that was ahead, and is due too; so it is
/// with a lease of more than an hour (the longest is ten minutes). One of the named statements
/// across accounts.
pub async fn find_due(db: &Db, now: DateTime<Utc>, limit: i64) -> Result<Vec<DueIntegration>, StoreError> {
    let rows = sqlx::query!(
        "-- store::lease::find_due (across accounts)
        select account_id, integration_id
        from integrations
        where (due_at <= $1 or due_at > $2)
          and (lease_until is null or lease_until < statement_timestamp() or lease_until > statement_timestamp() + interval '1 hour')
        order by due_at
        limit $3",
        now,
        now + AHEAD_MAX,
        limit,
    )
    .fetch_all(db.all())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| DueIntegration {
            account_id: AccountId(row.account_id),
            integration_id: IntegrationId(row.integration_id),
        })
        .collect())
}

/// Claims a due integration for `lease_seconds`; `None`: somebody else has it.
pub async fn claim(
    tx: &mut Tx,
    due: DueIntegration,
    lease_seconds: f64,
    now: DateTime<Utc>,
) -> Result<Option<ClaimedIntegration>, StoreError> {
    let row = sqlx::query_as!(
        ClaimRow,
        r#"-- store::lease::claim
        update integrations
        set lease_number = lease_number + 1,
            lease_until = statement_timestamp() + make_interval(secs => $3),
            first_started_at = case when is_purging then first_started_at else coalesce(first_started_at, $4) end,
            updated_at = $4
        where account_id = $1 and integration_id = $2
          and (due_at <= $4 or due_at > $5)
          and (lease_until is null or lease_until < statement_timestamp() or lease_until > statement_timestamp() + interval '1 hour')
        returning lease_number, provider, organization, is_purging, checkpoint, credentials, last_completed_at is null as "is_first_copy!",
            period_seconds, failures, options as "options: Json<Options>", sweep_due_at,
            sweep_number, confirmed_deletions"#,
        due.account_id.0,
        due.integration_id.0,
        lease_seconds,
        now,
        now + AHEAD_MAX,
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| row.claimed(due)).transpose()
}

/// Claims an integration to ask for a few of its records, whether a run is due or not: when and how
/// the next run begins is as before. `None`: somebody else has it, or it is not read now.
pub async fn claim_for_hints(
    db: &Db,
    hinted: DueIntegration,
    lease_seconds: f64,
) -> Result<Option<ClaimedIntegration>, StoreError> {
    let row = sqlx::query_as!(
        ClaimRow,
        r#"-- store::lease::claim_for_hints
        update integrations
        set lease_number = lease_number + 1,
            lease_until = statement_timestamp() + make_interval(secs => $3)
        where account_id = $1 and integration_id = $2 and is_enabled and is_sync_on and not is_purging and hold is null
          and (lease_until is null or lease_until < statement_timestamp() or lease_until > statement_timestamp() + interval '1 hour')
        returning lease_number, provider, organization, is_purging, checkpoint, credentials, last_completed_at is null as "is_first_copy!",
            period_seconds, failures, options as "options: Json<Options>", sweep_due_at,
            sweep_number, confirmed_deletions"#,
        hinted.account_id.0,
        hinted.integration_id.0,
        lease_seconds,
    )
    .fetch_optional(db.of(hinted.account_id))
    .await?;
    row.map(|row| row.claimed(hinted)).transpose()
}

/// Whether somebody holds it, so that nobody waits for a page's transaction to learn that.
pub async fn is_held(db: &Db, due: DueIntegration) -> Result<bool, StoreError> {
    let is_held = sqlx::query_scalar!(
        r#"-- store::lease::is_held
        select lease_until is not null and lease_until >= statement_timestamp() and lease_until <= statement_timestamp() + interval '1 hour' as "is_held!"
        from integrations
        where account_id = $1 and integration_id = $2"#,
        due.account_id.0,
        due.integration_id.0,
    )
    .fetch_optional(db.of(due.account_id))
    .await?;
    Ok(is_held.unwrap_or(false))
}

/// Ends a claim for hints. What is still under way can write no more. Does nothing if the lease is
/// lost.
pub async fn give_back(db: &Db, lease: Lease) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::lease::give_back
        update integrations
        set lease_until = null, lease_number = lease_number + 1
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
    )
    .execute(db.of(lease.account_id))
    .await?;
    Ok(())
}

/// Extends the lease; false: it is lost, stop at once. One that its own run has just ended (this
/// may have waited for that) stays ended.
pub async fn extend(db: &Db, lease: Lease, lease_time: Duration) -> Result<bool, StoreError> {
    let now = sqlx::query_scalar!(
        r#"-- store::lease::extend (the database's time)
        select statement_timestamp() as "now!""#
    )
    .fetch_one(db.of(lease.account_id))
    .await?;
    let done = sqlx::query!(
        "-- store::lease::extend
        update integrations
        set lease_until = case when lease_until is not null then $4::timestamptz end
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        now + lease_time,
    )
    .execute(db.of(lease.account_id))
    .await?;
    Ok(done.rows_affected() == 1)
}

/// First statement of every transaction of a run: holds the integration until commit; false: the
/// lease is lost. Leaves room for the foreign keys of a click, which must not wait for a page.
pub async fn lock(tx: &mut Tx, lease: Lease) -> Result<bool, StoreError> {
    let row = sqlx::query_scalar!(
        "-- store::lease::lock
        select lease_number
        from integrations
        where account_id = $1 and integration_id = $2 and lease_number = $3
        for no key update",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_some())
}

/// As [`lock`], and waits for every click that is being stored: for a purge, which must see them
/// all.
pub async fn lock_alone(tx: &mut Tx, lease: Lease) -> Result<bool, StoreError> {
    let row = sqlx::query_scalar!(
        "-- store::lease::lock_alone
        select lease_number
        from integrations
        where account_id = $1 and integration_id = $2 and lease_number = $3
        for update",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_some())
}

/// Takes the lease away from whoever has it, in a transaction that has locked the integration: the
/// number moves on, so that its worker can write no more. The number is counted here and nowhere
/// else decided: it is what fences.
pub(super) async fn revoke(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::lease::revoke
        update integrations
        set lease_number = lease_number + 1, lease_until = null
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends the lease of a run, or of a purge, that is over.
pub(super) async fn end(tx: &mut Tx, lease: Lease) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::lease::end
        update integrations
        set lease_until = null
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Replaces sealed credentials by the same ones under a newer key, unless they have changed
/// meanwhile.
pub async fn reseal(db: &Db, lease: Lease, old: &[u8], new: &[u8]) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::lease::reseal
        update integrations
        set credentials = $5
        where account_id = $1 and integration_id = $2 and lease_number = $3 and credentials = $4",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        old,
        new,
    )
    .execute(db.of(lease.account_id))
    .await?;
    Ok(())
}

/// What a run that gives its lease back leaves behind.
#[derive(Debug, Clone, Copy)]
pub struct LeaseHandover<'a> {
    /// When it is to be taken up again; `None`: as it was, at once.
    pub due_at: Option<DateTime<Utc>>,
    /// What it does until then.
    pub phase: &'a str,
    /// The failure that it waits after.
    pub error: Option<&'a Notice>,
}

/// Gives the lease back so that another worker takes the run up where it is, now or later; does not
/// count as an attempt. Does nothing if the lease is lost.
pub async fn release(
    tx: &mut Tx,
    lease: Lease,
    handover: LeaseHandover<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if !lock(tx, lease).await? {
        return Ok(());
    }
    sqlx::query!(
        "-- store::lease::release
        update integrations
        set lease_until = null, lease_number = lease_number + 1, due_at = coalesce($5, due_at), updated_at = $4
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        now,
        handover.due_at,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::lease::release (counts no attempt)
        update sync_runs
        set stalled_attempts = greatest(stalled_attempts - 1, 0), phase = $4, error = $5, updated_at = $3
        where account_id = $1 and integration_id = $2 and state = 'RUNNING'",
        lease.account_id.0,
        lease.integration_id.0,
        now,
        handover.phase,
        Notice::stored(handover.error),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
