//! What Zendesk's users mean: numbers and identities, agents, suspended, shared lines; deleted,
//! restored and gone for good (`three_crms::zendesk_merges` has what is merged).

use chrono::TimeDelta;
use contact_sync::{domain::clock::Clock, rpc::pb};
use serde_json::json;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{live_contacts, time},
    support::{Subject, TestApp, call},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);

async fn next_run(test: &TestApp) {
    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 1);
}

async fn numbers_of(test: &TestApp, account: &str, number: &str) -> Vec<String> {
    let found = test.look_up(account, number).await;
    let mut numbers: Vec<String> = found.selected.unwrap().numbers.into_iter().map(|number| number.e164).collect();
    numbers.sort_unstable();
    numbers
}

/// Every number of a user names it, and a removed one does not.
#[tokio::test]
async fn users_numbers_name_it_removed_do_not() {
    let test = TestApp::start().await;
    let user = test.zendesk.create_user(&json!({"name": "Ann", "phone": "(310) 867-5301 ext. 12"})).unwrap();
    let second = test.zendesk.add_identity(user, &json!({"type": "phone_number", "value": "+13108675302"})).unwrap();
    test.zendesk.add_identity(user, &json!({"type": "phone_number", "value": "310-867-5303"})).unwrap();
    let (account, integration) = test.synced().await;
    assert_eq!(numbers_of(&test, &account, "+13108675302").await, ["+13108675301", "+13108675302", "+13108675303"]);

    test.zendesk.delete_identity(user, second).unwrap();
    next_run(&test).await;

    assert_eq!(test.look_up(&account, "+13108675302").await.outcome(), pb::MatchOutcome::NotFound);
    assert_eq!(numbers_of(&test, &account, "+13108675303").await, ["+13108675301", "+13108675303"]);

    // Zendesk keeps the field when its identity is deleted; a null in the field is the end of the
    // number.
    test.zendesk.update_user(user, &json!({"phone": null})).unwrap();
    next_run(&test).await;

    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::NotFound);
    assert_eq!(numbers_of(&test, &account, "+13108675303").await, ["+13108675303"]);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A number that several users share is AMBIGUOUS, and the first created is selected.
#[tokio::test]
async fn shared_number_is_ambiguous_first_created_selected() {
    let test = TestApp::start().await;
    let first = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let second = test.zendesk.create_user(&json!({"name": "Bob", "phone": "(310)-867-5301"})).unwrap();
    let (account, integration) = test.synced().await;

    let found = test.look_up(&account, "+13108675301").await;

    assert_eq!(found.outcome(), pb::MatchOutcome::Ambiguous);
    assert_eq!(found.candidates.len(), 2);
    assert_eq!(found.selected.unwrap().records[0].record_id, first.to_string());
    let requester = test.resolve(&account, &integration, Subject::PhoneNumber("+13108675301".into())).await;
    assert_eq!(requester.outcome(), pb::RequesterOutcome::Ambiguous);

    test.zendesk.delete_user(first).unwrap();
    next_run(&test).await;

    let found = test.look_up(&account, "+13108675301").await;
    assert_eq!(found.outcome(), pb::MatchOutcome::Matched);
    assert_eq!(found.selected.unwrap().records[0].record_id, second.to_string());
    assert_holds(&test).await;
}

/// Agents are contacts with their role, and suspended users are kept.
#[tokio::test]
async fn agents_have_role_suspended_users_are_kept() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Agent", "role": "agent", "phone": "+13108675301"})).unwrap();
    let user = test.zendesk.create_user(&json!({"name": "User", "phone": "+13108675302"})).unwrap();
    test.zendesk.create_user(&json!({"name": "Nobody's number", "phone": null, "email": "n@example.com"})).unwrap();
    let (account, integration) = test.synced().await;

    let agent = test.look_up(&account, "+13108675301").await.selected.unwrap();
    assert_eq!(agent.records[0].role, "agent");
    assert_eq!(live_contacts(&test, &account).await, 3);

    test.zendesk.update_user(user, &json!({"suspended": true})).unwrap();
    next_run(&test).await;

    let kept = test.look_up(&account, "+13108675302").await;
    assert_eq!(kept.outcome(), pb::MatchOutcome::Matched);
    assert_eq!(kept.selected.unwrap().records[0].role, "end-user");
    assert_is_a_true_copy(&test, &integration).await;
}

/// A deleted user leaves every answer, and a restore brings the same contact back.
#[tokio::test]
async fn deleted_user_leaves_restore_returns_same_contact() {
    let test = TestApp::start().await;
    let user =
        test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301", "email": "ann@example.com"})).unwrap();
    let (account, integration) = test.synced().await;
    let mut request = call(&account, "+13108675301");
    request.call_id = "call-1".into();
    let before = test.match_caller(request).await.selected.unwrap();

    test.zendesk.delete_user(user).unwrap();
    next_run(&test).await;

    assert_eq!(test.last_run(&account, &integration).await.counts.unwrap().deleted, 1);
    let gone = test.look_up(&account, "+13108675301").await;
    assert_eq!(gone.outcome(), pb::MatchOutcome::NotFound);
    assert!(gone.selected.is_none() && gone.candidates.is_empty());
    for phone_number in ["", "+13108675301"] {
        let list = pb::ListContactsRequest {
            account_id: account.clone(),
            phone_number: phone_number.into(),
            ..Default::default()
        };
        assert!(test.contacts().list_contacts(list).await.unwrap().into_inner().contacts.is_empty());
    }
    let tombstone = test.contact(&account, &before.id).await;
    assert_eq!(time(tombstone.delete_time), test.clock.now());
    assert_eq!((tombstone.display_name.as_str(), tombstone.emails.len(), tombstone.numbers.len()), ("", 0, 0));
    assert!(tombstone.records.iter().all(|record| !record.is_live));
    for subject in [
        Subject::CallId("call-1".into()),
        Subject::ContactId(before.id.clone()),
        Subject::PhoneNumber("+13108675301".into()),
    ] {
        let requester = test.resolve(&account, &integration, subject.clone()).await;
        assert_eq!(requester.outcome(), pb::RequesterOutcome::NotFound, "{subject:?}");
        assert!(requester.record.is_none());
    }
    assert_is_a_true_copy(&test, &integration).await;

    test.zendesk.restore_user(user).unwrap();
    next_run(&test).await;

    let back = test.look_up(&account, "+13108675301").await.selected.unwrap();
    assert_eq!((&back.id, back.create_time), (&before.id, before.create_time));
    assert_eq!((back.display_name.as_str(), back.emails), ("Ann", vec!["ann@example.com".to_owned()]));
    assert_eq!(back.delete_time, None);
    let requester = test.resolve(&account, &integration, Subject::CallId("call-1".into())).await;
    assert_eq!(requester.record.unwrap().record_id, user.to_string());
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A user that is first seen as deleted is nobody until it is restored.
#[tokio::test]
async fn user_first_seen_deleted_is_nobody_until_restored() {
    let test = TestApp::start().await;
    let user = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    test.zendesk.delete_user(user).unwrap();
    let (account, integration) = test.synced().await;

    assert_eq!(test.db.number("select count(*) from contacts").await, 0);
    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::NotFound);
    let counts = test.last_run(&account, &integration).await.counts.unwrap();
    assert_eq!((counts.read, counts.created, counts.deleted, counts.skipped), (1, 0, 0, 1));

    test.zendesk.restore_user(user).unwrap();
    next_run(&test).await;

    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::Matched);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A user that is deleted for good stays gone, and its new name is nowhere.
#[tokio::test]
async fn user_deleted_for_good_stays_gone() {
    let test = TestApp::start().await;
    let user = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;

    test.zendesk.delete_user(user).unwrap();
    next_run(&test).await;
    test.zendesk.purge_user(user).unwrap();
    next_run(&test).await;

    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::NotFound);
    assert_eq!(test.db.number("select count(*) from contacts where display_name <> ''").await, 0);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A caller whose user was deleted is a stranger, and the restored user absorbs it.
#[tokio::test]
async fn restored_user_absorbs_stranger_made_meanwhile() {
    let test = TestApp::start().await;
    let user = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;
    let known = test.look_up(&account, "+13108675301").await.selected.unwrap();
    test.zendesk.delete_user(user).unwrap();
    next_run(&test).await;
    let stranger = test.match_caller(call(&account, "+13108675301")).await;
    assert_eq!(stranger.outcome(), pb::MatchOutcome::Created);

    test.zendesk.restore_user(user).unwrap();
    next_run(&test).await;

    let found = test.look_up(&account, "+13108675301").await;
    assert_eq!(found.outcome(), pb::MatchOutcome::Matched);
    assert_eq!(found.selected.unwrap().id, known.id);
    assert_eq!(test.contact(&account, &stranger.selected.unwrap().id).await.survivor_id, known.id);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// Names and numbers that nobody should type are kept, and bounded.
#[tokio::test]
async fn untypable_names_and_numbers_are_kept_bounded() {
    let test = TestApp::start().await;
    let long = "x".repeat(60_000);
    for (n, user) in [
        json!({"name": long, "phone": long, "email": format!("{}@example.com", "e".repeat(3_000))}),
        json!({"name": "\u{0}\u{1}N\u{7f}\nA", "phone": "+1310\u{0}5550101"}),
        json!({"name": "שלום \u{202e}عالم 🤖", "phone": "٠١٢٣٤٥٦٧٨٩"}),
        json!({"name": "'; drop table contacts; --", "phone": "\\x27 or 1=1"}),
        json!({"name": "{\"a\":[1,\"\\\\\"]}", "phone": "{+13108675302,\"+13108675303\"}"}),
        json!({"name": "e\u{301}".repeat(500), "phone": "+13108675304\t/\t+13108675305"}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut user = user;
        user["external_id"] = json!(format!("x{n}"));
        test.zendesk.create_user(&user).unwrap();
    }

    let (account, integration) = test.synced().await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded);
    let counts = run.counts.unwrap();
    assert_eq!((counts.created, counts.rejected), (6, 0));
    assert_eq!(test.db.number("select count(*) from contacts where char_length(display_name) > 200").await, 0);
    assert_eq!(test.db.number("select count(*) from phone_numbers where octet_length(raw) > 250").await, 0);
    for number in ["+13108675304", "+13108675305"] {
        assert_eq!(test.look_up(&account, number).await.outcome(), pb::MatchOutcome::Matched, "{number}");
    }
    assert_holds(&test).await;
}

/// A user with very many numbers is copied with the first of them.
#[tokio::test]
async fn user_with_many_numbers_keeps_first_ones() {
    let test = TestApp::start().await;
    let identities: Vec<_> =
        (0..90).map(|n| json!({"type": "phone_number", "value": format!("+131086753{n:02}")})).collect();
    test.zendesk.load_user(&json!({"name": "Switchboard", "identities": identities})).unwrap();

    let (account, integration) = test.synced().await;

    assert_eq!(test.last_run(&account, &integration).await.state(), pb::SyncRunState::Succeeded);
    let found = test.look_up(&account, "+13108675300").await.selected.unwrap();
    assert_eq!(found.numbers.len(), 64);
    for n in [1, 40, 63] {
        let found = test.look_up(&account, &format!("+131086753{n:02}")).await;
        assert_eq!(found.outcome(), pb::MatchOutcome::Matched, "{n}");
    }
    assert_holds(&test).await;
}

/// A national number is read with the account's own region.
#[tokio::test]
async fn national_number_uses_accounts_own_region() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "020 7946 0958"})).unwrap();
    let british = test.account_in("GB").await;
    let american = test.account().await;
    let integration = test.enable(&british, "acme").await;
    test.enable(&american, "acme").await;
    assert_eq!(test.sync_due().await, 2);

    assert_eq!(test.look_up(&british, "+442079460958").await.outcome(), pb::MatchOutcome::Matched);
    assert_eq!(test.look_up(&american, "+442079460958").await.outcome(), pb::MatchOutcome::NotFound);
    assert!(crate::histories::oracle::differences(&test, &integration, "GB").await.is_empty());
    assert_holds(&test).await;
}
