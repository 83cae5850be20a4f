//! A vendor's answer before it goes on the wire. Owns: status, headers and body as plain values, so
//! that faults can change them. Must not: know any vendor's shapes.

use axum::{
    body::Bytes,
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use serde::Serialize;

use crate::{call::percent_encoded, faults::Fault};

/// `Content-Type` of every JSON body of the vendors.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// An answer that is complete and not yet sent.
pub(crate) struct VendorReply {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl VendorReply {
    /// `body` as JSON.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("our bodies have string keys and no failing Serialize");
        Self { status, headers: vec![(header::CONTENT_TYPE, JSON)], body: Bytes::from(body) }
    }

    /// `body` as it is, of the given type.
    pub(crate) fn text(status: StatusCode, content_type: &'static str, body: &'static str) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static(content_type))],
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    /// The answer that a fault gives in the vendor's place, if it gives one.
    pub(crate) fn scripted(fault: &Fault) -> Option<Self> {
        let Fault::Answer { status, headers, body } = fault else { return None };
        let status = StatusCode::from_u16(*status).ok()?;
        let mut reply = Self { status, headers: Vec::new(), body: Bytes::from(body.clone()) };
        for (name, value) in headers {
            reply.set_header(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
        Some(reply)
    }

    /// No body: 204.
    pub(crate) fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: Bytes::new() }
    }

    /// Sends a browser back to a client's `redirect_uri` with these query parameters: 302.
    pub(crate) fn redirect(redirect_uri: &str, parameters: &[(&str, &str)]) -> Self {
        let mut location = redirect_uri.to_owned();
        for (name, value) in parameters {
            location.push(if location.contains('?') { '&' } else { '?' });
            location.push_str(name);
            location.push('=');
            location.push_str(&percent_encoded(value));
        }
        let mut reply = Self { status: StatusCode::FOUND, headers: Vec::new(), body: Bytes::new() };
        reply.set_header(header::LOCATION, &location);
        reply
    }

    /// Sets a header, replacing one of the same name. A value that HTTP does not allow is left out.
    pub(crate) fn set_header(&mut self, name: HeaderName, value: &str) {
        self.headers.retain(|(present, _)| *present != name);
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
    }
}
