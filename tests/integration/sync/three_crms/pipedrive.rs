//! What only Pipedrive does: it lists no deletions, hides persons from some users, and counts
//! tokens.

use chrono::TimeDelta;
use contact_sync::{domain::clock::Clock, rpc::pb};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
};
use serde_json::json;

use super::{
    behaviours::{PERIOD, assert_is_the_truth, copied, link, next_run, next_run_with_deletions},
    crm::{Crm, PipedriveCrm},
    passing_faults,
};
use crate::{
    support::sync::{Beside, arrived, ask_trigger, ask_update, expire_leases, live_contacts, param, time},
    support::{Subject, TestApp, Worlds, error_of, reason},
};

const BRYCE: &str = "+13108675309";

async fn look_up(test: &TestApp, account: &str) -> Option<pb::Contact> {
    test.look_up(account, BRYCE).await.selected
}

fn mirror(switch: pb::Switch) -> pb::IntegrationOptions {
    let persons = pb::ObjectOptions { mirror_deletions: switch.into(), ..Default::default() };
    pb::IntegrationOptions { pipedrive_persons: Some(persons), ..Default::default() }
}

/// A person that vanishes without a trace is found missing by the sweep that comes by itself.
#[tokio::test]
async fn traceless_deletion_is_found_by_due_sweep() {
    let test = TestApp::start().await;
    let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    test.pipedrive.purge_person(id.parse().unwrap()).unwrap();
    // Without the scope for recent changes there is not even a hint.
    PipedriveCrm::faults(&test).add(FaultRule::always("/recents", Fault::ForbiddenScope)).unwrap();

    next_run(&test).await;
    assert!(look_up(&test, &account).await.is_some(), "an increment shows nothing");
    let sweep_at = time(test.integration(&account, &integration).await.next_sweep_time);
    test.pass(sweep_at - test.clock.now());
    assert_eq!(test.sync_due().await, 1);

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.kind(), pb::SyncKind::Sweep);
    assert_eq!(run.counts.unwrap().deleted, 1);
    assert!(look_up(&test, &account).await.is_none());
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
    assert!(time(test.integration(&account, &integration).await.next_sweep_time) > test.clock.now());
}

/// A deletion that recent changes hint at is confirmed, and mirrored in half an hour.
#[tokio::test]
async fn hinted_deletion_is_confirmed_by_next_run() {
    let test = TestApp::start().await;
    let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let (account, _) = copied::<PipedriveCrm>(&test).await;

    test.pass(TimeDelta::minutes(5));
    PipedriveCrm::delete(&test, &id);
    next_run(&test).await;

    assert!(look_up(&test, &account).await.is_none());
}

/// A hidden person is not taken for deleted, and the run says so.
#[tokio::test]
async fn hidden_person_is_told_and_not_deleted() {
    let worlds = Worlds { pipedrive: Some(|config| config.company_user_is_admin = false), ..Worlds::default() };
    let test = TestApp::start_in(worlds).await;
    let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    test.pipedrive.hide_from_token(id.parse().unwrap()).unwrap();

    let run = next_run_with_deletions::<PipedriveCrm>(&test, &account, &integration).await;

    assert!(look_up(&test, &account).await.is_some());
    assert!(run.notices.iter().any(|notice| notice.to_string().starts_with("RECORDS_HIDDEN: 1 ")), "{:?}", run.notices);
    assert!(run.notices.iter().any(|notice| notice.to_string().starts_with("NOT_ADMIN: ")), "{:?}", run.notices);
}

#[tokio::test]
async fn too_many_deletions_wait_for_somebodys_word() {
    let test = TestApp::start().await;
    PipedriveCrm::generate(&test, 400, 7);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    let ids: Vec<String> = PipedriveCrm::truth(&test).into_keys().collect();
    for id in &ids[..200] {
        PipedriveCrm::delete(&test, id);
    }
    let confirm = async |held: i64| {
        let request = pb::ConfirmDeletionsRequest {
            account_id: account.clone(),
            integration_id: integration.clone(),
            held_deletions: held,
        };
        test.syncs().confirm_deletions(request).await
    };
    assert_eq!(reason(&confirm(200).await.unwrap_err()), "NO_DELETIONS_HELD");

    let run = next_run_with_deletions::<PipedriveCrm>(&test, &account, &integration).await;

    assert!(
        run.notices.iter().any(|notice| notice.to_string().starts_with("DELETIONS_HELD: 200 of 400 ")),
        "{:?}",
        run.notices
    );
    assert_eq!(test.integration(&account, &integration).await.held_deletions, 200);
    assert_eq!(live_contacts(&test, &account).await, 400, "nobody was deleted");

    assert_eq!(reason(&confirm(199).await.unwrap_err()), "HELD_DELETIONS_CHANGED");
    confirm(200).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(live_contacts(&test, &account).await, 200);
    assert_eq!(test.integration(&account, &integration).await.held_deletions, 0);
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
}

#[tokio::test]
async fn what_was_confirmed_does_not_release_more() {
    let test = TestApp::start().await;
    PipedriveCrm::generate(&test, 600, 8);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    let ids: Vec<String> = PipedriveCrm::truth(&test).into_keys().collect();
    ids[..200].iter().for_each(|id| PipedriveCrm::delete(&test, id));
    next_run_with_deletions::<PipedriveCrm>(&test, &account, &integration).await;
    assert_eq!(test.integration(&account, &integration).await.held_deletions, 200);
    let request = pb::ConfirmDeletionsRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        held_deletions: 200,
    };
    test.syncs().confirm_deletions(request).await.unwrap();

    // Before that sweep runs, everybody else is gone too.
    ids[200..].iter().for_each(|id| PipedriveCrm::delete(&test, id));
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(live_contacts(&test, &account).await, 600);
    assert_eq!(test.integration(&account, &integration).await.held_deletions, 600);
}

/// With deletions off, the contact names the caller and is no requester, until they are switched
/// on.
#[tokio::test]
async fn unmirrored_deletion_names_caller_is_no_requester() {
    let test = TestApp::start().await;
    let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    ask_update(&test, &account, &integration, mirror(pb::Switch::Off), None).await.unwrap();
    test.sync_due().await;
    PipedriveCrm::delete(&test, &id);
    next_run_with_deletions::<PipedriveCrm>(&test, &account, &integration).await;

    let caller = look_up(&test, &account).await.unwrap();
    assert_eq!(caller.display_name, "Bryce Love");
    assert!(!caller.records[0].is_live);
    let number = Subject::PhoneNumber(BRYCE.into());
    let resolved = test.resolve(&account, &integration, number).await;
    assert_eq!(resolved.outcome(), pb::RequesterOutcome::NotFound);

    ask_update(&test, &account, &integration, mirror(pb::Switch::On), None).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(test.last_run(&account, &integration).await.kind(), pb::SyncKind::Sweep);
    assert!(look_up(&test, &account).await.is_none());
    assert!(test.contact(&account, &caller.id).await.delete_time.is_some());
}

/// All numbers and addresses of a person are copied, and empty ones are not.
#[tokio::test]
async fn persons_nonempty_numbers_and_addresses_are_copied() {
    let worlds = Worlds { pipedrive: Some(|config| config.empty_phone_entries = true), ..Worlds::default() };
    let test = TestApp::start_in(worlds).await;
    let person = json!({"name": "Bryce Love",
        "phones": [{"value": "(310)-867-5309", "primary": true, "label": "work"}, {"value": "310 555 0142", "primary": false, "label": "mobile"}],
        "emails": [{"value": "bryce@example.com", "primary": true, "label": "work"}, {"value": "b@example.org", "primary": false, "label": "home"}]});
    test.pipedrive.create_person(&person).unwrap();
    test.pipedrive.create_person(&json!({"name": "Nobody's Number"})).unwrap();

    let (account, integration) = copied::<PipedriveCrm>(&test).await;

    let bryce = look_up(&test, &account).await.unwrap();
    let labels: Vec<&str> = bryce.numbers.iter().map(|number| number.label.as_str()).collect();
    assert_eq!(labels, ["work", "mobile"]);
    assert_eq!(bryce.emails, ["bryce@example.com", "b@example.org"]);
    let texts = "select count(*) from phone_numbers where raw = ''";
    assert_eq!(test.db.number(texts).await, 0);
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
}

passing_faults! { PipedriveCrm:
    a_429_of_the_burst_limit: Fault::BurstLimited { reset_seconds: 1 },
    a_server_error: Fault::ServerError,
    a_503_in_html: Fault::Unavailable { retry_after_seconds: None },
    a_cursor_that_is_refused: Fault::CursorRefused,
    the_same_person_on_two_pages: Fault::RepeatPrevious,
    an_empty_page_that_is_not_the_end: Fault::EmptyPage { advance: true },
    empty_numbers: Fault::EmptyPhones,
    half_a_body: Fault::Truncate,
    a_page_in_html: Fault::Html,
    a_connection_that_breaks: Fault::Reset { after_bytes: Some(1_000) },
    a_silent_server: Fault::Hang,
}

/// Times are asked for in whole seconds, for fractions are refused.
#[tokio::test]
async fn times_are_asked_in_whole_seconds() {
    let test = TestApp::start().await;
    let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    test.pass(TimeDelta::milliseconds(789));
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    PipedriveCrm::forget_requests(&test);
    PipedriveCrm::rename(&test, &id, "Renamed");

    next_run(&test).await;

    let requests = test.pipedrive.requests().recent;
    let times: Vec<&str> = requests
        .iter()
        .filter_map(|request| param(&request.query, "updated_since").or(param(&request.query, "since_timestamp")))
        .collect();
    assert_eq!(times.len(), 2, "of persons and of recent changes: {times:?}");
    assert!(times.iter().all(|time| !time.contains('.')), "{times:?}");
    let refused = test.pipedrive.call("GET", "/api/v2/persons?updated_since=2026-11-22T09:00:00.789Z", None).unwrap();
    assert_eq!(refused.0.as_u16(), 400, "Pipedrive does refuse them");
    assert_eq!(test.last_run(&account, &integration).await.state(), pb::SyncRunState::Succeeded);
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
}

/// Cloudflare's 403 ends the run at once and deletes nobody, and the next run catches up.
#[tokio::test]
async fn cloudflares_403_ends_run_and_deletes_nobody() {
    let test = TestApp::start().await;
    PipedriveCrm::generate(&test, 20, 10);
    let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    PipedriveCrm::rename(&test, &id, "Renamed");
    let rule = PipedriveCrm::faults(&test).add(FaultRule::always("/api/", Fault::CloudflareBlocked)).unwrap();

    next_run(&test).await;

    let failed = test.last_run(&account, &integration).await;
    assert!(error_of(&failed).starts_with("RATE_LIMITED"), "{}", error_of(&failed));
    assert_eq!(PipedriveCrm::faults(&test).fired(rule), 1, "to ask on would prolong it");
    assert_eq!(live_contacts(&test, &account).await, 21);
    PipedriveCrm::faults(&test).remove(rule);
    next_run(&test).await;
    assert_eq!(look_up(&test, &account).await.unwrap().display_name, "Renamed");
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
}

/// Deletions that are confirmed while a run or a sweep runs are made by a sweep at once.
#[tokio::test]
async fn confirmed_deletions_are_swept_after_running_run() {
    for kind in [pb::SyncKind::Incremental, pb::SyncKind::Sweep] {
        let test = TestApp::start().await;
        PipedriveCrm::generate(&test, 400, 11);
        let (account, integration) = copied::<PipedriveCrm>(&test).await;
        let ids: Vec<String> = PipedriveCrm::truth(&test).into_keys().take(200).collect();
        for id in &ids {
            test.pipedrive.purge_person(id.parse().unwrap()).unwrap();
        }
        next_run_with_deletions::<PipedriveCrm>(&test, &account, &integration).await;
        test.pass(PERIOD);
        ask_trigger(&test, &account, &integration, |request| request.set_kind(kind)).await.unwrap();
        let gate = PipedriveCrm::faults(&test).gate(PipedriveCrm::PAGES, 0, GateAt::Response).unwrap();
        let run = Beside::start(&test.app);
        arrived(&gate, 1).await;

        let request = pb::ConfirmDeletionsRequest {
            account_id: account.clone(),
            integration_id: integration.clone(),
            held_deletions: 200,
        };
        test.syncs().confirm_deletions(request).await.unwrap();
        gate.open();
        run.ended().await;
        test.sync_due().await;
        test.sync_due().await;

        let run = test.last_run(&account, &integration).await;
        assert_eq!((run.kind(), run.state()), (pb::SyncKind::Sweep, pb::SyncRunState::Succeeded), "{kind:?}");
        assert_eq!(test.integration(&account, &integration).await.held_deletions, 0, "{kind:?}");
        assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
    }
}

/// A closed account and Cloudflare's page are told in words.
#[tokio::test]
async fn closed_account_and_cloudflare_are_told() {
    for (fault, expected) in [
        (Fault::AccountClosed, "CRM_ACCOUNT_CLOSED"),
        (Fault::CloudflareBlocked, "RATE_LIMITED"),
        (Fault::Unauthorized, "CREDENTIALS_REFUSED"),
    ] {
        let test = TestApp::start().await;
        let (account, integration) = copied::<PipedriveCrm>(&test).await;
        let shown = format!("{fault:?}");
        PipedriveCrm::faults(&test).add(FaultRule::always(PipedriveCrm::PAGES, fault)).unwrap();

        next_run(&test).await;

        let run = test.last_run(&account, &integration).await;
        assert_eq!(run.state(), pb::SyncRunState::Failed, "{shown}");
        assert!(error_of(&run).starts_with(expected), "{shown}: {}", error_of(&run));
    }
}

#[tokio::test]
async fn credentials_of_another_company_are_refused() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let request = pb::EnableSyncRequest {
        account_id: account,
        provider: pb::Provider::Pipedrive.into(),
        connection: Some(crate::support::pipedrive_connection("other")),
        credentials: Some(PipedriveCrm::token()),
        ..Default::default()
    };

    let refused = test.syncs().enable_sync(request).await.unwrap_err();

    assert_eq!(reason(&refused), "OTHER_ORGANIZATION");
}

/// A sweep that dies while it asks goes on where it was.
#[tokio::test]
async fn sweep_dying_while_asking_resumes() {
    let test = TestApp::start().await;
    PipedriveCrm::generate(&test, 90, 9);
    let account = test.account().await;
    let integration = link::<PipedriveCrm>(&test, &account, PipedriveCrm::token()).await;
    assert_eq!(test.sync_due().await, 1);
    let ids: Vec<String> = PipedriveCrm::truth(&test).into_keys().take(40).collect();
    for id in &ids {
        test.pipedrive.purge_person(id.parse().unwrap()).unwrap();
    }
    test.pass(PERIOD);
    let request = pb::TriggerSyncRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        kind: pb::SyncKind::Sweep.into(),
        ..Default::default()
    };
    test.syncs().trigger_sync(request).await.unwrap();
    let single = format!("/api/v2/persons/{}", ids[5]);
    let gate = PipedriveCrm::faults(&test).gate(&single, 0, GateAt::Request).unwrap();

    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    run.dies().await;
    gate.open();
    crate::support::sync::expire_leases(&test).await;
    PipedriveCrm::forget_requests(&test);
    assert_eq!(test.sync_due().await, 1);

    let lists = test.pipedrive.requests().recent.iter().filter(|request| request.query.starts_with("limit=")).count();
    assert_eq!(lists, 0, "everything was listed before");
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
}

/// A person whose restore leaves its time of change alone is asked for, and is back at once.
#[tokio::test]
async fn restore_that_touches_no_time_is_seen_by_asking() {
    let worlds = Worlds { pipedrive: Some(|config| config.restores_touch_update_time = false), ..Worlds::default() };
    let test = TestApp::start_in(worlds).await;
    let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    let before = look_up(&test, &account).await.unwrap();
    PipedriveCrm::delete(&test, &id);
    next_run_with_deletions::<PipedriveCrm>(&test, &account, &integration).await;
    assert!(look_up(&test, &account).await.is_none());

    PipedriveCrm::restore(&test, &id);
    next_run_with_deletions::<PipedriveCrm>(&test, &account, &integration).await;

    assert_eq!(look_up(&test, &account).await.unwrap().id, before.id);
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
}

/// A process that dies after a page, and before the CRM is asked for what the page left open,
/// leaves that for whoever goes on.
#[tokio::test]
async fn crash_before_open_record_is_asked_for_loses_nothing() {
    let worlds = Worlds { pipedrive: Some(|config| config.restores_touch_update_time = false), ..Worlds::default() };
    let test = TestApp::start_in(worlds).await;
    let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    PipedriveCrm::delete(&test, &id);
    next_run_with_deletions::<PipedriveCrm>(&test, &account, &integration).await;
    PipedriveCrm::restore(&test, &id);
    test.pass(PERIOD);
    let sweep = |request: &mut pb::TriggerSyncRequest| request.set_kind(pb::SyncKind::Sweep);
    ask_trigger(&test, &account, &integration, sweep).await.unwrap();
    let gate = test.pipedrive.faults().gate(PipedriveCrm::LOOK_UPS, 0, GateAt::Request).unwrap();

    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    run.dies().await;
    gate.open();
    assert!(look_up(&test, &account).await.is_none(), "the page was taken in, and left this one open");
    expire_leases(&test).await;
    assert_eq!(test.sync_due().await, 1);

    assert!(look_up(&test, &account).await.is_some());
    let run = test.last_run(&account, &integration).await;
    assert_eq!((run.state(), run.attempt), (pb::SyncRunState::Succeeded, 2), "{}", error_of(&run));
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
}
