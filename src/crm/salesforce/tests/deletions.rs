//! Records that no query shows any more.

use std::time::Duration;

use serde_json::json;

use super::support::{Org, contact_key, minutes, pass};
use crate::{
    crm::{CrmClient, Sighting},
    domain::{options::Options, record::ObjectType},
    simulator::faults::Fault,
};

fn without_mirroring() -> Options {
    let mut options = Options::default();
    options.of_mut(ObjectType::Contact).unwrap().mirrors_deletions = false;
    options
}

#[tokio::test]
async fn a_record_deleted_for_good_is_gone() {
    let org = Org::start().await;
    let (id, other) = (org.contact(&json!({})), org.contact(&json!({})));
    let client = org.client();
    let first = pass(&client, None).await.unwrap();
    org.advance(minutes(10));
    org.simulated.hard_delete("Contact", &id).unwrap();
    org.advance(minutes(20));

    let second = pass(&client, Some(&first.checkpoint)).await.unwrap();
    org.advance(minutes(30));
    let third = pass(&client, Some(&second.checkpoint)).await.unwrap();

    assert_eq!(second.gone, [contact_key(&id)]);
    assert!(third.gone.is_empty());
    assert!(!second.ids().contains(&other) && !second.needs_sweep);
}

#[tokio::test]
async fn a_record_deleted_and_taken_back_is_not_gone() {
    let org = Org::start().await;
    let (back, deleted) = (org.contact(&json!({})), org.contact(&json!({})));
    let client = org.client();
    let first = pass(&client, None).await.unwrap();
    org.advance(minutes(10));
    org.simulated.delete("Contact", &back).unwrap();
    org.simulated.delete("Contact", &deleted).unwrap();
    org.advance(minutes(10));
    org.simulated.undelete(&back).unwrap();
    org.advance(minutes(10));

    let second = pass(&client, Some(&first.checkpoint)).await.unwrap();

    assert!(second.gone.is_empty());
    assert!(!second.newest()[&back].is_gone && second.newest()[&deleted].is_gone);
}

#[tokio::test]
async fn switched_on_later_mirroring_catches_up() {
    let org = Org::start().await;
    let id = org.contact(&json!({}));
    let first = pass(&org.client_with(without_mirroring(), i64::MAX), None).await.unwrap();
    org.advance(minutes(10));
    org.simulated.hard_delete("Contact", &id).unwrap();
    org.advance(minutes(20));
    org.simulated.clear_requests();

    let second = pass(&org.client_with(without_mirroring(), i64::MAX), Some(&first.checkpoint)).await.unwrap();
    let asked = org.simulated.requests().count_of("Contact/deleted");
    org.advance(minutes(30));
    let third = pass(&org.client(), Some(&second.checkpoint)).await.unwrap();

    assert_eq!(asked, 0);
    assert!(second.gone.is_empty());
    assert_eq!(third.gone, [contact_key(&id)]);
}

#[tokio::test]
async fn what_the_log_does_not_tell_any_more_needs_a_sweep_once() {
    let org = Org::start().await;
    let id = org.contact(&json!({}));
    let client = org.client();
    let first = pass(&client, None).await.unwrap();
    org.simulated.hard_delete("Contact", &id).unwrap();
    org.advance(Duration::from_hours(24 * 16));

    let second = pass(&client, Some(&first.checkpoint)).await.unwrap();
    org.advance(minutes(30));
    let third = pass(&client, Some(&second.checkpoint)).await.unwrap();

    assert!(second.needs_sweep && second.gone.is_empty());
    assert!(!third.needs_sweep);
}

#[tokio::test]
async fn more_deletions_than_an_answer_holds_are_asked_for_in_parts() {
    let org = Org::start().await;
    let ids = [org.contact(&json!({})), org.contact(&json!({}))];
    let client = org.client();
    let first = pass(&client, None).await.unwrap();
    for id in &ids {
        org.advance(minutes(10));
        org.simulated.hard_delete("Contact", id).unwrap();
    }
    org.advance(minutes(10));
    org.fault("Contact/deleted", Some(2), Fault::TooManyIds);

    let second = pass(&client, Some(&first.checkpoint)).await.unwrap();

    let mut gone = second.gone.clone();
    gone.sort_unstable();
    assert_eq!(gone, ids.map(|id| contact_key(&id)));
    assert!(!second.needs_sweep);
}

#[tokio::test]
async fn looked_up_records_are_found_gone_or_hidden() {
    let org = Org::start().await;
    let (live, deleted) = (org.contact(&json!({"Phone": "1"})), org.contact(&json!({})));
    org.simulated.delete("Contact", &deleted).unwrap();
    let keys = [contact_key(&live), contact_key(&deleted)];

    let sightings = org.client().look_up(&keys).await.unwrap();

    assert!(matches!(&sightings[0], Sighting::Found(record) if record.key == keys[0] && record.numbers.len() == 1));
    assert!(matches!(&sightings[1], Sighting::Gone(key) if *key == keys[1]));
    assert_eq!(sightings.len(), 2);
}
