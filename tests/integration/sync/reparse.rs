//! Reading stored numbers again, after a change of rules or of regions: resumable, beside calls.

use contact_sync::rpc::pb::{self, MatchOutcome};
use crm_simulator::gate::GateAt;

use crate::{
    support::calls::{CONTACT_15, ORG, click_on},
    support::sync::{Beside, EXPORT, arrived},
    support::{Subject, TestApp},
};

impl TestApp {
    async fn move_to(&self, account_id: &str, region: &str) {
        let request = pb::UpdateAccountRequest {
            account_id: account_id.into(),
            account: Some(pb::Account { default_region: region.into(), ..Default::default() }),
            update_mask: None,
        };
        self.accounts().update_account(request).await.unwrap();
    }

    async fn reparse(&self) -> usize {
        self.app.number_reparser.reparse_due().await.unwrap()
    }
}

/// After a change of region, stored numbers are read for the new one.
#[tokio::test]
async fn region_change_rereads_stored_numbers() {
    let test = TestApp::start().await;
    test.user("Ada", "020 7946 0018");
    test.user("Bryce", "+13108675309");
    let (account, integration) = test.synced().await;
    assert_eq!(test.look_up(&account, "+442079460018").await.outcome(), MatchOutcome::NotFound);

    test.move_to(&account, "GB").await;
    let changed = test.reparse().await;

    assert_eq!(changed, 2, "both were read for another region");
    assert_eq!(test.look_up(&account, "+442079460018").await.selected.unwrap().display_name, "Ada");
    assert_eq!(test.look_up(&account, "+13108675309").await.selected.unwrap().display_name, "Bryce");
    assert_eq!(test.reparse().await, 0, "once is enough");
    // The feed tells of it, and a run has nothing to add.
    assert_eq!(test.changes(&account, 2).await.len(), 2);
    assert_eq!(test.trigger(&account, &integration).await.counts.unwrap().created, 0);
}

/// Until stored numbers are read again, nobody is not surely nobody.
#[tokio::test]
async fn nobody_is_uncertain_until_numbers_are_reread() {
    let test = TestApp::start().await;
    test.user("Ada", "020 7946 0018");
    let (account, integration) = test.synced().await;
    test.move_to(&account, "GB").await;
    // A fresh replica has no cached rules.
    let replica = test.replica(|_| {}).await;

    for number in ["+442079460018", "+442079460099"] {
        let early = replica.look_up(&account, number).await;
        assert_eq!((early.outcome(), early.complete), (MatchOutcome::NotKnownYet, false), "{number}");
        let requester = replica.resolve(&account, &integration, Subject::PhoneNumber(number.into())).await;
        assert_eq!(requester.outcome(), pb::RequesterOutcome::NotKnownYet, "{number}");
    }
    test.reparse().await;

    let replica = test.replica(|_| {}).await;
    assert_eq!(replica.look_up(&account, "+442079460018").await.outcome(), MatchOutcome::Matched);
    assert_eq!(replica.look_up(&account, "+442079460099").await.outcome(), MatchOutcome::NotFound);
}

/// Both spellings of a number are kept when they are two numbers after a move.
#[tokio::test]
async fn spelling_made_distinct_by_move_is_kept() {
    let test = TestApp::start().await;
    let user = test.user("Ada", "(310) 867-5309").parse().unwrap();
    test.zendesk.add_identity(user, &serde_json::json!({"type": "phone_number", "value": "+13108675309"})).unwrap();
    let (account, integration) = test.synced().await;

    test.move_to(&account, "GB").await;
    test.reparse().await;
    // The next run is a sweep, and only one: the same regions again are no change.
    for kind in [pb::SyncKind::Sweep, pb::SyncKind::Incremental] {
        test.minutes(40);
        assert_eq!(test.sync_due().await, 1);
        assert_eq!(test.last_run(&account, &integration).await.kind(), kind);
        test.move_to(&account, "GB").await;
    }

    assert_eq!(test.look_up(&account, "+13108675309").await.selected.unwrap().display_name, "Ada");
}

/// A sweep that is asked for during another one comes behind it.
#[tokio::test]
async fn sweep_asked_during_another_comes_behind() {
    let test = TestApp::start().await;
    test.user("Ada", "020 7946 0018");
    let (account, integration) = test.synced().await;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let request = pb::TriggerSyncRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        kind: pb::SyncKind::Sweep.into(),
        ..Default::default()
    };
    test.syncs().trigger_sync(request).await.unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    test.minutes(1);
    test.move_to(&account, "GB").await;
    drop(gate);
    run.ended().await;
    test.sync_due().await;
    let first = test.last_run(&account, &integration).await;

    // Without a period between them.
    test.sync_due().await;

    let second = test.last_run(&account, &integration).await;
    assert_eq!((first.kind(), second.kind()), (pb::SyncKind::Sweep, pb::SyncKind::Sweep));
    assert_ne!(first.id, second.id);
    assert_eq!(test.sync_due().await, 0, "and no third");
}

/// An account whose numbers cannot be read again does not keep others waiting.
#[tokio::test]
async fn unreadable_account_keeps_no_others_waiting() {
    let test = TestApp::start().await;
    test.user("Ada", "020 7946 0018");
    let mut accounts = Vec::new();
    for name in ["one", "two"] {
        let account = test.account().await;
        test.enable(&account, name).await;
        assert_eq!(test.sync_due().await, 1);
        test.move_to(&account, "GB").await;
        accounts.push(account);
    }
    accounts.sort();
    // The first in line fails.
    let failing = &accounts[0];
    test.db
        .execute(&format!("create function refuse() returns trigger language plpgsql as $$ begin if new.account_id = '{failing}' then raise exception 'cut'; end if; return new; end $$; create trigger refuse before insert on phone_numbers for each row execute function refuse()"))
        .await;

    assert!(test.app.number_reparser.reparse_due().await.is_err());

    let replica = test.replica(|_| {}).await;
    assert_eq!(replica.look_up(&accounts[0], "+442079460018").await.outcome(), MatchOutcome::NotKnownYet);
    assert_eq!(replica.look_up(&accounts[1], "+442079460018").await.outcome(), MatchOutcome::Matched);
}

/// A clicked number keeps the region that the click named.
#[tokio::test]
async fn clicked_number_keeps_clicks_region() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let salesforce = test.enable_off(&account, pb::Provider::Salesforce, ORG).await;
    let click = pb::PreRegisterContactRequest {
        default_region: "GB".into(),
        ..click_on(&account, &salesforce, "Contact", CONTACT_15, "020 7946 0018")
    };
    // First without a region: the second click knows better.
    let early = click_on(&account, &salesforce, "Contact", CONTACT_15, "+13105550100");
    test.click(early).await;
    let clicked = test.clicked(click).await;

    test.move_to(&account, "FR").await;
    test.reparse().await;

    assert_eq!(test.look_up(&account, "+442079460018").await.selected.unwrap().id, clicked.id);
}

/// A stranger on a number that a record gains by it is adopted.
#[tokio::test]
async fn stranger_on_reread_number_is_adopted() {
    let test = TestApp::start().await;
    test.user("Ada", "020 7946 0018");
    let (account, _) = test.synced().await;
    let stranger = test.ask(&account, "+442079460018", "call-1").await.selected.unwrap();
    assert!(stranger.is_placeholder);

    test.move_to(&account, "GB").await;
    test.reparse().await;

    let known = test.look_up(&account, "+442079460018").await;
    assert_eq!((known.outcome(), known.total), (MatchOutcome::Matched, 1));
    let ada = known.selected.unwrap();
    assert_eq!((ada.display_name.as_str(), test.living(&account, &stranger.id).await), ("Ada", ada.id.clone()));
}

/// Numbers of older rules are read again batch by batch, and a crash goes on where it was.
#[tokio::test]
async fn old_numbers_reread_in_batches_surviving_crash() {
    const CONTACTS: i64 = 450;
    let test = TestApp::start().await;
    for n in 0..CONTACTS {
        test.user(&format!("Person {n}"), &format!("(310) 555-{n:04}"));
    }
    let (account, _) = test.synced().await;
    test.db
        .execute("update phone_numbers set key_version = 0, e164 = e164 + 10000; update accounts set key_version = 0")
        .await;
    // The second batch cannot be written.
    test.db
        .execute("create function refuse() returns trigger language plpgsql as $$ begin if (select count(*) from phone_numbers where key_version > 0) >= 200 then raise exception 'cut'; end if; return new; end $$; create trigger refuse before insert on phone_numbers for each row execute function refuse()")
        .await;
    assert!(test.app.number_reparser.reparse_due().await.is_err());
    let read = test.db.number("select count(*) from phone_numbers where key_version > 0").await;
    assert_eq!(read, 200);
    // Calls go on meanwhile.
    assert_eq!(test.look_up(&account, "+13105550000").await.outcome(), MatchOutcome::Matched);
    test.db.execute("drop trigger refuse on phone_numbers").await;

    let changed = test.reparse().await;

    assert_eq!(changed, 250, "what was read again before the crash is not read once more");
    assert_eq!(test.db.number("select count(*) from phone_numbers where key_version = 0").await, 0);
    for n in [0, 199, 200, 449] {
        let found = test.look_up(&account, &format!("+1310555{n:04}")).await;
        assert_eq!(found.selected.unwrap().display_name, format!("Person {n}"));
    }
}

/// Numbers that newer rules read as before are left as they are.
#[tokio::test]
async fn unchanged_numbers_of_newer_rules_stay() {
    let test = TestApp::start().await;
    test.user("Ada", "(310) 555-0100");
    let (account, _) = test.synced().await;
    let read = test.feed_end(&account).await;
    test.db.execute("update phone_numbers set key_version = 0; update accounts set key_version = 0").await;

    assert_eq!(test.reparse().await, 0);

    assert!(test.changes(&account, read).await.is_empty(), "nobody has changed");
    let replica = test.replica(|_| {}).await;
    assert_eq!(replica.look_up(&account, "+13105559999").await.outcome(), MatchOutcome::NotFound, "all were read");
}

/// A run that began before the change writes nothing by the old regions.
#[tokio::test]
async fn run_from_before_change_writes_no_old_regions() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    test.user("Ada", "020 7946 0018");
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let request = pb::TriggerSyncRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        ..Default::default()
    };
    test.syncs().trigger_sync(request).await.unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    test.move_to(&account, "GB").await;
    test.reparse().await;
    drop(gate);
    // It stops there, and is taken up by the new rules.
    run.ended().await;
    test.sync_due().await;

    assert_eq!(test.look_up(&account, "+442079460018").await.selected.unwrap().display_name, "Ada");
}
