//! Errors as a person at a terminal needs them: what was refused, why, which field, and what to do next.
//! Shows what the server says and nothing of the request, so that no number or secret lands in somebody's log.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::show::{Lines, clean};

/// What stopped a command before the server could, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(in crate::cli) struct Stopped {
    /// What is missing or wrong.
    pub(in crate::cli) what: String,
    /// What would help.
    pub(in crate::cli) next: String,
}

/// The error, a few aligned lines. What a program may search for, a message of this machine's own, stays on one line.
pub(in crate::cli) fn describe(error: &anyhow::Error) -> String {
    if let Some(status) = error.downcast_ref::<Status>() {
        return describe_status(status);
    }
    // What stopped it is told in its own words, without the causes below.
    if let Some(Stopped { what, next }) = error.downcast_ref::<Stopped>() {
        return format!("error  {what}\nnext   {next}");
    }
    format!("error  {error:#}")
}

/// Code, reason, message, field, what else the server says of it, and what to do.
pub(in crate::cli) fn describe_status(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or("", |info| info.reason.as_str());
    let code = code_name(status.code());
    let is_plain = reason.is_empty() || reason == code;
    let mut lines = Lines::default();
    lines.add("error", if is_plain { code.to_owned() } else { format!("{code}, {reason}") });
    lines.add("message", status.message());
    for violation in details.bad_request().into_iter().flat_map(|request| &request.field_violations) {
        lines.add("field", &violation.field);
    }
    let mut metadata: Vec<_> = info.into_iter().flat_map(|info| &info.metadata).collect();
    metadata.sort();
    for (key, value) in metadata {
        lines.add(&clean(key), value);
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        lines.add("retry", format!("after {:.1} s", delay.as_secs_f64()));
    }
    // Every error of the service has a reason; what has none comes from something else, or from the way there.
    let is_foreign = info.is_none() && matches!(status.code(), Code::Internal | Code::Unknown);
    let foreign =
        "what answers there is hardly contact-sync: check --server, CONTACT_SYNC_SERVER or the setting listen";
    let next = if is_foreign { Some(foreign) } else { next_step(status.code(), reason) };
    if let Some(next) = next {
        lines.add("next", next);
    }
    lines.to_string().trim_end().to_owned()
}

/// What helps, where the message does not say it already.
fn next_step(code: Code, reason: &str) -> Option<&'static str> {
    Some(match (code, reason) {
        (_, "ACCOUNT_NOT_FOUND") => "`contact-sync account list` shows the accounts that this token may use",
        (_, "INTEGRATION_NOT_FOUND") => "`contact-sync sync status --account ID` shows the account's integrations",
        (_, "INTEGRATION_EXISTS") => {
            "`contact-sync sync credentials` brings new credentials, `sync trigger` copies now, `sync on` and `sync off` switch; \
             `sync status --account ID` shows it"
        }
        (_, "SYNC_RUN_NOT_FOUND") => "`contact-sync sync status --integration ID` shows the newest runs",
        (_, "SYNC_OFF") => "`contact-sync sync on` switches it on",
        (_, "INTEGRATION_DISABLED") => "`contact-sync sync enable` takes it up again, with its contacts",
        (_, "CREDENTIALS_REFUSED") => {
            "check the token (and the e-mail of an API token) in the CRM; `contact-sync sync test` tries them"
        }
        (_, "CALL_NOT_FOUND") => "`contact-sync match --call-id ID NUMBER` makes the call known",
        (_, "SCOPE_MISSING") => "use a token with that scope: `contact-sync token --scope ..` issues one",
        (Code::Unauthenticated, _) => {
            "the token is not this server's: leave --token-file and CONTACT_SYNC_TOKEN out to use the local key, and \
             name the server's data directory with --data-dir if it is not the default one"
        }
        (Code::DeadlineExceeded | Code::Cancelled, _) => {
            "the server did not answer in time; see its log, and try again: every call may be repeated"
        }
        (Code::Unavailable | Code::ResourceExhausted, _) => "try again in a moment; if it stays, see the server's log",
        (Code::Internal, _) => "the server's log tells what went wrong, under this request_id",
        (Code::Unimplemented, _) => "server and client are of different versions",
        _ => return None,
    })
}

/// As gRPC's documentation writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_wrong_field_is_named_once_with_what_would_be_right() {
        let mut details = ErrorDetails::with_error_info("INVALID_ARGUMENT", "contactsync", []);
        details.add_bad_request_violation("phone_number", "must have at most 250 bytes, and no NUL");
        let message = "phone_number: must have at most 250 bytes, and no NUL";

        let text = describe_status(&Status::with_error_details(Code::InvalidArgument, message, details));

        assert_eq!(
            text,
            "error    INVALID_ARGUMENT\nmessage  phone_number: must have at most 250 bytes, and no NUL\n\
             field    phone_number"
        );
    }

    #[test]
    fn a_refusal_tells_its_reason_what_it_is_about_and_what_to_do() {
        let metadata = [("integration_id".to_owned(), "0199".to_owned())];
        let details = ErrorDetails::with_error_info("INTEGRATION_EXISTS", "contactsync", metadata);

        let text = describe_status(&Status::with_error_details(Code::AlreadyExists, "it is enabled", details));

        assert_eq!(
            text,
            "error           ALREADY_EXISTS, INTEGRATION_EXISTS\nmessage         it is enabled\nintegration_id  0199\n\
             next            `contact-sync sync credentials` brings new credentials, `sync trigger` copies now,\n                \
             `sync on` and `sync off` switch; `sync status --account ID` shows it"
        );
    }

    #[test]
    fn an_answer_of_something_else_is_not_blamed_on_the_service() {
        let text = describe_status(&Status::internal("invalid compression flag: 123"));

        assert!(text.contains("hardly contact-sync"), "{text}");
    }

    #[test]
    fn what_a_server_writes_cannot_steer_the_terminal() {
        let text = describe_status(&Status::not_found("no \u{1b}[31mcontact\r\nat all"));

        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn other_errors_are_told_with_their_causes() {
        let error = anyhow::anyhow!("no such file").context("--token-file");

        assert_eq!(describe(&error), "error  --token-file: no such file");
    }
}
