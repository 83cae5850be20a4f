//! The gRPC server: its health, reflection and end. A shutdown goes in this order: health says
//! `NOT_SERVING` → `wait`, in which load balancers turn away and calls are still answered → no new
//! connections, GOAWAY to the old, open calls end → after `timeout` what is left is cut off with
//! UNAVAILABLE. Owns no state of the features: their services come in as `Routes`.

use std::{io, sync::Arc, time::Duration};

use rand::RngExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::server::{Connected, TcpIncoming},
};

use super::{
    auth::TokenVerifier,
    connection::guarded,
    gate::{CallGate, CallRooms, GateState},
    health::ServingHealth,
    limits::ServerLimits,
    pb::{
        FILE_DESCRIPTOR_SET,
        account_service_server::{AccountService, AccountServiceServer},
        caller_service_server::{CallerService, CallerServiceServer},
        contact_service_server::{ContactService, ContactServiceServer},
        sync_service_server::{SyncService, SyncServiceServer},
    },
};
use crate::{
    audit::RefusalRecorder,
    domain::{call_ref::CallNamer, clock::Clock, ids::IdSource},
    tls::{BoundListener, ServerStream},
};

/// How long calls may take to tell their clients that they were cut off.
const CUT_GRACE: Duration = Duration::from_secs(1);
/// Idle TCP connections are probed after this, in case the peer vanished without HTTP/2 keepalive
/// noticing.
const TCP_KEEPALIVE: Duration = Duration::from_mins(1);
/// How much larger than allowed headers may be and still get a refusal that says so.
const HEADERS_READ_FACTOR: u32 = 4;
/// How often it is said how full the rooms are.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// What all streams of a connection may have in flight towards the server together, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How a shutdown is paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainTimes {
    /// From `NOT_SERVING` to the end of accepting: as long as load balancers take to notice.
    pub wait: Duration,
    /// From then on, what open calls may still take.
    pub timeout: Duration,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every call had its answer.
    Clean,
    /// Some were cut off.
    Cut,
}

/// The server could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The transport failed.
    #[error("the gRPC server failed")]
    Transport(#[source] tonic::transport::Error),
    /// It stopped by itself.
    #[error("the gRPC server's listener has ended")]
    ListenerEnded,
    /// The compiled-in descriptors are broken.
    #[error("the descriptors for reflection cannot be read")]
    Descriptors(#[source] tonic_reflection::server::Error),
}

/// The services of this product, each with the message sizes of `limits`.
pub fn routes<A, C, N, S>(limits: &ServerLimits, account: A, caller: C, contact: N, sync: S) -> Routes
where
    A: AccountService,
    C: CallerService,
    N: ContactService,
    S: SyncService,
{
    let (request, response) = (limits.request_bytes_max, limits.response_bytes_max);
    macro_rules! limited {
        ($server:ident, $service:ident) => {
            $server::new($service).max_decoding_message_size(request).max_encoding_message_size(response)
        };
    }
    Routes::new(limited!(AccountServiceServer, account))
        .add_service(limited!(CallerServiceServer, caller))
        .add_service(limited!(ContactServiceServer, contact))
        .add_service(limited!(SyncServiceServer, sync))
}

/// The connections of a listener, without Nagle's delay.
pub fn incoming(listener: BoundListener) -> impl Stream<Item = Result<ServerStream, io::Error>> {
    let BoundListener { socket, tls } = listener;
    let accepted = TcpIncoming::from(socket).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEPALIVE));
    accepted.map(move |stream| Ok(ServerStream::new(stream?, tls.as_deref())))
}

/// A server that is ready to run.
pub struct GrpcServer {
    /// What it may take.
    pub limits: ServerLimits,
    /// How it ends.
    pub drain: DrainTimes,
    /// Who may call.
    pub verifier: Arc<TokenVerifier>,
    /// Makes request ids and the jitter of the connections' age.
    pub ids: Arc<IdSource>,
    /// For request ids.
    pub clock: Arc<dyn Clock>,
    /// Names phone calls in the log.
    pub call_namer: CallNamer,
    /// Takes down what is refused.
    pub refusals: RefusalRecorder,
    /// Serve reflection, to anybody.
    pub reflection: bool,
    /// What health checks are told.
    pub health: ServingHealth,
}

impl GrpcServer {
    /// Serves until `soft` is cancelled and the drain is over; `hard` cuts everything off at once.
    /// `incoming` is a listener's connections, or any pipe in a test.
    pub async fn serve<I, IO, IE>(
        self,
        routes: Routes,
        incoming: I,
        soft: CancellationToken,
        hard: CancellationToken,
    ) -> Result<DrainOutcome, ServerError>
    where
        I: Stream<Item = Result<IO, IE>>,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        IE: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let cut = CancellationToken::new();
        let gate = CallGate {
            routes: self.all_routes(routes)?.prepare(),
            shared: Arc::new(GateState {
                call_namer: self.call_namer.clone(),
                rooms: CallRooms::new(&self.limits),
                refusals: self.refusals.clone(),
                cut: cut.clone(),
                verifier: Arc::clone(&self.verifier),
                ids: Arc::clone(&self.ids),
                clock: Arc::clone(&self.clock),
                reflection: self.reflection,
                request_bytes_max: self.limits.request_bytes_max,
                header_bytes_max: self.limits.header_bytes_max,
                message_timeout: self.limits.message_timeout,
            }),
        };
        let shared = Arc::clone(&gate.shared);
        let reporting = async move {
            loop {
                shared.rooms.report();
                sleep(REPORT_EVERY).await;
            }
        };
        let stop_accepting = async {
            soft.cancelled().await;
            self.health.drain();
            // Nobody waits for the load balancers once the hard stop has come.
            let _ = timeout(self.drain.wait, hard.cancelled()).await;
            self.health.end();
        };
        let incoming = guarded(incoming, self.limits);
        let mut serving = std::pin::pin!(self.transport().serve_with_incoming_shutdown(gate, incoming, stop_accepting));
        let overdue = async {
            tokio::select! {
                () = hard.cancelled() => {}
                () = async { soft.cancelled().await; sleep(self.drain.wait + self.drain.timeout).await } => {}
            }
        };
        tokio::select! {
            biased;
            ended = &mut serving => {
                ended.map_err(ServerError::Transport)?;
                return if soft.is_cancelled() { Ok(DrainOutcome::Clean) } else { Err(ServerError::ListenerEnded) };
            }
            () = overdue => {}
            never = reporting => never,
        }
        tracing::warn!("the drain took too long, open calls are cut off");
        soft.cancel();
        cut.cancel();
        if let Ok(ended) = timeout(CUT_GRACE, serving).await {
            ended.map_err(ServerError::Transport)?;
        } else {
            tracing::warn!("connections that do not close are left to the end of the process");
        }
        Ok(DrainOutcome::Cut)
    }

    fn all_routes(&self, routes: Routes) -> Result<Routes, ServerError> {
        let routes = routes.add_service(self.health.service(self.limits.request_bytes_max));
        if !self.reflection {
            return Ok(routes);
        }
        let builder =
            || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
        let limit = self.limits.request_bytes_max;
        Ok(routes
            .add_service(builder().build_v1().map_err(ServerError::Descriptors)?.max_decoding_message_size(limit))
            .add_service(builder().build_v1alpha().map_err(ServerError::Descriptors)?.max_decoding_message_size(limit)))
    }

    fn transport(&self) -> tonic::transport::Server {
        let limits = &self.limits;
        // One request fits into its stream's window, so a connection cannot make the server hold
        // more than the windows.
        let stream_window = u32::try_from(limits.request_bytes_max).unwrap_or(CONNECTION_WINDOW_BYTES);
        tonic::transport::Server::builder()
            .max_concurrent_streams(limits.streams_per_connection_max)
            .initial_stream_window_size(stream_window.clamp(64 * 1024, CONNECTION_WINDOW_BYTES))
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            // Above this the connection itself refuses, without a word of gRPC; what is below it,
            // the gate refuses with a reason.
            .http2_max_header_list_size(limits.header_bytes_max * HEADERS_READ_FACTOR)
            .http2_keepalive_interval(Some(limits.keepalive_interval))
            .http2_keepalive_timeout(Some(limits.keepalive_timeout))
            // Without tonic's grace: in 0.14.9 that replaces the GOAWAY by a hard close. Calls end
            // by their deadlines.
            .max_connection_age(self.jittered_age())
    }

    /// Servers that start together do not send their clients away together. (One jitter a process:
    /// tonic takes one age.)
    fn jittered_age(&self) -> Duration {
        let age = self.limits.connection_age_max;
        self.ids.with_rng(|rng| rng.random_range(age / 10 * 9..=age))
    }
}

#[cfg(test)]
#[path = "server_tests/mod.rs"]
mod tests;
