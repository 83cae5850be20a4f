//! Why this contact, why not that one: the words replay the answer of a call, and store nothing.

use contact_sync::rpc::pb::{self, MatchOutcome, MatchPolicy};

use crate::{support::TestApp, support::calls::id_of};

const BRYCE: &str = "+13108675309";

impl TestApp {
    async fn explain(&self, account_id: &str, number: &str, contact_id: &str) -> pb::ExplainMatchResponse {
        let request = pb::ExplainMatchRequest {
            account_id: account_id.into(),
            phone_number: number.into(),
            contact_id: contact_id.into(),
            ..Default::default()
        };
        self.callers().explain_match(request).await.unwrap().into_inner()
    }
}

fn text(explained: &pb::ExplainMatchResponse) -> String {
    explained.steps.join("\n")
}

/// The answer is that of a call, and the reasons name who comes first.
#[tokio::test]
async fn answer_equals_calls_and_reasons_name_first() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    test.user("His Wife", BRYCE);
    let (account, _) = test.synced().await;
    let answer = test.look_up(&account, BRYCE).await;

    let explained = test.explain(&account, "(310) 867-5309", "").await;

    assert_eq!(explained.answer.as_ref(), Some(&answer));
    let words = text(&explained);
    assert!(words.contains("2 contacts are here with exactly this number"), "{words}");
    assert!(words.contains("named, by the rule first_created"), "{words}");
    assert_eq!((test.rows(&account, "calls").await, test.rows(&account, "contacts").await), (0, 2));
}

/// The answer is that of a call, in every tier and under every policy.
#[tokio::test]
async fn answer_equals_calls_in_every_tier_and_policy() {
    let test = TestApp::start().await;
    for (name, number) in [("Ana", "+5491123456789"), ("Ada", "020 7946 0018"), ("Bryce", BRYCE), ("His Wife", BRYCE)] {
        test.user(name, number);
    }
    let (account, integration) = test.synced_in("US", &["GB"]).await;
    for (policy, preferred) in [
        (MatchPolicy::FirstCreated, ""),
        (MatchPolicy::LastSelected, ""),
        (MatchPolicy::LastUpdated, ""),
        (MatchPolicy::PreferredIntegration, integration.as_str()),
    ] {
        test.set_policy(&account, policy, preferred).await;
        // A fresh replica has no cached rules.
        let replica = test.replica(|_| {}).await;
        for number in ["+541123456789", "+442079460018", BRYCE, "+13105550199", "anonymous", "112"] {
            let answer = replica.look_up(&account, number).await;
            assert_eq!(replica.explain(&account, number, "").await.answer, Some(answer), "{policy:?} {number}");
        }
        let rule = replica.look_up(&account, BRYCE).await.rule;
        let words = text(&replica.explain(&account, BRYCE, "").await);
        assert!(words.contains(&format!("named, by the rule {rule}")), "{words}");
        let words = text(&replica.explain(&account, "+541123456789", "").await);
        assert!(words.contains("another form of the same line"), "{words}");
    }
}

/// A contact that does not match is told number by number.
#[tokio::test]
async fn non_matching_contact_is_told_by_number() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", "+13108675308").parse().unwrap();
    test.zendesk.add_identity(user, &serde_json::json!({"type": "phone_number", "value": "867-5309"})).unwrap();
    let (account, integration) = test.synced().await;
    let contact = id_of(test.look_up(&account, "+13108675308").await.selected.as_ref());

    let other = test.explain(&account, BRYCE, &contact).await;
    let own = test.explain(&account, "+13108675308", &contact).await;
    test.zendesk.delete_user(user).unwrap();
    test.trigger(&account, &integration).await;
    let dead = test.explain(&account, BRYCE, &contact).await;

    let words = other.about_contact.join("\n");
    assert!(words.contains("does not match") && words.contains("another number"), "{words}");
    assert!(words.contains("not a number that could be called from elsewhere"), "{words}");
    let words = own.about_contact.join("\n");
    assert!(words.contains("the one that is named") && words.contains("the very number"), "{words}");
    assert_eq!(dead.about_contact, ["This contact is deleted: it is in no answer."]);
}

/// A number of a further region is told as such.
#[tokio::test]
async fn further_regions_number_is_told_as_such() {
    let test = TestApp::start().await;
    test.user("Ada", "020 7946 0018");
    let (account, _) = test.synced_in("US", &["GB"]).await;
    let ada = id_of(test.look_up(&account, "+442079460018").await.selected.as_ref());

    let explained = test.explain(&account, "+442079460018", &ada).await;

    assert!(text(&explained).contains("in another region of the account"), "{}", text(&explained));
    let words = explained.about_contact.join("\n");
    assert!(words.contains("the one that is named") && words.contains("is +442079460018 in GB"), "{words}");
    assert!(!words.contains("matches nobody"), "{words}");
}

#[tokio::test]
async fn withheld_unreadable_and_unknown_callers_are_told_apart() {
    let test = TestApp::start().await;
    let account = test.account().await;

    for (number, outcome, words) in [
        ("anonymous", MatchOutcome::Withheld, "hides the number"),
        ("+266696687", MatchOutcome::Withheld, "hides the number"),
        ("867-5309", MatchOutcome::Unparseable, "not a number that could be called"),
        (BRYCE, MatchOutcome::NotFound, "a call would get a new placeholder"),
    ] {
        let explained = test.explain(&account, number, "").await;
        assert_eq!(explained.answer.as_ref().unwrap().outcome(), outcome);
        assert!(text(&explained).contains(words), "{}", text(&explained));
    }
    assert_eq!(test.rows(&account, "contacts").await, 0);
}

/// An integration that is not up to date is said to be so.
#[tokio::test]
async fn outdated_integration_is_told() {
    let test = TestApp::start().await;
    let account = test.account().await;
    test.enable(&account, "acme").await;

    let explained = test.explain(&account, BRYCE, "").await;

    assert_eq!(explained.answer.as_ref().unwrap().outcome(), MatchOutcome::NotKnownYet);
    assert!(text(&explained).contains("may be known to a CRM"), "{}", text(&explained));
    assert!(text(&explained).contains("ZENDESK"), "{}", text(&explained));
}

#[tokio::test]
async fn nothing_of_a_question_is_in_an_error() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let request = pb::ExplainMatchRequest {
        account_id: account,
        phone_number: BRYCE.into(),
        contact_id: uuid::Uuid::nil().to_string(),
        ..Default::default()
    };

    let refused = test.callers().explain_match(request).await.unwrap_err();

    assert_eq!(refused.code(), tonic::Code::NotFound);
    assert!(!refused.message().contains("310"));
}
