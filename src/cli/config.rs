//! `contact-sync config`: what is wrong with the settings, and which are in force. Connects to
//! nothing and makes nothing.

use std::{fmt::Write, path::Path, sync::Arc};

use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::client::json;
use crate::{
    config::{ConfigError, LoadedSettings, SettingEntry, SettingOrigin},
    domain::clock::Clock,
    key_source::{check_certificates, read_file},
    rpc::{
        auth::TokenVerifier,
        local_token::{LocalKeys, read_signing_key},
    },
    telemetry::chain,
    tls::{HTTP_1_1, HTTP_2, ServerTls},
    vault::KeyRing,
};

/// Check the settings, or print those in force
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum ConfigCommand {
    /// Tell everything that would stop `serve`, and what would be right; connect to nothing
    Check,
    /// Print the settings in force, each with its source, as a settings file; secrets are masked
    Print(PrintArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct PrintArgs {
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
}

/// What `serve` needs beyond the settings themselves: the files that they name, and settings that
/// go together.
pub(super) fn needs(settings: &LoadedSettings, clock: &Arc<dyn Clock>) -> Vec<ConfigError> {
    let config = &settings.config;
    let is_local = config.database_url.is_none();
    let mut problems = Vec::new();
    let mut wrong =
        |name: &str, problem: String, expected: &str| problems.push(settings.wrong(name, problem, expected));
    if is_local && config.migrate_database_url.is_some() {
        wrong("migrate_database_url", "is set alone".into(), "left out, or database_url set too");
    }
    if config.data_dir.exists() && !config.data_dir.is_dir() {
        wrong("data_dir", "is no directory".into(), "a directory, or be made as one");
    }
    if let Some(dir) = config.pg_bin_dir.as_ref().filter(|dir| is_local && !dir.join("initdb").is_file()) {
        wrong("pg_bin_dir", format!("is {}, where no initdb is", dir.display()), "where initdb and postgres are");
    }
    for (section, tls, protocol) in [("tls", &config.tls, HTTP_2), ("http.tls", &config.http.tls, HTTP_1_1)] {
        if let Some(Err(error)) = tls.files().map(|files| ServerTls::load(files, protocol)) {
            let expected = "a certificate and its key, and CAs, as PEM";
            wrong(&format!("{section}.certificate_file"), format!("is of no use ({})", chain(&error)), expected);
        }
    }
    let local_ring = config.data_dir.join("key-ring.json");
    let ring_file = config.vault.key_ring_file.as_deref();
    match ring_file.or(Some(&*local_ring).filter(|path| is_local && path.exists())) {
        Some(path) => {
            let name = if ring_file.is_some() { "vault.key_ring_file" } else { "data_dir" };
            let read = read(path).and_then(|text| KeyRing::parse(&text).map_err(|error| chain(&error).to_string()));
            if let Err(problem) = read {
                wrong(name, format!("holds no key ring in {} ({problem})", path.display()), "a readable key ring");
            }
        }
        None if is_local => {}
        None => wrong(
            "vault.key_ring_file",
            "is not set".into(),
            "the keys that seal credentials, since database_url is set",
        ),
    }
    let local_keys = LocalKeys::in_dir(&config.local_auth_dir());
    if is_local
        && config.auth.jwks_file.is_none()
        && config.auth.jwks_url.is_none()
        && local_keys.signing_key_file.exists()
        && let Err(error) = read_signing_key(&local_keys)
    {
        wrong("data_dir", format!("holds a signing key that cannot be used ({error})"), "the owner's alone");
    }
    if let Some(path) = &config.auth.jwks_ca_file
        && let Err(error) = check_certificates(path)
    {
        wrong("auth.jwks_ca_file", format!("cannot be used ({})", chain(&error)), "certificates in PEM");
    }
    if let Some(path) = &config.providers.salesforce_streams_ca_file
        && let Err(error) = check_certificates(path)
    {
        let problem = format!("cannot be used ({})", chain(&error));
        wrong("providers.salesforce_streams_ca_file", problem, "certificates in PEM");
    }
    let jwks_file = config.auth.jwks_file.as_deref();
    match jwks_file
        .or(Some(&*local_keys.jwks_file).filter(|path| is_local && config.auth.jwks_url.is_none() && path.exists()))
    {
        Some(path) => {
            let name = if jwks_file.is_some() { "auth.jwks_file" } else { "data_dir" };
            let read = read(path).and_then(|text| {
                TokenVerifier::new(&text, (&config.auth).into(), Arc::clone(clock))
                    .map_err(|error| chain(&error).to_string())
            });
            if let Err(problem) = read {
                wrong(name, format!("holds no key set in {} ({problem})", path.display()), "public keys as a JWKS");
            }
        }
        // They are asked for when the service starts.
        None if is_local || config.auth.jwks_url.is_some() => {}
        None => wrong(
            "auth.jwks_file",
            "is not set".into(),
            "the public keys of who signs tokens, or auth.jwks_url their address, since database_url is set",
        ),
    }
    problems
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    read_file(path).map_err(|error| chain(&error).to_string())
}

/// The settings in force.
pub(super) fn print(args: &PrintArgs, settings: &LoadedSettings) -> anyhow::Result<String> {
    if args.json { json::line(&Printed::of(settings)) } else { Ok(toml(settings)) }
}

#[derive(Serialize)]
struct Printed {
    settings: Vec<PrintedSetting>,
}

#[derive(Serialize)]
struct PrintedSetting {
    name: String,
    /// Null: not set.
    value: Value,
    /// `default`, `file`, `environment` or `flag`.
    source: &'static str,
    /// The file and line, the variable, the flag; empty: by default.
    place: String,
    /// The value holds a secret, which is not shown.
    masked: bool,
}

impl Printed {
    fn of(settings: &LoadedSettings) -> Self {
        let printed = |entry: SettingEntry<'_>| {
            let (source, place) = match entry.origin {
                SettingOrigin::Default => ("default", String::new()),
                SettingOrigin::File(path, line) => ("file", format!("{}:{line}", path.display())),
                SettingOrigin::Variable(name) => ("environment", name.clone()),
                SettingOrigin::Flag(flag) => ("flag", flag.clone()),
            };
            PrintedSetting { name: entry.name, value: entry.value, source, place, masked: entry.is_masked }
        };
        Self { settings: settings.entries().map(printed).collect() }
    }
}

/// A file that `serve` reads to the same effect, but for the secrets, which are comments in it.
fn toml(settings: &LoadedSettings) -> String {
    let mut text = String::new();
    for SettingEntry { name, value, origin, is_masked, .. } in settings.entries() {
        // No file name ends a comment.
        let origin = origin.to_string().replace(char::is_control, "?");
        let _ = match value {
            Value::Null => writeln!(text, "# {name} =  # not set"),
            value if is_masked => writeln!(text, "# {name} = {}  # {origin}; a secret, not shown", toml_value(&value)),
            value => writeln!(text, "{name} = {}  # {origin}", toml_value(&value)),
        };
    }
    text
}

/// Settings are texts, numbers and switches. A JSON text is a TOML text of one line (toml.io,
/// "String"), but for DEL.
fn toml_value(value: &Value) -> String {
    value.to_string().replace('\u{7f}', "\\u007f")
}

/// The settings that differ from their defaults, for the log: `listen = "127.0.0.1:7",
/// worker.concurrency = 8`.
pub(super) fn changed(settings: &LoadedSettings) -> String {
    let changed = settings.entries().filter(|entry| entry.is_changed);
    changed.map(|entry| format!("{} = {}", entry.name, entry.value)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use chrono::DateTime;

    use super::*;
    use crate::{
        config::SettingFlags,
        domain::clock::ManualClock,
        rpc::local_token::{ensure_local_keys, generate},
    };

    /// A directory of this test's own, removed at its end.
    struct TempDir(PathBuf);

    impl TempDir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("contact-sync-config-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, text: &str) -> String {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn settings(flags: &SettingFlags, env: &[(&str, &str)]) -> LoadedSettings {
        let env = [("HOME", "/home/operator")].iter().chain(env).map(|&(name, value)| (name.into(), value.into()));
        LoadedSettings::read(flags, env).unwrap()
    }

    fn set(pairs: &[(&str, &str)]) -> SettingFlags {
        SettingFlags {
            set: pairs.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            ..SettingFlags::default()
        }
    }

    fn problems(settings: &LoadedSettings) -> Vec<String> {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(DateTime::from_timestamp(1_795_305_600, 0).unwrap()));
        needs(settings, &clock).iter().map(ToString::to_string).collect()
    }

    /// What is printed is a settings file to the same effect, but for secrets.
    #[test]
    fn printed_settings_reload_equal_except_secrets() {
        let dir = TempDir::new("print");
        let odd = "a \"quoted\" 'name'\\ \u{7f}\t\nwith # and \u{fc}";
        let from = dir.file("odd\nname.toml", "[auth]\naudience = \"x\"\n[worker]\nlease_seconds = 60\n");
        let flags = SettingFlags {
            config: Some(from.into()),
            ..set(&[("auth.issuer", odd), ("reflection", "true"), ("providers.zendesk.base_url", "http://h:1")])
        };
        let env = [
            ("DATABASE_URL", "postgres://db/contacts"),
            ("CONTACT_SYNC_MIGRATE_DATABASE_URL", "postgres://u:hunter2@db/c\nx = 1"),
        ];
        let before = settings(&flags, &env);

        let text = print(&PrintArgs { json: false }, &before).unwrap();

        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            text.contains(
                "# migrate_database_url = \"postgres://u:***@db/c\\nx = 1\"  # from the variable CONTACT_SYNC_M"
            ),
            "{text}"
        );
        assert!(text.contains("worker.lease_seconds = 60  # in "), "{text}");
        assert!(text.contains("worker.concurrency = 4  # by default\n"), "{text}");
        assert!(text.contains("# pg_bin_dir =  # not set\n"), "{text}");
        let again = dir.file("printed.toml", &text);
        let after = settings(&SettingFlags { config: Some(again.into()), ..SettingFlags::default() }, &[]);
        assert_eq!(text.lines().count(), before.entries().count(), "one a line: {text}");
        let values = |settings: &LoadedSettings| -> Vec<(String, Value)> {
            settings
                .entries()
                .filter(|entry| !entry.name.starts_with("migrate"))
                .map(|of| (of.name, of.value))
                .collect()
        };
        assert_eq!(values(&after), values(&before));
        assert_eq!(after.config.auth.issuer, odd);
    }

    /// As JSON, each setting has its source and place.
    #[test]
    fn json_settings_have_source_and_place() {
        let settings = settings(&set(&[("worker.concurrency", "8")]), &[("DATABASE_URL", "postgres://u:hunter2@db/c")]);

        let text = print(&PrintArgs { json: true }, &settings).unwrap();

        let found: Value = serde_json::from_str(&text).unwrap();
        let of =
            |name: &str| found["settings"].as_array().unwrap().iter().find(|of| of["name"] == name).unwrap().clone();
        assert_eq!(
            of("worker.concurrency"),
            serde_json::json!({
                "name": "worker.concurrency", "value": 8, "source": "flag", "place": "--set worker.concurrency", "masked": false
            })
        );
        assert_eq!(
            (of("database_url")["value"].as_str(), of("database_url")["masked"].as_bool()),
            (Some("postgres://u:***@db/c"), Some(true))
        );
        assert_eq!((of("listen")["source"].as_str(), &of("pg_bin_dir")["value"]), (Some("default"), &Value::Null));
        assert!(!text.contains("hunter2") && !text.contains('\n'));
    }

    #[test]
    fn the_log_tells_what_differs_and_no_secret() {
        let env = [
            ("DATABASE_URL", "postgres://u:hunter2@db/c?password=hunter2"),
            ("CONTACT_SYNC_PROVIDERS__ZENDESK__CLIENT_ID", "id"),
            ("CONTACT_SYNC_PROVIDERS__ZENDESK__CLIENT_SECRET", "hunter2"),
            ("CONTACT_SYNC_LISTEN", "127.0.0.1:50051"),
        ];

        assert_eq!(
            changed(&settings(&set(&[("worker.concurrency", "8")]), &env)),
            "database_url = \"postgres://u:***@db/c?***\", providers.zendesk.client_id = \"id\", \
             providers.zendesk.client_secret = \"***\", worker.concurrency = 8"
        );
        assert_eq!(changed(&settings(&SettingFlags::default(), &[])), "");
    }

    /// A database of one's own needs keys of one's own.
    #[test]
    fn own_database_needs_own_keys() {
        let all = problems(&settings(&SettingFlags::default(), &[("DATABASE_URL", "postgres://db/c")]));

        assert_eq!(all.len(), 2, "{all:#?}");
        assert!(all[0].starts_with("vault.key_ring_file (by default) is not set; it must be the keys"), "{all:#?}");
        assert!(all[1].starts_with("auth.jwks_file (by default) is not set; it must be the public keys"), "{all:#?}");
        let alone = problems(&settings(&SettingFlags::default(), &[("MIGRATE_DATABASE_URL", "postgres://db/c")]));
        assert!(
            alone[0].starts_with("migrate_database_url (from the variable MIGRATE_DATABASE_URL) is set alone"),
            "{alone:#?}"
        );
    }

    #[test]
    fn files_that_settings_name_are_looked_at() {
        let dir = TempDir::new("files");
        let empty = dir.file("empty.json", "{}");
        let jwks = dir.file("jwks.json", &generate(&[7; 32]).jwks_json);
        let wrong =
            set(&[("vault.key_ring_file", &empty), ("auth.jwks_file", "/nowhere/jwks.json"), ("data_dir", &empty)]);
        let right = set(&[("auth.jwks_file", &jwks), ("data_dir", dir.0.to_str().unwrap())]);

        let all = problems(&settings(&wrong, &[("PG_BIN_DIR", "/nowhere")]));

        let starts = [
            "data_dir (from",
            "pg_bin_dir (from the variable PG_BIN_DIR)",
            "vault.key_ring_file (from",
            "auth.jwks_file (from",
        ];
        assert_eq!(all.len(), starts.len(), "{all:#?}");
        for (text, start) in all.iter().zip(starts) {
            assert!(text.starts_with(start), "{text}");
        }
        assert!(all[3].contains("/nowhere/jwks.json (cannot read /nowhere/jwks.json: No such file"), "{all:#?}");
        assert_eq!(problems(&settings(&right, &[])), Vec::<String>::new());
    }

    /// The keys of local mode are looked at, if there are any.
    #[test]
    fn local_keys_are_checked_if_present() {
        use std::os::unix::fs::PermissionsExt;

        let dir = TempDir::new("local");
        let of_dir = settings(&set(&[("data_dir", dir.0.to_str().unwrap())]), &[]);
        assert_eq!(problems(&of_dir), Vec::<String>::new());
        let keys = ensure_local_keys(&of_dir.config.local_auth_dir(), &[7; 32]).unwrap();
        assert_eq!(problems(&of_dir), Vec::<String>::new());

        fs::set_permissions(&keys.signing_key_file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&keys.jwks_file, "no key").unwrap();

        let all = problems(&of_dir);
        assert!(all.len() == 2 && all[0].contains("mode 0644") && all[1].contains("holds no key set"), "{all:#?}");
    }
}
