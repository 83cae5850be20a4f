//! Lists: orders, windows, cursors, and that a page costs its own length.

use serde_json::json;

use super::{START, Server};

/// Five persons, changed in another order than they were added, two of them in one second.
async fn with_history() -> (Server, Vec<i64>) {
    let server = Server::start().await;
    let times = [50, 10, 40, 10, 30];
    let ids = times.iter().enumerate().map(|(index, seconds)| {
        let time = |seconds| super::super::person::wire_time(START - seconds);
        let added = 1_000 - i64::try_from(index).unwrap();
        let person = json!({"id": index + 1, "name": format!("P{index}"), "add_time": time(added),
            "update_time": time(*seconds), "owner_id": 1 + index % 2, "org_id": 1 + index % 3});
        server.pipedrive.load_person(&person).unwrap()
    });
    let ids = ids.collect();
    (server, ids)
}

#[tokio::test]
async fn every_order_pages_to_its_end() {
    let (server, _) = with_history().await;
    for (query, expected) in [
        ("sort_by=id", [1, 2, 3, 4, 5]),
        ("sort_by=id&sort_direction=desc", [5, 4, 3, 2, 1]),
        ("sort_by=update_time", [1, 3, 5, 2, 4]),
        ("sort_by=update_time&sort_direction=desc", [4, 2, 5, 3, 1]),
        ("sort_by=add_time", [1, 2, 3, 4, 5]),
        ("sort_by=add_time&sort_direction=desc", [5, 4, 3, 2, 1]),
        ("ids=5,4,3,2,1,99", [1, 2, 3, 4, 5]),
        ("ids=5,4,3,2,1&sort_by=update_time&sort_direction=desc", [4, 2, 5, 3, 1]),
    ] {
        for limit in [1, 2, 5, 500] {
            assert_eq!(
                server.list(&format!("/api/v2/persons?{query}&limit={limit}")).await,
                expected,
                "{query} {limit}"
            );
        }
    }
}

/// A window takes its first second, and not its last.
#[tokio::test]
async fn window_takes_first_second_and_not_last() {
    let (server, _) = with_history().await;
    let window = "updated_since=2026-09-21T14:12:40Z&updated_until=2026-09-21T14:13:10Z";
    for (query, expected) in [
        (window.to_owned(), vec![3, 5]),
        (format!("{window}&sort_by=update_time"), vec![3, 5]),
        (format!("{window}&sort_by=update_time&sort_direction=desc"), vec![5, 3]),
        (format!("{window}&sort_by=id&sort_direction=desc"), vec![5, 3]),
        ("updated_since=2026-09-21T14:13:10Z".to_owned(), vec![2, 4]),
        ("updated_until=2026-09-21T14:12:31Z&sort_by=update_time".to_owned(), vec![1]),
        ("updated_since=2026-09-21T14:13:11Z&sort_by=update_time".to_owned(), vec![]),
        (
            "updated_since=2026-09-21T14:13:10Z&updated_until=2026-09-21T14:13:10Z&sort_by=update_time".to_owned(),
            vec![],
        ),
        (
            "updated_since=2026-09-22T14:13:10Z&updated_until=2026-09-21T14:13:10Z&sort_by=update_time".to_owned(),
            vec![],
        ),
        ("updated_since=2026-09-21T16:13:10%2B02:00".to_owned(), vec![2, 4]),
        ("owner_id=2".to_owned(), vec![2, 4]),
        ("org_id=1".to_owned(), vec![1, 4]),
    ] {
        for limit in [1, 500] {
            assert_eq!(server.list(&format!("/api/v2/persons?{query}&limit={limit}")).await, expected, "{query}");
        }
    }
}

/// A person that changes during a run comes again in the order of change, and once in that of ids.
#[tokio::test]
async fn person_changed_midway_comes_twice_by_change_only() {
    for (order, expected) in [("id", vec![1, 2, 3, 4, 5]), ("update_time", vec![1, 3, 5, 2, 4, 1])] {
        let (server, _) = with_history().await;
        let changing = std::sync::Arc::clone(&server.pipedrive);
        let change = move || changing.update_person(1, &json!({"name": "Eve"})).unwrap();
        server.pipedrive.faults().before_page("/persons", 2, change).unwrap();

        let ids = server.list(&format!("/api/v2/persons?sort_by={order}&limit=2")).await;

        assert_eq!(ids, expected);
    }
}

/// A cursor holds for the order that it was made for, and for no other.
#[tokio::test]
async fn cursor_holds_for_its_own_order_only() {
    let (server, _) = with_history().await;
    let page = server.get("/api/v2/persons?limit=2").await;
    let cursor = page["additional_data"]["next_cursor"].as_str().unwrap();

    for query in ["sort_by=update_time", "sort_direction=desc"] {
        let path = format!("/api/v2/persons?{query}&cursor={cursor}");
        assert_eq!(server.ask(reqwest::Method::GET, &path, None).await.0.as_u16(), 400, "{query}");
    }
}

/// A number that is missing is an empty list, or an empty text.
#[tokio::test]
async fn missing_number_is_empty_list_or_text() {
    for (quirk, expected) in [(false, json!([])), (true, json!([{"value": "", "primary": true, "label": "work"}]))] {
        let server = Server::start_with(|config| config.empty_phone_entries = quirk).await;
        server.pipedrive.create_person(&json!({"name": "Ann"})).unwrap();

        assert_eq!(server.get("/api/v2/persons").await["data"][0]["phones"], expected);
        assert_eq!(server.get("/api/v2/persons/1").await["data"]["phones"], expected);
    }
}

#[tokio::test]
async fn organizations_are_listed_by_id_and_by_ids() {
    let server = Server::start().await;
    for name in ["Acme", "Bolt", "Coil"] {
        server.pipedrive.create_organization(name);
    }

    assert_eq!(server.list("/api/v2/organizations?limit=1").await, [1, 2, 3]);
    assert_eq!(server.list("/api/v2/organizations?ids=3,1,9").await, [1, 3]);
    let page = server.get("/api/v2/organizations?ids=2").await;
    assert_eq!(page["data"][0]["name"], "Bolt");
}
