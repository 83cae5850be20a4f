use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode as AxumStatus, http::Uri};
use jsonwebtoken::{DecodingKey, Validation};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::{
    crm::{ConnectFailure, CrmSettings, ProviderEndpoint, ProviderSettings},
    domain::{credentials::AccessSecret, provider::PerProvider},
};

const KEY: &str = include_str!("../../../tests/fixtures/oauth-test-key.pem");
const PUBLIC_KEY: &str = include_str!("../../../tests/fixtures/oauth-test-key.pub.pem");

/// One token request as it came.
#[derive(Clone, Default)]
struct Seen {
    path: String,
    authorization: String,
    body: String,
}

/// Answers every request with the same, and keeps the last one.
#[derive(Clone)]
struct Vendor {
    status: u16,
    body: String,
    seen: Arc<Mutex<Seen>>,
}

impl Vendor {
    async fn start(status: u16, body: &Value) -> (Self, String) {
        Self::start_with(status, body.to_string()).await
    }

    async fn start_with(status: u16, body: String) -> (Self, String) {
        let vendor = Self { status, body, seen: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(vendor.clone());
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        (vendor, url)
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    State(vendor): State<Vendor>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (AxumStatus, HeaderMap, String) {
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    *vendor.seen.lock().unwrap() = Seen {
        path: uri.path().to_owned(),
        authorization: authorization.unwrap_or_default(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let headers = [("content-type".parse().unwrap(), "application/json".parse().unwrap())].into_iter().collect();
    (AxumStatus::from_u16(vendor.status).unwrap(), headers, vendor.body.clone())
}

fn crms(url: &str, own: Option<OAuthClient>) -> CrmClients {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let provider = ProviderSettings {
        endpoint: ProviderEndpoint::Operator(url.to_owned()),
        silence_max: std::time::Duration::from_secs(5),
        quota_share_percent: 100,
        first_copy_share_percent: 100,
        oauth_client: own,
        push_scopes: "push".to_owned(),
    };
    let providers = PerProvider::from_fn(|_| provider.clone());
    CrmClients::new(CrmSettings { providers, bulk_above: 0, streams: crate::crm::StreamSettings::default() }).unwrap()
}

fn client() -> OAuthClient {
    OAuthClient { id: "the-id".to_owned(), secret: "the secret".into() }
}

fn organization(provider: Provider) -> Organization {
    let name = if provider == Provider::Salesforce { "00Dx0000000BV7zEAO" } else { "acme" };
    Organization { provider, name: name.to_owned() }
}

fn refresh_token(provider: Provider, client: Option<OAuthClient>) -> Credentials {
    let kind = CredentialKind::RefreshToken { client, token: "old-token".into(), host: None, scopes: None };
    Credentials { provider, kind }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_305_600, 0).unwrap()
}

fn token_of(granted: &GrantedAccess) -> String {
    match granted.access.token.secret_for(granted.access.token.provider()).unwrap() {
        AccessSecret::Bearer(token) => token.expose_secret().to_owned(),
        AccessSecret::ApiToken { .. } => panic!("it is no bearer token"),
    }
}

fn new_refresh_token(granted: &GrantedAccess) -> Option<String> {
    match &granted.credentials.as_ref()?.kind {
        CredentialKind::RefreshToken { token, .. } => Some(token.expose_secret().to_owned()),
        _ => panic!("it is no refresh token"),
    }
}

async fn refused(provider: Provider, status: u16, body: &str) -> CrmError {
    let (_, url) = Vendor::start_with(status, body.to_owned()).await;
    crms(&url, None)
        .obtain(&organization(provider), &refresh_token(provider, Some(client())), now(), true)
        .await
        .unwrap_err()
}

/// Zendesk is asked in JSON, and its rotated refresh token is taken.
#[tokio::test]
async fn zendesk_is_asked_in_json_rotated_token_taken() {
    let body = json!({"access_token": "a", "refresh_token": "new-token", "token_type": "bearer", "expires_in": 7200});
    let (vendor, url) = Vendor::start(200, &body).await;

    let granted = crms(&url, Some(client()))
        .obtain(&organization(Provider::Zendesk), &refresh_token(Provider::Zendesk, None), now(), true)
        .await
        .unwrap();

    assert_eq!((token_of(&granted).as_str(), new_refresh_token(&granted).as_deref()), ("a", Some("new-token")));
    assert_eq!(granted.access.expires_at, Some(now() + TimeDelta::hours(2)));
    let fields: Value = serde_json::from_str(&vendor.seen().body).unwrap();
    assert_eq!(vendor.seen().path, "/oauth/tokens");
    assert_eq!((&fields["grant_type"], &fields["refresh_token"]), (&json!("refresh_token"), &json!("old-token")));
    assert_eq!((&fields["client_id"], &fields["client_secret"]), (&json!("the-id"), &json!("the secret")));
}

/// Salesforce is asked by a form, and says where its API is and whose.
#[tokio::test]
async fn salesforce_form_answer_names_api_and_organization() {
    let body = json!({"access_token": "a", "token_type": "Bearer", "instance_url": "http://127.0.0.1:9/",
        "id": "https://login.salesforce.com/id/00Dx0000000BV7zEAO/005x00000012Q9PAAU"});
    let (vendor, url) = Vendor::start(200, &body).await;

    let granted = crms(&url, None)
        .obtain(&organization(Provider::Salesforce), &refresh_token(Provider::Salesforce, Some(client())), now(), true)
        .await
        .unwrap();

    let canonical = crms("", None).descriptor(Provider::Salesforce).parse_organization("00Dx0000000BV7z").unwrap().name;
    assert_eq!(granted.organization, Some(canonical));
    assert_eq!(granted.access.api_url.as_deref(), Some("http://127.0.0.1:9"));
    assert!(granted.access.expires_at.is_none() && granted.credentials.is_none());
    let seen = vendor.seen();
    assert_eq!(seen.path, "/services/oauth2/token");
    for part in ["grant_type=refresh_token", "refresh_token=old-token", "client_id=the-id", "client_secret=the+secret"]
    {
        assert!(seen.body.split('&').any(|found| found == part), "{part} is in {}", seen.body);
    }
    assert_eq!(seen.authorization, "");
}

#[tokio::test]
async fn pipedrive_is_shown_its_client_by_basic() {
    let body = json!({"access_token": "a", "refresh_token": "old-token", "token_type": "Bearer", "expires_in": 3599,
        "scope": "base,contacts:full"});
    let (vendor, url) = Vendor::start(200, &body).await;

    let granted = crms(&url, Some(client()))
        .obtain(&organization(Provider::Pipedrive), &refresh_token(Provider::Pipedrive, None), now(), true)
        .await
        .unwrap();

    assert_eq!(new_refresh_token(&granted).as_deref(), Some("old-token"), "the same refresh token is no new one");
    let CredentialKind::RefreshToken { scopes, .. } = &granted.credentials.as_ref().unwrap().kind else { panic!() };
    assert_eq!(scopes.as_deref(), Some("base,contacts:full"), "what it allows is kept");
    let again = crms(&url, Some(client()))
        .obtain(&organization(Provider::Pipedrive), granted.credentials.as_ref().unwrap(), now(), true)
        .await
        .unwrap();
    assert!(again.credentials.is_none(), "nothing of it is new");
    let seen = vendor.seen();
    assert_eq!((seen.path.as_str(), seen.authorization.starts_with("Basic ")), ("/oauth/token", true));
    assert!(!seen.body.contains("secret"), "{}", seen.body);
}

/// An assertion is signed for the login host and ends within three minutes.
#[tokio::test]
async fn assertion_for_login_host_ends_within_three_minutes() {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
        sub: String,
        exp: i64,
    }
    let body = json!({"access_token": "a", "token_type": "Bearer", "instance_url": "http://127.0.0.1:1"});
    let (vendor, url) = Vendor::start(200, &body).await;
    let jwt = |private_key: &str| Credentials {
        provider: Provider::Salesforce,
        kind: CredentialKind::JwtBearer {
            client_id: "the-id".to_owned(),
            username: "sync@example.com".into(),
            private_key: private_key.into(),
            host: Some("test.salesforce.com".to_owned()),
        },
    };
    let crms = crms(&url, None);

    crms.obtain(&organization(Provider::Salesforce), &jwt(KEY), now(), true).await.unwrap();

    let body = vendor.seen().body;
    let fields: Vec<_> = Url::parse(&format!("http://x/?{body}")).unwrap().query_pairs().into_owned().collect();
    assert_eq!(fields[0].1, "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&["https://test.salesforce.com"]);
    rules.validate_exp = false;
    let key = DecodingKey::from_rsa_pem(PUBLIC_KEY.as_bytes()).unwrap();
    let claims = jsonwebtoken::decode::<Claims>(&fields[1].1, &key, &rules).unwrap().claims;
    assert_eq!((claims.iss.as_str(), claims.sub.as_str()), ("the-id", "sync@example.com"));
    assert_eq!(claims.exp, now().timestamp() + 180);
    let unusable = crms.obtain(&organization(Provider::Salesforce), &jwt("no key"), now(), true).await.unwrap_err();
    assert!(matches!(unusable, CrmError::KeyUnusable));
}

#[tokio::test]
async fn credentials_of_another_crm_are_shown_to_nobody() {
    let (vendor, url) = Vendor::start(200, &json!({"access_token": "a", "token_type": "bearer"})).await;
    let crms = crms(&url, Some(client()));

    for own in Provider::ALL {
        for other in Provider::ALL.iter().filter(|other| *other != own) {
            let refused = crms.obtain(&organization(*other), &refresh_token(*own, Some(client())), now(), true).await;

            assert!(matches!(refused, Err(CrmError::CredentialsRefused)), "{own} at {other}");
        }
    }
    assert_eq!(vendor.seen().path, "");
}

/// Behind a My Domain that is away stands a login host.
#[test]
fn absent_my_domain_falls_back_to_login_host() {
    let away = || CrmError::NoConnection { host: "acme.my.salesforce.com".into(), why: ConnectFailure::Name };
    for (host, error, login) in [
        (Some("acme.my.salesforce.com"), CrmError::HostMoved, Some("login.salesforce.com")),
        (Some("acme.my.salesforce.com"), away(), Some("login.salesforce.com")),
        (Some("acme--dev.sandbox.my.salesforce.com"), CrmError::OrganizationNotFound, Some("test.salesforce.com")),
        (Some("acme.my.salesforce.com"), CrmError::GrantRefused, None),
        (Some("login.salesforce.com"), CrmError::HostMoved, None),
        (Some("acme.my.salesforce.mil"), CrmError::HostMoved, None),
        (None, away(), None),
    ] {
        assert_eq!(login_behind(Provider::Salesforce, host, &error), login, "{host:?} {error}");
    }
}

/// A refusal is final only if it says so.
#[tokio::test]
async fn refusal_is_final_only_if_it_says_so() {
    use Provider::{Pipedrive, Salesforce, Zendesk};
    let pipedrive = r#"{"success":false,"error":"invalid_grant","message":"Invalid grant: refresh_token is invalid"}"#;
    assert!(matches!(refused(Pipedrive, 400, pipedrive).await, CrmError::GrantRefused));
    for (code, is_client) in
        [("invalid_grant", false), ("inactive_user", false), ("inactive_org", false), ("invalid_client", true)]
    {
        let error = refused(Salesforce, 400, &json!({"error": code, "error_description": "words"}).to_string()).await;
        assert_eq!(matches!(error, CrmError::ClientRefused), is_client, "{code}");
        assert_eq!(error.retry(), crate::crm::RetryAdvice::Never);
    }
    let again = [
        (400, json!({"error": "unknown_error", "error_description": "retry your request"}).to_string()),
        (400, json!({"error": "invalid_grant", "error_description": "login rate exceeded"}).to_string()),
        (503, "<html>".to_owned()),
        (500, json!({"error": "invalid_grant"}).to_string()),
        (429, "slow down".to_owned()),
        (200, "<html>".to_owned()),
    ];
    for (status, body) in again {
        let error = refused(Salesforce, status, &body).await;
        assert_ne!(error.retry(), crate::crm::RetryAdvice::Never, "{status} {body}: {error}");
    }
    assert!(matches!(refused(Zendesk, 404, "<html>").await, CrmError::OrganizationNotFound));
    assert!(matches!(refused(Zendesk, 403, "<html>").await, CrmError::Unavailable(_)));
    assert!(matches!(refused(Zendesk, 403, "no").await, CrmError::Refused(403)));
    assert!(matches!(refused(Pipedrive, 302, "").await, CrmError::HostMoved));
}

/// Each row of the table of token refusals has its meaning.
#[tokio::test]
async fn tabled_token_refusals_have_their_meanings() {
    use Provider::{Pipedrive, Salesforce, Zendesk};
    for (provider, status, error, words, expected) in [
        (Salesforce, 400, "invalid_grant", "expired access/refresh token", "GrantRefused"),
        (Salesforce, 400, "invalid_grant", "ip restricted or invalid login hours", "LoginRefused(PlaceOrHour)"),
        (Salesforce, 400, "invalid_grant", "user hasn't approved this consumer", "LoginRefused(UserNotApproved)"),
        (Salesforce, 400, "invalid_grant", "user does not exist", "LoginRefused(UserUnknown)"),
        (Salesforce, 400, "invalid_grant", "invalid assertion", "LoginRefused(AssertionInvalid)"),
        (Salesforce, 400, "invalid_grant", "audience is invalid", "LoginRefused(AudienceWrong)"),
        (Salesforce, 400, "inactive_user", "user is inactive", "LoginRefused(UserInactive)"),
        (Salesforce, 400, "invalid_app_access", "user is not admin approved", "LoginRefused(UserNotApproved)"),
        (Salesforce, 400, "invalid_app_access", "no access", "LoginRefused(UserNotApproved)"),
        (Salesforce, 400, "app_not_found", "External client app is not installed in this org", "ClientRefused"),
        (Salesforce, 400, "inactive_org", "organization is inactive", "AccountClosed"),
        (Salesforce, 400, "invalid_client_id", "client identifier invalid", "ClientRefused"),
        (Salesforce, 400, "unknown_error", "retry your request", "Unavailable"),
        (Salesforce, 400, "invalid_grant", "login rate exceeded", "RateLimited"),
        (Salesforce, 400, "something_new", "words", "Refused"),
        (Zendesk, 401, "invalid_grant", "the refresh token is not valid", "GrantRefused"),
        (Zendesk, 401, "invalid_client", "unknown client", "ClientRefused"),
        (Zendesk, 401, "something_new", "words", "Refused"),
        (Zendesk, 503, "temporarily_unavailable", "", "Unavailable"),
        (Pipedrive, 400, "invalid_grant", "Invalid grant: refresh_token is invalid", "GrantRefused"),
        (Pipedrive, 400, "invalid_grant", "The app was uninstalled", "Uninstalled"),
        (Pipedrive, 403, "access_denied", "", "LoginRefused(Other)"),
    ] {
        let error = json!({"error": error, "error_description": words}).to_string();

        let meaning = format!("{:?}", refused(provider, status, &error).await);

        assert!(meaning.starts_with(expected), "{provider} {status} {error}: {meaning}");
    }
}

/// The deployment's own client is the operator's to mend.
#[tokio::test]
async fn deployments_client_is_operators_to_mend() {
    let (_, url) = Vendor::start(401, &json!({"error": "invalid_client"})).await;
    let ask = async |own| {
        let error = crms(&url, own)
            .obtain(&organization(Provider::Pipedrive), &refresh_token(Provider::Pipedrive, None), now(), true)
            .await
            .unwrap_err();
        (error.reason(), error.to_string())
    };

    let (reason, words) = ask(Some(client())).await;
    assert_eq!(reason, "OAUTH_CLIENT_REFUSED");
    assert!(words.contains("providers.pipedrive.client_id"), "{words}");
    let (reason, words) = ask(None).await;
    assert_eq!(reason, "OAUTH_NOT_CONFIGURED");
    assert!(words.contains("providers.pipedrive.client_id"), "{words}");
}

/// An API at another host is not used, and no secret is in what is said.
#[tokio::test]
async fn api_at_foreign_host_is_unused_secrets_unsaid() {
    for elsewhere in ["http://127.0.0.2", "http://evil.example.com", "http://u@127.0.0.1", "http://127.0.0.1/x", "x"] {
        let body = json!({"access_token": "canary-a", "token_type": "Bearer", "refresh_token": "canary-r",
            "instance_url": elsewhere});
        let (_, url) = Vendor::start(200, &body).await;

        let error = crms(&url, None)
            .obtain(
                &organization(Provider::Salesforce),
                &refresh_token(Provider::Salesforce, Some(client())),
                now(),
                true,
            )
            .await
            .unwrap_err();

        assert!(matches!(error, CrmError::HostUnknown(_)), "{elsewhere}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
