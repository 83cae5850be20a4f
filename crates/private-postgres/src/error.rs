//! What can go wrong with the private cluster, each message with what to do next.

use std::path::PathBuf;
use std::time::Duration;

use crate::discover::{MAJOR_MIN, SUPPORTED_FROM};

/// Why the private cluster is not there. Paths and the server's own start-up words appear in the
/// text, data never.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No folder on this machine holds both `initdb` and `postgres`.
    #[error(
        "no PostgreSQL server programs found on this machine; install them with: apt-get install -y postgresql \
         (or set PG_BIN_DIR to the folder that holds initdb, or DATABASE_URL to use a server that runs elsewhere)"
    )]
    NoBinaries,

    /// `PG_BIN_DIR` is set and useless; nothing else is tried then, so that a typing error is not
    /// papered over.
    #[error(
        "PG_BIN_DIR is {}, which holds no initdb and postgres; install them with: apt-get install -y postgresql, \
         and set PG_BIN_DIR to the folder that holds initdb (on Debian /usr/lib/postgresql/<major>/bin), or unset it",
        .0.display()
    )]
    NoBinariesIn(PathBuf),

    /// Programs were found, but all are too old.
    #[error("found PostgreSQL {found} only; at least {MAJOR_MIN} is needed ({SUPPORTED_FROM})")]
    TooOld {
        /// The newest major version found.
        found: u32,
    },

    /// The data directory was made by another major version than the programs found.
    #[error(
        "{} was made by PostgreSQL {data} and only {found} is installed; install it with: \
         apt-get install -y postgresql-{data} (or move the data with pg_upgrade)",
        .pg_dir.display()
    )]
    WrongMajor {
        /// The directory that holds one folder per major version.
        pg_dir: PathBuf,
        /// Major version of the data.
        data: u32,
        /// Major versions of the programs, comma-separated.
        found: String,
    },

    /// The directory is there but is not, or no longer, a cluster.
    #[error(
        "{} is not a usable PostgreSQL data directory: {missing} is missing; restore it from a backup, or move it \
         away to begin with an empty one",
        .data.display()
    )]
    NotACluster {
        /// The directory.
        data: PathBuf,
        /// The first file found missing.
        missing: &'static str,
    },

    /// A Unix socket path has at most 107 bytes (`sockaddr_un`, unix(7)).
    #[error(
        "the socket path {} has {} bytes and at most {max} fit; choose a shorter data directory",
        .path.display(),
        .path.as_os_str().len()
    )]
    SocketPathTooLong {
        /// The path that would be too long.
        path: PathBuf,
        /// The limit in bytes.
        max: usize,
    },

    /// `PostgreSQL` refuses to run as root, and there is no user to drop to.
    #[error(
        "PostgreSQL does not run as root and neither user contact-sync nor postgres exists; create one with: \
         useradd --system --no-create-home --shell /usr/sbin/nologin contact-sync"
    )]
    NoSystemUser,

    /// The data belongs to a user that this process neither is nor may become.
    #[error("{} belongs to user id {owner}; run the service as that user or as root, or choose another data directory", .data.display())]
    OtherOwner {
        /// The data directory.
        data: PathBuf,
        /// Its owner.
        owner: u32,
    },

    /// The server's user may not reach the data or the programs.
    #[error(
        "user {user} may not enter {} or may not run {}; choose a data directory (and PG_BIN_DIR) that it may enter, \
         such as /var/lib/contact-sync",
        .pg_dir.display(),
        .program.display()
    )]
    CannotEnter {
        /// The user that the server runs as.
        user: String,
        /// The directory.
        pg_dir: PathBuf,
        /// The program.
        program: PathBuf,
    },

    /// Another service held the start lock for the whole start timeout.
    #[error("another service has been starting or stopping the cluster in {} for {waited:?}; look at that one first", .pg_dir.display())]
    Locked {
        /// The directory.
        pg_dir: PathBuf,
        /// How long this one waited.
        waited: Duration,
    },

    /// A program ended with an error or did not end in time.
    #[error("{program} failed: {detail}")]
    Tool {
        /// `initdb` or `postgres --version`.
        program: &'static str,
        /// The end of what it printed.
        detail: String,
    },

    /// The server ended while starting.
    #[error("PostgreSQL did not start: {detail} (its log: {})", .log.display())]
    StartFailed {
        /// The end of what it printed.
        detail: String,
        /// Where the rest is.
        log: PathBuf,
    },

    /// The server is there but did not accept a connection in time.
    #[error(
        "PostgreSQL was not ready after {waited:?} and was stopped again: {detail} (its log: {})",
        .log.display()
    )]
    StartTimeout {
        /// The start timeout.
        waited: Duration,
        /// The last answer to a connection attempt.
        detail: String,
        /// Where to look.
        log: PathBuf,
    },

    /// The server answers, but not as this service's own would.
    #[error("the server in {} refuses this service; is it a cluster made by something else", .pg_dir.display())]
    Refused {
        /// The directory.
        pg_dir: PathBuf,
        /// The server's answer.
        #[source]
        source: sqlx::Error,
    },

    /// The fast shutdown takes longer than the limit; the server goes on with it by itself.
    #[error("PostgreSQL was still shutting down after {waited:?}; it finishes by itself and loses nothing")]
    StillStopping {
        /// The stop timeout.
        waited: Duration,
    },

    /// A file or directory could not be made, read or changed.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Names the action and the path of an I/O error; for `map_err`.
pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> ClusterError {
    let path = path.into();
    move |source| ClusterError::Io { action, path, source }
}
