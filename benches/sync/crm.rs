//! The simulated CRMs: filled with people, served on a free port, changed, and asked what they were
//! asked.

use std::sync::Arc;

use anyhow::Context as _;
use contact_sync::{
    domain::clock::{Clock as _, SystemClock},
    rpc::pb::{self, connection::Organization, credentials::Kind},
};
use crm_simulator::{
    pipedrive::{self, Pipedrive, PipedriveConfig},
    requests::RequestReport,
    salesforce::{self, Salesforce, SalesforceConfig},
    zendesk::{self, RateLimits, Zendesk, ZendeskConfig},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Of the generated people.
pub(crate) const SEED: u64 = 1;
/// Every so many changes bring a new number too.
const NEW_NUMBER_EVERY: usize = 4;
/// The service keeps to the limits that a CRM names; these are out of the way of what is measured.
/// A minute; Zendesk's own is 20.
const EXPORTS_PER_MINUTE: u32 = 1_000_000;
/// Requests in two seconds; Pipedrive's own is 20 for each seat.
const BURST: u32 = 1_000_000;
/// Pipedrive's own is 30,000 for each seat.
const DAILY_TOKENS: u32 = 1_000_000_000;
/// What the organisation is called; it is reached where the service is pointed.
const SALESFORCE_HOST: &str = "acme.my.salesforce.com";
/// Of Salesforce's people, this share are Leads, in percent; the rest are Contacts.
const LEADS_PERCENT: usize = 25;

/// A CRM that can be measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    Zendesk,
    Salesforce,
    Pipedrive,
}

impl Provider {
    pub(crate) const ALL: [Self; 3] = [Self::Zendesk, Self::Salesforce, Self::Pipedrive];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Zendesk => "zendesk",
            Self::Salesforce => "salesforce",
            Self::Pipedrive => "pipedrive",
        }
    }

    /// Types of objects that are copied.
    pub(crate) const fn object_types(self) -> f64 {
        match self {
            Self::Zendesk | Self::Pipedrive => 1.0,
            // Contacts and Leads.
            Self::Salesforce => 2.0,
        }
    }
}

enum Simulated {
    Zendesk(Arc<Zendesk>),
    Salesforce(Arc<Salesforce>),
    Pipedrive(Arc<Pipedrive>),
}

/// A running simulator.
pub(crate) struct Crm {
    pub provider: Provider,
    pub url: String,
    simulated: Simulated,
    stop: CancellationToken,
}

impl Drop for Crm {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Crm {
    /// With so many people.
    pub(crate) async fn start(provider: Provider, contacts: u64) -> anyhow::Result<Self> {
        let count = usize::try_from(contacts).context("contacts")?;
        let clock: crm_simulator::SimulatorClock = Arc::new(|| SystemClock::default().now());
        let simulated = match provider {
            Provider::Zendesk => {
                let limits = RateLimits { export_per_minute: Some(EXPORTS_PER_MINUTE), ..RateLimits::default() };
                let zendesk =
                    Zendesk::new(ZendeskConfig { seed: SEED, limits, ..ZendeskConfig::new(clock).without_lag() });
                zendesk.generate_people(count, SEED).context("generating users")?;
                Simulated::Zendesk(zendesk)
            }
            Provider::Salesforce => {
                let salesforce =
                    Salesforce::new(SalesforceConfig { seed: SEED, ..SalesforceConfig::new(clock).without_lag() });
                let leads = count * LEADS_PERCENT / 100;
                salesforce.generate_people(count - leads, leads, SEED).context("generating Contacts and Leads")?;
                Simulated::Salesforce(salesforce)
            }
            Provider::Pipedrive => {
                let limits = pipedrive::RateLimits {
                    daily_tokens: Some(DAILY_TOKENS),
                    burst_api_token: Some(BURST),
                    ..pipedrive::RateLimits::default()
                };
                let pipedrive =
                    Pipedrive::new(PipedriveConfig { seed: SEED, limits, ..PipedriveConfig::new(clock).without_lag() });
                pipedrive.generate_people(count, SEED).context("generating persons")?;
                Simulated::Pipedrive(pipedrive)
            }
        };
        let router = match &simulated {
            Simulated::Zendesk(zendesk) => zendesk::router(Arc::clone(zendesk)),
            Simulated::Salesforce(salesforce) => salesforce::router(Arc::clone(salesforce)),
            Simulated::Pipedrive(pipedrive) => pipedrive::router(Arc::clone(pipedrive)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the simulator")?;
        let url = format!("http://{}", listener.local_addr().context("the simulator's address")?);
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "ends with this CRM")]
        tokio::spawn(crm_simulator::serve(listener, router, stop.clone()));
        Ok(Self { provider, url, simulated, stop })
    }

    /// What an administrator gives to connect it.
    pub(crate) fn enable_request(&self, account_id: String) -> pb::EnableSyncRequest {
        let (provider, organization, kind) = match &self.simulated {
            Simulated::Zendesk(_) => {
                let token = pb::ZendeskApiToken {
                    email: zendesk::DEFAULT_EMAIL.to_owned(),
                    token: zendesk::DEFAULT_API_TOKEN.to_owned(),
                };
                let organization = Organization::ZendeskSubdomain("acme".to_owned());
                (pb::Provider::Zendesk, organization, Kind::ZendeskApiToken(token))
            }
            Simulated::Salesforce(_) => {
                let organization = Organization::SalesforceOrgId(salesforce::organization_id());
                let token = salesforce::DEFAULT_ACCESS_TOKEN.to_owned();
                (pb::Provider::Salesforce, organization, Kind::BearerToken(token))
            }
            Simulated::Pipedrive(_) => {
                let organization = Organization::PipedriveCompany(pipedrive::COMPANY_DOMAIN.to_owned());
                let token = pipedrive::DEFAULT_API_TOKEN.to_owned();
                (pb::Provider::Pipedrive, organization, Kind::PipedriveApiToken(token))
            }
        };
        pb::EnableSyncRequest {
            account_id,
            provider: provider.into(),
            connection: Some(pb::Connection {
                organization: Some(organization),
                salesforce_host: if self.provider == Provider::Salesforce { SALESFORCE_HOST } else { "" }.to_owned(),
            }),
            credentials: Some(pb::Credentials { kind: Some(kind) }),
            ..Default::default()
        }
    }

    /// Gives each of these records a new name, and some a new number.
    pub(crate) fn change(&self, record_ids: &[String]) -> anyhow::Result<()> {
        for (index, record_id) in record_ids.iter().enumerate() {
            let name = format!("Changed Person {index}");
            let phone = (index % NEW_NUMBER_EVERY == 0)
                .then(|| format!("+1 (206) 2{:02}-{:04}", index / 10_000, index % 10_000));
            let number = || record_id.parse::<i64>().context("a record id is no number");
            match &self.simulated {
                Simulated::Zendesk(zendesk) => {
                    zendesk
                        .update_user(number()?, &fields(("name", name), phone.map(|phone| ("phone", json!(phone)))))?;
                }
                Simulated::Salesforce(salesforce) => {
                    // The first three characters of an id say what it is of.
                    let object = if record_id.starts_with("003") { "Contact" } else { "Lead" };
                    let phone = phone.map(|phone| ("Phone", json!(phone)));
                    salesforce.update(object, record_id, &fields(("LastName", name), phone))?;
                }
                Simulated::Pipedrive(pipedrive) => {
                    let phones =
                        phone.map(|phone| ("phones", json!([{"value": phone, "primary": true, "label": "work"}])));
                    pipedrive.update_person(number()?, &fields(("name", name), phones))?;
                }
            }
        }
        Ok(())
    }

    /// Requests since they were last cleared.
    pub(crate) fn requests(&self) -> u64 {
        let report: RequestReport = match &self.simulated {
            Simulated::Zendesk(zendesk) => zendesk.requests(),
            Simulated::Salesforce(salesforce) => salesforce.requests(),
            Simulated::Pipedrive(pipedrive) => pipedrive.requests(),
        };
        report.total
    }

    pub(crate) fn clear_requests(&self) {
        match &self.simulated {
            Simulated::Zendesk(zendesk) => zendesk.clear_requests(),
            Simulated::Salesforce(salesforce) => salesforce.clear_requests(),
            Simulated::Pipedrive(pipedrive) => pipedrive.clear_requests(),
        }
    }
}

fn fields((name_field, name): (&str, String), phone: Option<(&str, Value)>) -> Value {
    let mut fields = json!({name_field: name});
    if let Some((field, value)) = phone {
        fields[field] = value;
    }
    fields
}
