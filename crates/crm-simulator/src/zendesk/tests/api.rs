//! Credentials, users, identities, deletion, merge, lists and search, as Zendesk documents them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Server, ids_of};
use crate::zendesk::{DEFAULT_API_TOKEN, RateLimits};

/// Wrong credentials are refused; without any, `/users/me` answers with a user whose id is null.
#[tokio::test]
async fn wrong_credentials_are_refused_anonymous_me_is_null() {
    let server = Server::start().await;
    let url = |path: &str| format!("{}{path}", server.base);

    let nobody = server.client.get(url("/api/v2/users/me.json")).send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::OK);
    assert_eq!(nobody.json::<Value>().await.unwrap()["user"]["id"], Value::Null);
    let refused = server.client.get(url("/api/v2/users")).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.json::<Value>().await.unwrap(), json!({"error": "Couldn't authenticate you"}));
    let wrong = server.client.get(url("/api/v2/users/me")).bearer_auth("guess").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.json::<Value>().await.unwrap()["error"], "invalid_token");
    let wrong = server.client.get(url("/api/v2/users/me")).basic_auth("admin@example.com", Some("secret"));
    assert_eq!(wrong.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let right =
        server.client.get(url("/api/v2/users/me")).basic_auth("admin@example.com/token", Some(DEFAULT_API_TOKEN));
    assert_eq!(right.send().await.unwrap().json::<Value>().await.unwrap()["user"]["role"], "admin");
}

#[tokio::test]
async fn created_user_has_every_field_and_absolute_urls() {
    let server = Server::start().await;
    let user = json!({"user": {"name": "Bryce Love", "phone": "(310)-867-5309", "email": "bryce@example.com"}});

    let response = server.send(Method::POST, "/api/v2/users.json", Some(&user)).await;

    assert_eq!(response.status(), StatusCode::CREATED);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert!(response.headers().contains_key("x-rate-limit"));
    assert_eq!(response.headers()["date"], "Mon, 21 Sep 2026 14:13:20 GMT");
    let created = response.json::<Value>().await.unwrap()["user"].take();
    assert_eq!(created["url"], location);
    assert!(location.starts_with(&server.base));
    assert_eq!(created["created_at"], "2026-09-21T14:13:20Z");
    assert_eq!(created["shared_phone_number"], false);
    for field in [
        "active",
        "role",
        "suspended",
        "verified",
        "organization_id",
        "external_id",
        "alias",
        "details",
        "notes",
        "tags",
        "user_fields",
        "locale",
        "locale_id",
        "time_zone",
        "iana_time_zone",
        "photo",
        "custom_role_id",
        "role_type",
        "default_group_id",
        "last_login_at",
        "moderator",
        "ticket_restriction",
        "only_private_comments",
        "shared",
        "shared_agent",
        "chat_only",
        "restricted_agent",
        "report_csv",
        "two_factor_auth_enabled",
        "signature",
    ] {
        assert!(created.get(field).is_some(), "{field} is missing");
    }
    assert_eq!(server.get(&location).await["user"], created);
}

#[tokio::test]
async fn bad_bodies_are_refused_in_zendesks_shape() {
    let server = Server::start().await;
    server.create(&json!({"name": "Ann", "email": "ann@example.com"}));
    for (user, field, code) in [
        (json!({"phone": "1"}), "name", "BlankValue"),
        (json!({"name": "  "}), "name", "BlankValue"),
        (json!({"name": "Bob", "email": "ANN@example.com"}), "email", "DuplicateValue"),
        (json!({"name": "Bob", "role": "king"}), "role", "InvalidValue"),
    ] {
        let (status, body) = server.ask(Method::POST, "/api/v2/users", Some(&json!({"user": user}))).await;

        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(body["error"], "RecordInvalid");
        assert_eq!(body["details"][field][0]["error"], code, "{body}");
    }
    let (status, _) = server.ask(Method::POST, "/api/v2/users", Some(&json!({"name": "Bob"}))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, body) = server.ask(Method::GET, "/api/v2/users/7", None).await;
    assert_eq!((status, body), (StatusCode::NOT_FOUND, json!({"error": "RecordNotFound", "description": "Not found"})));
}

/// A `create_or_update` finds users by address, and not by phone.
#[tokio::test]
async fn create_or_update_finds_by_address_only() {
    let server = Server::start().await;
    let ann = server.create(&json!({"name": "Ann", "email": "ann@example.com", "phone": "1"}));
    let put = async |user: Value| {
        server.ask(Method::POST, "/api/v2/users/create_or_update", Some(&json!({"user": user}))).await
    };

    let (status, body) = put(json!({"name": "Ann D", "email": "Ann@example.com"})).await;
    assert_eq!((status, body["user"]["id"].as_i64()), (StatusCode::OK, Some(ann)));
    assert_eq!(body["user"]["name"], "Ann D");
    let (status, body) = put(json!({"name": "Bob", "phone": "1"})).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(body["user"]["shared_phone_number"], true);
}

#[tokio::test]
async fn identities_are_listed_added_made_primary_and_deleted() {
    let server = Server::start().await;
    let ann = server.create(&json!({"name": "Ann", "email": "ann@example.com", "phone": "+13105550100"}));
    let path = format!("/api/v2/users/{ann}/identities");

    let phones = server.get(&format!("{path}?type[]=phone_number")).await;
    assert_eq!(phones["identities"][0]["value"], "+13105550100");
    assert_eq!(phones["identities"].as_array().unwrap().len(), 1);
    let second = json!({"identity": {"type": "email", "value": "second@example.com"}});
    let (status, body) = server.ask(Method::POST, &path, Some(&second)).await;
    assert_eq!(status, StatusCode::CREATED);
    let id = body["identity"]["id"].as_i64().unwrap();
    let (_, body) = server.ask(Method::PUT, &format!("{path}/{id}/make_primary.json"), None).await;
    assert_eq!(body["identities"].as_array().unwrap().len(), 3);
    assert_eq!(server.get(&format!("/api/v2/users/{ann}")).await["user"]["email"], "second@example.com");
    let (status, _) = server.ask(Method::POST, &path, Some(&second)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let response = server.send(Method::DELETE, &format!("{path}/{id}"), None).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.get(&format!("/api/v2/users/{ann}")).await["user"]["email"], "ann@example.com");
}

#[tokio::test]
async fn deleted_user_is_listed_restored_and_purged() {
    let server = Server::start().await;
    let ann = server.create(&json!({"name": "Ann", "phone": "1", "organization_id": 5}));
    let user = format!("/api/v2/users/{ann}.json");

    let (status, body) = server.ask(Method::DELETE, &user, None).await;
    assert_eq!((status, &body["user"]["active"]), (StatusCode::OK, &json!(false)));
    assert_eq!(server.get(&user).await["user"]["active"], false);
    assert_eq!(ids_of(&server.get("/api/v2/deleted_users?page[size]=100").await["deleted_users"]), [ann]);
    assert_eq!(server.get("/api/v2/deleted_users/count").await["count"]["value"], 1);
    assert!(ids_of(&server.get("/api/v2/users").await["users"]).is_empty());
    let (_, body) = server.ask(Method::PUT, &user, Some(&json!({"user": {"active": true}}))).await;
    assert_eq!(body["user"]["active"], true);
    server.ask(Method::DELETE, &user, None).await;
    let (status, body) = server.ask(Method::DELETE, &format!("/api/v2/deleted_users/{ann}"), None).await;
    assert_eq!((status, &body["deleted_user"]["name"]), (StatusCode::OK, &json!("Permanently Deleted User")));
    assert_eq!(server.ask(Method::GET, &user, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(server.ask(Method::GET, &format!("/api/v2/deleted_users/{ann}"), None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn merge_keeps_the_user_in_the_body() {
    let server = Server::start().await;
    let loser = server.create(&json!({"name": "Ann", "email": "ann@example.com"}));
    let winner = server.create(&json!({"name": "Ann Doe", "email": "doe@example.com"}));

    let path = format!("/api/v2/users/{loser}/merge.json");
    let (status, body) = server.ask(Method::PUT, &path, Some(&json!({"user": {"id": winner}}))).await;

    assert_eq!((status, body["user"]["id"].as_i64()), (StatusCode::OK, Some(winner)));
    assert_eq!(server.get(&format!("/api/v2/users/{loser}")).await["user"]["active"], false);
    let oracle = server.get("/__control/oracle").await;
    assert_eq!(oracle["users"][0]["merged_into"], winner);
    assert_eq!(oracle["users"][1]["identities"].as_array().unwrap().len(), 2);
}

/// Users are paged by cursor both ways, and by number up to the hundredth page.
#[tokio::test]
async fn users_page_both_ways_or_to_hundredth_page() {
    let server = Server::start().await;
    let ids: Vec<i64> = (0..5).map(|number| server.create(&json!({"name": format!("U{number}")}))).collect();
    server.create(&json!({"name": "Agent", "role": "agent"}));

    let first = server.get("/api/v2/users?page[size]=2&role=end-user").await;
    assert_eq!(ids_of(&first["users"]), ids[..2]);
    assert_eq!(first["meta"]["has_more"], true);
    let second = server.get(first["links"]["next"].as_str().unwrap()).await;
    assert_eq!(ids_of(&second["users"]), ids[2..4]);
    let third = server.get(second["links"]["next"].as_str().unwrap()).await;
    assert_eq!(ids_of(&third["users"]), ids[4..]);
    assert_eq!((&third["meta"]["has_more"], &third["links"]["next"]), (&json!(false), &Value::Null));
    let back = server.get(third["links"]["prev"].as_str().unwrap()).await;
    assert_eq!(ids_of(&back["users"]), ids[2..4]);
    let numbered = server.get("/api/v2/users.json?per_page=4&page=2").await;
    assert_eq!((ids_of(&numbered["users"]).len(), &numbered["count"]), (2, &json!(6)));
    assert_eq!(server.ask(Method::GET, "/api/v2/users?page=101", None).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(server.get("/api/v2/users/count?role[]=agent").await["count"]["value"], 1);
    let many = server.get(&format!("/api/v2/users/show_many?ids={},{},9", ids[3], ids[1])).await;
    assert_eq!(ids_of(&many["users"]), [ids[3], ids[1]]);
}

/// A search finds by the end of a number, among the living.
#[tokio::test]
async fn search_finds_living_by_number_ending() {
    let server = Server::start().await;
    let ann = server.create(&json!({"name": "Ann Doe", "phone": "+1 (513) 555-7611", "email": "ann@example.com"}));
    let gone = server.create(&json!({"name": "Gone", "phone": "513.555.7611"}));
    server.create(&json!({"name": "Agent", "phone": "5135557611", "role": "agent"}));
    server.zendesk.delete_user(gone).unwrap();

    let found = server.get("/api/v2/search.json?query=role:end-user%20phone:*5135557611").await;
    assert_eq!(ids_of(&found["results"]), [ann]);
    assert_eq!((&found["results"][0]["result_type"], &found["count"]), (&json!("user"), &json!(1)));
    assert_eq!(ids_of(&server.get("/api/v2/users/search?query=email:ann@example.com").await["users"]), [ann]);
    assert_eq!(ids_of(&server.get("/api/v2/users/search?query=name:%22Ann%20Doe%22").await["users"]), [ann]);
    assert_eq!(server.get("/api/v2/users/search?query=phone:*7611").await["count"], 2);
    let (status, _) = server.ask(Method::GET, "/api/v2/search?query=ann&page=11", None).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn chunked_bodies_are_read() {
    let server = Server::start().await;
    let body = json!({"user": {"name": "Chunked"}}).to_string();
    let head = format!(
        "POST /api/v2/users/ HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer zendesk-token\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        server.base.trim_start_matches("http://"),
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap();

    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(server.zendesk.user_count(), 1);
}

/// Limits are kept by the minute of the account's clock.
#[tokio::test]
async fn limits_follow_minute_of_accounts_clock() {
    let limits = RateLimits { account_per_minute: None, export_per_minute: Some(2) };
    let server = Server::start_with(|config| config.limits = limits).await;
    let path = "/api/v2/incremental/users/cursor?start_time=0";

    let first = server.send(Method::GET, path, None).await;
    let limit = first.headers()["zendesk-ratelimit-incremental-exports-cursor"].to_str().unwrap().to_owned();
    server.send(Method::GET, path, None).await;
    let third = server.send(Method::GET, path, None).await;

    assert_eq!(limit, "total=2; remaining=1; resets=40");
    assert_eq!(third.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(third.headers()["retry-after"], "40");
    assert!(third.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert_eq!(third.text().await.unwrap(), "Number of allowed API requests per minute exceeded");
    server.get("/api/v2/users").await;
    server.advance(40);
    server.get(path).await;
}

/// A search shows whom there was, as it was, until the index has followed.
#[tokio::test]
async fn search_is_behind_as_configured() {
    let server = Server::start_with(|config| config.search_lag_seconds = 180).await;
    let ann = server.create(&json!({"name": "Ann", "phone": "+15550100"}));
    let search =
        async |phone: &str| server.get(&format!("/api/v2/users/search?query=phone:{phone}")).await["users"].clone();

    assert_eq!(search("15550100").await, json!([]), "a new user is not found yet");
    server.advance(180);
    assert_eq!(search("15550100").await[0]["id"], ann);

    server.zendesk.update_user(ann, &json!({"phone": "+15550199"})).unwrap();
    assert_eq!(search("15550199").await, json!([]));
    assert_eq!(search("15550100").await[0]["phone"], "+15550100", "as it was");
    server.advance(180);
    assert_eq!((search("15550100").await, &search("15550199").await[0]["id"]), (json!([]), &json!(ann)));
}

/// Users who are asked for by id come with their identities, if those are asked for.
#[tokio::test]
async fn many_users_come_with_identities_if_asked() {
    let server = Server::start().await;
    let ann = server.create(&json!({"name": "Ann", "phone": "+15550100"}));
    let path = format!("/api/v2/users/show_many?ids={ann}");

    assert!(server.get(&path).await.get("identities").is_none());
    let page = server.get(&format!("{path}&include=identities")).await;
    assert_eq!(
        (&page["identities"][0]["user_id"], &page["identities"][0]["value"]),
        (&json!(ann), &json!("+15550100"))
    );
}
