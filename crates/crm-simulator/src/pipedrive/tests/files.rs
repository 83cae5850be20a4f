//! Persons from files and generated persons.

use super::Server;

/// A file fills the company just as it says.
#[tokio::test]
async fn file_fills_company_as_it_says() {
    let server = Server::start().await;
    let file = "\u{feff}{\"id\":7,\"name\":\"Ann Doe\",\"phones\":[{\"value\":\"(310)-867-5309\"}]}\n\n\
        {\"id\":9,\"first_name\":\"Bob\",\"org_id\":4,\"org_name\":\"Acme\",\"update_time\":\"2026-01-02T10:05:00Z\",\
        \"is_deleted\":true}\n{}";

    let count = server.pipedrive.load_persons(file.as_bytes()).unwrap();

    assert_eq!(count, 3);
    let persons = server.pipedrive.persons();
    assert_eq!(persons.iter().map(|person| person.id).collect::<Vec<_>>(), [7, 9, 10]);
    assert_eq!(persons[0].phones, ["(310)-867-5309"]);
    assert_eq!((persons[1].org_name.as_deref(), persons[1].is_deleted), (Some("Acme"), true));
    assert_eq!(persons[1].add_time, "2026-01-02T10:05:00Z");
    assert_eq!((persons[2].name.as_str(), persons[2].update_time.as_str()), ("Person 10", "2026-08-22T14:13:24Z"));
    assert!(server.create("Next", "1") > 10);
}

/// A bad line is named with its field and without its value.
#[tokio::test]
async fn bad_line_names_field_without_its_value() {
    for (file, message) in [
        (
            "{\"id\":1}\n{\"id\":2,\"phones\":\"3108675309\"}",
            "line 2: field phones must be a list of at most 100 objects with value, primary and label",
        ),
        ("{\"id\":1}\n\n{\"id\":1}", "line 3: id is another person's"),
        ("{\"id\":1", "line 1 is not a JSON object: it ends too early at column 7"),
        ("[1]", "line 1 is not a JSON object: it holds another kind of value at column 0"),
    ] {
        let server = Server::start().await;

        let error = server.pipedrive.load_persons(file.as_bytes()).unwrap_err();

        assert_eq!(error.to_string(), message);
    }
}

/// A generated company is the same for the same seed.
#[tokio::test]
async fn same_seed_generates_same_company() {
    let server = Server::start().await;
    server.pipedrive.generate_people(2_000, 42).unwrap();
    let persons = server.pipedrive.persons();

    assert_eq!(server.pipedrive.person_count(), 2_000);
    assert!(persons.iter().filter(|person| person.phones.is_empty()).count() > 50);
    assert!(persons.iter().filter(|person| person.phones.len() > 1).count() > 100);
    assert!(persons.iter().all(|person| person.org_name.is_some()));
    let listed = server.list("/api/v2/persons?limit=500&sort_by=update_time").await;
    assert_eq!(listed.len(), 2_000);
    let again = Server::start().await;
    again.pipedrive.generate_people(2_000, 42).unwrap();
    assert!(again.pipedrive.persons() == persons);
}
