//! Salesforce: all that is known of it. Contacts and Leads by REST queries, or by the bulk
//! interface where there are very many. Vendor words end here: outside, its objects are records.

mod bulk;
mod client;
mod deleted;
mod descriptor;
mod fields;
mod header;
mod ids;
mod login;
mod look_up;
mod map;
mod model;
mod newest;
mod position;
mod pubsub;
mod refusal;
mod rest;
mod rows;
mod run;
mod search;
mod soql;
mod step;

use self::{client::SalesforceClient, descriptor::DESCRIPTOR};
use super::{
    CrmClient, CrmError, CrmFuture,
    oauth::{ClientAuth, OAuthRules, TokenAnswer, TokenForm},
    vendor::{ClientParts, CrmVendor, OpenedAccess, OpenedOrganization},
};
use crate::domain::descriptor::ProviderDescriptor;

/// Source: Salesforce, "OAuth Authorization Flows", "OAuth Tokens and Scopes".
const OAUTH: OAuthRules = OAuthRules {
    authorize_path: "/services/oauth2/authorize",
    token_path: "/services/oauth2/token",
    scopes: &["api", "refresh_token"],
    uses_pkce: true,
    client_auth: ClientAuth::InBody,
    token_form: TokenForm::Form,
};

/// Salesforce among the vendors.
pub(super) struct SalesforceVendor;

impl CrmVendor for SalesforceVendor {
    fn descriptor(&self) -> &'static ProviderDescriptor {
        &DESCRIPTOR
    }

    fn oauth(&self) -> &'static OAuthRules {
        &OAUTH
    }

    fn connect(&self, parts: ClientParts<'_>) -> Result<Box<dyn CrmClient>, CrmError> {
        Ok(Box::new(SalesforceClient::new(parts)?))
    }

    fn named_api<'a>(&self, answer: &'a TokenAnswer) -> Result<Option<&'a str>, CrmError> {
        let url = answer.text("instance_url")?;
        url.map(Some).ok_or(CrmError::Unreadable("it names no `instance_url`"))
    }

    /// The identity URL names it: `https://login.salesforce.com/id/<organisation>/<user>`.
    fn named_organization(&self, answer: &TokenAnswer) -> Option<String> {
        let (_, path) = answer.text("id").ok()??.split_once("/id/")?;
        ids::organization_id(path.split('/').next()?).ok()
    }

    fn find_opened<'a>(&'a self, opened: OpenedAccess<'a>) -> CrmFuture<'a, OpenedOrganization> {
        Box::pin(async move {
            let name = self.named_organization(opened.answer);
            let name = name.ok_or(CrmError::Unreadable("it names no organisation"))?;
            Ok(OpenedOrganization { name, company_id: None })
        })
    }

    fn has_streams(&self) -> bool {
        true
    }

    fn is_own_stream(&self, url: &str) -> bool {
        pubsub::channel::vendors_host(url).is_some()
    }

    fn login_behind(&self, host: &str) -> Option<&'static str> {
        login::behind(host)
    }

    fn assertion_audience(&self, host: Option<&str>) -> Option<String> {
        Some(login::audience(host))
    }
}

#[cfg(test)]
#[cfg(feature = "simulator")]
mod tests;
