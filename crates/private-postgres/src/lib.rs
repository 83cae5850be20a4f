//! The private PostgreSQL cluster, for a service that was given no database: found, made, started
//! and stopped here.
//!
//! Invariants: it is reached through a Unix socket in a folder of mode 0700 and in no other way;
//! what it acknowledged is on disk (fsync on); it survives the service, however that ends, and the
//! next start uses it again. Nothing is downloaded. This crate knows no table; it connects only to
//! see whether the server is ready.

mod discover;
mod error;
mod layout;
mod process;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, PgConnection};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use discover::{MAJOR_MIN, ProgramPlaces};
pub use error::ClusterError;
use layout::ClusterLayout;
pub use layout::{default_data_dir, default_private_copy};

/// The database inside the cluster.
const DATABASE: &str = "contact_sync";
/// Limit for one attempt to connect while waiting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at a server that starts or stops.
const POLL: Duration = Duration::from_millis(50);
/// Between two attempts to start a server whose predecessor is not quite gone: after a SIGKILL its
/// children take a moment to leave, and hold its shared memory until then.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// Starts in vain, with no process of a predecessor left.
const FAILURES_MAX: u32 = 3;
/// Limit for a server that says that it is recovering: stopped in the middle, it would begin again
/// at the next start.
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(30);
/// Between two lines of the log about a server that recovers.
const RECOVERY_TOLD_EVERY: Duration = Duration::from_secs(30);
/// How long the logger of a server that has ended may take to follow.
const LOGGER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a server that was started in vain may take to end when it is asked, and again when it
/// is told.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(3);

/// What a private cluster needs to know. Environment values are read by the configuration and
/// passed in.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// The service's data directory; the cluster lies in its folder `pg`. The socket's path must
    /// fit into 107 bytes.
    pub data_dir: PathBuf,
    /// `PG_BIN_DIR`: the folder of `initdb` and `postgres`. If given, no other place is tried.
    pub bin_dir: Option<PathBuf>,
    /// The value of PATH.
    pub path_var: Option<OsString>,
    /// The `bin` folder of a copy of PostgreSQL's programs, tried last; see
    /// [`default_private_copy`].
    pub private_copy: Option<PathBuf>,
    /// Limit for everything until the first connection; crash recovery may take longer.
    pub start_timeout: Duration,
    /// Limit for the shutdown.
    pub stop_timeout: Duration,
    /// The pause after the first start in vain of a server that has ended; doubles each time.
    pub restart_pause: Duration,
    /// PostgreSQL's `max_connections`; three of them are kept for superusers.
    pub max_connections: u16,
}

impl ClusterConfig {
    /// Two minutes to start, thirty seconds to stop, 100 connections, programs from the known
    /// system folders.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            path_var: None,
            private_copy: None,
            start_timeout: Duration::from_mins(2),
            stop_timeout: Duration::from_secs(30),
            restart_pause: Duration::from_secs(1),
            max_connections: 100,
        }
    }
}

/// A running private cluster. Dropping it leaves the server running, as a crash would, unless
/// [`Cluster::stop_on_drop`] was said; [`Cluster::stop`] ends it.
#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    layout: ClusterLayout,
    bin_dir: PathBuf,
    major: u32,
    /// `None` if the server was running already.
    child: Mutex<Option<Child>>,
    stops_on_drop: AtomicBool,
    /// Tells other services on this data directory that somebody needs the server.
    use_lock: File,
}

impl Cluster {
    /// Finds PostgreSQL, makes the data directory if there is none, starts the server if it does
    /// not run, and returns when a connection succeeds. Several services may share one data
    /// directory: the first starts the server, the others use it.
    pub async fn start(config: ClusterConfig) -> Result<Self, ClusterError> {
        let deadline = Instant::now() + config.start_timeout;
        let pg_dir = layout::make_pg_dir(&config.data_dir)?;
        // Held until this function ends; no other service starts or stops the server meanwhile.
        let _starting = layout::lock_start(&pg_dir, config.start_timeout).await?;
        let layout = ClusterLayout::look(pg_dir)?;

        let (bin_dir, major) = choose_programs(&config, &layout).await?;
        if layout.data_major.is_none() {
            info!(postgres.major = major, data.dir = %layout.data(major).display(), "making a private PostgreSQL cluster");
            process::initdb(&layout, &bin_dir, major, deadline.saturating_duration_since(Instant::now())).await?;
        }
        process::check_data(&layout, major)?;

        let use_lock = layout.lock_use()?;
        let mut server = Started { child: None };
        let ready = async {
            let connection = bring_up(&config, &layout, &bin_dir, major, deadline, &mut server).await?;
            make_database(&layout, connection).await
        };
        if let Err(error) = ready.await {
            server.abandon().await;
            return Err(error);
        }
        let child = server.child.take();
        info!(postgres.major = major, data.dir = %layout.data(major).display(), postgres.started = child.is_some(), "private PostgreSQL is ready");
        let (child, stops_on_drop) = (Mutex::new(child), AtomicBool::new(false));
        Ok(Self { config, layout, bin_dir, major, child, stops_on_drop, use_lock })
    }

    /// While the start of the service is not over: dropped, this asks the server to stop if it was
    /// started here.
    pub fn stop_on_drop(&self, stops: bool) {
        self.stops_on_drop.store(stops, Ordering::Relaxed);
    }

    /// The URL for sqlx, psql and every other client on this machine that may enter the socket's
    /// folder.
    pub fn url(&self) -> String {
        let host = percent_encode(&self.layout.socket_dir);
        format!("postgresql:///{DATABASE}?host={host}&port={}&user={}&sslmode=disable", layout::PORT, process::ROLE)
    }

    /// The folder of the socket: mode 0700, the server's user (and root) alone.
    pub fn socket_dir(&self) -> &Path {
        &self.layout.socket_dir
    }

    /// PostgreSQL's own data directory, `<data directory>/pg/<major>`.
    pub fn data_dir(&self) -> PathBuf {
        self.layout.data(self.major)
    }

    /// PostgreSQL's major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// False if the server was running already when this process came.
    pub fn was_started_here(&self) -> bool {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Shuts the server down (fast shutdown: sessions end, everything is written out) and waits for
    /// it; close the pools first. Nothing happens while another service uses the cluster: the last
    /// one out stops it, whoever started it. After the limit it returns
    /// [`ClusterError::StillStopping`], and the server goes on by itself.
    pub async fn stop(&self) -> Result<(), ClusterError> {
        self.stop_within(self.config.stop_timeout).await
    }

    /// As [`Cluster::stop`], with another limit.
    pub async fn stop_within(&self, stop_timeout: Duration) -> Result<(), ClusterError> {
        self.stop_on_drop(false);
        let Self { layout, major, .. } = self;
        let _stopping = layout::lock_start(&layout.pg_dir, stop_timeout).await?;
        self.use_lock.unlock().map_err(error::io("unlock", &layout.pg_dir))?;
        if !layout.is_unused()? {
            info!("private PostgreSQL stays: another service uses it");
            return Ok(());
        }

        let data = layout.data(*major);
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(pid) = process::running_server(&data) else {
            return Ok(());
        };
        process::ask_to_stop(&data, pid)?;
        let stopped = async {
            if let Some(mut child) = child {
                child.wait().await.map_err(error::io("wait for the server of", &data))?;
            }
            while process::running_server(&data).is_some() {
                sleep(POLL).await;
            }
            Ok(())
        };
        timeout(stop_timeout, stopped).await.unwrap_or(Err(ClusterError::StillStopping { waited: stop_timeout }))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let is_ours = self.was_started_here() && self.stops_on_drop.load(Ordering::Relaxed);
        if is_ours && self.use_lock.unlock().is_ok() && self.layout.is_unused().unwrap_or(false) {
            let data = self.data_dir();
            if let Some(pid) = process::running_server(&data) {
                let _ = process::ask_to_stop(&data, pid);
            }
        }
    }
}

/// A server that is being started. Dropped with one, it asks it to stop: a failed or interrupted
/// start leaves none behind.
struct Started {
    child: Option<Child>,
}

impl Started {
    /// Ends it and waits for that: asks first, and then insists.
    async fn abandon(mut self) {
        let Some(mut child) = self.child.take() else { return };
        for is_urgent in [false, true] {
            process::end(&child, is_urgent);
            if timeout(ABANDON_TIMEOUT, child.wait()).await.is_ok() {
                return;
            }
        }
        warn!("a PostgreSQL that was started in vain does not end; look at its processes");
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            process::end(child, false);
        }
    }
}

/// The programs that fit the data that is there; for new data, the first that are new enough.
async fn choose_programs(config: &ClusterConfig, layout: &ClusterLayout) -> Result<(PathBuf, u32), ClusterError> {
    let places = ProgramPlaces {
        bin_dir: config.bin_dir.as_deref(),
        path_var: config.path_var.as_deref(),
        private_copy: config.private_copy.as_deref(),
        root: Path::new("/"),
    };
    let mut majors = Vec::new();
    let mut failed = None;
    for bin_dir in discover::find_bin_dirs(&places)? {
        let major = match process::version(layout, &bin_dir).await {
            Ok(printed) => discover::parse_major(&printed),
            // A copy that cannot be run is as good as none, unless it is the only one.
            Err(error) => {
                failed.get_or_insert(error);
                None
            }
        };
        let Some(major) = major else { continue };
        if layout.data_major.map_or(major >= MAJOR_MIN, |data| data == major) {
            return Ok((bin_dir, major));
        }
        majors.push(major);
    }

    match (layout.data_major, majors.iter().max()) {
        (_, None) => Err(failed.unwrap_or(ClusterError::NoBinaries)),
        (None, Some(newest)) => Err(ClusterError::TooOld { found: *newest }),
        (Some(data), Some(_)) => {
            let found = majors.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            Err(ClusterError::WrongMajor { pg_dir: layout.pg_dir.clone(), data, found })
        }
    }
}

/// What one attempt to connect says about the server.
enum Answer {
    Ready(PgConnection),
    /// Nobody listens.
    Silent(String),
    /// It says that it is starting, recovering or stopping.
    Recovering(String),
    /// Somebody listens and is not ready: full, or without a word.
    NotYet(String),
}

/// Connects, starting the server whenever none is there, until it answers or the deadline has
/// passed.
async fn bring_up(
    config: &ClusterConfig,
    layout: &ClusterLayout,
    bin_dir: &Path,
    major: u32,
    deadline: Instant,
    server: &mut Started,
) -> Result<PgConnection, ClusterError> {
    let data = layout.data(major);
    let child = &mut server.child;
    let mut failures = 0;
    let recovered_by = deadline + RECOVERY_TIMEOUT;
    let mut tell_at = Instant::now() + RECOVERY_TOLD_EVERY;
    loop {
        let (detail, is_silent, deadline) = match connect(layout).await? {
            Answer::Ready(connection) => return Ok(connection),
            Answer::Silent(detail) => (detail, true, deadline),
            Answer::NotYet(detail) => (detail, false, deadline),
            Answer::Recovering(detail) => {
                if Instant::now() >= tell_at {
                    tell_at = Instant::now() + RECOVERY_TOLD_EVERY;
                    info!(
                        answer = detail,
                        "private PostgreSQL is not ready yet; after a crash or a full disk it recovers first"
                    );
                }
                (detail, false, recovered_by)
            }
        };
        if Instant::now() >= deadline {
            let detail = format!("{detail} / {}", process::startup_words(layout, major));
            return Err(ClusterError::StartTimeout { waited: config.start_timeout, detail, log: data.join("log") });
        }

        if let Some(running) = child.as_mut() {
            let ended = running.try_wait().map_err(error::io("wait for the server of", &data))?;
            if ended.is_some() {
                *child = None;
                // A predecessor that is not quite gone shows itself by its pid file and its
                // processes; anything else will not heal by waiting, but the last of them may have
                // gone in this very moment.
                failures += u32::from(!process::is_in_use(&data));
                if process::read_pid(&data).is_none() || failures >= FAILURES_MAX {
                    // Its logger writes down why, and ends after it.
                    let logged = async {
                        while process::is_in_use(&data) {
                            sleep(POLL).await;
                        }
                    };
                    let _ = timeout(LOGGER_TIMEOUT, logged).await;
                    return Err(ClusterError::StartFailed {
                        detail: process::startup_words(layout, major),
                        log: data.join("log"),
                    });
                }
                sleep(RESTART_PAUSE).await;
                continue;
            }
        } else if is_silent && process::running_server(&data).is_none() {
            if process::remove_misleading_locks(&data, &layout.socket_dir)? {
                warn!("removed a lock of a dead PostgreSQL whose process id now belongs to another program");
            }
            *child = Some(process::spawn_server(layout, bin_dir, major, config.max_connections)?);
        }
        sleep(POLL).await;
    }
}

async fn connect(layout: &ClusterLayout) -> Result<Answer, ClusterError> {
    let options = PgConnectOptions::new_without_pgpass()
        .socket(&layout.socket_dir)
        .port(layout::PORT)
        .username(process::ROLE)
        .database("postgres")
        .ssl_mode(PgSslMode::Disable);
    let Ok(attempt) = timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&options)).await else {
        return Ok(Answer::NotYet(format!("no answer to a connection within {CONNECT_TIMEOUT:?}")));
    };
    match attempt {
        Ok(connection) => Ok(Answer::Ready(connection)),
        Err(sqlx::Error::Io(error)) => Ok(Answer::Silent(error.to_string())),
        // Starting up, shutting down or recovering.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("57P03") => {
            Ok(Answer::Recovering(error.message().to_owned()))
        }
        // Too many clients.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("53300") => {
            Ok(Answer::NotYet(error.message().to_owned()))
        }
        Err(source) => Err(ClusterError::Refused { pg_dir: layout.pg_dir.clone(), source }),
    }
}

/// Makes the service's database if it is not there; the caller holds the start lock.
async fn make_database(layout: &ClusterLayout, mut connection: PgConnection) -> Result<(), ClusterError> {
    let refused = |source| ClusterError::Refused { pg_dir: layout.pg_dir.clone(), source };
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(DATABASE)
        .fetch_one(&mut connection)
        .await
        .map_err(refused)?;
    if !exists {
        sqlx::query("create database contact_sync").execute(&mut connection).await.map_err(refused)?;
    }
    connection.close().await.map_err(refused)
}

/// A path as a URL's query value: all but letters, digits, `-`, `.`, `_` and `~` is escaped (RFC
/// 3986, 2.3).
fn percent_encode(path: &Path) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(*byte)),
            _ => {
                encoded.push('%');
                encoded.push(char::from(HEX[usize::from(byte >> 4)]));
                encoded.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_as_a_query_value() {
        assert_eq!(percent_encode(Path::new("/var/l b/ü&=?,~-")), "%2Fvar%2Fl%20b%2F%C3%BC%26%3D%3F%2C~-");
    }
}
