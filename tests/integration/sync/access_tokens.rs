//! Access tokens by OAuth: got once for all who need one, kept with the refresh token that came
//! with them, and never lost unnoticed.

use std::sync::Arc;

use chrono::TimeDelta;
use contact_sync::{
    app::{AppWorld, ServiceApp},
    domain::{
        clock::Clock,
        credentials::{AccessSecret, CredentialKind, CrmAccess},
        ids::{AccountId, IdSource, IntegrationId},
        integration::Organization,
        provider::Provider,
    },
    rpc::pb,
    vault::KeyRing,
};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::{GateAt, RequestGate},
    salesforce, zendesk,
};
use secrecy::ExposeSecret;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Code;

use crate::{
    support::sync::{Beside, arrived, ask_disable, ask_update, column, eventually, expire_leases, soon},
    support::{TestApp, api_token, enable_request, error_of, field, reason, zendesk_connection},
};

const TOKENS: &str = "/oauth/tokens";
const PERIOD: TimeDelta = TimeDelta::minutes(30);
/// Access tokens live for two hours.
const LIFE: TimeDelta = TimeDelta::hours(2);

pub fn refresh_token(token: &str) -> pb::Credentials {
    let refresh = pb::RefreshToken {
        token: token.into(),
        client_id: zendesk::DEFAULT_CLIENT_ID.into(),
        client_secret: zendesk::DEFAULT_CLIENT_SECRET.into(),
    };
    pb::Credentials { kind: Some(pb::credentials::Kind::RefreshToken(refresh)) }
}

/// An integration that was enabled with a refresh token, and has made its first copy.
async fn authorized(test: &TestApp) -> (String, String) {
    let account = test.account().await;
    let request = pb::EnableSyncRequest {
        credentials: Some(refresh_token(zendesk::DEFAULT_REFRESH_TOKEN)),
        ..enable_request(&account, "acme")
    };
    let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
    assert_eq!(test.sync_due().await, 1);
    (account, integration)
}

fn refreshes(test: &TestApp) -> u64 {
    test.zendesk.token_requests().refresh_token
}

async fn current(app: &ServiceApp, account: &str, integration: &str) -> CrmAccess {
    let acme = Organization { provider: Provider::Zendesk, name: "acme".to_owned() };
    let (account, integration) = ids(account, integration);
    app.sync_context.access_tokens.current(account, integration, &acme, None).await.unwrap()
}

fn ids(account: &str, integration: &str) -> (AccountId, IntegrationId) {
    (account.parse().unwrap(), integration.parse().unwrap())
}

fn world(test: &TestApp, key_ring: &str) -> AppWorld {
    AppWorld {
        clock: Arc::clone(&test.clock) as Arc<dyn Clock>,
        ids: Arc::new(IdSource::seeded(9)),
        key_ring: Arc::new(KeyRing::parse(key_ring).unwrap()),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        health: contact_sync::rpc::health::ServingHealth::new(false),
    }
}

async fn sealed(test: &TestApp, integration: &str, column: &str) -> Option<Vec<u8>> {
    let sql = format!("select {column} from integrations where integration_id = '{integration}'");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&test.db.pool).await.unwrap()
}

async fn expire_claim(test: &TestApp) {
    test.db
        .execute("update integrations set refresh_claimed_until = clock_timestamp() - interval '1 second' where refresh_claim is not null")
        .await;
}

async fn last_error(test: &TestApp, account: &str, integration: &str) -> String {
    error_of(&test.last_run(account, integration).await)
}

/// What the try has rotated is stored, and a token is used until it ends.
#[tokio::test]
async fn rotated_token_is_stored_and_used_until_end() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;
    assert_eq!(refreshes(&test), 1, "the try's own token serves the first run");

    test.pass(PERIOD);
    test.sync_due().await;
    assert_eq!(refreshes(&test), 1);

    test.pass(LIFE);
    test.sync_due().await;
    assert_eq!(refreshes(&test), 2, "it has ended by its own time");

    test.zendesk.expire_access_tokens();
    test.pass(PERIOD);
    test.sync_due().await;
    assert_eq!(refreshes(&test), 3, "the CRM has ended it before its time");
    let run = test.last_run(&account, &integration).await;
    assert_eq!((run.state(), error_of(&run).as_str()), (pb::SyncRunState::Succeeded, ""));
    assert_eq!(test.zendesk.token_requests().refused, 0);
}

/// Of all who need a new token at once, one asks the CRM.
#[tokio::test]
async fn one_asks_for_all_who_need_token() {
    let test = TestApp::start().await;
    let other = test.replica(|_| {}).await;
    let (account, integration) = authorized(&test).await;
    test.pass(LIFE);
    let gate = test.zendesk.faults().gate(TOKENS, 0, GateAt::Request).unwrap();

    let mut asking = JoinSet::new();
    for n in 0..8 {
        let app = if n % 2 == 0 { &test.app } else { &other.app };
        let accesses = app.sync_context.access_tokens.clone();
        let (account, integration) = ids(&account, &integration);
        asking.spawn(async move {
            let acme = Organization { provider: Provider::Zendesk, name: "acme".to_owned() };
            accesses.current(account, integration, &acme, None).await.unwrap().version
        });
    }
    arrived(&gate, 1).await;
    gate.open();
    let versions = soon("all eight", asking.join_all()).await;

    assert!(versions.iter().all(|version| *version == versions[0]), "{versions:?}");
    assert_eq!(refreshes(&test), 2);
    assert_eq!(test.zendesk.token_requests().refused, 0);
}

/// A run that is stopped while the CRM rotates loses nothing.
#[tokio::test]
async fn run_stopped_during_rotation_loses_nothing() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;
    test.pass(LIFE);
    let before = column(&test, &integration, "access_version").await;
    let gate = test.zendesk.faults().gate(TOKENS, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    sync.dies().await;
    gate.open();
    eventually("the new token", async || column(&test, &integration, "access_version").await != before).await;
    expire_leases(&test).await;
    test.sync_due().await;

    assert_eq!(test.last_run(&account, &integration).await.state(), pb::SyncRunState::Succeeded);
    assert_eq!(refreshes(&test), 2);
}

/// A process of its own, in a runtime that is shut down while its request for a token stands at the
/// gate.
async fn crash_at(gate: &RequestGate, test: &TestApp) {
    let (config, url, world) = (test.config.clone(), test.db.url().to_owned(), world(test, OLD_RING));
    let dying = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    dying.spawn(async move { ServiceApp::new(&config, &url, world).unwrap().sync_worker.run_due().await });
    arrived(gate, 1).await;
    dying.shutdown_background();
    soon("the end of the request", gate.deserted()).await;
}

/// A crash between the CRM's answer and its storing is said as what it is.
#[tokio::test]
async fn crash_before_storing_rotated_token_is_told() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;
    test.pass(LIFE);
    let gate = test.zendesk.faults().gate(TOKENS, 0, GateAt::Response).unwrap();

    crash_at(&gate, &test).await;
    gate.open();
    // As if the database's clock had been a year ahead at that time.
    let ahead = "update integrations set lease_until = lease_until + interval '1 year',
        refresh_claimed_until = refresh_claimed_until + interval '1 year'";
    test.db.execute(ahead).await;
    test.sync_due().await;

    let shown = test.integration(&account, &integration).await;
    assert_eq!(shown.state(), pb::IntegrationState::AuthFailed);
    assert!(shown.state_detail.contains("REFRESH_INTERRUPTED"), "{}", shown.state_detail);
    test.pass(PERIOD);
    assert_eq!(test.sync_due().await, 0, "only a person can mend it");
    ask_update(&test, &account, &integration, None, Some(api_token("secret"))).await.unwrap();
    assert_eq!(test.sync_due().await, 1);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
}

/// A crash before the CRM saw the request costs a minute, and nothing else.
#[tokio::test]
async fn crash_before_token_request_costs_one_minute() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;
    test.pass(LIFE);
    let gate = test.zendesk.faults().gate(TOKENS, 0, GateAt::Request).unwrap();

    crash_at(&gate, &test).await;
    gate.open();
    expire_leases(&test).await;
    expire_claim(&test).await;
    test.sync_due().await;

    assert_eq!(last_error(&test, &account, &integration).await, "");
    assert_eq!(column(&test, &integration, "refresh_claim").await, "", "the mark is gone with the success");
}

/// An authorization that is taken back stops the runs at the second look, and is asked for no
/// more.
#[tokio::test]
async fn withdrawn_authorization_stops_passes_after_second_look() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;
    test.zendesk.revoke_all_tokens();
    test.pass(PERIOD);
    test.sync_due().await;
    test.second_look().await;

    let shown = test.integration(&account, &integration).await;
    assert_eq!(shown.state(), pb::IntegrationState::AuthFailed);
    assert!(shown.state_detail.contains("GRANT_REFUSED"), "{}", shown.state_detail);
    assert_eq!(shown.hold.unwrap().reason, "GRANT_REFUSED");
    let asked = refreshes(&test);
    test.pass(TimeDelta::hours(20));
    assert_eq!((test.sync_due().await, refreshes(&test)), (0, asked));
}

#[tokio::test]
async fn trouble_at_the_token_endpoint_is_tried_again() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;
    test.pass(LIFE);
    test.zendesk.faults().add(FaultRule::once(TOKENS, Fault::Unavailable { retry_after_seconds: None })).unwrap();

    test.sync_due().await;

    assert_eq!(last_error(&test, &account, &integration).await, "");
    let mended = test.integration(&account, &integration).await;
    assert_eq!((mended.state(), mended.hold), (pb::IntegrationState::Active, None));
}

/// Credentials that were changed meanwhile are not overwritten by a late refresh.
#[tokio::test]
async fn late_refresh_never_overwrites_changed_credentials() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;
    test.pass(LIFE);
    let gate = test.zendesk.faults().gate(TOKENS, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    ask_update(&test, &account, &integration, None, Some(api_token("secret"))).await.unwrap();
    gate.open();
    sync.ended().await;
    expire_leases(&test).await;
    test.sync_due().await;

    let (account_id, integration_id) = ids(&account, &integration);
    let stored = sealed(&test, &integration, "credentials").await.unwrap();
    let stored = test.app.sync_context.access_tokens.vault.open(account_id, integration_id, &stored).unwrap();
    assert!(matches!(stored.kind, CredentialKind::ApiToken { .. }));
    assert_eq!(sealed(&test, &integration, "access").await, None);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
}

#[tokio::test]
async fn a_disabled_integration_keeps_no_token() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;
    assert!(sealed(&test, &integration, "access").await.is_some());

    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();

    assert_eq!(sealed(&test, &integration, "access").await, None);
    assert_eq!(sealed(&test, &integration, "credentials").await, None);
}

/// A refresh token is not used up by a mere test.
#[tokio::test]
async fn mere_test_uses_up_no_refresh_token() {
    let test = TestApp::start().await;
    let request = pb::TestConnectionRequest {
        account_id: test.account().await,
        provider: pb::Provider::Zendesk.into(),
        connection: Some(zendesk_connection("acme")),
        credentials: Some(refresh_token(zendesk::DEFAULT_REFRESH_TOKEN)),
    };

    let refused = test.syncs().test_connection(request).await.unwrap_err();

    assert_eq!((refused.code(), field(&refused)), (Code::InvalidArgument, "credentials.refresh_token".to_owned()));
    assert_eq!(refreshes(&test), 0);
}

/// A client is let in without a person, and a wrong one is told.
#[tokio::test]
async fn client_enters_without_person_wrong_one_is_told() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let client = |secret: &str| {
        let client =
            pb::ClientCredentials { client_id: zendesk::DEFAULT_CLIENT_ID.into(), client_secret: secret.into() };
        pb::Credentials { kind: Some(pb::credentials::Kind::ClientCredentials(client)) }
    };
    let enable = async |secret: &str| {
        let request = pb::EnableSyncRequest { credentials: Some(client(secret)), ..enable_request(&account, "acme") };
        test.syncs().enable_sync(request).await
    };

    let refused = enable("wrong").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "OAUTH_CLIENT_REFUSED".to_owned()));
    let integration = enable(zendesk::DEFAULT_CLIENT_SECRET).await.unwrap().into_inner().integration.unwrap().id;
    test.sync_due().await;
    test.pass(LIFE);
    test.sync_due().await;

    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
    // The wrong one is refused with what pushed changes need, and without.
    assert_eq!(test.zendesk.token_requests().client_credentials, 4);
}

/// Salesforce lets in by every way, and again after the session has ended.
#[tokio::test]
async fn every_way_opens_salesforce_again_after_session() {
    use pb::credentials::Kind;
    let (client_id, client_secret) = (salesforce::DEFAULT_CLIENT_ID, salesforce::DEFAULT_CLIENT_SECRET);
    let ways = [
        Kind::RefreshToken(pb::RefreshToken {
            token: salesforce::DEFAULT_REFRESH_TOKEN.into(),
            client_id: client_id.into(),
            client_secret: client_secret.into(),
        }),
        Kind::ClientCredentials(pb::ClientCredentials {
            client_id: client_id.into(),
            client_secret: client_secret.into(),
        }),
        Kind::SalesforceJwt(pb::SalesforceJwt {
            client_id: client_id.into(),
            username: salesforce::DEFAULT_USERNAME.into(),
            private_key: include_str!("../../fixtures/oauth-test-key.pem").into(),
        }),
    ];
    for kind in ways {
        let test = TestApp::start().await;
        let account = test.account().await;
        let request = pb::EnableSyncRequest {
            account_id: account.clone(),
            provider: pb::Provider::Salesforce.into(),
            connection: Some(pb::Connection {
                organization: Some(pb::connection::Organization::SalesforceOrgId(salesforce::organization_id())),
                salesforce_host: "acme.my.salesforce.com".into(),
            }),
            credentials: Some(pb::Credentials { kind: Some(kind) }),
            ..Default::default()
        };
        let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
        test.sync_due().await;
        test.salesforce.expire_sessions();
        test.pass(PERIOD);
        test.sync_due().await;

        let run = test.last_run(&account, &integration).await;
        assert_eq!((run.state(), error_of(&run).as_str()), (pb::SyncRunState::Succeeded, ""));
        assert_eq!(column(&test, &integration, "access_version").await, "2");
    }
}

#[tokio::test]
async fn a_salesforce_of_another_organisation_is_not_linked() {
    let test = TestApp::start().await;
    let client = pb::ClientCredentials {
        client_id: salesforce::DEFAULT_CLIENT_ID.into(),
        client_secret: salesforce::DEFAULT_CLIENT_SECRET.into(),
    };
    let request = pb::EnableSyncRequest {
        account_id: test.account().await,
        provider: pb::Provider::Salesforce.into(),
        connection: Some(pb::Connection {
            organization: Some(pb::connection::Organization::SalesforceOrgId("00D000000000000".into())),
            salesforce_host: "acme.my.salesforce.com".into(),
        }),
        credentials: Some(pb::Credentials { kind: Some(pb::credentials::Kind::ClientCredentials(client)) }),
        ..Default::default()
    };

    let refused = test.syncs().enable_sync(request).await.unwrap_err();

    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "OTHER_ORGANIZATION".to_owned()));
}

/// Tokens are readable in no column of any table, and in no answer.
#[tokio::test]
async fn tokens_are_readable_in_no_table_or_answer() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;
    let access = current(&test.app, &account, &integration).await;
    let secret = access.token.secret_for(Provider::Zendesk);
    let Some(AccessSecret::Bearer(access)) = secret else { panic!("it is a bearer token") };
    let (account_id, integration_id) = ids(&account, &integration);
    let stored = sealed(&test, &integration, "credentials").await.unwrap();
    let stored = test.app.sync_context.access_tokens.vault.open(account_id, integration_id, &stored).unwrap();
    let CredentialKind::RefreshToken { token, .. } = &stored.kind else { panic!("it is a refresh token") };
    let secrets = [access.expose_secret(), token.expose_secret(), zendesk::DEFAULT_REFRESH_TOKEN];

    let tables: Vec<String> =
        sqlx::query_scalar("select table_name::text from information_schema.tables where table_schema = 'public'")
            .fetch_all(&test.db.pool)
            .await
            .unwrap();
    for table in tables {
        for secret in secrets {
            let sql = format!(
                "select count(*) from {table} t where t::text like '%{secret}%' or t::text ilike '%' || encode('{secret}', 'hex') || '%'"
            );
            assert_eq!(test.db.number(&sql).await, 0, "in {table}");
        }
    }
    let shown = format!("{:?} {stored:?}", test.integration(&account, &integration).await);
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
}

/// A token that a key which has left had sealed is got anew.
#[tokio::test]
async fn token_sealed_by_departed_key_is_renewed() {
    let test = TestApp::start().await;
    let (account, integration) = authorized(&test).await;

    test.pass(PERIOD);
    let both = ServiceApp::new(&test.config, test.db.url(), world(&test, BOTH_RING)).unwrap();
    assert_eq!(both.sync_worker.run_due().await.unwrap(), 1);
    test.pass(PERIOD);
    let new_alone = ServiceApp::new(&test.config, test.db.url(), world(&test, NEW_RING)).unwrap();
    assert_eq!(new_alone.sync_worker.run_due().await.unwrap(), 1);

    assert_eq!(last_error(&test, &account, &integration).await, "");
    assert_eq!(refreshes(&test), 2);
}

/// A run without the deployment's client waits for its operator.
#[tokio::test]
async fn run_without_deployments_client_waits_for_operator() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let own = pb::RefreshToken { token: zendesk::DEFAULT_REFRESH_TOKEN.into(), ..Default::default() };
    let own = pb::Credentials { kind: Some(pb::credentials::Kind::RefreshToken(own)) };
    let request = pb::EnableSyncRequest { credentials: Some(own), ..enable_request(&account, "acme") };
    let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
    test.sync_due().await;
    test.pass(LIFE);

    let mut config = test.config.clone();
    let zendesk = &mut config.providers.each[Provider::Zendesk];
    (zendesk.client_id, zendesk.client_secret) = (None, None);
    let without = ServiceApp::new(&config, test.db.url(), world(&test, OLD_RING)).unwrap();
    without.sync_worker.run_due().await.unwrap();

    let error = last_error(&test, &account, &integration).await;
    assert!(error.contains("OAUTH_NOT_CONFIGURED") && error.contains("providers.zendesk.client_id"), "{error}");
    test.pass(PERIOD);
    test.sync_due().await;
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
}

const OLD_RING: &str = r#"{"primary":"k1","keys":[{"id":"k1","key":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]}"#;
const NEW_RING: &str = r#"{"primary":"k2","keys":[{"id":"k2","key":"ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="}]}"#;
const BOTH_RING: &str = r#"{"primary":"k2","keys":[{"id":"k2","key":"ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="},{"id":"k1","key":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]}"#;
