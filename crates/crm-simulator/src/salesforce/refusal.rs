//! Every way in which Salesforce says no, in its own words. Owns: status, code and message of each,
//! and the shapes: an array on REST, a fault on SOAP. Must not: decide when. Words are the vendor's
//! where it publishes them, else as reported by users of its API; the values that the vendor
//! repeats in some of them are left out.

use axum::http::{StatusCode, header};
use serde_json::json;

use super::id::RecordId;
use crate::{faults::Fault, reply::VendorReply};

const UNAVAILABLE_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>We are down for maintenance.</title></head>\
    <body><h1>We are down for maintenance.</h1></body></html>\n";

/// Why Salesforce does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct SalesforceRefusal {
    /// HTTP status on REST.
    pub status: StatusCode,
    /// Salesforce's error code.
    pub code: &'static str,
    /// Salesforce's sentence.
    pub message: String,
    /// The fields that are wrong, if the refusal is about fields.
    pub fields: Vec<String>,
}

impl SalesforceRefusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), fields: Vec::new() }
    }

    fn of_field(code: &'static str, field: &str, message: String) -> Self {
        Self { fields: vec![field.to_owned()], ..Self::bad(code, message) }
    }

    /// A 400.
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn invalid_session() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID", "Session expired or invalid")
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "The requested resource does not exist")
    }

    pub(super) fn no_such_record(id: &str) -> Self {
        let message = format!("Provided external ID field does not exist or is not accessible: {id}");
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub(super) fn deleted() -> Self {
        Self::new(StatusCode::NOT_FOUND, "ENTITY_IS_DELETED", "entity is deleted")
    }

    pub(super) fn method_not_allowed(method: &str) -> Self {
        let message = format!("HTTP Method '{method}' not allowed. Allowed are others, see the resource's description");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
    }

    pub(super) fn unreadable() -> Self {
        Self::bad("JSON_PARSER_ERROR", "Unexpected character or end of input: the body must be a JSON object")
    }

    pub(super) fn wrong_type(field: &str, expected: &str) -> Self {
        Self::of_field("JSON_PARSER_ERROR", field, format!("Cannot deserialize instance of {expected} for {field}"))
    }

    pub(super) fn no_such_column(field: &str, object: &str) -> Self {
        Self::bad("INVALID_FIELD", format!("No such column '{field}' on sobject of type {object}"))
    }

    pub(super) fn not_writeable(field: &str) -> Self {
        let message = format!(
            "Unable to create/update fields: {field}. Please check the security settings of this field and verify \
             that it is read/write for your profile or permission set."
        );
        Self::of_field("INVALID_FIELD_FOR_INSERT_UPDATE", field, message)
    }

    pub(super) fn missing(fields: &[&str]) -> Self {
        let message = format!("Required fields are missing: [{}]", fields.join(", "));
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Self { fields, ..Self::bad("REQUIRED_FIELD_MISSING", message) }
    }

    pub(super) fn too_long(field: &str, length: usize) -> Self {
        Self::of_field("STRING_TOO_LONG", field, format!("{field}: data value too large (max length={length})"))
    }

    pub(super) fn invalid_email(field: &str) -> Self {
        Self::of_field("INVALID_EMAIL_ADDRESS", field, format!("{field}: invalid email address"))
    }

    pub(super) fn invalid_reference(field: &str) -> Self {
        Self::of_field(
            "INVALID_CROSS_REFERENCE_KEY",
            field,
            format!("{field}: id value of incorrect type or not found"),
        )
    }

    pub(super) fn malformed_id(text: &str) -> Self {
        let text: String = text.chars().take(18).collect();
        Self::of_field("MALFORMED_ID", "Id", format!("malformed id {text}"))
    }

    pub(super) fn unknown_id(id: RecordId) -> Self {
        Self::bad("INVALID_CROSS_REFERENCE_KEY", format!("invalid cross reference id {id}"))
    }

    pub(super) fn unsupported_object(object: &str) -> Self {
        let object: String = object.chars().take(80).collect();
        Self::bad("INVALID_TYPE", format!("sObject type '{object}' is not supported."))
    }

    pub(super) fn invalid_locator() -> Self {
        Self::bad("INVALID_QUERY_LOCATOR", "invalid query locator")
    }

    pub(super) fn daily_limit() -> Self {
        Self::new(StatusCode::FORBIDDEN, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
    }

    pub(super) fn replication_too_old() -> Self {
        Self::bad("INVALID_REPLICATION_DATE", "startDate before org replication enabled date, or older than the log")
    }

    /// The answer on REST.
    pub(super) fn reply(&self) -> VendorReply {
        VendorReply::json(self.status, &json!([self.entry("errorCode")]))
    }

    /// As one of a list of results, where the code has another name.
    pub(super) fn entry(&self, code_name: &str) -> serde_json::Value {
        let mut entry = json!({"message": self.message, code_name: self.code});
        if !self.fields.is_empty() || code_name == "statusCode" {
            entry["fields"] = json!(self.fields);
        }
        entry
    }
}

/// The refusal that an injected fault asks for, if it asks for one.
pub(super) fn injected(fault: &Fault) -> Option<SalesforceRefusal> {
    let refused = |status, code, message: &str| Some(SalesforceRefusal::new(status, code, message));
    match fault {
        Fault::RateLimited { .. } => refused(
            StatusCode::FORBIDDEN,
            "REQUEST_LIMIT_EXCEEDED",
            "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
        ),
        Fault::DailyLimit => Some(SalesforceRefusal::daily_limit()),
        Fault::ServerError => refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN_EXCEPTION",
            "An unexpected error occurred. Please include this ErrorId if you contact support: 0-0 (0)",
        ),
        Fault::Unauthorized => Some(SalesforceRefusal::invalid_session()),
        Fault::ForbiddenRole => {
            refused(StatusCode::FORBIDDEN, "INSUFFICIENT_ACCESS", "insufficient access rights on cross-reference id")
        }
        Fault::ForbiddenScope => {
            refused(StatusCode::FORBIDDEN, "INVALID_SESSION_ID", "This session is not valid for use with the REST API")
        }
        Fault::ApiDisabled => {
            refused(StatusCode::FORBIDDEN, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization.")
        }
        Fault::NotFound => Some(SalesforceRefusal::not_found()),
        Fault::Unprocessable => {
            Some(SalesforceRefusal::bad("FIELD_CUSTOM_VALIDATION_EXCEPTION", "The record breaks a validation rule"))
        }
        Fault::QueryTimeout => {
            Some(SalesforceRefusal::bad("QUERY_TIMEOUT", "Your query request was running for too long."))
        }
        Fault::DuplicatesDetected => Some(SalesforceRefusal::bad("DUPLICATES_DETECTED", "Use one of these records?")),
        Fault::LocatorGone => Some(SalesforceRefusal::invalid_locator()),
        Fault::ReplicationTooOld => Some(SalesforceRefusal::replication_too_old()),
        Fault::TooManyIds => {
            Some(SalesforceRefusal::bad("EXCEEDED_ID_LIMIT", "exceeded id limit for this call: 600000"))
        }
        _ => None,
    }
}

/// The answer of what stands before Salesforce, if a fault asks for it.
pub(super) fn maintenance(fault: &Fault) -> Option<VendorReply> {
    let Fault::Unavailable { retry_after_seconds } = fault else { return None };
    let mut page = VendorReply::text(StatusCode::SERVICE_UNAVAILABLE, "text/html; charset=utf-8", UNAVAILABLE_PAGE);
    if let Some(seconds) = retry_after_seconds {
        page.set_header(header::RETRY_AFTER, &seconds.to_string());
    }
    Some(page)
}
