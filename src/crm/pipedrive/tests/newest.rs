//! What is asked for a call that found nobody.

use phone_key::PhoneKey;
use serde_json::json;

use super::{Company, ORGANIZATIONS, PERSONS};
use crate::crm::{CrmClient, CrmError};

#[tokio::test]
async fn newest_come_first_by_one_request_and_without_organisations() {
    let company = Company::start().await;
    let old = company.create("Old");
    company.advance(3_600);
    let first = company.run(None).await;
    let organization = company.pipedrive.create_organization("Acme");
    company.advance(10);
    let (working, deleted) = (company.create("Working"), company.create("Deleted"));
    company.pipedrive.update_person(working, &json!({"org_id": organization})).unwrap();
    company.pipedrive.delete_person(deleted).unwrap();
    company.advance(10);
    company.rename(old, "Newest");
    company.pipedrive.clear_requests();

    let found = company.client().fetch_newest(&first.checkpoint).await.unwrap();

    let names: Vec<(&str, &str)> =
        found.records.iter().map(|record| (record.display_name.as_str(), record.organization.as_str())).collect();
    assert_eq!(names, [("Newest", ""), ("Working", "")]);
    let unnamed: Vec<&str> = found.unnamed.iter().map(|key| key.record_id.as_str()).collect();
    assert_eq!((unnamed, found.is_partial), (vec![working.to_string().as_str()], false));
    assert_eq!(company.pipedrive.requests().total, 1);
    assert!(company.queries(ORGANIZATIONS).is_empty());
    assert!(company.queries(PERSONS)[0].contains("sort_by=update_time&sort_direction=desc"));
    assert!(matches!(company.client().fetch_newest("elsewhere").await, Err(CrmError::PositionRefused)));
}

#[tokio::test]
async fn person_is_searched_by_the_national_number() {
    let company = Company::start().await;
    let person = |name: &str, phone: &str| {
        company.pipedrive.create_person(&json!({"name": name, "phones": [{"value": phone}]})).unwrap()
    };
    let (whole, national) = (person("Whole", "+13105550100"), person("National", "3105550100"));
    person("Other", "+13105550199");
    let key = PhoneKey::try_from_i64(13_105_550_100).unwrap();

    let found = company.client().find_by_number(key).await.unwrap().named;

    let ids: Vec<&str> = found.iter().map(|key| key.record_id.as_str()).collect();
    assert_eq!(ids, [whole.to_string(), national.to_string()]);
    let nobody = company
        .client_with(|target| target.options.objects[crate::domain::record::ObjectType::Person].is_copied = false, 100);
    assert!(nobody.find_by_number(key).await.unwrap().named.is_empty());
}
