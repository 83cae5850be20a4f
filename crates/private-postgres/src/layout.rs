//! Where the private cluster lies, who owns what, and the two locks that order services sharing it.
//!
//! ```text
//! <data directory>/pg/            owned by the service
//!     lock, users                 flock files: who is starting or stopping; who is using
//!     startup.log                 what the server says before its own log begins
//!     socket/                     0700, the server's user
//!     <major>/                    0700, the server's user: one PostgreSQL data directory
//! ```
//! The folder `pg` is never writable by the server's user, so that root follows no link laid by it.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{User, geteuid};
use tokio::time::{Instant, sleep};

use crate::error::{ClusterError, io};

/// Longest path of a Unix socket in bytes: `sun_path` has 108 with its closing zero (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Names the socket file `.s.PGSQL.5432`; nothing listens on a TCP port.
pub(crate) const PORT: u16 = 5432;
/// Users to drop to when running as root, the best first.
const SYSTEM_USERS: [&str; 2] = ["contact-sync", "postgres"];
/// Between two looks at a lock that somebody else holds.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// The user that `initdb` and `postgres` run as.
#[derive(Debug, Clone)]
pub(crate) struct ServerUser {
    pub name: String,
    /// User and group id to change to; `None`: this process's own.
    pub drop_to: Option<(u32, u32)>,
}

impl ServerUser {
    /// The owner of existing data, or a system user for new data; `PostgreSQL` refuses root.
    fn find(data: Option<&Path>) -> Result<Self, ClusterError> {
        let me = geteuid();
        let owner = match data {
            Some(data) => {
                let found = std::fs::metadata(data).map_err(io("read", data))?;
                Some((data, found.uid(), found.gid()))
            }
            None => None,
        };
        match owner {
            Some((_, uid, _)) if uid == me.as_raw() && !me.is_root() => Ok(Self::this_process()),
            Some((_, uid, gid)) if me.is_root() && uid != 0 => {
                Ok(Self { name: format!("id {uid}"), drop_to: Some((uid, gid)) })
            }
            Some((data, owner, _)) => Err(ClusterError::OtherOwner { data: data.to_path_buf(), owner }),
            None if me.is_root() => Self::system(),
            None => Ok(Self::this_process()),
        }
    }

    fn this_process() -> Self {
        Self { name: format!("id {}", geteuid()), drop_to: None }
    }

    fn system() -> Result<Self, ClusterError> {
        SYSTEM_USERS
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self { drop_to: Some((user.uid.as_raw(), user.gid.as_raw())), name: user.name })
            .ok_or(ClusterError::NoSystemUser)
    }

    fn give(&self, dir: &Path) -> Result<(), ClusterError> {
        let Some((uid, gid)) = self.drop_to else { return Ok(()) };
        std::os::unix::fs::chown(dir, Some(uid), Some(gid)).map_err(io("give to the server's user", dir))
    }
}

/// The paths of one cluster, and its server's user.
#[derive(Debug)]
pub(crate) struct ClusterLayout {
    pub pg_dir: PathBuf,
    pub socket_dir: PathBuf,
    pub startup_log: PathBuf,
    pub user: ServerUser,
    /// Major version of the data that is there, the highest if there are several.
    pub data_major: Option<u32>,
}

/// The folder `pg` of a data directory, made if it is missing, with room for the socket's path.
pub(crate) fn make_pg_dir(data_dir: &Path) -> Result<PathBuf, ClusterError> {
    let data_dir = std::path::absolute(data_dir).map_err(io("resolve", data_dir))?;
    let pg_dir = data_dir.join("pg");
    let socket = socket_dir(&pg_dir).join(format!(".s.PGSQL.{PORT}"));
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(ClusterError::SocketPathTooLong { path: socket, max: SOCKET_PATH_BYTES_MAX });
    }
    make_passable_dir(&data_dir)?;
    make_passable_dir(&pg_dir)?;
    Ok(pg_dir)
}

/// Only one service at a time starts or stops the cluster; the lock goes with the process, however
/// it ends.
pub(crate) async fn lock_start(pg_dir: &Path, limit: Duration) -> Result<File, ClusterError> {
    let path = pg_dir.join("lock");
    let file = open_lock(&path)?;
    let deadline = Instant::now() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(io("lock", path)(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(ClusterError::Locked { pg_dir: pg_dir.to_path_buf(), waited: limit });
            }
            Err(TryLockError::WouldBlock) => sleep(LOCK_POLL).await,
        }
    }
}

impl ClusterLayout {
    /// Looks at what is there; under the start lock, since another service may be about to make it.
    /// Makes the socket's folder; the data directory comes later.
    pub(crate) fn look(pg_dir: PathBuf) -> Result<Self, ClusterError> {
        let data_major = newest_data(&pg_dir)?;
        let user = ServerUser::find(data_major.map(|major| pg_dir.join(major.to_string())).as_deref())?;
        let (startup_log, socket_dir) = (pg_dir.join("startup.log"), socket_dir(&pg_dir));
        let layout = Self { pg_dir, socket_dir, startup_log, user, data_major };
        layout.make_private_dir(&layout.socket_dir)?;
        Ok(layout)
    }

    /// The data directory of a major version.
    pub(crate) fn data(&self, major: u32) -> PathBuf {
        self.pg_dir.join(major.to_string())
    }

    /// A folder of mode 0700 that belongs to the server's user.
    pub(crate) fn make_private_dir(&self, dir: &Path) -> Result<(), ClusterError> {
        if !dir.exists() {
            std::fs::DirBuilder::new().mode(0o700).create(dir).map_err(io("create", dir))?;
        }
        self.user.give(dir)?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(io("close to others", dir))
    }

    /// Held by every service that uses the cluster; shared among them.
    pub(crate) fn lock_use(&self) -> Result<File, ClusterError> {
        let path = self.pg_dir.join("users");
        let file = open_lock(&path)?;
        file.lock_shared().map_err(io("lock", path))?;
        Ok(file)
    }

    /// Whether no service holds the use lock. Only asked under the start lock, and after giving up
    /// one's own.
    pub(crate) fn is_unused(&self) -> Result<bool, ClusterError> {
        let path = self.pg_dir.join("users");
        match open_lock(&path)?.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(io("lock", path)(source)),
        }
    }

    /// The start-up log, emptied.
    pub(crate) fn open_startup_log(&self) -> Result<File, ClusterError> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&self.startup_log).map_err(io("open", &self.startup_log))
    }
}

fn socket_dir(pg_dir: &Path) -> PathBuf {
    pg_dir.join("socket")
}

/// The highest `N` of the folders `<pg_dir>/N` that are not empty.
fn newest_data(pg_dir: &Path) -> Result<Option<u32>, ClusterError> {
    let mut newest = None;
    for entry in std::fs::read_dir(pg_dir).map_err(io("read", pg_dir))? {
        let entry = entry.map_err(io("read", pg_dir))?;
        let Some(major) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let is_filled = std::fs::read_dir(entry.path()).map_err(io("read", entry.path()))?.next().is_some();
        if is_filled {
            newest = newest.max(Some(major));
        }
    }
    Ok(newest)
}

fn open_lock(path: &Path) -> Result<File, ClusterError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(io("open", path))
}

/// Makes a folder if it is missing. As root the server's user must be able to pass through,
/// whatever the umask says; for anybody else the server runs as the same user, and others have no
/// business here.
fn make_passable_dir(dir: &Path) -> Result<(), ClusterError> {
    if dir.is_dir() {
        return Ok(());
    }
    let mode = if geteuid().is_root() { 0o755 } else { 0o700 };
    std::fs::create_dir_all(dir).map_err(io("create", dir))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).map_err(io("set the mode of", dir))
}

/// Where data goes unless configured: `/var/lib/contact-sync` as root, else
/// `$XDG_DATA_HOME/contact-sync` or `~/.local/share/contact-sync`. A relative `XDG_DATA_HOME` is
/// ignored, as the XDG base directory specification asks. `None` without any home.
pub fn default_data_dir(is_root: bool, home: Option<&Path>, xdg_data_home: Option<&Path>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/contact-sync"));
    }
    let base = xdg_data_home.filter(|dir| dir.is_absolute()).map(Path::to_path_buf);
    Some(base.or_else(|| Some(home?.join(".local/share")))?.join("contact-sync"))
}

/// Where `./dev setup` puts a copy of PostgreSQL's programs when the system has none:
/// `/var/cache/contact-sync/postgres/bin` as root (the server's user cannot enter `/root`), else
/// below `$XDG_CACHE_HOME` or `~/.cache`. `None` without any home.
pub fn default_private_copy(is_root: bool, home: Option<&Path>, xdg_cache_home: Option<&Path>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/cache/contact-sync/postgres/bin"));
    }
    let base = xdg_cache_home.filter(|dir| dir.is_absolute()).map(Path::to_path_buf);
    Some(base.or_else(|| Some(home?.join(".cache")))?.join("contact-sync/postgres/bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_places_follow_root_and_xdg() {
        let home = Some(Path::new("/home/ann"));

        let data = |root, home, xdg| default_data_dir(root, home, xdg).map(|dir| dir.display().to_string());
        let copy = |root, home, xdg| default_private_copy(root, home, xdg).map(|dir| dir.display().to_string());

        assert_eq!(data(true, home, None).as_deref(), Some("/var/lib/contact-sync"));
        assert_eq!(data(false, home, None).as_deref(), Some("/home/ann/.local/share/contact-sync"));
        assert_eq!(data(false, home, Some(Path::new("/x"))).as_deref(), Some("/x/contact-sync"));
        assert_eq!(data(false, home, Some(Path::new("x"))).as_deref(), Some("/home/ann/.local/share/contact-sync"));
        assert_eq!(data(false, None, None), None);
        assert_eq!(copy(true, home, None).as_deref(), Some("/var/cache/contact-sync/postgres/bin"));
        assert_eq!(copy(false, home, None).as_deref(), Some("/home/ann/.cache/contact-sync/postgres/bin"));
        assert_eq!(copy(false, None, Some(Path::new("/c"))).as_deref(), Some("/c/contact-sync/postgres/bin"));
    }
}
