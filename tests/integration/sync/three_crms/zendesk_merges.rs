//! Users that Zendesk merges. Its export names no winner: the loser is a deletion
//! (`crm::zendesk::map`), and whoever has its e-mail addresses now is read again (`sync::copy`,
//! `crm::zendesk::client`).

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use serde_json::json;

use super::{
    behaviours::{assert_is_the_truth, copied, next_run},
    crm::{Crm, ZendeskCrm},
};
use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::{Subject, TestApp, Worlds, call},
};

const LOSERS: &str = "+13105550142";
const WINNERS: &str = "+13108675309";

/// A merge deletes the loser, and a ticket goes to the winner, never to the dead.
#[tokio::test]
async fn merge_deletes_loser_winner_gets_tickets() {
    let test = TestApp::start().await;
    let loser = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let winner = test.zendesk.create_user(&json!({"name": "Ann D.", "phone": "(310) 867-5301"})).unwrap();
    let (account, integration) = test.synced().await;
    let mut request = call(&account, "+13108675301");
    request.call_id = "call-1".into();
    let answer = test.match_caller(request).await;
    let lost = answer.selected.unwrap();
    assert_eq!(lost.records[0].record_id, loser.to_string());
    let kept = answer.candidates.into_iter().find(|contact| contact.id != lost.id).unwrap();

    test.zendesk.merge_users(loser, winner).unwrap();
    next_run(&test).await;

    let found = test.look_up(&account, "+13108675301").await;
    assert_eq!(found.outcome(), pb::MatchOutcome::Matched);
    assert_eq!(found.selected.unwrap().id, kept.id);
    assert!(test.contact(&account, &lost.id).await.delete_time.is_some());
    for subject in [Subject::CallId("call-1".into()), Subject::PhoneNumber("+13108675301".into())] {
        let requester = test.resolve(&account, &integration, subject).await;
        assert_eq!(requester.outcome(), pb::RequesterOutcome::Resolved);
        assert_eq!(requester.record.unwrap().record_id, winner.to_string());
    }
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// The winner of a merge and its identities are read again, though nothing says that it changed.
#[tokio::test]
async fn unannounced_merge_winner_is_reread_with_identities() {
    let worlds = Worlds {
        zendesk: Some(|config| {
            config.quirks.merge_touches_winner = false;
            config.quirks.merge_moves_phones = true;
        }),
        ..Worlds::default()
    };
    let test = TestApp::start_in(worlds).await;
    let loser = ZendeskCrm::create(&test, "Loser", LOSERS);
    let winner = ZendeskCrm::create(&test, "Winner", WINNERS);
    let (account, integration) = copied::<ZendeskCrm>(&test).await;

    test.pass(TimeDelta::minutes(5));
    ZendeskCrm::merge(&test, &loser, &winner);
    next_run(&test).await;

    let caller = test.look_up(&account, LOSERS).await.selected.unwrap();
    assert_eq!(caller.display_name, "Winner", "it has the loser's number now");
    assert_is_the_truth::<ZendeskCrm>(&test, &integration).await;
}
