//! Zendesk's authorization server: consent and tokens. Owns: the shapes of its answers and the
//! ranges of lives that a client may ask for. Invariant: refresh tokens always rotate: a refresh
//! ends the previous access token and the previous refresh token.

use axum::http::{StatusCode, header};
use serde_json::json;

use super::Zendesk;
use crate::{
    call::ApiCall,
    oauth::{AuthorizationError, AuthorizationRequest, GrantError, TokenClient, TokenTerms},
    reply::VendorReply,
};

/// Lives of an access token that a client may ask for, seconds: five minutes to two days.
const ACCESS_SECONDS: std::ops::RangeInclusive<u32> = 300..=172_800;
/// Lives of a refresh token that a client may ask for, seconds: 7 to 90 days.
const REFRESH_SECONDS: std::ops::RangeInclusive<u32> = 7 * 86_400..=90 * 86_400;
/// Life of a refresh token unless asked otherwise, seconds: 30 days.
const REFRESH_SECONDS_DEFAULT: u32 = 30 * 86_400;

const DENIED: &str = "The end-user or authorization server denied the request.";

impl Zendesk {
    /// The endpoints under `/oauth/`, which need no token.
    pub(super) fn answer_oauth(&self, call: &ApiCall) -> VendorReply {
        match (call.method.as_str(), call.segments().as_slice()) {
            ("GET", ["oauth", "authorizations", "new"]) => self.authorize(call),
            ("POST", ["oauth", "tokens"]) => self.grant_token(call),
            _ => super::ZendeskRefusal::InvalidEndpoint.reply(),
        }
    }

    /// An administrator who consents at once, or refuses if `login_hint=deny`.
    fn authorize(&self, call: &ApiCall) -> VendorReply {
        let text = |name| call.param(name).unwrap_or_default();
        let redirect_uri = text("redirect_uri");
        let request = AuthorizationRequest {
            client_id: text("client_id"),
            redirect_uri,
            scope: call.param("scope").unwrap_or("read"),
            code_challenge: call.param("code_challenge"),
            code_challenge_method: call.param("code_challenge_method"),
        };
        let refused = |error: &'static str| vec![("error", error.to_owned())];
        let mut parameters = match self.oauth.authorize(request, self.now()) {
            // Not to be sent to an address that nobody vouches for.
            Err(error @ (AuthorizationError::UnknownClient | AuthorizationError::BadRedirect)) => {
                return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", &error.to_string());
            }
            Err(AuthorizationError::BadChallenge) => refused("invalid_request"),
            Ok(_) if text("response_type") != "code" => refused("unsupported_response_type"),
            Ok(_) if text("login_hint") == "deny" => {
                vec![("error", "access_denied".to_owned()), ("error_description", DENIED.to_owned())]
            }
            Ok(_) if self.is_scope_refused(call.param("scope")) => refused("invalid_scope"),
            Ok(code) => vec![("code", code)],
        };
        if let Some(state) = call.param("state") {
            parameters.push(("state", state.to_owned()));
        }
        let pairs: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
        VendorReply::redirect(redirect_uri, &pairs)
    }

    fn grant_token(&self, call: &ApiCall) -> VendorReply {
        let form = call.form();
        let field = |name: &str| form.get(name).map(String::as_str);
        let life = |name: &str, range: std::ops::RangeInclusive<u32>, default: u32| match field(name) {
            None => Some(default),
            Some(seconds) => seconds.parse().ok().filter(|seconds| range.contains(seconds)),
        };
        let access_seconds = life("expires_in", ACCESS_SECONDS, self.config.access_token_seconds);
        let refresh_seconds = life("refresh_token_expires_in", REFRESH_SECONDS, REFRESH_SECONDS_DEFAULT);
        let (Some(access_seconds), Some(refresh_seconds)) = (access_seconds, refresh_seconds) else {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "The requested life is out of range");
        };
        let terms = TokenTerms {
            access_seconds: Some(access_seconds),
            refresh_seconds: Some(refresh_seconds),
            gives_refresh_token: true,
            rotates_refresh_tokens: true,
        };
        let client = TokenClient { id: field("client_id").unwrap_or_default(), secret: field("client_secret") };
        let now = self.now();
        let outcome = match (field("grant_type"), field("code"), field("refresh_token")) {
            (Some("authorization_code"), Some(code), _) => {
                let (redirect_uri, verifier) = (field("redirect_uri"), field("code_verifier"));
                self.oauth.exchange_code(client, code, redirect_uri, verifier, terms, now)
            }
            (Some("refresh_token"), _, Some(token)) => self.oauth.refresh(client, token, terms, now),
            (Some("client_credentials"), ..) if self.is_scope_refused(field("scope")) => {
                return oauth_error(
                    StatusCode::BAD_REQUEST,
                    "invalid_scope",
                    "The requested scope is invalid, unknown, or malformed.",
                );
            }
            (Some("client_credentials"), ..) => {
                self.oauth.client_credentials(client, field("scope").unwrap_or("read"), terms, now)
            }
            (Some("authorization_code" | "refresh_token"), ..) => {
                return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "A required parameter is missing");
            }
            _ => {
                let description = "The authorization grant type is not supported by the authorization server.";
                return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type", description);
            }
        };
        let grant = match outcome {
            Ok(grant) => grant,
            Err(GrantError::InvalidClient) => {
                let description = "Client authentication failed due to unknown client or wrong client credentials.";
                return oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", description);
            }
            Err(_) => return token_error("invalid_grant"),
        };
        let mut body = json!({"access_token": grant.access_token, "token_type": "bearer", "scope": grant.scope,
            "expires_in": access_seconds});
        if let Some(refresh_token) = grant.refresh_token {
            body["refresh_token"] = json!(refresh_token);
            body["refresh_token_expires_in"] = json!(refresh_seconds);
        }
        let mut reply = VendorReply::json(StatusCode::OK, &body);
        reply.set_header(header::CACHE_CONTROL, "no-store");
        reply
    }
}

/// No token, for this reason; of a code or refresh token that is no good: `invalid_grant`.
pub(super) fn token_error(error: &str) -> VendorReply {
    let description = "The provided authorization grant is invalid, expired, revoked, does not match the redirection \
        URI used in the authorization request, or was issued to another client.";
    oauth_error(StatusCode::BAD_REQUEST, error, description)
}

fn oauth_error(status: StatusCode, error: &str, description: &str) -> VendorReply {
    VendorReply::json(status, &json!({"error": error, "error_description": description}))
}
