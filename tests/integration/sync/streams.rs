//! Salesforce's changes come as a stream, over gRPC and TLS: one process follows, what comes
//! becomes hints, and whatever goes wrong, nothing that was not stored is passed.

use chrono::TimeDelta;
use contact_sync::{
    rpc::pb::{self, PushState},
    telemetry::metrics::MetricsPage,
};
use crm_simulator::salesforce::{EventBus, EventBusReport, GapKind};
use serde_json::json;

use super::push::hints;
use crate::{
    histories::integrity::assert_holds,
    identity::erasure::listen,
    support::{
        TestApp, Worlds, bearer,
        hints::drain,
        salesforce_connection,
        streams::FollowingProcess,
        sync::{ask_update, column, eventually},
    },
};

const PHONE: &str = "+14155550123";

/// An account whose Salesforce is copied: (account, integration).
async fn synced(test: &TestApp) -> (String, String) {
    synced_by(test, bearer("salesforce-token")).await
}

async fn synced_by(test: &TestApp, credentials: pb::Credentials) -> (String, String) {
    let account = test.account().await;
    let request = pb::EnableSyncRequest {
        account_id: account.clone(),
        provider: pb::Provider::Salesforce.into(),
        connection: Some(salesforce_connection()),
        credentials: Some(credentials),
        ..Default::default()
    };
    let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
    assert_eq!(test.sync_due().await, 1);
    (account, integration)
}

fn bus(test: &TestApp) -> &EventBus {
    test.salesforce.eventbus()
}

/// Follows both kinds, with what that begins with out of the way.
async fn following(test: &TestApp) -> FollowingProcess {
    let follower = FollowingProcess::new(test);
    assert_eq!(follower.take().await, 1);
    test.told("two subscriptions", |report| report.open() == 2).await;
    test.db.execute("delete from hints").await;
    follower
}

async fn ended(test: &TestApp) {
    test.told("the end of the subscriptions", |report| report.open() == 0).await;
    eventually("the lease to be given back", async || {
        test.db.number("select count(*) from push_streams where lease_until is not null").await == 0
    })
    .await;
}

fn create(test: &TestApp, name: &str) -> String {
    test.salesforce.create("Contact", &json!({"LastName": name, "Phone": PHONE})).unwrap()
}

async fn hinted(test: &TestApp, expected: &[String]) {
    eventually("these hints", async || hints(test).await == expected).await;
}

fn contact(id: &str) -> String {
    format!("Contact/{id}")
}

/// The place of Contacts as it is stored.
async fn place(test: &TestApp) -> String {
    let sql = "select coalesce(places->>'Contact', '') from push_streams";
    sqlx::query_scalar(sql).fetch_one(&test.db.pool).await.unwrap()
}

async fn shown(test: &TestApp, account: &str, integration: &str) -> (PushState, String) {
    let push = test.integration(account, integration).await.push.unwrap();
    (push.state(), push.notice.clone().map(|notice| notice.reason).unwrap_or_default())
}

/// No run is due, and none is begun: the caller is named all the same. No checkpoint moves.
#[tokio::test]
async fn change_is_named_within_its_stream() {
    let test = TestApp::with_streams().await;
    let (account, integration) = synced(&test).await;
    let checkpoint = column(&test, &integration, "checkpoint").await;
    let _follower = following(&test).await;

    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    assert_eq!(drain(&test).await, 1);

    let answer = test.look_up(&account, PHONE).await;
    assert_eq!(answer.selected.unwrap().display_name, "Love");
    eventually("the stream to be shown", async || {
        shown(&test, &account, &integration).await == (PushState::Active, String::new())
    })
    .await;
    eventually("its time", async || test.db.number("select count(last_lag_ms) from push_channels").await == 1).await;
    assert_eq!(column(&test, &integration, "checkpoint").await, checkpoint);
    assert_holds(&test).await;
}

/// A row that Salesforce's queries do not show yet when its event is here is asked for again.
#[tokio::test]
async fn row_shown_later_than_its_event_is_named() {
    let test = TestApp::with_streams().await;
    let (account, _) = synced(&test).await;
    let _follower = following(&test).await;
    let id = create(&test, "Love");
    test.salesforce.hide(&id).unwrap();
    hinted(&test, &[contact(&id)]).await;

    assert_eq!(drain(&test).await, 1);
    assert!(test.look_up(&account, PHONE).await.selected.is_none());
    test.salesforce.reveal(&id).unwrap();
    test.pass(TimeDelta::seconds(2));
    assert_eq!(drain(&test).await, 1);

    assert_eq!(test.look_up(&account, PHONE).await.selected.unwrap().display_name, "Love");
    assert!(hints(&test).await.is_empty());
}

/// So is one that they still show as it was before: its stamp is older than the event.
#[tokio::test]
async fn change_shown_later_than_its_event_is_named() {
    let test = TestApp::with_streams().await;
    let id = create(&test, "Love");
    let (account, _) = synced(&test).await;
    test.pass(TimeDelta::minutes(1));
    let _follower = following(&test).await;
    test.salesforce.update("Contact", &id, &json!({"LastName": "Hate"})).unwrap();
    test.salesforce.hide(&id).unwrap();
    hinted(&test, &[contact(&id)]).await;

    assert_eq!(drain(&test).await, 1);
    assert_eq!(test.look_up(&account, PHONE).await.selected.unwrap().display_name, "Love");
    test.salesforce.reveal(&id).unwrap();
    test.pass(TimeDelta::seconds(2));
    assert_eq!(drain(&test).await, 1);

    assert_eq!(test.look_up(&account, PHONE).await.selected.unwrap().display_name, "Hate");
    assert!(hints(&test).await.is_empty());
}

#[tokio::test]
async fn deletion_undeletion_and_merge_are_named() {
    let test = TestApp::with_streams().await;
    let (first, second) = (create(&test, "One"), create(&test, "Two"));
    let (account, _) = synced(&test).await;
    let _follower = following(&test).await;

    test.salesforce.delete("Contact", &first).unwrap();
    hinted(&test, &[contact(&first)]).await;
    drain(&test).await;
    assert_eq!(test.look_up(&account, PHONE).await.selected.unwrap().display_name, "Two");

    test.pass(TimeDelta::seconds(10));
    test.salesforce.undelete(&first).unwrap();
    hinted(&test, &[contact(&first)]).await;
    drain(&test).await;
    test.pass(TimeDelta::seconds(10));
    test.salesforce.merge("Contact", &first, &[&second]).unwrap();
    eventually("the loser's hint", async || hints(&test).await.contains(&contact(&second))).await;
    drain(&test).await;
    assert_eq!(test.look_up(&account, PHONE).await.selected.unwrap().display_name, "One");
    assert_holds(&test).await;
}

/// What is not copied is delivered, counted, and asked for by nobody.
#[tokio::test]
async fn untouched_updates_cost_no_request() {
    let test = TestApp::with_streams().await;
    let id = create(&test, "Love");
    synced(&test).await;
    let _follower = following(&test).await;
    test.salesforce.clear_requests();

    test.salesforce.update("Contact", &id, &json!({"Title": "Dr."})).unwrap();
    test.told("its delivery", |report| report.delivered == 1).await;
    test.salesforce.update("Contact", &id, &json!({"LastName": "Hate"})).unwrap();
    hinted(&test, &[contact(&id)]).await;

    assert_eq!(test.salesforce.requests().total, 0);
}

#[tokio::test]
async fn gap_is_looked_up_and_overflow_is_a_poll() {
    let test = TestApp::with_streams().await;
    let id = create(&test, "Love");
    synced(&test).await;
    let _follower = following(&test).await;

    bus(&test).gap("Contact", &[&id], GapKind::Update).unwrap();
    hinted(&test, &[contact(&id)]).await;
    bus(&test).overflow("Contact").unwrap();
    hinted(&test, &["/".to_owned(), contact(&id)]).await;
    test.db.execute("delete from hints").await;
    bus(&test).wildcard("Lead").unwrap();
    hinted(&test, &["/".to_owned()]).await;
}

/// One that cannot be read may be of anything, and the stream goes on.
#[tokio::test]
async fn unreadable_event_is_a_poll_and_the_stream_goes_on() {
    let test = TestApp::with_streams().await;
    synced(&test).await;
    let _follower = following(&test).await;

    bus(&test).corrupt_payloads(1);
    create(&test, "Love");
    hinted(&test, &["/".to_owned()]).await;
    test.db.execute("delete from hints").await;
    bus(&test).new_schema("Contact").unwrap();
    let id = create(&test, "Hate");
    hinted(&test, &[contact(&id)]).await;

    assert_eq!(bus(&test).report().starts.len(), 2);
}

/// The stream is followed by one of two processes, and the other takes it over from its place.
#[tokio::test]
async fn replicas_hold_one_stream_and_a_drain_hands_it_over() {
    let test = TestApp::with_streams().await;
    let other = test.replica(|config| config.providers = test.config.providers.clone()).await;
    synced(&test).await;
    let first = following(&test).await;
    let second = FollowingProcess::new(&other);
    assert_eq!(second.take().await, 0);
    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    test.db.execute("delete from hints").await;

    first.drain(&test).await;
    ended(&test).await;
    let missed = create(&test, "Hate");
    assert_eq!(second.take().await, 1);

    hinted(&test, &["/".to_owned(), contact(&missed)]).await;
    let starts = bus(&test).report().starts;
    let of_contacts: Vec<&str> =
        starts.iter().filter(|start| start.topic.contains("Contact")).map(|start| start.preset).collect();
    assert_eq!(of_contacts, ["LATEST", "CUSTOM"]);
}

/// Whoever has lost the lease writes neither place nor hint.
#[tokio::test]
async fn stolen_lease_writes_nothing() {
    let test = TestApp::with_streams().await;
    synced(&test).await;
    let _follower = following(&test).await;
    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    test.db.execute("delete from hints").await;
    let before = place(&test).await;

    test.db.execute("update push_streams set lease_number = lease_number + 1").await;
    create(&test, "Hate");
    test.told("the end of the subscriptions", |report| report.open() == 0).await;

    assert_eq!((hints(&test).await, place(&test).await), (Vec::new(), before));
}

/// What cannot be stored is not passed: no place is ahead of its hints.
#[tokio::test]
async fn failing_hint_leaves_the_place() {
    let test = TestApp::with_streams().await;
    synced(&test).await;
    let _follower = following(&test).await;
    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    let before = place(&test).await;
    let refuse = "create sequence refusals;
        create function refuse_hint() returns trigger language plpgsql as $$ begin
            perform nextval('refusals');
            raise exception 'not now' using errcode = '53000';
        end $$;
        create trigger refuse before insert on hints for each row execute function refuse_hint()";
    test.db.execute(refuse).await;

    let missed = create(&test, "Hate");
    // A number that is taken stays taken when its transaction is undone.
    eventually("a second try", async || test.db.number("select last_value from refusals").await >= 2).await;
    assert_eq!(place(&test).await, before);
    test.db.execute("drop trigger refuse on hints").await;

    eventually("the hint", async || hints(&test).await.contains(&contact(&missed))).await;
    assert_ne!(place(&test).await, before);
}

/// A place that leads nowhere any more: from now on, and one poll for what was missed.
#[tokio::test]
async fn expired_place_is_covered_by_one_poll() {
    let test = TestApp::with_streams().await;
    synced(&test).await;
    // A stream of Leads has no place yet, begins at now by itself, and would bring the poll.
    bus(&test).capture("Lead", false).unwrap();
    let follower = FollowingProcess::new(&test);
    follower.open(&test, 1).await;
    let id = create(&test, "Love");
    eventually("its hint", async || hints(&test).await.contains(&contact(&id))).await;
    test.db.execute("delete from hints").await;

    bus(&test).reset_stream();
    test.told("a start from now on", |report| report.open() == 1 && report.starts.len() == 2).await;

    let presets: Vec<&str> = bus(&test).report().starts.iter().map(|start| start.preset).collect();
    assert_eq!(presets, ["LATEST", "LATEST"]);
    assert_eq!(hints(&test).await, ["/"]);
    test.db.execute("delete from hints").await;
    let next = create(&test, "Hate");
    hinted(&test, &[contact(&next)]).await;
}

/// Without a stream that can be had nobody holds a lease: it is looked at again within the hour.
#[tokio::test]
async fn spent_allocation_is_told_and_polling_goes_on() {
    let test = TestApp::with_streams().await;
    let (account, integration) = synced(&test).await;
    bus(&test).refuse("subscription.limit.exceeded", 2);
    let follower = FollowingProcess::new(&test);
    assert_eq!(follower.take().await, 1);

    eventually("what is shown", async || {
        shown(&test, &account, &integration).await == (PushState::Degraded, "PUSH_QUOTA_SPENT".to_owned())
    })
    .await;
    ended(&test).await;
    assert_eq!(follower.take().await, 0);
    test.pass(TimeDelta::minutes(76));
    assert_eq!(follower.take().await, 1);
    test.told("two subscriptions", |report| report.open() == 2).await;
}

/// Nobody has to end a stream that is not wished any more.
#[tokio::test]
async fn switching_off_ends_it_within_a_heartbeat() {
    let test = TestApp::with_streams().await;
    let (account, integration) = synced(&test).await;
    let follower = following(&test).await;

    let off = pb::IntegrationOptions { push: pb::Switch::Off.into(), ..Default::default() };
    ask_update(&test, &account, &integration, off, None).await.unwrap();
    ended(&test).await;

    assert_eq!(follower.take().await, 0);
    assert_eq!(test.db.number("select count(*) from push_channels").await, 0);
    assert_eq!(shown(&test, &account, &integration).await, (PushState::NotConfigured, String::new()));
}

/// A certificate that nobody known has signed is not accepted: nothing is sent.
#[tokio::test]
async fn strange_certificate_is_refused() {
    let (log, _logging) = listen();
    let test = TestApp::with_streams_in(Worlds::default(), |config| {
        config.providers.salesforce_streams_ca_file = None;
    })
    .await;
    synced(&test).await;
    let follower = FollowingProcess::new(&test);
    assert_eq!(follower.take().await, 1);

    eventually("a second try", async || log.text().matches("no connection for a stream of changes").count() > 2).await;

    assert_eq!(bus(&test).report(), EventBusReport::default());
}

/// Each metric of streams moves with what it counts.
#[tokio::test]
async fn streams_events_and_ends_are_counted() {
    let page = MetricsPage::begin();
    let told = async |lines: &[&str]| {
        eventually("what is counted", async || lines.iter().all(|line| page.text().lines().any(|told| told == *line)))
            .await;
    };
    let test = TestApp::with_streams().await;
    let id = create(&test, "Love");
    synced(&test).await;
    let follower = following(&test).await;
    told(&[r#"contact_sync_push_streams{provider="SALESFORCE"} 1"#]).await;

    create(&test, "Hate");
    test.salesforce.update("Contact", &id, &json!({"Title": "Dr."})).unwrap();
    told(&[
        r#"contact_sync_push_events_total{provider="SALESFORCE",outcome="hinted"} 1"#,
        r#"contact_sync_push_events_total{provider="SALESFORCE",outcome="untouched"} 1"#,
    ])
    .await;
    bus(&test).end_streams("subscription.internal.error");
    test.told("streams that go on", |report| report.starts.len() == 4).await;
    follower.drain(&test).await;
    told(&[
        r#"contact_sync_push_streams{provider="SALESFORCE"} 0"#,
        r#"contact_sync_push_stream_ends_total{provider="SALESFORCE",reason="broke"} 2"#,
        r#"contact_sync_push_stream_ends_total{provider="SALESFORCE",reason="stopped"} 1"#,
    ])
    .await;
}

fn refresh_token() -> pb::Credentials {
    let token = pb::RefreshToken {
        token: "salesforce-refresh".into(),
        client_id: "client".into(),
        client_secret: "secret".into(),
    };
    pb::Credentials { kind: Some(pb::credentials::Kind::RefreshToken(token)) }
}

/// A token that is over is renewed once for both kinds, and each goes on from its place.
#[tokio::test]
async fn dead_token_is_refreshed_once_and_the_stream_goes_on() {
    let test = TestApp::with_streams().await;
    synced_by(&test, refresh_token()).await;
    let _follower = following(&test).await;
    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    let before = test.salesforce.token_requests().refresh_token;

    test.salesforce.expire_sessions();
    test.told("four subscriptions", |report| report.starts.len() == 4).await;
    let next = create(&test, "Hate");
    eventually("the next change", async || hints(&test).await.contains(&contact(&next))).await;

    assert_eq!(test.salesforce.token_requests().refresh_token - before, 1);
    let last = bus(&test).report().starts.into_iter().rfind(|start| start.topic.contains("Contact")).unwrap();
    assert_eq!(last.preset, "CUSTOM");
}

/// What no token can be had for rests, asks no more, and holds no lease.
#[tokio::test]
async fn revoked_grant_rests_and_makes_no_storm() {
    let test = TestApp::with_streams().await;
    synced_by(&test, refresh_token()).await;
    let _follower = following(&test).await;
    let before = test.salesforce.token_requests().refresh_token;

    test.salesforce.revoke_refresh_tokens();
    test.salesforce.expire_sessions();
    ended(&test).await;

    assert!(test.salesforce.token_requests().refresh_token - before <= 2);
    assert_eq!(test.db.number("select count(*) from push_streams where due_at is not null").await, 1);
}
