//! Results with more than one page.

use reqwest::Method;
use serde_json::json;

use super::{Server, column, query_path, rows};
use crate::faults::{Fault, FaultRule};

const ALL: &str = "SELECT Id, Name, Account.Name FROM Contact ORDER BY SystemModstamp, Id";

/// Pages show the result as it was at the moment when it was asked for.
#[tokio::test]
async fn pages_show_result_as_of_asking() {
    let server = Server::start_with(|config| config.page_rows_max = 2).await;
    let account = server.salesforce.create("Account", &json!({"Name": "Acme"})).unwrap();
    let ids = server.contacts(5);
    server.salesforce.update("Contact", &ids[4], &json!({"AccountId": account})).unwrap();

    let first = server.query(ALL).await;
    assert_eq!((&first["totalSize"], &first["done"]), (&json!(5), &json!(false)));
    server.salesforce.update("Contact", &ids[3], &json!({"LastName": "New"})).unwrap();
    server.salesforce.delete("Contact", &ids[4]).unwrap();
    server.salesforce.update("Account", &account, &json!({"Name": "Other"})).unwrap();
    server.contact("Late");
    let rest = server.read(first["nextRecordsUrl"].as_str().unwrap()).await;

    assert_eq!(column(&rest, "Id"), [&ids[2], &ids[3], &ids[4]]);
    assert_eq!(column(&rest, "Name"), ["C002", "C003", "C004"]);
    assert_eq!(rest[2]["Account"]["Name"], "Acme");
}

#[tokio::test]
async fn locator_serves_under_both_paths_for_two_days() {
    let server = Server::start_with(|config| config.page_rows_max = 2).await;
    let ids = server.contacts(5);
    server.salesforce.delete("Contact", &ids[0]).unwrap();

    let first = server.query_all("SELECT Id, IsDeleted FROM Contact ORDER BY Id").await;
    assert_eq!(rows(&first)[0]["IsDeleted"], true);
    let next = first["nextRecordsUrl"].as_str().unwrap();
    assert!(next.starts_with("/services/data/v67.0/queryAll/01g") && next.ends_with("-2"), "{next}");
    let under_query = server.get(&next.replace("queryAll", "query")).await;
    let again = server.get(next).await;

    assert_eq!(under_query["records"], again["records"]);
    server.advance(2 * 24 * 3_600_000 - 1);
    server.get(next).await;
    server.advance(1);
    let gone = (400, "INVALID_QUERY_LOCATOR".to_owned());
    assert_eq!(server.refusal(Method::GET, next, None).await, gone);
    for locator in ["01gD0000002HU6KIAW-2000", "x", "01gD0000002HU6KIAW"] {
        assert_eq!(server.refusal(Method::GET, &format!("/query/{locator}"), None).await, gone);
    }
}

/// The batch size is a hint, from 200 to 2,000.
#[tokio::test]
async fn batch_size_hint_counts_from_200_to_2000() {
    let server = Server::start().await;
    server.salesforce.generate_people(2_300, 0, 1).unwrap();
    let path = query_path("query", "SELECT Id FROM Contact");
    for (hint, expected) in [("batchSize=200", 200), ("batchSize=1", 200), ("batchSize=9999", 2_000), ("x", 2_000)] {
        let request = server.client.get(format!("{}{}{path}", server.base, super::DATA));
        let request = request.bearer_auth(super::DEFAULT_ACCESS_TOKEN).header("Sforce-Query-Options", hint);
        let page: serde_json::Value =
            serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();

        assert_eq!(rows(&page).len(), expected, "{hint}");
    }
    assert_eq!(server.read(&path).await.len(), 2_300);
}

#[tokio::test]
async fn expired_locators_are_unknown() {
    let server = Server::start_with(|config| config.page_rows_max = 1).await;
    server.contacts(2);
    let first = server.query(ALL).await;

    server.salesforce.expire_locators();

    let refused = server.refusal(Method::GET, first["nextRecordsUrl"].as_str().unwrap(), None).await;
    assert_eq!(refused, (400, "INVALID_QUERY_LOCATOR".to_owned()));
}

#[tokio::test]
async fn odd_pages_lose_no_row() {
    let server = Server::start_with(|config| config.page_rows_max = 2).await;
    let ids = server.contacts(5);
    let path = query_path("query", ALL);
    let fail = |part: &str, fault| server.salesforce.faults().add(FaultRule::once(part, fault)).unwrap();

    fail("/query", Fault::ShortPage { rows: 1 });
    assert_eq!(column(&server.read(&path).await, "Id"), ids);
    fail("/query", Fault::EmptyPage { advance: false });
    assert_eq!(column(&server.read(&path).await, "Id"), ids);
    fail("/query/", Fault::StuckCursor);
    let seen = server.read(&path).await;
    assert_eq!(column(&seen, "Id"), [&ids[0], &ids[1], &ids[2], &ids[3], &ids[2], &ids[3], &ids[4]]);
    fail("/query/", Fault::RepeatPrevious);
    let seen = server.read(&path).await;
    assert_eq!(column(&seen, "Id"), [&ids[0], &ids[1], &ids[1], &ids[2], &ids[3], &ids[4]]);
    fail("/query", Fault::DuplicateRow);
    assert_eq!(column(&server.read(&path).await, "Id")[..3], [&ids[0], &ids[1], &ids[0]]);
}

/// A stale row is the record as it was before its newest change.
#[tokio::test]
async fn stale_row_shows_record_before_newest_change() {
    let server = Server::start().await;
    let ids = server.contacts(2);
    server.advance(1);
    server.salesforce.update("Contact", &ids[0], &json!({"LastName": "New"})).unwrap();
    server.salesforce.faults().add(FaultRule::once("/query", Fault::StaleRow { id: None })).unwrap();

    let seen = server.read(&query_path("query", ALL)).await;

    assert_eq!(column(&seen, "Name"), ["C001", "New", "C000"]);
}

/// A late row is seen as it was until its time has come.
#[tokio::test]
async fn late_row_shows_old_state_until_its_time() {
    let server = Server::start().await;
    let ids = server.contacts(2);
    server.advance(1);
    server.salesforce.update("Contact", &ids[0], &json!({"LastName": "New"})).unwrap();
    let made = server.contact("Made");
    let path = query_path("query", ALL);
    for id in [&ids[0], &made] {
        let fault = Fault::LateRow { id: id.clone(), queries: 2 };
        server.salesforce.faults().add(FaultRule::once("/query", fault)).unwrap();
    }

    for _ in 0..2 {
        assert_eq!(column(&server.read(&path).await, "Name"), ["C000", "C001"]);
    }
    assert_eq!(column(&server.read(&path).await, "Name"), ["C001", "New", "Made"]);

    server.salesforce.hide(&made).unwrap();
    assert_eq!(server.read(&path).await.len(), 2);
    server.salesforce.update("Contact", &made, &json!({"LastName": "Again"})).unwrap();
    assert_eq!(server.read(&path).await.len(), 2);
    server.salesforce.reveal(&made).unwrap();
    assert_eq!(server.read(&path).await.len(), 3);
}

/// Changes become visible after the lag, with their old stamp.
#[tokio::test]
async fn changes_show_after_lag_with_old_stamp() {
    let server = Server::start_with(|config| config.visibility_lag_seconds = 3).await;
    let id = server.contact("Old");
    let path = query_path("query", ALL);
    assert_eq!(server.read(&path).await.len(), 0);
    server.advance(3_000);
    assert_eq!(column(&server.read(&path).await, "Name"), ["Old"]);

    server.salesforce.update("Contact", &id, &json!({"LastName": "New"})).unwrap();
    server.advance(2_999);
    assert_eq!(column(&server.read(&path).await, "Name"), ["Old"]);
    server.advance(1);
    assert_eq!(column(&server.read(&path).await, "Name"), ["New"]);
    let stamp = server.query("SELECT SystemModstamp FROM Contact").await;
    assert_eq!(rows(&stamp)[0]["SystemModstamp"], "2026-09-21T14:13:23.000+0000");
}
