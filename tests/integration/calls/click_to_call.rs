//! Clicks and reports: a record is known before any sync, belongs to the call that goes with it,
//! and a later sync lands on the same contact.

use contact_sync::rpc::pb::{self, MatchOutcome, MatchTier, Provider};
use serde_json::json;
use tonic::Code;

use crate::{
    histories::integrity,
    support::calls::{CONTACT_15, CONTACT_18, LEAD_15, ORG, call_with_id, click_on, id_of, look_only, refusal},
    support::sync::{ask_disable, time},
    support::{Subject, TestApp, field, start_time},
};

const NUMBER: &str = "+13105550100";

/// An account whose Salesforce has sync off: (account, integration).
async fn salesforce(test: &TestApp) -> (String, String) {
    let account = test.account().await;
    let integration = test.enable_off(&account, Provider::Salesforce, ORG).await;
    (account, integration)
}

/// A clicked record is known at once, without any sync.
#[tokio::test]
async fn clicked_record_is_known_without_sync() {
    let test = TestApp::start().await;
    let (account, salesforce) = salesforce(&test).await;

    let clicked = test
        .click(pb::PreRegisterContactRequest {
            display_name: "Jane Doe".into(),
            email: "jane@example.com".into(),
            agent_id: "agent-1".into(),
            ..click_on(&account, &salesforce, "Contact", CONTACT_15, "310 555 0100")
        })
        .await;

    assert_eq!(time(clicked.expire_time), start_time() + chrono::TimeDelta::minutes(5));
    let contact = clicked.contact.unwrap();
    assert_eq!(
        (contact.display_name.as_str(), contact.emails.as_slice()),
        ("Jane Doe", &["jane@example.com".to_owned()][..])
    );
    assert!(!contact.is_placeholder);
    assert_eq!((contact.numbers[0].e164.as_str(), contact.numbers[0].raw.as_str()), (NUMBER, "310 555 0100"));
    let [record] = contact.records.as_slice() else { panic!("one record") };
    assert_eq!((record.record_id.as_str(), record.object_type.as_str()), (CONTACT_18, "Contact"));
    assert_eq!((record.provider(), record.is_live), (Provider::Salesforce, true));
    let inbound = test.look_up(&account, NUMBER).await;
    assert_eq!((inbound.outcome(), inbound.tier()), (MatchOutcome::Matched, MatchTier::Exact));
    assert_eq!(inbound.selected.unwrap(), contact);
    integrity::assert_holds(&test).await;
}

#[tokio::test]
async fn salesforce_ids_of_both_lengths_are_one_record() {
    let test = TestApp::start().await;
    let (account, salesforce) = salesforce(&test).await;

    let short = test.clicked(click_on(&account, &salesforce, "Contact", CONTACT_15, NUMBER)).await;
    let long = test.clicked(click_on(&account, &salesforce, "Contact", CONTACT_18, NUMBER)).await;

    assert_eq!(short.id, long.id);
    assert_eq!(long.records.len(), 1);
    assert_eq!(test.rows(&account, "external_refs").await, 1);
}

/// What cannot be a record of the provider is refused by field.
#[tokio::test]
async fn impossible_records_are_refused_by_field() {
    let test = TestApp::start().await;
    let (account, salesforce) = salesforce(&test).await;
    let pipedrive = test.enable_off(&account, Provider::Pipedrive, "acme").await;
    let zendesk = test.enable_off(&account, Provider::Zendesk, "acme").await;

    for (integration, object_type, record_id, wrong) in [
        (&salesforce, "Account", "001D000000QV9n2", "object_type"),
        (&salesforce, "contact", CONTACT_15, "object_type"),
        (&salesforce, "user", "12", "object_type"),
        (&salesforce, "", CONTACT_15, "object_type"),
        (&salesforce, "Contact", LEAD_15, "record_id"),
        (&salesforce, "Lead", CONTACT_15, "record_id"),
        (&salesforce, "Contact", "003D000000QV9n2AAA", "record_id"),
        (&salesforce, "Contact", "003D000000QV9n", "record_id"),
        (&salesforce, "Contact", "003D000000QV9n\u{e9}", "record_id"),
        (&salesforce, "Contact", "", "record_id"),
        (&pipedrive, "person", "0", "record_id"),
        (&pipedrive, "person", "-1", "record_id"),
        (&pipedrive, "Contact", CONTACT_15, "object_type"),
        (&zendesk, "user", "12a", "record_id"),
        (&zendesk, "user", "01", "record_id"),
        (&zendesk, "user", "123456789012345678901", "record_id"),
    ] {
        let refused = test.click_refused(click_on(&account, integration, object_type, record_id, NUMBER)).await;
        assert_eq!(
            (refused.code(), field(&refused).as_str()),
            (Code::InvalidArgument, wrong),
            "{object_type} {record_id}"
        );
    }
    let refused = test.click_refused(click_on(&account, &salesforce, "Account", CONTACT_15, NUMBER)).await;
    assert!(refused.message().contains("Contact") && refused.message().contains("003"), "{}", refused.message());
    assert_eq!(test.rows(&account, "contacts").await, 0);
}

#[tokio::test]
async fn an_unreadable_number_is_refused_by_field() {
    let test = TestApp::start().await;
    let (account, salesforce) = salesforce(&test).await;

    for number in ["", "hello", "anonymous", "911", "+266696687"] {
        let refused = test.click_refused(click_on(&account, &salesforce, "Contact", CONTACT_15, number)).await;
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, "phone_number"), "{number}");
    }
    assert_eq!(test.rows(&account, "contacts").await, 0);
}

#[tokio::test]
async fn every_provider_takes_reports_with_sync_off() {
    let test = TestApp::start().await;
    let account = test.account().await;

    for (provider, organization, object_type, record_id) in [
        (Provider::Zendesk, "acme", "user", "77"),
        (Provider::Salesforce, ORG, "Lead", LEAD_15),
        (Provider::Pipedrive, "acme", "person", "77"),
    ] {
        let integration = test.enable_off(&account, provider, organization).await;
        let number = format!("+1310555{:04}", 200 + provider as i32);
        test.click(click_on(&account, &integration, object_type, record_id, &number)).await;

        let requester = test.resolve(&account, &integration, Subject::PhoneNumber(number)).await;

        assert_eq!(requester.outcome(), pb::RequesterOutcome::Resolved, "{provider:?}");
        assert_eq!(requester.record.unwrap().provider(), provider);
    }
    assert_eq!(test.zendesk.requests().total, 0, "an integration with sync off is not probed");
}

#[tokio::test]
async fn a_disabled_integration_takes_no_clicks() {
    let test = TestApp::start().await;
    let (account, salesforce) = salesforce(&test).await;
    ask_disable(&test, &account, &salesforce, pb::CopiedData::Keep).await.unwrap();

    let refused = test.click_refused(click_on(&account, &salesforce, "Contact", CONTACT_15, NUMBER)).await;

    assert_eq!(refusal(&refused), (Code::FailedPrecondition, "INTEGRATION_DISABLED".to_owned()));
    assert_eq!(test.rows(&account, "expected_calls").await, 0);
}

/// A click on a known call changes the selection, and never the answer.
#[tokio::test]
async fn click_on_known_call_changes_selection_only() {
    let test = TestApp::start().await;
    test.user("Bryce Love", NUMBER);
    let (account, zendesk) = test.synced().await;
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    let answered = test.ask(&account, NUMBER, "call-1").await;

    let clicked = test
        .click(pb::PreRegisterContactRequest {
            call_id: "call-1".into(),
            ..click_on(&account, &salesforce, "Contact", CONTACT_15, NUMBER)
        })
        .await;
    let again = test.ask(&account, NUMBER, "call-1").await;

    let contact = clicked.contact.unwrap();
    assert_eq!(clicked.expire_time, None);
    assert_eq!(
        (again.outcome(), id_of(again.selected.as_ref())),
        (answered.outcome(), id_of(answered.selected.as_ref()))
    );
    assert_eq!(id_of(again.selection.as_ref()), contact.id);
    let there = test.resolve_call(&account, &salesforce, "call-1").await;
    assert_eq!(
        (there.outcome(), there.evidence()),
        (pb::RequesterOutcome::Resolved, pb::RequesterEvidence::SelectedContact)
    );
    let here = test.resolve_call(&account, &zendesk, "call-1").await;
    assert_eq!(
        (here.outcome(), here.evidence()),
        (pb::RequesterOutcome::Resolved, pb::RequesterEvidence::OnlyRecordWithNumber)
    );
    assert_eq!(test.rows(&account, "expected_calls").await, 0);
}

/// A click on an unknown call creates it, and its match keeps the selection.
#[tokio::test]
async fn click_on_unknown_call_creates_it_selected() {
    let test = TestApp::start().await;
    test.user("Bryce Love", NUMBER);
    let (account, _) = test.synced().await;
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    test.minutes(1);
    for (call_id, is_outbound) in [("out", true), ("in", false)] {
        let click = pb::PreRegisterContactRequest {
            call_id: call_id.into(),
            ..click_on(&account, &salesforce, "Contact", CONTACT_15, NUMBER)
        };
        let clicked = test.clicked(click).await;

        let answer = if is_outbound {
            test.dial(&account, NUMBER, call_id, "").await
        } else {
            test.ask(&account, NUMBER, call_id).await
        };
        let again = test.ask(&account, NUMBER, call_id).await;

        assert_eq!(id_of(answer.selection.as_ref()), clicked.id, "{call_id}");
        if is_outbound {
            assert_eq!(
                (answer.outcome(), answer.tier(), answer.rule.as_str()),
                (MatchOutcome::Matched, MatchTier::Clicked, "clicked")
            );
            assert_eq!(id_of(answer.selected.as_ref()), clicked.id);
        } else {
            assert_eq!((answer.outcome(), answer.tier()), (MatchOutcome::Ambiguous, MatchTier::Exact));
            assert_eq!(answer.selected.as_ref().unwrap().display_name, "Bryce Love");
        }
        assert_eq!((again.outcome(), again.tier()), (answer.outcome(), answer.tier()));
        assert_eq!((again.selected, again.selection), (answer.selected, answer.selection));
        assert_eq!(test.resolve_call(&account, &salesforce, call_id).await.record.unwrap().record_id, CONTACT_18);
    }
}

/// A click with the id of a call from another number is refused and stores nothing.
#[tokio::test]
async fn click_with_other_numbers_call_id_is_refused() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let zendesk = test.enable_off(&account, Provider::Zendesk, "acme").await;
    let with_call = |record_id: &str, number: &str, call_id: &str| pb::PreRegisterContactRequest {
        call_id: call_id.into(),
        ..click_on(&account, &zendesk, "user", record_id, number)
    };
    let first = test.ask(&account, NUMBER, "answered").await.selected.unwrap();
    test.clicked(with_call("77", NUMBER, "clicked")).await;
    let contacts = test.rows(&account, "contacts").await;

    for call_id in ["answered", "clicked"] {
        let refused = test.click_refused(with_call("78", "+13105550199", call_id)).await;
        assert_eq!(refusal(&refused), (Code::FailedPrecondition, "CALL_ID_REUSED".to_owned()), "{call_id}");
    }
    assert_eq!(test.rows(&account, "contacts").await, contacts);
    let again = test.ask(&account, NUMBER, "answered").await;
    assert_eq!(id_of(again.selected.as_ref()), test.living(&account, &first.id).await);

    // Another form of the same line, and a caller who hid the number, are no other call.
    test.ask(&account, "+541155551234", "argentina").await;
    test.clicked(with_call("79", "+5491155551234", "argentina")).await;
    test.ask(&account, "anonymous", "hidden").await;
    let told = test.clicked(with_call("80", "+13105550180", "hidden")).await;
    assert_eq!(test.resolve_call(&account, &zendesk, "hidden").await.contact_id, told.id);
}

/// A report binds the new record to the caller's placeholder.
#[tokio::test]
async fn report_binds_new_record_to_callers_placeholder() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let pipedrive = test.enable_off(&account, Provider::Pipedrive, "acme").await;
    let stranger = test.ask(&account, NUMBER, "call-1").await.selected.unwrap();
    test.minutes(1);
    let report = pb::PreRegisterContactRequest {
        display_name: "New Deal".into(),
        call_id: "call-1".into(),
        contact_id: stranger.id.clone(),
        // The automation has read another number from the conversation.
        ..click_on(&account, &pipedrive, "person", "77", "+13105550199")
    };

    let contact = test.clicked(report.clone()).await;
    let again = test.clicked(report.clone()).await;

    assert_eq!((contact.id.as_str(), contact.display_name.as_str()), (stranger.id.as_str(), "New Deal"));
    assert!(!contact.is_placeholder && contact.records.len() == 1);
    assert_eq!(again, contact);
    assert_eq!(test.resolve_call(&account, &pipedrive, "call-1").await.record.unwrap().record_id, "77");
    let second = test.click_refused(pb::PreRegisterContactRequest { record_id: "78".into(), ..report.clone() }).await;
    assert_eq!(refusal(&second), (Code::FailedPrecondition, "CONTACT_HAS_RECORD".to_owned()));
    let nobody = "01234567-89ab-7def-8123-456789abcdef";
    let unknown = test.click_refused(pb::PreRegisterContactRequest { contact_id: nobody.into(), ..report }).await;
    assert_eq!(refusal(&unknown), (Code::NotFound, "CONTACT_NOT_FOUND".to_owned()));
    integrity::assert_holds(&test).await;
}

/// A record that is known already absorbs the placeholder that it is bound to.
#[tokio::test]
async fn known_record_absorbs_placeholder_bound_to_it() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", "+13105559999");
    let (account, zendesk) = test.synced().await;
    let known = id_of(test.look_up(&account, "+13105559999").await.selected.as_ref());
    test.minutes(1);
    let stranger = test.ask(&account, NUMBER, "call-1").await.selected.unwrap();

    let contact = test
        .clicked(pb::PreRegisterContactRequest {
            contact_id: stranger.id.clone(),
            call_id: "call-1".into(),
            display_name: "Not His Name".into(),
            ..click_on(&account, &zendesk, "user", &user, NUMBER)
        })
        .await;

    assert_eq!((contact.id.as_str(), contact.display_name.as_str()), (known.as_str(), "Bryce Love"));
    assert_eq!(test.living(&account, &stranger.id).await, known);
    assert_eq!(id_of(test.ask(&account, NUMBER, "call-1").await.selected.as_ref()), known);
    assert_eq!(test.resolve_call(&account, &zendesk, "call-1").await.record.unwrap().record_id, user);
    integrity::assert_holds(&test).await;
}

/// A click never overwrites what a sync brought, and any sync wins over a click.
#[tokio::test]
async fn click_never_overwrites_sync_any_sync_wins() {
    let test = TestApp::start().await;
    let synced = test
        .zendesk
        .create_user(&json!({"name": "Bryce Love", "phone": NUMBER, "email": "bryce@example.com"}))
        .unwrap();
    let (account, zendesk) = test.synced().await;
    let before = test.look_up(&account, NUMBER).await.selected.unwrap();
    let click = |record_id: &str, number: &str| pb::PreRegisterContactRequest {
        display_name: "Clicked Name".into(),
        email: "clicked@example.com".into(),
        ..click_on(&account, &zendesk, "user", record_id, number)
    };

    let clicked = test.clicked(click(&synced.to_string(), "+13105550111")).await;
    assert_eq!(clicked, before);

    let later = test.zendesk.create_user(&json!({"name": "Jane Doe", "phone": "+13105550222"})).unwrap();
    let early = test.clicked(click(&later.to_string(), "+13105550222")).await;
    assert_eq!(early.display_name, "Clicked Name");
    test.minutes(1);
    test.trigger(&account, &zendesk).await;
    let contact = test.contact(&account, &early.id).await;
    assert_eq!((contact.display_name.as_str(), contact.create_time), ("Jane Doe", early.create_time));
    assert_eq!((contact.records.len(), contact.numbers.len()), (1, 1));
    assert_eq!(contact.numbers[0].label, "phone");
    assert_eq!(test.list_contacts(&account, "").await.len(), 2);
    integrity::assert_holds(&test).await;
}

/// A second click without a name keeps the name and both numbers.
#[tokio::test]
async fn nameless_second_click_keeps_name_and_numbers() {
    let test = TestApp::start().await;
    let (account, salesforce) = salesforce(&test).await;
    let first = pb::PreRegisterContactRequest {
        display_name: "Jane Doe".into(),
        email: "jane@example.com".into(),
        ..click_on(&account, &salesforce, "Contact", CONTACT_15, NUMBER)
    };
    test.clicked(first).await;

    // Her mobile, from a list that shows no names.
    let again = test.clicked(click_on(&account, &salesforce, "Contact", CONTACT_18, "+13105550101")).await;

    assert_eq!(
        (again.display_name.as_str(), again.emails.as_slice()),
        ("Jane Doe", &["jane@example.com".to_owned()][..])
    );
    for number in [NUMBER, "+13105550101"] {
        assert_eq!(test.look_up(&account, number).await.outcome(), MatchOutcome::Matched, "{number}");
    }
}

/// A record that the CRM has deleted is not registered again.
#[tokio::test]
async fn deleted_record_is_not_registered_again() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", NUMBER);
    let (account, zendesk) = test.synced().await;
    test.zendesk.delete_user(user.parse().unwrap()).unwrap();
    test.trigger(&account, &zendesk).await;

    let refused = test.click_refused(click_on(&account, &zendesk, "user", &user, NUMBER)).await;

    assert_eq!(refusal(&refused), (Code::FailedPrecondition, "RECORD_GONE".to_owned()));
    assert_eq!(test.look_up(&account, NUMBER).await.outcome(), MatchOutcome::NotFound);
}

#[tokio::test]
async fn a_click_adopts_the_placeholder_on_its_number() {
    let test = TestApp::start().await;
    let (account, salesforce) = salesforce(&test).await;
    let stranger = test.ask(&account, NUMBER, "call-1").await.selected.unwrap();
    test.minutes(1);

    let clicked = test.clicked(click_on(&account, &salesforce, "Contact", CONTACT_15, NUMBER)).await;

    assert_eq!(clicked.id, stranger.id);
    assert!(!clicked.is_placeholder);
    let asked = test.match_caller(look_only(call_with_id(&account, NUMBER, "call-2"))).await;
    assert_eq!((asked.outcome(), asked.total), (MatchOutcome::Matched, 1));
    assert_eq!(test.resolve_call(&account, &salesforce, "call-1").await.record.unwrap().record_id, CONTACT_18);
    integrity::assert_holds(&test).await;
}
