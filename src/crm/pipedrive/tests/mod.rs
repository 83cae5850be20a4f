//! The client against the simulated Pipedrive over real HTTP, on a clock that the test moves.

mod look_up;
mod newest;
mod pages;
mod refusals;
mod runs;

use std::{
    sync::{
        Arc, Once,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use crm_simulator::{
    faults::{Fault, FaultRule},
    pipedrive::{self as simulated, PipedriveConfig},
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::client::PipedriveClient;
use crate::{
    crm::{
        ClientTarget, CrmClient, CrmError, PageEffort, RecordPage, endpoint::ProviderEndpoint, http,
        quota::RequestQuota, vendor::ClientParts,
    },
    domain::{
        credentials::{AccessSecret, AccessToken, CrmAccess},
        integration::Organization,
        notice::Notice,
        options::Options,
        provider::Provider,
    },
};

const PERSONS: &str = "/api/v2/persons";
const RECENTS: &str = "/api/v1/recents";
const ORGANIZATIONS: &str = "/api/v2/organizations";
/// The clock's first second: 2026-09-21T14:13:20Z.
const START: i64 = 1_790_000_000;
/// From one run to the next.
const PERIOD: i64 = 1_800;

static CRYPTO: Once = Once::new();

/// A company, and where it is served; it stops when the test ends.
struct Company {
    pipedrive: Arc<simulated::Pipedrive>,
    endpoint: ProviderEndpoint,
    seconds: Arc<AtomicI64>,
    shutdown: CancellationToken,
}

/// Everything that a run brought.
#[derive(Default)]
struct CopiedRun {
    pages: usize,
    records: Vec<crate::domain::record::Record>,
    gone: Vec<String>,
    rejected: usize,
    notices: Vec<Notice>,
    known_through: Option<DateTime<Utc>>,
    checkpoint: String,
}

/// A token of the company's user.
fn api_token(token: &str) -> AccessToken {
    AccessToken::new(Provider::Pipedrive, AccessSecret::ApiToken { user: None, token: token.into() })
}

impl Company {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(configure: impl FnOnce(&mut PipedriveConfig)) -> Self {
        let seconds = Arc::new(AtomicI64::new(START));
        let clock = Arc::clone(&seconds);
        let mut config = PipedriveConfig::new(Arc::new(move || at(clock.load(Ordering::SeqCst))));
        // The clock stands still: a window of two seconds would never end.
        config.limits.burst_api_token = Some(100_000);
        config = config.without_lag();
        configure(&mut config);
        let pipedrive = simulated::Pipedrive::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = ProviderEndpoint::Operator(format!("http://{}", listener.local_addr().unwrap()));
        let shutdown = CancellationToken::new();
        let router = simulated::router(Arc::clone(&pipedrive));
        TaskTracker::new().spawn(crm_simulator::serve(listener, router, shutdown.clone()));
        Self { pipedrive, endpoint, seconds, shutdown }
    }

    fn client(&self) -> PipedriveClient {
        self.client_with(|_| {}, 100)
    }

    fn client_with(&self, configure: impl FnOnce(&mut ClientTarget<'_>), share: u32) -> PipedriveClient {
        self.client_for(simulated::COMPANY_DOMAIN, configure, share)
    }

    /// A client of the company of that label, which may be another one than is served.
    fn client_for(&self, label: &str, configure: impl FnOnce(&mut ClientTarget<'_>), share: u32) -> PipedriveClient {
        CRYPTO.call_once(|| {
            // Somebody else may have installed it already: any provider will do for plain HTTP.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let http = http::build(&self.endpoint, Duration::from_secs(10)).unwrap();
        let organization = Organization { provider: Provider::Pipedrive, name: label.to_owned() };
        let access = CrmAccess::with(api_token(simulated::DEFAULT_API_TOKEN));
        let mut target = ClientTarget {
            is_trial: true,
            is_first_copy: false,
            is_beside: false,
            organization: &organization,
            options: Options::default(),
            access,
        };
        configure(&mut target);
        let quota = RequestQuota::new(Arc::default(), share);
        let streams = &crate::crm::StreamSettings::default();
        PipedriveClient::new(ClientParts { http, endpoint: &self.endpoint, target, quota, bulk_above: 0, streams })
            .unwrap()
    }

    /// Persons `P1`, `P2`, … with a number each.
    fn create_many(&self, count: usize) -> Vec<i64> {
        (1..=count).map(|number| self.create(&format!("P{number}"))).collect()
    }

    fn create(&self, name: &str) -> i64 {
        self.pipedrive.create_person(&json!({"name": name, "phones": [{"value": "+13108675309"}]})).unwrap()
    }

    fn rename(&self, id: i64, name: &str) {
        self.pipedrive.update_person(id, &json!({"name": name})).unwrap();
    }

    fn fail(&self, path: &str, fault: Fault) {
        self.pipedrive.faults().add(FaultRule::once(path, fault)).unwrap();
    }

    fn fail_always(&self, path: &str, fault: Fault) {
        self.pipedrive.faults().add(FaultRule::always(path, fault)).unwrap();
    }

    fn advance(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    fn now(&self) -> DateTime<Utc> {
        at(self.seconds.load(Ordering::SeqCst))
    }

    /// Queries of these requests, unescaped where our times have colons.
    fn queries(&self, path: &str) -> Vec<String> {
        let requests = self.pipedrive.requests().recent.into_iter().filter(|request| request.path == path);
        requests.map(|request| request.query.replace("%3A", ":")).collect()
    }

    /// A run from this checkpoint, to its end.
    async fn run(&self, checkpoint: Option<&str>) -> CopiedRun {
        run(&self.client(), checkpoint).await
    }

    /// The run after this one, whose requests alone are looked at.
    async fn next_run(&self, last: &CopiedRun) -> CopiedRun {
        self.pipedrive.clear_requests();
        self.run(Some(&last.checkpoint)).await
    }

    async fn refused(&self) -> CrmError {
        self.client().fetch_page(None, PageEffort::Whole).await.unwrap_err()
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl CopiedRun {
    fn names(&self) -> Vec<&str> {
        self.records.iter().map(|record| record.display_name.as_str()).collect()
    }

    fn has_notice(&self, reason: &str) -> bool {
        self.notices.iter().any(|notice| notice.reason == reason)
    }
}

async fn run(client: &PipedriveClient, checkpoint: Option<&str>) -> CopiedRun {
    let mut run = CopiedRun::default();
    let mut position = checkpoint.map(str::to_owned);
    for _ in 0..1_000 {
        let page: RecordPage = client.fetch_page(position.as_deref(), PageEffort::Whole).await.unwrap();
        run.pages += 1;
        let (gone, records): (Vec<_>, Vec<_>) = page.records.into_iter().partition(|record| record.is_gone);
        run.records.extend(records);
        run.gone.extend(gone.into_iter().map(|record| record.key.record_id));
        run.gone.extend(page.gone.into_iter().map(|gone| gone.key.record_id));
        run.rejected += page.rejects.records;
        run.notices.extend(page.notices);
        position = page.next;
        if page.is_last {
            run.known_through = page.known_through;
            run.checkpoint = position.unwrap();
            return run;
        }
        assert!(page.known_through.is_none());
    }
    panic!("the run does not end");
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}
