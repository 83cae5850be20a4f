//! `POST /hooks/{provider}/{address}`: what CRMs push. Strangers learn nothing: whatever they send
//! is answered 404 from its head alone, without the database. Answers have no body. Nothing of a
//! request is ever logged: an event may hold a phone number.

use std::{sync::Arc, time::Duration};

use axum::{
    body::to_bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::time::timeout;
use tracing::debug;

use crate::{
    integrations::{HookError, HookOutcome, HookReceiver},
    telemetry::{chain, metrics},
};

/// Longest body of an event, in bytes.
const HOOK_BYTES_MAX: usize = 256 * 1024;
/// A request is over within this, from its head on.
const HOOK_TIME_MAX: Duration = Duration::from_secs(2);
/// When to send again what was not taken, in seconds: below the minute up to which CRMs do so.
const AGAIN: &str = "30";

/// Of a response after which the connection stays open.
#[derive(Clone, Copy)]
pub(super) struct KeptOpen;

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HookAnswer {
    Taken(HookOutcome),
    Unknown,
    TooLarge,
    Busy,
    Unavailable,
    Slow,
}

impl HookAnswer {
    /// For the metrics.
    const fn label(self) -> &'static str {
        match self {
            Self::Taken(HookOutcome::Stored) => "stored",
            Self::Taken(HookOutcome::Storm) => "storm",
            Self::Taken(HookOutcome::Ignored) => "ignored",
            Self::Taken(HookOutcome::Unreadable) => "unreadable",
            Self::Taken(HookOutcome::Unsigned) => "unsigned",
            Self::Unknown => "unknown",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Slow => "slow",
        }
    }
}

impl IntoResponse for HookAnswer {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Taken(HookOutcome::Unsigned) => StatusCode::UNAUTHORIZED,
            Self::Taken(_) => StatusCode::NO_CONTENT,
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = status.into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(AGAIN));
        }
        // A CRM sends the next event by the same connection; whoever was refused asks anew.
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::SERVICE_UNAVAILABLE) {
            response.extensions_mut().insert(KeptOpen);
        }
        response
    }
}

pub(super) async fn answer(
    State(receiver): State<Arc<HookReceiver>>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    let mut progress = HookProgress { provider: "none", is_whole: false };
    let taking = take(&receiver, &path, request, &mut progress);
    let answer = match timeout(HOOK_TIME_MAX, taking).await {
        Ok(answer) => answer,
        // Perhaps stored: sent again, it is the same.
        Err(_) if progress.is_whole => HookAnswer::Unavailable,
        Err(_) => HookAnswer::Slow,
    };
    metrics::hook_ended(progress.provider, answer.label());
    answer.into_response()
}

/// How far a request has come.
struct HookProgress {
    /// The CRM, once the address is known to be ours.
    provider: &'static str,
    /// Its body is here.
    is_whole: bool,
}

async fn take(receiver: &HookReceiver, path: &str, request: Request, progress: &mut HookProgress) -> HookAnswer {
    let named = path.split_once('/').filter(|_| request.method() == Method::POST);
    let Some((provider, address)) = named.and_then(|(provider, text)| receiver.address(provider, text)) else {
        return HookAnswer::Unknown;
    };
    progress.provider = provider.as_str();
    if declared_length(request.headers()).is_some_and(|length| length > HOOK_BYTES_MAX) {
        return HookAnswer::TooLarge;
    }
    let Some(_place) = receiver.admit(address).await else { return HookAnswer::Busy };
    let known = match receiver.open(provider, address).await {
        Ok(Some(known)) => known,
        Ok(None) => return HookAnswer::Unknown,
        Err(error) => return failed(&error),
    };
    let (parts, body) = request.into_parts();
    // Broken off: nobody is there to read the answer.
    let Ok(body) = to_bytes(body, HOOK_BYTES_MAX).await else { return HookAnswer::TooLarge };
    progress.is_whole = true;
    match receiver.take(&known, address, &parts.headers, &body).await {
        Ok(outcome) => HookAnswer::Taken(outcome),
        Err(error) => failed(&error),
    }
}

fn failed(error: &HookError) -> HookAnswer {
    debug!(error = %chain(error), "an event could not be taken, the CRM is asked to send it again");
    if matches!(error, HookError::Busy) { HookAnswer::Busy } else { HookAnswer::Unavailable }
}

fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
