//! Who is calling: every outcome, and what stands beside it in the answer.

use contact_sync::rpc::pb::{self, IntegrationState, MatchOutcome, MatchTier};
use crm_simulator::gate::GateAt;
use serde_json::json;

use crate::{
    support::calls::{call_with_id, id_of, ids_of, look_only, withheld},
    support::sync::{Beside, EXPORT, arrived},
    support::{TestApp, call},
};

const BRYCE: &str = "+13108675309";

/// The one contact with the number is named, with everything beside it.
#[tokio::test]
async fn only_contact_is_named_with_everything() {
    let test = TestApp::start().await;
    let user = test
        .zendesk
        .create_user(&json!({"name": "Bryce Love", "phone": "(310)-867-5309", "email": "bryce@example.com"}));
    let (account, integration) = test.synced().await;

    let answer = test.match_caller(call(&account, BRYCE)).await;

    assert_eq!(answer.outcome(), MatchOutcome::Matched);
    assert_eq!((answer.total, answer.total_is_capped), (1, false));
    assert_eq!((answer.tier(), answer.rule.as_str()), (MatchTier::Exact, "first_created"));
    assert_eq!(answer.e164, BRYCE);
    assert!(answer.complete && answer.selection.is_none());
    let [source] = answer.sources.as_slice() else { panic!("one source") };
    assert_eq!((source.integration_id.as_str(), source.state()), (integration.as_str(), IntegrationState::Active));
    assert_eq!((source.provider(), source.note.as_str()), (pb::Provider::Zendesk, ""));
    assert!(source.known_through.is_some());
    let contact = answer.selected.unwrap();
    assert_eq!(answer.candidates, std::slice::from_ref(&contact));
    assert_eq!(
        (contact.display_name.as_str(), contact.emails.as_slice()),
        ("Bryce Love", &["bryce@example.com".to_owned()][..])
    );
    assert!(!contact.is_placeholder && contact.delete_time.is_none() && contact.survivor_id.is_empty());
    let [number] = contact.numbers.as_slice() else { panic!("one number") };
    assert_eq!((number.raw.as_str(), number.e164.as_str(), number.extension.as_str()), ("(310)-867-5309", BRYCE, ""));
    let [record] = contact.records.as_slice() else { panic!("one record") };
    assert_eq!(
        (record.record_id.clone(), record.object_type.as_str(), record.is_live),
        (user.unwrap().to_string(), "user", true)
    );
    assert_eq!(record.integration_id, integration);
}

/// Of several, the first created here is selected, whatever changes later.
#[tokio::test]
async fn first_created_is_selected_whatever_changes_later() {
    let test = TestApp::start().await;
    let first = test.user("Zoe First", BRYCE);
    let (account, integration) = test.synced().await;
    test.minutes(1);
    test.user("Adam Second", "310.867.5309");
    test.trigger(&account, &integration).await;
    test.minutes(1);
    test.zendesk.update_user(first.parse().unwrap(), &json!({"name": "Zoe Renamed"})).unwrap();
    test.trigger(&account, &integration).await;

    let answer = test.match_caller(call(&account, BRYCE)).await;

    assert_eq!(answer.outcome(), MatchOutcome::Ambiguous);
    assert_eq!((answer.total, answer.total_is_capped, answer.tier()), (2, false, MatchTier::Exact));
    assert_eq!(answer.selected.unwrap().display_name, "Zoe Renamed");
    let names: Vec<&str> = answer.candidates.iter().map(|contact| contact.display_name.as_str()).collect();
    assert_eq!(names, ["Zoe Renamed", "Adam Second"]);
}

/// A placeholder ranks after a younger contact with a record.
#[tokio::test]
async fn placeholder_ranks_after_younger_contact_with_record() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let stranger = id_of(test.match_caller(call(&account, BRYCE)).await.selected.as_ref());
    test.minutes(1);
    test.user("Bryce Love", "+13105550000");
    test.trigger(&account, &integration).await;
    // As between a page's commit and its second look: both are on the number.
    test.db.execute("update phone_numbers set e164 = 13108675309 where not is_placeholder").await;

    let answer = test.look_up(&account, BRYCE).await;

    assert_eq!(answer.outcome(), MatchOutcome::Ambiguous);
    assert_eq!(answer.selected.unwrap().display_name, "Bryce Love");
    assert_eq!(answer.candidates[1].id, stranger);
    assert!(answer.candidates[1].is_placeholder);
}

/// A stranger gets a placeholder that carries the number.
#[tokio::test]
async fn stranger_gets_placeholder_carrying_number() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;

    let answer = test.match_caller(call(&account, "310 867-5309")).await;

    assert_eq!((answer.outcome(), answer.total), (MatchOutcome::Created, 1));
    assert_eq!((answer.tier(), answer.rule.as_str()), (MatchTier::Unspecified, ""));
    let contact = answer.selected.unwrap();
    assert_eq!(answer.candidates, std::slice::from_ref(&contact));
    assert!(contact.is_placeholder && contact.records.is_empty() && contact.emails.is_empty());
    assert_eq!(contact.display_name, BRYCE);
    assert_eq!((contact.numbers[0].raw.as_str(), contact.numbers[0].e164.as_str()), ("310 867-5309", BRYCE));
    assert_eq!(test.contact(&account, &contact.id).await, contact);
    let again = test.match_caller(call(&account, BRYCE)).await;
    assert_eq!((again.outcome(), id_of(again.selected.as_ref())), (MatchOutcome::Matched, contact.id));
}

/// Nobody means nobody only when every integration that is on is ACTIVE.
#[tokio::test]
async fn nobody_is_final_only_if_integrations_are_active() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let no_crm = test.look_up(&account, BRYCE).await;
    test.enable_off(&account, pb::Provider::Pipedrive, "acme").await;
    let only_off = test.look_up(&account, BRYCE).await;
    test.enable(&account, "acme").await;
    let pending = test.look_up(&account, BRYCE).await;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Request).unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    let copying = test.look_up(&account, BRYCE).await;
    gate.open();
    run.ended().await;
    let copied = test.look_up(&account, BRYCE).await;
    test.minutes(91);
    let stale = test.look_up(&account, BRYCE).await;

    for (answer, outcome, complete, state) in [
        (no_crm, MatchOutcome::NotFound, true, None),
        (only_off, MatchOutcome::NotFound, true, Some(IntegrationState::Off)),
        (pending, MatchOutcome::NotKnownYet, false, Some(IntegrationState::Pending)),
        (copying, MatchOutcome::NotKnownYet, false, Some(IntegrationState::InitialSync)),
        (copied, MatchOutcome::NotFound, true, Some(IntegrationState::Active)),
        (stale, MatchOutcome::NotKnownYet, false, Some(IntegrationState::Stale)),
    ] {
        let states: Vec<IntegrationState> = answer.sources.iter().map(pb::Source::state).collect();
        assert_eq!((answer.outcome(), answer.complete), (outcome, complete), "{states:?}");
        assert!(answer.selected.is_none() && answer.candidates.is_empty() && answer.total == 0);
        assert!(state.is_none_or(|state| states.contains(&state)), "{states:?}");
        let silent = answer.sources.iter().filter(|source| source.note.is_empty());
        assert!(silent.map(pb::Source::state).all(|state| state == IntegrationState::Active));
    }
    assert_eq!(test.rows(&account, "contacts").await, 0);
}

#[tokio::test]
async fn only_looking_makes_no_contact() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;

    let answer = test.match_caller(look_only(call_with_id(&account, BRYCE, "call-1"))).await;

    assert_eq!(answer.outcome(), MatchOutcome::NotFound);
    assert_eq!((answer.e164.as_str(), answer.tier()), (BRYCE, MatchTier::Unspecified));
    assert_eq!(test.rows(&account, "contacts").await, 0);
    assert_eq!(test.rows(&account, "phone_numbers").await, 0);
}

/// A placeholder is made also while the first copy has not ended.
#[tokio::test]
async fn placeholder_is_made_during_first_copy() {
    let test = TestApp::start().await;
    let account = test.account().await;
    test.enable(&account, "acme").await;

    let answer = test.match_caller(call(&account, BRYCE)).await;

    assert_eq!((answer.outcome(), answer.complete), (MatchOutcome::Created, false));
}

#[tokio::test]
async fn a_hidden_caller_is_nobody_and_makes_nobody() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    let (account, _) = test.synced().await;
    let texts = ["", BRYCE, "anonymous", "+266696687", "+7378742833", "sip:anonymous@anonymous.invalid", "Unknown"];

    for text in texts {
        let answer = test.match_caller(withheld(call(&account, text))).await;
        assert_eq!(answer.outcome(), MatchOutcome::Withheld, "{text}");
        assert!(answer.selected.is_none() && answer.candidates.is_empty() && answer.total == 0 && answer.complete);
        assert_eq!((answer.e164.as_str(), answer.sources.len()), ("", 1));
    }
    for text in &texts[2..] {
        assert_eq!(test.match_caller(call(&account, text)).await.outcome(), MatchOutcome::Withheld, "{text}");
    }
    assert_eq!(test.rows(&account, "contacts").await, 1);
}

/// What is no number is nobody, and makes nobody.
#[tokio::test]
async fn no_number_is_nobody_and_makes_nobody() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;

    for text in ["hello", "+1", "911", "12", "+13", "bryce@example.com", "+999999999999999999"] {
        let answer = test.match_caller(call(&account, text)).await;
        assert_eq!(answer.outcome(), MatchOutcome::Unparseable, "{text}");
        assert!(answer.selected.is_none() && answer.e164.is_empty() && answer.sources.len() == 1);
    }
    assert_eq!(test.rows(&account, "contacts").await, 0);
}

#[tokio::test]
async fn a_number_is_the_same_in_every_spelling() {
    let test = TestApp::start().await;
    test.user("Bryce Love", "(310) 867-5309");
    test.user("Liz Bennet", "+44 20 7946 0958");
    let (account, _) = test.synced().await;

    for text in [
        "+13108675309",
        "13108675309",
        "0013108675309",
        "3108675309",
        "+1 (310) 867-5309 x12",
        "+13108675309;ext=12",
        "tel:+1-310-867-5309",
        "sip:+13108675309@carrier.example;user=phone",
        "sip:3108675309@10.0.0.1:5060",
        "\"Bryce\" <sip:+13108675309@carrier.example>",
        "\u{FF0B}1\u{FF13}10\u{2011}867\u{2011}5309",
    ] {
        let answer = test.look_up(&account, text).await;
        assert_eq!(answer.outcome(), MatchOutcome::Matched, "{text}");
        assert_eq!(
            (answer.selected.unwrap().display_name.as_str(), answer.e164.as_str()),
            ("Bryce Love", BRYCE),
            "{text}"
        );
    }
    let mut british = look_only(call(&account, "020 7946 0958"));
    british.default_region = "GB".into();
    assert_eq!(test.match_caller(british).await.selected.unwrap().display_name, "Liz Bennet");
}

/// A national number is read with the account's region.
#[tokio::test]
async fn national_number_uses_accounts_region() {
    let test = TestApp::start().await;
    let german = test.account_in("DE").await;
    let american = test.account_in("US").await;

    let in_germany = test.look_up(&german, "030 901820").await;
    let in_america = test.look_up(&american, "310 867 5309").await;

    assert_eq!(in_germany.e164, "+4930901820");
    assert_eq!(in_america.e164, BRYCE);
}

/// A long list is cut to twenty, and counted in full.
#[tokio::test]
async fn long_list_is_cut_but_counted_whole() {
    let test = TestApp::start().await;
    for n in 0..25 {
        test.user(&format!("Person {n}"), BRYCE);
    }
    test.user("Somebody Else", "+13105550100");
    let (account, _) = test.synced().await;

    let answer = test.match_caller(call(&account, BRYCE)).await;
    let other = test.match_caller(call(&account, "+13105550100")).await;

    assert_eq!(answer.outcome(), MatchOutcome::Ambiguous);
    assert_eq!((answer.candidates.len(), answer.total, answer.total_is_capped), (20, 25, false));
    assert_eq!(answer.selected.as_ref(), answer.candidates.first());
    assert_eq!((other.outcome(), other.total), (MatchOutcome::Matched, 1));
    // The rest of the line, in the same order.
    let listed = test.list_contacts(&account, BRYCE).await;
    assert_eq!(listed.len(), 25);
    assert_eq!(ids_of(&listed)[..20], ids_of(&answer.candidates)[..]);
}

/// A shared line is counted up to two hundred, and says so.
#[tokio::test]
async fn shared_line_count_caps_at_two_hundred() {
    let test = TestApp::start().await;
    for n in 0..201 {
        test.user(&format!("Person {n}"), BRYCE);
    }
    let (account, integration) = test.synced().await;
    let capped = test.match_caller(call_with_id(&account, BRYCE, "call-1")).await;
    let repeated = test.match_caller(call_with_id(&account, BRYCE, "call-1")).await;
    let somebody = capped.candidates[7].records[0].record_id.parse().unwrap();
    test.zendesk.delete_user(somebody).unwrap();
    test.trigger(&account, &integration).await;

    let full = test.match_caller(call(&account, BRYCE)).await;

    assert_eq!((capped.candidates.len(), capped.total, capped.total_is_capped), (20, 200, true));
    assert_eq!((repeated.total, repeated.total_is_capped), (200, true));
    assert_eq!((full.candidates.len(), full.total, full.total_is_capped), (20, 200, false));
}

/// An agent's choice far down a long list is counted once.
#[tokio::test]
async fn agents_choice_down_list_counts_once() {
    let test = TestApp::start().await;
    for n in 0..25 {
        test.user(&format!("Person {n}"), BRYCE);
    }
    let (account, integration) = test.synced().await;
    let listed = test.list_contacts(&account, BRYCE).await;
    let last = &listed[24];
    let record = &last.records[0].record_id;
    test.click(crate::support::calls::click_on(&account, &integration, "user", record, BRYCE)).await;

    let answer = test.dial(&account, BRYCE, "call-1", "").await;

    assert_eq!((answer.outcome(), answer.tier()), (MatchOutcome::Matched, MatchTier::Clicked));
    assert_eq!(answer.selected.as_ref().unwrap().id, last.id);
    assert_eq!((answer.candidates.len(), answer.total), (20, 25));
}
