use std::fs;

use super::*;
use crate::domain::provider::Provider;

fn load(flags: &SettingFlags, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let home = ("HOME".to_owned(), "/home/operator".to_owned());
    let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    LoadedSettings::read(flags, [home].into_iter().chain(env))
        .map(|settings| settings.config)
        .map_err(|mut all| all.remove(0))
}

fn set(pairs: &[&str]) -> SettingFlags {
    SettingFlags { set: pairs.iter().map(|&pair| pair.to_owned()).collect(), ..SettingFlags::default() }
}

/// A settings file of this test's own, removed at its end.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("contact-sync-config-{name}-{}.toml", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn flags(&self) -> SettingFlags {
        SettingFlags { config: Some(self.0.clone()), ..SettingFlags::default() }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn defaults_are_in_force_where_nothing_is_said() {
    let config = load(&SettingFlags::default(), &[("PATH", "/bin"), ("DATABASE_URL", "")]).unwrap();

    assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.sync.period_seconds, 1800);
    assert_eq!(config.pools.call.acquire_timeout(), Duration::from_millis(200));
    assert!(config.data_dir.ends_with("contact-sync"));
    assert!(config.database_url.is_none());
    assert!(!config.reflection);
    assert_eq!(ServerLimits::from(&config.server), ServerLimits::default());
}

/// Claims by other names are for tokens of an identity provider; local ones have the usual names.
#[test]
fn claims_may_be_renamed_where_others_sign() {
    let renamed = ["auth.accounts_claim=https://acme.example/accounts", "auth.scopes_claim=roles"];
    let config = load(&set(&[&renamed[..], &["auth.jwks_file=/keys.json"]].concat()), &[]).unwrap();

    let rules = TokenRules::from(&config.auth);
    assert_eq!(rules.accounts_claim, "https://acme.example/accounts");
    assert_eq!(rules.scopes_claim.as_deref(), Some("roles"));
    for (one, name) in renamed.iter().zip(["auth.accounts_claim", "auth.scopes_claim"]) {
        let refused = load(&set(&[one]), &[]).unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains("auth.jwks_file"), "{refused}");
    }
    assert_eq!(TokenRules::from(&load(&set(&[]), &[]).unwrap().auth), TokenRules::new("contact-sync", "contact-sync"));
}

/// Flags win over the environment, which wins over the file.
#[test]
fn flags_beat_environment_which_beats_file() {
    let file = File::new(
        "order",
        "listen = \"127.0.0.1:1\"\ndatabase_url = \"postgres://file/a\"\n[worker]\nconcurrency = 1\npoll_ms = 111\nattempts_max = 11\n",
    );
    let mut flags = file.flags();
    flags.listen = Some("127.0.0.1:3".to_owned());
    flags.set = vec!["worker.concurrency=3".to_owned()];
    let env = [
        ("CONTACT_SYNC_WORKER__CONCURRENCY", "2"),
        ("CONTACT_SYNC_WORKER__POLL_MS", "222"),
        ("CONTACT_SYNC_LISTEN", "127.0.0.1:2"),
        ("CONTACT_SYNC_CONFIG", "/nowhere/else.toml"),
        ("DATABASE_URL", "postgres://plain/a"),
        ("CONTACT_SYNC_REFLECTION", "true"),
    ];

    let config = load(&flags, &env).unwrap();

    assert_eq!(config.listen.port(), 3);
    assert_eq!((config.worker.concurrency, config.worker.poll_ms, config.worker.attempts_max), (3, 222, 11));
    assert_eq!(config.database_url.unwrap().expose(), "postgres://plain/a");
    assert!(config.reflection);
}

/// The environment names the file, and our own name of a variable wins over the plain one.
#[test]
fn environment_names_file_prefixed_name_beats_plain() {
    let file = File::new("by-variable", "[auth]\nissuer = \"https://issuer.example.com\"\n");
    let env = [
        ("CONTACT_SYNC_CONFIG", file.0.to_str().unwrap()),
        ("DATABASE_URL", "postgres://plain/a"),
        ("CONTACT_SYNC_DATABASE_URL", "postgres://ours/a"),
        ("PG_BIN_DIR", "/usr/lib/postgresql/17/bin"),
    ];

    let config = load(&SettingFlags::default(), &env).unwrap();

    assert_eq!(config.auth.issuer, "https://issuer.example.com");
    assert_eq!(config.database_url.unwrap().expose(), "postgres://ours/a");
    assert_eq!(config.pg_bin_dir.unwrap(), PathBuf::from("/usr/lib/postgresql/17/bin"));
}

/// A number is a text where a text is meant.
#[test]
fn number_is_text_where_text_is_meant() {
    let config = load(&set(&["auth.audience=12345", "providers.zendesk.base_url=http://127.0.0.1:8080"]), &[]).unwrap();

    assert_eq!(config.auth.audience, "12345");
    assert_eq!(config.providers.each[Provider::Zendesk].base_url.as_deref().unwrap(), "http://127.0.0.1:8080");
}

/// What Kubernetes says of services of our name is passed over, and no setting is called so.
#[test]
fn kubernetes_service_variables_are_passed_over() {
    let injected = [
        ("CONTACT_SYNC_SERVICE_HOST", "10.96.0.7"),
        ("CONTACT_SYNC_SERVICE_PORT", "50051"),
        ("CONTACT_SYNC_SERVICE_PORT_GRPC", "50051"),
        ("CONTACT_SYNC_PORT", "tcp://10.96.0.7:50051"),
        ("CONTACT_SYNC_PORT_50051_TCP", "tcp://10.96.0.7:50051"),
        ("CONTACT_SYNC_PORT_50051_TCP_PROTO", "tcp"),
        ("CONTACT_SYNC_PORT_50051_TCP_PORT", "50051"),
        ("CONTACT_SYNC_PORT_50051_TCP_ADDR", "10.96.0.7"),
        ("CONTACT_SYNC_WEB_SERVICE_HOST", "10.96.0.8"),
        ("CONTACT_SYNC_WEB_PORT_53_UDP_ADDR", "10.96.0.8"),
        ("CONTACT_SYNC_LISTEN", "127.0.0.1:2"),
    ];

    assert_eq!(load(&SettingFlags::default(), &injected).unwrap().listen.to_string(), "127.0.0.1:2");
    for misspelt in ["CONTACT_SYNC_SERVER__PORT", "CONTACT_SYNC_PORTS", "CONTACT_SYNC_SERVICE", "CONTACT_SYNC_HOST"] {
        assert!(load(&SettingFlags::default(), &[(misspelt, "1")]).is_err(), "{misspelt}");
    }
    for name in setting::flatten(&Config::with_defaults("/d".into())).into_keys() {
        let variable = name.to_uppercase().replace('.', "__");
        assert!(!sources::is_of_a_kubernetes_service(&variable), "{name}");
        assert!(!sources::is_of_a_kubernetes_service(&name.to_uppercase().replace('.', "_")), "{name}");
    }
}

/// Every error names the setting, the problem, the remedy and the source.
#[test]
fn every_error_names_setting_problem_remedy_source() {
    let file = File::new("errors", "[worker]\nlease_seconds = \"long\"\n");
    let path = file.0.display();
    let env = |name: &'static str, value: &'static str| load(&SettingFlags::default(), &[(name, value)]).map(|_| ());
    let flag = |pair: &str| load(&set(&[pair]), &[]).map(|_| ());
    for (result, expected) in [
        (
            load(&file.flags(), &[]).map(|_| ()),
            format!("worker.lease_seconds (in {path}, line 2) cannot be read (invalid type: found string \"long\", expected u64); it must be a whole number from 1 to 600"),
        ),
        (
            env("CONTACT_SYNC_WORKER__CONCURRENCY", "many"),
            "worker.concurrency (from the variable CONTACT_SYNC_WORKER__CONCURRENCY) cannot be read (invalid type: found string \"many\", expected u32); it must be a whole number from 0 to 64".to_owned(),
        ),
        (
            env("CONTACT_SYNC_WORKER__CONCURENCY", "1"),
            "there is no setting \"worker.concurency\" (from the variable CONTACT_SYNC_WORKER__CONCURENCY); in worker there are worker.attempts_max, ".to_owned(),
        ),
        (
            flag("workers=4"),
            "there is no setting \"workers\" (from the flag --set workers); there are admin, audit, auth, data_dir, database, database_url, drain, http, listen, log, migrate_database_url, pg_bin_dir, pools, providers, reflection, server, sync, tls, traces, vault, worker".to_owned(),
        ),
        (flag("worker=4"), "there is no setting \"worker\"".to_owned()),
        (flag("worker.lease_seconds"), "--set \"worker.lease_seconds\" is no setting; write it as".to_owned()),
        (
            flag("worker.poll_ms=49"),
            "worker.poll_ms (from the flag --set worker.poll_ms) is 49; it must be 50 to 60000".to_owned(),
        ),
        (flag("worker.concurrency=-1"), "worker.concurrency (from the flag --set worker.concurrency) cannot".to_owned()),
        (
            flag("worker.lease_seconds=20"),
            "worker.heartbeat_seconds (by default) is 10; it must be at most a third of worker.lease_seconds (20)".to_owned(),
        ),
        (flag("auth.issuer="), "auth.issuer (from the flag --set auth.issuer) is 0 bytes long; it must be 1 to 256".to_owned()),
        (flag("log.format=xml"), "log.format (from the flag --set log.format) cannot be read".to_owned()),
        (
            flag("database.plan_cache_mode=force_custom_plan"),
            "database.plan_cache_mode (from the flag --set database.plan_cache_mode) cannot be read".to_owned(),
        ),
        (flag("database.plan_cache_mode=Custom"), "it must be generic or custom".to_owned()),
        (
            env("CONTACT_SYNC_DATABASE__PLAN_CACHE_MODE", "auto"),
            "database.plan_cache_mode (from the variable CONTACT_SYNC_DATABASE__PLAN_CACHE_MODE) cannot be read".to_owned(),
        ),
        (flag("listen=localhost"), "it must be an address and a port, such as 127.0.0.1:50051".to_owned()),
        (flag("reflection=yes"), "it must be true or false".to_owned()),
        (
            flag("auth.jwks_url=http://login.example.com/keys"),
            "auth.jwks_url (from the flag --set auth.jwks_url) is not encrypted".to_owned(),
        ),
        (flag("auth.jwks_url=https://u:p@h/keys"), "holds a user name or password; it must be like https".to_owned()),
        (
            load(&set(&["auth.jwks_url=https://h/keys", "auth.jwks_file=/keys.json"]), &[]).map(|_| ()),
            "auth.jwks_url (from the flag --set auth.jwks_url) is set beside auth.jwks_file".to_owned(),
        ),
        (
            flag("auth.jwks_ca_file=/ca.pem"),
            "auth.jwks_ca_file (from the flag --set auth.jwks_ca_file) is set without auth.jwks_url".to_owned(),
        ),
        (flag("auth.jwks_refresh_seconds=29"), "is 29; it must be 30 to 3600".to_owned()),
        (flag("auth.jwks_refresh_seconds=often"), "it must be a whole number from 30 to 3600".to_owned()),
        (flag("data_dir="), "data_dir (from the flag --set data_dir) is empty; it must be a directory".to_owned()),
        (flag("providers.zendesk.base_url=ftp://h"), "has another scheme than http or https".to_owned()),
        (flag("providers.zendesk.base_url=https://u:p@h"), "holds a user name or password".to_owned()),
        (flag("providers.zendesk.base_url=https://h/api?x=1"), "has a path or a query".to_owned()),
        (
            flag("log.filter=info,=,"),
            "log.filter (from the flag --set log.filter) cannot be read; it must be like info or".to_owned(),
        ),
        (flag("providers.zendesk.base_url=nonsense"), "it must be like https://proxy.example.com".to_owned()),
    ] {
        let text = result.expect_err(&expected).to_string();

        assert!(text.contains(&expected), "{text}\n  does not contain\n{expected}");
    }
}

/// A file that is missing, broken or huge is said to be so.
#[test]
fn missing_broken_or_huge_file_is_told() {
    let broken = File::new("broken", "listen = \"127.0.0.1:1\"\n\ndatabase_url = \"postgres://u:hunter2@h/d\n");
    let huge = File::new("huge", &"#".repeat(64 * 1024 + 1));
    let missing = SettingFlags { config: Some("/nowhere/contact-sync.toml".into()), ..SettingFlags::default() };

    let error = load(&broken.flags(), &[]).unwrap_err();
    assert!(matches!(&error, ConfigError::Toml { line: 3, .. }), "{error}");
    assert!(!error.to_string().contains("hunter2"));
    assert!(matches!(load(&huge.flags(), &[]), Err(ConfigError::FileTooLarge { bytes: 65_537, .. })));
    assert!(matches!(load(&missing, &[]), Err(ConfigError::File(..))));
}

#[test]
fn secrets_show_neither_in_print_nor_in_errors() {
    let shown = |url: &str| {
        let config = load(&SettingFlags::default(), &[("DATABASE_URL", url)]).unwrap();
        assert_eq!(config.database_url.as_ref().unwrap().expose(), url);
        for text in [format!("{config:?}"), serde_json::to_string(&config).unwrap()] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        format!("{:?}", config.database_url.unwrap())
    };

    assert_eq!(shown("postgres://app:hunter2@db:5432/contacts"), "postgres://app:***@db:5432/contacts");
    assert_eq!(shown("postgres://app:a@hunter2@db/contacts"), "postgres://app:***@db/contacts");
    assert_eq!(shown("postgres://app:a?hunter2@db/contacts"), "postgres://app:***@db/contacts");
    assert_eq!(shown("postgres://app:a/hunter2@db/contacts"), "postgres://app:***@db/contacts");
    assert_eq!(shown("postgresql://db/contacts?user=app&password=hunter2"), "postgresql://db/contacts?***");
    assert_eq!(shown("postgres://db/contacts"), "postgres://db/contacts");

    for wrong in ["mysql://app:hunter2@db", "hunter2"] {
        let error = load(&SettingFlags::default(), &[("DATABASE_URL", wrong)]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    let error = load(&set(&["database_url postgres://app:hunter2@db"]), &[]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    let file = File::new("secret-type", "database_url = [\"hunter2\"]\n");
    let error = load(&file.flags(), &[]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

/// Every number has a range, and every range a setting.
#[test]
fn numbers_and_ranges_match_one_to_one() {
    let flat = setting::flatten(&Config::with_defaults("/tmp".into()));
    let numbers = flat.iter().filter(|(_, value)| value.is_number()).map(|(name, _)| name.as_str());

    let ranged: Vec<String> = checks::ranges().map(|range| range.0).collect();

    for number in numbers {
        assert!(ranged.iter().any(|name| name == number), "{number}");
    }
    for name in ranged {
        assert!(flat.contains_key(&name), "{name}");
    }
}

/// Data lies in the system's place for root, and in the user's for a user.
#[test]
fn data_dir_is_systems_for_root_else_users() {
    let (xdg, home, relative) = ("/data".to_owned(), "/home/op".to_owned(), "data".to_owned());
    let dir = load::default_data_dir;

    assert_eq!(dir(true, Some(&xdg), Some(&home)), Some("/var/lib/contact-sync".into()));
    assert_eq!(dir(false, Some(&xdg), Some(&home)), Some("/data/contact-sync".into()));
    assert_eq!(dir(false, Some(&relative), Some(&home)), Some("/home/op/.local/share/contact-sync".into()));
    assert_eq!(dir(false, None, None), None);
}

fn problems(flags: &SettingFlags, env: &[(&str, &str)]) -> Vec<String> {
    let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let home = ("HOME".to_owned(), "/home/operator".to_owned());
    let all = LoadedSettings::read(flags, [home].into_iter().chain(env)).unwrap_err();
    all.iter().map(ToString::to_string).collect()
}

/// Everything that is wrong is told at once, with its line or variable.
#[test]
fn every_problem_is_told_with_its_place() {
    let file = File::new(
        "many",
        "listen = \"nowhere\"\nworkers = 2\n\n[worker]\n# a comment\npoll_ms = 1\n[providers]\nzendesk = { base_url = \"ftp://h\", client_id = \"id\" }\n\
         pipedrive.timeout_seconds = 301\n[server]\ncalls_max = 5\n",
    );
    let mut flags = file.flags();
    flags.set = vec!["worker.turn_seconds=soon".into(), "nothing".into()];
    let env = [
        ("CONTACT_SYNC_REFLECTION", "perhaps"),
        ("CONTACT_SYNC_SERVER__CALLS_MAX", "0"),
        ("DATABASE_URL", "mysql://hunter2"),
        ("CONTACT_SYNC_SERVICE_PORT", "50051"),
    ];

    let all = problems(&flags, &env);

    let path = file.0.display();
    for expected in [
        format!("listen (in {path}, line 1) cannot be read"),
        format!("there is no setting \"workers\" (in {path}, line 2)"),
        format!("worker.poll_ms (in {path}, line 6) is 1; it must be 50 to 60000"),
        format!("providers.zendesk.base_url (in {path}, line 8) has another scheme"),
        "providers.zendesk.client_secret (by default) is missing; it must be set, since".to_owned(),
        format!("providers.pipedrive.timeout_seconds (in {path}, line 9) is 301"),
        "worker.turn_seconds (from the flag --set worker.turn_seconds) cannot be read".to_owned(),
        "--set \"nothing\" is no setting".to_owned(),
        "reflection (from the variable CONTACT_SYNC_REFLECTION) cannot be read".to_owned(),
        "server.calls_max (from the variable CONTACT_SYNC_SERVER__CALLS_MAX) is 0".to_owned(),
        "database_url (from the variable DATABASE_URL) is no Postgres URL".to_owned(),
    ] {
        assert_eq!(all.iter().filter(|text| text.starts_with(&expected)).count(), 1, "{expected}: {all:#?}");
    }
    assert_eq!(all.len(), 11, "{all:#?}");
    assert!(!all.concat().contains("hunter2"));
}

/// A file that cannot be read hides nothing that is wrong in the environment.
#[test]
fn unreadable_file_hides_no_environment_problem() {
    let missing = SettingFlags { config: Some("/nowhere/contact-sync.toml".into()), ..SettingFlags::default() };

    let all = problems(&missing, &[("CONTACT_SYNC_LISTEN", "x"), ("CONTACT_SYNC_WORKER__POLL_MS", "1")]);

    assert_eq!(all.len(), 3, "{all:#?}");
}

/// A possible value is not blamed for an impossible lease.
#[test]
fn possible_lease_is_not_blamed_for_impossible() {
    let all = problems(&set(&["worker.lease_seconds=0"]), &[]);

    assert_eq!(all.len(), 1, "{all:#?}");
}

/// Each setting has its source, and secrets are masked.
#[test]
fn settings_have_sources_and_secrets_are_masked() {
    let file = File::new("entries", "[worker]\nconcurrency = 4\n");
    let env = [("DATABASE_URL", "postgres://app:hunter2@db/c"), ("HOME", "/home/op")];
    let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flags = SettingFlags { listen: Some("127.0.0.1:7".into()), ..file.flags() };

    let settings = LoadedSettings::read(&flags, env).unwrap();

    let entry = |name: &str| settings.entries().find(|entry| entry.name == name).unwrap();
    assert_eq!(settings.entries().count(), setting::flatten(&settings.config).len());
    assert_eq!(entry("listen").origin, &SettingOrigin::Flag("--listen".into()));
    assert!(entry("listen").is_changed && !entry("listen").is_masked);
    assert_eq!(entry("worker.concurrency").origin, &SettingOrigin::File(file.0.clone(), 2));
    assert!(!entry("worker.concurrency").is_changed, "written, and as by default");
    assert_eq!(entry("database_url").value, "postgres://app:***@db/c");
    assert!(entry("database_url").is_masked && entry("database_url").is_changed);
    assert_eq!((entry("log.filter").origin, entry("log.filter").is_changed), (&SettingOrigin::Default, false));
}
