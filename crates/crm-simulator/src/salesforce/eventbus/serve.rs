//! Serves the event bus over TLS until told to stop. Must not: bind a port, or speak without TLS.

use std::{io, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use super::{CERTIFICATE, api::pub_sub_server::PubSubServer, service::EventService};
use crate::salesforce::Salesforce;

const KEY: &str = include_str!("localhost.key");
/// What connections get to end after the stop signal.
const DRAIN: Duration = Duration::from_secs(5);
/// A client that never ends its handshake holds a place no longer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Serves Salesforce's Pub/Sub API on `listener` until `shutdown` is cancelled: over TLS alone,
/// with the [`CERTIFICATE`]. Subscriptions end at the stop with an error.
///
/// Errors: only what the listener itself reports.
pub async fn serve_eventbus(
    listener: TcpListener,
    salesforce: Arc<Salesforce>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let identity = ServerTlsConfig::new().identity(Identity::from_pem(CERTIFICATE, KEY)).timeout(HANDSHAKE_MAX);
    let service = PubSubServer::new(EventService { salesforce, stop: shutdown.clone() });
    let serving = Server::builder().tls_config(identity).map_err(io::Error::other)?.serve_with_incoming_shutdown(
        service,
        TcpListenerStream::new(listener),
        shutdown.clone().cancelled_owned(),
    );
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        outcome = serving => outcome.map_err(io::Error::other),
        () = overdue => Ok(()),
    }
}
