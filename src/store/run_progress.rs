//! What a run writes of itself: begun, pages' progress, its end. Under its lease, whose number fences all of it.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Db, StoreError, Tx, known,
    lease::{Claimed, Lease},
};
use crate::domain::{
    ids::{AccountId, SyncRunId},
    integration::Hold,
    notice::Notice,
    sync_run::{SyncCounts, SyncKind},
};

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
    /// A sweep that has listed everything.
    pub is_listed: bool,
}

/// Takes up the run that is queued or was left running, or begins a new one. In the transaction of the claim.
pub async fn begin_run(
    tx: &mut Tx,
    claimed: &Claimed,
    new_id: SyncRunId,
    now: DateTime<Utc>,
) -> Result<Begun, StoreError> {
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
    Ok(Begun {
        id: SyncRunId(row.sync_run_id),
        kind: known(SyncKind::parse(&row.kind), "sync_runs", "kind")?,
        resume_point: row.resume_point,
        attempt: row.attempt,
        stalled_attempts: row.stalled_attempts,
        is_listed: row.is_listed,
    })
}

/// What a run reports between pages.
pub struct Report<'a> {
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
    report: &Report<'_>,
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
pub struct Advance<'a> {
    /// Where it goes on; `None`: where it did.
    pub resume_point: Option<&'a str>,
    /// Of the page.
    pub counts: SyncCounts,
    /// Of the page; a run keeps at most 50.
    pub notices: &'a [Notice],
    /// The most records that the CRM's limit lets it read in a minute; `None`: as before.
    pub records_per_minute: Option<i64>,
}

/// Moves the run on by a page, in the page's transaction, after [`lease::hold`](super::lease::hold).
pub async fn advance(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    advance: &Advance<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let Advance { resume_point, counts, notices, records_per_minute } = advance;
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

/// What a sweep leaves behind.
#[derive(Debug, Clone, Copy)]
pub struct Swept {
    /// Deletions that were too many to make unasked.
    pub held_deletions: Option<i64>,
}

/// How a run that came to its end leaves its integration.
#[derive(Debug, Clone, Copy)]
pub struct Completion {
    /// Of a sweep.
    pub swept: Option<Swept>,
    /// When the next sweep is; `None`: as before.
    pub sweep_due_at: Option<DateTime<Utc>>,
    /// Something that was never copied was left: the copy is not whole.
    pub is_incomplete: bool,
}

/// Ends a run well, in a transaction that holds the lease: the next pass is due a period from now.
pub async fn complete(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    completion: Completion,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let Completion { swept, sweep_due_at, is_incomplete } = completion;
    let before = sqlx::query!(
        r#"-- store::run_progress::complete (reads)
        select i.period_seconds, i.sweep_due_at, r.started_at,
            exists (
                select from rejected_records j where j.account_id = $1 and j.integration_id = $2 and j.is_retried
            ) as "is_retry_asked!"
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
    let Some(before) = before else { return Ok(()) };
    // One that was asked for while this run was under way may have missed what it was asked for.
    let asked_meanwhile =
        before.sweep_due_at.filter(|due| *due <= now && before.started_at.is_some_and(|at| *due > at));
    let sweep_due_at = asked_meanwhile.or(sweep_due_at).or(before.sweep_due_at);
    // A sweep that became due meanwhile does not wait for a period; nor do rejected records that are to be asked for again.
    let is_due = before.is_retry_asked || sweep_due_at.is_some_and(|due| due <= now);
    let due_at = if is_due { now } else { now + TimeDelta::seconds(i64::from(before.period_seconds)) };
    sqlx::query!(
        "-- store::run_progress::complete
        update integrations
        set last_completed_at = $4, failures = 0, hold = null, hold_reason = null, refused_at = null, due_at = $8, lease_until = null,
            updated_at = $4, sweep_due_at = $5,
            -- A sweep that is due brings what was not copied before.
            is_widened = $9 or (is_widened and not $6 and coalesce(sweep_due_at <= $4, false)),
            -- What was lost has come whole since, is gone, or was not met by a full read.
            has_unread = has_unread and (rejected_left_out > 0 or exists (
                select from rejected_records r where r.account_id = $1 and r.integration_id = $2 and r.hides_number
            )),
            held_deletions = case when $6 then $7 else held_deletions end,
            confirmed_deletions = case when $6 then null else confirmed_deletions end
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        now,
        sweep_due_at,
        swept.is_some(),
        swept.and_then(|swept| swept.held_deletions),
        due_at,
        is_incomplete,
    )
    .execute(&mut **tx)
    .await?;
    end_run(tx, lease.account_id, run_id, "SUCCEEDED", "complete", None, now).await
}

/// How an integration stands when a run of it fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    /// Passes that failed in a row before this one.
    pub failures: i32,
    /// From the end of a pass to the next.
    pub period_seconds: i32,
    /// Why it was held before this pass.
    pub hold: Option<Hold>,
    /// When the CRM first refused what it has refused since.
    pub refused_at: Option<DateTime<Utc>>,
    /// A page of this run has been stored since a worker took it up.
    pub has_progressed: bool,
}

/// Reads it, after [`lease::hold`](super::lease::hold).
pub async fn standing(tx: &mut Tx, lease: Lease, run_id: SyncRunId) -> Result<Standing, StoreError> {
    let row = sqlx::query!(
        r#"-- store::run_progress::standing
        select i.failures, i.period_seconds, i.hold, i.refused_at, r.stalled_attempts = 0 as "has_progressed!"
        from integrations i
        join sync_runs r on r.account_id = $1 and r.sync_run_id = $3
        where i.account_id = $1 and i.integration_id = $2"#,
        lease.account_id.0,
        lease.integration_id.0,
        run_id.0,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Standing {
        failures: row.failures,
        period_seconds: row.period_seconds,
        hold: row.hold.map(|text| known(Hold::parse(&text), "integrations", "hold")).transpose()?,
        refused_at: row.refused_at,
        has_progressed: row.has_progressed,
    })
}

/// How a failed run leaves its integration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AfterFailure {
    /// Why no pass is started by the clock alone, or only to look whether the reason is over.
    pub hold: Option<Hold>,
    /// The hold is not of this failure: its reason stays.
    pub keeps_reason: bool,
    /// When to try again; `None`: not before somebody acts.
    pub due_at: Option<DateTime<Utc>>,
    /// When the CRM first refused what it refuses.
    pub refused_at: Option<DateTime<Utc>>,
    /// The refresh token is not to be sent again by itself.
    pub spends_refresh_token: bool,
}

/// Ends a run that failed, after [`lease::hold`](super::lease::hold); a wait for the CRM's quota does not count as a failed pass. `notice`: why, and what to do.
pub async fn fail(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    notice: &Notice,
    after: &AfterFailure,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::run_progress::fail
        update integrations
        set failures = failures + case when $4 = 'QUOTA_PAUSED' then 0 else 1 end, hold = $4,
            hold_reason = case when $4::text is null then null when $8 then hold_reason else $5 end, due_at = $6, refused_at = $9,
            refresh_use = case when $10 then 'SPENT' else refresh_use end, lease_until = null, updated_at = $7
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        after.hold.map(Hold::as_str),
        notice.to_string(),
        after.due_at,
        now,
        after.keeps_reason,
        after.refused_at,
        after.spends_refresh_token,
    )
    .execute(&mut **tx)
    .await?;
    end_run(tx, lease.account_id, run_id, "FAILED", "failed", Some(notice), now).await
}

/// Takes back the count of an attempt that ended by trouble with the database. Does nothing if the lease is lost.
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

pub(super) async fn end_run(
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
