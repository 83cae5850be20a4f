//! An organisation on a port of its own with a clock that stands still, and runs over it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use crm_simulator::{
    faults::{Fault, FaultRule},
    salesforce::{self as simulated, SalesforceConfig},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    crm::{
        ClientTarget, CrmClient, CrmError, PageEffort, RecordPage,
        endpoint::ProviderEndpoint,
        http,
        quota::RequestQuota,
        salesforce::{client::SalesforceClient, descriptor::DESCRIPTOR},
        vendor::ClientParts,
    },
    domain::{
        credentials::{AccessToken, CrmAccess},
        notice::Notice,
        options::Options,
        provider::Provider,
        record::{ObjectType, Record, RecordKey},
    },
};

/// 2 January 2026, 10:00 UTC.
const START: i64 = 1_767_348_000_000;
const PAGES_MAX: usize = 300;

/// A simulated organisation.
pub(super) struct Org {
    pub(super) simulated: Arc<simulated::Salesforce>,
    clock: Arc<AtomicI64>,
    base_url: String,
    stop: CancellationToken,
}

/// What a run has brought.
#[derive(Default)]
pub(super) struct CopiedRun {
    pub(super) records: Vec<Record>,
    pub(super) gone: Vec<RecordKey>,
    pub(super) notices: Vec<Notice>,
    pub(super) checkpoint: String,
    pub(super) waits: usize,
    pub(super) needs_sweep: bool,
    pub(super) known_through: Option<DateTime<Utc>>,
}

impl Drop for Org {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Org {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(configure: impl FnOnce(&mut SalesforceConfig)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Arc::new(AtomicI64::new(START));
        let shown = Arc::clone(&clock);
        let mut config = SalesforceConfig::new(Arc::new(move || {
            DateTime::from_timestamp_millis(shown.load(Ordering::SeqCst)).unwrap_or_default()
        }));
        config = config.without_lag();
        configure(&mut config);
        let simulated = simulated::Salesforce::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let router = simulated::router(Arc::clone(&simulated));
        TaskTracker::new().spawn(crm_simulator::serve(listener, router, stop.clone()));
        Self { simulated, clock, base_url, stop }
    }

    pub(super) fn advance(&self, by: Duration) {
        self.clock.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.clock.load(Ordering::SeqCst)).unwrap()
    }

    pub(super) fn client(&self) -> SalesforceClient {
        self.client_with(Options::default(), i64::MAX)
    }

    pub(super) fn client_with(&self, options: Options, bulk_above: i64) -> SalesforceClient {
        self.client_of(&simulated::organization_id(), options, bulk_above, 100)
    }

    pub(super) fn client_of(
        &self,
        organization: &str,
        options: Options,
        bulk_above: i64,
        share: u32,
    ) -> SalesforceClient {
        let endpoint = ProviderEndpoint::Operator(self.base_url.clone());
        let organization = DESCRIPTOR.parse_organization(organization).unwrap();
        let token = AccessToken::bearer(Provider::Salesforce, simulated::DEFAULT_ACCESS_TOKEN.into());
        let access = CrmAccess::with(token);
        let target = ClientTarget {
            is_trial: true,
            is_first_copy: false,
            is_beside: false,
            organization: &organization,
            options,
            access,
        };
        let http = http::build(&endpoint, Duration::from_secs(10)).unwrap();
        let quota = RequestQuota::new(Arc::default(), share);
        let streams = &crate::crm::StreamSettings::default();
        SalesforceClient::new(ClientParts { http, endpoint: &endpoint, target, quota, bulk_above, streams }).unwrap()
    }

    pub(super) fn contact(&self, more: &Value) -> String {
        let mut fields = json!({"LastName": "Doe"});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.simulated.create("Contact", &fields).unwrap()
    }

    pub(super) fn lead(&self) -> String {
        self.simulated.create("Lead", &json!({"LastName": "Doe", "Company": "Acme"})).unwrap()
    }

    pub(super) fn fault(&self, path: &str, times: Option<u32>, fault: Fault) {
        self.simulated.faults().add(FaultRule { times, ..FaultRule::once(path, fault) }).unwrap();
    }
}

/// A run to its end.
pub(super) async fn run(client: &SalesforceClient, checkpoint: Option<&str>) -> Result<CopiedRun, CrmError> {
    let mut run = CopiedRun::default();
    let mut position = checkpoint.map(str::to_owned);
    let mut places = HashSet::new();
    for _ in 0..PAGES_MAX {
        let page = client.fetch_page(position.as_deref(), PageEffort::Whole).await?;
        position.clone_from(&page.next);
        if run.add(page) {
            return Ok(run);
        }
        assert!(places.insert(position.clone()), "the pages lead in a circle");
    }
    panic!("the run has no end")
}

impl CopiedRun {
    /// True at the end.
    fn add(&mut self, page: RecordPage) -> bool {
        assert!(page.rejects.is_empty());
        self.records.extend(page.records);
        self.gone.extend(page.gone.into_iter().map(|gone| gone.key));
        self.notices.extend(page.notices);
        self.waits += usize::from(page.wait.is_some());
        self.needs_sweep |= page.needs_sweep;
        self.known_through = page.known_through;
        self.checkpoint = page.next.unwrap();
        page.is_last
    }

    /// The newest copy of each record, by id.
    pub(super) fn newest(&self) -> BTreeMap<String, Record> {
        let mut newest: BTreeMap<String, Record> = BTreeMap::new();
        for record in &self.records {
            let known = newest.get(&record.key.record_id);
            if known.is_none_or(|known| known.updated_at <= record.updated_at) {
                newest.insert(record.key.record_id.clone(), record.clone());
            }
        }
        newest
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.newest().into_keys().collect()
    }
}

pub(super) fn contact_key(id: &str) -> RecordKey {
    DESCRIPTOR.parse_record_key(ObjectType::Contact.as_str(), id).unwrap()
}

pub(super) fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}
