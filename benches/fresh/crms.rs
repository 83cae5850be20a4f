//! Three simulated CRMs in this process, which push what changes; their requests are counted.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use contact_sync::{
    domain::{
        clock::{Clock as _, SystemClock},
        provider::Provider,
    },
    rpc::pb::{self, connection::Organization, credentials::Kind},
};
use crm_simulator::{
    faults::{Fault, FaultRule, Faults},
    pipedrive::{self, Pipedrive, PipedriveConfig},
    push::DeliveryPlan,
    salesforce::{self, Salesforce, SalesforceConfig},
    zendesk::{self, Zendesk, ZendeskConfig},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Of the generated people.
const SEED: u64 = 1;
/// The service keeps to the limits that a CRM names; these are out of the way of what is measured.
const UNLIMITED: u32 = 1_000_000_000;
/// From look to look for events that are due.
const DELIVERED_EVERY: Duration = Duration::from_millis(5);
/// Of Salesforce's people, one of so many is a Lead.
const LEADS_ONE_IN: usize = 4;
/// A request over a network: half of them take so long, one in twenty longer than the other.
const REQUEST_MEDIAN_MS: u64 = 200;
const REQUEST_P95_MS: u64 = 600;

/// How events go wrong.
#[derive(Clone, Copy)]
pub(crate) struct EventTrouble {
    pub loss: f64,
    pub duplicates: f64,
    /// They overtake each other within so long.
    pub reorder: Duration,
}

/// Three CRMs; their serving ends with this.
pub(crate) struct Crms {
    zendesk: Arc<Zendesk>,
    salesforce: Arc<Salesforce>,
    pipedrive: Arc<Pipedrive>,
    urls: [String; 3],
    streams_url: String,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Crms {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Crms {
    /// With so many people each.
    pub(crate) async fn start(people: usize) -> anyhow::Result<Self> {
        let clock: crm_simulator::SimulatorClock = Arc::new(|| SystemClock::default().now());
        let limits = zendesk::RateLimits { account_per_minute: Some(UNLIMITED), export_per_minute: Some(UNLIMITED) };
        let zendesk = Zendesk::new(ZendeskConfig { limits, ..ZendeskConfig::new(Arc::clone(&clock)).without_lag() });
        zendesk.generate_people(people, SEED)?;
        let salesforce = Salesforce::new(SalesforceConfig::new(Arc::clone(&clock)).without_lag());
        let leads = people / LEADS_ONE_IN;
        salesforce.generate_people(people - leads, leads, SEED + 1)?;
        let limits = pipedrive::RateLimits {
            daily_tokens: Some(UNLIMITED),
            burst_api_token: Some(UNLIMITED),
            ..pipedrive::RateLimits::default()
        };
        let pipedrive = Pipedrive::new(PipedriveConfig { limits, ..PipedriveConfig::new(clock).without_lag() });
        pipedrive.generate_people(people, SEED + 2)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let serve = async |router| {
            let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a simulator")?;
            let url = format!("http://{}", listener.local_addr()?);
            tasks.spawn(crm_simulator::serve(listener, router, stop.clone()));
            anyhow::Ok(url)
        };
        let urls = [
            serve(zendesk::router(Arc::clone(&zendesk))).await?,
            serve(salesforce::router(Arc::clone(&salesforce))).await?,
            serve(pipedrive::router(Arc::clone(&pipedrive))).await?,
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a simulator")?;
        let streams_url = format!("https://{}", listener.local_addr()?);
        tasks.spawn(salesforce::serve_eventbus(listener, Arc::clone(&salesforce), stop.clone()));
        let crms = Self { zendesk, salesforce, pipedrive, urls, streams_url, tasks, stop };
        crms.push_changes();
        Ok(crms)
    }

    fn push_changes(&self) {
        let (zendesk, pipedrive) = (Arc::clone(&self.zendesk), Arc::clone(&self.pipedrive));
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            loop {
                zendesk.deliver_due().await;
                tokio::time::sleep(DELIVERED_EVERY).await;
            }
        }));
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            loop {
                pipedrive.deliver_due().await;
                tokio::time::sleep(DELIVERED_EVERY).await;
            }
        }));
    }

    /// What tells the service where they are.
    pub(crate) fn settings(&self, scratch: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
        let ca_file = scratch.join("streams.pem");
        std::fs::write(&ca_file, salesforce::CERTIFICATE)?;
        let [zendesk, salesforce, pipedrive] = self.urls.clone();
        Ok(vec![
            ("CONTACT_SYNC_PROVIDERS__ZENDESK__BASE_URL", zendesk),
            ("CONTACT_SYNC_PROVIDERS__SALESFORCE__BASE_URL", salesforce),
            ("CONTACT_SYNC_PROVIDERS__PIPEDRIVE__BASE_URL", pipedrive),
            ("CONTACT_SYNC_PROVIDERS__SALESFORCE_STREAMS_URL", self.streams_url.clone()),
            ("CONTACT_SYNC_PROVIDERS__SALESFORCE_STREAMS_CA_FILE", ca_file.display().to_string()),
        ])
    }

    /// What an administrator gives to connect one.
    pub(crate) fn enable_request(provider: Provider, account_id: &str, pushes: bool) -> pb::EnableSyncRequest {
        let (wire, organization, kind) = match provider {
            Provider::Zendesk => {
                let (email, token) = (zendesk::DEFAULT_EMAIL.to_owned(), zendesk::DEFAULT_API_TOKEN.to_owned());
                let kind = Kind::ZendeskApiToken(pb::ZendeskApiToken { email, token });
                (pb::Provider::Zendesk, Organization::ZendeskSubdomain("acme".to_owned()), kind)
            }
            Provider::Salesforce => {
                let organization = Organization::SalesforceOrgId(salesforce::organization_id());
                let kind = Kind::BearerToken(salesforce::DEFAULT_ACCESS_TOKEN.to_owned());
                (pb::Provider::Salesforce, organization, kind)
            }
            Provider::Pipedrive => {
                let organization = Organization::PipedriveCompany(pipedrive::COMPANY_DOMAIN.to_owned());
                let kind = Kind::PipedriveApiToken(pipedrive::DEFAULT_API_TOKEN.to_owned());
                (pb::Provider::Pipedrive, organization, kind)
            }
        };
        let host = if provider == Provider::Salesforce { "acme.my.salesforce.com" } else { "" };
        let push = if pushes { pb::Switch::Unspecified } else { pb::Switch::Off };
        pb::EnableSyncRequest {
            account_id: account_id.to_owned(),
            provider: wire.into(),
            connection: Some(pb::Connection { organization: Some(organization), salesforce_host: host.to_owned() }),
            credentials: Some(pb::Credentials { kind: Some(kind) }),
            options: Some(pb::IntegrationOptions { push: push.into(), ..Default::default() }),
            ..Default::default()
        }
    }

    /// A new person.
    pub(crate) fn create(&self, provider: Provider, name: &str, number: &str) -> anyhow::Result<()> {
        match provider {
            Provider::Zendesk => {
                self.zendesk.create_user(&json!({"name": name, "phone": number}))?;
            }
            Provider::Salesforce => {
                self.salesforce.create("Contact", &json!({"LastName": name, "Phone": number}))?;
            }
            Provider::Pipedrive => {
                self.pipedrive.create_person(&json!({"name": name, "phones": [{"value": number}]}))?;
            }
        }
        Ok(())
    }

    /// Gives a record another name.
    pub(crate) fn rename(&self, provider: Provider, record_id: &str, name: &str) -> anyhow::Result<()> {
        let fields = |field: &str| -> Value { json!({field: name}) };
        match provider {
            Provider::Zendesk => self.zendesk.update_user(record_id.parse()?, &fields("name"))?,
            Provider::Salesforce => {
                // The first three characters of an id say what it is of.
                let object = if record_id.starts_with("003") { "Contact" } else { "Lead" };
                self.salesforce.update(object, record_id, &fields("LastName"))?;
            }
            Provider::Pipedrive => self.pipedrive.update_person(record_id.parse()?, &fields("name"))?,
        }
        Ok(())
    }

    /// How events go wrong from now on. A stream keeps its order: there each is late by half of the
    /// time within which others overtake each other.
    pub(crate) fn trouble(&self, trouble: EventTrouble) {
        let EventTrouble { loss, duplicates, reorder } = trouble;
        let reorder_ms = u32::try_from(reorder.as_millis()).unwrap_or(u32::MAX);
        let plan = DeliveryPlan { loss, duplicates, reorder_ms, ..DeliveryPlan::default() };
        self.zendesk.plan_deliveries(plan);
        self.pipedrive.plan_deliveries(plan);
        self.salesforce.eventbus().change_plan(|plan| {
            (plan.loss, plan.duplicates, plan.delay_ms) = (loss, duplicates, reorder_ms / 2);
        });
    }

    /// Every request takes as long as over a network from now on.
    pub(crate) fn slow_down(&self) -> anyhow::Result<()> {
        for provider in Provider::ALL {
            let delay = Fault::LogNormalDelay { median_ms: REQUEST_MEDIAN_MS, p95_ms: REQUEST_P95_MS };
            self.faults(*provider).add(FaultRule::always("", delay))?;
        }
        Ok(())
    }

    fn faults(&self, provider: Provider) -> &Faults {
        match provider {
            Provider::Zendesk => self.zendesk.faults(),
            Provider::Salesforce => self.salesforce.faults(),
            Provider::Pipedrive => self.pipedrive.faults(),
        }
    }

    /// Takes every webhook away.
    pub(crate) fn remove_hooks(&self) {
        self.zendesk.remove_hooks();
        self.pipedrive.remove_hooks();
    }

    /// Requests so far.
    pub(crate) fn requests(&self, provider: Provider) -> u64 {
        match provider {
            Provider::Zendesk => self.zendesk.requests().total,
            Provider::Salesforce => self.salesforce.requests().total,
            Provider::Pipedrive => self.pipedrive.requests().total,
        }
    }
}
