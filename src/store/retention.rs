//! Forgets calls, clicks, finished runs and authorizations whose time is over, a batch of one
//! account at a time.

use chrono::{DateTime, Utc};

use super::{Db, StoreError, Transaction, Tx};
use crate::domain::ids::AccountId;

/// Rows that one statement removes.
pub const BATCH_MAX: i64 = 1_000;

/// Removes a batch of calls (with what was told of them), choices and runs from before
/// `kept_since`, of clicks from before `clicks_since`, and authorizations that are over. Returns
/// how many rows. Calls must be old by the database's clock too: one that is ahead here must not
/// forget them all.
pub async fn remove_batch(
    db: &Db,
    account_id: AccountId,
    kept_since: DateTime<Utc>,
    clicks_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let calls = db.of(account_id).run(ForgetCalls { kept_since }).await?;
    let selections = sqlx::query!(
        "-- store::retention::remove_batch (selections)
        delete from selections
        where account_id = $1 and e164 in (
            select e164 from selections where account_id = $1 and selected_at < $2 order by selected_at limit $3
        ) and selected_at < $2",
        account_id.0,
        kept_since,
        BATCH_MAX,
    )
    .execute(db.of(account_id))
    .await?;
    let clicks = sqlx::query!(
        "-- store::retention::remove_batch (expected calls)
        delete from expected_calls
        where account_id = $1 and expected_call_id in (
            select expected_call_id from expected_calls where account_id = $1 and created_at < $2 order by created_at limit $3
        )",
        account_id.0,
        clicks_since,
        BATCH_MAX,
    )
    .execute(db.of(account_id))
    .await?;
    let runs = sqlx::query!(
        "-- store::retention::remove_batch (runs)
        delete from sync_runs
        where account_id = $1 and sync_run_id in (
            select sync_run_id from sync_runs where account_id = $1 and finished_at < $2 order by finished_at limit $3
        )",
        account_id.0,
        kept_since,
        BATCH_MAX,
    )
    .execute(db.of(account_id))
    .await?;
    // At most a hundred are open, and none lives longer than ten minutes.
    let authorizations = sqlx::query!(
        "-- store::retention::remove_batch (authorizations)
        delete from authorizations
        where account_id = $1 and expires_at < $2",
        account_id.0,
        now,
    )
    .execute(db.of(account_id))
    .await?;
    let done = [selections, clicks, runs, authorizations];
    let removed: u64 = done.iter().map(sqlx::postgres::PgQueryResult::rows_affected).sum();
    Ok(removed + calls)
}

struct ForgetCalls {
    kept_since: DateTime<Utc>,
}

impl Transaction for ForgetCalls {
    const NAME: &'static str = "forget_calls";
    type Output = u64;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<u64, StoreError> {
        remove_calls(tx, tx.account_id(), self.kept_since).await
    }
}

async fn remove_calls(tx: &mut Tx, account_id: AccountId, kept_since: DateTime<Utc>) -> Result<u64, StoreError> {
    let gone = sqlx::query_scalar!(
        "-- store::retention::remove_calls
        delete from calls
        where account_id = $1 and call_id in (
            select call_id
            from calls
            where account_id = $1 and created_at < $2 and created_at < statement_timestamp() - interval '90 days'
            order by created_at
            limit $3
        )
        returning call_id",
        account_id.0,
        kept_since,
        BATCH_MAX,
    )
    .fetch_all(&mut **tx)
    .await?;
    if !gone.is_empty() {
        sqlx::query!(
            "-- store::retention::remove_calls (decisions)
            delete from requester_decisions
            where account_id = $1 and call_id = any($2)",
            account_id.0,
            &gone,
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(u64::try_from(gone.len()).unwrap_or(u64::MAX))
}
