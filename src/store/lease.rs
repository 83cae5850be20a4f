//! What a worker writes: claim, heartbeat, pages' progress, the end of a run. The lease number alone fences all of it; leases, and
//! nothing else, use the database's clock.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, StoreError, Tx, known};
use crate::domain::{
    ids::{AccountId, IntegrationId, SyncRunId},
    integration::{Hold, Organization, Provider},
    sync_run::{SyncCounts, SyncKind},
};

/// An integration that is due; reading it claims nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub account_id: AccountId,
    /// Which.
    pub integration_id: IntegrationId,
}

/// The right to write for one integration. Every write of a run carries it, and none passes after it is lost.
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
pub struct Claimed {
    /// The right to write.
    pub lease: Lease,
    /// The CRM's organisation.
    pub organization: Organization,
    /// The work is the removal of copied data.
    pub is_purging: bool,
    /// Where the next pass starts.
    pub checkpoint: Option<String>,
    /// Sealed by the vault.
    pub credentials: Option<Vec<u8>>,
    /// Nothing was ever copied completely.
    pub is_first_copy: bool,
    /// From the end of a pass to the next.
    pub period_seconds: i32,
    /// Passes that failed in a row.
    pub failures: i32,
}

/// Integrations that are due and not leased, longest due first. One that is due more than a day from now (the longest period) was
/// put there by a clock that was ahead, and is due too. One of the named statements across accounts.
pub async fn find_due(db: &Db, now: DateTime<Utc>, limit: i64) -> Result<Vec<Due>, StoreError> {
    let rows = sqlx::query!(
        "-- store::lease::find_due (across accounts)
        select account_id, integration_id
        from integrations
        where (due_at <= $1 or due_at > $1 + interval '25 hours')
          and (lease_until is null or lease_until < clock_timestamp())
        order by due_at
        limit $2",
        now,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Due { account_id: AccountId(row.account_id), integration_id: IntegrationId(row.integration_id) })
        .collect())
}

/// Claims a due integration for `lease_seconds`; `None`: somebody else has it.
pub async fn claim(
    tx: &mut Tx,
    due: Due,
    lease_seconds: f64,
    now: DateTime<Utc>,
) -> Result<Option<Claimed>, StoreError> {
    let row = sqlx::query!(
        r#"-- store::lease::claim
        update integrations
        set lease_number = lease_number + 1,
            lease_until = clock_timestamp() + make_interval(secs => $3),
            first_started_at = case when is_purging then first_started_at else coalesce(first_started_at, $4) end,
            updated_at = $4
        where account_id = $1 and integration_id = $2
          and (due_at <= $4 or due_at > $4 + interval '25 hours') and (lease_until is null or lease_until < clock_timestamp())
        returning lease_number, provider, organization, is_purging, checkpoint, credentials, last_completed_at is null as "is_first_copy!",
            period_seconds, failures"#,
        due.account_id.0,
        due.integration_id.0,
        lease_seconds,
        now,
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        Ok(Claimed {
            lease: Lease { account_id: due.account_id, integration_id: due.integration_id, number: row.lease_number },
            organization: Organization {
                provider: known(Provider::parse(&row.provider), "integrations", "provider")?,
                name: row.organization,
            },
            is_purging: row.is_purging,
            checkpoint: row.checkpoint,
            credentials: row.credentials,
            is_first_copy: row.is_first_copy,
            period_seconds: row.period_seconds,
            failures: row.failures,
        })
    })
    .transpose()
}

/// Extends the lease; false: it is lost, stop at once. One that its own run has just ended (this may have waited for that) stays
/// ended.
pub async fn extend(db: &Db, lease: Lease, lease_seconds: f64) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::lease::extend
        update integrations
        set lease_until = case when lease_until is not null then clock_timestamp() + make_interval(secs => $4) end
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        lease_seconds,
    )
    .execute(&db.pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// First statement of every transaction of a run: holds the integration until commit; false: the lease is lost. Leaves room for
/// the foreign keys of a click, which must not wait for a page.
pub async fn hold(tx: &mut Tx, lease: Lease) -> Result<bool, StoreError> {
    let row = sqlx::query_scalar!(
        "-- store::lease::hold
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

/// As [`hold`], and waits for every click that is being stored: for a purge, which must see them all.
pub async fn hold_alone(tx: &mut Tx, lease: Lease) -> Result<bool, StoreError> {
    let row = sqlx::query_scalar!(
        "-- store::lease::hold_alone
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

/// Replaces sealed credentials by the same ones under a newer key, unless they have changed meanwhile.
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
    .execute(&db.pool)
    .await?;
    Ok(())
}

/// Where a run starts or goes on.
pub struct Begun {
    /// Which run.
    pub id: SyncRunId,
    /// What it does.
    pub kind: SyncKind,
    /// Where it goes on after a crash; `None`: from the start.
    pub resume_point: Option<String>,
    /// How often a worker took it up.
    pub attempt: i32,
    /// How often since it last got on.
    pub stalled_attempts: i32,
}

/// Takes up the run that is queued or was left running, or begins a new one. In the transaction of the claim.
pub async fn begin_run(
    tx: &mut Tx,
    claimed: &Claimed,
    new_id: SyncRunId,
    now: DateTime<Utc>,
) -> Result<Begun, StoreError> {
    let Lease { account_id, integration_id, .. } = claimed.lease;
    let kind = if claimed.is_first_copy { SyncKind::Initial } else { SyncKind::Incremental };
    sqlx::query!(
        "-- store::lease::begin_run (makes one)
        insert into sync_runs (account_id, sync_run_id, integration_id, kind, state, phase, created_at, updated_at)
        select $1, $3, $2, $4, 'QUEUED', 'queued', $5, $5
        where not exists (
            select from sync_runs r where r.account_id = $1 and r.integration_id = $2 and r.state in ('QUEUED', 'RUNNING')
        )",
        account_id.0,
        integration_id.0,
        new_id.0,
        kind.as_str(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    let row = sqlx::query!(
        "-- store::lease::begin_run
        update sync_runs
        set state = 'RUNNING', phase = 'starting', attempt = attempt + 1, stalled_attempts = stalled_attempts + 1,
            started_at = coalesce(started_at, $3), updated_at = $3
        where account_id = $1 and integration_id = $2 and state in ('QUEUED', 'RUNNING')
        returning sync_run_id, kind, resume_point, attempt, stalled_attempts",
        account_id.0,
        integration_id.0,
        now,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Begun {
        id: SyncRunId(row.sync_run_id),
        kind: known(SyncKind::parse(&row.kind), "sync_runs", "kind")?,
        resume_point: row.resume_point,
        attempt: row.attempt,
        stalled_attempts: row.stalled_attempts,
    })
}

/// What a run reports between pages.
pub struct Report<'a> {
    /// What it is doing.
    pub phase: &'a str,
    /// The failure that it retries; empty: none.
    pub error: &'a str,
    /// About how many records it will read, if newly learned.
    pub estimated_total: Option<i64>,
}

/// Reports; false: the lease is lost.
pub async fn report(
    db: &Db,
    lease: Lease,
    run_id: SyncRunId,
    report: &Report<'_>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::lease::report
        update sync_runs r
        set phase = $5, error = $6, estimated_total = coalesce($7, r.estimated_total), updated_at = $8
        where r.account_id = $1 and r.sync_run_id = $4 and r.state = 'RUNNING'
          and exists (select from integrations i where i.account_id = $1 and i.integration_id = $2 and i.lease_number = $3)",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        run_id.0,
        report.phase,
        report.error,
        report.estimated_total,
        now,
    )
    .execute(&db.pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Moves the run on by a page, in the page's transaction, after [`hold`].
pub async fn advance(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    resume_point: Option<&str>,
    counts: SyncCounts,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::lease::advance
        update sync_runs
        set resume_point = $3, stalled_attempts = 0, phase = 'copying', error = '',
            read_count = read_count + $4, created_count = created_count + $5, updated_count = updated_count + $6,
            deleted_count = deleted_count + $7, skipped_count = skipped_count + $8, rejected_count = rejected_count + $9,
            updated_at = $10
        where account_id = $1 and sync_run_id = $2",
        lease.account_id.0,
        run_id.0,
        resume_point,
        counts.read,
        counts.created,
        counts.updated,
        counts.deleted,
        counts.skipped,
        counts.rejected,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends a run well, with its last page: the checkpoint moves, and the next pass is due a period from now.
pub async fn complete(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    checkpoint: Option<&str>,
    known_through: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::lease::complete
        update integrations
        set checkpoint = $4, known_through = coalesce($5, known_through), last_completed_at = $6, failures = 0, hold = null, hold_reason = null,
            due_at = $6::timestamptz + make_interval(secs => period_seconds), lease_until = null, updated_at = $6
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        checkpoint,
        known_through,
        now,
    )
    .execute(&mut **tx)
    .await?;
    end_run(tx, lease.account_id, run_id, "SUCCEEDED", "complete", "", now).await
}

/// How a failed run leaves its integration.
pub struct Failure<'a> {
    /// Why, and what to do.
    pub error: &'a str,
    /// No further pass until someone acts.
    pub hold: Option<Hold>,
    /// When to try again; `None` with a hold.
    pub due_at: Option<DateTime<Utc>>,
}

/// Ends a run that failed; a wait for the CRM's quota does not count as a failed pass. False: the lease was lost, and
/// somebody else has the run.
pub async fn fail(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    failure: &Failure<'_>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    if !hold(tx, lease).await? {
        return Ok(false);
    }
    sqlx::query!(
        "-- store::lease::fail
        update integrations
        set failures = failures + case when $4 = 'QUOTA_PAUSED' then 0 else 1 end, hold = $4, hold_reason = case when $4::text is null then null else $5 end, due_at = $6,
            lease_until = null, updated_at = $7
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        failure.hold.map(Hold::as_str),
        failure.error,
        failure.due_at,
        now,
    )
    .execute(&mut **tx)
    .await?;
    end_run(tx, lease.account_id, run_id, "FAILED", "failed", failure.error, now).await?;
    Ok(true)
}

/// Gives the lease back so that another worker takes the run up at once; for a soft stop, which does not count as an attempt.
/// Does nothing if the lease is lost.
pub async fn release(tx: &mut Tx, lease: Lease, now: DateTime<Utc>) -> Result<(), StoreError> {
    if !hold(tx, lease).await? {
        return Ok(());
    }
    sqlx::query!(
        "-- store::lease::release
        update integrations
        set lease_until = null, lease_number = lease_number + 1, updated_at = $4
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        now,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::lease::release (counts no attempt)
        update sync_runs
        set stalled_attempts = greatest(stalled_attempts - 1, 0), phase = 'waiting for a worker', updated_at = $3
        where account_id = $1 and integration_id = $2 and state = 'RUNNING'",
        lease.account_id.0,
        lease.integration_id.0,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes back the count of an attempt that ended by trouble with the database. Does nothing if the lease is lost.
pub async fn forgive_attempt(db: &Db, lease: Lease, run_id: SyncRunId) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::lease::forgive_attempt
        update sync_runs r
        set stalled_attempts = greatest(r.stalled_attempts - 1, 0)
        where r.account_id = $1 and r.sync_run_id = $4
          and exists (select from integrations i where i.account_id = $1 and i.integration_id = $2 and i.lease_number = $3)",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        run_id.0,
    )
    .execute(&db.pool)
    .await?;
    Ok(())
}

pub(super) async fn end_run(
    tx: &mut Tx,
    account_id: AccountId,
    run_id: SyncRunId,
    state: &str,
    phase: &str,
    error: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::lease::end_run
        update sync_runs
        set state = $3, phase = $4, error = $5, finished_at = $6, updated_at = $6
        where account_id = $1 and sync_run_id = $2 and state in ('QUEUED', 'RUNNING')",
        account_id.0,
        run_id.0 as Uuid,
        state,
        phase,
        error,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
