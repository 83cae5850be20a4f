//! Answers and errors for programs, one line each: proto3 JSON of the message itself, made from the
//! descriptors (protobuf.dev/programming-guides/json). Fields that are empty, 0 or false are
//! written too, so that a program finds every field; a message or `optional` field that is not set
//! is left out. Must not leave out, rename or turn anything by hand.

use std::sync::LazyLock;

use anyhow::Context;
use base64::prelude::{BASE64_STANDARD, Engine};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::pb as google;

use super::failure::CommandFailure;
use crate::rpc::pb;

const OPTIONS: SerializeOptions = SerializeOptions::new().skip_default_fields(false);

/// The service's own messages, and those of `google/rpc` that its errors carry.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).expect("build.rs has compiled the descriptors");
    pool.decode_file_descriptor_set(google::FILE_DESCRIPTOR_SET).expect("tonic-types has compiled its descriptors");
    pool
});

/// This message, written as proto3 JSON. Fails if it holds a time that has no text, before the year
/// 1 or after 9999.
pub(in crate::cli) fn of<M: Message + Name>(message: &M) -> impl Serialize {
    Proto(message)
}

/// The fields of two answers in one object: what a command prints that asks two methods.
pub(in crate::cli) fn both<A: Message + Name, B: Message + Name>(first: &A, second: &B) -> impl Serialize {
    #[derive(Serialize)]
    struct Both<A: Serialize, B: Serialize> {
        #[serde(flatten)]
        first: A,
        #[serde(flatten)]
        second: B,
    }
    Both { first: of(first), second: of(second) }
}

struct Proto<'a, M>(&'a M);

impl<M: Message + Name> Serialize for Proto<'_, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        dynamic(&M::full_name(), &self.0.encode_to_vec())
            .map_err(S::Error::custom)?
            .serialize_with_options(serializer, &OPTIONS)
    }
}

fn dynamic(full_name: &str, encoded: &[u8]) -> anyhow::Result<DynamicMessage> {
    let descriptor = POOL.get_message_by_name(full_name).with_context(|| format!("{full_name} has no descriptor"))?;
    Ok(DynamicMessage::decode(descriptor, encoded)?)
}

/// As one line of ASCII control characters' and line separators' escapes: no name in it steers a
/// terminal or ends the line.
pub(in crate::cli) fn line(json: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(json).context("the server's answer cannot be written as JSON")?;
    let is_unsafe = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(is_unsafe) {
        return Ok(text);
    }
    // Such characters stand within strings only, where an escape is the same text.
    Ok(text.chars().map(|c| if is_unsafe(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect())
}

/// An error as one line of `google.rpc.Status`: the server's as it came. One of this machine has no
/// details: UNAVAILABLE if no server answers, else `FAILED_PRECONDITION`.
pub(in crate::cli) fn error(error: &anyhow::Error) -> String {
    if let Some(status) = error.downcast_ref::<Status>() {
        return status_line(status.code(), status.message(), &details(status));
    }
    let code = if error.is::<tonic::transport::Error>() { Code::Unavailable } else { Code::FailedPrecondition };
    match error.downcast_ref::<CommandFailure>() {
        Some(CommandFailure { what, next }) => status_line(code, &format!("{what}; {next}"), &[]),
        None => status_line(code, &format!("{error:#}"), &[]),
    }
}

/// A command line that could not be read, as one line of `google.rpc.Status`.
pub(in crate::cli) fn usage_error(error: &clap::Error) -> String {
    let text = error.render().to_string();
    status_line(Code::InvalidArgument, text.trim().trim_start_matches("error: "), &[])
}

fn status_line(code: Code, message: &str, details: &[Value]) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        code: i32,
        message: &'a str,
        details: &'a [Value],
    }
    line(&Line { code: code.into(), message, details }).expect("numbers and texts have a JSON form")
}

fn details(status: &Status) -> Vec<Value> {
    // What is no google.rpc.Status comes from something between here and the server.
    let status = google::Status::decode(status.details()).unwrap_or_default();
    status.details.iter().map(detail).collect()
}

/// A detail with its `@type`. One of a kind that this client does not know keeps its bytes.
fn detail(any: &prost_types::Any) -> Value {
    let known = dynamic("google.protobuf.Any", &any.encode_to_vec()).ok();
    known
        .and_then(|any| any.serialize_with_options(serde_json::value::Serializer, &OPTIONS).ok())
        .unwrap_or_else(|| json!({ "@type": any.type_url, "value": BASE64_STANDARD.encode(&any.value) }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    /// A message with every kind of field is read back as it was.
    #[test]
    fn an_answer_is_read_back_by_its_descriptor() {
        let answer = pb::GetIntegrationResponse {
            integration: Some(pb::Integration {
                id: "0199".into(),
                provider: pb::Provider::Zendesk.into(),
                known_through: Some(prost_types::Timestamp { seconds: 1_763_799_160, nanos: 500_000_000 }),
                options: Some(pb::IntegrationOptions {
                    period: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
                    ..Default::default()
                }),
                held_deletions: i64::MAX,
                ..Default::default()
            }),
        };

        let text = line(&of(&answer)).unwrap();

        let found = &value(&text)["integration"];
        assert_eq!(found["provider"], "PROVIDER_ZENDESK");
        assert_eq!(found["knownThrough"], "2025-11-22T08:12:40.500Z");
        assert_eq!(found["options"]["period"], "90s");
        assert_eq!(found["heldDeletions"], "9223372036854775807");
        assert_eq!((&found["organization"], &found["enabled"]), (&json!(""), &json!(false)), "defaults are written");
        assert_eq!(found.get("createTime"), None, "{text}");
        let descriptor = POOL.get_message_by_name("contactsync.v1.GetIntegrationResponse").unwrap();
        let read = DynamicMessage::deserialize(descriptor, &mut serde_json::Deserializer::from_str(&text)).unwrap();
        assert_eq!(read.transcode_to::<pb::GetIntegrationResponse>().unwrap(), answer);
    }

    /// An enum value of a newer server keeps its number.
    #[test]
    fn unknown_enum_value_keeps_its_number() {
        let answer = pb::MatchCallerResponse { outcome: 99, ..Default::default() };

        assert_eq!(value(&line(&of(&answer)).unwrap())["outcome"], 99);
    }

    #[test]
    fn an_empty_list_is_an_empty_list() {
        assert_eq!(line(&of(&pb::ListAccountsResponse::default())).unwrap(), r#"{"accounts":[],"nextPageToken":""}"#);
    }

    #[test]
    fn two_answers_are_one_object() {
        let integration = pb::GetIntegrationResponse { integration: Some(pb::Integration::default()) };

        let text = line(&both(&integration, &pb::ListSyncRunsResponse::default())).unwrap();

        assert_eq!(value(&text)["syncRuns"], json!([]));
        assert_eq!(value(&text)["integration"]["id"], "");
    }

    /// No name steers a terminal or breaks the line.
    #[test]
    fn names_never_steer_terminal_or_break_line() {
        let name = "a\u{1b}[2J\u{9b}\"\r\n\u{85}\u{2028}\u{2029}\u{7f}b";
        let answer =
            pb::GetAccountResponse { account: Some(pb::Account { display_name: name.into(), ..Default::default() }) };

        let text = line(&of(&answer)).unwrap();

        assert!(!text.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')), "{text:?}");
        assert_eq!(value(&text)["account"]["displayName"], name);
    }

    /// A time that has no text is an error.
    #[test]
    fn time_without_text_is_error() {
        let answer = pb::MatchCallerResponse {
            sources: vec![pb::Source {
                known_through: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
                ..Default::default()
            }],
            ..Default::default()
        };

        assert!(line(&of(&answer)).is_err());
    }

    /// An error of the server is told with every detail.
    #[test]
    fn server_error_is_told_with_every_detail() {
        let mut details = ErrorDetails::with_error_info("OVERLOADED", "contactsync", [("k".into(), "v".into())]);
        details.set_retry_info(Some(Duration::from_millis(1_500))).set_request_info("0199", "");
        details.add_bad_request_violation("phone_number", "must have a digit");
        let status = Status::with_error_details(Code::ResourceExhausted, "no room", details);

        let text = error(&status.into());

        let found = value(&text);
        let of = |name: &str| {
            let kind = format!("type.googleapis.com/google.rpc.{name}");
            found["details"].as_array().unwrap().iter().find(|detail| detail["@type"] == kind).unwrap().clone()
        };
        assert_eq!((&found["code"], &found["message"]), (&json!(8), &json!("no room")));
        assert_eq!(of("ErrorInfo")["reason"], "OVERLOADED");
        assert_eq!(of("ErrorInfo")["metadata"], json!({"k": "v"}));
        assert_eq!(of("RetryInfo")["retryDelay"], "1.500s");
        assert_eq!(of("RequestInfo")["requestId"], "0199");
        assert_eq!(of("BadRequest")["fieldViolations"][0]["field"], "phone_number");
        let descriptor = POOL.get_message_by_name("google.rpc.Status").unwrap();
        DynamicMessage::deserialize(descriptor, &mut serde_json::Deserializer::from_str(&text)).unwrap();
    }

    /// Details that are unknown, broken or missing do no harm.
    #[test]
    fn unknown_broken_or_missing_details_are_harmless() {
        let any = |url: &str, value: &[u8]| prost_types::Any { type_url: url.into(), value: value.into() };
        let broken = any("type.googleapis.com/google.rpc.ErrorInfo", &[0xff, 0xff]);
        let details = vec![any("type.googleapis.com/acme.Unknown", b"\x08\x01"), broken, any("", b"")];
        let encoded = google::Status { code: 13, message: String::new(), details }.encode_to_vec();
        let status = Status::with_details(Code::Internal, "odd", encoded.into());

        let found = value(&error(&status.into()));

        assert_eq!(found["details"][0], json!({"@type": "type.googleapis.com/acme.Unknown", "value": "CAE="}));
        assert_eq!(found["details"][1]["value"], "//8=");
        assert_eq!(found["details"][2]["@type"], "");
        assert_eq!(error(&Status::unknown("x").into()), r#"{"code":2,"message":"x","details":[]}"#);
    }

    /// An error of this machine has the same form as one of the server.
    #[test]
    fn local_error_has_same_form() {
        let stopped = CommandFailure { what: "nothing was erased".into(), next: "repeat with --yes".into() };
        let file = anyhow::anyhow!("no such file").context("--token-file");

        assert_eq!(
            error(&stopped.into()),
            r#"{"code":9,"message":"nothing was erased; repeat with --yes","details":[]}"#
        );
        assert_eq!(error(&file), r#"{"code":9,"message":"--token-file: no such file","details":[]}"#);
    }
}
