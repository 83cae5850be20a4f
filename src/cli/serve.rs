//! `contact-sync serve`: the database (a private one, unless told otherwise), the schema, the keys,
//! then everything that `app` joins.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use private_postgres::{Cluster, ClusterConfig, default_private_copy};
use tokio::{net::TcpListener, time::Instant};
use tracing::{info, warn};

use super::{client::failure::CommandFailure, keys::ServiceKeys, supervisor::SupervisorSocket};
use crate::{
    app::{self, AppWorld, ServiceApp},
    config::{Config, TlsConfig},
    domain::{clock::Clock, ids::IdSource},
    lifecycle::{ProcessLifecycle, ShutdownOutcome, ShutdownSignals},
    rpc::health::ServingHealth,
    store::schema::ProgramSchema,
    tls::{BoundListener, HTTP_1_1, HTTP_2, ServerTls},
};

/// How long tasks have beyond the drain before they are dropped.
const TASKS_GRACE: Duration = Duration::from_secs(5);
/// How long everything may take beyond the drain, from the first signal: what an orchestrator is
/// told to wait.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// What the last step may take however late it is.
const STOP_MIN: Duration = Duration::from_secs(2);

/// Serve gRPC and sync what is due, until SIGTERM or Ctrl-C.
///
/// Without `DATABASE_URL` it starts a private PostgreSQL in its data directory, and makes its own
/// keys there; with it, it starts nothing and needs `auth.jwks_file` or `auth.jwks_url`, and
/// `vault.key_ring_file`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServeArgs {
    /// Refuse to start if the schema lacks migrations, instead of migrating it
    #[arg(long)]
    pub(super) no_migrate: bool,
}

/// Serves until the process is told to end.
pub(super) async fn run(args: &ServeArgs, config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<ExitCode> {
    let mut signals = ShutdownSignals::listen().context("cannot listen for signals")?;
    let service = tokio::select! {
        service = RunningService::start(config, clock, !args.no_migrate) => service?,
        // Nothing has been promised to anybody yet.
        name = signals.next() => bail!("stopped by {name} while starting"),
    };
    let attending = SupervisorSocket::new(environment).attend(service.address, service.lifecycle.soft());
    tokio::select! {
        ended = serve_until_told(service, signals, config) => ended,
        never = attending => match never {},
    }
}

async fn serve_until_told(
    service: RunningService,
    mut signals: ShutdownSignals,
    config: &Config,
) -> anyhow::Result<ExitCode> {
    let drain = Duration::from_secs(config.drain.wait_seconds + config.drain.timeout_seconds);
    let lifecycle = service.lifecycle.clone();
    let mut first_signal = None;
    let next_signal = async || {
        let name = signals.next().await;
        first_signal.get_or_insert_with(Instant::now);
        name
    };
    let ended = lifecycle.run(next_signal, drain + TASKS_GRACE).await;
    let limit = (drain + STOP_GRACE).saturating_sub(first_signal.map_or(Duration::ZERO, |at| at.elapsed()));
    tokio::select! {
        stopped = service.stop(limit.max(STOP_MIN)) => match stopped {
            Ok(()) => Ok(ended.into()),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "something did not stop in time and is left to itself");
                Ok(if ended == ShutdownOutcome::Clean { ShutdownOutcome::Forced } else { ended }.into())
            }
        },
        name = signals.next() => {
            tracing::warn!(signal = name, "stopping at once");
            Ok(if ended == ShutdownOutcome::Clean { ShutdownOutcome::Forced } else { ended }.into())
        }
    }
}

/// A service that runs in this process, with its database.
pub(super) struct RunningService {
    /// The joined parts.
    pub(super) app: ServiceApp,
    /// Its tasks, and how it ends.
    pub(super) lifecycle: ProcessLifecycle,
    /// Where it serves.
    pub(super) address: std::net::SocketAddr,
    cluster: Option<Arc<Cluster>>,
}

impl RunningService {
    /// Listens where the settings say, and starts there.
    pub(super) async fn start(config: &Config, clock: Arc<dyn Clock>, migrates: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.listen).await.map_err(|error| CommandFailure {
            what: format!("cannot listen on {}: {error}", config.listen),
            next: "if something else has this port, choose another for server and commands alike: \
                export CONTACT_SYNC_LISTEN=127.0.0.1:50052"
                .to_owned(),
        })?;
        let http = match config.http.listen {
            Some(address) => Some(bind("http", address).await?),
            None => None,
        };
        Self::start_on(listener, http, config, clock, migrates).await
    }

    /// Keys, database, schema, parts, server; in this order, so that what is missing is told before
    /// anything is served.
    pub(super) async fn start_on(
        listener: TcpListener,
        http: Option<TcpListener>,
        config: &Config,
        clock: Arc<dyn Clock>,
        migrates: bool,
    ) -> anyhow::Result<Self> {
        let (lifecycle, health) = (ProcessLifecycle::new(), ServingHealth::new(false));
        let listener = secured(listener, &config.tls, HTTP_2, "tls", &lifecycle)?;
        let http = http.map(|http| secured(http, &config.http.tls, HTTP_1_1, "http.tls", &lifecycle)).transpose()?;
        if let Some(address) = config.admin.listen {
            let listener = bind("admin", address).await?;
            info!(listen = %listener.local_addr()?, "serving /metrics, /livez and /readyz");
            app::start_admin(listener, health.clone(), &lifecycle);
        }
        let warming = tokio::task::spawn_blocking(phone_key::warm_up);
        let ids = Arc::new(IdSource::from_os());
        let keys = ServiceKeys::load(config, &ids, &clock).await?;
        let address = listener.socket.local_addr().context("the bound address cannot be read")?;
        let (cluster, database_url) = database(config).await?;
        if let Some(cluster) = &cluster {
            // Until everything else has started.
            cluster.stop_on_drop(true);
        }
        let world = AppWorld {
            clock,
            ids,
            key_ring: Arc::clone(&keys.key_ring),
            tasks: lifecycle.tasks().clone(),
            stop: lifecycle.soft(),
            health,
        };
        let started = Self::join(config, migrates, &database_url, world, warming).await;
        let app = match (started, &cluster) {
            (Ok(app), _) => app,
            (Err(error), None) => return Err(error),
            (Err(error), Some(cluster)) => {
                // The reason why the service did not start is the one to tell.
                let _ = cluster.stop().await;
                return Err(error);
            }
        };
        app.start(config, listener, Arc::clone(&keys.verifier), &lifecycle).await;
        keys.watch(lifecycle.tasks(), lifecycle.soft());
        if let Some(listener) = http {
            info!(listen = %listener.socket.local_addr()?, "serving HTTP");
            app.start_http(listener, &lifecycle);
        }
        let cluster = cluster.map(Arc::new);
        if let Some(cluster) = &cluster {
            cluster.stop_on_drop(false);
            let (watched, soft) = (Arc::clone(cluster), lifecycle.soft());
            lifecycle.spawn_critical("private PostgreSQL", async move { watched.watch(soft).await });
        }
        info!(listen = %address, "serving gRPC");
        Ok(Self { app, lifecycle, address, cluster })
    }

    async fn join(
        config: &Config,
        migrates: bool,
        database_url: &str,
        world: AppWorld,
        warming: tokio::task::JoinHandle<()>,
    ) -> anyhow::Result<ServiceApp> {
        let owner_url = config.migrate_database_url.as_ref().map_or(database_url, |url| url.expose());
        if migrates {
            ProgramSchema::own().migrate(owner_url).await?;
        } else {
            ProgramSchema::own().verify(database_url).await?;
        }
        let app = ServiceApp::new(config, database_url, world)?;
        warming.await.context("the phone metadata cannot be read")?;
        Ok(app)
    }

    /// After its tasks have ended: closes the connections, and stops the database if it was started
    /// here and nobody else uses it. `limit` is for that stop; connections take about a second at
    /// most.
    pub(super) async fn stop(self, limit: Duration) -> anyhow::Result<()> {
        self.app.close().await;
        if let Some(cluster) = self.cluster {
            cluster.stop_within(limit).await.context("the private PostgreSQL did not stop")?;
        }
        info!("stopped");
        Ok(())
    }
}

async fn bind(section: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    Ok(bound.map_err(|error| CommandFailure {
        what: format!("cannot listen on {address}: {error}"),
        next: format!("choose another port with the setting {section}.listen"),
    })?)
}

/// The socket with what is spoken on it; certificates are watched from now on.
fn secured(
    socket: TcpListener,
    tls: &TlsConfig,
    protocol: &'static [u8],
    section: &str,
    lifecycle: &ProcessLifecycle,
) -> anyhow::Result<BoundListener> {
    let Some(files) = tls.files() else {
        let address = socket.local_addr()?;
        if !address.ip().is_loopback() {
            warn!(
                listen = %address,
                "plain text beyond this machine: set {section}.certificate_file and {section}.key_file, unless something in front of it speaks TLS"
            );
        }
        return Ok(socket.into());
    };
    let tls = Arc::new(ServerTls::load(files, protocol).with_context(|| format!("{section}.certificate_file"))?);
    lifecycle.tasks().spawn(Arc::clone(&tls).watch(lifecycle.soft()));
    Ok(BoundListener { socket, tls: Some(tls) })
}

/// The database that the settings name, or the private cluster, started if it does not run.
pub(super) async fn database(config: &Config) -> anyhow::Result<(Option<Cluster>, String)> {
    if let Some(url) = &config.database_url {
        return Ok((None, url.expose().to_owned()));
    }
    if config.migrate_database_url.is_some() {
        bail!("MIGRATE_DATABASE_URL is set alone: set DATABASE_URL too, or neither for a private PostgreSQL");
    }
    let cluster = Cluster::start(ClusterConfig {
        bin_dir: config.pg_bin_dir.clone(),
        path_var: environment("PATH"),
        private_copy: default_private_copy(
            nix::unistd::geteuid().is_root(),
            environment("HOME").as_deref().map(Path::new),
            environment("XDG_CACHE_HOME").as_deref().map(Path::new),
        ),
        ..ClusterConfig::new(&config.data_dir)
    })
    .await?;
    let url = cluster.url();
    Ok((Some(cluster), url))
}

#[expect(clippy::disallowed_methods, reason = "what the system says of this process, not a setting")]
fn environment(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}
