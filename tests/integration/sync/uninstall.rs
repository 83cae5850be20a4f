//! A company removes the app in its CRM, and the CRM says so: what opened it is forgotten, what was
//! copied stays, and nobody else can do that.

use chrono::TimeDelta;
use contact_sync::{
    rpc::pb::{self, IntegrationState, Provider},
    telemetry::metrics::MetricsPage,
};
use crm_simulator::{gate::GateAt, pipedrive, push::HookCall};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::authorize::{authorize, browser, integrations, start};
use crate::{
    api::audit::told,
    histories::integrity::assert_holds,
    support::sync::{Beside, arrived, column},
    support::{TestApp, pipedrive_connection},
};

const BRYCE: &str = "+13108675309";

fn request(account: &str) -> pb::StartAuthorizationRequest {
    pb::StartAuthorizationRequest {
        account_id: account.into(),
        provider: Provider::Pipedrive.into(),
        connection: Some(pipedrive_connection("acme")),
        ..Default::default()
    }
}

/// An account whose administrator has authorized the app, and whose first copy is made.
async fn installed(test: &TestApp) -> (String, String) {
    let account = test.account().await;
    let (status, page) = authorize(test, request(&account)).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let integration = integrations(test, &account).await.remove(0).id;
    assert_eq!(test.sync_due().await, 1);
    (account, integration)
}

fn create_bryce(test: &TestApp) {
    test.pipedrive.create_person(&json!({"name": "Bryce Love", "phones": [{"value": BRYCE}]})).unwrap();
}

/// Sends it as Pipedrive does: status and body.
async fn tell(call: &HookCall) -> (StatusCode, String) {
    let mut request = browser().request(Method::from_bytes(call.method.as_bytes()).unwrap(), &call.url);
    for (name, value) in &call.headers {
        request = request.header(*name, value);
    }
    let answer = request.body(call.body.clone()).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

async fn is_untouched(test: &TestApp, account: &str, integration: &str) {
    let shown = test.integration(account, integration).await;
    assert_eq!((shown.state(), shown.has_credentials), (IntegrationState::Active, true), "{}", shown.state_detail);
}

/// An uninstall forgets what opened the CRM, says why, and keeps what was copied; a new
/// authorization goes on from there.
#[tokio::test]
async fn uninstall_drops_tokens_and_keeps_contacts() {
    let test = start().await;
    let page = MetricsPage::begin();
    create_bryce(&test);
    let (account, integration) = installed(&test).await;
    assert_eq!(column(&test, &integration, "company_id").await, pipedrive::COMPANY_ID.to_string());
    let checkpoint = column(&test, &integration, "checkpoint").await;
    let contact = test.look_up(&account, BRYCE).await.selected.unwrap().id;

    let channels = "select count(*) from push_channels";
    assert_eq!(test.db.number(channels).await, 1);
    let call = test.pipedrive.uninstall_app().unwrap();
    assert_eq!(tell(&call).await, (StatusCode::NO_CONTENT, String::new()));
    assert_eq!(test.db.number(channels).await, 0);

    let shown = test.integration(&account, &integration).await;
    assert_eq!((shown.state(), shown.has_credentials), (IntegrationState::AuthFailed, false));
    assert_eq!(shown.hold.unwrap().reason, "APP_UNINSTALLED");
    for secret in ["credentials", "access"] {
        assert_eq!(column(&test, &integration, secret).await, "", "{secret}");
    }
    assert_eq!(column(&test, &integration, "checkpoint").await, checkpoint);
    let event = test.audit(&account).await.remove(0);
    assert_eq!(told(&event), ("UninstallCallback".into(), pb::AuditResult::Done, String::new()));
    assert_eq!(
        (&*event.subject, &*event.integration_id, event.fields),
        ("", &*integration, vec!["credentials".into()])
    );
    assert!(page.text().contains(r#"contact_sync_uninstalls_total{provider="PIPEDRIVE",outcome="done"} 1"#));
    test.pass(TimeDelta::days(1));
    assert_eq!(test.sync_due().await, 0);
    assert_eq!(test.look_up(&account, BRYCE).await.selected.unwrap().id, contact);
    // Whoever tries all the same is told the same.
    test.trigger(&account, &integration).await;
    let shown = test.integration(&account, &integration).await;
    assert_eq!((shown.state(), shown.hold.unwrap().reason.as_str()), (IntegrationState::AuthFailed, "APP_UNINSTALLED"));
    // Said again, there is nothing to forget.
    let events = test.audit(&account).await.len();
    assert_eq!(tell(&call).await.0, StatusCode::NO_CONTENT);
    assert_eq!(test.audit(&account).await.len(), events);

    assert_eq!(authorize(&test, request(&account)).await.0, StatusCode::OK);
    assert_eq!(test.sync_due().await, 1);
    is_untouched(&test, &account, &integration).await;
    assert_eq!(test.look_up(&account, BRYCE).await.selected.unwrap().id, contact);
    assert_holds(&test).await;
}

/// Whoever does not show the app's own id and secret changes nothing and learns nothing.
#[tokio::test]
async fn wrong_client_is_refused_without_words() {
    let test = start().await;
    let (account, integration) = installed(&test).await;
    let url = format!("{}/oauth/callback", test.config.http.public_url.as_ref().unwrap());
    let body = json!({"client_id": pipedrive::DEFAULT_CLIENT_ID, "company_id": pipedrive::COMPANY_ID}).to_string();
    let call = |authorization: &str, body: &str| HookCall {
        method: "DELETE",
        url: url.clone(),
        headers: vec![("authorization", authorization.to_owned())],
        body: body.to_owned(),
    };

    for authorization in [
        "",
        "Basic",
        "Basic !",
        "Basic Y2xpZW50Og==",
        "Basic Y2xpZW50OnNlY3JldHM=",
        "Bearer Y2xpZW50OnNlY3JldA==",
        "client:secret",
    ] {
        let told = tell(&call(authorization, &body)).await;
        assert_eq!(told, (StatusCode::UNAUTHORIZED, String::new()), "{authorization}");
    }
    // From the CRM, and no word of a company that is known.
    let own = "basic Y2xpZW50OnNlY3JldA==";
    let another = json!({"client_id": pipedrive::DEFAULT_CLIENT_ID, "company_id": 8}).to_string();
    for body in ["", "{", "[]", r#"{"client_id":"other","company_id":7000001}"#, &another] {
        assert_eq!(tell(&call(own, body)).await, (StatusCode::NO_CONTENT, String::new()), "{body}");
    }
    let (status, words) = tell(&call(own, &"x".repeat(16 * 1024 + 1))).await;
    assert_eq!((status, words.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, ""));
    is_untouched(&test, &account, &integration).await;

    assert_eq!(tell(&call(own, &body)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(test.integration(&account, &integration).await.state(), IntegrationState::AuthFailed);
}

/// An uninstall that is told after a new authorization was of the one before.
#[tokio::test]
async fn late_uninstall_after_new_authorization_changes_nothing() {
    let test = start().await;
    let (account, integration) = installed(&test).await;
    let call = test.pipedrive.uninstall_app().unwrap();
    test.pass(TimeDelta::seconds(10));
    assert_eq!(authorize(&test, request(&account)).await.0, StatusCode::OK);
    test.sync_due().await;

    assert_eq!(tell(&call).await.0, StatusCode::NO_CONTENT);
    is_untouched(&test, &account, &integration).await;

    // One that does not say when it was is believed.
    let mut body: Value = serde_json::from_str(&call.body).unwrap();
    body.as_object_mut().unwrap().remove("timestamp");
    assert_eq!(tell(&HookCall { body: body.to_string(), ..call }).await.0, StatusCode::NO_CONTENT);
    assert_eq!(test.integration(&account, &integration).await.state(), IntegrationState::AuthFailed);
}

/// A token of a person, and another client's authorization, are not the app's.
#[tokio::test]
async fn integrations_with_their_own_token_go_on() {
    let test = start().await;
    let (account, integration) = installed(&test).await;
    let other = test.account().await;
    let token =
        pb::Credentials { kind: Some(pb::credentials::Kind::PipedriveApiToken(pipedrive::DEFAULT_API_TOKEN.into())) };
    let enable = pb::EnableSyncRequest {
        account_id: other.clone(),
        provider: Provider::Pipedrive.into(),
        connection: Some(pipedrive_connection("acme")),
        credentials: Some(token),
        ..Default::default()
    };
    let own = test.syncs().enable_sync(enable).await.unwrap().into_inner().integration.unwrap().id;
    test.sync_due().await;

    tell(&test.pipedrive.uninstall_app().unwrap()).await;

    assert_eq!(test.integration(&account, &integration).await.state(), IntegrationState::AuthFailed);
    is_untouched(&test, &other, &own).await;
}

/// One company may be linked by several accounts; each loses what it had.
#[tokio::test]
async fn company_of_two_accounts_is_found_in_both() {
    let test = start().await;
    let (first, of_first) = installed(&test).await;
    let (second, of_second) = installed(&test).await;

    tell(&test.pipedrive.uninstall_app().unwrap()).await;

    for (account, integration) in [(first, of_first), (second, of_second)] {
        assert_eq!(test.integration(&account, &integration).await.state(), IntegrationState::AuthFailed);
        assert_eq!(test.audit(&account).await[0].method, "UninstallCallback");
    }
}

/// A run under way writes nothing more, and says why it ended.
#[tokio::test]
async fn uninstall_ends_the_run_under_way() {
    let test = start().await;
    let (account, integration) = installed(&test).await;
    create_bryce(&test);
    test.pass(TimeDelta::minutes(30));
    let gate = test.pipedrive.faults().gate("/api/v2/persons", 0, GateAt::Response).unwrap();
    let running = Beside::start(&test.app);
    arrived(&gate, 1).await;

    tell(&test.pipedrive.uninstall_app().unwrap()).await;
    drop(gate);
    running.ended().await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!((run.state(), run.error.unwrap().reason.as_str()), (pb::SyncRunState::Cancelled, "APP_UNINSTALLED"));
    assert_eq!(test.integration(&account, &integration).await.state(), IntegrationState::AuthFailed);
    assert!(test.look_up(&account, BRYCE).await.selected.is_none());
}

/// Without its database the service asks to be told again, and then does it.
#[tokio::test]
async fn uninstall_without_database_is_asked_for_again() {
    let test = start().await;
    let (account, integration) = installed(&test).await;
    let call = test.pipedrive.uninstall_app().unwrap();
    test.db.execute("alter table integrations rename to away").await;
    assert_eq!(tell(&call).await, (StatusCode::SERVICE_UNAVAILABLE, String::new()));
    test.db.execute("alter table away rename to integrations").await;

    assert_eq!(tell(&call).await.0, StatusCode::NO_CONTENT);
    assert_eq!(test.integration(&account, &integration).await.state(), IntegrationState::AuthFailed);
}
