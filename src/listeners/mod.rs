//! Edge in over HTTP: what browsers and probes ask, beside gRPC. Owns axum and the server around it. Every limit is set on purpose:
//! connections, time, size of a request's head; one request a connection. Must not know SQL, vendors or tonic.

mod callback;
mod page;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::integrations::Integrations;

/// Connections at once; further ones wait to be accepted.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// A connection sends its request's head within this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is over after this: a code's exchange and the look at the CRM fit.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(2);
/// Largest head of a request, in bytes: a callback's code and state have some hundreds.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// After a failed accept (too many open files): the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is served over HTTP.
pub fn routes(integrations: Integrations) -> Router {
    Router::new()
        .route("/oauth/callback", get(callback::answer))
        .with_state(Arc::new(integrations))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async || page::NOT_FOUND)
}

/// Serves until `stop` is cancelled; requests under way are still answered, in tasks of this tracker.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            if room.available_permits() == 0 {
                warn!(connections_max = CONNECTIONS_MAX, "all HTTP connections are taken, further ones wait");
            }
            // Closed never.
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            Some((listener.accept().await, permit))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = accepted => accepted,
        };
        match accepted {
            Some((Ok((stream, _)), permit)) => {
                tasks.spawn(answer(stream, router.clone(), permit, stop.clone()));
            }
            Some((Err(error), _)) => {
                warn!(error = %error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
            None => return Ok(()),
        }
    }
}

async fn answer(stream: TcpStream, router: Router, permit: OwnedSemaphorePermit, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = timeout(CONNECTION_TIMEOUT, async {
        tokio::select! {
            served = connection.as_mut() => return served,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    });
    // A client that sends rubbish or leaves is no news; the error holds nothing of the request.
    if let Ok(Err(error)) = served.await {
        debug!(error = %error, "an HTTP connection ended early");
    }
    drop(permit);
}
