//! Custom fields of Zendesk's users that hold phone numbers: named by an administrator, looked for
//! in Zendesk before they are stored, copied, and pushed.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tonic::Code;

use super::{
    authorize::start,
    push::{active, hints, shown},
};
use crate::{
    histories::integrity::assert_holds,
    support::sync::ask_update,
    support::{TestApp, enable_request, field, zendesk_connection},
};

const BRYCE: &str = "+13108675309";
const SECOND: &str = "+13105550142";

fn options(keys: &[&str]) -> pb::IntegrationOptions {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    pb::IntegrationOptions { zendesk_phone_fields: Some(pb::ZendeskPhoneFields { keys }), ..Default::default() }
}

fn has_field(test: &TestApp, key: &str, kind: &str) {
    let field = json!({"user_field": {"key": key, "type": kind, "title": format!("The {key}")}});
    let (status, _) = test.zendesk.call("POST", "/api/v2/user_fields", Some(&field)).unwrap();
    assert_eq!(status, StatusCode::CREATED);
}

fn bryce(test: &TestApp) -> i64 {
    let fields = json!({"mobile_2": "(310) 555-0142", "notes": "+13105550199"});
    test.zendesk.create_user(&json!({"name": "Bryce Love", "phone": BRYCE, "user_fields": fields})).unwrap()
}

async fn is_known(test: &TestApp, account: &str, number: &str) -> bool {
    test.look_up(account, number).await.selected.is_some()
}

fn subscriptions(test: &TestApp) -> Vec<String> {
    let (_, list) = test.zendesk.call("GET", "/api/v2/webhooks", None).unwrap();
    let texts = list["webhooks"][0]["subscriptions"].as_array().unwrap().iter();
    texts.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Naming a field sweeps: its numbers name their users, and no longer when it is taken back.
#[tokio::test]
async fn numbers_of_a_named_field_come_and_go() {
    let test = TestApp::start().await;
    has_field(&test, "mobile_2", "text");
    bryce(&test);
    let (account, integration) = test.synced().await;
    assert!(!is_known(&test, &account, SECOND).await);

    let changed = ask_update(&test, &account, &integration, options(&["mobile_2", "mobile_2"]), None).await.unwrap();
    assert_eq!(changed.state(), pb::IntegrationState::InitialSync, "more is to be copied than is here");
    assert_eq!(changed.options.unwrap().zendesk_phone_fields.unwrap().keys, ["mobile_2"]);
    test.pass(TimeDelta::seconds(1));
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(test.last_run(&account, &integration).await.kind(), pb::SyncKind::Sweep);
    let found = test.look_up(&account, SECOND).await.selected.unwrap();
    assert_eq!(found.display_name, "Bryce Love");
    assert!(found.numbers.iter().any(|number| number.e164 == SECOND && number.label == "mobile_2"));
    assert!(!is_known(&test, &account, "+13105550199").await, "nobody has named that field");

    ask_update(&test, &account, &integration, options(&[]), None).await.unwrap();
    test.pass(TimeDelta::seconds(1));
    assert_eq!(test.sync_due().await, 1);
    assert!(!is_known(&test, &account, SECOND).await && is_known(&test, &account, BRYCE).await);
    assert_holds(&test).await;
}

/// A field that Zendesk does not have, or that holds no text, is refused with those that there are,
/// and nothing is changed; what the test of a connection tells is taken.
#[tokio::test]
async fn unknown_field_is_refused_with_those_there_are() {
    let test = TestApp::start().await;
    has_field(&test, "mobile_2", "text");
    has_field(&test, "vip", "checkbox");
    let (account, integration) = test.synced().await;

    let told = test
        .syncs()
        .test_connection(pb::TestConnectionRequest {
            account_id: account.clone(),
            provider: pb::Provider::Zendesk.into(),
            connection: Some(zendesk_connection("acme")),
            credentials: enable_request(&account, "acme").credentials,
        })
        .await
        .unwrap()
        .into_inner();
    let fields: Vec<_> = told.text_fields.iter().map(|field| (field.key.as_str(), field.title.as_str())).collect();
    assert_eq!(fields, [("mobile_2", "The mobile_2")]);

    let other = test.account().await;
    let mut enable = enable_request(&other, "acme");
    enable.options = Some(options(&["mobile_2", "mobile_3"]));
    let enabled = test.syncs().enable_sync(enable).await.unwrap_err();
    let updated = ask_update(&test, &account, &integration, options(&["vip"]), None).await.unwrap_err();

    for refused in [&enabled, &updated] {
        assert_eq!((refused.code(), field(refused).as_str()), (Code::InvalidArgument, "options.zendesk_phone_fields"));
        assert!(refused.message().contains("there are: mobile_2"), "{}", refused.message());
    }
    assert!(enabled.message().contains("mobile_3"), "{}", enabled.message());
    let known = test.integration(&account, &integration).await.options.unwrap();
    assert!(known.zendesk_phone_fields.unwrap().keys.is_empty());
    assert_eq!(test.db.number("select count(*) from integrations").await, 1);
}

/// A field that is switched off in Zendesk is told by the next run, which goes on.
#[tokio::test]
async fn field_that_is_gone_is_told_by_runs() {
    let test = TestApp::start().await;
    has_field(&test, "mobile_2", "text");
    let (account, integration) = test.synced().await;
    ask_update(&test, &account, &integration, options(&["mobile_2"]), None).await.unwrap();
    test.sync_due().await;
    assert!(test.last_run(&account, &integration).await.notices.is_empty());

    let off = json!({"user_field": {"active": false}});
    test.zendesk.call("PUT", "/api/v2/user_fields/1", Some(&off)).unwrap();
    test.pass(TimeDelta::minutes(30));
    assert_eq!(test.sync_due().await, 1);

    let run = test.last_run(&account, &integration).await;
    assert_eq!((run.state(), run.notices.len()), (pb::SyncRunState::Succeeded, 1));
    assert_eq!(run.notices[0].reason, "FIELD_HIDDEN");
}

/// The webhook wants events of custom fields where some hold numbers, and only there; to be told
/// otherwise is no loss of events.
#[tokio::test]
async fn changed_field_is_pushed_where_it_is_named() {
    let test = start().await;
    has_field(&test, "mobile_2", "text");
    let user = bryce(&test);
    let (account, integration) = test.synced().await;
    test.zendesk.update_user(user, &json!({"user_fields": {"mobile_2": "+13105550143"}})).unwrap();
    test.zendesk.deliver_due().await;
    assert!(hints(&test).await.is_empty());

    test.pass(TimeDelta::seconds(1));
    ask_update(&test, &account, &integration, options(&["mobile_2"]), None).await.unwrap();
    assert_eq!(test.sync_due().await, 1);
    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(0)));
    assert!(subscriptions(&test).contains(&"zen:event-type:user.custom_field_changed".to_owned()));

    test.zendesk.update_user(user, &json!({"user_fields": {"mobile_2": "+13105550144"}})).unwrap();
    test.zendesk.deliver_due().await;
    assert_eq!(hints(&test).await, [format!("user/{user}")]);

    test.pass(TimeDelta::seconds(1));
    ask_update(&test, &account, &integration, options(&[]), None).await.unwrap();
    test.sync_due().await;
    assert_eq!(shown(&test, &account, &integration).await, active(0));
    assert!(!subscriptions(&test).iter().any(|text| text.contains("custom_field")));
}
