//! Zendesk Support: all that is known of it. Vendor words end here: outside, a user is a record.

mod client;
mod descriptor;
mod header;
mod map;
mod model;
mod refusal;
mod search;
#[cfg(test)]
mod tests;

use self::{client::ZendeskClient, descriptor::DESCRIPTOR};
use super::{
    CrmClient, CrmError,
    oauth::{ClientAuth, OAuthRules, TokenForm, TokenLives},
    vendor::{ClientParts, CrmVendor},
};
use crate::domain::descriptor::ProviderDescriptor;

/// Source: Zendesk developer documentation, "Using OAuth authentication", "OAuth tokens".
const OAUTH: OAuthRules = OAuthRules {
    authorize_path: "/oauth/authorizations/new",
    token_path: "/oauth/tokens",
    scopes: &["read"],
    uses_pkce: true,
    client_auth: ClientAuth::InBody,
    // Its longest life of a refresh token, which each refresh begins anew, is 90 days.
    token_form: TokenForm::Json(TokenLives { access_seconds: 7_200, refresh_seconds: 7_776_000 }),
};

/// Zendesk among the vendors.
pub(super) struct ZendeskVendor;

impl CrmVendor for ZendeskVendor {
    fn descriptor(&self) -> &'static ProviderDescriptor {
        &DESCRIPTOR
    }

    fn oauth(&self) -> &'static OAuthRules {
        &OAUTH
    }

    fn connect(&self, parts: ClientParts<'_>) -> Result<Box<dyn CrmClient>, CrmError> {
        Ok(Box::new(ZendeskClient::new(parts)?))
    }
}
