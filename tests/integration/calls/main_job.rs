//! The main job, end to end: a Zendesk customer's callers are named, and tickets go to the right
//! person.

use contact_sync::rpc::pb;
use serde_json::json;

use crate::support::{Subject, TestApp, call};

/// A caller who is known to Zendesk is named, and gets the ticket.
#[tokio::test]
async fn caller_known_to_zendesk_gets_ticket() {
    let test = TestApp::start().await;
    let user = test.zendesk.create_user(&json!({"name": "Bryce Love", "phone": "(310)-867-5309"})).unwrap();
    let (account, integration) = test.synced().await;

    let mut request = call(&account, "+13108675309");
    request.call_id = "call-1".into();
    let answer = test.match_caller(request).await;

    assert_eq!(answer.outcome(), pb::MatchOutcome::Matched);
    assert_eq!(answer.selected.unwrap().display_name, "Bryce Love");
    assert!(answer.complete);
    let requester = test.resolve(&account, &integration, Subject::CallId("call-1".into())).await;
    assert_eq!(requester.outcome(), pb::RequesterOutcome::Resolved);
    assert_eq!(requester.record.unwrap().record_id, user.to_string());
}

/// A stranger gets one contact, and the sync adopts it.
#[tokio::test]
async fn stranger_gets_one_contact_sync_adopts_it() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;

    let first = test.match_caller(call(&account, "+13105550100")).await;
    let again = test.match_caller(call(&account, "+13105550100")).await;
    test.zendesk.create_user(&json!({"name": "New Customer", "phone": "310 555 0100"})).unwrap();
    let run = test.trigger(&account, &integration).await;
    let known = test.match_caller(call(&account, "+13105550100")).await;

    assert_eq!(first.outcome(), pb::MatchOutcome::Created);
    assert_eq!(again.outcome(), pb::MatchOutcome::Matched);
    assert_eq!(run.state(), pb::SyncRunState::Succeeded);
    assert_eq!(known.outcome(), pb::MatchOutcome::Matched);
    let known = known.selected.unwrap();
    assert_eq!(known.display_name, "New Customer");
    assert_eq!(known.id, first.selected.unwrap().id);
    assert_eq!(known.id, again.selected.unwrap().id);
}
