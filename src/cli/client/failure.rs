//! Errors as a person at a terminal needs them: what was refused, why, which field, and what to do
//! next. Shows what the server says and nothing of the request, so that no number or secret lands
//! in somebody's log.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    advice::{self, FieldFlags},
    show::{LabelledLines, clean},
};
use crate::rpc::code_name;

/// What stopped a command before the server could, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(in crate::cli) struct CommandFailure {
    /// What is missing or wrong.
    pub(in crate::cli) what: String,
    /// What would help.
    pub(in crate::cli) next: String,
}

/// What a refused command was, for the words of its error. It stands behind a [`Status`] as its
/// context.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the server refused it")]
pub(in crate::cli) struct AskedCommand {
    /// What the command calls fields that others call otherwise.
    pub(in crate::cli) flags: FieldFlags,
    /// Where the token came from that it was asked with.
    pub(in crate::cli) token_from: &'static str,
}

/// The error, a few aligned lines. What a program may search for, a message of this machine's own,
/// stays on one line.
pub(in crate::cli) fn describe(error: &anyhow::Error) -> String {
    if let Some(status) = error.downcast_ref::<Status>() {
        let asked =
            error.downcast_ref::<AskedCommand>().copied().unwrap_or(AskedCommand { flags: &[], token_from: "" });
        return describe_status(status, asked);
    }
    // What stopped it is told in its own words, without the causes below.
    if let Some(CommandFailure { what, next }) = error.downcast_ref::<CommandFailure>() {
        return format!("error  {what}\nnext   {next}");
    }
    format!("error  {error:#}")
}

/// Code, reason, message with the flags that are wrong, what else the server says of it, and what
/// to do.
fn describe_status(status: &Status, asked: AskedCommand) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or("", |info| info.reason.as_str());
    let code = code_name(status.code());
    let is_plain = reason.is_empty() || reason == code;
    let mut lines = LabelledLines::default();
    lines.add("error", if is_plain { code.to_owned() } else { format!("{code}, {reason}") });
    let violations: Vec<_> = details.bad_request().into_iter().flat_map(|request| &request.field_violations).collect();
    if violations.is_empty() {
        lines.add("message", advice::message(reason, status.message()));
    }
    for violation in &violations {
        let named = advice::flag_of(&violation.field, asked.flags).unwrap_or(&violation.field);
        lines.add("message", format!("{named}: {}", advice::in_own_words(&violation.description)));
    }
    let no_metadata = HashMap::new();
    let metadata = info.map_or(&no_metadata, |info| &info.metadata);
    let mut sorted: Vec<_> = metadata.iter().collect();
    sorted.sort();
    for (key, value) in sorted {
        lines.add(&clean(key), value);
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        lines.add("retry", format!("after {:.1} s", delay.as_secs_f64()));
    }
    if status.code() == Code::Unauthenticated {
        lines.add("token", asked.token_from);
    }
    // Every error of the service has a reason; what has none comes from something else, or from the
    // way there.
    let is_foreign = info.is_none()
        && match status.code() {
            Code::Internal | Code::Unknown => true,
            // Our own limit says so in these words.
            Code::Cancelled => status.message() != "Timeout expired",
            _ => false,
        };
    let foreign = if [" 502", " 503", " 504"].iter().any(|code| status.message().contains(&format!("status:{code}"))) {
        "a proxy answers, and no replica behind it is ready: look at /readyz of each"
    } else {
        "what answers there is hardly contact-sync, or speaks TLS: check --server (https:// for TLS), CONTACT_SYNC_SERVER or the \
         setting listen"
    };
    let of_field = violations.iter().find_map(|violation| advice::next_of_field(&violation.field)).map(str::to_owned);
    let next = if is_foreign { Some(foreign.to_owned()) } else { advice::next_step(status.code(), reason, metadata) };
    if let Some(next) = of_field.or(next) {
        lines.add("next", next);
    }
    lines.to_string().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn describe_status(status: &Status) -> String {
        describe(&anyhow::Error::from(status.clone()))
    }

    /// A wrong field is named as what was typed, with what would be right.
    #[test]
    fn wrong_field_is_named_as_typed() {
        let mut details = ErrorDetails::with_error_info("INVALID_ARGUMENT", "contactsync", []);
        details.add_bad_request_violation("phone_number", "must have at most 250 bytes, and no NUL");
        let message = "phone_number: must have at most 250 bytes, and no NUL";

        let text = describe_status(&Status::with_error_details(Code::InvalidArgument, message, details));

        assert_eq!(text, "error    INVALID_ARGUMENT\nmessage  --number: must have at most 250 bytes, and no NUL");
    }

    /// A refusal tells its reason, what it is about, and what to do.
    #[test]
    fn refusal_tells_reason_subject_and_next_step() {
        let metadata = [("integration_id".to_owned(), "0199".to_owned())];
        let details = ErrorDetails::with_error_info("INTEGRATION_EXISTS", "contactsync", metadata);

        let text = describe_status(&Status::with_error_details(Code::AlreadyExists, "it is enabled", details));

        assert_eq!(
            text,
            "error           ALREADY_EXISTS, INTEGRATION_EXISTS\n\
             message         this organisation is linked to the account already\n\
             integration_id  0199\n\
             next            `contact-sync sync credentials --integration 0199` brings new credentials; `sync\n                \
             trigger` copies now, `sync on` and `sync off` switch, `sync status` shows it"
        );
    }

    /// An answer of something else is not blamed on the service.
    #[test]
    fn foreign_answer_is_not_blamed_on_service() {
        let text = describe_status(&Status::internal("invalid compression flag: 123"));

        assert!(text.contains("hardly contact-sync"), "{text}");
        let cut = describe_status(&Status::cancelled("operation was canceled"));
        assert!(cut.contains("or speaks TLS"), "{cut}");
        let late = describe_status(&Status::cancelled("Timeout expired"));
        assert!(!late.contains("hardly contact-sync"), "{late}");
        let proxy = "invalid compression flag: 60 while receiving response with status: 503 Service Unavailable";
        let proxy = describe_status(&Status::internal(proxy));
        assert!(proxy.contains("no replica behind it is ready"), "{proxy}");
    }

    #[test]
    fn what_a_server_writes_cannot_steer_the_terminal() {
        let text = describe_status(&Status::not_found("no \u{1b}[31mcontact\r\nat all"));

        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }

    /// A command names its own arguments and its token.
    #[test]
    fn command_names_its_own_arguments_and_token() {
        let mut details = ErrorDetails::with_error_info("INVALID_ARGUMENT", "contactsync", []);
        details.add_bad_request_violation("phone_number", "must have digits");
        details.add_bad_request_violation("page_token", "must be a token");
        let asked =
            AskedCommand { flags: &[("phone_number", "NUMBER")], token_from: "CONTACT_SYNC_TOKEN (environment)" };
        let of = |status: Status| describe(&anyhow::Error::from(status).context(asked));

        let wrong = of(Status::with_error_details(Code::InvalidArgument, "both", details));
        let stranger = of(Status::unauthenticated("no"));

        assert!(wrong.contains("message  NUMBER: must have digits\n         page_token: must be a token"), "{wrong}");
        assert!(stranger.contains("token    CONTACT_SYNC_TOKEN (environment)"), "{stranger}");
    }

    #[test]
    fn other_errors_are_told_with_their_causes() {
        let error = anyhow::anyhow!("no such file").context("--token-file");

        assert_eq!(describe(&error), "error  --token-file: no such file");
    }
}
