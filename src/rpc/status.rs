//! The only maker of `tonic::Status`: every error that leaves the service carries
//! `google.rpc.ErrorInfo` with a reason in `UPPER_SNAKE` and the domain `contactsync`. Messages are
//! for the developer who calls; they never carry a number, name, e-mail, token or anything
//! internal. Sizes are capped, because a status travels in HTTP/2 trailers, and clients built on
//! gRPC core drop a call whose metadata runs about 8 KiB.

use std::{collections::HashMap, error::Error, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::{
    methods::{FieldRule, TokenScope},
    room::NoRoom,
};
use crate::telemetry::{chain, metrics};

/// The `domain` of every `ErrorInfo`.
pub(super) const DOMAIN: &str = "contactsync";

/// When a call that found no room may come again.
const OVERLOADED_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest message and longest field description, in bytes; cut at a character's end.
const MESSAGE_BYTES_MAX: usize = 512;
/// Longest field path, in bytes.
const FIELD_BYTES_MAX: usize = 128;
/// Longest list of wrong fields with their descriptions, in bytes: they stand in the details, and
/// their beginning in the message.
const VIOLATIONS_BYTES_MAX: usize = 2048;
/// Most entries of `ErrorInfo`'s metadata.
const METADATA_ENTRIES_MAX: usize = 8;
/// Longest key of `ErrorInfo`'s metadata, in bytes (`google/rpc/error_details.proto`).
const METADATA_KEY_BYTES_MAX: usize = 64;
/// Longest value of `ErrorInfo`'s metadata, in bytes.
const METADATA_VALUE_BYTES_MAX: usize = 128;
/// Which compressions a server reads (gRPC's compression protocol).
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// `INVALID_ARGUMENT`: this field of the request is wrong. `description` says what would be right,
/// without repeating the value.
pub(super) fn invalid(field: &str, description: &str) -> Status {
    let (field, description) = (cut(field, FIELD_BYTES_MAX), cut(description, MESSAGE_BYTES_MAX));
    let mut details = info("INVALID_ARGUMENT", &[]);
    details.add_bad_request_violation(field, description);
    status(Code::InvalidArgument, &format!("{field}: {description}"), details)
}

/// The one of several refusals of a request that is told: what is not a wrong field (no such
/// account, no room) before all; else every wrong field, as many as fit.
pub(super) fn one_of(refused: &[&Status]) -> Status {
    if let Some(other) = refused.iter().find(|status| status.code() != Code::InvalidArgument) {
        return (*other).clone();
    }
    let mut details = info("INVALID_ARGUMENT", &[]);
    let mut words: Vec<String> = Vec::new();
    let all = refused.iter().filter_map(|status| status.get_details_bad_request()).flat_map(|bad| bad.field_violations);
    for FieldViolation { field, description, .. } in all {
        let word = format!("{field}: {description}");
        if words.iter().map(String::len).sum::<usize>() + word.len() > VIOLATIONS_BYTES_MAX && !words.is_empty() {
            break;
        }
        words.push(word);
        details.add_bad_request_violation(field, description);
    }
    status(Code::InvalidArgument, &words.join("; "), details)
}

/// The same refusal of fields that stand within another.
pub(super) fn within(outer: &str, refused: &Status) -> Status {
    let violations = refused.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let moved: Vec<Status> =
        violations.iter().map(|wrong| invalid(&format!("{outer}.{}", wrong.field), &wrong.description)).collect();
    if moved.is_empty() { refused.clone() } else { one_of(&moved.iter().collect::<Vec<_>>()) }
}

/// `NOT_FOUND`. What belongs to another account answers exactly like what does not exist: use the
/// same reason and message.
pub(super) fn not_found(reason: &'static str, message: &str) -> Status {
    status(Code::NotFound, message, info(reason, &[]))
}

/// `NOT_FOUND` `ACCOUNT_NOT_FOUND`: no such account, or not one of the caller's.
pub(super) fn account_not_found() -> Status {
    not_found("ACCOUNT_NOT_FOUND", "there is no account with this id")
}

/// `FAILED_PRECONDITION`: the caller must change some state first; `message` says which.
pub(super) fn failed_precondition(reason: &'static str, message: &str, metadata: &[(&str, &str)]) -> Status {
    status(Code::FailedPrecondition, message, info(reason, metadata))
}

/// `ALREADY_EXISTS`; `metadata` names what exists.
pub(super) fn already_exists(reason: &'static str, message: &str, metadata: &[(&str, &str)]) -> Status {
    status(Code::AlreadyExists, message, info(reason, metadata))
}

/// UNAVAILABLE: the same call may succeed later; the only code that clients retry by themselves.
pub(super) fn unavailable(reason: &'static str, message: &str, retry_after: Option<Duration>) -> Status {
    status(Code::Unavailable, message, with_retry(info(reason, &[]), retry_after))
}

/// UNAVAILABLE, by what is behind this service; `metadata` says what.
pub(super) fn unavailable_behind(
    reason: &'static str,
    message: &str,
    retry_after: Option<Duration>,
    metadata: &[(&str, &str)],
) -> Status {
    status(Code::Unavailable, message, with_retry(info(reason, metadata), retry_after))
}

/// `RESOURCE_EXHAUSTED`: over a limit; `retry_after` if waiting helps.
pub(super) fn resource_exhausted(reason: &'static str, message: &str, retry_after: Option<Duration>) -> Status {
    status(Code::ResourceExhausted, message, with_retry(info(reason, &[]), retry_after))
}

/// `RESOURCE_EXHAUSTED` `OVERLOADED`: there is no room for this call now.
pub(super) fn overloaded(why: NoRoom) -> Status {
    metrics::call_refused(why.as_str());
    tracing::warn!(reason = %why, "a call was refused, for want of room");
    resource_exhausted("OVERLOADED", &why.to_string(), Some(OVERLOADED_RETRY_AFTER))
}

/// `DEADLINE_EXCEEDED`: the call's time was up before its answer; a write may or may not have
/// happened.
pub(super) fn deadline_exceeded() -> Status {
    status(Code::DeadlineExceeded, "the call's deadline has passed", info("DEADLINE_EXCEEDED", &[]))
}

/// `DEADLINE_EXCEEDED`: the request's message did not arrive, so nothing was done.
pub(super) fn request_incomplete() -> Status {
    let message = "the request's message did not arrive in time; nothing was done";
    status(Code::DeadlineExceeded, message, info("REQUEST_INCOMPLETE", &[]))
}

/// `RESOURCE_EXHAUSTED`: the request's message is above the limit.
pub(super) fn message_too_large() -> Status {
    resource_exhausted("MESSAGE_TOO_LARGE", "the message is larger than this server reads", None)
}

/// `RESOURCE_EXHAUSTED`: the request's headers, its token among them, are above the limit.
pub(super) fn headers_too_large(bytes_max: u32) -> Status {
    let message =
        format!("the headers are larger than the {bytes_max} bytes that this server reads; send less metadata");
    resource_exhausted("HEADERS_TOO_LARGE", &message, None)
}

/// UNIMPLEMENTED: this server has no such method.
pub(super) fn method_not_served() -> Status {
    let message = "this server has no such method (reflection: switched off); other proto files?";
    status(Code::Unimplemented, message, info("METHOD_NOT_SERVED", &[]))
}

/// UNAUTHENTICATED: no token, or none that is accepted. Says no more than the reason does.
pub(super) fn unauthenticated(reason: &'static str, message: &str) -> Status {
    status(Code::Unauthenticated, message, info(reason, &[]))
}

/// `PERMISSION_DENIED`: the token is good, and not for this. Must not tell whether the thing asked
/// for exists.
pub(super) fn permission_denied(reason: &'static str, message: &str, metadata: &[(&str, &str)]) -> Status {
    status(Code::PermissionDenied, message, info(reason, metadata))
}

/// `PERMISSION_DENIED` `SCOPE_MISSING`: the token has none of these scopes, one of which the method
/// needs, or what a field of its message asks for.
pub(super) fn scope_missing(scopes: &[TokenScope], rule: Option<&FieldRule>) -> Status {
    let all = TokenScope::listed(scopes, " ");
    let needed = match scopes {
        [one] => format!("the scope {one}"),
        _ => format!("every scope that would do: {}", TokenScope::listed(scopes, ", ")),
    };
    let mut metadata = vec![("scopes", all.as_str())];
    // Which it was before there were several.
    metadata.extend(scopes.first().map(|scope| ("scope", scope.as_str())));
    let Some(rule) = rule else {
        return permission_denied("SCOPE_MISSING", &format!("the token lacks {needed}"), &metadata);
    };
    metadata.push(("field", rule.field));
    let message = format!("{}: for {} the token lacks {needed}", rule.field, rule.value);
    permission_denied("SCOPE_MISSING", &message, &metadata)
}

/// INTERNAL: our own fault. Logs the whole chain of causes here, once, and tells the caller nothing
/// of it; the answer of a unary call also gets the request's id, under which the log has it. The
/// error's texts must be free of personal data.
pub(super) fn internal(error: &(dyn Error + 'static)) -> Status {
    tracing::error!(error = %chain(error), "a request failed by a fault of the service");
    internal_logged()
}

/// INTERNAL, for what has been logged already.
pub(crate) fn internal_logged() -> Status {
    status(Code::Internal, "internal error", info("INTERNAL", &[]))
}

/// Makes an error answer complete before it leaves. An INTERNAL gets the request's id. A status
/// without details was made by tonic itself, about bytes that it could not read or a method that it
/// does not know, and gets its reason here: gRPC's own codes for these (INTERNAL, `OUT_OF_RANGE`)
/// would blame the server for what a client has sent. `None`: nothing to add.
pub(crate) fn complete(made: &Status, request_id: &str) -> Option<Status> {
    let is_ours = !made.details().is_empty();
    Some(match made.code() {
        Code::Internal if is_ours => {
            let mut details = info("INTERNAL", &[("request_id", request_id)]);
            details.set_request_info(request_id, "");
            status(Code::Internal, made.message(), details)
        }
        code if is_ours || code == Code::Ok => return None,
        Code::Internal => status(Code::InvalidArgument, "the message cannot be read", info("MESSAGE_UNREADABLE", &[])),
        Code::OutOfRange => message_too_large(),
        Code::Unimplemented => not_offered(made),
        Code::NotFound => not_found("SERVICE_NOT_FOUND", made.message()),
        code => status(code, made.message(), info("UNKNOWN", &[])),
    })
}

/// UNIMPLEMENTED, mostly of a message that is compressed: a client that compresses by itself stops
/// that if it is told what is read instead.
fn not_offered(made: &Status) -> Status {
    let details = info("UNIMPLEMENTED", &[]);
    let Some(accepted) = made.metadata().get(ACCEPT_ENCODING) else {
        return status(Code::Unimplemented, "not offered by this server", details);
    };
    let message = "this server reads no compressed messages; send them as they are";
    let mut whole = status(Code::Unimplemented, message, details);
    whole.metadata_mut().insert(ACCEPT_ENCODING, accepted.clone());
    whole
}

/// The same for an error that ends a body: there, tonic complains of what the server was about to
/// send.
pub(crate) fn complete_trailers(made: &Status, request_id: &str) -> Option<Status> {
    if made.code() == Code::OutOfRange && made.details().is_empty() {
        let message = "the answer is larger than this server sends; ask for a smaller page";
        return Some(resource_exhausted("ANSWER_TOO_LARGE", message, None));
    }
    complete(made, request_id)
}

fn info(reason: &'static str, metadata: &[(&str, &str)]) -> ErrorDetails {
    debug_assert!(
        reason.len() <= 63 && reason.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'),
        "a reason is UPPER_SNAKE of at most 63 bytes"
    );
    debug_assert!(metadata.len() <= METADATA_ENTRIES_MAX, "too much metadata for one error");
    let metadata: HashMap<String, String> = metadata
        .iter()
        .take(METADATA_ENTRIES_MAX)
        .map(|(key, value)| {
            (cut(key, METADATA_KEY_BYTES_MAX).to_owned(), cut(value, METADATA_VALUE_BYTES_MAX).to_owned())
        })
        .collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

fn with_retry(mut details: ErrorDetails, retry_after: Option<Duration>) -> ErrorDetails {
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    details
}

fn status(code: Code, message: &str, details: ErrorDetails) -> Status {
    Status::with_error_details(code, cut(message, MESSAGE_BYTES_MAX), details)
}

/// The longest start of the text that has at most this many bytes and ends with a whole character.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn reason(status: &Status) -> String {
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, "contactsync");
        info.reason.clone()
    }

    #[test]
    fn an_invalid_argument_names_its_field() {
        let status = invalid("account_id", "must be a UUID");

        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "account_id: must be a UUID");
        assert_eq!(reason(&status), "INVALID_ARGUMENT");
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(
            (violations[0].field.as_str(), violations[0].description.as_str()),
            ("account_id", "must be a UUID")
        );
    }

    /// Message and details stay within their sizes, and end with a whole character.
    #[test]
    fn message_and_details_are_cut_between_characters() {
        let long = "ж".repeat(5_000);
        let metadata: Vec<(&str, &str)> = vec![(long.as_str(), long.as_str()); METADATA_ENTRIES_MAX];

        for status in [
            invalid(&long, &long),
            failed_precondition("ANY", &long, &metadata),
            not_found("ANY", &long),
            unavailable("ANY", &long, Some(Duration::MAX)),
        ] {
            assert!(status.message().len() <= MESSAGE_BYTES_MAX);
            assert!(status.details().len() <= 4096, "{} bytes", status.details().len());
            assert!(status.message().ends_with('ж') || status.message().is_ascii());
        }
    }

    #[test]
    fn retry_info_is_there_only_when_waiting_helps() {
        let later = resource_exhausted("OVERLOADED", "too many calls", Some(Duration::from_millis(1500)));
        let never = resource_exhausted("TOO_MANY", "too many entries", None);

        assert_eq!(later.get_error_details().retry_info().unwrap().retry_delay, Some(Duration::from_millis(1500)));
        assert!(never.get_error_details().retry_info().is_none());
    }

    /// An internal error tells nothing but the request's id.
    #[test]
    fn internal_error_tells_only_request_id() {
        let cause = io::Error::other("relation \"contacts\" does not exist");

        let status = internal(&cause);
        let whole = complete(&status, "0199").unwrap();

        assert_eq!(status.message(), "internal error");
        let details = whole.get_error_details();
        assert_eq!(details.request_info().unwrap().request_id, "0199");
        assert_eq!(details.error_info().unwrap().metadata["request_id"], "0199");
        assert!(!format!("{whole:?}").contains("relation"));
    }

    /// What tonic says of unreadable bytes blames the client, and has a reason.
    #[test]
    fn tonics_unreadable_bytes_blame_client_with_reason() {
        for (made, code, expected) in [
            (Status::internal("failed to decode Protobuf message"), Code::InvalidArgument, "MESSAGE_UNREADABLE"),
            (Status::out_of_range("decoded message length too large"), Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            (Status::unimplemented(""), Code::Unimplemented, "UNIMPLEMENTED"),
            (Status::not_found("service not registered"), Code::NotFound, "SERVICE_NOT_FOUND"),
            (Status::cancelled("gone"), Code::Cancelled, "UNKNOWN"),
        ] {
            let whole = complete(&made, "id").unwrap();

            assert_eq!(whole.code(), code);
            assert_eq!(reason(&whole), expected);
        }
        assert!(complete(&account_not_found(), "id").is_none());
    }
}
