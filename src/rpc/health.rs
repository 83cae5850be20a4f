//! What `grpc.health.v1` says of each service, and of the server as a whole (the empty name).
//! Once the drain has begun nothing is SERVING again, whatever is reported: a load balancer must not come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthRpc, HealthServer},
    server::{HealthReporter, HealthService},
};

use super::pb;

/// Every name that a health check may ask for: the server as a whole, and each service.
pub const NAMES: [&str; 5] = [
    "",
    pb::account_service_server::SERVICE_NAME,
    pb::caller_service_server::SERVICE_NAME,
    pb::contact_service_server::SERVICE_NAME,
    pb::sync_service_server::SERVICE_NAME,
];

/// What follows the calls: the server as a whole, since calls are what it is for, and their service.
pub const CALLS: [&str; 2] = ["", pb::caller_service_server::SERVICE_NAME];
/// What follows the database.
pub const OTHERS: [&str; 3] = [
    pb::account_service_server::SERVICE_NAME,
    pb::contact_service_server::SERVICE_NAME,
    pb::sync_service_server::SERVICE_NAME,
];
/// How long calls must be answered, or not, before what is said of them changes.
const HYSTERESIS: Duration = Duration::from_secs(2);

/// How calls have ended since somebody last looked; clones share it.
#[derive(Debug, Clone, Default)]
pub struct CallTally(Arc<Tally>);

#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl CallTally {
    /// A call has ended.
    pub fn note(&self, is_answered: bool) {
        let count = if is_answered { &self.0.answered } else { &self.0.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether any call was answered since this was last asked; `None`: none has ended.
    pub fn take(&self) -> Option<bool> {
        let (answered, failed) = (self.0.answered.swap(0, Ordering::Relaxed), self.0.failed.swap(0, Ordering::Relaxed));
        (answered + failed > 0).then_some(answered > 0)
    }
}

/// Whether calls are answered, as it is said: it changes when the contrary has held for two seconds.
#[derive(Debug)]
pub struct CallHealth {
    is_serving: bool,
    contrary_since: Option<Instant>,
}

impl CallHealth {
    /// As it is now.
    pub const fn new(is_serving: bool) -> Self {
        Self { is_serving, contrary_since: None }
    }

    /// What is said.
    pub const fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// A look at how it is; true if what is said changes by it.
    pub fn look(&mut self, is_answered: bool, now: Instant) -> bool {
        if is_answered == self.is_serving {
            self.contrary_since = None;
            return false;
        }
        let since = *self.contrary_since.get_or_insert(now);
        let changes = now.duration_since(since) >= HYSTERESIS;
        if changes {
            self.is_serving = is_answered;
            self.contrary_since = None;
        }
        changes
    }
}

/// The handle by which the parts report how they are; clones share it.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    is_draining: Arc<Mutex<bool>>,
}

impl Health {
    /// Everything is like this.
    pub async fn new(is_serving: bool) -> Self {
        let health = Self { reporter: HealthReporter::new(), is_draining: Arc::default() };
        health.report_all(&NAMES, is_serving).await;
        health
    }

    /// Says the same of several.
    pub async fn report_all(&self, names: &[&str], is_serving: bool) {
        for name in names {
            self.report(name, is_serving).await;
        }
    }

    /// Says whether one of `NAMES` can do its work now. Without effect once the drain has begun.
    pub async fn report(&self, name: &str, is_serving: bool) {
        debug_assert!(NAMES.contains(&name), "nobody asks for the health of {name}");
        // Held across the change, so that no report overtakes the drain.
        let is_draining = self.is_draining.lock().await;
        if !*is_draining {
            let status = if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Everything is `NOT_SERVING` from now on; watchers are told at once.
    pub(crate) async fn drain(&self) {
        let mut is_draining = self.is_draining.lock().await;
        *is_draining = true;
        for name in NAMES {
            self.reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
    }

    /// Ends the watchers' streams, which would hold their connections open for the whole drain.
    pub(crate) async fn end(&self) {
        let mut reporter = self.reporter.clone();
        for name in NAMES {
            reporter.clear_service_status(name).await;
        }
    }

    pub(crate) fn service(&self, request_bytes_max: usize) -> HealthServer<impl HealthRpc> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
            .max_decoding_message_size(request_bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_follows_the_calls_or_the_database() {
        let mut names: Vec<_> = CALLS.into_iter().chain(OTHERS).collect();
        names.sort_unstable();

        assert_eq!(names, NAMES);
    }

    #[test]
    fn what_is_said_of_calls_changes_after_two_seconds_of_the_contrary() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut health = CallHealth::new(true);

        assert!(!health.look(false, at(0)));
        assert!(!health.look(false, at(1_999)));
        // One that is answered begins the time anew.
        assert!(!health.look(true, at(2_000)));
        assert!(!health.look(false, at(2_500)));
        assert!(health.look(false, at(4_500)));
        assert!(!health.is_serving());
        assert!(!health.look(true, at(5_000)));
        assert!(health.look(true, at(7_000)));
        assert!(health.is_serving());
    }

    #[test]
    fn one_answered_call_among_failed_ones_is_an_answer() {
        let tally = CallTally::default();
        assert_eq!(tally.take(), None);

        tally.note(false);
        assert_eq!(tally.take(), Some(false));
        tally.note(false);
        tally.note(true);
        assert_eq!(tally.take(), Some(true));
        assert_eq!(tally.take(), None);
    }
}
