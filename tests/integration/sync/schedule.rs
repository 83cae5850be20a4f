//! When runs start: due, of their own period, stale, again later, found by the workers themselves.

use chrono::TimeDelta;
use contact_sync::{domain::clock::Clock, rpc::pb};
use crm_simulator::{faults::Fault, gate::GateAt};
use serde_json::json;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{Beside, EXPORT, arrived, ask_trigger, column, eventually, fail, time},
    support::{TestApp, call, enable_request},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);

/// The next run is due a period after the last one has finished.
#[tokio::test]
async fn next_run_is_due_period_after_last() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(5, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Request).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;
    let running = test.integration(&account, &integration).await;
    assert_eq!(running.next_due_time, None);
    assert!(!running.current_sync_run_id.is_empty());

    test.pass(TimeDelta::minutes(10));
    gate.open();
    assert_eq!(sync.ended().await, 1);

    let finished_at = test.clock.now();
    let integration = test.integration(&account, &integration).await;
    assert_eq!(time(integration.last_completed_time), finished_at);
    assert_eq!(time(integration.next_due_time), finished_at + PERIOD);
    test.pass(PERIOD - TimeDelta::microseconds(1));
    assert_eq!(test.sync_due().await, 0);
    test.pass(TimeDelta::microseconds(1));
    assert_eq!(test.sync_due().await, 1);
}

/// An integration may have a period of its own.
#[tokio::test]
async fn integration_may_have_own_period() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let mut request = enable_request(&account, "acme");
    request.options = Some(pb::IntegrationOptions {
        sync: pb::SyncMode::Unspecified.into(),
        period: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
        ..Default::default()
    });
    let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap();
    assert_eq!(integration.options.unwrap().period.unwrap().seconds, 300);
    assert_eq!(test.sync_due().await, 1);

    test.pass(TimeDelta::seconds(299));
    assert_eq!(test.sync_due().await, 0);
    test.pass(TimeDelta::seconds(1));
    assert_eq!(test.sync_due().await, 1);

    // Three of its own periods, not of the usual ones.
    test.pass(TimeDelta::seconds(901));
    assert_eq!(test.integration(&account, &integration.id).await.state(), pb::IntegrationState::Stale);
}

/// A copy is stale after three periods, and says so in answers.
#[tokio::test]
async fn copy_is_told_stale_after_three_periods() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;

    test.pass(PERIOD * 3);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
    assert!(test.look_up(&account, "+13108675301").await.complete);
    test.pass(TimeDelta::microseconds(1));

    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Stale);
    let answer = test.look_up(&account, "+13108675301").await;
    assert_eq!(answer.outcome(), pb::MatchOutcome::Matched);
    assert!(!answer.complete);
    assert_eq!(answer.sources[0].state(), pb::IntegrationState::Stale);
    assert!(answer.sources[0].note.contains("three periods"));
    assert_eq!(test.look_up(&account, "+13108675399").await.outcome(), pb::MatchOutcome::NotKnownYet);

    assert_eq!(test.sync_due().await, 1);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
    assert_eq!(test.look_up(&account, "+13108675399").await.outcome(), pb::MatchOutcome::NotFound);
}

/// A failing CRM is tried again later and later, and for ever.
#[tokio::test]
async fn failing_crm_is_retried_ever_later() {
    let test = TestApp::start_with(|config| config.worker.attempts_max = 1).await;
    test.zendesk.generate_people(5, 1).unwrap();
    let (account, integration) = test.synced().await;
    let rule = crm_simulator::faults::FaultRule::always(EXPORT, Fault::ServerError);
    test.zendesk.faults().add(rule).unwrap();
    test.pass(PERIOD);

    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(test.sync_due().await, 1);
        let failed = test.integration(&account, &integration).await;
        let due_at = time(failed.next_due_time);
        waits.push((due_at - test.clock.now()).num_seconds());
        test.pass(due_at - test.clock.now());
    }

    assert_eq!(waits, [60, 120, 240, 480, 960, 1_800, 1_800, 1_800]);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Stale);

    test.zendesk.faults().clear();
    assert_eq!(test.sync_due().await, 1);
    test.zendesk.faults().add(crm_simulator::faults::FaultRule::once(EXPORT, Fault::ServerError)).unwrap();
    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);
    let due_at = time(test.integration(&account, &integration).await.next_due_time);
    assert_eq!((due_at - test.clock.now()).num_seconds(), 60, "a success starts the count anew");
    assert_holds(&test).await;
}

/// An incremental run before the first copy is a first copy.
#[tokio::test]
async fn incremental_before_first_copy_becomes_initial() {
    let test = TestApp::start_with(|config| config.worker.attempts_max = 1).await;
    test.zendesk.generate_people(5, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    fail(&test, 0, Some(1), Fault::ServerError);
    assert_eq!(test.sync_due().await, 1);
    test.pass(TimeDelta::seconds(1));

    let incremental = |request: &mut pb::TriggerSyncRequest| request.set_kind(pb::SyncKind::Incremental);
    let run = ask_trigger(&test, &account, &integration, incremental).await.unwrap().sync_run.unwrap();
    assert_eq!(run.kind(), pb::SyncKind::Initial);
    assert_eq!(test.sync_due().await, 1);

    assert_is_a_true_copy(&test, &integration).await;
}

#[tokio::test]
async fn workers_find_what_is_due_by_themselves() {
    let test = TestApp::start_with(|config| {
        config.worker.concurrency = 2;
        config.worker.poll_ms = 60_000;
    })
    .await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let account = test.account().await;
    // More than run at once: none starves, and the end of one lets the next begin.
    let mut integrations = Vec::new();
    for n in 0..5 {
        integrations.push(test.enable(&account, &format!("acme-{n}")).await);
    }
    eventually("five first copies", async || {
        test.db.number("select count(*) from sync_runs where state = 'SUCCEEDED'").await == 5
    })
    .await;

    test.pass(TimeDelta::seconds(1));
    let run = ask_trigger(&test, &account, &integrations[0], |_| {}).await.unwrap().sync_run.unwrap().id;
    eventually("the triggered run", async || test.run(&account, &run).await.state() == pb::SyncRunState::Succeeded)
        .await;
    assert_eq!(test.match_caller(call(&account, "+13108675301")).await.candidates.len(), 5);
    assert_ne!(column(&test, &integrations[0], "checkpoint").await, "");
    test.lifecycle.soft().cancel();
}

#[tokio::test]
async fn waiting_for_the_quota_is_no_failed_run() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::minutes(30));

    for _ in 0..3 {
        fail(&test, 0, Some(1), Fault::RateLimited { retry_after_seconds: Some(600) });
        assert_eq!(test.sync_due().await, 1);
        let waiting = test.integration(&account, &integration).await;
        assert_eq!(waiting.state(), pb::IntegrationState::QuotaPaused);
        assert_eq!(test.sync_due().await, 0, "not before the CRM said so");
        test.pass(TimeDelta::minutes(10));
    }
    fail(&test, 0, Some(1), Fault::NotFound);
    assert_eq!(test.sync_due().await, 1);

    // The first refusal of a kind that pauses with the third.
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
}
