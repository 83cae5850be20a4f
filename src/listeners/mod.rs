//! Edge in over HTTP: what browsers and probes ask, beside gRPC. Owns axum and the server around
//! it. Every limit is set on purpose: connections, time, size of a request's head; one request a
//! connection. What comes in calls `integrations` alone, and never writes what a run writes. A CRM
//! that pushed its changes would need a limit for its messages here, and an event of its own there
//! (`ControlEvent`): a trigger is an operator's word, which lifts pauses. Must not know SQL,
//! vendors or tonic.

mod admin;
mod callback;
mod page;

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::{debug, warn};

pub use self::admin::admin_routes;
use self::callback::CallbackState;
use crate::{
    integrations::IntegrationContext,
    tls::{BoundListener, ServerStream},
};

/// Connections at once. Above it the oldest whose request has not come makes room; if there is
/// none, further ones wait.
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
pub fn routes(integrations: IntegrationContext) -> Router {
    let uninstalls = Semaphore::new(callback::UNINSTALLS_MAX);
    Router::new()
        .route("/oauth/callback", get(callback::answer).delete(callback::uninstalled))
        .with_state(CallbackState { integrations: Arc::new(integrations), uninstalls: Arc::new(uninstalls) })
        .route("/healthz", get(async || "ok\n"))
        .fallback(async || page::NOT_FOUND)
}

/// Serves until `stop` is cancelled; requests under way are still answered, in tasks of this
/// tracker.
pub async fn serve(
    listener: BoundListener,
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        never = accept(listener, router, tasks, &stop) => never,
    }
}

async fn accept(
    listener: BoundListener,
    router: Router,
    tasks: TaskTracker,
    stop: &CancellationToken,
) -> Result<(), Infallible> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections: VecDeque<Weak<OpenConnection>> = VecDeque::new();
    loop {
        let stream = match listener.socket.accept().await {
            Ok((stream, _)) => ServerStream::new(stream, listener.tls.as_deref()),
            Err(error) => {
                warn!(error = %error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if room.available_permits() == 0 {
            warn!(
                connections_max = CONNECTIONS_MAX,
                "all HTTP connections are taken: one without a request makes room, or further ones wait"
            );
            make_room(&mut connections);
        }
        // Closed never.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        let open = Arc::new(OpenConnection::default());
        connections.retain(|open| open.strong_count() > 0);
        connections.push_back(Arc::downgrade(&open));
        tasks.spawn(answer(stream, router.clone(), permit, open, stop.clone()));
    }
}

/// A connection, as far as others that need its place may know it.
#[derive(Default)]
struct OpenConnection {
    has_asked: AtomicBool,
    makes_room: Notify,
}

/// Tells the oldest to go whose request has not come: a probe of health must not wait behind those
/// who send nothing.
fn make_room(connections: &mut VecDeque<Weak<OpenConnection>>) {
    while let Some(oldest) = connections.pop_front() {
        if let Some(open) = oldest.upgrade().filter(|open| !open.has_asked.load(Ordering::Relaxed)) {
            open.makes_room.notify_one();
            return;
        }
    }
}

async fn answer(
    stream: ServerStream,
    router: Router,
    permit: OwnedSemaphorePermit,
    open: Arc<OpenConnection>,
    stop: CancellationToken,
) {
    let asking = Arc::clone(&open);
    let service = router.map_request(move |request: http::Request<hyper::body::Incoming>| {
        asking.has_asked.store(true, Ordering::Relaxed);
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let served = timeout(CONNECTION_TIMEOUT, async {
        tokio::select! {
            served = connection.as_mut() => return served,
            () = open.makes_room.notified() => return Ok(()),
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
