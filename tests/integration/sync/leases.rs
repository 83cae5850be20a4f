//! Two workers and one integration: who may write, what a late worker may not, and what a crash
//! between two instructions leaves.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::gate::GateAt;
use serde_json::json;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{
        Beside, EXPORT, arrived, ask_trigger, blocked, column, eventually, expire_leases, live_contacts, pages,
    },
    support::{TestApp, call},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);

/// A first copy of 2,500 users that stands at the gate with its page `number` made; the gate counts
/// from there on.
async fn standing_at(test: &TestApp, number: u32) -> (String, crm_simulator::gate::RequestGate, Beside) {
    test.zendesk.generate_people(2_500, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let gate = test.zendesk.faults().gate(EXPORT, number - 1, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;
    (integration, gate, sync)
}

/// A replica takes over where the first one was, and its late page is refused.
#[tokio::test]
async fn replica_takes_over_and_late_page_is_refused() {
    let test = TestApp::start().await;
    let replica = test.replica(|_| {}).await;
    let (integration, gate, late) = standing_at(&test, 2).await;
    // While its lease lasts, nobody else has the run.
    assert_eq!(replica.sync_due().await, 0);

    expire_leases(&test).await;
    let second = Beside::start(&replica.app);
    arrived(&gate, 2).await;
    let asked = pages(&test);
    assert_eq!(asked[1], asked[2], "the second worker asks for the page that was never written");
    assert_eq!(column(&test, &integration, "lease_number").await, "2");
    // The late one is let go first: its page comes while the other holds the lease.
    gate.release_one();
    assert_eq!(late.ended().await, 1);
    assert_eq!(test.db.number("select read_count from sync_runs").await, 1_000);
    gate.open();
    assert_eq!(second.ended().await, 1);

    assert_eq!(test.db.number("select count(*) from sync_runs").await, 1);
    assert_eq!(test.db.number("select attempt::bigint from sync_runs where state = 'SUCCEEDED'").await, 2);
    assert_eq!(test.db.number("select read_count from sync_runs").await, 2_500);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A lease of a clock that was a year ahead holds nobody up.
#[tokio::test]
async fn lease_from_clock_ahead_holds_nobody_up() {
    let test = TestApp::start().await;
    let replica = test.replica(|_| {}).await;
    let (integration, gate, dying) = standing_at(&test, 2).await;
    dying.dies().await;
    test.db.execute("update integrations set lease_until = lease_until + interval '1 year'").await;

    gate.open();
    assert_eq!(replica.sync_due().await, 1);

    assert_is_a_true_copy(&test, &integration).await;
    test.db.execute("update integrations set sweep_due_at = sweep_due_at + interval '1 year'").await;
    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);
    let next_sweep = "select count(*) from integrations where sweep_due_at < '2027-01-01'";
    assert_eq!(test.db.number(next_sweep).await, 1, "nor does a sweep that was due then");
    assert_holds(&test).await;
}

/// A late worker that wakes after everything is done changes nothing.
#[tokio::test]
async fn worker_waking_too_late_changes_nothing() {
    let test = TestApp::start().await;
    let replica = test.replica(|_| {}).await;
    let (integration, gate, late) = standing_at(&test, 1).await;
    let first = test.zendesk.oracle()[0].id;

    expire_leases(&test).await;
    test.pass(TimeDelta::seconds(5));
    // Not in the late worker's page, which was made before.
    test.zendesk.update_user(first, &json!({"name": "Changed"})).unwrap();
    let second = Beside::start(&replica.app);
    arrived(&gate, 2).await;
    test.zendesk.faults().clear();
    second.dies().await;
    expire_leases(&test).await;
    let third = Beside::start(&replica.app);
    assert_eq!(third.ended().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    let before = column(&test, &integration, "integrations").await;

    gate.open();
    assert_eq!(late.ended().await, 1);

    assert_eq!(column(&test, &integration, "integrations").await, before);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// Workers that race for one integration run it once.
#[tokio::test]
async fn racing_workers_run_integration_once() {
    let test = TestApp::start().await;
    let replica = test.replica(|_| {}).await;
    test.zendesk.generate_people(20, 1).unwrap();
    let account = test.account().await;
    for n in 0..4 {
        test.enable(&account, &format!("acme-{n}")).await;
    }

    let racers: Vec<Beside> =
        (0..6).map(|n| Beside::start(if n % 2 == 0 { &test.app } else { &replica.app })).collect();
    let mut runs = 0;
    for racer in racers {
        runs += racer.ended().await;
    }

    assert_eq!(runs, 4);
    assert_eq!(test.db.number("select count(*) from sync_runs where attempt = 1 and state = 'SUCCEEDED'").await, 4);
    assert_eq!(live_contacts(&test, &account).await, 80);
    assert_holds(&test).await;
}

/// A heartbeat that waits for the last page leaves no lease behind.
#[tokio::test]
async fn heartbeat_waiting_for_last_page_frees_lease() {
    let test = TestApp::start_with(|config| {
        config.worker.lease_seconds = 60;
        config.worker.heartbeat_seconds = 1;
    })
    .await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    // The page's transaction holds the integration and waits for the run's row; the heartbeat waits
    // for the integration.
    let mut lock = test.db.pool.begin().await.unwrap();
    sqlx::query("select 1 from sync_runs for update").execute(&mut *lock).await.unwrap();
    gate.open();
    blocked(&test, 2).await;
    // Nor does it cut the second look off.
    let stranger = test.match_caller(call(&account, "+13108675301")).await;
    assert_eq!(stranger.outcome(), pb::MatchOutcome::Created);
    lock.rollback().await.unwrap();
    assert_eq!(sync.ended().await, 1);
    eventually("the second look", async || {
        test.look_up(&account, "+13108675301").await.outcome() == pb::MatchOutcome::Matched
    })
    .await;

    // The heartbeat's statement may still be under way.
    let still = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle' and query like '%lease::extend%'";
    eventually("the heartbeat's end", async || test.db.number(still).await == 0).await;
    assert_eq!(column(&test, &integration, "lease_until").await, "");
    test.pass(TimeDelta::seconds(1));
    ask_trigger(&test, &account, &integration, |_| {}).await.unwrap();
    assert_eq!(test.sync_due().await, 1, "a trigger runs now");
    assert_holds(&test).await;
}

/// A crash between the last page and its second look is made good by the next run.
#[tokio::test]
async fn next_run_repeats_second_look_after_crash() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    // The page has written its rows and looked for strangers; its last statement waits.
    let mut lock = test.db.pool.begin().await.unwrap();
    sqlx::query("select 1 from sync_runs for update").execute(&mut *lock).await.unwrap();
    gate.open();
    blocked(&test, 1).await;
    // The caller cannot see the page, nor the page the caller.
    let stranger = test.match_caller(call(&account, "+13108675301")).await;
    assert_eq!(stranger.outcome(), pb::MatchOutcome::Created);
    sync.dies().await;
    lock.rollback().await.unwrap();
    eventually("the page's commit", async || {
        test.db.number("select count(*) from sync_runs where state = 'SUCCEEDED'").await == 1
    })
    .await;
    test.zendesk.faults().clear();

    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);

    let found = test.look_up(&account, "+13108675301").await;
    assert_eq!(found.outcome(), pb::MatchOutcome::Matched);
    let found = found.selected.unwrap();
    assert_eq!(found.display_name, "Ann");
    let first = test.contact(&account, &stranger.selected.unwrap().id).await;
    assert!(first.id == found.id || first.survivor_id == found.id);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A crash between a page and its second look is made good by the resumed run.
#[tokio::test]
async fn resumed_run_repeats_second_look_after_crash() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_500, 1).unwrap();
    let oldest = test.zendesk.oracle().into_iter().min_by(|a, b| a.updated_at.cmp(&b.updated_at)).unwrap().id;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let number = "+13105559911";
    let users = test.zendesk.oracle();
    assert!(users.iter().all(|user| !user.numbers().contains(&number)));
    // Among the rows of the first page.
    test.zendesk
        .load_user(&json!({"name": "Ann", "phone": number, "updated_at": "2001-01-01T00:00:00Z", "created_at": "2001-01-01T00:00:00Z"}))
        .unwrap();
    assert!(oldest > 0);
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    let mut lock = test.db.pool.begin().await.unwrap();
    sqlx::query("select 1 from sync_runs for update").execute(&mut *lock).await.unwrap();
    gate.open();
    blocked(&test, 1).await;
    let stranger = test.match_caller(call(&account, number)).await;
    assert_eq!(stranger.outcome(), pb::MatchOutcome::Created);
    sync.dies().await;
    lock.rollback().await.unwrap();
    eventually("the page's commit", async || test.db.number("select read_count from sync_runs").await == 1_000).await;
    expire_leases(&test).await;
    test.zendesk.faults().clear();
    assert_eq!(test.sync_due().await, 1);

    let found = test.look_up(&account, number).await;
    assert_eq!(found.outcome(), pb::MatchOutcome::Matched);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A run that kills its worker again and again is paused, and a trigger tries anew.
#[tokio::test]
async fn worker_killing_run_is_paused_until_trigger() {
    let test = TestApp::start().await;
    let (integration, gate, sync) = standing_at(&test, 2).await;
    sync.dies().await;
    let mut deaths = 1;
    loop {
        expire_leases(&test).await;
        let sync = Beside::start(&test.app);
        let arrivals = deaths + 1;
        eventually("another attempt or a pause", async || {
            gate.count().arrived >= arrivals || column(&test, &integration, "hold").await == "PAUSED"
        })
        .await;
        if gate.count().arrived < arrivals {
            assert_eq!(sync.ended().await, 1);
            break;
        }
        sync.dies().await;
        deaths += 1;
        assert!(deaths < 20, "it is tried for ever");
    }
    assert_eq!(deaths, 6, "an attempt that wrote a page, and five that wrote none");

    let account: String =
        sqlx::query_scalar("select account_id::text from accounts").fetch_one(&test.db.pool).await.unwrap();
    let shown = test.integration(&account, &integration).await;
    assert_eq!(shown.state(), pb::IntegrationState::Paused);
    assert!(
        shown.state_detail.contains("NO_PROGRESS") && shown.state_detail.contains("TriggerSync"),
        "{}",
        shown.state_detail
    );
    assert_holds(&test).await;

    test.zendesk.faults().clear();
    gate.open();
    test.pass(TimeDelta::seconds(1));
    let run = test.trigger(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A worker that is told to stop hands its run over at once.
#[tokio::test]
async fn stopping_worker_hands_run_over_at_once() {
    let test = TestApp::start_with(|config| {
        config.worker.concurrency = 1;
        config.worker.poll_ms = 50;
    })
    .await;
    let replica = test.replica(|_| {}).await;
    test.zendesk.generate_people(1_500, 1).unwrap();
    let gate = test.zendesk.faults().gate(EXPORT, 1, GateAt::Request).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    arrived(&gate, 1).await;

    test.lifecycle.soft().cancel();
    eventually("the lease to be given back", async || column(&test, &integration, "lease_until").await.is_empty())
        .await;
    gate.open();
    assert_eq!(replica.sync_due().await, 1);

    assert_eq!(test.db.number("select attempt::bigint from sync_runs where state = 'SUCCEEDED'").await, 2);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A copy survives the loss of its connections to the database.
#[tokio::test]
async fn copy_survives_lost_database_connections() {
    let test = TestApp::start_with(|config| {
        config.worker.concurrency = 1;
        config.worker.poll_ms = 50;
    })
    .await;
    test.zendesk.generate_people(4_500, 1).unwrap();
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;

    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and application_name = 'contact-sync sync' and state <> 'idle' and query like '-- store::%'";
    let complete = "select count(*) from sync_runs where state = 'SUCCEEDED'";
    for _ in 0..5 {
        eventually("a page", async || gate.count().held > 0).await;
        gate.release_one();
        eventually("a statement to cut off", async || {
            test.db.number(cut).await > 0 || gate.count().held > 0 || test.db.number(complete).await > 0
        })
        .await;
        // The worker leaves the run to whoever comes when its lease is over.
        eventually("another attempt", async || {
            expire_leases(&test).await;
            gate.count().held > 0 || test.db.number(complete).await > 0
        })
        .await;
        assert_eq!(
            test.db.number("select count(*) from contacts").await,
            test.db.number("select read_count from sync_runs").await
        );
    }
    gate.open();
    eventually("the first copy", async || {
        expire_leases(&test).await;
        test.db.number(complete).await == 1
    })
    .await;

    assert_eq!(test.db.number("select read_count from sync_runs").await, 4_500);
    assert_is_a_true_copy(&test, &integration).await;
    test.lifecycle.soft().cancel();
}
