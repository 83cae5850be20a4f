//! Reads and checks the settings. The environment comes in as an iterator, so that nothing here depends on the process.
//! Every error names the setting, what is wrong with it, what would be right, and its source; never the value of a secret.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Value as FigmentValue},
};
use serde::Serialize;
use serde_json::Value;

use super::Config;

/// Largest settings file, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Names the settings file.
const FILE_VARIABLE: &str = "CONTACT_SYNC_CONFIG";
/// `CONTACT_SYNC_WORKER__LEASE_SECONDS` is `worker.lease_seconds`.
const PREFIX: &str = "CONTACT_SYNC_";
/// Names that other tools use for the same things.
const PLAIN_VARIABLES: [(&str, &str); 3] =
    [("DATABASE_URL", "database_url"), ("MIGRATE_DATABASE_URL", "migrate_database_url"), ("PG_BIN_DIR", "pg_bin_dir")];
/// Never shown, not even in an error about themselves.
const SECRETS: [&str; 5] = [
    "database_url",
    "migrate_database_url",
    "providers.zendesk.client_secret",
    "providers.salesforce.client_secret",
    "providers.pipedrive.client_secret",
];

/// What each number must be; both ends are allowed.
pub(super) const RANGES: [(&str, u64, u64); 42] = [
    ("sync.period_seconds", 60, 86_400),
    ("worker.lease_seconds", 1, 600),
    ("worker.heartbeat_seconds", 1, 200),
    ("worker.concurrency", 0, 64),
    ("worker.poll_ms", 50, 60_000),
    ("worker.turn_seconds", 0, 3_600),
    ("worker.attempts_max", 1, 100),
    ("worker.backoff_base_ms", 1, 60_000),
    ("providers.zendesk.timeout_seconds", 1, 300),
    ("providers.zendesk.quota_share_percent", 1, 100),
    ("providers.zendesk.first_copy_share_percent", 1, 100),
    ("providers.zendesk.sweep_hours", 1, 8_760),
    ("providers.salesforce.timeout_seconds", 1, 300),
    ("providers.salesforce.quota_share_percent", 1, 100),
    ("providers.salesforce.first_copy_share_percent", 1, 100),
    ("providers.salesforce.sweep_hours", 1, 8_760),
    ("providers.salesforce_bulk_above", 0, 1_000_000_000),
    ("providers.pipedrive.timeout_seconds", 1, 300),
    ("providers.pipedrive.quota_share_percent", 1, 100),
    ("providers.pipedrive.first_copy_share_percent", 1, 100),
    ("providers.pipedrive.sweep_hours", 1, 8_760),
    ("pools.call.connections", 1, 256),
    ("pools.call.acquire_timeout_ms", 10, 60_000),
    ("pools.api.connections", 1, 256),
    ("pools.api.acquire_timeout_ms", 10, 60_000),
    ("pools.sync.connections", 1, 256),
    ("pools.sync.acquire_timeout_ms", 10, 60_000),
    ("server.calls_max", 1, 100_000),
    ("server.connections_max", 16, 100_000),
    ("server.idle_max_seconds", 10, 86_400),
    ("server.frames_per_second", 100, 1_000_000),
    ("server.streams_per_connection_max", 1, 10_000),
    ("server.request_bytes_max", 1_024, 1_048_576),
    ("server.response_bytes_max", 65_536, 16_777_216),
    ("server.header_bytes_max", 4_096, 65_536),
    ("server.keepalive_seconds", 5, 3_600),
    ("server.keepalive_timeout_seconds", 1, 600),
    ("server.connection_age_max_seconds", 10, 86_400),
    ("drain.wait_seconds", 0, 300),
    ("drain.timeout_seconds", 0, 600),
    ("auth.issuer", 1, 256),
    ("auth.audience", 1, 256),
];

/// Where settings come from on the command line.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct Flags {
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
    #[arg(long = "set", value_name = "SETTING=VALUE", global = true)]
    pub set: Vec<String>,
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

impl Config {
    /// The settings in force: defaults, then the file, then the environment, then flags. `env` is all of the environment;
    /// a name that starts with `CONTACT_SYNC_` and is no setting is an error, but for those of a Kubernetes Service; other names are left alone.
    pub fn load(flags: &Flags, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let env: BTreeMap<String, String> = env.collect();
        let is_root = nix::unistd::geteuid().is_root();
        let default_dir = default_data_dir(is_root, env.get("XDG_DATA_HOME"), env.get("HOME"));
        let defaults = Self::with_defaults(default_dir.clone().unwrap_or_default());
        let known = flatten(&defaults);

        let mut figment = Figment::from(Serialized::defaults(&defaults));
        for source in sources(flags, &env, &known)? {
            for (name, value) in flatten(&source.values) {
                if !known.contains_key(&name) {
                    return Err(unknown(&name, source.origin, &known));
                }
                figment = figment.merge(Setting { name, value, origin: source.origin.clone() });
            }
        }
        let config: Self = figment.extract().map_err(|e| unfit(&figment, &e))?;
        Checks { figment: &figment }.run(&config, default_dir.is_some())?;
        Ok(config)
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

/// Some settings and where they were written.
struct Source {
    origin: String,
    values: Value,
}

/// All sources, later ones over earlier.
fn sources(
    flags: &Flags,
    env: &BTreeMap<String, String>,
    known: &BTreeMap<String, Value>,
) -> Result<Vec<Source>, ConfigError> {
    let mut sources = Vec::new();
    let file =
        flags.config.clone().or_else(|| env.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from));
    if let Some(path) = file {
        sources.push(Source { origin: format!("in {}", path.display()), values: read_file(&path)? });
    }
    let mut add = |name: String, origin: String, text: &str| {
        let value = read_text(known.get(&name), text);
        let values = Value::Object([(name, value)].into_iter().collect());
        sources.push(Source { origin, values });
    };
    for (variable, name) in PLAIN_VARIABLES {
        if let Some(text) = env.get(variable) {
            add(name.to_owned(), format!("from the variable {variable}"), text);
        }
    }
    for (variable, text) in env {
        if let Some(name) = variable.strip_prefix(PREFIX)
            && variable != FILE_VARIABLE
            && !is_of_a_kubernetes_service(name)
        {
            add(name.to_lowercase().replace("__", "."), format!("from the variable {variable}"), text);
        }
    }
    for (name, flag) in [("listen", &flags.listen), ("data_dir", &flags.data_dir)] {
        if let Some(text) = flag {
            add(name.to_owned(), format!("from the flag --{}", name.replace('_', "-")), text);
        }
    }
    for pair in &flags.set {
        // A secret without its = must not come back in an error: the name alone is shown.
        let (name, text) = pair.split_once('=').ok_or_else(|| ConfigError::NoValue(first_word(pair)))?;
        add(name.to_owned(), format!("from the flag --set {name}"), text);
    }
    Ok(sources)
}

/// Whether Kubernetes has put the variable there for a Service, such as `contact-sync`, whose name makes ours of it: `.._SERVICE_HOST`,
/// `.._SERVICE_PORT`, `.._SERVICE_PORT_GRPC`, `.._PORT`, `.._PORT_50051_TCP_ADDR` (Kubernetes, "Service: environment variables"). No
/// setting ends so.
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

fn read_file(path: &Path) -> Result<Value, ConfigError> {
    let unreadable = |e| ConfigError::File(path.to_owned(), e);
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ConfigError::FileTooLarge { path: path.to_owned(), bytes });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    Toml::from_str(&text).map_err(|e| {
        let start = e.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|&byte| byte == b'\n').count() + 1;
        ConfigError::Toml { path: path.to_owned(), line, message: e.message().to_owned() }
    })
}

/// A text as the kind of value that the setting's default is. What cannot be read stays a text, and is refused later.
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

/// One setting, for figment.
struct Setting {
    name: String,
    value: Value,
    origin: String,
}

impl Provider for Setting {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let nested = figment::util::nest(&self.name, FigmentValue::serialize(&self.value)?);
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

fn unknown(name: &str, origin: String, known: &BTreeMap<String, Value>) -> ConfigError {
    let section = name.split('.').next().unwrap_or_default();
    let mut near: Vec<&str> =
        known.keys().filter(|key| key.split('.').next() == Some(section)).map(String::as_str).collect();
    let mut what = format!("in {section} there are");
    if near.is_empty() {
        near = known.keys().filter_map(|key| key.split('.').next()).collect();
        near.dedup();
        "there are".clone_into(&mut what);
    }
    ConfigError::Unknown { name: name.to_owned(), origin, known: format!("{what} {}", near.join(", ")) }
}

/// A value of another kind than its setting.
fn unfit(figment: &Figment, error: &figment::Error) -> ConfigError {
    let name = error.path.join(".");
    let expected = match name.as_str() {
        "listen" => "an address and a port, such as 127.0.0.1:50051".to_owned(),
        "http.listen" => "an address and a port, such as 127.0.0.1:8080".to_owned(),
        "log.format" => "text or json".to_owned(),
        "database.plan_cache_mode" => "generic or custom".to_owned(),
        "reflection" => "true or false".to_owned(),
        _ => range_of(&name).map_or("a text".to_owned(), |(min, max)| format!("a whole number from {min} to {max}")),
    };
    let problem = if SECRETS.contains(&name.as_str()) {
        "cannot be read".to_owned()
    } else {
        format!("cannot be read ({})", error.kind)
    };
    let origin = origin_of(figment, &name);
    ConfigError::Wrong { name, origin, problem, expected }
}

/// Of numbers; the ranges of texts are about their length.
fn range_of(name: &str) -> Option<(u64, u64)> {
    RANGES.iter().find(|range| range.0 == name && !name.starts_with("auth.")).map(|&(_, min, max)| (min, max))
}

fn origin_of(figment: &Figment, name: &str) -> String {
    match figment.find_metadata(name) {
        Some(metadata) if metadata.source.is_none() => metadata.name.to_string(),
        _ => "by default".to_owned(),
    }
}

/// As root the service is the machine's, else it is its user's.
pub(super) fn default_data_dir(is_root: bool, xdg: Option<&String>, home: Option<&String>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/contact-sync"));
    }
    let dir = |text: &&String| Path::new(text).is_absolute();
    let share = xdg.filter(dir).map(PathBuf::from);
    let share = share.or_else(|| home.filter(dir).map(|home| Path::new(home).join(".local/share")));
    share.map(|share| share.join("contact-sync"))
}

/// What types do not say.
struct Checks<'a> {
    figment: &'a Figment,
}

impl Checks<'_> {
    fn run(&self, config: &Config, has_default_dir: bool) -> Result<(), ConfigError> {
        let flat = flatten(config);
        for (name, min, max) in RANGES {
            let value = flat.get(name);
            let (size, unit) = match value.and_then(Value::as_str) {
                Some(text) => (Some(text.len() as u64), " bytes long"),
                None => (value.and_then(Value::as_u64), ""),
            };
            let Some(size) = size.filter(|size| !(min..=max).contains(size)) else { continue };
            return Err(self.wrong(name, format!("is {size}{unit}"), format!("{min} to {max}{unit}")));
        }
        let (lease, heartbeat) = (config.worker.lease_seconds, config.worker.heartbeat_seconds);
        if heartbeat * 3 > lease {
            let expected = format!("at most a third of worker.lease_seconds ({lease}), so that two may be lost");
            return Err(self.wrong("worker.heartbeat_seconds", format!("is {heartbeat}"), expected));
        }
        if config.data_dir.as_os_str().is_empty() {
            let problem = if has_default_dir { "is empty" } else { "has no default, because HOME is not set" };
            return Err(self.wrong("data_dir", problem, "a directory"));
        }
        self.check_databases(config)?;
        if let Some(url) = &config.http.public_url
            && let Err(problem) = check_public_url(url)
        {
            return Err(self.wrong("http.public_url", problem, "like https://sync.example.com"));
        }
        let providers = &config.providers;
        for (name, provider) in [
            ("zendesk", &providers.zendesk),
            ("salesforce", &providers.salesforce),
            ("pipedrive", &providers.pipedrive),
        ] {
            if let Some(url) = &provider.base_url
                && let Err(problem) = check_base_url(url)
            {
                let expected = "like https://proxy.example.com or http://127.0.0.1:8080, optionally with {subdomain}";
                return Err(self.wrong(&format!("providers.{name}.base_url"), problem, expected));
            }
            let (id, secret) = (format!("providers.{name}.client_id"), format!("providers.{name}.client_secret"));
            match (&provider.client_id, &provider.client_secret) {
                (Some(_), None) => return Err(self.wrong(&secret, "is missing", format!("set, since {id} is"))),
                (None, Some(_)) => return Err(self.wrong(&id, "is missing", format!("set, since {secret} is"))),
                _ => {}
            }
        }
        Ok(())
    }

    fn check_databases(&self, config: &Config) -> Result<(), ConfigError> {
        for (name, url) in
            [("database_url", &config.database_url), ("migrate_database_url", &config.migrate_database_url)]
        {
            let is_postgres = |url: &str| url.starts_with("postgres://") || url.starts_with("postgresql://");
            if url.as_ref().is_some_and(|url| !is_postgres(url.expose())) {
                let expected = "like postgres://user:password@host:5432/database";
                return Err(self.wrong(name, "is no Postgres URL", expected));
            }
        }
        Ok(())
    }

    fn wrong(&self, name: &str, problem: impl fmt::Display, expected: impl fmt::Display) -> ConfigError {
        ConfigError::Wrong {
            name: name.to_owned(),
            origin: origin_of(self.figment, name),
            problem: problem.to_string(),
            expected: expected.to_string(),
        }
    }
}

/// As a base URL, and encrypted unless it is on this machine: codes travel there.
fn check_public_url(url: &str) -> Result<(), &'static str> {
    check_base_url(url)?;
    if url.contains(['{', '}']) {
        return Err("holds a placeholder");
    }
    let is_here = ["http://localhost", "http://127.0.0.1", "http://[::1]"]
        .iter()
        .any(|here| url.strip_prefix(here).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/'])));
    if url.starts_with("https://") || is_here { Ok(()) } else { Err("is not encrypted") }
}

/// A scheme, a host and perhaps a port, nothing else: paths are the client's, credentials the tenant's.
fn check_base_url(url: &str) -> Result<(), &'static str> {
    let uri: http::Uri = url.replace("{subdomain}", "x").parse().map_err(|_| "is no URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("has another scheme than http or https");
    }
    let authority = uri.authority().ok_or("has no host")?;
    if authority.as_str().contains('@') {
        return Err("holds a user name or password");
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("has a path or a query");
    }
    Ok(())
}
