//! Consent and tokens, over HTTP.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::Server;
use crate::{
    faults::{Fault, FaultRule},
    zendesk::DEFAULT_BEARER_TOKEN,
};

/// The example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const REDIRECT: &str = "http://localhost/cb";

impl Server {
    /// Where the browser is sent.
    async fn consent(&self, more: &str) -> String {
        let path = format!(
            "/oauth/authorizations/new?client_id=client&redirect_uri=http%3A%2F%2Flocalhost%2Fcb&scope=read%20write\
            &state=s{more}"
        );
        let response = self.send(Method::GET, &path, None).await;
        assert_eq!(response.status(), StatusCode::FOUND);
        response.headers()[header::LOCATION].to_str().unwrap().to_owned()
    }

    async fn code(&self, more: &str) -> String {
        let location = self.consent(&format!("&response_type=code{more}")).await;
        let back = location.strip_prefix("http://localhost/cb?code=").unwrap();
        back.strip_suffix("&state=s").unwrap().to_owned()
    }

    async fn token(&self, fields: Value) -> (StatusCode, Value) {
        let mut body = json!({"client_id": "client", "client_secret": "secret"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.ask(Method::POST, "/oauth/tokens", Some(&body)).await
    }

    async fn read_with(&self, token: &str) -> (StatusCode, Value) {
        let request = self.client.get(format!("{}/api/v2/users/count.json", self.base)).bearer_auth(token);
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }
}

fn text<'a>(tokens: &'a Value, field: &str) -> &'a str {
    tokens[field].as_str().unwrap()
}

/// A code with its verifier gives tokens for the life that was asked for.
#[tokio::test]
async fn code_with_verifier_gives_tokens_of_asked_life() {
    let server = Server::start().await;
    let code = server.code(&format!("&code_challenge={CHALLENGE}&code_challenge_method=S256")).await;
    let exchange = json!({"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER, "expires_in": 7_200, "refresh_token_expires_in": 604_800});

    let (status, tokens) = server.token(exchange.clone()).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!((text(&tokens, "token_type"), text(&tokens, "scope")), ("bearer", "read write"));
    assert_eq!((&tokens["expires_in"], &tokens["refresh_token_expires_in"]), (&json!(7_200), &json!(604_800)));
    let access = text(&tokens, "access_token");
    server.advance(7_199);
    assert_eq!(server.read_with(access).await.0, StatusCode::OK);
    server.advance(1);
    let (status, expired) = server.read_with(access).await;
    assert_eq!((status, &expired["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_token")));
    let (status, again) = server.token(exchange).await;
    assert_eq!((status, &again["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
}

/// A refresh always rotates, and ends the access token before.
#[tokio::test]
async fn refresh_always_rotates_and_ends_earlier_access() {
    let server = Server::start().await;
    let refresh = json!({"grant_type": "refresh_token", "refresh_token": "zendesk-refresh"});

    let (_, first) = server.token(refresh.clone()).await;

    assert_eq!(first["expires_in"], 1_800);
    assert_eq!(server.read_with(DEFAULT_BEARER_TOKEN).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(server.read_with(text(&first, "access_token")).await.0, StatusCode::OK);
    assert_eq!(server.token(refresh).await.0, StatusCode::BAD_REQUEST);
    let next = json!({"grant_type": "refresh_token", "refresh_token": first["refresh_token"]});
    assert_eq!(server.token(next).await.0, StatusCode::OK);
    assert_eq!(server.read_with(text(&first, "access_token")).await.0, StatusCode::UNAUTHORIZED);
}

/// A form is taken, too, and client credentials have no refresh token.
#[tokio::test]
async fn form_is_taken_client_credentials_cannot_refresh() {
    let server = Server::start().await;
    let form = "grant_type=client_credentials&client_id=client&client_secret=secret&scope=users%3Aread";
    let request = server.client.post(format!("{}/oauth/tokens", server.base)).body(form);

    let tokens: Value = request.send().await.unwrap().json().await.unwrap();

    assert_eq!((text(&tokens, "scope"), tokens.get("refresh_token")), ("users:read", None));
    assert_eq!(server.read_with(text(&tokens, "access_token")).await.0, StatusCode::OK);
    let requests = server.zendesk.token_requests();
    assert_eq!((requests.client_credentials, requests.refused), (1, 0));
}

/// What is wrong is named as OAuth names it.
#[tokio::test]
async fn errors_are_named_as_oauth_names_them() {
    let server = Server::start().await;
    for (fields, status, error) in [
        (json!({"grant_type": "refresh_token", "refresh_token": "guess"}), 400, "invalid_grant"),
        (json!({"grant_type": "refresh_token"}), 400, "invalid_request"),
        (json!({"grant_type": "password"}), 400, "unsupported_grant_type"),
        (json!({"grant_type": "client_credentials", "client_secret": "guess"}), 401, "invalid_client"),
        (json!({"grant_type": "client_credentials", "expires_in": 299}), 400, "invalid_request"),
        (json!({"grant_type": "client_credentials", "refresh_token_expires_in": 1}), 400, "invalid_request"),
    ] {
        let (refused, body) = server.token(fields.clone()).await;
        assert_eq!((refused.as_u16(), text(&body, "error")), (status, error), "{fields}");
    }
    assert_eq!(server.consent("").await, "http://localhost/cb?error=unsupported_response_type&state=s");
    let denied = server.consent("&response_type=code&login_hint=deny").await;
    assert!(denied.starts_with("http://localhost/cb?error=access_denied&error_description="));
    let (status, _) = server.ask(Method::GET, "/oauth/authorizations/new?client_id=stranger", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

/// Tokens are ended from outside, and the fault refuses one request.
#[tokio::test]
async fn tokens_end_from_outside_fault_refuses_one_request() {
    let server = Server::start().await;
    server.zendesk.expire_access_tokens();
    assert_eq!(server.read_with(DEFAULT_BEARER_TOKEN).await.0, StatusCode::UNAUTHORIZED);
    let refresh = json!({"grant_type": "refresh_token", "refresh_token": "zendesk-refresh"});

    server
        .zendesk
        .faults()
        .add(FaultRule::once("/oauth/tokens", Fault::TokenError { error: "invalid_grant".to_owned() }))
        .unwrap();

    assert_eq!(server.token(refresh.clone()).await.1["error"], "invalid_grant");
    let (status, tokens) = server.token(refresh).await;
    assert_eq!(status, StatusCode::OK);
    server.zendesk.revoke_refresh_tokens();
    let next = json!({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]});
    assert_eq!(server.token(next).await.0, StatusCode::BAD_REQUEST);
}
