//! Changes as a stream, over real gRPC and TLS.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{DEFAULT_ACCESS_TOKEN, Server};
use crate::salesforce::{
    CERTIFICATE, GapKind, SalesforceConfig,
    eventbus::api::{FetchRequest, FetchResponse, ReplayPreset, SchemaRequest, TopicInfo, TopicRequest},
    organization_id, serve_eventbus,
};
use client::pub_sub_client::PubSubClient;

/// The generated client.
mod client {
    #![expect(clippy::pedantic, unreachable_pub, reason = "generated code")]

    include!(concat!(env!("OUT_DIR"), "/client/eventbus.v1.rs"));
}

const CONTACTS: &str = "/data/ContactChangeEvent";
const LEADS: &str = "/data/LeadChangeEvent";
const HOUR: i64 = 3_600_000;

/// The organisation with its event bus served.
struct Bus {
    server: Server,
    port: u16,
    client: PubSubClient<Channel>,
}

/// An open subscription.
struct Reader {
    asks: mpsc::Sender<FetchRequest>,
    responses: Streaming<FetchResponse>,
}

/// What an event says, and its replay id.
#[derive(Debug, PartialEq)]
struct Told {
    change: String,
    ids: Vec<String>,
    place: Vec<u8>,
}

impl Bus {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Subscriptions are known to have begun as soon as they are answered.
    async fn start_with(configure: impl FnOnce(&mut SalesforceConfig)) -> Self {
        let server = Server::start_with(configure).await;
        server.salesforce.eventbus().change_plan(|plan| plan.late_headers = false);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        server.tracker.reopen();
        server.tracker.spawn(serve_eventbus(listener, Arc::clone(&server.salesforce), server.shutdown.clone()));
        server.tracker.close();
        Self { client: PubSubClient::new(channel(port, CERTIFICATE)), server, port }
    }

    async fn subscribe(&self, topic: &str, start: Option<&[u8]>, asked: i32) -> Result<Reader, Status> {
        let (asks, requests) = mpsc::channel(4);
        let preset = if start.is_some() { ReplayPreset::Custom } else { ReplayPreset::Latest };
        let first = FetchRequest {
            topic_name: topic.to_owned(),
            replay_preset: preset.into(),
            replay_id: start.unwrap_or_default().to_vec(),
            num_requested: asked,
            auth_refresh: String::new(),
        };
        asks.send(first).await.unwrap();
        let request = signed(ReceiverStream::new(requests), DEFAULT_ACCESS_TOKEN);
        let responses = self.client.clone().subscribe(request).await?.into_inner();
        Ok(Reader { asks, responses })
    }

    /// The word with which a subscription is refused.
    async fn refusal(&self, topic: &str, start: Option<&[u8]>) -> String {
        word_of(&self.subscribe(topic, start, 1).await.err().expect("a refusal"))
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, Status> {
        let request = signed(TopicRequest { topic_name: name.to_owned() }, DEFAULT_ACCESS_TOKEN);
        Ok(self.client.clone().get_topic(request).await?.into_inner())
    }

    /// A JSON schema.
    async fn schema(&self, id: &str) -> serde_json::Value {
        let request = signed(SchemaRequest { schema_id: id.to_owned() }, DEFAULT_ACCESS_TOKEN);
        let schema = self.client.clone().get_schema(request).await.unwrap().into_inner();
        assert_eq!(schema.schema_id, id);
        serde_json::from_str(&schema.schema_json).unwrap()
    }
}

impl Reader {
    async fn next(&mut self) -> Result<FetchResponse, Status> {
        Ok(self.responses.message().await?.expect("the stream goes on"))
    }

    /// So many events, from as many responses as they come in.
    async fn told(&mut self, count: usize) -> Vec<Told> {
        let mut told = Vec::new();
        while told.len() < count {
            told.extend(self.next().await.unwrap().events.into_iter().map(|event| {
                let (change, ids) = header_of(&event.event.unwrap().payload);
                Told { change, ids, place: event.replay_id }
            }));
        }
        told
    }

    async fn ask(&self, topic: &str, count: i32) {
        let request = FetchRequest { topic_name: topic.to_owned(), num_requested: count, ..FetchRequest::default() };
        self.asks.send(request).await.unwrap();
    }
}

fn channel(port: u16, certificate: &str) -> Channel {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate));
    Endpoint::from_shared(format!("https://localhost:{port}")).unwrap().tls_config(tls).unwrap().connect_lazy()
}

fn signed<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in [("accesstoken", token), ("instanceurl", "https://acme"), ("tenantid", &organization_id())] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

fn word_of(status: &Status) -> String {
    let word = status.metadata().get("error-code").map_or("", |word| word.to_str().unwrap());
    word.strip_prefix("sfdc.platform.eventbus.grpc.").unwrap_or(word).to_owned()
}

/// Change type and record ids. The lengths in these tests take one byte.
fn header_of(payload: &[u8]) -> (String, Vec<String>) {
    let number = |at: usize| usize::from(payload[at]) / 2;
    let mut at = 1 + number(0);
    let count = number(at);
    at += 1;
    let mut ids = Vec::new();
    for _ in 0..count {
        let end = at + 1 + number(at);
        ids.push(String::from_utf8(payload[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    // The list's end stands before the type.
    let types = ["CREATE", "UPDATE", "DELETE", "UNDELETE", "GAP_CREATE", "GAP_UPDATE", "GAP_DELETE", "GAP_UNDELETE"];
    (types.get(number(at + 1)).copied().unwrap_or("GAP_OVERFLOW").to_owned(), ids)
}

fn summary(told: &[Told]) -> Vec<(&str, Vec<&str>)> {
    told.iter().map(|told| (told.change.as_str(), told.ids.iter().map(String::as_str).collect())).collect()
}

#[tokio::test]
async fn replay_after_an_id_gives_what_followed() {
    let bus = Bus::start().await;
    let mut reader = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    let ids = bus.server.contacts(60);

    let told = reader.told(60).await;
    let mut later = bus.subscribe(CONTACTS, Some(&told[49].place), 100).await.unwrap();
    bus.server.salesforce.update("Contact", &ids[0], &json!({"Phone": "1"})).unwrap();
    let rest = later.told(11).await;

    assert_eq!(told.iter().map(|told| told.ids[0].as_str()).collect::<Vec<_>>(), ids);
    assert_eq!(rest[..10], told[50..]);
    assert_eq!((rest[10].change.as_str(), &rest[10].ids[0]), ("UPDATE", &ids[0]));
    let starts = bus.server.salesforce.eventbus().report().starts;
    assert_eq!((starts[0].preset, starts[1].preset), ("LATEST", "CUSTOM"));
    assert_eq!(starts[1].replay_id.as_ref(), Some(&told[49].place));
}

#[tokio::test]
async fn never_more_than_asked_for() {
    let bus = Bus::start().await;
    let mut reader = bus.subscribe(CONTACTS, None, 3).await.unwrap();
    bus.server.contacts(10);

    let response = reader.next().await.unwrap();
    assert_eq!((response.events.len(), response.pending_num_requested), (3, 0));
    assert_ne!(response.latest_replay_id, response.events[2].replay_id, "more has happened than was sent");
    reader.ask("", 2).await;
    assert_eq!(reader.next().await.unwrap().events.len(), 2);
    reader.ask(CONTACTS, 500).await;
    let response = reader.next().await.unwrap();
    assert_eq!((response.events.len(), response.pending_num_requested), (5, 95));
    reader.ask(LEADS, 1).await;
    assert_eq!(reader.next().await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(bus.subscribe(CONTACTS, None, 0).await.err().unwrap().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn replay_ids_are_opaque_and_good_for_72_hours() {
    let bus = Bus::start().await;
    let mut reader = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    bus.server.contacts(2);
    let told = reader.told(2).await;
    let mut counted = told[0].place.clone();
    *counted.last_mut().unwrap() ^= 1;
    let corrupted = "subscription.fetch.replayid.corrupted";

    assert_eq!(told[0].place.len(), 12);
    assert_eq!(bus.refusal(CONTACTS, Some(&counted)).await, corrupted);
    assert_eq!(bus.refusal(LEADS, Some(&told[0].place)).await, corrupted);
    assert_eq!(bus.refusal(CONTACTS, Some(&[])).await, "subscription.fetch.replayid.validation.failed");
    bus.server.advance(72 * HOUR);
    assert!(bus.subscribe(CONTACTS, Some(&told[0].place), 1).await.is_ok());
    // Nothing happened; the place that a keep-alive gave is young.
    bus.server.salesforce.eventbus().keep_alive();
    let alive = reader.next().await.unwrap();
    bus.server.advance(1);
    assert_eq!(bus.refusal(CONTACTS, Some(&told[0].place)).await, corrupted);
    assert!(alive.events.is_empty());
    assert!(bus.subscribe(CONTACTS, Some(&alive.latest_replay_id), 1).await.is_ok());
    bus.server.salesforce.eventbus().reset_stream();
    assert_eq!(word_of(&reader.next().await.unwrap_err()), "service.unavailable");
    assert_eq!(bus.refusal(CONTACTS, Some(&alive.latest_replay_id)).await, corrupted);
}

#[tokio::test]
async fn allocation_is_counted_by_subscriber() {
    let bus = Bus::start_with(|config| config.deliveries_max = 5).await;
    let mut first = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    let mut second = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    bus.server.contacts(2);
    let told = (first.told(2).await, second.told(2).await);

    bus.server.contacts(1);
    let report = bus.server.salesforce.eventbus().until(|report| report.open() == 1).await;
    let limit = "subscription.limit.exceeded";
    assert_eq!((report.delivered, report.refused[limit]), (5, 1));
    assert_eq!(bus.refusal(CONTACTS, None).await, limit);
    bus.server.advance(25 * HOUR);
    let mut later = bus.subscribe(CONTACTS, Some(&told.0[1].place), 1).await.unwrap();
    assert_eq!(later.told(1).await.len(), 1);
}

#[tokio::test]
async fn equal_changes_of_a_transaction_are_one_event() {
    let bus = Bus::start().await;
    let ids = bus.server.contacts(3);
    let mut reader = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    let patch = |titles: [&str; 3]| {
        let record =
            |(id, title): (&String, &str)| json!({"attributes": {"type": "Contact"}, "id": id, "Title": title});
        json!({"allOrNone": true, "records": ids.iter().zip(titles).map(record).collect::<Vec<_>>()})
    };
    let collections = "/services/data/v67.0/composite/sobjects";

    bus.server.salesforce.call("PATCH", collections, Some(&patch(["A", "A", "B"]))).unwrap();
    bus.server.salesforce.eventbus().change_plan(|plan| plan.merge_equal = false);
    bus.server.salesforce.call("PATCH", collections, Some(&patch(["C", "C", "C"]))).unwrap();
    // Undone as a whole, so that nobody hears of it.
    let mut bad = patch(["D", "D", "D"]);
    bad["records"][2]["Email"] = json!("no address");
    bus.server.salesforce.call("PATCH", collections, Some(&bad)).unwrap();
    bus.server.salesforce.touch_system("Contact", &ids[0]).unwrap();

    let told = reader.told(6).await;
    assert_eq!(summary(&told)[0], ("UPDATE", vec![ids[0].as_str(), &ids[1]]));
    assert_eq!(
        told[1..].iter().map(|told| &told.ids[0]).collect::<Vec<_>>(),
        [&ids[2], &ids[0], &ids[1], &ids[2], &ids[0]]
    );
}

/// A merge is a deletion and an update, and nothing says that they belong together; a conversion is
/// told by each object; whatever is removed for good is not told at all.
#[tokio::test]
async fn each_change_has_its_event_and_hard_delete_is_silent() {
    let bus = Bus::start().await;
    let salesforce = &bus.server.salesforce;
    let ids = bus.server.contacts(3);
    let lead = salesforce.create("Lead", &json!({"LastName": "Poe", "Company": "Raven"})).unwrap();
    let mut contacts = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    let mut leads = bus.subscribe(LEADS, None, 100).await.unwrap();

    salesforce.merge("Contact", &ids[0], &[&ids[1]]).unwrap();
    salesforce.hard_delete("Contact", &ids[2]).unwrap();
    salesforce.undelete(&ids[1]).unwrap();
    let converted = salesforce.convert_lead(&lead, None).unwrap();

    let told = contacts.told(4).await;
    assert_eq!(
        summary(&told),
        [
            ("DELETE", vec![ids[1].as_str()]),
            ("UPDATE", vec![&ids[0]]),
            ("UNDELETE", vec![&ids[1]]),
            ("CREATE", vec![&converted]),
        ]
    );
    assert_eq!(summary(&leads.told(1).await), [("UPDATE", vec![lead.as_str()])]);
}

#[tokio::test]
async fn served_over_tls_alone_by_its_certificate() {
    let bus = Bus::start().await;
    let known = |channel| async move {
        let request = signed(TopicRequest { topic_name: CONTACTS.to_owned() }, DEFAULT_ACCESS_TOKEN);
        PubSubClient::new(channel).get_topic(request).await.map(drop)
    };
    let plain = Endpoint::from_shared(format!("http://127.0.0.1:{}", bus.port)).unwrap().connect_lazy();
    let tls = ClientTlsConfig::new();
    let strange = Endpoint::from_shared(format!("https://localhost:{}", bus.port)).unwrap().tls_config(tls).unwrap();

    known(channel(bus.port, CERTIFICATE)).await.unwrap();
    assert!(known(plain).await.is_err());
    assert!(known(strange.connect_lazy()).await.is_err());
}

#[tokio::test]
async fn topics_are_of_selected_objects_and_need_their_rights() {
    let bus = Bus::start_with(|config| {
        config.captured = vec!["Contact".to_owned()];
        config.administrator_sees_all = false;
    })
    .await;
    let salesforce = &bus.server.salesforce;

    assert!(!bus.topic(CONTACTS).await.unwrap().can_subscribe);
    assert_eq!(bus.refusal(CONTACTS, None).await, "topic.meta.permission");
    let set = salesforce.records("PermissionSet").remove(0).id;
    let grant = json!({"ParentId": set, "SobjectType": "Contact", "PermissionsViewAllRecords": true});
    salesforce.create("ObjectPermissions", &grant).unwrap();
    let topic = bus.topic(CONTACTS).await.unwrap();
    assert!(topic.can_subscribe && !topic.can_publish);
    for (name, code) in [(LEADS, Code::NotFound), ("/data/ChangeEvents", Code::NotFound)] {
        let status = bus.topic(name).await.unwrap_err();
        assert_eq!((status.code(), word_of(&status).as_str()), (code, "topic.not.found"));
    }
    let mut reader = bus.subscribe(CONTACTS, None, 1).await.unwrap();
    salesforce.eventbus().capture("Lead", true).unwrap();
    salesforce.eventbus().capture("Contact", false).unwrap();
    assert!(!bus.topic(LEADS).await.unwrap().can_subscribe);
    assert_eq!(word_of(&reader.next().await.unwrap_err()), "topic.not.found");
}

#[tokio::test]
async fn each_call_needs_a_session_and_the_organization() {
    let bus = Bus::start().await;
    let mut reader = bus.subscribe(CONTACTS, None, 1).await.unwrap();
    let ask = async |request| bus.client.clone().get_topic(request).await;
    let topic = || TopicRequest { topic_name: CONTACTS.to_owned() };

    for name in ["tenantid", "instanceurl"] {
        let mut request = signed(topic(), DEFAULT_ACCESS_TOKEN);
        request.metadata_mut().remove(name);
        assert_eq!(word_of(&ask(request).await.unwrap_err()), "service.auth.headers.invalid");
    }
    assert_eq!(word_of(&ask(signed(topic(), "other")).await.unwrap_err()), "service.auth.error");
    bus.server.salesforce.expire_sessions();
    assert_eq!(word_of(&reader.next().await.unwrap_err()), "service.auth.error");
    assert_eq!(bus.refusal(CONTACTS, None).await, "service.auth.error");
}

/// The headers come with the first message, as at Salesforce; until then the call is not answered.
#[tokio::test]
async fn headers_come_with_the_first_message() {
    let bus = Bus::start().await;
    bus.server.salesforce.eventbus().change_plan(|plan| plan.late_headers = true);
    let mut subscribing = Box::pin(bus.subscribe(CONTACTS, None, 1));

    tokio::select! {
        biased;
        _ = &mut subscribing => panic!("answered without a message"),
        _ = bus.server.salesforce.eventbus().until(|report| report.open() == 1) => {}
    }
    let id = bus.server.contact("Doe");
    let told = subscribing.await.unwrap().told(1).await;

    assert_eq!(told[0].ids, [id]);
    bus.server.salesforce.eventbus().until(|report| report.open() == 0).await;
}

/// By the organisation's clock, and not before somebody says so; what says nothing passes nothing.
#[tokio::test]
async fn held_events_wait_until_they_are_let_go() {
    let bus = Bus::start().await;
    let eventbus = bus.server.salesforce.eventbus();
    let mut reader = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    eventbus.keep_alive();
    let before = reader.next().await.unwrap().latest_replay_id;
    eventbus.change_plan(|plan| plan.held_ms = Some(0));
    let id = bus.server.contact("Doe");
    assert!(eventbus.is_read("Contact", &before).unwrap());
    eventbus.keep_alive();
    let idle = reader.next().await.unwrap();
    assert_eq!((idle.events.len(), idle.latest_replay_id), (0, before.clone()));

    eventbus.deliver_due();

    assert!(!eventbus.is_read("Contact", &before).unwrap());
    let told = reader.told(1).await;
    assert_eq!(told[0].ids, [id.as_str()]);
    assert!(eventbus.is_read("Contact", &told[0].place).unwrap());
    bus.server.salesforce.touch_system("Contact", &id).unwrap();
    eventbus.deliver_due();
    assert!(eventbus.is_read("Contact", &told[0].place).unwrap(), "but for what tells nothing");
}

#[tokio::test]
async fn gaps_overflows_and_unreadable_payloads_are_sent() {
    let bus = Bus::start().await;
    let eventbus = bus.server.salesforce.eventbus();
    let mut reader = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    eventbus.change_plan(|plan| plan.loss = 1.0);
    let id = bus.server.contact("Doe");

    eventbus.gap("Contact", &[&id], GapKind::Create).unwrap();
    eventbus.overflow("Contact").unwrap();
    eventbus.wildcard("Contact").unwrap();
    let told = reader.told(3).await;
    eventbus.change_plan(|plan| plan.loss = 0.0);
    eventbus.corrupt_payloads(1);
    bus.server.contact("Roe");
    let corrupt = reader.next().await.unwrap();

    assert_eq!(
        summary(&told),
        [("GAP_CREATE", vec![id.as_str()]), ("GAP_OVERFLOW", vec!["000000000000000AAA"]), ("GAP_UPDATE", vec!["003*"]),]
    );
    assert_eq!(corrupt.events[0].event.as_ref().unwrap().payload, [0xff; 9]);
    assert!(eventbus.overflow("User").is_err());
}

/// Events keep the schema with which they were written.
#[tokio::test]
async fn new_field_is_another_schema() {
    let bus = Bus::start().await;
    let mut reader = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    bus.server.contact("Doe");
    bus.server.salesforce.eventbus().new_schema("Contact").unwrap();
    bus.server.contact("Roe");
    bus.server.salesforce.eventbus().until(|report| report.published == 2).await;

    let mut ids = Vec::new();
    while ids.len() < 2 {
        ids.extend(reader.next().await.unwrap().events.into_iter().map(|event| event.event.unwrap().schema_id));
    }
    let (old, new) = (bus.schema(&ids[0]).await, bus.schema(&ids[1]).await);
    assert_eq!(bus.topic(CONTACTS).await.unwrap().schema_id, ids[1]);
    assert_eq!(old["fields"][0]["name"], "ChangeEventHeader");
    assert_eq!(new["fields"][1]["name"], "Added_1__c");
    assert_eq!(old["fields"][1], new["fields"][2]);
}

#[tokio::test]
async fn subscriptions_are_refused_muted_and_ended_on_demand() {
    let bus = Bus::start().await;
    let eventbus = bus.server.salesforce.eventbus();
    eventbus.refuse("subscription.topic.cannot.subscribe", 2);
    for _ in 0..2 {
        assert_eq!(bus.refusal(CONTACTS, None).await, "subscription.topic.cannot.subscribe");
    }
    let mut reader = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    eventbus.change_plan(|plan| plan.is_muted = true);
    bus.server.contact("Doe");
    eventbus.keep_alive();
    eventbus.end_streams("service.protection.overload");
    let status = reader.next().await.unwrap_err();

    assert_eq!((status.code(), word_of(&status).as_str()), (Code::ResourceExhausted, "service.protection.overload"));
    assert_eq!(eventbus.report().delivered, 0);
    eventbus.change_plan(|plan| plan.is_muted = false);
    let mut reader = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    eventbus.end_streams("");
    let status = reader.next().await.unwrap_err();
    assert_eq!((status.code(), word_of(&status).as_str()), (Code::Unavailable, ""));
}

#[tokio::test]
async fn other_processes_steer_the_bus() {
    let bus = Bus::start().await;
    let mut reader = bus.subscribe(CONTACTS, None, 100).await.unwrap();
    let url = format!("{}/__control/eventbus", bus.server.base);
    let post = async |body: serde_json::Value| {
        bus.server.client.request(Method::POST, &url).json(&body).send().await.unwrap().status().as_u16()
    };

    assert_eq!(post(json!({"plan": {"loss": 1.0}})).await, 204);
    assert_eq!(post(json!({"gap": {"object": "Contact", "ids": ["a"], "kind": "delete"}})).await, 204);
    assert_eq!(post(json!({"gap": {"object": "User", "ids": [], "kind": "delete"}})).await, 400);
    assert_eq!(post(json!({"plan": {"loss": 1.0, "gain": 2}})).await, 400);
    bus.server.contact("Doe");
    assert_eq!(summary(&reader.told(1).await), [("GAP_DELETE", vec!["a"])]);
    let report: serde_json::Value = bus.server.client.get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!((&report["lost"], &report["subscribers"][CONTACTS]), (&json!(1), &json!(1)));
    assert_eq!(post(json!("keep_alive")).await, 204);
    assert!(reader.next().await.unwrap().events.is_empty());
}
