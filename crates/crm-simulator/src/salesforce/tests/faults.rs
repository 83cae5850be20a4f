//! Refusals and broken answers as a client sees them, and the control endpoints.

use std::sync::Arc;

use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{DATA, Server, column, query_path, rows};
use crate::{
    faults::{Fault, FaultRule, VendorCall},
    gate::GateAt,
};

const ALL: &str = "SELECT Id, Name FROM Contact ORDER BY SystemModstamp, Id";

fn fail(server: &Server, path: &str, fault: Fault) {
    server.salesforce.faults().add(FaultRule::once(path, fault)).unwrap();
}

#[tokio::test]
async fn refusals_come_in_salesforces_shapes_and_once() {
    let server = Server::start().await;
    let limited = Fault::RateLimited { retry_after_seconds: None };
    let concurrent = "ConcurrentRequests (Concurrent API Requests) Limit exceeded.";
    let cases = [
        (limited, 403, "REQUEST_LIMIT_EXCEEDED", concurrent),
        (Fault::DailyLimit, 403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
        (Fault::ServerError, 500, "UNKNOWN_EXCEPTION", "An unexpected error occurred."),
        (Fault::Unauthorized, 401, "INVALID_SESSION_ID", "Session expired or invalid"),
        (Fault::ForbiddenRole, 403, "INSUFFICIENT_ACCESS", "insufficient access rights"),
        (Fault::ForbiddenScope, 403, "INVALID_SESSION_ID", "This session is not valid for use with the REST API"),
        (Fault::ApiDisabled, 403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization."),
        (Fault::NotFound, 404, "NOT_FOUND", "The requested resource does not exist"),
        (Fault::Unprocessable, 400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", "The record breaks"),
        (Fault::DuplicatesDetected, 400, "DUPLICATES_DETECTED", "Use one of these records?"),
        (Fault::QueryTimeout, 400, "QUERY_TIMEOUT", "Your query request was running for too long."),
        (Fault::LocatorGone, 400, "INVALID_QUERY_LOCATOR", "invalid query locator"),
        (Fault::ReplicationTooOld, 400, "INVALID_REPLICATION_DATE", "startDate before"),
        (Fault::TooManyIds, 400, "EXCEEDED_ID_LIMIT", "exceeded id limit"),
    ];
    for (fault, status, code, message) in cases {
        let shown = format!("{fault:?}");
        fail(&server, "/query", fault);

        let (answered, body) = server.ask(Method::GET, &query_path("query", ALL), None).await;

        assert_eq!((answered, &body[0]["errorCode"]), (status, &json!(code)), "{shown}");
        assert!(body[0]["message"].as_str().unwrap().starts_with(message), "{shown}");
        server.query(ALL).await;
    }
}

#[tokio::test]
async fn maintenance_is_a_page_of_html() {
    let server = Server::start().await;
    fail(&server, "/query", Fault::Unavailable { retry_after_seconds: Some(7) });

    let response = server.send(Method::GET, &query_path("query", ALL), None).await;

    assert_eq!(response.status(), 503);
    assert!(response.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    assert_eq!(response.headers()[header::RETRY_AFTER], "7");
}

#[tokio::test]
async fn session_ends_between_pages() {
    let server = Server::start_with(|config| config.page_rows_max = 1).await;
    server.contacts(3);
    fail(&server, "/query/", Fault::Unauthorized);
    let first = server.query(ALL).await;
    let next = first["nextRecordsUrl"].as_str().unwrap();

    assert_eq!(server.refusal(Method::GET, next, None).await, (401, "INVALID_SESSION_ID".to_owned()));
    assert_eq!(server.read(next).await.len(), 2);
}

#[tokio::test]
async fn envelope_lies_where_it_is_patched() {
    let server = Server::start().await;
    server.contacts(1);
    let set = [("/totalSize".to_owned(), json!(99)), ("/records/0/Name".to_owned(), json!(7))].into();
    fail(&server, "/query", Fault::Patch { set, remove: vec!["/records/0/Id".to_owned()] });

    let page = server.query(ALL).await;

    assert_eq!((&page["totalSize"], &page["records"][0]["Name"]), (&json!(99), &json!(7)));
    assert_eq!(page["records"][0].get("Id"), None);
}

#[tokio::test]
async fn broken_bodies_and_skewed_dates_reach_the_client() {
    let server = Server::start().await;
    server.contacts(2);
    let path = query_path("query", ALL);

    fail(&server, "/query", Fault::Truncate);
    let text = server.send(Method::GET, &path, None).await.text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).unwrap_err().is_eof());
    fail(&server, "/query", Fault::Reset { after_bytes: None });
    assert!(server.try_send(Method::GET, &path, None).await.is_err());
    fail(&server, "/query", Fault::DateSkew { seconds: 3_600 });
    let response = server.send(Method::GET, &path, None).await;
    assert_eq!(response.headers()["date"], "Mon, 21 Sep 2026 15:13:20 GMT");
}

#[tokio::test]
async fn data_changes_between_pages_and_behind_gates() {
    let server = Server::start_with(|config| config.page_rows_max = 1).await;
    let ids = server.contacts(2);
    let call = |method: &str, path: String, body| VendorCall { method: method.to_owned(), path, body };
    let calls = vec![
        call("DELETE", format!("{DATA}/sobjects/Contact/{}", ids[1]), None),
        call("POST", format!("{DATA}/sobjects/Contact"), Some(json!({"LastName": "Late"}))),
    ];
    fail(&server, "/query/", Fault::Apply { calls });
    let salesforce = Arc::clone(&server.salesforce);
    let merged = ids.clone();
    server.salesforce.faults().before_page("/queryAll?", 1, move || salesforce.undelete(&merged[1]).unwrap()).unwrap();

    let seen = server.read(&query_path("query", ALL)).await;
    assert_eq!(column(&seen, "Id"), ids, "a result is of the moment it was asked");
    assert_eq!(server.query_all(ALL).await["totalSize"], 3);

    let gate = server.salesforce.faults().gate("/limits", 0, GateAt::Request).unwrap();
    let (limits, ()) = tokio::join!(server.get("/limits"), async {
        gate.arrived(1).await;
        gate.release_one();
    });
    assert!(limits["DailyApiRequests"]["Max"].is_number());
}

#[tokio::test]
async fn control_tells_the_truth_and_takes_rules() {
    let server = Server::start().await;
    let ids = server.contacts(3);
    server.salesforce.merge("Contact", &ids[0], &[&ids[1]]).unwrap();
    server.salesforce.hide(&ids[0]).unwrap();
    let url = |part: &str| format!("{}/__control/{part}", server.base);

    let oracle = server.client.get(url("oracle")).send().await.unwrap().text().await.unwrap();
    let oracle: Value = serde_json::from_str(&oracle).unwrap();
    assert_eq!(oracle["contacts"][1]["master_record_id"], json!(ids[0]));
    assert_eq!(oracle["contacts"][0]["fields"]["LastName"], "C000");
    let rule = json!({"path": "/query", "fault": {"kind": "short_page", "rows": 1}});
    assert_eq!(server.client.post(url("faults")).json(&rule).send().await.unwrap().status(), 201);
    let page = server.query(ALL).await;
    assert_eq!((rows(&page).len(), &page["done"]), (1, &json!(false)));
    let log = server.client.get(url("requests")).send().await.unwrap().text().await.unwrap();
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log["total"], 1);
}
