//! What tests of streams do again and again: serve the simulated Salesforce's event bus beside its
//! REST interface, follow it as a process with workers does, and see what is shown of it.

use std::sync::Arc;

use contact_sync::{
    config::Config,
    domain::clock::ManualClock,
    rpc::pb::{self, PushState},
    sync::StreamSupervisor,
};
use crm_simulator::salesforce::{self, EventBusReport, Salesforce, serve_eventbus};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Crms, TestApp, Worlds, bearer, db::TestDb, salesforce_connection, start_time};
use crate::support::sync::{eventually, soon};

/// The certificate of the event bus, as a file.
const CA_FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/crates/crm-simulator/src/salesforce/eventbus/localhost.pem");
/// Of one process.
const STREAMS_MAX: usize = 16;

impl TestApp {
    /// As [`TestApp::start`], with Salesforce's event bus served.
    pub async fn with_streams() -> Self {
        Self::with_streams_in(Worlds::default(), |_| {}).await
    }

    /// The same, with CRMs that are like this and other settings.
    pub async fn with_streams_in(worlds: Worlds, change: impl FnOnce(&mut Config)) -> Self {
        Self::with_streams_on(TestDb::create().await, worlds, change).await
    }

    /// The same, on a database that is there already.
    pub async fn with_streams_on(db: TestDb, worlds: Worlds, change: impl FnOnce(&mut Config)) -> Self {
        let clock = Arc::new(ManualClock::new(start_time()));
        let crms = Crms::start(&clock, worlds).await;
        let url = serve(&crms.salesforce.0).await;
        let configure = |config: &mut Config| {
            config.providers.salesforce_streams_url = Some(url);
            config.providers.salesforce_streams_ca_file = Some(CA_FILE.into());
            config.worker.heartbeat_seconds = 1;
            change(config);
        };
        Self::start_beside(db, clock, crms, 1, configure).await
    }

    /// Waits until the event bus has told this.
    pub async fn told(&self, what: &str, condition: impl FnMut(&EventBusReport) -> bool) -> EventBusReport {
        soon(what, self.salesforce.eventbus().until(condition)).await
    }

    /// An account whose Salesforce is copied and is to push its changes: (account, integration).
    pub async fn streamed(&self) -> (String, String) {
        let account = self.account().await;
        let request = pb::EnableSyncRequest {
            account_id: account.clone(),
            provider: pb::Provider::Salesforce.into(),
            connection: Some(salesforce_connection()),
            credentials: Some(bearer(salesforce::DEFAULT_ACCESS_TOKEN)),
            options: Some(pb::IntegrationOptions { push: pb::Switch::On.into(), ..Default::default() }),
            ..Default::default()
        };
        let integration = self.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
        assert_eq!(self.sync_due().await, 1);
        (account, integration)
    }

    /// How changes arrive, and the reason of the notice.
    pub async fn pushing(&self, account: &str, integration: &str) -> (PushState, String) {
        let push = self.integration(account, integration).await.push.unwrap_or_default();
        (push.state(), push.notice.map(|notice| notice.reason).unwrap_or_default())
    }
}

/// Serves the event bus on a port of its own; its URL.
async fn serve(salesforce: &Arc<Salesforce>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(serve_eventbus(listener, Arc::clone(salesforce), CancellationToken::new()));
    url
}

/// Follows streams as a process with workers does, until it is dropped.
pub struct FollowingProcess {
    supervisor: StreamSupervisor,
    stop: CancellationToken,
}

impl FollowingProcess {
    pub fn new(test: &TestApp) -> Self {
        let supervisor = StreamSupervisor::new(Arc::clone(&test.app.sync_context), STREAMS_MAX);
        Self { supervisor, stop: CancellationToken::new() }
    }

    /// Takes what is due; how many integrations that were.
    pub async fn take(&self) -> usize {
        self.supervisor.follow_due(&self.stop).await.unwrap()
    }

    /// Takes the one integration that is due, and waits until so many streams of it are open, have
    /// said something, and it is stored how far they are.
    pub async fn open(&self, test: &TestApp, count: usize) {
        assert_eq!(self.take().await, 1);
        test.told("open streams", |report| report.open() == count).await;
        test.salesforce.eventbus().keep_alive();
        let placed = "select count(*) from push_streams s, jsonb_object_keys(s.places)";
        let count = i64::try_from(count).unwrap();
        eventually("places of all streams", async || test.db.number(placed).await >= count).await;
    }

    /// Each follower ends at once; a transaction under way ends by itself.
    pub fn die(&self) {
        self.stop.cancel();
    }

    /// As at the end of a process: everything is given back.
    pub async fn drain(self, test: &TestApp) {
        self.stop.cancel();
        test.told("the end of the streams", |report| report.open() == 0).await;
    }
}

impl Drop for FollowingProcess {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
