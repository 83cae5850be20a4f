//! The router's call id: a repeat hears what the call has heard, whatever has happened since.

use contact_sync::rpc::pb::{self, MatchCallerResponse, MatchOutcome, MatchTier};
use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

use crate::{
    histories::integrity,
    support::calls::{
        call_with_id, click_on, dawdle, dice, dice_of, id_of, look_only, outbound, refusal, seeds, withheld,
    },
    support::{Subject, TestApp, call, statements::Statements},
};

const BRYCE: &str = "+13108675309";
const NEW: &str = "+13105550100";
const LINE: &str = "+13105550199";

const LOOK_UP: &str = "store::caller_lookup::read_lean";
const FULL: &str = "store::caller_lookup::read_full";

fn heard(answer: &MatchCallerResponse) -> (MatchOutcome, Option<String>, MatchTier) {
    (answer.outcome(), answer.selected.as_ref().map(|contact| contact.id.clone()), answer.tier())
}

/// A repeat hears the stored outcome and contact, when others have come to the number.
#[tokio::test]
async fn repeat_hears_stored_answer_despite_newcomers() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    let first = test.ask(&account, BRYCE, "call-1").await;
    test.minutes(1);
    test.user("His Wife", BRYCE);
    test.trigger(&account, &integration).await;

    let again = test.ask(&account, "310-867-5309", "call-1").await;
    let other = test.ask(&account, BRYCE, "call-2").await;

    assert_eq!(heard(&again), heard(&first));
    assert_eq!(again.outcome(), MatchOutcome::Matched);
    assert_eq!(other.outcome(), MatchOutcome::Ambiguous);
    assert_eq!(id_of(other.selected.as_ref()), id_of(first.selected.as_ref()));
}

/// A repeat of a stranger is created once, and stays CREATED.
#[tokio::test]
async fn repeated_stranger_is_created_once_stays_created() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;

    let first = test.ask(&account, NEW, "call-1").await;
    let again = test.ask(&account, NEW, "call-1").await;
    let only_looking = test.match_caller(look_only(call_with_id(&account, NEW, "call-1"))).await;

    assert_eq!(first.outcome(), MatchOutcome::Created);
    assert_eq!(heard(&again), heard(&first));
    assert_eq!(heard(&only_looking), heard(&first));
    assert_eq!(test.rows(&account, "contacts").await, 1);
}

#[tokio::test]
async fn a_repeat_after_adoption_hears_the_survivor() {
    let test = TestApp::start().await;
    let known = test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    test.minutes(1);
    let created = test.ask(&account, NEW, "call-1").await;
    test.minutes(1);
    test.zendesk.add_identity(known.parse().unwrap(), &json!({"type": "phone_number", "value": NEW})).unwrap();
    test.trigger(&account, &integration).await;

    let again = test.ask(&account, NEW, "call-1").await;

    let survivor = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());
    assert_ne!(id_of(created.selected.as_ref()), survivor);
    assert_eq!(heard(&again), (MatchOutcome::Created, Some(survivor), created.tier()));
    assert_eq!(again.selected.unwrap().display_name, "Bryce Love");
    assert_eq!(again.total, 1);
    integrity::assert_holds(&test).await;
}

/// A repeat hears the agent's choice beside the answer.
#[tokio::test]
async fn repeat_hears_agents_choice_beside_answer() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    test.minutes(1);
    test.user("His Wife", BRYCE);
    test.trigger(&account, &integration).await;
    let first = test.ask(&account, BRYCE, "call-1").await;

    let chosen = test.select(&account, "call-1", &first.candidates[1].id).await;
    let again = test.ask(&account, BRYCE, "call-1").await;

    assert_eq!(first.selection, None);
    assert_eq!(heard(&again), heard(&first));
    assert_eq!(again.selection, Some(chosen));
}

#[tokio::test]
async fn nobody_is_asked_anew() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let look = || test.match_caller(look_only(call_with_id(&account, BRYCE, "call-1")));
    let unknown_yet = look().await;
    test.sync_due().await;
    let unknown = look().await;
    test.user("Bryce Love", BRYCE);
    test.trigger(&account, &integration).await;
    let known = look().await;
    let again = look().await;

    assert_eq!(unknown_yet.outcome(), MatchOutcome::NotKnownYet);
    assert_eq!(unknown.outcome(), MatchOutcome::NotFound);
    assert_eq!((known.outcome(), known.tier()), (MatchOutcome::Matched, MatchTier::Exact));
    assert_eq!(heard(&again), heard(&known));
    let requester = test.resolve(&account, &integration, Subject::CallId("call-1".into())).await;
    assert_eq!(requester.contact_id, id_of(known.selected.as_ref()));
}

#[tokio::test]
async fn nobody_asked_anew_may_become_a_placeholder() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;
    test.match_caller(look_only(call_with_id(&account, NEW, "call-1"))).await;

    let created = test.ask(&account, NEW, "call-1").await;
    let again = test.ask(&account, NEW, "call-1").await;

    assert_eq!(created.outcome(), MatchOutcome::Created);
    assert_eq!(heard(&again), heard(&created));
}

#[tokio::test]
async fn the_agents_choice_stands_beside_nobody_too() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    let (account, _) = test.synced().await;
    let bryce = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());
    let look = || test.match_caller(look_only(call_with_id(&account, NEW, "call-1")));
    look().await;
    test.select(&account, "call-1", &bryce).await;

    let again = look().await;

    assert_eq!((again.outcome(), again.selected), (MatchOutcome::NotFound, None));
    assert_eq!(id_of(again.selection.as_ref()), bryce);
}

#[tokio::test]
async fn a_hidden_or_unreadable_caller_is_stored_too() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;
    let ask_hidden = || test.match_caller(withheld(call_with_id(&account, "", "hidden")));
    let ask_garbled = || test.match_caller(call_with_id(&account, "hello", "garbled"));

    assert_eq!([ask_hidden().await.outcome(), ask_hidden().await.outcome()], [MatchOutcome::Withheld; 2]);
    assert_eq!([ask_garbled().await.outcome(), ask_garbled().await.outcome()], [MatchOutcome::Unparseable; 2]);

    assert_eq!(test.rows(&account, "calls").await, 2);
    let other_text = test.match_refused(call_with_id(&account, "hello?", "garbled")).await;
    assert_eq!(refusal(&other_text), (Code::FailedPrecondition, "CALL_ID_REUSED".to_owned()));
    let a_number = test.match_refused(call_with_id(&account, BRYCE, "garbled")).await;
    assert_eq!(refusal(&a_number), (Code::FailedPrecondition, "CALL_ID_REUSED".to_owned()));
    assert_eq!(test.rows(&account, "contacts").await, 0);
}

/// A call id with another number is refused and changes nothing.
#[tokio::test]
async fn reused_call_id_is_refused_changing_nothing() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    let (account, _) = test.synced().await;
    let first = test.ask(&account, BRYCE, "call-1").await;

    for request in [
        call_with_id(&account, NEW, "call-1"),
        call_with_id(&account, "garbled", "call-1"),
        withheld(call_with_id(&account, BRYCE, "call-1")),
    ] {
        let refused = test.match_refused(request).await;
        assert_eq!(refusal(&refused), (Code::FailedPrecondition, "CALL_ID_REUSED".to_owned()));
    }

    assert_eq!(heard(&test.ask(&account, "(310) 867 5309", "call-1").await), heard(&first));
    assert_eq!(test.rows(&account, "contacts").await, 1);
}

/// A refused repeat does not spoil a call that named nobody.
#[tokio::test]
async fn refused_repeat_spoils_no_call_naming_nobody() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;
    let look = || test.callers();
    let request = look_only(call_with_id(&account, NEW, "call-1"));
    look().match_caller(request.clone()).await.unwrap();
    let refused = test.match_refused(withheld(request.clone())).await;
    assert_eq!(refusal(&refused), (Code::FailedPrecondition, "CALL_ID_REUSED".to_owned()));

    let again = look().match_caller(request).await;

    assert_eq!(again.unwrap().into_inner().outcome(), MatchOutcome::NotFound);
}

/// A call whose contact has died is asked anew.
#[tokio::test]
async fn call_whose_contact_died_is_asked_anew() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    let before = test.ask(&account, BRYCE, "call-1").await;
    test.zendesk.delete_user(user.parse().unwrap()).unwrap();
    test.trigger(&account, &integration).await;

    let after = test.ask(&account, BRYCE, "call-1").await;
    let again = test.ask(&account, BRYCE, "call-1").await;

    assert_eq!(after.outcome(), MatchOutcome::Created);
    assert_ne!(id_of(after.selected.as_ref()), id_of(before.selected.as_ref()));
    assert_eq!(heard(&again), heard(&after));
}

/// A hundred racing routers hear the same of one call.
#[tokio::test]
async fn racing_routers_hear_same_of_one_call() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    test.user("His Wife", BRYCE);
    let (account, _) = test.synced().await;
    let replica = test.replica(|_| {}).await;

    for (number, call_id, outcome) in [(BRYCE, "known", MatchOutcome::Ambiguous), (NEW, "new", MatchOutcome::Created)] {
        let apps = [&test, &replica];
        let answers = join_all((0..100).map(|n| apps[n % 2].ask(&account, number, call_id))).await;

        assert!(answers.iter().all(|answer| heard(answer) == heard(&answers[0])), "{number}");
        assert_eq!(answers[0].outcome(), outcome);
    }
    assert_eq!(test.rows(&account, "calls").await, 2);
    assert_eq!(test.rows(&account, "contacts").await, 3);
}

/// One call id with two numbers at once belongs to one of them.
#[tokio::test]
async fn racing_numbers_leave_call_id_to_one() {
    let test = TestApp::start().await;
    let (account, _) = test.synced().await;

    for n in 0..20 {
        let call_id = format!("call-{n}");
        let create = call_with_id(&account, &format!("+1310555{:04}", 200 + n), &call_id);
        let look = look_only(call_with_id(&account, &format!("+1310555{:04}", 300 + n), &call_id));
        let (mut one, mut two) = (test.callers(), test.callers());
        let (created, looked) = tokio::join!(one.match_caller(create.clone()), two.match_caller(look.clone()));

        let refused = [created.as_ref().err(), looked.as_ref().err()].into_iter().flatten().collect::<Vec<_>>();
        assert!(refused.len() == 1, "exactly one of two numbers has the call: {refused:?}");
        assert_eq!(refusal(refused[0]).1, "CALL_ID_REUSED");
        let (winner, number) = if created.is_ok() { (create, 200 + n) } else { (look, 300 + n) };
        let again = test.match_caller(winner).await;
        let named = again.selected.map(|contact| contact.display_name);
        assert!(
            named.is_none_or(|name| name == format!("+1310555{number:04}")),
            "the call names another number's contact"
        );
    }
}

/// A known caller costs one read and, with a fresh call id, one statement more, which stores.
#[tokio::test]
async fn known_caller_reads_once_fresh_call_stores_once() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    let (account, _) = test.synced().await;
    let statements = Statements::record();

    test.match_caller(call(&account, BRYCE)).await;
    assert_eq!(statements.take(), [LOOK_UP]);
    test.ask(&account, BRYCE, "fresh").await;
    assert_eq!(statements.take(), [LOOK_UP, "store::calls::insert_answer"]);
    test.ask(&account, BRYCE, "fresh").await;
    assert_eq!(statements.take(), [LOOK_UP], "a repeat has nothing to store");
    test.match_caller(look_only(call(&account, NEW))).await;
    assert_eq!(statements.take(), [LOOK_UP], "nobody is nobody in the same snapshot");
    test.match_caller(look_only(call_with_id(&account, NEW, "nobody"))).await;
    assert_eq!(statements.take(), [LOOK_UP, "store::calls::insert_answer"]);
    test.match_caller(withheld(call_with_id(&account, "", "hidden"))).await;
    assert_eq!(statements.take(), ["store::sources::list", "store::calls::store_answer"]);
    // Look-up, placeholder with its call, second look.
    test.ask(&account, NEW, "new").await;
    let new_caller = statements.take();
    assert_eq!((new_caller.len(), new_caller[0].as_str()), (3, LOOK_UP), "{new_caller:?}");
}

/// A shared line, another policy and an outbound call cost the full statement.
#[tokio::test]
async fn shared_line_policy_or_outbound_costs_full_statement() {
    let test = TestApp::start().await;
    let account = test.account().await;
    for n in 0..21 {
        test.user(&format!("Desk {n}"), LINE);
    }
    for name in ["Bryce Love", "His Wife"] {
        test.user(name, BRYCE);
    }
    test.user("Alone", NEW);
    test.enable(&account, "acme").await;
    test.sync_due().await;
    test.look_up(&account, NEW).await;
    let statements = Statements::record();

    test.look_up(&account, LINE).await;
    assert_eq!(statements.take(), [LOOK_UP, FULL], "more than an answer shows are to be counted");
    test.look_up(&account, BRYCE).await;
    assert_eq!(statements.take(), [LOOK_UP]);
    test.match_caller(pb::MatchCallerRequest { direction: pb::Direction::Outbound.into(), ..call(&account, NEW) })
        .await;
    assert_eq!(statements.take(), [FULL], "a click may wait");
    drop(statements);
    test.set_policy(&account, pb::MatchPolicy::LastUpdated, "").await;
    let replica = test.replica(|_| {}).await;
    replica.look_up(&account, NEW).await;
    let statements = Statements::record();
    replica.look_up(&account, BRYCE).await;
    assert_eq!(statements.take(), [LOOK_UP, FULL], "the policy decides between two");
    replica.look_up(&account, NEW).await;
    assert_eq!(statements.take(), [LOOK_UP], "of one there is nothing to decide");
}

/// A click, a run and two routers at once leave one answer, which all hear.
#[tokio::test]
async fn click_run_and_routers_leave_one_answer() {
    let test = TestApp::start().await;
    let bryce = test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    let replica = test.replica(|_| {}).await;
    for (n, seed) in seeds(12).into_iter().enumerate() {
        let mut dice = dice(seed);
        let call_id = format!("call-{n}");
        let dials = n % 2 == 0;
        let request = || {
            if dials { outbound(&account, BRYCE, &call_id, "anna") } else { call_with_id(&account, BRYCE, &call_id) }
        };
        let click = pb::PreRegisterContactRequest {
            call_id: call_id.clone(),
            ..click_on(&account, &integration, "user", &format!("9{n:03}"), BRYCE)
        };
        // A run that brings one more on the number, or renames one, at the same moment.
        if n % 3 == 0 {
            test.user("One More", BRYCE);
        } else {
            test.zendesk.update_user(bryce.parse().unwrap(), &json!({"name": format!("Bryce {n}")})).unwrap();
        }
        let mut others = [dice_of(&mut dice), dice_of(&mut dice), dice_of(&mut dice)];
        let [one, two, three] = &mut others;

        let (first, second, clicked, _) = tokio::join!(
            async {
                dawdle(one, 40).await;
                answered(&test, request()).await
            },
            async {
                dawdle(two, 40).await;
                answered(&replica, request()).await
            },
            async {
                dawdle(three, 40).await;
                test.clicked(click).await
            },
            test.trigger(&account, &integration),
        );

        assert_eq!(heard(&first), heard(&second), "seed {seed}");
        let again = test.match_caller(request()).await;
        assert_eq!(heard(&again), heard(&first), "seed {seed}");
        assert_eq!(id_of(again.selection.as_ref()), test.living(&account, &clicked.id).await, "seed {seed}");
    }
    assert_eq!(test.rows(&account, "calls").await, i64::try_from(seeds(12).len()).unwrap());
    integrity::assert_holds(&test).await;
}

/// As a router's gRPC client asks: UNAVAILABLE, here of a lock that a click holds for long, is
/// tried again.
async fn answered(app: &TestApp, request: pb::MatchCallerRequest) -> MatchCallerResponse {
    loop {
        match app.callers().match_caller(request.clone()).await {
            Ok(answer) => return answer.into_inner(),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
}
