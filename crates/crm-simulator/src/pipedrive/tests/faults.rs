//! Every fault as a client sees it, and the control endpoints.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Server, ids_of};
use crate::faults::{Fault, FaultRule, VendorCall};

const LIST: &str = "/api/v2/persons";

fn fail(server: &Server, fault: Fault) {
    server.pipedrive.faults().add(FaultRule::once(LIST, fault)).unwrap();
}

#[tokio::test]
async fn refusals_come_in_pipedrives_shapes_and_once() {
    let server = Server::start().await;
    let cases = [
        (Fault::RateLimited { retry_after_seconds: Some(17) }, 429, "application/json"),
        (Fault::RateLimited { retry_after_seconds: None }, 429, "application/json"),
        (Fault::BurstLimited { reset_seconds: 7 }, 429, "application/json"),
        (Fault::DailyLimit, 429, "application/json"),
        (Fault::CloudflareBlocked, 403, "text/html"),
        (Fault::AccountClosed, 402, "application/json"),
        (Fault::ServerError, 500, "application/json"),
        (Fault::Unavailable { retry_after_seconds: Some(3) }, 503, "text/html"),
        (Fault::Unauthorized, 401, "application/json"),
        (Fault::ForbiddenRole, 403, "application/json"),
        (Fault::ForbiddenScope, 403, "application/json"),
        (Fault::NotFound, 404, "application/json"),
        (Fault::Unprocessable, 400, "application/json"),
        (Fault::CursorRefused, 400, "application/json"),
        (Fault::Html, 200, "text/html"),
    ];
    for (fault, status, content_type) in cases {
        let shown = format!("{fault:?}");
        fail(&server, fault);

        let response = server.send(Method::GET, LIST, None).await;

        assert_eq!(response.status().as_u16(), status, "{shown}");
        assert!(response.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with(content_type), "{shown}");
        server.get(LIST).await;
    }
}

#[tokio::test]
async fn burst_and_spent_day_differ_in_their_headers() {
    let server = Server::start().await;
    for (fault, left, daily_left, reset) in
        [(Fault::BurstLimited { reset_seconds: 7 }, "0", "30000", "7"), (Fault::DailyLimit, "20", "0", "35200")]
    {
        fail(&server, fault);

        let response = server.send(Method::GET, LIST, None).await;

        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-ratelimit-remaining"), left);
        assert_eq!(header("x-daily-ratelimit-token-remaining"), daily_left);
        assert_eq!(header("x-ratelimit-reset"), reset);
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}

#[tokio::test]
async fn odd_pages_lose_no_person() {
    let server = Server::start().await;
    let ids = server.create_many(6);
    for order in ["id", "update_time"] {
        let first = format!("{LIST}?limit=2&sort_by={order}");
        for fault in [
            Fault::EmptyPage { advance: true },
            Fault::EmptyPage { advance: false },
            Fault::StuckCursor,
            Fault::RepeatPrevious,
            Fault::DuplicateRow,
        ] {
            for skip in [0, 1] {
                let shown = format!("{order} {fault:?} on page {skip}");
                let rule = FaultRule { skip, ..FaultRule::once(LIST, fault.clone()) };
                server.pipedrive.faults().add(rule).unwrap();

                let mut seen = server.list(&first).await;

                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen, ids, "{shown}");
                server.pipedrive.faults().clear();
            }
        }
    }
}

/// A stuck cursor repeats the page that it was asked for.
#[tokio::test]
async fn stuck_cursor_repeats_page_it_was_asked_for() {
    let server = Server::start().await;
    server.create_many(3);
    fail(&server, Fault::StuckCursor);

    assert_eq!(server.list(&format!("{LIST}?limit=2")).await, [1, 2, 1, 2, 3]);
}

/// Stale rows, empty numbers and patches are on the page.
#[tokio::test]
async fn stale_rows_empty_numbers_and_patches_show() {
    let server = Server::start().await;
    let id = server.create("Ann", "1");
    server.pipedrive.update_person(id, &json!({"name": "Ann Doe"})).unwrap();

    fail(&server, Fault::StaleRow { id: None });
    let page = server.get(LIST).await;
    assert_eq!((&page["data"][0]["name"], &page["data"][1]["name"]), (&json!("Ann Doe"), &json!("Ann")));
    fail(&server, Fault::EmptyPhones);
    let phones = &server.get(LIST).await["data"][0]["phones"];
    assert_eq!((&phones[0]["value"], &phones[1]["value"]), (&json!("1"), &json!("")));
    let set = [("/data/0/phones".to_owned(), Value::Null)].into();
    fail(&server, Fault::Patch { set, remove: vec!["/data/0/name".to_owned()] });
    let page = server.get(LIST).await;
    assert_eq!((page["data"][0].get("name"), &page["data"][0]["phones"]), (None, &Value::Null));
}

#[tokio::test]
async fn vendor_calls_happen_before_the_answer() {
    let server = Server::start().await;
    let ids = server.create_many(2);
    let call = VendorCall { method: "DELETE".to_owned(), path: format!("{LIST}/{}", ids[0]), body: None };
    fail(&server, Fault::Apply { calls: vec![call] });

    assert_eq!(ids_of(&server.get(LIST).await["data"]), [ids[1]]);
}

#[tokio::test]
async fn control_endpoints_steer_and_tell_the_truth() {
    let server = Server::start().await;
    let id = server.create("Ann", "1");
    server.pipedrive.hide_from_token(id).unwrap();
    let rule = json!({"path": LIST, "fault": {"kind": "burst_limited", "reset_seconds": 2}});

    let (status, added) = server.ask(Method::POST, "/__control/faults", Some(&rule)).await;

    assert_eq!((status, added["ids"].as_array().unwrap().len()), (StatusCode::CREATED, 1));
    assert_eq!(server.ask(Method::GET, LIST, None).await.0, StatusCode::TOO_MANY_REQUESTS);
    let oracle = server.get("/__control/oracle").await;
    assert_eq!(oracle["persons"][0]["is_hidden"], true);
    assert_eq!(oracle["persons"][0]["phones"], json!(["1"]));
}
