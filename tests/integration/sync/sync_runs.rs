//! What operators ask of a run: now, stop, watch, list.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::{faults::Fault, gate::GateAt};
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{Beside, EXPORT, arrived, ask_cancel, ask_trigger, fail, live_contacts, pages, param, soon, time},
    support::{TestApp, error_of, reason},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);

async fn watch(test: &TestApp, account: &str, run: &str) -> tonic::Streaming<pb::WatchSyncRunResponse> {
    let request = pb::WatchSyncRunRequest { account_id: account.into(), sync_run_id: run.into() };
    test.syncs().watch_sync_run(request).await.unwrap().into_inner()
}

async fn next(stream: &mut tonic::Streaming<pb::WatchSyncRunResponse>) -> Option<pb::SyncRun> {
    soon("a word of the watched run", stream.message()).await.unwrap().map(|answer| answer.sync_run.unwrap())
}

/// A trigger runs now, and the run under way is returned to the next one.
#[tokio::test]
async fn trigger_runs_now_or_returns_current_run() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(5, 1).unwrap();
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::seconds(1));
    assert_eq!(test.sync_due().await, 0);

    let first = ask_trigger(&test, &account, &integration, |_| {}).await.unwrap();
    assert!(!first.already_running);
    let first = first.sync_run.unwrap();
    assert_eq!((first.state(), first.kind()), (pb::SyncRunState::Queued, pb::SyncKind::Incremental));
    let queued = ask_trigger(&test, &account, &integration, |_| {}).await.unwrap();
    assert!(queued.already_running);
    assert_eq!(queued.sync_run.unwrap().id, first.id);

    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Request).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;
    let running = ask_trigger(&test, &account, &integration, |_| {}).await.unwrap();
    assert!(running.already_running);
    let running = running.sync_run.unwrap();
    assert_eq!((running.id.as_str(), running.state()), (first.id.as_str(), pb::SyncRunState::Running));
    gate.open();
    assert_eq!(sync.ended().await, 1);

    test.pass(TimeDelta::seconds(1));
    let later = ask_trigger(&test, &account, &integration, |_| {}).await.unwrap();
    assert!(!later.already_running);
    assert_ne!(later.sync_run.unwrap().id, first.id);
}

#[tokio::test]
async fn racing_triggers_start_one_run() {
    let test = TestApp::start().await;
    let replica = test.replica(|_| {}).await;
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::seconds(1));

    let mut triggers = JoinSet::new();
    for n in 0..12 {
        let mut client = if n % 2 == 0 { test.syncs() } else { replica.syncs() };
        let request = pb::TriggerSyncRequest {
            account_id: account.clone(),
            integration_id: integration.clone(),
            ..Default::default()
        };
        triggers.spawn(async move { client.trigger_sync(request).await.unwrap().into_inner() });
    }
    let answers = triggers.join_all().await;

    let runs: BTreeSet<String> = answers.iter().map(|answer| answer.sync_run.as_ref().unwrap().id.clone()).collect();
    assert_eq!(runs.len(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.already_running).count(), 1);
    assert_eq!(test.sync_due().await, 1);
    assert_holds(&test).await;
}

/// A request id starts one run, however often it comes.
#[tokio::test]
async fn repeated_request_id_starts_one_run() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::seconds(1));
    let id = Uuid::from_u128(7).to_string();
    let with_id = |request: &mut pb::TriggerSyncRequest| request.request_id.clone_from(&id);

    let first = ask_trigger(&test, &account, &integration, with_id).await.unwrap().sync_run.unwrap();
    let again = ask_trigger(&test, &account, &integration, with_id).await.unwrap().sync_run.unwrap();
    assert_eq!(test.sync_due().await, 1);
    test.pass(PERIOD / 2);
    let finished = ask_trigger(&test, &account, &integration, with_id).await.unwrap().sync_run.unwrap();

    assert_eq!((&again.id, &finished.id), (&first.id, &first.id));
    assert_eq!(finished.state(), pb::SyncRunState::Succeeded);
    assert_eq!(test.sync_due().await, 0);

    // Of another integration: told, not retried for ever or taken for a fault of the service.
    let other = test.enable(&account, "other").await;
    test.sync_due().await;
    test.pass(TimeDelta::seconds(1));
    let refused = ask_trigger(&test, &account, &other, with_id).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "REQUEST_ID_REUSED".to_owned()));
}

/// A full run reads everything again, and changes nothing.
#[tokio::test]
async fn full_run_rereads_everything_changes_nothing() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_200, 1).unwrap();
    let (account, integration) = test.synced().await;
    let fingerprint = "select ('x' || substr(md5(string_agg(contact_id::text || created_at || updated_at, ',' order by contact_id)), 1, 15))::bit(60)::bigint from contacts";
    let before = test.db.number(fingerprint).await;
    test.zendesk.clear_requests();
    test.pass(TimeDelta::minutes(1));

    let initial = |request: &mut pb::TriggerSyncRequest| request.set_kind(pb::SyncKind::Initial);
    let run = ask_trigger(&test, &account, &integration, initial).await.unwrap().sync_run.unwrap();
    assert_eq!(run.kind(), pb::SyncKind::Initial);
    // The copy is whole all the while.
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
    assert_eq!(test.sync_due().await, 1);

    let run = test.run(&account, &run.id).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded);
    let counts = run.counts.unwrap();
    assert_eq!((counts.read, counts.skipped), (1_200, 1_200));
    assert_eq!(param(&pages(&test)[0], "start_time"), Some("0"));
    assert_eq!(test.db.number(fingerprint).await, before);
    assert_is_a_true_copy(&test, &integration).await;
}

#[tokio::test]
async fn what_cannot_be_triggered_says_why() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let off = test.enable_off(&account, pb::Provider::Zendesk, "acme").await;

    let refused = ask_trigger(&test, &account, &off, |_| {}).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "SYNC_OFF".to_owned()));
    let unknown = ask_trigger(&test, &account, &Uuid::from_u128(1).to_string(), |_| {}).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown)), (Code::NotFound, "INTEGRATION_NOT_FOUND".to_owned()));
    let unknown = ask_cancel(&test, &account, &Uuid::from_u128(1).to_string()).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown)), (Code::NotFound, "SYNC_RUN_NOT_FOUND".to_owned()));
    assert_eq!(test.zendesk.requests().total, 0);
}

/// A queued run is cancelled, and the next run comes a period later.
#[tokio::test]
async fn queued_run_cancels_until_next_period() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(5, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let queued = test.integration(&account, &integration).await.current_sync_run_id;
    test.zendesk.clear_requests();

    let cancelled = ask_cancel(&test, &account, &queued).await.unwrap();

    assert_eq!(cancelled.state(), pb::SyncRunState::Cancelled);
    assert_eq!(test.sync_due().await, 0);
    assert_eq!(test.zendesk.requests().total, 0);
    let again = ask_cancel(&test, &account, &queued).await.unwrap_err();
    assert_eq!((again.code(), reason(&again)), (Code::FailedPrecondition, "RUN_FINISHED".to_owned()));
    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A cancelled first copy keeps its pages, writes no more, and goes on where it was.
#[tokio::test]
async fn cancelled_first_copy_resumes_where_it_was() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(2_500, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let run = test.integration(&account, &integration).await.current_sync_run_id;
    let gate = test.zendesk.faults().gate(EXPORT, 1, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    let cancelled = ask_cancel(&test, &account, &run).await.unwrap();
    gate.open();
    assert_eq!(sync.ended().await, 1);

    assert_eq!(cancelled.state(), pb::SyncRunState::Cancelled);
    let run = test.run(&account, &run).await;
    assert_eq!((run.state(), run.counts.unwrap().read), (pb::SyncRunState::Cancelled, 1_000));
    assert_eq!(live_contacts(&test, &account).await, 1_000);
    assert_eq!(test.sync_due().await, 0);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::InitialSync);
    assert_holds(&test).await;

    test.zendesk.faults().clear();
    let interrupted = pages(&test);
    test.zendesk.clear_requests();
    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);
    let resumed = pages(&test);
    assert_eq!(resumed.len(), 2);
    assert_eq!(resumed[0], interrupted[1], "it goes on with the page that was not written");
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn a_watched_run_tells_its_progress_and_ends() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(2_500, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let run = test.integration(&account, &integration).await.current_sync_run_id;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Request).unwrap();
    let mut stream = watch(&test, &account, &run).await;
    assert_eq!(next(&mut stream).await.unwrap().state(), pb::SyncRunState::Queued);

    let sync = Beside::start(&test.app);
    for (page, read) in [(1, 0), (2, 1_000), (3, 2_000)] {
        arrived(&gate, page).await;
        let seen = loop {
            let run = next(&mut stream).await.unwrap();
            let is_there = run.state() == pb::SyncRunState::Running && run.counts.unwrap().read == read;
            if is_there && run.estimated_total == 2_500 {
                break run;
            }
        };
        assert_eq!(seen.phase, "copying");
        // Time moves on while a page is read, or there is no rate to guess from.
        test.pass(TimeDelta::seconds(10));
        if read > 0 {
            let left = test.run(&account, &run).await.estimated_time_left.expect("there is a rate");
            assert!((1..=60).contains(&left.seconds), "{} s left", left.seconds);
        }
        gate.release_one();
    }
    let last = loop {
        let run = next(&mut stream).await.expect("the stream ends after the run's end");
        if run.state() == pb::SyncRunState::Succeeded {
            break run;
        }
    };
    assert_eq!(last.counts.unwrap().read, 2_500);
    assert!(next(&mut stream).await.is_none());
    assert_eq!(sync.ended().await, 1);

    let mut finished = watch(&test, &account, &run).await;
    assert_eq!(next(&mut finished).await.unwrap().state(), pb::SyncRunState::Succeeded);
    assert!(next(&mut finished).await.is_none());
    assert_eq!(test.last_run(&account, &integration).await.id, run);
}

/// A watched run that is cancelled or fails ends its stream, too.
#[tokio::test]
async fn cancelled_or_failed_run_ends_watchers_stream() {
    let test = TestApp::start_with(|config| config.worker.attempts_max = 2).await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let run = test.integration(&account, &integration).await.current_sync_run_id;
    let mut stream = watch(&test, &account, &run).await;
    assert!(next(&mut stream).await.is_some());

    ask_cancel(&test, &account, &run).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().state(), pb::SyncRunState::Cancelled);
    assert!(next(&mut stream).await.is_none());

    test.pass(TimeDelta::seconds(1));
    fail(&test, 0, None, Fault::ServerError);
    let run = ask_trigger(&test, &account, &integration, |_| {}).await.unwrap().sync_run.unwrap().id;
    let mut stream = watch(&test, &account, &run).await;
    assert_eq!(test.sync_due().await, 1);
    let mut last = None;
    while let Some(run) = next(&mut stream).await {
        last = Some(run);
    }
    let last = last.unwrap();
    assert_eq!(last.state(), pb::SyncRunState::Failed);
    assert!(error_of(&last).starts_with("CRM_UNREACHABLE"), "{}", error_of(&last));

    let request = pb::WatchSyncRunRequest { account_id: account.clone(), sync_run_id: Uuid::from_u128(3).to_string() };
    let unknown = test.syncs().watch_sync_run(request).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown)), (Code::NotFound, "SYNC_RUN_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn runs_are_listed_newest_first_without_gaps() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    for _ in 0..6 {
        test.pass(PERIOD);
        assert_eq!(test.sync_due().await, 1);
    }

    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListSyncRunsRequest {
            account_id: account.clone(),
            integration_id: integration.clone(),
            page_size: 3,
            page_token,
        };
        let page = test.syncs().list_sync_runs(request).await.unwrap().into_inner();
        seen.extend(page.sync_runs.into_iter().map(|run| (time(run.create_time), run.id)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(seen.len(), 7);
    assert!(seen.is_sorted_by(|a, b| a.0 > b.0));
    assert_eq!(seen[0].1, test.last_run(&account, &integration).await.id);
}
