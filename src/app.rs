//! The only place where the parts are joined: pools, features, services, workers. Who calls decides
//! the clock, the ids and the keys.

mod figures;
mod limits;

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use tokio::{
    net::TcpListener,
    sync::{Notify, broadcast, mpsc},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use uuid::Uuid;

use self::{
    figures::ObservedParts,
    limits::{raise_descriptor_limit, server_limits, streams_held_max},
};
use crate::{
    audit::RefusalRecorder,
    click_to_call::ClickToCall,
    config::{Config, ProviderConfig},
    credentials::{AccessTokens, CredentialVault, SuppressionKeys},
    crm::{self, CrmClients, CrmSettings, ProviderEndpoint, ProviderSettings, StreamSettings, http::HttpError},
    domain::{
        call_ref::CallNamer,
        clock::Clock,
        credentials::OAuthClient,
        descriptor::Descriptors,
        ids::{AccountId, IdSource},
        look_aside::AskedAside,
        provider::PerProvider,
    },
    erasure::PersonErasure,
    feed::ChangeFeed,
    integrations::{HookReceiver, IntegrationContext},
    lifecycle::ProcessLifecycle,
    listeners,
    matching::{AsideDesk, MatchContext},
    retention,
    rpc::{
        AccountRpc, CallerRpc, ContactRpc, SyncRpc, WatchRoom,
        auth::TokenVerifier,
        health::{CALLS, CallHealth, CallTally, OTHERS, ServingHealth},
        limits::ServerLimits,
        server::{self, DrainOutcome, GrpcServer, ServerError},
    },
    store::{CallDb, Db, PoolSettings, StoreError, accounts::RulesCache, phone_numbers},
    sync::{
        AsideLimits, AsideRunner, NumberReparser, RecordInspector, RunBell, SlotDemand, StreamSupervisor, SyncContext,
        SyncControl, SyncSettings, SyncWorker,
    },
    telemetry::{self, metrics::MetricsPage},
    tls::BoundListener,
    vault::KeyRing,
};

/// Between two looks whether the database answers.
const DATABASE_LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks whether calls are answered.
const CALLS_LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the start waits for the call path's connections before it serves without some of them.
const WARM_UP_MAX: Duration = Duration::from_secs(5);
/// Looks into CRMs that calls have asked for and nobody has taken up.
const ASKED_ASIDES_MAX: usize = 256;
/// Looks that are over and that a waiting call has not been told of; who misses one looks itself.
const ANSWERED_ASIDES_MAX: usize = 64;

/// The CRM says something within 270 seconds; a minute more is a dead connection.
const STREAM_SILENCE: Duration = Duration::from_secs(330);
/// Between two looks for streams of changes that nobody follows.
const STREAM_POLL: Duration = Duration::from_secs(5);

/// What is passed in, so that tests can choose it.
pub struct AppWorld {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids, nonces and jitter.
    pub ids: Arc<IdSource>,
    /// Seals credentials.
    pub key_ring: Arc<KeyRing>,
    /// Where transactions and runs are spawned; the shutdown awaits it.
    pub tasks: TaskTracker,
    /// Ends watchers when the server drains.
    pub stop: CancellationToken,
    /// What is said of the service from outside; nothing is served before it has started.
    pub health: ServingHealth,
}

/// Why the parts cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The database's URL.
    #[error("the database's URL cannot be read; it should be like postgres://user:password@host:5432/database")]
    DatabaseUrl(#[source] StoreError),
    /// The HTTP client.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The certificates for streams of changes.
    #[error(
        "{} cannot be read; providers.salesforce_streams_ca_file must name certificates in PEM, at most 1 MiB", .0.display()
    )]
    StreamsCa(PathBuf, #[source] io::Error),
}

/// The joined parts.
pub struct ServiceApp {
    /// The call path's pool.
    pub call_db: CallDb,
    /// The pool of everything else that is asked.
    pub api_db: Db,
    /// What the workers work with.
    pub sync_context: Arc<SyncContext>,
    /// The workers.
    pub sync_worker: Arc<SyncWorker>,
    /// Reads stored numbers again.
    pub number_reparser: Arc<NumberReparser>,
    matching: MatchContext,
    /// Until it is started.
    asked_asides: Mutex<Option<mpsc::Receiver<AskedAside>>>,
    click_to_call: ClickToCall,
    integrations: IntegrationContext,
    /// Takes what CRMs push.
    pub hooks: Arc<HookReceiver>,
    control: SyncControl,
    inspector: RecordInspector,
    rules: RulesCache,
    feed: ChangeFeed,
    erasure: PersonErasure,
    refusals: RefusalRecorder,
    descriptors: Descriptors,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    stop: CancellationToken,
    period_default_seconds: i32,
    tally: CallTally,
    call_namer: CallNamer,
    crms: CrmClients,
    health: ServingHealth,
}

impl ServiceApp {
    /// Joins the parts; connects to nothing yet.
    pub fn new(config: &Config, database_url: &str, world: AppWorld) -> Result<Self, AppError> {
        let AppWorld { clock, ids, key_ring, tasks, stop, health } = world;
        let (calls, api, sync) = pool_settings(config);
        let call_db = CallDb::connect_lazy(database_url, calls).map_err(AppError::DatabaseUrl)?;
        let db = |name, settings| {
            Db::connect_lazy(database_url, name, settings, tasks.clone()).map_err(AppError::DatabaseUrl)
        };
        let (api_db, sync_db) = (db("api", api)?, db("sync", sync)?);
        let (descriptors, crms) = (crm::descriptors(), CrmClients::new(crm_settings(config)?)?);
        let (call_namer, vault) = (key_ring.call_namer().clone(), CredentialVault { key_ring, ids: Arc::clone(&ids) });
        let access_tokens = |db: &Db| AccessTokens {
            db: db.clone(),
            vault: vault.clone(),
            crms: crms.clone(),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
        };
        let (wake, refusals) = (Arc::new(Notify::new()), RefusalRecorder::default());
        let (asides, asked_asides) = mpsc::channel(ASKED_ASIDES_MAX);
        let (rules, stream_wake) = (RulesCache::new(call_db.clone()), Notify::new());
        let suppression_keys = SuppressionKeys::new(api_db.clone(), vault.clone());
        let sync_context = Arc::new(SyncContext {
            access_tokens: access_tokens(&sync_db),
            suppression_keys: suppression_keys.clone(),
            db: sync_db.clone(),
            crms: crms.clone(),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            settings: sync_settings(config),
            tasks,
            wake: Arc::clone(&wake),
            stream_wake,
            push_base: push_base(config),
            slot_demand: SlotDemand::default(),
            hint_bell: RunBell::default(),
            aside_bell: RunBell::default(),
            aside_limits: AsideLimits::default(),
            aside_answered: broadcast::Sender::new(ANSWERED_ASIDES_MAX),
        });
        let integrations = IntegrationContext {
            access_tokens: access_tokens(&api_db),
            db: api_db.clone(),
            vault: vault.clone(),
            crms: crms.clone(),
            callback_url: callback_url(config),
            push_base: push_base(config),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            refusals: refusals.clone(),
            wake,
        };
        Ok(Self {
            sync_worker: Arc::new(SyncWorker { context: Arc::clone(&sync_context) }),
            number_reparser: Arc::new(NumberReparser { db: sync_db, clock: Arc::clone(&clock) }),
            matching: MatchContext {
                call_db: call_db.clone(),
                db: api_db.clone(),
                rules: rules.clone(),
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                aside: aside_desk(config, descriptors, asides, &sync_context),
            },
            sync_context,
            asked_asides: Mutex::new(Some(asked_asides)),
            click_to_call: ClickToCall {
                db: api_db.clone(),
                rules: rules.clone(),
                suppression_keys: suppression_keys.clone(),
                descriptors,
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
            },
            hooks: Arc::new(HookReceiver::new(integrations.clone())),
            control: control_of(&integrations, descriptors),
            integrations,
            inspector: inspector_of(&api_db, vault, &suppression_keys, descriptors),
            feed: ChangeFeed::new(api_db.clone(), rules.clone(), Arc::clone(&clock), Arc::clone(&ids)),
            erasure: PersonErasure {
                db: api_db.clone(),
                keys: suppression_keys,
                rules: rules.clone(),
                clock: Arc::clone(&clock),
            },
            refusals,
            descriptors,
            rules,
            call_db,
            api_db,
            clock,
            ids,
            stop,
            call_namer,
            crms,
            health,
            period_default_seconds: i32::try_from(config.sync.period_seconds).unwrap_or(i32::MAX),
            tally: CallTally::default(),
        })
    }

    /// The gRPC services.
    pub fn routes(&self, limits: &ServerLimits) -> Routes {
        let account =
            AccountRpc { db: self.api_db.clone(), clock: Arc::clone(&self.clock), ids: Arc::clone(&self.ids) };
        let caller = CallerRpc {
            matching: self.matching.clone(),
            click_to_call: self.click_to_call.clone(),
            tally: self.tally.clone(),
        };
        let contact = ContactRpc {
            db: self.api_db.clone(),
            rules: self.rules.clone(),
            feed: self.feed.clone(),
            erasure: self.erasure.clone(),
        };
        let sync = SyncRpc {
            integrations: self.integrations.clone(),
            control: self.control.clone(),
            inspector: self.inspector.clone(),
            db: self.api_db.clone(),
            descriptors: self.descriptors,
            clock: Arc::clone(&self.clock),
            watchers: WatchRoom::default(),
            stop: self.stop.clone(),
            period_default_seconds: self.period_default_seconds,
        };
        server::routes(limits, account, caller, contact, sync)
    }

    /// Starts everything that runs for as long as the process: server, workers, retention, health.
    /// Serves when the call path has its connections, or after five seconds without.
    pub async fn start(
        &self,
        config: &Config,
        listener: impl Into<BoundListener>,
        verifier: Arc<TokenVerifier>,
        lifecycle: &ProcessLifecycle,
    ) {
        let descriptors = raise_descriptor_limit();
        let (limits, streams_max) = (server_limits(config, descriptors), streams_held_max(config, descriptors));
        let is_warm = self.call_db.warm_up(WARM_UP_MAX).await;
        if !is_warm {
            tracing::warn!("the calls' connections to the database are not all there yet; serving begins without them");
        }
        let calls = CallHealth::new(is_warm || self.call_db.answers().await);
        let health = self.health.clone();
        for names in [&CALLS[..], &OTHERS[..]] {
            health.report(names, calls.is_serving());
        }
        let server = GrpcServer {
            limits,
            drain: (&config.drain).into(),
            verifier,
            ids: Arc::clone(&self.ids),
            clock: Arc::clone(&self.clock),
            call_namer: self.call_namer.clone(),
            refusals: self.refusals.clone(),
            reflection: config.reflection,
            health: health.clone(),
        };
        let (routes, soft, hard) = (self.routes(&limits), lifecycle.soft(), lifecycle.hard());
        let incoming = server::incoming(listener.into());
        let noting = lifecycle.clone();
        let drained = CancellationToken::new();
        let serving = drained.clone().drop_guard();
        lifecycle.spawn_critical("gRPC server", async move {
            // However it ends.
            let _serving = serving;
            if server.serve(routes, incoming, soft, hard).await? == DrainOutcome::Cut {
                noting.note_dropped();
            }
            Ok::<(), ServerError>(())
        });
        let (worker, soft) = (Arc::clone(&self.sync_worker), lifecycle.soft());
        lifecycle.tasks().spawn(async move { worker.follow_database_clock_until(soft).await });
        if config.worker.concurrency > 0 {
            let (worker, soft) = (Arc::clone(&self.sync_worker), lifecycle.soft());
            lifecycle.spawn_critical("sync worker", async move {
                worker.work_until(soft).await;
                Ok::<(), ServerError>(())
            });
            if streams_max > 0 {
                let streams = StreamSupervisor::new(Arc::clone(&self.sync_context), streams_max);
                let soft = lifecycle.soft();
                lifecycle.spawn_critical("streams of changes", async move {
                    streams.follow_until(soft).await;
                    Ok::<(), ServerError>(())
                });
            }
            let (reparser, soft) = (Arc::clone(&self.number_reparser), lifecycle.soft());
            lifecycle.tasks().spawn(async move { reparser.reparse_until(soft).await });
        }
        if let Some(asked) = self.asked_asides.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Also without workers: a call of this process waits.
            let runner = AsideRunner { context: Arc::clone(&self.sync_context), asked };
            lifecycle.tasks().spawn(runner.run_until(lifecycle.soft()));
        }
        let soft = lifecycle.soft();
        lifecycle.tasks().spawn(async move { telemetry::repeats().count_until(soft).await });
        // Calls are refused until the drain is over.
        let noting = self.refusals.clone().write_until(self.api_db.clone(), drained);
        lifecycle.tasks().spawn(noting);
        let (db, clock) = (self.sync_context.db.clone(), Arc::clone(&self.clock));
        let audit_kept = TimeDelta::days(config.audit.keep_days.into());
        lifecycle.tasks().spawn(retention::forget_until(db, clock, audit_kept, lifecycle.soft()));
        let watching = watch_calls(self.call_db.clone(), self.tally.clone(), calls, health.clone(), lifecycle.soft());
        lifecycle.tasks().spawn(watching);
        lifecycle.tasks().spawn(watch_database(self.api_db.clone(), health, lifecycle.soft()));
        lifecycle.tasks().spawn(self.observed().observe_until(lifecycle.soft()));
    }

    /// Starts what is served over HTTP.
    pub fn start_http(&self, listener: impl Into<BoundListener>, lifecycle: &ProcessLifecycle) {
        lifecycle.tasks().spawn(Arc::clone(&self.hooks).note_until(lifecycle.soft()));
        let router = listeners::routes(self.integrations.clone(), Arc::clone(&self.hooks));
        let serving = listeners::serve(listener.into(), router, lifecycle.tasks().clone(), lifecycle.soft());
        lifecycle.spawn_critical("HTTP listener", serving);
    }

    /// Looks at what metrics say of pools, quotas and integrations, as is done by itself now and
    /// then.
    pub async fn report_figures(&self) {
        self.observed().observe().await;
    }

    fn observed(&self) -> ObservedParts {
        ObservedParts {
            page: MetricsPage::begin(),
            call_db: self.call_db.clone(),
            api_db: self.api_db.clone(),
            sync_db: self.sync_context.db.clone(),
            crms: self.crms.clone(),
            health: self.health.clone(),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Ends all connections to the database; takes about a second at most.
    pub async fn close(&self) {
        tokio::join!(self.call_db.close(), self.api_db.close(), self.sync_context.db.close());
    }
}

/// Starts what operators ask; before anything else, so that a process that waits for its database
/// can be seen to. Served until the drain has begun to send clients away.
pub fn start_admin(listener: TcpListener, health: ServingHealth, lifecycle: &ProcessLifecycle) {
    let stop = CancellationToken::new();
    let (ending, hard, stopping) = (health.clone(), lifecycle.hard(), stop.clone());
    lifecycle.tasks().spawn(async move {
        tokio::select! {
            () = ending.ended() => {}
            () = hard.cancelled() => {}
        }
        stopping.cancel();
    });
    let router = listeners::admin_routes(MetricsPage::begin(), move || health.is_ready());
    let serving = listeners::serve(listener.into(), router, lifecycle.tasks().clone(), stop);
    lifecycle.spawn_critical("admin listener", serving);
}

/// Says of the calls whether they are answered: by how they end, or while there are none, by asking
/// their own pool. What has failed once is asked by a statement of theirs, since a database may
/// answer and lack the tables.
async fn watch_calls(
    call_db: CallDb,
    tally: CallTally,
    mut calls: CallHealth,
    health: ServingHealth,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(CALLS_LOOK_EVERY) => {}
        }
        let is_answered = match tally.take() {
            Some(is_answered) => is_answered,
            None if calls.is_serving() => call_db.answers().await,
            None => phone_numbers::find_hits(&call_db, AccountId(Uuid::nil()), &[], &[]).await.is_ok(),
        };
        if calls.look(is_answered, Instant::now()) {
            if is_answered {
                tracing::info!("calls are answered again");
            } else {
                tracing::error!("no call was answered for two seconds: is the database up, and can it be reached?");
            }
            health.report(&CALLS, is_answered);
        }
    }
}

/// Says of the other services whether the database answers: nothing of theirs works without it.
async fn watch_database(db: Db, health: ServingHealth, stop: CancellationToken) {
    let mut was_up = None;
    loop {
        let is_up = tokio::select! {
            () = stop.cancelled() => return,
            answer = db.ping() => answer.is_ok(),
        };
        if was_up != Some(is_up) {
            match (is_up, was_up) {
                (true, None) => {}
                (true, Some(_)) => tracing::info!("the database answers again"),
                (false, _) => tracing::error!(
                    "the database does not answer: what is not a call fails until it does; is it up, and can it be reached?"
                ),
            }
            health.report(&OTHERS, is_up);
            was_up = Some(is_up);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(DATABASE_LOOK_EVERY) => {}
        }
    }
}

/// Certificates of a place of the operator's that streams come from.
fn stream_settings(config: &Config) -> Result<StreamSettings, AppError> {
    const BYTES_MAX: u64 = 1024 * 1024;
    let providers = &config.providers;
    let read = |path: &PathBuf| {
        let unreadable = |error| AppError::StreamsCa(path.clone(), error);
        if fs::metadata(path).map_err(unreadable)?.len() > BYTES_MAX {
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 1 MiB")));
        }
        Ok(Arc::from(fs::read_to_string(path).map_err(unreadable)?))
    };
    let ca = providers.salesforce_streams_ca_file.as_ref().map(read).transpose()?;
    Ok(StreamSettings { url: providers.salesforce_streams_url.clone(), ca })
}

fn crm_settings(config: &Config) -> Result<CrmSettings, AppError> {
    let settings = |provider: &ProviderConfig| ProviderSettings {
        endpoint: provider.base_url.clone().map_or(ProviderEndpoint::Vendor, ProviderEndpoint::Operator),
        silence_max: Duration::from_secs(provider.timeout_seconds),
        quota_share_percent: provider.quota_share_percent,
        first_copy_share_percent: provider.first_copy_share_percent,
        oauth_client: provider
            .client_id
            .clone()
            .zip(provider.client_secret.clone())
            .map(|(id, secret)| OAuthClient { id, secret: secret.0 }),
        push_scopes: provider.push_scopes.clone(),
    };
    Ok(CrmSettings {
        providers: PerProvider::from_fn(|provider| settings(&config.providers.each[provider])),
        bulk_above: i64::try_from(config.providers.salesforce_bulk_above).unwrap_or(i64::MAX),
        streams: stream_settings(config)?,
    })
}

fn callback_url(config: &Config) -> Option<String> {
    push_base(config).map(|base| format!("{base}/oauth/callback"))
}

fn aside_desk(
    config: &Config,
    descriptors: Descriptors,
    asked: mpsc::Sender<AskedAside>,
    context: &SyncContext,
) -> AsideDesk {
    AsideDesk::new(descriptors, asked, context.aside_answered.clone(), limits::calls_aside_max(config))
}

fn inspector_of(
    db: &Db,
    vault: CredentialVault,
    suppression_keys: &SuppressionKeys,
    descriptors: Descriptors,
) -> RecordInspector {
    RecordInspector { db: db.clone(), vault, suppression_keys: suppression_keys.clone(), descriptors }
}

/// What operators ask of runs works with what linking does.
fn control_of(integrations: &IntegrationContext, descriptors: Descriptors) -> SyncControl {
    let IntegrationContext { db, clock, ids, wake, .. } = integrations.clone();
    SyncControl { db, clock, ids, descriptors, wake }
}

/// Where CRMs find this deployment, if they can. Another process may be the one that listens.
fn push_base(config: &Config) -> Option<String> {
    config.http.public_url.as_ref().map(|url| url.trim_end_matches('/').to_owned())
}

fn sync_settings(config: &Config) -> SyncSettings {
    SyncSettings {
        lease: Duration::from_secs(config.worker.lease_seconds),
        heartbeat: Duration::from_secs(config.worker.heartbeat_seconds),
        poll: Duration::from_millis(config.worker.poll_ms),
        turn: Duration::from_secs(config.worker.turn_seconds),
        runs_max: usize::try_from(config.worker.concurrency).unwrap_or(usize::MAX),
        attempts_max: config.worker.attempts_max,
        backoff_base: Duration::from_millis(config.worker.backoff_base_ms),
        stream_silence: STREAM_SILENCE,
        stream_poll: STREAM_POLL,
        sweep_every: PerProvider::from_fn(|provider| {
            Duration::from_hours(config.providers.each[provider].sweep_hours.into())
        }),
    }
}

/// The pool of a command that works beside the service: as patient as its workers, and small.
pub fn command_pool(config: &Config) -> PoolSettings {
    PoolSettings { connections_max: 2, ..pool_settings(config).2 }
}

/// The call path gives up early, since a phone rings; a sync may wait.
fn pool_settings(config: &Config) -> (PoolSettings, PoolSettings, PoolSettings) {
    let pools = &config.pools;
    let of = |pool: &crate::config::PoolConfig, statement_timeout, lock_timeout| PoolSettings {
        connections_max: pool.connections,
        connections_min: 0,
        acquire_timeout: pool.acquire_timeout(),
        connect_timeout: Duration::from_secs(5),
        statement_timeout,
        lock_timeout,
        plan_mode: config.database.plan_cache_mode,
        asks_before_use: true,
    };
    (
        PoolSettings {
            // The first phones that ring must not wait for connections.
            connections_min: pools.call.connections,
            // Calls are answered again within 2 s after the database is back.
            connect_timeout: Duration::from_secs(1),
            asks_before_use: false,
            ..of(&pools.call, Duration::from_secs(1), Duration::from_millis(100))
        },
        of(&pools.api, Duration::from_secs(5), Duration::from_secs(2)),
        of(&pools.sync, Duration::from_secs(30), Duration::from_secs(10)),
    )
}
