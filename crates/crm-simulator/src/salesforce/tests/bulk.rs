//! Query jobs.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Server, column, rows};
use crate::faults::{Fault, FaultRule};

const JOBS: &str = "/jobs/query";

async fn job(server: &Server, operation: &str, query: &str) -> String {
    let body = json!({"operation": operation, "query": query, "contentType": "CSV", "columnDelimiter": "COMMA",
        "lineEnding": "LF"});
    let (status, job) = server.ask(Method::POST, JOBS, Some(&body)).await;
    assert_eq!((status, &job["state"]), (200, &json!("UploadComplete")), "{job}");
    assert_eq!((&job["apiVersion"], &job["object"]), (&json!(67.0), &json!("Contact")));
    format!("{JOBS}/{}", job["id"].as_str().unwrap())
}

async fn state(server: &Server, job: &str) -> Value {
    server.get(job).await["state"].take()
}

/// Text, locator and number of rows of a page of the results.
async fn results(server: &Server, path: &str) -> (String, String, usize) {
    let response = server.send(Method::GET, path, None).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/csv");
    let header = |name| response.headers()[name].to_str().unwrap().to_owned();
    let (locator, count) = (header("sforce-locator"), header("sforce-numberofrecords"));
    (response.text().await.unwrap(), locator, count.parse().unwrap())
}

#[tokio::test]
async fn job_comes_to_its_results_over_polls() {
    let server = Server::start_with(|config| config.bulk_polls = 3).await;
    let account = server.salesforce.create("Account", &json!({"Name": "A \"B\", C\nD"})).unwrap();
    server.salesforce.create("Contact", &json!({"LastName": "Doe", "AccountId": account, "DoNotCall": true})).unwrap();
    let gone = server.contact("Gone");
    server.salesforce.delete("Contact", &gone).unwrap();
    let job = job(
        &server,
        "queryAll",
        "SELECT LastName, Account.Name, Phone, DoNotCall, SystemModstamp FROM Contact ORDER BY Id",
    )
    .await;
    let early = server.refusal(Method::GET, &format!("{job}/results"), None).await;
    assert_eq!(early, (400, "INVALIDJOBSTATE".to_owned()));

    let mut states = Vec::new();
    for _ in 0..3 {
        states.push(state(&server, &job).await);
    }
    assert_eq!(states, ["UploadComplete", "InProgress", "JobComplete"]);
    assert_eq!(server.get(&job).await["numberRecordsProcessed"], 2);
    let (text, locator, count) = results(&server, &format!("{job}/results")).await;

    let stamp = "2026-09-21T14:13:20.000Z";
    let expected = format!(
        "\"LastName\",\"Account.Name\",\"Phone\",\"DoNotCall\",\"SystemModstamp\"\n\
         \"Doe\",\"A \"\"B\"\", C\nD\",\"\",\"true\",\"{stamp}\"\n\"Gone\",\"\",\"\",\"false\",\"{stamp}\"\n"
    );
    assert_eq!((text.as_str(), locator.as_str(), count), (expected.as_str(), "null", 2));
    server.advance(7 * 24 * 3_600_000);
    let old = server.refusal(Method::GET, &format!("{job}/results"), None).await;
    assert_eq!(old, (404, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn pages_of_results_fit_together_in_any_order() {
    let server = Server::start().await;
    let ids = server.contacts(5);
    let job = job(&server, "query", "SELECT Id, Name FROM Contact ORDER BY SystemModstamp, Id").await;
    server.salesforce.delete("Contact", &ids[0]).unwrap();
    server.contact("Late");
    while state(&server, &job).await != "JobComplete" {}

    let (first, second_at, count) = results(&server, &format!("{job}/results?maxRecords=2")).await;
    assert_eq!(count, 2);
    let (second, third_at, _) = results(&server, &format!("{job}/results?maxRecords=2&locator={second_at}")).await;
    let (third, end, count) = results(&server, &format!("{job}/results?maxRecords=2&locator={third_at}")).await;
    assert_eq!((end.as_str(), count), ("null", 1));
    let again = results(&server, &format!("{job}/results?maxRecords=2&locator={second_at}")).await.0;

    assert_eq!(second, again);
    let lines = [first, second, third].map(|text| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()).concat();
    let expected: Vec<String> =
        ids.iter().enumerate().map(|(number, id)| format!("\"{id}\",\"C{number:03}\"")).collect();
    assert_eq!(lines, expected);
    let refused = server.refusal(Method::GET, &format!("{job}/results?locator=x"), None).await;
    assert_eq!(refused, (400, "INVALID_QUERY_LOCATOR".to_owned()));
}

/// A job can be aborted, and deleted when it is over.
#[tokio::test]
async fn job_is_aborted_then_deleted_once_over() {
    let server = Server::start().await;
    server.contacts(1);
    let job = job(&server, "query", "SELECT Id FROM Contact").await;

    let refused = server.refusal(Method::DELETE, &job, None).await;
    assert_eq!(refused, (400, "INVALIDJOBSTATE".to_owned()));
    let (_, aborted) = server.ask(Method::PATCH, &job, Some(&json!({"state": "Aborted"}))).await;
    assert_eq!(aborted["state"], "Aborted");
    assert_eq!(state(&server, &job).await, "Aborted");
    let refused = server.refusal(Method::PATCH, &job, Some(&json!({"state": "Aborted"}))).await;
    assert_eq!(refused, (400, "INVALIDJOBSTATE".to_owned()));
    assert_eq!(server.ask(Method::DELETE, &job, None).await.0, 204);
    assert_eq!(server.refusal(Method::GET, &job, None).await, (404, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn bad_jobs_are_refused_when_they_are_made() {
    let server = Server::start().await;
    let query = "SELECT Id FROM Contact";
    for (body, code) in [
        (json!({"operation": "insert", "query": query}), "INVALIDJOB"),
        (json!({"operation": "query"}), "INVALIDJOB"),
        (json!({"operation": "query", "query": query, "contentType": "XML"}), "INVALIDJOB"),
        (json!({"operation": "query", "query": query, "lineEnding": "CR"}), "INVALIDJOB"),
        (json!({"operation": "query", "query": "SELECT count() FROM Contact"}), "INVALIDJOB"),
        (json!({"operation": "query", "query": "SELECT Foo FROM Contact"}), "INVALID_FIELD"),
    ] {
        assert_eq!(server.refusal(Method::POST, JOBS, Some(&body)).await, (400, code.to_owned()), "{body}");
    }
}

#[tokio::test]
async fn jobs_fail_and_lines_are_broken_by_faults() {
    let server = Server::start().await;
    server.contacts(2);
    let query = "SELECT Name FROM Contact ORDER BY Id";
    let add = |path: &str, fault| server.salesforce.faults().add(FaultRule::once(path, fault)).unwrap();

    let failing = job(&server, "query", query).await;
    add("/jobs/query/", Fault::JobFailed { message: "TooManyLockFailure".to_owned() });
    let failed = server.get(&failing).await;
    assert_eq!((&failed["state"], &failed["errorMessage"]), (&json!("Failed"), &json!("TooManyLockFailure")));
    let aborting = job(&server, "query", query).await;
    add("/jobs/query/", Fault::JobAborted);
    assert_eq!(state(&server, &aborting).await, "Aborted");
    let broken = job(&server, "query", query).await;
    while state(&server, &broken).await != "JobComplete" {}
    add("/results", Fault::CsvLine { line: 1, text: "\"C0".to_owned() });
    let (text, ..) = results(&server, &format!("{broken}/results")).await;
    assert_eq!(text, "\"Name\"\n\"C0\n\"C001\"\n");
    add("/results", Fault::NotFound);
    let refused = server.refusal(Method::GET, &format!("{broken}/results"), None).await;
    assert_eq!(refused, (404, "NOT_FOUND".to_owned()));
    let plain = server.query(query).await;
    assert_eq!(column(rows(&plain), "Name"), ["C000", "C001"]);
}
