//! Finds PostgreSQL's server programs. Debian keeps `initdb` off the PATH, so the known folders are
//! searched too. Looks at the file system only; nothing is run and nothing is downloaded.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::ClusterError;

/// Oldest major version accepted: what the oldest supported Debian ships.
pub(crate) const MAJOR_MIN: u32 = 13;
/// Where that version comes from, for the error text.
pub(crate) const SUPPORTED_FROM: &str = "Debian 11 or newer has it: apt-get install -y postgresql";

/// Folders under the system root that hold one folder per major version, each with a `bin`.
const VERSIONED: [(&str, &str); 5] = [
    ("usr/lib/postgresql", ""),                       // Debian, Ubuntu
    ("usr", "pgsql-"),                                // the PostgreSQL project's RPMs
    ("opt/homebrew/opt", "postgresql@"),              // Homebrew on Apple silicon
    ("usr/local/opt", "postgresql@"),                 // Homebrew on Intel
    ("home/linuxbrew/.linuxbrew/opt", "postgresql@"), // Homebrew on Linux
];

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProgramPlaces<'a> {
    /// `PG_BIN_DIR`: if given, the only place.
    pub bin_dir: Option<&'a Path>,
    /// The value of PATH.
    pub path_var: Option<&'a OsStr>,
    /// The `bin` folder of a copy that the set-up script brought.
    pub private_copy: Option<&'a Path>,
    /// `/`, but for tests.
    pub root: &'a Path,
}

/// Folders that hold both `initdb` and `postgres`, best first and each once: `PG_BIN_DIR` alone if
/// given; else PATH, the versioned system folders with the highest version first, and the private
/// copy.
pub(crate) fn find_bin_dirs(places: &ProgramPlaces<'_>) -> Result<Vec<PathBuf>, ClusterError> {
    if let Some(dir) = places.bin_dir {
        let found = std::path::absolute(dir).ok().and_then(|dir| usable(&dir));
        return found.map(|dir| vec![dir]).ok_or_else(|| ClusterError::NoBinariesIn(dir.to_path_buf()));
    }

    let mut candidates: Vec<PathBuf> =
        places.path_var.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    for (folder, prefix) in VERSIONED {
        candidates.extend(versioned(&places.root.join(folder), prefix));
    }
    candidates.extend(places.private_copy.map(Path::to_path_buf));

    let mut found: Vec<PathBuf> = Vec::new();
    for dir in candidates.iter().filter_map(|dir| usable(dir)) {
        if !found.contains(&dir) {
            found.push(dir);
        }
    }
    if found.is_empty() { Err(ClusterError::NoBinaries) } else { Ok(found) }
}

/// The folder with its links resolved, if both programs are in it. A relative entry of PATH is not
/// followed: it would mean another program in every working directory.
fn usable(dir: &Path) -> Option<PathBuf> {
    let complete = dir.is_absolute() && dir.join("initdb").is_file() && dir.join("postgres").is_file();
    if complete { dir.canonicalize().ok() } else { None }
}

/// `<folder>/<prefix>N/bin` for every number N, the highest first.
fn versioned(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    found.sort_unstable_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// The major version in the output of `postgres --version`, for example 15 in `postgres
/// (PostgreSQL) 15.18 (Debian ..)`, and 19 in `postgres (PostgreSQL) 19beta1`.
pub(crate) fn parse_major(version_output: &str) -> Option<u32> {
    let version = version_output.strip_prefix("postgres (PostgreSQL) ")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(dir: &Path) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        for program in ["initdb", "postgres"] {
            std::fs::write(dir.join(program), "").unwrap();
        }
        dir.canonicalize().unwrap()
    }

    fn fresh_root(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("cs-discover-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).unwrap();
        root
    }

    fn nowhere(root: &Path) -> ProgramPlaces<'_> {
        ProgramPlaces { bin_dir: None, path_var: None, private_copy: None, root }
    }

    #[test]
    fn nothing_installed_names_the_apt_line() {
        let root = fresh_root("nothing");

        let error = find_bin_dirs(&nowhere(&root)).unwrap_err();

        assert!(matches!(error, ClusterError::NoBinaries));
        assert!(error.to_string().contains("apt-get install -y postgresql"), "{error}");
        std::fs::remove_dir_all(root).unwrap();
    }

    /// The PATH comes first, then the highest version, then the private copy.
    #[test]
    fn path_precedes_highest_version_then_private_copy() {
        let root = fresh_root("order");
        let nine = install(&root.join("usr/lib/postgresql/9/bin"));
        let seventeen = install(&root.join("usr/lib/postgresql/17/bin"));
        let rpm = install(&root.join("usr/pgsql-16/bin"));
        let on_path = install(&root.join("somewhere"));
        let copy = install(&root.join("cache/postgres/bin"));
        std::fs::create_dir_all(root.join("usr/lib/postgresql/18/bin")).unwrap();
        let path = std::env::join_paths([root.join("empty"), on_path.clone(), copy.clone()]).unwrap();

        let places = ProgramPlaces { path_var: Some(&path), private_copy: Some(&copy), ..nowhere(&root) };
        let found = find_bin_dirs(&places).unwrap();

        assert_eq!(found, [on_path, copy, seventeen, nine, rpm]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_explicit_folder_is_the_only_place() {
        let root = fresh_root("explicit");
        let system = install(&root.join("usr/lib/postgresql/17/bin"));
        let wrong = root.join("wrong");

        let places = ProgramPlaces { bin_dir: Some(&wrong), ..nowhere(&root) };
        let error = find_bin_dirs(&places).unwrap_err();
        let found = find_bin_dirs(&ProgramPlaces { bin_dir: Some(&system), ..nowhere(&root) }).unwrap();

        assert!(matches!(&error, ClusterError::NoBinariesIn(dir) if *dir == wrong));
        assert!(error.to_string().contains("apt-get install -y postgresql"), "{error}");
        assert_eq!(found, [system]);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn version_line_gives_the_major() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(parse_major("postgres (PostgreSQL) "), None);
        assert_eq!(parse_major("mysqld 8"), None);
    }
}
