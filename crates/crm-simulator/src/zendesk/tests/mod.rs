//! The simulated Zendesk over real HTTP, on a clock that the test moves.

mod api;
mod export;
mod faults;
mod files;
mod tokens;

use std::sync::{
    Arc, Once,
    atomic::{AtomicI64, Ordering},
};

use chrono::DateTime;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{DEFAULT_BEARER_TOKEN, Zendesk, ZendeskConfig, router};

/// The clock's first second.
const START: i64 = 1_790_000_000;

static CRYPTO: Once = Once::new();

/// A running server; it stops when the test ends.
struct Server {
    zendesk: Arc<Zendesk>,
    base: String,
    client: reqwest::Client,
    seconds: Arc<AtomicI64>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(configure: impl FnOnce(&mut ZendeskConfig)) -> Self {
        let seconds = Arc::new(AtomicI64::new(START));
        let clock = Arc::clone(&seconds);
        let mut config = ZendeskConfig::new(Arc::new(move || {
            DateTime::from_timestamp(clock.load(Ordering::SeqCst), 0).expect("a second of this age")
        }));
        config = config.without_lag();
        configure(&mut config);
        let zendesk = Zendesk::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let tracker = TaskTracker::new();
        tracker.spawn(crate::serve(listener, router(Arc::clone(&zendesk)), shutdown.clone()));
        tracker.close();
        Self { zendesk, base, client: client(), seconds, shutdown, tracker }
    }

    fn advance(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    fn create(&self, user: &Value) -> i64 {
        self.zendesk.create_user(user).unwrap()
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        self.try_send(method, path, body).await.unwrap()
    }

    async fn try_send(&self, method: Method, path: &str, body: Option<&Value>) -> reqwest::Result<Response> {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let request = self.client.request(method, url).bearer_auth(DEFAULT_BEARER_TOKEN);
        let request = if let Some(body) = body { request.json(body) } else { request };
        request.send().await
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

    /// Reads the export to its end: the ids in the order in which they came, and the last cursor.
    async fn export(&self, first: &str) -> (Vec<i64>, String) {
        let mut ids = Vec::new();
        let mut path = first.to_owned();
        for _ in 0..1_000 {
            let page = self.get(&path).await;
            ids.extend(ids_of(&page["users"]));
            if page["end_of_stream"] == true {
                return (ids, page["after_cursor"].as_str().unwrap().to_owned());
            }
            path = page["after_url"].as_str().unwrap().to_owned();
        }
        panic!("the export does not end");
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

fn ids_of(list: &Value) -> Vec<i64> {
    list.as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}
