//! An event names who was merged into whom, which no list of Zendesk's or Pipedrive's does: the
//! loser's contact leads to the winner's, and an earlier call is the winner's.

use chrono::TimeDelta;
use contact_sync::{
    domain::{clock::Clock as _, hint::NewHint},
    rpc::pb,
};
use crm_simulator::zendesk::ZendeskConfig;
use serde_json::json;

use super::{
    authorize::{start, start_in},
    push::{hints, pushed},
};
use crate::{
    histories::integrity::assert_holds,
    support::hints::{HintWriter, drain, event, user},
    support::{TestApp, Worlds},
};

const LOSERS: &str = "+13108675302";
const WINNERS: &str = "+13108675309";

/// Whose a call is.
async fn requester(test: &TestApp, account: &str, integration: &str) -> String {
    let resolved = test.resolve_call(account, integration, "call-1").await;
    assert_eq!(resolved.outcome(), pb::RequesterOutcome::Resolved);
    resolved.record.unwrap().record_id
}

/// A call of the loser's, then the merge; the poll may see it before the event comes.
struct Merge<'t> {
    test: &'t TestApp,
    account: String,
    integration: String,
    winner: i64,
    loser: i64,
}

impl Merge<'_> {
    async fn follow(self, is_polled_first: bool, merge: impl Fn(), deliver: impl AsyncFn()) {
        let Self { test, account, integration, winner, loser } = self;
        let lost = test.ask(&account, LOSERS, "call-1").await.selected.unwrap();
        let kept = test.look_up(&account, WINNERS).await.selected.unwrap();
        assert_eq!(requester(test, &account, &integration).await, loser.to_string());
        test.pass(TimeDelta::seconds(5));
        merge();
        if is_polled_first {
            // Later than lists lag, and sooner than an event is too old.
            test.pass(TimeDelta::minutes(3));
            test.trigger(&account, &integration).await;
            let lost = test.contact(&account, &lost.id).await;
            assert!(lost.delete_time.is_some() && lost.survivor_id.is_empty(), "lists name no winner");
        }

        deliver().await;
        assert_eq!(hints(test).await.len(), 2);
        drain(test).await;

        assert_eq!(requester(test, &account, &integration).await, winner.to_string());
        let lost = test.contact(&account, &lost.id).await;
        assert_eq!((lost.delete_time.is_some(), lost.survivor_id), (true, kept.id.clone()));
        assert!(hints(test).await.is_empty());
        // What lists say of the loser afterwards takes nothing back.
        test.pass(TimeDelta::minutes(30));
        test.sync_due().await;
        assert_eq!(requester(test, &account, &integration).await, winner.to_string());
        assert_eq!(test.db.number("select count(*) from external_refs where successor_id is not null").await, 1);
        assert_holds(test).await;
    }
}

/// Zendesk: whichever of both its event names first.
#[tokio::test]
async fn zendesk_merge_leads_an_earlier_call_to_the_winner() {
    let winner_first: fn(&mut ZendeskConfig) = |config| config.hooks.merge_names_winner_first = true;
    for (zendesk, is_polled_first) in [(None, false), (Some(winner_first), false), (None, true)] {
        let test = start_in(Worlds { zendesk, ..Worlds::default() }).await;
        let create = |name, phone| test.zendesk.create_user(&json!({"name": name, "phone": phone})).unwrap();
        let (loser, winner) = (create("Ann", LOSERS), create("Anna", WINNERS));
        let (account, integration) = test.synced().await;

        let merge = || test.zendesk.merge_users(loser, winner).unwrap();
        let deliver = async || drop(test.zendesk.deliver_due().await);
        let merged = Merge { test: &test, account, integration, winner, loser };
        Box::pin(merged.follow(is_polled_first, merge, deliver)).await;
    }
}

/// Pipedrive: it does not know the loser any more when it is asked.
#[tokio::test]
async fn pipedrive_merge_leads_an_earlier_call_to_the_winner() {
    for is_polled_first in [false, true] {
        let test = start().await;
        let create = |name, phone| {
            test.pipedrive.create_person(&json!({"name": name, "phones": [{"value": phone, "label": "work"}]})).unwrap()
        };
        let (loser, winner) = (create("Ann", LOSERS), create("Anna", WINNERS));
        let (account, integration) = pushed(&test).await;

        let merge = || test.pipedrive.merge_persons(loser, winner).unwrap();
        let deliver = async || drop(test.pipedrive.deliver_due().await);
        let merged = Merge { test: &test, account, integration, winner, loser };
        Box::pin(merged.follow(is_polled_first, merge, deliver)).await;
    }
}

/// Two users of whom an event says that one was merged into the other.
struct MergedPair {
    test: TestApp,
    account: String,
    integration: String,
    loser: i64,
    winner: i64,
}

impl MergedPair {
    async fn copied() -> Self {
        let test = start().await;
        let create = |name, phone| test.zendesk.create_user(&json!({"name": name, "phone": phone})).unwrap();
        let (loser, winner) = (create("Ann", LOSERS), create("Anna", WINNERS));
        let (account, integration) = test.synced().await;
        test.pass(TimeDelta::seconds(5));
        Self { test, account, integration, loser, winner }
    }

    /// The event, as often as it is delivered: which of both lives on it does not say.
    async fn tell(&self) {
        let now = self.test.clock.now();
        let of = |id, other| NewHint { successor: Some(user(other)), ..event(id, now) };
        let both = [of(self.loser, self.winner), of(self.winner, self.loser)];
        HintWriter::new(&self.test, &self.account, &self.integration).write(&both).await;
        drain(&self.test).await;
    }

    /// Whose successors are known: of which, and which.
    async fn successors(&self) -> Vec<(String, String)> {
        sqlx::query_as("select record_id, successor_id from external_refs where successor_id is not null")
            .fetch_all(&self.test.db.pool)
            .await
            .unwrap()
    }
}

/// Which of two was merged into the other is seen by who is gone. Where both are, neither is
/// named, and what was known before stays.
#[tokio::test]
async fn two_gone_users_of_a_merge_do_not_succeed_each_other() {
    let unknown = MergedPair::copied().await;
    unknown.test.zendesk.merge_users(unknown.loser, unknown.winner).unwrap();
    unknown.test.zendesk.delete_user(unknown.winner).unwrap();
    unknown.tell().await;
    assert_eq!(unknown.successors().await, []);
    assert_eq!(unknown.test.db.number("select count(*) from external_refs where is_live").await, 0);
    assert_holds(&unknown.test).await;

    let known = MergedPair::copied().await;
    known.test.zendesk.merge_users(known.loser, known.winner).unwrap();
    known.tell().await;
    let told = [(known.loser.to_string(), known.winner.to_string())];
    assert_eq!(known.successors().await, told);
    known.test.zendesk.delete_user(known.winner).unwrap();
    known.test.pass(TimeDelta::seconds(5));
    known.tell().await;
    assert_eq!(known.successors().await, told);
    assert_holds(&known.test).await;
}

/// Both are still there: the answer came from a copy that lags behind the event.
#[tokio::test]
async fn merge_that_shows_both_as_live_is_asked_for_again() {
    let pair = MergedPair::copied().await;
    pair.tell().await;
    assert_eq!(hints(&pair.test).await.len(), 2, "nothing is known yet");

    pair.test.zendesk.merge_users(pair.loser, pair.winner).unwrap();
    pair.test.pass(TimeDelta::seconds(10));
    drain(&pair.test).await;

    assert_eq!(pair.successors().await, [(pair.loser.to_string(), pair.winner.to_string())]);
    assert!(hints(&pair.test).await.is_empty());
}
