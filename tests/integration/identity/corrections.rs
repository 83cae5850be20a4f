//! Corrections of what automations were told: each once, also across crashes and of what was told
//! twice.

use std::collections::BTreeSet;

use contact_sync::{
    domain::ids::AccountId,
    rpc::pb::{self, ChangeKind, Provider, RequesterVerdictOutcome},
};
use futures_util::future::join_all;
use serde_json::json;

use crate::{
    feed::assert_gapless,
    support::TestApp,
    support::calls::{CONTACT_15, ORG, click_on, id_of, look_only, outbound},
};

const BRYCE: &str = "+13108675309";

/// The record that a verdict names.
fn told(verdict: Option<&pb::RequesterVerdict>) -> (RequesterVerdictOutcome, String) {
    let verdict = verdict.unwrap();
    (verdict.outcome(), verdict.record_id.clone())
}

/// A sync that brings the caller's record corrects what was told, once.
#[tokio::test]
async fn sync_bringing_callers_record_corrects_once() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    test.ask(&account, BRYCE, "call-1").await;
    let before = test.resolve_call(&account, &integration, "call-1").await;
    assert_eq!(before.outcome(), pb::RequesterOutcome::NotFound);
    assert!(test.corrections(&account, 0).await.is_empty());
    test.minutes(1);
    let user = test.user("Bryce Love", BRYCE);
    test.trigger(&account, &integration).await;

    let corrections = test.corrections(&account, 0).await;

    assert_eq!(corrections.len(), 1);
    assert_eq!((corrections[0].call_id.as_str(), &corrections[0].integration_id), ("call-1", &integration));
    assert_eq!(told(corrections[0].before.as_ref()), (RequesterVerdictOutcome::None, String::new()));
    assert_eq!(told(corrections[0].after.as_ref()), (RequesterVerdictOutcome::Resolved, user));
    // Read again, asked again, and after another run: still once.
    test.resolve_call(&account, &integration, "call-1").await;
    test.trigger(&account, &integration).await;
    assert_eq!(test.corrections(&account, 0).await.len(), 1);
}

/// A selection corrects what was told once, and back again once more.
#[tokio::test]
async fn selection_corrects_once_and_once_more_back() {
    let test = TestApp::start().await;
    let first = test.user("Bryce Love", BRYCE);
    let second = test.user("His Wife", BRYCE);
    let (account, integration) = test.synced().await;
    let answer = test.ask(&account, BRYCE, "call-1").await;
    let record = test.resolve_call(&account, &integration, "call-1").await.record.unwrap().record_id;
    assert_eq!(record, first);
    let [chosen, default] = [&answer.candidates[1].id, &answer.candidates[0].id];

    test.select(&account, "call-1", chosen).await;
    let once = test.corrections(&account, 0).await;
    test.select(&account, "call-1", chosen).await;
    assert_eq!(test.corrections(&account, 0).await, once);
    test.select(&account, "call-1", default).await;
    let twice = test.corrections(&account, 0).await;

    assert_eq!(once.len(), 1);
    assert_eq!(told(once[0].before.as_ref()), (RequesterVerdictOutcome::Resolved, first.clone()));
    assert_eq!(told(once[0].after.as_ref()), (RequesterVerdictOutcome::Resolved, second.clone()));
    assert_eq!(twice.len(), 2);
    assert_eq!(told(twice[1].before.as_ref()), (RequesterVerdictOutcome::Resolved, second));
    assert_eq!(told(twice[1].after.as_ref()), (RequesterVerdictOutcome::Resolved, first));
}

/// A merge corrects what was told of the loser.
#[tokio::test]
async fn merge_corrects_what_was_told_of_loser() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let make = |name: &str, phone: &str| {
        test.salesforce.create("Contact", &json!({"LastName": name, "Phone": phone})).unwrap()
    };
    let (winner, loser) = (make("Winner", "+13105550100"), make("Loser", BRYCE));
    let integration = test.enable_salesforce(&account).await;
    test.sync_due().await;
    test.ask(&account, BRYCE, "call-1").await;
    let before = test.resolve_call(&account, &integration, "call-1").await;
    assert_eq!(before.record.unwrap().record_id, loser);
    test.minutes(1);
    test.salesforce.merge("Contact", &winner, &[loser.as_str()]).unwrap();
    test.trigger(&account, &integration).await;

    let corrections = test.corrections(&account, 0).await;

    assert_eq!(corrections.len(), 1);
    assert_eq!(told(corrections[0].before.as_ref()), (RequesterVerdictOutcome::Resolved, loser));
    assert_eq!(told(corrections[0].after.as_ref()), (RequesterVerdictOutcome::Resolved, winner));
}

/// A number that another contact loses corrects an AMBIGUOUS verdict.
#[tokio::test]
async fn number_lost_elsewhere_corrects_ambiguous_verdict() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let other = test.user("His Wife", BRYCE).parse().unwrap();
    let (account, zendesk) = test.synced().await;
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    let clicked = test.clicked(click_on(&account, &salesforce, "Contact", CONTACT_15, BRYCE)).await;
    test.ask(&account, BRYCE, "call-1").await;
    // The Salesforce contact has no record in Zendesk: by its number there are two.
    test.select(&account, "call-1", &clicked.id).await;
    let before = test.resolve_call(&account, &zendesk, "call-1").await;
    assert_eq!(before.outcome(), pb::RequesterOutcome::Ambiguous);
    assert!(test.corrections(&account, 0).await.is_empty());
    test.minutes(1);
    test.zendesk.delete_user(other).unwrap();
    test.trigger(&account, &zendesk).await;

    let corrections = test.corrections(&account, 0).await;

    assert_eq!(corrections.len(), 1);
    assert_eq!(told(corrections[0].before.as_ref()), (RequesterVerdictOutcome::Ambiguous, String::new()));
    assert_eq!(told(corrections[0].after.as_ref()), (RequesterVerdictOutcome::Resolved, user));
}

/// A correction is written once, though its publisher was cut off again and again.
#[tokio::test]
async fn correction_is_written_once_despite_cut_publisher() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let id: AccountId = account.parse().unwrap();
    for n in 0..10 {
        test.ask(&account, &format!("+1310555010{n}"), &format!("call-{n}")).await;
        test.resolve_call(&account, &integration, &format!("call-{n}")).await;
    }
    test.minutes(1);
    for n in 0..10 {
        test.user(&format!("Person {n}"), &format!("+1310555010{n}"));
    }
    test.trigger(&account, &integration).await;
    // Sessions of the service are ended in the middle of whatever they do.
    let feed = test.feed();
    for _ in 0..20 {
        let kill = test.db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'contact-sync api'",
        );
        let (_, ()) = tokio::join!(feed.publish(id), kill);
    }

    // A connection that was ended shows when it is used next.
    for _ in 0..50 {
        if feed.publish(id).await.is_ok() {
            break;
        }
    }
    let corrections = test.corrections(&account, 0).await;

    let calls: BTreeSet<&str> = corrections.iter().map(|correction| correction.call_id.as_str()).collect();
    assert_eq!((corrections.len(), calls.len()), (10, 10));
    assert_gapless(&test.changes(&account, 0).await);
}

/// What is told again and otherwise corrects the first verdict, and is corrected itself.
#[tokio::test]
async fn different_retelling_corrects_first_and_is_corrected() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    test.ask(&account, BRYCE, "call-1").await;
    test.resolve_call(&account, &integration, "call-1").await;
    test.changes(&account, 0).await;
    test.minutes(1);
    let user = test.user("Bryce Love", BRYCE);
    test.trigger(&account, &integration).await;
    // Nobody reads the feed before the automation asks again, and hears another verdict.
    let again = test.resolve_call(&account, &integration, "call-1").await;
    assert_eq!(again.record.unwrap().record_id, user);
    test.resolve_call(&account, &integration, "call-1").await;
    test.minutes(1);
    test.zendesk.delete_user(user.parse().unwrap()).unwrap();
    test.trigger(&account, &integration).await;

    let corrections = test.corrections(&account, 0).await;

    let told: Vec<_> = corrections.iter().map(|c| (told(c.before.as_ref()), told(c.after.as_ref()))).collect();
    let (nobody, him) = ((RequesterVerdictOutcome::None, String::new()), (RequesterVerdictOutcome::Resolved, user));
    assert_eq!(told, [(nobody.clone(), him.clone()), (him, nobody)]);
    assert_gapless(&test.changes(&account, 0).await);
}

/// A record that is restored within a chain is told, and corrects what was told through it.
#[tokio::test]
async fn restore_within_chain_is_told_and_corrects() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let make = |name: &str, phone: &str| {
        test.salesforce.create("Contact", &json!({"LastName": name, "Phone": phone})).unwrap()
    };
    let [a, b, c] = [("A", BRYCE), ("B", "+13105550102"), ("C", "+13105550103")].map(|(name, phone)| make(name, phone));
    let integration = test.enable_salesforce(&account).await;
    test.sync_due().await;
    let first = id_of(test.ask(&account, BRYCE, "call-1").await.selected.as_ref());
    let middle = id_of(test.look_up(&account, "+13105550102").await.selected.as_ref());
    // Two merges come with one run: the feed never hears of the step between.
    test.minutes(1);
    test.salesforce.merge("Contact", &b, &[a.as_str()]).unwrap();
    test.salesforce.merge("Contact", &c, &[b.as_str()]).unwrap();
    test.trigger(&account, &integration).await;
    assert_eq!(test.resolve_call(&account, &integration, "call-1").await.record.unwrap().record_id, c);
    let read = test.feed_end(&account).await;
    test.minutes(1);
    test.salesforce.undelete(&b).unwrap();
    test.trigger(&account, &integration).await;

    let changes = test.changes(&account, read).await;

    assert_eq!(test.resolve_call(&account, &integration, "call-1").await.record.unwrap().record_id, b);
    let moved = changes.iter().find(|change| change.contact_id == first).unwrap();
    assert_eq!((moved.kind(), &moved.survivor_id), (ChangeKind::Merged, &middle));
    let corrections: Vec<_> = changes.into_iter().filter_map(|change| change.correction).collect();
    assert_eq!(corrections.len(), 1);
    assert_eq!(told(corrections[0].before.as_ref()), (RequesterVerdictOutcome::Resolved, c));
    assert_eq!(told(corrections[0].after.as_ref()), (RequesterVerdictOutcome::Resolved, b));
}

/// A click that a known call takes corrects what was told of the call.
#[tokio::test]
async fn click_taken_by_known_call_corrects_it() {
    const UNKNOWN: &str = "+13105550142";
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    let dial = async || test.match_caller(look_only(outbound(&account, UNKNOWN, "call-1", "agent-1"))).await;
    dial().await;
    let before = test.resolve_call(&account, &integration, "call-1").await;
    assert_eq!(before.outcome(), pb::RequesterOutcome::NotFound);
    test.changes(&account, 0).await;
    // The record does not have this number, and gets none by a click: only the call is another one
    // now.
    test.click(click_on(&account, &integration, "user", &user, UNKNOWN)).await;
    assert_eq!(dial().await.tier(), pb::MatchTier::Clicked);

    let corrections = test.corrections(&account, 0).await;

    assert_eq!(corrections.len(), 1);
    assert_eq!(told(corrections[0].after.as_ref()), (RequesterVerdictOutcome::Resolved, user));
}

/// Four publishers, and automations that ask again, write each correction once.
#[tokio::test]
async fn racing_publishers_write_each_correction_once() {
    const CALLS: usize = 40;
    let test = TestApp::start().await;
    let replica = test.replica(|_| {}).await;
    let (account, integration) = test.synced().await;
    let id: AccountId = account.parse().unwrap();
    let number = |n: usize| format!("+13105550{n:03}");
    let ask_again =
        async |app: &TestApp, n: usize| app.resolve_call(&account, &integration, &format!("call-{n}")).await;
    for n in 0..CALLS {
        test.ask(&account, &number(n), &format!("call-{n}")).await;
        ask_again(&test, n).await;
    }
    test.minutes(1);
    let users: Vec<String> = (0..CALLS).map(|n| test.user(&format!("Person {n}"), &number(n))).collect();
    test.trigger(&account, &integration).await;

    let feeds = [test.feed(), replica.feed(), test.feed(), replica.feed()];
    let publishers = feeds.iter().map(|feed| async move {
        for _ in 0..20 {
            // Three transactions at most wait for a fourth; a wait that is too long is tried again.
            let _ = feed.publish(id).await;
            tokio::task::yield_now().await;
        }
    });
    let automations = (0..CALLS).filter(|n| n % 3 == 0).map(|n| {
        let (app, ask_again) = (if n % 2 == 0 { &test } else { &replica }, &ask_again);
        async move {
            let answer = ask_again(app, n).await;
            assert_eq!(answer.outcome(), pb::RequesterOutcome::Resolved);
        }
    });
    tokio::join!(join_all(publishers), join_all(automations));

    let corrections = test.corrections(&account, 0).await;
    let mut corrected: Vec<(String, String)> =
        corrections.iter().map(|c| (c.call_id.clone(), told(c.after.as_ref()).1)).collect();
    corrected.sort();
    let mut expected: Vec<(String, String)> =
        users.into_iter().enumerate().map(|(n, user)| (format!("call-{n}"), user)).collect();
    expected.sort();
    assert_eq!(corrected, expected);
    assert_gapless(&test.changes(&account, 0).await);
}

/// The number of a call that was only clicked is that of its match.
#[tokio::test]
async fn match_gives_clicked_call_its_number() {
    const OTHER: &str = "+13105550142";
    let test = TestApp::start().await;
    let by_click = test.user("By the Click", BRYCE);
    let by_match = test.user("By the Match", OTHER);
    let (account, zendesk) = test.synced().await;
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    let click = pb::PreRegisterContactRequest {
        call_id: "call-1".into(),
        ..click_on(&account, &salesforce, "Contact", CONTACT_15, BRYCE)
    };
    test.click(click).await;
    let first = test.resolve_call(&account, &zendesk, "call-1").await;
    assert_eq!(first.record.unwrap().record_id, by_click);
    test.changes(&account, 0).await;
    // The call that was made went elsewhere.
    test.ask(&account, OTHER, "call-1").await;

    let corrections = test.corrections(&account, 0).await;

    let again = test.resolve_call(&account, &zendesk, "call-1").await;
    assert_eq!(again.record.unwrap().record_id, by_match);
    assert_eq!(corrections.len(), 1);
    assert_eq!(told(corrections[0].after.as_ref()), (RequesterVerdictOutcome::Resolved, by_match));
    assert_eq!(test.corrections(&account, 0).await.len(), 1);
}

/// A record that comes with the number of the match corrects a call that was only clicked.
#[tokio::test]
async fn late_record_with_matchs_number_corrects_clicked_call() {
    const OTHER: &str = "+13105550142";
    let test = TestApp::start().await;
    test.user("By the Click", BRYCE);
    let (account, zendesk) = test.synced().await;
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    let click = pb::PreRegisterContactRequest {
        call_id: "call-1".into(),
        ..click_on(&account, &salesforce, "Contact", CONTACT_15, BRYCE)
    };
    test.click(click).await;
    test.resolve_call(&account, &zendesk, "call-1").await;
    test.match_caller(look_only(crate::support::calls::call_with_id(&account, OTHER, "call-1"))).await;
    assert_eq!(test.corrections(&account, 0).await.len(), 1, "nobody has the number of the match");
    test.minutes(1);
    let late = test.user("Late", OTHER);
    test.trigger(&account, &zendesk).await;

    let corrections = test.corrections(&account, 0).await;

    assert_eq!(corrections.len(), 2);
    assert_eq!(told(corrections[1].after.as_ref()), (RequesterVerdictOutcome::Resolved, late));
}

/// A placeholder that takes a known call's place doubts what was told of it.
#[tokio::test]
async fn placeholder_taking_known_call_doubts_verdict() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    test.match_caller(look_only(crate::support::calls::call_with_id(&account, BRYCE, "call-1"))).await;
    test.resolve_call(&account, &salesforce, "call-1").await;
    test.changes(&account, 0).await;
    let stranger = id_of(test.ask(&account, BRYCE, "call-1").await.selected.as_ref());
    test.changes(&account, 0).await;
    // The placeholder turns out to be a record with another number.
    let report = pb::PreRegisterContactRequest {
        contact_id: stranger,
        ..click_on(&account, &salesforce, "Contact", CONTACT_15, "+13105550142")
    };
    let record = test.clicked(report).await.records[0].record_id.clone();

    let corrections = test.corrections(&account, 0).await;

    assert_eq!(corrections.len(), 1);
    assert_eq!(told(corrections[0].after.as_ref()), (RequesterVerdictOutcome::Resolved, record));
}
