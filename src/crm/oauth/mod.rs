//! Access tokens by OAuth: which grant is asked for, where, in whose name, and what the answer is
//! taken for. Tokens are sent to the vendor's own hosts only, and an API is used only at one of
//! them. Must not store, claim or repeat anything: that is `credentials`' part.

mod answer;
mod authorize;
mod rules;
mod token;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

pub(super) use answer::TokenAnswer;
pub use authorize::AuthorizationFlow;
pub(super) use rules::{ClientAuth, OAuthRules, TokenForm, TokenLives};

use self::token::{TokenEndpoint, TokenGrant};
use super::{CrmClients, CrmError, LoginRefusal, vendors::vendor};
use crate::domain::{
    credentials::{AccessToken, CredentialKind, Credentials, CrmAccess, OAuthClient},
    integration::Organization,
    provider::Provider,
};

/// Those who take assertions take such that end within a few minutes.
const ASSERTION_LIFE: TimeDelta = TimeDelta::minutes(3);
/// The longest life of an access token that is believed: a day more than the longest that a vendor
/// gives.
const LIFE_MAX: TimeDelta = TimeDelta::days(3);

/// What a vendor gave for credentials.
#[derive(Debug)]
pub struct GrantedAccess {
    /// What requests carry from now on.
    pub access: CrmAccess,
    /// Credentials to use from now on, if the vendor gave a new refresh token (the old one is over)
    /// or says that they allow something else.
    pub credentials: Option<Credentials>,
    /// The organisation that the token belongs to, where the vendor names it.
    pub organization: Option<String>,
}

#[derive(Serialize)]
struct SignedAssertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: String,
    exp: i64,
}

impl CrmClients {
    /// Gets an access token by these credentials; those that are no OAuth are used as they are.
    /// `now` counts the token's life from before it was asked for. `wants_push`: a client that is
    /// let in by itself asks for what pushed changes need, too.
    pub async fn obtain(
        &self,
        organization: &Organization,
        credentials: &Credentials,
        now: DateTime<Utc>,
        wants_push: bool,
    ) -> Result<GrantedAccess, CrmError> {
        let provider = organization.provider;
        if credentials.provider != provider {
            // Another vendor's: shown to nobody.
            return Err(CrmError::CredentialsRefused);
        }
        let name = &organization.name;
        let answer = match &credentials.kind {
            CredentialKind::RefreshToken { client, token, host, .. } => {
                let asker = self.client_or_own(provider, client.as_ref())?;
                let ask = async |host: Option<&str>| {
                    self.token_endpoint(provider, name, host).ask(asker, TokenGrant::Refresh(token)).await
                };
                let mut answer = ask(host.as_deref()).await;
                if let Err(error) = &answer
                    && let Some(login) = login_behind(provider, host.as_deref(), error)
                {
                    answer = ask(Some(login)).await;
                }
                answer.map_err(|error| of_own_client(error, client.is_none(), provider))?
            }
            CredentialKind::ClientCredentials { client, host } => {
                let endpoint = self.token_endpoint(provider, name, host.as_deref());
                let ask = async |scopes: &str| endpoint.ask(client, TokenGrant::ClientCredentials { scopes }).await;
                let (all, reading) = (self.scopes(provider, wants_push), self.scopes(provider, false));
                let mut answer = ask(&all).await;
                if matches!(answer, Err(CrmError::ClientRefused)) && all != reading {
                    // A client that may not have the wider ones goes on without pushed changes.
                    answer = ask(&reading).await;
                }
                answer.map_err(of_no_refresh_token)?
            }
            CredentialKind::JwtBearer { client_id, username, private_key, host } => {
                let audience = vendor(provider).assertion_audience(host.as_deref());
                let audience = audience.ok_or(CrmError::CredentialsRefused)?;
                let assertion = assertion(client_id, username, private_key, audience, now)?;
                let assert =
                    async |host: Option<&str>| self.token_endpoint(provider, name, host).assert(&assertion).await;
                let mut answer = assert(host.as_deref()).await;
                if let Err(error) = &answer
                    && let Some(login) = login_behind(provider, host.as_deref(), error)
                {
                    answer = assert(Some(login)).await;
                }
                answer.map_err(of_no_refresh_token)?
            }
            CredentialKind::ApiToken { .. } | CredentialKind::Bearer { .. } => {
                let access = credentials.as_access().ok_or(CrmError::CredentialsRefused)?;
                return Ok(GrantedAccess { access, credentials: None, organization: None });
            }
        };
        let access = self.access(provider, name, &answer, now)?;
        let organization = vendor(provider).named_organization(&answer);
        let credentials = changed_by(&credentials.kind, &answer).map(|kind| Credentials { provider, kind });
        Ok(GrantedAccess { access, credentials, organization })
    }

    /// What tokens are asked for; with whatever pushed changes need, if they are wished.
    fn scopes(&self, provider: Provider, wants_push: bool) -> String {
        let wider = if wants_push { self.settings.providers[provider].push_scopes.as_str() } else { "" };
        let reading = vendor(provider).oauth().scopes.iter().copied();
        reading.chain(wider.split_ascii_whitespace()).collect::<Vec<_>>().join(" ")
    }

    /// The access in an answer. `name` is the organisation's, as far as it is known.
    fn access(
        &self,
        provider: Provider,
        name: &str,
        answer: &TokenAnswer,
        now: DateTime<Utc>,
    ) -> Result<CrmAccess, CrmError> {
        let vendor = vendor(provider);
        let life = answer.expires_in.map(|seconds| TimeDelta::seconds(seconds.cast_signed().max(0)).min(LIFE_MAX));
        let endpoint = &self.settings.providers[provider].endpoint;
        let origin = |url| endpoint.named_origin(&vendor.descriptor().hosts, name, url);
        let api_url = vendor.named_api(answer)?.map(origin).transpose()?;
        let token = AccessToken::bearer(provider, answer.access_token.clone().into());
        Ok(CrmAccess { api_url, expires_at: life.map(|life| now + life), ..CrmAccess::with(token) })
    }

    /// Where tokens are given: at the vendor's own place, or where the operator says.
    fn token_endpoint(&self, provider: Provider, name: &str, host: Option<&str>) -> TokenEndpoint<'_> {
        let vendor = vendor(provider);
        let endpoint = &self.settings.providers[provider].endpoint;
        let base = endpoint.token_base(&vendor.descriptor().hosts, name, host);
        TokenEndpoint { provider, http: &self.http[provider], rules: vendor.oauth(), base }
    }

    fn client_or_own<'a>(
        &'a self,
        provider: Provider,
        brought: Option<&'a OAuthClient>,
    ) -> Result<&'a OAuthClient, CrmError> {
        let own = || self.settings.providers[provider].oauth_client.as_ref();
        brought.or_else(own).ok_or(CrmError::OwnClientMissing(provider))
    }
}

/// A client that the deployment brought is the operator's to mend, not the tenant's.
fn of_own_client(error: CrmError, is_own: bool, provider: Provider) -> CrmError {
    match error {
        CrmError::ClientRefused if is_own => CrmError::OwnClientRefused(provider),
        other => other,
    }
}

/// Where else the vendor gives tokens, if the organisation's own host does not answer for it any
/// more.
fn login_behind(provider: Provider, host: Option<&str>, error: &CrmError) -> Option<&'static str> {
    let is_away = matches!(error, CrmError::HostMoved | CrmError::NoConnection { .. } | CrmError::OrganizationNotFound);
    host.filter(|_| is_away).and_then(|host| vendor(provider).login_behind(host))
}

/// Credentials as an answer has made them: with a new refresh token, or with what it allows now.
fn changed_by(kind: &CredentialKind, answer: &TokenAnswer) -> Option<CredentialKind> {
    let CredentialKind::RefreshToken { client, token, host, scopes } = kind else { return None };
    let new = answer.refresh_token.as_deref().filter(|new| *new != token.expose_secret());
    let allowed = answer.scopes().filter(|allowed| Some(*allowed) != scopes.as_deref());
    (new.is_some() || allowed.is_some()).then(|| CredentialKind::RefreshToken {
        client: client.clone(),
        token: new.map_or_else(|| token.clone(), |new| new.to_owned().into()),
        host: host.clone(),
        scopes: allowed.map(str::to_owned).or_else(|| scopes.clone()),
    })
}

/// Where there is no refresh token none is spent: the login was refused, and may be tried again.
fn of_no_refresh_token(error: CrmError) -> CrmError {
    if matches!(error, CrmError::GrantRefused) { CrmError::LoginRefused(LoginRefusal::Other) } else { error }
}

/// The signed assertion of RFC 7523.
fn assertion(
    client_id: &str,
    username: &SecretString,
    private_key: &SecretString,
    audience: String,
    now: DateTime<Utc>,
) -> Result<SecretString, CrmError> {
    crate::jwt::install();
    let key = EncodingKey::from_rsa_pem(private_key.expose_secret().as_bytes()).map_err(|_| CrmError::KeyUnusable)?;
    let claims = SignedAssertion {
        iss: client_id,
        sub: username.expose_secret(),
        aud: audience,
        exp: (now + ASSERTION_LIFE).timestamp(),
    };
    let signed = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key);
    Ok(signed.map_err(|_| CrmError::KeyUnusable)?.into())
}

#[cfg(test)]
mod tests;
