//! What `grpc.health.v1` says of each service, and of the server as a whole (the empty name).
//! Once the drain has begun nothing is SERVING again, whatever is reported: a load balancer must not come back.

use std::sync::Arc;

use tokio::sync::Mutex;
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

/// The handle by which the parts report how they are; clones share it.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    is_draining: Arc<Mutex<bool>>,
}

impl Health {
    /// Everything is SERVING.
    pub async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new(), is_draining: Arc::default() };
        for name in NAMES {
            health.report(name, true).await;
        }
        health
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
