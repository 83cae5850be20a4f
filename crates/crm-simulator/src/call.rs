//! One request to a simulated vendor, read whole. Owns: the tolerant reading of paths that the
//! vendors' own clients need (`.json`, trailing slash, chunked bodies) and the base URL for
//! absolute links. Bodies are at most 4 MiB.

use std::collections::BTreeMap;

use axum::{
    body::{Body, Bytes},
    extract::Query,
    http::{HeaderMap, Method, Request, StatusCode, Uri, header, request::Parts},
};
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{reply::VendorReply, requests};

/// Largest request body read; the vendors' own limits are of this order.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request with its path taken apart.
pub(crate) struct ApiCall {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// Path parts, without a trailing slash and without `.json` at the end.
    segments: Vec<String>,
    /// Decoded query pairs, in order.
    query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// `http://host:port`, from the `Host` header: clients follow the absolute links that are built
    /// on it.
    pub(crate) base_url: String,
}

impl ApiCall {
    /// Reads a request; the error is the answer to one whose body is too long or broken off.
    pub(crate) async fn read(request: Request<Body>) -> Result<Self, VendorReply> {
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
            return Err(VendorReply::text(
                StatusCode::PAYLOAD_TOO_LARGE,
                "text/plain",
                "request body too large or broken off",
            ));
        };
        Ok(Self::new(parts, body))
    }

    /// A call made inside the process, with the vendor's own path. The error is the sentence to
    /// show.
    pub(crate) fn local(method: &str, target: &str, body: Option<&Value>) -> Result<Self, &'static str> {
        let body = body.map(|body| serde_json::to_vec(body).expect("a JSON value has string keys")).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(target)
            .body(())
            .map_err(|_| "method or path is not valid in HTTP")?;
        Ok(Self::new(request.into_parts().0, Bytes::from(body)))
    }

    fn new(parts: Parts, body: Bytes) -> Self {
        let path = parts.uri.path().trim_end_matches('/');
        let path = path.strip_suffix(".json").unwrap_or(path);
        let segments = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        // The vendors ignore a query that they cannot read.
        let query = Query::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).unwrap_or_default();
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let base_url = format!("http://{host}");
        Self { method: parts.method, segments, query, headers: parts.headers, body, base_url, uri: parts.uri }
    }

    /// The path parts, for matching.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// Path and query as sent: what fault rules are matched against.
    pub(crate) fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// The last value of a query parameter, if it is there and not empty.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Every value of a list parameter: `name=a,b`, `name[]=a&name[]=b`.
    pub(crate) fn list_param(&self, name: &str) -> Vec<&str> {
        self.query
            .iter()
            .filter(|(key, _)| key.strip_suffix("[]").unwrap_or(key) == name)
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// This call's absolute URL with `name` set to `value` and the parameters `dropped` left out.
    pub(crate) fn url_with(&self, name: &str, value: &str, dropped: &[&str]) -> String {
        let kept = self.query.iter().filter(|(key, _)| key != name && !dropped.contains(&key.as_str()));
        let pairs = kept.map(|(key, value)| (key.as_str(), value.as_str())).chain([(name, value)]);
        let query: Vec<String> =
            pairs.map(|(key, value)| format!("{}={}", percent_encoded(key), percent_encoded(value))).collect();
        format!("{}{}?{}", self.base_url, self.uri.path(), query.join("&"))
    }

    /// The body as JSON; `None` if it is not.
    pub(crate) fn json_body(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The body's fields, of a form or of a JSON object (its texts and numbers); empty if it is
    /// neither.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        if let Some(Value::Object(fields)) = self.json_body() {
            let text = |value: Value| match value {
                Value::String(text) => Some(text),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            };
            return fields.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect();
        }
        // A form has the letters of a query, so that what reads queries reads it too.
        let query = std::str::from_utf8(&self.body).unwrap_or_default();
        let uri: Option<Uri> = format!("/?{query}").parse().ok();
        uri.and_then(|uri| Query::try_from_uri(&uri).ok()).map(|Query(fields)| fields).unwrap_or_default()
    }

    /// `METHOD /path` with `{id}` for numbers, for counting.
    pub(crate) fn endpoint(&self) -> String {
        let mut endpoint = format!("{} ", self.method);
        for segment in &self.segments {
            endpoint.push('/');
            endpoint.push_str(if segment.bytes().all(|byte| byte.is_ascii_digit()) { "{id}" } else { segment });
        }
        endpoint
    }

    /// The entry for the request log.
    pub(crate) fn log_entry(&self, at: DateTime<Utc>) -> requests::LoggedRequest {
        requests::LoggedRequest {
            method: self.method.to_string(),
            path: self.uri.path().to_owned(),
            query: self.uri.query().unwrap_or_default().to_owned(),
            at,
        }
    }
}

/// RFC 3986: everything but unreserved characters.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_suffix_and_trailing_slash_do_not_matter() {
        for target in ["/api/v2/users/7", "/api/v2/users/7.json", "/api/v2/users/7/", "//api/v2/users/7.json?x=1"] {
            let call = ApiCall::local("GET", target, None).unwrap();

            assert_eq!(call.segments(), ["api", "v2", "users", "7"], "{target}");
            assert_eq!(call.endpoint(), "GET /api/v2/users/{id}");
        }
    }

    #[test]
    fn links_keep_the_other_parameters_and_are_encoded() {
        let call = ApiCall::local("GET", "/a.json?start_time=1&include=x&cursor=old", None).unwrap();

        assert_eq!(call.url_with("cursor", "b=", &["start_time"]), "http://localhost/a.json?include=x&cursor=b%3D");
    }

    #[test]
    fn forms_and_json_objects_read_the_same() {
        for (content, body) in [
            ("form", "code=a%2Bb+c&expires_in=300&scope="),
            ("JSON", r#"{"code": "a+b c", "expires_in": 300, "scope": "", "other": null}"#),
        ] {
            let call = ApiCall::new(Request::builder().body(()).unwrap().into_parts().0, Bytes::from(body));

            let form = call.form();

            assert_eq!(form["code"], "a+b c", "{content}");
            assert_eq!((form["expires_in"].as_str(), form["scope"].as_str(), form.len()), ("300", "", 3));
        }
    }

    #[test]
    fn bracketed_and_comma_separated_lists_read_the_same() {
        let call =
            ApiCall::local("GET", "/users?role[]=agent&role%5B%5D=admin&ids=1,%202,&page[size]=5", None).unwrap();

        assert_eq!(call.list_param("role"), ["agent", "admin"]);
        assert_eq!(call.list_param("ids"), ["1", "2"]);
        assert_eq!(call.param("page[size]"), Some("5"));
        assert_eq!(call.param("absent"), None);
    }
}
