//! Pipedrive: all that is known of it. Vendor words end here: outside, a person is a record.
//!
//! A full read is every person by id. An increment is every person changed since the last run, and
//! then what Pipedrive's recent changes hint to be deleted, each asked for by its id: version 2 of
//! the API lists no deletions. Nothing is gone on a hint alone.

mod client;
mod company;
mod descriptor;
mod header;
mod hook_events;
mod hooks;
mod limits;
mod look_up;
mod map;
mod model;
mod newest;
mod organizations;
mod phone_fields;
mod position;
mod refusal;
mod run;
mod search;
mod uninstall;

use chrono::TimeDelta;

use self::{client::PipedriveClient, descriptor::DESCRIPTOR};
use super::{
    CrmClient, CrmError, CrmFuture,
    hook::HookRules,
    oauth::{ClientAuth, OAuthRules, TokenAnswer, TokenForm},
    vendor::{ClientParts, CrmVendor, LostOrganization, OpenedAccess, OpenedOrganization, ReadUninstall},
};
use crate::domain::descriptor::ProviderDescriptor;

/// Source: Pipedrive developer documentation, "OAuth authorization".
const OAUTH: OAuthRules = OAuthRules {
    authorize_path: "/oauth/authorize",
    token_path: "/oauth/token",
    // Chosen where the app is registered.
    scopes: &[],
    // It documents none.
    uses_pkce: false,
    client_auth: ClientAuth::Basic,
    token_form: TokenForm::Form,
};

/// A look costs two requests, of 10 to 20 tokens.
static HOOKS: HookRules = HookRules {
    verify: hook_events::verify,
    read: hook_events::read,
    check_every: TimeDelta::hours(6),
    is_enough: |word| word == "admin" || (word.starts_with("webhook") && !word.ends_with(":read")),
    scope_missing: hooks::SCOPE_MISSING,
    secret_is_ours: true,
};

/// Pipedrive among the vendors.
pub(super) struct PipedriveVendor;

impl CrmVendor for PipedriveVendor {
    fn descriptor(&self) -> &'static ProviderDescriptor {
        &DESCRIPTOR
    }

    fn oauth(&self) -> &'static OAuthRules {
        &OAUTH
    }

    fn connect(&self, parts: ClientParts<'_>) -> Result<Box<dyn CrmClient>, CrmError> {
        Ok(Box::new(PipedriveClient::new(parts)?))
    }

    fn named_api<'a>(&self, answer: &'a TokenAnswer) -> Result<Option<&'a str>, CrmError> {
        answer.text("api_domain")
    }

    fn find_opened<'a>(&'a self, opened: OpenedAccess<'a>) -> CrmFuture<'a, OpenedOrganization> {
        Box::pin(company::find_opened(opened))
    }

    fn hooks(&self) -> Option<&'static HookRules> {
        Some(&HOOKS)
    }

    fn uninstall(&self) -> Option<ReadUninstall> {
        Some(uninstall::read)
    }

    /// By its own number of the company.
    fn find_renamed<'a>(&'a self, lost: LostOrganization<'a>) -> CrmFuture<'a, Option<String>> {
        Box::pin(async move {
            if lost.access.company_id.is_none() {
                return Ok(None);
            }
            match PipedriveClient::anywhere(&lost)?.identify().await {
                Ok(()) => Ok(None),
                Err(CrmError::Renamed(name)) => Ok(Some(name)),
                Err(error) => Err(error),
            }
        })
    }
}

#[cfg(test)]
#[cfg(feature = "simulator")]
mod tests;
