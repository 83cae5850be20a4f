//! Owns reqwest and all vendor words. A client turns vendor pages into
//! [records](crate::domain::record::Record) and vendor failures into meanings; whether and when to
//! try again is said by the error and obeyed by `sync::session` and
//! `sync::pacer` alone. `vendors` lists the vendors,
//! each of which is a folder.

mod addresses;
mod client;
mod delivery;
mod endpoint;
mod error;
mod header;
mod hook;
pub mod http;
mod json;
pub mod oauth;
mod page_size;
mod pipedrive;
mod quota;
mod salesforce;
mod stream;
mod times;
mod uninstall;
mod vendor;
mod vendors;
mod zendesk;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use client::{
    ClientTarget, ConnectionProbe, CrmClient, CrmFuture, FOUND_MAX, FoundRecords, GoneRecord, LOOK_UP_MAX,
    NumberMatches, PageEffort, RecordPage, RecordSightings, TextField,
};
pub use endpoint::ProviderEndpoint;
pub use error::{ConnectFailure, CrmError, LoginRefusal, RetryAdvice};
pub use hook::{EventReach, HookDelivery, HookMessage, HookRefusal, HookStanding, HookWish, KeptHook, TouchedRecord};
pub use page_size::PageSize;
pub use stream::{ChangeStream, EventCounts, StreamBatch, StreamFailure, StreamFuture, StreamRequest, StreamSettings};
pub use vendor::UninstallNotice;
pub use vendors::descriptors;

use self::{
    quota::{LearnedLimits, RequestQuota},
    vendor::{ClientParts, LostOrganization},
    vendors::vendor,
};
use crate::domain::{
    credentials::{CrmAccess, OAuthClient},
    descriptor::ProviderDescriptor,
    integration::Organization,
    options::Options,
    provider::{PerProvider, Provider},
};
use crate::telemetry::metrics;

/// Whether this URL is of a vendor's own streams of changes.
pub fn is_vendors_stream(url: &str) -> bool {
    Provider::ALL.iter().any(|provider| vendor(*provider).is_own_stream(url))
}

/// How one provider is reached.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Where.
    pub endpoint: ProviderEndpoint,
    /// How long it may be silent within a request.
    pub silence_max: Duration,
    /// The share of the customer's request quota that this service may use, 1 to 100 percent.
    pub quota_share_percent: u32,
    /// The same for a first copy.
    pub first_copy_share_percent: u32,
    /// The deployment's own OAuth client.
    pub oauth_client: Option<OAuthClient>,
    /// What tokens are asked for beside reading, for pushed changes; words with blanks between.
    pub push_scopes: String,
}

/// How the CRMs are reached.
#[derive(Debug, Clone)]
pub struct CrmSettings {
    /// Each.
    pub providers: PerProvider<ProviderSettings>,
    /// Above so many records of a kind, a vendor's interface for very many is used for reading all
    /// of them, if it has one.
    pub bulk_above: i64,
    /// Streams of changes, of the vendor that has them.
    pub streams: StreamSettings,
}

/// By organisation; as many as are synced.
type LearnedOf = HashMap<(Provider, String), Arc<LearnedLimits>>;

/// The clients of all CRMs.
#[derive(Clone)]
pub struct CrmClients {
    settings: Arc<CrmSettings>,
    http: Arc<PerProvider<reqwest::Client>>,
    learned: Arc<Mutex<LearnedOf>>,
}

impl CrmClients {
    /// Builds the HTTP clients once.
    pub fn new(settings: CrmSettings) -> Result<Self, http::HttpError> {
        let http = PerProvider::try_from_fn(|provider| {
            let settings = &settings.providers[provider];
            http::build(&settings.endpoint, settings.silence_max)
        })?;
        Ok(Self { http: Arc::new(http), settings: Arc::new(settings), learned: Arc::default() })
    }

    /// What is known of a CRM without asking it.
    pub fn descriptor(&self, provider: Provider) -> &'static ProviderDescriptor {
        vendor(provider).descriptor()
    }

    /// A client for one organisation.
    pub fn client(&self, target: ClientTarget<'_>) -> Result<Box<dyn CrmClient>, CrmError> {
        let provider = target.organization.provider;
        vendor(provider).connect(ClientParts {
            http: self.http[provider].clone(),
            endpoint: &self.settings.providers[provider].endpoint,
            quota: self.quota(&target),
            target,
            bulk_above: self.settings.bulk_above,
            streams: &self.settings.streams,
        })
    }

    /// Whether changes of this CRM can come as streams.
    pub fn has_streams(&self, provider: Provider) -> bool {
        vendor(provider).has_streams()
    }

    /// Whether it is of this organisation, as [`CrmClient::identify`] says.
    pub async fn identify(&self, organization: &Organization, access: CrmAccess) -> Result<(), CrmError> {
        let target = ClientTarget {
            is_trial: true,
            is_first_copy: false,
            is_beside: false,
            organization,
            options: Options::default(),
            access,
        };
        self.client(target)?.identify().await
    }

    /// The new name of an organisation whose host does not answer any more, asked where the vendor
    /// knows every organisation by the token. `None`: it has no other name there, or nobody can be
    /// asked.
    pub async fn find_renamed(
        &self,
        organization: &Organization,
        access: &CrmAccess,
    ) -> Result<Option<String>, CrmError> {
        let provider = organization.provider;
        let endpoint = &self.settings.providers[provider].endpoint;
        let lost = LostOrganization { http: &self.http[provider], endpoint, organization, access };
        vendor(provider).find_renamed(lost).await
    }

    /// Says of each CRM's quotas what the organisation with the least of it has left.
    pub fn report_quotas(&self) {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut least: HashMap<(Provider, &str), f64> = HashMap::new();
        for ((provider, _), limits) in learned.iter() {
            for (quota, left) in ["window", "day"].into_iter().zip(limits.left()) {
                let Some(left) = left else { continue };
                least.entry((*provider, quota)).and_modify(|least| *least = least.min(left)).or_insert(left);
            }
        }
        for ((provider, quota), left) in least {
            metrics::crm_quota(provider.as_str(), quota, left);
        }
    }

    /// What is known of an organisation's limits lives as long as the process, and holds for all
    /// integrations with it: what one run has learned holds for the others, and for the next.
    fn quota(&self, target: &ClientTarget<'_>) -> RequestQuota {
        let Organization { provider, name } = target.organization;
        let settings = &self.settings.providers[*provider];
        let share = if target.is_first_copy { settings.first_copy_share_percent } else { settings.quota_share_percent };
        if target.is_trial {
            return RequestQuota::new(Arc::default(), share);
        }
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = RequestQuota::new(Arc::clone(learned.entry((*provider, name.clone())).or_default()), share);
        if target.is_beside { quota.beside() } else { quota }
    }

    /// What an organisation's CRM gives a day, in its unit, as it last said; `None`: it has not.
    pub fn day_limit(&self, organization: &Organization) -> Option<i64> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.get(&(organization.provider, organization.name.clone()))?.day_limit()
    }
}
