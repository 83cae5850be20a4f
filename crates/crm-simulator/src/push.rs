//! What a simulated vendor sends by itself: calls to an app that wait until they are due, are lost,
//! doubled, put off or spoiled as a plan says, and are sent when whoever steers the vendor says so.
//! Owns: the queue, the plan, and plain HTTP to this machine. Must not: know a vendor's form of a
//! call, or when it tries again.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::faults::roll;

/// How long a vendor waits for an app's answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// When a call that was seen by somebody is sent again.
const REPLAY_AFTER: TimeDelta = TimeDelta::minutes(6);
/// Calls that wait at most; of more the oldest are forgotten.
const WAITING_MAX: usize = 100_000;

/// A call that a vendor makes to an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCall {
    /// Of HTTP.
    pub method: &'static str,
    /// Where to; `http://` only.
    pub url: String,
    /// With which headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body, exactly.
    pub body: String,
}

/// How deliveries go wrong: chances from 0 to 1, times in milliseconds. Nothing, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryPlan {
    /// Every call comes so much later.
    pub delay_ms: u32,
    /// And by chance up to so much more, so that calls overtake each other.
    pub reorder_ms: u32,
    /// A call is never sent.
    pub loss: f64,
    /// A call is sent twice.
    pub duplicates: f64,
    /// A call does not show its secret.
    pub wrong_secret: f64,
    /// A call is seen by somebody, who sends it again six minutes later, as it was.
    pub replays: f64,
}

/// What became of calls so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeliveryReport {
    /// Answered with 2xx.
    pub delivered: u64,
    /// Answered otherwise, or not at all.
    pub failed: u64,
    /// Never sent.
    pub lost: u64,
    /// Not due yet.
    pub waiting: u64,
}

/// A call in the queue.
#[derive(Clone, Debug)]
pub(crate) struct QueuedCall {
    pub(crate) due_at: DateTime<Utc>,
    /// The vendor's own number of what it is for; 0: none.
    pub(crate) hook_id: u64,
    /// Tries before this one.
    pub(crate) attempt: usize,
    pub(crate) call: HookCall,
}

struct Queue {
    waiting: Vec<QueuedCall>,
    plan: DeliveryPlan,
    report: DeliveryReport,
    rng: ChaCha8Rng,
}

/// The calls of one vendor.
pub(crate) struct HookQueue(Mutex<Queue>);

impl HookQueue {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(Queue {
            waiting: Vec::new(),
            plan: DeliveryPlan::default(),
            report: DeliveryReport::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }))
    }

    pub(crate) fn set_plan(&self, plan: DeliveryPlan) {
        self.lock().plan = plan;
    }

    pub(crate) fn report(&self) -> DeliveryReport {
        let queue = self.lock();
        DeliveryReport { waiting: queue.waiting.len() as u64, ..queue.report }
    }

    /// A first try, as the plan says.
    pub(crate) fn put(&self, hook_id: u64, mut call: HookCall, now: DateTime<Utc>) {
        let queue = &mut *self.lock();
        let DeliveryPlan { delay_ms, reorder_ms, loss, duplicates, wrong_secret, replays } = queue.plan;
        if roll(&mut queue.rng) < loss {
            queue.report.lost += 1;
            return;
        }
        if roll(&mut queue.rng) < wrong_secret {
            for (name, value) in &mut call.headers {
                match *name {
                    "authorization" => "Basic d3Jvbmc6d3Jvbmc=".clone_into(value),
                    "x-zendesk-webhook-signature" => "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=".clone_into(value),
                    _ => {}
                }
            }
        }
        let times = if roll(&mut queue.rng) < duplicates { 2 } else { 1 };
        for _ in 0..times {
            let late = queue.rng.next_u64() % (u64::from(reorder_ms) + 1);
            let wait = TimeDelta::milliseconds(i64::from(delay_ms) + late.cast_signed());
            queue.waiting.push(QueuedCall { due_at: now + wait, hook_id, attempt: 0, call: call.clone() });
        }
        if replays > 0.0 && roll(&mut queue.rng) < replays {
            queue.waiting.push(QueuedCall { due_at: now + REPLAY_AFTER, hook_id: 0, attempt: 0, call });
        }
        let surplus = queue.waiting.len().saturating_sub(WAITING_MAX);
        queue.waiting.drain(..surplus);
    }

    /// A further try.
    pub(crate) fn put_again(&self, queued: QueuedCall) {
        self.lock().waiting.push(queued);
    }

    /// What is due, in order.
    pub(crate) fn take_due(&self, now: DateTime<Utc>) -> Vec<QueuedCall> {
        let queue = &mut *self.lock();
        let (mut due, waiting): (Vec<_>, Vec<_>) = queue.waiting.drain(..).partition(|queued| queued.due_at <= now);
        queue.waiting = waiting;
        due.sort_by_key(|queued| queued.due_at);
        due
    }

    pub(crate) fn count(&self, is_delivered: bool) {
        let report = &mut self.lock().report;
        if is_delivered {
            report.delivered += 1;
        } else {
            report.failed += 1;
        }
    }

    /// One that a ban keeps from being sent.
    pub(crate) fn count_lost(&self) {
        self.lock().report.lost += 1;
    }

    /// Forgets what waits for a hook.
    pub(crate) fn forget(&self, hook_id: u64) {
        self.lock().waiting.retain(|queued| queued.hook_id != hook_id);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a call; the status of the answer. No redirect is followed.
pub(crate) async fn send(call: &HookCall) -> io::Result<u16> {
    timeout(ANSWER_MAX, send_plainly(call)).await.map_err(io::Error::from)?
}

async fn send_plainly(call: &HookCall) -> io::Result<u16> {
    let wrong = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let rest = call.url.strip_prefix("http://").ok_or_else(|| wrong("not plain HTTP"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).await?;
    let lines: Vec<String> = call.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "{} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n{}\r\n",
        call.method,
        call.body.len(),
        lines.concat()
    );
    stream.write_all(head.as_bytes()).await?;
    // Whoever answers before the body has come may close at once.
    let _ = stream.write_all(call.body.as_bytes()).await;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    let status = std::str::from_utf8(&status).ok().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.parse().ok());
    status.ok_or_else(|| wrong("no answer of HTTP"))
}
