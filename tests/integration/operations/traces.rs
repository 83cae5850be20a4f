//! Traces: one of the router's reaches through the call to the database and the CRM; a run has one
//! of its own; what nobody wants is not sent, and nothing personal is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use contact_sync::{
    domain::call_ref::CallRefKey,
    rpc::pb::{caller_service_client::CallerServiceClient, sync_service_client::SyncServiceClient},
    telemetry::traces::TraceExport,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};
use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};
use tracing_subscriber::{Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, registry};

use crate::{
    identity::erasure::Log,
    support::calls::call_with_id,
    support::sync::eventually,
    support::{KEY_RING_KEY, TestApp, enable_request},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROUTERS_SPAN: &str = "b7ad6b7169203331";

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector, and the way to it for all tasks of this thread.
async fn collect(per_mille: u32) -> (Collector, Arc<TraceExport>, DefaultGuard) {
    let (collector, export, _, guard) = collect_with_log(per_mille).await;
    (collector, export, guard)
}

/// The same, with what is logged.
async fn collect_with_log(per_mille: u32) -> (Collector, Arc<TraceExport>, Log, DefaultGuard) {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let export = Arc::new(TraceExport::start(&endpoint, per_mille, uuid::Uuid::max()).unwrap());
    let (log, filter) = (Log::default(), Targets::new().with_target("access", LevelFilter::INFO));
    let writer = log.clone();
    let lines = fmt::layer().with_ansi(false).with_writer(move || writer.clone()).with_filter(filter);
    let guard = tracing::subscriber::set_default(registry().with(export.layer()).with(lines));
    tracing::callsite::rebuild_interest_cache();
    (collector, export, log, guard)
}

impl Collector {
    /// What has come, after all that was left has been sent.
    async fn spans(&self, export: &Arc<TraceExport>) -> Vec<Span> {
        let export = Arc::clone(export);
        tokio::task::spawn_blocking(move || export.flush()).await.unwrap();
        self.0.lock().unwrap().clone()
    }
}

/// As a `traceparent` writes it: 16 digits, or 32.
fn hex(bytes: &[u8]) -> String {
    let number = bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    format!("{number:0width$x}", width = 2 * bytes.len())
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |of: &KeyValue| match of.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    };
    span.attributes.iter().map(|of| (of.key.as_str(), text(of))).collect()
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// Within this one, at any depth.
fn is_within(spans: &[Span], span: &Span, root: &Span) -> bool {
    let parent = spans.iter().find(|of| of.span_id == span.parent_span_id);
    parent.is_some_and(|parent| parent.span_id == root.span_id || is_within(spans, parent, root))
}

fn traced<T>(test: &TestApp, message: T, flag: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", test.bearer().parse().unwrap());
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{ROUTERS_SPAN}-{flag}").parse().unwrap());
    request
}

/// A call is a part of the router's trace, down to the database, and is found by its reference.
#[tokio::test]
async fn routers_trace_reaches_through_call_to_database() {
    let (collector, export, log, _guard) = collect_with_log(0).await;
    let test = TestApp::start().await;
    let account = test.account().await;
    let call_id = "3f2a-13105550123@pbx.example.com";
    let mut callers = CallerServiceClient::new(test.channel.clone());

    callers.match_caller(traced(&test, call_with_id(&account, "+13105550123", call_id), "01")).await.unwrap();
    // Of these nobody wants one.
    callers.match_caller(traced(&test, call_with_id(&account, "+13105550124", "other"), "00")).await.unwrap();
    test.match_caller(call_with_id(&account, "+13105550125", "third")).await;

    let spans = collector.spans(&export).await;
    let calls = named(&spans, "rpc");
    assert_eq!(calls.len(), 1, "{calls:?}");
    let call = calls[0];
    assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (TRACE.to_owned(), ROUTERS_SPAN.to_owned()));
    let said = attributes(call);
    let call_ref = CallRefKey::derive(&KEY_RING_KEY).call_ref(account.parse().unwrap(), call_id).to_string();
    assert_eq!((said["call.ref"].as_str(), said["rpc.code"].as_str()), (call_ref.as_str(), "OK"));
    // The line in the log names the trace; those of others name none.
    let lines = || log.text().lines().filter(|line| line.contains("MatchCaller")).count();
    eventually("the lines", async || lines() >= 3).await;
    let naming: Vec<String> = log.text().lines().filter(|line| line.contains("trace.id")).map(str::to_owned).collect();
    assert!(naming.len() == 1 && naming[0].contains(TRACE) && naming[0].contains(&call_ref), "{naming:?}");
    let looks = named(&spans, "database");
    assert!(!looks.is_empty() && looks.iter().all(|span| is_within(&spans, span, call)), "{spans:?}");
    let all = format!("{spans:?}");
    for personal in ["13105550123", "pbx.example.com", "Bearer"] {
        assert!(!all.contains(personal), "{personal}");
    }
}

/// A call that asks a CRM is traced into it, and a run has a trace of its own.
#[tokio::test]
async fn traces_reach_crms_and_runs_have_their_own() {
    let (collector, export, _guard) = collect(0).await;
    let test = TestApp::start().await;
    let account = test.account().await;

    let mut syncs = SyncServiceClient::new(test.channel.clone());
    syncs.enable_sync(traced(&test, enable_request(&account, "acme"), "01")).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    let spans = collector.spans(&export).await;
    let (call, run) = (named(&spans, "rpc")[0], named(&spans, "sync_run")[0]);
    for root in [call, run] {
        for name in ["crm_request", "transaction"] {
            assert!(named(&spans, name).iter().any(|span| is_within(&spans, span, root)), "{name} in {}", root.name);
        }
    }
    assert_ne!(run.trace_id, call.trace_id);
    assert!(attributes(run).contains_key("sync_run.id"));
    let request = named(&spans, "crm_request")[0];
    assert_eq!(
        (attributes(request)["provider"].as_str(), attributes(request)["outcome"].as_str()),
        ("ZENDESK", "answered")
    );
    let all = format!("{spans:?}");
    for personal in ["acme", "admin@example.com", "secret"] {
        assert!(!all.contains(personal), "{personal}");
    }
}
