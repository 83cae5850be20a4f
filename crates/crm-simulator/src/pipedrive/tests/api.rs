//! Records and what changes them, over HTTP and from inside the process.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Server;
use crate::pipedrive::{COMPANY_DOMAIN, COMPANY_ID, HiddenAnswer, PipedriveRefusal};

#[tokio::test]
async fn created_person_has_version_2s_shape() {
    let server = Server::start().await;
    let org = server.pipedrive.create_organization("Acme");
    let body = json!({"name": "Ann Doe", "org_id": org, "label_ids": [1], "custom_fields": {"a": 1, "b": 2},
        "phones": [{"value": "+1 (555) 123-4567", "primary": true, "label": "work"}, {"value": "2", "label": "mobile"}],
        "emails": [{"value": "ann@example.com"}]});

    let (status, created) = server.ask(Method::POST, "/api/v2/persons", Some(&body)).await;

    assert_eq!(status, StatusCode::OK);
    let expected = json!({"success": true, "data": {"id": 1, "name": "Ann Doe", "first_name": "Ann", "last_name": "Doe",
        "owner_id": 1, "org_id": org, "add_time": "2026-09-21T14:13:20Z", "update_time": "2026-09-21T14:13:20Z",
        "emails": [{"value": "ann@example.com", "primary": true, "label": "work"}],
        "phones": [{"value": "+1 (555) 123-4567", "primary": true, "label": "work"},
            {"value": "2", "primary": false, "label": "mobile"}],
        "is_deleted": false, "visible_to": 3, "label_ids": [1], "picture_id": null,
        "custom_fields": {"a": 1, "b": 2}}});
    assert_eq!(created, expected);
    let shown = server.get("/api/v2/persons/1?include_fields=doi_status,notes_count&custom_fields=b").await;
    assert_eq!((&shown["data"]["doi_status"], &shown["data"]["notes_count"]), (&json!(1), &json!(0)));
    assert_eq!(shown["data"]["custom_fields"], json!({"b": 2}));
    assert_eq!(server.get(&format!("/api/v2/organizations/{org}")).await["data"]["name"], "Acme");
}

/// An update replaces lists whole and moves the time of change.
#[tokio::test]
async fn update_replaces_whole_lists_and_moves_change_time() {
    let server = Server::start().await;
    let id = server.create("Ann", "1");
    server.advance(5);

    let body = json!({"phones": [{"value": "2"}], "last_name": "Doe"});
    let (status, updated) = server.ask(Method::PATCH, &format!("/api/v2/persons/{id}"), Some(&body)).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(updated["data"]["phones"], json!([{"value": "2", "primary": true, "label": "work"}]));
    assert_eq!(updated["data"]["update_time"], "2026-09-21T14:13:25Z");
    assert_eq!(updated["data"]["add_time"], "2026-09-21T14:13:20Z");
}

#[tokio::test]
async fn bad_bodies_and_parameters_are_refused_by_name() {
    let server = Server::start().await;
    let id = server.create("Ann", "1");
    let path = format!("/api/v2/persons/{id}");
    for (method, path, body, part) in [
        (Method::POST, "/api/v2/persons", json!({}), "'name' is required"),
        (Method::POST, "/api/v2/persons", json!({"name": ""}), "'name' is required"),
        (Method::POST, "/api/v2/persons", json!([]), "not valid JSON"),
        (Method::POST, "/api/v2/persons", json!({"name": "A", "org_id": "7"}), "'org_id' must be a whole number"),
        (Method::POST, "/api/v2/persons", json!({"name": "A", "org_id": 7}), "'org_id' names no organization"),
        (Method::PATCH, &path, json!({"phones": "1"}), "'phones' must be a list"),
        (Method::GET, "/api/v2/persons?limit=501", Value::Null, "'limit'"),
        (Method::GET, "/api/v2/persons?limit=0", Value::Null, "'limit'"),
        (Method::GET, "/api/v2/persons?cursor=x", Value::Null, "'cursor'"),
        (Method::GET, "/api/v2/persons?sort_by=name", Value::Null, "'sort_by'"),
        (Method::GET, "/api/v2/persons?updated_since=2026-01-01T00:00:00.000Z", Value::Null, "'updated_since'"),
        (Method::GET, "/api/v2/persons?updated_until=yesterday", Value::Null, "'updated_until'"),
        (Method::GET, "/api/v2/persons?include_fields=shoe_size", Value::Null, "'include_fields'"),
        (Method::GET, "/api/v2/persons/search?term=a", Value::Null, "'term'"),
    ] {
        let (status, refused) = server.ask(method, path, Some(&body)).await;

        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!((&refused["success"], &refused["data"]), (&json!(false), &Value::Null));
        assert!(refused["error"].as_str().unwrap().contains(part), "{path}: {refused}");
    }
}

/// A deleted person is in no list, and answers until it is purged.
#[tokio::test]
async fn deleted_person_is_unlisted_but_answers_until_purged() {
    let server = Server::start().await;
    let ids = server.create_many(2);
    let path = format!("/api/v2/persons/{}", ids[0]);
    server.advance(5);

    let (status, deleted) = server.ask(Method::DELETE, &path, None).await;

    assert_eq!((status, &deleted["data"]), (StatusCode::OK, &json!({"id": ids[0]})));
    assert_eq!(server.list("/api/v2/persons?limit=1").await, [ids[1]]);
    let shown = server.get(&path).await;
    assert_eq!(shown["data"]["is_deleted"], true);
    assert_eq!(shown["data"]["update_time"], "2026-09-21T14:13:20Z", "a delete does not touch it");
    assert_eq!(server.ask(Method::DELETE, &path, None).await.0, StatusCode::NOT_FOUND);
    server.pipedrive.restore_person(ids[0]).unwrap();
    assert_eq!(server.list("/api/v2/persons?updated_since=2026-09-21T14:13:25Z").await, [ids[0]]);
    server.pipedrive.purge_person(ids[0]).unwrap();
    let (status, gone) = server.ask(Method::GET, &path, None).await;
    assert_eq!((status, &gone["error"]), (StatusCode::NOT_FOUND, &json!("Person not found.")));
    assert_eq!(server.pipedrive.person_count(), 1);
}

#[tokio::test]
async fn quirks_of_deletion_can_be_turned() {
    let server = Server::start_with(|config| {
        config.deletes_touch_update_time = true;
        config.lists_deleted = true;
        config.deleted_answers_not_found = true;
    })
    .await;
    let id = server.create("Ann", "1");
    server.advance(5);

    server.pipedrive.delete_person(id).unwrap();

    let page = server.get("/api/v2/persons?updated_since=2026-09-21T14:13:25Z").await;
    assert_eq!((&page["data"][0]["id"], &page["data"][0]["is_deleted"]), (&json!(id), &json!(true)));
    assert_eq!(server.ask(Method::GET, &format!("/api/v2/persons/{id}"), None).await.0, StatusCode::NOT_FOUND);
}

/// A merge takes the person of the path into the other, and answers in the form of version 1.
#[tokio::test]
async fn merge_absorbs_person_of_path_answers_version_1() {
    let server = Server::start().await;
    let (loser, winner) = (server.create("Ann", "1"), server.create("Ann D", "2"));
    server.advance(5);

    let path = format!("/v1/persons/{loser}/merge");
    let (status, merged) = server.ask(Method::PUT, &path, Some(&json!({"merge_with_id": winner}))).await;

    assert_eq!(status, StatusCode::OK);
    let data = &merged["data"];
    assert_eq!(
        (&data["id"], &data["merge_what_id"], &data["active_flag"]),
        (&json!(winner), &json!(loser), &json!(true))
    );
    assert_eq!(data["update_time"], "2026-09-21 14:13:25");
    assert_eq!(data["visible_to"], "3");
    let phones: Vec<_> = data["phone"].as_array().unwrap().iter().map(|phone| phone["value"].as_str()).collect();
    assert_eq!(phones, [Some("2"), Some("1")]);
    assert_eq!(server.pipedrive.true_person(loser).unwrap().merged_into, Some(winner));
    assert_eq!(server.list("/api/v2/persons?limit=9").await, [winner]);
    assert!(matches!(server.pipedrive.restore_person(loser), Err(PipedriveRefusal::Invalid { .. })));
    assert!(server.pipedrive.merge_persons(winner, winner).is_err());
}

#[tokio::test]
async fn hidden_person_looks_as_if_it_were_gone() {
    for (answer, expected) in [(HiddenAnswer::NotFound, 404), (HiddenAnswer::Forbidden, 403)] {
        let server = Server::start_with(|config| config.hidden_answer = answer).await;
        let ids = server.create_many(2);
        let path = format!("/api/v2/persons/{}", ids[0]);

        server.pipedrive.hide_from_token(ids[0]).unwrap();

        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            assert_eq!(server.ask(method, &path, Some(&json!({}))).await.0.as_u16(), expected);
        }
        assert_eq!(server.list("/api/v2/persons?limit=1").await, [ids[1]]);
        assert_eq!(server.get("/api/v2/persons/search?term=P0").await["data"]["items"], json!([]));
        assert!(server.pipedrive.true_person(ids[0]).unwrap().is_hidden);
        server.pipedrive.show_to_token(ids[0]).unwrap();
        assert_eq!(server.list("/api/v2/persons?limit=1").await, ids);
    }
}

#[tokio::test]
async fn search_is_textual_and_shows_numbers_as_texts() {
    let server = Server::start().await;
    let id = server.create("Ann Doe", "+1 (555) 123-4567");
    server.create("Bob Roe", "555");
    let search = async |query: &str| server.get(&format!("/api/v2/persons/search?{query}")).await;

    let found = search("term=123-45&fields=phone").await;

    assert_eq!(found["data"]["items"].as_array().unwrap().len(), 1);
    let item = &found["data"]["items"][0]["item"];
    assert_eq!((&item["id"], &item["phones"]), (&json!(id), &json!(["+1 (555) 123-4567"])));
    assert_eq!(search("term=5551234567&fields=phone").await["data"]["items"], json!([]));
    assert_eq!(search("term=ann&exact_match=true").await["data"]["items"], json!([]));
    assert_eq!(search("term=ANN+DOE&exact_match=true").await["data"]["items"][0]["item"]["id"], id);
    let first = search("term=oe&limit=1").await;
    let next = first["additional_data"]["next_cursor"].as_str().unwrap();
    let second = search(&format!("term=oe&limit=1&cursor={next}")).await;
    assert_eq!(second["data"]["items"][0]["item"]["name"], "Bob Roe");
    assert_eq!(second["additional_data"]["next_cursor"], Value::Null);
}

/// A search shows whom there was, as it was, until the index has followed; a deletion, too.
#[tokio::test]
async fn search_is_behind_as_configured() {
    let server = Server::start_with(|config| config.search_lag_seconds = 60).await;
    let id = server.create("Ann Doe", "555123");
    let search = async || server.get("/api/v2/persons/search?term=555123&fields=phone").await["data"]["items"].clone();

    assert_eq!(search().await, json!([]), "a new person is not found yet");
    server.advance(60);
    assert_eq!(search().await[0]["item"]["id"], id);

    server.pipedrive.delete_person(id).unwrap();
    assert_eq!(search().await[0]["item"]["id"], id, "as it was");
    server.advance(60);
    assert_eq!(search().await, json!([]));
}

#[tokio::test]
async fn recents_tell_of_changes_deletions_and_purges() {
    let server = Server::start().await;
    let ids = server.create_many(4);
    server.advance(10);
    server.pipedrive.update_person(ids[1], &json!({"name": "Eve"})).unwrap();
    server.advance(1);
    server.pipedrive.delete_person(ids[2]).unwrap();
    server.advance(1);
    server.pipedrive.purge_person(ids[3]).unwrap();

    let page = server.get("/api/v1/recents?since_timestamp=2026-09-21%2014:13:30&items=person&limit=2").await;

    assert_eq!(ids_in(&page), [ids[1], ids[2]]);
    assert_eq!(page["data"][1]["data"]["active_flag"], false);
    let pagination = &page["additional_data"]["pagination"];
    assert_eq!((&pagination["more_items_in_collection"], &pagination["next_start"]), (&json!(true), &json!(2)));
    let rest = server.get("/v1/recents?since_timestamp=2026-09-21%2014:13:30&start=2").await;
    assert_eq!((ids_in(&rest), &rest["data"][0]["data"]), (vec![ids[3]], &Value::Null));
    assert_eq!(server.ask(Method::GET, "/v1/recents", None).await.0, StatusCode::BAD_REQUEST);
}

/// Who asks is told who they are, and the old persons API is gone.
#[tokio::test]
async fn me_is_answered_and_old_persons_gone() {
    let server = Server::start_with(|config| config.company_user_is_admin = false).await;

    let me = server.get("/api/v1/users/me").await;

    assert_eq!(me["data"]["is_admin"], false);
    assert_eq!(
        (&me["data"]["company_id"], &me["data"]["company_domain"]),
        (&json!(COMPANY_ID), &json!(COMPANY_DOMAIN))
    );
    assert_eq!(server.get("/v1/users").await["data"][0]["id"], me["data"]["id"]);
    for path in ["/v1/persons", "/api/v1/persons/search?term=x", "/v1/persons/1"] {
        assert_eq!(server.ask(Method::GET, path, None).await.0, StatusCode::GONE, "{path}");
    }
    assert_eq!(server.ask(Method::GET, "/api/v2/users/me", None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn requests_are_logged_without_the_api_token() {
    let server = Server::start().await;

    let url = format!("{}/api/v2/persons?limit=1&api_token=pipedrive-token", server.base);
    assert_eq!(server.client.get(url).send().await.unwrap().status(), StatusCode::OK);

    let log = server.pipedrive.requests();
    assert_eq!((log.count_of("GET /api/v2/persons"), log.recent[0].query.as_str()), (1, "limit=1"));
    let control = server.get("/__control/requests").await;
    assert_eq!(control["total"], 1);
    server.pipedrive.clear_requests();
    assert_eq!(server.pipedrive.requests().total, 0);
}

fn ids_in(page: &Value) -> Vec<i64> {
    super::ids_of(&page["data"])
}
