//! Credentials, consent and tokens, over HTTP.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::Server;
use crate::faults::{Fault, FaultRule};

const AUTHORIZE: &str =
    "/oauth/authorize?client_id=client&redirect_uri=http%3A%2F%2Flocalhost%2Fcb%3Fa%3D1&state=s%2Ft";

impl Server {
    async fn token(&self, form: &str) -> (StatusCode, Value) {
        self.token_as("client", "secret", form).await
    }

    async fn token_as(&self, id: &str, secret: &str, form: &str) -> (StatusCode, Value) {
        let request = self.client.post(format!("{}/oauth/token", self.base)).basic_auth(id, Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn list_with(&self, token: &str) -> StatusCode {
        let request = self.client.get(format!("{}/api/v2/persons", self.base)).bearer_auth(token);
        request.send().await.unwrap().status()
    }
}

fn location(response: &Response) -> &str {
    assert_eq!(response.status(), StatusCode::FOUND);
    response.headers()["location"].to_str().unwrap()
}

/// A consent gives a code, and the code gives tokens.
#[tokio::test]
async fn consent_gives_code_and_code_gives_tokens() {
    let server = Server::start().await;
    let response = server.send(Method::GET, AUTHORIZE, None).await;
    let back = location(&response).strip_prefix("http://localhost/cb?a=1&code=").unwrap();
    let code = back.strip_suffix("&state=s%2Ft").unwrap();

    let form = format!("grant_type=authorization_code&code={code}&redirect_uri=http%3A%2F%2Flocalhost%2Fcb%3Fa%3D1");
    let (status, tokens) = server.token(&form).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(3_599)));
    assert_eq!(tokens["api_domain"], server.base);
    assert!(tokens["scope"].as_str().unwrap().contains("contacts:full"));
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(server.list_with(access).await, StatusCode::OK);
    server.advance(3_599);
    assert_eq!(server.list_with(access).await, StatusCode::UNAUTHORIZED);
    assert_eq!(server.token(&form).await.1["error"], "invalid_grant");
    let refresh = format!("grant_type=refresh_token&refresh_token={}", tokens["refresh_token"].as_str().unwrap());
    let (status, refreshed) = server.token(&refresh).await;
    assert_eq!((status, &refreshed["refresh_token"]), (StatusCode::OK, &tokens["refresh_token"]));
}

#[tokio::test]
async fn refused_consent_and_bad_requests_give_no_code() {
    let server = Server::start().await;
    let denied = server.send(Method::GET, &format!("{AUTHORIZE}&login_hint=deny"), None).await;
    assert_eq!(location(&denied), "http://localhost/cb?a=1&error=access_denied&state=s%2Ft");
    let plain = server.send(Method::GET, &format!("{AUTHORIZE}&code_challenge=x"), None).await;
    assert_eq!(location(&plain), "http://localhost/cb?a=1&error=invalid_request&state=s%2Ft");
    for path in ["/oauth/authorize?client_id=stranger&redirect_uri=http%3A%2F%2Fx", "/oauth/authorize?client_id=client"]
    {
        assert_eq!(server.ask(Method::GET, path, None).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn token_endpoint_says_no_in_pipedrives_words() {
    let server = Server::start().await;
    let refresh = "grant_type=refresh_token&refresh_token=pipedrive-refresh";

    let (status, body) = server.token("grant_type=refresh_token&refresh_token=guess").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = "Invalid grant: refresh_token is invalid";
    assert_eq!(body, json!({"success": false, "error": "invalid_grant", "message": message}));
    assert_eq!(server.token_as("client", "guess", refresh).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(server.token("grant_type=password").await.1["error"], "unsupported_grant_type");
    assert_eq!(server.token("grant_type=refresh_token").await.1["error"], "invalid_request");
    let requests = server.pipedrive.token_requests();
    assert_eq!((requests.refresh_token, requests.refused), (2, 2));
}

#[tokio::test]
async fn rotation_is_a_choice() {
    let server = Server::start_with(|config| config.rotates_refresh_tokens = true).await;
    let refresh = "grant_type=refresh_token&refresh_token=pipedrive-refresh";

    let (_, tokens) = server.token(refresh).await;

    assert_ne!(tokens["refresh_token"], "pipedrive-refresh");
    assert_eq!(server.token(refresh).await.0, StatusCode::BAD_REQUEST);
}

/// Tokens are ended from outside, and the API token stays.
#[tokio::test]
async fn tokens_end_from_outside_and_api_token_stays() {
    let server = Server::start().await;
    let refresh = "grant_type=refresh_token&refresh_token=pipedrive-refresh";
    let access = async || server.token(refresh).await.1["access_token"].as_str().unwrap().to_owned();
    let token = access().await;

    server.pipedrive.expire_access_tokens();
    assert_eq!(server.list_with(&token).await, StatusCode::UNAUTHORIZED);
    let token = access().await;
    let form = format!("token={token}");
    let request = server.client.post(format!("{}/oauth/revoke", server.base)).basic_auth("client", Some("secret"));
    assert_eq!(request.body(form).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(server.list_with(&token).await, StatusCode::UNAUTHORIZED);
    server.pipedrive.revoke_refresh_tokens();
    assert_eq!(server.token(refresh).await.0, StatusCode::BAD_REQUEST);
    server.get("/api/v2/persons").await;
}

#[tokio::test]
async fn no_token_and_wrong_tokens_are_refused_alike() {
    let server = Server::start().await;
    let url = format!("{}/api/v2/persons", server.base);
    for request in [
        server.client.get(&url),
        server.client.get(&url).header("x-api-token", "guess"),
        server.client.get(&url).bearer_auth("guess"),
        server.client.get(format!("{url}?api_token=guess")),
    ] {
        let response = request.send().await.unwrap();

        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key("x-401-by-gw"));
        let body: Value = response.json().await.unwrap();
        assert_eq!((&body["error"], &body["errorCode"]), (&json!("unauthorized access"), &json!(401)));
    }
}

#[tokio::test]
async fn token_faults_happen_at_the_token_endpoint() {
    let server = Server::start().await;
    let refresh = "grant_type=refresh_token&refresh_token=pipedrive-refresh";
    let fail = |fault| server.pipedrive.faults().add(FaultRule::once("/oauth/token", fault)).unwrap();

    fail(Fault::TokenError { error: "invalid_grant".to_owned() });
    assert_eq!(server.token(refresh).await.1["error"], "invalid_grant");
    fail(Fault::OtherApiDomain { api_domain: "http://127.0.0.1:1".to_owned() });
    assert_eq!(server.token(refresh).await.1["api_domain"], "http://127.0.0.1:1");
    assert_eq!(server.token(refresh).await.1["api_domain"], server.base);
}
