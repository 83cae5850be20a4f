//! What every CRM's copy does, written once. Each function is a test of each provider: see
//! `suite!`.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use contact_sync::{domain::clock::Clock, rpc::pb};
use crm_simulator::faults::{Fault, FaultRule};
use uuid::Uuid;

use super::crm::{Crm, Truth};
use crate::{
    histories::integrity::assert_holds,
    support::sync::{Beside, arrived, ask_update, column, expire_leases, time},
    support::{TestApp, error_of, reason},
};

pub const PERIOD: TimeDelta = TimeDelta::minutes(30);
const BRYCE: &str = "+13108675309";
const OTHER: &str = "+13105550142";

/// The id of an integration that is linked and not copied yet.
pub async fn link<C: Crm>(test: &TestApp, account_id: &str, credentials: pb::Credentials) -> String {
    let request = pb::EnableSyncRequest {
        account_id: account_id.into(),
        provider: C::PROVIDER.into(),
        connection: Some(C::connection()),
        credentials: Some(credentials),
        ..Default::default()
    };
    test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id
}

/// An account whose CRM is copied completely: (account, integration).
pub async fn copied<C: Crm>(test: &TestApp) -> (String, String) {
    let account_id = test.account().await;
    let integration_id = link::<C>(test, &account_id, C::token()).await;
    assert_eq!(test.sync_due().await, 1);
    (account_id, integration_id)
}

/// Half an hour passes, and what is due runs.
pub async fn next_run(test: &TestApp) {
    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);
}

/// The next run in which a deletion can show.
pub async fn next_run_with_deletions<C: Crm>(test: &TestApp, account_id: &str, integration_id: &str) -> pb::SyncRun {
    test.pass(PERIOD);
    if C::LISTS_DELETIONS {
        assert_eq!(test.sync_due().await, 1);
        return test.last_run(account_id, integration_id).await;
    }
    let request = pb::TriggerSyncRequest {
        account_id: account_id.into(),
        integration_id: integration_id.into(),
        kind: pb::SyncKind::Sweep.into(),
        ..Default::default()
    };
    let run = test.syncs().trigger_sync(request).await.unwrap().into_inner().sync_run.unwrap();
    assert_eq!(test.sync_due().await, 1);
    let run = test.run(account_id, &run.id).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    run
}

#[derive(sqlx::FromRow)]
struct Row {
    record_id: String,
    display_name: String,
    keys: Vec<i64>,
}

/// The records that are live here, each with its contact's name and numbers.
pub async fn copied_records(test: &TestApp, integration_id: &str) -> BTreeMap<String, Truth> {
    let rows: Vec<Row> = sqlx::query_as(
        "select e.record_id, c.display_name,
            array(
                select distinct n.e164 from phone_numbers n
                where n.account_id = e.account_id and n.integration_id = e.integration_id and n.object_type = e.object_type
                  and n.record_id = e.record_id and n.contact_id = e.contact_id and n.e164 is not null
            ) as keys
        from external_refs e
        join contacts c on c.account_id = e.account_id and c.contact_id = e.contact_id and c.deleted_at is null
        where e.integration_id = $1 and e.is_live",
    )
    .bind(integration_id.parse::<Uuid>().unwrap())
    .fetch_all(&test.db.pool)
    .await
    .unwrap();
    rows.into_iter()
        .map(|row| (row.record_id, Truth { name: row.display_name, keys: row.keys.into_iter().collect() }))
        .collect()
}

/// Every live record of the CRM is one live contact with its name and numbers, and nothing else is
/// live.
pub async fn assert_is_the_truth<C: Crm>(test: &TestApp, integration_id: &str) {
    let copied = copied_records(test, integration_id).await;
    let truth = C::truth(test);
    assert_eq!(copied.len(), truth.len(), "as many as the CRM has");
    for (id, expected) in &truth {
        let found = copied.get(id).unwrap_or_else(|| panic!("{id} was never copied"));
        assert_eq!(found.keys, expected.keys, "numbers of {id}");
        // A nameless record is shown by what it has.
        assert!(expected.name.is_empty() || found.name == expected.name, "name of {id}");
    }
    assert_holds(test).await;
}

/// Whom a call from this number is from.
pub async fn selected(test: &TestApp, account_id: &str, number: &str) -> Option<pb::Contact> {
    test.look_up(account_id, number).await.selected
}

pub async fn first_copy_brings_every_record<C: Crm>() {
    let test = TestApp::start().await;
    C::generate(&test, C::PAGE_SIZE + 300, 1);
    C::create(&test, "Bryce Love", "(310)-867-5309");

    let (account, integration) = copied::<C>(&test).await;

    assert_is_the_truth::<C>(&test, &integration).await;
    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.kind(), pb::SyncKind::Initial);
    let shown = test.integration(&account, &integration).await;
    assert_eq!(shown.state(), pb::IntegrationState::Active, "{}", shown.state_detail);
    assert!(time(shown.known_through) <= test.clock.now());
    let caller = selected(&test, &account, BRYCE).await.unwrap();
    assert_eq!(caller.display_name, "Bryce Love");
    assert_eq!(caller.records[0].object_type, C::OBJECT_TYPE);
}

pub async fn increment_brings_what_changed_and_nothing_else<C: Crm>() {
    let test = TestApp::start().await;
    let renamed = C::create(&test, "Old Name", BRYCE);
    let moved = C::create(&test, "Mover", "+13105550101");
    C::create(&test, "Still", "+13105550102");
    let (account, integration) = copied::<C>(&test).await;
    test.pass(TimeDelta::hours(1));
    assert_eq!(test.sync_due().await, 1);

    test.pass(TimeDelta::minutes(10));
    C::rename(&test, &renamed, "New Name");
    C::set_phone(&test, &moved, OTHER);
    C::create(&test, "Newcomer", "+13105550103");
    test.pass(TimeDelta::minutes(20));
    assert_eq!(test.sync_due().await, 1);

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.kind(), pb::SyncKind::Incremental);
    let counts = run.counts.unwrap();
    assert_eq!((counts.created, counts.updated, counts.deleted, counts.rejected), (1, 2, 0, 0), "{counts:?}");
    assert_eq!(selected(&test, &account, BRYCE).await.unwrap().display_name, "New Name");
    assert!(selected(&test, &account, "+13105550101").await.is_none());
    assert_eq!(selected(&test, &account, OTHER).await.unwrap().display_name, "Mover");
    assert_is_the_truth::<C>(&test, &integration).await;
}

pub async fn increment_with_nothing_new_is_cheap<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<C>(&test).await;
    next_run(&test).await;
    C::forget_requests(&test);

    next_run(&test).await;

    assert!(C::requests(&test) <= C::REQUESTS_OF_AN_EMPTY_INCREMENT, "{} requests", C::requests(&test));
    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded);
}

pub async fn row_that_comes_twice_is_one_contact<C: Crm>() {
    let test = TestApp::start().await;
    C::generate(&test, C::PAGE_SIZE + 50, 3);
    C::faults(&test).add(FaultRule { times: Some(2), ..FaultRule::once(C::PAGES, Fault::DuplicateRow) }).unwrap();

    let (account, integration) = copied::<C>(&test).await;

    assert_is_the_truth::<C>(&test, &integration).await;
    assert!(test.last_run(&account, &integration).await.counts.unwrap().skipped >= 1);
}

/// A deletion is mirrored, and a restore brings the same contact back.
pub async fn deletion_is_mirrored_restore_returns_same_contact<C: Crm>() {
    let test = TestApp::start().await;
    let bryce = C::create(&test, "Bryce Love", BRYCE);
    C::create(&test, "Other", OTHER);
    let (account, integration) = copied::<C>(&test).await;
    let before = selected(&test, &account, BRYCE).await.unwrap();

    C::delete(&test, &bryce);
    next_run_with_deletions::<C>(&test, &account, &integration).await;

    assert!(selected(&test, &account, BRYCE).await.is_none());
    assert!(test.contact(&account, &before.id).await.delete_time.is_some());
    assert_is_the_truth::<C>(&test, &integration).await;

    C::restore(&test, &bryce);
    next_run_with_deletions::<C>(&test, &account, &integration).await;

    let after = selected(&test, &account, BRYCE).await.unwrap();
    assert_eq!((after.id, after.create_time), (before.id, before.create_time));
    assert_is_the_truth::<C>(&test, &integration).await;
}

/// The loser of a merge is deleted, and the winner stays.
pub async fn merge_loser_is_deleted_and_winner_stays<C: Crm>() {
    let test = TestApp::start().await;
    let loser = C::create(&test, "Loser", OTHER);
    test.pass(TimeDelta::seconds(5));
    let winner = C::create(&test, "Winner", BRYCE);
    let (account, integration) = copied::<C>(&test).await;
    let (loser_contact, winner_contact) =
        (selected(&test, &account, OTHER).await.unwrap(), selected(&test, &account, BRYCE).await.unwrap());

    test.pass(TimeDelta::minutes(5));
    C::merge(&test, &loser, &winner);
    next_run_with_deletions::<C>(&test, &account, &integration).await;

    let buried = test.contact(&account, &loser_contact.id).await;
    assert!(buried.delete_time.is_some());
    assert_eq!(selected(&test, &account, BRYCE).await.unwrap().id, winner_contact.id);
    if C::NAMES_WINNERS {
        assert_eq!(buried.survivor_id, winner_contact.id);
        let survivor = test.contact(&account, &winner_contact.id).await;
        assert_eq!(survivor.create_time, loser_contact.create_time.min_by_time(survivor.create_time));
    }
    assert_is_the_truth::<C>(&test, &integration).await;
}

trait Earlier {
    fn min_by_time(self, other: Self) -> Self;
}

impl Earlier for Option<prost_types::Timestamp> {
    fn min_by_time(self, other: Self) -> Self {
        if time(self) <= time(other) { self } else { other }
    }
}

/// Access that ends in the middle is renewed once.
pub async fn access_ending_midway_is_renewed_once<C: Crm>() {
    let test = TestApp::start().await;
    C::generate(&test, C::PAGE_SIZE + 100, 4);
    let account = test.account().await;
    let integration = link::<C>(&test, &account, C::refresh_token()).await;
    assert_eq!(C::token_requests(&test), 1, "the try's own access is used");
    let gate = C::faults(&test).gate(C::PAGES, 1, crm_simulator::gate::GateAt::Request).unwrap();

    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    C::end_access_tokens(&test);
    gate.open();
    assert_eq!(run.ended().await, 1);

    assert_eq!(C::token_requests(&test), 2);
    let run = test.last_run(&account, &integration).await;
    assert_eq!((run.state(), run.attempt), (pb::SyncRunState::Succeeded, 1), "{}", error_of(&run));
    assert_is_the_truth::<C>(&test, &integration).await;
}

/// A revoked grant is told at the second look, contacts stay, and nothing is tried again by itself.
pub async fn revoked_grant_is_told_and_contacts_stay<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Bryce Love", BRYCE);
    let account = test.account().await;
    let integration = link::<C>(&test, &account, C::refresh_token()).await;
    assert_eq!(test.sync_due().await, 1);
    let before = selected(&test, &account, BRYCE).await.unwrap();

    C::revoke(&test);
    next_run(&test).await;
    let shown = test.integration(&account, &integration).await;
    assert_eq!(shown.state(), pb::IntegrationState::Active, "one look is no look: {}", shown.state_detail);
    test.second_look().await;

    let shown = test.integration(&account, &integration).await;
    assert_eq!(shown.state(), pb::IntegrationState::AuthFailed, "{}", shown.state_detail);
    assert_eq!(selected(&test, &account, BRYCE).await.unwrap().id, before.id, "contacts stay");
    test.pass(TimeDelta::hours(5));
    assert_eq!(test.sync_due().await, 0, "refused credentials are not tried again");
}

/// A daily limit pauses, with the time when it goes on.
pub async fn daily_limit_pauses_until_told_time<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<C>(&test).await;
    C::faults(&test).add(FaultRule::always(C::PAGES, C::daily_limit())).unwrap();

    next_run(&test).await;

    let shown = test.integration(&account, &integration).await;
    assert_eq!(shown.state(), pb::IntegrationState::QuotaPaused, "{}", shown.state_detail);
    let goes_on = time(shown.next_due_time);
    assert!(goes_on > test.clock.now() && goes_on <= test.clock.now() + TimeDelta::hours(25));
    assert_eq!(test.sync_due().await, 0, "nothing spins");
    assert_eq!(column(&test, &integration, "failures").await, "0");
}

/// A CRM that is silent for two seconds is given up.
fn impatient(config: &mut contact_sync::config::Config) {
    for provider in config.providers.each.values_mut() {
        provider.timeout_seconds = 2;
    }
}

/// A fault that passes, on the second page: the copy is the truth all the same.
pub async fn passing_fault_leaves_a_true_copy<C: Crm>(fault: Fault) {
    let test = TestApp::start_with(impatient).await;
    C::generate(&test, C::PAGE_SIZE + 50, 50);
    let rule = C::faults(&test).add(FaultRule { skip: 1, ..FaultRule::once(C::PAGES, fault) }).unwrap();

    let (account, integration) = copied::<C>(&test).await;

    assert_eq!(C::faults(&test).fired(rule), 1);
    let run = test.last_run(&account, &integration).await;
    assert_eq!((run.state(), run.attempt), (pb::SyncRunState::Succeeded, 1), "{}", error_of(&run));
    assert_is_the_truth::<C>(&test, &integration).await;
}

pub async fn crash_between_pages_loses_and_doubles_nothing<C: Crm>() {
    let test = TestApp::start().await;
    C::generate(&test, C::PAGE_SIZE * 2 + 50, 5);
    let account = test.account().await;
    let integration = link::<C>(&test, &account, C::token()).await;
    let gate = C::faults(&test).gate(C::PAGES, 1, crm_simulator::gate::GateAt::Response).unwrap();

    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    run.dies().await;
    gate.open();
    expire_leases(&test).await;
    assert_eq!(test.sync_due().await, 1);

    let run = test.last_run(&account, &integration).await;
    assert_eq!((run.state(), run.attempt), (pb::SyncRunState::Succeeded, 2), "{}", error_of(&run));
    assert_is_the_truth::<C>(&test, &integration).await;
}

/// Switched off, nothing is asked, and switched on, it catches up.
pub async fn switched_off_asks_nothing_on_catches_up<C: Crm>() {
    let test = TestApp::start().await;
    let bryce = C::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<C>(&test).await;
    let off = crate::support::sync::sync_mode(pb::SyncMode::Off);
    ask_update(&test, &account, &integration, off, None).await.unwrap();
    C::forget_requests(&test);

    test.pass(TimeDelta::hours(2));
    C::rename(&test, &bryce, "Renamed");
    assert_eq!(test.sync_due().await, 0);
    assert_eq!(C::requests(&test), 0);
    assert_eq!(selected(&test, &account, BRYCE).await.unwrap().display_name, "Bryce Love");

    let on = crate::support::sync::sync_mode(pb::SyncMode::On);
    ask_update(&test, &account, &integration, on, None).await.unwrap();
    assert_eq!(test.sync_due().await, 1);
    assert_eq!(selected(&test, &account, BRYCE).await.unwrap().display_name, "Renamed");
}

pub async fn same_organization_twice_is_refused<C: Crm>() {
    let test = TestApp::start().await;
    let (account, _) = copied::<C>(&test).await;
    let request = pb::EnableSyncRequest {
        account_id: account,
        provider: C::PROVIDER.into(),
        connection: Some(C::connection()),
        credentials: Some(C::token()),
        ..Default::default()
    };

    let refused = test.syncs().enable_sync(request).await.unwrap_err();

    assert_eq!(reason(&refused), "INTEGRATION_EXISTS");
}

pub async fn requester_is_the_callers_record<C: Crm>() {
    let test = TestApp::start().await;
    let bryce = C::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<C>(&test).await;

    let number = crate::support::Subject::PhoneNumber(BRYCE.into());
    let resolved = test.resolve(&account, &integration, number.clone()).await;
    assert_eq!(resolved.outcome(), pb::RequesterOutcome::Resolved);
    assert_eq!(resolved.record.unwrap().record_id, bryce);

    C::delete(&test, &bryce);
    next_run_with_deletions::<C>(&test, &account, &integration).await;
    let resolved = test.resolve(&account, &integration, number).await;
    assert_eq!(resolved.outcome(), pb::RequesterOutcome::NotFound, "a dead record is never a requester");
}
