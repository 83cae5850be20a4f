//! Pipedrive: all that is known of it. Vendor words end here: outside, a person is a record.
//!
//! A full read is every person by id. An increment is every person changed since the last pass, and then what Pipedrive's recent
//! changes hint to be deleted, each asked for by its id: version 2 of the API lists no deletions. Nothing is gone on a hint alone.

mod client;
mod company;
mod header;
mod limits;
mod look_up;
mod map;
mod model;
mod organizations;
mod pass;
mod position;
mod refusal;

use self::client::PipedriveClient;
use super::{
    CrmClient, CrmError, CrmFuture,
    oauth::{ClientAuth, OAuthRules, TokenAnswer, TokenForm},
    vendors::{ClientParts, CrmVendor, LostOrganization, OpenedAccess, OpenedOrganization},
};
use crate::domain::{
    credentials::CredentialType,
    host::{ApiHost, HostRules, dns_label},
    integration::InvalidOrganization,
    options::Options,
    provider::{ObjectDescriptor, OptionRules, OrganizationRule, Provider, ProviderDefaults, ProviderDescriptor},
    record::{ObjectType, decimal_id},
};

/// What is known of Pipedrive without asking it.
const DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    provider: Provider::Pipedrive,
    objects: &[ObjectDescriptor { object_type: ObjectType::Person, parse_id: decimal_id }],
    explain_object: |_| None,
    organization: OrganizationRule {
        field: "pipedrive_company",
        parse: |text| {
            let words = "must be the company label alone, such as `acme` for acme.pipedrive.com";
            dns_label(text).ok_or(InvalidOrganization::must_be(words))
        },
        is_needed_to_authorize: false,
    },
    hosts: HostRules {
        api: ApiHost::MadeOf("{subdomain}.pipedrive.com"),
        named_apis: &[".pipedrive.com"],
        apis_in_words: "*.pipedrive.com",
        tokens: "oauth.pipedrive.com",
    },
    login_hosts: None,
    tokens_name_the_host: true,
    credentials: &[CredentialType::ApiToken, CredentialType::Bearer, CredentialType::RefreshToken],
    credentials_hint: "a refresh_token or a pipedrive_api_token",
    options: OptionRules { widen: |_, _| false, need_sweep: begins_to_mirror },
    // Polling shows no deletion: a sweep does.
    defaults: ProviderDefaults { quota_share_percent: 50, first_copy_share_percent: 50, sweep_hours: 12 },
};

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

/// What was deleted meanwhile is listed nowhere.
fn begins_to_mirror(now: &Options, before: &Options) -> bool {
    now.of(ObjectType::Person).mirrors_deletions && !before.of(ObjectType::Person).mirrors_deletions
}

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
