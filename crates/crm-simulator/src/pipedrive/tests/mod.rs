//! The simulated Pipedrive over real HTTP, on a clock that the test moves.

mod api;
mod faults;
mod files;
mod limits;
mod lists;
mod tokens;

use std::sync::{
    Arc, Once,
    atomic::{AtomicI64, Ordering},
};

use chrono::DateTime;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{DEFAULT_API_TOKEN, Pipedrive, PipedriveConfig, router};

/// The clock's first second: 2026-09-21T14:13:20Z.
const START: i64 = 1_790_000_000;

static CRYPTO: Once = Once::new();

/// A running server; it stops when the test ends.
struct Server {
    pipedrive: Arc<Pipedrive>,
    base: String,
    client: reqwest::Client,
    millis: Arc<AtomicI64>,
    shutdown: CancellationToken,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(configure: impl FnOnce(&mut PipedriveConfig)) -> Self {
        let millis = Arc::new(AtomicI64::new(START * 1_000));
        let clock = Arc::clone(&millis);
        let mut config = PipedriveConfig::new(Arc::new(move || {
            DateTime::from_timestamp_millis(clock.load(Ordering::SeqCst)).expect("a time of this age")
        }));
        config = config.without_lag();
        configure(&mut config);
        let pipedrive = Pipedrive::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let serving = crate::serve(listener, router(Arc::clone(&pipedrive)), shutdown.clone());
        tokio_util::task::TaskTracker::new().spawn(serving);
        Self { pipedrive, base, client: client(), millis, shutdown }
    }

    fn advance_millis(&self, millis: i64) {
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }

    fn advance(&self, seconds: i64) {
        self.advance_millis(seconds * 1_000);
    }

    /// A person with one number.
    fn create(&self, name: &str, phone: &str) -> i64 {
        self.pipedrive.create_person(&json!({"name": name, "phones": [{"value": phone}]})).unwrap()
    }

    fn create_many(&self, count: usize) -> Vec<i64> {
        (0..count).map(|number| self.create(&format!("P{number}"), &format!("{number}"))).collect()
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = request.header("x-api-token", DEFAULT_API_TOKEN);
        let request = if let Some(body) = body { request.json(body) } else { request };
        request.send().await.unwrap()
    }

    /// Status and JSON body.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let response = self.send(method, path, body).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// Reads a list to its end: the ids in the order in which they came.
    async fn list(&self, first: &str) -> Vec<i64> {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        for _ in 0..1_000 {
            let page = self.get(&format!("{first}{cursor}")).await;
            ids.extend(ids_of(&page["data"]));
            let Some(next) = page["additional_data"]["next_cursor"].as_str() else { return ids };
            cursor = format!("&cursor={next}");
        }
        panic!("the list does not end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests of the simulator know nothing of the crate's own client")]
fn client() -> reqwest::Client {
    CRYPTO.call_once(|| {
        // Somebody else may have installed it already: any provider will do for plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

fn ids_of(list: &Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}
