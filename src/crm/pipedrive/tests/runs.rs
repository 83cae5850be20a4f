//! First copy, increments, deletions: nothing is lost, and nobody is gone on a hint alone.

use std::{sync::Arc, sync::atomic::Ordering};

use chrono::TimeDelta;
use crm_simulator::faults::Fault;
use serde_json::json;

use super::{Company, ORGANIZATIONS, PERIOD, PERSONS, RECENTS, START, at, run};
use crate::{
    crm::{CrmClient, PageEffort},
    domain::{options::ObjectOptions, record::ObjectType},
};

/// A first copy reads every person by id, and its window ends with its first answer.
#[tokio::test]
async fn first_copys_window_ends_at_first_answer() {
    let company = Company::start().await;
    company.create_many(1_200);
    let seconds = Arc::clone(&company.seconds);
    let later = move || {
        seconds.fetch_add(100, Ordering::SeqCst);
    };
    company.pipedrive.faults().before_page(PERSONS, 2, later).unwrap();

    let first = company.run(None).await;

    assert_eq!((first.pages, first.records.len(), first.rejected), (3, 1_200, 0));
    assert!(first.names().iter().zip(1..).all(|(name, number)| *name == format!("P{number}")));
    assert_eq!(first.known_through, Some(at(START) - TimeDelta::seconds(5)));
    assert!(first.notices.is_empty());
    let queries = company.queries(PERSONS);
    assert_eq!(queries[0], "limit=500&sort_by=id&sort_direction=asc");
    assert!(queries[1..].iter().all(|query| query.starts_with(&queries[0]) && query.contains("&cursor=")));
    assert_eq!(company.pipedrive.requests().total, 4, "one for the user, three pages");
}

/// An increment with nothing new costs two requests, in whole seconds.
#[tokio::test]
async fn idle_increment_costs_two_whole_second_requests() {
    let company = Company::start().await;
    company.create_many(3);
    company.advance(PERIOD);
    let first = company.run(None).await;
    company.advance(PERIOD);

    let next = company.next_run(&first).await;

    assert_eq!((next.records.len(), next.gone.len(), next.rejected), (0, 0, 0));
    assert_eq!(next.known_through, Some(company.now() - TimeDelta::seconds(5)));
    assert_eq!(company.pipedrive.requests().total, 2);
    assert!(company.queries(PERSONS)[0].contains("updated_since=2026-09-21T14:42:20Z"));
    assert!(company.queries(RECENTS)[0].contains("since_timestamp=2026-09-21+14:42:20&items=person&start=0&limit=500"));
}

/// An increment brings what was created or changed, and what shares its last second.
#[tokio::test]
async fn increment_brings_changes_and_last_second_ties() {
    let company = Company::start().await;
    let ids = company.create_many(3);
    company.advance(PERIOD);
    // In the very second in which the window of the first copy ends.
    company.rename(ids[0], "Tie");
    let first = company.run(None).await;
    company.rename(ids[1], "Tie after");
    company.advance(PERIOD);
    company.create("New");

    let next = company.next_run(&first).await;

    assert_eq!(next.names(), ["Tie", "Tie after", "New"]);
}

/// A change during a run is seen by it, or by the next.
#[tokio::test]
async fn change_during_run_is_seen_now_or_next() {
    let company = Company::start().await;
    let ids = company.create_many(600);
    company.advance(PERIOD);
    let (pipedrive, seconds) = (Arc::clone(&company.pipedrive), Arc::clone(&company.seconds));
    let (passed_by, ahead) = (ids[0], ids[599]);
    let change = move || {
        seconds.fetch_add(90, Ordering::SeqCst);
        pipedrive.update_person(passed_by, &json!({"name": "Passed by"})).unwrap();
        pipedrive.update_person(ahead, &json!({"name": "Ahead"})).unwrap();
    };
    company.pipedrive.faults().before_page(PERSONS, 2, change).unwrap();

    let first = company.run(None).await;
    assert_eq!(first.names()[0], "P1");
    assert_eq!(first.names()[599], "Ahead");
    company.advance(PERIOD);
    let next = company.next_run(&first).await;

    assert_eq!(next.names(), ["Passed by", "Ahead"]);
    assert_eq!(company.next_run(&next).await.records.len(), 0);
}

/// A deleted person is gone, though its time of change stays.
#[tokio::test]
async fn deleted_person_is_gone_with_unchanged_time() {
    let company = Company::start().await;
    let ids = company.create_many(4);
    company.advance(PERIOD);
    let first = company.run(None).await;
    company.advance(PERIOD);
    company.pipedrive.delete_person(ids[0]).unwrap();
    company.pipedrive.merge_persons(ids[1], ids[2]).unwrap();
    company.pipedrive.purge_person(ids[3]).unwrap();

    let next = company.next_run(&first).await;

    assert_eq!(next.names(), ["P3"], "the winner");
    let mut gone = next.gone.clone();
    gone.sort_unstable();
    assert_eq!(gone, [ids[0], ids[1], ids[3]].map(|id| id.to_string()));
    assert_eq!(
        company.pipedrive.requests().total,
        2 + 3 + 2,
        "three are asked for, one of them needs to know the user, and who is gone whether Pipedrive still answers"
    );
}

#[tokio::test]
async fn hint_of_a_deletion_is_not_believed() {
    let company = Company::start().await;
    let ids = company.create_many(1);
    let first = company.run(None).await;
    company.advance(PERIOD);
    company.pipedrive.delete_person(ids[0]).unwrap();
    let (pipedrive, id) = (Arc::clone(&company.pipedrive), ids[0]);
    let restore = move || pipedrive.restore_person(id).unwrap();
    company.pipedrive.faults().before_page(&format!("{PERSONS}/{id}"), 1, restore).unwrap();

    let next = company.next_run(&first).await;

    assert!(next.gone.is_empty());
    assert_eq!(next.names(), ["P1"]);
}

/// To a user who is no administrator, a vanished person is not gone.
#[tokio::test]
async fn to_non_admin_vanished_person_is_not_gone() {
    let company = Company::start_with(|config| config.company_user_is_admin = false).await;
    let ids = company.create_many(2);
    let first = company.run(None).await;
    assert!(first.has_notice("NOT_ADMIN"));
    company.advance(PERIOD);
    company.pipedrive.purge_person(ids[0]).unwrap();
    company.pipedrive.delete_person(ids[1]).unwrap();

    let next = company.next_run(&first).await;

    assert_eq!(next.gone, [ids[1].to_string()], "it says so itself");
}

/// More deletions than a run asks for are left to a sweep.
#[tokio::test]
async fn excess_deletions_are_left_to_sweep() {
    let company = Company::start().await;
    let ids = company.create_many(230);
    let first = company.run(None).await;
    company.advance(PERIOD);
    for id in ids {
        company.pipedrive.delete_person(id).unwrap();
    }

    let next = company.next_run(&first).await;

    assert_eq!((next.gone.len(), next.pages), (200, 2 + 8));
    assert!(next.has_notice("DELETIONS_LEFT"));
}

#[tokio::test]
async fn changes_are_looked_through_page_by_page() {
    let company = Company::start().await;
    let ids = company.create_many(700);
    let first = company.run(None).await;
    company.advance(PERIOD);
    for id in &ids {
        company.rename(*id, "Renamed");
    }
    company.advance(1);
    company.pipedrive.delete_person(ids[699]).unwrap();

    let next = company.next_run(&first).await;

    assert_eq!((next.records.len(), next.gone.len()), (699, 1));
    assert_eq!(company.queries(RECENTS).len(), 2);
    assert!(next.notices.is_empty());
}

/// Without recent changes a run goes on, and says so once.
#[tokio::test]
async fn run_goes_on_without_recents_told_once() {
    for fault in [Fault::ForbiddenScope, Fault::NotFound] {
        let company = Company::start().await;
        company.create_many(1);
        company.advance(PERIOD);
        let first = company.run(None).await;
        company.advance(PERIOD);
        company.create("New");
        company.fail_always(RECENTS, fault);

        let next = company.next_run(&first).await;

        assert_eq!(next.names(), ["New"]);
        assert!(next.has_notice("RECENTS_HIDDEN") && next.notices.len() == 1);
        assert_eq!(next.known_through, Some(company.now() - TimeDelta::seconds(5)));
    }
}

#[tokio::test]
async fn deleted_rows_of_a_list_are_gone() {
    let company = Company::start_with(|config| {
        config.lists_deleted = true;
        config.deletes_touch_update_time = true;
    })
    .await;
    let ids = company.create_many(2);
    company.advance(PERIOD);
    let first = company.run(None).await;
    company.advance(PERIOD);
    company.pipedrive.delete_person(ids[0]).unwrap();

    let next = company.next_run(&first).await;

    assert!(next.records.is_empty());
    assert_eq!(next.gone, [ids[0].to_string(), ids[0].to_string()], "in the list, and when asked for");
}

/// Organisations are named, and each is asked for once.
#[tokio::test]
async fn organizations_are_named_and_asked_for_once() {
    let company = Company::start().await;
    let (acme, initech) =
        (company.pipedrive.create_organization("Acme"), company.pipedrive.create_organization("Initech"));
    for org_id in [acme, initech, acme] {
        company.pipedrive.create_person(&json!({"name": "Ann", "org_id": org_id})).unwrap();
    }
    company.create("Alone");
    let client = company.client();

    let names = |run: super::CopiedRun| run.records.into_iter().map(|record| record.organization).collect::<Vec<_>>();

    assert_eq!(names(run(&client, None).await), ["Acme", "Initech", "Acme", ""]);
    assert_eq!(names(run(&client, None).await), ["Acme", "Initech", "Acme", ""]);
    assert_eq!(company.queries(ORGANIZATIONS).len(), 1);
}

#[tokio::test]
async fn organizations_that_are_hidden_cost_their_names_only() {
    let company = Company::start().await;
    let acme = company.pipedrive.create_organization("Acme");
    for _ in 0..600 {
        company.pipedrive.create_person(&json!({"name": "Ann", "org_id": acme})).unwrap();
    }
    company.fail_always(ORGANIZATIONS, Fault::ForbiddenScope);

    let first = company.run(None).await;

    assert_eq!((first.records.len(), first.notices.len()), (600, 1));
    assert!(first.has_notice("ORGANIZATIONS_HIDDEN"));
    assert!(first.records.iter().all(|record| record.organization.is_empty()));
}

/// Persons that are not to be copied are not asked for.
#[tokio::test]
async fn unwanted_persons_are_not_asked_for() {
    let company = Company::start().await;
    company.create_many(1);
    let wishes = ObjectOptions { is_copied: false, mirrors_deletions: true };
    let client = company.client_with(|target| target.options.objects[ObjectType::Person] = wishes, 100);

    let page = crate::crm::CrmClient::fetch_page(&client, None, crate::crm::PageEffort::Whole).await.unwrap();

    assert!(page.is_last && page.records.is_empty() && page.next.is_none());
    assert_eq!(company.pipedrive.requests().total, 0);
}

/// Numbers in phone fields of the company's own are copied, and which those are is asked once.
#[tokio::test]
async fn own_phone_fields_are_copied_and_asked_for_once() {
    let company = Company::start_with(|config| config.custom_phones = vec![("a1".to_owned(), "Desk".to_owned())]).await;
    let person = |custom: serde_json::Value| {
        company.pipedrive.create_person(&json!({"name": "Ann", "custom_fields": custom})).unwrap()
    };
    let id = person(json!({"a1": "+13105550101", "a2": "+13105550102"}));
    for _ in 0..600 {
        person(json!({"a1": null}));
    }
    let client = company.client();

    let copied = run(&client, None).await;

    let number = &copied.records[0].numbers[0];
    assert_eq!(
        (number.raw.as_str(), number.label.as_str(), copied.records[0].numbers.len()),
        ("+13105550101", "Desk", 1)
    );
    assert_eq!(company.pipedrive.requests().count_of("personFields"), 1);
    let looked_up = client.look_up(&[super::super::map::key(u64::try_from(id).unwrap())]).await.unwrap();
    assert!(looked_up.records[0].numbers == copied.records[0].numbers);
    assert_eq!(company.pipedrive.requests().count_of("personFields"), 1);
}

/// Without persons who have own fields nothing is asked; a token that may not ask says so, and a
/// failure that passes costs nothing.
#[tokio::test]
async fn own_phone_fields_hidden_are_told() {
    let company = Company::start_with(|config| config.custom_phones = vec![("a1".to_owned(), "Desk".to_owned())]).await;
    company.create("Plain");
    company.run(None).await;
    assert_eq!(company.pipedrive.requests().count_of("personFields"), 0);

    company.pipedrive.create_person(&json!({"name": "Ann", "custom_fields": {"a1": "+13105550101"}})).unwrap();
    company.fail("personFields", Fault::ServerError);
    assert!(company.client().fetch_page(None, PageEffort::Whole).await.is_err());
    company.fail("personFields", Fault::ServerError);
    let page = company.client().fetch_page(None, PageEffort::Essential).await.unwrap();
    assert!(page.is_partial && page.notices.iter().any(|notice| notice.reason == "FIELDS_LEFT"));

    company.fail_always("personFields", Fault::ForbiddenScope);
    let copied = company.run(None).await;
    assert!(copied.has_notice("FIELD_HIDDEN") && copied.records.len() == 2);
}
