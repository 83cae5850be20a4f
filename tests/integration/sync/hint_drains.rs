//! Hints are looked at: by whom, when, and what of it remains when something goes wrong in between.
//! Nothing of the integration's own runs is moved by it.

use std::time::Duration;

use chrono::TimeDelta;
use contact_sync::{
    domain::{
        clock::Clock as _,
        hint::{HintReason, NewHint},
        record::{ObjectType, RecordKey},
    },
    rpc::pb,
    store::hints,
};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
};
use serde_json::json;
use tonic::Code;

use crate::{
    histories::{integrity::assert_holds, oracle::assert_is_a_true_copy},
    support::hints::{HintWriter, drain, drain_beside, event, look_ups, user, waiting},
    support::sync::{
        Beside, EXPORT, arrived, ask_disable, ask_trigger, ask_update, column, eventually, expire_leases, sync_mode,
    },
    support::{TestApp, call, field, reason},
};

const NUMBER: &str = "+13108675301";
const SHOW_MANY: &str = "/show_many";

/// What a look at hints must not move.
async fn schedule(test: &TestApp, integration: &str) -> String {
    column(test, integration, "to_jsonb(integrations) - 'lease_number' - 'access' - 'access_version'").await
}

async fn is_named(test: &TestApp, account: &str, number: &str, name: &str) -> bool {
    test.look_up(account, number).await.selected.is_some_and(|contact| contact.display_name == name)
}

/// A changed record is known as soon as it is hinted, and the schedule of runs is as before.
#[tokio::test]
async fn hinted_change_is_known_and_moves_no_schedule() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::seconds(5));
    test.zendesk.update_user(ann, &json!({"name": "Ann Lee"})).unwrap();
    let bob = test.zendesk.create_user(&json!({"name": "Bob", "phone": "+13108675302"})).unwrap();
    let before = schedule(&test, &integration).await;
    test.zendesk.clear_requests();

    HintWriter::new(&test, &account, &integration)
        .write(&[event(ann, test.clock.now()), event(bob, test.clock.now())])
        .await;
    assert_eq!(drain(&test).await, 1);

    assert!(is_named(&test, &account, NUMBER, "Ann Lee").await);
    assert!(is_named(&test, &account, "+13108675302", "Bob").await);
    assert_eq!((waiting(&test).await, look_ups(&test)), (0, 1));
    assert_eq!(schedule(&test, &integration).await, before);
    assert_eq!(test.db.number("select count(*) from sync_runs").await, 1);
    assert_eq!(drain(&test).await, 0);
    test.pass(TimeDelta::minutes(30));
    assert_eq!(test.sync_due().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A placeholder that a caller left becomes the contact of the record that a hint brings.
#[tokio::test]
async fn hinted_record_adopts_placeholder_of_earlier_caller() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let stranger = test.match_caller(call(&account, NUMBER)).await.selected.unwrap();
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();

    HintWriter::new(&test, &account, &integration).write(&[event(ann, test.clock.now())]).await;
    drain(&test).await;

    let found = test.look_up(&account, NUMBER).await.selected.unwrap();
    assert_eq!((found.id, found.display_name), (stranger.id, "Ann".to_owned()));
    assert_holds(&test).await;
}

/// A deleted record, one that the CRM does not know, and one of a kind that is not copied.
#[tokio::test]
async fn hints_of_gone_unknown_and_uncopied_records_end() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::seconds(5));
    test.zendesk.delete_user(ann).unwrap();
    let uncopied = RecordKey { object_type: ObjectType::Person, record_id: "7".to_owned() };

    let now = test.clock.now();
    let hints = [event(ann, now), event(999_999, now), NewHint::of_record(uncopied, HintReason::Event)];
    HintWriter::new(&test, &account, &integration).write(&hints).await;
    drain(&test).await;

    assert!(test.look_up(&account, NUMBER).await.selected.is_none());
    assert_eq!(test.db.number("select count(*) from contacts where deleted_at is null").await, 0);
    // Who was never seen may be too new for what the CRM answers with, twice.
    for left in [1, 1, 0] {
        assert_eq!(waiting(&test).await, left);
        test.pass(TimeDelta::seconds(2));
        drain(&test).await;
    }
    assert_holds(&test).await;
}

/// Whom a record was merged into is known from the event alone, and its contact leads there.
#[tokio::test]
async fn merge_that_event_names_leads_to_winner() {
    let test = TestApp::start().await;
    let winner = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let loser = test.zendesk.create_user(&json!({"name": "Ann Lee", "phone": "+13108675302"})).unwrap();
    let (account, integration) = test.synced().await;
    let lost = test.look_up(&account, "+13108675302").await.selected.unwrap();
    let kept = test.look_up(&account, NUMBER).await.selected.unwrap();
    test.pass(TimeDelta::seconds(5));
    test.zendesk.merge_users(loser, winner).unwrap();

    let named = NewHint { successor: Some(user(winner)), ..event(loser, test.clock.now()) };
    HintWriter::new(&test, &account, &integration).write(&[named]).await;
    drain(&test).await;

    let lost = test.contact(&account, &lost.id).await;
    assert!(lost.delete_time.is_some());
    assert_eq!((lost.survivor_id, waiting(&test).await), (kept.id, 0));
    assert_holds(&test).await;
}

/// A change that is told while the CRM is being asked is asked for again.
#[tokio::test]
async fn hint_that_comes_during_look_up_survives() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let (account, integration) = test.synced().await;
    let writer = HintWriter::new(&test, &account, &integration);
    test.pass(TimeDelta::seconds(5));
    test.zendesk.update_user(ann, &json!({"name": "Ann Two"})).unwrap();
    writer.write(&[event(ann, test.clock.now())]).await;
    let gate = test.zendesk.faults().gate(SHOW_MANY, 0, GateAt::Response).unwrap();
    let looking = drain_beside(&test.app);
    arrived(&gate, 1).await;

    test.zendesk.update_user(ann, &json!({"name": "Ann Three"})).unwrap();
    // By a process whose clock is behind.
    let late = [event(ann, test.clock.now())];
    let mut batch = writer.batch(&late);
    batch.now -= TimeDelta::seconds(30);
    hints::write(writer.db(), &batch, Duration::from_secs(10)).await.unwrap();
    gate.open();
    looking.ended().await;

    assert!(is_named(&test, &account, NUMBER, "Ann Two").await);
    assert_eq!(waiting(&test).await, 1, "it was written anew");
    drain(&test).await;
    assert!(is_named(&test, &account, NUMBER, "Ann Three").await);
    assert_eq!(waiting(&test).await, 0);
    assert_holds(&test).await;
}

/// A crash between the CRM's answer and its storing leaves every hint.
#[tokio::test]
async fn crash_between_look_up_and_apply_keeps_hints() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    HintWriter::new(&test, &account, &integration).write(&[event(ann, test.clock.now())]).await;
    let gate = test.zendesk.faults().gate(SHOW_MANY, 0, GateAt::Response).unwrap();
    let looking = drain_beside(&test.app);
    arrived(&gate, 1).await;

    looking.dies().await;
    gate.open();
    test.zendesk.faults().clear();
    assert_eq!(drain(&test).await, 0, "its lease lasts");
    expire_leases(&test).await;
    assert_eq!(drain(&test).await, 1);

    assert!(is_named(&test, &account, NUMBER, "Ann").await);
    assert_eq!(waiting(&test).await, 0);
    assert_holds(&test).await;
}

/// Whoever has lost the lease meanwhile writes nothing, and deletes no hint.
#[tokio::test]
async fn look_whose_lease_was_stolen_changes_nothing() {
    let test = TestApp::start().await;
    let replica = test.replica(|_| {}).await;
    let (account, integration) = test.synced().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let writer = HintWriter::new(&test, &account, &integration);
    writer.write(&[event(ann, test.clock.now())]).await;
    let gate = test.zendesk.faults().gate(SHOW_MANY, 0, GateAt::Response).unwrap();
    let late = drain_beside(&test.app);
    arrived(&gate, 1).await;

    // A run of another process takes the integration over.
    expire_leases(&test).await;
    test.pass(TimeDelta::minutes(30));
    let run = Beside::start(&replica.app);
    arrived(&gate, 2).await;
    let held = column(&test, &integration, "lease_number").await;
    gate.release_one();
    late.ended().await;
    assert_eq!(column(&test, &integration, "lease_number").await, held, "nor does it end the other's lease");
    assert_eq!(waiting(&test).await, 1);
    assert_eq!(test.db.number("select count(*) from external_refs").await, 0);
    gate.open();
    assert_eq!(run.ended().await, 1);

    assert_eq!(waiting(&test).await, 0);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A first copy of hours looks at hints between its pages.
#[tokio::test]
async fn first_copy_looks_at_hints_between_pages() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(3_500, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let gate = test.zendesk.faults().gate(EXPORT, 1, GateAt::Response).unwrap();
    let copy = Beside::start(&test.app);
    arrived(&gate, 1).await;

    // Its lease is held: nobody else looks.
    test.pass(TimeDelta::seconds(5));
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+442079460001"})).unwrap();
    HintWriter::new(&test, &account, &integration).write(&[event(ann, test.clock.now())]).await;
    assert_eq!(drain(&test).await, 0);
    gate.release_one();
    arrived(&gate, 2).await;

    assert!(is_named(&test, &account, "+442079460001", "Ann").await, "long before the end of the copy");
    assert_eq!(waiting(&test).await, 0);
    assert_eq!(test.db.number("select read_count from sync_runs").await, 2_000, "the run counts its pages");
    gate.open();
    assert_eq!(copy.ended().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// Many changes at once are one run, once the CRM's lists show them, and not two in a minute.
#[tokio::test]
async fn storm_of_hints_is_one_run_after_lag() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let writer = HintWriter::new(&test, &account, &integration);
    test.pass(TimeDelta::seconds(5));
    let users: Vec<i64> = (0..40)
        .map(|n| test.zendesk.create_user(&json!({"name": "Ann", "phone": format!("+131086754{n:02}")})).unwrap())
        .collect();
    let hints: Vec<NewHint> = users.iter().map(|id| event(*id, test.clock.now())).collect();
    test.zendesk.clear_requests();

    writer.write(&hints).await;
    assert_eq!(drain(&test).await, 1);
    assert_eq!((waiting(&test).await, look_ups(&test)), (1, 0));
    test.pass(TimeDelta::seconds(64));
    assert_eq!(drain(&test).await, 0, "the CRM's export lags by a minute");
    test.pass(TimeDelta::seconds(1));
    assert_eq!(drain(&test).await, 1);
    assert_eq!(waiting(&test).await, 0);
    let queued = test.last_run(&account, &integration).await;
    assert_eq!((queued.kind(), queued.state()), (pb::SyncKind::Incremental, pb::SyncRunState::Queued));
    // While it waits, more come: they are another run's.
    writer.write(&hints).await;
    drain(&test).await;
    test.pass(TimeDelta::seconds(65));
    assert_eq!(drain(&test).await, 0, "a run is queued");
    assert_eq!(test.sync_due().await, 1);
    test.pass(TimeDelta::seconds(59));
    assert_eq!(drain(&test).await, 0, "the last run ended less than a minute ago");
    test.pass(TimeDelta::seconds(1));
    assert_eq!(drain(&test).await, 1);
    assert_eq!(test.sync_due().await, 1);

    assert_eq!((waiting(&test).await, look_ups(&test)), (0, 0));
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// What comes while a storm's run waits for the CRM's lists, and is not in them by then, has a run
/// of its own.
#[tokio::test]
async fn storm_that_goes_on_has_another_run() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let writer = HintWriter::new(&test, &account, &integration);
    test.pass(TimeDelta::minutes(2));
    let whole = || NewHint::of_integration(HintReason::Event, Some(test.clock.now()));

    writer.write(&[whole()]).await;
    test.pass(TimeDelta::seconds(60));
    writer.write(&[whole()]).await;
    test.pass(TimeDelta::seconds(5));
    assert_eq!(drain(&test).await, 1, "the first one is not put off by the second");
    assert_eq!(test.sync_due().await, 1);
    assert_eq!((waiting(&test).await, drain(&test).await), (1, 0));
    test.pass(TimeDelta::seconds(65));
    assert_eq!(drain(&test).await, 1);
    assert_eq!(test.sync_due().await, 1);

    assert_eq!((waiting(&test).await, drain(&test).await), (0, 0));
    // A CRM whose clock is ahead makes no more of it.
    let ahead = NewHint::of_integration(HintReason::Event, Some(test.clock.now() + TimeDelta::hours(1)));
    writer.write(&[ahead]).await;
    test.pass(TimeDelta::seconds(65));
    assert_eq!((drain(&test).await, waiting(&test).await), (1, 0));
}

/// An answer that is older than what the event says is asked for again, a few times.
#[tokio::test]
async fn answer_older_than_event_is_asked_for_again() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let (account, integration) = test.synced().await;
    let now = test.clock.now();
    let told = NewHint { record_updated_at: Some(now + TimeDelta::minutes(1)), ..event(ann, now) };
    HintWriter::new(&test, &account, &integration).write(&[told]).await;
    test.zendesk.clear_requests();

    for attempt in 1..=4 {
        assert_eq!(drain(&test).await, 1);
        assert_eq!(test.db.number("select attempts::bigint from hints").await, attempt);
        assert_eq!(drain(&test).await, 0, "not at once");
        test.pass(TimeDelta::seconds(2));
    }
    drain(&test).await;

    assert_eq!((waiting(&test).await, look_ups(&test)), (0, 5), "the rest is left to the poll");
    assert_holds(&test).await;
}

/// A CRM in trouble is left alone for a minute, and no run is blamed for it.
#[tokio::test]
async fn crm_in_trouble_keeps_hints_without_blame() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let users: Vec<i64> = (0..3)
        .map(|n| test.zendesk.create_user(&json!({"name": "Ann", "phone": format!("+131086754{n:02}")})).unwrap())
        .collect();
    let hints: Vec<NewHint> = users.iter().map(|id| event(*id, test.clock.now())).collect();
    HintWriter::new(&test, &account, &integration).write(&hints).await;
    let before = schedule(&test, &integration).await;
    let fault = Fault::Unavailable { retry_after_seconds: None };
    let outage = test.zendesk.faults().add(FaultRule::always(SHOW_MANY, fault)).unwrap();

    assert_eq!(drain(&test).await, 1);
    assert_eq!((waiting(&test).await, drain(&test).await), (3, 0));
    assert_eq!(schedule(&test, &integration).await, before);
    test.zendesk.faults().remove(outage);
    test.pass(TimeDelta::seconds(60));
    assert_eq!(drain(&test).await, 1);

    assert_eq!(waiting(&test).await, 0);
    assert!(is_named(&test, &account, "+13108675402", "Ann").await);
    assert_holds(&test).await;
}

/// Hints of an integration that is held, off or disabled wait, and cost no request.
#[tokio::test]
async fn integration_that_may_not_run_is_not_asked() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let (account, integration) = test.synced().await;
    HintWriter::new(&test, &account, &integration).write(&[event(ann, test.clock.now())]).await;
    test.zendesk.clear_requests();

    for hold in ["PAUSED", "QUOTA_PAUSED", "AUTH_FAILED"] {
        test.db.execute(&format!("update integrations set hold = '{hold}'")).await;
        assert_eq!(drain(&test).await, 0, "{hold}");
    }
    test.db.execute("update integrations set hold = null").await;
    ask_update(&test, &account, &integration, Some(sync_mode(pb::SyncMode::Off)), None).await.unwrap();
    assert_eq!(drain(&test).await, 0, "sync is off");
    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();
    assert_eq!(drain(&test).await, 0, "it is disabled");

    assert_eq!((waiting(&test).await, test.zendesk.requests().total), (1, 0));
}

/// Credentials that are refused are shown again by the next run, and not by each event.
#[tokio::test]
async fn refused_credentials_are_not_tried_by_each_event() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let (account, integration) = test.synced().await;
    let writer = HintWriter::new(&test, &account, &integration);
    let before = schedule(&test, &integration).await;
    test.zendesk.faults().add(FaultRule::always("/", Fault::Unauthorized)).unwrap();
    writer.write(&[event(ann, test.clock.now())]).await;

    drain(&test).await;
    test.pass(TimeDelta::minutes(29));
    assert_eq!(drain(&test).await, 0);

    assert_eq!(schedule(&test, &integration).await, before, "only a run may find that credentials are refused");
    assert_eq!(waiting(&test).await, 1);
    test.zendesk.faults().clear();
    test.pass(TimeDelta::minutes(2));
    drain(&test).await;
    assert_eq!(waiting(&test).await, 0);
}

/// A clock that was ahead puts no hint off for ever.
#[tokio::test]
async fn hint_from_clock_ahead_is_looked_at() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let (account, integration) = test.synced().await;
    let writer = HintWriter::new(&test, &account, &integration);
    let hints = [event(ann, test.clock.now()), NewHint::of_integration(HintReason::Event, None)];
    let mut batch = writer.batch(&hints);
    batch.now += TimeDelta::days(365);
    hints::write(writer.db(), &batch, Duration::from_secs(10)).await.unwrap();
    test.pass(TimeDelta::seconds(61));

    assert_eq!(drain(&test).await, 1);

    assert_eq!(waiting(&test).await, 0);
    assert_eq!(test.sync_due().await, 1, "the poll, too");
    assert_holds(&test).await;
}

/// A worker that is woken looks at once, however seldom it looks by itself.
#[tokio::test]
async fn woken_worker_looks_at_hints_at_once() {
    let test = TestApp::start_with(|config| {
        config.worker.concurrency = 1;
        config.worker.poll_ms = 600_000;
    })
    .await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    eventually("the first copy", async || !column(&test, &integration, "last_completed_at").await.is_empty()).await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();

    HintWriter::new(&test, &account, &integration).write(&[event(ann, test.clock.now())]).await;
    test.app.sync_context.wake.notify_one();

    eventually("the hinted record", async || is_named(&test, &account, NUMBER, "Ann").await).await;
    eventually("the lease's end", async || column(&test, &integration, "lease_until").await.is_empty()).await;
    test.lifecycle.soft().cancel();
    assert_holds(&test).await;
}

/// A run that waits for its CRM looks at hints meanwhile.
#[tokio::test]
async fn waiting_run_looks_at_hints_meanwhile() {
    let test = TestApp::start_with(|config| {
        config.worker.concurrency = 1;
        config.worker.poll_ms = 50;
    })
    .await;
    test.zendesk.generate_people(1_500, 1).unwrap();
    let fault = Fault::RateLimited { retry_after_seconds: Some(50) };
    test.zendesk.faults().add(FaultRule { skip: 1, ..FaultRule::once(EXPORT, fault) }).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let waits = "select count(*) from sync_runs where phase = 'waiting for the CRM''s rate limit'";
    eventually("a run that waits", async || test.db.number(waits).await == 1).await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+442079460001"})).unwrap();

    HintWriter::new(&test, &account, &integration).write(&[event(ann, test.clock.now())]).await;
    eventually("the hinted record", async || is_named(&test, &account, "+442079460001", "Ann").await).await;

    assert_eq!(test.db.number(waits).await, 1, "it waits on");
    test.lifecycle.soft().cancel();
}

/// An operator has one record looked at, hears when, and is audited.
#[tokio::test]
async fn operator_has_one_record_looked_at() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": NUMBER})).unwrap();
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::seconds(5));
    test.zendesk.update_user(ann, &json!({"name": "Ann Lee"})).unwrap();
    let ask = async |object_type: &str, record_id: &str| {
        let (object_type, record_id) = (object_type.to_owned(), record_id.to_owned());
        let asked = ask_trigger(&test, &account, &integration, |request| {
            (request.object_type, request.record_id) = (object_type, record_id);
        });
        asked.await
    };
    let id = ann.to_string();

    // It waits for a CRM in trouble, and the operator does not.
    let outage = FaultRule::always(SHOW_MANY, Fault::Unavailable { retry_after_seconds: None });
    let outage = test.zendesk.faults().add(outage).unwrap();
    HintWriter::new(&test, &account, &integration).write(&[event(ann, test.clock.now())]).await;
    drain(&test).await;
    test.zendesk.faults().remove(outage);
    assert_eq!(drain(&test).await, 0);
    let asked = ask("user", &id).await.unwrap();
    assert_eq!((asked.record_look(), asked.sync_run, asked.already_running), (pb::RecordLook::Now, None, false));
    assert_eq!(drain(&test).await, 1);

    assert!(is_named(&test, &account, NUMBER, "Ann Lee").await);
    let event = test.audit(&account).await.swap_remove(0);
    assert_eq!((event.method.as_str(), event.result()), ("TriggerSync", pb::AuditResult::Done));
    assert_eq!(
        (event.integration_id, event.fields),
        (integration.clone(), vec!["object_type".to_owned(), "record_id".to_owned()])
    );
    assert_eq!(test.db.number("select count(*) from sync_runs").await, 1);

    for (object_type, record_id, wrong) in [("Contact", "003000000000001", "object_type"), ("user", "x17", "record_id")]
    {
        let refused = ask(object_type, record_id).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused)), (Code::InvalidArgument, wrong.to_owned()));
    }
    let refused = ask_trigger(&test, &account, &integration, |request| {
        (request.object_type, request.record_id, request.kind) =
            ("user".to_owned(), id.clone(), pb::SyncKind::Sweep.into());
    });
    assert_eq!(field(&refused.await.unwrap_err()), "kind");
    test.db.execute("update integrations set hold = 'QUOTA_PAUSED'").await;
    assert_eq!(ask("user", &id).await.unwrap().record_look(), pb::RecordLook::OnHold);
    ask_update(&test, &account, &integration, Some(sync_mode(pb::SyncMode::Off)), None).await.unwrap();
    assert_eq!(reason(&ask("user", &id).await.unwrap_err()), "SYNC_OFF");
    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();
    assert_eq!(reason(&ask("user", &id).await.unwrap_err()), "INTEGRATION_DISABLED");
}
