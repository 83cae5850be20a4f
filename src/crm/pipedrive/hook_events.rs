//! Events of Pipedrive's webhooks, version 2: who sent them, and which persons they are about.
//! Source: Pipedrive developer documentation, "Guide for Webhooks v2".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use reqwest::header::AUTHORIZATION;
use serde::Deserialize;

use crate::{
    crm::hook::{EventReach, HookDelivery, HookMessage, TouchedRecord},
    domain::{
        hook::HookSecret,
        record::{ObjectType, RecordKey, decimal_id},
    },
};

/// Persons that one event names apart; of more, any may have changed.
const NAMED_MAX: usize = 10;

#[derive(Deserialize)]
struct EventBody {
    meta: EventMeta,
    #[serde(default)]
    data: Option<EventEntity>,
    #[serde(default)]
    previous: Option<EventEntity>,
}

#[derive(Deserialize)]
struct EventMeta {
    entity: String,
    #[serde(default)]
    entity_id: Option<OneOrMany>,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    is_bulk_edit: bool,
    #[serde(default)]
    merged_to_id: Option<OneOrMany>,
    #[serde(default)]
    merged_from_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
struct EventEntity {
    #[serde(default)]
    id: Option<OneOrMany>,
    #[serde(default)]
    update_time: Option<String>,
}

/// Ids come as numbers or texts, alone or as a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Number(i64),
    Text(String),
    Many(Vec<Self>),
}

impl OneOrMany {
    fn keys(&self) -> Option<Vec<RecordKey>> {
        let key = |text: &str| {
            let record_id = decimal_id(text).ok()?;
            Some(RecordKey { object_type: ObjectType::Person, record_id })
        };
        match self {
            Self::Number(number) => Some(vec![key(&number.to_string())?]),
            Self::Text(text) => Some(vec![key(text)?]),
            Self::Many(some) => Some(some.iter().map(Self::keys).collect::<Option<Vec<_>>>()?.concat()),
        }
    }
}

/// Whether it shows user and password of the hook. Nothing is signed, and no time is looked at: a
/// repeat is the same hint, and one that comes late must not count among the failures that
/// Pipedrive bans a hook for.
pub(super) fn verify(delivery: &HookDelivery<'_>, secret: &HookSecret, _: DateTime<Utc>) -> bool {
    let mut shown = delivery.headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else { return false };
    let Some((scheme, encoded)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else { return false };
    let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    scheme.eq_ignore_ascii_case("basic") && decoded.is_some_and(|decoded| secret.is(&decoded))
}

/// What may have changed.
pub(super) fn read(body: &[u8]) -> Option<HookMessage> {
    let EventBody { meta, data, previous } = serde_json::from_slice(body).ok()?;
    let event_at = meta.timestamp.as_deref().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    if meta.entity != "person" {
        return Some(HookMessage { event_at, reach: EventReach::Nothing });
    }
    let updated_at = data.as_ref().and_then(|data| data.update_time.clone());
    let entity_id = |entity: Option<EventEntity>| entity.and_then(|entity| entity.id);
    let id = meta.entity_id.or_else(|| entity_id(data)).or_else(|| entity_id(previous));
    let keys_of = |ids: Option<OneOrMany>| ids.map_or(Some(Vec::new()), |ids| ids.keys());
    let (own, into, from) = (keys_of(id)?, keys_of(meta.merged_to_id)?, keys_of(meta.merged_from_id)?);
    let is_merge = !into.is_empty() || !from.is_empty();
    if (meta.is_bulk_edit && !is_merge) || own.len() + into.len() + from.len() > NAMED_MAX {
        return Some(HookMessage { event_at, reach: EventReach::Everything });
    }
    let own = own.into_iter().next()?;
    // `data` is the person that the event is about.
    let touched = |key| TouchedRecord::of(key).updated(updated_at.as_deref());
    let mut records = Vec::new();
    for loser in from {
        records.push(TouchedRecord { successor: Some(own.clone()), ..TouchedRecord::of(loser) });
    }
    match into.into_iter().next() {
        Some(winner) => {
            let loser = TouchedRecord { successor: Some(winner.clone()), ..touched(own) };
            records.extend([loser, TouchedRecord::of(winner)]);
        }
        None => records.push(touched(own)),
    }
    Some(HookMessage { event_at, reach: EventReach::Records(records) })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn reach(meta: &str) -> Option<EventReach> {
        let body =
            format!(r#"{{"meta":{{"entity":"person","action":"change",{meta}}},"data":{{"id":7}},"previous":null}}"#);
        read(body.as_bytes()).map(|message| message.reach)
    }

    fn key(id: &str) -> RecordKey {
        RecordKey { object_type: ObjectType::Person, record_id: id.to_owned() }
    }

    fn records(pairs: &[(&str, Option<&str>)]) -> EventReach {
        let touched = |(id, successor): &(&str, Option<&str>)| TouchedRecord {
            successor: successor.map(key),
            ..TouchedRecord::of(key(id))
        };
        EventReach::Records(pairs.iter().map(touched).collect())
    }

    /// An answer that is older than the person in the event is to be known as such.
    #[test]
    fn persons_update_time_is_taken() {
        let body =
            br#"{"meta":{"entity":"person","entity_id":"7"},"data":{"id":7,"update_time":"2026-11-30T12:00:00Z"},
            "previous":{"id":7,"update_time":"2026-11-30T11:00:00Z"}}"#;

        let Some(EventReach::Records(records)) = read(body).map(|message| message.reach) else { panic!("no records") };

        assert_eq!(records[0].updated_at, Some("2026-11-30T12:00:00Z".parse().unwrap()));
    }

    #[test]
    fn ids_come_as_text_or_number_from_several_places() {
        assert_eq!(reach(r#""entity_id":"17""#), Some(records(&[("17", None)])));
        assert_eq!(reach(r#""entity_id":17"#), Some(records(&[("17", None)])));
        assert_eq!(reach(r#""id":"a-uuid""#), Some(records(&[("7", None)])));
        let deleted = br#"{"meta":{"entity":"person","action":"delete"},"data":null,"previous":{"id":"9"}}"#;
        assert_eq!(read(deleted).map(|message| message.reach), Some(records(&[("9", None)])));
        assert_eq!(reach(r#""entity_id":"x""#), None);
        assert_eq!(read(b"{}"), None);
    }

    #[test]
    fn merge_by_delete_and_by_change_pairs_same_two() {
        assert_eq!(reach(r#""entity_id":"7","merged_to_id":8"#), Some(records(&[("7", Some("8")), ("8", None)])));
        assert_eq!(reach(r#""entity_id":8,"merged_from_id":["7"]"#), Some(records(&[("7", Some("8")), ("8", None)])));
        assert_eq!(
            reach(r#""entity_id":8,"is_bulk_edit":true,"merged_from_id":7"#),
            Some(records(&[("7", Some("8")), ("8", None)]))
        );
    }

    #[test]
    fn bulk_edit_touches_everything_and_other_objects_nothing() {
        assert_eq!(reach(r#""entity_id":"7","is_bulk_edit":true"#), Some(EventReach::Everything));
        let many = (1..=NAMED_MAX).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(reach(&format!(r#""entity_id":"77","merged_from_id":[{many}]"#)), Some(EventReach::Everything));
        let deal = br#"{"meta":{"entity":"deal","entity_id":"7","timestamp":"2026-11-30T12:00:00.5Z"}}"#;
        let message = read(deal).unwrap();
        assert_eq!((message.reach, message.event_at), (EventReach::Nothing, "2026-11-30T12:00:00.5Z".parse().ok()));
    }

    #[test]
    fn basic_is_compared_whole() {
        let secret = HookSecret::new("user:word".to_owned().into());
        let is_taken = |values: &[String]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            verify(&HookDelivery { headers: &headers, body: b"" }, &secret, DateTime::UNIX_EPOCH)
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));

        assert!(is_taken(&[basic("user:word")]));
        for values in [
            vec![],
            vec![basic("user:wor")],
            vec![basic("user:words")],
            vec![basic("word")],
            vec!["Bearer user:word".to_owned()],
            vec!["user:word".to_owned()],
            vec![basic("user:word"), basic("user:word")],
        ] {
            assert!(!is_taken(&values), "{values:?}");
        }
    }
}
