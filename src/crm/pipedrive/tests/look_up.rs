//! Persons by their ids: who is there, who is gone, and of whom nobody knows.

use crm_simulator::{faults::Fault, pipedrive::HiddenAnswer};

use super::{Company, PERSONS};
use crate::{
    crm::CrmClient,
    domain::record::{ObjectType, RecordKey},
};

fn keys(ids: &[i64]) -> Vec<RecordKey> {
    let key = |id: &i64| RecordKey { object_type: ObjectType::Person, record_id: id.to_string() };
    ids.iter().map(key).collect()
}

/// `found`, `gone` or `hidden` of each, in the order of the keys.
async fn fates(company: &Company, keys: &[RecordKey]) -> Vec<&'static str> {
    let sightings = company.client().look_up(keys).await.unwrap();
    let is_absent = |key: &RecordKey| sightings.gone.iter().any(|gone| gone.key == *key);
    let fate = |key: &RecordKey| match sightings.records.iter().find(|record| record.key == *key) {
        Some(record) if !record.is_gone => "found",
        None if !is_absent(key) => "hidden",
        _ => "gone",
    };
    keys.iter().map(fate).collect()
}

#[tokio::test]
async fn those_who_are_there_cost_one_request() {
    let company = Company::start().await;
    let keys = keys(&company.create_many(100));

    assert!(fates(&company, &keys).await.iter().all(|fate| *fate == "found"));
    assert_eq!(company.pipedrive.requests().total, 1);
}

#[tokio::test]
async fn to_an_administrator_the_vanished_are_gone() {
    let company = Company::start().await;
    let ids = company.create_many(4);
    company.pipedrive.delete_person(ids[1]).unwrap();
    company.pipedrive.purge_person(ids[2]).unwrap();
    company.pipedrive.purge_person(ids[3]).unwrap();

    assert_eq!(fates(&company, &keys(&ids)).await, ["found", "gone", "gone", "gone"]);
    // Whether the token sees everybody, and whether Pipedrive still answers after it has said that
    // somebody is gone.
    assert_eq!(company.pipedrive.requests().count_of("users/me"), 2);
}

/// Who is gone says since when, as far as Pipedrive does; of the others the answer's time is known.
#[tokio::test]
async fn gone_persons_come_with_when_pipedrive_said_so() {
    let company = Company::start().await;
    let ids = company.create_many(2);
    let made_at = company.now();
    company.advance(60);
    company.pipedrive.delete_person(ids[0]).unwrap();
    company.pipedrive.purge_person(ids[1]).unwrap();
    company.advance(60);

    let sightings = company.client().look_up(&keys(&ids)).await.unwrap();

    let [deleted] = sightings.records.as_slice() else { panic!("{sightings:?}") };
    assert!(deleted.is_gone && deleted.updated_at == made_at, "a deletion leaves the time of change");
    assert_eq!(deleted.answered_at, Some(company.now()));
    let [absent] = sightings.gone.as_slice() else { panic!("{sightings:?}") };
    assert_eq!((&absent.key, absent.seen_at), (&keys(&ids)[1], Some(company.now())));
}

/// To anybody but an administrator the vanished are hidden, and the deleted gone.
#[tokio::test]
async fn non_admin_sees_vanished_hidden_and_deleted_gone() {
    let company = Company::start_with(|config| config.company_user_is_admin = false).await;
    let ids = company.create_many(4);
    company.pipedrive.delete_person(ids[1]).unwrap();
    company.pipedrive.purge_person(ids[2]).unwrap();
    company.pipedrive.hide_from_token(ids[3]).unwrap();

    assert_eq!(fates(&company, &keys(&ids)).await, ["found", "gone", "hidden", "hidden"]);
}

#[tokio::test]
async fn person_that_may_not_be_seen_is_hidden() {
    let company = Company::start_with(|config| config.hidden_answer = HiddenAnswer::Forbidden).await;
    let ids = company.create_many(2);
    company.pipedrive.hide_from_token(ids[0]).unwrap();

    assert_eq!(fates(&company, &keys(&ids)).await, ["hidden", "found"]);
}

/// An id that cannot be one does not spoil the others.
#[tokio::test]
async fn impossible_id_spoils_no_others() {
    let company = Company::start().await;
    let mut keys = keys(&company.create_many(1));
    keys.push(RecordKey { object_type: ObjectType::Person, record_id: "99999999999999999999".to_owned() });

    assert_eq!(fates(&company, &keys).await, ["found", "gone"]);
}

#[tokio::test]
async fn failure_half_way_says_nothing_of_anybody() {
    let company = Company::start().await;
    let ids = company.create_many(2);
    company.pipedrive.purge_person(ids[1]).unwrap();
    for fault in [Fault::ServerError, Fault::Html, Fault::CloudflareBlocked] {
        company.fail(&format!("{PERSONS}/{}", ids[1]), fault);

        assert!(company.client().look_up(&keys(&ids)).await.is_err());
    }
}
