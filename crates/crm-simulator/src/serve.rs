//! Serves a vendor's router on a listener until told to stop. Owns: the limit on connections and
//! the stop signal that held responses hear. Must not: bind a port (the caller does, so that port 0
//! works and the address is known before the first request).

use std::{io, time::Duration};

use axum::{Extension, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::connection::{ConnectionHandle, WatchedListener};

/// Tells responses that are held back (hang, gate, slow drip) that the server stops.
#[derive(Clone, Default)]
pub(crate) struct ServerShutdown(pub(crate) CancellationToken);

/// What connections get to end after the stop signal; a client that never finishes its request
/// would hold the server up.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves `router` on `listener` until `shutdown` is cancelled, then lets the requests in flight
/// end, for at most five seconds. At most 1,024 connections at once; more wait to be accepted.
/// Responses held by a fault are given up at once.
///
/// Errors: only what the listener itself reports.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let layer = Extension(ServerShutdown(shutdown.clone()));
    let service = router.layer(layer).into_make_service_with_connect_info::<ConnectionHandle>();
    let drained = shutdown.clone().cancelled_owned();
    let serving = axum::serve(WatchedListener::new(listener), service).with_graceful_shutdown(drained);
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        outcome = serving.into_future() => outcome,
        () = overdue => Ok(()),
    }
}
