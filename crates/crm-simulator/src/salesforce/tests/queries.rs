//! What the language selects.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Server, column, query_path, rows};

/// Names selected by a condition, in the order of the query.
async fn names(server: &Server, rest: &str) -> Vec<String> {
    let page = server.query(&format!("SELECT Name FROM Contact {rest}")).await;
    column(rows(&page), "Name").into_iter().map(str::to_owned).collect()
}

async fn organisation() -> Server {
    let server = Server::start().await;
    let salesforce = &server.salesforce;
    let acme = salesforce.create("Account", &json!({"Name": "Acme"})).unwrap();
    let ann = json!({"LastName": "Doe", "FirstName": "Ann", "Phone": "1", "AccountId": acme, "DoNotCall": true});
    salesforce.create("Contact", &ann).unwrap();
    server.advance(1_000);
    let bo = json!({"LastName": "O'Hara", "FirstName": "Bo", "Birthdate": "1990-05-01", "ReportsToId": null});
    salesforce.create("Contact", &bo).unwrap();
    server.advance(1_000);
    salesforce.create("Contact", &json!({"LastName": "roe", "Phone": "+1 (415) 50%"})).unwrap();
    server
}

#[tokio::test]
async fn conditions_select_by_value() {
    let server = organisation().await;
    let cases: [(&str, &[&str]); 22] = [
        ("WHERE Name = 'ann doe'", &["Ann Doe"]),
        ("WHERE FirstName != 'Ann'", &["Bo O'Hara", "roe"]),
        ("WHERE LastName = 'o\\'hara'", &["Bo O'Hara"]),
        ("WHERE Phone = null", &["Bo O'Hara"]),
        ("WHERE Phone != NULL", &["Ann Doe", "roe"]),
        ("WHERE Phone LIKE '%(415)%'", &["roe"]),
        ("WHERE Phone LIKE '%50\\%'", &["roe"]),
        ("WHERE LastName IN ('DOE', 'ROE')", &["Ann Doe", "roe"]),
        ("WHERE LastName NOT IN ('Doe')", &["Bo O'Hara", "roe"]),
        ("WHERE DoNotCall = true", &["Ann Doe"]),
        ("WHERE NOT DoNotCall = true", &["Bo O'Hara", "roe"]),
        ("WHERE LastName > 'doe' AND LastName <= 'o\\'hara'", &["Bo O'Hara"]),
        ("WHERE Birthdate < 1990-05-02", &["Bo O'Hara"]),
        ("WHERE Account.Name = 'ACME'", &["Ann Doe"]),
        ("WHERE Contact.Account.Name = null", &["Bo O'Hara", "roe"]),
        ("WHERE SystemModstamp >= 2026-09-21T14:13:21.000Z", &["Bo O'Hara", "roe"]),
        ("WHERE SystemModstamp > 2026-09-21T16:13:20+02:00 AND SystemModstamp < 2026-09-21T14:13:22Z", &["Bo O'Hara"]),
        ("WHERE CreatedDate = TODAY", &["Ann Doe", "Bo O'Hara", "roe"]),
        ("WHERE CreatedDate < LAST_N_DAYS:3", &[]),
        ("WHERE (Phone = '1' OR Phone = null) AND (NOT LastName LIKE 'd__')", &["Bo O'Hara"]),
        ("WHERE SystemModstamp = 2026-09-21T14:13:20Z OR LastName = 'roe'", &["Ann Doe", "roe"]),
        ("WHERE IsDeleted = true", &[]),
    ];
    for (rest, expected) in cases {
        assert_eq!(names(&server, rest).await, expected, "{rest}");
    }
}

#[tokio::test]
async fn order_limit_and_offset_cut_the_result() {
    let server = organisation().await;
    let cases: [(&str, &[&str]); 7] = [
        ("ORDER BY LastName DESC", &["roe", "Bo O'Hara", "Ann Doe"]),
        ("ORDER BY FirstName", &["roe", "Ann Doe", "Bo O'Hara"]),
        ("ORDER BY FirstName DESC NULLS LAST", &["Bo O'Hara", "Ann Doe", "roe"]),
        ("ORDER BY SystemModstamp DESC, Id DESC LIMIT 2", &["roe", "Bo O'Hara"]),
        ("ORDER BY Account.Name NULLS LAST, LastName DESC LIMIT 2", &["Ann Doe", "roe"]),
        ("ORDER BY Id LIMIT 1 OFFSET 1", &["Bo O'Hara"]),
        ("LIMIT 0", &[]),
    ];
    for (rest, expected) in cases {
        assert_eq!(names(&server, rest).await, expected, "{rest}");
    }
    let counted = server.query("SELECT count() FROM Contact WHERE Phone != null").await;
    assert_eq!(counted, json!({"totalSize": 2, "done": true, "records": []}));
}

/// A window over equal stamps is read by stamp and id.
#[tokio::test]
async fn equal_stamps_are_read_by_stamp_and_id() {
    let server = Server::start().await;
    let ids = server.contacts(7);

    let mut seen = Vec::new();
    let mut rest = String::new();
    loop {
        let statement = format!("SELECT Id, SystemModstamp FROM Contact {rest} ORDER BY SystemModstamp, Id LIMIT 3");
        let page = server.query(&statement).await;
        seen.extend(column(rows(&page), "Id").into_iter().map(str::to_owned));
        let Some(last) = rows(&page).last() else { break };
        let stamp = last["SystemModstamp"].as_str().unwrap().replace("+0000", "Z");
        let id = last["Id"].as_str().unwrap();
        rest = format!("WHERE SystemModstamp > {stamp} OR (SystemModstamp = {stamp} AND Id > '{id}')");
    }

    assert_eq!(seen, ids);
}

/// Parents are nested, and null where there is none.
#[tokio::test]
async fn parents_are_nested_or_null() {
    let server = organisation().await;

    let page = server.query("SELECT Id, Account.Name, LastName, Account.Owner.Name FROM Contact ORDER BY Id").await;

    let first = &rows(&page)[0];
    assert_eq!(first["Account"]["attributes"]["type"], "Account");
    assert_eq!((&first["Account"]["Name"], &first["Account"]["Owner"]["Name"]), (&json!("Acme"), &json!("Ada Admin")));
    assert_eq!(rows(&page)[1]["Account"], Value::Null);
    assert_eq!(page["totalSize"], 3);
}

#[tokio::test]
async fn mistakes_are_refused_in_the_vendors_words() {
    let server = organisation().await;
    let cases = [
        ("SELECT Id FORM Contact", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE SystemModstamp > '2026-01-01T00:00:00Z'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE SystemModstamp > 2026-01-01", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Name = 5", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Description = 'x'", "INVALID_FIELD"),
        ("SELECT Id, id FROM Contact", "INVALID_FIELD"),
        ("SELECT Boss.Name FROM Contact", "INVALID_FIELD"),
        ("SELECT IsPersonAccount FROM Contact", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Id = 'x'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Contact WHERE Id LIKE '003%'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Kontakt", "INVALID_TYPE"),
        ("SELECT Id FROM Contact LIMIT 1 OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE"),
    ];
    for (statement, code) in cases {
        let refused = server.refusal(Method::GET, &query_path("query", statement), None).await;

        assert_eq!(refused, (400, code.to_owned()), "{statement}");
    }
    let (_, body) = server.ask(Method::GET, &query_path("query", "SELECT Id, Foo FROM Contact"), None).await;
    let message = body[0]["message"].as_str().unwrap();
    let pointer = "\nSELECT Id, Foo FROM Contact\n           ^\nERROR at Row:1:Column:12\nNo such column 'Foo' on \
                   entity 'Contact'.";
    assert!(message.starts_with(pointer), "{message}");
    assert_eq!(server.refusal(Method::GET, "/query", None).await, (400, "MALFORMED_QUERY".to_owned()));
}
