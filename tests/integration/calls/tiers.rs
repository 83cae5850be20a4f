//! The tiers behind an equal number: variants of a line, further regions, and hints that are never
//! an answer.

use contact_sync::rpc::pb::{self, MatchOutcome, MatchTier};

use crate::{
    support::calls::{id_of, look_only},
    support::{TestApp, call},
};

impl TestApp {
    /// An account of this region and these further ones, whose Zendesk is copied.
    pub async fn synced_in(&self, region: &str, further: &[&str]) -> (String, String) {
        let request = pb::CreateAccountRequest {
            display_name: "Test".into(),
            default_region: region.into(),
            further_regions: further.iter().map(|region| (*region).to_owned()).collect(),
            ..Default::default()
        };
        let account = self.accounts().create_account(request).await.unwrap().into_inner().account.unwrap().id;
        let integration = self.enable(&account, "acme").await;
        assert_eq!(self.sync_due().await, 1);
        (account, integration)
    }

    /// With every hint.
    async fn hints(&self, account_id: &str, number: &str) -> pb::MatchCallerResponse {
        let request = pb::MatchCallerRequest {
            with_suffix: true,
            with_organization: true,
            ..look_only(call(account_id, number))
        };
        self.match_caller(request).await
    }
}

/// Another form of the same line matches by its rule.
#[tokio::test]
async fn other_form_of_line_matches_by_rule() {
    let test = TestApp::start().await;
    for (name, stored) in [("Ana", "+5491123456789"), ("Bruna", "+55 11 8123-4567"), ("Carla", "+39 02 1234 5678")] {
        test.user(name, stored);
    }
    let (account, integration) = test.synced_in("US", &[]).await;

    for (number, name, rule) in [
        ("+541123456789", "Ana", "argentina_mobile_9"),
        ("+5511981234567", "Bruna", "brazil_ninth_digit"),
        ("+39212345678", "Carla", "italy_leading_zero"),
    ] {
        let answer = test.match_caller(call(&account, number)).await;
        assert_eq!((answer.outcome(), answer.tier()), (MatchOutcome::Matched, MatchTier::Variant), "{name}");
        assert_eq!((answer.selected.unwrap().display_name.as_str(), answer.rule.as_str()), (name, rule));
        assert_eq!(answer.total, 1);
    }
    // A repeat says the same, and the ticket goes to the record.
    let first = test.ask(&account, "+541123456789", "call-1").await;
    let again = test.ask(&account, "+541123456789", "call-1").await;
    assert_eq!(first, again);
    let requester = test.resolve_call(&account, &integration, "call-1").await;
    assert_eq!(requester.outcome(), pb::RequesterOutcome::Resolved);
}

/// An equal number wins over a variant, and a stranger comes behind it.
#[tokio::test]
async fn equal_number_beats_variant_stranger_comes_behind() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced_in("AR", &[]).await;
    // He calls before he is in the CRM.
    let stranger = id_of(test.ask(&account, "+541123456789", "call-1").await.selected.as_ref());
    test.minutes(1);
    test.user("Ana", "+5491123456789");
    test.trigger(&account, &integration).await;
    let by_variant = test.ask(&account, "+541123456789", "call-2").await;
    test.minutes(1);
    test.user("Equal", "+541123456789");
    test.trigger(&account, &integration).await;
    let equal = test.ask(&account, "+541123456789", "call-3").await;

    assert_eq!((by_variant.outcome(), by_variant.tier()), (MatchOutcome::Ambiguous, MatchTier::Variant));
    let names: Vec<&str> = by_variant.candidates.iter().map(|c| c.display_name.as_str()).collect();
    assert_eq!(names, ["Ana", "+541123456789"]);
    assert_eq!(by_variant.candidates[1].id, stranger);
    // The record with the equal number has adopted the stranger, whose id stays.
    assert_eq!((equal.outcome(), equal.tier()), (MatchOutcome::Matched, MatchTier::Exact));
    assert_eq!(id_of(equal.selected.as_ref()), stranger);
}

/// A number without a country is found in a further region.
#[tokio::test]
async fn countryless_number_is_found_in_further_region() {
    let test = TestApp::start().await;
    test.user("Ada", "020 7946 0018");
    let (account, _) = test.synced_in("US", &["GB", "DE"]).await;

    let british = test.look_up(&account, "+442079460018").await;
    let german = test.look_up(&account, "+492079460018").await;
    let italian = test.look_up(&account, "+392079460018").await;

    assert_eq!((british.outcome(), british.tier()), (MatchOutcome::Matched, MatchTier::AssumedRegion));
    assert_eq!((british.selected.unwrap().display_name.as_str(), british.rule.as_str()), ("Ada", "assumed_region"));
    // The same digits may be German too: so says the account.
    assert_eq!(german.tier(), MatchTier::AssumedRegion);
    assert_eq!(italian.outcome(), MatchOutcome::NotFound);
}

/// A number that somebody has at home names nobody in a further region.
#[tokio::test]
async fn number_at_home_names_nobody_in_further_region() {
    let test = TestApp::start().await;
    test.user("Bryce", "(310) 867-5309");
    let (account, _) = test.synced_in("US", &["DE"]).await;

    let german = test.look_up(&account, "+493108675309").await;

    assert_eq!((german.outcome(), german.selected), (MatchOutcome::NotFound, None));
    assert_eq!(test.look_up(&account, "+13108675309").await.selected.unwrap().display_name, "Bryce");
}

/// A hint is given only if it is asked for, and never changes the answer.
#[tokio::test]
async fn hint_needs_asking_and_changes_no_answer() {
    let test = TestApp::start().await;
    test.user("Local", "867-5309");
    let (account, _) = test.synced_in("US", &[]).await;

    let plain = test.look_up(&account, "+13108675309").await;
    let hinted = test.hints(&account, "+13108675309").await;
    let other_country = test.hints(&account, "+443108675309").await;
    let created =
        test.match_caller(pb::MatchCallerRequest { with_suffix: true, ..call(&account, "+13108675309") }).await;

    assert!(plain.possible.is_empty());
    assert_eq!((hinted.outcome(), hinted.selected.as_ref(), hinted.total), (MatchOutcome::NotFound, None, 0));
    assert_eq!(hinted.possible.len(), 1);
    assert_eq!(hinted.possible[0].tier(), MatchTier::Suffix);
    assert_eq!(hinted.possible[0].contact.as_ref().unwrap().display_name, "Local");
    assert!(other_country.possible.is_empty());
    assert_eq!(created.outcome(), MatchOutcome::Created);
    assert_eq!(created.possible.len(), 1);
}

/// A suffix of two contacts, or of a number that can be called, is no hint.
#[tokio::test]
async fn ambiguous_or_callable_suffix_is_no_hint() {
    let test = TestApp::start().await;
    test.user("One", "867-5309");
    test.user("Two", "867 5309");
    test.user("Full", "(415) 555-0142");
    let (account, _) = test.synced_in("US", &[]).await;

    assert!(test.hints(&account, "+13108675309").await.possible.is_empty());
    assert!(test.hints(&account, "+12125550142").await.possible.is_empty());
}

/// An extension of a switchboard leads to the organisation, and to no person.
#[tokio::test]
async fn switchboard_extension_hints_organization_not_person() {
    let test = TestApp::start().await;
    test.user("Muster GmbH", "030 123456-0");
    let (account, _) = test.synced_in("DE", &[]).await;

    let hinted = test.hints(&account, "+4930123456789").await;
    let far = test.hints(&account, "+49301234567891").await;

    assert_eq!(hinted.outcome(), MatchOutcome::NotFound);
    assert_eq!(hinted.possible.len(), 1, "{hinted:?}");
    let possible = &hinted.possible[0];
    assert_eq!((possible.tier(), possible.organization.as_str()), (MatchTier::OrgPrefix, "Muster GmbH"));
    assert!(possible.contact.is_none() && !possible.main_line.is_empty());
    assert!(far.possible.is_empty(), "more than three digits behind the main line");
}
