//! Runs after the first.

use std::time::Duration;

use crm_simulator::faults::Fault;
use serde_json::json;

use super::support::{CopiedRun, Org, contact_key, minutes, run};
use crate::{
    crm::{CrmError, salesforce::client::SalesforceClient},
    domain::{options::Options, record::ObjectType},
};

fn without_leads() -> Options {
    let mut options = Options::default();
    options.objects[ObjectType::Lead].is_copied = false;
    options
}

/// Half an hour, so that what is there is older than the overlap, a first copy, and half an hour.
async fn copied(org: &Org) -> (SalesforceClient, CopiedRun) {
    let client = org.client();
    org.advance(minutes(30));
    let first = run(&client, None).await.unwrap();
    org.advance(minutes(30));
    org.simulated.clear_requests();
    (client, first)
}

/// An increment with nothing new costs two requests for each object.
#[tokio::test]
async fn idle_increment_costs_two_requests_per_object() {
    let org = Org::start().await;
    org.simulated.generate_people(50, 10, 1).unwrap();
    let (client, first) = copied(&org).await;

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();

    assert!(second.records.is_empty() && second.gone.is_empty() && second.notices.is_empty());
    assert_eq!(org.simulated.requests().total, 4);
    assert_eq!(second.known_through.unwrap() - first.known_through.unwrap(), chrono::TimeDelta::minutes(30));
}

/// What was made, changed or deleted comes with the next run.
#[tokio::test]
async fn next_run_brings_made_changed_and_deleted() {
    let org = Org::start().await;
    let (changed, deleted, lead) = (org.contact(&json!({})), org.contact(&json!({})), org.lead());
    org.contact(&json!({}));
    let (client, first) = copied(&org).await;
    let made = org.contact(&json!({"Phone": "1"}));
    org.simulated.update("Contact", &changed, &json!({"FirstName": "Ann"})).unwrap();
    org.simulated.touch_system("Lead", &lead).unwrap();
    org.simulated.delete("Contact", &deleted).unwrap();

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();

    let newest = second.newest();
    assert_eq!(newest.len(), 4);
    assert_eq!(newest[&changed].display_name, "Ann Doe");
    assert!(newest[&deleted].is_gone && !newest[&made].is_gone && !newest[&lead].is_gone);
}

/// A row that becomes visible late is not lost.
#[tokio::test]
async fn row_visible_late_is_not_lost() {
    let org = Org::start().await;
    let early = org.contact(&json!({}));
    org.simulated.hide(&early).unwrap();
    let client = org.client();
    let first = run(&client, None).await.unwrap();
    org.simulated.reveal(&early).unwrap();
    org.advance(minutes(30));

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();

    assert!(!second.newest()[&early].is_gone);
}

#[tokio::test]
async fn merges_name_their_winners_along_the_chain() {
    let org = Org::start().await;
    let (a, b, c) = (org.contact(&json!({})), org.contact(&json!({})), org.contact(&json!({})));
    let (client, first) = copied(&org).await;
    org.simulated.merge("Contact", &b, &[&a]).unwrap();
    org.advance(minutes(1));
    org.simulated.merge("Contact", &c, &[&b]).unwrap();

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();

    let newest = second.newest();
    assert_eq!(newest[&a].successor, Some(contact_key(&b)));
    assert_eq!(newest[&b].successor, Some(contact_key(&c)));
    assert!(newest[&a].is_gone && newest[&b].is_gone && !newest[&c].is_gone);
}

#[tokio::test]
async fn a_converted_lead_names_its_contact() {
    let org = Org::start().await;
    let lead = org.lead();
    let (client, first) = copied(&org).await;
    let contact = org.simulated.convert_lead(&lead, None).unwrap();

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();

    let newest = second.newest();
    assert!(newest[&lead].is_gone);
    assert_eq!(newest[&lead].successor, Some(contact_key(&contact)));
    assert!(!newest[&contact].is_gone);
}

/// A record that was taken out of the recycle bin is back.
#[tokio::test]
async fn record_from_recycle_bin_is_back() {
    let org = Org::start().await;
    let id = org.contact(&json!({}));
    org.simulated.delete("Contact", &id).unwrap();
    let (client, first) = copied(&org).await;
    assert!(first.newest()[&id].is_gone);
    org.simulated.undelete(&id).unwrap();

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();

    assert!(!second.newest()[&id].is_gone);
}

/// A field that is not there any more is left out at once.
#[tokio::test]
async fn vanished_field_is_left_out_at_once() {
    let org = Org::start().await;
    let (client, first) = copied(&org).await;
    org.contact(&json!({"MobilePhone": "2"}));
    let checkpoint = first.checkpoint.replace("MobilePhone", "Removed__c");

    let second = run(&client, Some(&checkpoint)).await.unwrap();

    assert_eq!(second.records[0].numbers[0].raw, "2");
    assert!(!second.checkpoint.contains("Removed__c"));
}

/// Queries that take too long are asked over shorter times.
#[tokio::test]
async fn slow_queries_are_asked_over_shorter_times() {
    let org = Org::start().await;
    org.simulated.generate_people(300, 0, 1).unwrap();
    org.fault("/queryAll", Some(5), Fault::QueryTimeout);

    let run = run(&org.client(), None).await.unwrap();

    assert_eq!(run.ids().len(), 300);
}

/// Queries that always take too long are given up.
#[tokio::test]
async fn always_slow_queries_are_given_up() {
    let org = Org::start().await;
    org.fault("/queryAll", None, Fault::QueryTimeout);

    let error = run(&org.client(), None).await.err().unwrap();

    assert!(matches!(error, CrmError::Unavailable(_)), "{error}");
}

/// A kind that is switched on later is read from its beginning, and the other one is not.
#[tokio::test]
async fn kind_switched_on_later_is_read_whole_alone() {
    let org = Org::start().await;
    org.contact(&json!({}));
    let lead = org.lead();
    org.advance(minutes(30));
    let first = run(&org.client_with(without_leads(), i64::MAX), None).await.unwrap();
    org.advance(Duration::from_hours(5));

    let second = run(&org.client(), Some(&first.checkpoint)).await.unwrap();

    assert_eq!(first.records.len(), 1);
    assert_eq!(second.ids(), [lead]);
}

/// A kind that was switched off for a time is caught up with.
#[tokio::test]
async fn kind_switched_off_meanwhile_is_caught_up_with() {
    let org = Org::start().await;
    let (client, first) = copied(&org).await;
    let lead = org.lead();
    let second = run(&org.client_with(without_leads(), i64::MAX), Some(&first.checkpoint)).await.unwrap();
    org.advance(Duration::from_hours(5));

    let third = run(&client, Some(&second.checkpoint)).await.unwrap();

    assert!(second.records.is_empty());
    assert_eq!(third.ids(), [lead]);
}
