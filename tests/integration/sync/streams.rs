//! Salesforce's changes come as a stream, over gRPC and TLS: one process follows, what comes
//! becomes hints, and whatever goes wrong, nothing that was not stored is passed.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use contact_sync::{
    app::ServiceApp,
    rpc::pb::{self, PushState},
    sync::StreamSupervisor,
};
use crm_simulator::salesforce::{EventBus, EventBusReport, GapKind};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::push::hints;
use crate::{
    histories::integrity::assert_holds,
    support::{
        TestApp, bearer,
        hints::drain,
        salesforce_connection,
        sync::{ask_update, column, eventually, soon},
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

/// A process that follows streams, until it is told to stop.
struct Follower {
    supervisor: StreamSupervisor,
    stop: CancellationToken,
}

impl Follower {
    fn of(app: &ServiceApp) -> Self {
        let supervisor = StreamSupervisor::new(Arc::clone(&app.sync_context), 8);
        Self { supervisor, stop: CancellationToken::new() }
    }

    async fn take(&self) -> usize {
        self.supervisor.follow_due(&self.stop).await.unwrap()
    }
}

fn bus(test: &TestApp) -> &EventBus {
    test.salesforce.eventbus()
}

/// Follows both kinds, with what that begins with out of the way.
async fn following(test: &TestApp) -> Follower {
    let follower = Follower::of(&test.app);
    assert_eq!(follower.take().await, 1);
    soon("two subscriptions", bus(test).until(|report| report.open() == 2)).await;
    test.db.execute("delete from hints").await;
    follower
}

async fn ended(test: &TestApp) {
    soon("the end of the subscriptions", bus(test).until(|report| report.open() == 0)).await;
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
    let test = TestApp::start_streaming(|_| {}).await;
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
    let test = TestApp::start_streaming(|_| {}).await;
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

#[tokio::test]
async fn deletion_undeletion_and_merge_are_named() {
    let test = TestApp::start_streaming(|_| {}).await;
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
    let test = TestApp::start_streaming(|_| {}).await;
    let id = create(&test, "Love");
    synced(&test).await;
    let _follower = following(&test).await;
    test.salesforce.clear_requests();

    test.salesforce.update("Contact", &id, &json!({"Title": "Dr."})).unwrap();
    soon("its delivery", bus(&test).until(|report| report.delivered == 1)).await;
    test.salesforce.update("Contact", &id, &json!({"LastName": "Hate"})).unwrap();
    hinted(&test, &[contact(&id)]).await;

    assert_eq!(test.salesforce.requests().total, 0);
}

#[tokio::test]
async fn gap_is_looked_up_and_overflow_is_a_poll() {
    let test = TestApp::start_streaming(|_| {}).await;
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
    let test = TestApp::start_streaming(|_| {}).await;
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
    let test = TestApp::start_streaming(|_| {}).await;
    let other = test.replica(|config| config.providers = test.config.providers.clone()).await;
    synced(&test).await;
    let first = following(&test).await;
    let second = Follower::of(&other.app);
    assert_eq!(second.take().await, 0);
    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    test.db.execute("delete from hints").await;

    first.stop.cancel();
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
    let test = TestApp::start_streaming(|_| {}).await;
    synced(&test).await;
    let _follower = following(&test).await;
    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    test.db.execute("delete from hints").await;
    let before = place(&test).await;

    test.db.execute("update push_streams set lease_number = lease_number + 1").await;
    create(&test, "Hate");
    soon("the end of the subscriptions", bus(&test).until(|report| report.open() == 0)).await;

    assert_eq!((hints(&test).await, place(&test).await), (Vec::new(), before));
}

/// What cannot be stored is not passed: no place is ahead of its hints.
#[tokio::test]
async fn failing_hint_leaves_the_place() {
    let test = TestApp::start_streaming(|_| {}).await;
    synced(&test).await;
    let _follower = following(&test).await;
    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    let before = place(&test).await;
    let refuse =
        "create function refuse_hint() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$";
    test.db.execute(refuse).await;
    test.db.execute("create trigger refuse before insert on hints for each row execute function refuse_hint()").await;

    let missed = create(&test, "Hate");
    soon("its delivery", bus(&test).until(|report| report.delivered == 2)).await;
    assert_eq!(place(&test).await, before);
    test.db.execute("drop trigger refuse on hints").await;

    eventually("the hint", async || hints(&test).await.contains(&contact(&missed))).await;
    assert_ne!(place(&test).await, before);
}

/// A place that leads nowhere any more: from now on, and one poll for what was missed.
#[tokio::test]
async fn expired_place_is_covered_by_one_poll() {
    let test = TestApp::start_streaming(|_| {}).await;
    synced(&test).await;
    let _follower = following(&test).await;
    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    test.db.execute("delete from hints").await;

    bus(&test).reset_stream();
    let starts = |preset: &'static str| {
        move |report: &EventBusReport| {
            report.open() == 2 && report.starts.iter().filter(|start| start.preset == preset).count() >= 3
        }
    };
    soon("a start from now on", bus(&test).until(starts("LATEST"))).await;

    assert_eq!(hints(&test).await, ["/"]);
    test.db.execute("delete from hints").await;
    let next = create(&test, "Hate");
    eventually("the next change", async || hints(&test).await.contains(&contact(&next))).await;
}

/// The kind that is not published is told, and the other streams.
#[tokio::test]
async fn kind_that_is_not_published_is_told_while_the_other_streams() {
    let test = TestApp::start_streaming(|_| {}).await;
    bus(&test).capture("Lead", false).unwrap();
    let (account, integration) = synced(&test).await;
    let follower = Follower::of(&test.app);
    assert_eq!(follower.take().await, 1);
    soon("a subscription", bus(&test).until(|report| report.open() == 1)).await;

    create(&test, "Love");
    eventually("what is shown", async || {
        shown(&test, &account, &integration).await == (PushState::Active, "PUSH_OBJECT_OFF".to_owned())
    })
    .await;
}

/// Without a stream that can be had nobody holds a lease: it is looked at again within the hour.
#[tokio::test]
async fn spent_allocation_is_told_and_polling_goes_on() {
    let test = TestApp::start_streaming(|_| {}).await;
    let (account, integration) = synced(&test).await;
    bus(&test).refuse("subscription.limit.exceeded", 2);
    let follower = Follower::of(&test.app);
    assert_eq!(follower.take().await, 1);

    eventually("what is shown", async || {
        shown(&test, &account, &integration).await == (PushState::Degraded, "PUSH_QUOTA_SPENT".to_owned())
    })
    .await;
    ended(&test).await;
    assert_eq!(follower.take().await, 0);
    test.pass(TimeDelta::minutes(76));
    assert_eq!(follower.take().await, 1);
    soon("two subscriptions", bus(&test).until(|report| report.open() == 2)).await;
}

/// Nobody has to end a stream that is not wished any more.
#[tokio::test]
async fn switching_off_ends_it_within_a_heartbeat() {
    let test = TestApp::start_streaming(|config| {
        (config.worker.lease_seconds, config.worker.heartbeat_seconds) = (3, 1);
    })
    .await;
    let (account, integration) = synced(&test).await;
    let follower = following(&test).await;

    let off = pb::IntegrationOptions { push: pb::Switch::Off.into(), ..Default::default() };
    ask_update(&test, &account, &integration, off, None).await.unwrap();
    ended(&test).await;

    assert_eq!(follower.take().await, 0);
    assert_eq!(test.db.number("select count(*) from push_channels").await, 0);
    assert_eq!(shown(&test, &account, &integration).await, (PushState::NotConfigured, String::new()));
}

/// Behind an operator's proxy or simulator nothing is sent to Salesforce.
#[tokio::test]
async fn operators_api_without_stream_address_is_told() {
    let test = TestApp::start().await;
    let (account, integration) = synced(&test).await;
    assert_eq!(Follower::of(&test.app).take().await, 1);

    eventually("what is shown", async || {
        shown(&test, &account, &integration).await == (PushState::Unavailable, "PUSH_ADDRESS_MISSING".to_owned())
    })
    .await;
}

/// A certificate that nobody known has signed is not accepted: nothing is sent.
#[tokio::test]
async fn strange_certificate_is_refused() {
    let test = TestApp::start_streaming(|config| config.providers.salesforce_streams_ca_file = None).await;
    synced(&test).await;
    let follower = Follower::of(&test.app);
    assert_eq!(follower.take().await, 1);

    tokio::time::timeout(Duration::from_secs(1), bus(&test).until(|report| report.open() > 0)).await.unwrap_err();
    follower.stop.cancel();
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
    let test = TestApp::start_streaming(|_| {}).await;
    synced_by(&test, refresh_token()).await;
    let _follower = following(&test).await;
    let id = create(&test, "Love");
    hinted(&test, &[contact(&id)]).await;
    let before = test.salesforce.token_requests().refresh_token;

    test.salesforce.expire_sessions();
    soon("four subscriptions", bus(&test).until(|report| report.starts.len() == 4)).await;
    let next = create(&test, "Hate");
    eventually("the next change", async || hints(&test).await.contains(&contact(&next))).await;

    assert_eq!(test.salesforce.token_requests().refresh_token - before, 1);
    let last = bus(&test).report().starts.into_iter().rfind(|start| start.topic.contains("Contact")).unwrap();
    assert_eq!(last.preset, "CUSTOM");
}

/// What no token can be had for rests, asks no more, and holds no lease.
#[tokio::test]
async fn revoked_grant_rests_and_makes_no_storm() {
    let test = TestApp::start_streaming(|_| {}).await;
    synced_by(&test, refresh_token()).await;
    let _follower = following(&test).await;
    let before = test.salesforce.token_requests().refresh_token;

    test.salesforce.revoke_refresh_tokens();
    test.salesforce.expire_sessions();
    ended(&test).await;

    assert!(test.salesforce.token_requests().refresh_token - before <= 2);
    assert_eq!(test.db.number("select count(*) from push_streams where due_at is not null").await, 1);
}
