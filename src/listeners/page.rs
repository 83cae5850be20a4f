//! The few pages that a person sees: plain, without scripts, styles or anything from the request.

use std::borrow::Cow;

use axum::{
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};

/// A page: what happened, and what to do next.
pub(super) struct HtmlPage {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) text: Cow<'static, str>,
}

/// For every other address.
pub(super) const NOT_FOUND: HtmlPage =
    HtmlPage { status: StatusCode::NOT_FOUND, title: "Not found", text: Cow::Borrowed("There is nothing here.") };

/// Nothing is loaded, nothing frames the page, nobody keeps it, and the address with its code goes
/// no further.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

impl IntoResponse for HtmlPage {
    fn into_response(self) -> Response {
        let (title, text) = (escaped(self.title), escaped(&self.text));
        let body = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\
             <body><h1>{title}</h1><p>{text}</p></body></html>\n"
        );
        (self.status, HEADERS, body).into_response()
    }
}

/// Our own words need it nowhere; a CRM's refusal might one day.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
