//! What a look at a Zendesk's webhook leaves when something goes wrong in it: a hook that delivers,
//! the newest secret, and each lost event counted once.

use chrono::TimeDelta;
use contact_sync::rpc::pb::{self, PushState};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
    push::DeliveryPlan,
    zendesk::ZendeskConfig,
};
use serde_json::{Value, json};

use super::{
    authorize::{start, start_in},
    push::{active, hints, shown},
};
use crate::support::{
    TestApp, Worlds, enable_request,
    sync::{Beside, arrived, ask_disable, ask_update, expire_leases},
};

const HOOKS: &str = "/api/v2/webhooks";
const CALLS: &str = "/invocations";

async fn next_look(test: &TestApp) {
    test.pass(TimeDelta::minutes(30));
    assert_eq!(test.sync_due().await, 1);
}

fn the_hook(test: &TestApp) -> Value {
    let (_, list) = test.zendesk.call("GET", HOOKS, None).unwrap();
    list["webhooks"][0].clone()
}

fn switch_off(test: &TestApp) {
    let path = format!("{HOOKS}/{}", the_hook(test)["id"].as_str().unwrap());
    test.zendesk.call("PATCH", &path, Some(&json!({"webhook": {"status": "inactive"}}))).unwrap();
}

fn refuse(test: &TestApp, method: &str, times: Option<u32>) {
    let fault = Fault::answer(422, ("content-type", "application/json"), r#"{"error":"RecordInvalid"}"#);
    let rule = FaultRule { method: Some(method.to_owned()), times, ..FaultRule::always(HOOKS, fault) };
    test.zendesk.faults().add(rule).unwrap();
}

/// A hook that is not changed is replaced; where no other can be made, it stays.
#[tokio::test]
async fn refused_change_leaves_the_old_hook_until_another_is_made() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    let old = the_hook(&test)["id"].clone();
    switch_off(&test);
    refuse(&test, "PATCH", None);
    refuse(&test, "POST", Some(1));
    next_look(&test).await;

    let (state, reason, _) = shown(&test, &account, &integration).await;
    assert_eq!((state, reason.as_str()), (PushState::Unavailable, "PUSH_REFUSED"));
    assert_eq!(the_hook(&test)["id"], old);

    next_look(&test).await;
    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(1)));
    assert_ne!(the_hook(&test)["id"], old);
}

/// Where there is no room for two, the old one goes first.
#[tokio::test]
async fn hook_is_replaced_where_there_is_room_for_one() {
    let one: fn(&mut ZendeskConfig) = |config| config.hooks.hooks_max = 1;
    let test = start_in(Worlds { zendesk: Some(one), ..Worlds::default() }).await;
    let (account, integration) = test.synced().await;
    switch_off(&test);
    refuse(&test, "PATCH", None);

    next_look(&test).await;

    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(1)));
}

/// A list of failed deliveries that does not come costs the look nothing: a new secret is taken up,
/// and what failed is counted when the list is there again.
#[tokio::test]
async fn list_that_does_not_come_keeps_the_new_secret_and_is_counted_later() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::seconds(1));
    let path = format!("{HOOKS}/{}/signing_secret", the_hook(&test)["id"].as_str().unwrap());
    test.zendesk.call("POST", &path, None).unwrap();
    test.zendesk.create_user(&json!({"name": "Ann"})).unwrap();
    test.zendesk.deliver_due().await;
    assert_eq!(test.zendesk.deliveries().failed, 1);
    test.zendesk.faults().add(FaultRule::always(CALLS, Fault::page(503))).unwrap();

    next_look(&test).await;

    assert_eq!(shown(&test, &account, &integration).await, active(0));
    let bea = test.zendesk.create_user(&json!({"name": "Bea"})).unwrap();
    test.zendesk.deliver_due().await;
    assert_eq!(hints(&test).await, [format!("user/{bea}")]);
    test.zendesk.faults().clear();
    next_look(&test).await;
    assert_eq!(shown(&test, &account, &integration).await, active(1));
    next_look(&test).await;
    assert_eq!(shown(&test, &account, &integration).await, active(1));
}

/// A delivery that fails during a look is counted by the next one, and by no other.
#[tokio::test]
async fn delivery_that_fails_during_a_look_is_counted_once() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::minutes(30));
    let gate = test.zendesk.faults().gate(CALLS, 0, GateAt::Request).unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    test.pass(TimeDelta::seconds(2));
    test.zendesk.plan_deliveries(DeliveryPlan { wrong_secret: 1.0, ..DeliveryPlan::default() });
    test.zendesk.create_user(&json!({"name": "Ann"})).unwrap();
    test.zendesk.deliver_due().await;
    test.zendesk.plan_deliveries(DeliveryPlan::default());
    gate.open();
    run.ended().await;
    assert_eq!(shown(&test, &account, &integration).await, active(0));

    for _ in 0..2 {
        next_look(&test).await;
        assert_eq!(shown(&test, &account, &integration).await, active(1));
    }
}

/// A hook is found among more than a page of others, also by its address alone.
#[tokio::test]
async fn hook_is_found_among_many() {
    let test = start().await;
    for n in 0..105 {
        let other = json!({"webhook": {"name": format!("other {n}"), "endpoint": "https://example.com",
            "subscriptions": ["zen:event-type:user.created"]}});
        test.zendesk.call("POST", HOOKS, Some(&other)).unwrap();
    }
    let (account, integration) = test.synced().await;
    let (_, list) = test.zendesk.call("GET", &format!("{HOOKS}?page[after]=105"), None).unwrap();
    let path = format!("{HOOKS}/{}", list["webhooks"][0]["id"].as_str().unwrap());
    test.zendesk.call("PATCH", &path, Some(&json!({"webhook": {"name": "renamed"}}))).unwrap();

    next_look(&test).await;

    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (106, active(1)));
}

/// A hook that somebody has called otherwise is removed, too.
#[tokio::test]
async fn renamed_hook_is_removed_with_its_integration() {
    for by_a_run in [true, false] {
        let test = start().await;
        let (account, integration) = test.synced().await;
        let path = format!("{HOOKS}/{}", the_hook(&test)["id"].as_str().unwrap());
        test.zendesk.call("PATCH", &path, Some(&json!({"webhook": {"name": "renamed"}}))).unwrap();

        if by_a_run {
            let off = pb::IntegrationOptions { push: pb::Switch::Off.into(), ..Default::default() };
            ask_update(&test, &account, &integration, off, None).await.unwrap();
            test.sync_due().await;
        } else {
            ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();
        }

        assert_eq!(test.zendesk.hook_count(), 0, "{by_a_run}");
    }
}

/// A scope that is lost is said, and the hook that is there goes on; it is the same when the scope
/// is back.
#[tokio::test]
async fn hook_goes_on_while_its_scope_is_missing() {
    let test = start().await;
    let (account, integration) = test.synced().await;
    let forbidden = Fault::answer(403, ("content-type", "text/plain"), "");
    test.zendesk.faults().add(FaultRule::always(HOOKS, forbidden)).unwrap();

    next_look(&test).await;

    let (state, reason, _) = shown(&test, &account, &integration).await;
    assert_eq!((state, reason.as_str()), (PushState::Unavailable, "PUSH_SCOPE_MISSING"));
    let user = test.zendesk.create_user(&json!({"name": "Ann"})).unwrap();
    test.zendesk.deliver_due().await;
    assert_eq!(hints(&test).await, [format!("user/{user}")]);
    assert_eq!(test.db.number("select count(*) from push_channels where hook_id is not null").await, 1);
    test.zendesk.faults().clear();
    next_look(&test).await;
    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(0)));
}

/// A process that dies between making a hook and storing it leaves one, which the next run takes.
#[tokio::test]
async fn crash_between_making_and_storing_leaves_one_hook() {
    let test = start().await;
    let account = test.account().await;
    let enabled = test.syncs().enable_sync(enable_request(&account, "acme")).await.unwrap();
    let integration = enabled.into_inner().integration.unwrap().id;
    let gate = test.zendesk.faults().gate("/signing_secret", 0, GateAt::Request).unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    assert_eq!(test.zendesk.hook_count(), 1);

    run.dies().await;
    gate.open();
    test.zendesk.faults().clear();
    expire_leases(&test).await;
    assert_eq!(test.sync_due().await, 1);

    assert_eq!((test.zendesk.hook_count(), shown(&test, &account, &integration).await), (1, active(0)));
    let user = test.zendesk.create_user(&json!({"name": "Ann"})).unwrap();
    test.zendesk.deliver_due().await;
    assert_eq!(hints(&test).await, [format!("user/{user}")]);
}
