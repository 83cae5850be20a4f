//! Zendesk's export page by page: cursors, the end, repeats, ties, changes while pages are read.
//! Nothing is lost, nothing doubled.

use chrono::TimeDelta;
use contact_sync::{domain::clock::Clock, rpc::pb};
use crm_simulator::{faults::Fault, gate::GateAt};
use serde_json::json;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{Beside, EXPORT, arrived, column, fail, live_contacts, pages, param, time},
    support::{TestApp, error_of},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);

/// A first copy reads every page once, and the next run goes on from the cursor.
#[tokio::test]
async fn first_copy_reads_once_next_resumes_cursor() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(2_300, 1).unwrap();

    let (account, integration) = test.synced().await;

    let first = pages(&test);
    assert_eq!(first.len(), 3);
    assert_eq!(param(&first[0], "start_time"), Some("0"));
    assert!(first[1..].iter().all(|query| param(query, "cursor").is_some() && param(query, "start_time").is_none()));
    assert!(first.iter().all(|query| param(query, "per_page") == Some("1000") && query.contains("include=identities")));
    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.kind(), pb::SyncKind::Initial);
    assert_eq!(run.estimated_total, 2_300);
    let counts = run.counts.unwrap();
    assert_eq!((counts.read, counts.created, counts.rejected), (2_300, 2_300, 0));
    assert_is_a_true_copy(&test, &integration).await;

    test.zendesk.clear_requests();
    test.pass(PERIOD);
    let new = test.zendesk.create_user(&json!({"name": "New", "phone": "+13108675309"})).unwrap();
    assert_eq!(test.sync_due().await, 1);

    let later = pages(&test);
    assert_eq!(later.len(), 1);
    assert!(param(&later[0], "cursor").is_some() && param(&later[0], "start_time").is_none());
    assert_eq!(test.zendesk.requests().count_of("users/count"), 0);
    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.kind(), pb::SyncKind::Incremental);
    // Resuming is inclusive: the last record came again.
    let counts = run.counts.unwrap();
    assert_eq!((counts.read, counts.created, counts.skipped), (2, 1, 1));
    let found = test.look_up(&account, "+13108675309").await;
    assert!(found.selected.unwrap().records.iter().any(|record| record.record_id == new.to_string()));
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// An empty account is copied, and its first user comes with the next run.
#[tokio::test]
async fn empty_accounts_first_user_comes_next_run() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);

    test.pass(PERIOD);
    test.zendesk.create_user(&json!({"name": "First", "phone": "+13108675309"})).unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(test.look_up(&account, "+13108675309").await.outcome(), pb::MatchOutcome::Matched);
    assert_is_a_true_copy(&test, &integration).await;
}

#[tokio::test]
async fn an_empty_page_is_not_the_end() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_500, 2).unwrap();
    fail(&test, 0, Some(1), Fault::EmptyPage { advance: true });
    fail(&test, 2, Some(3), Fault::EmptyPage { advance: true });

    let (_, integration) = test.synced().await;

    assert_eq!(pages(&test).len(), 6);
    assert_is_a_true_copy(&test, &integration).await;
}

/// A cursor that does not move fails the run, and the old cursor stays.
#[tokio::test]
async fn unmoving_cursor_fails_run_old_one_stays() {
    for fault in [Fault::StuckCursor, Fault::EmptyPage { advance: false }] {
        let test = TestApp::start_with(|config| config.worker.attempts_max = 2).await;
        test.zendesk.generate_people(10, 3).unwrap();
        let (account, integration) = test.synced().await;
        let before = column(&test, &integration, "checkpoint").await;
        test.pass(PERIOD);
        test.zendesk.create_user(&json!({"name": "New"})).unwrap();

        fail(&test, 0, None, fault);
        assert_eq!(test.sync_due().await, 1);

        let run = test.last_run(&account, &integration).await;
        assert_eq!(run.state(), pb::SyncRunState::Failed);
        assert!(error_of(&run).contains("do not get on"), "{}", error_of(&run));
        assert_eq!(column(&test, &integration, "checkpoint").await, before);
        assert_eq!(live_contacts(&test, &account).await, 10);
        assert_holds(&test).await;

        test.zendesk.faults().clear();
        test.pass(PERIOD);
        assert_eq!(test.sync_due().await, 1);
        assert_eq!(test.last_run(&account, &integration).await.state(), pb::SyncRunState::Succeeded);
        assert_is_a_true_copy(&test, &integration).await;
    }
}

/// Cursors that lead in a circle fail the run.
#[tokio::test]
async fn circling_cursors_fail_run() {
    let test = TestApp::start_with(|config| config.worker.attempts_max = 1).await;
    test.zendesk.generate_people(10, 3).unwrap();
    let (account, integration) = test.synced().await;
    let before = column(&test, &integration, "checkpoint").await;
    // 1000000000.0||1| and 1000000001.0||1|
    for (page, cursor) in (0..20).zip(["MTAwMDAwMDAwMC4wfHwxfA==", "MTAwMDAwMDAwMS4wfHwxfA=="].into_iter().cycle()) {
        let set = [("/after_cursor".to_owned(), json!(cursor)), ("/end_of_stream".to_owned(), json!(false))];
        fail(&test, page, Some(1), Fault::Patch { set: set.into(), remove: Vec::new() });
    }
    test.zendesk.clear_requests();
    test.pass(PERIOD);

    assert_eq!(test.sync_due().await, 1);

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Failed);
    assert!(error_of(&run).contains("do not get on"), "{}", error_of(&run));
    assert!(pages(&test).len() <= 4, "{} requests", pages(&test).len());
    assert_eq!(column(&test, &integration, "checkpoint").await, before);
    assert_holds(&test).await;
    test.zendesk.faults().clear();
    test.zendesk.create_user(&json!({"name": "New"})).unwrap();
    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);
    assert_eq!(test.last_run(&account, &integration).await.state(), pb::SyncRunState::Succeeded);
    assert_is_a_true_copy(&test, &integration).await;
}

/// A first copy whose cursor never moves fails, and is made later.
#[tokio::test]
async fn first_copy_with_unmoving_cursor_comes_later() {
    let test = TestApp::start_with(|config| config.worker.attempts_max = 2).await;
    test.zendesk.generate_people(10, 4).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    fail(&test, 0, None, Fault::EmptyPage { advance: false });

    assert_eq!(test.sync_due().await, 1);
    assert_eq!(test.last_run(&account, &integration).await.state(), pb::SyncRunState::Failed);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::InitialSync);
    assert!(!test.look_up(&account, "+13108675309").await.complete);

    test.zendesk.faults().clear();
    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
    assert_is_a_true_copy(&test, &integration).await;
}

/// A user on two pages, and twice on one, is one contact.
#[tokio::test]
async fn repeated_user_is_one_contact() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(2_100, 5).unwrap();
    fail(&test, 1, None, Fault::RepeatPrevious);
    fail(&test, 0, None, Fault::DuplicateRow);

    let (account, integration) = test.synced().await;

    let counts = test.last_run(&account, &integration).await.counts.unwrap();
    assert_eq!((counts.read, counts.created, counts.skipped), (2_105, 2_100, 5));
    assert_eq!(live_contacts(&test, &account).await, 2_100);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn an_older_copy_never_overwrites_a_newer_one() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann Old", "phone": "+13108675301"})).unwrap();
    let bob = test.zendesk.create_user(&json!({"name": "Bob", "phone": "+13108675302"})).unwrap();
    test.pass(TimeDelta::seconds(1));
    test.zendesk.update_user(ann, &json!({"name": "Ann New", "phone": "+13108675303"})).unwrap();
    test.pass(TimeDelta::seconds(1));
    test.zendesk.delete_user(bob).unwrap();

    // On the page itself, after the newer copy.
    fail(&test, 0, Some(1), Fault::StaleRow { id: Some(bob) });
    let (account, integration) = test.synced().await;
    assert_is_a_true_copy(&test, &integration).await;

    // On a later run.
    test.zendesk.faults().clear();
    fail(&test, 0, Some(1), Fault::StaleRow { id: Some(ann) });
    fail(&test, 0, Some(1), Fault::StaleRow { id: Some(bob) });
    test.pass(PERIOD);
    test.zendesk.create_user(&json!({"name": "Eve"})).unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert_is_a_true_copy(&test, &integration).await;
    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::NotFound);
    assert_eq!(test.look_up(&account, "+13108675302").await.outcome(), pb::MatchOutcome::NotFound);
    assert_eq!(test.look_up(&account, "+13108675303").await.selected.unwrap().display_name, "Ann New");
    assert_holds(&test).await;
}

/// More users in one second than fit a page are all copied.
#[tokio::test]
async fn second_with_more_than_page_is_copied() {
    let test = TestApp::start().await;
    let second = test.clock.now().timestamp() - 3_600;
    test.zendesk.generate_in_one_second(2_500, 6, second).unwrap();
    let (account, integration) = test.synced().await;

    test.pass(PERIOD);
    let later = test.clock.now().timestamp() - 120;
    test.zendesk.generate_in_one_second(1_500, 7, later).unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(live_contacts(&test, &account).await, 4_000);
    assert_is_a_true_copy(&test, &integration).await;
}

/// What changes while pages are read is not missed.
#[tokio::test]
async fn changes_while_pages_are_read_are_caught() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_500, 8).unwrap();
    let users: Vec<i64> = {
        let mut users = test.zendesk.oracle();
        users.sort_by(|a, b| (&a.updated_at, a.id).cmp(&(&b.updated_at, b.id)));
        users.into_iter().map(|user| user.id).collect()
    };
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);

    // The first page is made, and does not hold what happens now.
    arrived(&gate, 1).await;
    test.zendesk.update_user(users[3], &json!({"name": "Changed", "phone": "+13108675304"})).unwrap();
    test.zendesk.delete_user(users[4]).unwrap();
    test.zendesk.update_user(users[1_400], &json!({"name": "Changed too"})).unwrap();
    test.zendesk.delete_user(users[1_401]).unwrap();
    gate.release_one();
    // The last page is made.
    arrived(&gate, 2).await;
    test.zendesk.update_user(users[5], &json!({"name": "Changed at last"})).unwrap();
    test.zendesk.delete_user(users[6]).unwrap();
    gate.open();
    assert_eq!(sync.ended().await, 1);

    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A copy is known through a minute before the CRM's clock.
#[tokio::test]
async fn copy_is_known_through_minute_before_crm() {
    // Zendesk does not promise what changed in the last minute.
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;

    let known_through = time(test.integration(&account, &integration).await.known_through);

    assert_eq!(known_through, test.clock.now() - TimeDelta::seconds(60));
}
