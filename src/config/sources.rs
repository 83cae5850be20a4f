//! Where settings come from: a file, the environment, flags. Each comes with the place where it was
//! written, to the line or the variable. What is wrong with a source as a whole is found here; what
//! is wrong with a setting is not.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use figment::providers::{Format, Toml};
use serde_json::Value;
use toml_edit::{ImDocument, TableLike};

use super::setting::{ConfigError, FILE_BYTES_MAX, SettingOrigin, WrittenSetting, flatten};

/// Names the settings file.
const FILE_VARIABLE: &str = "CONTACT_SYNC_CONFIG";
/// `CONTACT_SYNC_WORKER__LEASE_SECONDS` is `worker.lease_seconds`.
const PREFIX: &str = "CONTACT_SYNC_";
/// Names that other tools use for the same things.
const PLAIN_VARIABLES: [(&str, &str); 3] =
    [("DATABASE_URL", "database_url"), ("MIGRATE_DATABASE_URL", "migrate_database_url"), ("PG_BIN_DIR", "pg_bin_dir")];
/// Where settings come from on the command line.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct SettingFlags {
    /// File with settings (TOML); also `CONTACT_SYNC_CONFIG`
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Where gRPC is served [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    pub listen: Option<String>,
    /// Where the service keeps its own files
    #[arg(long, value_name = "DIRECTORY", global = true)]
    pub data_dir: Option<String>,
    /// Any setting by name, such as worker.concurrency=8; may be repeated
    #[arg(long = "set", value_name = "SETTING=VALUE")]
    pub set: Vec<String>,
}

/// What all sources say, later ones over earlier; and what could not be read.
pub(super) fn read_all(
    flags: &SettingFlags,
    env: &BTreeMap<String, String>,
    known: &BTreeMap<String, Value>,
) -> (Vec<WrittenSetting>, Vec<ConfigError>) {
    let (mut written, mut problems) = (Vec::new(), Vec::new());
    let file =
        flags.config.clone().or_else(|| env.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from));
    match file.as_deref().map_or(Ok(Vec::new()), read_file) {
        Ok(of_file) => written.extend(of_file),
        Err(problem) => problems.push(problem),
    }
    let mut add = |name: &str, origin: SettingOrigin, text: &str| {
        written.push(WrittenSetting { name: name.to_owned(), value: read_text(known.get(name), text), origin });
    };
    for (variable, name) in PLAIN_VARIABLES {
        if let Some(text) = env.get(variable) {
            add(name, SettingOrigin::Variable(variable.to_owned()), text);
        }
    }
    for (variable, text) in env {
        if let Some(name) = variable.strip_prefix(PREFIX)
            && variable != FILE_VARIABLE
            && !is_of_a_kubernetes_service(name)
        {
            add(&name.to_lowercase().replace("__", "."), SettingOrigin::Variable(variable.clone()), text);
        }
    }
    for (name, flag, text) in [("listen", "--listen", &flags.listen), ("data_dir", "--data-dir", &flags.data_dir)] {
        if let Some(text) = text {
            add(name, SettingOrigin::Flag(flag.to_owned()), text);
        }
    }
    for pair in &flags.set {
        match pair.split_once('=') {
            Some((name, text)) => add(name, SettingOrigin::Flag(format!("--set {name}")), text),
            // A secret without its = must not come back in an error: the name alone is shown.
            None => problems.push(ConfigError::NoValue(first_word(pair))),
        }
    }
    (written, problems)
}

/// Whether Kubernetes has put the variable there for a Service, such as `contact-sync`, whose name
/// makes ours of it: `.._SERVICE_HOST`, `.._SERVICE_PORT`, `.._SERVICE_PORT_GRPC`, `.._PORT`,
/// `.._PORT_50051_TCP_ADDR` (Kubernetes, "Service: environment variables"). No setting ends so.
pub(super) fn is_of_a_kubernetes_service(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_port =
        |three: &[&str]| three[0] == "PORT" && is_number(three[1]) && ["TCP", "UDP", "SCTP"].contains(&three[2]);
    !name.contains("__")
        && (words.ends_with(&["SERVICE", "HOST"])
            || words.ends_with(&["PORT"])
            || words.windows(2).any(|two| two == ["SERVICE", "PORT"])
            || words.windows(3).any(is_port))
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_')).take(64).collect()
}

fn read_file(path: &Path) -> Result<Vec<WrittenSetting>, ConfigError> {
    let unreadable = |e| ConfigError::File(path.to_owned(), e);
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ConfigError::FileTooLarge { path: path.to_owned(), bytes });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let values: Value = Toml::from_str(&text).map_err(|e| {
        let line = line_of(&text, e.span().map_or(0, |span| span.start));
        ConfigError::Toml { path: path.to_owned(), line, message: e.message().to_owned() }
    })?;
    let lines = lines(&text);
    let written = flatten(&values).into_iter().map(|(name, value)| {
        let line = lines.get(&name).copied().unwrap_or(1);
        WrittenSetting { name, value, origin: SettingOrigin::File(path.to_owned(), line) }
    });
    Ok(written.collect())
}

/// On which line each setting of a TOML file is named.
fn lines(text: &str) -> BTreeMap<String, usize> {
    fn walk(prefix: &str, table: &dyn TableLike, text: &str, into: &mut BTreeMap<String, usize>) {
        for (name, item) in table.iter() {
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            match (item.as_table_like(), table.get_key_value(name).and_then(|(key, _)| key.span())) {
                (Some(within), _) => walk(&path, within, text, into),
                (None, Some(span)) => _ = into.insert(path, line_of(text, span.start)),
                (None, None) => {}
            }
        }
    }
    let mut lines = BTreeMap::new();
    if let Ok(document) = ImDocument::parse(text) {
        walk("", document.as_table(), text, &mut lines);
    }
    lines
}

/// Counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}

/// A text as the kind of value that the setting's default is. What cannot be read stays a text, and
/// is refused later.
fn read_text(default: Option<&Value>, text: &str) -> Value {
    let read = match default {
        Some(Value::Number(_)) => text.trim().parse::<u64>().ok().map(Value::from),
        Some(Value::Bool(_)) => text.trim().parse::<bool>().ok().map(Value::from),
        // An absent setting may be written as an empty one.
        Some(Value::Null) if text.is_empty() => Some(Value::Null),
        _ => None,
    };
    read.unwrap_or_else(|| Value::from(text))
}
