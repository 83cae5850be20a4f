//! Organisations filled from files and with generated people.

use serde_json::json;

use super::{Server, column, rows};

const FILE: &str = "\u{feff}{\"Id\":\"003D000000QV9n2IAD\",\"LastName\":\"Doe\",\"FirstName\":\"Ann\",\
    \"CreatedDate\":\"2026-01-02T10:00:00.000+0000\",\"SystemModstamp\":\"2026-01-02T10:05:00.123+0000\",\
    \"Account\":{\"Name\":\"Acme\"},\"AccountId\":\"001D000000IRFmaIAH\",\"attributes\":{\"type\":\"Contact\"}}\n\n\
    {\"LastName\":\"Roe\",\"SystemModstamp\":\"2026-01-02T10:05:00.123+0000\",\"Name\":\"ignored\"}\n\
    {\"LastName\":\"Gone\",\"MasterRecordId\":\"003D000000QV9n2\"}\n";

/// Records are taken just as they are said to be.
#[tokio::test]
async fn records_are_taken_as_they_say() {
    let server = Server::start().await;

    assert_eq!(server.salesforce.load_records("Contact", FILE.as_bytes()).unwrap(), 3);

    let statement = "SELECT Id, Name, CreatedDate, SystemModstamp, AccountId, IsDeleted, MasterRecordId FROM Contact \
                     ORDER BY SystemModstamp, Name";
    let page = server.query_all(statement).await;
    assert_eq!(column(rows(&page), "Name"), ["Ann Doe", "Roe", "Gone"]);
    let stamps = column(rows(&page), "SystemModstamp");
    assert_eq!(stamps[0], stamps[1], "ties are kept");
    let ann = &rows(&page)[0];
    assert_eq!((&ann["Id"], &ann["AccountId"]), (&json!("003D000000QV9n2IAD"), &json!("001D000000IRFmaIAH")));
    assert_eq!(
        (&ann["CreatedDate"], stamps[0]),
        (&json!("2026-01-02T10:00:00.000+0000"), "2026-01-02T10:05:00.123+0000")
    );
    let gone = &rows(&page)[2];
    assert_eq!((&gone["IsDeleted"], &gone["MasterRecordId"]), (&json!(true), &ann["Id"]));
    // Thirty days old, and a second for each line.
    assert_eq!(gone["CreatedDate"], "2026-08-22T14:13:24.000+0000");
}

#[tokio::test]
async fn bad_lines_are_named_without_their_values() {
    let server = Server::start().await;
    let cases = [
        ("{\"LastName\":\"x\"}\n[1]", "line 2 is not a JSON object: mistake at column 0"),
        ("{\"LastName\":", "line 1 is not a JSON object: mistake at column 12"),
        ("{\"Shoe\":\"secret\"}", "line 1: INVALID_FIELD: No such column 'Shoe' on sobject of type Contact"),
        ("{\"Phone\":5}", "line 1: JSON_PARSER_ERROR: Cannot deserialize instance of string for Phone"),
        (
            "{\"CreatedDate\":\"soon\"}",
            "line 1: JSON_PARSER_ERROR: Cannot deserialize instance of datetime for CreatedDate",
        ),
        (
            "{\"Id\":\"001D000000IRFmaIAH\",\"LastName\":\"x\"}",
            "line 1: INVALID_CROSS_REFERENCE_KEY: Id: id value of incorrect type or not found",
        ),
    ];
    for (file, message) in cases {
        assert_eq!(server.salesforce.load_records("Contact", file.as_bytes()).unwrap_err().to_string(), message);
    }
    let twice = format!("{0}\n{0}", "{\"Id\":\"003D000000QV9n2IAD\",\"LastName\":\"x\"}");
    let refused = server.salesforce.load_records("Contact", twice.as_bytes()).unwrap_err().to_string();
    assert!(refused.starts_with("line 2: DUPLICATE_VALUE"), "{refused}");
    assert!(server.salesforce.load_records("Nothing", FILE.as_bytes()).is_err());
}

/// Generated people are the same for the same seed.
#[tokio::test]
async fn same_seed_generates_same_people() {
    let people = async |seed| {
        let server = Server::start().await;
        server.salesforce.generate_people(300, 100, seed).unwrap();
        (server.salesforce.records("Contact"), server.salesforce.records("Lead"), server.salesforce.records("Account"))
    };

    let (contacts, leads, accounts) = people(7).await;

    assert!((contacts.len(), leads.len()) == (300, 100) && !accounts.is_empty());
    assert!(contacts.iter().all(|contact| contact.text("AccountId").is_some() && contact.text("Name").is_some()));
    assert!(leads.iter().all(|lead| lead.text("Company").is_some()));
    let with_phone = contacts.iter().filter(|contact| contact.text("Phone").is_some()).count();
    assert!(with_phone > 250 && contacts.iter().any(|contact| contact.text("MobilePhone").is_some()));
    assert!(people(7).await == (contacts.clone(), leads, accounts));
    assert!(people(8).await.0 != contacts);
}

#[tokio::test]
async fn new_ids_do_not_meet_loaded_ones() {
    let server = Server::start().await;
    let first = server.contact("First");
    let other = Server::start().await;

    other.salesforce.load_record("Contact", &json!({"Id": first, "LastName": "Loaded"})).unwrap();

    assert_ne!(other.contact("Second"), first);
    other.stop().await;
}
