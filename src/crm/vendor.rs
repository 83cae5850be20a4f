//! What a vendor's folder offers beside its client.

use chrono::{DateTime, Utc};
use reqwest::Client;

use super::{
    ClientTarget, CrmClient, CrmError, CrmFuture, StreamSettings,
    endpoint::ProviderEndpoint,
    hook::HookRules,
    oauth::{OAuthRules, TokenAnswer},
    quota::RequestQuota,
};
use crate::domain::{credentials::CrmAccess, descriptor::ProviderDescriptor, integration::Organization};

/// What a vendor's folder offers. What one vendor alone has is nothing for the others.
pub(super) trait CrmVendor: Sync {
    /// What is known without asking.
    fn descriptor(&self) -> &'static ProviderDescriptor;

    /// Its form of OAuth.
    fn oauth(&self) -> &'static OAuthRules;

    /// A client for one organisation.
    fn connect(&self, parts: ClientParts<'_>) -> Result<Box<dyn CrmClient>, CrmError>;

    /// The URL at which an answer with tokens says that the API is. An error: it must say so, and
    /// does not.
    fn named_api<'a>(&self, answer: &'a TokenAnswer) -> Result<Option<&'a str>, CrmError> {
        let _ = answer;
        Ok(None)
    }

    /// The organisation that an answer with tokens names.
    fn named_organization(&self, answer: &TokenAnswer) -> Option<String> {
        let _ = answer;
        None
    }

    /// Which organisation an administrator has let this service into.
    fn find_opened<'a>(&'a self, opened: OpenedAccess<'a>) -> CrmFuture<'a, OpenedOrganization> {
        Box::pin(async move { Ok(OpenedOrganization { name: opened.organization.to_owned(), company_id: None }) })
    }

    /// Another host that gives tokens for an organisation whose own host does not do so any more.
    fn login_behind(&self, host: &str) -> Option<&'static str> {
        let _ = host;
        None
    }

    /// Whom a signed assertion is for, where the vendor takes assertions; `host`: where tokens are
    /// got, if that is named.
    fn assertion_audience(&self, host: Option<&str>) -> Option<String> {
        let _ = host;
        None
    }

    /// Its form of webhooks; `None`: this service takes none of it.
    fn hooks(&self) -> Option<&'static HookRules> {
        None
    }

    /// Whether its changes can come as a stream that this service opens.
    fn has_streams(&self) -> bool {
        false
    }

    /// Whether this URL is of its own streams.
    fn is_own_stream(&self, url: &str) -> bool {
        let _ = url;
        false
    }

    /// How it tells that a company has removed this deployment's app; `None`: it does not.
    fn uninstall(&self) -> Option<ReadUninstall> {
        None
    }

    /// The name that an organisation has now, asked where the vendor knows every organisation by
    /// the token. `None`: it has no other name there, or nobody can be asked.
    fn find_renamed<'a>(&'a self, lost: LostOrganization<'a>) -> CrmFuture<'a, Option<String>> {
        let _ = lost;
        Box::pin(async { Ok(None) })
    }
}

/// A company has removed the deployment's app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UninstallNotice {
    /// The CRM's own number of the company.
    pub company_id: String,
    /// When, by the CRM's clock, if it says so.
    pub at: Option<DateTime<Utc>>,
}

/// Reads a body of this client's; `None`: it is not what the vendor documents.
pub(super) type ReadUninstall = fn(client_id: &str, body: &[u8]) -> Option<UninstallNotice>;

/// What a client is made of.
pub(super) struct ClientParts<'a> {
    pub(super) http: Client,
    pub(super) endpoint: &'a ProviderEndpoint,
    pub(super) target: ClientTarget<'a>,
    pub(super) quota: RequestQuota,
    /// Above so many records of a kind, an interface for very many is used, if the vendor has one.
    pub(super) bulk_above: i64,
    /// What the operator says of streams of changes, if the vendor has any.
    pub(super) streams: &'a StreamSettings,
}

/// Access that an administrator has just given.
pub(super) struct OpenedAccess<'a> {
    pub(super) http: &'a Client,
    /// As far as it was known before; else empty.
    pub(super) organization: &'a str,
    pub(super) answer: &'a TokenAnswer,
    pub(super) access: &'a CrmAccess,
}

/// What it opens.
pub(super) struct OpenedOrganization {
    pub(super) name: String,
    /// The CRM's own number of it.
    pub(super) company_id: Option<String>,
}

/// An organisation whose host does not answer for it any more.
pub(super) struct LostOrganization<'a> {
    pub(super) http: &'a Client,
    pub(super) endpoint: &'a ProviderEndpoint,
    pub(super) organization: &'a Organization,
    pub(super) access: &'a CrmAccess,
}
