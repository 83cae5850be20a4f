//! What every test stands on: a database of its own, the simulated CRM over real HTTP, the service
//! over real gRPC, a clock that moves only when told, and seeded ids.

pub mod calls;
pub mod db;
pub mod hints;
pub mod key_server;
pub mod proxy;
pub mod statements;
pub mod streams;
pub mod sync;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use contact_sync::{
    app::{AppWorld, ServiceApp},
    config::{Config, SecretText},
    domain::{
        clock::{Clock, ManualClock},
        ids::{AccountId, IdSource},
        provider::Provider,
    },
    lifecycle::ProcessLifecycle,
    retention,
    rpc::{
        auth::TokenVerifier,
        claims::TokenAccounts,
        health::ServingHealth,
        local_token::{self, LocalClaims},
        methods::TokenScope,
        pb::{
            self, account_service_client::AccountServiceClient, caller_service_client::CallerServiceClient,
            contact_service_client::ContactServiceClient, sync_service_client::SyncServiceClient,
        },
    },
    store::StoreError,
    vault::KeyRing,
};
use crm_simulator::{
    pipedrive::{self, Pipedrive, PipedriveConfig},
    salesforce::{self, Salesforce, SalesforceConfig},
    zendesk::{self, Zendesk, ZendeskConfig},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use db::TestDb;

pub type Client = InterceptedService<Channel, Bearer>;

/// The running service and everything around it.
pub struct TestApp {
    pub db: TestDb,
    pub app: ServiceApp,
    pub zendesk: Arc<Zendesk>,
    pub salesforce: Arc<Salesforce>,
    pub pipedrive: Arc<Pipedrive>,
    pub clock: Arc<ManualClock>,
    pub lifecycle: ProcessLifecycle,
    pub channel: Channel,
    pub address: std::net::SocketAddr,
    pub health: ServingHealth,
    pub config: Config,
    signing_key: String,
    /// The seed of the ids of the next replica: two with one seed would make the same ids.
    next_seed: AtomicU64,
}

/// Puts a token on every request.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Why a run failed, or retries: `REASON: words`; empty: it did not.
pub fn error_of(run: &contact_sync::rpc::pb::SyncRun) -> String {
    run.error.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// A moment that all tests start at.
pub fn start_time() -> DateTime<Utc> {
    "2026-11-22T09:00:00Z".parse().unwrap()
}

impl TestApp {
    /// Workers do not run: tests drive them with [`TestApp::sync_due`].
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// As [`TestApp::start`], with other settings. `worker.concurrency` above 0 starts the workers.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(TestDb::create().await, change).await
    }

    /// On a database that is there already: another replica.
    pub async fn start_on(db: TestDb, change: impl FnOnce(&mut Config)) -> Self {
        let clock = Arc::new(ManualClock::new(start_time()));
        let crms = Crms::start(&clock, Worlds::default()).await;
        Self::start_beside(db, clock, crms, 1, change).await
    }

    /// As [`TestApp::start`], with CRMs that are like this.
    pub async fn start_in(worlds: Worlds) -> Self {
        Self::start_in_with(worlds, |_| {}).await
    }

    /// As [`TestApp::start_in`], with other settings.
    pub async fn start_in_with(worlds: Worlds, change: impl FnOnce(&mut Config)) -> Self {
        let clock = Arc::new(ManualClock::new(start_time()));
        let crms = Crms::start(&clock, worlds).await;
        Self::start_beside(TestDb::create().await, clock, crms, 1, change).await
    }

    /// Another replica on the same database, clock and CRM.
    pub async fn replica(&self, change: impl FnOnce(&mut Config)) -> Self {
        let providers = &self.config.providers;
        let url = |provider: &contact_sync::config::ProviderConfig| provider.base_url.clone().unwrap();
        let crms = Crms {
            zendesk: (Arc::clone(&self.zendesk), url(&providers.each[Provider::Zendesk])),
            salesforce: (Arc::clone(&self.salesforce), url(&providers.each[Provider::Salesforce])),
            pipedrive: (Arc::clone(&self.pipedrive), url(&providers.each[Provider::Pipedrive])),
        };
        let seed = self.next_seed.fetch_add(1, Ordering::Relaxed);
        let configure = |config: &mut Config| {
            config.providers.salesforce_streams_url.clone_from(&providers.salesforce_streams_url);
            config.providers.salesforce_streams_ca_file.clone_from(&providers.salesforce_streams_ca_file);
            change(config);
        };
        Self::start_beside(self.db.share(), Arc::clone(&self.clock), crms, seed, configure).await
    }

    /// As [`TestApp::start`], for tokens that this verifier takes: not those of the test's own
    /// clients.
    pub async fn start_verifying(verifier: Arc<TokenVerifier>) -> Self {
        let clock = Arc::new(ManualClock::new(start_time()));
        let crms = Crms::start(&clock, Worlds::default()).await;
        Self::start_all(TestDb::create().await, clock, crms, 1, Some(verifier), |_| {}).await
    }

    async fn start_beside(
        db: TestDb,
        clock: Arc<ManualClock>,
        crms: Crms,
        seed: u64,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_all(db, clock, crms, seed, None, change).await
    }

    async fn start_all(
        db: TestDb,
        clock: Arc<ManualClock>,
        crms: Crms,
        seed: u64,
        verifier: Option<Arc<TokenVerifier>>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        install_crypto();
        let mut config = Config::with_defaults("/nonexistent".into());
        config.worker.concurrency = 0;
        config.worker.backoff_base_ms = 1;
        config.drain.wait_seconds = 0;
        for provider in config.providers.each.values_mut() {
            (provider.quota_share_percent, provider.first_copy_share_percent) = (100, 100);
        }
        config.pools.call.acquire_timeout_ms = 5_000;
        config.pools.api.acquire_timeout_ms = 10_000;
        config.providers.each[Provider::Zendesk].base_url = Some(crms.zendesk.1);
        config.providers.each[Provider::Salesforce].base_url = Some(crms.salesforce.1);
        config.providers.each[Provider::Pipedrive].base_url = Some(crms.pipedrive.1);
        for (provider, id, secret) in [
            (Provider::Zendesk, zendesk::DEFAULT_CLIENT_ID, zendesk::DEFAULT_CLIENT_SECRET),
            (Provider::Salesforce, salesforce::DEFAULT_CLIENT_ID, salesforce::DEFAULT_CLIENT_SECRET),
            (Provider::Pipedrive, pipedrive::DEFAULT_CLIENT_ID, pipedrive::DEFAULT_CLIENT_SECRET),
        ] {
            let provider = &mut config.providers.each[provider];
            (provider.client_id, provider.client_secret) = (Some(id.to_owned()), Some(SecretText(secret.into())));
        }
        change(&mut config);
        let ids = Arc::new(IdSource::seeded(seed));
        let key_pair = local_token::generate(&[7; 32]);
        let (lifecycle, health) = (ProcessLifecycle::new(), ServingHealth::new(false));
        let world = AppWorld {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ids,
            key_ring: Arc::new(KeyRing::parse(KEY_RING).unwrap()),
            tasks: lifecycle.tasks().clone(),
            stop: lifecycle.soft(),
            health: health.clone(),
        };
        let app = ServiceApp::new(&config, db.url(), world).unwrap();
        let same_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let own = || TokenVerifier::new(&key_pair.jwks_json, (&config.auth).into(), same_clock).unwrap();
        let verifier = verifier.unwrap_or_else(|| Arc::new(own()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        app.start(&config, listener, verifier, &lifecycle).await;
        let channel = connect(address);
        let signing_key = key_pair.signing_key_pem.to_string();
        Self {
            db,
            app,
            zendesk: crms.zendesk.0,
            salesforce: crms.salesforce.0,
            pipedrive: crms.pipedrive.0,
            clock,
            lifecycle,
            channel,
            address,
            health,
            config,
            signing_key,
            next_seed: AtomicU64::new(seed + 1),
        }
    }

    /// Takes the tokens that [`TestApp::token`] makes.
    pub fn verifier(&self) -> Arc<TokenVerifier> {
        let jwks = local_token::generate(&[7; 32]).jwks_json;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Arc::new(TokenVerifier::new(&jwks, (&self.config.auth).into(), clock).unwrap())
    }

    /// The header of one who may do everything.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token(&TokenAccounts::All, &TokenScope::ALL))
    }

    /// A token with these accounts and scopes, good for a day from now.
    pub fn token(&self, accounts: &TokenAccounts, scopes: &[TokenScope]) -> String {
        self.token_of("test", accounts, scopes)
    }

    /// The same, with this subject.
    pub fn token_of(&self, subject: &str, accounts: &TokenAccounts, scopes: &[TokenScope]) -> String {
        issue(&self.signing_key, &self.config, subject, accounts, scopes, self.clock.now())
    }

    /// May do everything; its token is as fresh as the clock.
    fn client(&self) -> Client {
        self.client_with(&self.token(&TokenAccounts::All, &TokenScope::ALL))
    }

    /// Sends this token with every request.
    pub fn client_with(&self, token: &str) -> Client {
        let bearer = Bearer(format!("Bearer {token}").parse().unwrap());
        InterceptedService::new(self.channel.clone(), bearer)
    }

    pub fn callers(&self) -> CallerServiceClient<Client> {
        CallerServiceClient::new(self.client())
    }

    pub fn syncs(&self) -> SyncServiceClient<Client> {
        SyncServiceClient::new(self.client())
    }

    pub fn contacts(&self) -> ContactServiceClient<Client> {
        ContactServiceClient::new(self.client())
    }

    pub fn accounts(&self) -> AccountServiceClient<Client> {
        AccountServiceClient::new(self.client())
    }

    /// A new account in the US; its id.
    pub async fn account(&self) -> String {
        self.account_in("US").await
    }

    pub async fn account_in(&self, region: &str) -> String {
        let request = pb::CreateAccountRequest {
            display_name: "Test".into(),
            default_region: region.into(),
            ..Default::default()
        };
        self.accounts().create_account(request).await.unwrap().into_inner().account.unwrap().id
    }

    /// Links the simulated Zendesk under this subdomain; nothing is copied before
    /// [`TestApp::sync_due`]. Its id.
    pub async fn enable(&self, account_id: &str, subdomain: &str) -> String {
        let request = enable_request(account_id, subdomain);
        self.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id
    }

    /// An integration with sync off and without credentials. Its id.
    pub async fn enable_off(&self, account_id: &str, provider: pb::Provider, organization: &str) -> String {
        use pb::connection::Organization;
        let organization = match provider {
            pb::Provider::Salesforce => Organization::SalesforceOrgId(organization.into()),
            pb::Provider::Pipedrive => Organization::PipedriveCompany(organization.into()),
            _ => Organization::ZendeskSubdomain(organization.into()),
        };
        let request = pb::EnableSyncRequest {
            account_id: account_id.into(),
            provider: provider.into(),
            connection: Some(pb::Connection { organization: Some(organization), ..Default::default() }),
            options: Some(pb::IntegrationOptions {
                sync: pb::SyncMode::Off.into(),
                period: None,
                ..Default::default()
            }),
            ..Default::default()
        };
        self.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id
    }

    /// Runs everything that is due, one after the other; how many runs that were.
    pub async fn sync_due(&self) -> usize {
        self.app.sync_worker.run_due().await.unwrap()
    }

    /// An account whose Zendesk is copied completely: (account, integration).
    pub async fn synced(&self) -> (String, String) {
        let account_id = self.account().await;
        let integration_id = self.enable(&account_id, "acme").await;
        assert_eq!(self.sync_due().await, 1);
        (account_id, integration_id)
    }

    /// Starts a run and runs it; the run as it ended.
    pub async fn trigger(&self, account_id: &str, integration_id: &str) -> pb::SyncRun {
        let request = pb::TriggerSyncRequest {
            account_id: account_id.into(),
            integration_id: integration_id.into(),
            ..Default::default()
        };
        let run = self.syncs().trigger_sync(request).await.unwrap().into_inner().sync_run.unwrap();
        self.sync_due().await;
        self.run(account_id, &run.id).await
    }

    pub async fn run(&self, account_id: &str, run_id: &str) -> pb::SyncRun {
        let request = pb::GetSyncRunRequest { account_id: account_id.into(), sync_run_id: run_id.into() };
        self.syncs().get_sync_run(request).await.unwrap().into_inner().sync_run.unwrap()
    }

    /// The newest run of an integration.
    pub async fn last_run(&self, account_id: &str, integration_id: &str) -> pb::SyncRun {
        let request = pb::ListSyncRunsRequest {
            account_id: account_id.into(),
            integration_id: integration_id.into(),
            page_size: 1,
            ..Default::default()
        };
        self.syncs().list_sync_runs(request).await.unwrap().into_inner().sync_runs.remove(0)
    }

    pub async fn integration(&self, account_id: &str, integration_id: &str) -> pb::Integration {
        let request =
            pb::GetIntegrationRequest { account_id: account_id.into(), integration_id: integration_id.into() };
        self.syncs().get_integration(request).await.unwrap().into_inner().integration.unwrap()
    }

    /// Who calls from this number? Looks only.
    pub async fn look_up(&self, account_id: &str, number: &str) -> pb::MatchCallerResponse {
        let mut request = call(account_id, number);
        request.set_on_no_match(pb::OnNoMatch::LookupOnly);
        self.match_caller(request).await
    }

    pub async fn match_caller(&self, request: pb::MatchCallerRequest) -> pb::MatchCallerResponse {
        self.callers().match_caller(request).await.unwrap().into_inner()
    }

    pub async fn resolve(
        &self,
        account_id: &str,
        integration_id: &str,
        subject: Subject,
    ) -> pb::ResolveRequesterResponse {
        let request = pb::ResolveRequesterRequest {
            default_region: String::new(),
            account_id: account_id.into(),
            integration_id: integration_id.into(),
            subject: Some(subject),
        };
        self.callers().resolve_requester(request).await.unwrap().into_inner()
    }

    pub async fn contact(&self, account_id: &str, contact_id: &str) -> pb::Contact {
        let request = pb::GetContactRequest { account_id: account_id.into(), contact_id: contact_id.into() };
        self.contacts().get_contact(request).await.unwrap().into_inner().contact.unwrap()
    }

    /// Forgets what is over; how many rows.
    pub async fn forget(&self) -> Result<u64, StoreError> {
        let kept = TimeDelta::days(self.config.audit.keep_days.into());
        retention::forget(&self.app.api_db, self.clock.as_ref(), kept).await
    }

    /// Lets time pass.
    pub fn pass(&self, time: TimeDelta) {
        self.clock.advance(time);
    }

    /// The second look at what was refused once, minutes later.
    pub async fn second_look(&self) {
        self.pass(TimeDelta::minutes(3));
        assert_eq!(self.sync_due().await, 1, "the second look is not due");
    }
}

pub use pb::resolve_requester_request::Subject;

/// The deployment has an address, at which nobody listens.
pub fn with_address(config: &mut Config) {
    config.http.public_url = Some("http://127.0.0.1:9".to_owned());
}

/// A call with these two and defaults.
pub fn call(account_id: &str, number: &str) -> pb::MatchCallerRequest {
    pb::MatchCallerRequest { account_id: account_id.into(), phone_number: number.into(), ..Default::default() }
}

pub fn enable_request(account_id: &str, subdomain: &str) -> pb::EnableSyncRequest {
    pb::EnableSyncRequest {
        account_id: account_id.into(),
        provider: pb::Provider::Zendesk.into(),
        connection: Some(zendesk_connection(subdomain)),
        credentials: Some(api_token("secret")),
        ..Default::default()
    }
}

pub fn zendesk_connection(subdomain: &str) -> pb::Connection {
    pb::Connection {
        organization: Some(pb::connection::Organization::ZendeskSubdomain(subdomain.into())),
        ..Default::default()
    }
}

/// The simulated Salesforce.
pub fn salesforce_connection() -> pb::Connection {
    let organization_id = crm_simulator::salesforce::organization_id();
    pb::Connection {
        organization: Some(pb::connection::Organization::SalesforceOrgId(organization_id)),
        salesforce_host: "acme.my.salesforce.com".into(),
    }
}

pub fn pipedrive_connection(company: &str) -> pb::Connection {
    pb::Connection {
        organization: Some(pb::connection::Organization::PipedriveCompany(company.into())),
        ..Default::default()
    }
}

pub fn api_token(token: &str) -> pb::Credentials {
    let token = pb::ZendeskApiToken { email: "admin@example.com".into(), token: token.into() };
    pb::Credentials { kind: Some(pb::credentials::Kind::ZendeskApiToken(token)) }
}

pub fn bearer(token: &str) -> pb::Credentials {
    pb::Credentials { kind: Some(pb::credentials::Kind::BearerToken(token.into())) }
}

/// The reason of an error's `ErrorInfo`.
pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    status.get_details_error_info().expect("every error carries ErrorInfo").reason
}

/// The field that an `INVALID_ARGUMENT` names.
pub fn field(status: &Status) -> String {
    use tonic_types::StatusExt;
    let details = status.get_details_bad_request().expect("every INVALID_ARGUMENT names its field");
    details.field_violations[0].field.clone()
}

/// The ids of an account list for a token.
pub fn only(account_id: &str) -> TokenAccounts {
    TokenAccounts::Listed([account_id.parse::<AccountId>().unwrap()].into())
}

/// The key of it.
pub const KEY_RING_KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
pub const KEY_RING: &str =
    r#"{"primary":"k1","keys":[{"id":"k1","key":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]}"#;

fn issue(
    signing_key: &str,
    config: &Config,
    subject: &str,
    accounts: &TokenAccounts,
    scopes: &[TokenScope],
    now: DateTime<Utc>,
) -> String {
    let claims = LocalClaims {
        issuer: &config.auth.issuer,
        audience: &config.auth.audience,
        subject,
        accounts,
        scopes,
        now,
        valid_for: TimeDelta::days(1),
    };
    local_token::issue(signing_key, &claims).unwrap()
}

fn connect(address: std::net::SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_timeout(Duration::from_secs(5)).connect_lazy()
}

/// What the simulated CRMs are like, where that is not the usual.
#[derive(Default)]
pub struct Worlds {
    pub zendesk: Option<fn(&mut ZendeskConfig)>,
    pub salesforce: Option<fn(&mut SalesforceConfig)>,
    pub pipedrive: Option<fn(&mut PipedriveConfig)>,
    /// They lag as the vendors do: on wherever freshness is tested. Else every change is visible at
    /// once.
    pub lag: bool,
}

/// The simulated CRMs and where they listen.
struct Crms {
    zendesk: (Arc<Zendesk>, String),
    salesforce: (Arc<Salesforce>, String),
    pipedrive: (Arc<Pipedrive>, String),
}

impl Crms {
    async fn start(clock: &Arc<ManualClock>, worlds: Worlds) -> Self {
        let told: crm_simulator::SimulatorClock = {
            let clock = Arc::clone(clock);
            Arc::new(move || clock.now())
        };
        let (mut zendesk, mut salesforce, mut pipedrive) = (
            ZendeskConfig::new(Arc::clone(&told)),
            SalesforceConfig::new(Arc::clone(&told)),
            PipedriveConfig::new(told),
        );
        if !worlds.lag {
            (zendesk, salesforce, pipedrive) =
                (zendesk.without_lag(), salesforce.without_lag(), pipedrive.without_lag());
        }
        // Runs are paced by the limits that the CRMs tell: by those of the cheapest plans tests
        // would wait.
        zendesk.limits.export_per_minute = Some(100_000);
        (pipedrive.limits.burst_api_token, pipedrive.limits.burst_oauth) = (Some(100_000), Some(100_000));
        worlds.zendesk.into_iter().for_each(|change| change(&mut zendesk));
        worlds.salesforce.into_iter().for_each(|change| change(&mut salesforce));
        worlds.pipedrive.into_iter().for_each(|change| change(&mut pipedrive));
        let (zendesk, salesforce, pipedrive) =
            (Zendesk::new(zendesk), Salesforce::new(salesforce), Pipedrive::new(pipedrive));
        Self {
            zendesk: (Arc::clone(&zendesk), serve(crm_simulator::zendesk::router(zendesk)).await),
            salesforce: (Arc::clone(&salesforce), serve(crm_simulator::salesforce::router(salesforce)).await),
            pipedrive: (Arc::clone(&pipedrive), serve(crm_simulator::pipedrive::router(pipedrive)).await),
        }
    }
}

/// Serves a simulated CRM on a port of its own; its URL.
pub async fn serve(router: axum::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(crm_simulator::serve(listener, router, tokio_util::sync::CancellationToken::new()));
    url
}

fn install_crypto() {
    // A second test in this process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
