//! What is known of Zendesk without asking it.

use chrono::TimeDelta;

use crate::domain::{
    credentials::CredentialType,
    descriptor::{ObjectDescriptor, OptionRules, OrganizationRule, ProviderDefaults, ProviderDescriptor},
    host::{ApiHost, HostRules, dns_label},
    integration::InvalidOrganization,
    look_aside::{AsideRules, SearchWhen},
    options::{Options, UserRoles},
    provider::Provider,
    record::{ObjectType, decimal_id},
};

/// What is known of Zendesk without asking it.
pub(super) const DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
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
    options: OptionRules { widen: is_more, need_sweep: is_other },
    // "Data of the most recent minute is not provided."
    listing_lag: TimeDelta::seconds(65),
    // Its export is behind by a minute. It tells no limit of a day.
    look_aside: AsideRules { has_delta: false, search: SearchWhen::PushDown, delta_cost: 0, search_cost: 2 },
    defaults: ProviderDefaults {
        quota_share_percent: 80,
        first_copy_share_percent: 95,
        sweep_hours: 168,
        push_scopes: "webhooks:write",
    },
};

/// More is copied: agents, too, or numbers in more fields.
fn is_more(now: &Options, before: &Options) -> bool {
    (now.user_roles, before.user_roles) == (UserRoles::All, UserRoles::EndUsers)
        || now.phone_fields.iter().any(|key| !before.phone_fields.contains(key))
}

/// Who is no end user is treated as deleted or comes back, or numbers come and go, and no list of
/// changes says so.
fn is_other(now: &Options, before: &Options) -> bool {
    now.user_roles != before.user_roles || now.phone_fields != before.phone_fields
}
