//! `/services/oauth2` and the identity of who logged in. Owns: the flows, their answers and
//! refusals, in Salesforce's words. A token says nothing of its life: it is used until it is
//! refused. Must not: keep tokens; `oauth` does.

use axum::http::{Method, StatusCode};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Salesforce,
    refusal::SalesforceRefusal,
    session::{administrator, organization, session_of},
};
use crate::{
    call::ApiCall,
    faults::Fault,
    oauth::{AuthorizationError, AuthorizationRequest, GrantError, IssuedTokens, TokenClient, TokenTerms},
    reply::VendorReply,
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Scopes of a client that asks for none.
const SCOPE: &str = "api refresh_token";
/// Hosts that an assertion may be meant for, besides the one that it is sent to.
const LOGIN_HOSTS: [&str; 2] = ["https://login.salesforce.com", "https://test.salesforce.com"];
/// Longest life of an assertion, seconds; the vendor wants it within a few minutes.
const ASSERTION_SECONDS_MAX: i64 = 600;

/// Why there is no token: `error` and `error_description`.
struct NoToken(&'static str, &'static str);

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(alias = "prn")]
    sub: String,
    aud: String,
    exp: i64,
}

impl Salesforce {
    /// `/services/oauth2/..`.
    pub(super) fn oauth2(&self, call: &ApiCall, endpoint: &str, faults: &[&Fault]) -> VendorReply {
        match (&call.method, endpoint) {
            (&Method::GET, "authorize") => self.authorize(call),
            (&Method::POST, "token") => self.token(call, faults),
            (&Method::GET | &Method::POST, "revoke") => {
                let form = call.form();
                let token = call.param("token").or(form.get("token").map(String::as_str));
                let Some(token) = token else { return refused(&NoToken("invalid_request", "token is missing")) };
                self.oauth.revoke(token);
                VendorReply::json(StatusCode::OK, &json!({}))
            }
            (&Method::GET | &Method::POST, "userinfo") => self.identity(call),
            _ => SalesforceRefusal::not_found().reply(),
        }
    }

    /// A user who consents at once, or with `login_hint=deny` one who does not.
    fn authorize(&self, call: &ApiCall) -> VendorReply {
        let text = |name| call.param(name).unwrap_or_default();
        let redirect_uri = text("redirect_uri");
        let request = AuthorizationRequest {
            client_id: text("client_id"),
            redirect_uri,
            scope: call.param("scope").unwrap_or(SCOPE),
            code_challenge: call.param("code_challenge"),
            // Salesforce knows no other method, and clients leave it out.
            code_challenge_method: call.param("code_challenge").map(|_| "S256"),
        };
        let mut parameters: Vec<(&str, &str)> = Vec::new();
        let outcome = self.oauth.authorize(request, self.now());
        match &outcome {
            Err(AuthorizationError::UnknownClient) => {
                return refused(&NoToken("invalid_client_id", "client identifier invalid"));
            }
            Err(AuthorizationError::BadRedirect) => {
                return refused(&NoToken("redirect_uri_mismatch", "redirect_uri must match configuration"));
            }
            Err(AuthorizationError::BadChallenge) => {
                parameters.extend([("error", "invalid_request"), ("error_description", "invalid code challenge")]);
            }
            Ok(_) if text("response_type") != "code" => {
                let description = "response type not supported";
                parameters.extend([("error", "unsupported_response_type"), ("error_description", description)]);
            }
            Ok(_) if text("login_hint") == "deny" => {
                let description = "end-user denied authorization";
                parameters.extend([("error", "access_denied"), ("error_description", description)]);
            }
            Ok(code) => parameters.push(("code", code)),
        }
        parameters.extend(call.param("state").map(|state| ("state", state)));
        VendorReply::redirect(redirect_uri, &parameters)
    }

    fn token(&self, call: &ApiCall, faults: &[&Fault]) -> VendorReply {
        if let Some(refusal) = faults.iter().find_map(|fault| token_error(fault)) {
            return refusal;
        }
        match self.grant(call) {
            Ok((grant, has_new_refresh_token)) => self.token_reply(call, &grant, has_new_refresh_token, faults),
            Err(error) => refused(&error),
        }
    }

    /// The tokens, and whether the refresh token among them is to be told.
    fn grant(&self, call: &ApiCall) -> Result<(IssuedTokens, bool), NoToken> {
        let form = call.form();
        let text = |name: &str| form.get(name).map(String::as_str);
        let basic = basic_credentials(call);
        let (basic_id, basic_secret) = basic.as_ref().map_or((None, None), |(id, secret)| (Some(id), Some(secret)));
        let client = TokenClient {
            id: text("client_id").or(basic_id.map(String::as_str)).unwrap_or_default(),
            secret: text("client_secret").or(basic_secret.map(String::as_str)),
        };
        let now = self.now();
        let granted = match text("grant_type").unwrap_or_default() {
            "authorization_code" => {
                let (code, uri) = (text("code").unwrap_or_default(), text("redirect_uri"));
                let grant = self.oauth.exchange_code(client, code, uri, text("code_verifier"), self.terms(), now);
                grant.map(|grant| {
                    let is_offline = ["refresh_token", "offline_access", "full"];
                    let is_told = grant.scope.split_whitespace().any(|scope| is_offline.contains(&scope));
                    (grant, is_told)
                })
            }
            "refresh_token" => {
                let token = text("refresh_token").unwrap_or_default();
                let grant = self.oauth.refresh(client, token, self.terms(), now);
                grant.map(|grant| (grant, self.config.rotates_refresh_tokens))
            }
            "client_credentials" => {
                self.oauth.client_credentials(client, "api", self.terms(), now).map(|grant| (grant, false))
            }
            JWT_BEARER => {
                let outcome = self.check_assertion(call, text("assertion").unwrap_or_default());
                self.oauth.count_assertion(outcome.is_ok());
                outcome?;
                return Ok((self.oauth.issue("api", self.terms(), now), false));
            }
            _ => return Err(NoToken("unsupported_grant_type", "grant type not supported")),
        };
        granted.map_err(|error| match error {
            GrantError::InvalidClient if client.id != self.config.client_id => {
                NoToken("invalid_client_id", "client identifier invalid")
            }
            GrantError::InvalidClient => NoToken("invalid_client", "invalid client credentials"),
            GrantError::InvalidCode => NoToken("invalid_grant", "expired authorization code"),
            GrantError::RedirectMismatch => NoToken("redirect_uri_mismatch", "redirect_uri must match configuration"),
            GrantError::VerifierMismatch => NoToken("invalid_grant", "invalid code verifier"),
            GrantError::InvalidRefreshToken => NoToken("invalid_grant", "expired access/refresh token"),
        })
    }

    /// Without a configured key the signature is not looked at.
    fn check_assertion(&self, call: &ApiCall, assertion: &str) -> Result<(), NoToken> {
        const INVALID: NoToken = NoToken("invalid_grant", "invalid assertion");
        if self.config.jwt_public_key_pem.as_deref().is_some_and(|pem| !is_signed(assertion, pem)) {
            return Err(INVALID);
        }
        let claims = jsonwebtoken::dangerous::insecure_decode::<Claims>(assertion).map_err(|_| INVALID)?.claims;
        let now = self.now().timestamp();
        if claims.iss != self.config.client_id {
            return Err(NoToken("invalid_client_id", "client identifier invalid"));
        }
        if claims.sub != self.config.username {
            return Err(NoToken("invalid_grant", "user hasn't approved this consumer"));
        }
        let audience = claims.aud.trim_end_matches('/').trim_end_matches("/services/oauth2/token");
        if audience != call.base_url && !LOGIN_HOSTS.contains(&audience) {
            return Err(NoToken("invalid_grant", "audience is invalid"));
        }
        if claims.exp <= now || claims.exp > now + ASSERTION_SECONDS_MAX {
            return Err(NoToken("invalid_grant", "expired or too long-lived assertion"));
        }
        Ok(())
    }

    fn token_reply(
        &self,
        call: &ApiCall,
        grant: &IssuedTokens,
        tells_refresh_token: bool,
        faults: &[&Fault],
    ) -> VendorReply {
        let moved = faults.iter().find_map(|fault| match fault {
            Fault::InstanceMoved { url } => Some(url.clone()),
            _ => None,
        });
        let id = identity_url(call);
        let issued_at = self.now_millis().to_string();
        let digest = Sha256::digest(format!("{}{id}{issued_at}", self.config.client_secret));
        let mut body = json!({
            "access_token": grant.access_token,
            "signature": STANDARD.encode(digest),
            "scope": grant.scope,
            "instance_url": moved.unwrap_or_else(|| self.instance_url(call)),
            "id": id,
            "token_type": "Bearer",
            "issued_at": issued_at,
        });
        if let Some(token) = grant.refresh_token.as_ref().filter(|_| tells_refresh_token) {
            body["refresh_token"] = json!(token);
        }
        VendorReply::json(StatusCode::OK, &body)
    }

    /// A session without a proof that `oauth` knows of.
    pub(super) fn issue_session(&self) -> String {
        self.oauth.issue("api", self.terms(), self.now()).access_token
    }

    /// Where the API is: this server, unless the organisation says otherwise.
    pub(super) fn instance_url(&self, call: &ApiCall) -> String {
        self.config.instance_url.clone().unwrap_or_else(|| call.base_url.clone())
    }

    fn terms(&self) -> TokenTerms {
        TokenTerms {
            access_seconds: self.config.session_seconds,
            refresh_seconds: None,
            gives_refresh_token: true,
            rotates_refresh_tokens: self.config.rotates_refresh_tokens,
        }
    }

    /// `/services/oauth2/userinfo` and `/id/{organisation}/{user}`.
    pub(super) fn identity(&self, call: &ApiCall) -> VendorReply {
        if !session_of(call).is_some_and(|session| self.oauth.admits(session, self.now())) {
            return VendorReply::text(StatusCode::FORBIDDEN, "text/html; charset=utf-8", "Bad_OAuth_Token");
        }
        let username = &self.config.username;
        let instance = self.instance_url(call);
        let url = |path: &str| Value::String(format!("{instance}{path}"));
        VendorReply::json(
            StatusCode::OK,
            &json!({
                "id": identity_url(call),
                "sub": identity_url(call),
                "user_id": administrator(),
                "organization_id": organization(),
                "username": username,
                "preferred_username": username,
                "nick_name": "admin",
                "nickname": "admin",
                "display_name": "Ada Admin",
                "name": "Ada Admin",
                "first_name": "Ada",
                "last_name": "Admin",
                "email": username,
                "email_verified": true,
                "active": true,
                "user_type": "STANDARD",
                "locale": "en_US",
                "language": "en_US",
                "urls": {
                    "rest": url("/services/data/v{version}/"),
                    "sobjects": url("/services/data/v{version}/sobjects/"),
                    "query": url("/services/data/v{version}/query/"),
                    "search": url("/services/data/v{version}/search/"),
                    "partner": url("/services/Soap/u/{version}/00D"),
                },
                "is_app_installed": true,
            }),
        )
    }
}

fn identity_url(call: &ApiCall) -> String {
    format!("{}/id/{}/{}", call.base_url, organization(), administrator())
}

fn refused(error: &NoToken) -> VendorReply {
    VendorReply::json(StatusCode::BAD_REQUEST, &json!({"error": error.0, "error_description": error.1}))
}

/// The refusal of a token that an injected fault asks for.
fn token_error(fault: &Fault) -> Option<VendorReply> {
    let error = match fault {
        Fault::Unauthorized => "invalid_grant",
        Fault::ServerError => "unknown_error",
        Fault::TokenError { error } => error,
        Fault::RateLimited { .. } => return Some(refused(&NoToken("invalid_grant", "login rate exceeded"))),
        _ => return None,
    };
    let description = match error {
        "invalid_grant" => "expired access/refresh token",
        "inactive_user" => "user is inactive",
        "inactive_org" => "organization is inactive",
        "invalid_client" => "invalid client credentials",
        "invalid_client_id" => "client identifier invalid",
        "unknown_error" => "retry your request",
        "invalid_app_access" => "user is not admin approved to access this app",
        "app_not_found" => "External client app is not installed in this org",
        _ => "the request was refused",
    };
    Some(VendorReply::json(StatusCode::BAD_REQUEST, &json!({"error": error, "error_description": description})))
}

/// A client may show its secret in the header instead of the form.
fn basic_credentials(call: &ApiCall) -> Option<(String, String)> {
    let header = call.headers.get(axum::http::header::AUTHORIZATION)?.to_str().ok()?;
    let encoded = header.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// Whether the key's private half has signed it with RS256.
fn is_signed(assertion: &str, public_key_pem: &str) -> bool {
    let header = jsonwebtoken::decode_header(assertion);
    let key = DecodingKey::from_rsa_pem(public_key_pem.as_bytes());
    let (Ok(header), Ok(key), Some((message, signature))) = (header, key, assertion.rsplit_once('.')) else {
        return false;
    };
    let (Ok(der), Ok(signature)) = (key.try_get_as_bytes(), BASE64_URL_SAFE_NO_PAD.decode(signature)) else {
        return false;
    };
    let verifying = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der);
    header.alg == Algorithm::RS256 && verifying.verify(message.as_bytes(), &signature).is_ok()
}
