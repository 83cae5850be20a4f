//! The resources as a client sees them.

use reqwest::Method;
use serde_json::{Value, json};

use super::{DATA, Server, column};

#[tokio::test]
async fn record_is_made_read_changed_and_deleted() {
    let server = Server::start().await;

    let response =
        server.send(Method::POST, "/sobjects/Contact", Some(&json!({"LastName": "Doe", "FirstName": "Ann"}))).await;
    assert_eq!(response.status(), 201);
    let created: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    let id = created["id"].as_str().unwrap();
    assert_eq!(created, json!({"id": id, "success": true, "errors": []}));
    assert!(id.len() == 18 && id.starts_with("003"));
    server.advance(1_500);
    let path = format!("/sobjects/Contact/{id}");
    let changed = server.ask(Method::PATCH, &path, Some(&json!({"Phone": "(415) 555-1212", "FirstName": null}))).await;
    assert_eq!(changed, (204, Value::Null));

    // The short form of the id serves as well.
    let short = format!("/sobjects/contact/{}", &id[..15]);
    let record = server.get(&short).await;
    assert_eq!(record["attributes"]["url"], format!("{DATA}/sobjects/Contact/{id}"));
    assert_eq!(record["Name"], "Doe");
    assert_eq!(record["FirstName"], Value::Null);
    assert_eq!(record["CreatedDate"], "2026-09-21T14:13:20.000+0000");
    assert_eq!(record["SystemModstamp"], "2026-09-21T14:13:21.500+0000");
    assert_eq!(record["IsDeleted"], false);
    let some = server.get(&format!("{path}?fields=Phone,Owner.Name")).await;
    assert_eq!(some["Phone"], "(415) 555-1212");
    assert_eq!(some["Owner"]["Name"], "Ada Admin");
    assert_eq!(some.as_object().unwrap().len(), 3);

    assert_eq!(server.ask(Method::DELETE, &path, None).await, (204, Value::Null));
    let gone = (404, "ENTITY_IS_DELETED".to_owned());
    assert_eq!(server.refusal(Method::DELETE, &path, None).await, gone);
    assert_eq!(server.refusal(Method::PATCH, &path, Some(&json!({"Phone": "1"}))).await, gone);
    assert_eq!(server.refusal(Method::GET, &path, None).await, (404, "NOT_FOUND".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn bad_records_are_refused_by_field() {
    let server = Server::start_with(|config| config.has_leads = false).await;
    let cases = [
        ("Contact", json!({"FirstName": "Ann"}), "REQUIRED_FIELD_MISSING"),
        ("Contact", json!({"LastName": ""}), "REQUIRED_FIELD_MISSING"),
        ("Contact", json!({"LastName": "x", "Phon": "1"}), "INVALID_FIELD"),
        ("Contact", json!({"LastName": "x", "IsPersonAccount": true}), "INVALID_FIELD"),
        ("Contact", json!({"LastName": "x", "CreatedDate": "2026-01-01T00:00:00Z"}), "INVALID_FIELD_FOR_INSERT_UPDATE"),
        ("Contact", json!({"LastName": "x".repeat(81)}), "STRING_TOO_LONG"),
        ("Contact", json!({"LastName": "x", "Email": "ann"}), "INVALID_EMAIL_ADDRESS"),
        ("Contact", json!({"LastName": "x", "Phone": 5}), "JSON_PARSER_ERROR"),
        ("Contact", json!({"LastName": "x", "DoNotCall": "yes"}), "JSON_PARSER_ERROR"),
        ("Contact", json!({"LastName": "x", "AccountId": "001"}), "MALFORMED_ID"),
        ("Contact", json!({"LastName": "x", "AccountId": "001D000000IRFmaIAH"}), "INVALID_CROSS_REFERENCE_KEY"),
        ("Contact", json!([1]), "JSON_PARSER_ERROR"),
        ("Lead", json!({"LastName": "x", "Company": "y"}), "INVALID_TYPE"),
    ];
    for (object, fields, code) in cases {
        let refused = server.refusal(Method::POST, &format!("/sobjects/{object}"), Some(&fields)).await;

        assert_eq!(refused, (400, code.to_owned()), "{fields}");
    }
    let (_, body) = server.ask(Method::POST, "/sobjects/Contact", Some(&json!({}))).await;
    let message = "Required fields are missing: [LastName]";
    assert_eq!(body, json!([{"errorCode": "REQUIRED_FIELD_MISSING", "message": message, "fields": ["LastName"]}]));
    assert_eq!(server.salesforce.record_count("Contact"), 0);
    let nothing = server.refusal(Method::GET, "/nothing", None).await;
    assert_eq!(nothing, (404, "NOT_FOUND".to_owned()));
    assert_eq!(server.refusal(Method::PUT, "/query", None).await, (405, "METHOD_NOT_ALLOWED".to_owned()));
}

#[tokio::test]
async fn description_shows_types_and_leaves_out_hidden_fields() {
    let server = Server::start_with(|config| {
        config.hidden_fields.push(("Contact".to_owned(), "HomePhone".to_owned()));
        config.custom_phones.push(("Contact".to_owned(), "Direct_Line__c".to_owned()));
    })
    .await;

    let described = server.get("/sobjects/Contact/describe").await;

    let fields = described["fields"].as_array().unwrap();
    let phones: Vec<&Value> = fields.iter().filter(|field| field["type"] == "phone").collect();
    let names = column(phones.iter().copied(), "name");
    assert_eq!(names, ["Phone", "Fax", "MobilePhone", "OtherPhone", "AssistantPhone", "Direct_Line__c"]);
    assert_eq!(phones[5]["custom"], true);
    assert_eq!(phones[2]["label"], "Mobile Phone");
    assert!(!column(fields, "name").contains(&"IsPersonAccount"));
    let account = fields.iter().find(|field| field["name"] == "AccountId").unwrap();
    assert_eq!((&account["relationshipName"], &account["referenceTo"]), (&json!("Account"), &json!(["Account"])));
    let all = server.get("/sobjects").await;
    assert_eq!(
        column(all["sobjects"].as_array().unwrap(), "name"),
        ["Account", "Contact", "Lead", "User", "PermissionSet", "PermissionSetAssignment", "ObjectPermissions"]
    );
    assert_eq!(server.get("/sobjects/Contact").await["objectDescribe"]["keyPrefix"], "003");
    let refused = server.refusal(Method::GET, "/query?q=SELECT+HomePhone+FROM+Contact", None).await;
    assert_eq!(refused, (400, "INVALID_FIELD".to_owned()));
    let refused = server.refusal(Method::POST, "/sobjects/Contact", Some(&json!({"HomePhone": "1"}))).await;
    assert_eq!(refused, (400, "INVALID_FIELD".to_owned()));
}

#[tokio::test]
async fn numbers_are_found_by_their_digits() {
    let server = Server::start().await;
    let salesforce = &server.salesforce;
    let ann = salesforce.create("Contact", &json!({"LastName": "Doe", "MobilePhone": "(415) 555-1212"})).unwrap();
    let lead = salesforce.create("Lead", &json!({"LastName": "Roe", "Company": "X", "Phone": "415-555-1212"})).unwrap();
    let converted =
        salesforce.create("Lead", &json!({"LastName": "Poe", "Company": "X", "Phone": "4155551212"})).unwrap();
    salesforce.convert_lead(&converted, None).unwrap();
    let gone = salesforce.create("Contact", &json!({"LastName": "Gone", "Phone": "4155551212"})).unwrap();
    salesforce.delete("Contact", &gone).unwrap();
    salesforce.update("Contact", &ann, &json!({"Title": "Dr"})).unwrap();

    let sosl = "FIND {4155551212} IN PHONE FIELDS RETURNING Contact(Id, Name WHERE Title = 'dr'), \
                Lead(Id WHERE IsConverted = false)";
    let found = server.get(&format!("/search/?q={}", crate::call::percent_encoded(sosl))).await;
    assert_eq!(column(found["searchRecords"].as_array().unwrap(), "Id"), [ann.as_str(), lead.as_str()]);
    assert_eq!(found["searchRecords"][0]["Name"], "Doe");
    assert_eq!(found["searchRecords"][1]["attributes"]["type"], "Lead");

    let body = json!({"q": "4155551212", "in": "PHONE", "fields": ["Id", "Name"],
        "sobjects": [{"name": "Contact"}, {"name": "Lead", "where": "IsConverted = false"}], "overallLimit": 2});
    let (status, posted) = server.ask(Method::POST, "/parameterizedSearch", Some(&body)).await;
    assert_eq!(status, 200);
    let names = column(posted["searchRecords"].as_array().unwrap(), "Name");
    assert_eq!(names, ["Doe", "Poe"], "the converted Lead's Contact has its number");
    let got = server.get("/parameterizedSearch?q=4155551212&in=PHONE&sobject=Lead&Lead.fields=Company").await;
    assert_eq!(got["searchRecords"][0]["Company"], "X");
    let by_name = server.get("/parameterizedSearch?q=ro*&in=NAME").await;
    assert_eq!(column(by_name["searchRecords"].as_array().unwrap(), "Id"), [lead.as_str()]);
    let refused = server.refusal(Method::GET, "/search?q=FIND+4155551212", None).await;
    assert_eq!(refused, (400, "MALFORMED_SEARCH".to_owned()));
}

#[tokio::test]
async fn collections_tell_of_each_record_how_it_went() {
    let server = Server::start().await;
    let contact = |name: &str| json!({"attributes": {"type": "Contact"}, "LastName": name});
    let path = "/composite/sobjects";

    let body = json!({"records": [contact("A"), contact(""), contact("B")]});
    let (status, made) = server.ask(Method::POST, path, Some(&body)).await;
    assert_eq!(status, 200);
    let success: Vec<&Value> = made.as_array().unwrap().iter().map(|result| &result["success"]).collect();
    assert_eq!(success, [true, false, true]);
    assert_eq!(made[1]["errors"][0]["statusCode"], "REQUIRED_FIELD_MISSING");
    let (a, b) = (made[0]["id"].as_str().unwrap(), made[2]["id"].as_str().unwrap());

    let body = json!({"allOrNone": true, "records": [contact("C"), contact("")]});
    let (_, none) = server.ask(Method::POST, path, Some(&body)).await;
    assert_eq!(none[0]["errors"][0]["statusCode"], "ALL_OR_NONE_OPERATION_ROLLED_BACK");
    assert_eq!(server.salesforce.record_count("Contact"), 2);

    let change = json!({"id": a, "attributes": {"type": "Contact"}, "Phone": "1"});
    let (_, changed) = server.ask(Method::PATCH, path, Some(&json!({"records": [change]}))).await;
    assert_eq!(changed[0], json!({"id": a, "success": true, "errors": []}));
    let body = json!({"ids": [b, "003000000000000", a], "fields": ["Name", "Phone"]});
    let (_, read) = server.ask(Method::POST, "/composite/sobjects/Contact", Some(&body)).await;
    assert_eq!((&read[0]["Name"], &read[1], &read[2]["Phone"]), (&json!("B"), &Value::Null, &json!("1")));
    let (_, gone) = server.ask(Method::DELETE, &format!("{path}?ids={a},{b}&allOrNone=true"), None).await;
    assert_eq!(gone[1]["success"], true);
    assert!(server.salesforce.records("Contact").iter().all(|record| record.is_deleted));
}

#[tokio::test]
async fn calls_are_counted_and_limited() {
    let server = Server::start_with(|config| config.daily_limit = 3).await;

    let response = server.send(Method::GET, "/limits", None).await;
    assert_eq!(response.headers()["sforce-limit-info"], "api-usage=1/3");
    assert_eq!(response.headers()["date"], "Mon, 21 Sep 2026 14:13:20 GMT");
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["DailyApiRequests"], json!({"Max": 3, "Remaining": 2}));
    server.get("/sobjects").await;
    server.get("").await;
    let refused = server.ask(Method::GET, "/limits", None).await;
    let message = "TotalRequests Limit exceeded.";
    assert_eq!(refused, (403, json!([{"message": message, "errorCode": "REQUEST_LIMIT_EXCEEDED"}])));
    // The list of versions is open to everybody.
    let versions = server.get("/services/data").await;
    assert!(versions.as_array().unwrap().iter().any(|version| version["url"] == DATA));
    server.advance(25 * 3_600_000);
    server.get("/limits").await;
}

#[tokio::test]
async fn requests_are_logged_by_resource() {
    let server = Server::start_with(|config| config.page_rows_max = 1).await;
    let ids = server.contacts(3);

    server.read("/query?q=SELECT+Id+FROM+Contact").await;
    server.get(&format!("/sobjects/Contact/{}", ids[0])).await;

    let report = server.salesforce.requests();
    assert_eq!(report.counts[&format!("GET {DATA}/query")], 1);
    assert_eq!(report.counts[&format!("GET {DATA}/query/{{locator}}")], 2);
    assert_eq!(report.counts[&format!("GET {DATA}/sobjects/Contact/{{id}}")], 1);
    server.salesforce.clear_requests();
    assert_eq!(server.salesforce.requests().total, 0);
}

/// A search shows what there was, as it was, until the index has followed.
#[tokio::test]
async fn search_is_behind_as_configured() {
    let server = Server::start_with(|config| config.search_lag_seconds = 120).await;
    let ann = server.salesforce.create("Contact", &json!({"LastName": "Doe", "Phone": "4155551212"})).unwrap();
    let found = async |phone: &str| {
        let path = format!("/parameterizedSearch?q={phone}&in=PHONE&sobject=Contact&Contact.fields=Id,Phone");
        server.get(&path).await["searchRecords"].clone()
    };

    assert_eq!(found("4155551212").await, json!([]), "a new Contact is not found yet");
    server.advance(120_000);
    assert_eq!(found("4155551212").await[0]["Id"], ann);

    server.salesforce.update("Contact", &ann, &json!({"Phone": "4155550100"})).unwrap();
    assert_eq!(found("4155550100").await, json!([]));
    assert_eq!(found("4155551212").await[0]["Phone"], "4155551212", "as it was");
    server.advance(120_000);
    assert_eq!((found("4155551212").await, &found("4155550100").await[0]["Id"]), (json!([]), &json!(ann)));
}
