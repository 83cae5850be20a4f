//! An event names who was merged into whom, which no list of Zendesk's or Pipedrive's does: the
//! loser's contact leads to the winner's, and an earlier call is the winner's.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::zendesk::ZendeskConfig;
use serde_json::json;

use super::{
    authorize::{start, start_in},
    push::{hints, pushed},
};
use crate::{
    histories::integrity::assert_holds,
    support::hints::drain,
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
