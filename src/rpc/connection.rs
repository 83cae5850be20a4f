//! A connection from its acceptance to its end, whoever is on the other side: how many there may
//! be, how long one may take to begin, be silent, leave an answer lying or live, and what it may
//! send beside its calls (`frames`). It sees bytes as they are after TLS; a handshake counts to its
//! beginning. Must not know what a call is about: the gate tells it when one begins and ends.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

use super::{
    deadline::CallDeadline,
    frames::{FrameFlood, FrameMeter},
    limits::ServerLimits,
};
use crate::{telemetry::metrics::CountedConnection, tls::ServerStream};

/// After an accept that failed (descriptors are used up, mostly): the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a connection's times are looked at, at least.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// An answer that the client has not taken so long after its call's deadline is not wanted.
const UNTAKEN_MAX: Duration = Duration::from_secs(10);
/// Open calls of one connection that need no token (health): a prober has one or two.
const OPEN_CALLS_MAX: usize = 32;
/// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Connections, none above `limits.connections_max`. Above it the oldest that has never shown an
/// accepted token makes room; if there is none, further ones wait until one ends.
pub(super) fn guarded<I, IO, E>(
    incoming: I,
    limits: ServerLimits,
) -> impl Stream<Item = Result<Connection<IO>, io::Error>>
where
    I: Stream<Item = Result<IO, E>>,
    IO: Connected,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let accepting = (Box::pin(incoming), places, Strangers::default());
    futures_util::stream::unfold(accepting, move |(mut incoming, places, mut strangers)| async move {
        loop {
            match incoming.next().await? {
                Ok(io) => {
                    if places.available_permits() == 0 {
                        tracing::warn!(
                            connections_max = limits.connections_max,
                            "all connections are taken: one without a token makes room, or further ones wait; see server.connections_max"
                        );
                        strangers.make_room();
                    }
                    // Closed never.
                    let place = Arc::clone(&places).acquire_owned().await.ok()?;
                    let connection = Connection::new(io, place, limits);
                    strangers.add(&connection.calls, limits.connections_max);
                    return Some((Ok(connection), (incoming, places, strangers)));
                }
                Err(error) => {
                    let error: Box<dyn std::error::Error + Send + Sync> = error.into();
                    tracing::warn!(error = %error, "a connection could not be accepted; are descriptors used up?");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// Connections that had shown no token when they were last looked at, the oldest first.
#[derive(Default)]
struct Strangers(VecDeque<Weak<CallState>>);

impl Strangers {
    fn add(&mut self, calls: &OpenCalls, connections_max: usize) {
        if self.0.len() >= 2 * connections_max {
            self.0.retain(|of| of.upgrade().is_some_and(|state| !state.activity().is_known));
        }
        self.0.push_back(Arc::downgrade(&calls.0));
    }

    /// Tells the oldest to go.
    fn make_room(&mut self) {
        while let Some(oldest) = self.0.pop_front() {
            if let Some(state) = oldest.upgrade().filter(|state| !state.activity().is_known) {
                state.makes_room.store(true, Ordering::Release);
                state.waker.wake();
                return;
            }
        }
    }
}

/// What the calls of a connection tell it, and it them. In the extensions of each of its requests.
#[derive(Clone)]
pub(crate) struct OpenCalls(Arc<CallState>);

struct CallState {
    activity: Mutex<Activity>,
    /// Another connection needs the place of this one.
    makes_room: AtomicBool,
    /// Of the connection's task.
    waker: AtomicWaker,
}

impl CallState {
    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Activity {
    /// Calls whose answer is not wholly taken.
    open: usize,
    /// Those of them that need no token.
    open_without_token: usize,
    /// When the last call began or ended.
    last: Instant,
    /// The last deadline of any call; `None` while one has no deadline.
    until: Option<Instant>,
    /// Whether a token was accepted.
    is_known: bool,
    /// Calls that were let in since the frames were last counted.
    let_in: u32,
}

impl OpenCalls {
    pub(super) fn new(now: Instant) -> Self {
        let activity = Mutex::new(Activity {
            open: 0,
            open_without_token: 0,
            last: now,
            until: Some(now),
            is_known: false,
            let_in: 0,
        });
        Self(Arc::new(CallState { activity, makes_room: AtomicBool::new(false), waker: AtomicWaker::new() }))
    }

    fn activity(&self) -> MutexGuard<'_, Activity> {
        self.0.activity()
    }

    /// A call with a token has begun. It counts as open until the guard is dropped.
    pub(super) fn begin(&self, deadline: Option<CallDeadline>) -> OpenCall {
        let mut activity = self.activity();
        activity.is_known = true;
        activity.begin(deadline);
        OpenCall { calls: self.clone(), has_token: true }
    }

    /// A call that needs no token; `None`: this connection has enough of them.
    pub(super) fn begin_without_token(&self, deadline: Option<CallDeadline>) -> Option<OpenCall> {
        let mut activity = self.activity();
        if activity.open_without_token >= OPEN_CALLS_MAX {
            return None;
        }
        activity.open_without_token += 1;
        activity.begin(deadline);
        Some(OpenCall { calls: self.clone(), has_token: false })
    }

    /// A call with a token, and its message, was taken or refused for want of room: its frames were
    /// no flood.
    pub(super) fn let_in(&self) {
        let mut activity = self.activity();
        activity.let_in = activity.let_in.saturating_add(1);
    }
}

impl Activity {
    fn begin(&mut self, deadline: Option<CallDeadline>) {
        self.open += 1;
        self.last = Instant::now();
        self.until = match (self.until, deadline) {
            (Some(until), Some(deadline)) => Some(until.max(deadline.instant())),
            _ => None,
        };
    }
}

/// A call whose answer is under way.
pub(crate) struct OpenCall {
    calls: OpenCalls,
    has_token: bool,
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut activity = self.calls.activity();
        activity.open -= 1;
        activity.open_without_token -= usize::from(!self.has_token);
        activity.last = Instant::now();
        if activity.open == 0 {
            activity.until = Some(activity.last);
        }
    }
}

/// Why a connection is closed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum End {
    #[error("the HTTP/2 preface and settings did not come in time")]
    NotBegun,
    #[error("no call for too long")]
    Idle,
    #[error("answers were not taken")]
    Untaken,
    #[error("older than any call may be")]
    Old,
    #[error("more frames than its calls need")]
    FrameFlood,
    #[error("no token was shown, and another connection needs its place")]
    MakesRoom,
}

/// A connection that watches itself.
pub(super) struct Connection<IO> {
    io: IO,
    calls: OpenCalls,
    meter: FrameMeter,
    limits: ServerLimits,
    accepted_at: Instant,
    look_again: Pin<Box<Sleep>>,
    bytes_written: u32,
    /// What was written is with the system as a whole: a frame of our own may follow.
    is_flushed: bool,
    ended: Option<End>,
    _place: OwnedSemaphorePermit,
    _counted: CountedConnection,
}

impl<IO> Connection<IO> {
    fn new(io: IO, place: OwnedSemaphorePermit, limits: ServerLimits) -> Self {
        let now = Instant::now();
        Self {
            io,
            calls: OpenCalls::new(now),
            meter: FrameMeter::new(limits.frames_per_second, now),
            accepted_at: now,
            look_again: Box::pin(sleep_until(now + limits.handshake_timeout.min(LOOK_EVERY))),
            limits,
            bytes_written: 0,
            is_flushed: false,
            ended: None,
            _place: place,
            _counted: CountedConnection::new(),
        }
    }

    /// Whether it is over now, or when to look again.
    fn look(&self, now: Instant) -> Result<Instant, End> {
        let activity = self.calls.activity();
        let open = if activity.open == 0 {
            let silence = if activity.is_known { self.limits.idle_max } else { self.limits.stranger_idle_max };
            Some((activity.last + silence, End::Idle))
        } else {
            activity.until.map(|until| (until + UNTAKEN_MAX, End::Untaken))
        };
        let begun = (self.accepted_at + self.limits.handshake_timeout, End::NotBegun);
        let begun = (!self.meter.has_begun()).then_some(begun);
        let old = Some((self.accepted_at + self.limits.connection_life_max(), End::Old));
        let mut next = now + LOOK_EVERY;
        for (at, end) in [begun, open, old].into_iter().flatten() {
            if at <= now {
                return Err(end);
            }
            next = next.min(at);
        }
        Ok(next)
    }
}

impl<IO: AsyncRead + AsyncWrite + Connected + Unpin> Connection<IO> {
    /// Fails once the connection is over; else wakes the task when that may be.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.calls.0.waker.register(cx.waker());
        if self.ended.is_none() && self.calls.0.makes_room.load(Ordering::Acquire) {
            self.end(End::MakesRoom, cx);
        }
        while self.ended.is_none() && self.look_again.as_mut().poll(cx).is_ready() {
            match self.look(Instant::now()) {
                Ok(next) => self.look_again.as_mut().reset(next),
                Err(end) => self.end(end, cx),
            }
        }
        self.ended.map_or(Ok(()), |end| Err(io::Error::new(io::ErrorKind::ConnectionAborted, end)))
    }

    fn count(&mut self, from: usize, buf: &ReadBuf<'_>) -> Result<(), FrameFlood> {
        let read = &buf.filled()[from..];
        if read.is_empty() {
            return Ok(());
        }
        let let_in = std::mem::take(&mut self.calls.activity().let_in);
        self.meter.grant(let_in, std::mem::take(&mut self.bytes_written));
        self.meter.read(read, Instant::now())
    }

    fn end(&mut self, end: End, cx: &mut Context<'_>) {
        self.ended = Some(end);
        let peer_address = self.peer_address();
        match end {
            End::Idle | End::Old | End::MakesRoom => tracing::debug!(reason = %end, "a connection is closed"),
            End::NotBegun | End::Untaken | End::FrameFlood => {
                tracing::warn!(reason = %end, peer.address = ?peer_address, "a connection is closed");
            }
        }
        if self.is_flushed {
            // Best effort: a client learns that calls after its last stream were not worked on.
            let code = match end {
                End::Idle | End::Old | End::MakesRoom => NO_ERROR,
                End::NotBegun | End::Untaken | End::FrameFlood => ENHANCE_YOUR_CALM,
            };
            let _ = Pin::new(&mut self.io).poll_write(cx, &goaway(self.meter.last_stream(), code));
        }
    }

    fn peer_address(&self) -> Option<SocketAddr> {
        let info = self.io.connect_info();
        (&info as &dyn Any).downcast_ref::<Option<SocketAddr>>().copied().flatten()
    }
}

/// RFC 9113 §6.8.
fn goaway(last_stream: u32, code: u32) -> [u8; 17] {
    let mut frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    frame[9..13].copy_from_slice(&last_stream.to_be_bytes());
    frame[13..].copy_from_slice(&code.to_be_bytes());
    frame
}

impl Connected for ServerStream {
    type ConnectInfo = Option<SocketAddr>;

    fn connect_info(&self) -> Option<SocketAddr> {
        self.peer_address()
    }
}

impl<IO> Connected for Connection<IO> {
    type ConnectInfo = OpenCalls;

    fn connect_info(&self) -> OpenCalls {
        self.calls.clone()
    }
}

impl<IO: AsyncRead + AsyncWrite + Connected + Unpin> AsyncRead for Connection<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        let from = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if this.count(from, buf).is_err() {
            this.end(End::FrameFlood, cx);
            this.check(cx)?;
        }
        read
    }
}

impl<IO: AsyncRead + AsyncWrite + Connected + Unpin> AsyncWrite for Connection<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        this.is_flushed = false;
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, pieces);
        if let Poll::Ready(Ok(bytes)) = written {
            this.bytes_written = this.bytes_written.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.is_flushed = matches!(flushed, Poll::Ready(Ok(())));
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
