//! What the story needs around it: the simulated CRMs, the private PostgreSQL, the service, and a
//! client with a real token. Invariant: one demo at a time in one folder; everything that was
//! started here is stopped here.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, registry, util::SubscriberInitExt};

use super::{crms::DemoCrms, narrator::DemoNarrator, people::DemoPeople};
use crate::{
    cli::{
        client::{self, ClientSecrets, LocalContext, ServiceClient, show::count},
        keys::make_private_dir,
        serve::RunningService,
    },
    config::Config,
    domain::clock::Clock,
    lifecycle::ShutdownSignals,
};

/// Ports that are tried, from the configured one.
const PORTS_TRIED: u16 = 20;
/// What open calls may still take at the end.
const GRACE: Duration = Duration::from_secs(10);
/// How long its database may take to stop.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Everything that was started.
pub(super) struct DemoStage {
    /// The demo's folder.
    pub(super) dir: PathBuf,
    /// Where the service writes its log.
    pub(super) log_file: PathBuf,
    /// The simulated CRMs.
    pub(super) crms: DemoCrms,
    /// The people of the story.
    pub(super) demo_people: DemoPeople,
    /// The service.
    pub(super) service: RunningService,
    /// Calls it.
    pub(super) client: ServiceClient,
    /// Kept for as long as the demo runs.
    _lock: File,
}

impl DemoStage {
    /// Starts everything, and says what is where.
    pub(super) async fn set(
        config: Config,
        clock: Arc<dyn Clock>,
        people: usize,
        narrator: &mut DemoNarrator,
    ) -> anyhow::Result<Self> {
        let started = Instant::now();
        let dir = std::path::absolute(config.data_dir.join("demo")).context("the demo's folder")?;
        make_private_dir(&dir)?;
        let lock = lock(&dir)?;
        let log_file = dir.join("service.log");
        start_log(&log_file, &config.log.filter)?;
        narrator.heading("Setting the stage");
        narrator.fact("Data and log", &format!("{} and service.log there", dir.display()));

        let (crms, demo_people) = DemoCrms::open(Arc::clone(&clock), people).await?;
        let records = ["Contact", "Lead"].map(|object| crms.salesforce.record_count(object));
        for (crm, url, people, called) in [
            ("Zendesk", &crms.zendesk_url, crms.zendesk.user_count(), "users"),
            ("Salesforce", &crms.salesforce_url, records.iter().sum(), "records"),
            ("Pipedrive", &crms.pipedrive_url, crms.pipedrive.person_count(), "persons"),
        ] {
            narrator.fact(crm, &format!("simulated at {url}, {} {called}", count_of(people)));
        }

        let listener = listen(config.listen).await?;
        // On any port, which is known before the service starts: CRMs send browsers there, and what
        // changes.
        let http = TcpListener::bind("127.0.0.1:0").await.context("no port is free for HTTP")?;
        let http_address = http.local_addr().context("the bound address cannot be read")?;
        narrator.fact("PostgreSQL", "private, in its folder pg; the first start takes longer");
        let mut config = Config { data_dir: dir.clone(), database_url: None, migrate_database_url: None, ..config };
        (config.auth.jwks_file, config.auth.jwks_url, config.auth.jwks_ca_file) = (None, None, None);
        config.vault.key_ring_file = None;
        crms.seed(&mut config.providers, &dir)?;
        config.http.listen = Some(http_address);
        config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.http.public_url = Some(format!("http://{http_address}"));
        config.drain.wait_seconds = 0;
        let service = RunningService::start_on(listener, Some(http), &config, Arc::clone(&clock), true).await?;
        let seconds = started.elapsed().as_secs_f64();
        narrator.fact("contact-sync", &format!("gRPC at http://{}, ready after {seconds:.1} s", service.address));

        let here = LocalContext { config, clock, secrets: ClientSecrets::default() };
        let token = SecretString::from(client::own_token(&here)?);
        let client = ServiceClient::connect_to(&format!("http://{}", service.address), None, &token, false).await?;
        Ok(Self { dir, log_file, crms, demo_people, service, client, _lock: lock })
    }

    /// Where the service is called.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.service.address)
    }

    /// Returns when the service ends by itself.
    pub(super) async fn failed(&self) {
        self.service.lifecycle.soft().cancelled().await;
    }

    /// Stops everything, in the order in which one needs the other.
    pub(super) async fn stop(self, signals: &mut ShutdownSignals) -> anyhow::Result<()> {
        let Self { service, client, crms, .. } = self;
        drop(client);
        let lifecycle = service.lifecycle.clone();
        lifecycle.soft().cancel();
        lifecycle.run(async || signals.next().await, GRACE).await;
        service.stop(STOP_MAX).await?;
        crms.close().await;
        Ok(())
    }
}

/// Two demos in one folder would stop each other's runs.
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
