//! What is known of Pipedrive without asking it.

use chrono::TimeDelta;

use crate::domain::{
    credentials::CredentialType,
    descriptor::{ObjectDescriptor, OptionRules, OrganizationRule, ProviderDefaults, ProviderDescriptor},
    host::{ApiHost, HostRules, dns_label},
    integration::InvalidOrganization,
    look_aside::{AsideRules, SearchWhen},
    options::Options,
    provider::Provider,
    record::{ObjectType, decimal_id},
};

/// What is known of Pipedrive without asking it.
pub(super) const DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
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
    // It documents no delay.
    listing_lag: TimeDelta::seconds(2),
    // Tokens: a list and the fields; a search, two lists and the fields.
    look_aside: AsideRules { has_delta: true, search: SearchWhen::FirstCopy, delta_cost: 20, search_cost: 50 },
    defaults: ProviderDefaults {
        quota_share_percent: 50,
        first_copy_share_percent: 50,
        sweep_hours: 12,
        // Chosen where the app is registered.
        push_scopes: "",
    },
};

/// What was deleted meanwhile is listed nowhere.
fn begins_to_mirror(now: &Options, before: &Options) -> bool {
    now.of(ObjectType::Person).mirrors_deletions && !before.of(ObjectType::Person).mirrors_deletions
}
