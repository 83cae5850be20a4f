//! Serves `grpc.health.v1`: what is said of each service, and of the server as a whole (the empty
//! name). Once the drain has begun nothing is SERVING again, whatever is reported: a load balancer
//! must not come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::stream::unfold;
use tokio::{sync::watch, time::Instant};
use tonic::{Request, Response, Status, codegen::BoxStream};

use super::{
    pb::{
        self,
        health::{
            HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
            health_check_response::ServingStatus,
            health_server::{self, HealthServer},
        },
    },
    status,
};

/// Every name that a health check may ask for: the server as a whole, and each service.
pub const NAMES: [&str; 5] = [
    "",
    pb::account_service_server::SERVICE_NAME,
    pb::caller_service_server::SERVICE_NAME,
    pb::contact_service_server::SERVICE_NAME,
    pb::sync_service_server::SERVICE_NAME,
];

/// What follows the calls: the server as a whole, since calls are what it is for, and their
/// service.
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

/// Whether calls are answered, as it is said: it changes when the contrary has held for two
/// seconds.
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

/// What is said of each of `NAMES`, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HealthStatus {
    serving: [bool; NAMES.len()],
    is_draining: bool,
    /// Watchers are to go.
    is_over: bool,
}

impl HealthStatus {
    /// `SERVICE_UNKNOWN`: of a name that there is not.
    fn of(self, place: Option<usize>) -> ServingStatus {
        match place.map(|place| self.serving[place]) {
            Some(true) => ServingStatus::Serving,
            Some(false) => ServingStatus::NotServing,
            None => ServingStatus::ServiceUnknown,
        }
    }
}

fn place_of(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// The handle by which the parts report how they are; clones share it.
#[derive(Clone)]
pub struct ServingHealth {
    said: watch::Sender<HealthStatus>,
}

impl ServingHealth {
    /// Everything is like this.
    pub fn new(is_serving: bool) -> Self {
        let serving = [is_serving; NAMES.len()];
        Self { said: watch::Sender::new(HealthStatus { serving, is_draining: false, is_over: false }) }
    }

    /// Says whether these of `NAMES` can do their work now. Without effect once the drain has
    /// begun.
    pub fn report(&self, names: &[&str], is_serving: bool) {
        self.change(|said| {
            for place in names.iter().filter_map(|name| place_of(name)) {
                said.serving[place] = is_serving && !said.is_draining;
            }
        });
    }

    /// Everything is `NOT_SERVING` from now on; watchers are told at once.
    pub(crate) fn drain(&self) {
        self.change(|said| (said.serving, said.is_draining) = ([false; NAMES.len()], true));
    }

    /// Whether calls are answered, as it is said of the server as a whole.
    pub fn is_ready(&self) -> bool {
        self.said.borrow().serving[0]
    }

    /// Waits until the drain has gone so far that nobody is to look any more.
    pub async fn ended(&self) {
        // Never closed: this is its sender.
        let _ = self.said.subscribe().wait_for(|said| said.is_over).await;
    }

    /// Ends the watchers' streams, which would hold their connections open for the whole drain.
    pub(crate) fn end(&self) {
        self.change(|said| said.is_over = true);
    }

    fn change(&self, change: impl FnOnce(&mut HealthStatus)) {
        self.said.send_if_modified(|said| {
            let before = *said;
            change(said);
            *said != before
        });
    }

    pub(crate) fn service(&self, request_bytes_max: usize) -> HealthServer<HealthRpc> {
        HealthServer::new(HealthRpc { said: self.said.subscribe() }).max_decoding_message_size(request_bytes_max)
    }
}

/// Serves `grpc.health.v1.Health` as gRPC's health checking protocol (grpc/doc/health-checking.md)
/// has it.
pub(crate) struct HealthRpc {
    said: watch::Receiver<HealthStatus>,
}

#[tonic::async_trait]
impl health_server::Health for HealthRpc {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let place = place_of(&request.get_ref().service)
            .ok_or_else(|| status::not_found("SERVICE_NOT_FOUND", "there is no service with this name here"))?;
        let status = self.said.borrow().of(Some(place));
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let said = *self.said.borrow();
        let told = |(place, name): (usize, &&str)| {
            ((*name).to_owned(), HealthCheckResponse { status: said.of(Some(place)).into() })
        };
        Ok(Response::new(HealthListResponse { statuses: NAMES.iter().enumerate().map(told).collect() }))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let place = place_of(&request.get_ref().service);
        let changes = unfold((self.said.clone(), None), move |(mut said, last)| async move {
            loop {
                let now = *said.borrow_and_update();
                let status = now.of(place);
                if now.is_over {
                    return None;
                }
                if last != Some(status) {
                    return Some((Ok(HealthCheckResponse { status: status.into() }), (said, Some(status))));
                }
                said.changed().await.ok()?;
            }
        });
        Ok(Response::new(Box::pin(changes)))
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

    /// What is said of calls changes after two seconds of the contrary.
    #[test]
    fn call_health_changes_after_two_contrary_seconds() {
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

    /// One answered call among failed ones is an answer.
    #[test]
    fn one_answer_among_failures_is_answer() {
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
