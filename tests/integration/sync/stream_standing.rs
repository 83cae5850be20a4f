//! Whether a CRM's stream of changes can be followed, what is told if not, and when it ends.

use chrono::TimeDelta;
use contact_sync::rpc::pb::{self, PushState};
use crm_simulator::salesforce::SalesforceConfig;
use serde_json::json;

use super::push::hints;
use crate::{
    histories::integrity::assert_holds,
    identity::erasure::listen,
    support::{
        TestApp, Worlds,
        db::TestDb,
        hints::{drain, waiting},
        proxy::Proxy,
        streams::FollowingProcess,
        sync::{ask_disable, ask_update, column, eventually, sync_mode},
    },
};

const CONTACTS: &str = "/data/ContactChangeEvent";
const LEADS: &str = "/data/LeadChangeEvent";
const NUMBER: &str = "+13108675301";
const CORRUPTED: &str = "subscription.fetch.replayid.corrupted";

fn contact(test: &TestApp, name: &str) -> String {
    test.salesforce.create("Contact", &json!({"LastName": name, "Phone": NUMBER})).unwrap()
}

async fn shows(test: &TestApp, ids: &(String, String), state: PushState, reason: &str) {
    eventually("what is shown of the stream", async || {
        test.pushing(&ids.0, &ids.1).await == (state, reason.to_owned())
    })
    .await;
}

async fn is_given_back(test: &TestApp) {
    eventually("a lease that is given back", async || {
        test.db.number("select count(*) from push_streams where lease_until is null").await == 1
    })
    .await;
}

async fn hinted(test: &TestApp, id: &str) {
    eventually("the hint of a change", async || hints(test).await.contains(&format!("Contact/{id}"))).await;
}

/// No hint of what was before: the first look at the whole is done.
async fn settle(test: &TestApp) {
    test.pass(TimeDelta::minutes(5));
    drain(test).await;
    test.sync_due().await;
    assert_eq!(waiting(test).await, 0);
}

async fn notice(test: &TestApp, ids: &(String, String)) -> String {
    test.integration(&ids.0, &ids.1).await.push.unwrap().notice.unwrap().message
}

/// One kind is selected for change events: it streams, and the other is told with what to click.
#[tokio::test]
async fn kind_that_is_not_selected_is_told_while_other_streams() {
    let test = TestApp::with_streams().await;
    test.salesforce.eventbus().capture("Lead", false).unwrap();
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);

    process.open(&test, 1).await;

    shows(&test, &ids, PushState::Active, "PUSH_OBJECT_OFF").await;
    assert!(notice(&test, &ids).await.contains("move Lead to Selected Entities"));
    let id = contact(&test, "Doe");
    hinted(&test, &id).await;
    assert_holds(&test).await;
}

/// A user who may not see all records is not sent their changes: the right to give is told, and
/// nobody holds the stream meanwhile.
#[tokio::test]
async fn user_without_view_all_is_told_what_to_click() {
    let hides = |config: &mut SalesforceConfig| config.administrator_sees_all = false;
    let test = TestApp::with_streams_in(Worlds { salesforce: Some(hides), ..Worlds::default() }, |_| {}).await;
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);

    assert_eq!(process.take().await, 1);

    shows(&test, &ids, PushState::Unavailable, "PUSH_ROLE_MISSING").await;
    assert!(notice(&test, &ids).await.contains("View All Records"));
    is_given_back(&test).await;
    assert_eq!(process.take().await, 0);
    assert_eq!(test.salesforce.eventbus().report().starts.len(), 0);
}

/// What was selected later streams with the next run, not only when the rest is over.
#[tokio::test]
async fn selected_later_is_taken_up_by_next_run() {
    let test = TestApp::with_streams().await;
    let eventbus = test.salesforce.eventbus();
    for object in ["Contact", "Lead"] {
        eventbus.capture(object, false).unwrap();
    }
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);
    assert_eq!(process.take().await, 1);
    shows(&test, &ids, PushState::Unavailable, "PUSH_OBJECT_OFF").await;
    is_given_back(&test).await;
    for object in ["Contact", "Lead"] {
        eventbus.capture(object, true).unwrap();
    }

    test.pass(TimeDelta::minutes(14));
    test.trigger(&ids.0, &ids.1).await;
    assert_eq!(process.take().await, 0, "it rests of late");
    test.pass(TimeDelta::minutes(2));
    test.trigger(&ids.0, &ids.1).await;
    process.open(&test, 2).await;

    shows(&test, &ids, PushState::Active, "").await;
}

/// Whatever ends the wish for a stream ends it, within a heartbeat, and no event is a hint any
/// more.
#[tokio::test]
async fn switching_off_and_disabling_end_it_within_a_heartbeat() {
    let test = TestApp::with_streams().await;
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;
    settle(&test).await;

    ask_update(&test, &ids.0, &ids.1, sync_mode(pb::SyncMode::Off), None).await.unwrap();
    // Its event is refused before a heartbeat sees that nobody wishes for it.
    contact(&test, "Roe");
    test.told("the end of what is off", |report| report.open() == 0).await;
    is_given_back(&test).await;
    assert_eq!(process.take().await, 0);

    ask_update(&test, &ids.0, &ids.1, sync_mode(pb::SyncMode::On), None).await.unwrap();
    test.sync_due().await;
    process.open(&test, 2).await;
    let off = pb::IntegrationOptions { push: pb::Switch::Off.into(), ..Default::default() };
    ask_update(&test, &ids.0, &ids.1, off, None).await.unwrap();
    test.told("the end of what is not pushed", |report| report.open() == 0).await;

    let on = pb::IntegrationOptions { push: pb::Switch::On.into(), ..Default::default() };
    ask_update(&test, &ids.0, &ids.1, on, None).await.unwrap();
    test.trigger(&ids.0, &ids.1).await;
    process.open(&test, 2).await;
    ask_disable(&test, &ids.0, &ids.1, pb::CopiedData::Keep).await.unwrap();
    let id = contact(&test, "Doe");
    test.told("the end of what is disabled", |report| report.open() == 0).await;
    assert_eq!(process.take().await, 0);
    assert!(!hints(&test).await.contains(&format!("Contact/{id}")));
    assert_holds(&test).await;
}

/// A kind that is not copied any more is not followed any more; the other goes on.
#[tokio::test]
async fn lead_switched_off_ends_its_stream() {
    let test = TestApp::with_streams().await;
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;

    let leads = pb::ObjectOptions { copy: pb::Switch::Off.into(), ..Default::default() };
    let options = pb::IntegrationOptions { salesforce_leads: Some(leads), ..Default::default() };
    ask_update(&test, &ids.0, &ids.1, options, None).await.unwrap();
    is_given_back(&test).await;
    process.open(&test, 1).await;

    assert_eq!(test.salesforce.eventbus().report().subscribers[CONTACTS], 1);
    shows(&test, &ids, PushState::Active, "").await;
}

/// What came while the database was away is stored later, from the same stream.
#[tokio::test]
async fn database_away_stores_the_batch_later() {
    let direct = TestDb::create().await;
    let proxy = Proxy::start(direct.url()).await;
    let test = TestApp::with_streams_on(direct.through(proxy.url()), Worlds::default(), |_| {}).await;
    test.streamed().await;
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;

    proxy.refuse(true);
    proxy.reset();
    let id = contact(&test, "Doe");
    test.told("a delivery", |report| report.delivered == 1).await;
    proxy.refuse(false);

    hinted(&test, &id).await;
    assert_eq!(test.salesforce.eventbus().report().starts.len(), 2, "no stream began anew");
}

/// The operator leads the CRM's interface elsewhere and says nothing of streams: no token leaves
/// for Salesforce.
#[tokio::test]
async fn operators_api_without_stream_address_is_told() {
    let test = TestApp::with_streams_in(Worlds::default(), |config| {
        config.providers.salesforce_streams_url = None;
        config.providers.salesforce_streams_ca_file = None;
    })
    .await;
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);

    assert_eq!(process.take().await, 1);

    shows(&test, &ids, PushState::Unavailable, "PUSH_ADDRESS_MISSING").await;
    assert!(notice(&test, &ids).await.contains("providers.salesforce_streams_url"));
}

/// Neither what an event says nor whose record it is of, nor the token.
#[tokio::test]
async fn nothing_of_an_event_is_logged() {
    let (log, _logging) = listen();
    let test = TestApp::with_streams().await;
    test.streamed().await;
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;

    let id = contact(&test, "Zebulon");
    hinted(&test, &id).await;
    test.salesforce.eventbus().corrupt_payloads(1);
    contact(&test, "Quux");
    test.told("an event that cannot be read", |report| report.delivered == 2).await;
    test.salesforce.eventbus().end_streams("subscription.internal.error");
    test.told("streams that go on", |report| report.starts.len() == 4).await;
    process.drain(&test).await;

    let logged = log.text();
    assert!(logged.contains("streams of changes are followed"), "the log is read");
    for secret in ["Quux", "Zebulon", id.as_str(), "3108675301", "salesforce-token"] {
        assert!(!logged.contains(secret), "{secret} is logged");
    }
}

/// A change is named by its event, and no run's checkpoint or schedule is moved by it.
#[tokio::test]
async fn push_moves_no_checkpoint() {
    let test = TestApp::with_streams().await;
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;
    settle(&test).await;
    let schedule = "to_jsonb(integrations) - 'lease_number' - 'access' - 'access_version'";
    let before = column(&test, &ids.1, schedule).await;

    let id = contact(&test, "Doe");
    hinted(&test, &id).await;
    test.pass(TimeDelta::seconds(2));
    drain(&test).await;

    let named = test.look_up(&ids.0, NUMBER).await.selected.unwrap();
    assert_eq!(named.display_name, "Doe");
    assert_eq!(column(&test, &ids.1, schedule).await, before);
    assert_holds(&test).await;
}

/// A place of three days ago leads nowhere: the stream begins anew, and a poll covers what was
/// between.
#[tokio::test]
async fn three_days_of_silence_from_database_restart_cleanly() {
    let test = TestApp::with_streams().await;
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;
    let first = contact(&test, "Doe");
    hinted(&test, &first).await;
    process.drain(&test).await;
    is_given_back(&test).await;
    test.pass(TimeDelta::hours(73));
    test.salesforce.update("Contact", &first, &json!({"LastName": "Roe"})).unwrap();

    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;

    let report = test.told("a place that is refused", |report| report.refused.contains_key(CORRUPTED)).await;
    let contacts: Vec<&str> =
        report.starts.iter().filter(|start| start.topic == CONTACTS).map(|start| start.preset).collect();
    assert_eq!(contacts, ["LATEST", "LATEST"]);
    assert!(report.starts.iter().any(|start| start.topic == LEADS));
    assert_eq!(waiting(&test).await, 2, "the record and the whole");
    assert_eq!(test.sync_due().await, 1);
    let named = test.look_up(&ids.0, NUMBER).await.selected.unwrap();
    assert_eq!(named.display_name, "Roe");
    assert_holds(&test).await;
}
