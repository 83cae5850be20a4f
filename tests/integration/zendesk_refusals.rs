//! What Zendesk refuses, and how its answers break: each has a meaning, costs a bounded number of requests, loses nothing, and is
//! told in words.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use contact_sync::{domain::clock::Clock, rpc::pb, simulator::faults::{Fault, Rule}};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    integrity::assert_holds,
    oracle::assert_is_a_true_copy,
    steps::{Beside, EXPORT, ask_disable, ask_trigger, column, eventually, fail, live_contacts, pages, param, time},
    support::{TestApp, reason},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);
/// Tries of one request in these tests.
const TRIES: u32 = 3;

/// A copy of a few users, and a change that the next pass shall bring.
struct Copied {
    test: TestApp,
    account: String,
    integration: String,
    checkpoint: String,
    new: i64,
}

impl Copied {
    async fn make() -> Self {
        let test = TestApp::start_with(|config| config.worker.attempts_max = TRIES).await;
        test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
        test.zendesk.generate_people(20, 1).unwrap();
        let (account, integration) = test.synced().await;
        let checkpoint = column(&test, &integration, "checkpoint").await;
        let mut copied = Self { test, account, integration, checkpoint, new: 0 };
        copied.change();
        copied
    }

    /// Something new for the next pass; half an hour passes.
    fn change(&mut self) {
        self.test.pass(PERIOD);
        self.new = self.test.zendesk.create_user(&json!({"name": "New", "phone": "+13108675302"})).unwrap();
        self.test.zendesk.clear_requests();
    }

    /// Runs the pass that is due; the run as it ended.
    async fn pass(&self) -> pb::SyncRun {
        assert_eq!(self.test.sync_due().await, 1, "nothing was due");
        self.test.last_run(&self.account, &self.integration).await
    }

    async fn state(&self) -> pb::IntegrationState {
        self.test.integration(&self.account, &self.integration).await.state()
    }

    /// The pass failed, said why, tried so often, moved nothing, and Ann is still named.
    async fn assert_failed(&self, run: &pb::SyncRun, expected_reason: &str, requests: usize, what: &str) {
        assert_eq!(run.state(), pb::SyncRunState::Failed, "{what}");
        assert!(run.error.starts_with(expected_reason), "{what}: {}", run.error);
        assert!(!run.error.contains("http") && !run.error.contains("secret"), "{what}: {}", run.error);
        assert_eq!(pages(&self.test).len(), requests, "{what}: requests");
        assert_eq!(column(&self.test, &self.integration, "checkpoint").await, self.checkpoint, "{what}");
        let found = self.test.look_up(&self.account, "+13108675301").await;
        assert_eq!(found.outcome(), pb::MatchOutcome::Matched, "{what}");
        assert_holds(&self.test).await;
    }

    /// The CRM is well again: the next pass brings everything.
    async fn assert_recovers(&self, what: &str) {
        self.test.zendesk.faults().clear();
        self.test.pass(PERIOD);
        let run = self.pass().await;
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", run.error);
        assert_eq!(self.state().await, pb::IntegrationState::Active, "{what}");
        assert_is_a_true_copy(&self.test, &self.integration).await;
        assert_holds(&self.test).await;
    }
}

#[tokio::test]
async fn refused_credentials_are_asked_once_and_hold_the_integration_until_they_are_renewed() {
    for (fault, expected, hint) in [
        (Fault::Unauthorized, "CREDENTIALS_REFUSED", "UpdateSync"),
        (Fault::ForbiddenRole, "PERMISSION_MISSING", "administrator"),
        (Fault::ForbiddenScope, "PERMISSION_MISSING", "scope"),
    ] {
        let copied = Copied::make().await;
        let what = format!("{fault:?}");
        fail(&copied.test, 0, None, fault);

        let run = copied.pass().await;

        copied.assert_failed(&run, expected, 1, &what).await;
        let integration = copied.test.integration(&copied.account, &copied.integration).await;
        assert_eq!(integration.state(), pb::IntegrationState::AuthFailed, "{what}");
        assert!(integration.state_detail.contains(hint), "{what}: {}", integration.state_detail);
        assert_eq!(integration.next_due_time, None, "{what}");
        let found = copied.test.look_up(&copied.account, "+13108675302").await;
        assert_eq!(found.outcome(), pb::MatchOutcome::NotKnownYet, "{what}");
        assert_eq!(found.sources[0].state(), pb::IntegrationState::AuthFailed);
        assert!(!found.complete && !found.sources[0].note.is_empty(), "{what}");

        // Nothing tries again by itself.
        copied.test.pass(TimeDelta::hours(20));
        assert_eq!(copied.test.sync_due().await, 0, "{what}");
        assert_eq!(pages(&copied.test).len(), 1, "{what}");
        let refused = ask_trigger(&copied.test, &copied.account, &copied.integration, |_| {}).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (tonic::Code::FailedPrecondition, "AUTH_FAILED".to_owned()));
    }
}

#[tokio::test]
async fn credentials_revoked_between_two_pages_keep_the_first_page() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_500, 2).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    fail(&test, 1, None, Fault::Unauthorized);

    test.sync_due().await;

    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::AuthFailed);
    assert_eq!(live_contacts(&test, &account).await, 1_000);
    assert_eq!(column(&test, &integration, "checkpoint").await, "");
}

#[tokio::test]
async fn an_unknown_organisation_pauses_on_the_third_pass_and_a_trigger_tries_again() {
    let copied = Copied::make().await;
    fail(&copied.test, 0, None, Fault::NotFound);

    for n in 1..=3 {
        let run = copied.pass().await;
        copied.assert_failed(&run, "ORGANIZATION_NOT_FOUND", n, "404").await;
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

#[tokio::test]
async fn a_cursor_that_is_refused_starts_the_window_again_and_loses_and_doubles_nothing() {
    let mut copied = Copied::make().await;
    fail(&copied.test, 0, Some(1), Fault::Unprocessable);

    let run = copied.pass().await;

    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", run.error);
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
    let run = copied.pass().await;
    assert_eq!(run.state(), pb::SyncRunState::Failed);
    assert!(pages(&copied.test).len() <= 4, "{} requests", pages(&copied.test).len());
    assert_eq!(column(&copied.test, &copied.integration, "checkpoint").await, copied.checkpoint);
    copied.assert_recovers("422").await;
}

#[tokio::test]
async fn a_refused_resume_point_falls_back_to_the_checkpoint() {
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

#[tokio::test]
async fn a_rate_limit_is_waited_for_as_long_as_zendesk_says() {
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

        let run = copied.pass().await;

        assert!(began.elapsed() >= at_least, "{fault:?}");
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{fault:?}: {}", run.error);
        assert_eq!(pages(&copied.test).len(), times as usize + 1, "{fault:?}");
        assert_is_a_true_copy(&copied.test, &copied.integration).await;
    }
}

#[tokio::test]
async fn a_rate_limit_that_never_ends_fails_the_pass_after_a_bounded_number_of_requests() {
    let copied = Copied::make().await;
    fail(&copied.test, 0, None, Fault::RateLimited { retry_after_seconds: Some(0) });

    let run = copied.pass().await;

    copied.assert_failed(&run, "RATE_LIMITED", 21, "429 for ever").await;
    copied.assert_recovers("429").await;
}

/// What passes by itself, and the reason that is told if it does not.
fn breakages() -> Vec<(Fault, &'static str)> {
    let unreachable = "CRM_UNREACHABLE";
    let unreadable = "CRM_ANSWER_UNREADABLE";
    vec![
        (Fault::ServerError, unreachable),
        (Fault::Unavailable { retry_after_seconds: None }, unreachable),
        (Fault::Html, unreadable),
        (Fault::Truncate, unreadable),
        (Fault::Reset { after_bytes: None }, unreachable),
        (Fault::Reset { after_bytes: Some(10) }, unreachable),
        (Fault::Reset { after_bytes: Some(2_000) }, unreachable),
        (Fault::GzipBomb { mib: 64 }, unreadable),
        (Fault::Oversized { mib: 64 }, unreadable),
        (Fault::Redirect { location: "http://127.0.0.1:9/".into(), status: 301 }, unreadable),
        (Fault::Redirect { location: "http://127.0.0.1:9/".into(), status: 307 }, unreadable),
        (patch(&[("/users", Value::Null)]), unreadable),
        (patch(&[("/users", json!({"0": 1}))]), unreadable),
        (patch(&[("/end_of_stream", json!("yes"))]), unreadable),
        (Fault::Patch { set: [].into(), remove: vec!["/end_of_stream".into()] }, unreadable),
        (Fault::Patch { set: [].into(), remove: vec!["/users".into()] }, unreadable),
        (
            Fault::Patch {
                set: [("/end_of_stream".to_owned(), json!(false))].into(),
                remove: vec!["/after_cursor".into()],
            },
            unreadable,
        ),
    ]
}

fn patch(set: &[(&str, Value)]) -> Fault {
    let set = set.iter().map(|(pointer, value)| ((*pointer).to_owned(), value.clone())).collect();
    Fault::Patch { set, remove: Vec::new() }
}

#[tokio::test]
async fn an_answer_that_breaks_once_is_asked_for_again() {
    let mut copied = Copied::make().await;
    for (fault, _) in breakages() {
        let what = format!("{fault:?}");
        fail(&copied.test, 0, Some(1), fault);

        let run = copied.pass().await;

        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", run.error);
        assert_eq!(run.error, "", "{what}: a success shows no old failure");
        assert_eq!(pages(&copied.test).len(), 2, "{what}");
        assert_is_a_true_copy(&copied.test, &copied.integration).await;
        copied.test.zendesk.faults().clear();
        copied.test.zendesk.delete_user(copied.new).unwrap();
        copied.change();
    }
    assert_holds(&copied.test).await;
}

#[tokio::test]
async fn an_answer_that_stays_broken_fails_the_pass_and_loses_nothing() {
    let mut copied = Copied::make().await;
    for (fault, expected) in breakages() {
        let what = format!("{fault:?}");
        fail(&copied.test, 0, None, fault);

        let run = copied.pass().await;

        copied.assert_failed(&run, expected, TRIES as usize, &what).await;
        // Fresh enough still: a failed pass is no reason for alarm before three periods are over.
        assert_eq!(copied.state().await, pb::IntegrationState::Active, "{what}");
        copied.assert_recovers(&what).await;
        copied.checkpoint = column(&copied.test, &copied.integration, "checkpoint").await;
        copied.test.zendesk.delete_user(copied.new).unwrap();
        copied.change();
    }
}

#[tokio::test]
async fn a_bomb_takes_a_bounded_amount_of_memory() {
    let copied = Copied::make().await;
    let before = peak_kib();
    for fault in [Fault::GzipBomb { mib: 256 }, Fault::Oversized { mib: 512 }] {
        fail(&copied.test, 0, None, fault);
        let run = copied.pass().await;
        assert!(run.error.contains("32 MiB"), "{}", run.error);
        copied.test.zendesk.faults().clear();
        copied.test.pass(PERIOD);
    }

    let grown = peak_kib() - before;
    assert!(grown < 160 * 1024, "the peak grew by {grown} KiB");
}

/// The most memory that this process has used; the simulator runs in it, and keeps no bodies.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn slow_or_oddly_labelled_answers_are_read() {
    let mut copied = Copied::make().await;
    for fault in [
        Fault::Drip { chunk_bytes: 500, every_ms: 2 },
        Fault::Delay { ms: 300 },
        Fault::ContentType { value: "text/html".into() },
        Fault::ContentType { value: "nonsense".into() },
        Fault::Oversized { mib: 8 },
        patch(&[("/users/0/surprise", json!([{"deep": [1, 2, {}]}])), ("/more", json!(1))]),
    ] {
        let what = format!("{fault:?}");
        fail(&copied.test, 0, None, fault);
        let run = copied.pass().await;
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", run.error);
        assert_eq!(pages(&copied.test).len(), 1, "{what}");
        assert_is_a_true_copy(&copied.test, &copied.integration).await;
        copied.test.zendesk.faults().clear();
        copied.test.zendesk.delete_user(copied.new).unwrap();
        copied.change();
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    static TOUCHED: AtomicUsize = AtomicUsize::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/latest/meta-data", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            TOUCHED.fetch_add(1, Ordering::SeqCst);
        }
    });
    let copied = Copied::make().await;
    for status in [301, 302, 303, 307, 308] {
        fail(&copied.test, 0, Some(TRIES), Fault::Redirect { location: location.clone(), status });
        copied.pass().await;
        copied.test.pass(PERIOD);
    }

    assert_eq!(TOUCHED.load(Ordering::SeqCst), 0);
    copied.assert_recovers("redirect").await;
}

#[tokio::test]
async fn a_wrong_clock_of_the_crm_never_promises_the_future() {
    let copied = Copied::make().await;
    for (skew, expected) in [
        (86_400 * 365, TimeDelta::zero()),
        (30, TimeDelta::seconds(-30)),
        (-86_400, TimeDelta::seconds(-86_460)),
    ] {
        fail(&copied.test, 0, None, Fault::DateSkew { seconds: skew });
        copied.test.pass(PERIOD);
        assert_eq!(copied.test.sync_due().await, 1);
        copied.test.zendesk.faults().clear();

        let known_through = time(copied.test.integration(&copied.account, &copied.integration).await.known_through);

        assert_eq!(known_through - copied.test.clock.now(), expected, "skewed by {skew} s");
    }
}

#[tokio::test]
async fn a_poisoned_row_is_rejected_alone_whatever_is_wrong_with_it() {
    let fields = ["id", "name", "email", "phone", "role", "active", "updated_at", "suspended", "url"];
    let poisons = [
        Value::Null,
        json!(0),
        json!(-1),
        json!(1.5),
        json!(99_999_999_999_999_999_999_999.0),
        json!(""),
        json!("\u{0}"),
        json!("x".repeat(70_000)),
        json!([]),
        json!({}),
        json!(true),
        json!("2026-13-45T99:99:99Z"),
    ];
    let test = TestApp::start().await;
    let rows = fields.len() * poisons.len();
    for n in 0..rows {
        let n = 100 + n;
        test.zendesk.create_user(&json!({"name": format!("U{n}"), "phone": format!("+13105551{n}")})).unwrap();
    }
    test.zendesk.create_user(&json!({"name": "Sound", "phone": "+13108675301"})).unwrap();
    let places = fields.iter().flat_map(|field| poisons.iter().map(move |poison| (*field, poison)));
    let set: Vec<(String, Value)> =
        places.enumerate().map(|(row, (field, poison))| (format!("/users/{row}/{field}"), poison.clone())).collect();
    let whole_rows = [json!(null), json!(7), json!("user"), json!([]), json!({})];
    let identities = whole_rows.iter().enumerate().map(|(n, row)| (format!("/identities/{n}"), row.clone()));
    fail(&test, 0, Some(1), Fault::Patch { set: set.into_iter().chain(identities).collect(), remove: Vec::new() });

    let (account, integration) = test.synced().await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", run.error);
    let counts = run.counts.unwrap();
    assert_eq!(counts.read, i64::try_from(rows).unwrap() + 1);
    assert!(counts.rejected > 30 && counts.created > 30, "{counts:?}");
    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::Matched);
    assert_holds(&test).await;

    // When the CRM has mended them, a full pass brings them all.
    let initial = |request: &mut pb::TriggerSyncRequest| request.set_kind(pb::SyncKind::Initial);
    for user in test.zendesk.oracle() {
        test.pass(TimeDelta::seconds(1));
        test.zendesk.update_user(user.id, &json!({"notes": "mended"})).unwrap();
    }
    test.pass(PERIOD);
    ask_trigger(&test, &account, &integration, initial).await.unwrap();
    test.sync_due().await;
    test.db.execute("delete from external_refs where not is_live and contact_id is null").await;
    let differences = crate::oracle::differences(&test, &integration, "US").await;
    let of_known_users = differences.iter().filter(|difference| !difference.contains("not in the CRM"));
    assert_eq!(of_known_users.count(), 0, "{differences:?}");
}

#[tokio::test]
async fn an_envelope_without_what_is_not_needed_is_read() {
    let mut copied = Copied::make().await;
    for fault in [
        patch(&[("/identities", Value::Null)]),
        Fault::Patch { set: [].into(), remove: vec!["/identities".into()] },
        patch(&[("/after_cursor", Value::Null)]),
        patch(&[("/after_cursor", json!(""))]),
        Fault::Patch { set: [].into(), remove: vec!["/after_cursor".into()] },
    ] {
        let what = format!("{fault:?}");
        fail(&copied.test, 0, Some(TRIES), fault);

        let run = copied.pass().await;

        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", run.error);
        assert_ne!(column(&copied.test, &copied.integration, "checkpoint").await, "", "{what}");
        copied.assert_recovers(&what).await;
        copied.test.zendesk.delete_user(copied.new).unwrap();
        copied.change();
    }
}

#[tokio::test]
async fn a_request_that_hangs_is_given_up_and_asked_again() {
    let test = TestApp::start_with(|config| {
        config.worker.attempts_max = 2;
        config.providers.zendesk.timeout_seconds = 1;
    })
    .await;
    test.zendesk.generate_people(50, 1).unwrap();
    let (account, integration) = test.synced().await;
    // Silence; a body that stops in the middle; a body that comes so slowly that it never ends.
    let dripping = Fault::Drip { chunk_bytes: 100, every_ms: 900 };
    for fault in [Fault::Hang, Fault::Drip { chunk_bytes: 1_000, every_ms: 5_000 }, dripping] {
        let what = format!("{fault:?}");
        test.pass(PERIOD);
        test.zendesk.faults().add(Rule { skip: 1, ..Rule::once(EXPORT, fault.clone()) }).unwrap();
        test.zendesk.generate_in_one_second(1_050, 2, test.clock.now().timestamp() - 100).unwrap();
        test.zendesk.clear_requests();

        let began = Instant::now();
        assert_eq!(test.sync_due().await, 1);

        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        let run = test.last_run(&account, &integration).await;
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", run.error);
        assert_eq!(pages(&test).len(), 3, "{what}");
        test.zendesk.faults().clear();
        assert_is_a_true_copy(&test, &integration).await;
    }

    fail(&test, 0, None, Fault::Hang);
    test.pass(PERIOD);
    test.zendesk.clear_requests();
    assert_eq!(test.sync_due().await, 1);
    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Failed);
    assert!(run.error.contains("did not answer in time"), "{}", run.error);
    assert_eq!(pages(&test).len(), 2);
    assert_holds(&test).await;
}

#[tokio::test]
async fn a_request_that_hangs_does_not_hold_up_a_disable() {
    let test = TestApp::start_with(|config| {
        config.worker.lease_seconds = 3;
        config.worker.heartbeat_seconds = 1;
    })
    .await;
    test.zendesk.generate_people(5, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    fail(&test, 0, None, Fault::Hang);
    let sync = Beside::start(&test.app);
    eventually("the request", async || test.zendesk.requests().count_of(EXPORT) == 1).await;

    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();

    let began = Instant::now();
    assert_eq!(sync.ended().await, 1);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(test.last_run(&account, &integration).await.state(), pb::SyncRunState::Cancelled);
    assert_holds(&test).await;
}

#[tokio::test]
async fn a_retry_after_of_the_far_future_does_not_hold_up_a_disable() {
    let test = TestApp::start_with(|config| {
        config.worker.lease_seconds = 3;
        config.worker.heartbeat_seconds = 1;
    })
    .await;
    test.zendesk.generate_people(5, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    fail(&test, 0, None, Fault::RateLimited { retry_after_seconds: Some(4_000_000_000) });
    let sync = Beside::start(&test.app);
    eventually("the wait", async || {
        test.last_run(&account, &integration).await.phase.contains("rate limit")
    })
    .await;
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::InitialSync);

    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();

    assert_eq!(sync.ended().await, 1);
    assert_holds(&test).await;
}
