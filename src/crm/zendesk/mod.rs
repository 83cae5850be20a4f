//! Zendesk Support: all that is known of it. Vendor words end here: outside, a user is a record.

mod client;
mod descriptor;
mod header;
mod hook_events;
mod hooks;
mod limits;
mod map;
mod model;
mod refusal;
mod search;
#[cfg(test)]
mod tests;
mod user_fields;

use chrono::TimeDelta;

use self::{client::ZendeskClient, descriptor::DESCRIPTOR};
use super::{
    CrmClient, CrmError,
    hook::HookRules,
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

/// Each run looks: three requests, and what Zendesk could not deliver is known.
static HOOKS: HookRules = HookRules {
    verify: hook_events::verify,
    read: hook_events::read,
    check_every: TimeDelta::minutes(25),
    is_enough: |word| word == "write" || (word.starts_with("webhook") && !word.ends_with(":read")),
    scope_missing: hooks::SCOPE_MISSING,
    secret_is_ours: false,
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

    fn hooks(&self) -> Option<&'static HookRules> {
        Some(&HOOKS)
    }

    fn connect(&self, parts: ClientParts<'_>) -> Result<Box<dyn CrmClient>, CrmError> {
        Ok(Box::new(ZendeskClient::new(parts)?))
    }
}
