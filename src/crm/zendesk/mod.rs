//! Zendesk Support: all that is known of it. Vendor words end here: outside, a user is a record.

mod client;
mod header;
mod map;
mod model;
mod refusal;

use self::client::ZendeskClient;
use super::{
    CrmClient, CrmError,
    oauth::{ClientAuth, OAuthRules, TokenForm, TokenLives},
    vendors::{ClientParts, CrmVendor},
};
use crate::domain::{
    credentials::CredentialType,
    host::{ApiHost, HostRules, dns_label},
    integration::InvalidOrganization,
    options::{Options, UserRoles},
    provider::{ObjectDescriptor, OptionRules, OrganizationRule, Provider, ProviderDefaults, ProviderDescriptor},
    record::{ObjectType, decimal_id},
};

/// What is known of Zendesk without asking it.
const DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    provider: Provider::Zendesk,
    objects: &[ObjectDescriptor { object_type: ObjectType::User, parse_id: decimal_id }],
    explain_object: |_| None,
    organization: OrganizationRule {
        field: "zendesk_subdomain",
        parse: |text| {
            let words = "must be the subdomain alone, such as `acme` for acme.zendesk.com";
            dns_label(text).ok_or(InvalidOrganization::must_be(words))
        },
        is_needed_to_authorize: true,
    },
    hosts: HostRules {
        api: ApiHost::MadeOf("{subdomain}.zendesk.com"),
        named_apis: &[],
        apis_in_words: "*.zendesk.com",
        tokens: "{subdomain}.zendesk.com",
    },
    login_hosts: None,
    // It gives them at the organisation's very host.
    tokens_name_the_host: false,
    credentials: &[
        CredentialType::ApiToken,
        CredentialType::Bearer,
        CredentialType::RefreshToken,
        CredentialType::ClientCredentials,
    ],
    credentials_hint: "a zendesk_api_token, a bearer_token, a refresh_token or client_credentials",
    options: OptionRules { widen: are_more_users, need_sweep: are_other_users },
    defaults: ProviderDefaults { quota_share_percent: 80, first_copy_share_percent: 95, sweep_hours: 168 },
};

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

/// More users are copied: agents, too.
fn are_more_users(now: &Options, before: &Options) -> bool {
    (now.user_roles, before.user_roles) == (UserRoles::All, UserRoles::EndUsers)
}

/// Who is no end user is treated as deleted or comes back, and no list of changes says so.
fn are_other_users(now: &Options, before: &Options) -> bool {
    now.user_roles != before.user_roles
}

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
