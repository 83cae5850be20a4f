//! What goes wrong with a stream of changes for longer, and how it is found again: the token, the
//! network, the database, and what a stream that was opened long ago does not know.

use std::time::Duration;

use chrono::TimeDelta;
use contact_sync::rpc::pb::{self, PushState};
use serde_json::json;
use tokio::net::TcpListener;

use super::push::hints;
use crate::{
    histories::integrity::assert_holds,
    identity::erasure::listen,
    support::{
        TestApp, Worlds,
        hints::{drain, waiting},
        streams::FollowingProcess,
        sync::eventually,
    },
};

const CONTACTS: &str = "/data/ContactChangeEvent";
const TOKEN_REFUSED: &str = "service.auth.error";

fn contact(test: &TestApp, name: &str) -> String {
    test.salesforce.create("Contact", &json!({"LastName": name, "Phone": "+13108675301"})).unwrap()
}

async fn shows(test: &TestApp, ids: &(String, String), state: PushState, reason: &str) {
    eventually("what is shown of the stream", async || {
        test.pushing(&ids.0, &ids.1).await == (state, reason.to_owned())
    })
    .await;
}

async fn hinted(test: &TestApp, expected: &[String]) {
    eventually("these hints", async || hints(test).await == expected).await;
}

/// Where the stream of Contacts began, the newest last.
fn presets(test: &TestApp) -> Vec<&'static str> {
    let starts = test.salesforce.eventbus().report().starts;
    starts.iter().filter(|start| start.topic == CONTACTS).map(|start| start.preset).collect()
}

/// So much later by the timers of the process; its clock stands still.
async fn wait_out(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Every state that is stored of a stream, in order.
async fn note_states(test: &TestApp) {
    let sql = "create table told (number bigint generated always as identity, state text);
        create function tell() returns trigger language plpgsql as $$ begin
            insert into told (state) values (new.state);
            return new;
        end $$;
        create trigger tells after insert or update of state on push_channels for each row execute function tell()";
    test.db.execute(sql).await;
}

async fn noted_states(test: &TestApp) -> Vec<String> {
    sqlx::query_scalar("select state from told order by number").fetch_all(&test.db.pool).await.unwrap()
}

/// The other kind streams all the while, so that the keeper of both lives on.
#[tokio::test]
async fn token_refused_once_is_tried_again_after_its_rest() {
    let test = TestApp::with_streams().await;
    let ids = test.streamed().await;
    let eventbus = test.salesforce.eventbus();
    eventbus.refuse(TOKEN_REFUSED, 1);
    let process = FollowingProcess::new(&test);
    process.open(&test, 1).await;
    eventually("the rest of the one that was refused", async || {
        test.pushing(&ids.0, &ids.1).await == (PushState::Active, "PUSH_TOKEN_REFUSED".to_owned())
    })
    .await;

    wait_out(Duration::from_mins(20)).await;

    test.told("both streams", |report| report.open() == 2).await;
}

/// The API for streams refuses what all others take: it is told, and runs go on.
#[tokio::test]
async fn token_that_the_stream_alone_refuses_is_told() {
    let test = TestApp::with_streams().await;
    let ids = test.streamed().await;
    test.salesforce.eventbus().refuse(TOKEN_REFUSED, 10);
    let process = FollowingProcess::new(&test);
    assert_eq!(process.take().await, 1);

    shows(&test, &ids, PushState::Degraded, "PUSH_TOKEN_REFUSED").await;

    test.trigger(&ids.0, &ids.1).await;
    assert_eq!(test.last_run(&ids.0, &ids.1).await.state(), pb::SyncRunState::Succeeded);
    shows(&test, &ids, PushState::Degraded, "PUSH_TOKEN_REFUSED").await;
}

/// Credentials that all of the CRM refuses pause the stream, which goes on from its place with
/// others.
#[tokio::test]
async fn refused_credentials_keep_the_place() {
    let test = TestApp::with_streams().await;
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;
    let id = contact(&test, "Doe");
    eventually("its hint", async || hints(&test).await.contains(&format!("Contact/{id}"))).await;
    shows(&test, &ids, PushState::Active, "").await;

    test.db.execute("update integrations set hold = 'AUTH_FAILED', hold_reason = 'CREDENTIALS_REFUSED'").await;
    test.told("the end of the streams", |report| report.open() == 0).await;
    eventually("a lease that is given back", async || {
        test.db.number("select count(*) from push_streams where lease_until is null").await == 1
    })
    .await;
    assert_eq!(test.pushing(&ids.0, &ids.1).await.0, PushState::Degraded);
    assert_eq!(process.take().await, 0, "nobody tries");
    test.db.execute("update integrations set hold = null, hold_reason = null").await;
    test.trigger(&ids.0, &ids.1).await;
    process.open(&test, 2).await;

    assert_eq!(presets(&test), ["LATEST", "CUSTOM"]);
    assert_holds(&test).await;
}

/// A proxy that takes every stream and passes nothing on: time alone shows it as open once, and
/// what is told then stays.
#[tokio::test]
async fn swallowed_stream_is_not_shown_as_open_again() {
    let test = TestApp::with_streams().await;
    let ids = test.streamed().await;
    note_states(&test).await;
    test.salesforce.eventbus().change_plan(|plan| (plan.is_muted, plan.late_headers) = (true, false));
    let process = FollowingProcess::new(&test);
    assert_eq!(process.take().await, 1);
    for starts in 1..=3 {
        test.told("open streams", |report| report.starts.len() == 2 * starts && report.open() == 2).await;
        wait_out(Duration::from_secs(11)).await;
        if starts == 1 {
            shows(&test, &ids, PushState::Active, "").await;
        }
        wait_out(Duration::from_secs(330)).await;
        test.told("an end for silence", |report| report.open() == 0).await;
    }

    shows(&test, &ids, PushState::Degraded, "PUSH_INTERRUPTED").await;
    // Nor by a process that knows nothing of that.
    process.drain(&test).await;
    eventually("a lease that is given back", async || {
        test.db.number("select count(*) from push_streams where lease_until is null").await == 1
    })
    .await;
    let process = FollowingProcess::new(&test);
    assert_eq!(process.take().await, 1);
    test.told("open streams", |report| report.open() == 2).await;
    wait_out(Duration::from_secs(11)).await;
    for _ in 0..20 {
        // As long as whoever shows it as open takes for it.
        assert_eq!(test.pushing(&ids.0, &ids.1).await.0, PushState::Degraded);
    }
    wait_out(Duration::from_secs(330)).await;
    test.told("an end for silence", |report| report.open() == 0).await;
    // A write that a timer has ended is repeated.
    let mut states = noted_states(&test).await;
    states.dedup();
    assert_eq!(states, ["ACTIVE", "DEGRADED"]);
}

/// A poll that is read before the stream is open would miss what changes between.
#[tokio::test]
async fn poll_for_a_start_from_now_waits_until_the_stream_is_open() {
    let test = TestApp::with_streams().await;
    test.streamed().await;
    test.pass(TimeDelta::minutes(5));
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;
    assert_eq!(hints(&test).await, ["/"]);

    test.pass(TimeDelta::seconds(9));
    drain(&test).await;
    assert_eq!((test.sync_due().await, waiting(&test).await), (0, 1));
    test.pass(TimeDelta::seconds(1));
    drain(&test).await;

    assert_eq!((test.sync_due().await, waiting(&test).await), (1, 0));
}

/// The poll speaks for five seconds, and nobody knows how much later the stream was open.
#[tokio::test]
async fn stream_that_says_something_late_is_covered_again() {
    let test = TestApp::with_streams().await;
    test.streamed().await;
    let process = FollowingProcess::new(&test);
    assert_eq!(process.take().await, 1);
    test.told("open streams", |report| report.open() == 2).await;
    test.db.execute("delete from hints").await;
    test.pass(TimeDelta::minutes(2));

    test.salesforce.eventbus().keep_alive();

    hinted(&test, &["/".to_owned()]).await;
}

/// Behind a firewall none of the organisation's requests are used up, however often it is tried.
#[tokio::test]
async fn host_that_cannot_be_reached_costs_no_request() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (log, _logging) = listen();
    let test = TestApp::with_streams_in(Worlds::default(), |config| {
        config.providers.salesforce_streams_url = Some(format!("https://{closed}"));
    })
    .await;
    test.streamed().await;
    test.salesforce.clear_requests();
    let process = FollowingProcess::new(&test);
    assert_eq!(process.take().await, 1);

    eventually("two failures", async || log.text().matches("no connection for a stream of changes").count() >= 2).await;

    assert_eq!(test.salesforce.requests().total, 0);
}

/// What a constraint refuses would be refused for ever: it is passed, a poll covers it, and it is
/// told.
#[tokio::test]
async fn batch_that_the_database_refuses_is_passed_and_covered() {
    let test = TestApp::with_streams().await;
    let ids = test.streamed().await;
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;
    shows(&test, &ids, PushState::Active, "").await;
    test.db.execute("delete from hints").await;
    test.db.execute("alter table hints add constraint whole_only check (record_id = '')").await;

    contact(&test, "Doe");
    shows(&test, &ids, PushState::Active, "PUSH_NOT_STORED").await;
    test.told("a start from now on", |_| presets(&test).len() == 2).await;
    hinted(&test, &["/".to_owned()]).await;
    test.db.execute("alter table hints drop constraint whole_only").await;
    let next = contact(&test, "Roe");

    eventually("the next change", async || hints(&test).await.contains(&format!("Contact/{next}"))).await;
    shows(&test, &ids, PushState::Active, "").await;
    assert_eq!(presets(&test), ["LATEST", "LATEST"]);
}

/// Which fields are copied, and whether its user sees everything, is asked again.
#[tokio::test]
async fn stream_is_opened_anew_each_hour_from_where_it_stands() {
    let test = TestApp::with_streams().await;
    test.streamed().await;
    let process = FollowingProcess::new(&test);
    process.open(&test, 2).await;
    let id = contact(&test, "Doe");
    eventually("its hint", async || hints(&test).await.contains(&format!("Contact/{id}"))).await;
    test.salesforce.clear_requests();

    test.pass(TimeDelta::minutes(59));
    contact(&test, "Roe");
    eventually("the next hint", async || waiting(&test).await == 3).await;
    assert_eq!(test.salesforce.requests().total, 0);
    test.pass(TimeDelta::minutes(1));
    test.salesforce.eventbus().keep_alive();
    test.told("new streams", |report| report.starts.len() == 4 && report.open() == 2).await;

    assert_eq!(presets(&test), ["LATEST", "CUSTOM"]);
    let asked = test.salesforce.requests().recent;
    assert_eq!(asked.iter().filter(|request| request.path.ends_with("/describe")).count(), 2);
}
