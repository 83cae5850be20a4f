//! Salesforce: all that is known of it. Contacts and Leads by REST queries, or by the bulk interface where there are very many. Vendor
//! words end here: outside, its objects are records.

mod bulk;
mod client;
mod deleted;
mod fields;
mod header;
mod ids;
mod login;
mod look_up;
mod map;
mod model;
mod pass;
mod position;
mod refusal;
mod rest;
mod rows;
mod soql;

use self::client::SalesforceClient;
use super::{
    CrmClient, CrmError,
    oauth::{ClientAuth, OAuthRules, TokenAnswer, TokenForm},
    vendors::{ClientParts, CrmVendor},
};
use crate::{
    crm::{
        CrmFuture,
        vendors::{OpenedAccess, OpenedOrganization},
    },
    domain::{
        credentials::CredentialType,
        host::{ApiHost, HostRules, LoginHosts},
        provider::{ObjectDescriptor, OptionRules, OrganizationRule, Provider, ProviderDefaults, ProviderDescriptor},
        record::ObjectType,
    },
};

/// What is known of Salesforce without asking it.
const DESCRIPTOR: ProviderDescriptor = ProviderDescriptor {
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
        // `login`, `test` and every My Domain, also of its government and Chinese clouds. Not `force.com`, where customers' own sites live.
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
    defaults: ProviderDefaults { quota_share_percent: 50, first_copy_share_percent: 50, sweep_hours: 168 },
};

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
