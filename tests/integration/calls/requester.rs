//! The requester rule: the record to which an automation attributes what it creates, or the reason
//! why there is none.

use contact_sync::rpc::pb::{self, Provider, RequesterEvidence, RequesterOutcome};
use crm_simulator::gate::GateAt;
use serde_json::json;
use tonic::Code;

use crate::{
    support::calls::{CONTACT_15, CONTACT_18, LEAD_15, ORG, call_with_id, click_on, id_of, look_only, refusal},
    support::sync::{Beside, EXPORT, arrived, ask_update, sync_mode},
    support::{Subject, TestApp, field},
};

const BRYCE: &str = "+13108675309";
const NOBODY: &str = "01234567-89ab-7def-8123-456789abcdef";

fn record_of(response: &pb::ResolveRequesterResponse) -> &str {
    &response.record.as_ref().expect("a record is resolved").record_id
}

fn by_number(number: &str) -> Subject {
    Subject::PhoneNumber(number.into())
}

/// A person who is kept in two CRMs resolves in each, though the call was AMBIGUOUS.
#[tokio::test]
async fn person_in_two_crms_resolves_in_each() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let (account, zendesk) = test.synced().await;
    test.minutes(1);
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    test.click(click_on(&account, &salesforce, "Contact", CONTACT_15, BRYCE)).await;
    let answer = test.ask(&account, BRYCE, "call-1").await;
    assert_eq!(answer.outcome(), pb::MatchOutcome::Ambiguous);

    let here = test.resolve_call(&account, &zendesk, "call-1").await;
    let there = test.resolve_call(&account, &salesforce, "call-1").await;

    assert_eq!((here.outcome(), record_of(&here)), (RequesterOutcome::Resolved, user.as_str()));
    assert_eq!(here.evidence(), RequesterEvidence::SelectedContact);
    assert_eq!((there.outcome(), record_of(&there)), (RequesterOutcome::Resolved, CONTACT_18));
    assert_eq!(there.evidence(), RequesterEvidence::OnlyRecordWithNumber);
    for response in [&here, &there] {
        assert_eq!(response.contact_id, id_of(answer.selected.as_ref()));
        assert!(response.candidates.is_empty() && response.note.is_empty());
    }
    assert!(here.known_through.is_some());
}

/// A national number from elsewhere is read in the country that the request names.
#[tokio::test]
async fn national_number_uses_requests_region() {
    let test = TestApp::start().await;
    let user = test.user("Ada", "+4930901820");
    let (account, zendesk) = test.synced().await;
    let resolve = async |number: &str, region: &str| {
        let request = pb::ResolveRequesterRequest {
            account_id: account.clone(),
            integration_id: zendesk.clone(),
            subject: Some(by_number(number)),
            default_region: region.into(),
        };
        test.callers().resolve_requester(request).await
    };
    let list = async |region: &str| {
        let (phone_number, default_region) = ("030 901820".into(), region.into());
        let request =
            pb::ListContactsRequest { account_id: account.clone(), phone_number, default_region, ..Default::default() };
        test.contacts().list_contacts(request).await.map(|page| page.into_inner().contacts.len())
    };

    let there = resolve("030 901820", "DE").await.unwrap().into_inner();

    assert_eq!((there.outcome(), record_of(&there)), (RequesterOutcome::Resolved, user.as_str()));
    assert!(there.as_of.is_some());
    assert_eq!(list("DE").await.unwrap(), 1);
    // The account's own country has no such number.
    assert_eq!(field(&resolve("030 901820", "").await.unwrap_err()), "phone_number");
    assert_eq!(field(&list("").await.unwrap_err()), "phone_number");
}

/// The selected contact's record wins over others with the number.
#[tokio::test]
async fn selected_contacts_record_beats_others_with_number() {
    let test = TestApp::start().await;
    let first = test.user("Bryce Love", BRYCE);
    let (account, zendesk) = test.synced().await;
    test.minutes(1);
    let second = test.user("His Wife", BRYCE);
    test.trigger(&account, &zendesk).await;
    let answer = test.ask(&account, BRYCE, "call-1").await;

    let by_default = test.resolve_call(&account, &zendesk, "call-1").await;
    let wife = answer.candidates[1].id.clone();
    test.select(&account, "call-1", &wife).await;
    let chosen = test.resolve_call(&account, &zendesk, "call-1").await;
    let by_contact = test.resolve(&account, &zendesk, Subject::ContactId(wife.clone())).await;

    assert_eq!((record_of(&by_default), by_default.evidence()), (first.as_str(), RequesterEvidence::SelectedContact));
    assert_eq!((record_of(&chosen), chosen.evidence()), (second.as_str(), RequesterEvidence::SelectedContact));
    assert_eq!((chosen.contact_id.as_str(), record_of(&by_contact)), (wife.as_str(), second.as_str()));
}

/// Several records with a bare number are never guessed.
#[tokio::test]
async fn several_records_of_bare_number_stay_unguessed() {
    let test = TestApp::start().await;
    let mut users = [test.user("Bryce Love", BRYCE), test.user("His Wife", BRYCE)];
    users.sort();
    let (account, zendesk) = test.synced().await;

    let response = test.resolve(&account, &zendesk, by_number("(310) 867-5309")).await;

    assert_eq!(response.outcome(), RequesterOutcome::Ambiguous);
    let candidates: Vec<&str> = response.candidates.iter().map(|record| record.record_id.as_str()).collect();
    assert_eq!(candidates, users);
    assert!(response.record.is_none() && response.contact_id.is_empty() && !response.note.is_empty());
    assert_eq!(response.evidence(), RequesterEvidence::Unspecified);
}

#[tokio::test]
async fn a_shared_line_shows_at_most_twenty_candidates() {
    let test = TestApp::start().await;
    for n in 0..25 {
        test.user(&format!("Person {n}"), BRYCE);
    }
    let (account, zendesk) = test.synced().await;

    let response = test.resolve(&account, &zendesk, by_number(BRYCE)).await;

    assert_eq!((response.outcome(), response.candidates.len()), (RequesterOutcome::Ambiguous, 20));
}

/// A contact of another CRM is resolved by any of its numbers.
#[tokio::test]
async fn other_crms_contact_resolves_by_any_number() {
    let test = TestApp::start().await;
    let user = test.zendesk.create_user(&json!({"name": "Bryce Love", "phone": BRYCE})).unwrap();
    test.zendesk.add_identity(user, &json!({"type": "phone_number", "value": "+13105550100"})).unwrap();
    let (account, zendesk) = test.synced().await;
    let pipedrive = test.enable_off(&account, Provider::Pipedrive, "acme").await;
    let bryce = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());
    // Pipedrive knows him by his second number.
    let person = test.clicked(click_on(&account, &pipedrive, "person", "77", "+13105550100")).await;

    let there = test.resolve(&account, &pipedrive, Subject::ContactId(bryce.clone())).await;
    let here = test.resolve(&account, &zendesk, Subject::ContactId(person.id)).await;
    let by_other_number = test.resolve(&account, &pipedrive, by_number(BRYCE)).await;

    assert_eq!((record_of(&there), there.evidence()), ("77", RequesterEvidence::OnlyRecordWithNumber));
    assert_eq!(there.contact_id, bryce);
    assert_eq!(record_of(&here), user.to_string());
    assert_eq!(by_other_number.outcome(), RequesterOutcome::SyncOff);
}

/// A Salesforce Contact is a better requester than a Lead of the same person.
#[tokio::test]
async fn contact_is_better_requester_than_own_lead() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    let lead = test.clicked(click_on(&account, &salesforce, "Lead", LEAD_15, BRYCE)).await;
    let contact = test.clicked(click_on(&account, &salesforce, "Contact", CONTACT_15, "+13105550100")).await;
    // As after a conversion: both refs are the Contact's contact's.
    test.db
        .execute(&format!(
            "update phone_numbers set contact_id = '{0}' where contact_id = '{1}';
            update external_refs set contact_id = '{0}' where contact_id = '{1}'",
            contact.id, lead.id
        ))
        .await;

    let response = test.resolve(&account, &salesforce, Subject::ContactId(contact.id)).await;

    assert_eq!((response.outcome(), record_of(&response)), (RequesterOutcome::Resolved, CONTACT_18));
}

/// A placeholder resolves to nobody until a record has its number.
#[tokio::test]
async fn placeholder_resolves_once_record_has_number() {
    let test = TestApp::start().await;
    let (account, zendesk) = test.synced().await;
    let stranger = id_of(test.ask(&account, BRYCE, "call-1").await.selected.as_ref());
    let before = test.resolve_call(&account, &zendesk, "call-1").await;
    let user = test.user("Bryce Love", BRYCE);
    test.trigger(&account, &zendesk).await;

    let after = test.resolve_call(&account, &zendesk, "call-1").await;

    assert_eq!((before.outcome(), before.contact_id.as_str()), (RequesterOutcome::NotFound, stranger.as_str()));
    assert!(!before.note.is_empty() && before.record.is_none());
    assert_eq!((after.outcome(), record_of(&after)), (RequesterOutcome::Resolved, user.as_str()));
}

/// A call whose contact died is resolved by number, or not at all.
#[tokio::test]
async fn dead_contacts_call_resolves_by_number_only() {
    let test = TestApp::start().await;
    let dying = test.user("Bryce Love", BRYCE);
    let (account, zendesk) = test.synced().await;
    test.ask(&account, BRYCE, "call-1").await;
    test.zendesk.delete_user(dying.parse().unwrap()).unwrap();
    test.trigger(&account, &zendesk).await;
    let nobody = test.resolve_call(&account, &zendesk, "call-1").await;
    let heir = test.user("His Wife", BRYCE);
    test.trigger(&account, &zendesk).await;
    let by_number = test.resolve_call(&account, &zendesk, "call-1").await;

    assert_eq!((nobody.outcome(), nobody.contact_id.as_str()), (RequesterOutcome::NotFound, ""));
    assert_eq!((record_of(&by_number), by_number.evidence()), (heir.as_str(), RequesterEvidence::OnlyRecordWithNumber));
}

/// A dead selection leaves the number, and an alias leads to its survivor.
#[tokio::test]
async fn dead_selection_falls_to_number_alias_to_survivor() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let dying = test.user("Colleague", "+13105550100");
    let (account, zendesk) = test.synced().await;
    let bryce = id_of(test.ask(&account, BRYCE, "call-1").await.selected.as_ref());
    let colleague = id_of(test.look_up(&account, "+13105550100").await.selected.as_ref());
    test.select(&account, "call-1", &colleague).await;
    test.minutes(1);
    let stranger = id_of(test.ask(&account, "+13105550199", "call-2").await.selected.as_ref());
    test.zendesk.delete_user(dying.parse().unwrap()).unwrap();
    test.zendesk
        .add_identity(user.parse().unwrap(), &json!({"type": "phone_number", "value": "+13105550199"}))
        .unwrap();
    test.trigger(&account, &zendesk).await;

    let fallen_back = test.resolve_call(&account, &zendesk, "call-1").await;
    let followed = test.resolve_call(&account, &zendesk, "call-2").await;
    let by_alias = test.resolve(&account, &zendesk, Subject::ContactId(stranger)).await;

    // Whoever the agent chose is gone: only the number is left.
    assert_eq!((record_of(&fallen_back), fallen_back.contact_id.as_str()), (user.as_str(), ""));
    assert_eq!(fallen_back.evidence(), RequesterEvidence::OnlyRecordWithNumber);
    for response in [&followed, &by_alias] {
        assert_eq!((response.outcome(), record_of(response)), (RequesterOutcome::Resolved, user.as_str()));
        assert_eq!(
            (response.contact_id.as_str(), response.evidence()),
            (bryce.as_str(), RequesterEvidence::SelectedContact)
        );
    }
}

/// The outcome `SYNC_OFF` is given only if no record is held.
#[tokio::test]
async fn sync_off_is_said_only_without_record() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let (account, zendesk) = test.synced().await;
    ask_update(&test, &account, &zendesk, sync_mode(pb::SyncMode::Off), None).await.unwrap();

    let held = test.resolve(&account, &zendesk, by_number(BRYCE)).await;
    let not_held = test.resolve(&account, &zendesk, by_number("+13105550100")).await;

    assert_eq!((held.outcome(), record_of(&held)), (RequesterOutcome::Resolved, user.as_str()));
    assert_eq!(not_held.outcome(), RequesterOutcome::SyncOff);
    assert!(not_held.note.contains("sync is off"), "{}", not_held.note);
}

/// Nobody is `NOT_KNOWN_YET` while the copy is not complete, or not fresh.
#[tokio::test]
async fn nobody_is_not_known_yet_while_incomplete() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let zendesk = test.enable(&account, "acme").await;
    let resolve = || test.resolve(&account, &zendesk, by_number(BRYCE));
    let pending = resolve().await;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Request).unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    let copying = resolve().await;
    gate.open();
    run.ended().await;
    let copied = resolve().await;
    test.minutes(91);
    let stale = resolve().await;

    for response in [&pending, &copying, &stale] {
        assert_eq!(response.outcome(), RequesterOutcome::NotKnownYet);
        assert!(!response.note.is_empty());
    }
    assert!(pending.known_through.is_none() && copying.known_through.is_none() && stale.known_through.is_some());
    assert_eq!(copied.outcome(), RequesterOutcome::NotFound);
    assert!(copied.known_through.is_some());
}

#[tokio::test]
async fn a_hidden_callers_call_has_no_requester() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let (account, zendesk) = test.synced().await;
    test.match_caller(look_only(call_with_id(&account, "anonymous", "call-1"))).await;

    let nobody = test.resolve_call(&account, &zendesk, "call-1").await;
    // The caller has said who he is.
    let bryce = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());
    test.select(&account, "call-1", &bryce).await;
    let told = test.resolve_call(&account, &zendesk, "call-1").await;

    assert_eq!(nobody.outcome(), RequesterOutcome::NotFound);
    assert_eq!(record_of(&told), user);
}

/// What does not exist is `NOT_FOUND` with its own reason.
#[tokio::test]
async fn nonexistent_things_have_own_not_found_reason() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    let (account, zendesk) = test.synced().await;

    for (integration, subject, expected) in [
        (NOBODY, by_number(BRYCE), "INTEGRATION_NOT_FOUND"),
        (&zendesk, Subject::CallId("never".into()), "CALL_NOT_FOUND"),
        (&zendesk, Subject::ContactId(NOBODY.into()), "CONTACT_NOT_FOUND"),
    ] {
        let refused = test.resolve_refused(&account, integration, subject).await;
        assert_eq!(refusal(&refused), (Code::NotFound, expected.to_owned()));
    }
    for number in ["hello", "", "anonymous"] {
        let refused = test.resolve_refused(&account, &zendesk, by_number(number)).await;
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, "phone_number"));
    }
}
