//! A click without a call id waits for its call: five minutes, outbound, the newest, the same
//! agent's first, and for one call only.

use chrono::TimeDelta;
use contact_sync::rpc::pb::{self, MatchOutcome, MatchTier, Provider};
use futures_util::future::join_all;
use tonic::Code;

use crate::{
    support::TestApp,
    support::calls::{ORG, click_on, id_of, ids_of, refusal},
};

const NUMBER: &str = "+13105550100";

/// An account with the main line's contact in Zendesk, whose Salesforce is only clicked.
struct Desk {
    test: TestApp,
    account: String,
    salesforce: String,
    first_created: String,
}

impl Desk {
    async fn open() -> Self {
        let test = TestApp::start().await;
        test.user("Reception", NUMBER);
        let (account, _) = test.synced().await;
        let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
        let first_created = id_of(test.look_up(&account, NUMBER).await.selected.as_ref());
        test.minutes(1);
        Self { test, account, salesforce, first_created }
    }

    /// The contact of a clicked Lead.
    async fn click(&self, lead: u32, agent_id: &str) -> String {
        let record_id = format!("00QD0000000{lead:04}");
        let click = pb::PreRegisterContactRequest {
            display_name: format!("Lead {lead}"),
            agent_id: agent_id.into(),
            ..click_on(&self.account, &self.salesforce, "Lead", &record_id, NUMBER)
        };
        self.test.clicked(click).await.id
    }

    async fn dial(&self, call_id: &str, agent_id: &str) -> pb::MatchCallerResponse {
        self.test.dial(&self.account, NUMBER, call_id, agent_id).await
    }

    fn assert_clicked(answer: &pb::MatchCallerResponse, contact_id: &str) {
        assert_eq!((answer.outcome(), answer.tier()), (MatchOutcome::Matched, MatchTier::Clicked));
        assert_eq!(answer.rule, "clicked");
        assert_eq!(id_of(answer.selected.as_ref()), contact_id);
        assert_eq!(answer.candidates[0].id, contact_id);
    }

    fn assert_not_clicked(&self, answer: &pb::MatchCallerResponse) {
        assert_eq!(answer.tier(), MatchTier::Exact);
        assert_eq!(id_of(answer.selected.as_ref()), self.first_created);
        assert_eq!(answer.selection, None);
    }
}

/// The next outbound call takes the click, and the one after does not.
#[tokio::test]
async fn next_outbound_call_alone_takes_click() {
    let desk = Desk::open().await;
    let lead = desk.click(1, "anna").await;

    let first = desk.dial("call-1", "anna").await;
    let repeat = desk.dial("call-1", "anna").await;
    let second = desk.dial("call-2", "anna").await;

    Desk::assert_clicked(&first, &lead);
    assert_eq!(id_of(first.selection.as_ref()), lead);
    Desk::assert_clicked(&repeat, &lead);
    desk.assert_not_clicked(&second);
    let requester = desk.test.resolve_call(&desk.account, &desk.salesforce, "call-1").await;
    assert_eq!(requester.evidence(), pb::RequesterEvidence::SelectedContact);
    assert_eq!(requester.contact_id, lead);
}

/// A call without an id takes the click, too.
#[tokio::test]
async fn call_without_id_takes_click_too() {
    let desk = Desk::open().await;
    let lead = desk.click(1, "anna").await;

    let first = desk.dial("", "anna").await;
    let second = desk.dial("", "anna").await;

    Desk::assert_clicked(&first, &lead);
    desk.assert_not_clicked(&second);
    assert_eq!(desk.test.rows(&desk.account, "calls").await, 0);
}

/// An inbound call and another number leave the click waiting.
#[tokio::test]
async fn inbound_or_other_number_leaves_click_waiting() {
    let desk = Desk::open().await;
    let lead = desk.click(1, "").await;

    let inbound = desk.test.ask(&desk.account, NUMBER, "in").await;
    let elsewhere = desk.test.dial(&desk.account, "+13105550101", "elsewhere", "").await;
    let outbound = desk.dial("out", "").await;

    desk.assert_not_clicked(&inbound);
    assert_eq!((inbound.outcome(), elsewhere.outcome()), (MatchOutcome::Ambiguous, MatchOutcome::Created));
    Desk::assert_clicked(&outbound, &lead);
}

/// A click is good for five minutes, and not a second longer.
#[tokio::test]
async fn click_is_good_for_five_minutes_exactly() {
    let desk = Desk::open().await;
    let lead = desk.click(1, "").await;
    desk.test.pass(TimeDelta::seconds(299));
    let in_time = desk.dial("call-1", "").await;
    desk.click(1, "").await;
    desk.test.pass(TimeDelta::seconds(300));
    let too_late = desk.dial("call-2", "").await;

    Desk::assert_clicked(&in_time, &lead);
    desk.assert_not_clicked(&too_late);
}

/// The same agent's click comes before a newer one.
#[tokio::test]
async fn same_agents_click_precedes_newer_one() {
    let desk = Desk::open().await;
    let annas = desk.click(1, "anna").await;
    desk.test.pass(TimeDelta::seconds(1));
    let bobs = desk.click(2, "bob").await;

    let anna_calls = desk.dial("call-1", "anna").await;
    let carl_calls = desk.dial("call-2", "carl").await;

    Desk::assert_clicked(&anna_calls, &annas);
    Desk::assert_clicked(&carl_calls, &bobs);
}

#[tokio::test]
async fn the_newest_click_of_one_agent_counts() {
    let desk = Desk::open().await;
    desk.click(1, "anna").await;
    desk.test.pass(TimeDelta::seconds(1));
    let newest = desk.click(2, "anna").await;

    let answer = desk.dial("call-1", "").await;

    Desk::assert_clicked(&answer, &newest);
}

/// An agent who has clicked twice and called once has no click left.
#[tokio::test]
async fn two_clicks_then_call_leave_no_click() {
    let desk = Desk::open().await;
    desk.click(1, "anna").await;
    desk.test.pass(TimeDelta::seconds(1));
    let newest = desk.click(2, "anna").await;
    Desk::assert_clicked(&desk.dial("call-1", "anna").await, &newest);

    let dialled_by_hand = desk.dial("call-2", "anna").await;

    desk.assert_not_clicked(&dialled_by_hand);
}

/// Several agents' clicks are AMBIGUOUS for a call without an agent, and stay.
#[tokio::test]
async fn agentless_call_finds_several_clicks_ambiguous() {
    let desk = Desk::open().await;
    let annas = desk.click(1, "anna").await;
    let bobs = desk.click(2, "bob").await;

    let unsaid = desk.dial("call-1", "").await;
    let repeat = desk.dial("call-1", "").await;
    let anna_calls = desk.dial("call-2", "anna").await;
    let bob_calls = desk.dial("call-3", "bob").await;

    assert_eq!((unsaid.outcome(), unsaid.tier(), unsaid.total), (MatchOutcome::Ambiguous, MatchTier::Clicked, 3));
    let candidates = ids_of(&unsaid.candidates);
    assert!(candidates.contains(&annas.as_str()) && candidates.contains(&bobs.as_str()));
    assert_eq!(unsaid.selection, None);
    assert_eq!((repeat.outcome(), repeat.tier()), (unsaid.outcome(), unsaid.tier()));
    assert_eq!(id_of(repeat.selected.as_ref()), id_of(unsaid.selected.as_ref()));
    Desk::assert_clicked(&anna_calls, &annas);
    Desk::assert_clicked(&bob_calls, &bobs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_calls_one_takes_the_click() {
    let desk = Desk::open().await;
    let replica = desk.test.replica(|_| {}).await;
    let apps = [&desk.test, &replica];
    for round in 0..10 {
        let lead = desk.click(1, "anna").await;

        let answers = join_all((0..8).map(|n| {
            let call_id = format!("call-{round}-{n}");
            let account = &desk.account;
            async move { apps[n % 2].dial(account, NUMBER, &call_id, "anna").await }
        }))
        .await;

        let takers: Vec<_> = answers.iter().filter(|answer| answer.tier() == MatchTier::Clicked).collect();
        assert_eq!(takers.len(), 1, "round {round}");
        Desk::assert_clicked(takers[0], &lead);
    }
}

/// Racing repeats of one call take one click and hear the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_repeats_take_one_click_hear_same() {
    let desk = Desk::open().await;
    let replica = desk.test.replica(|_| {}).await;
    let apps = [&desk.test, &replica];
    for round in 0..10 {
        desk.click(1, "anna").await;
        desk.test.pass(TimeDelta::seconds(1));
        desk.click(2, "anna").await;
        let call_id = format!("call-{round}");

        let answers = join_all((0..8).map(|n| apps[n % 2].dial(&desk.account, NUMBER, &call_id, "anna"))).await;

        let heard =
            |answer: &pb::MatchCallerResponse| (answer.outcome(), answer.tier(), id_of(answer.selected.as_ref()));
        for answer in &answers {
            assert_eq!(heard(answer), heard(&answers[0]), "round {round}");
        }
        let stored = desk.dial(&call_id, "anna").await;
        assert_eq!(heard(&stored), heard(&answers[0]), "round {round}");
        // The next round starts without clicks.
        desk.test.minutes(6);
    }
}

/// A call that was bound by its id keeps its record when another click waits.
#[tokio::test]
async fn call_bound_by_id_keeps_its_record() {
    let desk = Desk::open().await;
    let waiting = desk.click(1, "bob").await;
    let click = pb::PreRegisterContactRequest {
        call_id: "call-1".into(),
        agent_id: "anna".into(),
        ..click_on(&desk.account, &desk.salesforce, "Lead", "00QD00000000002", NUMBER)
    };
    let bound = desk.test.clicked(click).await.id;

    let annas_call = desk.dial("call-1", "anna").await;
    let bobs_call = desk.dial("call-2", "bob").await;

    Desk::assert_clicked(&annas_call, &bound);
    assert_eq!(id_of(annas_call.selection.as_ref()), bound);
    Desk::assert_clicked(&bobs_call, &waiting);
}

/// A click whose contact has died is passed over.
#[tokio::test]
async fn click_with_dead_contact_is_runed_over() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", NUMBER);
    let (account, zendesk) = test.synced().await;
    test.click(click_on(&account, &zendesk, "user", &user, NUMBER)).await;
    test.zendesk.delete_user(user.parse().unwrap()).unwrap();
    test.trigger(&account, &zendesk).await;

    let answer = test.dial(&account, NUMBER, "call-1", "").await;
    let again = test.dial(&account, NUMBER, "call-1", "").await;

    assert_eq!(answer.outcome(), MatchOutcome::Created);
    assert_eq!(answer.tier(), MatchTier::Unspecified);
    assert_eq!(again.selected, answer.selected);
}

#[tokio::test]
async fn a_refused_click_leaves_nothing_that_waits() {
    let desk = Desk::open().await;
    let click = pb::PreRegisterContactRequest {
        contact_id: desk.first_created.clone(),
        ..click_on(&desk.account, &desk.salesforce, "Lead", "00QD00000000003", NUMBER)
    };

    let refused = desk.test.click_refused(click).await;

    assert_eq!(refusal(&refused), (Code::FailedPrecondition, "CONTACT_HAS_RECORD".to_owned()));
    desk.assert_not_clicked(&desk.dial("call-1", "").await);
    assert_eq!(desk.test.rows(&desk.account, "external_refs").await, 1);
}
