//! What is known of Salesforce without asking it.

use super::{ids, login};
use chrono::TimeDelta;

use crate::domain::{
    credentials::CredentialType,
    descriptor::{ObjectDescriptor, OptionRules, OrganizationRule, ProviderDefaults, ProviderDescriptor},
    host::{ApiHost, HostRules, LoginHosts},
    look_aside::{AsideRules, SearchWhen},
    provider::Provider,
    record::ObjectType,
};

/// What is known of Salesforce without asking it.
pub(super) const DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
    provider: Provider::Salesforce,
    objects: &[
        ObjectDescriptor { object_type: ObjectType::Contact, parse_id: |text| ids::record_id("Contact", "003", text) },
        ObjectDescriptor { object_type: ObjectType::Lead, parse_id: |text| ids::record_id("Lead", "00Q", text) },
    ],
    explain_object: |object| {
        (object == "Account").then_some(
            "an Account is not a person; register a person account as its Contact, with the id that begins with 003",
        )
    },
    organization: OrganizationRule {
        field: "salesforce_org_id",
        parse: ids::organization_id,
        is_needed_to_authorize: false,
    },
    hosts: HostRules {
        api: ApiHost::Named("Salesforce: My Domain, such as acme.my.salesforce.com"),
        // As its own command line knows them.
        named_apis: &[
            ".salesforce.com",
            ".force.com",
            ".cloudforce.com",
            ".salesforce.mil",
            ".sfcrmproducts.cn",
            ".sfcrmapps.cn",
        ],
        apis_in_words: "*.salesforce.com, *.force.com, *.cloudforce.com, *.salesforce.mil, *.sfcrmproducts.cn, *.sfcrmapps.cn",
        tokens: login::PRODUCTION,
    },
    login_hosts: Some(LoginHosts {
        // `login`, `test` and every My Domain, also of its government and Chinese clouds. Not
        // `force.com`, where customers' own sites live.
        families: &[".salesforce.com", ".salesforce.mil", ".sfcrmproducts.cn"],
        shared: &[login::PRODUCTION, login::SANDBOX],
        must_be: "must be a host of Salesforce's alone, without https:// or a path, such as acme.my.salesforce.com, login.salesforce.com or test.salesforce.com",
        must_be_own: "must be the organisation's My Domain with {kind}, such as acme.my.salesforce.com",
    }),
    tokens_name_the_host: true,
    credentials: &[
        CredentialType::Bearer,
        CredentialType::RefreshToken,
        CredentialType::ClientCredentials,
        CredentialType::JwtBearer,
    ],
    credentials_hint: "a bearer_token, a refresh_token, client_credentials or a salesforce_jwt",
    // Its log of deletions says itself when it does not reach back far enough.
    options: OptionRules { widen: |_, _| false, need_sweep: |_, _| false },
    // A row is seen as soon as its transaction has ended, but for one that lasts.
    listing_lag: TimeDelta::seconds(5),
    // Requests: a query for each object; three searches, two descriptions, two reads.
    look_aside: AsideRules { has_delta: true, search: SearchWhen::FirstCopy, delta_cost: 2, search_cost: 7 },
    defaults: ProviderDefaults {
        quota_share_percent: 50,
        first_copy_share_percent: 50,
        sweep_hours: 168,
        // What it takes is a right of the user, and no scope.
        push_scopes: "",
    },
};
