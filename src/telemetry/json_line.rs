//! A log line as one flat JSON object in which every name stands once, as machines read it: parsers
//! differ in what they make of a name that comes twice (RFC 8259 §4). An event's own field counts
//! before that of its span, an inner span's before an outer one's.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormattedFields,
        format::{JsonFields, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// What is said of every event; a field that has one of these names is written as `field.NAME`.
const OWN_NAMES: [&str; 3] = ["timestamp", "level", "target"];
/// What an event says in words; of a span it would be a field like others.
const MESSAGE: &str = "message";

/// Writes events so; spans' fields have to be kept by [`JsonFields`].
pub(super) struct JsonLine;

#[derive(Serialize)]
struct LogLine<'a> {
    timestamp: &'a str,
    level: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Value>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for JsonLine {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut said = EventFields::default();
        event.record(&mut said);
        let mut fields = rename(said.0);
        let message = fields.remove(MESSAGE);
        // Of an event that comes from the `log` crate the target is a field, beside the place in
        // the source.
        let target = fields.remove("log.target");
        fields.retain(|name, _| !name.starts_with("log."));
        for span in context.event_scope().into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<FormattedFields<JsonFields>>() {
                let message = |name| if name == MESSAGE { own(MESSAGE) } else { name };
                for (name, value) in read(of_span)? {
                    fields.entry(message(name)).or_insert(value);
                }
            }
        }
        let line = LogLine {
            timestamp: &timestamp,
            level: event.metadata().level().as_str(),
            target: target.as_ref().and_then(Value::as_str).unwrap_or(event.metadata().target()),
            message,
            fields,
        };
        writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

/// What an event says. A span's fields are kept as text by [`JsonFields`]; an event's are written
/// at once.
#[derive(Default)]
struct EventFields(Map<String, Value>);

impl EventFields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        self.0.insert(name.strip_prefix("r#").unwrap_or(name).to_owned(), value.into());
    }
}

impl Visit for EventFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
}

fn own(name: &str) -> String {
    format!("field.{name}")
}

/// A span's fields.
fn read(written: &str) -> Result<Map<String, Value>, fmt::Error> {
    Ok(if written.is_empty() { Map::new() } else { rename(serde_json::from_str(written).map_err(|_| fmt::Error)?) })
}

/// None is named like what is said of every event.
fn rename(mut fields: Map<String, Value>) -> Map<String, Value> {
    for name in OWN_NAMES {
        if let Some(value) = fields.remove(name) {
            fields.entry(own(name)).or_insert(value);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        io,
        sync::{Arc, Mutex},
    };

    use serde::{Deserialize, Deserializer, de};
    use tracing::{Instrument, field};
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    /// An object that refuses a name which comes twice, as its objects within do.
    #[derive(Debug)]
    enum Strict {
        Object(BTreeMap<String, Strict>),
        Other(Value),
    }

    impl<'de> Deserialize<'de> for Strict {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> de::Visitor<'de> for Visitor {
                type Value = BTreeMap<String, Strict>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut found = BTreeMap::new();
                    while let Some((name, value)) = map.next_entry::<String, Box<serde_json::value::RawValue>>()? {
                        let value = match value.get() {
                            text if text.starts_with('{') => serde_json::from_str(text),
                            text => serde_json::from_str(text).map(Strict::Other),
                        };
                        let value = value.map_err(de::Error::custom)?;
                        if found.insert(name.clone(), value).is_some() {
                            return Err(de::Error::custom(format!("{name} comes twice")));
                        }
                    }
                    Ok(found)
                }
            }
            deserializer.deserialize_map(Visitor).map(Self::Object)
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn start() -> (Self, tracing::subscriber::DefaultGuard) {
            let log = Self::default();
            let writer = log.clone();
            let layer = super::super::json_layer(move || writer.clone());
            let guard = tracing::subscriber::set_default(registry().with(layer));
            // A place in the code that another test's thread has reached first may be taken for
            // unwanted: ask anew.
            tracing::callsite::rebuild_interest_cache();
            (log, guard)
        }

        /// The only line.
        fn line(&self) -> BTreeMap<String, Value> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            assert_eq!((text.matches('\n').count(), text.ends_with('\n')), (1, true), "{text}");
            let Strict::Object(fields) = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")) else {
                panic!("no object: {text}")
            };
            let flat = |value| match value {
                Strict::Other(value) => value,
                Strict::Object(_) => panic!("an object within: {text}"),
            };
            fields.into_iter().map(|(name, value)| (name, flat(value))).collect()
        }
    }

    /// The strict parser refuses a name that comes twice.
    #[test]
    fn strict_parser_refuses_repeated_name() {
        assert!(serde_json::from_str::<Strict>(r#"{"a":1,"b":{"c":1}}"#).is_ok());
        assert!(serde_json::from_str::<Strict>(r#"{"a":1,"a":1}"#).is_err());
        assert!(serde_json::from_str::<Strict>(r#"{"a":{"b":1,"b":2}}"#).is_err());
    }

    /// A line has what the event and its spans say, each once.
    #[test]
    fn line_has_event_and_span_fields_once() {
        let (log, _guard) = Log::start();
        let outer = tracing::info_span!("rpc", rpc.method = "/a/B", request.id = 7, account.id = field::Empty);
        outer.record("account.id", "0199");
        outer.record("account.id", "0200");

        outer.in_scope(|| {
            tracing::info_span!("page", request.id = 8, page = 1).in_scope(|| {
                tracing::warn!(page = 2, error = "it \"broke\"\n", ok = false, "answered");
            });
        });

        let line = log.line();
        let names: Vec<&str> = line.keys().map(String::as_str).collect();
        let all = "account.id error level message ok page request.id rpc.method target timestamp";
        assert_eq!(names.join(" "), all);
        assert_eq!((&line["level"], &line["message"]), (&Value::from("WARN"), &Value::from("answered")));
        assert_eq!(line["target"], module_path!());
        assert_eq!((&line["page"], &line["request.id"]), (&Value::from(2), &Value::from(8)), "the inner one counts");
        assert_eq!((&line["account.id"], &line["ok"]), (&Value::from("0200"), &Value::from(false)));
    }

    /// Fields that are named like a line's own are told apart.
    #[test]
    fn fields_named_like_lines_own_are_prefixed() {
        let (log, _guard) = Log::start();

        tracing::info_span!("odd", message = "of the span", level = 1, timestamp = "then").in_scope(|| {
            tracing::info!(message = "the last of two", target = "door", level = 3, r#type = "x", "said");
        });

        let line = log.line();
        assert_eq!((&line["level"], &line["field.level"]), (&Value::from("INFO"), &Value::from(3)));
        assert_eq!((&line["field.target"], &line["field.timestamp"]), (&Value::from("door"), &Value::from("then")));
        let messages = (&line["message"], &line["field.message"]);
        assert_eq!(messages, (&Value::from("the last of two"), &Value::from("of the span")));
        assert_eq!(line["type"], "x");
    }

    /// An event without a message or span is a line, too.
    #[tokio::test]
    async fn event_without_message_or_span_is_line() {
        let (log, _guard) = Log::start();

        async { tracing::info!(records = 5) }.instrument(tracing::info_span!("empty")).await;

        let line = log.line();
        assert_eq!((line.get("message"), &line["records"]), (None, &Value::from(5)));
    }
}
