//! Users files and generated people.

use serde_json::json;

use super::Server;

#[tokio::test]
async fn file_lines_become_users_with_zendesks_defaults() {
    let server = Server::start().await;
    let file = [
        json!({"id": 7, "name": "Bryce Love", "phone": "(310)-867-5309", "email": "b@example.com"}).to_string(),
        String::new(),
        json!({"id": 8, "name": "Shared", "phone": "(310)-867-5309", "role": "agent", "suspended": true}).to_string(),
        json!({"id": 9, "phone": "1", "active": false, "updated_at": "2026-01-02T10:05:00Z", "tags": ["vip"]})
            .to_string(),
        json!({"name": "Own identities", "identities": [{"type": "phone_number", "value": "2"}]}).to_string(),
    ]
    .join("\r\n");

    let count = server.zendesk.load_users(file.as_bytes()).unwrap();

    assert_eq!(count, 4);
    let page = server.get("/api/v2/incremental/users/cursor?start_time=0").await;
    let user = |id: i64| page["users"].as_array().unwrap().iter().find(|user| user["id"] == id).unwrap().clone();
    assert_eq!((&user(7)["shared_phone_number"], &user(7)["role"]), (&json!(false), &json!("end-user")));
    assert_eq!((&user(8)["shared_phone_number"], &user(8)["suspended"]), (&json!(true), &json!(true)));
    assert_eq!((&user(9)["name"], &user(9)["created_at"]), (&json!("User 9"), &json!("2026-01-02T10:05:00Z")));
    assert_eq!(user(9)["tags"], json!(["vip"]));
    assert_eq!(server.zendesk.oracle()[3].numbers(), ["2"]);
    assert!(server.create(&json!({"name": "Next"})) > 9);
}

/// A bad line is named with its field and without its value.
#[tokio::test]
async fn bad_line_names_field_without_its_value() {
    for (file, message) in [
        (
            "{\"id\":1}\n{\"id\":2,\"phone\":3108675309}",
            "line 2: field phone must be a string of at most 65536 bytes, or null",
        ),
        ("{\"id\":1}\n\n{\"id\":1}", "line 3: id is already being used by another user"),
        (
            "{\"email\":\"a@x.example\"}\n{\"email\":\"A@x.example\"}",
            "line 2: email is already being used by another user",
        ),
        ("{\"id\":1", "line 1 is not a JSON object: it ends too early at column 7"),
        ("[1]", "line 1 is not a JSON object: it holds another kind of value at column 0"),
    ] {
        let server = Server::start().await;

        let error = server.zendesk.load_users(file.as_bytes()).unwrap_err();

        assert_eq!(error.to_string(), message);
    }
}

/// A generated account has shared numbers, agents and people without a number.
#[tokio::test]
async fn generated_account_has_shared_numbers_agents_and_numberless() {
    let server = Server::start().await;
    server.zendesk.generate_people(5_000, 42).unwrap();
    let users = server.zendesk.oracle();

    assert_eq!(users.len(), 5_000);
    assert!(users.iter().filter(|user| user.role == "agent").count() > 20);
    assert!(users.iter().filter(|user| user.phone.is_none()).count() > 150);
    assert!(users.iter().filter(|user| user.numbers().len() > 1).count() > 300);
    let shared = server.get("/api/v2/incremental/users/cursor?start_time=0").await;
    assert!(shared["users"].as_array().unwrap().iter().any(|user| user["shared_phone_number"] == true));
    let again = Server::start().await;
    again.zendesk.generate_people(5_000, 42).unwrap();
    assert!(again.zendesk.oracle() == users);
}
