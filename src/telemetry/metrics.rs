//! What is counted, in one list: every metric's name, kind, unit and labels, and the only functions
//! that move them. Labels are names out of the code (a method, a CRM, a pool), never an account, a
//! number or a text from outside, so that the number of series is bounded.

use std::{sync::OnceLock, time::Duration};

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only up, from the start of the process.
    Counter,
    /// Up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// One metric of the list.
#[derive(Debug)]
pub struct MetricRule {
    /// As Prometheus shows it.
    pub name: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says, with its unit.
    pub help: &'static str,
}

macro_rules! metrics_list {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(const $constant: &str = $name;)+

        /// All of them.
        pub const METRICS: &[MetricRule] = &[$(MetricRule {
            name: $name,
            kind: MetricKind::$kind,
            labels: &[$($label),*],
            help: $help,
        }),+];
    };
}

metrics_list! {
    BUILD = Gauge "contact_sync_build_info" ["version"] "1, for the version that runs";
    READY = Gauge "contact_sync_ready" [] "1 while calls are answered, else 0";
    CALLS = Counter "contact_sync_calls_total" ["method", "outcome", "code"]
        "calls over gRPC that have ended; outcome is what MatchCaller or ResolveRequester found, else empty";
    CALL_SECONDS = Histogram "contact_sync_call_seconds" ["method"]
        "from a call's arrival until its answer was handed over, without what it waited while CRMs were asked (look_aside_ms of its account); streams until their end";
    REFUSED = Counter "contact_sync_calls_refused_total" ["why"] "calls that found no room";
    TOKENS_REFUSED = Counter "contact_sync_tokens_refused_total" ["reason"] "calls whose token was not accepted";
    CONNECTIONS = Gauge "contact_sync_connections" [] "open gRPC connections";
    PLACES_TAKEN = Gauge "contact_sync_places_taken" ["room"] "calls that are worked on, by the room that they need";
    PLACES = Gauge "contact_sync_places" ["room"] "calls that may be worked on at once";
    POOL_CONNECTIONS = Gauge "contact_sync_pool_connections" ["pool", "state"]
        "connections to the database: idle, used, or connecting";
    POOL_CONNECTIONS_MAX = Gauge "contact_sync_pool_connections_max" ["pool"] "most connections of a pool";
    POOL_WAITING = Gauge "contact_sync_pool_waiting" ["pool"] "who waits for a connection now";
    POOL_WAIT_SECONDS = Histogram "contact_sync_pool_wait_seconds" ["pool"]
        "how long a connection was waited for, by those who had to wait: who gets a free one at once is not counted";
    POOL_IN_VAIN = Counter "contact_sync_pool_waits_in_vain_total" ["pool"] "waits that ended without a connection";
    TRANSACTION_SECONDS = Histogram "contact_sync_transaction_seconds" ["transaction", "result"]
        "transactions with all their tries, committed or rolled_back";
    CONFLICTS = Counter "contact_sync_transaction_conflicts_total" ["transaction"]
        "transactions that met a concurrent change and were run again";
    CRM_REQUESTS = Counter "contact_sync_crm_requests_total" ["provider", "outcome"] "requests to a CRM, each try";
    CRM_REQUEST_SECONDS = Histogram "contact_sync_crm_request_seconds" ["provider"]
        "requests to a CRM, until the head of the answer was read";
    CRM_QUOTA_LEFT = Gauge "contact_sync_crm_quota_left_ratio" ["provider", "quota"]
        "of 1, what the organisation that has the least left of a quota (window or day) has, as the CRM said last";
    CRM_QUOTA_USED = Gauge "contact_sync_crm_quota_used_ratio" ["provider", "quota"]
        "of 1, what was used of that quota by everybody";
    PAGES = Counter "contact_sync_pages_total" ["provider"] "pages that were written";
    RECORDS = Counter "contact_sync_records_total" ["provider"] "records in these pages";
    RECORDS_REJECTED = Counter "contact_sync_records_rejected_total" ["provider"]
        "records, and values of records, that could not be read";
    RECORDS_ASKED_AGAIN = Counter "contact_sync_records_asked_again_total" ["provider"]
        "records of which a copy came that may be from before their deletion, or an older answer, each time that the CRM was asked for them";
    RUNS = Counter "contact_sync_runs_total" ["provider", "outcome"]
        "turns of sync runs: complete, failed, parked, or left to another worker";
    INTEGRATIONS = Gauge "contact_sync_integrations" ["provider", "state"] "integrations by their state";
    LAG_SECONDS = Gauge "contact_sync_lag_seconds" ["provider"]
        "how far the copy that is furthest behind is behind its CRM; of integrations that sync and are not paused";
    OVERDUE = Gauge "contact_sync_integrations_overdue" ["provider"]
        "integrations whose next run is due for longer than their period";
    WITH_UNREAD = Gauge "contact_sync_integrations_with_unread" ["provider"]
        "integrations with records or numbers that could not be read";
    HINTS_WAITING = Gauge "contact_sync_hints_waiting" [] "records that may have changed, and wait to be asked for";
    HINTS_OLDEST = Gauge "contact_sync_hints_oldest_seconds" []
        "age of the oldest record that may have changed and is to be asked for now";
    HINTS = Counter "contact_sync_hints_total" ["provider", "outcome"]
        "hints that were looked at: settled, repeated (no news yet), given_up (left to the poll), or folded into one poll";
    HINT_SECONDS = Histogram "contact_sync_hint_seconds" ["provider"]
        "from when a hint was first written until what the CRM said was stored";
    HINT_STORMS = Counter "contact_sync_hint_storms_total" ["provider"] "so many hints at once that a poll brings them";
    FEED_BACKLOG = Gauge "contact_sync_feed_backlog_seconds" []
        "age of the oldest change that waits for the readers of a feed, of the feeds that somebody has read";
    HOOKS = Counter "contact_sync_hooks_total" ["provider", "outcome"]
        "requests to addresses of hooks: stored, storm, ignored, unreadable, unsigned, unknown, too_large, slow, busy, unavailable";
    PUSH_LAG_SECONDS = Histogram "contact_sync_push_lag_seconds" ["provider"]
        "from an event's time, by the CRM's clock, to its arrival";
    PUSH_STREAMS = Gauge "contact_sync_push_streams" ["provider"]
        "organisations whose stream of changes this process follows, or is about to";
    PUSH_EVENTS = Counter "contact_sync_push_events_total" ["provider", "outcome"]
        "events of streams: hinted, untouched (nothing that is copied), gap, overflow, unreadable, foreign";
    PUSH_STREAM_ENDS = Counter "contact_sync_push_stream_ends_total" ["provider", "reason"]
        "ends of streams: broke, silent, credentials, place_refused, quota, too_fast, closed, refused, not_stored, stopped (the process, the wish or the lease ended)";
    PUSH_CHANNELS = Gauge "contact_sync_push_channels" ["provider", "state"]
        "integrations whose changes are to be pushed, by how that stands: ACTIVE, DEGRADED, UNAVAILABLE";
    EVENTS_MISSED = Counter "contact_sync_events_missed_total" ["provider"]
        "changes that only a poll brought, though an event should have announced them";
    UNINSTALLS = Counter "contact_sync_uninstalls_total" ["provider", "outcome"]
        "times that a CRM told that a company has removed the app: done, nobody, unreadable, failed; or refused, by nobody that is known";
    LOOK_ASIDES = Counter "contact_sync_look_asides_total" ["provider", "outcome"]
        "integrations of calls that found nobody, where the account looks aside, by what the look came to: found, nothing_found, timed_out, failed, out_of_budget, too_soon, not_for_this_crm, repeated, too_many_misses, busy, no_time";
    LOOK_ASIDE_SECONDS = Histogram "contact_sync_look_aside_seconds" ["provider"]
        "a CRM was asked for a caller, until it had answered or failed";
    LOOK_ASIDES_WAITING = Gauge "contact_sync_look_asides_waiting" [] "calls that wait while CRMs are asked";
    STATISTICS_AGE = Gauge "contact_sync_statistics_age_seconds" []
        "since the figures about integrations were last read from the database";
    LOG_LINES_LOST = Counter "contact_sync_log_lines_lost_total" []
        "lines of the log that were dropped because nobody took them";
}

/// From half a millisecond, about what the quickest call takes, to the longest time limit.
const CALL_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// What the process has counted so far.
#[derive(Clone)]
pub struct MetricsPage(PrometheusHandle);

impl MetricsPage {
    /// Begins to count, once in a process; what was counted before is lost.
    pub fn begin() -> Self {
        static PAGE: OnceLock<MetricsPage> = OnceLock::new();
        PAGE.get_or_init(|| {
            let builder = PrometheusBuilder::new();
            // Fails only without buckets.
            let builder = match builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), CALL_BUCKETS) {
                Ok(builder) => builder,
                Err(_) => PrometheusBuilder::new(),
            };
            let recorder = builder.build_recorder();
            let page = Self(recorder.handle());
            // Fails only if there is one already, of which nothing is known here.
            let _ = metrics::set_global_recorder(recorder);
            describe();
            gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            page
        })
        .clone()
    }

    /// All of it, in Prometheus' text format.
    pub fn text(&self) -> String {
        self.0.render()
    }

    /// Sorts observations into their buckets; without it they are kept one by one until somebody
    /// asks.
    pub fn tidy(&self) {
        self.0.run_upkeep();
    }
}

fn describe() {
    for MetricRule { name, kind, help, .. } in METRICS {
        match kind {
            MetricKind::Counter => metrics::describe_counter!(*name, *help),
            MetricKind::Gauge => metrics::describe_gauge!(*name, *help),
            MetricKind::Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
}

/// A call has ended.
pub fn call_ended(method: &'static str, outcome: &'static str, code: &'static str, took: Duration) {
    counter!(CALLS, "method" => method, "outcome" => outcome, "code" => code).increment(1);
    histogram!(CALL_SECONDS, "method" => method).record(took);
}

/// A call found no room.
pub fn call_refused(why: &'static str) {
    counter!(REFUSED, "why" => why).increment(1);
}

/// A token was not accepted.
pub fn token_refused(reason: &'static str) {
    counter!(TOKENS_REFUSED, "reason" => reason).increment(1);
}

/// A gRPC connection, as long as it is there.
pub struct CountedConnection(());

impl CountedConnection {
    /// It was accepted.
    #[expect(clippy::new_without_default, reason = "counts")]
    pub fn new() -> Self {
        gauge!(CONNECTIONS).increment(1.0);
        Self(())
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1.0);
    }
}

/// How full a room is.
pub fn room(room: &'static str, taken: usize, places: usize) {
    gauge!(PLACES_TAKEN, "room" => room).set(figure(taken));
    gauge!(PLACES, "room" => room).set(figure(places));
}

/// How a pool of connections is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolFigures {
    /// Lent to nobody.
    pub idle: usize,
    /// Lent.
    pub used: usize,
    /// Being made.
    pub connecting: usize,
    /// Who waits for one.
    pub waiting: usize,
    /// Most connections.
    pub connections_max: usize,
}

/// A pool as it is now.
pub fn pool(pool: &'static str, figures: PoolFigures) {
    let PoolFigures { idle, used, connecting, waiting, connections_max } = figures;
    for (state, count) in [("idle", idle), ("used", used), ("connecting", connecting)] {
        gauge!(POOL_CONNECTIONS, "pool" => pool, "state" => state).set(figure(count));
    }
    gauge!(POOL_WAITING, "pool" => pool).set(figure(waiting));
    gauge!(POOL_CONNECTIONS_MAX, "pool" => pool).set(figure(connections_max));
    // There from the start, or its first event would be no rise.
    counter!(POOL_IN_VAIN, "pool" => pool).increment(0);
}

/// A wait for a connection has ended, in vain or not.
pub fn pool_waited(pool: &'static str, took: Duration, is_in_vain: bool) {
    histogram!(POOL_WAIT_SECONDS, "pool" => pool).record(took);
    if is_in_vain {
        counter!(POOL_IN_VAIN, "pool" => pool).increment(1);
    }
}

/// A transaction has ended.
pub fn transaction_ended(name: &'static str, is_committed: bool, took: Duration) {
    let result = if is_committed { "committed" } else { "rolled_back" };
    histogram!(TRANSACTION_SECONDS, "transaction" => name, "result" => result).record(took);
}

/// A transaction met another.
pub fn transaction_conflict(name: &'static str) {
    counter!(CONFLICTS, "transaction" => name).increment(1);
}

/// A request to a CRM was answered, or came to nothing.
pub fn crm_request_ended(provider: &'static str, outcome: &'static str, took: Duration) {
    counter!(CRM_REQUESTS, "provider" => provider, "outcome" => outcome).increment(1);
    histogram!(CRM_REQUEST_SECONDS, "provider" => provider).record(took);
}

/// What is left of a quota for whoever has the least of it, of 1.
pub fn crm_quota(provider: &'static str, quota: &'static str, left: f64) {
    gauge!(CRM_QUOTA_LEFT, "provider" => provider, "quota" => quota).set(left);
    gauge!(CRM_QUOTA_USED, "provider" => provider, "quota" => quota).set(1.0 - left);
}

/// Counters of a CRM, there from the start: the first event of one that is not there is no rise.
pub fn begin_crm(provider: &'static str) {
    for outcome in ["answered", "limited", "refused", "failed", "timed_out", "unreached"] {
        counter!(CRM_REQUESTS, "provider" => provider, "outcome" => outcome).increment(0);
    }
    page_counted(provider, 0, 0, 0);
    records_asked_again(provider, 0);
    for outcome in ["settled", "repeated", "given_up", "folded"] {
        counter!(HINTS, "provider" => provider, "outcome" => outcome).increment(0);
    }
    counter!(HINT_STORMS, "provider" => provider).increment(0);
    for outcome in ["found", "nothing_found", "timed_out", "failed"] {
        counter!(LOOK_ASIDES, "provider" => provider, "outcome" => outcome).increment(0);
    }
}

/// For a call that found nobody a CRM was asked, or not.
pub fn looked_aside(provider: &'static str, outcome: &'static str) {
    counter!(LOOK_ASIDES, "provider" => provider, "outcome" => outcome).increment(1);
}

/// A CRM was asked for a caller.
pub fn look_aside_ended(provider: &'static str, took: Duration) {
    histogram!(LOOK_ASIDE_SECONDS, "provider" => provider).record(took);
}

/// So many calls wait while CRMs are asked.
pub fn look_asides_waiting(waiting: usize) {
    gauge!(LOOK_ASIDES_WAITING).set(figure(waiting));
}

/// Records that may have changed were asked for: how long each that is settled had waited, how many
/// of them were given up, and how many are asked for again.
pub fn hints_settled(
    provider: &'static str,
    waited: impl ExactSizeIterator<Item = Duration>,
    given_up: usize,
    repeated: usize,
) {
    let settled = waited.len().saturating_sub(given_up);
    for (outcome, count) in [("settled", settled), ("given_up", given_up), ("repeated", repeated)] {
        counter!(HINTS, "provider" => provider, "outcome" => outcome).increment(count as u64);
    }
    for age in waited {
        histogram!(HINT_SECONDS, "provider" => provider).record(age);
    }
}

/// So many hints became one poll.
pub fn hint_storm(provider: &'static str, folded: u64) {
    counter!(HINTS, "provider" => provider, "outcome" => "folded").increment(folded);
    counter!(HINT_STORMS, "provider" => provider).increment(1);
}

/// Hints that wait, and how old the oldest is that nothing holds up, in seconds; 0: there is none.
pub fn hints_waiting(waiting: i64, oldest_seconds: i64) {
    gauge!(HINTS_WAITING).set(whole(waiting));
    gauge!(HINTS_OLDEST).set(whole(oldest_seconds));
}

/// A page was written.
pub fn page_written(provider: &'static str, records: usize, rejected: usize) {
    page_counted(provider, 1, records as u64, rejected as u64);
}

fn page_counted(provider: &'static str, pages: u64, records: u64, rejected: u64) {
    counter!(PAGES, "provider" => provider).increment(pages);
    counter!(RECORDS, "provider" => provider).increment(records);
    counter!(RECORDS_REJECTED, "provider" => provider).increment(rejected);
}

/// The CRM is asked for so many records whose copies could not be put in order.
pub fn records_asked_again(provider: &'static str, records: usize) {
    counter!(RECORDS_ASKED_AGAIN, "provider" => provider).increment(records as u64);
}

/// A turn of a sync run has ended.
pub fn run_ended(provider: &'static str, outcome: &'static str) {
    counter!(RUNS, "provider" => provider, "outcome" => outcome).increment(1);
}

/// A request to a hook's address has ended.
pub fn hook_ended(provider: &'static str, outcome: &'static str) {
    counter!(HOOKS, "provider" => provider, "outcome" => outcome).increment(1);
}

/// A stream of changes, as long as it is followed.
pub struct CountedStream(&'static str);

impl CountedStream {
    /// It was claimed.
    pub fn new(provider: &'static str) -> Self {
        gauge!(PUSH_STREAMS, "provider" => provider).increment(1.0);
        Self(provider)
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        gauge!(PUSH_STREAMS, "provider" => self.0).decrement(1.0);
    }
}

/// Events have come by a stream.
pub fn push_events(provider: &'static str, counts: &[(&'static str, u64)]) {
    for (outcome, count) in counts.iter().filter(|(_, count)| *count > 0) {
        counter!(PUSH_EVENTS, "provider" => provider, "outcome" => *outcome).increment(*count);
    }
}

/// A stream has ended, or could not be had.
pub fn push_stream_ended(provider: &'static str, reason: &'static str) {
    counter!(PUSH_STREAM_ENDS, "provider" => provider, "reason" => reason).increment(1);
}

/// An event has come so long after its time.
pub fn push_lag(provider: &'static str, lag: Duration) {
    histogram!(PUSH_LAG_SECONDS, "provider" => provider).record(lag);
}

/// Integrations of one CRM whose push is in one state.
pub fn push_channels(provider: &'static str, state: &'static str, count: i64) {
    gauge!(PUSH_CHANNELS, "provider" => provider, "state" => state).set(whole(count));
}

/// So many changes of a page should have been announced.
pub fn events_missed(provider: &'static str, missed: i64) {
    counter!(EVENTS_MISSED, "provider" => provider).increment(missed.max(0).cast_unsigned());
}

/// A CRM has told of an uninstall, or somebody who is none.
pub fn uninstall_ended(provider: &'static str, outcome: &'static str) {
    counter!(UNINSTALLS, "provider" => provider, "outcome" => outcome).increment(1);
}

/// Integrations of one CRM that are in one state.
pub fn integrations(provider: &'static str, state: &'static str, count: i64) {
    gauge!(INTEGRATIONS, "provider" => provider, "state" => state).set(whole(count));
}

/// What one CRM's integrations have in arrears.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncArrears {
    /// How far the copy that is furthest behind is behind, in seconds.
    pub lag_seconds: i64,
    /// Integrations that should have run long ago.
    pub overdue: i64,
    /// Integrations with records or numbers that could not be read.
    pub with_unread: i64,
}

/// One CRM's arrears.
pub fn sync_arrears(provider: &'static str, arrears: SyncArrears) {
    gauge!(LAG_SECONDS, "provider" => provider).set(whole(arrears.lag_seconds));
    gauge!(OVERDUE, "provider" => provider).set(whole(arrears.overdue));
    gauge!(WITH_UNREAD, "provider" => provider).set(whole(arrears.with_unread));
}

/// How old the oldest change is that has no number yet, in seconds; 0: there is none.
pub fn feed_backlog(oldest_seconds: i64) {
    gauge!(FEED_BACKLOG).set(whole(oldest_seconds));
}

/// How old what is said of integrations is.
pub fn statistics_age(age: Duration) {
    gauge!(STATISTICS_AGE).set(age.as_secs_f64());
}

/// Whether calls are answered.
pub fn ready(is_ready: bool) {
    gauge!(READY).set(f64::from(u8::from(is_ready)));
}

/// Lines of the log that were dropped since the start.
pub fn log_lines_lost(count: usize) {
    counter!(LOG_LINES_LOST).absolute(count as u64);
}

fn figure(count: usize) -> f64 {
    whole(i64::try_from(count).unwrap_or(i64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53 here")]
fn whole(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_is_named_once_and_after_its_unit() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();

        assert_eq!(names.len(), METRICS.len());
        let page = include_str!("../../docs/monitoring.md");
        for MetricRule { name, kind, help, labels } in METRICS {
            let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            let kind_name = format!("{kind:?}").to_lowercase();
            let row = format!("| `{name}` | {kind_name} | {labels} | {help} |");
            assert!(page.contains(&row), "docs/monitoring.md lacks {row}");
            assert!(name.starts_with("contact_sync_") && !help.is_empty(), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
        }
    }
}
