//! The table `sync_runs`, but for what a worker writes under its lease (see `run_progress`).

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, StoreError, Tx, known};
use crate::domain::{
    ids::{AccountId, IntegrationId, SyncRunId},
    notice::Notice,
    sync_run::{SyncCounts, SyncKind, SyncRun, SyncRunState},
};

struct SyncRunRow {
    sync_run_id: Uuid,
    integration_id: Uuid,
    kind: String,
    state: String,
    phase: String,
    read_count: i64,
    created_count: i64,
    updated_count: i64,
    deleted_count: i64,
    skipped_count: i64,
    rejected_count: i64,
    estimated_total: i64,
    records_per_minute: i64,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    error: String,
    notices: Vec<String>,
    attempt: i32,
}

impl TryFrom<SyncRunRow> for SyncRun {
    type Error = StoreError;

    fn try_from(row: SyncRunRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: SyncRunId(row.sync_run_id),
            integration_id: IntegrationId(row.integration_id),
            kind: known(row.kind.parse::<SyncKind>().ok(), "sync_runs", "kind")?,
            state: known(row.state.parse::<SyncRunState>().ok(), "sync_runs", "state")?,
            phase: row.phase,
            counts: SyncCounts {
                read: row.read_count,
                created: row.created_count,
                updated: row.updated_count,
                deleted: row.deleted_count,
                skipped: row.skipped_count,
                rejected: row.rejected_count,
            },
            estimated_total: row.estimated_total,
            records_per_minute: row.records_per_minute,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            error: Notice::read(&row.error),
            notices: row.notices.iter().filter_map(|text| Notice::read(text)).collect(),
            attempt: row.attempt,
        })
    }
}

/// Queues a run, unless one is queued or running; false: there is one.
pub async fn enqueue(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    id: SyncRunId,
    kind: SyncKind,
    request_id: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::sync_runs::enqueue
        insert into sync_runs (account_id, sync_run_id, integration_id, kind, state, request_id, phase, created_at, updated_at)
        values ($1, $2, $3, $4, 'QUEUED', $5, 'queued', $6, $6)
        on conflict do nothing",
        account_id.0,
        id.0,
        integration_id.0,
        kind.as_str(),
        request_id,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// One run.
pub async fn find(db: &Db, account_id: AccountId, run_id: SyncRunId) -> Result<Option<SyncRun>, StoreError> {
    let row = sqlx::query_as!(
        SyncRunRow,
        "-- store::sync_runs::find
        select sync_run_id, integration_id, kind, state, phase, read_count, created_count, updated_count, deleted_count, skipped_count,
            rejected_count, estimated_total, records_per_minute, created_at, started_at, finished_at, error, notices, attempt
        from sync_runs
        where account_id = $1 and sync_run_id = $2",
        account_id.0,
        run_id.0,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map(SyncRun::try_from).transpose()
}

/// The run of this request (which may be another integration's), or else the one of this
/// integration that is queued or running.
pub async fn find_current(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    request_id: Option<Uuid>,
) -> Result<Option<(SyncRunId, IntegrationId)>, StoreError> {
    let row = sqlx::query!(
        "-- store::sync_runs::find_current
        select sync_run_id, integration_id
        from sync_runs
        where account_id = $1 and (request_id = $3 or (integration_id = $2 and state in ('QUEUED', 'RUNNING')))
        order by (request_id = $3) desc nulls last
        limit 1",
        account_id.0,
        integration_id.0,
        request_id,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| (SyncRunId(row.sync_run_id), IntegrationId(row.integration_id))))
}

/// A page of an integration's runs, newest first.
pub async fn list(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    before: Option<SyncRunId>,
    limit: i64,
) -> Result<Vec<SyncRun>, StoreError> {
    let rows = sqlx::query_as!(
        SyncRunRow,
        "-- store::sync_runs::list
        select sync_run_id, integration_id, kind, state, phase, read_count, created_count, updated_count, deleted_count, skipped_count,
            rejected_count, estimated_total, records_per_minute, created_at, started_at, finished_at, error, notices, attempt
        from sync_runs
        where account_id = $1 and integration_id = $2 and ($3::uuid is null or sync_run_id < $3)
        order by sync_run_id desc
        limit $4",
        account_id.0,
        integration_id.0,
        before.map(|id| id.0),
        limit,
    )
    .fetch_all(db.of(account_id))
    .await?;
    rows.into_iter().map(SyncRun::try_from).collect()
}

/// Marks the run of an integration that is queued or running as stopped on request. After the lease
/// number has moved on, in the same transaction, so that its worker can write no more.
pub async fn cancel_current(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    why: Option<&Notice>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::sync_runs::cancel_current
        update sync_runs
        set state = 'CANCELLED', phase = 'cancelled', error = $3, finished_at = $4, updated_at = $4
        where account_id = $1 and integration_id = $2 and state in ('QUEUED', 'RUNNING')",
        account_id.0,
        integration_id.0,
        Notice::stored(why),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Lets full runs that are under way, or were stopped, begin anew: what they have read was read for
/// other options. After the lease number has moved on, in the same transaction.
pub async fn forget_resume_points_of_full_runs(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::sync_runs::forget_resume_points_of_full_runs
        update sync_runs
        set resume_point = null, is_listed = false
        where account_id = $1 and integration_id = $2 and state <> 'SUCCEEDED' and kind in ('INITIAL', 'SWEEP')
          and (resume_point is not null or is_listed)",
        account_id.0,
        integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The resume point of the integration's last run, if that run did not succeed: the next one goes
/// on from there.
pub async fn find_unfinished_point(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    kind: SyncKind,
    except: SyncRunId,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query!(
        "-- store::sync_runs::find_unfinished_point
        select state, kind, resume_point
        from sync_runs
        where account_id = $1 and integration_id = $2 and sync_run_id < $3
        order by sync_run_id desc
        limit 1",
        account_id.0,
        integration_id.0,
        except.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row
        .filter(|row| matches!(row.state.as_str(), "FAILED" | "CANCELLED") && row.kind == kind.as_str())
        .and_then(|row| row.resume_point))
}

/// Notes where a new run goes on, so that it is not lost if the run fails before its first page.
pub async fn inherit_resume_point(
    tx: &mut Tx,
    account_id: AccountId,
    run_id: SyncRunId,
    resume_point: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::sync_runs::inherit_resume_point
        update sync_runs
        set resume_point = $3
        where account_id = $1 and sync_run_id = $2",
        account_id.0,
        run_id.0,
        resume_point,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
