//! The calls that only SOAP has.

use reqwest::StatusCode;
use serde_json::json;

use super::{DEFAULT_ACCESS_TOKEN, Server};
use crate::faults::{Fault, FaultRule};

fn envelope(session: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><se:Envelope xmlns:se=\"http://schemas.xmlsoap.org/soap/envelope/\"><se:Header>\
         <SessionHeader xmlns=\"urn:partner.soap.sforce.com\"><sessionId>{session}</sessionId></SessionHeader>\
         </se:Header><se:Body xmlns=\"urn:partner.soap.sforce.com\">{body}</se:Body></se:Envelope>"
    )
}

async fn send(server: &Server, text: String) -> (StatusCode, String) {
    let url = format!("{}/services/Soap/u/67.0", server.base);
    let response = server.client.post(url).header("content-type", "text/xml").body(text).send().await.unwrap();
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/xml"));
    (response.status(), response.text().await.unwrap())
}

async fn call(server: &Server, body: &str) -> String {
    let (status, text) = send(server, envelope(DEFAULT_ACCESS_TOKEN, body)).await;
    assert_eq!(status, 200, "{text}");
    roxmltree::Document::parse(&text).unwrap();
    text
}

/// A merge takes the fields of the master and names the merged records.
#[tokio::test]
async fn merge_takes_master_fields_and_names_merged() {
    let server = Server::start().await;
    let ids = server.contacts(3);
    server.salesforce.update("Contact", &ids[0], &json!({"Fax": "9"})).unwrap();

    let text = call(
        &server,
        &format!(
            "<merge><request><masterRecord><type>Contact</type><Id>{}</Id><fieldsToNull>Fax</fieldsToNull>\
             <Phone>1 &amp; 2</Phone><DoNotCall>true</DoNotCall></masterRecord><recordToMergeIds>{}</recordToMergeIds>\
             <recordToMergeIds>{}</recordToMergeIds></request></merge>",
            ids[0],
            ids[1],
            &ids[2][..15]
        ),
    )
    .await;

    assert!(text.contains(&format!("<mergedRecordIds>{}</mergedRecordIds><success>true</success>", ids[2])), "{text}");
    let master = server.salesforce.record(&ids[0]).unwrap();
    assert_eq!((master.text("Phone"), master.text("Fax")), (Some("1 & 2"), None));
    assert_eq!(master.fields["DoNotCall"], true);
    assert_eq!(server.salesforce.record(&ids[1]).unwrap().master_record_id.as_deref(), Some(ids[0].as_str()));
}

#[tokio::test]
async fn undelete_tells_of_each_id_how_it_went() {
    let server = Server::start().await;
    let ids = server.contacts(2);
    server.salesforce.delete("Contact", &ids[0]).unwrap();

    let text = call(&server, &format!("<undelete><ids>{}</ids><ids>{}</ids></undelete>", ids[0], ids[1])).await;

    assert!(text.contains(&format!("<result><id>{}</id><success>true</success></result>", ids[0])), "{text}");
    let inside = json!(envelope("", &format!("<undelete><ids>{}</ids></undelete>", ids[0])));
    server.salesforce.delete("Contact", &ids[0]).unwrap();
    server.salesforce.call("POST", "/services/Soap/u/67.0", Some(&inside)).unwrap();
    assert!(!server.salesforce.record(&ids[0]).unwrap().is_deleted);
    assert!(text.contains("<statusCode>UNDELETE_FAILED</statusCode></errors><success>false</success>"), "{text}");
}

#[tokio::test]
async fn lead_is_converted() {
    let server = Server::start().await;
    let lead = server.salesforce.create("Lead", &json!({"LastName": "Roe", "Company": "Acme"})).unwrap();

    let body = format!(
        "<convertLead><leadConverts><leadId>{lead}</leadId><convertedStatus>Closed - Converted</convertedStatus>\
         </leadConverts></convertLead>"
    );
    let text = call(&server, &body).await;

    let lead = server.salesforce.record(&lead).unwrap();
    assert!(text.contains(&format!("<contactId>{}</contactId>", lead.text("ConvertedContactId").unwrap())), "{text}");
    assert!(text.contains(&format!("<accountId>{}</accountId>", lead.text("ConvertedAccountId").unwrap())), "{text}");
}

#[tokio::test]
async fn login_gives_a_session_and_the_servers_url() {
    let server = Server::start().await;
    let login = |password: &str| {
        envelope("", &format!("<login><username>admin@example.com</username><password>{password}</password></login>"))
    };

    let (status, text) = send(&server, login("secrettoken")).await;
    assert_eq!(status, 200);
    let (_, rest) = text.split_once("<sessionId>").unwrap();
    let session = rest.split_once("</sessionId>").unwrap().0;
    assert!(text.contains(&format!("<serverUrl>{}/services/Soap/u/67.0/00D", server.base)), "{text}");
    let url = format!("{}{}/limits", server.base, super::DATA);
    assert_eq!(server.client.get(url).bearer_auth(session).send().await.unwrap().status(), 200);

    let (status, text) = send(&server, login("wrong")).await;
    assert_eq!(status, 500);
    assert!(text.contains("<faultcode>sf:INVALID_LOGIN</faultcode>"), "{text}");
}

#[tokio::test]
async fn refusals_are_faults() {
    let server = Server::start().await;
    let nothing = "<undelete></undelete>";

    let (status, text) = send(&server, envelope("wrong", nothing)).await;
    assert_eq!(status, 500);
    assert!(text.contains("<faultcode>sf:INVALID_SESSION_ID</faultcode>"), "{text}");
    let (_, text) = send(&server, "no XML".to_owned()).await;
    assert!(text.contains("sf:UNKNOWN_EXCEPTION"), "{text}");
    let (_, text) = send(&server, envelope(DEFAULT_ACCESS_TOKEN, "<emptyRecycleBin/>")).await;
    assert!(text.contains("No operation available for request emptyRecycleBin"), "{text}");
    server.salesforce.faults().add(FaultRule::once("/Soap/", Fault::DailyLimit)).unwrap();
    let (_, text) = send(&server, envelope(DEFAULT_ACCESS_TOKEN, nothing)).await;
    assert!(text.contains("<faultcode>sf:REQUEST_LIMIT_EXCEEDED</faultcode>"), "{text}");
}
