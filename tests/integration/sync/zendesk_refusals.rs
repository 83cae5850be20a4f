//! What Zendesk refuses: each refusal has a meaning, costs a bounded number of requests, loses
//! nothing, and is told in words.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use contact_sync::{domain::clock::Clock, rpc::pb};
use crm_simulator::faults::Fault;
use serde_json::json;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{ask_trigger, column, fail, live_contacts, pages, param, time},
    support::{TestApp, error_of},
};

pub const PERIOD: TimeDelta = TimeDelta::minutes(30);
/// Tries of one request in these tests.
pub const TRIES: u32 = 3;
/// Requests for smaller pages that do not count as tries: 1,000 records come down to 31, and once
/// more.
pub const HALVINGS_MAX: usize = 6;

/// A copy of a few users, and a change that the next run shall bring.
pub struct Copied {
    pub test: TestApp,
    pub account: String,
    pub integration: String,
    pub checkpoint: String,
    pub new: i64,
}

impl Copied {
    pub async fn make() -> Self {
        let test = TestApp::start_with(|config| config.worker.attempts_max = TRIES).await;
        test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
        test.zendesk.generate_people(20, 1).unwrap();
        let (account, integration) = test.synced().await;
        let checkpoint = column(&test, &integration, "checkpoint").await;
        let mut copied = Self { test, account, integration, checkpoint, new: 0 };
        copied.change();
        copied
    }

    /// Something new for the next run; half an hour passes.
    pub fn change(&mut self) {
        self.test.pass(PERIOD);
        self.new = self.test.zendesk.create_user(&json!({"name": "New", "phone": "+13108675302"})).unwrap();
        self.test.zendesk.clear_requests();
    }

    /// The run that is due, as it ended.
    pub async fn run_due(&self) -> pb::SyncRun {
        assert_eq!(self.test.sync_due().await, 1, "nothing was due");
        self.test.last_run(&self.account, &self.integration).await
    }

    pub async fn state(&self) -> pb::IntegrationState {
        self.test.integration(&self.account, &self.integration).await.state()
    }

    /// The run failed, said why, tried so often, moved nothing, and Ann is still named.
    pub async fn assert_failed(
        &self,
        run: &pb::SyncRun,
        expected_reason: &str,
        requests: RangeInclusive<usize>,
        what: &str,
    ) {
        assert_eq!(run.state(), pb::SyncRunState::Failed, "{what}");
        assert!(error_of(run).starts_with(expected_reason), "{what}: {}", error_of(run));
        assert!(!error_of(run).contains("http") && !error_of(run).contains("secret"), "{what}: {}", error_of(run));
        assert!(requests.contains(&pages(&self.test).len()), "{what}: {} requests", pages(&self.test).len());
        assert_eq!(column(&self.test, &self.integration, "checkpoint").await, self.checkpoint, "{what}");
        let found = self.test.look_up(&self.account, "+13108675301").await;
        assert_eq!(found.outcome(), pb::MatchOutcome::Matched, "{what}");
        assert_holds(&self.test).await;
    }

    /// The CRM is well again: the next run brings everything.
    pub async fn assert_recovers(&self, what: &str) {
        self.test.zendesk.faults().clear();
        self.test.pass(PERIOD);
        let run = self.run_due().await;
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", error_of(&run));
        assert_eq!(self.state().await, pb::IntegrationState::Active, "{what}");
        assert_is_a_true_copy(&self.test, &self.integration).await;
        assert_holds(&self.test).await;
    }
}

/// What is refused twice, minutes apart, holds the integration and is looked at hourly.
#[tokio::test]
async fn twice_refused_integration_is_held_and_probed() {
    for (fault, expected, hint, requests) in [
        // A token that was brought is shown twice: vendors refuse a good one now and then.
        (Fault::Unauthorized, "CREDENTIALS_REFUSED", "bring others", 2),
        (Fault::ForbiddenRole, "PERMISSION_MISSING", "administrator", 1),
        (Fault::ForbiddenScope, "PERMISSION_MISSING", "scope", 1),
    ] {
        let copied = Copied::make().await;
        let what = format!("{fault:?}");
        fail(&copied.test, 0, None, fault);

        let run = copied.run_due().await;

        copied.assert_failed(&run, expected, requests..=requests, &what).await;
        assert_eq!(copied.state().await, pb::IntegrationState::Active, "{what}: one look is no look");
        copied.test.second_look().await;
        let integration = copied.test.integration(&copied.account, &copied.integration).await;
        assert_eq!(integration.state(), pb::IntegrationState::AuthFailed, "{what}");
        assert!(integration.state_detail.contains(hint), "{what}: {}", integration.state_detail);
        assert_eq!(time(integration.next_due_time), copied.test.clock.now() + TimeDelta::hours(1), "{what}");
        let found = copied.test.look_up(&copied.account, "+13108675302").await;
        assert_eq!(found.outcome(), pb::MatchOutcome::NotKnownYet, "{what}");
        assert_eq!(found.sources[0].state(), pb::IntegrationState::AuthFailed);
        assert!(!found.complete && !found.sources[0].note.is_empty(), "{what}");

        // Looked at hourly, whatever a trigger finds meanwhile.
        let asked = ask_trigger(&copied.test, &copied.account, &copied.integration, |_| {}).await.unwrap();
        assert!(!asked.already_running, "{what}");
        assert_eq!(copied.state().await, pb::IntegrationState::AuthFailed, "{what}: a trigger is no success");
        assert_eq!(copied.run_due().await.state(), pb::SyncRunState::Failed, "{what}");
        assert_eq!(copied.state().await, pb::IntegrationState::AuthFailed, "{what}");
        copied.test.pass(TimeDelta::minutes(59));
        assert_eq!(copied.test.sync_due().await, 0, "{what}");
        copied.test.zendesk.faults().clear();
        copied.test.pass(TimeDelta::minutes(1));
        assert_eq!(copied.run_due().await.state(), pb::SyncRunState::Succeeded, "{what}");
        copied.assert_recovers(&what).await;
    }
}

/// Credentials that are revoked between two pages keep the first page.
#[tokio::test]
async fn credentials_revoked_midway_keep_first_page() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_500, 2).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    fail(&test, 1, None, Fault::Unauthorized);

    test.sync_due().await;
    test.second_look().await;

    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::AuthFailed);
    assert_eq!(live_contacts(&test, &account).await, 1_000);
    assert_eq!(column(&test, &integration, "checkpoint").await, "");
}

/// An unknown organisation pauses on the third run, and a trigger tries again.
#[tokio::test]
async fn unknown_organization_pauses_until_trigger() {
    let copied = Copied::make().await;
    fail(&copied.test, 0, None, Fault::NotFound);

    for n in 1..=3 {
        let run = copied.run_due().await;
        copied.assert_failed(&run, "ORGANIZATION_NOT_FOUND", n..=n, "404").await;
        let held = copied.state().await == pb::IntegrationState::Paused;
        assert_eq!(held, n == 3);
        copied.test.pass(PERIOD);
    }
    assert_eq!(copied.test.sync_due().await, 0);

    copied.test.zendesk.faults().clear();
    let run = copied.test.trigger(&copied.account, &copied.integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded);
    assert_eq!(copied.state().await, pb::IntegrationState::Active);
    assert_is_a_true_copy(&copied.test, &copied.integration).await;
}

/// A cursor that is refused starts the window again, and loses and doubles nothing.
#[tokio::test]
async fn refused_cursor_restarts_window_losing_nothing() {
    let mut copied = Copied::make().await;
    fail(&copied.test, 0, Some(1), Fault::Unprocessable);

    let run = copied.run_due().await;

    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    let asked = pages(&copied.test);
    assert_eq!(asked.len(), 2);
    assert!(param(&asked[0], "cursor").is_some());
    assert_eq!(param(&asked[1], "start_time"), Some("0"));
    assert_eq!(run.counts.unwrap().created, 1);
    assert_is_a_true_copy(&copied.test, &copied.integration).await;

    // Refused for ever: bounded, and told.
    copied.checkpoint = column(&copied.test, &copied.integration, "checkpoint").await;
    copied.change();
    fail(&copied.test, 0, None, Fault::Unprocessable);
    let run = copied.run_due().await;
    assert_eq!(run.state(), pb::SyncRunState::Failed);
    assert!(pages(&copied.test).len() <= 4, "{} requests", pages(&copied.test).len());
    assert_eq!(column(&copied.test, &copied.integration, "checkpoint").await, copied.checkpoint);
    copied.assert_recovers("422").await;
}

/// A refused resume point falls back to the checkpoint.
#[tokio::test]
async fn refused_resume_point_falls_back_to_checkpoint() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(10, 3).unwrap();
    let (account, integration) = test.synced().await;
    let checkpoint = column(&test, &integration, "checkpoint").await;
    test.pass(PERIOD);
    let before = test.clock.now().timestamp() - 60;
    test.zendesk.generate_in_one_second(1_500, 4, before).unwrap();
    // The second page is refused once, whatever it is asked with.
    fail(&test, 1, Some(1), Fault::Unprocessable);
    test.zendesk.clear_requests();

    assert_eq!(test.sync_due().await, 1);

    assert_eq!(test.last_run(&account, &integration).await.state(), pb::SyncRunState::Succeeded);
    let asked = pages(&test);
    assert!(asked.iter().all(|query| param(query, "start_time").is_none()), "{asked:?}");
    assert_eq!(asked[0], asked[2]);
    assert!(!checkpoint.is_empty());
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// A rate limit is waited for as long as Zendesk says.
#[tokio::test]
async fn rate_limit_waits_as_long_as_told() {
    for (fault, at_least) in [
        (Fault::RateLimited { retry_after_seconds: Some(1) }, Duration::from_secs(1)),
        (Fault::Unavailable { retry_after_seconds: Some(1) }, Duration::from_secs(1)),
        (Fault::RateLimited { retry_after_seconds: Some(0) }, Duration::ZERO),
        (Fault::RateLimited { retry_after_seconds: None }, Duration::ZERO),
    ] {
        let copied = Copied::make().await;
        // More often than other failures may happen: a rate limit is no failure.
        let times = if at_least.is_zero() { TRIES + 2 } else { 1 };
        fail(&copied.test, 0, Some(times), fault.clone());
        let began = Instant::now();

        let run = copied.run_due().await;

        assert!(began.elapsed() >= at_least, "{fault:?}");
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{fault:?}: {}", error_of(&run));
        assert_eq!(pages(&copied.test).len(), times as usize + 1, "{fault:?}");
        assert_is_a_true_copy(&copied.test, &copied.integration).await;
    }
}

/// A rate limit that never ends fails the run after a bounded number of requests.
#[tokio::test]
async fn endless_rate_limit_fails_after_bounded_requests() {
    let copied = Copied::make().await;
    fail(&copied.test, 0, None, Fault::RateLimited { retry_after_seconds: Some(0) });

    let run = copied.run_due().await;

    copied.assert_failed(&run, "RATE_LIMITED", 21..=21, "429 for ever").await;
    copied.assert_recovers("429").await;
}

/// A long Retry-After ends the run, and the next one comes when it is over.
#[tokio::test]
async fn long_retry_after_ends_run_until_over() {
    for (seconds, waits) in [(600, 600), (4_000_000_000, 3_600)] {
        let copied = Copied::make().await;
        fail(&copied.test, 0, Some(1), Fault::RateLimited { retry_after_seconds: Some(seconds) });

        let run = copied.run_due().await;

        copied.assert_failed(&run, "RATE_LIMITED", 1..=1, "a long Retry-After").await;
        let integration = copied.test.integration(&copied.account, &copied.integration).await;
        assert_eq!(integration.state(), pb::IntegrationState::QuotaPaused);
        assert_eq!(time(integration.next_due_time), copied.test.clock.now() + TimeDelta::seconds(waits));
        let found = copied.test.look_up(&copied.account, "+13108675302").await;
        assert_eq!((found.outcome(), found.complete), (pb::MatchOutcome::NotKnownYet, false));

        copied.test.pass(TimeDelta::seconds(waits - 1));
        assert_eq!(copied.test.sync_due().await, 0);
        copied.test.pass(TimeDelta::seconds(1));
        assert_eq!(copied.run_due().await.state(), pb::SyncRunState::Succeeded);
        assert_eq!(copied.state().await, pb::IntegrationState::Active);
        assert_is_a_true_copy(&copied.test, &copied.integration).await;
        assert_holds(&copied.test).await;
    }
}
