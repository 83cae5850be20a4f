//! Who asks, and how tokens come by: the API token, OAuth access tokens, and the authorization
//! server's endpoints. Owns: the shapes of Pipedrive's token answers. Must not: decide what a token
//! may do; it may do everything but see what is hidden from its user.

use std::sync::PoisonError;

use axum::http::{StatusCode, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{
    Pipedrive, PipedriveConfig,
    limits::Credential,
    refusal::{PipedriveRefusal, invalid_grant, oauth_error},
};
use crate::{
    call::ApiCall,
    faults::Fault,
    oauth::{AuthorizationError, AuthorizationRequest, GrantError, TokenClient, TokenTerms},
    reply::VendorReply,
};

/// What the client application is granted.
pub(super) const fn scope(config: &PipedriveConfig) -> &'static str {
    if config.allows_webhooks {
        "base,contacts:full,search:read,recents:read,webhooks:full"
    } else {
        "base,contacts:full,search:read,recents:read"
    }
}
/// Life of a refresh token, seconds: 60 days.
const REFRESH_SECONDS: u32 = 60 * 24 * 3_600;

impl Pipedrive {
    /// The credential that a request came with. Errors: none, or none that is good.
    pub(super) fn authenticate(&self, call: &ApiCall) -> Result<Credential, PipedriveRefusal> {
        let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(token) = header("x-api-token").or_else(|| call.param("api_token")) {
            let is_right = token == self.config.api_token;
            return if is_right { Ok(Credential::ApiToken) } else { Err(PipedriveRefusal::Unauthorized) };
        }
        let bearer = header("authorization").and_then(|value| value.trim().split_once(' '));
        match bearer {
            Some((scheme, token))
                if scheme.eq_ignore_ascii_case("bearer") && self.oauth.admits(token.trim(), self.now()) =>
            {
                Ok(Credential::OAuth)
            }
            _ => Err(PipedriveRefusal::Unauthorized),
        }
    }

    /// `GET /oauth/authorize`: an administrator who consents at once, or refuses if
    /// `login_hint=deny`.
    pub(super) fn authorize(&self, call: &ApiCall) -> VendorReply {
        let text = |name| call.param(name).unwrap_or_default();
        let (redirect_uri, state) = (text("redirect_uri"), text("state"));
        let request = AuthorizationRequest {
            client_id: text("client_id"),
            redirect_uri,
            scope: scope(&self.config),
            code_challenge: call.param("code_challenge"),
            code_challenge_method: call.param("code_challenge_method"),
        };
        let (name, value) = match self.oauth.authorize(request, self.now()) {
            Ok(_) if call.param("login_hint") == Some("deny") => ("error", "access_denied".to_owned()),
            Ok(code) => {
                let mut last = self.redirect_uri.lock().unwrap_or_else(PoisonError::into_inner);
                *last = Some(redirect_uri.to_owned());
                ("code", code)
            }
            Err(AuthorizationError::BadChallenge) => ("error", "invalid_request".to_owned()),
            // Not to be sent to an address that nobody vouches for.
            Err(error @ (AuthorizationError::UnknownClient | AuthorizationError::BadRedirect)) => {
                return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", &error.to_string());
            }
        };
        let mut parameters = vec![(name, value.as_str())];
        if !state.is_empty() {
            parameters.push(("state", state));
        }
        VendorReply::redirect(redirect_uri, &parameters)
    }

    /// `POST /oauth/token`.
    pub(super) fn grant_token(&self, call: &ApiCall, faults: &[&Fault]) -> VendorReply {
        let form = call.form();
        let field = |name: &str| form.get(name).map(String::as_str);
        let Some((id, secret)) = basic_credentials(call) else { return invalid_client() };
        let client = TokenClient { id: &id, secret: Some(&secret) };
        let terms = TokenTerms {
            access_seconds: Some(self.config.access_token_seconds),
            refresh_seconds: Some(REFRESH_SECONDS),
            gives_refresh_token: true,
            rotates_refresh_tokens: self.config.rotates_refresh_tokens,
        };
        let outcome = match (field("grant_type"), field("code"), field("refresh_token")) {
            (Some("authorization_code"), Some(code), _) => {
                let verifier = field("code_verifier");
                self.oauth.exchange_code(client, code, field("redirect_uri"), verifier, terms, self.now())
            }
            (Some("refresh_token"), _, Some(token)) => self.oauth.refresh(client, token, terms, self.now()),
            (Some("authorization_code" | "refresh_token"), ..) => {
                return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "Missing parameter");
            }
            _ => return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type", "Unsupported grant type"),
        };
        match outcome {
            Ok(grant) => {
                let body = json!({
                    "access_token": grant.access_token,
                    "token_type": "Bearer",
                    "expires_in": self.config.access_token_seconds,
                    "refresh_token": grant.refresh_token,
                    "scope": grant.scope,
                    "api_domain": self.api_domain(call, faults),
                });
                let mut reply = VendorReply::json(StatusCode::OK, &body);
                reply.set_header(header::CACHE_CONTROL, "no-store");
                reply
            }
            Err(GrantError::InvalidClient) => invalid_client(),
            Err(_) => invalid_grant(),
        }
    }

    /// `POST /oauth/revoke`: 200 also for a token that is not known.
    pub(super) fn revoke_token(&self, call: &ApiCall) -> VendorReply {
        let is_client = basic_credentials(call)
            .is_some_and(|(id, secret)| id == self.config.client_id && secret == self.config.client_secret);
        if !is_client {
            return invalid_client();
        }
        if let Some(token) = call.form().get("token") {
            self.oauth.revoke(token);
        }
        VendorReply::json(StatusCode::OK, &json!({"success": true}))
    }

    fn api_domain(&self, call: &ApiCall, faults: &[&Fault]) -> String {
        let other = faults.iter().find_map(|fault| match fault {
            Fault::OtherApiDomain { api_domain } => Some(api_domain.clone()),
            _ => None,
        });
        other.or_else(|| self.config.api_domain.clone()).unwrap_or_else(|| call.base_url.clone())
    }
}

fn invalid_client() -> VendorReply {
    oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", "Invalid client: client is invalid")
}

/// Id and secret of a client.
fn basic_credentials(call: &ApiCall) -> Option<(String, String)> {
    let value = call.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.trim().split_once(' ')?;
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| (id.to_owned(), secret.to_owned()))
}
