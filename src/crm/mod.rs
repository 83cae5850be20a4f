//! Owns reqwest and all vendor words. A client turns vendor pages into [`Record`]s and vendor failures into meanings; whether and
//! when to try again is said by the error and obeyed by `sync::run` alone.

mod error;
pub mod http;
mod json;
pub mod oauth;
mod pipedrive;
mod quota;
mod salesforce;
mod times;
mod zendesk;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

pub use error::{CrmError, Retry};

use self::{http::Endpoint, pipedrive::Pipedrive, quota::Quota, salesforce::Salesforce, zendesk::Zendesk};
use crate::domain::{
    credentials::{Access, OAuthClient},
    ids::IntegrationId,
    integration::{Organization, Provider},
    options::Options,
    record::{Record, RecordKey},
    rejected::Rejects,
};

/// One page of records.
#[derive(Debug, Default)]
pub struct Page {
    /// In the CRM's order; one record may come twice.
    pub records: Vec<Record>,
    /// Records that the CRM confirms to be gone without saying since when: whatever copy is held, it is over.
    pub gone: Vec<RecordKey>,
    /// Records, and values of records, that could not be read.
    pub rejects: Rejects,
    /// Where the next page, or the next pass, goes on; `None`: where this one began.
    pub next: Option<String>,
    /// The end of what the CRM has now.
    pub is_last: bool,
    /// Every change that the CRM made until then is in this page or before; the CRM's clock.
    pub known_through: Option<DateTime<Utc>>,
    /// The CRM prepares the next page; to ask sooner is of no use.
    pub wait: Option<Duration>,
    /// What could not be seen, for whoever looks after the integration: `REASON: words`.
    pub notices: Vec<String>,
    /// The CRM cannot tell any more what was deleted since the last pass: everything must be read again.
    pub needs_sweep: bool,
}

/// What a look at a connection says.
#[derive(Debug, Clone)]
pub struct Probe {
    /// About how many contacts there are.
    pub estimated_contacts: Option<i64>,
    /// The CRM's own number of the organisation, where its name may change.
    pub company_id: Option<String>,
}

/// What the CRM says of one record that was asked for by its id.
#[derive(Debug)]
pub enum Sighting {
    /// It is shown; perhaps as one that is gone, with what it was merged into.
    Found(Box<Record>),
    /// It is deleted, or was never there.
    Gone(RecordKey),
    /// The CRM does not show it to these credentials; whether it is gone cannot be known.
    Hidden(RecordKey),
}

/// A record that has just turned out to be gone, and the e-mail addresses that we know of it.
#[derive(Debug)]
pub struct Departed {
    /// Which.
    pub key: RecordKey,
    /// As copied before.
    pub emails: Vec<String>,
}

/// The most records that one [`CrmClient::look_up`] or [`CrmClient::find_heirs`] takes.
pub const LOOK_UP_MAX: usize = 100;

/// What a call to a CRM leads to.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CrmError>> + Send + 'a>>;

/// One organisation's CRM, as a sync sees it.
pub trait CrmClient: Send + Sync {
    /// Whether the access opens it, belongs to this organisation, and may read every contact.
    fn probe(&self) -> Answer<'_, Probe>;

    /// Whether the access is of this organisation. [`CrmError::Renamed`]: it is, under another name. One that has no number beside its name is
    /// known by its host alone.
    fn identify(&self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// About how many contacts there are; `None` if the CRM does not say.
    fn count(&self) -> Answer<'_, Option<i64>>;

    /// The page at this position, which an earlier page of this or another pass has named; `None`: the first page of everything.
    /// [`CrmError::PositionRefused`]: it leads nowhere any more.
    fn fetch_page<'a>(&'a self, position: Option<&'a str>) -> Answer<'a, Page>;

    /// Asks for records by their ids, at most [`LOOK_UP_MAX`]; one sighting each.
    fn look_up<'a>(&'a self, keys: &'a [RecordKey]) -> Answer<'a, Vec<Sighting>>;

    /// Records that may have taken in departed ones, read anew, where the CRM does not say who they are. At most [`LOOK_UP_MAX`] departed.
    fn find_heirs<'a>(&'a self, departed: &'a [Departed]) -> Answer<'a, Vec<Record>> {
        let _ = departed;
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Whose CRM a client is for, and what it is to bring.
pub struct Target<'a> {
    /// `None`: nothing is linked yet, the connection is only tried.
    pub integration_id: Option<IntegrationId>,
    /// The CRM's organisation.
    pub organization: &'a Organization,
    /// What is copied.
    pub options: Options,
    /// What each request carries.
    pub access: Access,
}

/// How one provider is reached.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Where.
    pub endpoint: Endpoint,
    /// How long it may be silent within a request.
    pub silence_max: Duration,
    /// The share of the customer's request quota that this service may use, above 0 and at most 1.
    pub quota_share: f64,
    /// The deployment's own OAuth client.
    pub oauth_client: Option<OAuthClient>,
}

/// How the CRMs are reached.
#[derive(Debug, Clone)]
pub struct CrmSettings {
    /// Zendesk Support.
    pub zendesk: ProviderSettings,
    /// Salesforce.
    pub salesforce: ProviderSettings,
    /// Above so many records of a kind, Salesforce's bulk interface is used for reading all of them.
    pub salesforce_bulk_above: i64,
    /// Pipedrive.
    pub pipedrive: ProviderSettings,
}

/// The clients of all CRMs.
#[derive(Clone)]
pub struct Crms {
    settings: Arc<CrmSettings>,
    zendesk_http: reqwest::Client,
    salesforce_http: reqwest::Client,
    pipedrive_http: reqwest::Client,
    quotas: Arc<Mutex<HashMap<IntegrationId, Arc<Quota>>>>,
}

impl Crms {
    /// Builds the HTTP clients once.
    pub fn new(settings: CrmSettings) -> Result<Self, http::HttpError> {
        let build = |provider: &ProviderSettings| http::build(&provider.endpoint, provider.silence_max);
        Ok(Self {
            zendesk_http: build(&settings.zendesk)?,
            salesforce_http: build(&settings.salesforce)?,
            pipedrive_http: build(&settings.pipedrive)?,
            settings: Arc::new(settings),
            quotas: Arc::default(),
        })
    }

    /// A client for one organisation.
    pub fn client(&self, target: Target<'_>) -> Result<Box<dyn CrmClient>, CrmError> {
        let quota = self.quota(target.organization.provider, target.integration_id);
        let settings = &self.settings;
        Ok(match target.organization.provider {
            Provider::Zendesk => {
                Box::new(Zendesk::new(self.zendesk_http.clone(), &settings.zendesk.endpoint, &target, quota)?)
            }
            Provider::Salesforce => Box::new(Salesforce::new(
                self.salesforce_http.clone(),
                &settings.salesforce.endpoint,
                target,
                quota,
                settings.salesforce_bulk_above,
            )?),
            Provider::Pipedrive => {
                Box::new(Pipedrive::new(self.pipedrive_http.clone(), &settings.pipedrive.endpoint, &target, quota)?)
            }
        })
    }

    /// Whether it is of this organisation, as [`CrmClient::identify`] says.
    pub async fn identify(&self, organization: &Organization, access: Access) -> Result<(), CrmError> {
        let target = Target { integration_id: None, organization, options: Options::default(), access };
        self.client(target)?.identify().await
    }

    /// The new name of an organisation whose host does not answer any more, asked where the vendor knows every organisation by the token:
    /// Pipedrive's, by its own number of the company. `None`: it has no other name there, or nobody can be asked.
    pub async fn find_renamed(&self, organization: &Organization, access: &Access) -> Result<Option<String>, CrmError> {
        if organization.provider != Provider::Pipedrive || access.company_id.is_none() {
            return Ok(None);
        }
        let endpoint = &self.settings.pipedrive.endpoint;
        let anywhere = Pipedrive::anywhere(self.pipedrive_http.clone(), endpoint, organization, access)?;
        match anywhere.identify().await {
            Ok(()) => Ok(None),
            Err(CrmError::Renamed(name)) => Ok(Some(name)),
            Err(error) => Err(error),
        }
    }

    fn settings_of(&self, provider: Provider) -> &ProviderSettings {
        match provider {
            Provider::Zendesk => &self.settings.zendesk,
            Provider::Salesforce => &self.settings.salesforce,
            Provider::Pipedrive => &self.settings.pipedrive,
        }
    }

    fn http_of(&self, provider: Provider) -> &reqwest::Client {
        match provider {
            Provider::Zendesk => &self.zendesk_http,
            Provider::Salesforce => &self.salesforce_http,
            Provider::Pipedrive => &self.pipedrive_http,
        }
    }

    /// The budget of an integration lives as long as the process: what one run has learned holds for the next.
    fn quota(&self, provider: Provider, integration_id: Option<IntegrationId>) -> Arc<Quota> {
        let share = self.settings_of(provider).quota_share;
        let Some(id) = integration_id else { return Arc::new(Quota::new(share)) };
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(quotas.entry(id).or_insert_with(|| Arc::new(Quota::new(share))))
    }
}
