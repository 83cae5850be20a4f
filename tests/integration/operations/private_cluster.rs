//! The private cluster on real PostgreSQL programs: made, found again, shared, killed, refused.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use private_postgres::{Cluster, ClusterConfig, ClusterError, default_private_copy};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::support::sync::{eventually, soon};

/// A data directory that is removed with whatever server still runs in it.
pub struct DataDir(PathBuf);

impl DataDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cs-cluster-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    #[expect(clippy::disallowed_methods, reason = "the test run names the programs that it was set up with")]
    fn config(&self) -> ClusterConfig {
        let home = std::env::home_dir();
        ClusterConfig {
            bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
            private_copy: default_private_copy(geteuid().is_root(), home.as_deref(), None),
            max_connections: 20,
            restart_pause: Duration::from_millis(1),
            ..ClusterConfig::new(&self.0)
        }
    }

    async fn try_start(&self) -> Result<Cluster, ClusterError> {
        Cluster::start(self.config()).await
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub async fn start(&self) -> Cluster {
        self.try_start().await.expect("the cluster starts")
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        for major in std::fs::read_dir(self.0.join("pg")).into_iter().flatten().flatten() {
            if let Some(pid) = server_pid(&major.path()) {
                let _ = kill(pid, Signal::SIGQUIT);
            }
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn server_pid(data: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    Some(Pid::from_raw(text.lines().next()?.parse().ok()?))
}

async fn connect(cluster: &Cluster) -> PgConnection {
    PgConnection::connect(&cluster.url()).await.expect("the URL connects")
}

async fn text(cluster: &Cluster, statement: &'static str) -> String {
    let mut connection = connect(cluster).await;
    sqlx::query_scalar(statement).fetch_one(&mut connection).await.expect(statement)
}

async fn remember(cluster: &Cluster, words: &str) {
    let mut connection = connect(cluster).await;
    sqlx::query("create table if not exists note (words text primary key)").execute(&mut connection).await.unwrap();
    sqlx::query("insert into note values ($1)").bind(words).execute(&mut connection).await.unwrap();
}

/// A second start finds the data of the first.
#[tokio::test]
async fn second_start_finds_first_ones_data() {
    let dir = DataDir::new();
    let first = dir.start().await;
    remember(&first, "kept").await;
    let first_data = first.data_dir();
    first.stop().await.unwrap();
    assert_eq!(server_pid(&first_data), None, "a stopped server leaves no pid file");

    let second = dir.start().await;

    assert!(second.was_started_here());
    assert_eq!(second.data_dir(), first_data);
    assert_eq!(text(&second, "select words from note").await, "kept");
    second.stop().await.unwrap();
}

/// Only the private socket leads in, and writes are durable.
#[tokio::test]
async fn only_private_socket_leads_in_writes_durable() {
    let dir = DataDir::new();
    let cluster = dir.start().await;

    let mode = std::fs::metadata(cluster.socket_dir()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    assert_eq!(text(&cluster, "select current_setting('listen_addresses')").await, "");
    for on in [
        "select current_setting('fsync')",
        "select current_setting('full_page_writes')",
        "select current_setting('data_checksums')",
    ] {
        assert_eq!(text(&cluster, on).await, "on", "{on}");
    }
    assert_eq!(text(&cluster, "select current_database()::text").await, "contact_sync");
    assert_eq!(
        text(&cluster, "select datcollate from pg_database where datname = current_database()").await,
        "C.UTF-8"
    );
    assert_eq!(text(&cluster, "select current_setting('max_connections')").await, "20");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_servers_log_quotes_no_row() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    remember(&cluster, "+13108675309").await;

    let mut connection = connect(&cluster).await;
    let clash = sqlx::query("insert into note values ($1)").bind("+13108675309").execute(&mut connection).await;
    assert!(clash.is_err());
    drop(connection);
    let log_dir = cluster.data_dir().join("log");
    cluster.stop().await.unwrap();

    let log: String = std::fs::read_dir(log_dir)
        .unwrap()
        .flatten()
        .map(|file| std::fs::read_to_string(file.path()).unwrap())
        .collect();
    assert!(log.contains("duplicate key value"), "{log}");
    assert!(!log.contains("3108675309"), "{log}");
}

/// Two services share one server, and the last one stops it.
#[tokio::test]
async fn two_services_share_server_last_stops_it() {
    let dir = DataDir::new();
    let first = dir.start().await;
    let second = dir.start().await;
    assert!(first.was_started_here() && !second.was_started_here());

    first.stop().await.unwrap();
    assert_eq!(text(&second, "select 'still here'").await, "still here");

    let data = second.data_dir();
    second.stop().await.unwrap();
    assert_eq!(server_pid(&data), None);
}

/// Two services that start at once make one cluster.
#[tokio::test]
async fn simultaneous_starts_make_one_cluster() {
    let dir = DataDir::new();

    let (first, second) = tokio::join!(dir.try_start(), dir.try_start());

    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.was_started_here(), second.was_started_here());
    remember(&first, "shared").await;
    assert_eq!(text(&second, "select words from note").await, "shared");
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

/// A service that vanishes leaves a server that the next one uses and stops.
#[tokio::test]
async fn vanished_services_server_is_used_and_stopped() {
    let dir = DataDir::new();
    let vanished = dir.start().await;
    remember(&vanished, "kept").await;
    let data = vanished.data_dir();
    let pid = server_pid(&data);
    // The same to the server as a service ended by SIGKILL: nobody asked it to stop, and the locks
    // are gone.
    drop(vanished);

    let next = dir.start().await;

    assert!(!next.was_started_here());
    assert_eq!(server_pid(&data), pid);
    assert_eq!(text(&next, "select words from note").await, "kept");
    next.stop().await.unwrap();
    assert_eq!(server_pid(&data), None);
}

/// A server that is ended by SIGKILL is started again with its data.
#[tokio::test]
async fn server_ended_by_sigkill_restarts_with_data() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    remember(&cluster, "kept").await;
    let data = cluster.data_dir();
    // Keeps a child of the server alive for a moment, and its shared memory with it.
    let open = connect(&cluster).await;
    kill(server_pid(&data).unwrap(), Signal::SIGKILL).unwrap();
    drop(cluster);

    let again = dir.start().await;

    drop(open);
    assert!(again.was_started_here());
    assert_eq!(text(&again, "select words from note").await, "kept");
    again.stop().await.unwrap();
}

/// A pid file that names a stranger's process does not keep the server down.
#[tokio::test]
async fn strangers_pid_in_pid_file_is_harmless() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let data = cluster.data_dir();
    let pid_file = data.join("postmaster.pid");
    let left_behind = std::fs::read_to_string(&pid_file).unwrap();
    cluster.stop().await.unwrap();
    // After a power cut the old process id may belong to anything that runs as the same user.
    let mut stranger = Command::new("sleep");
    stranger.arg("60");
    let owner = std::fs::metadata(&data).unwrap();
    if geteuid().is_root() {
        use std::os::unix::fs::MetadataExt;
        stranger.uid(owner.uid()).gid(owner.gid());
    }
    let mut stranger = stranger.spawn().unwrap();
    let (_, rest) = left_behind.split_once('\n').unwrap();
    std::fs::write(&pid_file, format!("{}\n{rest}", stranger.id())).unwrap();

    let again = Cluster::start(ClusterConfig { start_timeout: Duration::from_secs(30), ..dir.config() }).await;

    assert!(stranger.try_wait().unwrap().is_none(), "the stranger is left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    again.unwrap().stop().await.unwrap();
}

/// A process that lives and has nothing to do with the cluster, as its data's owner.
struct Stranger(std::process::Child);

impl Stranger {
    fn start(data: &Path) -> Self {
        let mut stranger = Command::new("sleep");
        stranger.arg("60");
        if geteuid().is_root() {
            use std::os::unix::fs::MetadataExt;
            let owner = std::fs::metadata(data).unwrap();
            stranger.uid(owner.uid()).gid(owner.gid());
        }
        Self(stranger.spawn().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A socket's lock that names a stranger's process does not keep the server down.
#[tokio::test]
async fn strangers_pid_in_socket_lock_is_harmless() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let (data, lock) = (cluster.data_dir(), cluster.socket_dir().join(".s.PGSQL.5432.lock"));
    let left_behind = std::fs::read_to_string(&lock).unwrap();
    cluster.stop().await.unwrap();
    let mut stranger = Stranger::start(&data);
    let (_, rest) = left_behind.split_once('\n').unwrap();
    std::fs::write(&lock, format!("{}\n{rest}", stranger.0.id())).unwrap();

    let again = dir.start().await;

    assert!(stranger.0.try_wait().unwrap().is_none(), "the stranger is left alone");
    again.stop().await.unwrap();
}

/// A server that is killed while the service runs is started again.
#[tokio::test]
async fn server_killed_under_service_is_restarted() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    remember(&cluster, "kept").await;
    let first = server_pid(&cluster.data_dir()).unwrap();
    let stop = CancellationToken::new();

    let watching = cluster.watch(stop.clone());
    let killing = async {
        kill(first, Signal::SIGKILL).unwrap();
        eventually("another server", async || {
            server_pid(&cluster.data_dir()).is_some_and(|pid| pid != first)
                && PgConnection::connect(&cluster.url()).await.is_ok()
        })
        .await;
        assert_eq!(text(&cluster, "select words from note").await, "kept");
        stop.cancel();
    };
    let (watched, ()) = tokio::join!(watching, killing);

    watched.unwrap();
    cluster.stop().await.unwrap();
    assert_eq!(server_pid(&cluster.data_dir()), None);
}

/// A server that cannot be started again ends the watch and leaves nothing behind.
#[tokio::test]
async fn unrestartable_server_ends_watch_leaving_nothing() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let data = cluster.data_dir();
    std::fs::write(data.join("postgresql.conf"), "shared_buffers = lots\n").unwrap();
    kill(server_pid(&data).unwrap(), Signal::SIGKILL).unwrap();

    let given_up = soon("the end of the watch", cluster.watch(CancellationToken::new())).await.unwrap_err();

    assert!(given_up.to_string().contains("shared_buffers"), "{given_up}");
    let left = server_pid(&data).filter(|pid| kill(*pid, None).is_ok());
    assert_eq!(left, None);
}

/// A start that takes too long leaves no server behind.
#[tokio::test]
async fn overlong_start_leaves_no_server() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let data = cluster.data_dir();
    cluster.stop().await.unwrap();

    for millis in [0, 20, 60, 120, 250] {
        let config = ClusterConfig { start_timeout: Duration::from_millis(millis), ..dir.config() };
        match Cluster::start(config).await {
            Ok(cluster) => cluster.stop().await.unwrap(),
            Err(ClusterError::StartTimeout { .. } | ClusterError::Locked { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(server_pid(&data), None, "after {millis} ms");
    }
}

/// A start that is given up in the middle asks the server to stop.
#[tokio::test]
async fn start_given_up_midway_stops_server() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let data = cluster.data_dir();
    cluster.stop().await.unwrap();
    {
        let mut starting = std::pin::pin!(dir.try_start());
        tokio::select! {
            biased;
            _ = &mut starting => panic!("it is given up before"),
            () = eventually("its pid file", async || server_pid(&data).is_some()) => {}
        }
    }

    eventually("no server", async || server_pid(&data).is_none()).await;
}

/// Ctrl-C in the terminal does not reach the server.
#[tokio::test]
async fn terminals_ctrl_c_never_reaches_server() {
    let dir = DataDir::new();
    let cluster = dir.start().await;

    // The fifth field of /proc/<pid>/stat is the process group; the second may hold spaces, in
    // parentheses.
    let pid = server_pid(&cluster.data_dir()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let group: i32 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(2).unwrap().parse().unwrap();

    assert_eq!(group, pid.as_raw());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_never_runs_as_root() {
    let dir = DataDir::new();
    let cluster = dir.start().await;

    let pid = server_pid(&cluster.data_dir()).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ids = |name: &str| -> Vec<u32> {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(|id| id.parse().unwrap()).collect()
    };
    let user = User::from_uid(ids("Uid:")[0].into()).unwrap().unwrap();

    assert!(ids("Uid:").iter().all(|id| *id == user.uid.as_raw()));
    if geteuid().is_root() {
        assert!(["contact-sync", "postgres"].contains(&user.name.as_str()), "runs as {}", user.name);
        assert!(!ids("Groups:").contains(&0), "root's groups are dropped too");
    } else {
        assert_eq!(user.uid, geteuid());
    }
    cluster.stop().await.unwrap();
}

/// As root, a data directory that the server's user cannot enter is refused.
#[tokio::test]
async fn root_needs_directory_servers_user_can_enter() {
    if !geteuid().is_root() {
        return;
    }
    let dir = DataDir::new();
    std::fs::create_dir(&dir.0).unwrap();
    std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(0o700)).unwrap();

    let error = dir.try_start().await.unwrap_err();

    assert!(matches!(error, ClusterError::CannotEnter { .. }), "{error}");
    assert!(error.to_string().contains("/var/lib/contact-sync"), "{error}");
}

/// Missing programs are named with the line that installs them.
#[tokio::test]
async fn missing_programs_are_named_with_install_line() {
    let dir = DataDir::new();

    let error =
        Cluster::start(ClusterConfig { bin_dir: Some("/nowhere/bin".into()), ..dir.config() }).await.unwrap_err();

    assert!(matches!(error, ClusterError::NoBinariesIn(_)));
    assert!(error.to_string().contains("apt-get install -y postgresql"), "{error}");
}

/// A socket path that would be too long is refused before anything is made.
#[tokio::test]
async fn too_long_socket_path_is_refused_first() {
    let dir = DataDir::new();
    let deep = dir.0.join("d".repeat(100));

    let error = Cluster::start(ClusterConfig::new(&deep)).await.unwrap_err();

    assert!(matches!(error, ClusterError::SocketPathTooLong { max: 107, .. }), "{error}");
    assert!(error.to_string().contains("choose a shorter data directory"), "{error}");
    assert!(!dir.0.exists());
}

/// Data of another major version is never passed over for an empty cluster.
#[tokio::test]
async fn data_of_other_major_version_is_refused() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let data = cluster.data_dir();
    cluster.stop().await.unwrap();
    std::fs::rename(&data, data.with_file_name("12")).unwrap();

    let error = dir.try_start().await.unwrap_err();

    assert!(matches!(error, ClusterError::WrongMajor { data: 12, .. }), "{error}");
    assert!(error.to_string().contains("apt-get install -y postgresql-12"), "{error}");
}

/// A damaged data directory is refused with what is missing.
#[tokio::test]
async fn damaged_data_directory_tells_what_is_missing() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let data = cluster.data_dir();
    cluster.stop().await.unwrap();
    std::fs::remove_file(data.join("global/pg_control")).unwrap();

    let error = dir.try_start().await.unwrap_err();

    assert!(matches!(error, ClusterError::NotACluster { missing: "global/pg_control", .. }), "{error}");
}

/// A server that cannot start says why, at once.
#[tokio::test]
async fn server_that_cannot_start_says_why() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let data = cluster.data_dir();
    cluster.stop().await.unwrap();
    std::fs::write(data.join("postgresql.conf"), "shared_buffers = lots\n").unwrap();

    let error = dir.try_start().await.unwrap_err();

    assert!(matches!(error, ClusterError::StartFailed { .. }), "{error}");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
}

/// A server that ends after it has begun its log is quoted from there.
#[tokio::test]
async fn server_ending_after_log_began_is_quoted() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let data = cluster.data_dir();
    cluster.stop().await.unwrap();
    // As a full disk does, it ends during the recovery.
    std::fs::remove_dir_all(data.join("pg_wal")).unwrap();
    std::fs::create_dir(data.join("pg_wal")).unwrap();

    let error = dir.try_start().await.unwrap_err();

    assert!(matches!(error, ClusterError::StartFailed { .. }), "{error}");
    assert!(["PANIC: ", "FATAL: "].iter().any(|word| error.to_string().contains(word)), "{error}");
}

#[tokio::test]
async fn an_interrupted_initdb_is_done_again() {
    let dir = DataDir::new();
    let cluster = dir.start().await;
    let data = cluster.data_dir();
    cluster.stop().await.unwrap();
    let unfinished = data.with_file_name(format!("{}.unfinished", data.file_name().unwrap().display()));
    std::fs::rename(&data, &unfinished).unwrap();

    let again = dir.start().await;

    assert!(!unfinished.exists());
    again.stop().await.unwrap();
}
