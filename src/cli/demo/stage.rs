//! What the story needs around it: the simulated Zendesk, the private PostgreSQL, the service, and a client with a real token.
//! Invariant: one demo at a time in one folder; everything that was started here is stopped here.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, registry, util::SubscriberInitExt};

use super::{cast::Cast, teller::Teller};
use crate::{
    cli::{
        client::{self, Client, Here, Secrets, show::count},
        serve::{Service, make_private_dir},
    },
    config::Config,
    domain::clock::Clock,
    lifecycle::Signals,
    simulator::{
        self,
        zendesk::{Zendesk, ZendeskConfig, router},
    },
};

/// Of the generated people: the same in every demo.
const SEED: u64 = 1;
/// Ports that are tried, from the configured one.
const PORTS_TRIED: u16 = 20;
/// What open calls may still take at the end.
const GRACE: Duration = Duration::from_secs(10);

/// Everything that was started.
pub(super) struct Stage {
    /// The demo's folder.
    pub(super) dir: PathBuf,
    /// Where the service writes its log.
    pub(super) log_file: PathBuf,
    /// The simulated account.
    pub(super) zendesk: Arc<Zendesk>,
    /// Where it is served.
    pub(super) zendesk_url: String,
    /// The people of the story.
    pub(super) cast: Cast,
    /// The service.
    pub(super) service: Service,
    /// Calls it.
    pub(super) client: Client,
    integration: OnceLock<String>,
    crm: Crm,
    /// Kept for as long as the demo runs.
    _lock: File,
}

/// The simulator's tasks.
struct Crm {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Stage {
    /// Starts everything, and says what is where.
    pub(super) async fn set(
        config: Config,
        clock: Arc<dyn Clock>,
        contacts: usize,
        teller: &mut Teller,
    ) -> anyhow::Result<Self> {
        let started = Instant::now();
        let dir = std::path::absolute(config.data_dir.join("demo")).context("the demo's folder")?;
        make_private_dir(&dir)?;
        let lock = lock(&dir)?;
        let log_file = dir.join("service.log");
        start_log(&log_file, &config.log.filter)?;
        teller.heading("Setting the stage");
        teller.fact("Data and log", &format!("{} and service.log there", dir.display()));

        let (zendesk, cast) = fill_zendesk(Arc::clone(&clock), contacts).await?;
        let crm = Crm { tasks: TaskTracker::new(), stop: CancellationToken::new() };
        let zendesk_url = crm.serve(Arc::clone(&zendesk)).await?;
        teller.fact("Zendesk", &format!("simulated at {zendesk_url}, {} users", count_of(zendesk.user_count())));

        let listener = listen(config.listen).await?;
        teller.fact("PostgreSQL", "private, in its folder pg; the first start takes longer");
        let mut config = Config { data_dir: dir.clone(), database_url: None, migrate_database_url: None, ..config };
        config.auth.jwks_file = None;
        config.vault.key_ring_file = None;
        config.providers.zendesk.base_url = Some(zendesk_url.clone());
        config.drain.wait_seconds = 0;
        let service = Service::start_on(listener, &config, Arc::clone(&clock), true).await?;
        let seconds = started.elapsed().as_secs_f64();
        teller.fact("contact-sync", &format!("gRPC at http://{}, ready after {seconds:.1} s", service.address));

        let here = Here { config, clock, secrets: Secrets::default() };
        let token = SecretString::from(client::own_token(&here)?);
        let client = Client::connect_to(&format!("http://{}", service.address), &token, false).await?;
        let integration = OnceLock::new();
        Ok(Self { dir, log_file, zendesk, zendesk_url, cast, service, client, integration, crm, _lock: lock })
    }

    /// Where the service is called.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.service.address)
    }

    /// Remembers the integration of the story.
    pub(super) fn set_integration(&self, id: &str) {
        self.integration.get_or_init(|| id.to_owned());
    }

    /// The integration of the story; empty before it is made.
    pub(super) fn integration(&self) -> &str {
        self.integration.get().map_or("", String::as_str)
    }

    /// Returns when the service ends by itself.
    pub(super) async fn failed(&self) {
        self.service.lifecycle.soft().cancelled().await;
    }

    /// Stops everything, in the order in which one needs the other.
    pub(super) async fn strike(self, signals: &mut Signals) -> anyhow::Result<()> {
        let Self { service, client, crm, .. } = self;
        drop(client);
        let lifecycle = service.lifecycle.clone();
        lifecycle.soft().cancel();
        lifecycle.run(async || signals.next().await, GRACE).await;
        service.stop().await?;
        crm.stop.cancel();
        crm.tasks.close();
        crm.tasks.wait().await;
        Ok(())
    }
}

impl Crm {
    /// Serves on a free port; the URL.
    async fn serve(&self, zendesk: Arc<Zendesk>) -> anyhow::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port is free for the simulated Zendesk")?;
        let address = listener.local_addr().context("the bound address cannot be read")?;
        let serving = simulator::serve(listener, router(zendesk), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the simulated Zendesk has stopped");
            }
        });
        Ok(format!("http://{address}"))
    }
}

/// Two demos in one folder would stop each other's passes.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another demo runs in {}; stop it, or give this one another --data-dir", dir.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The log goes to a file of this demo, so that the story stays readable.
fn start_log(path: &Path, filter: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let filter = EnvFilter::try_new(filter).context("log.filter")?;
    let log = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Arc::new(file));
    registry().with(filter).with(log).try_init().context("the log is set up already")
}

/// Generating takes seconds for a large account; the runtime's threads are not for that.
async fn fill_zendesk(clock: Arc<dyn Clock>, contacts: usize) -> anyhow::Result<(Arc<Zendesk>, Cast)> {
    let filling = tokio::task::spawn_blocking(move || {
        let zendesk = Zendesk::new(ZendeskConfig::new(Arc::new(move || clock.now())));
        zendesk.generate_people(contacts, SEED)?;
        let cast = Cast::enter(&zendesk)?;
        Ok::<_, simulator::zendesk::Refusal>((zendesk, cast))
    });
    filling.await.context("filling Zendesk failed")?.map_err(|refusal| anyhow::anyhow!("filling Zendesk: {refusal}"))
}

/// The configured port, or the next that is free.
async fn listen(wanted: SocketAddr) -> anyhow::Result<TcpListener> {
    let mut address = wanted;
    for _ in 0..PORTS_TRIED {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() < u16::MAX => {
                address.set_port(address.port() + 1);
            }
            bound => return bound.with_context(|| format!("cannot listen on {address}")),
        }
    }
    bail!("{PORTS_TRIED} ports from {wanted} on are taken; name a free one with --listen")
}

fn count_of(number: usize) -> String {
    count(i64::try_from(number).unwrap_or(i64::MAX))
}
