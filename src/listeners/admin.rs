//! What operators and their machines ask, on a listener of its own: figures for Prometheus, and
//! whether the process lives and is ready. It opens nothing and changes nothing; whoever reaches it
//! learns figures, so that it listens on this machine alone unless it is told otherwise.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};

use super::page;
use crate::telemetry::metrics::MetricsPage;

/// Of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is served to operators. `is_ready` says whether calls are answered.
pub fn admin_routes(metrics: MetricsPage, is_ready: impl Fn() -> bool + Send + Sync + 'static) -> Router {
    let is_ready = Arc::new(is_ready);
    Router::new()
        .route("/metrics", get(async move || ([(CONTENT_TYPE, TEXT_FORMAT)], metrics.text())))
        // The process answers: whatever else is wrong is no reason to start it anew.
        .route("/livez", get(async || "live\n"))
        .route(
            "/readyz",
            get(async move || {
                if is_ready() {
                    (StatusCode::OK, "calls are answered\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "calls are not answered, or the process is stopping\n")
                }
            }),
        )
        .fallback(async || page::NOT_FOUND)
}
