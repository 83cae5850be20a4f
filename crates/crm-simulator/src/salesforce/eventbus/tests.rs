//! Events as bytes, and the bus without a network.

use std::{sync::Arc, time::Duration};

use chrono::DateTime;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    bus::{BusState, ReaderStep, StartPlace, TopicReader},
    changes_of::{RecordChange, changes_of},
    report::EventBusPlan,
    schema::EventSchema,
};
use crate::salesforce::{Salesforce, SalesforceConfig, guard::StateGuard, objects::ObjectKind, record::Millis};

const START: Millis = 1_790_000_000_000;
const HOUR: Millis = 3_600_000;

fn organization() -> Arc<Salesforce> {
    let clock = Arc::new(|| DateTime::from_timestamp_millis(START).expect("a time of this age"));
    Salesforce::new(SalesforceConfig {
        custom_phones: vec![("Contact".to_owned(), "Direct_Line__c".to_owned())],
        ..SalesforceConfig::new(clock)
    })
}

/// What is told of what `change` does.
fn told(salesforce: &Salesforce, schema: &EventSchema, change: impl FnOnce(&mut StateGuard<'_>)) -> Vec<RecordChange> {
    let mut state = salesforce.state();
    change(&mut state);
    let notes = state.take_notes();
    changes_of(&notes, &state.schema, |_| Some(schema), true)
}

fn fields(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// The vectors were written by another encoder (Python's fastavro 1.13), from the schemas that this
/// test prints with `--nocapture` and from values typed in by hand.
#[test]
fn encoded_datum_equals_the_golden_vectors() {
    let golden: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    let salesforce = organization();
    let schema_of = |kind| EventSchema::new(salesforce.state().schema.object(kind));
    let mut written = serde_json::Map::new();
    let mut write = |name: &str, schema: &EventSchema, changes: &[RecordChange]| {
        assert_eq!(changes.len(), 1, "{name}");
        let bytes = changes[0].datum(schema, "0002343d-9d90-e395-ed20-cf416ba652ad", 1, -65).to_bytes();
        written.insert(name.to_owned(), json!({"schema": schema.json, "hex": hex(&bytes)}));
    };
    let contacts = schema_of(ObjectKind::Contact);
    let made = json!({
        "FirstName": "Zoë", "LastName": "Doe", "Phone": "(310)-867-5309", "Direct_Line__c": "+49 30 1", "MailingCity": "Köln",
        "MailingCountry": "DE", "DoNotCall": true, "Birthdate": "1960-02-29",
    });
    let mut ids = Vec::new();
    let created = told(&salesforce, &contacts, |state| {
        ids.push(state.create(ObjectKind::Contact, fields(&made), START).unwrap());
    });
    write("contact is made", &contacts, &created);
    let changed = json!({"FirstName": null, "Phone": "2", "MailingCity": "Bonn", "Direct_Line__c": null});
    let updated = told(&salesforce, &contacts, |state| {
        state.update(ids[0], fields(&changed), START + 1_000).unwrap();
    });
    write("contact is changed", &contacts, &updated);
    let touched = told(&salesforce, &contacts, |state| state.touch(ids[0], START + 2_000).unwrap());
    write("contact is touched", &contacts, &touched);
    let second = told(&salesforce, &contacts, |state| {
        ids.push(state.create(ObjectKind::Contact, fields(&json!({"LastName": "Roe"})), START).unwrap());
    });
    assert_eq!(second[0].change_type, "CREATE");
    let deleted = told(&salesforce, &contacts, |state| {
        state.delete(ids[0], START + 3_000).unwrap();
        state.delete(ids[1], START + 3_000).unwrap();
    });
    write("contacts are deleted", &contacts, &deleted);
    let overflow = RecordChange::gap(&contacts, ObjectKind::Contact, &["000000000000000AAA"], "GAP_OVERFLOW", START);
    write("too many changes", &contacts, &[overflow]);
    let more = contacts.with_field("Added_1__c");
    let gap = RecordChange::gap(&more, ObjectKind::Contact, &["003*"], "GAP_UPDATE", START);
    write("contacts with one more field", &more, &[gap]);
    let leads = schema_of(ObjectKind::Lead);
    let lead = json!({"LastName": "Poe", "Company": "Raven", "Street": "Amity", "HasOptedOutOfEmail": true});
    let created = told(&salesforce, &leads, |state| {
        state.create(ObjectKind::Lead, fields(&lead), START).unwrap();
    });
    write("lead is made", &leads, &created);
    let accounts = schema_of(ObjectKind::Account);
    let created = told(&salesforce, &accounts, |state| {
        state.create(ObjectKind::Account, fields(&json!({"Name": "Acme", "BillingCity": "Rom"})), START).unwrap();
    });
    write("account is made", &accounts, &created);
    let written = Value::Object(written);
    println!("{written:#}");

    assert_eq!(golden.as_object().unwrap().len(), 8);
    for (name, golden) in golden.as_object().unwrap() {
        assert_eq!(written[name]["hex"], *golden, "{name}");
    }
}

/// A bus with two Contacts made, and a reader from the beginning that asked for so many.
fn bus_with(plan: EventBusPlan, asked: u32, instant: Instant) -> (BusState, TopicReader) {
    let salesforce = organization();
    let mut state = salesforce.state();
    for name in ["A", "B"] {
        state.create(ObjectKind::Contact, fields(&json!({"LastName": name})), START).unwrap();
    }
    let notes = state.take_notes();
    let mut bus = BusState::new(1, &state.schema, &["Contact".to_owned()], plan);
    bus.publish(&notes, &state.schema, START, instant);
    let reader = bus.subscribe(ObjectKind::Contact, &StartPlace::Earliest, asked, START, instant).unwrap();
    (bus, reader)
}

/// How many events a step gives, or until when it waits, in seconds from `instant`; -1: it ends.
fn step(bus: &mut BusState, reader: &mut TopicReader, instant: Instant, seconds: u64) -> (usize, i64) {
    match bus.step(reader, START, instant + Duration::from_secs(seconds)) {
        ReaderStep::Send { events, .. } => (events.len(), 0),
        ReaderStep::Wait(until) => {
            let wait = until.map_or(Duration::MAX, |until| until.saturating_duration_since(instant));
            (0, i64::try_from(wait.as_secs()).unwrap_or(i64::MAX))
        }
        ReaderStep::Close | ReaderStep::End(_) => (0, -1),
    }
}

#[test]
fn events_wait_for_the_delay_and_silence_is_broken_after_270_seconds() {
    let instant = Instant::now();
    let plan = EventBusPlan { delay_ms: 5_000, ..EventBusPlan::default() };
    let (mut bus, mut reader) = bus_with(plan, 10, instant);

    assert_eq!(step(&mut bus, &mut reader, instant, 0), (0, 5));
    assert_eq!(step(&mut bus, &mut reader, instant, 5), (2, 0));
    assert_eq!(step(&mut bus, &mut reader, instant, 6), (0, 275));
    assert_eq!(step(&mut bus, &mut reader, instant, 275), (0, 0), "a response without events");
    assert_eq!(step(&mut bus, &mut reader, instant, 276), (0, 545));
    assert_eq!((bus.report.beats, bus.report.delivered), (1, 2));
}

#[test]
fn subscription_that_asks_for_nothing_ends_after_a_minute() {
    let instant = Instant::now();
    let (mut bus, mut reader) = bus_with(EventBusPlan::default(), 1, instant);

    assert_eq!(step(&mut bus, &mut reader, instant, 0), (1, 0));
    assert_eq!(step(&mut bus, &mut reader, instant, 1), (0, 61));
    assert_eq!(step(&mut bus, &mut reader, instant, 60), (0, 61));
    assert_eq!(step(&mut bus, &mut reader, instant, 61), (0, -1));
}

/// The allocation ends a subscription, and a new one gets the rest when a day has passed.
#[test]
fn spent_allocation_comes_back_with_the_clock() {
    let instant = Instant::now();
    let (mut bus, mut reader) = bus_with(EventBusPlan { deliveries_max: 1, ..EventBusPlan::default() }, 10, instant);

    assert_eq!(step(&mut bus, &mut reader, instant, 0), (1, 0));
    assert_eq!(step(&mut bus, &mut reader, instant, 0), (0, -1));
    let refused = bus.subscribe(ObjectKind::Contact, &StartPlace::Earliest, 1, START + HOUR, instant);
    assert_eq!(refused.err().unwrap(), "subscription.limit.exceeded");
    assert!(bus.subscribe(ObjectKind::Contact, &StartPlace::Earliest, 1, START + 25 * HOUR, instant).is_ok());
    assert_eq!(bus.report.refused["subscription.limit.exceeded"], 2);
}

#[test]
fn events_are_lost_and_doubled_by_chance() {
    let instant = Instant::now();
    let lost = bus_with(EventBusPlan { loss: 1.0, ..EventBusPlan::default() }, 10, instant).0;
    let doubled = bus_with(EventBusPlan { duplicates: 1.0, ..EventBusPlan::default() }, 10, instant).0;

    assert_eq!((lost.report.lost, lost.report.published), (2, 0));
    assert_eq!((doubled.report.lost, doubled.report.published), (0, 4));
}
