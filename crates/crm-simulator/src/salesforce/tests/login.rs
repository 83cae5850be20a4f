//! Tokens: how to get them, what ends them.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use reqwest::{Method, StatusCode};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};

use super::{
    super::{DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, DEFAULT_REFRESH_TOKEN, DEFAULT_USERNAME},
    DATA, START, Server,
};
use crate::{
    call::percent_encoded,
    faults::{Fault, FaultRule},
};

const REDIRECT: &str = "http://127.0.0.1:9/callback?x=1";
/// The example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async fn token(server: &Server, fields: &[(&str, &str)]) -> (u16, Value) {
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
    let request = server.client.post(format!("{}/services/oauth2/token", server.base));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"));
    let response = request.send().await.unwrap();
    (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn refresh(server: &Server, refresh_token: &str) -> (u16, Value) {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh_token), ("client_id", DEFAULT_CLIENT_ID)];
    token(server, &fields).await
}

/// Status of a call with this session.
async fn status(server: &Server, session: &str) -> StatusCode {
    server.client.get(format!("{}{DATA}/limits", server.base)).bearer_auth(session).send().await.unwrap().status()
}

/// Where the browser is sent.
async fn authorize(server: &Server, more: &str) -> String {
    let path = format!(
        "/services/oauth2/authorize?response_type=code&client_id={DEFAULT_CLIENT_ID}&state=s%2F1&redirect_uri={}{more}",
        percent_encoded(REDIRECT)
    );
    let response = server.send(Method::GET, &path, None).await;
    assert_eq!(response.status(), 302);
    response.headers()["location"].to_str().unwrap().to_owned()
}

async fn code(server: &Server, more: &str) -> String {
    let location = authorize(server, more).await;
    let code = location.strip_prefix(&format!("{REDIRECT}&code=")).unwrap();
    code.strip_suffix("&state=s%2F1").unwrap().to_owned()
}

fn exchange<'a>(code: &'a str, redirect: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", redirect),
        ("client_id", DEFAULT_CLIENT_ID),
        ("client_secret", DEFAULT_CLIENT_SECRET),
    ]
}

fn description(body: &Value) -> (&str, &str) {
    (body["error"].as_str().unwrap(), body["error_description"].as_str().unwrap())
}

/// A code brings tokens that say nothing of how long they live.
#[tokio::test]
async fn code_brings_tokens_silent_about_their_life() {
    let server = Server::start().await;
    let code = code(&server, "&prompt=login&scope=api%20refresh_token").await;

    let (answered, body) = token(&server, &exchange(&code, REDIRECT)).await;

    assert_eq!(answered, 200, "{body}");
    let mut names: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected =
        ["access_token", "id", "instance_url", "issued_at", "refresh_token", "scope", "signature", "token_type"];
    assert_eq!(names, expected);
    assert_eq!((&body["instance_url"], &body["issued_at"]), (&json!(server.base), &json!(START.to_string())));
    assert!(body["id"].as_str().unwrap().starts_with(&format!("{}/id/00D", server.base)));
    assert_eq!(status(&server, body["access_token"].as_str().unwrap()).await, 200);
    let (_, again) = token(&server, &exchange(&code, REDIRECT)).await;
    assert_eq!(description(&again), ("invalid_grant", "expired authorization code"));
    assert_eq!(server.salesforce.token_requests().authorization_code, 2);
}

#[tokio::test]
async fn code_is_bound_to_redirect_challenge_and_scope() {
    let server = Server::start().await;
    let pkce = format!("&code_challenge={CHALLENGE}");

    let wrong = code(&server, "").await;
    let (_, body) = token(&server, &exchange(&wrong, "http://127.0.0.1:9/other")).await;
    assert_eq!(body["error"], "redirect_uri_mismatch");
    let unproven = code(&server, &pkce).await;
    let (_, body) = token(&server, &exchange(&unproven, REDIRECT)).await;
    assert_eq!(description(&body), ("invalid_grant", "invalid code verifier"));
    let proven = code(&server, &pkce).await;
    let mut fields = exchange(&proven, REDIRECT);
    fields.push(("code_verifier", VERIFIER));
    assert_eq!(token(&server, &fields).await.0, 200);
    let short = code(&server, "&scope=api").await;
    let (_, body) = token(&server, &exchange(&short, REDIRECT)).await;
    assert_eq!(body.get("refresh_token"), None);
    let denied = authorize(&server, "&login_hint=deny").await;
    let expected = "&error=access_denied&error_description=end-user%20denied%20authorization&state=s%2F1";
    assert_eq!(denied, format!("{REDIRECT}{expected}"));
}

/// A session that has ended is refreshed; a refresh token that has ended is not.
#[tokio::test]
async fn ended_session_refreshes_ended_refresh_token_does_not() {
    let server = Server::start().await;

    server.salesforce.expire_sessions();
    let refused = server.ask(Method::GET, "/limits", None).await;
    let entry = json!({"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"});
    assert_eq!(refused, (401, json!([entry])));
    let (answered, body) = refresh(&server, DEFAULT_REFRESH_TOKEN).await;
    assert_eq!((answered, body.get("refresh_token")), (200, None));
    assert_eq!(status(&server, body["access_token"].as_str().unwrap()).await, 200);
    server.salesforce.revoke_refresh_tokens();
    let (answered, body) = refresh(&server, DEFAULT_REFRESH_TOKEN).await;
    assert_eq!((answered, description(&body)), (400, ("invalid_grant", "expired access/refresh token")));
    assert_eq!(server.salesforce.token_requests().refresh_token, 2);
    assert_eq!(server.salesforce.token_requests().refused, 1);
}

#[tokio::test]
async fn rotation_ends_the_old_refresh_token() {
    let server = Server::start_with(|config| {
        config.rotates_refresh_tokens = true;
        config.session_seconds = Some(7_200);
        config.instance_url = Some("https://acme.my.salesforce.com".to_owned());
    })
    .await;

    let (_, body) = refresh(&server, DEFAULT_REFRESH_TOKEN).await;
    assert_eq!(body["instance_url"], "https://acme.my.salesforce.com");
    let next = body["refresh_token"].as_str().unwrap();
    assert_eq!(refresh(&server, DEFAULT_REFRESH_TOKEN).await.0, 400);
    let (_, body) = refresh(&server, next).await;
    let session = body["access_token"].as_str().unwrap();
    server.advance(7_199_000);
    assert_eq!(status(&server, session).await, 200);
    server.advance(1_000);
    assert_eq!(status(&server, session).await, 401);
}

#[tokio::test]
async fn clients_and_grants_are_checked() {
    let server = Server::start().await;
    let secret = [("client_id", DEFAULT_CLIENT_ID), ("client_secret", DEFAULT_CLIENT_SECRET)];
    let with = |grant: &'static str, client: [(&'static str, &'static str); 2]| {
        let mut fields = vec![("grant_type", grant)];
        fields.extend(client);
        fields
    };

    let (answered, body) = token(&server, &with("client_credentials", secret)).await;
    assert_eq!((answered, body.get("refresh_token")), (200, None));
    let wrong = [("client_id", DEFAULT_CLIENT_ID), ("client_secret", "x")];
    let (answered, body) = token(&server, &with("client_credentials", wrong)).await;
    assert_eq!((answered, description(&body)), (400, ("invalid_client", "invalid client credentials")));
    let (_, body) = token(&server, &with("client_credentials", [("client_id", "x"), ("client_secret", "x")])).await;
    assert_eq!(body["error"], "invalid_client_id");
    let (_, body) = token(&server, &with("password", secret)).await;
    assert_eq!(body["error"], "unsupported_grant_type");
    let revoked = server.client.post(format!("{}/services/oauth2/revoke", server.base));
    assert_eq!(revoked.body(format!("token={DEFAULT_REFRESH_TOKEN}")).send().await.unwrap().status(), 200);
    assert_eq!(refresh(&server, DEFAULT_REFRESH_TOKEN).await.0, 400);
}

/// Signed with a key that was made for this test alone.
fn assertion(claims: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(include_bytes!("jwt_private.pem")).unwrap();
    let pair = RsaKeyPair::from_der(key.as_bytes()).unwrap();
    let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn assertion_is_checked_for_signature_and_claims() {
    let server = Server::start_with(|config| {
        config.jwt_public_key_pem = Some(include_str!("jwt_public.pem").to_owned());
    })
    .await;
    let claims = |name: &str, value: Value| {
        let mut claims = json!({"iss": DEFAULT_CLIENT_ID, "sub": DEFAULT_USERNAME, "aud": "https://login.salesforce.com",
            "exp": START / 1_000 + 180});
        claims[name] = value;
        claims
    };
    let ask = async |assertion: &str| {
        let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        token(&server, &[("grant_type", grant), ("assertion", assertion)]).await
    };

    let (answered, body) = ask(&assertion(&claims("aud", json!(server.base)))).await;
    assert_eq!((answered, body.get("refresh_token")), (200, None), "{body}");
    assert_eq!(status(&server, body["access_token"].as_str().unwrap()).await, 200);
    for (name, value, error) in [
        ("iss", json!("x"), "client identifier invalid"),
        ("sub", json!("x"), "user hasn't approved this consumer"),
        ("aud", json!("https://example.com"), "audience is invalid"),
        ("exp", json!(START / 1_000), "expired or too long-lived assertion"),
        ("exp", json!(START / 1_000 + 3_600), "expired or too long-lived assertion"),
    ] {
        let (answered, body) = ask(&assertion(&claims(name, value))).await;
        assert_eq!((answered, description(&body).1), (400, error));
    }
    let mut forged = assertion(&claims("exp", json!(START / 1_000 + 180)));
    forged.truncate(forged.len() - 4);
    assert_eq!(description(&ask(&forged).await.1), ("invalid_grant", "invalid assertion"));
    assert_eq!((server.salesforce.token_requests().assertion, server.salesforce.token_requests().refused), (7, 6));
}

#[tokio::test]
async fn token_endpoint_fails_as_told() {
    let server = Server::start().await;
    let add = |fault| server.salesforce.faults().add(FaultRule::once("/oauth2/token", fault)).unwrap();
    let error = |error: &str| Fault::TokenError { error: error.to_owned() };
    for (fault, expected) in [
        (error("invalid_grant"), "expired access/refresh token"),
        (error("inactive_user"), "user is inactive"),
        (error("unknown_error"), "retry your request"),
        (Fault::RateLimited { retry_after_seconds: None }, "login rate exceeded"),
    ] {
        add(fault);
        let (answered, body) = refresh(&server, DEFAULT_REFRESH_TOKEN).await;
        assert_eq!((answered, description(&body).1), (400, expected));
    }
    add(Fault::InstanceMoved { url: "https://na2.example".to_owned() });
    assert_eq!(refresh(&server, DEFAULT_REFRESH_TOKEN).await.1["instance_url"], "https://na2.example");
    assert_eq!(refresh(&server, DEFAULT_REFRESH_TOKEN).await.1["instance_url"], server.base);
}

#[tokio::test]
async fn identity_is_the_administrators() {
    let server = Server::start().await;

    let info = server.get("/services/oauth2/userinfo").await;

    assert_eq!(info["preferred_username"], DEFAULT_USERNAME);
    let url = info["sub"].as_str().unwrap();
    let response = server.client.get(url).bearer_auth(super::DEFAULT_ACCESS_TOKEN).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(server.client.get(url).send().await.unwrap().status(), 403);
}
