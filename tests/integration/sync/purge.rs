//! A purge removes what was copied, and nothing else; a new link begins from nothing.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::gate::GateAt;
use serde_json::json;
use tonic::Code;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{Beside, EXPORT, arrived, ask_disable, live_contacts, pages, param},
    support::{TestApp, call, enable_request, reason},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);

/// A purge removes what was copied, and a new link copies anew.
#[tokio::test]
async fn purge_removes_copy_and_new_link_recopies() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_100, 1).unwrap();
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let gone = test.zendesk.create_user(&json!({"name": "Gone"})).unwrap();
    test.zendesk.delete_user(gone).unwrap();
    let (account, integration) = test.synced().await;
    let other = test.enable(&account, "other").await;
    test.sync_due().await;
    let stranger = test.match_caller(call(&account, "+13108675377")).await.selected.unwrap();
    let mine = test.look_up(&account, "+13108675301").await;
    assert_eq!(mine.outcome(), pb::MatchOutcome::Ambiguous);

    let purging = ask_disable(&test, &account, &integration, pb::CopiedData::Purge).await.unwrap();
    assert!(purging.state_detail.contains("removed"), "{}", purging.state_detail);
    let refused = test.syncs().enable_sync(enable_request(&account, "acme")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "PURGE_RUNNING".to_owned()));
    // Asked again without a purge, it is not taken back.
    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    for table in ["external_refs", "phone_numbers"] {
        let left = format!("select count(*) from {table} where integration_id = '{integration}'");
        assert_eq!(test.db.number(&left).await, 0, "{table}");
    }
    let shown = test.integration(&account, &integration).await;
    assert!(!shown.state_detail.contains("removed") && shown.known_through.is_none() && !shown.enabled);
    assert_eq!(live_contacts(&test, &account).await, 1_102, "the other copy, and the stranger");
    let kept = test.look_up(&account, "+13108675301").await;
    assert_eq!(kept.outcome(), pb::MatchOutcome::Matched);
    assert_eq!(kept.selected.unwrap().records[0].integration_id, other);
    for contact in mine.candidates {
        let is_purged = contact.records[0].integration_id == integration;
        assert_eq!(test.contact(&account, &contact.id).await.delete_time.is_some(), is_purged);
    }
    assert!(test.contact(&account, &stranger.id).await.delete_time.is_none());
    assert_eq!(test.sync_due().await, 0);
    assert_is_a_true_copy(&test, &other).await;
    assert_holds(&test).await;

    test.pass(TimeDelta::seconds(1));
    test.zendesk.clear_requests();
    assert_eq!(test.enable(&account, "acme").await, integration);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Pending);
    assert_eq!(test.sync_due().await, 1);
    assert_eq!(param(&pages(&test)[0], "start_time"), Some("0"));
    assert_eq!(test.last_run(&account, &integration).await.kind(), pb::SyncKind::Initial);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A purge in the middle of a first copy leaves no place to go on from.
#[tokio::test]
async fn purge_during_first_copy_leaves_no_resume_point() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(2_500, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let gate = test.zendesk.faults().gate(EXPORT, 1, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;
    assert_eq!(live_contacts(&test, &account).await, 1_000);

    ask_disable(&test, &account, &integration, pb::CopiedData::Purge).await.unwrap();
    gate.open();
    sync.ended().await;
    test.sync_due().await;
    assert_eq!(live_contacts(&test, &account).await, 0);
    test.zendesk.faults().clear();
    test.zendesk.clear_requests();
    test.pass(TimeDelta::seconds(1));
    test.enable(&account, "acme").await;
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(param(&pages(&test)[0], "start_time"), Some("0"), "the first page was purged, too");
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn a_contact_with_another_record_outlives_a_purge() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;
    let salesforce = test.enable_off(&account, pb::Provider::Salesforce, "00Dx0000000BV7z").await;
    let stranger = test.match_caller(call(&account, "+13108675302")).await.selected.unwrap();
    // One person, two records: both bound to the placeholder of a call.
    let register =
        |integration: &str, object_type: &str, record_id: &str, contact_id: &str| pb::PreRegisterContactRequest {
            account_id: account.clone(),
            integration_id: integration.into(),
            object_type: object_type.into(),
            record_id: record_id.into(),
            phone_number: "+13108675302".into(),
            display_name: "Bob".into(),
            contact_id: contact_id.into(),
            ..Default::default()
        };
    let first = register(&salesforce, "Contact", "003x0000001a2bC", &stranger.id);
    let bound = test.callers().pre_register_contact(first).await.unwrap().into_inner().contact.unwrap();
    assert_eq!(bound.id, stranger.id);
    let user = test.zendesk.create_user(&json!({"name": "Bob Z.", "phone": "+13108675302"})).unwrap();
    test.pass(PERIOD);
    test.sync_due().await;
    // What a conversion or a merge of records will do one day: a second ref on the contact.
    let zendesk_contact = format!("(select contact_id from external_refs where record_id = '{user}')");
    test.db
        .execute(&format!(
            "update phone_numbers set contact_id = '{0}', contact_created_at = (select created_at from contacts where contact_id = '{0}') where contact_id = {1};
            update contacts set deleted_at = now(), display_name = '', emails = '{{}}' where contact_id = {1};
            update external_refs set contact_id = '{0}' where record_id = '{user}'",
            bound.id, zendesk_contact
        ))
        .await;
    assert_holds(&test).await;

    ask_disable(&test, &account, &integration, pb::CopiedData::Purge).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    let kept = test.look_up(&account, "+13108675302").await;
    assert_eq!(kept.outcome(), pb::MatchOutcome::Matched);
    let kept = kept.selected.unwrap();
    assert_eq!(kept.id, bound.id);
    assert_eq!(kept.records.len(), 1);
    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::NotFound);
    assert_holds(&test).await;
}
