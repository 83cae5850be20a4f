//! Edge in over HTTP: what browsers, CRMs and probes ask, beside gRPC. Owns axum and the server
//! around it. Every limit is set on purpose: connections, time, size of a request's head; one
//! request a connection, but for what CRMs push. What comes in calls `integrations` alone, and
//! never writes what a run writes: an event becomes a hint. Must not know SQL, vendors or tonic.

mod admin;
mod callback;
mod hooks;
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

use axum::{
    Router,
    http::{HeaderValue, header::CONNECTION},
    response::Response,
    routing::{any, get},
};
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
use self::{callback::CallbackState, hooks::KeptOpen};
use crate::{
    integrations::{HookReceiver, IntegrationContext},
    tls::{BoundListener, ServerStream},
};

/// Connections at once. Above it the oldest that is not at work makes room; if there is none,
/// further ones wait. Of what CRMs push 192 requests are worked on at once, so that a browser finds
/// room in any burst.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// A connection sends its request's head within this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection takes no further request after this.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(2);
/// And is over after this, too: a code's exchange and the look at the CRM fit.
const REQUEST_GRACE: Duration = Duration::from_mins(2);
/// Largest head of a request, in bytes: a callback's code and state have some hundreds.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// After a failed accept (too many open files): the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is served over HTTP.
pub fn routes(integrations: IntegrationContext, hooks: Arc<HookReceiver>) -> Router {
    let uninstalls = Semaphore::new(callback::UNINSTALLS_MAX);
    Router::new()
        .route("/oauth/callback", get(callback::answer).delete(callback::uninstalled))
        .with_state(CallbackState { integrations: Arc::new(integrations), uninstalls: Arc::new(uninstalls) })
        .merge(Router::new().route("/hooks/{*path}", any(hooks::answer)).with_state(hooks))
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
                "all HTTP connections are taken: one that is not at work makes room, or further ones wait"
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
    /// From a request's head to its answer.
    is_at_work: AtomicBool,
    makes_room: Notify,
}

/// Tells the oldest to go that is not at work: a probe of health must not wait behind those who
/// send nothing, or may send something more one day.
fn make_room(connections: &mut VecDeque<Weak<OpenConnection>>) {
    let is_idle =
        |open: &Weak<OpenConnection>| open.upgrade().is_some_and(|open| !open.is_at_work.load(Ordering::Relaxed));
    let oldest = connections.iter().position(is_idle).and_then(|at| connections.remove(at));
    if let Some(open) = oldest.and_then(|oldest| oldest.upgrade()) {
        open.makes_room.notify_one();
    }
}

fn close_unless_kept(mut response: Response) -> Response {
    if response.extensions().get::<KeptOpen>().is_none() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn answer(
    stream: ServerStream,
    router: Router,
    permit: OwnedSemaphorePermit,
    open: Arc<OpenConnection>,
    stop: CancellationToken,
) {
    let (asking, resting) = (Arc::clone(&open), Arc::clone(&open));
    let service = router
        .map_request(move |request: http::Request<hyper::body::Incoming>| {
            asking.has_asked.store(true, Ordering::Relaxed);
            asking.is_at_work.store(true, Ordering::Relaxed);
            request
        })
        .map_response(move |response: Response| {
            resting.is_at_work.store(false, Ordering::Relaxed);
            close_unless_kept(response)
        });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Between two requests, too.
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let served = timeout(CONNECTION_TIMEOUT + REQUEST_GRACE, async {
        tokio::select! {
            served = connection.as_mut() => return served,
            // One that has asked before may still be sending its last answer.
            () = open.makes_room.notified() => if !open.has_asked.load(Ordering::Relaxed) { return Ok(()) },
            () = sleep(CONNECTION_TIMEOUT) => {}
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    });
    // A client that sends rubbish or leaves is no news; the error holds nothing of the request.
    if let Ok(Err(error)) = served.await {
        debug!(error = %error, "an HTTP connection ended early");
    }
    drop(permit);
}
