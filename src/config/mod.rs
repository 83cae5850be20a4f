//! Every setting of the service, its unit and its default. Values come from defaults, then a TOML
//! file, then the environment, then flags, later ones over earlier: `sources` reads them, `load`
//! joins them, `checks` looks at them. A setting that is unknown or out of range stops the start,
//! with its name, what would be right, and where it came from. Secrets are masked whenever a
//! setting is printed.

mod checks;
mod load;
mod providers;
mod secrets;
mod setting;
mod sources;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    rpc::{claims::TokenRules, limits::ServerLimits, server::DrainTimes},
    store::PlanMode,
    telemetry::LogFormat,
    tls::TlsFiles,
};

pub use self::{
    load::{LoadedSettings, SettingEntry},
    providers::{ProviderConfig, ProvidersConfig},
    secrets::{DatabaseUrl, SecretText},
    setting::{ConfigError, SettingOrigin},
    sources::SettingFlags,
};

/// All settings. Names in the file and in `--set` are the paths of these fields:
/// `worker.lease_seconds`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Where gRPC is served: address and port; port 0 takes any.
    pub listen: SocketAddr,
    /// TLS of gRPC.
    pub tls: TlsConfig,
    /// Serve gRPC reflection, to anybody who reaches the port. For development.
    pub reflection: bool,
    /// Where the service keeps its own files: the private Postgres cluster and the keys of local
    /// mode.
    pub data_dir: PathBuf,
    /// Postgres, as `postgres://user:password@host:port/database`; empty: a private cluster is
    /// started. Also read from `DATABASE_URL`.
    pub database_url: Option<DatabaseUrl>,
    /// The same database for the role that owns the tables; empty: `database_url`. Also read from
    /// `MIGRATE_DATABASE_URL`.
    pub migrate_database_url: Option<DatabaseUrl>,
    /// How the database is used.
    pub database: DatabaseConfig,
    /// Where initdb and postgres are; empty: they are looked for. Also read from `PG_BIN_DIR`.
    pub pg_bin_dir: Option<PathBuf>,
    /// Who may call.
    pub auth: AuthConfig,
    /// How credentials are sealed.
    pub vault: VaultConfig,
    /// When integrations are synced.
    pub sync: SyncConfig,
    /// How runs are worked on.
    pub worker: WorkerConfig,
    /// Connections to Postgres.
    pub pools: PoolsConfig,
    /// The CRMs.
    pub providers: ProvidersConfig,
    /// What is served over HTTP.
    pub http: HttpConfig,
    /// What operators and their machines ask.
    pub admin: AdminConfig,
    /// The gRPC server's limits.
    pub server: ServerConfig,
    /// What is kept of who did what.
    pub audit: AuditConfig,
    /// How the process stops.
    pub drain: DrainConfig,
    /// The log.
    pub log: LogConfig,
    /// Traces.
    pub traces: TracesConfig,
}

/// Who may call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuthConfig {
    /// JWKS with the issuer's public keys, at most 64 KiB; empty: local mode's own, in `data_dir`.
    pub jwks_file: Option<PathBuf>,
    /// Where the issuer publishes them, instead of a file: `https`, or `http` on this machine.
    pub jwks_url: Option<String>,
    /// Certificates in PEM of authorities that may have signed that place's own, beside those that
    /// the system knows; at most 1 MiB.
    pub jwks_ca_file: Option<PathBuf>,
    /// How often they are fetched: 30 to 3,600 seconds.
    pub jwks_refresh_seconds: u64,
    /// What a token's `iss` must be.
    pub issuer: String,
    /// What a token's `aud` must be or hold.
    pub audience: String,
    /// The claim that names accounts; a token without it opens none.
    pub accounts_claim: String,
    /// The claim that names scopes; empty: `scope`, or `scp` where there is none.
    pub scopes_claim: Option<String>,
}

/// How credentials are sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VaultConfig {
    /// The key ring; empty: local mode's own, in `data_dir`.
    pub key_ring_file: Option<PathBuf>,
}

/// When integrations are synced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SyncConfig {
    /// From the end of a run to the next, for integrations without a period of their own: 60 to
    /// 86,400 seconds.
    pub period_seconds: u64,
}

/// How runs are worked on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// A run whose worker was silent for so long is taken up by another: 1 to 600 seconds.
    pub lease_seconds: u64,
    /// How often a worker renews its lease: at most a third of it.
    pub heartbeat_seconds: u64,
    /// Runs at once in this process: 0 (none) to 64.
    pub concurrency: u32,
    /// How often due integrations are looked for: 50 to 60,000 milliseconds.
    pub poll_ms: u64,
    /// A run that has had its worker's place for so long gives it back between two pages, if
    /// another integration is due and finds none: 0 to 3,600 seconds.
    pub turn_seconds: u64,
    /// Tries of one request to a CRM before its run fails: 1 to 100.
    pub attempts_max: u32,
    /// Organisations whose stream of changes this process may hold: 0 (none) to 10,000.
    pub streams_max: u32,
    /// The wait after a first failure, doubled after each further one up to a minute: 1 to 60,000
    /// milliseconds.
    pub backoff_base_ms: u64,
}

/// How the database is used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatabaseConfig {
    /// `generic`: a statement is planned once; right for PostgreSQL. `custom`: each time; a
    /// distributed database needs it.
    pub plan_cache_mode: PlanMode,
}

/// Connections to Postgres, kept apart so that a slow sync takes none from a call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PoolsConfig {
    /// The call path.
    pub call: PoolConfig,
    /// Everything else that is asked over gRPC.
    pub api: PoolConfig,
    /// Workers.
    pub sync: PoolConfig,
}

/// One pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PoolConfig {
    /// Most connections: 1 to 256.
    pub connections: u32,
    /// How long one waits for a connection: 10 to 60,000 milliseconds.
    pub acquire_timeout_ms: u64,
}

impl PoolConfig {
    /// `acquire_timeout_ms` as a duration.
    pub fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }
}

/// What is served over HTTP: `/oauth/callback`, where CRMs send administrators back to, and
/// `/healthz`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HttpConfig {
    /// Where: address and port; empty: nowhere.
    #[serde(deserialize_with = "address_or_nothing")]
    pub listen: Option<SocketAddr>,
    /// TLS of it; without, something in front of it must speak TLS.
    pub tls: TlsConfig,
    /// Where browsers find it: `https://sync.example.com`, without a path; `http` for this machine
    /// only. Without it no administrator can authorize access.
    pub public_url: Option<String>,
}

/// TLS of one listener; without a certificate it speaks plain TCP. The files are read again every
/// ten seconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TlsConfig {
    /// PEM: the server's certificate, then those between it and its CA.
    pub certificate_file: Option<PathBuf>,
    /// PEM: the certificate's private key.
    pub key_file: Option<PathBuf>,
    /// PEM: CAs; clients must show a certificate of one of them. Empty: they show none.
    pub client_ca_file: Option<PathBuf>,
}

impl TlsConfig {
    /// The files, if TLS is spoken.
    pub fn files(&self) -> Option<TlsFiles> {
        let (certificate, key) = self.certificate_file.clone().zip(self.key_file.clone())?;
        Some(TlsFiles { certificate, key, client_ca: self.client_ca_file.clone() })
    }
}

/// What operators and their machines ask: `/metrics`, `/livez` and `/readyz`, in plain HTTP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AdminConfig {
    /// Where: address and port; empty: nowhere. Whoever reaches it reads figures, and nothing else.
    #[serde(deserialize_with = "address_or_nothing")]
    pub listen: Option<SocketAddr>,
}

/// An empty text is no address, so that what listens by default can be told not to.
fn address_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
}

/// The gRPC server's limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerConfig {
    /// Calls that are worked on at once, and as many more whose message is still arriving: 1 to
    /// 100,000. Those that need the call path's connections to the database are 24 for each of them
    /// at most. One account, or one token of listed accounts, has at most twice what is still free.
    pub calls_max: usize,
    /// Connections at once, if the system allows so many descriptors: 16 to 100,000. Further ones
    /// wait to be accepted.
    pub connections_max: usize,
    /// A connection without calls is closed after this: 10 to 86,400 seconds; one that has never
    /// shown a token, after a minute at most.
    pub idle_max_seconds: u64,
    /// HTTP/2 frames that a connection may send each second besides those of its calls, and ten
    /// times as many at once: 100 to 1,000,000. One that sends more is closed.
    pub frames_per_second: u32,
    /// Open streams of one connection: 1 to 10,000.
    pub streams_per_connection_max: u32,
    /// Largest request message: 1,024 to 1,048,576 bytes.
    pub request_bytes_max: usize,
    /// Largest answer message: 65,536 to 16,777,216 bytes.
    pub response_bytes_max: usize,
    /// Largest sum of a request's headers: 4,096 to 65,536 bytes.
    pub header_bytes_max: u32,
    /// A silent connection is pinged after this: 5 to 3,600 seconds.
    pub keepalive_seconds: u64,
    /// A ping without an answer closes the connection after this: 1 to 600 seconds.
    pub keepalive_timeout_seconds: u64,
    /// A connection is told to go after this: 10 to 86,400 seconds.
    pub connection_age_max_seconds: u64,
}

impl From<&AuthConfig> for TokenRules {
    fn from(auth: &AuthConfig) -> Self {
        Self {
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            accounts_claim: auth.accounts_claim.clone(),
            scopes_claim: auth.scopes_claim.clone(),
        }
    }
}

impl From<&ServerConfig> for ServerLimits {
    fn from(server: &ServerConfig) -> Self {
        let limits = Self::default();
        Self {
            calls_max: server.calls_max,
            streams_per_connection_max: server.streams_per_connection_max,
            request_bytes_max: server.request_bytes_max,
            response_bytes_max: server.response_bytes_max,
            header_bytes_max: server.header_bytes_max,
            keepalive_interval: Duration::from_secs(server.keepalive_seconds),
            keepalive_timeout: Duration::from_secs(server.keepalive_timeout_seconds),
            connection_age_max: Duration::from_secs(server.connection_age_max_seconds),
            connections_max: server.connections_max,
            idle_max: Duration::from_secs(server.idle_max_seconds),
            stranger_idle_max: limits.stranger_idle_max.min(Duration::from_secs(server.idle_max_seconds)),
            frames_per_second: server.frames_per_second,
            ..limits
        }
    }
}

/// What is kept of who did what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditConfig {
    /// How long an audit event is kept: 1 to 3,650 days.
    pub keep_days: u32,
}

/// How the process stops.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainConfig {
    /// From `NOT_SERVING` to the end of accepting, for load balancers to notice: 0 to 300 seconds.
    pub wait_seconds: u64,
    /// What open calls and running pages may still take then: 0 to 600 seconds.
    pub timeout_seconds: u64,
}

impl From<&DrainConfig> for DrainTimes {
    fn from(drain: &DrainConfig) -> Self {
        Self { wait: Duration::from_secs(drain.wait_seconds), timeout: Duration::from_secs(drain.timeout_seconds) }
    }
}

/// The log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// What is logged, as tracing's directives: `info,contact_sync=debug`.
    pub filter: String,
}

/// Where spans are sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TracesConfig {
    /// A collector's, for OTLP over gRPC: `http://127.0.0.1:4317`; empty: nothing is traced.
    pub otlp_endpoint: Option<String>,
    /// Of a thousand calls that come without a `traceparent`, so many are traced: 0 to 1,000.
    pub sampled_per_mille: u32,
}

impl Config {
    /// The defaults, with this data directory (which has no default that fits every user).
    pub fn with_defaults(data_dir: PathBuf) -> Self {
        let limits = ServerLimits::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            tls: TlsConfig::default(),
            reflection: false,
            data_dir,
            database_url: None,
            migrate_database_url: None,
            database: DatabaseConfig { plan_cache_mode: PlanMode::Generic },
            pg_bin_dir: None,
            auth: AuthConfig {
                jwks_file: None,
                jwks_url: None,
                jwks_ca_file: None,
                jwks_refresh_seconds: 300,
                issuer: "contact-sync".to_owned(),
                audience: "contact-sync".to_owned(),
                accounts_claim: "accounts".to_owned(),
                scopes_claim: None,
            },
            vault: VaultConfig { key_ring_file: None },
            sync: SyncConfig { period_seconds: 1800 },
            worker: WorkerConfig {
                lease_seconds: 30,
                heartbeat_seconds: 10,
                concurrency: 4,
                poll_ms: 1000,
                turn_seconds: 10,
                attempts_max: 6,
                backoff_base_ms: 1_000,
                streams_max: 256,
            },
            pools: PoolsConfig {
                call: PoolConfig { connections: 8, acquire_timeout_ms: 200 },
                api: PoolConfig { connections: 4, acquire_timeout_ms: 2_000 },
                sync: PoolConfig { connections: 6, acquire_timeout_ms: 10_000 },
            },
            providers: ProvidersConfig::default(),
            http: HttpConfig { listen: None, tls: TlsConfig::default(), public_url: None },
            admin: AdminConfig { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9464))) },
            server: ServerConfig {
                calls_max: limits.calls_max,
                connections_max: limits.connections_max,
                idle_max_seconds: limits.idle_max.as_secs(),
                frames_per_second: limits.frames_per_second,
                streams_per_connection_max: limits.streams_per_connection_max,
                request_bytes_max: limits.request_bytes_max,
                response_bytes_max: limits.response_bytes_max,
                header_bytes_max: limits.header_bytes_max,
                keepalive_seconds: limits.keepalive_interval.as_secs(),
                keepalive_timeout_seconds: limits.keepalive_timeout.as_secs(),
                connection_age_max_seconds: limits.connection_age_max.as_secs(),
            },
            audit: AuditConfig { keep_days: 365 },
            drain: DrainConfig { wait_seconds: 5, timeout_seconds: 10 },
            log: LogConfig { format: LogFormat::Text, filter: "info".to_owned() },
            traces: TracesConfig { otlp_endpoint: None, sampled_per_mille: 10 },
        }
    }

    /// Where local mode keeps the keys that callers' tokens are signed with and verified by.
    pub fn local_auth_dir(&self) -> PathBuf {
        self.data_dir.join("auth")
    }
}

#[cfg(test)]
mod tests;
