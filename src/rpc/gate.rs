//! What every request passes before a handler sees it, and every answer before it leaves; one
//! straight road, so that the order is what is read here:
//!
//! span, record and request id → size of the headers → token and scope → deadline → is there room?
//! → the message is read → room is taken → handler (a panic is caught) → reason on every error.
//!
//! Room is for work: nobody holds any with a message that does not come. A stranger learns nothing
//! about load, and what his tries cost is bounded by his connection's budget of frames. Health
//! needs no room: an overloaded server is not a dead one.

use std::{
    any::Any,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Bytes},
    service::Routes,
};
use tower::{Service, ServiceExt};
use tower_http::catch_panic::CatchPanic;
use tracing::{Instrument, Span, field};
use uuid::Uuid;

use super::{
    audit::{AuditMoment, leaves_refusals},
    auth::{TokenHolder, TokenVerifier},
    body::read_body,
    call_notes::CallNotes,
    call_record::{self, CallRecord},
    connection::{OpenCall, OpenCalls},
    deadline::{CallDeadline, deadline_of},
    limits::ServerLimits,
    methods::{CallQueue, MethodRule, find_method},
    room::{CallRoom, NoRoom},
    status,
};
use crate::{
    audit::RefusalRecorder,
    domain::{call_ref::CallNamer, clock::Clock, ids::IdSource},
    telemetry::{
        metrics,
        traces::{self, TraceParent},
    },
};

/// What the gate needs for every request.
pub(crate) struct GateState {
    pub(crate) verifier: Arc<TokenVerifier>,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Names phone calls in the log.
    pub(crate) call_namer: CallNamer,
    pub(crate) rooms: CallRooms,
    /// Writes what is refused into the audit.
    pub(crate) refusals: RefusalRecorder,
    pub(crate) reflection: bool,
    /// Largest request message, in bytes.
    pub(crate) request_bytes_max: usize,
    /// Largest sum of a request's headers, in bytes as HTTP/2 counts them.
    pub(crate) header_bytes_max: u32,
    /// How long a request's message may take to arrive.
    pub(crate) message_timeout: Duration,
    /// Ends every call and stream at once: the drain has taken too long.
    pub(crate) cut: CancellationToken,
}

/// Where calls are admitted to. A handler's call has a place as long as it is worked on; open
/// streams hold none.
pub(crate) struct CallRooms {
    /// Those that wait for the call path's connections to the database.
    calls: Arc<CallRoom>,
    /// All others.
    others: Arc<CallRoom>,
    /// Those whose message is still on its way.
    reading: Arc<CallRoom>,
}

impl CallRooms {
    pub(crate) fn new(limits: &ServerLimits) -> Self {
        Self {
            calls: CallRoom::new(limits.queued_calls_max.min(limits.calls_max)),
            others: CallRoom::new(limits.calls_max),
            reading: CallRoom::new(limits.calls_max),
        }
    }

    /// Says how full each is.
    pub(crate) fn report(&self) {
        for (name, room) in [("calls", &self.calls), ("others", &self.others), ("reading", &self.reading)] {
            let (taken, places) = room.figures();
            metrics::room(name, taken, places);
        }
    }

    fn of(&self, method: Option<&MethodRule>) -> &Arc<CallRoom> {
        match method.map(|method| method.queue) {
            Some(CallQueue::CallPath) => &self.calls,
            _ => &self.others,
        }
    }
}

/// The service that the server runs for each connection.
#[derive(Clone)]
pub(crate) struct CallGate {
    pub(crate) shared: Arc<GateState>,
    pub(crate) routes: Routes,
}

impl Service<Request<Body>> for CallGate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Before anything waits: a deadline counts from here.
        let arrived = Instant::now();
        let gate = self.clone();
        Box::pin(async move { Ok(gate.answer(request, arrived).await) })
    }
}

impl CallGate {
    async fn answer(self, request: Request<Body>, arrived: Instant) -> Response<Body> {
        let method = find_method(request.uri().path(), self.shared.reflection);
        let request_id = self.shared.ids.new_v7(self.shared.clock.now());
        let (span, is_traced) = self.span_of(method, request_id, request.headers());
        let traced = is_traced.then(|| span.clone());
        let mut record = CallRecord::begin(method, request_id, arrived, &self.shared.call_namer, traced);
        let cut = self.shared.cut.clone();
        let (mut response, open) =
            match self.pass(method, request, arrived, request_id, record.notes()).instrument(span).await {
                Ok((response, open)) => (response, Some(open)),
                Err(status) => (status.into_http(), None),
            };
        // Whoever made an error status left it beside its headers.
        let made: Option<&Status> = response.extensions().get();
        let whole = made.and_then(|made| status::complete(made, &request_id.to_string()));
        if let Some(whole) = whole {
            response = whole.into_http();
        }
        response.headers_mut().insert(call_record::REQUEST_ID, record.request_id_header());
        record.head(response.extensions());
        response.map(|body| AnswerBody::of(body, open, cut, record))
    }

    /// The span of a call, and whether it is traced.
    fn span_of(&self, method: Option<&MethodRule>, request_id: Uuid, headers: &HeaderMap) -> (Span, bool) {
        // An unknown path is the client's text and stays out of the log.
        let path = method.map_or("unknown", |method| method.path);
        let traceparent = headers.get(traces::TRACEPARENT).and_then(|value| value.to_str().ok());
        let random = || self.shared.ids.with_rng(rand::RngExt::random);
        let Some(parent) = TraceParent::decide(traceparent, random) else {
            let empty = field::Empty;
            return (
                tracing::info_span!("rpc", rpc.method = path, request.id = %request_id, account.id = empty),
                false,
            );
        };
        let span = tracing::info_span!(
            target: traces::ROOT_TARGET,
            "rpc",
            otel.kind = "server",
            otel.status_code = field::Empty,
            rpc.method = path,
            rpc.code = field::Empty,
            request.id = %request_id,
            account.id = field::Empty,
            call.ref = field::Empty,
        );
        parent.adopt(&span);
        (span, true)
    }

    async fn pass(
        self,
        method: Option<&'static MethodRule>,
        mut request: Request<Body>,
        arrived: Instant,
        request_id: Uuid,
        notes: &Arc<CallNotes>,
    ) -> Result<(Response<Body>, OpenAnswer), Status> {
        if header_bytes(&request) > self.shared.header_bytes_max as usize {
            return Err(status::headers_too_large(self.shared.header_bytes_max));
        }
        let admitted = self.shared.verifier.admit(method, request.headers()).await;
        let caller = admitted.inspect_err(|refused| self.note_token(method, request.headers(), refused, request_id))?;
        if let Some(caller) = &caller {
            notes.note_subject(caller.logged_subject());
        }
        request.extensions_mut().insert(Arc::clone(notes));
        let time_max = method.and_then(|method| method.time_max);
        let deadline = deadline_of(request.headers(), time_max, arrived)?;
        if let Some(deadline) = deadline {
            // Nobody waits for it any more. A timer would let the first milliseconds of work pass.
            if deadline.remaining().is_zero() {
                return Err(status::deadline_exceeded());
            }
            request.extensions_mut().insert(deadline);
        }
        // Every connection brings its own; a request without one came by no connection.
        let calls = request.extensions_mut().remove::<OpenCalls>().unwrap_or_else(|| OpenCalls::new(arrived));
        let open_call = match &caller {
            Some(_) => calls.begin(deadline),
            None => calls.begin_without_token(deadline).ok_or_else(|| status::overloaded(NoRoom::Connection))?,
        };

        let cut = self.shared.cut.clone();
        let answered = async {
            match caller {
                Some(caller) => self.work(method, request, caller, &calls, request_id).await,
                None => self.work_for_anybody(request).await,
            }
        };
        let response = tokio::select! {
            biased;
            answered = answered => answered?,
            status = early_end(deadline, cut) => return Err(status),
        };
        Ok((response, OpenAnswer { deadline, _open_call: open_call }))
    }

    /// Reads the message, takes a place and lets the handler answer.
    async fn work(
        &self,
        method: Option<&'static MethodRule>,
        mut request: Request<Body>,
        caller: Arc<TokenHolder>,
        calls: &OpenCalls,
        request_id: Uuid,
    ) -> Result<Response<Body>, Status> {
        let rooms = &self.shared.rooms;
        let room = rooms.of(method);
        if room.is_full() {
            calls.let_in();
            return Err(status::overloaded(NoRoom::Full));
        }
        let reading = rooms.reading.enter(Some(caller.reading_share())).map_err(status::overloaded)?;
        let request_read = self.read(request).await;
        drop(reading);
        request = request_read?;
        calls.let_in();
        let place = Arc::new(room.enter(caller.share()).map_err(status::overloaded)?);
        request.extensions_mut().insert(Arc::clone(&place));
        let audited = method
            .filter(|method| leaves_refusals(method))
            .map(|method| self.moment(request_id).audit(method, &caller));
        if let Some(audited) = &audited {
            request.extensions_mut().insert(Arc::clone(audited));
        }
        request.extensions_mut().insert(caller);
        if let Some(method) = method {
            request.extensions_mut().insert(method);
        }
        let response = self.handle(request).await;
        if let Some(audited) = audited {
            audited.note_refusal(&response, &place, &self.shared.refusals);
        }
        drop(place);
        Ok(response)
    }

    /// Health, and reflection if it is switched on: a client streams its questions to that, one
    /// after the other.
    async fn work_for_anybody(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let is_streaming = request.uri().path().ends_with("/ServerReflectionInfo");
        let request = if is_streaming { request } else { self.read(request).await? };
        Ok(self.handle(request).await)
    }

    fn moment(&self, request_id: Uuid) -> AuditMoment<'_> {
        AuditMoment { ids: &self.shared.ids, now: self.shared.clock.now(), request_id }
    }

    /// Notes for the audit that a token opens nothing here, or (it is known whose it is) not this
    /// method.
    fn note_token(&self, method: Option<&MethodRule>, headers: &HeaderMap, refused: &Status, request_id: Uuid) {
        let is_good = refused.code() == Code::PermissionDenied;
        let caller = Some(headers).filter(|_| is_good).and_then(|headers| self.shared.verifier.find_holder(headers));
        self.moment(request_id).note_token(method, caller.as_deref(), refused, &self.shared.refusals);
    }

    async fn read(&self, request: Request<Body>) -> Result<Request<Body>, Status> {
        let (parts, body) = request.into_parts();
        let until = Instant::now() + self.shared.message_timeout;
        let body = read_body(body, self.shared.request_bytes_max, until).await?;
        Ok(Request::from_parts(parts, body))
    }

    async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let Ok(response) = CatchPanic::custom(self.routes.clone(), on_panic).oneshot(request).await;
        response.map(Body::new)
    }
}

/// The size of the headers (RFC 9113 §6.5.2: each field's name, value and 32 bytes); of the
/// pseudo-headers the path alone can be long.
fn header_bytes(request: &Request<Body>) -> usize {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    fields.sum::<usize>() + request.uri().path().len()
}

/// Waits until a call has to end without its answer, and says why.
async fn early_end(deadline: Option<CallDeadline>, cut: CancellationToken) -> Status {
    let passed = async {
        match deadline {
            Some(deadline) => sleep_until(deadline.instant()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = passed => status::deadline_exceeded(),
        () = cut.cancelled() => shutting_down(),
    }
}

/// What a call is told when the server ends before its answer.
fn shutting_down() -> Status {
    status::unavailable("SHUTTING_DOWN", "the server is shutting down", Some(Duration::from_secs(1)))
}

/// The panic hook has logged what happened; the caller learns the request's id.
fn on_panic(_: Box<dyn Any + Send>) -> Response<Body> {
    status::internal_logged().into_http()
}

/// What is left of a call once its handler has answered.
struct OpenAnswer {
    deadline: Option<CallDeadline>,
    /// Until the client has taken it.
    _open_call: OpenCall,
}

/// The body of an answer, which for a stream outlives the handler. It ends with `DEADLINE_EXCEEDED`
/// at the deadline and with UNAVAILABLE when the server is cut off, because a stream must not
/// outlive what its call was granted; and an error in its trailers is made complete like one in the
/// headers.
struct AnswerBody {
    inner: Body,
    /// `None`: refused before it was begun, and has no more than a head.
    open: Option<OpenAnswer>,
    cut: CancellationToken,
    /// Made when the body is first waited for: a single message is there at once, and pays for no
    /// timer.
    early_end: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
    record: CallRecord,
    is_done: bool,
}

impl AnswerBody {
    fn of(inner: Body, open: Option<OpenAnswer>, cut: CancellationToken, mut record: CallRecord) -> Body {
        if inner.is_end_stream() {
            record.end(Code::Ok);
            return inner;
        }
        Body::new(Self { inner, open, cut, early_end: None, record, is_done: false })
    }

    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.is_done = true;
        self.record.end(status.code());
        self.inner = Body::empty();
        Poll::Ready(Some(trailers_of(status)))
    }

    fn complete(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Status> {
        let Some(made) = frame.trailers_ref().and_then(Status::from_header_map) else { return Ok(frame) };
        let whole = status::complete_trailers(&made, &self.record.request_id().to_string());
        self.record.end(whole.as_ref().unwrap_or(&made).code());
        whole.map_or(Ok(frame), |whole| trailers_of(&whole))
    }
}

fn trailers_of(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_done {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.and_then(|frame| this.complete(frame))));
        }
        let (deadline, cut) = (this.open.as_ref().and_then(|open| open.deadline), &this.cut);
        let early_end = this.early_end.get_or_insert_with(|| Box::pin(early_end(deadline, cut.clone())));
        match early_end.as_mut().poll(cx) {
            Poll::Ready(status) => this.end_with(&status),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_done || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
