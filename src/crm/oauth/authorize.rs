//! Authorization by a person: the address that an administrator is sent to, and what the code that comes back is worth.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use oauth2::{
    AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, basic::BasicClient,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    Granted, of_own_client,
    token::{Grant, ZENDESK_SCOPE},
};
use crate::{
    crm::{CrmError, Crms, http},
    domain::{
        credentials::{Access, AccessToken, Credentials},
        integration::{Organization, Provider},
    },
};

/// What both ways have in common: the way of the administrator to the CRM, and that of the code.
#[derive(Clone, Copy)]
pub struct Authorizing<'a> {
    /// The CRM.
    pub provider: Provider,
    /// Its organisation; Zendesk's must be known, others' may be empty.
    pub organization: &'a str,
    /// Salesforce: where to log in; `None`: the usual place.
    pub host: Option<&'a str>,
    /// Where the CRM sends the administrator back to.
    pub redirect_uri: &'a str,
    /// The PKCE verifier (RFC 7636); Pipedrive documents none and is shown none.
    pub verifier: &'a SecretString,
}

#[derive(Deserialize)]
struct Me {
    data: CompanyFields,
}

#[derive(Deserialize)]
struct CompanyFields {
    company_domain: String,
    #[serde(default)]
    company_id: Option<u64>,
}

impl Crms {
    /// Where an administrator authorizes this deployment's own client.
    pub fn authorize_url(&self, way: Authorizing<'_>, state: &SecretString) -> Result<String, CrmError> {
        let client = self.client_or_own(way.provider, None)?;
        let (path, scopes): (_, &[&str]) = match way.provider {
            Provider::Zendesk => ("/oauth/authorizations/new", &[ZENDESK_SCOPE]),
            Provider::Salesforce => ("/services/oauth2/authorize", &["api", "refresh_token"]),
            // Chosen where the app is registered.
            Provider::Pipedrive => ("/oauth/authorize", &[]),
        };
        let base = self.desk(way.provider, way.organization, way.host).base;
        let no_url = |_| CrmError::Unavailable("the address for authorizations is no URL");
        let redirect = RedirectUrl::new(way.redirect_uri.to_owned()).map_err(no_url)?;
        let client = BasicClient::new(ClientId::new(client.id.clone()))
            .set_auth_uri(AuthUrl::new(format!("{base}{path}")).map_err(no_url)?);
        let mut request = client
            .authorize_url(|| CsrfToken::new(state.expose_secret().to_owned()))
            .set_redirect_uri(Cow::Owned(redirect))
            .add_scopes(scopes.iter().map(|scope| Scope::new((*scope).to_owned())));
        if uses_pkce(way.provider) {
            let verifier = PkceCodeVerifier::new(way.verifier.expose_secret().to_owned());
            request = request.set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        }
        Ok(request.url().0.into())
    }

    /// The credentials that a code is worth, and the first access token; with the organisation that they open, if it was not known before.
    pub async fn exchange(
        &self,
        way: Authorizing<'_>,
        code: &SecretString,
        now: DateTime<Utc>,
    ) -> Result<(Organization, Granted), CrmError> {
        let Authorizing { provider, organization, host, redirect_uri, verifier } = way;
        let grant = Grant::Code { code, redirect_uri, verifier: uses_pkce(provider).then_some(verifier) };
        let client = self.client_or_own(provider, None)?;
        let asked = self.desk(provider, organization, host).ask(client, grant).await;
        let mut answer = asked.map_err(|error| of_own_client(error, true, provider))?;
        let token = answer.refresh_token.take().ok_or(CrmError::PermissionMissing(
            "the CRM gave no refresh token: the OAuth client must be allowed to refresh (Salesforce: the scope refresh_token)",
        ))?;
        let mut access = self.access(provider, organization, &answer, now)?;
        let found = match provider {
            Provider::Zendesk => organization.to_owned(),
            Provider::Salesforce => answer.organization().ok_or(CrmError::Unreadable("it names no organisation"))?,
            Provider::Pipedrive => {
                let (name, company_id) = self.pipedrive_company(&access).await?;
                access.company_id = company_id;
                name
            }
        };
        let credentials =
            Credentials::RefreshToken { client: None, token: token.into(), host: host.map(str::to_owned) };
        let found = Organization { provider, name: found };
        Ok((found.clone(), Granted { access, credentials: Some(credentials), organization: Some(found.name) }))
    }

    /// The company that a token belongs to, by its domain's label, and its number.
    async fn pipedrive_company(&self, access: &Access) -> Result<(String, Option<String>), CrmError> {
        let (AccessToken::Bearer(token), Some(api_url)) = (&access.token, &access.api_url) else {
            return Err(CrmError::Unreadable("it names no `api_domain`"));
        };
        let request = self.http_of(Provider::Pipedrive).get(format!("{api_url}/api/v1/users/me"));
        let response = request.bearer_auth(token.expose_secret()).send().await;
        let response = response.map_err(|error| http::meaning_of(&error))?;
        let status = response.status();
        if let Some(error) = http::meaning_of_status(status, response.headers()) {
            return Err(error);
        }
        if !status.is_success() {
            return Err(CrmError::Refused(status.as_u16()));
        }
        let body = http::read_body_up_to(response, http::SMALL_BODY_BYTES_MAX).await?;
        let me: Me = serde_json::from_slice(&body).map_err(|_| CrmError::Unreadable("it does not name the company"))?;
        let company = Organization::parse(Provider::Pipedrive, &me.data.company_domain);
        let name = company.map_err(|_| CrmError::Unreadable("the company's name is no label of a host"))?.name;
        Ok((name, me.data.company_id.map(|id| id.to_string())))
    }
}

const fn uses_pkce(provider: Provider) -> bool {
    matches!(provider, Provider::Zendesk | Provider::Salesforce)
}
