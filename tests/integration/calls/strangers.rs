//! Exactly one contact for a new caller, whoever races: calls on two replicas, a sync page that
//! brings that very person, a click.

use std::sync::Arc;

use contact_sync::rpc::pb::{self, MatchOutcome};
use crm_simulator::gate::GateAt;
use futures_util::future::{join, join_all};
use rand::RngExt;
use serde_json::json;

use crate::{
    histories::integrity,
    support::calls::{CONTACT_15, ORG, click_on, dawdle, dice, id_of, seeds},
    support::sync::{Beside, EXPORT, arrived, ask_trigger, blocked},
    support::{TestApp, call},
};

pub const NEW: &str = "+13105550100";

/// How many live contacts have the number.
async fn live_on_number(test: &TestApp, account: &str) -> i64 {
    let sql = format!(
        "select count(distinct contact_id) from phone_numbers n join contacts c using (account_id, contact_id)
        where n.account_id = '{account}' and n.e164 = 13105550100 and c.deleted_at is null"
    );
    test.db.number(&sql).await
}

/// Every id that was ever given out leads to the one contact that lives.
pub async fn assert_all_lead_to_one<'i>(
    test: &TestApp,
    account: &str,
    ids: impl IntoIterator<Item = &'i String>,
) -> String {
    let living = id_of(test.look_up(account, NEW).await.selected.as_ref());
    for id in ids {
        assert_eq!(test.living(account, id).await, living, "an id that was given out leads elsewhere");
    }
    assert_eq!(live_on_number(test, account).await, 1);
    integrity::assert_holds(test).await;
    living
}

/// A hundred calls over two replicas make one contact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_calls_over_replicas_make_one_contact() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;
    let replica = test.replica(|_| {}).await;
    let apps = [&test, &replica];

    let answers = join_all((0..100).map(|n| {
        // Half of them with a call id of their own.
        let call_id = if n % 4 < 2 { String::new() } else { format!("call-{n}") };
        let request = pb::MatchCallerRequest { call_id, ..call(&account, NEW) };
        apps[n % 2].match_caller(request)
    }))
    .await;

    let first = id_of(answers[0].selected.as_ref());
    assert!(answers.iter().all(|answer| id_of(answer.selected.as_ref()) == first));
    let created = answers.iter().filter(|answer| answer.outcome() == MatchOutcome::Created).count();
    assert_eq!(created, 1, "one call has made it, the others have found it");
    assert!(answers.iter().all(|answer| answer.total == 1));
    assert_eq!(test.rows(&account, "contacts").await, 1);
    assert_eq!(test.rows(&account, "phone_numbers").await, 1);
    integrity::assert_holds(&test).await;
}

/// Calls that race with the page that brings the caller end in one contact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_racing_their_page_leave_one_contact() {
    let test = Arc::new(TestApp::start().await);
    let replica = Arc::new(test.replica(|_| {}).await);
    test.user("New Customer", "310 555 0100");
    for seed in seeds(12) {
        let mut dice = dice(seed);
        let account = test.account().await;
        let subdomain = format!("acme-{seed}");
        test.enable(&account, &subdomain).await;
        let delays: Vec<u32> = (0..16).map(|_| dice.random_range(0..400)).collect();

        let calls = join_all(delays.into_iter().enumerate().map(|(n, delay)| {
            let (app, account) = (if n % 2 == 0 { Arc::clone(&test) } else { Arc::clone(&replica) }, account.clone());
            let mut dice = rand::SeedableRng::seed_from_u64(seed * 1_000 + n as u64);
            async move {
                dawdle(&mut dice, delay).await;
                app.match_caller(call(&account, NEW)).await
            }
        }));
        let (answers, runs) = join(calls, test.sync_due()).await;

        assert_eq!(runs, 1);
        let ids: Vec<String> = answers.iter().map(|answer| id_of(answer.selected.as_ref())).collect();
        assert_all_lead_to_one(&test, &account, &ids).await;
        assert_eq!(test.look_up(&account, NEW).await.selected.unwrap().display_name, "New Customer");
    }
}

/// Calls that race with a click end in one contact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_racing_click_leave_one_contact() {
    let test = TestApp::start().await;
    let replica = test.replica(|_| {}).await;
    for seed in seeds(12) {
        let mut dice = dice(seed);
        let account = test.account().await;
        let salesforce = test.enable_off(&account, pb::Provider::Salesforce, ORG).await;
        let click = click_on(&account, &salesforce, "Contact", CONTACT_15, NEW);
        let (calls_first, clicks_first) = (dice.random_range(0..100), dice.random_range(0..100));

        let calls = async {
            dawdle(&mut rand::SeedableRng::seed_from_u64(seed), calls_first).await;
            join_all((0..8).map(|n| [&test, &replica][n % 2].match_caller(call(&account, NEW)))).await
        };
        let clicks = async {
            dawdle(&mut rand::SeedableRng::seed_from_u64(seed), clicks_first).await;
            join_all((0..4).map(|n| [&replica, &test][n % 2].clicked(click.clone()))).await
        };
        let (answers, clicked) = join(calls, clicks).await;

        let mut ids: Vec<String> = answers.iter().map(|answer| id_of(answer.selected.as_ref())).collect();
        ids.extend(clicked.into_iter().map(|contact| contact.id));
        let living = assert_all_lead_to_one(&test, &account, &ids).await;
        let contact = test.contact(&account, &living).await;
        assert_eq!((contact.records.len(), contact.is_placeholder), (1, false));
        assert_eq!(test.rows(&account, "external_refs").await, 1);
    }
}

/// A call, a page and a report of one person end in one contact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_page_and_report_leave_one_contact() {
    let test = TestApp::start().await;
    let user = test.user("New Customer", NEW);
    for seed in seeds(12) {
        let mut dice = dice(seed);
        let account = test.account().await;
        let zendesk = test.enable(&account, &format!("acme-{seed}")).await;
        let report = pb::PreRegisterContactRequest {
            display_name: "Reported".into(),
            call_id: "call-1".into(),
            ..click_on(&account, &zendesk, "user", &user, NEW)
        };
        let waits: [u32; 2] = [dice.random_range(0..300), dice.random_range(0..300)];

        let calling = async {
            dawdle(&mut rand::SeedableRng::seed_from_u64(seed), waits[0]).await;
            test.ask(&account, NEW, "call-1").await
        };
        let reporting = async {
            dawdle(&mut rand::SeedableRng::seed_from_u64(seed), waits[1]).await;
            test.clicked(report).await
        };
        let (answer, (reported, _)) = join(calling, join(reporting, test.sync_due())).await;

        let ids = [id_of(answer.selected.as_ref()), reported.id];
        let living = assert_all_lead_to_one(&test, &account, &ids).await;
        let contact = test.contact(&account, &living).await;
        assert_eq!((contact.display_name.as_str(), contact.records.len()), ("New Customer", 1));
        let requester = test.resolve_call(&account, &zendesk, "call-1").await;
        assert_eq!(requester.record.unwrap().record_id, user);
    }
}

/// A placeholder that is made while a page is not committed is found by the page's second look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_look_finds_placeholder_made_meanwhile() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    test.user("New Customer", NEW);
    let run = ask_trigger(&test, &account, &integration, |_| {}).await.unwrap().sync_run.unwrap();
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;
    // The page writes its contact, and then waits to write the run's counts.
    let mut blocking = test.db.pool.begin().await.unwrap();
    let sql = format!("select 1 from sync_runs where sync_run_id = '{}' for update", run.id);
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *blocking).await.unwrap();
    gate.open();
    blocked(&test, 1).await;
    let created = test.ask(&account, NEW, "call-1").await;
    blocking.rollback().await.unwrap();
    assert_eq!(sync.ended().await, 1);

    assert_eq!(created.outcome(), MatchOutcome::Created);
    let ids = [id_of(created.selected.as_ref())];
    let living = assert_all_lead_to_one(&test, &account, &ids).await;
    assert_eq!(test.contact(&account, &living).await.display_name, "New Customer");
}

/// A placeholder that is older than its record survives with its id.
#[tokio::test]
async fn older_placeholder_survives_with_its_id() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let stranger = test.ask(&account, NEW, "call-1").await.selected.unwrap();
    test.minutes(1);
    test.user("New Customer", NEW);

    test.trigger(&account, &integration).await;

    let contact = test.contact(&account, &stranger.id).await;
    assert_eq!((contact.display_name.as_str(), contact.is_placeholder), ("New Customer", false));
    assert_eq!((contact.create_time, contact.delete_time), (stranger.create_time, None));
    // The record's numbers count, the placeholder's has ended.
    assert_eq!(contact.numbers.len(), 1);
    assert_eq!(contact.numbers[0].label, "phone");
    integrity::assert_holds(&test).await;
}

/// A record that is older than the placeholder survives, and the placeholder is its alias.
#[tokio::test]
async fn older_record_survives_placeholder_becomes_alias() {
    let test = TestApp::start().await;
    let user = test.user("Long Known", "+13105559999");
    let (account, integration) = test.synced().await;
    let known = id_of(test.look_up(&account, "+13105559999").await.selected.as_ref());
    test.minutes(1);
    let stranger = test.ask(&account, NEW, "call-1").await.selected.unwrap();
    test.minutes(1);
    test.zendesk.update_user(user.parse().unwrap(), &json!({"phone": NEW})).unwrap();

    test.trigger(&account, &integration).await;

    let tombstone = test.contact(&account, &stranger.id).await;
    assert_eq!(tombstone.survivor_id, known);
    assert!(tombstone.delete_time.is_some() && tombstone.display_name.is_empty() && tombstone.numbers.is_empty());
    let answer = test.look_up(&account, NEW).await;
    assert_eq!((id_of(answer.selected.as_ref()), answer.total), (known.clone(), 1));
    assert_eq!(test.look_up(&account, "+13105559999").await.outcome(), MatchOutcome::NotFound);
    assert_eq!(test.resolve_call(&account, &integration, "call-1").await.record.unwrap().record_id, user);
    integrity::assert_holds(&test).await;
}

#[tokio::test]
async fn a_record_with_two_placeholders_numbers_absorbs_both() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let first = test.ask(&account, NEW, "call-1").await.selected.unwrap();
    test.minutes(1);
    let second = test.ask(&account, "+13105550101", "call-2").await.selected.unwrap();
    test.minutes(1);
    let user = test.user("Two Phones", NEW);
    test.zendesk
        .add_identity(user.parse().unwrap(), &json!({"type": "phone_number", "value": "+13105550101"}))
        .unwrap();

    test.trigger(&account, &integration).await;

    assert_eq!(test.living(&account, &second.id).await, first.id);
    let contact = test.contact(&account, &first.id).await;
    assert_eq!((contact.display_name.as_str(), contact.numbers.len(), contact.records.len()), ("Two Phones", 2, 1));
    for (number, call_id) in [(NEW, "call-1"), ("+13105550101", "call-2")] {
        assert_eq!(id_of(test.ask(&account, number, call_id).await.selected.as_ref()), first.id);
        assert_eq!(test.resolve_call(&account, &integration, call_id).await.record.unwrap().record_id, user);
    }
    integrity::assert_holds(&test).await;
}

/// Of several new records on a number, the smallest id absorbs.
#[tokio::test]
async fn smallest_new_record_id_absorbs_placeholder() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let stranger = id_of(test.ask(&account, NEW, "call-1").await.selected.as_ref());
    test.minutes(1);
    // 999 is a smaller id than 1000, though not as text.
    for (id, name) in [(1000, "Second"), (999, "First"), (1001, "Third")] {
        test.zendesk
            .load_user(&json!({"id": id, "name": name, "phone": NEW, "updated_at": "2026-11-22T09:01:00Z"}))
            .unwrap();
    }

    test.trigger(&account, &integration).await;

    let contact = test.contact(&account, &stranger).await;
    assert_eq!(contact.records.iter().map(|record| record.record_id.as_str()).collect::<Vec<_>>(), ["999"]);
    let answer = test.look_up(&account, NEW).await;
    assert_eq!((answer.outcome(), answer.total), (MatchOutcome::Ambiguous, 3));
    // The placeholder is the oldest, so it is shown first, under its record's name.
    assert_eq!(answer.selected.unwrap().display_name, "First");
    integrity::assert_holds(&test).await;
}

#[tokio::test]
async fn chains_of_adoption_lead_to_the_last_survivor() {
    let test = TestApp::start().await;
    let user = test.user("Long Known", "+13105559999");
    let (account, integration) = test.synced().await;
    let known = id_of(test.look_up(&account, "+13105559999").await.selected.as_ref());
    let mut strangers = Vec::new();
    for number in ["+13105550100", "+13105550101", "+13105550102"] {
        test.minutes(1);
        strangers.push(id_of(test.ask(&account, number, number).await.selected.as_ref()));
        test.minutes(1);
        test.zendesk.add_identity(user.parse().unwrap(), &json!({"type": "phone_number", "value": number})).unwrap();
        test.trigger(&account, &integration).await;
    }

    for stranger in &strangers {
        assert_eq!(test.living(&account, stranger).await, known);
    }
    assert_eq!(test.contact(&account, &known).await.numbers.len(), 4);
    integrity::assert_holds(&test).await;
}
