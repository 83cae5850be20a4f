//! Events that do not come are noticed: what polls bring is compared with what events announced.

use chrono::TimeDelta;
use contact_sync::{rpc::pb::PushState, telemetry::metrics::MetricsPage};
use crm_simulator::push::DeliveryPlan;
use serde_json::json;

use super::{
    authorize::start,
    push::{active, hints, shown},
};
use crate::support::{TestApp, hints::drain};

/// An account whose Zendesk is copied and pushes; a change is expected to be announced by now.
async fn watched() -> (TestApp, String, String) {
    let test = start().await;
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::minutes(2));
    (test, account, integration)
}

fn create(test: &TestApp, users: usize) {
    for n in 0..users {
        test.zendesk.create_user(&json!({"name": format!("User {n}")})).unwrap();
    }
}

fn lose(test: &TestApp, loss: f64) {
    test.zendesk.plan_deliveries(DeliveryPlan { loss, ..DeliveryPlan::default() });
}

async fn poll(test: &TestApp) {
    test.pass(TimeDelta::minutes(30));
    assert_eq!(test.sync_due().await, 1);
}

async fn hook_id(test: &TestApp) -> String {
    sqlx::query_scalar("select hook_id from push_channels").fetch_one(&test.db.pool).await.unwrap()
}

/// A hook that says nothing is told, made anew, and trusted again.
#[tokio::test]
async fn silent_hook_is_degraded_and_made_anew() {
    let (test, account, integration) = watched().await;
    let hook = hook_id(&test).await;
    lose(&test, 1.0);
    create(&test, 20);
    poll(&test).await;

    let missed = (PushState::Degraded, "EVENTS_MISSED".to_owned(), 20);
    assert_eq!(shown(&test, &account, &integration).await, missed);
    test.app.report_figures().await;
    let page = MetricsPage::begin().text();
    assert!(page.contains(r#"contact_sync_events_missed_total{provider="ZENDESK"} 20"#), "{page}");
    assert!(page.contains(r#"contact_sync_push_channels{provider="ZENDESK",state="DEGRADED"} 1"#), "{page}");

    poll(&test).await;
    assert_eq!((shown(&test, &account, &integration).await, test.zendesk.hook_count()), (active(20), 1));
    assert_ne!(hook_id(&test).await, hook);

    // It stays silent: told, and left in peace for a day.
    let hook = hook_id(&test).await;
    test.pass(TimeDelta::minutes(2));
    create(&test, 20);
    poll(&test).await;
    poll(&test).await;
    assert_eq!(shown(&test, &account, &integration).await, (PushState::Degraded, "EVENTS_MISSED".to_owned(), 40));
    assert_eq!(hook_id(&test).await, hook);
}

/// Some changes fire no event: a few are borne, and counted.
#[tokio::test]
async fn few_misses_are_counted_and_borne() {
    let (test, account, integration) = watched().await;
    lose(&test, 1.0);
    create(&test, 19);
    poll(&test).await;

    assert_eq!(shown(&test, &account, &integration).await, active(19));
}

/// What an event announced is no loss, whether it was looked at before the poll or not.
#[tokio::test]
async fn announced_changes_are_no_losses() {
    let (test, account, integration) = watched().await;
    create(&test, 20);
    test.zendesk.deliver_due().await;
    drain(&test).await;
    assert_eq!(test.db.number("select announced from push_channels").await, 20);
    create(&test, 20);
    test.zendesk.deliver_due().await;
    assert_eq!(hints(&test).await.len(), 20);
    poll(&test).await;

    assert_eq!(shown(&test, &account, &integration).await, active(0));
    // One in forty is within what is borne.
    lose(&test, 1.0);
    test.pass(TimeDelta::minutes(2));
    create(&test, 1);
    poll(&test).await;
    assert_eq!(shown(&test, &account, &integration).await, active(1));
}

/// A storm's poll answers for the events that it was begun for.
#[tokio::test]
async fn changes_of_a_storm_are_no_losses() {
    let (test, account, integration) = watched().await;
    create(&test, 60);
    test.zendesk.deliver_due().await;
    drain(&test).await;
    assert_eq!(hints(&test).await, ["/"], "they are one poll now");
    test.pass(TimeDelta::minutes(2));
    drain(&test).await;
    assert!(hints(&test).await.is_empty());
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(test.db.number("select count(*) from contacts").await, 60);
    assert_eq!(shown(&test, &account, &integration).await, active(0));
}

/// Of what changed before the hook was there, or just now, no event is missed.
#[tokio::test]
async fn changes_before_the_hook_are_no_losses() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    lose(&test, 1.0);
    create(&test, 30);
    poll(&test).await;

    assert_eq!(shown(&test, &account, &integration).await, active(0));
}
