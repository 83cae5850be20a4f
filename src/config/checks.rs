//! What types do not say: ranges, and settings that go together.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::{
    Config, TlsConfig,
    setting::{ConfigError, SettingOrigin, flatten},
};
use crate::{crm, domain::provider::Provider, key_source::check_url, telemetry};

/// Never shown, not even in an error about themselves.
pub(super) fn is_secret(name: &str) -> bool {
    matches!(name, "database_url" | "migrate_database_url") || of_provider(name) == Some("client_secret")
}

/// A setting that every CRM has, without the CRM's name.
fn of_provider(name: &str) -> Option<&str> {
    let (section, setting) = name.strip_prefix("providers.")?.split_once('.')?;
    Provider::ALL.iter().any(|provider| provider.setting_name() == section).then_some(setting)
}

/// What each number of a CRM must be, in every CRM's section.
const PROVIDER_RANGES: [(&str, u64, u64); 4] = [
    ("timeout_seconds", 1, 300),
    ("quota_share_percent", 1, 100),
    ("first_copy_share_percent", 1, 100),
    ("sweep_hours", 1, 8_760),
];

/// What each other number must be; both ends are allowed.
pub(super) const RANGES: [(&str, u64, u64); 32] = [
    ("auth.jwks_refresh_seconds", 30, 3_600),
    ("sync.period_seconds", 60, 86_400),
    ("worker.lease_seconds", 1, 600),
    ("worker.heartbeat_seconds", 1, 200),
    ("worker.concurrency", 0, 64),
    ("worker.poll_ms", 50, 60_000),
    ("worker.turn_seconds", 0, 3_600),
    ("worker.attempts_max", 1, 100),
    ("worker.backoff_base_ms", 1, 60_000),
    ("worker.streams_max", 0, 10_000),
    ("providers.salesforce_bulk_above", 0, 1_000_000_000),
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
    ("audit.keep_days", 1, 3_650),
    ("drain.wait_seconds", 0, 300),
    ("drain.timeout_seconds", 0, 600),
    ("traces.sampled_per_mille", 0, 1_000),
];

/// How many bytes a text must have.
const LENGTHS: [(&str, u64, u64); 4] = [
    ("auth.issuer", 1, 256),
    ("auth.audience", 1, 256),
    ("auth.accounts_claim", 1, 256),
    ("auth.scopes_claim", 1, 256),
];

/// What every number must be, and how long some texts.
pub(super) fn ranges() -> impl Iterator<Item = (String, u64, u64)> {
    number_ranges().chain(LENGTHS.iter().map(|(name, min, max)| ((*name).to_owned(), *min, *max)))
}

fn number_ranges() -> impl Iterator<Item = (String, u64, u64)> {
    let of_providers = Provider::ALL.iter().flat_map(|provider| {
        PROVIDER_RANGES.map(|(name, min, max)| (format!("providers.{}.{name}", provider.setting_name()), min, max))
    });
    RANGES.iter().map(|(name, min, max)| ((*name).to_owned(), *min, *max)).chain(of_providers)
}

/// Of a number.
pub(super) fn range_of(name: &str) -> Option<(u64, u64)> {
    number_ranges().find(|range| range.0 == name).map(|(_, min, max)| (min, max))
}

/// Everything that is wrong with these settings, whose types are right. `origins` has those that
/// were written.
pub(super) fn check(
    config: &Config,
    origins: &BTreeMap<String, SettingOrigin>,
    has_default_dir: bool,
) -> Vec<ConfigError> {
    let mut checks = Checks { origins, problems: Vec::new() };
    checks.ranges(config);
    if config.data_dir.as_os_str().is_empty() {
        let problem = if has_default_dir { "is empty" } else { "has no default, because HOME is not set" };
        checks.wrong("data_dir", problem, "a directory");
    }
    checks.databases(config);
    checks.claims(config);
    checks.tls("tls", &config.tls);
    checks.tls("http.tls", &config.http.tls);
    checks.key_set(config);
    if let Some(url) = &config.http.public_url
        && let Err(problem) = check_public_url(url)
    {
        checks.wrong("http.public_url", problem, "like https://sync.example.com");
    }
    if let Some(url) = &config.traces.otlp_endpoint
        && let Err(problem) = check_base_url(url)
    {
        checks.wrong("traces.otlp_endpoint", problem, "like http://127.0.0.1:4317");
    }
    checks.providers(config);
    checks.streams(config);
    if telemetry::read_filter(&config.log.filter).is_err() {
        checks.wrong("log.filter", "cannot be read", "like info or info,contact_sync=debug");
    }
    checks.problems
}

struct Checks<'a> {
    origins: &'a BTreeMap<String, SettingOrigin>,
    problems: Vec<ConfigError>,
}

impl Checks<'_> {
    fn ranges(&mut self, config: &Config) {
        let flat = flatten(config);
        let before = self.problems.len();
        for (name, min, max) in ranges() {
            let value = flat.get(&name);
            let (size, unit) = match value.and_then(Value::as_str) {
                Some(text) => (Some(text.len() as u64), " bytes long"),
                None => (value.and_then(Value::as_u64), ""),
            };
            if let Some(size) = size.filter(|size| !(min..=max).contains(size)) {
                self.wrong(&name, format!("is {size}{unit}"), format!("{min} to {max}{unit}"));
            }
        }
        let (lease, heartbeat) = (config.worker.lease_seconds, config.worker.heartbeat_seconds);
        // Which of the two is meant is not known while one of them is impossible.
        if heartbeat.saturating_mul(3) > lease && self.problems.len() == before {
            let expected = format!("at most a third of worker.lease_seconds ({lease}), so that two may be lost");
            self.wrong("worker.heartbeat_seconds", format!("is {heartbeat}"), expected);
        }
    }

    /// Local tokens have their claims by their usual names.
    fn claims(&mut self, config: &Config) {
        if config.auth.jwks_file.is_some() || config.auth.jwks_url.is_some() {
            return;
        }
        let (accounts, scopes) = (&*config.auth.accounts_claim, config.auth.scopes_claim.as_deref());
        for (name, is_usual) in [
            ("auth.accounts_claim", accounts == "accounts"),
            ("auth.scopes_claim", scopes.is_none_or(|scopes| scopes == "scope")),
        ] {
            if !is_usual {
                let expected = "nothing, or auth.jwks_file or auth.jwks_url name the keys of an identity provider";
                self.wrong(name, "is for tokens of others, and there are only local ones", expected);
            }
        }
    }

    /// A certificate is nothing without its key, nor a client's CA without both.
    fn tls(&mut self, section: &str, tls: &TlsConfig) {
        let (certificate, key) = (format!("{section}.certificate_file"), format!("{section}.key_file"));
        match (&tls.certificate_file, &tls.key_file) {
            (Some(_), None) => self.wrong(&key, "is missing", format!("set, since {certificate} is")),
            (None, Some(_)) => self.wrong(&certificate, "is missing", format!("set, since {key} is")),
            (None, None) if tls.client_ca_file.is_some() => {
                let expected = format!("left out, or {certificate} and {key} set too");
                self.wrong(&format!("{section}.client_ca_file"), "is set alone", expected);
            }
            _ => {}
        }
    }

    /// The issuer's keys come from one place.
    fn key_set(&mut self, config: &Config) {
        let auth = &config.auth;
        if let Some(url) = &auth.jwks_url
            && let Err(problem) = check_url(url)
        {
            self.wrong("auth.jwks_url", problem, "like https://login.example.com/keys; http for this machine only");
        }
        if auth.jwks_url.is_some() && auth.jwks_file.is_some() {
            self.wrong("auth.jwks_url", "is set beside auth.jwks_file", "set alone: the keys come from one place");
        }
        if auth.jwks_ca_file.is_some() && auth.jwks_url.is_none() {
            self.wrong("auth.jwks_ca_file", "is set without auth.jwks_url", "left out, or auth.jwks_url set too");
        }
    }

    fn databases(&mut self, config: &Config) {
        for (name, url) in
            [("database_url", &config.database_url), ("migrate_database_url", &config.migrate_database_url)]
        {
            let is_postgres = |url: &str| url.starts_with("postgres://") || url.starts_with("postgresql://");
            if url.as_ref().is_some_and(|url| !is_postgres(url.expose())) {
                self.wrong(name, "is no Postgres URL", "like postgres://user:password@host:5432/database");
            }
        }
    }

    fn providers(&mut self, config: &Config) {
        for (of, provider) in config.providers.each.iter() {
            let name = of.setting_name();
            if let Some(url) = &provider.base_url
                && let Err(problem) = check_base_url(url)
            {
                let expected = "like https://proxy.example.com or http://127.0.0.1:8080, optionally with {subdomain}";
                self.wrong(&format!("providers.{name}.base_url"), problem, expected);
            }
            let (id, secret) = (format!("providers.{name}.client_id"), format!("providers.{name}.client_secret"));
            match (&provider.client_id, &provider.client_secret) {
                (Some(_), None) => self.wrong(&secret, "is missing", format!("set, since {id} is")),
                (None, Some(_)) => self.wrong(&id, "is missing", format!("set, since {secret} is")),
                _ => {}
            }
        }
    }

    /// Tokens of whatever an operator has put in a CRM's place are for it alone, and the CRM's for
    /// the CRM's.
    fn streams(&mut self, config: &Config) {
        const URL: &str = "providers.salesforce_streams_url";
        const CA: &str = "providers.salesforce_streams_ca_file";
        let providers = &config.providers;
        let url = providers.salesforce_streams_url.as_deref();
        if let Some(url) = url {
            let is_elsewhere = providers.each[Provider::Salesforce].base_url.is_some();
            if check_base_url(url).is_err() || !url.starts_with("https://") || url.contains(['{', '}']) {
                self.wrong(URL, "is no https URL of a host alone", "like https://api.deu.pubsub.salesforce.com");
            } else if crm::is_vendors_stream(url) && is_elsewhere {
                let expected = "left out, or lead where providers.salesforce.base_url leads";
                self.wrong(URL, "is Salesforce's own, and providers.salesforce.base_url is not", expected);
            }
        }
        if providers.salesforce_streams_ca_file.is_some() && url.is_none_or(crm::is_vendors_stream) {
            let expected = format!("left out, or {URL} set to a place that is not Salesforce's");
            self.wrong(CA, "is for a place of the operator's", expected);
        }
    }

    fn wrong(&mut self, name: &str, problem: impl fmt::Display, expected: impl fmt::Display) {
        let origin = self.origins.get(name).unwrap_or(&SettingOrigin::Default);
        self.problems.push(ConfigError::wrong(name, origin, problem, expected));
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

/// A scheme, a host and perhaps a port, nothing else: paths are the client's, credentials the
/// tenant's.
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
