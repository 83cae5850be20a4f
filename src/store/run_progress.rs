//! What a run writes of itself: begun, pages' progress, its end. Under its lease, whose number
//! fences all of it.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Db, StoreError, Tx, integrations, known,
    lease::{ClaimedIntegration, Lease},
};
use crate::domain::{
    ids::{AccountId, SyncRunId},
    integration::SyncHold,
    integration_state::{ControlEvent, FailureVerdict, RunCompletion, RunFailure, SweepOutcome},
    notice::Notice,
    sync_run::{SyncCounts, SyncKind},
};

/// Where a run starts or goes on.
pub struct StartedRun {
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
    /// A sweep that has listed everything.
    pub is_listed: bool,
}

/// Takes up the run that is queued or was left running, or begins a new one. In the transaction of
/// the claim.
pub async fn begin_run(
    tx: &mut Tx,
    claimed: &ClaimedIntegration,
    new_id: SyncRunId,
    now: DateTime<Utc>,
) -> Result<StartedRun, StoreError> {
    let Lease { account_id, integration_id, .. } = claimed.lease;
    let kind = SyncKind::next(claimed.is_first_copy, claimed.sweep_due_at.is_some_and(|due_at| due_at <= now));
    sqlx::query!(
        "-- store::run_progress::begin_run (makes one)
        insert into sync_runs (account_id, sync_run_id, integration_id, kind, state, phase, created_at, updated_at)
        values ($1, $3, $2, $4, 'QUEUED', 'queued', $5, $5)
        on conflict (account_id, integration_id) where state in ('QUEUED', 'RUNNING') do nothing",
        account_id.0,
        integration_id.0,
        new_id.0,
        kind.as_str(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    let row = sqlx::query!(
        "-- store::run_progress::begin_run
        update sync_runs
        set state = 'RUNNING', phase = 'starting', attempt = attempt + 1, stalled_attempts = stalled_attempts + 1,
            started_at = coalesce(started_at, $3), updated_at = $3
        where account_id = $1 and integration_id = $2 and state in ('QUEUED', 'RUNNING')
        returning sync_run_id, kind, resume_point, attempt, stalled_attempts, is_listed",
        account_id.0,
        integration_id.0,
        now,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(StartedRun {
        id: SyncRunId(row.sync_run_id),
        kind: known(row.kind.parse::<SyncKind>().ok(), "sync_runs", "kind")?,
        resume_point: row.resume_point,
        attempt: row.attempt,
        stalled_attempts: row.stalled_attempts,
        is_listed: row.is_listed,
    })
}

/// What a run reports between pages.
pub struct PhaseReport<'a> {
    /// What it is doing.
    pub phase: &'a str,
    /// The failure that it retries; empty: none.
    pub error: Option<&'a Notice>,
    /// About how many records it will read, if newly learned.
    pub estimated_total: Option<i64>,
}

/// Reports; false: the lease is lost.
pub async fn report(
    db: &Db,
    lease: Lease,
    run_id: SyncRunId,
    report: &PhaseReport<'_>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::run_progress::report
        update sync_runs r
        set phase = $5, error = $6, estimated_total = coalesce($7, r.estimated_total), updated_at = $8
        where r.account_id = $1 and r.sync_run_id = $4 and r.state = 'RUNNING'
          and exists (select from integrations i where i.account_id = $1 and i.integration_id = $2 and i.lease_number = $3)",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        run_id.0,
        report.phase,
        Notice::stored(report.error),
        report.estimated_total,
        now,
    )
    .execute(db.of(lease.account_id))
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Adds a notice to a run under its lease. At most 50 notices.
pub async fn notice(
    db: &Db,
    lease: Lease,
    run_id: SyncRunId,
    notice: &Notice,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::run_progress::notice
        update sync_runs r
        set notices = (r.notices || $5::text)[1:50], updated_at = $6
        where r.account_id = $1 and r.sync_run_id = $4 and not $5::text = any(r.notices)
          and exists (select from integrations i where i.account_id = $1 and i.integration_id = $2 and i.lease_number = $3)",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        run_id.0,
        notice.to_string(),
        now,
    )
    .execute(db.of(lease.account_id))
    .await?;
    Ok(())
}

/// What a page moves of its run.
#[derive(Default)]
pub struct PageProgress<'a> {
    /// Where it goes on; `None`: where it did.
    pub resume_point: Option<&'a str>,
    /// Of the page.
    pub counts: SyncCounts,
    /// Of the page; a run keeps at most 50.
    pub notices: &'a [Notice],
    /// The most records that the CRM's limit lets it read in a minute; `None`: as before.
    pub records_per_minute: Option<i64>,
}

/// Moves the run on by a page, in the page's transaction, after
/// [`lease::lock`](super::lease::lock).
pub async fn advance(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    advance: &PageProgress<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let PageProgress { resume_point, counts, notices, records_per_minute } = advance;
    sqlx::query!(
        "-- store::run_progress::advance
        update sync_runs
        set resume_point = coalesce($3, resume_point), stalled_attempts = 0, phase = 'copying', error = '',
            read_count = read_count + $4, created_count = created_count + $5, updated_count = updated_count + $6,
            deleted_count = deleted_count + $7, skipped_count = skipped_count + $8, rejected_count = rejected_count + $9,
            notices = (select coalesce((array_agg(distinct n))[1:50], '{}') from unnest(notices || $11::text[]) as n),
            records_per_minute = coalesce($12, records_per_minute), updated_at = $10
        where account_id = $1 and sync_run_id = $2",
        lease.account_id.0,
        run_id.0,
        *resume_point,
        counts.read,
        counts.created,
        counts.updated,
        counts.deleted,
        counts.skipped,
        counts.rejected,
        now,
        &notices.iter().map(Notice::to_string).collect::<Vec<_>>(),
        *records_per_minute,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Moves the checkpoint, with the last page that the CRM lists.
pub async fn move_checkpoint(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    checkpoint: Option<&str>,
    known_through: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::run_progress::move_checkpoint
        update integrations
        set checkpoint = $4, known_through = coalesce($5, known_through), updated_at = $6
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
    sqlx::query!(
        "-- store::run_progress::move_checkpoint (everything is listed)
        update sync_runs
        set is_listed = true
        where account_id = $1 and sync_run_id = $2",
        lease.account_id.0,
        run_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy)]
pub struct RunEnd {
    /// What it did.
    pub kind: SyncKind,
    /// When the next sweep was due as its worker took it up.
    pub planned_sweep_at: Option<DateTime<Utc>>,
    /// From sweep to sweep.
    pub sweep_every: Option<TimeDelta>,
    /// Of a sweep.
    pub sweep: Option<SweepOutcome>,
    /// Something that was never copied was left: the copy is not whole.
    pub is_incomplete: bool,
}

/// Ends a run well, in a transaction that holds the lease.
pub async fn complete(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    end: RunEnd,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let facts = sqlx::query!(
        r#"-- store::run_progress::complete (reads)
        select r.started_at,
            exists (
                select from rejected_records j where j.account_id = $1 and j.integration_id = $2 and j.is_retried
            ) as "is_retry_asked!",
            i.rejected_left_out > 0 or exists (
                select from rejected_records h where h.account_id = $1 and h.integration_id = $2 and h.hides_number
            ) as "keeps_unread!"
        from integrations i
        join sync_runs r on r.account_id = $1 and r.sync_run_id = $4
        where i.account_id = $1 and i.integration_id = $2 and i.lease_number = $3"#,
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        run_id.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(facts) = facts else { return Ok(()) };
    let completion = RunCompletion {
        kind: end.kind,
        started_at: facts.started_at,
        planned_sweep_at: end.planned_sweep_at,
        sweep_every: end.sweep_every,
        sweep: end.sweep,
        is_incomplete: end.is_incomplete,
        is_retry_asked: facts.is_retry_asked,
        keeps_unread: facts.keeps_unread,
    };
    integrations::apply_to_own(tx, lease, ControlEvent::RunCompleted(completion), now).await?;
    end_run(tx, lease.account_id, run_id, "SUCCEEDED", "complete", None, now).await
}

/// Ends a run that failed, after [`lease::lock`](super::lease::lock). `notice`: why, and what to
/// do. Returns the hold that its integration is in now.
pub async fn fail(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    verdict: FailureVerdict,
    notice: &Notice,
    now: DateTime<Utc>,
) -> Result<Option<SyncHold>, StoreError> {
    let has_progressed = sqlx::query_scalar!(
        r#"-- store::run_progress::fail (reads)
        select stalled_attempts = 0 as "has_progressed!"
        from sync_runs
        where account_id = $1 and sync_run_id = $2"#,
        lease.account_id.0,
        run_id.0,
    )
    .fetch_one(&mut **tx)
    .await?;
    let failure = RunFailure { verdict, notice: notice.clone(), has_progressed };
    let state = integrations::apply_to_own(tx, lease, ControlEvent::RunFailed(failure), now).await?;
    end_run(tx, lease.account_id, run_id, "FAILED", "failed", Some(notice), now).await?;
    Ok(state.hold)
}

/// Takes back the count of an attempt that ended by trouble with the database. Does nothing if the
/// lease is lost.
pub async fn forgive_attempt(db: &Db, lease: Lease, run_id: SyncRunId) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::run_progress::forgive_attempt
        update sync_runs r
        set stalled_attempts = greatest(r.stalled_attempts - 1, 0)
        where r.account_id = $1 and r.sync_run_id = $4
          and exists (select from integrations i where i.account_id = $1 and i.integration_id = $2 and i.lease_number = $3)",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        run_id.0,
    )
    .execute(db.of(lease.account_id))
    .await?;
    Ok(())
}

async fn end_run(
    tx: &mut Tx,
    account_id: AccountId,
    run_id: SyncRunId,
    state: &str,
    phase: &str,
    error: Option<&Notice>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::run_progress::end_run
        update sync_runs
        set state = $3, phase = $4, error = $5, finished_at = $6, updated_at = $6
        where account_id = $1 and sync_run_id = $2 and state in ('QUEUED', 'RUNNING')",
        account_id.0,
        run_id.0 as Uuid,
        state,
        phase,
        Notice::stored(error),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
