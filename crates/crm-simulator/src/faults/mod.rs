//! What may go wrong, and when. Owns: the rules, their counters and their dice. A request that
//! matches a rule's path counts for it; the rule fires on the matching requests after `skip`,
//! `times` times, each with `probability`. Invariant: with one seed and one order of requests, the
//! same requests fail. Must not: act on its own; `delivery` and the vendors do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderName, HeaderValue};
use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::gate::{GateAt, GatePost, RequestGate};

/// Rules in force at once.
const RULES_MAX: usize = 1_000;
/// Vendor calls in one [`Fault::Apply`].
const CALLS_MAX: usize = 10_000;
/// Longest delay or drip interval, milliseconds.
const DELAY_MS_MAX: u64 = 600_000;
/// Largest padding or expansion, MiB.
const SIZE_MIB_MAX: u32 = 1_024;

/// One thing that goes wrong. In JSON: `{"kind": "rate_limited", "retry_after_seconds": 17}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    // Refusals, in the vendor's own status, type and words. The vendor's data is not touched.
    /// Too many requests; with `Retry-After` (seconds) or without.
    RateLimited {
        #[serde(default)]
        retry_after_seconds: Option<u32>,
    },
    /// 500 in the vendor's shape.
    ServerError,
    /// 503 as an HTML page of the load balancer; with `Retry-After` (seconds) or without.
    Unavailable {
        #[serde(default)]
        retry_after_seconds: Option<u32>,
    },
    /// The credentials are revoked: 401.
    Unauthorized,
    /// The user's role does not allow it: 403.
    ForbiddenRole,
    /// The token's scopes do not allow it: 403.
    ForbiddenScope,
    /// 404 in the vendor's shape.
    NotFound,
    /// 422 (Salesforce and Pipedrive: 400) in the vendor's shape.
    Unprocessable,
    /// The calls of the day are used up. Salesforce: 403 (`RateLimited` is too many at once: 403 as
    /// well). Pipedrive: 429 with none left in `x-daily-ratelimit-token-remaining`.
    DailyLimit,
    /// No token, with this `error`: `invalid_grant`, `inactive_user`, `unknown_error`, ...
    TokenError { error: String },

    /// This very answer instead of the vendor's, from whoever stands in its place: another host, a
    /// proxy, a vendor of tomorrow.
    Answer {
        status: u16,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        body: String,
    },

    // Pages of an export that are not as they should be.
    /// A page without rows that is not the end. `advance`: the cursor moves on (and no row is
    /// lost), else it stays where it is.
    EmptyPage { advance: bool },
    /// A full page whose cursor is the one it was asked with.
    StuckCursor,
    /// The last row before this page comes again, first on this page.
    RepeatPrevious,
    /// The first row of the page comes twice on it.
    DuplicateRow,
    /// An older copy of a record is added at the page's end: of this id, else of the record that
    /// was changed last before its newest change.
    StaleRow {
        #[serde(default)]
        id: Option<i64>,
    },
    /// Changes the JSON of a body at RFC 6901 pointers: poisons a row (`/users/0/phone`: null,
    /// wrong types, missing fields) or an envelope.
    Patch {
        #[serde(default)]
        set: BTreeMap<String, Value>,
        #[serde(default)]
        remove: Vec<String>,
    },

    /// Other bytes in the place of each of these texts in a body, whatever the vendor's format:
    /// half a surrogate, a byte that is no UTF-8, a value of another kind.
    Bytes {
        /// Text and what comes instead.
        replace: Vec<(String, Vec<u8>)>,
    },

    // Salesforce.
    /// The edition has no API: 403.
    ApiDisabled,
    /// A duplicate rule of the organisation forbids the new record: 400.
    DuplicatesDetected,
    /// The query takes too long: 400.
    QueryTimeout,
    /// The locator of a result is not known any more: 400.
    LocatorGone,
    /// The time asked for lies before the log of deletions: 400.
    ReplicationTooOld,
    /// More than 600,000 ids would be in the answer: 400.
    TooManyIds,
    /// A page with at most so many rows, though more were asked for and are there.
    ShortPage { rows: usize },
    /// The newest change of this record is invisible to the next so many queries.
    LateRow { id: String, queries: u32 },
    /// The query job fails when it is looked at.
    JobFailed { message: String },
    /// The query job is aborted when it is looked at.
    JobAborted,
    /// Another text in the place of this line of the CSV, from zero, the column names.
    CsvLine { line: usize, text: String },
    /// A token that is good at this URL from now on.
    InstanceMoved { url: String },

    // The way to the client.
    /// Sleeps before the vendor answers, milliseconds, at most ten minutes.
    Delay { ms: u64 },
    /// Sleeps as requests over a network take: half of them up to the median, one in twenty longer
    /// than the other, milliseconds. Times come from the simulator's seed.
    LogNormalDelay { median_ms: u64, p95_ms: u64 },
    /// Never answers, until the client gives up or the server stops.
    Hang,
    /// Resets the connection: after so many bytes of the body, or before the first byte of the
    /// response.
    Reset {
        #[serde(default)]
        after_bytes: Option<usize>,
    },
    /// Sends the body bit by bit.
    Drip { chunk_bytes: usize, every_ms: u64 },
    /// Only the first half of the body, as if it were whole.
    Truncate,
    /// 200 with an HTML page (a sign-in page, a maintenance notice) instead of the answer.
    Html,
    /// The right body under another `Content-Type`.
    ContentType { value: String },
    /// 200 with a small gzip body that expands to so many MiB of white space, at most 256.
    GzipBomb { mib: u32 },
    /// So many MiB of white space before the body, at most 1,024.
    Oversized { mib: u32 },
    /// Sends the client elsewhere, with 301 unless said otherwise.
    Redirect {
        location: String,
        #[serde(default = "moved_permanently")]
        status: u16,
    },
    /// The `Date` header is off by so many seconds, at most ten years.
    DateSkew { seconds: i64 },

    // Pipedrive.
    /// The burst limit: 429 with `x-ratelimit-reset` (seconds) while tokens of the day are left.
    BurstLimited { reset_seconds: u32 },
    /// 403 as an HTML page of Cloudflare, which stands before Pipedrive.
    CloudflareBlocked,
    /// The company's account is not open (trial over, unpaid): 402.
    AccountClosed,
    /// The cursor is no longer taken: 400.
    CursorRefused,
    /// Every person on the page has an empty number besides its own.
    EmptyPhones,
    /// The token answer names another base URL for the API.
    OtherApiDomain { api_domain: String },

    // Changes of the data.
    /// Makes these calls of the vendor's API, as its administrator and free of faults, before the
    /// request is answered.
    Apply { calls: Vec<VendorCall> },
}

/// A call of the vendor's own API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorCall {
    /// `POST`, `PUT`, `DELETE`, ...
    pub method: String,
    /// Path and query, e.g. `/api/v2/users/7`.
    pub path: String,
    /// The JSON body, if any.
    #[serde(default)]
    pub body: Option<Value>,
}

/// When a fault happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// The rule counts requests whose path and query contain this; empty matches all.
    pub path: String,
    /// Only requests of this method; any if absent.
    #[serde(default)]
    pub method: Option<String>,
    /// How often the fault happens; `null`: for as long as the rule is there. One if absent.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// Matching requests that run before the first fault.
    #[serde(default)]
    pub skip: u32,
    /// Only requests that ask for more rows than so many; any if absent.
    #[serde(default)]
    pub rows_above: Option<usize>,
    /// Chance of each request that may fail, 0 to 1. One if absent.
    #[serde(default = "certain")]
    pub probability: f64,
    /// What happens.
    pub fault: Fault,
}

impl Fault {
    /// An answer with one header and a body.
    pub fn answer(status: u16, header: (&str, &str), body: &str) -> Self {
        let headers = BTreeMap::from([(header.0.to_owned(), header.1.to_owned())]);
        Self::Answer { status, headers, body: body.to_owned() }
    }

    /// A page for people, as of a proxy.
    pub fn page(status: u16) -> Self {
        Self::answer(status, ("content-type", "text/html; charset=utf-8"), "<html><body>No.</body></html>")
    }

    /// An answer in JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::answer(status, ("content-type", "application/json"), &body.to_string())
    }
}

impl FaultRule {
    /// The next matching request fails.
    pub fn once(path: &str, fault: Fault) -> Self {
        Self { path: path.to_owned(), method: None, times: Some(1), skip: 0, rows_above: None, probability: 1.0, fault }
    }

    /// Every matching request fails.
    pub fn always(path: &str, fault: Fault) -> Self {
        Self { times: None, ..Self::once(path, fault) }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the default of an optional field")]
fn once() -> Option<u32> {
    Some(1)
}

fn certain() -> f64 {
    1.0
}

fn moved_permanently() -> u16 {
    301
}

/// Why a rule is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A value is outside its range.
    #[error("{field} must be {expected}")]
    OutOfRange {
        /// The JSON field.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// No room for another rule.
    #[error("more than {RULES_MAX} rules; clear the old ones first")]
    TooMany,
}

/// Names a rule of one [`Faults`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RuleId(u64);

/// A rule's state, for the control endpoint.
#[derive(Serialize)]
pub(super) struct RuleReport {
    id: RuleId,
    rule: FaultRule,
    matched: u64,
    fired: u64,
}

#[derive(Clone)]
pub(super) enum Action {
    Fault(Fault),
    Gate(Arc<GatePost>),
    Hook(Arc<dyn Fn() + Send + Sync>),
}

struct Entry {
    rule: FaultRule,
    action: Action,
    matched: u64,
    fired: u64,
}

struct Rules {
    entries: BTreeMap<RuleId, Entry>,
    next_id: u64,
    dice: ChaCha8Rng,
}

/// The faults of one simulated vendor.
pub struct Faults {
    rules: Mutex<Rules>,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        let rules = Rules { entries: BTreeMap::new(), next_id: 1, dice: ChaCha8Rng::seed_from_u64(seed) };
        Self { rules: Mutex::new(rules) }
    }

    /// Puts a rule in force. Errors: a value of it is out of range, or there are 1,000 rules
    /// already.
    pub fn add(&self, rule: FaultRule) -> Result<RuleId, RuleError> {
        check(&rule)?;
        let action = Action::Fault(rule.fault.clone());
        self.insert(rule, action)
    }

    /// Puts all rules in force, or none. Errors: as of [`Faults::add`].
    pub fn add_all(&self, rules: Vec<FaultRule>) -> Result<Vec<RuleId>, RuleError> {
        rules.iter().try_for_each(check)?;
        if self.lock().entries.len() + rules.len() > RULES_MAX {
            return Err(RuleError::TooMany);
        }
        rules.into_iter().map(|rule| self.add(rule)).collect()
    }

    /// Runs `hook` when page `number` (from one) of requests matching `path` is asked for, before
    /// it is answered. The hook may call the simulator's own methods; it runs on the server's
    /// thread and must not block.
    pub fn before_page(
        &self,
        path: &str,
        number: u32,
        hook: impl Fn() + Send + Sync + 'static,
    ) -> Result<RuleId, RuleError> {
        let rule =
            FaultRule { skip: number.saturating_sub(1), ..FaultRule::once(path, Fault::Apply { calls: Vec::new() }) };
        self.insert(rule, Action::Hook(Arc::new(hook)))
    }

    /// Holds every request that matches `path` after the first `skip`, until the gate is told
    /// otherwise.
    pub fn gate(&self, path: &str, skip: u32, at: GateAt) -> Result<RequestGate, RuleError> {
        let gate = RequestGate::new(at);
        let rule = FaultRule { skip, ..FaultRule::always(path, Fault::Apply { calls: Vec::new() }) };
        self.insert(rule, Action::Gate(gate.post()))?;
        Ok(gate)
    }

    /// Takes one rule out of force; its id stays unused.
    pub fn remove(&self, id: RuleId) {
        self.lock().entries.remove(&id);
    }

    /// Takes every rule out of force. Requests held by a gate stay held until the gate opens.
    pub fn clear(&self) {
        self.lock().entries.clear();
    }

    /// How often the rule has fired; zero for a rule that is gone.
    pub fn fired(&self, id: RuleId) -> u64 {
        self.lock().entries.get(&id).map_or(0, |entry| entry.fired)
    }

    pub(super) fn report(&self) -> Vec<RuleReport> {
        let rules = self.lock();
        let report = |(id, entry): (&RuleId, &Entry)| RuleReport {
            id: *id,
            rule: entry.rule.clone(),
            matched: entry.matched,
            fired: entry.fired,
        };
        rules.entries.iter().map(report).collect()
    }

    /// Counts a request and says what happens to it, in the order in which the rules were added.
    pub(super) fn decide(&self, method: &str, target: &str) -> Plan {
        let rules = &mut *self.lock();
        let mut actions = Vec::new();
        for entry in rules.entries.values_mut() {
            let rule = &entry.rule;
            let is_match = target.contains(&rule.path)
                && rule.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                && rule.rows_above.is_none_or(|rows| rows_asked(target) > rows);
            if !is_match {
                continue;
            }
            entry.matched += 1;
            let is_due =
                entry.matched > u64::from(rule.skip) && rule.times.is_none_or(|times| entry.fired < u64::from(times));
            if is_due && (rule.probability >= 1.0 || roll(&mut rules.dice) < rule.probability) {
                entry.fired += 1;
                actions.push(match &entry.action {
                    Action::Fault(Fault::LogNormalDelay { median_ms, p95_ms }) => {
                        Action::Fault(Fault::Delay { ms: log_normal(&mut rules.dice, *median_ms, *p95_ms) })
                    }
                    action => action.clone(),
                });
            }
        }
        Plan { actions }
    }

    fn insert(&self, rule: FaultRule, action: Action) -> Result<RuleId, RuleError> {
        let mut rules = self.lock();
        if rules.entries.len() >= RULES_MAX {
            return Err(RuleError::TooMany);
        }
        let id = RuleId(rules.next_id);
        rules.next_id += 1;
        rules.entries.insert(id, Entry { rule, action, matched: 0, fired: 0 });
        Ok(id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happens to one request.
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
}

impl Plan {
    /// The faults among the actions, in order.
    pub(super) fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.actions.iter().filter_map(|action| if let Action::Fault(fault) = action { Some(fault) } else { None })
    }
}

/// How many rows a request asks for, in any vendor's way of asking; 0: it does not say.
fn rows_asked(target: &str) -> usize {
    let number_after = |mark: &str| {
        let (_, rest) = target.split_once(mark)?;
        rest[..rest.bytes().take_while(u8::is_ascii_digit).count()].parse().ok()
    };
    ["per_page=", "maxRecords=", "limit=", "LIMIT+", "LIMIT%20"].into_iter().find_map(number_after).unwrap_or(0)
}

/// A number from 0 to below 1.
pub(crate) fn roll(dice: &mut ChaCha8Rng) -> f64 {
    f64::from(dice.next_u32()) / (f64::from(u32::MAX) + 1.0)
}

/// The 95th percentile of the standard normal distribution.
const Z95: f64 = 1.645;

/// Milliseconds of a distribution with this median and 95th percentile (Box and Muller).
fn log_normal(dice: &mut ChaCha8Rng, median_ms: u64, p95_ms: u64) -> u64 {
    let [median, p95] = [median_ms, p95_ms].map(|ms| Duration::from_millis(ms).as_secs_f64());
    let sigma = (p95 / median).ln() / Z95;
    let normal = (-2.0 * (1.0 - roll(dice)).ln()).sqrt() * (std::f64::consts::TAU * roll(dice)).cos();
    let drawn = Duration::try_from_secs_f64(median * (sigma * normal).exp()).unwrap_or(Duration::MAX);
    u64::try_from(drawn.as_millis()).unwrap_or(DELAY_MS_MAX).min(DELAY_MS_MAX)
}

fn check(rule: &FaultRule) -> Result<(), RuleError> {
    let require = |is_right: bool, field, expected| {
        if is_right { Ok(()) } else { Err(RuleError::OutOfRange { field, expected }) }
    };
    require((0.0..=1.0).contains(&rule.probability), "probability", "from 0 to 1")?;
    match &rule.fault {
        Fault::Delay { ms } => require(*ms <= DELAY_MS_MAX, "fault.ms", "at most 600000"),
        Fault::LogNormalDelay { median_ms, p95_ms } => {
            require(*median_ms > 0, "fault.median_ms", "at least 1")?;
            require((*median_ms..=DELAY_MS_MAX).contains(p95_ms), "fault.p95_ms", "from the median to 600000")
        }
        Fault::Drip { chunk_bytes, every_ms } => {
            require(*chunk_bytes > 0, "fault.chunk_bytes", "at least 1")?;
            require(*every_ms <= DELAY_MS_MAX, "fault.every_ms", "at most 600000")
        }
        Fault::Bytes { replace } => {
            require(replace.iter().all(|(text, _)| !text.is_empty()), "fault.replace", "of texts that are not empty")
        }
        Fault::GzipBomb { mib } => require(*mib <= SIZE_MIB_MAX / 4, "fault.mib", "at most 256"),
        Fault::Oversized { mib } => require(*mib <= SIZE_MIB_MAX, "fault.mib", "at most 1024"),
        Fault::Answer { status, headers, .. } => {
            require((200..600).contains(status), "fault.status", "from 200 to 599")?;
            let are_headers = headers.iter().all(|(name, value)| {
                HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok()
            });
            require(are_headers, "fault.headers", "names and values that HTTP allows")
        }
        Fault::Redirect { status, .. } => require((300..400).contains(status), "fault.status", "from 300 to 399"),
        Fault::DateSkew { seconds } => {
            require(seconds.unsigned_abs() <= 315_360_000, "fault.seconds", "within ten years")
        }
        Fault::Apply { calls } => require(calls.len() <= CALLS_MAX, "fault.calls", "at most 10000"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
