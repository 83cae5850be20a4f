//! Every fault as a client sees it, and the control endpoints.

use std::sync::Arc;

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Server, ids_of};
use crate::{
    faults::{Fault, FaultRule},
    gate::GateAt,
    zendesk::{Zendesk, ZendeskRefusal},
};

const FIRST: &str = "/api/v2/incremental/users/cursor?start_time=0";
const EXPORT: &str = "/incremental/users/cursor";

async fn with_users(count: usize) -> (Server, Vec<i64>) {
    let server = Server::start().await;
    let ids =
        (0..count).map(|number| server.create(&json!({"name": format!("U{number}"), "phone": format!("{number}")})));
    let ids = ids.collect();
    (server, ids)
}

fn fail(server: &Server, fault: Fault) {
    server.zendesk.faults().add(FaultRule::once(EXPORT, fault)).unwrap();
}

#[tokio::test]
async fn refusals_come_in_zendesks_shapes_and_once() {
    let (server, _) = with_users(1).await;
    let cases = [
        (Fault::RateLimited { retry_after_seconds: Some(17) }, 429, Some("17"), "text/plain"),
        (Fault::RateLimited { retry_after_seconds: None }, 429, None, "text/plain"),
        (Fault::ServerError, 500, None, "application/json"),
        (Fault::Unavailable { retry_after_seconds: Some(3) }, 503, Some("3"), "text/html"),
        (Fault::Unauthorized, 401, None, "application/json"),
        (Fault::ForbiddenRole, 403, None, "application/json"),
        (Fault::ForbiddenScope, 403, None, "application/json"),
        (Fault::NotFound, 404, None, "application/json"),
        (Fault::Unprocessable, 422, None, "application/json"),
        (Fault::Html, 200, None, "text/html"),
        (Fault::ContentType { value: "text/plain".to_owned() }, 200, None, "text/plain"),
    ];
    for (fault, status, retry_after, content_type) in cases {
        let shown = format!("{fault:?}");
        fail(&server, fault);

        let response = server.send(Method::GET, FIRST, None).await;

        assert_eq!(response.status().as_u16(), status, "{shown}");
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header(header::RETRY_AFTER).as_deref(), retry_after, "{shown}");
        assert!(header(header::CONTENT_TYPE).unwrap().starts_with(content_type), "{shown}");
        server.get(FIRST).await;
    }
}

/// Broken bodies and connections reach the client as such.
#[tokio::test]
async fn broken_bodies_and_connections_reach_client() {
    let (server, _) = with_users(3).await;

    fail(&server, Fault::Truncate);
    let text = server.send(Method::GET, FIRST, None).await.text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).unwrap_err().is_eof());
    fail(&server, Fault::Reset { after_bytes: Some(100) });
    let broken = match server.try_send(Method::GET, FIRST, None).await {
        Ok(response) => response.bytes().await.is_err(),
        Err(_) => true,
    };
    assert!(broken);
    fail(&server, Fault::Reset { after_bytes: None });
    assert!(server.try_send(Method::GET, FIRST, None).await.is_err());
    fail(&server, Fault::Drip { chunk_bytes: 500, every_ms: 1 });
    assert_eq!(server.get(FIRST).await["users"].as_array().unwrap().len(), 3);
    fail(&server, Fault::Delay { ms: 1 });
    server.get(FIRST).await;
    fail(&server, Fault::Oversized { mib: 2 });
    let body = server.send(Method::GET, FIRST, None).await.bytes().await.unwrap();
    assert!(body.len() > 2 * 1024 * 1024);
    assert!(serde_json::from_slice::<Value>(&body).is_ok());
}

#[tokio::test]
async fn gzip_bomb_is_a_valid_file_that_expands() {
    let (server, _) = with_users(1).await;
    fail(&server, Fault::GzipBomb { mib: 3 });

    let response = server.send(Method::GET, FIRST, None).await;

    // The client checks length and checksum at the end of the file.
    let body = response.bytes().await.unwrap();
    assert!(body.len() > 3_100_000 && body.iter().all(|byte| *byte == b' '), "{} bytes", body.len());
}

#[tokio::test]
async fn redirect_and_skewed_date_are_in_the_headers() {
    let (server, _) = with_users(1).await;
    fail(&server, Fault::Redirect { location: "http://192.0.2.1/".to_owned(), status: 301 });
    fail(&server, Fault::DateSkew { seconds: -3_600 });

    let response = server.send(Method::GET, FIRST, None).await;

    assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(response.headers()["location"], "http://192.0.2.1/");
    assert_eq!(response.headers()["date"], "Mon, 21 Sep 2026 13:13:20 GMT");
}

#[tokio::test]
async fn odd_pages_lose_no_user() {
    let (server, ids) = with_users(6).await;
    let first = format!("{FIRST}&per_page=2");

    fail(&server, Fault::EmptyPage { advance: true });
    let (seen, _) = server.export(&first).await;
    assert_eq!(seen, ids);
    fail(&server, Fault::EmptyPage { advance: false });
    let (seen, _) = server.export(&first).await;
    assert_eq!(seen, ids);
    server.zendesk.faults().add(FaultRule { skip: 1, ..FaultRule::once(EXPORT, Fault::RepeatPrevious) }).unwrap();
    let (seen, _) = server.export(&first).await;
    assert_eq!(seen, [ids[0], ids[1], ids[1], ids[2], ids[3], ids[4], ids[5]]);
    fail(&server, Fault::DuplicateRow);
    let (seen, _) = server.export(&first).await;
    assert_eq!(seen, [ids[0], ids[1], ids[0], ids[2], ids[3], ids[4], ids[5]]);
}

#[tokio::test]
async fn empty_pages_move_the_cursor_or_leave_it() {
    let (server, _) = with_users(3).await;
    let page = server.get(&format!("{FIRST}&per_page=1")).await;
    let cursor = page["after_cursor"].as_str().unwrap();
    let next = format!("/api/v2/incremental/users/cursor?cursor={cursor}");

    for (fault, moves) in [
        (Fault::EmptyPage { advance: true }, true),
        (Fault::EmptyPage { advance: false }, false),
        (Fault::StuckCursor, false),
    ] {
        fail(&server, fault);
        let page = server.get(&next).await;
        assert_eq!(page["end_of_stream"], false);
        assert_eq!(page["after_cursor"] != cursor, moves);
    }
}

/// A stale row is an older copy on a later page.
#[tokio::test]
async fn stale_row_is_older_copy_on_later_page() {
    let (server, ids) = with_users(2).await;
    server.zendesk.update_user(ids[0], &json!({"name": "New name"})).unwrap();
    fail(&server, Fault::StaleRow { id: Some(ids[0]) });

    let page = server.get(FIRST).await;

    let names: Vec<&str> =
        page["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["U1", "New name", "U0"]);
}

#[tokio::test]
async fn poisoned_row_is_one_row_among_good_ones() {
    let (server, _) = with_users(2).await;
    let set = [("/users/0/phone".to_owned(), json!({"not": "text"})), ("/users/1/name".to_owned(), Value::Null)];
    fail(&server, Fault::Patch { set: set.into(), remove: vec!["/users/1/updated_at".to_owned()] });

    let page = server.get(FIRST).await;

    assert!(page["users"][0]["phone"].is_object());
    assert!(page["users"][1]["name"].is_null());
    assert!(page["users"][1].get("updated_at").is_none());
}

#[tokio::test]
async fn hook_changes_data_before_its_page() {
    let (server, ids) = with_users(3).await;
    let zendesk: Arc<Zendesk> = Arc::clone(&server.zendesk);
    let first = ids[0];
    server.zendesk.faults().before_page(EXPORT, 2, move || zendesk.delete_user(first).unwrap()).unwrap();

    let (seen, _) = server.export(&format!("{FIRST}&per_page=2")).await;

    assert_eq!(seen, [ids[0], ids[1], ids[2], ids[0]]);
}

#[tokio::test]
async fn gate_holds_a_request_until_it_is_released() {
    let (server, ids) = with_users(1).await;
    let gate = server.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();

    let page = server.get(FIRST);
    let change = async {
        gate.arrived(1).await;
        server.zendesk.update_user(ids[0], &json!({"name": "Too late"})).unwrap();
        gate.release_one();
    };
    let (page, ()) = tokio::join!(page, change);
    assert_eq!(page["users"][0]["name"], "U0");
    drop(gate);
    assert_eq!(server.get(FIRST).await["users"][0]["name"], "Too late");
}

#[tokio::test]
async fn gate_knows_when_the_client_gives_up() {
    let (server, _) = with_users(1).await;
    let gate = server.zendesk.faults().gate(EXPORT, 0, GateAt::Request).unwrap();

    tokio::select! {
        _ = server.try_send(Method::GET, FIRST, None) => panic!("the gate is shut"),
        () = gate.arrived(1) => {}
    }

    gate.deserted().await;
    assert_eq!((gate.count().arrived, gate.count().held), (1, 0));
}

#[tokio::test]
async fn stopping_the_server_frees_held_requests() {
    let (server, _) = with_users(1).await;
    fail(&server, Fault::Hang);
    let gate = server.zendesk.faults().gate(EXPORT, 1, GateAt::Request).unwrap();

    let hung = server.try_send(Method::GET, FIRST, None);
    let held = server.try_send(Method::GET, FIRST, None);
    let stop = async {
        gate.arrived(1).await;
        server.shutdown.cancel();
    };
    let (_, _, ()) = tokio::join!(hung, held, stop);

    server.stop().await;
}

#[tokio::test]
async fn control_endpoint_adds_reports_and_clears_faults() {
    let (server, ids) = with_users(1).await;
    let rules = json!([
        {"path": EXPORT, "times": null, "fault": {"kind": "rate_limited", "retry_after_seconds": 1}},
        {"path": "/users/me", "fault": {"kind": "apply", "calls": [
            {"method": "PUT", "path": format!("/api/v2/users/{}", ids[0]), "body": {"user": {"name": "Applied"}}}]}},
    ]);

    let (status, body) = server.ask(Method::POST, "/__control/faults", Some(&rules)).await;
    assert_eq!((status, body["ids"].as_array().unwrap().len()), (StatusCode::CREATED, 2));
    server.get("/api/v2/users/me").await;
    assert_eq!(server.zendesk.true_user(ids[0]).unwrap().name, "Applied");
    assert_eq!(server.send(Method::GET, FIRST, None).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(server.get("/__control/faults").await["rules"][0]["fired"], 1);
    assert_eq!(server.send(Method::DELETE, "/__control/faults", None).await.status(), StatusCode::NO_CONTENT);
    server.get(FIRST).await;
    let requests = server.get("/__control/requests").await;
    assert_eq!(requests["counts"]["GET /api/v2/incremental/users/cursor"], 2);
    assert_eq!(requests["recent"][1]["query"], "start_time=0");
    let (status, body) =
        server.ask(Method::POST, "/__control/faults", Some(&json!({"path": "", "fault": {"kind": "quake"}}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("quake"));
}

#[tokio::test]
async fn calls_inside_the_process_follow_the_same_rules() {
    let (server, ids) = with_users(2).await;

    assert_eq!(server.zendesk.merge_users(ids[0], 5), Err(ZendeskRefusal::NotFound));
    let (status, body) = server.zendesk.call("GET", "/api/v2/users/search?query=U1", None).unwrap();

    assert_eq!((status, ids_of(&body["users"])), (StatusCode::OK, vec![ids[1]]));
    assert_eq!(server.zendesk.requests().total, 0);
}
