//! A setting as it was written, and what is said of one that stops the start. Every error names the
//! setting, what is wrong with it, what would be right, and its source; never the value of a
//! secret.

use std::{collections::BTreeMap, fmt, io, path::PathBuf};

use serde::Serialize;
use serde_json::Value;

/// Largest settings file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    /// Nowhere.
    Default,
    /// In the settings file, on a line counted from 1.
    File(PathBuf, usize),
    /// In the environment.
    Variable(String),
    /// On the command line.
    Flag(String),
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("by default"),
            Self::File(path, line) => write!(f, "in {}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "from the variable {name}"),
            Self::Flag(flag) => write!(f, "from the flag {flag}"),
        }
    }
}

/// One setting as it was written, whether or not there is such a setting.
pub(super) struct WrittenSetting {
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) origin: SettingOrigin,
}

/// A setting that stops the start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// More than 64 KiB.
    #[error("the settings file {} has {bytes} bytes; at most {FILE_BYTES_MAX} are read", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Not TOML. The text at fault is not shown: it may be a secret.
    #[error("the settings file {} is no TOML: line {line}: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// `--set` without a value.
    #[error("--set {0:?} is no setting; write it as worker.concurrency=8")]
    NoValue(String),
    /// A misspelt or outdated name.
    #[error("there is no setting {name:?} ({origin}); {known}")]
    Unknown {
        /// As written.
        name: String,
        /// Who says so.
        origin: String,
        /// The names that are near.
        known: String,
    },
    /// A value that does not fit.
    #[error("{name} ({origin}) {problem}; it must be {expected}")]
    Wrong {
        /// The setting.
        name: String,
        /// Who says so.
        origin: String,
        /// What is the matter.
        problem: String,
        /// What would be right.
        expected: String,
    },
}

impl ConfigError {
    /// `{name} ({origin}) {problem}; it must be {expected}`.
    pub(super) fn wrong(
        name: &str,
        origin: &SettingOrigin,
        problem: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Self::Wrong {
            name: name.to_owned(),
            origin: origin.to_string(),
            problem: problem.to_string(),
            expected: expected.to_string(),
        }
    }
}

/// Every setting by name; lists and absent values are values.
pub(super) fn flatten(settings: &impl Serialize) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, value: Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                    walk(&name, value, into);
                }
            }
            value => {
                into.insert(prefix.to_owned(), value);
            }
        }
    }
    let mut flat = BTreeMap::new();
    walk("", serde_json::to_value(settings).unwrap_or_default(), &mut flat);
    flat
}
