//! The way of an answer to the client, with what goes wrong on it. Owns: delays, gates, hangs,
//! resets, slow and oversized bodies. Must not: know any vendor's shapes, or read a vendor's data.

use std::{convert::Infallible, io, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::ConnectInfo,
    http::{Extensions, HeaderValue, Response, StatusCode, header},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    connection::ConnectionHandle,
    faults::{Action, Fault, Plan},
    gate::GateAt,
    reply::VendorReply,
    serve::ServerShutdown,
};

/// Padding is sent in pieces of this size.
const PADDING_BYTES: usize = 64 * 1024;
static PADDING: [u8; PADDING_BYTES] = [b' '; PADDING_BYTES];

const SIGN_IN_PAGE: &str =
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><form method=\"post\"></form></body></html>\n";

/// The server's side of a request: the connection it came on and the stop signal.
pub(crate) struct DeliveryWire {
    connection: Option<ConnectionHandle>,
    shutdown: CancellationToken,
}

impl DeliveryWire {
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let connection = extensions.get::<ConnectInfo<ConnectionHandle>>().map(|info| info.0.clone());
        let shutdown = extensions.get::<ServerShutdown>().cloned().unwrap_or_default().0;
        Self { connection, shutdown }
    }

    /// What happens before the vendor looks at its data, in the order of the rules.
    pub(crate) async fn hold_request(&self, plan: &Plan) {
        for action in &plan.actions {
            match action {
                Action::Hook(hook) => hook(),
                Action::Gate(post) if post.at == GateAt::Request => self.unless_stopped(post.wait()).await,
                Action::Fault(Fault::Delay { ms }) => {
                    self.unless_stopped(tokio::time::sleep(Duration::from_millis(*ms))).await;
                }
                Action::Fault(Fault::Hang) => self.shutdown.cancelled().await,
                Action::Gate(_) | Action::Fault(_) => {}
            }
        }
    }

    /// Sends `reply`, dated `now`, as the plan has it.
    pub(crate) async fn deliver(&self, mut reply: VendorReply, plan: &Plan, now: DateTime<Utc>) -> Response<Body> {
        let mut dated = now;
        let mut transfer = Transfer::Whole;
        for action in &plan.actions {
            match action {
                Action::Gate(post) if post.at == GateAt::Response => self.unless_stopped(post.wait()).await,
                Action::Fault(fault) => {
                    distort(&mut reply, fault);
                    match fault {
                        Fault::DateSkew { seconds } => dated = skewed(dated, *seconds),
                        Fault::Reset { after_bytes } => transfer = Transfer::CutOff(*after_bytes),
                        Fault::Drip { chunk_bytes, every_ms } => {
                            transfer = Transfer::Drip(*chunk_bytes, Duration::from_millis(*every_ms));
                        }
                        Fault::Oversized { mib } => transfer = Transfer::Padded(*mib),
                        _ => {}
                    }
                }
                Action::Gate(_) | Action::Hook(_) => {}
            }
        }
        reply.set_header(header::DATE, &dated.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
        self.send(reply, transfer)
    }

    fn send(&self, mut reply: VendorReply, transfer: Transfer) -> Response<Body> {
        let bytes = reply.body.clone();
        let announced = bytes.len().to_string();
        let body = match transfer {
            Transfer::Whole => Body::from(bytes),
            Transfer::Padded(mib) => padded(bytes, mib),
            Transfer::Drip(chunk_bytes, interval) => {
                reply.set_header(header::CONTENT_LENGTH, &announced);
                drip(bytes, chunk_bytes, interval, self.shutdown.clone())
            }
            Transfer::CutOff(None) => {
                // The response that follows cannot be written any more.
                self.abort();
                Body::from(bytes)
            }
            Transfer::CutOff(Some(after_bytes)) => {
                reply.set_header(header::CONTENT_LENGTH, &announced);
                cut_off(&bytes, after_bytes, self.connection.clone())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = reply.status;
        response.headers_mut().extend(reply.headers);
        response
    }

    fn abort(&self) {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
    }

    async fn unless_stopped(&self, waiting: impl Future<Output = ()>) {
        tokio::select! {
            () = waiting => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

#[derive(Clone, Copy)]
enum Transfer {
    Whole,
    Padded(u32),
    Drip(usize, Duration),
    CutOff(Option<usize>),
}

/// Faults that change the answer itself.
fn distort(reply: &mut VendorReply, fault: &Fault) {
    match fault {
        Fault::Html => *reply = VendorReply::text(StatusCode::OK, "text/html; charset=utf-8", SIGN_IN_PAGE),
        Fault::ContentType { value } => reply.set_header(header::CONTENT_TYPE, value),
        Fault::Truncate => reply.body = reply.body.slice(..reply.body.len() / 2),
        Fault::Patch { set, remove } => {
            if let Ok(mut body) = serde_json::from_slice::<Value>(&reply.body) {
                for (pointer, value) in set {
                    set_at(&mut body, pointer, value);
                }
                for pointer in remove {
                    remove_at(&mut body, pointer);
                }
                reply.body = Bytes::from(body.to_string());
            }
        }
        Fault::Bytes { replace } => {
            for (text, other) in replace {
                reply.body = Bytes::from(replaced(&reply.body, text.as_bytes(), other));
            }
        }
        Fault::GzipBomb { mib } => {
            reply.status = StatusCode::OK;
            reply.body = gzip_bomb(*mib);
            reply.headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        }
        Fault::Redirect { location, status } => {
            *reply = VendorReply::text(
                StatusCode::from_u16(*status).expect("checked when the rule was added"),
                "text/html",
                "",
            );
            reply.set_header(header::LOCATION, location);
        }
        _ => {}
    }
}

fn replaced(body: &[u8], text: &[u8], other: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.windows(text.len()).position(|window| window == text) {
        made.extend_from_slice(&rest[..at]);
        made.extend_from_slice(other);
        rest = &rest[at + text.len()..];
    }
    made.extend_from_slice(rest);
    made
}

fn skewed(now: DateTime<Utc>, seconds: i64) -> DateTime<Utc> {
    TimeDelta::try_seconds(seconds).and_then(|skew| now.checked_add_signed(skew)).unwrap_or(now)
}

/// Sets the value at an RFC 6901 pointer; a new field of an object is added, a place that is not
/// there is left alone.
fn set_at(body: &mut Value, pointer: &str, value: &Value) {
    if let Some(place) = body.pointer_mut(pointer) {
        *place = value.clone();
    } else if let Some((parent, key)) = parent_of(body, pointer)
        && let Value::Object(fields) = parent
    {
        fields.insert(key, value.clone());
    }
}

fn remove_at(body: &mut Value, pointer: &str) {
    match parent_of(body, pointer) {
        Some((Value::Object(fields), key)) => {
            fields.remove(&key);
        }
        Some((Value::Array(items), key)) => {
            if let Some(index) = key.parse().ok().filter(|index: &usize| *index < items.len()) {
                items.remove(index);
            }
        }
        _ => {}
    }
}

fn parent_of<'a>(body: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let (parent, key) = pointer.rsplit_once('/')?;
    let key = key.replace("~1", "/").replace("~0", "~");
    body.pointer_mut(parent).map(|parent| (parent, key))
}

fn padded(bytes: Bytes, mib: u32) -> Body {
    let pieces = mib as usize * (1024 * 1024 / PADDING_BYTES);
    let padding = std::iter::repeat_n(Bytes::from_static(&PADDING), pieces);
    Body::from_stream(stream::iter(padding.chain([bytes]).map(Ok::<_, Infallible>)))
}

fn drip(bytes: Bytes, chunk_bytes: usize, interval: Duration, shutdown: CancellationToken) -> Body {
    Body::from_stream(stream::unfold((bytes, shutdown), move |(mut rest, shutdown)| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {
                let chunk = rest.split_to(chunk_bytes.min(rest.len()));
                Some((Ok(chunk), (rest, shutdown)))
            }
            () = shutdown.cancelled() => {
                let stopped = io::Error::from(io::ErrorKind::ConnectionAborted);
                Some((Err(stopped), (Bytes::new(), shutdown.clone())))
            }
        }
    }))
}

fn cut_off(bytes: &Bytes, after_bytes: usize, connection: Option<ConnectionHandle>) -> Body {
    let head = bytes.slice(..after_bytes.min(bytes.len()));
    Body::from_stream(stream::unfold(Some(head), move |head| {
        let connection = connection.clone();
        async move {
            if let Some(head) = head {
                return Some((Ok(head), None));
            }
            // Lets the server write the head out before the connection dies.
            tokio::task::yield_now().await;
            if let Some(connection) = connection {
                connection.abort();
            }
            Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), None))
        }
    }))
}

/// A gzip file (RFC 1952) of `mib` MiB of spaces: one literal and then copies of 258 bytes at
/// distance one, 13 bits each (RFC 1951, fixed codes).
fn gzip_bomb(mib: u32) -> Bytes {
    let copies = mib as usize * 1024 * 1024 / 258;
    let mut bits = BitWriter { bytes: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], pending: 0, count: 0 };
    bits.push(0b011, 3); // last block, fixed codes
    bits.push(reversed(0x30 + u32::from(b' '), 8), 8);
    for _ in 0..copies {
        bits.push(reversed(0xc5, 8), 8); // length code 285: 258 bytes
        bits.push(0, 5); // distance code 0: one back
    }
    bits.push(0, 7); // end of block
    let mut bytes = bits.finish();
    let length = copies * 258 + 1;
    bytes.extend(crc32_of_spaces(length).to_le_bytes());
    bytes.extend(u32::try_from(length).expect("at most 256 MiB").to_le_bytes());
    Bytes::from(bytes)
}

struct BitWriter {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl BitWriter {
    fn push(&mut self, bits: u32, count: u32) {
        self.pending |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.pending.to_le_bytes()[0]);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.push(0, (8 - self.count % 8) % 8);
        self.bytes
    }
}

/// Huffman codes go on the wire with their highest bit first.
fn reversed(code: u32, count: u32) -> u32 {
    code.reverse_bits() >> (32 - count)
}

fn crc32_of_spaces(length: usize) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|index| {
        let start = u32::try_from(index).expect("below 256");
        (0..8).fold(start, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    !(0..length).fold(u32::MAX, |crc, _| (crc >> 8) ^ table[((crc ^ u32::from(b' ')) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn crc_is_the_one_of_gzip() {
        // From `printf '    ' | gzip -c | tail -c 8`.
        assert_eq!(crc32_of_spaces(4), 0x17d1_32a8);
    }

    #[test]
    fn bomb_is_small() {
        let bomb = gzip_bomb(16);

        assert!(bomb.len() < 120 * 1024, "{} bytes", bomb.len());
        assert_eq!(bomb[..2], [0x1f, 0x8b]);
    }

    #[test]
    fn patch_sets_adds_and_removes() {
        let mut body = json!({"users": [{"id": 1, "phone": "x"}, {"id": 2}]});

        set_at(&mut body, "/users/0/phone", &Value::Null);
        set_at(&mut body, "/users/1/id", &json!("two"));
        set_at(&mut body, "/users/1/new", &json!(true));
        set_at(&mut body, "/nowhere/at/all", &json!(true));
        remove_at(&mut body, "/users/0/id");
        remove_at(&mut body, "/users/9");

        assert_eq!(body, json!({"users": [{"phone": null}, {"id": "two", "new": true}]}));
    }
}
