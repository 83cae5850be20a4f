//! Zendesk pushes its changes: what its webhooks alone have.

use chrono::TimeDelta;
use contact_sync::rpc::pb::{self, PushState};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
    push::DeliveryPlan,
    zendesk::{EventSpelling, HookAccess, HookQuirks, ZendeskConfig},
};
use reqwest::StatusCode;
use serde_json::json;

use super::{
    authorize::{start, start_in},
    push::{active, hints, shown, tell},
};
use crate::support::{
    TestApp, Worlds, enable_request,
    hints::drain,
    sync::{Beside, arrived, ask_disable, ask_update},
};

/// The next run looks.
async fn next_look(test: &TestApp) {
    test.pass(TimeDelta::minutes(30));
    assert_eq!(test.sync_due().await, 1);
}

async fn start_with(hooks: fn(&mut ZendeskConfig)) -> (TestApp, String, String) {
    let test = start_in(Worlds { zendesk: Some(hooks), ..Worlds::default() }).await;
    let (account, integration) = test.synced().await;
    (test, account, integration)
}

fn create(test: &TestApp, name: &str) -> i64 {
    test.zendesk.create_user(&json!({"name": name})).unwrap()
}

/// Whatever happens to a user is a hint of that user.
#[tokio::test]
async fn changes_of_users_become_hints() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(0)));
    let ids: Vec<i64> = (0..4).map(|n| create(&test, &format!("User {n}"))).collect();
    test.zendesk.deliver_due().await;
    test.db.execute("delete from hints").await;

    test.zendesk.update_user(ids[0], &json!({"name": "Other"})).unwrap();
    test.zendesk.add_identity(ids[1], &json!({"type": "phone_number", "value": "+13108675309"})).unwrap();
    test.zendesk.delete_user(ids[2]).unwrap();
    test.zendesk.update_user(ids[3], &json!({"tags": ["x"]})).unwrap();
    test.zendesk.deliver_due().await;

    assert_eq!(hints(&test).await, [ids[0], ids[1], ids[2]].map(|id| format!("user/{id}")));
    test.db.execute("delete from hints").await;
    test.zendesk.restore_user(ids[2]).unwrap();
    test.zendesk.deliver_due().await;
    assert_eq!(hints(&test).await, [format!("user/{}", ids[2])]);
    assert_eq!(test.zendesk.deliveries().failed, 0);
}

/// A merge names both, whichever stands first: which one lives on is known when they are asked.
#[tokio::test]
async fn merge_hints_both_users_as_each_others_successor() {
    for quirk in [false, true] {
        let test = if quirk {
            start_with(|config| config.hooks.merge_names_winner_first = true).await.0
        } else {
            start_with(|_| ()).await.0
        };
        let (loser, winner) = (create(&test, "Ann"), create(&test, "Anna"));
        test.zendesk.deliver_due().await;
        test.db.execute("delete from hints").await;

        test.zendesk.merge_users(loser, winner).unwrap();
        test.zendesk.deliver_due().await;

        let expected = [format!("user/{loser} -> {winner}"), format!("user/{winner} -> {loser}")];
        assert_eq!(hints(&test).await, expected, "{quirk}");
    }
}

/// However types of events are spelled, they are subscribed to.
#[tokio::test]
async fn spelling_of_types_falls_back() {
    for hooks in [
        (|config| config.hooks.spelling = EventSpelling::Colon) as fn(&mut ZendeskConfig),
        |config| config.hooks.spelling = EventSpelling::Slash,
        |config| config.hooks.spelling = EventSpelling::Mixed,
    ] {
        let (test, account, integration) = start_with(hooks).await;
        assert_eq!(shown(&test, &account, &integration).await, active(0));
        let id = create(&test, "Ann");
        test.zendesk.deliver_due().await;
        assert_eq!(hints(&test).await, [format!("user/{id}")]);
    }
}

/// What Zendesk does not allow, or has no room for, is said, and runs go on.
#[tokio::test]
async fn refused_hooks_are_told() {
    for (hooks, reason) in [
        ((|config| config.hooks.access = HookAccess::Nobody) as fn(&mut ZendeskConfig), "PUSH_SCOPE_MISSING"),
        (|config| config.hooks = HookQuirks { hooks_max: 1, ..HookQuirks::default() }, "PUSH_HOOKS_FULL"),
    ] {
        let test = start_in(Worlds { zendesk: Some(hooks), ..Worlds::default() }).await;
        let other = json!({"webhook": {"name": "other", "endpoint": "https://example.com", "subscriptions": ["zen:event-type:user.created"]}});
        test.zendesk.call("POST", "/api/v2/webhooks", Some(&other)).unwrap();
        let (account, integration) = test.synced().await;
        let (state, told, _) = shown(&test, &account, &integration).await;
        assert_eq!((state, told.as_str()), (PushState::Unavailable, reason));
    }
}

/// A hook that was changed or removed is mended, and one of several stays.
#[tokio::test]
async fn changed_and_removed_hooks_are_mended() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    let (_, list) = test.zendesk.call("GET", "/api/v2/webhooks", None).unwrap();
    let hook = &list["webhooks"][0];
    let path = format!("/api/v2/webhooks/{}", hook["id"].as_str().unwrap());
    test.zendesk.call("PATCH", &path, Some(&json!({"webhook": {"status": "inactive"}}))).unwrap();
    test.zendesk.call("POST", "/api/v2/webhooks", Some(&json!({"webhook": hook}))).unwrap();
    assert_eq!(test.zendesk.hook_count(), 2);

    next_look(&test).await;
    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(1)));
    let id = create(&test, "Ann");
    test.zendesk.deliver_due().await;
    assert_eq!(hints(&test).await, [format!("user/{id}")]);

    test.zendesk.remove_hooks();
    next_look(&test).await;
    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(2)));
}

/// Calls that came to nothing are counted, and a breaker is seen.
#[tokio::test]
async fn failed_calls_are_counted_and_breaker_is_seen() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::seconds(1));
    test.zendesk.plan_deliveries(DeliveryPlan { wrong_secret: 1.0, ..DeliveryPlan::default() });
    for n in 0..10 {
        create(&test, &format!("User {n}"));
    }
    test.zendesk.deliver_due().await;
    test.zendesk.plan_deliveries(DeliveryPlan::default());
    create(&test, "Unheard");
    assert!(hints(&test).await.is_empty());

    next_look(&test).await;

    let told = (PushState::Degraded, "PUSH_INTERRUPTED".to_owned(), 11);
    assert_eq!(shown(&test, &account, &integration).await, told);
    next_look(&test).await;
    assert_eq!(shown(&test, &account, &integration).await, active(11));
}

/// An event that is seen and sent again later is not taken; nor one whose body was written anew.
#[tokio::test]
async fn replayed_and_rewritten_events_are_refused() {
    let test = start().await;
    test.synced().await;
    create(&test, "Ann");
    let call = test.zendesk.deliver_due().await.pop().unwrap();
    assert_eq!(tell(&call).await, StatusCode::NO_CONTENT, "a repeat soon after is the same hint");
    let rewritten = serde_json::from_str::<serde_json::Value>(&call.body).unwrap().to_string();
    assert_eq!(
        tell(&crm_simulator::push::HookCall { body: rewritten, ..call.clone() }).await,
        StatusCode::UNAUTHORIZED
    );

    test.pass(TimeDelta::minutes(6));
    assert_eq!(tell(&call).await, StatusCode::UNAUTHORIZED);
    assert_eq!(hints(&test).await.len(), 1);
}

/// A secret that an administrator resets is taken up by the next look.
#[tokio::test]
async fn reset_secret_is_taken_up() {
    let test = start().await;
    test.synced().await;
    let (_, list) = test.zendesk.call("GET", "/api/v2/webhooks", None).unwrap();
    let path = format!("/api/v2/webhooks/{}/signing_secret", list["webhooks"][0]["id"].as_str().unwrap());
    test.zendesk.call("POST", &path, None).unwrap();

    next_look(&test).await;

    let id = create(&test, "Bea");
    test.zendesk.deliver_due().await;
    assert_eq!(hints(&test).await, [format!("user/{id}")]);
}

/// A secret that is taken up is good at once, although the old one was used a moment ago.
#[tokio::test]
async fn new_secret_is_good_at_once_and_the_old_one_for_a_while() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    create(&test, "Ann");
    let old = test.zendesk.deliver_due().await.pop().unwrap();
    let (_, list) = test.zendesk.call("GET", "/api/v2/webhooks", None).unwrap();
    let path = format!("/api/v2/webhooks/{}/signing_secret", list["webhooks"][0]["id"].as_str().unwrap());
    test.zendesk.call("POST", &path, None).unwrap();
    create(&test, "Bea");
    test.zendesk.deliver_due().await;
    assert_eq!((test.zendesk.deliveries().failed, hints(&test).await.len()), (1, 1), "nobody has looked yet");

    test.pass(TimeDelta::minutes(2));
    test.db.execute("update push_channels set checked_at = null").await;
    test.trigger(&account, &integration).await;
    create(&test, "Cid");
    test.zendesk.deliver_due().await;

    assert_eq!(test.zendesk.deliveries().failed, 1);
    assert_eq!(tell(&old).await, StatusCode::NO_CONTENT, "it was on its way when the secret changed");
}

/// What somebody has seen and sends again later is refused, and is no loss of the CRM's.
#[tokio::test]
async fn replays_are_refused_and_no_losses() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    test.zendesk.plan_deliveries(DeliveryPlan { replays: 1.0, duplicates: 1.0, ..DeliveryPlan::default() });
    for n in 0..12 {
        create(&test, &format!("User {n}"));
    }
    test.zendesk.deliver_due().await;
    test.db.execute("delete from hints").await;
    test.pass(TimeDelta::minutes(6));
    test.zendesk.deliver_due().await;

    let report = test.zendesk.deliveries();
    assert_eq!((report.delivered, report.failed, hints(&test).await.len()), (24, 12, 0));
    next_look(&test).await;
    assert_eq!(shown(&test, &account, &integration).await, active(0));
}

/// What is not wished any more is removed, by a run or at once.
#[tokio::test]
async fn switching_off_and_disabling_remove_hook() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    let options = |push: pb::Switch| pb::IntegrationOptions { push: push.into(), ..Default::default() };
    ask_update(&test, &account, &integration, Some(options(pb::Switch::Off)), None).await.unwrap();
    test.sync_due().await;
    assert_eq!(test.zendesk.hook_count(), 0);
    ask_update(&test, &account, &integration, Some(options(pb::Switch::On)), None).await.unwrap();
    test.sync_due().await;
    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(0)));

    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();
    assert_eq!(test.zendesk.hook_count(), 0);
}

/// A hook that somebody has called otherwise is known by its address, and called as before.
#[tokio::test]
async fn renamed_hook_is_known_by_its_address() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    let (_, list) = test.zendesk.call("GET", "/api/v2/webhooks", None).unwrap();
    let path = format!("/api/v2/webhooks/{}", list["webhooks"][0]["id"].as_str().unwrap());
    let name = format!("{} (ours)", list["webhooks"][0]["name"].as_str().unwrap());
    test.zendesk.call("PATCH", &path, Some(&json!({"webhook": {"name": name}}))).unwrap();

    next_look(&test).await;

    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(1)));
    let (_, list) = test.zendesk.call("GET", "/api/v2/webhooks", None).unwrap();
    assert!(!list["webhooks"][0]["name"].as_str().unwrap().ends_with("(ours)"));
}

/// A run that is about to make a hook while its integration is disabled leaves none.
#[tokio::test]
async fn hook_made_beside_a_disable_is_removed() {
    let test = start().await;
    let account = test.account().await;
    let request = enable_request(&account, "acme");
    let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap();
    let gate = test.zendesk.faults().gate("/api/v2/webhooks", 0, GateAt::Response).unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    test.zendesk.faults().clear();

    ask_disable(&test, &account, &integration.id, pb::CopiedData::Keep).await.unwrap();
    gate.open();
    run.ended().await;

    assert!(
        test.zendesk
            .requests()
            .recent
            .iter()
            .any(|request| request.method == "POST" && request.path.contains("webhooks")),
        "it was made"
    );
    assert_eq!(test.zendesk.hook_count(), 0);
    assert_eq!(test.db.number("select count(*) from push_channels").await, 0);
}

/// An event has the user's update time: an answer from a copy that lags is asked for again.
#[tokio::test]
async fn answer_older_than_the_event_is_asked_for_again() {
    let test = start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675309"})).unwrap();
    let (account, _) = test.synced().await;
    test.pass(TimeDelta::minutes(1));
    let (_, before) = test.zendesk.call("GET", &format!("/api/v2/users/{ann}"), None).unwrap();
    test.zendesk.update_user(ann, &json!({"name": "Anna"})).unwrap();
    test.zendesk.deliver_due().await;
    let lagging =
        [("/users/0/name", json!("Ann")), ("/users/0/updated_at", before["user"]["updated_at"].clone())].into_iter();
    let set = lagging.map(|(path, value)| (path.to_owned(), value)).collect();
    test.zendesk.faults().add(FaultRule::once("/show_many", Fault::Patch { set, remove: Vec::new() })).unwrap();

    assert_eq!(drain(&test).await, 1);
    assert_eq!(hints(&test).await, [format!("user/{ann}")]);
    test.pass(TimeDelta::seconds(2));
    assert_eq!(drain(&test).await, 1);

    assert!(hints(&test).await.is_empty());
    assert_eq!(test.look_up(&account, "+13108675309").await.selected.unwrap().display_name, "Anna");
}
