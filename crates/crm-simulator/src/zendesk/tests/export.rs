//! The incremental exports: nothing is lost, whatever changes between pages.

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{START, Server, ids_of};

const FIRST: &str = "/api/v2/incremental/users/cursor.json?start_time=0";

/// An export gives every user once, in the order of change.
#[tokio::test]
async fn export_gives_users_once_in_change_order() {
    let server = Server::start().await;
    server.zendesk.generate_people(2_500, 7).unwrap();

    let (ids, _) = server.export(FIRST).await;

    let mut users = server.zendesk.oracle();
    users.sort_by(|a, b| (&a.updated_at, a.id).cmp(&(&b.updated_at, b.id)));
    assert_eq!(ids, users.iter().map(|user| user.id).collect::<Vec<_>>());
    assert_eq!(server.zendesk.requests().count_of("incremental"), 3);
}

/// More users in one second than fit a page all come by cursor.
#[tokio::test]
async fn cursor_passes_second_with_more_than_page() {
    let server = Server::start().await;
    let mut made = server.zendesk.generate_in_one_second(2_345, 7, START - 1_000).unwrap();

    let (mut ids, _) = server.export(FIRST).await;

    made.sort_unstable();
    ids.sort_unstable();
    assert_eq!(ids, made);
}

/// More users in one second than fit a page make an export by time loop.
#[tokio::test]
async fn by_time_second_with_more_than_page_loops() {
    let server = Server::start().await;
    server.zendesk.generate_in_one_second(1_500, 7, START - 1_000).unwrap();

    let first = server.get("/api/v2/incremental/users.json?start_time=0").await;
    let second = server.get(first["next_page"].as_str().unwrap()).await;

    assert_eq!(first["count"], 1_000);
    assert_eq!((&first["end_time"], &first["end_of_stream"]), (&json!(START - 1_000), &json!(false)));
    assert_eq!(ids_of(&first["users"]), ids_of(&second["users"]));
    assert_eq!(first["next_page"], second["next_page"]);
}

/// An export by time always has a next page, and repeats the last second.
#[tokio::test]
async fn export_by_time_always_repeats_last_second() {
    let server = Server::start().await;
    server.create(&json!({"name": "Ann"}));

    let page = server.get("/api/v2/incremental/users?start_time=0").await;
    let again = server.get(page["next_page"].as_str().unwrap()).await;

    assert_eq!(page["end_of_stream"], true);
    assert_eq!(ids_of(&again["users"]), ids_of(&page["users"]));
}

/// Resuming reads the last user again, and then what has changed.
#[tokio::test]
async fn resuming_rereads_last_user_then_what_changed() {
    let server = Server::start().await;
    let ann = server.create(&json!({"name": "Ann"}));
    let bob = server.create(&json!({"name": "Bob"}));
    let (_, cursor) = server.export(FIRST).await;
    let resume = format!("/api/v2/incremental/users/cursor?cursor={cursor}");

    let (idle, same) = server.export(&resume).await;
    assert_eq!((idle, same), (vec![bob], cursor));
    server.zendesk.update_user(ann, &json!({"name": "Ann Doe"})).unwrap();
    let eve = server.create(&json!({"name": "Eve"}));
    server.zendesk.delete_user(bob).unwrap();
    let (ids, _) = server.export(&resume).await;

    assert_eq!(ids, [ann, eve, bob]);
}

/// A user that is changed during a run moves to its end.
#[tokio::test]
async fn user_changed_during_run_moves_to_end() {
    let server = Server::start().await;
    let ids: Vec<i64> = (0..4).map(|number| server.create(&json!({"name": format!("U{number}")}))).collect();

    let first = server.get(&format!("{FIRST}&per_page=2")).await;
    server.zendesk.update_user(ids[0], &json!({"notes": "again"})).unwrap();
    server.zendesk.update_user(ids[2], &json!({"notes": "later"})).unwrap();
    let (rest, _) = server.export(first["after_url"].as_str().unwrap()).await;

    assert_eq!(ids_of(&first["users"]), ids[..2]);
    assert_eq!(rest, [ids[3], ids[0], ids[2]]);
}

#[tokio::test]
async fn identities_come_along_when_asked_for() {
    let server = Server::start().await;
    let ann = server.create(&json!({"name": "Ann", "phone": "+13105550100"}));
    server.zendesk.add_identity(ann, &json!({"type": "phone_number", "value": "+13105550101"})).unwrap();

    let with = server.get(&format!("{FIRST}&include=identities")).await;
    let without = server.get(FIRST).await;

    let values: Vec<&str> =
        with["identities"].as_array().unwrap().iter().map(|item| item["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["+13105550100", "+13105550101"]);
    assert_eq!(with["identities"][0]["user_id"], ann);
    assert!(without.get("identities").is_none());
    assert!(with["after_url"].as_str().unwrap().contains("include=identities"));
}

/// The start must be a minute old, and cursors real.
#[tokio::test]
async fn start_must_be_minute_old_and_cursors_real() {
    let server = Server::start().await;
    for (query, error) in [
        (format!("start_time={}", START - 59), "StartTimeTooRecent"),
        ("start_time=soon".to_owned(), "InvalidValue"),
        (String::new(), "InvalidValue"),
        ("cursor=bm9uc2Vuc2U=".to_owned(), "InvalidPaginationParameter"),
    ] {
        let path = format!("/api/v2/incremental/users/cursor?{query}");
        let (status, body) = server.ask(Method::GET, &path, None).await;
        assert_eq!((status, &body["error"]), (StatusCode::BAD_REQUEST, &json!(error)), "{query}");
    }
    server.get(&format!("/api/v2/incremental/users/cursor?start_time={}", START - 60)).await;
}

/// With a lag, the newest changes are not told yet.
#[tokio::test]
async fn lag_keeps_newest_changes_back() {
    let server = Server::start_with(|config| config.freshness_lag_seconds = 60).await;
    let ann = server.create(&json!({"name": "Ann"}));

    let (before, cursor) = server.export(FIRST).await;
    server.advance(60);
    let (after, _) = server.export(&format!("/api/v2/incremental/users/cursor?cursor={cursor}")).await;

    assert!(before.is_empty());
    assert_eq!(after, [ann]);
}

/// Purged users stay in the feed, or leave it.
#[tokio::test]
async fn purged_users_stay_in_feed_or_leave() {
    for stays in [true, false] {
        let server = Server::start_with(|config| config.quirks.exports_purged_users = stays).await;
        let ann = server.create(&json!({"name": "Ann", "phone": "1"}));
        server.zendesk.delete_user(ann).unwrap();
        server.zendesk.purge_user(ann).unwrap();

        let page = server.get(FIRST).await;

        assert_eq!(page["users"].as_array().unwrap().len(), usize::from(stays));
        if stays {
            assert_eq!((&page["users"][0]["phone"], &page["users"][0]["active"]), (&json!(null), &json!(false)));
        }
    }
}
