//! Owns reqwest and all vendor words. A client turns vendor pages into [`Record`]s and vendor failures into meanings; whether and
//! when to try again is said by the error and obeyed by `sync::session` alone. `vendors` lists the vendors, each of which is a folder.

mod endpoint;
mod error;
mod header;
pub mod http;
mod json;
pub mod oauth;
mod page_size;
mod pipedrive;
mod quota;
mod salesforce;
mod times;
mod vendors;
mod zendesk;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

pub use endpoint::ProviderEndpoint;
pub use error::{ConnectFailure, CrmError, LoginRefusal, RetryAdvice};
pub use page_size::PageSize;
pub use vendors::descriptors;

use self::{
    quota::{LearnedLimits, RequestQuota},
    vendors::{ClientParts, LostOrganization, vendor},
};
use crate::domain::{
    credentials::{CrmAccess, OAuthClient},
    integration::Organization,
    notice::Notice,
    options::Options,
    provider::{PerProvider, Provider, ProviderDescriptor},
    record::{ObjectType, Record, RecordKey},
    rejected::PageRejects,
};

/// One page of records.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent things that a page says of its pass")]
pub struct RecordPage {
    /// In the CRM's order; one record may come twice.
    pub records: Vec<Record>,
    /// Records that the CRM confirms to be gone without saying since when: whatever copy is held, it is over.
    pub gone: Vec<RecordKey>,
    /// Records, and values of records, that could not be read.
    pub rejects: PageRejects,
    /// Where the next page, or the next pass, goes on; `None`: where this one began.
    pub next: Option<String>,
    /// The end of what the CRM has now.
    pub is_last: bool,
    /// Every change that the CRM made until then is in this page or before; the CRM's clock.
    pub known_through: Option<DateTime<Utc>>,
    /// The CRM prepares the next page; to ask sooner is of no use.
    pub wait: Option<Duration>,
    /// What could not be seen, for whoever looks after the integration.
    pub notices: Vec<Notice>,
    /// The CRM cannot tell any more what was deleted since the last pass: everything must be read again.
    pub needs_sweep: bool,
    /// Something optional was left: everything is to be read again some day soon.
    pub is_partial: bool,
    /// Something that was never copied was left: the copy is not whole, whatever else is known.
    pub is_incomplete: bool,
    /// The most records that the CRM's limit lets a pass read in a minute; `None`: not known.
    pub records_per_minute: Option<i64>,
}

/// How much of a page is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageEffort {
    /// All of it: whatever fails fails the page.
    Whole,
    /// What is optional and fails ([`CrmError::is_local`]) is left, with a notice, and tried with a later pass: a look-up, a log of
    /// deletions, the names of organizations, one of several kinds of objects.
    Essential,
}

/// What a look at a connection says.
#[derive(Debug, Clone)]
pub struct ConnectionProbe {
    /// About how many contacts there are.
    pub estimated_contacts: Option<i64>,
    /// The CRM's own number of the organisation, where its name may change.
    pub company_id: Option<String>,
}

/// What the CRM says of records that were asked for by their ids. Of one that is nowhere in it, nothing can be known: the CRM does not
/// show it to these credentials.
#[derive(Debug, Default)]
pub struct RecordSightings {
    /// Shown; perhaps as one that is gone, with what it was merged into.
    pub records: Vec<Record>,
    /// Deleted, or never there.
    pub gone: Vec<RecordKey>,
    /// Shown, and not to be read, or not wholly.
    pub rejects: PageRejects,
}

impl RecordSightings {
    /// Adds those of another request.
    pub fn absorb(&mut self, other: Self) {
        self.records.extend(other.records);
        self.gone.extend(other.gone);
        self.rejects.absorb(other.rejects);
    }

    /// A record that was found, where the CRM says of one that is gone no more than that.
    fn see(&mut self, record: Record) {
        if record.is_gone {
            self.gone.push(record.key);
        } else {
            self.records.push(record);
        }
    }
}

/// A record that has just turned out to be gone, and the e-mail addresses that we know of it.
#[derive(Debug)]
pub struct GoneRecord {
    /// Which.
    pub key: RecordKey,
    /// As copied before.
    pub emails: Vec<String>,
}

/// The most records that one [`CrmClient::look_up`] or [`CrmClient::find_merge_winners`] takes.
pub const LOOK_UP_MAX: usize = 100;

/// What a call to a CRM leads to.
pub type CrmFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CrmError>> + Send + 'a>>;

/// One organisation's CRM, as a sync sees it.
pub trait CrmClient: Send + Sync {
    /// Whether the access opens it, belongs to this organisation, and may read every contact.
    fn probe(&self) -> CrmFuture<'_, ConnectionProbe>;

    /// Whether the access is of this organisation. [`CrmError::Renamed`]: it is, under another name. One that has no number beside its name is
    /// known by its host alone.
    fn identify(&self) -> CrmFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// About how many contacts there are; `None` if the CRM does not say.
    fn count(&self) -> CrmFuture<'_, Option<i64>>;

    /// The page at this position, which an earlier page of this or another pass has named; `None`: the first page of everything.
    /// [`CrmError::PositionRefused`]: it leads nowhere any more.
    fn fetch_page<'a>(&'a self, position: Option<&'a str>, effort: PageEffort) -> CrmFuture<'a, RecordPage>;

    /// How many records of a page are asked for.
    fn page_size(&self) -> &PageSize;

    /// Whether [`PageEffort`] makes a difference.
    fn has_optional_parts(&self) -> bool {
        false
    }

    /// Kinds of objects that the pass which ended at this position has left to the next one: what did not come of them says nothing.
    fn left_at(&self, position: &str) -> Vec<ObjectType> {
        let _ = position;
        Vec::new()
    }

    /// Asks for records by their ids, at most [`LOOK_UP_MAX`].
    fn look_up<'a>(&'a self, keys: &'a [RecordKey]) -> CrmFuture<'a, RecordSightings>;

    /// Records that may have taken in gone ones, read anew, where the CRM does not say who they are. At most [`LOOK_UP_MAX`] gone ones.
    fn find_merge_winners<'a>(&'a self, gone: &'a [GoneRecord]) -> CrmFuture<'a, RecordSightings> {
        let _ = gone;
        Box::pin(async { Ok(RecordSightings::default()) })
    }
}

/// Whose CRM a client is for, and what it is to bring.
pub struct ClientTarget<'a> {
    /// The connection is only tried: nothing is learned of its limits.
    pub is_trial: bool,
    /// Everything is copied for the first time, which may take another share of the quota.
    pub is_first_copy: bool,
    /// The CRM's organisation.
    pub organization: &'a Organization,
    /// What is copied.
    pub options: Options,
    /// What each request carries.
    pub access: CrmAccess,
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
}

/// How the CRMs are reached.
#[derive(Debug, Clone)]
pub struct CrmSettings {
    /// Each.
    pub providers: PerProvider<ProviderSettings>,
    /// Above so many records of a kind, a vendor's interface for very many is used for reading all of them, if it has one.
    pub bulk_above: i64,
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
        })
    }

    /// Whether it is of this organisation, as [`CrmClient::identify`] says.
    pub async fn identify(&self, organization: &Organization, access: CrmAccess) -> Result<(), CrmError> {
        let target =
            ClientTarget { is_trial: true, is_first_copy: false, organization, options: Options::default(), access };
        self.client(target)?.identify().await
    }

    /// The new name of an organisation whose host does not answer any more, asked where the vendor knows every organisation by the token.
    /// `None`: it has no other name there, or nobody can be asked.
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

    /// What is known of an organisation's limits lives as long as the process, and holds for all integrations with it: what one run
    /// has learned holds for the others, and for the next.
    fn quota(&self, target: &ClientTarget<'_>) -> RequestQuota {
        let Organization { provider, name } = target.organization;
        let settings = &self.settings.providers[*provider];
        let share = if target.is_first_copy { settings.first_copy_share_percent } else { settings.quota_share_percent };
        if target.is_trial {
            return RequestQuota::new(Arc::default(), share);
        }
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        RequestQuota::new(Arc::clone(learned.entry((*provider, name.clone())).or_default()), share)
    }
}
