//! Every way in which Zendesk says no, in its own words. Owns: status, type and body of each. Must
//! not: decide when. Words are the vendor's where it publishes them, else as reported by users of
//! its API.

use axum::http::{StatusCode, header};
use serde_json::json;

use super::tokens::token_error;
use crate::{faults::Fault, reply::VendorReply};

const UNAVAILABLE_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>503 Service Unavailable</title></head>\
    <body><h1>Service Unavailable</h1></body></html>\n";

/// Why Zendesk does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZendeskRefusal {
    /// No such record, or none any more: 404.
    #[error("no such record")]
    NotFound,
    /// No such path: 404.
    #[error("no such endpoint")]
    InvalidEndpoint,
    /// The body is not JSON, or not the object that the endpoint wants: 422.
    #[error("the body must be a JSON object with the field {expected}")]
    Unreadable {
        /// The field that should be there.
        expected: &'static str,
    },
    /// A value is refused: 422 with details by field.
    #[error("{field} {problem}")]
    Invalid {
        /// The field of the record.
        field: &'static str,
        /// Zendesk's code: `BlankValue`, `DuplicateValue`, `InvalidFormat`, `InvalidValue`.
        code: &'static str,
        /// What is wrong, without the value.
        problem: &'static str,
    },
    /// A parameter is refused: 400.
    #[error("{description}")]
    BadRequest {
        /// Zendesk's code.
        code: &'static str,
        /// Zendesk's sentence.
        description: &'static str,
    },
    /// A search asks beyond the thousandth result: 422.
    #[error("beyond the last search result")]
    SearchTooDeep,
    /// Basic credentials are wrong or missing: 401.
    #[error("not authenticated")]
    Unauthenticated,
    /// The bearer token is wrong: 401.
    #[error("token not valid")]
    InvalidToken,
    /// Too many requests in this minute: 429.
    #[error("rate limit exceeded")]
    RateLimited {
        /// Seconds until the next window.
        retry_after_seconds: Option<u32>,
    },
}

impl ZendeskRefusal {
    /// The answer on the wire.
    pub(super) fn reply(&self) -> VendorReply {
        match self {
            Self::NotFound => error(StatusCode::NOT_FOUND, "RecordNotFound", "Not found"),
            Self::InvalidEndpoint => error(StatusCode::NOT_FOUND, "InvalidEndpoint", "Not found"),
            Self::Unreadable { .. } => error(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Unprocessable Entity",
                "The server could not process your request. Check your JSON",
            ),
            Self::Invalid { field, code, problem } => invalid(field, code, problem),
            Self::BadRequest { code, description } => error(StatusCode::BAD_REQUEST, code, description),
            Self::SearchTooDeep => error(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "Invalid search: Requested response size was greater than Search Response Limits",
            ),
            Self::Unauthenticated => {
                let mut reply =
                    VendorReply::json(StatusCode::UNAUTHORIZED, &json!({"error": "Couldn't authenticate you"}));
                reply.set_header(header::WWW_AUTHENTICATE, "Basic realm=\"Web Password\"");
                reply
            }
            Self::InvalidToken => {
                let description =
                    "The access token provided is expired, revoked, malformed or invalid for other reasons.";
                let body = json!({"error": "invalid_token", "error_description": description});
                VendorReply::json(StatusCode::UNAUTHORIZED, &body)
            }
            Self::RateLimited { retry_after_seconds } => {
                let text = "Number of allowed API requests per minute exceeded";
                with_retry_after(
                    VendorReply::text(StatusCode::TOO_MANY_REQUESTS, "text/plain; charset=utf-8", text),
                    *retry_after_seconds,
                )
            }
        }
    }
}

/// The refusal that an injected fault asks for, if it asks for one.
pub(super) fn injected(fault: &Fault, is_bearer: bool) -> Option<VendorReply> {
    let reply = match fault {
        Fault::RateLimited { retry_after_seconds } => {
            ZendeskRefusal::RateLimited { retry_after_seconds: *retry_after_seconds }.reply()
        }
        Fault::ServerError => VendorReply::json(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({"error": "InternalError", "description": "Internal error"}),
        ),
        Fault::Unavailable { retry_after_seconds } => {
            let page = VendorReply::text(StatusCode::SERVICE_UNAVAILABLE, "text/html; charset=utf-8", UNAVAILABLE_PAGE);
            with_retry_after(page, *retry_after_seconds)
        }
        Fault::Unauthorized => {
            if is_bearer { ZendeskRefusal::InvalidToken } else { ZendeskRefusal::Unauthenticated }.reply()
        }
        Fault::ForbiddenRole => {
            let message = "You do not have access to this page. \
                Please contact the account owner of this help desk for further help.";
            VendorReply::json(StatusCode::FORBIDDEN, &json!({"error": {"title": "Forbidden", "message": message}}))
        }
        Fault::ForbiddenScope => {
            let description = "You are missing the following required scopes: read";
            VendorReply::json(StatusCode::FORBIDDEN, &json!({"error": "Forbidden", "description": description}))
        }
        Fault::NotFound => ZendeskRefusal::NotFound.reply(),
        Fault::Unprocessable => invalid("base", "InvalidValue", "is not valid"),
        Fault::TokenError { error } => token_error(error),
        _ => return None,
    };
    Some(reply)
}

fn error(status: StatusCode, code: &str, description: &str) -> VendorReply {
    VendorReply::json(status, &json!({"error": code, "description": description}))
}

fn invalid(field: &str, code: &str, problem: &str) -> VendorReply {
    let mut label = field.replace('_', " ");
    label[..1].make_ascii_uppercase();
    let details = json!({field: [{"description": format!("{label}: {problem}"), "error": code}]});
    let body = json!({"error": "RecordInvalid", "description": "Record validation errors", "details": details});
    VendorReply::json(StatusCode::UNPROCESSABLE_ENTITY, &body)
}

fn with_retry_after(mut reply: VendorReply, seconds: Option<u32>) -> VendorReply {
    if let Some(seconds) = seconds {
        reply.set_header(header::RETRY_AFTER, &seconds.to_string());
    }
    reply
}
