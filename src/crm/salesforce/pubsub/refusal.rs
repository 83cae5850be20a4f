//! What the Pub/Sub API's refusals mean: by its own word in the trailer `error-code`, else by
//! gRPC's code. What it writes to people is neither shown nor logged. Source: Salesforce, "Handle
//! Errors" of the Pub/Sub API.

use tonic::{Code, Status};
use tracing::info;

use super::{channel::connect_failure, words};
use crate::{
    crm::{CrmError, StreamFailure, addresses::causes},
    domain::record::ObjectType,
};

/// Where Salesforce's word stands.
const ERROR_CODE: &str = "error-code";
/// What each begins with.
const WORDS: &str = "sfdc.platform.eventbus.grpc.";
/// Bytes of a word.
const WORD_BYTES_MAX: usize = 120;

/// What a refusal of a call about this kind of object means.
pub(super) fn failure_of(status: &Status, object: ObjectType, host: &str) -> StreamFailure {
    if let Some(error) = connect_failure(status, host) {
        let below: Vec<String> = std::error::Error::source(status)
            .map(|first| causes(first).map(ToString::to_string).collect())
            .unwrap_or_default();
        info!(error = below.join(": "), "no connection for a stream of changes");
        return StreamFailure::Broke(error);
    }
    let word = error_code(status);
    let failure = meaning(status.code(), word, object, host);
    info!(
        grpc_code = ?status.code(),
        error_code = word.unwrap_or_default(),
        meaning = failure.as_str(),
        "a stream of changes was ended, or refused"
    );
    failure
}

/// The word, if it is one.
fn error_code(status: &Status) -> Option<&str> {
    let text = status.metadata().get(ERROR_CODE)?.to_str().ok()?;
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (text.len() <= WORD_BYTES_MAX && text.bytes().all(is_word)).then_some(text)
}

fn meaning(code: Code, word: Option<&str>, object: ObjectType, host: &str) -> StreamFailure {
    let word = word.unwrap_or_default();
    match (word.strip_prefix(WORDS).unwrap_or(word), code) {
        ("service.auth.error", _) => StreamFailure::Credentials,
        ("service.auth.headers.invalid", _) => StreamFailure::Refused(words::REFUSED),
        ("subscription.limit.exceeded", _) => StreamFailure::QuotaSpent(words::QUOTA_SPENT),
        ("topic.not.found", _) => StreamFailure::Closed(words::object_off(object)),
        ("subscription.topic.cannot.subscribe" | "topic.meta.permission", _) => {
            StreamFailure::Closed(words::role_missing(object))
        }
        ("service.tenant.license", _) => StreamFailure::Closed(words::NOT_LICENSED),
        ("subscription.fetch.overflow", _) => StreamFailure::TooFast,
        (word, _) if word.starts_with("service.protection.") => StreamFailure::TooFast,
        (word, _) if word.contains("replayid") || word == "subscription.fetch.replay.repeated" => {
            StreamFailure::PlaceRefused
        }
        ("", Code::Unauthenticated) => StreamFailure::Credentials,
        ("", Code::InvalidArgument) => StreamFailure::Refused(words::REFUSED),
        ("", Code::PermissionDenied) => StreamFailure::Closed(words::role_missing(object)),
        ("", Code::NotFound) => StreamFailure::Closed(words::object_off(object)),
        ("", Code::Unimplemented) => StreamFailure::Closed(words::NOT_LICENSED),
        // Our own limit of a message's size, too.
        ("", Code::ResourceExhausted | Code::OutOfRange) => StreamFailure::TooFast,
        (_, Code::Unavailable) => StreamFailure::Broke(CrmError::ConnectionBroke { host: host.to_owned() }),
        // What is not known passes by itself, or is seen for a long time in its state.
        _ => StreamFailure::Broke(CrmError::Unavailable("its stream of changes ended with an error")),
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::{MetadataMap, MetadataValue};

    use super::*;

    fn failure(code: Code, word: &'static str) -> StreamFailure {
        let mut metadata = MetadataMap::new();
        if !word.is_empty() {
            let text = if word.contains(' ') { word.to_owned() } else { format!("{WORDS}{word}") };
            metadata.insert(ERROR_CODE, MetadataValue::try_from(text).unwrap());
        }
        let status = Status::with_metadata(code, "Ann Doe +14155550100 token", metadata);
        failure_of(&status, ObjectType::Lead, "h")
    }

    #[test]
    fn each_word_has_its_meaning() {
        for (word, meaning) in [
            ("service.unavailable", "broke"),
            ("subscription.internal.error", "broke"),
            ("topic.api.unavailable", "broke"),
            ("something.new", "broke"),
            ("service.auth.error", "credentials"),
            ("service.auth.headers.invalid", "refused"),
            ("subscription.fetch.replayid.corrupted", "place_refused"),
            ("subscription.fetch.replayid.validation.failed", "place_refused"),
            ("subscription.fetch.replay.repeated", "place_refused"),
            ("subscription.limit.exceeded", "quota"),
            ("topic.not.found", "closed"),
            ("subscription.topic.cannot.subscribe", "closed"),
            ("topic.meta.permission", "closed"),
            ("service.tenant.license", "closed"),
            ("subscription.fetch.overflow", "too_fast"),
            ("service.protection.rate", "too_fast"),
        ] {
            for code in [Code::Unknown, Code::InvalidArgument, Code::Unavailable] {
                assert_eq!(failure(code, word).as_str(), meaning, "{word} {code:?}");
            }
        }
    }

    #[test]
    fn codes_without_words_have_theirs() {
        for (code, meaning) in [
            (Code::Unauthenticated, "credentials"),
            (Code::InvalidArgument, "refused"),
            (Code::PermissionDenied, "closed"),
            (Code::NotFound, "closed"),
            (Code::Unimplemented, "closed"),
            (Code::ResourceExhausted, "too_fast"),
            (Code::OutOfRange, "too_fast"),
            (Code::Unavailable, "broke"),
            (Code::Internal, "broke"),
            (Code::Unknown, "broke"),
            (Code::Aborted, "broke"),
            (Code::Cancelled, "broke"),
            (Code::DeadlineExceeded, "broke"),
            (Code::Ok, "broke"),
        ] {
            assert_eq!(failure(code, "").as_str(), meaning, "{code:?}");
        }
    }

    #[test]
    fn messages_are_in_no_error_text() {
        for word in ["", "topic.not.found", "service.auth.error", "Ann Doe +14155550100"] {
            for code in [Code::PermissionDenied, Code::Unavailable, Code::Internal] {
                let text = format!("{:?}", failure(code, word));
                assert!(!text.contains("Ann") && !text.contains("0100") && !text.contains("token"), "{text}");
            }
        }
    }
}
