//! Every way in which Pipedrive says no, in its own words. Owns: status, envelope and headers of
//! each. Must not: decide when. Words are the vendor's where it publishes them, else as reported by
//! users of its API.

use axum::http::{HeaderName, StatusCode, header};
use serde_json::json;

use super::input::FieldError;
use crate::{faults::Fault, reply::VendorReply};

const INFO: &str = "Please check developers.pipedrive.com";
const UNAVAILABLE_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>503 Service Unavailable</title></head>\
    <body><h1>Service Unavailable</h1></body></html>\n";
const CLOUDFLARE_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Access denied | Cloudflare</title></head>\
    <body><h1>Error 1015</h1><p>You are being rate limited</p></body></html>\n";

/// Headers of the burst limit and of the daily budget.
pub(super) const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
pub(super) const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
pub(super) const DAILY_REMAINING: HeaderName = HeaderName::from_static("x-daily-ratelimit-token-remaining");

/// Why Pipedrive does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PipedriveRefusal {
    /// No such record, or none any more: 404.
    #[error("{entity} not found")]
    NotFound {
        /// `Person` or `Organization`.
        entity: &'static str,
    },
    /// No such path: 404.
    #[error("no such endpoint")]
    UnknownEndpoint,
    /// The persons of version 1, which are no more: 410.
    #[error("the endpoint is out of support")]
    Gone,
    /// The token's user may not see the record: 403.
    #[error("not visible to this user")]
    NotVisible,
    /// The token lacks the scope: 403.
    #[error("scope missing")]
    ScopeMissing,
    /// The user has 40 webhooks: 400.
    #[error("too many webhooks")]
    HooksLimit,
    /// The body is not a JSON object: 400.
    #[error("the body must be a JSON object")]
    Unreadable,
    /// A field or parameter is refused: 400.
    #[error("{field} {problem}")]
    Invalid {
        /// The field of the record or the query parameter.
        field: &'static str,
        /// What is wrong, without the value.
        problem: &'static str,
    },
    /// A field does not hold what it should: 400.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// No credentials, or none that are good: 401.
    #[error("unauthorized access")]
    Unauthorized,
    /// Too many requests within two seconds: 429.
    #[error("burst limit exceeded")]
    BurstLimited {
        /// Seconds until some are allowed again.
        reset_seconds: u32,
    },
    /// The day's tokens are spent: 429.
    #[error("daily budget spent")]
    DailyLimited {
        /// Seconds until midnight, UTC.
        reset_seconds: u32,
    },
}

impl PipedriveRefusal {
    pub(super) const PERSON: Self = Self::NotFound { entity: "Person" };

    /// The answer on the wire.
    pub(super) fn reply(&self) -> VendorReply {
        match self {
            Self::NotFound { entity } => error(StatusCode::NOT_FOUND, &format!("{entity} not found.")),
            Self::UnknownEndpoint => error(StatusCode::NOT_FOUND, "Unknown method ."),
            Self::Gone => {
                error(StatusCode::GONE, "This endpoint is no longer available. Use version 2 of the persons API")
            }
            Self::NotVisible => error(StatusCode::FORBIDDEN, "You do not have permissions to perform this action"),
            Self::ScopeMissing => error(StatusCode::FORBIDDEN, "Scope and URL mismatch"),
            Self::HooksLimit => error(StatusCode::BAD_REQUEST, "Webhooks limit of the user is reached"),
            Self::Unreadable => error(StatusCode::BAD_REQUEST, "Request body is not valid JSON"),
            Self::Invalid { field, problem } => {
                error(StatusCode::BAD_REQUEST, &format!("Parameter '{field}' {problem}"))
            }
            Self::Field(FieldError { field, expected }) => {
                error(StatusCode::BAD_REQUEST, &format!("Parameter '{field}' must be {expected}"))
            }
            Self::Unauthorized => {
                let mut reply = coded(StatusCode::UNAUTHORIZED, "unauthorized access");
                reply.set_header(HeaderName::from_static("x-401-by-gw"), "true");
                reply
            }
            Self::BurstLimited { reset_seconds } => {
                let mut reply = coded(StatusCode::TOO_MANY_REQUESTS, "request over limit");
                reply.set_header(REMAINING, "0");
                reply.set_header(RESET, &reset_seconds.to_string());
                reply
            }
            Self::DailyLimited { reset_seconds } => {
                let mut reply = coded(StatusCode::TOO_MANY_REQUESTS, "request over limit");
                reply.set_header(DAILY_REMAINING, "0");
                reply.set_header(RESET, &reset_seconds.to_string());
                reply
            }
        }
    }
}

/// The refusal that an injected fault asks for, if it asks for one. `daily_reset_seconds`: until
/// midnight.
pub(super) fn injected(fault: &Fault, daily_reset_seconds: u32) -> Option<VendorReply> {
    let html = |status, page| VendorReply::text(status, "text/html; charset=UTF-8", page);
    let reply = match fault {
        Fault::RateLimited { retry_after_seconds } => {
            let reply = PipedriveRefusal::BurstLimited { reset_seconds: retry_after_seconds.unwrap_or(2) }.reply();
            with_retry_after(reply, *retry_after_seconds)
        }
        Fault::BurstLimited { reset_seconds } => {
            PipedriveRefusal::BurstLimited { reset_seconds: *reset_seconds }.reply()
        }
        Fault::DailyLimit => PipedriveRefusal::DailyLimited { reset_seconds: daily_reset_seconds }.reply(),
        Fault::CloudflareBlocked => html(StatusCode::FORBIDDEN, CLOUDFLARE_PAGE),
        Fault::AccountClosed => coded(StatusCode::PAYMENT_REQUIRED, "Company account is not open"),
        Fault::ServerError => error(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"),
        Fault::Unavailable { retry_after_seconds } => {
            with_retry_after(html(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE_PAGE), *retry_after_seconds)
        }
        Fault::Unauthorized => PipedriveRefusal::Unauthorized.reply(),
        Fault::ForbiddenRole => PipedriveRefusal::NotVisible.reply(),
        Fault::ForbiddenScope => {
            let message = "Scope and URL mismatch";
            coded(StatusCode::FORBIDDEN, message)
        }
        Fault::NotFound => PipedriveRefusal::PERSON.reply(),
        Fault::Unprocessable => PipedriveRefusal::Invalid { field: "base", problem: "is invalid" }.reply(),
        Fault::CursorRefused => PipedriveRefusal::Invalid { field: "cursor", problem: "is invalid" }.reply(),
        Fault::TokenError { error } if error == "invalid_grant" => invalid_grant(),
        Fault::TokenError { error } => oauth_error(StatusCode::BAD_REQUEST, error, "Token request refused"),
        _ => return None,
    };
    Some(reply)
}

/// A code or refresh token that is no good: 400. Pipedrive does not tell unknown from used.
pub(super) fn invalid_grant() -> VendorReply {
    let body =
        json!({"success": false, "error": "invalid_grant", "message": "Invalid grant: refresh_token is invalid"});
    VendorReply::json(StatusCode::BAD_REQUEST, &body)
}

/// Another refusal of the authorization server.
pub(super) fn oauth_error(status: StatusCode, error: &str, message: &str) -> VendorReply {
    VendorReply::json(status, &json!({"success": false, "error": error, "message": message}))
}

fn error(status: StatusCode, message: &str) -> VendorReply {
    let body = json!({"success": false, "error": message, "error_info": INFO, "data": null, "additional_data": null});
    VendorReply::json(status, &body)
}

fn coded(status: StatusCode, message: &str) -> VendorReply {
    let body = json!({"success": false, "error": message, "errorCode": status.as_u16(), "error_info": INFO});
    VendorReply::json(status, &body)
}

fn with_retry_after(mut reply: VendorReply, seconds: Option<u32>) -> VendorReply {
    if let Some(seconds) = seconds {
        reply.set_header(header::RETRY_AFTER, &seconds.to_string());
    }
    reply
}
