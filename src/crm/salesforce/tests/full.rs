//! Everything for the first time, by REST and by the bulk interface.

use std::time::Duration;

use crm_simulator::faults::Fault;
use serde_json::json;

use super::support::{Org, run};
use crate::{
    crm::{CrmClient, PageEffort},
    domain::options::Options,
};

/// A first copy brings every Contact and Lead, and says how far it knows.
#[tokio::test]
async fn first_copy_brings_all_and_known_through() {
    let org = Org::start().await;
    org.simulated.generate_people(2_300, 150, 1).unwrap();

    let run = run(&org.client(), None).await.unwrap();

    assert_eq!(run.ids().len(), 2_450);
    assert_eq!(run.known_through.unwrap().to_rfc3339(), "2026-01-02T09:55:00+00:00");
    assert!(run.notices.is_empty() && run.gone.is_empty() && !run.needs_sweep);
}

/// Rows of one millisecond are not lost between pages.
#[tokio::test]
async fn rows_of_one_millisecond_survive_page_boundaries() {
    let org = Org::start().await;
    for _ in 0..2_050 {
        org.contact(&json!({}));
    }

    let run = run(&org.client(), None).await.unwrap();

    assert_eq!(run.ids().len(), 2_050);
}

/// Pages that are shorter than asked for are not the end.
#[tokio::test]
async fn short_pages_are_not_the_end() {
    let org = Org::start_with(|config| config.page_rows_max = 300).await;
    org.simulated.generate_people(1_000, 0, 1).unwrap();

    let run = run(&org.client(), None).await.unwrap();

    assert_eq!(run.ids().len(), 1_000);
}

#[tokio::test]
async fn bulk_jobs_bring_the_same_records_as_queries() {
    let org = Org::start_with(|config| config.bulk_rows_max = 700).await;
    org.simulated.generate_people(1_500, 20, 1).unwrap();

    let bulk = run(&org.client_with(Options::default(), 0), None).await.unwrap();
    let rest = run(&org.client(), None).await.unwrap();

    assert!(bulk.newest() == rest.newest());
    assert!(bulk.waits >= 2, "{}", bulk.waits);
    assert_eq!(bulk.known_through, rest.known_through);
}

/// After a bulk copy, the next run brings what has changed.
#[tokio::test]
async fn run_after_bulk_copy_brings_changes() {
    let org = Org::start().await;
    org.simulated.generate_people(20, 5, 1).unwrap();
    let client = org.client_with(Options::default(), 0);
    let first = run(&client, None).await.unwrap();
    org.advance(Duration::from_hours(1));
    let id = org.contact(&json!({}));

    let second = run(&client, Some(&first.checkpoint)).await.unwrap();

    assert_eq!(second.ids(), [id]);
}

/// A job whose results have expired is made anew.
#[tokio::test]
async fn job_with_expired_results_is_made_anew() {
    let org = Org::start_with(|config| config.bulk_rows_max = 10).await;
    org.simulated.generate_people(25, 0, 1).unwrap();
    let client = org.client_with(Options::default(), 0);
    let mut position = None;
    let mut records = 0;
    while records == 0 {
        let page = client.fetch_page(position.as_deref(), PageEffort::Whole).await.unwrap();
        records += page.records.len();
        position = page.next;
    }
    org.advance(Duration::from_hours(24 * 8));

    let rest = run(&client, position.as_deref()).await.unwrap();

    assert_eq!(rest.ids().len(), 25);
}

/// Jobs that fail again and again give way to queries.
#[tokio::test]
async fn repeatedly_failing_jobs_give_way_to_queries() {
    let org = Org::start().await;
    org.simulated.generate_people(30, 0, 1).unwrap();
    org.fault("/jobs/query/", None, Fault::JobFailed { message: "too busy".to_owned() });

    let run = run(&org.client_with(Options::default(), 0), None).await.unwrap();

    assert_eq!(run.ids().len(), 30);
    let jobs: u64 = org
        .simulated
        .requests()
        .counts
        .iter()
        .filter(|(name, _)| name.ends_with("/jobs/query"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(jobs, 2);
}

#[tokio::test]
async fn without_a_bulk_interface_queries_do() {
    let org = Org::start().await;
    org.simulated.generate_people(30, 0, 1).unwrap();
    org.fault("/jobs/query", None, Fault::ApiDisabled);

    let run = run(&org.client_with(Options::default(), 0), None).await.unwrap();

    assert_eq!(run.ids().len(), 30);
}

/// A part of the results that is cut is refused.
#[tokio::test]
async fn cut_part_of_results_is_refused() {
    let org = Org::start().await;
    org.simulated.generate_people(30, 0, 1).unwrap();
    org.fault("/results", Some(1), Fault::Truncate);
    let client = org.client_with(Options::default(), 0);
    let mut position = None;
    let error = loop {
        match client.fetch_page(position.as_deref(), PageEffort::Whole).await {
            Ok(page) => position = page.next,
            Err(error) => break error,
        }
    };

    let rest = run(&client, position.as_deref()).await.unwrap();

    assert!(matches!(error, crate::crm::CrmError::Unreadable(_)), "{error}");
    assert_eq!(rest.ids().len(), 30);
}

/// Hidden fields and objects are told, and the rest is copied.
#[tokio::test]
async fn hidden_fields_and_objects_are_told_rest_copied() {
    let org = Org::start_with(|config| {
        config.hidden_fields = vec![("Contact".to_owned(), "MobilePhone".to_owned())];
        config.has_leads = false;
    })
    .await;
    let id = org.contact(&json!({"Phone": "1"}));

    let run = run(&org.client(), None).await.unwrap();

    assert_eq!(run.newest()[&id].numbers.len(), 1);
    assert_eq!(run.notices.len(), 2, "{:?}", run.notices);
    assert!(run.notices[0].to_string().starts_with("FIELD_HIDDEN: Contact.MobilePhone "));
    assert!(run.notices[1].to_string().starts_with("OBJECT_HIDDEN: Leads "));
}

/// The customer's own phone fields name the person, and the assistant's does not.
#[tokio::test]
async fn own_phone_fields_name_person_assistants_does_not() {
    let org = Org::start_with(|config| config.custom_phones = vec![("Contact".to_owned(), "Desk__c".to_owned())]).await;
    let id = org.contact(&json!({"Phone": "1", "Fax": "2", "AssistantPhone": "3", "Desk__c": "4"}));

    let run = run(&org.client(), None).await.unwrap();

    let numbers: Vec<(String, String)> =
        run.newest()[&id].numbers.iter().map(|number| (number.label.clone(), number.raw.clone())).collect();
    let expected = [("Phone", "1"), ("Fax", "2"), ("Desk__c", "4")];
    assert_eq!(numbers, expected.map(|(label, raw)| (label.to_owned(), raw.to_owned())));
}

#[tokio::test]
async fn a_person_account_comes_as_its_contact() {
    let org = Org::start_with(|config| config.has_person_accounts = true).await;
    org.simulated.create("Account", &json!({"FirstName": "Ann", "LastName": "Doe", "Phone": "1"})).unwrap();

    let run = run(&org.client(), None).await.unwrap();

    assert_eq!(run.records.len(), 1);
    assert_eq!((run.records[0].display_name.as_str(), run.records[0].organization.as_str()), ("Ann Doe", ""));
    assert_eq!(run.records[0].numbers[0].raw, "1");
}
