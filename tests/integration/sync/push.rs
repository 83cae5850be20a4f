//! A CRM pushes its changes: its hook is made, looked after and removed, and each event becomes a
//! hint. Whatever goes wrong with it is told, and changes nothing of what is polled.

use chrono::TimeDelta;
use contact_sync::rpc::pb::{self, IntegrationState, Provider, PushState, SyncRunState};
use crm_simulator::{
    faults::{Fault, FaultRule},
    pipedrive,
    push::{DeliveryPlan, HookCall},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::authorize::{authorize, browser, integrations, start, start_in};
use crate::{
    histories::integrity::assert_holds,
    support::sync::{ask_disable, ask_update, column},
    support::{TestApp, Worlds, pipedrive_connection, with_address},
};

const LOOK_EVERY: TimeDelta = TimeDelta::hours(6);
const HOOKS: &str = "/webhooks";

fn request(account: &str) -> pb::StartAuthorizationRequest {
    pb::StartAuthorizationRequest {
        account_id: account.into(),
        provider: Provider::Pipedrive.into(),
        connection: Some(pipedrive_connection("acme")),
        ..Default::default()
    }
}

/// An account whose Pipedrive is copied: (account, integration).
pub async fn pushed(test: &TestApp) -> (String, String) {
    let account = test.account().await;
    let (status, page) = authorize(test, request(&account)).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let integration = integrations(test, &account).await.remove(0).id;
    assert_eq!(test.sync_due().await, 1);
    (account, integration)
}

/// A process that only runs syncs makes hooks for another one that listens.
#[tokio::test]
async fn worker_that_does_not_listen_makes_the_hook() {
    let test = TestApp::start_with(with_address).await;

    let (account, integration) = test.synced().await;

    assert_eq!(test.config.http.listen, None);
    assert_eq!(shown(&test, &account, &integration).await.0, PushState::Active);
}

/// Its state, the reason of its notice, and how many events are taken for lost.
pub async fn shown(test: &TestApp, account: &str, integration: &str) -> (PushState, String, i64) {
    let push = test.integration(account, integration).await.push.unwrap();
    (push.state(), push.notice.clone().map(|notice| notice.reason).unwrap_or_default(), push.suspected_losses)
}

pub fn active(losses: i64) -> (PushState, String, i64) {
    (PushState::Active, String::new(), losses)
}

fn unavailable(reason: &str) -> (PushState, String, i64) {
    (PushState::Unavailable, reason.to_owned(), 0)
}

pub fn create(test: &TestApp, name: &str) -> i64 {
    test.pipedrive.create_person(&json!({"name": name})).unwrap()
}

/// The hints that wait: `kind/id -> successor`, in order.
pub async fn hints(test: &TestApp) -> Vec<String> {
    let sql = "select concat(object_type, '/', record_id, coalesce(' -> ' || successor_id, '')) from hints order by 1";
    sqlx::query_scalar(sql).fetch_all(&test.db.pool).await.unwrap()
}

/// The next event, as it was sent: for sending it again.
pub async fn event(test: &TestApp, name: &str) -> HookCall {
    create(test, name);
    test.pipedrive.deliver_due().await.pop().unwrap()
}

/// Sends it again, as it was.
pub async fn tell(call: &HookCall) -> StatusCode {
    let mut request = browser().request(Method::from_bytes(call.method.as_bytes()).unwrap(), &call.url);
    for (name, value) in &call.headers {
        request = request.header(*name, value);
    }
    request.body(call.body.clone()).send().await.unwrap().status()
}

/// The runs that are due later, each after a look at the hook became due.
async fn next_look(test: &TestApp) {
    test.pass(LOOK_EVERY);
    assert_eq!(test.sync_due().await, 1);
}

fn push_option(push: pb::Switch) -> pb::IntegrationOptions {
    pb::IntegrationOptions { push: push.into(), ..Default::default() }
}

/// A change is a hint as soon as the CRM says so, and its time and lag are shown.
#[tokio::test]
async fn change_becomes_hint_as_crm_says_so() {
    let test = start().await;
    let (account, integration) = pushed(&test).await;
    assert_eq!(test.pipedrive.hook_count(), 1);
    assert_eq!(shown(&test, &account, &integration).await, active(0));
    let checkpoint = column(&test, &integration, "checkpoint").await;

    let id = create(&test, "Bryce Love");
    test.pipedrive.update_person(id, &json!({"name": "Bryce Hate"})).unwrap();
    let changed_at = test.pipedrive.deliveries();
    assert_eq!(changed_at.waiting, 2);
    test.pass(TimeDelta::milliseconds(1_500));
    test.pipedrive.deliver_due().await;

    assert_eq!(test.pipedrive.deliveries().delivered, 2);
    assert_eq!(hints(&test).await, [format!("person/{id}")]);
    test.app.hooks.write_notes().await;
    let push = test.integration(&account, &integration).await.push.unwrap();
    let lag = push.last_lag.unwrap();
    assert_eq!((lag.seconds, lag.nanos), (1, 500_000_000));
    assert!(push.last_event_time.is_some());
    assert_eq!(column(&test, &integration, "checkpoint").await, checkpoint);
    assert_holds(&test).await;
}

/// Who was merged into whom is in the event alone, and kept.
#[tokio::test]
async fn merge_event_keeps_who_lives_on() {
    let test = start().await;
    let (loser, winner) = (create(&test, "Ann"), create(&test, "Anna"));
    pushed(&test).await;

    test.pipedrive.merge_persons(loser, winner).unwrap();
    test.pipedrive.deliver_due().await;

    assert_eq!(hints(&test).await, [format!("person/{loser} -> {winner}"), format!("person/{winner}")]);
}

/// However often it is looked at, and wherever a process has died, there is one hook.
#[tokio::test]
async fn registering_again_makes_one_hook() {
    let test = start().await;
    let (account, integration) = pushed(&test).await;
    next_look(&test).await;
    // The process died after the CRM had made it.
    test.db.execute("update push_channels set hook_id = null, checked_at = null, state = 'UNAVAILABLE'").await;
    next_look(&test).await;
    assert_eq!(test.pipedrive.hook_count(), 1);
    assert_eq!(shown(&test, &account, &integration).await, active(0));

    // Its address is another than ours: made anew.
    test.db.execute("update push_channels set hook_number = 7, checked_at = null").await;
    next_look(&test).await;
    assert_eq!(test.pipedrive.hook_count(), 1);
    assert_eq!(shown(&test, &account, &integration).await, active(1));
    event(&test, "Bryce Love").await;
    assert_eq!(test.pipedrive.deliveries().delivered, 1);
}

/// A list without names does not make it two, either.
#[tokio::test]
async fn hook_without_a_listed_name_is_known_by_its_address() {
    let nameless: fn(&mut pipedrive::PipedriveConfig) = |config| config.lists_hook_names = false;
    let test = start_in(Worlds { pipedrive: Some(nameless), ..Worlds::default() }).await;
    let (account, integration) = pushed(&test).await;
    next_look(&test).await;

    assert_eq!(test.pipedrive.hook_count(), 1);
    assert_eq!(shown(&test, &account, &integration).await, active(0));
}

/// A hook that somebody removed is made again, and what it may have missed is told.
#[tokio::test]
async fn removed_hook_is_made_again() {
    let test = start().await;
    let (account, integration) = pushed(&test).await;
    test.pipedrive.remove_hooks();
    test.pass(TimeDelta::minutes(30));
    test.sync_due().await;
    assert_eq!(test.pipedrive.hook_count(), 0, "nobody has looked yet");

    next_look(&test).await;

    assert_eq!(test.pipedrive.hook_count(), 1);
    assert_eq!(shown(&test, &account, &integration).await, active(1));
}

/// Between two looks nothing is asked about it.
#[tokio::test]
async fn runs_between_looks_ask_nothing() {
    let test = start().await;
    pushed(&test).await;
    test.pipedrive.clear_requests();
    test.pass(TimeDelta::minutes(30));
    test.sync_due().await;

    let requests = test.pipedrive.requests().recent;
    assert!(!requests.is_empty() && requests.iter().all(|request| !request.path.contains(HOOKS)));
}

/// What is not wished any more is removed, and nothing is copied anew for it.
#[tokio::test]
async fn switching_off_removes_hook_without_a_sweep() {
    let test = start().await;
    let (account, integration) = pushed(&test).await;
    let sweep = column(&test, &integration, "sweep_due_at").await;

    ask_update(&test, &account, &integration, push_option(pb::Switch::Off), None).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(test.pipedrive.hook_count(), 0);
    assert_eq!(shown(&test, &account, &integration).await, (PushState::NotConfigured, String::new(), 0));
    assert_eq!(test.last_run(&account, &integration).await.kind(), pb::SyncKind::Incremental);
    assert_eq!(column(&test, &integration, "sweep_due_at").await, sweep);
    ask_update(&test, &account, &integration, push_option(pb::Switch::On), None).await.unwrap();
    test.sync_due().await;
    assert_eq!((test.pipedrive.hook_count(), shown(&test, &account, &integration).await), (1, active(0)));
}

/// Disabling takes the hook away, and succeeds where the CRM does not answer.
#[tokio::test]
async fn disabling_removes_hook_if_crm_answers() {
    for is_away in [false, true] {
        let test = start().await;
        let (account, integration) = pushed(&test).await;
        if is_away {
            test.pipedrive.faults().add(FaultRule::always(HOOKS, Fault::page(503))).unwrap();
        }

        ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();

        assert_eq!(test.pipedrive.hook_count(), usize::from(is_away));
        assert_eq!(test.db.number("select count(*) from push_channels").await, 0);
        create(&test, "Nobody");
        test.pipedrive.deliver_due().await;
        assert!(hints(&test).await.is_empty());
    }
}

/// What the CRM does not allow is said with what to do, and runs go on.
#[tokio::test]
async fn missing_scope_is_told_and_runs_go_on() {
    let no_scope: fn(&mut pipedrive::PipedriveConfig) = |config| config.allows_webhooks = false;
    let test = start_in(Worlds { pipedrive: Some(no_scope), ..Worlds::default() }).await;
    let (account, integration) = pushed(&test).await;

    assert_eq!(shown(&test, &account, &integration).await, unavailable("PUSH_SCOPE_MISSING"));
    let integration = test.integration(&account, &integration).await;
    assert_eq!(integration.state(), IntegrationState::Active);
    assert_eq!(test.last_run(&account, &integration.id).await.state(), SyncRunState::Succeeded);
    assert!(integration.push.unwrap().notice.unwrap().message.contains("Webhooks: full access"));
}

/// A CRM without room for one more, and one that says no without a reason that is known.
#[tokio::test]
async fn full_and_unwilling_crms_are_told() {
    let hook = json!({"subscription_url": "https://example.com", "event_action": "*", "event_object": "deal", "version": "2.0"});
    let test = start().await;
    for _ in 0..40 {
        let (status, _) = test.pipedrive.call("POST", "/api/v1/webhooks", Some(&hook)).unwrap();
        assert_eq!(status, StatusCode::CREATED);
    }
    let (account, integration) = pushed(&test).await;
    assert_eq!(shown(&test, &account, &integration).await, unavailable("PUSH_HOOKS_FULL"));

    let body = r#"{"success":false,"error":"Subscription URL cannot be Pipedrive endpoint"}"#;
    let refused = Fault::answer(400, ("content-type", "application/json"), body);
    test.pipedrive.faults().add(FaultRule::always(HOOKS, refused)).unwrap();
    next_look(&test).await;
    assert_eq!(shown(&test, &account, &integration).await, unavailable("PUSH_REFUSED"));
}

/// A CRM that does not answer for hooks leaves them as they are, and no run fails.
#[tokio::test]
async fn unanswered_look_leaves_hook_as_it_was() {
    let test = start().await;
    let (account, integration) = pushed(&test).await;
    test.pipedrive.faults().add(FaultRule::always(HOOKS, Fault::page(503))).unwrap();

    next_look(&test).await;

    assert_eq!(shown(&test, &account, &integration).await, active(0));
    assert_eq!(test.last_run(&account, &integration).await.state(), SyncRunState::Succeeded);
    // For so long that nobody knows any more.
    for _ in 0..5 {
        next_look(&test).await;
    }
    let (state, reason, _) = shown(&test, &account, &integration).await;
    assert_eq!((state, reason.as_str()), (PushState::Degraded, "PUSH_NOT_CHECKED"));
}

/// Without an address of its own the service makes no hook, and says what is missing.
#[tokio::test]
async fn missing_address_is_told() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let token = pb::credentials::Kind::PipedriveApiToken(pipedrive::DEFAULT_API_TOKEN.into());
    let enable = pb::EnableSyncRequest {
        account_id: account.clone(),
        provider: Provider::Pipedrive.into(),
        connection: Some(pipedrive_connection("acme")),
        credentials: Some(pb::Credentials { kind: Some(token) }),
        ..Default::default()
    };
    let integration = test.syncs().enable_sync(enable).await.unwrap().into_inner().integration.unwrap();
    assert_eq!(integration.options.unwrap().push(), pb::Switch::On, "unless it is said otherwise");
    test.sync_due().await;

    assert_eq!(shown(&test, &account, &integration.id).await, unavailable("PUSH_ADDRESS_MISSING"));
    assert_eq!(test.pipedrive.hook_count(), 0);
}

/// An integration that is older than the option is polled until it is authorized again; one whose
/// administrator wants none stays without.
#[tokio::test]
async fn older_integration_polls_until_authorized_again() {
    let test = start().await;
    let (account, integration) = pushed(&test).await;
    ask_update(&test, &account, &integration, push_option(pb::Switch::Off), None).await.unwrap();
    test.sync_due().await;
    authorize(&test, request(&account)).await;
    test.sync_due().await;
    assert_eq!(test.pipedrive.hook_count(), 0, "it was switched off");

    test.db.execute("update integrations set options = options - 'push'").await;
    next_look(&test).await;
    assert_eq!(test.pipedrive.hook_count(), 0);
    let options = test.integration(&account, &integration).await.options.unwrap();
    assert_eq!(options.push(), pb::Switch::Off);

    test.pass(TimeDelta::seconds(1));
    authorize(&test, request(&account)).await;
    test.sync_due().await;
    assert_eq!((test.pipedrive.hook_count(), shown(&test, &account, &integration).await), (1, active(0)));
}

/// A hook whose calls fail is told as such, until one arrives.
#[tokio::test]
async fn failing_deliveries_are_told_until_one_arrives() {
    let test = start().await;
    let (account, integration) = pushed(&test).await;
    test.pipedrive.plan_deliveries(DeliveryPlan { wrong_secret: 1.0, ..DeliveryPlan::default() });
    event(&test, "Bryce Love").await;
    assert!(hints(&test).await.is_empty(), "it is not the CRM's");

    next_look(&test).await;
    let (state, reason, _) = shown(&test, &account, &integration).await;
    assert_eq!((state, reason.as_str()), (PushState::Degraded, "PUSH_INTERRUPTED"));

    test.pipedrive.plan_deliveries(DeliveryPlan::default());
    event(&test, "Bea").await;
    test.pass(TimeDelta::minutes(30));
    test.sync_due().await;
    assert_eq!(shown(&test, &account, &integration).await, active(0));
}

/// What is lost, doubled and out of order is no more than hints, and polls bring the rest.
#[tokio::test]
async fn loss_doubles_and_disorder_are_no_more_than_hints() {
    let test = start().await;
    let (account, integration) = pushed(&test).await;
    let plan = DeliveryPlan { loss: 0.3, duplicates: 0.3, reorder_ms: 10_000, ..DeliveryPlan::default() };
    test.pipedrive.plan_deliveries(plan);
    let ids: Vec<i64> = (0..60).map(|n| create(&test, &format!("Person {n}"))).collect();
    for id in &ids {
        test.pipedrive.update_person(*id, &json!({"name": "Changed"})).unwrap();
    }
    for _ in 0..12 {
        test.pass(TimeDelta::seconds(1));
        test.pipedrive.deliver_due().await;
    }

    let told = hints(&test).await;
    assert!((30..=60).contains(&told.len()), "{}", told.len());
    test.pass(TimeDelta::minutes(30));
    test.sync_due().await;
    let changed = "select count(*) from contacts where display_name = 'Changed' and deleted_at is null";
    assert_eq!(test.db.number(changed).await, 60);
    assert_eq!(shown(&test, &account, &integration).await, active(0));
}

/// Nothing by which an event is known is readable in the database.
#[tokio::test]
async fn secret_of_hook_is_sealed() {
    let test = start().await;
    pushed(&test).await;
    let call = event(&test, "Bryce Love").await;
    let (_, basic) = call.headers.iter().find(|(name, _)| *name == "authorization").unwrap();
    let shared: Value = json!(basic.trim_start_matches("Basic "));

    let sql = format!("select count(*) from push_channels p where p::text like '%{}%'", shared.as_str().unwrap());
    assert_eq!(test.db.number(&sql).await, 0);
    let sealed = "select count(*) from push_channels where secret is not null and state = 'ACTIVE'";
    assert_eq!(test.db.number(sealed).await, 1);
}
