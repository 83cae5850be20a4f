//! Which statements the service runs.

use std::{cell::RefCell, fmt, fs, sync::Once};

use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::{Event, Level, Subscriber, callsite, field::Visit, subscriber};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, layer::SubscriberExt, registry};

const TARGET: &str = "sqlx::query";

/// What calls run. Beside them the service reads accounts' rules again, forgets what is old, and
/// looks for work.
const OF_CALLS: [&str; 10] = [
    "store::adoption_pairs::has_pair",
    "store::caller_lookup::",
    "store::calls::",
    "store::contact_writes::placeholders::",
    "store::contacts::",
    "store::requester_decisions::try_record",
    "store::expected_calls::",
    "store::phone_numbers::",
    "store::requester::",
    "store::sources::",
];

/// A pattern of all statements whose names begin so, for `pg_stat_activity`. A test that aims at
/// what is not there any more fails.
pub fn aim_at(beginnings: &[&str]) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx");
    let names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| serde_json::from_str::<Value>(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap())
        .map(|json| json["query"].as_str().unwrap().trim_start_matches("-- ").to_owned())
        .collect();
    for beginning in beginnings {
        assert!(names.iter().any(|name| name.starts_with(beginning)), "no statement's name begins with {beginning}");
    }
    format!("^-- ({})", beginnings.join("|"))
}

thread_local! {
    static RUN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// The statements of this test's service, by the place that their first lines name. A test and its
/// service share a thread of their own, and the layer that listens is the whole process's: whether
/// a statement is told of is decided once for all threads, so a subscriber of one thread alone
/// misses some when other tests run beside it.
pub struct Statements(());

impl Statements {
    /// Those from now on.
    pub fn record() -> Self {
        static LISTENS: Once = Once::new();
        assert_eq!(
            Handle::current().runtime_flavor(),
            RuntimeFlavor::CurrentThread,
            "the service has this thread alone"
        );
        LISTENS.call_once(|| {
            aim_at(&OF_CALLS);
            let only = Targets::new().with_target(TARGET, Level::DEBUG);
            subscriber::set_global_default(registry().with(Recorder.with_filter(only))).unwrap();
            // Whoever came by while it was being set must ask again.
            callsite::rebuild_interest_cache();
        });
        RUN.set(Some(Vec::new()));
        Self(())
    }

    /// Those since the last time, without those by which a pool makes a connection, and without the
    /// account's rules, which are read again after five seconds.
    #[expect(clippy::unused_self, reason = "they are recorded for as long as there is one")]
    pub fn take(&self) -> Vec<String> {
        let run = RUN.replace(Some(Vec::new())).unwrap_or_default();
        run.into_iter().filter(|name| OF_CALLS.iter().any(|of_calls| name.starts_with(of_calls))).collect()
    }
}

impl Drop for Statements {
    fn drop(&mut self) {
        RUN.set(None);
    }
}

struct Recorder;

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Summary);
    }
}

struct Summary;

impl Visit for Summary {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "summary" {
            // "-- store::caller_lookup::read_lean select …"
            let name = value.split_whitespace().nth(1).unwrap_or(value).to_owned();
            RUN.with_borrow_mut(|run| {
                if let Some(run) = run {
                    run.push(name);
                }
            });
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn fmt::Debug) {}
}
