//! TCP connections that a response can cut off. Owns: the accept loop, the limit on connections,
//! the abort flag of each. Invariant: an aborted connection ends with a reset, never with an
//! orderly close, as when a load balancer in front of a vendor dies.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Connections served at once; the next ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;

/// Pause after a failed accept (out of file descriptors, usually), so that the loop does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The right to cut off the connection on which a request came.
#[derive(Clone)]
pub(crate) struct ConnectionHandle(Arc<AtomicBool>);

impl ConnectionHandle {
    /// From now on every read and write of the connection fails, and closing it sends a reset.
    pub(crate) fn abort(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, WatchedListener>> for ConnectionHandle {
    fn connect_info(stream: IncomingStream<'_, WatchedListener>) -> Self {
        stream.io().handle.clone()
    }
}

/// A listener whose connections can be aborted, at most [`CONNECTIONS_MAX`] at once.
pub(crate) struct WatchedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl WatchedListener {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for WatchedListener {
    type Io = WatchedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            let Ok((stream, address)) = self.listener.accept().await else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            // Only costs latency when it fails.
            let _ = stream.set_nodelay(true);
            let handle = ConnectionHandle(Arc::new(AtomicBool::new(false)));
            return (WatchedStream { stream, handle, _slot: slot }, address);
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A TCP stream that fails once it is aborted, and holds one of the connection slots.
pub(crate) struct WatchedStream {
    stream: TcpStream,
    handle: ConnectionHandle,
    _slot: OwnedSemaphorePermit,
}

impl WatchedStream {
    fn checked(&self) -> io::Result<()> {
        if self.handle.0.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        if self.checked().is_err() {
            // Without it the peer sees an orderly end; either way the response is cut short.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.checked()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.checked()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.checked()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.checked()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
