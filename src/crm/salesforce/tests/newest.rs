//! What is asked for a call that found nobody.

use crm_simulator::faults::Fault;
use phone_key::PhoneKey;
use serde_json::json;

use super::support::{Org, contact_key, minutes, run};
use crate::{
    crm::{CrmClient, CrmError},
    domain::{options::Options, record::ObjectType},
};

fn key(digits: i64) -> PhoneKey {
    PhoneKey::try_from_i64(digits).unwrap()
}

#[tokio::test]
async fn newest_come_first_live_ones_only_by_a_query_for_each_object() {
    let org = Org::start().await;
    let (client, old) = (org.client(), org.contact(&json!({})));
    org.advance(minutes(30));
    let first = run(&client, None).await.unwrap();
    let deleted = org.contact(&json!({}));
    org.advance(minutes(1));
    let made = org.contact(&json!({"FirstName": "Nora", "Phone": "+1 310 555 0100"}));
    let lead = org.lead();
    org.simulated.delete("Contact", &deleted).unwrap();
    org.simulated.clear_requests();

    let found = client.fetch_newest(&first.checkpoint).await.unwrap();

    let ids: Vec<&str> = found.records.iter().map(|record| record.key.record_id.as_str()).collect();
    assert_eq!((ids, found.is_partial), (vec![made.as_str(), lead.as_str()], false));
    assert!(!ids_of(&found).contains(&old) && found.records.iter().all(|record| record.answered_at.is_none()));
    assert_eq!(org.simulated.requests().total, 2);
    let second = run(&client, Some(&first.checkpoint)).await.unwrap();
    assert_eq!(second.newest().len(), 3, "the next run brings all of it, and the deletion");
}

fn ids_of(found: &crate::crm::FoundRecords) -> Vec<String> {
    found.records.iter().map(|record| record.key.record_id.clone()).collect()
}

#[tokio::test]
async fn object_that_fails_costs_the_other_nothing() {
    let org = Org::start().await;
    org.contact(&json!({}));
    org.advance(minutes(30));
    let client = org.client();
    let first = run(&client, None).await.unwrap();
    let made = org.contact(&json!({}));
    org.lead();

    org.fault("FROM+Lead", None, Fault::ServerError);
    let found = client.fetch_newest(&first.checkpoint).await.unwrap();
    assert_eq!((ids_of(&found), found.has_failed), (vec![made], true));

    org.fault("FROM+Contact", None, Fault::ServerError);
    assert!(client.fetch_newest(&first.checkpoint).await.is_err());
    assert!(matches!(client.fetch_newest("elsewhere").await, Err(CrmError::PositionRefused)));
}

/// What is not copied answers nothing, and hides no failure.
#[tokio::test]
async fn only_copied_object_that_fails_is_a_failure() {
    let org = Org::start().await;
    org.contact(&json!({}));
    org.advance(minutes(30));
    let first = run(&org.client(), None).await.unwrap();
    let mut only_contacts = Options::default();
    only_contacts.objects[ObjectType::Lead].is_copied = false;
    let client = org.client_with(only_contacts, i64::MAX);
    org.simulated.clear_requests();

    let found = client.fetch_newest(&first.checkpoint).await.unwrap();
    assert_eq!((found.has_failed, org.simulated.requests().total), (false, 1));

    org.fault("FROM+Contact", None, Fault::ServerError);
    assert!(client.fetch_newest(&first.checkpoint).await.is_err());
}

#[tokio::test]
async fn search_asks_all_forms_of_a_number() {
    let org = Org::start().await;
    let national = org.contact(&json!({"Phone": "(310) 555-0100"}));
    let whole = org.contact(&json!({"MobilePhone": "+1 310 555 0100"}));
    org.contact(&json!({"Phone": "(310) 555-0199"}));
    org.simulated.clear_requests();

    let mut found = org.client().find_by_number(key(13_105_550_100)).await.unwrap().named;

    found.sort_unstable();
    let mut expected = vec![contact_key(&national), contact_key(&whole)];
    expected.sort_unstable();
    assert_eq!((found, org.simulated.requests().total), (expected, 2));
    assert!(org.client().find_by_number(key(442_079_460_000)).await.unwrap().named.is_empty());
    let at_home = org.contact(&json!({"Phone": "020 7946 0000"}));
    assert_eq!(org.client().find_by_number(key(442_079_460_000)).await.unwrap().named, [contact_key(&at_home)]);
}
