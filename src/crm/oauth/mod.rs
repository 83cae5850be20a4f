//! Access tokens by OAuth: which grant is asked for, where, in whose name, and what the answer is taken for. Tokens are sent to the vendor's
//! own hosts only, and an API is used only at one of them. Must not store, claim or repeat anything: that is `credentials`' part.

mod authorize;
mod token;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

pub use authorize::Authorizing;

use self::token::{Desk, Grant, TokenAnswer};
use super::{CrmError, Crms, LoginRefusal, http::Endpoint};
use crate::domain::{
    credentials::{Access, AccessToken, Credentials, OAuthClient},
    host,
    integration::{Organization, Provider},
};

/// Salesforce takes assertions that end within a few minutes.
const ASSERTION_LIFE: TimeDelta = TimeDelta::minutes(3);
/// The longest life of an access token that is believed: a day more than Zendesk's longest.
const LIFE_MAX: TimeDelta = TimeDelta::days(3);
/// Where Salesforce gives tokens unless My Domain is named.
const SALESFORCE_LOGIN: &str = "login.salesforce.com";
/// The same for sandboxes.
const SALESFORCE_TEST: &str = "test.salesforce.com";

/// What a vendor gave for credentials.
#[derive(Debug)]
pub struct Granted {
    /// What requests carry from now on.
    pub access: Access,
    /// Credentials with the refresh token to use from now on, if the vendor gave a new one: the old one is over.
    pub credentials: Option<Credentials>,
    /// Salesforce: the organisation that the token belongs to.
    pub organization: Option<String>,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: String,
    exp: i64,
}

impl Crms {
    /// Gets an access token by these credentials; those that are no OAuth are used as they are. `now` counts the token's life from before
    /// it was asked for.
    pub async fn obtain(
        &self,
        organization: &Organization,
        credentials: &Credentials,
        now: DateTime<Utc>,
    ) -> Result<Granted, CrmError> {
        let provider = organization.provider;
        let answer = match credentials {
            Credentials::RefreshToken { client, token, host } => {
                let asker = self.client_or_own(provider, client.as_ref())?;
                let ask = async |host: Option<&str>| {
                    self.desk(provider, &organization.name, host).ask(asker, Grant::Refresh(token)).await
                };
                let mut answer = ask(host.as_deref()).await;
                if let Err(error) = &answer
                    && let Some(login) = login_behind(host.as_deref(), error)
                {
                    answer = ask(Some(login)).await;
                }
                answer.map_err(|error| of_own_client(error, client.is_none(), provider))?
            }
            Credentials::ClientCredentials { client, host } => {
                let desk = self.desk(provider, &organization.name, host.as_deref());
                desk.ask(client, Grant::ClientCredentials).await.map_err(of_no_refresh_token)?
            }
            Credentials::JwtBearer { client_id, username, private_key, host } => {
                let assertion = assertion(client_id, username, private_key, host.as_deref(), now)?;
                let assert =
                    async |host: Option<&str>| self.desk(provider, &organization.name, host).assert(&assertion).await;
                let mut answer = assert(host.as_deref()).await;
                if let Err(error) = &answer
                    && let Some(login) = login_behind(host.as_deref(), error)
                {
                    answer = assert(Some(login)).await;
                }
                answer.map_err(of_no_refresh_token)?
            }
            Credentials::ZendeskApiToken { .. } | Credentials::PipedriveApiToken(_) | Credentials::Bearer { .. } => {
                let access = credentials.as_access().ok_or(CrmError::CredentialsRefused)?;
                return Ok(Granted { access, credentials: None, organization: None });
            }
        };
        let access = self.access(provider, &organization.name, &answer, now)?;
        let organization = answer.organization();
        let rotated = match (credentials, answer.refresh_token) {
            (Credentials::RefreshToken { client, token, host }, Some(new)) if new != token.expose_secret() => {
                Some(Credentials::RefreshToken { client: client.clone(), token: new.into(), host: host.clone() })
            }
            _ => None,
        };
        Ok(Granted { access, credentials: rotated, organization })
    }

    /// The access in an answer. `name` is the organisation's, as far as it is known.
    fn access(
        &self,
        provider: Provider,
        name: &str,
        answer: &TokenAnswer,
        now: DateTime<Utc>,
    ) -> Result<Access, CrmError> {
        let life = answer.expires_in.map(|seconds| TimeDelta::seconds(seconds.cast_signed().max(0)).min(LIFE_MAX));
        let named = answer.instance_url.as_ref().or(answer.api_domain.as_ref());
        let api_url = named.map(|url| self.api_url(provider, name, url)).transpose()?;
        if provider == Provider::Salesforce && api_url.is_none() {
            return Err(CrmError::Unreadable("it names no `instance_url`"));
        }
        let token = AccessToken::Bearer(answer.access_token.clone().into());
        let expires_at = life.map(|life| now + life);
        Ok(Access { token, api_url, expires_at, version: 0, company_id: None, is_elsewhere: false })
    }

    /// Where tokens are given: at the vendor's own place, or where the operator says.
    fn desk(&self, provider: Provider, name: &str, host: Option<&str>) -> Desk<'_> {
        let base = match &self.settings_of(provider).endpoint {
            Endpoint::Operator(url) => url.replace("{subdomain}", name).trim_end_matches('/').to_owned(),
            Endpoint::Vendor => match provider {
                Provider::Zendesk => format!("https://{name}.zendesk.com"),
                Provider::Salesforce => format!("https://{}", host.unwrap_or(SALESFORCE_LOGIN)),
                Provider::Pipedrive => "https://oauth.pipedrive.com".to_owned(),
            },
        };
        Desk { http: self.http_of(provider), provider, base }
    }

    fn client_or_own<'a>(
        &'a self,
        provider: Provider,
        brought: Option<&'a OAuthClient>,
    ) -> Result<&'a OAuthClient, CrmError> {
        let own = || self.settings_of(provider).oauth_client.as_ref();
        brought.or_else(own).ok_or(CrmError::OwnClientMissing(section(provider)))
    }

    /// The origin at which the vendor says that the API is. Behind an operator's URL that is its host, at any port.
    fn api_url(&self, provider: Provider, name: &str, url: &str) -> Result<String, CrmError> {
        let origin = match &self.settings_of(provider).endpoint {
            Endpoint::Vendor => host::api_origin(provider, url),
            Endpoint::Operator(own) => operators_origin(&own.replace("{subdomain}", name), url),
        };
        origin.ok_or(CrmError::HostUnknown(host::api_hosts(provider)))
    }
}

fn operators_origin(own: &str, url: &str) -> Option<String> {
    let (own, url) = (Url::parse(own).ok()?, Url::parse(url).ok()?);
    let is_bare = url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.password().is_none();
    let is_web = matches!(url.scheme(), "http" | "https");
    (is_bare && is_web && url.host_str() == own.host_str()).then(|| url.origin().ascii_serialization())
}

/// A client that the deployment brought is the operator's to mend, not the tenant's.
fn of_own_client(error: CrmError, is_own: bool, provider: Provider) -> CrmError {
    match error {
        CrmError::ClientRefused if is_own => CrmError::OwnClientRefused(section(provider)),
        other => other,
    }
}

/// Where Salesforce gives tokens too, if an organisation's My Domain does not answer for it any more: the login host behind it.
fn login_behind(my_domain: Option<&str>, error: &CrmError) -> Option<&'static str> {
    let is_away = matches!(error, CrmError::HostMoved | CrmError::NoConnection { .. } | CrmError::OrganizationNotFound);
    let host = my_domain.filter(|host| is_away && host.ends_with(".my.salesforce.com"))?;
    Some(if host::is_salesforce_test(host) { SALESFORCE_TEST } else { SALESFORCE_LOGIN })
}

/// Where there is no refresh token none is spent: the login was refused, and may be tried again.
fn of_no_refresh_token(error: CrmError) -> CrmError {
    if matches!(error, CrmError::GrantRefused) { CrmError::LoginRefused(LoginRefusal::Other) } else { error }
}

/// Its name among the settings.
const fn section(provider: Provider) -> &'static str {
    match provider {
        Provider::Zendesk => "zendesk",
        Provider::Salesforce => "salesforce",
        Provider::Pipedrive => "pipedrive",
    }
}

/// The signed assertion of RFC 7523, as Salesforce wants it.
fn assertion(
    client_id: &str,
    username: &SecretString,
    private_key: &SecretString,
    host: Option<&str>,
    now: DateTime<Utc>,
) -> Result<SecretString, CrmError> {
    let key = EncodingKey::from_rsa_pem(private_key.expose_secret().as_bytes()).map_err(|_| CrmError::KeyUnusable)?;
    let claims = Assertion {
        iss: client_id,
        sub: username.expose_secret(),
        aud: audience(host),
        exp: (now + ASSERTION_LIFE).timestamp(),
    };
    let signed = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key);
    Ok(signed.map_err(|_| CrmError::KeyUnusable)?.into())
}

/// Whom an assertion is for. Salesforce does not take My Domain there, but the login host behind it: one for sandboxes and scratch
/// organisations, one for the rest.
/// Its government and Chinese clouds document none, so it is the host that is asked.
fn audience(host: Option<&str>) -> String {
    let host = host.unwrap_or(SALESFORCE_LOGIN);
    let login = if host::is_salesforce_test(host) {
        SALESFORCE_TEST
    } else if host.ends_with(".salesforce.com") {
        SALESFORCE_LOGIN
    } else {
        host
    };
    format!("https://{login}")
}

#[cfg(test)]
mod tests;
