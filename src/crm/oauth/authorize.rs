//! Authorization by a person: the address that an administrator is sent to, and what the code that
//! comes back is worth.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use oauth2::{
    AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, basic::BasicClient,
};
use secrecy::{ExposeSecret, SecretString};

use super::{GrantedAccess, of_own_client, token::TokenGrant};
use crate::{
    crm::{CrmClients, CrmError, vendor::OpenedAccess, vendors::vendor},
    domain::{
        credentials::{CredentialKind, Credentials},
        integration::Organization,
        provider::Provider,
    },
};

/// What both ways have in common: the way of the administrator to the CRM, and that of the code.
#[derive(Clone, Copy)]
pub struct AuthorizationFlow<'a> {
    /// The CRM.
    pub provider: Provider,
    /// Its organisation; may be empty, where an administrator is not sent to the organisation's own
    /// page.
    pub organization: &'a str,
    /// Where to log in; `None`: the usual place.
    pub host: Option<&'a str>,
    /// Where the CRM sends the administrator back to.
    pub redirect_uri: &'a str,
    /// What the CRM needs for pushing changes is asked for, too.
    pub wants_push: bool,
    /// The PKCE verifier (RFC 7636); a vendor that documents none is shown none.
    pub verifier: &'a SecretString,
}

impl CrmClients {
    /// Where an administrator authorizes this deployment's own client.
    pub fn authorize_url(&self, way: AuthorizationFlow<'_>, state: &SecretString) -> Result<String, CrmError> {
        let client = self.client_or_own(way.provider, None)?;
        let (rules, scopes) = (vendor(way.provider).oauth(), self.scopes(way.provider, way.wants_push));
        let base = self.token_endpoint(way.provider, way.organization, way.host).base;
        let no_url = |_| CrmError::Unavailable("the address for authorizations is no URL");
        let redirect = RedirectUrl::new(way.redirect_uri.to_owned()).map_err(no_url)?;
        let client = BasicClient::new(ClientId::new(client.id.clone()))
            .set_auth_uri(AuthUrl::new(format!("{base}{}", rules.authorize_path)).map_err(no_url)?);
        let mut request = client
            .authorize_url(|| CsrfToken::new(state.expose_secret().to_owned()))
            .set_redirect_uri(Cow::Owned(redirect))
            .add_scopes(scopes.split_ascii_whitespace().map(|scope| Scope::new(scope.to_owned())));
        if rules.uses_pkce {
            let verifier = PkceCodeVerifier::new(way.verifier.expose_secret().to_owned());
            request = request.set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        }
        Ok(request.url().0.into())
    }

    /// The credentials that a code is worth, and the first access token; with the organisation that
    /// they open, if it was not known before.
    pub async fn exchange(
        &self,
        way: AuthorizationFlow<'_>,
        code: &SecretString,
        now: DateTime<Utc>,
    ) -> Result<(Organization, GrantedAccess), CrmError> {
        let AuthorizationFlow { provider, organization, host, redirect_uri, wants_push, verifier } = way;
        let vendor = vendor(provider);
        let verifier = vendor.oauth().uses_pkce.then_some(verifier);
        let client = self.client_or_own(provider, None)?;
        let scopes = self.scopes(provider, wants_push);
        let grant = TokenGrant::Code { code, redirect_uri, verifier, scopes: &scopes };
        let asked = self.token_endpoint(provider, organization, host).ask(client, grant).await;
        let mut answer = asked.map_err(|error| of_own_client(error, true, provider))?;
        let token = answer.refresh_token.take().ok_or(CrmError::PermissionMissing(
            "the CRM gave no refresh token: the OAuth client must be allowed to refresh (some CRMs want the scope refresh_token)",
        ))?;
        let mut access = self.access(provider, organization, &answer, now)?;
        let opened = OpenedAccess { http: &self.http[provider], organization, answer: &answer, access: &access };
        let opened = vendor.find_opened(opened).await?;
        access.company_id = opened.company_id;
        let scopes = answer.scopes().map(str::to_owned);
        let (token, host) = (token.into(), host.map(str::to_owned));
        let kind = CredentialKind::RefreshToken { client: None, token, host, scopes };
        let found = Organization { provider, name: opened.name };
        let credentials = Some(Credentials { provider, kind });
        Ok((found.clone(), GrantedAccess { access, credentials, organization: Some(found.name) }))
    }
}
