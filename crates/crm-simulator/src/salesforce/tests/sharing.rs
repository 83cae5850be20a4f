//! What the user may see, and how it can be asked.

use reqwest::Method;
use serde_json::json;

use super::{Server, column, query_path, rows};

async fn user_id(server: &Server) -> String {
    server.get("/services/oauth2/userinfo").await["user_id"].as_str().unwrap().to_owned()
}

/// How many rows say that the user sees all data, and all Contacts.
async fn grants(server: &Server) -> (usize, usize) {
    let assigned = format!("FROM PermissionSetAssignment WHERE AssigneeId = '{}'", user_id(server).await);
    let data = format!("SELECT Id {assigned} AND PermissionSet.PermissionsViewAllData = true LIMIT 1");
    let contacts = format!(
        "SELECT Id FROM ObjectPermissions WHERE SobjectType = 'Contact' AND PermissionsViewAllRecords = true \
         AND ParentId IN (SELECT PermissionSetId {assigned}) LIMIT 1"
    );
    (rows(&server.query(&data).await).len(), rows(&server.query(&contacts).await).len())
}

#[tokio::test]
async fn administrator_sees_all_unless_configured_otherwise() {
    let all = Server::start().await;
    let some = Server::start_with(|config| config.administrator_sees_all = false).await;

    assert_eq!(grants(&all).await, (1, 0));
    assert_eq!(grants(&some).await, (0, 0));
    let set = some.salesforce.records("PermissionSet").remove(0).id;
    let other = some.salesforce.create("PermissionSet", &json!({"Name": "Other", "Label": "Other"})).unwrap();
    let granted = |set: &str| json!({"ParentId": set, "SobjectType": "Contact", "PermissionsViewAllRecords": true});
    some.salesforce.create("ObjectPermissions", &granted(&other)).unwrap();
    assert_eq!(grants(&some).await, (0, 0), "another's set grants nothing");
    some.salesforce.create("ObjectPermissions", &granted(&set)).unwrap();
    assert_eq!(grants(&some).await, (0, 1));
}

#[tokio::test]
async fn joins_select_by_what_another_query_gives() {
    let server = Server::start().await;
    let account = server.salesforce.create("Account", &json!({"Name": "Acme"})).unwrap();
    server.salesforce.create("Contact", &json!({"LastName": "Doe", "AccountId": account})).unwrap();
    server.contact("Roe");
    let names = async |condition: &str| {
        let page = server.query(&format!("SELECT Name FROM Contact WHERE {condition} ORDER BY Id")).await;
        column(rows(&page), "Name").join(" ")
    };
    let acme = "(SELECT Id FROM Account WHERE Name = 'acme')";

    assert_eq!(names(&format!("AccountId IN {acme}")).await, "Doe");
    assert_eq!(names(&format!("AccountId NOT IN {acme} AND LastName != 'x'")).await, "Roe");
    assert_eq!(names("Account.OwnerId IN (SELECT AssigneeId FROM PermissionSetAssignment)").await, "Doe");
    assert_eq!(names("AccountId IN (SELECT Id FROM Account WHERE Name = 'x')").await, "");
    for condition in [
        format!("LastName = 'Roe' OR AccountId IN {acme}"),
        format!("NOT AccountId IN {acme}"),
        format!("LastName IN {acme}"),
        "AccountId IN (SELECT Name FROM Account)".to_owned(),
        "AccountId IN (SELECT Id, Name FROM Account)".to_owned(),
        "AccountId IN (SELECT count() FROM Account)".to_owned(),
        format!("AccountId IN (SELECT AccountId FROM Contact WHERE AccountId IN {acme})"),
    ] {
        let path = query_path("query", &format!("SELECT Id FROM Contact WHERE {condition}"));

        let refused = server.refusal(Method::GET, &path, None).await;

        assert_eq!(refused, (400, "MALFORMED_QUERY".to_owned()), "{condition}");
    }
}

/// A hidden record is nowhere but in the oracle, until it is shown again.
#[tokio::test]
async fn hidden_record_shows_only_in_oracle() {
    let server = Server::start_with(|config| config.bulk_polls = 1).await;
    let id = server.salesforce.create("Contact", &json!({"LastName": "Doe", "Phone": "4155551212"})).unwrap();
    server.salesforce.hide_from_user(&id).unwrap();
    let path = format!("/sobjects/Contact/{id}");
    let statement = format!("SELECT Id FROM Contact WHERE Id = '{id}'");
    let search = "/parameterizedSearch?q=4155551212&in=PHONE&sobject=Contact";

    assert!(rows(&server.query(&statement).await).is_empty());
    assert!(rows(&server.query_all("SELECT Id FROM Contact ORDER BY SystemModstamp").await).is_empty());
    assert_eq!(server.query("SELECT count() FROM Contact").await["totalSize"], 0);
    assert_eq!(server.get(search).await["searchRecords"], json!([]));
    assert_eq!(server.refusal(Method::GET, &path, None).await, (404, "NOT_FOUND".to_owned()));
    let retrieved = server.get(&format!("/composite/sobjects/Contact?ids={id}&fields=Id")).await;
    assert_eq!(retrieved, json!([null]));
    let job = json!({"operation": "queryAll", "query": "SELECT Id FROM Contact"});
    let (_, job) = server.ask(Method::POST, "/jobs/query", Some(&job)).await;
    let job = server.get(&format!("/jobs/query/{}", job["id"].as_str().unwrap())).await;
    assert_eq!((&job["state"], &job["numberRecordsProcessed"]), (&json!("JobComplete"), &json!(0)));
    assert!(server.salesforce.record(&id).unwrap().is_hidden);

    server.salesforce.show_to_user(&id).unwrap();

    assert_eq!(rows(&server.query(&statement).await).len(), 1);
    assert_eq!(server.get(search).await["searchRecords"].as_array().unwrap().len(), 1);
    assert_eq!(server.get(&path).await["Id"], json!(id));
    assert!(!server.salesforce.record(&id).unwrap().is_hidden);
}

/// A hidden record is not told as deleted, and its older copies do not show.
#[tokio::test]
async fn hidden_record_never_shows_deleted_or_stale() {
    let server = Server::start().await;
    let id = server.contact("Doe");
    server.salesforce.update("Contact", &id, &json!({"LastName": "Roe"})).unwrap();
    server.salesforce.hide(&id).unwrap();
    server.salesforce.hide_from_user(&id).unwrap();
    server.salesforce.delete("Contact", &id).unwrap();
    server.advance(120_000);

    let window = "start=2026-09-21T14:00:00%2B00:00&end=2026-09-21T14:15:00%2B00:00";
    let told = server.get(&format!("/sobjects/Contact/deleted/?{window}")).await;

    assert_eq!(told["deletedRecords"], json!([]));
    assert!(rows(&server.query_all("SELECT Id FROM Contact").await).is_empty());
    assert!(server.salesforce.hide_from_user("003D000000QV9n2IAD").is_err(), "no such record");
}
