//! The edge at which CRMs push: strangers learn nothing and cost nothing, a flood costs little and
//! keeps nobody from asking, and what is answered well is stored.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use contact_sync::{domain::hook::HookAddress, rpc::pb, telemetry::metrics::MetricsPage};
use crm_simulator::push::HookCall;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    identity::erasure::listen,
    support::TestApp,
    support::sync::{ask_update, eventually, soon, sync_mode},
    sync::{
        authorize::{browser, start},
        push::{create, event, hints, pushed},
    },
};

const SIGNATURE: &str = "x-zendesk-webhook-signature";
const SIGNED_AT: &str = "x-zendesk-webhook-signature-timestamp";

/// The service, with an event of a real hook that was taken.
async fn with_event() -> (TestApp, HookCall) {
    let test = start().await;
    pushed(&test).await;
    let call = event(&test, "Bryce Love").await;
    assert_eq!(test.pipedrive.deliveries().delivered, 1);
    (test, call)
}

async fn send(client: &Client, call: &HookCall) -> Response {
    let mut request = client.request(Method::from_bytes(call.method.as_bytes()).unwrap(), &call.url);
    for (name, value) in &call.headers {
        request = request.header(*name, value);
    }
    request.body(call.body.clone()).send().await.unwrap()
}

/// Status, `Retry-After`, and whatever the body says.
async fn told(call: &HookCall) -> (StatusCode, String, String) {
    let answer = send(&browser(), call).await;
    let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    assert_eq!((header("server"), header("content-type")), (String::new(), String::new()));
    (answer.status(), header("retry-after"), answer.text().await.unwrap())
}

fn silent(status: StatusCode) -> (StatusCode, String, String) {
    (status, String::new(), String::new())
}

fn at(call: &HookCall, path: &str) -> HookCall {
    let base = &call.url[..call.url.find("/hooks/").unwrap()];
    HookCall { url: format!("{base}{path}"), ..call.clone() }
}

/// Whoever has no address of ours is answered without the database, and is told nothing.
#[tokio::test]
async fn strangers_are_answered_without_the_database() {
    let (test, call) = with_event().await;
    let address = call.url.rsplit('/').next().unwrap();
    let mut forged = address.to_owned();
    forged.replace_range(30..31, if address[30..].starts_with('A') { "B" } else { "A" });
    let large = "x".repeat(300 * 1024);
    test.db.execute("alter table push_channels rename to away").await;

    for path in [
        "/hooks/pipedrive".to_owned(),
        "/hooks/pipedrive/".to_owned(),
        "/hooks/pipedrive/x".to_owned(),
        format!("/hooks/pipedrive/{forged}"),
        format!("/hooks/zendesk/{address}"),
        format!("/hooks/acme/{address}"),
        format!("/hooks/pipedrive/{address}/x"),
        format!("/hooks/pipedrive/{}", "A".repeat(43)),
    ] {
        let status = told(&HookCall { body: large.clone(), ..at(&call, &path) }).await.0;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(told(&HookCall { method, ..call.clone() }).await, silent(StatusCode::NOT_FOUND), "{method}");
    }
    assert_eq!(told(&at(&call, &format!("/hooks/pipedrive/{forged}"))).await, silent(StatusCode::NOT_FOUND));
}

/// What is not the CRM's, too large, or too slow is refused without words, and stores nothing.
#[tokio::test]
async fn unsigned_large_and_slow_requests_store_nothing() {
    let (test, call) = with_event().await;
    test.db.execute("delete from hints").await;

    for headers in
        [vec![], vec![("authorization", "Basic eDp5".to_owned())], vec![("authorization", "x".repeat(9_000))]]
    {
        assert_eq!(told(&HookCall { headers, ..call.clone() }).await, silent(StatusCode::UNAUTHORIZED));
    }
    let large = HookCall { body: "x".repeat(256 * 1024 + 1), ..call.clone() };
    assert_eq!(told(&large).await, silent(StatusCode::PAYLOAD_TOO_LARGE));
    let host = call.url.split('/').nth(2).unwrap();
    let path = &call.url[call.url.find("/hooks/").unwrap()..];
    let mut undeclared = TcpStream::connect(host).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n");
    undeclared.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(64 * 1024));
    for _ in 0..5 {
        // The service may have closed it by then.
        let _ = undeclared.write_all(chunk.as_bytes()).await;
    }
    let mut status = [0; 12];
    soon("a refusal", undeclared.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");

    let mut slow = TcpStream::connect(host).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 100\r\n\r\n{{");
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the end of a slow request", slow.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
    assert!(hints(&test).await.is_empty());
}

/// A Zendesk's event must show a signature of its own secret, over its own bytes and a time of now.
#[tokio::test]
async fn forged_and_stale_signatures_are_refused() {
    let test = start().await;
    test.synced().await;
    let user = test.zendesk.create_user(&json!({"name": "Ann"})).unwrap();
    let call = test.zendesk.deliver_due().await.pop().unwrap();
    test.zendesk.update_user(user, &json!({"name": "Bea"})).unwrap();
    let other = test.zendesk.deliver_due().await.pop().unwrap();
    test.db.execute("delete from hints").await;
    let with = |name: &'static str, value: &str| {
        let kept = call.headers.iter().filter(|(known, _)| *known != name).cloned();
        HookCall { headers: kept.chain([(name, value.to_owned())]).collect(), ..call.clone() }
    };
    let without = |name: &'static str| {
        let kept = call.headers.iter().filter(|(known, _)| *known != name).cloned();
        HookCall { headers: kept.collect(), ..call.clone() }
    };
    let doubled = |name: &'static str| {
        let again = call.headers.iter().filter(|(known, _)| *known == name).cloned();
        HookCall { headers: call.headers.iter().cloned().chain(again).collect(), ..call.clone() }
    };
    let shown = |of: &HookCall| of.headers.iter().find(|(name, _)| *name == SIGNATURE).unwrap().1.clone();

    for forged in [
        without(SIGNATURE),
        without(SIGNED_AT),
        doubled(SIGNATURE),
        with(SIGNATURE, ""),
        with(SIGNATURE, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        with(SIGNATURE, &shown(&other)),
        with(SIGNATURE, &shown(&call).to_lowercase()),
        with(SIGNED_AT, "2026-11-30T12:00:00Z"),
        HookCall { body: other.body.clone(), ..call.clone() },
        HookCall { body: call.body.trim_end().to_owned(), ..call.clone() },
    ] {
        assert_eq!(told(&forged).await, silent(StatusCode::UNAUTHORIZED), "{:?}", forged.headers);
    }
    test.pass(TimeDelta::seconds(301));
    assert_eq!(told(&call).await, silent(StatusCode::UNAUTHORIZED), "it is stale");
    assert!(hints(&test).await.is_empty());
    test.zendesk.update_user(user, &json!({"name": "Cid"})).unwrap();
    test.zendesk.deliver_due().await;
    assert_eq!(hints(&test).await, [format!("user/{user}")], "its own go on being taken");
}

/// However much comes to one address, others have places.
#[tokio::test]
async fn one_address_leaves_places_for_others() {
    let (test, call) = with_event().await;
    let address = test.app.hooks.address("pipedrive", call.url.rsplit('/').next().unwrap()).unwrap().1;
    let mut asking = JoinSet::new();
    for _ in 0..300 {
        let hooks = Arc::clone(&test.app.hooks);
        asking.spawn(async move { hooks.admit(address).await });
    }
    let (mut held, mut refused) = (Vec::new(), 0);
    // As many as there would be if it could take all places of the process.
    while held.len() < 8 || refused < 108 {
        match asking.join_next().await.unwrap().unwrap() {
            Some(place) => held.push(place),
            None => refused += 1,
        }
    }

    let other = HookAddress { number: !address.number, ..address };
    assert!(test.app.hooks.admit(other).await.is_some());
    drop(held);
    asking.shutdown().await;
    assert!(test.app.hooks.admit(address).await.is_some(), "places are given back");
}

/// An event that is the CRM's and not understood says that anything may have changed; the same one
/// twice is one hint; one of another object is nothing.
#[tokio::test]
async fn events_become_one_hint_each() {
    let (test, call) = with_event().await;
    let before = hints(&test).await;
    assert_eq!(before.len(), 1);
    assert_eq!(told(&call).await, silent(StatusCode::NO_CONTENT));
    let deal = HookCall { body: r#"{"meta":{"entity":"deal"}}"#.into(), ..call.clone() };
    assert_eq!(told(&deal).await, silent(StatusCode::NO_CONTENT));
    assert_eq!(hints(&test).await, before);

    assert_eq!(told(&HookCall { body: "{".into(), ..call }).await, silent(StatusCode::NO_CONTENT));
    assert_eq!(hints(&test).await, [vec!["/".to_owned()], before].concat());
    let page = MetricsPage::begin().text();
    for outcome in ["stored", "ignored", "unreadable"] {
        assert!(
            page.contains(&format!(r#"contact_sync_hooks_total{{provider="PIPEDRIVE",outcome="{outcome}"}}"#)),
            "{page}"
        );
    }
    assert!(page.contains("contact_sync_push_lag_seconds_count"));
}

/// Without its database the service asks for the event again, and does not forget to.
#[tokio::test]
async fn database_away_is_503_with_retry_after() {
    let (test, call) = with_event().await;
    test.db.execute("delete from hints; alter table hints rename to away").await;
    let again = (StatusCode::SERVICE_UNAVAILABLE, "30".to_owned(), String::new());
    assert_eq!(told(&call).await, again);
    test.db.execute("alter table away rename to hints").await;

    assert_eq!(told(&call).await, silent(StatusCode::NO_CONTENT));
    assert_eq!(hints(&test).await.len(), 1);
}

/// Of what is switched off nothing is stored, and the CRM is not made to try again.
#[tokio::test]
async fn switched_off_integration_stores_nothing() {
    let test = start().await;
    let (account, integration) = pushed(&test).await;
    ask_update(&test, &account, &integration, Some(sync_mode(pb::SyncMode::Off)), None).await.unwrap();

    let call = event(&test, "Bryce Love").await;

    assert_eq!(told(&call).await, silent(StatusCode::NO_CONTENT));
    assert!(hints(&test).await.is_empty());
}

/// A connection is kept for the next event, and for nothing else.
#[tokio::test]
async fn connection_is_kept_for_events_alone() {
    let (_test, call) = with_event().await;
    let host = call.url.split('/').nth(2).unwrap();
    let path = &call.url[call.url.find("/hooks/").unwrap()..];
    let headers: Vec<String> = call.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let post = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {}\r\n\r\n{}",
        call.body.len(),
        call.body
    );
    let mut stream = TcpStream::connect(host).await.unwrap();
    for _ in 0..3 {
        stream.write_all(post.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("an answer", stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 204") && !head.contains("connection: close"), "{head}");
    }

    stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    let mut rest = String::new();
    soon("the end of the connection", stream.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200") && rest.contains("connection: close"), "{rest}");
}

/// Connections that are kept and idle make room for whoever asks.
#[tokio::test]
async fn idle_connections_make_room() {
    let (test, call) = with_event().await;
    let mut kept = Vec::new();
    for _ in 0..300 {
        let client = browser();
        assert_eq!(send(&client, &call).await.status(), StatusCode::NO_CONTENT);
        kept.push(client);
    }

    let url = test.config.http.public_url.clone().unwrap();
    let asking = browser().get(format!("{url}/healthz")).timeout(Duration::from_secs(9)).send();
    assert_eq!(asking.await.unwrap().status(), StatusCode::OK);
}

/// A burst of 10,000 leaves few rows and the callback answering; what finds no room is asked for
/// again.
#[tokio::test]
async fn burst_leaves_few_hints_and_the_callback_answering() {
    let (test, call) = with_event().await;
    let url = format!("{}/oauth/callback", test.config.http.public_url.as_ref().unwrap());
    let mut burst = JoinSet::new();
    for sender in 0..40 {
        let call = call.clone();
        burst.spawn(async move {
            let (client, mut taken) = (browser(), 0);
            for n in 0..250 {
                let id = 1_000 + sender * 250 + n;
                let body = format!(r#"{{"meta":{{"entity":"person","action":"change","entity_id":"{id}"}}}}"#);
                let status = send(&client, &HookCall { body, ..call.clone() }).await.status();
                assert!([StatusCode::NO_CONTENT, StatusCode::SERVICE_UNAVAILABLE].contains(&status), "{status}");
                taken += usize::from(status == StatusCode::NO_CONTENT);
            }
            taken
        });
    }
    for _ in 0..5 {
        let answer = browser().get(&url).timeout(Duration::from_secs(30)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "it is asked without parameters");
    }
    let taken: usize = burst.join_all().await.into_iter().sum();

    let waiting = hints(&test).await;
    assert!(taken > 250 && waiting.len() <= 510, "{taken} taken, {} wait", waiting.len());
    assert!(waiting.contains(&"/".to_owned()), "the whole integration is to be polled");
}

/// A stop takes what is under way, and nothing more: an event that is answered well is stored.
#[tokio::test]
async fn event_under_way_at_a_stop_is_stored_and_answered() {
    let (test, call) = with_event().await;
    test.db.execute("delete from hints").await;
    let host = call.url.split('/').nth(2).unwrap();
    let path = &call.url[call.url.find("/hooks/").unwrap()..];
    let headers: Vec<String> = call.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\n{}content-length: {}\r\n\r\n",
        headers.concat(),
        call.body.len(),
    );
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    soon("a word to go on", stream.read_exact(&mut asked)).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");

    test.lifecycle.soft().cancel();
    eventually("nobody is let in", async || TcpStream::connect(host).await.is_err()).await;
    stream.write_all(call.body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the end of the connection", stream.read_to_string(&mut answer)).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 204") && answer.contains("connection: close"), "{answer}");
    assert_eq!(hints(&test).await.len(), 1);
}

/// Nothing of an event is in the log.
#[tokio::test]
async fn nothing_of_an_event_is_logged() {
    let (log, _logging) = listen();
    let (test, call) = with_event().await;
    for body in ["{", r#"{"meta":{"entity":"person","entity_id":"47110815"},"data":{"name":"Mallory"}}"#] {
        told(&HookCall { body: body.into(), ..call.clone() }).await;
    }
    told(&HookCall { headers: vec![("authorization", "Basic TWFsbG9yeTp4".into())], ..call.clone() }).await;
    create(&test, "Mallory");
    test.pipedrive.deliver_due().await;

    let logged = log.text();
    let address = call.url.rsplit('/').next().unwrap();
    for personal in ["Mallory", "47110815", "TWFsbG9yeTp4", address] {
        assert!(!logged.contains(personal), "{personal}");
    }
}

/// Nor of a Zendesk's, which may hold the very number.
#[tokio::test]
async fn nothing_of_an_identity_event_is_logged() {
    let (log, _logging) = listen();
    let test = start().await;
    test.synced().await;
    let user = test.zendesk.create_user(&json!({"name": "Mallory"})).unwrap();
    test.zendesk.add_identity(user, &json!({"type": "phone_number", "value": "+13108675309"})).unwrap();
    let call = test.zendesk.deliver_due().await.pop().unwrap();
    assert!(call.body.contains("+13108675309"), "the event has it");
    told(&HookCall { body: call.body.replace("user", "{"), ..call.clone() }).await;
    assert_eq!(test.zendesk.deliveries().failed, 0);

    let logged = log.text();
    let signature = &call.headers.iter().find(|(name, _)| *name == SIGNATURE).unwrap().1;
    for personal in ["Mallory", "3108675309", signature, call.url.rsplit('/').next().unwrap()] {
        assert!(!logged.contains(personal), "{personal}");
    }
}
