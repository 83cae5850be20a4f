//! How Zendesk's answers break, dawdle and lie: asked for again, bounded, never followed elsewhere,
//! and never taken for the truth when they are not.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use contact_sync::{
    domain::{clock::Clock, provider},
    rpc::pb,
};
use crm_simulator::faults::{Fault, FaultRule};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{Beside, EXPORT, ask_disable, ask_trigger, column, eventually, fail, pages, time},
    support::{TestApp, error_of},
    sync::zendesk_refusals::{Copied, HALVINGS_MAX, PERIOD, TRIES},
};

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
        (Fault::GzipBomb { mib: 64 }, unreachable),
        (Fault::Oversized { mib: 64 }, unreachable),
        (Fault::Redirect { location: "http://127.0.0.1:9/".into(), status: 301 }, "CRM_HOST_MOVED"),
        (Fault::Redirect { location: "http://127.0.0.1:9/".into(), status: 307 }, "CRM_HOST_MOVED"),
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

/// An answer that breaks once is asked for again.
#[tokio::test]
async fn briefly_broken_answer_is_asked_again() {
    let mut copied = Copied::make().await;
    for (fault, _) in breakages() {
        let what = format!("{fault:?}");
        fail(&copied.test, 0, Some(1), fault);

        let run = copied.run_due().await;

        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", error_of(&run));
        assert_eq!(error_of(&run), "", "{what}: a success shows no old failure");
        assert_eq!(pages(&copied.test).len(), 2, "{what}");
        assert_is_a_true_copy(&copied.test, &copied.integration).await;
        copied.test.zendesk.faults().clear();
        copied.test.zendesk.delete_user(copied.new).unwrap();
        copied.change();
    }
    assert_holds(&copied.test).await;
}

/// An answer that stays broken fails the run, and loses nothing.
#[tokio::test]
async fn lastingly_broken_answer_fails_run_losing_nothing() {
    let mut copied = Copied::make().await;
    for (fault, expected) in breakages() {
        let what = format!("{fault:?}");
        // What is too large is asked for in smaller and smaller pages first.
        let halvings_max =
            if matches!(fault, Fault::GzipBomb { .. } | Fault::Oversized { .. }) { HALVINGS_MAX } else { 0 };
        fail(&copied.test, 0, None, fault);

        let run = copied.run_due().await;

        let tries = TRIES as usize;
        copied.assert_failed(&run, expected, tries..=tries + halvings_max, &what).await;
        // Fresh enough still: a failed run is no reason for alarm before three periods are over.
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
        let run = copied.run_due().await;
        assert!(error_of(&run).contains("32 MiB"), "{}", error_of(&run));
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
        let run = copied.run_due().await;
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", error_of(&run));
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
        copied.run_due().await;
        copied.test.pass(TimeDelta::hours(1));
    }

    assert_eq!(TOUCHED.load(Ordering::SeqCst), 0);
    copied.assert_recovers("redirect").await;
}

/// A wrong clock of the CRM never promises the future.
#[tokio::test]
async fn crms_wrong_clock_never_promises_future() {
    let copied = Copied::make().await;
    for (skew, expected) in
        [(86_400 * 365, TimeDelta::zero()), (30, TimeDelta::seconds(-30)), (-86_400, TimeDelta::seconds(-86_460))]
    {
        fail(&copied.test, 0, None, Fault::DateSkew { seconds: skew });
        copied.test.pass(PERIOD);
        assert_eq!(copied.test.sync_due().await, 1);
        copied.test.zendesk.faults().clear();

        let known_through = time(copied.test.integration(&copied.account, &copied.integration).await.known_through);

        assert_eq!(known_through - copied.test.clock.now(), expected, "skewed by {skew} s");
    }
}

/// A poisoned row is rejected alone, whatever is wrong with it.
#[tokio::test]
async fn poisoned_row_is_rejected_alone() {
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
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    let counts = run.counts.unwrap();
    assert_eq!(counts.read, i64::try_from(rows).unwrap() + 1);
    assert!(counts.rejected > 20 && counts.created > 60, "{counts:?}");
    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::Matched);
    assert_holds(&test).await;

    // When the CRM has mended them, a full run brings them all.
    let initial = |request: &mut pb::TriggerSyncRequest| request.set_kind(pb::SyncKind::Initial);
    for user in test.zendesk.oracle() {
        test.pass(TimeDelta::seconds(1));
        test.zendesk.update_user(user.id, &json!({"notes": "mended"})).unwrap();
    }
    test.pass(PERIOD);
    ask_trigger(&test, &account, &integration, initial).await.unwrap();
    test.sync_due().await;
    test.db.execute("delete from external_refs where not is_live and contact_id is null").await;
    let differences = crate::histories::oracle::differences(&test, &integration, "US").await;
    let of_known_users = differences.iter().filter(|difference| !difference.contains("not in the CRM"));
    assert_eq!(of_known_users.count(), 0, "{differences:?}");
}

/// An envelope without what is not needed is read.
#[tokio::test]
async fn envelope_without_unneeded_parts_is_read() {
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

        let run = copied.run_due().await;

        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", error_of(&run));
        assert_ne!(column(&copied.test, &copied.integration, "checkpoint").await, "", "{what}");
        copied.assert_recovers(&what).await;
        copied.test.zendesk.delete_user(copied.new).unwrap();
        copied.change();
    }
}

/// A request that hangs is given up, and asked again.
#[tokio::test]
async fn hanging_request_is_given_up_and_repeated() {
    let test = TestApp::start_with(|config| {
        config.worker.attempts_max = 2;
        config.providers.each[provider::Provider::Zendesk].timeout_seconds = 1;
    })
    .await;
    test.zendesk.generate_people(50, 1).unwrap();
    let (account, integration) = test.synced().await;
    // Silence; a body that stops in the middle; a body that comes so slowly that it never ends.
    let dripping = Fault::Drip { chunk_bytes: 100, every_ms: 900 };
    for fault in [Fault::Hang, Fault::Drip { chunk_bytes: 1_000, every_ms: 5_000 }, dripping] {
        let what = format!("{fault:?}");
        test.pass(PERIOD);
        test.zendesk.faults().add(FaultRule { skip: 1, ..FaultRule::once(EXPORT, fault.clone()) }).unwrap();
        test.zendesk.generate_in_one_second(1_050, 2, test.clock.now().timestamp() - 100).unwrap();
        test.zendesk.clear_requests();

        let began = Instant::now();
        assert_eq!(test.sync_due().await, 1);

        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        let run = test.last_run(&account, &integration).await;
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", error_of(&run));
        // Smaller pages than before, and one that failed.
        assert!((3..=12).contains(&pages(&test).len()), "{what}: {}", pages(&test).len());
        test.zendesk.faults().clear();
        assert_is_a_true_copy(&test, &integration).await;
    }

    fail(&test, 0, None, Fault::Hang);
    test.pass(PERIOD);
    test.zendesk.clear_requests();
    assert_eq!(test.sync_due().await, 1);
    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Failed);
    assert!(error_of(&run).contains("did not answer in time"), "{}", error_of(&run));
    // Six times with half as many users, and two failures.
    assert_eq!(pages(&test).len(), 8);
    assert_holds(&test).await;
}

/// A request that hangs does not hold up a disable.
#[tokio::test]
async fn hanging_request_never_delays_disable() {
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
