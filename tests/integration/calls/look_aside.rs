//! A caller whom nobody here knows and a CRM does: the call waits while the CRM is asked, and names
//! the caller. On a clock that tests move, with gates in the CRM instead of sleeps.

use std::time::Duration;

use chrono::TimeDelta;
use contact_sync::{
    rpc::pb::{self, LookAsideOutcome as Outcome},
    telemetry::metrics::MetricsPage,
};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
};
use futures_util::future::join_all;
use serde_json::json;
use tonic::Request;

use crate::{
    support::calls::{id_of, look_only, outbound},
    support::hints::{drain, waiting},
    support::sync::{Beside, arrived, ask_trigger, column, eventually, fail, soon},
    support::{
        TestApp, Worlds, api_token, bearer, call, pipedrive_connection, salesforce_connection, zendesk_connection,
    },
};

const NORA: &str = "+13105550100";
const NILS: &str = "+13105550101";
const BUDGET_MS: i32 = 1_500;

/// A service, an account that looks aside, and its integration.
struct Scene {
    test: TestApp,
    account: String,
    integration: String,
}

impl Scene {
    /// With Salesforce, copied a minute ago.
    async fn salesforce() -> Self {
        Self::salesforce_within(Box::pin(TestApp::start()).await, BUDGET_MS).await
    }

    async fn salesforce_within(test: TestApp, budget_ms: i32) -> Self {
        let scene = Box::pin(Self::pending_salesforce(test, budget_ms)).await;
        assert_eq!(Box::pin(scene.test.sync_due()).await, 1);
        scene.test.minutes(1);
        scene.test.salesforce.clear_requests();
        scene
    }

    /// Which nobody has copied yet.
    async fn pending_salesforce(test: TestApp, budget_ms: i32) -> Self {
        let connection = (pb::Provider::Salesforce, salesforce_connection(), bearer("salesforce-token"));
        Self::linked(test, budget_ms, connection).await
    }

    async fn pipedrive() -> Self {
        let token = pb::Credentials { kind: Some(pb::credentials::Kind::PipedriveApiToken("pipedrive-token".into())) };
        let connection = (pb::Provider::Pipedrive, pipedrive_connection("acme"), token);
        Self::linked(TestApp::start().await, BUDGET_MS, connection).await
    }

    async fn zendesk() -> Self {
        let connection = (pb::Provider::Zendesk, zendesk_connection("acme"), api_token("secret"));
        Self::linked(TestApp::start().await, BUDGET_MS, connection).await
    }

    async fn linked(
        test: TestApp,
        look_aside_ms: i32,
        (provider, connection, credentials): (pb::Provider, pb::Connection, pb::Credentials),
    ) -> Self {
        let request = pb::CreateAccountRequest {
            display_name: "Test".into(),
            default_region: "US".into(),
            look_aside_ms,
            ..Default::default()
        };
        let account = test.accounts().create_account(request).await.unwrap().into_inner().account.unwrap().id;
        let request = pb::EnableSyncRequest {
            account_id: account.clone(),
            provider: provider.into(),
            connection: Some(connection),
            credentials: Some(credentials),
            // What is pushed would be known without a look.
            options: Some(pb::IntegrationOptions { push: pb::Switch::Off.into(), ..Default::default() }),
            ..Default::default()
        };
        let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
        Self { test, account, integration }
    }

    fn contact(&self, name: &str, phone: &str) -> String {
        self.test.salesforce.create("Contact", &json!({"LastName": name, "Phone": phone})).unwrap()
    }

    async fn call(&self, number: &str) -> pb::MatchCallerResponse {
        self.test.match_caller(call(&self.account, number)).await
    }

    /// Of its only integration.
    fn told(&self, answer: &pb::MatchCallerResponse) -> Outcome {
        let [look] = &answer.look_asides[..] else { panic!("{:?}", answer.look_asides) };
        assert_eq!(look.integration_id, self.integration);
        look.outcome()
    }

    fn seconds(&self, seconds: i64) {
        self.test.pass(TimeDelta::seconds(seconds));
    }

    fn asked(&self) -> u64 {
        self.test.salesforce.requests().total
    }

    async fn column(&self, name: &str) -> String {
        column(&self.test, &self.integration, name).await
    }
}

fn name_of(answer: &pb::MatchCallerResponse) -> &str {
    answer.selected.as_ref().map_or("", |contact| &contact.display_name)
}

#[tokio::test]
async fn unknown_caller_whom_salesforce_knows_is_named_in_one_call() {
    let scene = Scene::salesforce().await;
    scene.contact("Nora", "(310) 555-0100");
    let before = (scene.column("checkpoint").await, scene.column("due_at").await, scene.column("failures").await);
    let runs = scene.test.rows(&scene.account, "sync_runs").await;

    let answer = scene.test.ask(&scene.account, NORA, "call-1").await;

    assert_eq!((answer.outcome(), name_of(&answer)), (pb::MatchOutcome::Matched, "Nora"));
    assert_eq!(scene.told(&answer), Outcome::Found);
    assert!(answer.look_aside_wait.is_some() && answer.complete && !answer.degraded);
    assert_eq!(scene.asked(), 2, "Contacts and Leads");
    let after = (scene.column("checkpoint").await, scene.column("due_at").await, scene.column("failures").await);
    assert_eq!((after, scene.test.rows(&scene.account, "sync_runs").await), (before, runs));
    eventually("a lease that was given back", async || scene.column("lease_until").await.is_empty()).await;
    let again = scene.test.ask(&scene.account, NORA, "call-1").await;
    assert_eq!((id_of(again.selected.as_ref()), again.look_asides.len()), (id_of(answer.selected.as_ref()), 0));
    assert_eq!(scene.test.rows(&scene.account, "contacts").await, 1, "no placeholder was made");
}

#[tokio::test]
async fn pipedrives_organisation_is_kept_or_follows() {
    let scene = Scene::pipedrive().await;
    let pipedrive = &scene.test.pipedrive;
    let acme = pipedrive.create_organization("Acme");
    let phones = |number: &str| json!([{"value": number}]);
    let known = pipedrive.create_person(&json!({"name": "Ann", "phones": phones(NILS), "org_id": acme})).unwrap();
    assert_eq!(scene.test.sync_due().await, 1);
    scene.test.minutes(2);
    pipedrive.update_person(known, &json!({"name": "Ann Doe"})).unwrap();
    pipedrive.create_person(&json!({"name": "Nora", "phones": phones(NORA), "org_id": acme})).unwrap();
    pipedrive.clear_requests();

    let answer = scene.call(NORA).await;

    assert_eq!((scene.told(&answer), name_of(&answer)), (Outcome::Found, "Nora"));
    assert_eq!(answer.selected.unwrap().organization, "");
    assert_eq!(pipedrive.requests().total, 1);
    let known = scene.call(NILS).await.selected.unwrap();
    assert_eq!((known.display_name.as_str(), known.organization.as_str()), ("Ann Doe", "Acme"));
    eventually("a free lease", async || scene.column("lease_until").await.is_empty()).await;
    assert_eq!((waiting(&scene.test).await, drain(&scene.test).await), (1, 1));
    assert_eq!(scene.call(NORA).await.selected.unwrap().organization, "Acme");
}

#[tokio::test]
async fn off_by_default_asks_nobody() {
    let scene = Scene::salesforce_within(TestApp::start().await, 0).await;
    scene.contact("Nora", NORA);

    let answer = scene.call(NORA).await;

    assert_eq!((answer.outcome(), answer.look_asides.len()), (pb::MatchOutcome::Created, 0));
    assert!(answer.look_aside_wait.is_none());
    assert_eq!((scene.asked(), scene.test.rows(&scene.account, "look_asides").await), (0, 0));
}

#[tokio::test]
async fn person_under_first_copy_is_found_by_number() {
    let scene = Scene::pending_salesforce(TestApp::start().await, BUDGET_MS).await;
    scene.contact("Nora", "(310) 555-0100");

    let answer = scene.call(NORA).await;

    assert_eq!((scene.told(&answer), name_of(&answer), answer.complete), (Outcome::Found, "Nora", false));
    eventually("a free lease", async || scene.column("lease_until").await.is_empty()).await;
    assert!(scene.column("checkpoint").await.is_empty() && scene.column("first_started_at").await.is_empty());
    assert_eq!(scene.test.sync_due().await, 1);
    assert_eq!(scene.test.rows(&scene.account, "contacts").await, 1);
}

/// Answers say whether changes are pushed.
#[tokio::test]
async fn zendesk_is_searched_only_while_it_does_not_push() {
    let scene = Scene::zendesk().await;
    assert_eq!(scene.test.sync_due().await, 1);
    scene.test.user("Nora", NORA);

    let answer = scene.call(NORA).await;

    assert_eq!((scene.told(&answer), name_of(&answer)), (Outcome::Found, "Nora"));
    assert_eq!(answer.sources[0].push(), pb::PushState::NotConfigured);
    scene
        .test
        .db
        .execute(&format!(
            "update integrations set options = options || '{{\"push\": \"ON\"}}';
            insert into push_channels (account_id, integration_id, state, hook_number, secret)
            values ('{}', '{}', 'ACTIVE', 1, '')
            on conflict (account_id, integration_id) do update set state = 'ACTIVE', checked_at = null",
            scene.account, scene.integration
        ))
        .await;
    scene.seconds(6);
    let answer = scene.call(NILS).await;
    assert_eq!((scene.told(&answer), answer.sources[0].push()), (Outcome::NotForThisCrm, pb::PushState::Active));
    scene.test.db.execute("update push_channels set state = 'DEGRADED'").await;
    let answer = scene.call("+13105550102").await;
    assert_eq!((scene.told(&answer), answer.sources[0].push()), (Outcome::NothingFound, pb::PushState::Degraded));
}

#[tokio::test]
async fn known_caller_repeat_and_outbound_call_look_nowhere() {
    let scene = Scene::salesforce().await;
    scene.contact("Nora", NORA);
    scene.call(NORA).await;
    scene.seconds(6);
    let asked = scene.asked();

    assert!(scene.call(NORA).await.look_asides.is_empty(), "known");
    let dialled = outbound(&scene.account, NILS, "call-2", "ann");
    assert!(scene.test.match_caller(dialled).await.look_asides.is_empty(), "outbound");
    assert_eq!(scene.asked(), asked);
    let first = scene.test.ask(&scene.account, NILS, "call-3").await;
    assert_eq!((scene.told(&first), scene.asked()), (Outcome::NothingFound, asked + 2), "a placeholder is a stranger");
    scene.seconds(6);
    let repeat = scene.test.ask(&scene.account, NILS, "call-3").await;
    assert!(repeat.look_asides.is_empty() && scene.asked() == asked + 2, "a repeat");
}

#[tokio::test]
async fn two_calls_share_one_look() {
    let scene = Scene::salesforce().await;
    scene.contact("Nora", NORA);
    scene.contact("Nils", NILS);
    let gate = scene.test.salesforce.faults().gate("SystemModstamp+DESC", 0, GateAt::Response).unwrap();

    let both = async { tokio::join!(scene.call(NORA), scene.call(NILS)) };
    let opened = async {
        arrived(&gate, 2).await;
        gate.open();
    };
    let ((first, second), ()) = tokio::join!(both, opened);

    assert_eq!((name_of(&first), name_of(&second)), ("Nora", "Nils"));
    assert_eq!((scene.told(&first), scene.told(&second)), (Outcome::Found, Outcome::Found));
    assert_eq!(scene.asked(), 2);
}

#[tokio::test]
async fn next_look_comes_five_seconds_later_and_not_for_the_same_number() {
    let scene = Scene::salesforce().await;

    assert_eq!(scene.told(&scene.call(NORA).await), Outcome::NothingFound);
    assert_eq!(scene.told(&scene.call(NILS).await), Outcome::NothingFound);
    assert_eq!(scene.asked(), 2, "what the first has brought, the second would have found");
    scene.seconds(5);
    assert_eq!(scene.told(&scene.call(NORA).await), Outcome::Repeated);
    assert_eq!(scene.asked(), 2);
    assert_eq!(scene.told(&scene.call("+13105550103").await), Outcome::NothingFound);
    assert_eq!(scene.asked(), 4);
}

#[tokio::test]
async fn robocalls_switch_it_off() {
    let scene = Scene::salesforce().await;

    for number in 0..30 {
        let answer = scene.call(&format!("+1310555{:04}", 1_000 + number)).await;
        assert_eq!(scene.told(&answer), Outcome::NothingFound, "{number}");
    }
    scene.seconds(5);
    assert_eq!(scene.told(&scene.call(NORA).await), Outcome::TooManyMisses);
    assert_eq!(scene.asked(), 2);
}

#[tokio::test]
async fn tenth_of_daily_quota_is_kept() {
    let scene = Scene::salesforce().await;
    scene.call(NORA).await;
    scene.seconds(6);

    scene.test.db.execute("update look_asides set day_cost = day_limit / 10").await;
    assert_eq!(scene.told(&scene.call(NILS).await), Outcome::OutOfBudget);
    assert_eq!(scene.asked(), 2);
    let limit = scene.test.db.number("select day_limit from look_asides").await;
    assert!(limit > 0, "{limit}");
    scene.test.pass(TimeDelta::days(1));
    scene.test.db.execute("update integrations set last_completed_at = last_completed_at + interval '1 day'").await;
    assert_eq!(scene.told(&scene.call("+13105550104").await), Outcome::NothingFound, "a new day");
}

/// The contact that was given to the router lives on.
#[tokio::test]
async fn slow_crm_gives_todays_answer_in_time() {
    let scene = Scene::salesforce_within(TestApp::start().await, 200).await;
    scene.contact("Nora", NORA);
    let gate = scene.test.salesforce.faults().gate("SystemModstamp+DESC", 0, GateAt::Response).unwrap();

    let answer = scene.call(NORA).await;

    assert_eq!((answer.outcome(), scene.told(&answer)), (pb::MatchOutcome::Created, Outcome::TimedOut));
    let placeholder = id_of(answer.selected.as_ref());
    gate.open();
    eventually("an adopted placeholder", async || name_of(&scene.call(NORA).await) == "Nora").await;
    assert_eq!(id_of(scene.call(NORA).await.selected.as_ref()), placeholder);
}

#[tokio::test]
async fn crm_that_refuses_fails_no_call_and_holds_nothing() {
    let scene = Scene::salesforce().await;
    scene.contact("Nora", NORA);
    for fault in [Fault::Unauthorized, Fault::ServerError, Fault::RateLimited { retry_after_seconds: Some(60) }] {
        scene.test.salesforce.faults().add(FaultRule::always("/query", fault)).unwrap();

        let answer = scene.test.match_caller(look_only(call(&scene.account, NORA))).await;

        assert_eq!((answer.outcome(), scene.told(&answer)), (pb::MatchOutcome::NotFound, Outcome::Failed));
        let at_once = scene.test.match_caller(look_only(call(&scene.account, NORA))).await;
        assert_eq!(scene.told(&at_once), Outcome::Failed, "not asked again for five seconds");
        scene.test.salesforce.faults().clear();
        scene.seconds(6);
    }
    let integration = scene.test.integration(&scene.account, &scene.integration).await;
    assert_eq!(integration.state(), pb::IntegrationState::Active);
    assert_eq!(scene.column("failures").await, "0");
    assert_eq!(scene.told(&scene.call(NORA).await), Outcome::Found);
}

/// Those who wait hold no connection, and others are answered meanwhile.
#[tokio::test]
async fn eight_calls_of_account_wait_without_a_connection_and_no_ninth() {
    let test = TestApp::start_with(|config| config.pools.call.connections = 1).await;
    let scene = Scene::salesforce_within(test, 1_000).await;
    scene.contact("Known", "+13105559999");
    scene.test.trigger(&scene.account, &scene.integration).await;
    scene.seconds(6);
    let gate = scene.test.salesforce.faults().gate("SystemModstamp+DESC", 0, GateAt::Response).unwrap();

    let strangers = async {
        let numbers: Vec<String> = (0..12).map(|n| format!("+1310555{:04}", 2_000 + n)).collect();
        join_all(numbers.iter().map(|number| scene.call(number))).await
    };
    let known = async {
        arrived(&gate, 2).await;
        assert_eq!(name_of(&scene.call("+13105559999").await), "Known");
        assert_eq!(gate.count().held, 2, "the strangers wait still");
    };
    let (answers, ()) = tokio::join!(strangers, known);

    let told = |outcome| answers.iter().filter(|answer| scene.told(answer) == outcome).count();
    assert_eq!((told(Outcome::TimedOut), told(Outcome::Busy)), (8, 4));
    assert!(answers.iter().all(|answer| answer.outcome() == pb::MatchOutcome::Created));
}

#[tokio::test]
async fn hung_up_call_gives_its_place_back() {
    let scene = Scene::salesforce_within(TestApp::start().await, BUDGET_MS).await;
    let gate = scene.test.salesforce.faults().gate("SystemModstamp+DESC", 0, GateAt::Response).unwrap();
    let numbers: Vec<String> = (0..8).map(|n| format!("+1310555{:04}", 3_000 + n)).collect();

    let waiting = async { join_all(numbers.iter().map(|number| scene.call(number))).await };
    tokio::select! {
        answers = waiting => panic!("{} calls did not wait", answers.len()),
        () = arrived(&gate, 2) => {}
    }

    let mut next = 4_000;
    eventually("a place", async || {
        next += 1;
        scene.told(&scene.call(&format!("+1310555{next}")).await) != Outcome::Busy
    })
    .await;
}

#[tokio::test]
async fn call_with_little_time_left_waits_for_nobody() {
    let scene = Scene::salesforce().await;
    scene.contact("Nora", NORA);
    let mut request = Request::new(call(&scene.account, NORA));
    request.set_timeout(Duration::from_millis(399));

    let answer = scene.test.callers().match_caller(request).await.unwrap().into_inner();

    assert_eq!((scene.told(&answer), scene.asked()), (Outcome::NoTime, 0));
}

/// A run of another process has the integration, and serves the call between two pages.
#[tokio::test]
async fn lease_holder_of_another_process_answers() {
    let worlds = Worlds { salesforce: Some(|config| config.page_rows_max = 2), ..Worlds::default() };
    let test = TestApp::start_in(worlds).await;
    for number in 0..8 {
        let fields = json!({"LastName": format!("C{number}"), "Phone": format!("+1310555{:04}", 5_000 + number)});
        test.salesforce.create("Contact", &fields).unwrap();
    }
    let scene = Scene::salesforce_within(test, BUDGET_MS).await;
    let request = pb::TriggerSyncRequest {
        account_id: scene.account.clone(),
        integration_id: scene.integration.clone(),
        kind: pb::SyncKind::Initial.into(),
        ..Default::default()
    };
    scene.test.syncs().trigger_sync(request).await.unwrap();
    let other = scene.test.replica(|_| {}).await;
    let pages = scene.test.salesforce.faults().gate("BY+SystemModstamp%2C", 0, GateAt::Response).unwrap();
    let run = Beside::start(&other.app);
    arrived(&pages, 1).await;
    // Behind the page that is on its way.
    scene.contact("Nora", NORA);

    let opened = async {
        let asked = "select count(*) from look_asides where asked > answered";
        eventually("a call that waits", async || scene.test.db.number(asked).await == 1).await;
        pages.open();
    };
    let (answer, ()) = tokio::join!(scene.call(NORA), opened);

    assert_eq!((scene.told(&answer), name_of(&answer)), (Outcome::Found, "Nora"));
    assert_eq!(run.ended().await, 1);
}

/// A run that waits for its CRM looks for calls meanwhile.
#[tokio::test]
async fn run_that_waits_serves_a_call_at_once() {
    let scene = Scene::zendesk().await;
    assert_eq!(scene.test.sync_due().await, 1);
    fail(&scene.test, 0, None, Fault::RateLimited { retry_after_seconds: Some(30) });
    ask_trigger(&scene.test, &scene.account, &scene.integration, |_| {}).await.unwrap();
    let run = Beside::start(&scene.test.app);
    let waits =
        "select count(*) from sync_runs where state = 'RUNNING' and phase = 'waiting for the CRM''s rate limit'";
    eventually("a run that waits", async || scene.test.db.number(waits).await == 1).await;
    scene.test.user("Nora", NORA);

    let answer = scene.call(NORA).await;

    assert_eq!((scene.told(&answer), name_of(&answer)), (Outcome::Found, "Nora"));
    assert!(!run.has_ended());
    run.dies().await;
}

/// Who has lost the lease brings nothing, and does not say that it is answered.
#[tokio::test]
async fn stolen_lease_writes_nothing() {
    let scene = Scene::salesforce_within(TestApp::start().await, 200).await;
    scene.contact("Nora", NORA);
    let gate = scene.test.salesforce.faults().gate("SystemModstamp+DESC", 0, GateAt::Response).unwrap();
    assert_eq!(scene.told(&scene.call(NORA).await), Outcome::TimedOut);
    arrived(&gate, 2).await;
    scene.test.db.execute("update integrations set lease_number = lease_number + 1").await;

    gate.open();

    let refused = r#"transaction="apply_aside",result="rolled_back""#;
    eventually("a refused look", async || MetricsPage::begin().text().contains(refused)).await;
    let open = "select count(*) from look_asides where asked > answered";
    assert_eq!((scene.test.db.number(open).await, scene.test.rows(&scene.account, "external_refs").await), (1, 0));
}

#[tokio::test]
async fn look_that_nobody_answers_is_abandoned() {
    let scene = Scene::salesforce_within(TestApp::start().await, 200).await;
    scene.contact("Nora", NORA);
    // Of a process that died after it had asked.
    scene
        .test
        .db
        .execute(&format!(
            "insert into look_asides (account_id, integration_id, asked, answered, asked_at, mode, has_failed, day, day_cost)
            values ('{}', '{}', 7, 6, '2026-11-22T09:01:00Z', 'DELTA', false, '2026-11-22', 2)",
            scene.account, scene.integration
        ))
        .await;

    let look = async || scene.test.match_caller(look_only(call(&scene.account, NORA))).await;
    assert_eq!((scene.told(&look().await), scene.asked()), (Outcome::TimedOut, 0));
    scene.seconds(10);
    soon("a look that finds Nora", async {
        while name_of(&look().await) != "Nora" {
            scene.seconds(10);
        }
    })
    .await;
}

#[tokio::test]
async fn read_only_database_answers_as_before() {
    let scene = Scene::salesforce().await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&scene.test.db.pool).await.unwrap();
    scene.test.db.execute(&format!("alter database {name} set default_transaction_read_only = on")).await;
    // Its sessions are new, and can only read.
    let standby = scene.test.replica(|_| {}).await;

    let answer = standby.match_caller(look_only(call(&scene.account, NORA))).await;

    assert_eq!((answer.outcome(), scene.told(&answer)), (pb::MatchOutcome::NotFound, Outcome::Failed));
    assert_eq!(scene.asked(), 0);
}

#[tokio::test]
async fn erasure_and_an_hour_take_the_number_away() {
    let scene = Scene::salesforce().await;
    scene.contact("Nora", NORA);
    let contact = id_of(scene.call(NORA).await.selected.as_ref());
    let open = "update look_asides set asked = asked + 1, mode = 'SEARCH', e164 = 13105550100";
    let kept = async || scene.test.db.number("select count(*) from look_asides where e164 is not null").await;

    scene.test.db.execute(open).await;
    let request = pb::EraseContactRequest { account_id: scene.account.clone(), contact_id: contact };
    scene.test.contacts().erase_contact(request).await.unwrap();
    assert_eq!(kept().await, 0);

    scene.test.db.execute(open).await;
    scene.test.minutes(59);
    scene.test.forget().await.unwrap();
    assert_eq!(kept().await, 1);
    scene.test.minutes(2);
    scene.test.forget().await.unwrap();
    assert_eq!(kept().await, 0);
}

#[tokio::test]
async fn explanation_says_it_and_asks_nobody() {
    let scene = Scene::salesforce().await;
    let request =
        pb::ExplainMatchRequest { account_id: scene.account.clone(), phone_number: NORA.into(), ..Default::default() };

    let explained = scene.test.callers().explain_match(request).await.unwrap().into_inner();

    let step = explained.steps.iter().find(|step| step.contains("would wait at most 1500 ms")).unwrap();
    assert!(step.contains(&format!("SALESFORCE {} for what has changed", scene.integration)), "{step}");
    assert!(explained.answer.unwrap().look_asides.is_empty());
    assert_eq!(scene.asked(), 0);
}
