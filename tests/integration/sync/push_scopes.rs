//! What tokens are asked for so that a CRM may be made to push its changes, and what is said where
//! they do not allow it.

use chrono::TimeDelta;
use contact_sync::{
    domain::provider,
    rpc::pb::{self, IntegrationState, PushState, Switch},
};
use crm_simulator::zendesk::{self, HookAccess, ZendeskConfig};
use reqwest::StatusCode;

use super::authorize::{authorize, begin, integrations, param, start, start_in, start_in_with, zendesk};
use crate::support::{TestApp, Worlds, enable_request, sync::ask_update};

/// Its client may not ask for more than reading.
async fn start_strict() -> TestApp {
    let strict: fn(&mut ZendeskConfig) = |config| config.hooks.access = HookAccess::ClientReads;
    start_in(Worlds { zendesk: Some(strict), ..Worlds::default() }).await
}

fn without_push(account: &str) -> pb::StartAuthorizationRequest {
    let options = pb::IntegrationOptions { push: Switch::Off.into(), ..Default::default() };
    pb::StartAuthorizationRequest { options: Some(options), ..zendesk(account) }
}

/// State, and the reason of the notice, of an account's only integration.
async fn shown(test: &TestApp, account: &str) -> (PushState, String) {
    let push = integrations(test, account).await.remove(0).push.unwrap();
    (push.state(), push.notice.map(|notice| notice.reason).unwrap_or_default())
}

fn hook_requests(test: &TestApp) -> usize {
    test.zendesk.requests().recent.iter().filter(|request| request.path.contains("/webhooks")).count()
}

/// Webhooks are asked for where changes are to be pushed, and nowhere else.
#[tokio::test]
async fn wider_scope_is_asked_where_push_is_wished() {
    let test = start().await;
    let account = test.account().await;

    for (request, scope) in [(zendesk(&account), "read webhooks:write"), (without_push(&account), "read")] {
        assert_eq!(param(&begin(&test, request).await, "scope").as_deref(), Some(scope));
    }
    let (status, page) = authorize(&test, zendesk(&account)).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    test.sync_due().await;
    assert_eq!(shown(&test, &account).await, (PushState::Active, String::new()));
}

/// The operator may have it left out; then that is told, and the CRM is not asked in vain.
#[tokio::test]
async fn authorization_without_the_scope_is_told_and_asks_nothing() {
    let test = start_in_with(Worlds::default(), |config| {
        config.providers.each[provider::Provider::Zendesk].push_scopes = String::new();
    });
    let test = test.await;
    let account = test.account().await;
    authorize(&test, zendesk(&account)).await;
    test.sync_due().await;

    assert_eq!(shown(&test, &account).await, (PushState::Unavailable, "PUSH_SCOPE_MISSING".to_owned()));
    let integration = integrations(&test, &account).await.remove(0);
    assert_eq!(integration.state(), IntegrationState::Active);
    assert!(integration.push.unwrap().notice.unwrap().message.contains("authorize again"));
    // Renewed, it allows no more than before.
    for _ in 0..5 {
        test.pass(TimeDelta::minutes(30));
        test.sync_due().await;
    }
    assert_eq!(shown(&test, &account).await, (PushState::Unavailable, "PUSH_SCOPE_MISSING".to_owned()));
    assert_eq!(hook_requests(&test), 0);
}

/// A client that may not ask for it: the administrator reads what to do, and goes on without.
#[tokio::test]
async fn client_that_may_not_ask_is_told_in_the_browser() {
    let test = start_strict().await;
    let account = test.account().await;

    let (status, page) = authorize(&test, zendesk(&account)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(page.contains("--push off") && page.contains("push_scopes"), "{page}");

    let (status, page) = authorize(&test, without_push(&account)).await;
    assert_eq!(status, StatusCode::OK, "{page}");
}

/// An integration that is older than the option says what to click, and has it once that is done.
#[tokio::test]
async fn older_integration_says_what_to_click() {
    let test = start().await;
    let account = test.account().await;
    authorize(&test, without_push(&account)).await;
    test.sync_due().await;
    assert_eq!(shown(&test, &account).await, (PushState::NotConfigured, String::new()), "it is switched off");
    test.db.execute("update integrations set options = options - 'push'").await;

    assert_eq!(shown(&test, &account).await, (PushState::NotConfigured, "PUSH_UNASKED".to_owned()));
    let integration = integrations(&test, &account).await.remove(0).id;
    let again = pb::StartAuthorizationRequest { integration_id: integration, connection: None, ..zendesk(&account) };
    test.pass(TimeDelta::seconds(1));
    assert_eq!(param(&begin(&test, again.clone()).await, "scope").as_deref(), Some("read webhooks:write"));
    authorize(&test, again).await;
    test.sync_due().await;
    assert_eq!(shown(&test, &account).await, (PushState::Active, String::new()));
}

fn by_client(account: &str) -> pb::EnableSyncRequest {
    let client = pb::ClientCredentials {
        client_id: zendesk::DEFAULT_CLIENT_ID.into(),
        client_secret: zendesk::DEFAULT_CLIENT_SECRET.into(),
    };
    let credentials = pb::Credentials { kind: Some(pb::credentials::Kind::ClientCredentials(client)) };
    pb::EnableSyncRequest { credentials: Some(credentials), ..enable_request(account, "acme") }
}

/// A client that is let in by itself asks for it, too, and goes on without where it may not.
#[tokio::test]
async fn client_credentials_go_on_without_the_scope() {
    for (test, push) in [
        (start().await, (PushState::Active, String::new())),
        (start_strict().await, (PushState::Unavailable, "PUSH_SCOPE_MISSING".to_owned())),
    ] {
        let account = test.account().await;
        let request = by_client(&account);
        test.syncs().enable_sync(request).await.unwrap();
        test.sync_due().await;

        assert_eq!(integrations(&test, &account).await[0].state(), IntegrationState::Active);
        assert_eq!(shown(&test, &account).await, push);
    }
}

/// Where nothing is to be pushed it asks for reading alone; once it is, for more, and at once.
#[tokio::test]
async fn client_credentials_ask_for_the_scope_where_push_is_wished() {
    let test = start().await;
    let account = test.account().await;
    let options = |push: Switch| pb::IntegrationOptions { push: push.into(), ..Default::default() };
    let request = pb::EnableSyncRequest { options: Some(options(Switch::Off)), ..by_client(&account) };
    let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
    test.sync_due().await;
    let strict = start_strict().await;
    let other = strict.account().await;
    let request = pb::EnableSyncRequest { options: Some(options(Switch::Off)), ..by_client(&other) };
    strict.syncs().enable_sync(request).await.unwrap();
    assert_eq!(token_requests(&strict), 1, "what it may not have is not asked for");

    test.pass(TimeDelta::seconds(1));
    ask_update(&test, &account, &integration, options(Switch::On), None).await.unwrap();
    test.sync_due().await;

    assert_eq!(shown(&test, &account).await, (PushState::Active, String::new()));
}

fn token_requests(test: &TestApp) -> usize {
    test.zendesk.requests().recent.iter().filter(|request| request.path.contains("/oauth/tokens")).count()
}
