//! Reads the message of a request before anything is spent on its call: a client that sends headers
//! and then nothing, or a byte a second, holds no room that others wait for. Bounded in bytes and
//! in time.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body, codegen::Bytes};

use super::status;

/// gRPC's prefix of a message: one byte about compression, four of length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// The whole body, which is one message of at most `bytes_max` and its prefix. `MESSAGE_TOO_LARGE`
/// as soon as its prefix says so, `REQUEST_INCOMPLETE` if all of it is not here at this instant.
pub(super) async fn read_body(body: Body, bytes_max: usize, until: Instant) -> Result<Body, Status> {
    match timeout_at(until, collect(body, bytes_max)).await {
        Ok(read) => read.map(|bytes| Body::new(ReadBody(bytes))),
        Err(_) => Err(status::request_incomplete()),
    }
}

async fn collect(body: Body, bytes_max: usize) -> Result<Bytes, Status> {
    let mut body = pin!(body);
    // Most messages come in one piece, which is not copied.
    let mut whole = Bytes::new();
    let mut pieces = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if pieces.is_empty() && whole.is_empty() {
            whole = data;
        } else {
            if pieces.is_empty() {
                pieces = std::mem::take(&mut whole).to_vec();
            }
            pieces.extend_from_slice(&data);
        }
        let read: &[u8] = if pieces.is_empty() { &whole } else { &pieces };
        if read.len() > bytes_max + PREFIX_BYTES || announced(read).is_some_and(|bytes| bytes > bytes_max) {
            return Err(status::message_too_large());
        }
    }
    Ok(if pieces.is_empty() { whole } else { pieces.into() })
}

/// The length that a message's prefix says.
fn announced(read: &[u8]) -> Option<usize> {
    let (prefix, _) = read.split_first_chunk::<PREFIX_BYTES>()?;
    usize::try_from(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]])).ok()
}

/// A body that is there already.
struct ReadBody(Bytes);

impl http_body::Body for ReadBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.0);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}
