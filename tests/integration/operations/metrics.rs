//! What is seen from outside: every metric is moved by what it counts, and by nothing personal; one
//! line of the access log for each call, and the same call in it by its reference.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use contact_sync::{
    app,
    domain::{call_ref::CallRefKey, clock::Clock as _},
    rpc::pb::{
        self, SyncMode, UpdateAccountRequest,
        health::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient},
    },
    telemetry::metrics::{METRICS, MetricKind},
};
use crm_simulator::faults::{Fault, FaultRule};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::{Code, Request};

use crate::{
    identity::erasure::listen,
    support::calls::call_with_id,
    support::hints::{HintWriter, drain, event},
    support::sync::{EXPORT, ask_disable, ask_update, eventually, sync_mode},
    support::{KEY_RING, KEY_RING_KEY, TestApp, bearer, call, salesforce_connection},
};

fn is(value: f64, expected: i32) -> bool {
    (value - f64::from(expected)).abs() < f64::EPSILON
}

/// What the process shows on its own listener, by name and labels.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(url: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "Prometheus")]
        let answer = reqwest::Client::new().get(url).send().await.unwrap();
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
        let text = answer.text().await.unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(
            series
                .map(|line| line.rsplit_once(' ').unwrap())
                .map(|(key, value)| (key.to_owned(), value.parse().unwrap()))
                .collect(),
        )
    }

    /// The sum of the series of this metric that have all these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let label = |(name, value): &(&str, &str)| format!("{name}=\"{value}\"");
        let has = |key: &str| labels.iter().map(label).all(|label| key.contains(&label));
        self.0.iter().filter(|(key, _)| key.split('{').next() == Some(name) && has(key)).map(|(_, value)| value).sum()
    }

    fn names(&self) -> BTreeSet<&str> {
        let bare = |key: &'_ str| key.split('{').next().unwrap_or_default().len();
        self.0.keys().map(|key| &key[..bare(key)]).collect()
    }
}

/// What a histogram shows of itself.
fn shown(name: &str, kind: MetricKind) -> String {
    if kind == MetricKind::Histogram { format!("{name}_count") } else { name.to_owned() }
}

async fn with_admin(test: &TestApp) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    app::start_admin(listener, test.health.clone(), &test.lifecycle);
    url
}

/// A whole copy with a record that cannot be read, another of another CRM, a call that is answered,
/// and one without a good token. The account.
async fn copy_and_refuse(test: &TestApp) -> String {
    test.pass(TimeDelta::seconds(7));
    test.user("Ann Broken", "+13108675307");
    test.pass(TimeDelta::seconds(1));
    test.user("Bea Sound", "+13108675301");
    let replace = vec![("T09:00:07".to_owned(), b" at seven ".to_vec())];
    test.zendesk.faults().add(FaultRule::once(EXPORT, Fault::Bytes { replace })).unwrap();
    let (account, integration) = test.synced().await;
    let hints = HintWriter::new(test, &account, &integration);
    for many in [1, 30] {
        hints.write(&(1..=many).map(|id| event(id, test.clock.now())).collect::<Vec<_>>()).await;
        drain(test).await;
    }
    let salesforce = pb::EnableSyncRequest {
        account_id: account.clone(),
        provider: pb::Provider::Salesforce.into(),
        connection: Some(salesforce_connection()),
        credentials: Some(bearer(crm_simulator::salesforce::DEFAULT_ACCESS_TOKEN)),
        ..Default::default()
    };
    test.syncs().enable_sync(salesforce).await.unwrap();
    test.sync_due().await;
    test.match_caller(call_with_id(&account, "+13105559999", "call-1")).await;
    let mut request = Request::new(call(&account, "+13105559999"));
    request.metadata_mut().insert("authorization", "Bearer nonsense".parse().unwrap());
    let refused = pb::caller_service_client::CallerServiceClient::new(test.channel.clone()).match_caller(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    account
}

/// More streams without a token than a connection may have.
async fn crowd(test: &TestApp) -> Vec<tonic::Response<tonic::Streaming<HealthCheckResponse>>> {
    let mut streams = Vec::new();
    loop {
        match HealthClient::new(test.channel.clone()).watch(HealthCheckRequest::default()).await {
            Ok(stream) => streams.push(stream),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                return streams;
            }
        }
    }
}

/// A change that meets another once, and two that wait for the only connection in vain.
async fn meet_and_wait(test: &TestApp, account: &str) {
    test.db
        .execute(
            "create sequence tries;
            create function meet() returns trigger language plpgsql as $$ begin
                if nextval('tries') = 1 then raise exception 'met another' using errcode = '40001'; end if;
                return new;
            end $$;
            create trigger meets before update on accounts for each row execute function meet()",
        )
        .await;
    let update = || UpdateAccountRequest {
        account_id: account.to_owned(),
        account: Some(pb::Account { display_name: "Other".into(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".into()] }),
    };
    test.accounts().update_account(update()).await.unwrap();
    let mut lock = test.db.pool.begin().await.unwrap();
    sqlx::query("lock table accounts in access exclusive mode").execute(&mut *lock).await.unwrap();
    let (mut one, mut two) = (test.accounts(), test.accounts());
    let both = async { tokio::join!(one.update_account(update()), two.update_account(update())) };
    let (first, second) = both.await;
    assert!(first.is_err() && second.is_err());
    lock.rollback().await.unwrap();
}

/// Each metric of the list moves when what it counts happens through the API.
#[tokio::test]
async fn every_metric_is_moved_by_what_it_counts() {
    let test = TestApp::start_with(|config| {
        config.pools.api.connections = 1;
        config.pools.api.acquire_timeout_ms = 50;
    })
    .await;
    let url = with_admin(&test).await;
    let before = Scrape::of(&url).await;

    let account = copy_and_refuse(&test).await;
    let streams = crowd(&test).await;
    meet_and_wait(&test, &account).await;
    test.app.report_figures().await;

    let after = Scrape::of(&url).await;
    let moved: &[(&str, &[(&str, &str)])] = &[
        (
            "contact_sync_calls_total",
            &[("method", "CallerService/MatchCaller"), ("outcome", "MATCH_OUTCOME_CREATED"), ("code", "OK")],
        ),
        ("contact_sync_call_seconds", &[("method", "CallerService/MatchCaller")]),
        ("contact_sync_calls_refused_total", &[("why", "connection")]),
        ("contact_sync_tokens_refused_total", &[("reason", "TOKEN_INVALID")]),
        ("contact_sync_connections", &[]),
        ("contact_sync_places", &[("room", "calls")]),
        ("contact_sync_pool_connections", &[("pool", "calls"), ("state", "idle")]),
        ("contact_sync_pool_connections_max", &[("pool", "api")]),
        ("contact_sync_pool_wait_seconds", &[("pool", "api")]),
        ("contact_sync_pool_waits_in_vain_total", &[("pool", "api")]),
        ("contact_sync_transaction_seconds", &[("transaction", "apply_page"), ("result", "committed")]),
        ("contact_sync_transaction_conflicts_total", &[]),
        ("contact_sync_crm_requests_total", &[("provider", "ZENDESK"), ("outcome", "answered")]),
        ("contact_sync_crm_request_seconds", &[("provider", "SALESFORCE")]),
        ("contact_sync_crm_quota_left_ratio", &[("provider", "SALESFORCE"), ("quota", "day")]),
        ("contact_sync_crm_quota_used_ratio", &[("provider", "SALESFORCE"), ("quota", "day")]),
        ("contact_sync_pages_total", &[("provider", "ZENDESK")]),
        ("contact_sync_records_total", &[("provider", "ZENDESK")]),
        ("contact_sync_records_rejected_total", &[("provider", "ZENDESK")]),
        ("contact_sync_runs_total", &[("provider", "ZENDESK"), ("outcome", "complete")]),
        ("contact_sync_integrations", &[("provider", "ZENDESK"), ("state", "ACTIVE")]),
        ("contact_sync_integrations_with_unread", &[("provider", "ZENDESK")]),
        ("contact_sync_hints_waiting", &[]),
        ("contact_sync_hints_total", &[("provider", "ZENDESK"), ("outcome", "settled")]),
        ("contact_sync_hint_seconds", &[("provider", "ZENDESK")]),
        ("contact_sync_hint_storms_total", &[("provider", "ZENDESK")]),
        ("contact_sync_build_info", &[]),
        ("contact_sync_ready", &[]),
    ];
    // Of these a test of its own tells how they move.
    let elsewhere = [
        "contact_sync_places_taken",
        "contact_sync_hooks_total",
        "contact_sync_push_lag_seconds",
        "contact_sync_push_streams",
        "contact_sync_push_events_total",
        "contact_sync_push_stream_ends_total",
        "contact_sync_push_channels",
        "contact_sync_events_missed_total",
        "contact_sync_uninstalls_total",
        "contact_sync_pool_waiting",
        "contact_sync_lag_seconds",
        "contact_sync_integrations_overdue",
        "contact_sync_feed_backlog_seconds",
        "contact_sync_records_asked_again_total",
        "contact_sync_hints_oldest_seconds",
        "contact_sync_statistics_age_seconds",
        "contact_sync_log_lines_lost_total",
        "contact_sync_look_aside_seconds",
        "contact_sync_look_asides_total",
        "contact_sync_look_asides_waiting",
    ];
    for (name, labels) in moved {
        let kind = METRICS.iter().find(|metric| metric.name == *name).unwrap().kind;
        let (name, labels) = (shown(name, kind), *labels);
        let (was, is) = (before.sum(&name, labels), after.sum(&name, labels));
        assert!(is > was || (is > 0.0 && kind == MetricKind::Gauge), "{name} {labels:?} was {was} and is {is}");
    }
    let told: BTreeSet<&str> = moved.iter().map(|(name, _)| *name).chain(elsewhere).collect();
    assert_eq!(told, METRICS.iter().map(|metric| metric.name).collect(), "each metric has its event");
    let listed: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    for name in after.names() {
        let of = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(listed.contains(of) || listed.contains(name), "{name} is in no list");
    }
    let keys: Vec<&String> = after.0.keys().collect();
    for personal in [account.as_str(), "13105559999", "Ann", "call-1", "acme"] {
        assert!(!keys.iter().any(|key| key.contains(personal)), "{personal} in a label");
    }
    drop(streams);
}

/// A copy that may be from before its record's deletion is told, once the CRM is asked for it.
#[tokio::test]
async fn record_that_is_asked_for_again_is_told() {
    let test = TestApp::start().await;
    let url = with_admin(&test).await;
    let user = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, _) = test.synced().await;
    test.zendesk.update_user(user, &json!({"name": "Anna"})).unwrap();
    test.zendesk.delete_user(user).unwrap();
    let asked_again = async || {
        test.pass(TimeDelta::minutes(30));
        assert_eq!(test.sync_due().await, 1);
        Scrape::of(&url).await.sum("contact_sync_records_asked_again_total", &[("provider", "ZENDESK")])
    };

    assert!(is(asked_again().await, 0));
    test.zendesk.faults().add(FaultRule::once(EXPORT, Fault::StaleRow { id: Some(user) })).unwrap();

    assert!(is(asked_again().await, 1));
    assert!(test.look_up(&account, "+13108675301").await.selected.is_none());
}

/// How far behind a copy is, and that it should have run, is told; not of one that is off.
#[tokio::test]
async fn arrears_are_told_by_crm() {
    let test = TestApp::start().await;
    let url = with_admin(&test).await;
    let (account, integration) = test.synced().await;
    let look = async || {
        test.app.report_figures().await;
        Scrape::of(&url).await
    };
    let zendesk: &[(&str, &str)] = &[("provider", "ZENDESK")];
    test.pass(TimeDelta::minutes(1));
    assert!(is(look().await.sum("contact_sync_feed_backlog_seconds", &[]), 0), "a feed that nobody reads");
    // Whoever reads the feed once is waited for.
    let feed = pb::ListChangesRequest { account_id: account.clone(), ..Default::default() };
    test.contacts().list_changes(feed).await.unwrap();
    test.match_caller(call(&account, "+13105559999")).await;
    let fresh = look().await;
    assert!(is(fresh.sum("contact_sync_integrations_overdue", zendesk), 0));

    test.pass(TimeDelta::hours(3));
    let late = look().await;
    assert!(late.sum("contact_sync_lag_seconds", zendesk) >= 10_800.0);
    assert!(is(late.sum("contact_sync_integrations_overdue", zendesk), 1));
    assert!(is(late.sum("contact_sync_integrations", &[("provider", "ZENDESK"), ("state", "STALE")]), 1));
    assert!(is(late.sum("contact_sync_feed_backlog_seconds", &[]), 10_800), "nobody has read the feed since");

    ask_update(&test, &account, &integration, Some(sync_mode(SyncMode::Off)), None).await.unwrap();
    let off = look().await;
    assert!(is(off.sum("contact_sync_lag_seconds", zendesk), 0));
    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();
    let disabled = look().await;
    assert!(is(disabled.sum("contact_sync_feed_backlog_seconds", &[]), 10_800), "whatever is enabled");
    assert!(is(off.sum("contact_sync_integrations", &[("provider", "ZENDESK"), ("state", "OFF")]), 1));
}

/// A call leaves one line, with its reference instead of its id, and its answer names the line.
#[tokio::test]
async fn each_call_leaves_one_line_in_access_log() {
    let (log, _logging) = listen();
    let test = TestApp::start().await;
    let account = test.account().await;
    let call_id = "3f2a-13105550123@pbx.example.com";

    let mut request = Request::new(call_with_id(&account, "+13105550123", call_id));
    request.metadata_mut().insert("authorization", test.bearer().parse().unwrap());
    let answer = pb::caller_service_client::CallerServiceClient::new(test.channel.clone()).match_caller(request).await;
    let request_id = answer.unwrap().metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    let mut refused = Request::new(call(&account, "+13105550123"));
    refused.metadata_mut().insert("authorization", "Bearer nonsense".parse().unwrap());
    let refused = pb::caller_service_client::CallerServiceClient::new(test.channel.clone()).match_caller(refused).await;
    let refused_id = refused.unwrap_err().metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();

    let lines = async || -> Vec<String> {
        let whole = log.text();
        whole
            .lines()
            .filter(|line| line.contains("access: call") && line.contains("MatchCaller"))
            .map(str::to_owned)
            .collect()
    };
    eventually("the lines of both calls", async || lines().await.len() == 2).await;
    let lines = lines().await;
    let call_ref = CallRefKey::derive(&KEY_RING_KEY).call_ref(account.parse().unwrap(), call_id).to_string();
    for expected in [
        &request_id,
        &call_ref,
        &account,
        "rpc.code=\"OK\"",
        "MATCH_OUTCOME_CREATED",
        "duration_us=",
        "subject=\"test\"",
    ] {
        assert!(lines[0].contains(expected), "{expected} in {}", lines[0]);
    }
    let ring = std::env::temp_dir().join(format!("contact-sync-ring-{}.json", std::process::id()));
    std::fs::write(&ring, KEY_RING).unwrap();
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_contact-sync"))
        .args(["call-ref", call_id, "--account", &account])
        .env("CONTACT_SYNC_VAULT__KEY_RING_FILE", &ring)
        .output()
        .unwrap();
    std::fs::remove_file(&ring).unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), format!("{call_ref}\n"));
    assert!(lines[1].contains(&refused_id) && lines[1].contains("UNAUTHENTICATED"), "{}", lines[1]);
    for personal in ["13105550123", "pbx.example.com"] {
        assert!(!lines.iter().any(|line| line.contains(personal)), "{personal}");
    }
}

/// Who waits for a connection until the call's time is over has waited in vain.
#[tokio::test]
async fn wait_that_its_caller_ends_is_told() {
    let test = TestApp::start_with(|config| {
        config.pools.api.connections = 1;
        config.pools.api.acquire_timeout_ms = 60_000;
    })
    .await;
    let url = with_admin(&test).await;
    let account = test.account().await;
    let in_vain = async || Scrape::of(&url).await.sum("contact_sync_pool_waits_in_vain_total", &[("pool", "api")]);
    let mut lock = test.db.pool.begin().await.unwrap();
    sqlx::query("lock table accounts in access exclusive mode").execute(&mut *lock).await.unwrap();
    let ask = async || {
        let mut request = Request::new(pb::GetAccountRequest { account_id: account.clone() });
        request.set_timeout(std::time::Duration::from_millis(300));
        test.accounts().get_account(request).await
    };

    // The second one finds the only connection lent.
    let (first, second) = tokio::join!(ask(), ask());
    assert!(first.is_err() && second.is_err());

    eventually("the wait", async || is(in_vain().await, 1)).await;
    lock.rollback().await.unwrap();
}

/// A call whose client has gone is told as cancelled, and one without room as refused.
#[tokio::test]
async fn call_that_is_left_is_told_as_cancelled() {
    let (log, _logging) = listen();
    let test = TestApp::start().await;
    let account = test.account().await;
    let mut lock = test.db.pool.begin().await.unwrap();
    sqlx::query("lock table accounts in access exclusive mode").execute(&mut *lock).await.unwrap();
    let mut accounts = test.accounts();
    let asked = accounts.get_account(pb::GetAccountRequest { account_id: account });
    let left = tokio::time::timeout(std::time::Duration::from_millis(200), asked).await;
    assert!(left.is_err());

    eventually("its line", async || {
        log.text()
            .lines()
            .any(|line| line.contains("access: call") && line.contains("GetAccount") && line.contains("CANCELLED"))
    })
    .await;
    lock.rollback().await.unwrap();
}
