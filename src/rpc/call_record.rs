//! One call as operators see it: from its arrival to the end of its answer, however that comes. It
//! ends as a line of the access log, and moves the metrics. No number, name, address or token is in
//! either: a call is named by a keyed reference, a subject as it may be logged.

use std::{sync::Arc, time::Duration};

use http::{Extensions, HeaderName, HeaderValue};
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::Span;
use uuid::Uuid;

use super::{
    call_notes::CallNotes,
    methods::{MethodAccess, MethodRule},
};
use crate::{
    domain::call_ref::CallNamer,
    telemetry::{metrics, traces},
};

/// In every answer: what its lines in the log have as `request.id`.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What is shown of a method that is not served: its name is the client's text.
const UNKNOWN: &str = "unknown";

/// What `MatchCaller` or `ResolveRequester` found, as the proto names it. In the extensions of an
/// answer.
#[derive(Clone, Copy)]
pub(super) struct CallOutcome(pub(super) &'static str);

/// How long a call waited while CRMs were asked, as its account wishes. In the extensions of an
/// answer.
#[derive(Clone, Copy)]
pub(super) struct AsideWait(pub(super) Duration);

/// A call that has not ended. Dropped, it has.
pub(super) struct CallRecord {
    method: Option<&'static MethodRule>,
    request_id: Uuid,
    arrived: Instant,
    notes: Arc<CallNotes>,
    namer: CallNamer,
    /// `None`: nobody has taken an answer.
    code: Option<Code>,
    outcome: &'static str,
    /// While CRMs were asked.
    waited: Duration,
    /// Its span, if it is traced.
    traced: Option<Span>,
}

impl CallRecord {
    pub(super) fn begin(
        method: Option<&'static MethodRule>,
        request_id: Uuid,
        arrived: Instant,
        namer: &CallNamer,
        traced: Option<Span>,
    ) -> Self {
        let (notes, namer) = (Arc::default(), namer.clone());
        Self { method, request_id, arrived, notes, namer, code: None, outcome: "", waited: Duration::ZERO, traced }
    }

    pub(super) fn notes(&self) -> &Arc<CallNotes> {
        &self.notes
    }

    pub(super) fn request_id(&self) -> Uuid {
        self.request_id
    }

    /// As a header's value.
    pub(super) fn request_id_header(&self) -> HeaderValue {
        let mut text = Uuid::encode_buffer();
        let text = self.request_id.hyphenated().encode_lower(&mut text);
        HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// What the head of its answer says.
    pub(super) fn head(&mut self, extensions: &Extensions) {
        if let Some(CallOutcome(outcome)) = extensions.get() {
            self.outcome = outcome;
        }
        if let Some(AsideWait(waited)) = extensions.get() {
            self.waited = *waited;
        }
        // Of an answer with a body, the end is in its trailers.
        if let Some(status) = extensions.get::<Status>() {
            self.end(status.code());
        }
    }

    /// How it ends; the first word counts.
    pub(super) fn end(&mut self, code: Code) {
        self.code.get_or_insert(code);
    }
}

impl Drop for CallRecord {
    /// A call whose answer was not wholly taken was cancelled: its client has gone.
    fn drop(&mut self) {
        let (code, took) = (code_name(self.code.unwrap_or(Code::Cancelled)), self.arrived.elapsed());
        let path = self.method.map_or(UNKNOWN, |method| method.path);
        // Who waits as his account wishes is not answered slowly.
        let own = took.saturating_sub(self.waited);
        metrics::call_ended(path.rsplit('.').next().unwrap_or(path), self.outcome, code, own);
        let account_id = self.notes.account_id();
        let call_ref = || Some(self.namer.call_ref(account_id?, self.notes.call_id()?));
        if let Some(span) = &self.traced {
            span.record("rpc.code", code);
            if let Some(call_ref) = call_ref() {
                span.record("call.ref", tracing::field::display(call_ref));
            }
            if matches!(self.code, Some(Code::Internal | Code::Unknown | Code::Unavailable | Code::DataLoss)) {
                span.record("otel.status_code", "ERROR");
            }
        }
        macro_rules! tell {
            ($level:ident) => {
                tracing::event!(
                    target: "access",
                    parent: None,
                    tracing::Level::$level,
                    rpc.method = path,
                    rpc.code = code,
                    outcome = Some(self.outcome).filter(|outcome| !outcome.is_empty()),
                    // A number in JSON, too: of 128 bits it would be a text.
                    duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    request.id = %self.request_id,
                    subject = self.notes.subject(),
                    account.id = account_id.map(tracing::field::display),
                    call.ref = call_ref().map(tracing::field::display),
                    trace.id = self.traced.as_ref().and_then(traces::trace_id),
                    "call"
                )
            };
        }
        // Probes of health come every second.
        if self.method.is_some_and(|method| method.access == MethodAccess::Open) {
            tell!(DEBUG);
        } else {
            tell!(INFO);
        }
    }
}

/// As gRPC's documentation writes it (grpc/doc/statuscodes.md).
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
