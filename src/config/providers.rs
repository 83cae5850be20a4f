//! The settings of the CRMs: the same ones for each, under its name; their defaults are the
//! vendor's own.

use std::{fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap as _,
};

use super::secrets::SecretText;
use crate::{
    crm,
    domain::{
        descriptor::ProviderDescriptor,
        provider::{PerProvider, Provider},
    },
};

/// The settings here that only one vendor knows.
const SALESFORCE_BULK_ABOVE: &str = "salesforce_bulk_above";
const SALESFORCE_STREAMS_URL: &str = "salesforce_streams_url";
const SALESFORCE_STREAMS_CA_FILE: &str = "salesforce_streams_ca_file";

/// The CRMs.
#[derive(Debug, Clone)]
pub struct ProvidersConfig {
    /// Each, such as `zendesk`.
    pub each: PerProvider<ProviderConfig>,
    /// Above so many records of a kind, Salesforce's bulk interface reads all of them: 0 to
    /// 1,000,000,000.
    pub salesforce_bulk_above: u64,
    /// Where Salesforce's changes are streamed from (its Pub/Sub API): `https`, a host and perhaps
    /// a port; empty: `api.pubsub.salesforce.com`.
    pub salesforce_streams_url: Option<String>,
    /// Certificates in PEM of authorities that may have signed that place's own, beside those that
    /// are known; at most 1 MiB. For a place that is not Salesforce's.
    pub salesforce_streams_ca_file: Option<PathBuf>,
}

/// One CRM.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProviderConfig {
    /// Where its API is asked instead of at the vendor: a proxy or the simulator. `http` or
    /// `https`, without a path; `{subdomain}` stands for the organisation. The operator's word:
    /// never taken from a request.
    pub base_url: Option<String>,
    /// The deployment's own OAuth client of this CRM, with `client_secret`: what administrators
    /// authorize, and what refresh tokens that come without a client are used with.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<SecretText>,
    /// What tokens are asked for beside reading, so that the CRM may be made to push its changes:
    /// words with blanks between them; empty: nothing.
    pub push_scopes: String,
    /// How long the CRM may be silent within one request, which as a whole may take three times
    /// that: 1 to 300 seconds.
    pub timeout_seconds: u64,
    /// The share of the customer's request quota that this service may use: 1 to 100 percent.
    pub quota_share_percent: u32,
    /// The same share while everything is copied for the first time: 1 to 100 percent.
    pub first_copy_share_percent: u32,
    /// How often everything is read again, and what did not come is asked for (it shows deletions
    /// and changes that the CRM lists nowhere): every 1 to 8,760 hours.
    pub sweep_hours: u32,
}

impl ProviderConfig {
    fn by_default(descriptor: &ProviderDescriptor) -> Self {
        Self {
            base_url: None,
            client_id: None,
            client_secret: None,
            push_scopes: descriptor.defaults.push_scopes.to_owned(),
            timeout_seconds: 30,
            quota_share_percent: descriptor.defaults.quota_share_percent,
            first_copy_share_percent: descriptor.defaults.first_copy_share_percent,
            sweep_hours: descriptor.defaults.sweep_hours,
        }
    }
}

impl Default for ProvidersConfig {
    fn default() -> Self {
        let descriptors = crm::descriptors();
        Self {
            each: PerProvider::from_fn(|provider| ProviderConfig::by_default(descriptors[provider])),
            salesforce_bulk_above: 50_000,
            salesforce_streams_url: None,
            salesforce_streams_ca_file: None,
        }
    }
}

/// One section for each CRM.
impl Serialize for ProvidersConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (provider, config) in self.each.iter() {
            map.serialize_entry(&provider.setting_name(), config)?;
        }
        map.serialize_entry(SALESFORCE_BULK_ABOVE, &self.salesforce_bulk_above)?;
        map.serialize_entry(SALESFORCE_STREAMS_URL, &self.salesforce_streams_url)?;
        map.serialize_entry(SALESFORCE_STREAMS_CA_FILE, &self.salesforce_streams_ca_file)?;
        map.end()
    }
}

// By hand, since a flattened field would lose the names of settings from the errors about their
// values.
impl<'de> Deserialize<'de> for ProvidersConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Sections)
    }
}

struct Sections;

impl<'de> Visitor<'de> for Sections {
    type Value = ProvidersConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section for each CRM")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProvidersConfig, A::Error> {
        let mut each: PerProvider<Option<ProviderConfig>> = PerProvider::default();
        let mut salesforce_bulk_above = None;
        let (mut salesforce_streams_url, mut salesforce_streams_ca_file) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            let provider = Provider::ALL.iter().find(|provider| provider.setting_name() == name);
            match provider {
                Some(provider) => each[*provider] = Some(map.next_value()?),
                None if name == SALESFORCE_BULK_ABOVE => salesforce_bulk_above = Some(map.next_value()?),
                None if name == SALESFORCE_STREAMS_URL => salesforce_streams_url = map.next_value()?,
                None if name == SALESFORCE_STREAMS_CA_FILE => salesforce_streams_ca_file = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let missing = |name: &str| A::Error::custom(format!("{name} is missing"));
        Ok(ProvidersConfig {
            each: PerProvider::try_from_fn(|provider| {
                each[provider].take().ok_or_else(|| missing(&provider.setting_name()))
            })?,
            salesforce_bulk_above: salesforce_bulk_above.ok_or_else(|| missing(SALESFORCE_BULK_ABOVE))?,
            salesforce_streams_url,
            salesforce_streams_ca_file,
        })
    }
}
