//! An administrator authorizes access in the browser: from the CRM's page of consent back to ours,
//! and what is refused on the way.

use chrono::TimeDelta;
use contact_sync::{
    config::Config,
    domain::{clock::Clock, provider},
    rpc,
    rpc::pb::{self, IntegrationState, Provider},
};
use crm_simulator::{pipedrive, salesforce};
use reqwest::{Client, StatusCode, redirect::Policy};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::Code;

use crate::{
    api::audit::told,
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{ask_disable, column, eventually},
    support::{TestApp, Worlds, field, only, reason, with_address, zendesk_connection},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);

/// The service with its HTTP listener.
pub async fn start() -> TestApp {
    start_in(Worlds::default()).await
}

/// The same, with CRMs that are like this.
pub async fn start_in(worlds: Worlds) -> TestApp {
    start_in_with(worlds, |_| {}).await
}

/// And with these settings.
pub async fn start_in_with(worlds: Worlds, change: impl FnOnce(&mut Config)) -> TestApp {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let address = listener.local_addr().unwrap();
    let listening = |config: &mut Config| {
        (config.http.public_url, config.http.listen) = (Some(url), Some(address));
        change(config);
    };
    let test = TestApp::start_in_with(worlds, listening).await;
    test.app.start_http(listener, &test.lifecycle);
    test
}

pub fn zendesk(account: &str) -> pb::StartAuthorizationRequest {
    pb::StartAuthorizationRequest {
        account_id: account.into(),
        provider: Provider::Zendesk.into(),
        connection: Some(zendesk_connection("acme")),
        ..Default::default()
    }
}

fn again(account: &str, integration: &str) -> pb::StartAuthorizationRequest {
    pb::StartAuthorizationRequest { integration_id: integration.into(), connection: None, ..zendesk(account) }
}

pub async fn begin(test: &TestApp, request: pb::StartAuthorizationRequest) -> String {
    test.syncs().start_authorization(request).await.unwrap().into_inner().authorize_url
}

pub fn browser() -> Client {
    #[expect(clippy::disallowed_methods, reason = "an administrator's browser")]
    Client::builder().redirect(Policy::none()).build().unwrap()
}

/// The administrator consents (or what the address says); where the CRM sends the browser then.
pub async fn consent(authorize_url: &str) -> String {
    let answer = browser().get(authorize_url).send().await.unwrap();
    assert!(answer.status().is_redirection(), "{}", answer.text().await.unwrap());
    answer.headers()["location"].to_str().unwrap().to_owned()
}

async fn come_back(callback: &str) -> (StatusCode, String) {
    let answer = browser().get(callback).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

pub async fn authorize(test: &TestApp, request: pb::StartAuthorizationRequest) -> (StatusCode, String) {
    come_back(&consent(&begin(test, request).await).await).await
}

pub async fn integrations(test: &TestApp, account: &str) -> Vec<pb::Integration> {
    let request = pb::ListIntegrationsRequest { account_id: account.into(), ..Default::default() };
    test.syncs().list_integrations(request).await.unwrap().into_inner().integrations
}

pub fn param(url: &str, name: &str) -> Option<String> {
    let query = reqwest::Url::parse(url).unwrap();
    query.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn open(test: &TestApp) -> i64 {
    test.db.number("select count(*) from authorizations").await
}

/// An administrator who comes back has linked the account.
#[tokio::test]
async fn returning_administrator_has_linked_account() {
    let test = start().await;
    test.zendesk.generate_people(5, 1).unwrap();
    let account = test.account().await;

    let started = test.syncs().start_authorization(zendesk(&account)).await.unwrap().into_inner();
    let ends = started.expire_time.unwrap().seconds;
    assert_eq!(ends, (test.clock.now() + TimeDelta::minutes(10)).timestamp());
    assert_eq!(param(&started.authorize_url, "code_challenge_method").as_deref(), Some("S256"));
    assert_eq!(param(&started.authorize_url, "scope").as_deref(), Some("read webhooks:write"));
    let callback = consent(&started.authorize_url).await;
    let answer = browser().get(&callback).send().await.unwrap();

    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers().clone();
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let page = answer.text().await.unwrap();
    assert!(page.contains("Zendesk acme is connected"), "{page}");
    for secret in ["code", "state"].map(|name| param(&callback, name).unwrap()) {
        assert!(!page.contains(&secret), "{page}");
    }
    assert!(!page.contains("<script"), "{page}");
    let linked = integrations(&test, &account).await.remove(0);
    assert!(linked.has_credentials && linked.enabled);
    test.sync_due().await;
    assert_eq!(test.integration(&account, &linked.id).await.state(), IntegrationState::Active);
    assert_is_a_true_copy(&test, &linked.id).await;
    assert_eq!(open(&test).await, 0);
    test.pass(TimeDelta::hours(3));
    test.sync_due().await;
    assert_eq!(
        test.integration(&account, &linked.id).await.state(),
        IntegrationState::Active,
        "its tokens are renewed"
    );
    assert_holds(&test).await;
}

#[tokio::test]
async fn whichever_organisation_the_administrator_chooses_is_linked() {
    let test = start().await;
    test.salesforce.create("Contact", &json!({"LastName": "Ann", "Phone": "+13108675301"})).unwrap();
    test.pipedrive.create_person(&json!({"name": "Bob", "phones": [{"value": "+13108675302"}]})).unwrap();
    let account = test.account().await;

    for (provider, organization) in [
        (Provider::Salesforce, salesforce::organization_id()),
        (Provider::Pipedrive, pipedrive::COMPANY_DOMAIN.to_owned()),
    ] {
        let request = pb::StartAuthorizationRequest {
            account_id: account.clone(),
            provider: provider.into(),
            ..Default::default()
        };
        let (status, page) = authorize(&test, request).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        let linked = integrations(&test, &account).await.pop().unwrap();
        assert_eq!((linked.provider(), linked.organization), (provider, organization));
        test.sync_due().await;
        let shown = test.integration(&account, &linked.id).await;
        assert_eq!(shown.state(), IntegrationState::Active, "{}", shown.state_detail);
        test.pass(TimeDelta::seconds(1));
    }

    for (number, name) in [("+13108675301", "Ann"), ("+13108675302", "Bob")] {
        assert_eq!(test.look_up(&account, number).await.selected.unwrap().display_name, name);
    }
    assert_holds(&test).await;
}

/// An authorization that was taken back is given again, and contacts are kept.
#[tokio::test]
async fn authorization_given_again_keeps_contacts() {
    let test = start().await;
    test.zendesk.generate_people(5, 1).unwrap();
    let account = test.account().await;
    authorize(&test, zendesk(&account)).await;
    test.sync_due().await;
    let integration = integrations(&test, &account).await.remove(0).id;
    let contacts = test.db.number("select count(*) from contacts where deleted_at is null").await;
    test.zendesk.revoke_all_tokens();
    test.pass(PERIOD);
    test.sync_due().await;
    test.second_look().await;
    assert_eq!(test.integration(&account, &integration).await.state(), IntegrationState::AuthFailed);

    for request in [again(&account, &integration), zendesk(&account)] {
        let (status, page) = authorize(&test, request).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert_eq!(test.integration(&account, &integration).await.state(), IntegrationState::Active);
        assert_eq!(test.sync_due().await, 1, "a run starts at once");
        test.pass(TimeDelta::seconds(1));
    }

    assert_eq!(integrations(&test, &account).await.len(), 1);
    assert_eq!(test.db.number("select count(*) from contacts where deleted_at is null").await, contacts);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A secret works once, for ten minutes, and for its own account.
#[tokio::test]
async fn secret_works_once_briefly_for_own_account() {
    let test = start().await;
    let (account, other) = (test.account().await, test.account().await);
    let used = consent(&begin(&test, zendesk(&account)).await).await;
    assert_eq!(come_back(&used).await.0, StatusCode::OK);

    let callback = consent(&begin(&test, zendesk(&other)).await).await;
    let state = param(&callback, "state").unwrap();
    let (id, secret) = state.split_once('.').unwrap();
    let foreign = format!("{}.{secret}", account.replace('-', ""));
    let tampered = format!("{id}.A{}", &secret[1..]);
    let cut = format!("{id}.{}", &secret[1..]);
    for state in [foreign, tampered, cut, id.to_owned(), "x".repeat(5_000), "..".to_owned(), String::new()] {
        let changed = callback.replace(&param(&callback, "state").unwrap(), &state);
        let (status, page) = come_back(&changed).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(page.contains("not known"), "{page}");
    }
    let (status, page) = come_back(&used).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(page.contains("used already"), "{page}");

    test.pass(TimeDelta::minutes(10));
    let (status, page) = come_back(&callback).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(page.contains("longer than ten minutes"), "{page}");
    assert!(integrations(&test, &other).await.is_empty());
    assert_eq!(integrations(&test, &account).await.len(), 1);
    assert_eq!(open(&test).await, 0);
}

#[tokio::test]
async fn an_administrator_who_says_no_changes_nothing() {
    let test = start().await;
    let account = test.account().await;
    let denied = format!("{}&login_hint=deny", begin(&test, zendesk(&account)).await);

    let (status, page) = come_back(&consent(&denied).await).await;

    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(page.contains("was not allowed") && page.contains("nothing was changed"), "{page}");
    assert!(integrations(&test, &account).await.is_empty());
    assert_eq!(open(&test).await, 0, "the secret is spent");
}

/// A code that is not the CRM's, or not this browser's, brings nothing.
#[tokio::test]
async fn foreign_code_brings_nothing() {
    let test = start().await;
    let account = test.account().await;
    let first = consent(&begin(&test, zendesk(&account)).await).await;
    let second = consent(&begin(&test, zendesk(&account)).await).await;
    let (first_code, second_code) = (param(&first, "code").unwrap(), param(&second, "code").unwrap());

    // A code that was put into another's way back: PKCE binds it to its own beginning.
    let (status, page) = come_back(&second.replace(&second_code, &first_code)).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(page.contains("ended this authorization"), "{page}");
    for callback in [first.replace(&first_code, ""), first.replace("code=", "kode=")] {
        assert_eq!(come_back(&callback).await.0, StatusCode::BAD_REQUEST);
    }

    assert!(integrations(&test, &account).await.is_empty());
}

/// Another organisation than the one to be authorized is refused.
#[tokio::test]
async fn organization_other_than_authorized_is_refused() {
    let test = start().await;
    let account = test.account().await;
    let integration = test.enable_off(&account, Provider::Pipedrive, "elsewhere").await;
    let request =
        pb::StartAuthorizationRequest { provider: Provider::Pipedrive.into(), ..again(&account, &integration) };
    let before = column(&test, &integration, "to_jsonb(integrations)").await;

    let authorize_url = begin(&test, request).await;
    assert_eq!(param(&authorize_url, "code_challenge"), None, "Pipedrive documents no PKCE");
    let (status, page) = come_back(&consent(&authorize_url).await).await;

    assert_eq!(status, StatusCode::CONFLICT);
    assert!(page.contains("Another organisation"), "{page}");
    assert_eq!(column(&test, &integration, "to_jsonb(integrations)").await, before);
    let wrong = test.syncs().start_authorization(again(&account, &integration)).await.unwrap_err();
    assert_eq!((wrong.code(), field(&wrong)), (Code::InvalidArgument, "provider".to_owned()));
}

#[tokio::test]
async fn what_the_deployment_lacks_is_named() {
    let without = async |change: fn(&mut Config)| {
        let test = TestApp::start_with(change).await;
        let account = test.account().await;
        let error = test.syncs().start_authorization(zendesk(&account)).await.unwrap_err();
        assert_eq!((error.code(), reason(&error)), (Code::FailedPrecondition, "OAUTH_NOT_CONFIGURED".to_owned()));
        error.message().to_owned()
    };

    assert!(without(|_| {}).await.contains("http.public_url"));
    let client = without(|config| {
        with_address(config);
        config.providers.each[provider::Provider::Zendesk].client_id = None;
    });
    let client = client.await;
    assert!(client.contains("providers.zendesk.client_id"), "{client}");
}

/// Only what is there, and one's own, can be authorized.
#[tokio::test]
async fn only_own_existing_links_can_be_authorized() {
    let test = start().await;
    let (account, other) = (test.account().await, test.account().await);
    let integration = test.enable(&other, "acme").await;
    let refused = async |request| test.syncs().start_authorization(request).await.unwrap_err();

    assert_eq!(reason(&refused(again(&account, &integration)).await), "INTEGRATION_NOT_FOUND");
    ask_disable(&test, &other, &integration, pb::CopiedData::Keep).await.unwrap();
    assert_eq!(reason(&refused(again(&other, &integration)).await), "INTEGRATION_DISABLED");
    let token = test.token(&only(&other), &[rpc::methods::TokenScope::Sync]);
    let mut stranger = pb::sync_service_client::SyncServiceClient::new(test.client_with(&token));
    assert_eq!(stranger.start_authorization(zendesk(&account)).await.unwrap_err().code(), Code::NotFound);

    // Without naming it, the disabled link is taken up again.
    assert_eq!(authorize(&test, zendesk(&other)).await.0, StatusCode::OK);
    assert!(test.integration(&other, &integration).await.enabled);
}

/// Whoever began an authorization is who has linked the account, or was refused.
#[tokio::test]
async fn audit_names_who_began_authorization() {
    let test = start().await;
    let account = test.account().await;
    let token = test.token_of("desk", &only(&account), &[rpc::methods::TokenScope::Sync]);
    let mut desk = pb::sync_service_client::SyncServiceClient::new(test.client_with(&token));
    let mut begin = async || {
        let started = desk.start_authorization(zendesk(&account)).await.unwrap().into_inner();
        consent(&started.authorize_url).await
    };

    let callback = begin().await;
    assert_eq!(come_back(&callback).await.0, StatusCode::OK);
    let events = test.audit(&account).await;
    assert_eq!(told(&events[0]), ("AuthorizationCallback".into(), pb::AuditResult::Done, String::new()));
    assert_eq!(told(&events[1]), ("StartAuthorization".into(), pb::AuditResult::Done, String::new()));
    assert_eq!((&*events[0].subject, &*events[1].subject), ("desk", "desk"));
    assert_eq!(events[0].request_id, events[1].request_id);
    assert_eq!(events[0].integration_id, integrations(&test, &account).await[0].id);
    assert_eq!(events[0].fields, ["credentials"]);

    let refused = begin().await.replace("code=", "error=access_denied&code=");
    assert_eq!(come_back(&refused).await.0, StatusCode::BAD_REQUEST);
    let late = begin().await;
    test.pass(TimeDelta::minutes(11));
    assert_eq!(come_back(&late).await.0, StatusCode::BAD_REQUEST);
    // The link is used up, and nobody knows whose it was.
    assert_eq!(come_back(&callback).await.0, StatusCode::BAD_REQUEST);

    eventually("the refusals", async || test.audit(&account).await.len() == events.len() + 4).await;
    let events = test.audit(&account).await;
    let refusals = events.iter().filter(|event| event.result() == pb::AuditResult::Refused);
    let reasons: Vec<(&str, &str)> = refusals.map(|event| (&*event.subject, &*event.reason)).collect();
    assert_eq!(reasons, [("desk", "AUTHORIZATION_EXPIRED"), ("desk", "AUTHORIZATION_REFUSED")]);
}

/// Those under way are bounded, and forgotten when they are over.
#[tokio::test]
async fn open_authorizations_are_bounded_and_forgotten() {
    let test = start().await;
    let account = test.account().await;
    for _ in 0..100 {
        begin(&test, zendesk(&account)).await;
    }

    let refused = test.syncs().start_authorization(zendesk(&account)).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_AUTHORIZATIONS");
    test.pass(TimeDelta::minutes(11));
    begin(&test, zendesk(&account)).await;
    assert_eq!(test.forget().await.unwrap(), 100);
    assert_eq!(open(&test).await, 1);
}

/// Nothing of an authorization under way is readable in the database.
#[tokio::test]
async fn open_authorization_is_unreadable_in_database() {
    let test = start().await;
    let account = test.account().await;
    let url = begin(&test, zendesk(&account)).await;
    let state = param(&url, "state").unwrap();
    let secret = state.split_once('.').unwrap().1;

    let sql = format!(
        "select count(*) from authorizations t where t::text like '%{secret}%' or t::text ilike '%' || encode('{secret}', 'hex') || '%'"
    );

    assert_eq!((open(&test).await, test.db.number(&sql).await), (1, 0));
}

/// The listener answers only what it knows, and bounds what it reads.
#[tokio::test]
async fn listener_answers_known_and_bounds_reading() {
    let test = start().await;
    let url = test.config.http.public_url.clone().unwrap();
    let get = async |path: &str| browser().get(format!("{url}{path}")).send().await.unwrap().status();

    assert_eq!(get("/healthz").await, StatusCode::OK);
    assert_eq!(get("/oauth/callback").await, StatusCode::BAD_REQUEST);
    assert_eq!(get("/oauth/callback?state=a&state=b&code=c").await, StatusCode::BAD_REQUEST);
    assert_eq!(get("/oauth/callback/").await, StatusCode::NOT_FOUND);
    assert_eq!(get("/").await, StatusCode::NOT_FOUND);
    let post = browser().post(format!("{url}/oauth/callback")).body("x").send().await.unwrap();
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(20_000));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_without_a_request_keep_nobody_from_asking() {
    let test = start().await;
    let url = test.config.http.public_url.clone().unwrap();
    let address = url.strip_prefix("http://").unwrap();
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        silent.push(stream);
    }

    let asking = browser().get(format!("{url}/healthz")).timeout(std::time::Duration::from_secs(9)).send();

    assert_eq!(asking.await.unwrap().status(), StatusCode::OK);
}
