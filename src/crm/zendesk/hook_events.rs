//! Events of Zendesk's webhooks: who sent them, and which users they are about. Source: Zendesk
//! developer documentation, "Verifying webhooks", "User events".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::HeaderMap;
use serde::Deserialize;

use crate::{
    crm::hook::{EventReach, HookDelivery, HookMessage, TouchedRecord},
    domain::{
        hook::HookSecret,
        record::{ObjectType, RecordKey, decimal_id},
    },
};

/// The one that is wished for besides, where custom fields hold numbers.
pub(super) const CUSTOM_FIELD: &str = "user.custom_field_changed";
/// Events that may change what is copied, behind `zen:event-type:`. There is none for a shared
/// number, nor for a deletion for good: polls and sweeps see those.
pub(super) const EVENTS: [&str; 9] = [
    "user.created",
    "user.deleted",
    "user.merged",
    "user.active_changed",
    "user.identity_created",
    "user.identity_changed",
    "user.identity_deleted",
    "user.name_changed",
    "user.role_changed",
];
const MERGED: &str = "user.merged";
const SIGNATURE: &str = "x-zendesk-webhook-signature";
const SIGNED_AT: &str = "x-zendesk-webhook-signature-timestamp";
/// A signature that is older, or from so far ahead, may be somebody else's, seen and sent again.
const SIGNATURE_LIFE: TimeDelta = TimeDelta::minutes(5);

#[derive(Deserialize)]
struct EventBody {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    detail: Option<NamedUser>,
    #[serde(default)]
    event: Option<EventFields>,
}

#[derive(Deserialize)]
struct NamedUser {
    #[serde(default)]
    id: Option<NumberOrText>,
    #[serde(default)]
    updated_at: Option<String>,
}

/// Which of them a merge has is not documented.
#[derive(Deserialize)]
struct EventFields {
    #[serde(default)]
    user: Option<NamedUser>,
    #[serde(default)]
    user_id: Option<NumberOrText>,
    #[serde(default)]
    id: Option<NumberOrText>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl NumberOrText {
    fn key(&self) -> Option<RecordKey> {
        match self {
            Self::Number(number) => key(&number.to_string()),
            Self::Text(text) => key(text),
        }
    }
}

fn key(text: &str) -> Option<RecordKey> {
    Some(RecordKey { object_type: ObjectType::User, record_id: decimal_id(text).ok()? })
}

/// The type without what stands before it: the reference spells some with a colon and some with a
/// slash.
pub(super) fn bare_type(text: &str) -> &str {
    text.rsplit([':', '/']).next().unwrap_or(text)
}

/// Whether the signature is over the timestamp as it was sent and the very bytes of the body, and
/// the timestamp is of now.
pub(super) fn verify(delivery: &HookDelivery<'_>, secret: &HookSecret, now: DateTime<Utc>) -> bool {
    let (Some(signature), Some(signed_at)) = (only(delivery.headers, SIGNATURE), only(delivery.headers, SIGNED_AT))
    else {
        return false;
    };
    let Ok(signature) = STANDARD.decode(signature) else { return false };
    let Ok(at) = signed_at.parse::<DateTime<Utc>>() else { return false };
    secret.signs(&[signed_at.as_bytes(), delivery.body], &signature, now) && (now - at).abs() <= SIGNATURE_LIFE
}

/// The header's value, if there is one, and one only.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().ok()
}

/// What may have changed. Of a merge both users, each perhaps the other's successor: which one
/// lives on is not documented, and is known when they are asked for.
pub(super) fn read(body: &[u8]) -> Option<HookMessage> {
    let body: EventBody = serde_json::from_slice(body).ok()?;
    let event_at = body.time.as_deref().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let kind = bare_type(&body.kind);
    if !EVENTS.contains(&kind) && kind != CUSTOM_FIELD {
        return Some(HookMessage { event_at, reach: EventReach::Nothing });
    }
    let of_detail = body.detail.as_ref().and_then(|detail| detail.id.as_ref()?.key());
    let of_subject = || key(body.subject.as_deref()?.strip_prefix("zen:user:")?);
    let own = of_detail.or_else(of_subject)?;
    let other = body.event.as_ref().filter(|_| kind == MERGED).and_then(|event| {
        let of_user = event.user.as_ref().and_then(|user| user.id.as_ref());
        of_user.or(event.user_id.as_ref()).or(event.id.as_ref())?.key()
    });
    let updated_at = body.detail.as_ref().and_then(|detail| detail.updated_at.as_deref());
    let records = match other.filter(|other| *other != own) {
        None => vec![TouchedRecord::of(own).updated(updated_at)],
        Some(other) => vec![
            TouchedRecord { successor: Some(other.clone()), ..TouchedRecord::of(own.clone()).updated(updated_at) },
            TouchedRecord { successor: Some(own), ..TouchedRecord::of(other) },
        ],
    };
    Some(HookMessage { event_at, reach: EventReach::Records(records) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `secret`, by another program than this one.
    const SIGNED: (&str, &str, &str) =
        ("2026-11-30T12:00:00Z", r#"{"b": 1,  "a":"é"}"#, "eD51hp4QwgTvvWVSI6g+eVOvYwKK6ZbXkYZC0nJzshE=");

    fn now() -> DateTime<Utc> {
        SIGNED.0.parse().unwrap()
    }

    fn is_taken(signed_at: &str, body: &str, signature: &[&str], now: DateTime<Utc>) -> bool {
        let mut headers = HeaderMap::new();
        headers.append(SIGNED_AT, signed_at.parse().unwrap());
        for one in signature {
            headers.append(SIGNATURE, one.parse().unwrap());
        }
        let secret = HookSecret::new("secret".to_owned().into());
        verify(&HookDelivery { headers: &headers, body: body.as_bytes() }, &secret, now)
    }

    #[test]
    fn signature_is_over_timestamp_and_raw_body() {
        let (at, body, signature) = SIGNED;

        assert!(is_taken(at, body, &[signature], now()));
        for (at, body, signatures) in [
            (at, r#"{"b":1,"a":"é"}"#, vec![signature]),
            (at, body, vec![]),
            (at, body, vec![signature, signature]),
            (at, body, vec![&signature[1..]]),
            (at, body, vec!["00"]),
            ("2026-11-30T12:00:01Z", body, vec![signature]),
            ("1796040000", body, vec![signature]),
        ] {
            assert!(!is_taken(at, body, &signatures, now()), "{at} {body} {signatures:?}");
        }
    }

    #[test]
    fn time_is_good_for_five_minutes_both_ways() {
        let (at, body, signature) = SIGNED;
        for (seconds, is_good) in [(-301, false), (-300, true), (300, true), (301, false)] {
            assert_eq!(is_taken(at, body, &[signature], now() + TimeDelta::seconds(seconds)), is_good, "{seconds}");
        }
    }

    fn reach(kind: &str, more: &str) -> Option<EventReach> {
        let body = format!(r#"{{"type":"{kind}","time":"2026-11-30T12:00:00Z","subject":"zen:user:7"{more}}}"#);
        read(body.as_bytes()).map(|message| message.reach)
    }

    fn user(id: &str) -> RecordKey {
        key(id).unwrap()
    }

    fn records(pairs: &[(&str, Option<&str>)]) -> EventReach {
        let touched = |(id, successor): &(&str, Option<&str>)| TouchedRecord {
            successor: successor.map(user),
            ..TouchedRecord::of(user(id))
        };
        EventReach::Records(pairs.iter().map(touched).collect())
    }

    #[test]
    fn types_are_read_behind_colon_or_slash() {
        for kind in
            ["zen:event-type:user.created", "zen:event-type/user.created", "user.created", "user.custom_field_changed"]
        {
            assert_eq!(reach(kind, ""), Some(records(&[("7", None)])), "{kind}");
        }
        for kind in ["zen:event-type:user.photo_changed", "zen:event-type:ticket.merged", ""] {
            assert_eq!(reach(kind, ""), Some(EventReach::Nothing), "{kind}");
        }
    }

    #[test]
    fn ids_come_as_text_or_number() {
        let kind = "zen:event-type:user.name_changed";
        assert_eq!(reach(kind, r#","detail":{"id":"17"}"#), Some(records(&[("17", None)])));
        assert_eq!(reach(kind, r#","detail":{"id":17}"#), Some(records(&[("17", None)])));
        assert_eq!(read(br#"{"type":"user.created","detail":{"id":"x"}}"#), None);
        assert_eq!(read(b"[]"), None);
    }

    /// An answer that is older than the user in the event is to be known as such.
    #[test]
    fn users_update_time_is_taken_in_whole_seconds() {
        let time = |kind: &str, time: &str| {
            let more = format!(r#","detail":{{"id":"7","updated_at":{time}}},"event":{{"user":{{"id":"8"}}}}"#);
            let Some(EventReach::Records(records)) = reach(kind, &more) else { panic!("no records") };
            records.into_iter().map(|record| record.updated_at).collect::<Vec<_>>()
        };
        let at = Some("2026-11-30T12:00:00Z".parse().unwrap());

        assert_eq!(time("user.name_changed", r#""2026-11-30T12:00:00.789Z""#), [at]);
        assert_eq!(time("user.merged", r#""2026-11-30T12:00:00Z""#), [at, None], "of the user that it is about");
        assert_eq!(time("user.name_changed", r#""yesterday""#), [None]);
        assert_eq!(time("user.name_changed", "null"), [None]);
    }

    #[test]
    fn merge_names_both_whichever_comes_first() {
        let kind = "zen:event-type/user.merged";
        let both = Some(records(&[("7", Some("8")), ("8", Some("7"))]));
        for event in [r#"{"user":{"id":"8"}}"#, r#"{"user_id":8}"#, r#"{"id":"8"}"#] {
            assert_eq!(reach(kind, &format!(r#","event":{event}"#)), both, "{event}");
        }
        assert_eq!(reach(kind, ""), Some(records(&[("7", None)])));
        assert_eq!(reach("user.created", r#","event":{"id":"8"}"#), Some(records(&[("7", None)])));
    }
}
