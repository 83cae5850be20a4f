//! What changes mean for readers: deletions, merges, conversions, times.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Server, column, rows};

const ALL: &str = "SELECT Id, IsDeleted, MasterRecordId FROM Contact ORDER BY Id";

/// A deleted record is in `queryAll` until it is deleted for good.
#[tokio::test]
async fn query_all_shows_deleted_until_deleted_for_good() {
    let server = Server::start().await;
    let ids = server.contacts(2);
    server.advance(1_000);

    server.salesforce.delete("Contact", &ids[0]).unwrap();
    assert_eq!(column(rows(&server.query(ALL).await), "Id"), [ids[1].as_str()]);
    let where_deleted = "SELECT Id FROM Contact WHERE IsDeleted = true AND SystemModstamp >= 2026-09-21T14:13:21Z";
    assert_eq!(column(rows(&server.query_all(where_deleted).await), "Id"), [ids[0].as_str()]);

    server.advance(1_000);
    server.salesforce.undelete(&ids[0]).unwrap();
    assert_eq!(server.query(ALL).await["totalSize"], 2);
    assert!(server.salesforce.undelete(&ids[0]).is_err());
    server.salesforce.hard_delete("Contact", &ids[0]).unwrap();
    assert_eq!(column(rows(&server.query_all(ALL).await), "Id"), [ids[1].as_str()]);
    assert_eq!(server.salesforce.undelete(&ids[0]).unwrap_err().code, "INVALID_CROSS_REFERENCE_KEY");
}

#[tokio::test]
async fn losers_name_their_master_and_chains_stay() {
    let server = Server::start().await;
    let ids = server.contacts(4);
    let salesforce = &server.salesforce;

    salesforce.merge("Contact", &ids[1], &[&ids[0]]).unwrap();
    server.advance(1_000);
    salesforce.merge("Contact", &ids[2], &[&ids[1], &ids[3]]).unwrap();

    let all = server.query_all(ALL).await;
    assert_eq!(column(rows(&all), "MasterRecordId"), [ids[1].as_str(), &ids[2], "null", &ids[2]]);
    let winner = salesforce.record(&ids[2]).unwrap();
    assert_eq!(winner.text("SystemModstamp"), Some("2026-09-21T14:13:21.000+0000"));
    let refused = |master: &str, losers: &[&str]| salesforce.merge("Contact", master, losers).unwrap_err().code;
    assert_eq!(refused(&ids[2], &[&ids[0]]), "ENTITY_IS_DELETED");
    assert_eq!(refused(&ids[2], &[&ids[2]]), "INVALID_OPERATION");
    assert_eq!(refused(&ids[2], &[]), "INVALID_OPERATION");
    // A loser comes back as itself.
    salesforce.undelete(&ids[3]).unwrap();
    assert_eq!(salesforce.record(&ids[3]).unwrap().master_record_id, None);
}

/// A converted Lead names its Contact and is read-only.
#[tokio::test]
async fn converted_lead_names_contact_and_is_read_only() {
    let server = Server::start().await;
    let salesforce = &server.salesforce;
    let lead =
        json!({"LastName": "Roe", "FirstName": "Al", "Company": "Acme", "MobilePhone": "1", "Email": "a@b.example"});
    let first = salesforce.create("Lead", &lead).unwrap();
    let second = salesforce.create("Lead", &lead).unwrap();

    let contact = salesforce.convert_lead(&first, None).unwrap();
    assert_eq!(salesforce.convert_lead(&second, Some(&contact)).unwrap(), contact);

    let page =
        server.query("SELECT IsConverted, ConvertedContactId, ConvertedDate, ConvertedAccount.Name FROM Lead").await;
    for row in rows(&page) {
        assert_eq!((&row["IsConverted"], &row["ConvertedContactId"]), (&json!(true), &json!(contact)));
        assert_eq!((&row["ConvertedDate"], &row["ConvertedAccount"]["Name"]), (&json!("2026-09-21"), &json!("Acme")));
    }
    let contact = salesforce.record(&contact).unwrap();
    assert_eq!((contact.text("Name"), contact.text("MobilePhone")), (Some("Al Roe"), Some("1")));
    let refused = salesforce.update("Lead", &first, &json!({"Phone": "2"})).unwrap_err();
    assert_eq!(refused.code, "CANNOT_UPDATE_CONVERTED_LEAD");
    assert!(salesforce.convert_lead(&first, None).is_err());
}

/// An automated change moves the `SystemModstamp` alone, and ties are kept.
#[tokio::test]
async fn automated_change_moves_stamp_alone_ties_are_kept() {
    let server = Server::start().await;
    let ids = server.contacts(2);
    server.advance(1);

    server.salesforce.touch_system("Contact", &ids[0]).unwrap();
    server.salesforce.update("Contact", &ids[1], &json!({"Phone": "1"})).unwrap();

    let page = server.query("SELECT SystemModstamp, LastModifiedDate FROM Contact ORDER BY Id").await;
    let stamp = "2026-09-21T14:13:20.001+0000";
    assert_eq!(column(rows(&page), "SystemModstamp"), [stamp, stamp]);
    assert_eq!(column(rows(&page), "LastModifiedDate"), ["2026-09-21T14:13:20.000+0000", stamp]);
}

#[tokio::test]
async fn accounts_contacts_go_and_come_with_it() {
    let server = Server::start().await;
    let salesforce = &server.salesforce;
    let account = |name: &str| salesforce.create("Account", &json!({"Name": name})).unwrap();
    let (acme, other) = (account("Acme"), account("Other"));
    let contact = |at: &str| salesforce.create("Contact", &json!({"LastName": "x", "AccountId": at})).unwrap();
    let (stays, gone, moved) = (contact(&acme), contact(&acme), contact(&other));
    salesforce.delete("Contact", &gone).unwrap();
    server.advance(1_000);

    salesforce.delete("Account", &acme).unwrap();
    assert_eq!(column(rows(&server.query(ALL).await), "Id"), [moved.as_str()]);
    salesforce.undelete(&acme).unwrap();
    assert_eq!(column(rows(&server.query(ALL).await), "Id"), [stays.as_str(), &moved]);
    salesforce.merge("Account", &acme, &[&other]).unwrap();
    let page = server.query("SELECT Account.Name FROM Contact").await;
    assert!(rows(&page).iter().all(|row| row["Account"]["Name"] == "Acme"));
}

fn replication(kind: &str, start: &str, end: &str) -> String {
    format!("/sobjects/Contact/{kind}/?start=2026-09-21T{start}%2B00:00&end=2026-09-21T{end}%2B00:00")
}

#[tokio::test]
async fn deletions_and_changes_are_told_by_whole_minutes() {
    let server = Server::start().await;
    let ids = server.contacts(3);
    server.advance(60_000);
    server.salesforce.delete("Contact", &ids[0]).unwrap();
    server.salesforce.delete("Contact", &ids[1]).unwrap();
    server.salesforce.undelete(&ids[1]).unwrap();
    server.advance(60_000);

    let deleted = server.get(&replication("deleted", "14:13:59", "14:59:00")).await;
    assert_eq!(deleted["deletedRecords"], json!([{"id": ids[0], "deletedDate": "2026-09-21T14:14:20.000+0000"}]));
    // The answer reaches no further than the last whole minute, where the next one begins.
    assert_eq!(deleted["latestDateCovered"], "2026-09-21T14:15:00.000+0000");
    assert_eq!(deleted["earliestDateAvailable"], "2026-09-06T14:15:20.000+0000");
    let none = server.get(&replication("deleted", "14:13:00", "14:14:00")).await;
    assert_eq!(none["deletedRecords"], json!([]));
    let updated = server.get(&replication("updated", "14:13:00", "14:15:00")).await;
    assert_eq!(updated["ids"], json!([ids[1], ids[2]]));
    server.salesforce.hard_delete("Contact", &ids[2]).unwrap();
    server.advance(60_000);
    let hard = server.get(&replication("deleted", "14:15:00", "14:16:00")).await;
    assert_eq!(hard["deletedRecords"][0]["id"], json!(ids[2]));
}

#[tokio::test]
async fn times_of_replication_have_limits() {
    let server = Server::start().await;
    let too_old = (400, "INVALID_REPLICATION_DATE".to_owned());

    assert_eq!(server.refusal(Method::GET, &replication("deleted", "14:13:01", "14:13:59"), None).await, too_old);
    assert_eq!(server.refusal(Method::GET, &replication("updated", "15:13:01", "15:20:59"), None).await, too_old);
    let path =
        |kind: &str, start: &str| format!("/sobjects/Contact/{kind}/?start={start}T00:00:00Z&end=2026-09-21T14:00:00Z");
    assert_eq!(server.refusal(Method::GET, &path("deleted", "2026-09-06"), None).await, too_old);
    server.get(&path("updated", "2026-09-06")).await;
    assert_eq!(server.refusal(Method::GET, &path("updated", "2026-08-20"), None).await, too_old);
    let (status, body) = server.ask(Method::GET, "/sobjects/Contact/deleted/?start=x", None).await;
    assert_eq!((status, body[0]["errorCode"] == Value::Null), (400, false));
}
