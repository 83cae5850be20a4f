//! What the tests of sync do again and again: run a run beside the test, hold it at a gate, ask for
//! changes, read the CRM's log. Nothing here waits by time alone: every wait is for a condition,
//! and bounded.

use std::{future::Future, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use contact_sync::{
    app::ServiceApp,
    domain::clock::{Clock, SystemClock},
    rpc::pb,
};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::RequestGate,
};
use tokio::{task::JoinHandle, time::timeout};
use tonic::Status;

use crate::support::TestApp;

/// The export that a sync reads: a part of its path.
pub const EXPORT: &str = "/incremental/users/cursor";
/// No condition of these tests takes so long on any machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for something that must happen, and says what did not.
pub async fn soon<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Looks again and again until the condition holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, looking).await;
}

/// A sync of everything that is due, beside the test.
pub struct Beside(JoinHandle<usize>);

impl Beside {
    pub fn start(app: &ServiceApp) -> Self {
        let worker = Arc::clone(&app.sync_worker);
        Self::of(async move { worker.run_due().await.unwrap() })
    }

    /// Any work of a worker.
    pub fn of(work: impl Future<Output = usize> + Send + 'static) -> Self {
        #[expect(clippy::disallowed_methods, reason = "awaited or aborted by the test")]
        let task = tokio::spawn(work);
        Self(task)
    }

    pub fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until it has ended; how many runs there were.
    pub async fn ended(self) -> usize {
        soon("the end of a sync", self.0).await.unwrap()
    }

    /// As if its process had died between two instructions. A transaction under way ends by itself,
    /// as one does whose COMMIT has been sent.
    pub async fn dies(self) {
        self.0.abort();
        assert!(self.0.await.unwrap_err().is_cancelled());
    }
}

/// Waits until so many requests have come to a gate.
pub async fn arrived(gate: &RequestGate, count: u64) {
    soon("a request at the gate", gate.arrived(count)).await;
}

/// Puts a fault in force: on the export, after so many pages, so often (`None`: for ever).
pub fn fail(test: &TestApp, skip: u32, times: Option<u32>, fault: Fault) {
    test.zendesk.faults().add(FaultRule { skip, times, ..FaultRule::once(EXPORT, fault) }).unwrap();
}

/// The queries of the export since the log was cleared.
pub fn pages(test: &TestApp) -> Vec<String> {
    let requests = test.zendesk.requests().recent;
    requests.into_iter().filter(|request| request.path.contains(EXPORT)).map(|request| request.query).collect()
}

/// The value of a parameter in a query, as sent.
pub fn param<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

/// Ends the lease of every worker, as time would (leases use the database's clock).
pub async fn expire_leases(test: &TestApp) {
    test.db.execute("update integrations set lease_until = clock_timestamp() - interval '1 second' where lease_until is not null").await;
}

/// One column of the integration's row as text; empty if null.
pub async fn column(test: &TestApp, integration_id: &str, column: &str) -> String {
    let sql =
        format!("select coalesce(({column})::text, '') from integrations where integration_id = '{integration_id}'");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&test.db.pool).await.unwrap()
}

/// Waits until so many statements of this database wait for a lock.
pub async fn blocked(test: &TestApp, count: i64) {
    eventually("statements that wait for a lock", async || {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        test.db.number(waiting).await >= count
    })
    .await;
}

pub async fn ask_trigger(
    test: &TestApp,
    account_id: &str,
    integration_id: &str,
    change: impl FnOnce(&mut pb::TriggerSyncRequest),
) -> Result<pb::TriggerSyncResponse, Status> {
    let mut request = pb::TriggerSyncRequest {
        account_id: account_id.into(),
        integration_id: integration_id.into(),
        ..Default::default()
    };
    change(&mut request);
    Ok(test.syncs().trigger_sync(request).await?.into_inner())
}

pub async fn ask_update(
    test: &TestApp,
    account_id: &str,
    integration_id: &str,
    options: impl Into<Option<pb::IntegrationOptions>>,
    credentials: Option<pb::Credentials>,
) -> Result<pb::Integration, Status> {
    let request = pb::UpdateSyncRequest {
        account_id: account_id.into(),
        integration_id: integration_id.into(),
        options: options.into(),
        credentials,
        ..Default::default()
    };
    Ok(test.syncs().update_sync(request).await?.into_inner().integration.unwrap())
}

pub fn sync_mode(mode: pb::SyncMode) -> pb::IntegrationOptions {
    pb::IntegrationOptions { sync: mode.into(), period: None, ..Default::default() }
}

pub async fn ask_disable(
    test: &TestApp,
    account_id: &str,
    integration_id: &str,
    copied_data: pb::CopiedData,
) -> Result<pb::Integration, Status> {
    let request = pb::DisableSyncRequest {
        account_id: account_id.into(),
        integration_id: integration_id.into(),
        copied_data: copied_data.into(),
    };
    Ok(test.syncs().disable_sync(request).await?.into_inner().integration.unwrap())
}

pub async fn ask_cancel(test: &TestApp, account_id: &str, run_id: &str) -> Result<pb::SyncRun, Status> {
    let request = pb::CancelSyncRunRequest { account_id: account_id.into(), sync_run_id: run_id.into() };
    Ok(test.syncs().cancel_sync_run(request).await?.into_inner().sync_run.unwrap())
}

/// How many live contacts an account has, placeholders included.
pub async fn live_contacts(test: &TestApp, account_id: &str) -> i64 {
    test.db
        .number(&format!("select count(*) from contacts where account_id = '{account_id}' and deleted_at is null"))
        .await
}

/// The time of an answer.
pub fn time(timestamp: Option<prost_types::Timestamp>) -> DateTime<Utc> {
    let timestamp = timestamp.expect("the time is set");
    DateTime::from_timestamp(timestamp.seconds, u32::try_from(timestamp.nanos).unwrap()).unwrap()
}

/// What this machine's clock says: for processes that have no other.
pub fn system_now() -> DateTime<Utc> {
    SystemClock::default().now()
}
