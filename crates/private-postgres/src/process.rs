//! Runs PostgreSQL's programs: `initdb`, the server, its shutdown, and the reading of its pid file.
//! Every program runs as the server's user, with an environment of our own and in a process group
//! of its own, so that Ctrl-C in a terminal reaches the service alone and the database stays until
//! the service has drained.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::{ClusterError, io};
use crate::layout::{ClusterLayout, PORT};

/// The role that owns everything in the private cluster; only who may enter the socket folder can
/// use it.
pub(crate) const ROLE: &str = "contact_sync";
/// Limit for `postgres --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a program's last words goes into an error.
const DETAIL_BYTES_MAX: u64 = 1500;
/// How much of the server's own log is searched for the reason of its end.
const LOG_END_BYTES: u64 = 64 * 1024;

/// `<bin_dir>/<name>` as the server's user, in the pg folder, with nothing of our environment.
fn program(layout: &ClusterLayout, bin_dir: &Path, name: &str) -> Command {
    let mut command = Command::new(bin_dir.join(name));
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir(&layout.pg_dir)
        .process_group(0)
        .stdin(Stdio::null());
    if let Some((uid, gid)) = layout.user.drop_to {
        command.uid(uid).gid(gid);
    }
    command
}

fn spawn_error(
    layout: &ClusterLayout,
    bin_dir: &Path,
    name: &'static str,
) -> impl FnOnce(std::io::Error) -> ClusterError {
    let program = bin_dir.join(name);
    let (user, pg_dir) = (layout.user.name.clone(), layout.pg_dir.clone());
    move |source| match source.kind() {
        std::io::ErrorKind::PermissionDenied => ClusterError::CannotEnter { user, pg_dir, program },
        _ => io("run", program)(source),
    }
}

/// Runs a program to its end and returns what it printed.
async fn run(
    layout: &ClusterLayout,
    bin_dir: &Path,
    name: &'static str,
    args: &[&str],
    limit: Duration,
) -> Result<String, ClusterError> {
    let mut command = program(layout, bin_dir, name);
    command.args(args).kill_on_drop(true);
    let Ok(output) = timeout(limit, command.output()).await else {
        return Err(ClusterError::Tool { program: name, detail: format!("not finished after {limit:?}") });
    };
    let output = output.map_err(spawn_error(layout, bin_dir, name))?;
    if !output.status.success() {
        let detail = format!("{}, {}", output.status, last_words(&output.stderr));
        return Err(ClusterError::Tool { program: name, detail });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What `postgres --version` prints.
pub(crate) async fn version(layout: &ClusterLayout, bin_dir: &Path) -> Result<String, ClusterError> {
    run(layout, bin_dir, "postgres", &["--version"], VERSION_TIMEOUT).await
}

/// Makes the data directory of `major`, whole or not at all: under another name first, so that a
/// crash in between leaves nothing that looks finished. Local connections are trusted because the
/// socket's folder is closed; others are refused.
pub(crate) async fn initdb(
    layout: &ClusterLayout,
    bin_dir: &Path,
    major: u32,
    limit: Duration,
) -> Result<(), ClusterError> {
    let data = layout.data(major);
    let unfinished = layout.pg_dir.join(format!("{major}.unfinished"));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(io("remove", &unfinished))?;
    }
    layout.make_private_dir(&unfinished)?;

    let target = format!("--pgdata={}", unfinished.display());
    let user = format!("--username={ROLE}");
    let args = [
        target.as_str(),
        user.as_str(),
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--auth-local=trust",
        "--auth-host=reject",
        "--data-checksums",
    ];
    run(layout, bin_dir, "initdb", &args, limit).await?;

    std::fs::rename(&unfinished, &data).map_err(io("put in place", &data))?;
    File::open(&layout.pg_dir).and_then(|dir| dir.sync_all()).map_err(io("flush", &layout.pg_dir))
}

/// The files without which a directory is not a cluster.
pub(crate) fn check_data(layout: &ClusterLayout, major: u32) -> Result<(), ClusterError> {
    let data = layout.data(major);
    for missing in ["PG_VERSION", "global/pg_control", "pg_wal", "base", "postgresql.conf"] {
        if !data.join(missing).exists() {
            return Err(ClusterError::NotACluster { data, missing });
        }
    }
    Ok(())
}

/// Starts the server; it outlives this process. The settings given here are those that safety
/// depends on, so they win over `postgresql.conf`; an operator may set everything else there.
pub(crate) fn spawn_server(
    layout: &ClusterLayout,
    bin_dir: &Path,
    major: u32,
    max_connections: u16,
) -> Result<Child, ClusterError> {
    let startup_log = layout.open_startup_log()?;
    let second = startup_log.try_clone().map_err(io("open", &layout.startup_log))?;
    let mut command = program(layout, bin_dir, "postgres");
    command.arg("-D").arg(layout.data(major)).stdout(startup_log).stderr(second);
    for (name, value) in settings(&layout.socket_dir, max_connections) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.spawn().map_err(spawn_error(layout, bin_dir, "postgres"))
}

fn settings(socket_dir: &Path, max_connections: u16) -> Vec<(&'static str, String)> {
    let own = |text: &str| text.to_owned();
    vec![
        ("listen_addresses", String::new()),
        // A comma would separate two folders, hence the quotes.
        ("unix_socket_directories", format!("\"{}\"", socket_dir.display().to_string().replace('"', "\"\""))),
        ("unix_socket_permissions", own("0700")),
        ("port", PORT.to_string()),
        ("max_connections", max_connections.to_string()),
        ("fsync", own("on")),
        ("full_page_writes", own("on")),
        ("timezone", own("UTC")),
        // Compiled plans cost more than short statements gain, and need memory that is written and
        // executed: under a supervisor that forbids it (systemd's MemoryDenyWriteExecute) the
        // statement fails.
        ("jit", own("off")),
        // One file a weekday, emptied when its day comes again: a week of log. Neither statements
        // nor details are written (a detail quotes the row, and a row is a person), nor the
        // routine, so that a file stays small.
        ("logging_collector", own("on")),
        ("log_timezone", own("UTC")),
        ("log_directory", own("log")),
        ("log_filename", own("postgresql-%a.log")),
        ("log_rotation_age", own("1d")),
        ("log_rotation_size", own("0")),
        ("log_truncate_on_rotation", own("on")),
        ("log_error_verbosity", own("terse")),
        ("log_min_error_statement", own("panic")),
        ("log_parameter_max_length", own("0")),
        ("log_checkpoints", own("off")),
    ]
}

/// The end of the start-up log, for an error, and what a server that had begun its own log has
/// ended with there.
pub(crate) fn startup_words(layout: &ClusterLayout, major: u32) -> String {
    let mut words = read_end(&layout.startup_log, DETAIL_BYTES_MAX)
        .map_or_else(|error| format!("(no start-up log: {error})"), |bytes| last_words(&bytes));
    if let Some(fatal) = last_fatal(&layout.data(major).join("log")) {
        words.push_str(" / ");
        words.push_str(&fatal);
    }
    words
}

/// The last line of the newest log by which the server ended itself. Those are about files and
/// settings, never about a row.
fn last_fatal(folder: &Path) -> Option<String> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let newest = files.max_by_key(|file| file.metadata().and_then(|data| data.modified()).ok())?;
    let end = read_end(&newest.path(), LOG_END_BYTES).ok()?;
    let text = String::from_utf8_lossy(&end);
    let fatal = text.lines().rfind(|line| line.contains("PANIC: ") || line.contains("FATAL: "))?;
    Some(last_words(fatal.as_bytes()))
}

fn read_end(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One line, at most [`DETAIL_BYTES_MAX`] bytes, the end kept.
fn last_words(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(usize::try_from(DETAIL_BYTES_MAX).unwrap_or(usize::MAX));
    let text = String::from_utf8_lossy(&bytes[start..]);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "it printed nothing".to_owned() } else { lines.join(" / ") }
}

/// Where the server notes its process id while it runs, or did when it was killed.
pub(crate) fn pid_file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// The process id in the pid file, if there is one.
pub(crate) fn read_pid(data: &Path) -> Option<Pid> {
    read_pid_in(&pid_file(data))
}

/// The process id in the first line of a lock file.
fn read_pid_in(lock: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(lock).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    (pid > 0).then(|| Pid::from_raw(pid))
}

/// Whether the pid file's process runs and is this cluster's. Every process of a cluster has the
/// data directory as its working directory; a process id that has gone to somebody else shows
/// itself so.
pub(crate) fn running_server(data: &Path) -> Option<Pid> {
    let pid = read_pid(data).filter(|pid| kill(*pid, None) != Err(Errno::ESRCH))?;
    let Some(in_use) = processes_in(data) else { return Some(pid) };
    in_use.contains(&pid.as_raw()).then_some(pid)
}

/// Removes the pid file and the socket's lock of a dead server if their process id has gone to
/// another living process: PostgreSQL would take that one for its predecessor and refuse for ever.
/// Only when no process at all works in the data directory.
pub(crate) fn remove_misleading_locks(data: &Path, socket_dir: &Path) -> Result<bool, ClusterError> {
    let mut has_removed = false;
    for lock in [pid_file(data), socket_dir.join(format!(".s.PGSQL.{PORT}.lock"))] {
        let is_alive = read_pid_in(&lock).is_some_and(|pid| kill(pid, None).is_ok());
        if is_alive && !is_in_use(data) {
            std::fs::remove_file(&lock).map_err(io("remove", lock))?;
            has_removed = true;
        }
    }
    Ok(has_removed)
}

/// Whether processes of a server work in the data directory, or the system does not tell.
pub(crate) fn is_in_use(data: &Path) -> bool {
    processes_in(data).is_none_or(|in_use| !in_use.is_empty())
}

/// Process ids whose working directory is `data`; `None` where the system does not tell (no
/// `/proc`).
fn processes_in(data: &Path) -> Option<Vec<i32>> {
    let data = data.canonicalize().ok()?;
    let entries = std::fs::read_dir("/proc").ok()?;
    let found: Vec<i32> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data))
        .collect();
    Path::new("/proc/self/cwd").exists().then_some(found)
}

/// Asks for the fast shutdown: sessions are ended, everything is written out. A process that is
/// gone needs no asking.
pub(crate) fn ask_to_stop(data: &Path, pid: Pid) -> Result<(), ClusterError> {
    match kill(pid, Signal::SIGINT) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(io("stop the server of", data)(errno.into())),
    }
}

/// Asks a server that this process has started to end: fast, or at once and with a recovery at the
/// next start.
pub(crate) fn end(child: &Child, is_urgent: bool) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = pid {
        let _ = kill(Pid::from_raw(pid), if is_urgent { Signal::SIGQUIT } else { Signal::SIGINT });
    }
}
