//! Person accounts and their Contacts.

use serde_json::{Value, json};

use super::{Server, rows};

const CONTACTS: &str = "SELECT Id, Name, MobilePhone, IsPersonAccount, AccountId, IsDeleted, MasterRecordId FROM Contact \
                        ORDER BY Id";

async fn organisation() -> (Server, String, String) {
    let server = Server::start_with(|config| config.has_person_accounts = true).await;
    let fields = json!({"FirstName": "Ann", "LastName": "Doe", "PersonMobilePhone": "1"});
    let account = server.salesforce.create("Account", &fields).unwrap();
    let contact = server.salesforce.record(&account).unwrap().text("PersonContactId").unwrap().to_owned();
    (server, account, contact)
}

#[tokio::test]
async fn person_is_an_account_and_a_contact() {
    let (server, account, contact) = organisation().await;

    let page = server.query(CONTACTS).await;
    let shadow = &rows(&page)[0];
    assert_eq!((&shadow["Id"], &shadow["AccountId"]), (&json!(contact), &json!(account)));
    assert_eq!((&shadow["Name"], &shadow["MobilePhone"]), (&json!("Ann Doe"), &json!("1")));
    assert_eq!(shadow["IsPersonAccount"], true);
    let page = server.query("SELECT Name, IsPersonAccount, PersonContact.Name FROM Account").await;
    assert_eq!((&rows(&page)[0]["Name"], &rows(&page)[0]["IsPersonAccount"]), (&json!("Ann Doe"), &json!(true)));
    assert_eq!(rows(&page)[0]["PersonContact"]["Name"], "Ann Doe");
}

/// The Contact of a person account follows its account and does nothing by itself.
#[tokio::test]
async fn contact_follows_its_account_never_acts_itself() {
    let (server, account, contact) = organisation().await;
    let salesforce = &server.salesforce;
    server.advance(1_000);

    salesforce.update("Account", &account, &json!({"PersonMobilePhone": "2", "FirstName": null})).unwrap();
    let shadow = salesforce.record(&contact).unwrap();
    assert_eq!((shadow.text("Name"), shadow.text("MobilePhone")), (Some("Doe"), Some("2")));
    assert_eq!(shadow.text("SystemModstamp"), Some("2026-09-21T14:13:21.000+0000"));
    assert!(salesforce.update("Contact", &contact, &json!({"Phone": "3"})).is_err());
    assert!(salesforce.update("Account", &account, &json!({"Name": "Whole"})).is_err());
    assert!(salesforce.delete("Contact", &contact).is_err());
    salesforce.delete("Account", &account).unwrap();
    assert!(salesforce.record(&contact).unwrap().is_deleted);
    salesforce.undelete(&account).unwrap();
    assert!(!salesforce.record(&contact).unwrap().is_deleted);
    salesforce.hard_delete("Account", &account).unwrap();
    assert_eq!(salesforce.record(&contact), None);
}

/// Person accounts merge with their Contacts, and not with companies.
#[tokio::test]
async fn persons_merge_with_contacts_not_with_companies() {
    let (server, account, contact) = organisation().await;
    let salesforce = &server.salesforce;
    let other = salesforce.create("Account", &json!({"LastName": "Roe"})).unwrap();
    let company = salesforce.create("Account", &json!({"Name": "Acme"})).unwrap();

    assert!(salesforce.merge("Account", &account, &[&company]).is_err());
    salesforce.merge("Account", &account, &[&other]).unwrap();

    let page = server.query_all(CONTACTS).await;
    let lost = rows(&page).iter().find(|row| row["Name"] == "Roe").unwrap();
    assert_eq!((&lost["IsDeleted"], &lost["MasterRecordId"]), (&json!(true), &json!(contact)));
    assert_eq!(rows(&page)[0]["MasterRecordId"], Value::Null);
}
