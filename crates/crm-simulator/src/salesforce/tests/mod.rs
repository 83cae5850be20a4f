//! The simulated Salesforce over real HTTP, on a clock that the test moves.

mod api;
mod bulk;
mod changes;
mod eventbus;
mod faults;
mod files;
mod login;
mod pages;
mod persons;
mod queries;
mod sharing;
mod soap;

use std::sync::{
    Arc, Once,
    atomic::{AtomicI64, Ordering},
};

use chrono::DateTime;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{DEFAULT_ACCESS_TOKEN, Salesforce, SalesforceConfig, router};

/// The clock's first millisecond: 2026-09-21T14:13:20.000Z.
const START: i64 = 1_790_000_000_000;
const DATA: &str = "/services/data/v67.0";

static CRYPTO: Once = Once::new();

/// A running server; it stops when the test ends.
struct Server {
    salesforce: Arc<Salesforce>,
    base: String,
    client: reqwest::Client,
    millis: Arc<AtomicI64>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(configure: impl FnOnce(&mut SalesforceConfig)) -> Self {
        let millis = Arc::new(AtomicI64::new(START));
        let clock = Arc::clone(&millis);
        let mut config = SalesforceConfig::new(Arc::new(move || {
            DateTime::from_timestamp_millis(clock.load(Ordering::SeqCst)).expect("a time of this age")
        }));
        config = config.without_lag();
        configure(&mut config);
        let salesforce = Salesforce::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let tracker = TaskTracker::new();
        tracker.spawn(crate::serve(listener, router(Arc::clone(&salesforce)), shutdown.clone()));
        tracker.close();
        Self { salesforce, base, client: client(), millis, shutdown, tracker }
    }

    fn advance(&self, millis: i64) {
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }

    fn contact(&self, name: &str) -> String {
        self.salesforce.create("Contact", &json!({"LastName": name})).unwrap()
    }

    fn contacts(&self, count: usize) -> Vec<String> {
        (0..count).map(|number| self.contact(&format!("C{number:03}"))).collect()
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        self.try_send(method, path, body).await.unwrap()
    }

    async fn try_send(&self, method: Method, path: &str, body: Option<&Value>) -> reqwest::Result<Response> {
        let path = if path.starts_with("/services") { path.to_owned() } else { format!("{DATA}{path}") };
        let request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(DEFAULT_ACCESS_TOKEN);
        let request = if let Some(body) = body { request.json(body) } else { request };
        request.send().await
    }

    /// Status and JSON body.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let response = self.send(method, path, body).await;
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK.as_u16(), "{path}: {body}");
        body
    }

    /// Status and error code of a call that is refused.
    async fn refusal(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, String) {
        let (status, body) = self.ask(method, path, body).await;
        (status, body[0]["errorCode"].as_str().unwrap_or_default().to_owned())
    }

    /// The first page of a query.
    async fn query(&self, statement: &str) -> Value {
        self.get(&query_path("query", statement)).await
    }

    async fn query_all(&self, statement: &str) -> Value {
        self.get(&query_path("queryAll", statement)).await
    }

    /// All rows of a query, page by page.
    async fn read(&self, path: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut path = path.to_owned();
        for _ in 0..1_000 {
            let mut page = self.get(&path).await;
            rows.append(page["records"].as_array_mut().unwrap());
            if page["done"] == true {
                assert!(page.get("nextRecordsUrl").is_none());
                return rows;
            }
            page["nextRecordsUrl"].as_str().unwrap().clone_into(&mut path);
        }
        panic!("the result does not end");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tracker.wait().await;
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

fn query_path(resource: &str, statement: &str) -> String {
    format!("/{resource}?q={}", crate::call::percent_encoded(statement))
}

/// The texts of a field in rows.
fn column<'a>(rows: impl IntoIterator<Item = &'a Value>, field: &str) -> Vec<&'a str> {
    rows.into_iter().map(|row| row[field].as_str().unwrap_or("null")).collect()
}

fn rows(page: &Value) -> &[Value] {
    page["records"].as_array().unwrap()
}
