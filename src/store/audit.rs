//! The table `audit_events`. What was done is written in the transaction that did it; what was
//! refused, for itself. Nothing is ever changed; `retention` removes what is old.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{Db, StoreError, Tx, known, retention::BATCH_MAX};
use crate::domain::{
    audit::{AuditActor, AuditEvent, AuditResult, AuditTarget, RefusedAction},
    ids::{AccountId, ContactId, IntegrationId, SyncRunId},
};

struct EventRow {
    called_at: DateTime<Utc>,
    audit_event_id: Uuid,
    subject: Option<String>,
    method: String,
    integration_id: Option<Uuid>,
    sync_run_id: Option<Uuid>,
    contact_id: Option<Uuid>,
    fields: Vec<String>,
    result: String,
    reason: Option<String>,
    request_id: Uuid,
    left_out: i64,
}

impl TryFrom<EventRow> for AuditEvent {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.audit_event_id,
            called_at: row.called_at,
            subject: row.subject,
            method: row.method,
            target: AuditTarget {
                integration_id: row.integration_id.map(IntegrationId),
                sync_run_id: row.sync_run_id.map(SyncRunId),
                contact_id: row.contact_id.map(ContactId),
            },
            fields: row.fields,
            result: known(row.result.parse::<AuditResult>().ok(), "audit_events", "result")?,
            reason: row.reason,
            request_id: row.request_id,
            left_out: row.left_out,
        })
    }
}

/// Says in the action's own transaction that it is done, or (UNCHANGED) was so before: both are
/// committed, or neither. `fields` are the names of what it sets.
pub async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    actor: &AuditActor,
    target: AuditTarget,
    result: AuditResult,
    fields: &[&str],
) -> Result<(), StoreError> {
    let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
    sqlx::query!(
        "-- store::audit::insert
        insert into audit_events (account_id, called_at, audit_event_id, subject, method, integration_id, sync_run_id,
            contact_id, fields, result, request_id, left_out)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)",
        account_id.0,
        actor.called_at,
        actor.event_id,
        actor.subject.as_deref(),
        actor.method,
        target.integration_id.map(|id| id.0),
        target.sync_run_id.map(|id| id.0),
        target.contact_id.map(|id| id.0),
        &fields,
        result.as_str(),
        actor.request_id,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Says that something was refused, and how many more refusals there were that are not said. A call
/// that has left its event leaves no second one.
pub async fn insert_refusal(
    db: &Db,
    account_id: AccountId,
    refused: &RefusedAction,
    left_out: i64,
) -> Result<(), StoreError> {
    let RefusedAction { actor, target, reason } = refused;
    sqlx::query!(
        "-- store::audit::insert_refusal
        insert into audit_events (account_id, called_at, audit_event_id, subject, method, integration_id, sync_run_id,
            contact_id, fields, result, reason, request_id, left_out)
        values ($1, $2, $3, $4, $5, $6, $7, $8, '{}', 'REFUSED', $9, $10, $11)
        on conflict (account_id, called_at, audit_event_id) do nothing",
        account_id.0,
        actor.called_at,
        actor.event_id,
        actor.subject.as_deref(),
        actor.method,
        target.integration_id.map(|id| id.0),
        target.sync_run_id.map(|id| id.0),
        target.contact_id.map(|id| id.0),
        reason,
        actor.request_id,
        left_out,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(())
}

/// A page, newest first: from `since` on, and before this time and event.
pub async fn list(
    db: &Db,
    account_id: AccountId,
    since: DateTime<Utc>,
    before: (DateTime<Utc>, Uuid),
    limit: i64,
) -> Result<Vec<AuditEvent>, StoreError> {
    let rows = sqlx::query_as!(
        EventRow,
        "-- store::audit::list
        select called_at, audit_event_id, subject, method, integration_id, sync_run_id, contact_id, fields, result,
            reason, request_id, left_out
        from audit_events
        where account_id = $1 and called_at >= $2 and (called_at, audit_event_id) < ($3, $4)
        order by called_at desc, audit_event_id desc
        limit $5",
        account_id.0,
        since,
        before.0,
        before.1,
        limit,
    )
    .fetch_all(db.of(account_id))
    .await?;
    rows.into_iter().map(AuditEvent::try_from).collect()
}

/// Removes a batch of what is older than `kept`; how many. By the database's clock too: one that is
/// ahead here must not forget them all.
pub async fn forget_batch(
    db: &Db,
    account_id: AccountId,
    now: DateTime<Utc>,
    kept: TimeDelta,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "-- store::audit::forget_batch
        delete from audit_events
        where account_id = $1 and (called_at, audit_event_id) in (
            select called_at, audit_event_id
            from audit_events
            where account_id = $1 and called_at < $2 and called_at < statement_timestamp() - make_interval(secs => $3)
            order by called_at, audit_event_id
            limit $4
        ) and called_at < $2",
        account_id.0,
        now - kept,
        kept.as_seconds_f64(),
        BATCH_MAX,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(done.rows_affected())
}
