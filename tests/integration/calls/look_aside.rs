//! A caller whom nobody here knows and a CRM does: the call waits while the CRM is asked, and names
//! the caller. On a clock that tests move, with gates in the CRM instead of sleeps.

use std::time::Duration;

use chrono::TimeDelta;
use contact_sync::{
    domain::clock::Clock as _,
    rpc::pb::{self, LookAsideOutcome as Outcome},
    store::look_asides::{self, AsideAnswer},
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
    support::hints::{HintWriter, drain, drain_beside, event, waiting},
    support::sync::{Beside, arrived, ask_trigger, column, eventually, fail, soon},
    support::{
        TestApp, Worlds, api_token, bearer, call, pipedrive_connection, salesforce_connection, zendesk_connection,
    },
    sync::access_tokens::refresh_token,
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

    async fn lease_number(&self) -> i64 {
        self.test.db.number("select lease_number from integrations").await
    }

    async fn column(&self, name: &str) -> String {
        column(&self.test, &self.integration, name).await
    }
}

/// What a series shows, by its name and labels.
fn figure(series: &str) -> f64 {
    let text = MetricsPage::begin().text();
    text.lines().filter_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok()).sum()
}

fn is(value: f64, expected: i32) -> bool {
    (value - f64::from(expected)).abs() < f64::EPSILON
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
    let look = async |number| scene.test.match_caller(look_only(call(&scene.account, number))).await;
    let refuse = async |number, fault| {
        scene.test.salesforce.faults().add(FaultRule::always("/query", fault)).unwrap();
        let answer = look(number).await;
        assert_eq!((answer.outcome(), scene.told(&answer)), (pb::MatchOutcome::NotFound, Outcome::Failed));
        let asked = scene.asked();
        assert_eq!(scene.told(&look(number).await), Outcome::Failed);
        assert_eq!(scene.asked(), asked, "not asked again for five seconds");
        scene.test.salesforce.faults().clear();
        scene.seconds(6);
        asked
    };

    assert_eq!(refuse(NORA, Fault::ServerError).await, 2);
    assert_eq!(refuse(NORA, Fault::Unauthorized).await, 4);
    assert_eq!((scene.told(&look(NORA).await), scene.asked()), (Outcome::Failed, 4), "it rests for a minute");
    scene.seconds(55);
    assert_eq!((scene.told(&look(NORA).await), scene.asked()), (Outcome::Found, 6));
    scene.seconds(6);
    let asked = refuse(NILS, Fault::RateLimited { retry_after_seconds: Some(60) }).await;
    assert_eq!((scene.told(&look(NILS).await), scene.asked()), (Outcome::Failed, asked), "it has asked to wait");

    let integration = scene.test.integration(&scene.account, &scene.integration).await;
    assert_eq!(integration.state(), pb::IntegrationState::Active);
    assert_eq!(scene.column("failures").await, "0");
}

/// A kind of objects that fails leaves it open whether somebody has the number.
#[tokio::test]
async fn half_an_answer_names_whom_it_has_and_rules_nobody_out() {
    let scene = Scene::salesforce().await;
    scene.contact("Nora", NORA);
    scene.test.salesforce.faults().add(FaultRule::always("FROM+Lead", Fault::ServerError)).unwrap();

    assert_eq!(scene.told(&scene.call(NILS).await), Outcome::Failed);
    let answer = scene.call(NORA).await;
    assert_eq!((name_of(&answer), answer.look_asides.len()), ("Nora", 0), "known by now");
    scene.seconds(6);
    scene.test.salesforce.faults().clear();
    let asked = scene.asked();
    assert_eq!((scene.told(&scene.call(NILS).await), scene.asked()), (Outcome::NothingFound, asked + 2));
}

/// A number is left alone for a minute only where no CRM is left that may have it.
#[tokio::test]
async fn number_is_not_remembered_while_a_crm_has_not_answered() {
    let scene = Scene::salesforce().await;
    let token = pb::Credentials { kind: Some(pb::credentials::Kind::PipedriveApiToken("pipedrive-token".into())) };
    let request = pb::EnableSyncRequest {
        account_id: scene.account.clone(),
        provider: pb::Provider::Pipedrive.into(),
        connection: Some(pipedrive_connection("acme")),
        credentials: Some(token),
        ..Default::default()
    };
    scene.test.syncs().enable_sync(request).await.unwrap();
    assert_eq!(scene.test.sync_due().await, 1);
    scene.test.pipedrive.faults().add(FaultRule::always("/persons", Fault::ServerError)).unwrap();
    let told = async || {
        let answer = scene.call(NORA).await;
        let mut told: Vec<Outcome> = answer.look_asides.iter().map(pb::LookAside::outcome).collect();
        told.sort_unstable();
        told
    };

    assert_eq!(told().await, [Outcome::NothingFound, Outcome::Failed]);
    scene.seconds(6);
    assert_eq!(told().await, [Outcome::NothingFound, Outcome::Failed], "asked again");
    scene.seconds(6);
    scene.test.pipedrive.faults().clear();
    assert_eq!(told().await, [Outcome::NothingFound, Outcome::NothingFound]);
    scene.seconds(6);
    assert_eq!(told().await, [Outcome::Repeated, Outcome::Repeated]);
}

/// A token that has ended is got anew within the look.
#[tokio::test]
async fn ended_token_is_renewed_within_the_look() {
    let credentials = refresh_token(crm_simulator::zendesk::DEFAULT_REFRESH_TOKEN);
    let connection = (pb::Provider::Zendesk, zendesk_connection("acme"), credentials);
    let scene = Scene::linked(TestApp::start().await, BUDGET_MS, connection).await;
    assert_eq!(scene.test.sync_due().await, 1);
    scene.test.user("Nora", NORA);
    let tokens = scene.test.zendesk.token_requests().refresh_token;
    scene.test.zendesk.faults().add(FaultRule::once("/users/search", Fault::Unauthorized)).unwrap();

    let answer = scene.call(NORA).await;

    assert_eq!((scene.told(&answer), name_of(&answer)), (Outcome::Found, "Nora"));
    assert_eq!(scene.test.zendesk.token_requests().refresh_token, tokens + 1);
}

/// One search looks for the numbers of all calls that came before it had begun.
#[tokio::test]
async fn callers_of_one_moment_are_searched_for_together() {
    let scene = Scene::zendesk().await;
    assert_eq!(scene.test.sync_due().await, 1);
    let (nora, at_home) = (scene.test.user("Nora", NORA), "+13105550103");
    let number = json!({"type": "phone_number", "value": at_home});
    scene.test.zendesk.add_identity(nora.parse().unwrap(), &number).unwrap();
    scene.test.user("Nils", NILS);
    // Somebody has the integration meanwhile.
    scene.test.db.execute("update integrations set lease_until = clock_timestamp() + interval '1 minute'").await;
    let cost = "select day_cost from look_asides";

    let numbers = [NORA, NILS, "+13105550102", NORA, at_home];
    let calls = async { join_all(numbers.iter().map(|number| scene.call(number))).await };
    let freed = async {
        let joined = "select coalesce(max(cardinality(joined)), 0)::bigint from look_asides";
        eventually("four numbers", async || scene.test.db.number(joined).await == 3).await;
        assert_eq!(scene.test.db.number(cost).await, 8);
        scene.test.db.execute("update integrations set lease_until = null").await;
    };
    let (answers, ()) = tokio::join!(calls, freed);

    let told: Vec<(&str, Outcome)> = answers.iter().map(|answer| (name_of(answer), scene.told(answer))).collect();
    let (found, nobody) = (Outcome::Found, Outcome::NothingFound);
    assert_eq!((told[0], told[1], told[2].1), (("Nora", found), ("Nils", found), nobody));
    assert_eq!((told[3], told[4]), (("Nora", found), ("Nora", found)));
    let searches = scene.test.zendesk.requests().recent;
    assert_eq!(searches.iter().filter(|request| request.path.contains("/users/search")).count(), 4);
    assert_eq!(scene.test.db.number("select cardinality(joined)::bigint from look_asides where e164 is null").await, 0);
}

#[tokio::test]
async fn number_does_not_join_a_search_that_has_begun() {
    let scene = Scene::zendesk().await;
    assert_eq!(scene.test.sync_due().await, 1);
    scene.test.user("Nora", NORA);
    scene.test.user("Nils", NILS);
    let gate = scene.test.zendesk.faults().gate("/users/search", 0, GateAt::Response).unwrap();

    let late = async {
        arrived(&gate, 1).await;
        let answer = scene.call(NILS).await;
        gate.open();
        answer
    };
    let (first, late) = tokio::join!(scene.call(NORA), late);

    assert_eq!((scene.told(&first), name_of(&first)), (Outcome::Found, "Nora"));
    assert_eq!(scene.told(&late), Outcome::TooSoon);
}

/// What a search shows is asked for by id, since its index may be behind.
#[tokio::test]
async fn one_whom_the_index_still_has_is_gone_when_he_is_asked_for() {
    let worlds = Worlds { zendesk: Some(|config| config.search_lag_seconds = 120), ..Worlds::default() };
    let connection = (pb::Provider::Zendesk, zendesk_connection("acme"), api_token("secret"));
    let scene = Scene::linked(TestApp::start_in(worlds).await, BUDGET_MS, connection).await;
    assert_eq!(scene.test.sync_due().await, 1);
    let nora: i64 = scene.test.user("Nora", NORA).parse().unwrap();
    scene.seconds(200);
    scene.test.zendesk.delete_user(nora).unwrap();
    let answer = scene.call(NORA).await;
    assert_eq!((scene.told(&answer), name_of(&answer)), (Outcome::Found, "Nora"));

    eventually("a free lease", async || scene.column("lease_until").await.is_empty()).await;
    assert_eq!((waiting(&scene.test).await, drain(&scene.test).await), (1, 1));

    let live = "select count(*) from external_refs where is_live";
    assert_eq!(scene.test.db.number(live).await, 0);
}

/// Nobody waits for a look that its process has given up: somebody holds the integration and looks
/// for no call.
#[tokio::test]
async fn look_that_is_given_up_is_over() {
    let scene = Scene::salesforce_within(TestApp::start().await, 200).await;
    scene.test.db.execute("update integrations set lease_until = clock_timestamp() + interval '1 minute'").await;
    let look = async || scene.test.match_caller(look_only(call(&scene.account, NORA))).await;

    assert_eq!(scene.told(&look().await), Outcome::TimedOut);
    let over = "select count(*) from look_asides where asked = answered and has_failed";
    eventually("a look that is over", async || scene.test.db.number(over).await == 1).await;
    let answer = look().await;
    assert_eq!((scene.told(&answer), answer.look_aside_wait.is_some()), (Outcome::Failed, false));
    assert_eq!(scene.asked(), 0);
}

/// A good answer stands, whatever comes after it.
#[tokio::test]
async fn failure_takes_no_answer_back() {
    let scene = Scene::salesforce().await;
    assert_eq!(scene.told(&scene.call(NORA).await), Outcome::NothingFound);
    let (account_id, integration_id) = (scene.account.parse().unwrap(), scene.integration.parse().unwrap());
    let failed = async || scene.test.db.number("select count(*) from look_asides where has_failed").await;
    let answer = async |has_failed| {
        let answer = AsideAnswer { number: 1, has_failed, day_limit: None };
        look_asides::answer(&scene.test.app.api_db, account_id, integration_id, &answer).await.unwrap();
    };

    answer(true).await;
    assert_eq!(failed().await, 0);
    scene.test.db.execute("update look_asides set answered = 0").await;
    answer(true).await;
    assert_eq!(failed().await, 1);
    answer(false).await;
    assert_eq!(failed().await, 0, "and a better one is taken");
}

/// Its wait is not the service's slowness, and has figures of its own.
#[tokio::test]
async fn figures_tell_what_was_asked_and_who_waits_and_leave_the_wait_out_of_latency() {
    let scene = Scene::salesforce_within(TestApp::start().await, 1_000).await;
    let gate = scene.test.salesforce.faults().gate("SystemModstamp+DESC", 0, GateAt::Response).unwrap();
    let total =
        |outcome| figure(&format!(r#"contact_sync_look_asides_total{{provider="SALESFORCE",outcome="{outcome}"}}"#));
    let asked = || figure(r#"contact_sync_look_aside_seconds_count{provider="SALESFORCE"}"#);
    let latency = || figure(r#"contact_sync_call_seconds_sum{method="CallerService/MatchCaller"}"#);

    let counted = async {
        arrived(&gate, 2).await;
        assert!(is(figure("contact_sync_look_asides_waiting"), 1) && is(asked(), 0));
    };
    let (answer, ()) = tokio::join!(scene.call(NORA), counted);

    assert_eq!(scene.told(&answer), Outcome::TimedOut);
    assert!(is(total("timed_out"), 1) && is(total("nothing_found"), 0));
    assert!(latency() < 1.0, "{}", latency());
    gate.open();
    let over = "select count(*) from look_asides where asked = answered";
    eventually("an answer of the CRM", async || scene.test.db.number(over).await == 1).await;
    assert!(is(asked(), 1));
    scene.seconds(6);
    scene.call(NILS).await;
    assert!(is(total("nothing_found"), 1) && is(asked(), 2) && is(figure("contact_sync_look_asides_waiting"), 0));
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
    let scene = Scene::salesforce().await;
    let _gate = scene.test.salesforce.faults().gate("SystemModstamp+DESC", 0, GateAt::Response).unwrap();
    let numbers: Vec<String> = (0..8).map(|n| format!("+1310555{:04}", 3_000 + n)).collect();
    let waiting = || figure("contact_sync_look_asides_waiting");

    let calls = async { join_all(numbers.iter().map(|number| scene.call(number))).await };
    tokio::select! {
        answers = calls => panic!("{} calls did not wait", answers.len()),
        () = eventually("eight calls that wait", async || is(waiting(), 8)) => {}
    }

    eventually("their places", async || is(waiting(), 0)).await;
    let in_vain = figure(r#"contact_sync_look_asides_total{provider="SALESFORCE",outcome="timed_out"}"#);
    assert!(is(in_vain, 0), "none of them has waited until its time was up");
    assert_eq!(scene.told(&scene.call("+13105554000").await), Outcome::TimedOut);
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
    let before = scene.lease_number().await;
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
    assert_eq!(scene.lease_number().await, before + 1, "by the run's lease, and no other");
}

#[tokio::test]
async fn turn_of_hints_serves_a_call_that_comes_meanwhile() {
    let scene = Scene::zendesk().await;
    let known = scene.test.user("Known", "+13105559999");
    assert_eq!(scene.test.sync_due().await, 1);
    let event = event(known.parse().unwrap(), scene.test.clock.now());
    HintWriter::new(&scene.test, &scene.account, &scene.integration).write(&[event]).await;
    scene.test.user("Nora", NORA);
    let before = scene.lease_number().await;
    let gate = scene.test.zendesk.faults().gate("/show_many", 0, GateAt::Response).unwrap();
    let turn = drain_beside(&scene.test.app);
    arrived(&gate, 1).await;

    let opened = async {
        let asked = "select count(*) from look_asides where asked > answered";
        eventually("a call that waits", async || scene.test.db.number(asked).await == 1).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(scene.call(NORA), opened);

    assert_eq!((scene.told(&answer), name_of(&answer)), (Outcome::Found, "Nora"));
    assert_eq!(turn.ended().await, 1);
    assert_eq!(scene.lease_number().await, before + 2, "taken by the turn and given back, and no more");
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

/// Who has lost the lease brings nothing, and does not say that the CRM has nobody.
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
    let failed = "select count(*) from look_asides where asked = answered and has_failed";
    eventually("a look that is given up", async || scene.test.db.number(failed).await == 1).await;
    assert_eq!(scene.test.rows(&scene.account, "external_refs").await, 0);
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
