//! The agent's choice once a call is accepted, and that attribution follows it.

use contact_sync::rpc::pb;
use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

use crate::{
    support::TestApp,
    support::calls::{id_of, refusal},
};

const BRYCE: &str = "+13108675309";

/// A call from a line of two: (account, integration, their contacts).
async fn ambiguous_call(test: &TestApp) -> (String, String, [String; 2]) {
    test.user("Bryce Love", BRYCE);
    test.user("His Wife", BRYCE);
    let (account, integration) = test.synced().await;
    let candidates = test.ask(&account, BRYCE, "call-1").await.candidates;
    (account, integration, [candidates[0].id.clone(), candidates[1].id.clone()])
}

#[tokio::test]
async fn the_last_choice_wins_and_attribution_follows_it() {
    let test = TestApp::start().await;
    let (account, integration, [first, second]) = ambiguous_call(&test).await;

    for choice in [&second, &first, &second, &second] {
        let selection = test.select(&account, "call-1", choice).await;
        assert_eq!(&selection.id, choice);
        let requester = test.resolve_call(&account, &integration, "call-1").await;
        assert_eq!(&requester.contact_id, choice);
        assert_eq!(requester.record.unwrap().record_id, selection.records[0].record_id);
        assert_eq!(id_of(test.ask(&account, BRYCE, "call-1").await.selection.as_ref()), *choice);
    }
    // Another call from the line is not touched.
    assert_eq!(test.ask(&account, BRYCE, "call-2").await.selection, None);
}

/// Any live contact may be chosen, also a placeholder.
#[tokio::test]
async fn any_live_contact_may_be_chosen() {
    let test = TestApp::start().await;
    let (account, integration, _) = ambiguous_call(&test).await;
    let stranger = id_of(test.ask(&account, "+13105550100", "call-2").await.selected.as_ref());

    test.select(&account, "call-1", &stranger).await;

    let again = test.ask(&account, BRYCE, "call-1").await;
    assert_eq!(id_of(again.selection.as_ref()), stranger);
    assert_eq!(again.total, 2);
    // A placeholder has no record, and two have the call's number: nobody guesses.
    assert_eq!(test.resolve_call(&account, &integration, "call-1").await.outcome(), pb::RequesterOutcome::Ambiguous);
}

/// An unknown call, and a contact that is not live, are `NOT_FOUND`.
#[tokio::test]
async fn unknown_call_or_dead_contact_is_not_found() {
    let test = TestApp::start().await;
    let (account, integration, [first, _]) = ambiguous_call(&test).await;
    let record = test.contact(&account, &first).await.records[0].record_id.parse().unwrap();
    let unknown_call = test.try_select(&account, "never", &first).await.unwrap_err();
    let nobody = test.try_select(&account, "call-1", "01234567-89ab-7def-8123-456789abcdef").await.unwrap_err();
    test.zendesk.delete_user(record).unwrap();
    test.trigger(&account, &integration).await;
    let dead = test.try_select(&account, "call-1", &first).await.unwrap_err();

    assert_eq!(refusal(&unknown_call), (Code::NotFound, "CALL_NOT_FOUND".to_owned()));
    assert_eq!(refusal(&nobody), (Code::NotFound, "CONTACT_NOT_FOUND".to_owned()));
    assert_eq!(refusal(&dead), (Code::NotFound, "CONTACT_NOT_FOUND".to_owned()));
    assert_eq!(test.ask(&account, BRYCE, "call-1").await.selection, None);
}

#[tokio::test]
async fn choosing_an_alias_chooses_its_survivor() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    let known = id_of(test.ask(&account, BRYCE, "call-1").await.selected.as_ref());
    test.minutes(1);
    let stranger = id_of(test.ask(&account, "+13105550100", "call-2").await.selected.as_ref());
    test.zendesk
        .add_identity(user.parse().unwrap(), &json!({"type": "phone_number", "value": "+13105550100"}))
        .unwrap();
    test.trigger(&account, &integration).await;

    let selection = test.select(&account, "call-1", &stranger).await;

    assert_eq!(selection.id, known);
    assert_eq!(test.resolve_call(&account, &integration, "call-1").await.record.unwrap().record_id, user);
}

/// A selection that was merged is told by its survivor.
#[tokio::test]
async fn merged_selection_is_told_by_survivor() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    let known = id_of(test.ask(&account, BRYCE, "call-1").await.selected.as_ref());
    test.minutes(1);
    let stranger = id_of(test.ask(&account, "+13105550100", "call-2").await.selected.as_ref());
    test.select(&account, "call-1", &stranger).await;
    test.zendesk
        .add_identity(user.parse().unwrap(), &json!({"type": "phone_number", "value": "+13105550100"}))
        .unwrap();
    test.trigger(&account, &integration).await;

    let again = test.ask(&account, BRYCE, "call-1").await;

    assert_eq!(id_of(again.selection.as_ref()), known);
    assert_eq!(id_of(again.selected.as_ref()), known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_choices_end_in_one_of_them() {
    let test = TestApp::start().await;
    let (account, integration, contacts) = ambiguous_call(&test).await;

    let choices = join_all((0..50).map(|n| test.try_select(&account, "call-1", &contacts[n % 2]))).await;

    assert!(choices.iter().enumerate().all(|(n, choice)| choice.as_ref().unwrap().id == contacts[n % 2]));
    let selection = id_of(test.ask(&account, BRYCE, "call-1").await.selection.as_ref());
    assert!(contacts.contains(&selection));
    assert_eq!(test.resolve_call(&account, &integration, "call-1").await.contact_id, selection);
}

/// The caller of a hidden number can be chosen by the agent.
#[tokio::test]
async fn agent_can_choose_hidden_numbers_caller() {
    let test = TestApp::start().await;
    let (account, _, [first, _]) = ambiguous_call(&test).await;
    test.ask(&account, "anonymous", "call-2").await;

    test.select(&account, "call-2", &first).await;

    let again = test.ask(&account, "anonymous", "call-2").await;
    assert_eq!(again.outcome(), pb::MatchOutcome::Withheld);
    assert_eq!(id_of(again.selection.as_ref()), first);
}
