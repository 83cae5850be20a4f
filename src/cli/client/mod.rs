//! What the gRPC clients of the command line share: where the server is, with which token, how long
//! to wait, how to answer. Every call carries its method's own time limit from the table in
//! `rpc::methods`, so that none waits for ever. Must not know what a command does, nor read the
//! environment.

pub(super) mod advice;
pub(super) mod failure;
pub(super) mod json;
pub(super) mod show;
pub(super) mod watch;

use std::{
    fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tonic::{
    GrpcMethod, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use self::failure::CommandFailure;
use super::token::{self, TokenArgs};
use crate::{
    config::Config,
    domain::{clock::Clock, ids::AccountId, provider::PerProvider},
    rpc::{
        methods::{TokenScope, find_method},
        pb::{
            account_service_client::AccountServiceClient, caller_service_client::CallerServiceClient,
            contact_service_client::ContactServiceClient, sync_service_client::SyncServiceClient,
        },
    },
};

/// Variables that only the clients know; everything else that begins with `CONTACT_SYNC_` is a
/// setting.
pub(super) const VARIABLES: [&str; 4] = [SERVER_VARIABLE, TOKEN_VARIABLE, ACCOUNT_VARIABLE, CA_VARIABLE];
/// Where the server is.
pub(super) const SERVER_VARIABLE: &str = "CONTACT_SYNC_SERVER";
/// The token to call with.
pub(super) const TOKEN_VARIABLE: &str = "CONTACT_SYNC_TOKEN";
/// Whose certificates are trusted beside the public ones.
const CA_VARIABLE: &str = "CONTACT_SYNC_CA_FILE";
/// The account that is meant.
pub(super) const ACCOUNT_VARIABLE: &str = "CONTACT_SYNC_ACCOUNT";

/// A server that is up accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A method that the table does not know, which is a server's newer than this client.
const UNKNOWN_METHOD: Duration = Duration::from_secs(10);
/// Life of a token that a command issues for itself: the longest call is a watch of one hour.
const OWN_TOKEN_VALID_FOR: TimeDelta = TimeDelta::hours(1);
/// Largest file with a secret, in bytes.
const SECRET_FILE_BYTES_MAX: u64 = 16 * 1024;

/// Under which the help lists what all clients have in common.
const HEADING: &str = "Asking the server";

/// How to reach the server, and how to print its answer.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ClientOptions {
    /// Where the server is [default: where this machine's own listens]
    #[arg(long, value_name = "URL", env = SERVER_VARIABLE, hide_env_values = true, global = true, help_heading = HEADING)]
    pub(super) server: Option<String>,
    /// File with the token to call with; without it `CONTACT_SYNC_TOKEN` is used, and else the
    /// signing key in the data directory
    #[arg(long, value_name = "FILE", global = true, help_heading = HEADING)]
    pub(super) token_file: Option<PathBuf>,
    /// PEM with the CA of an https:// server's certificate, beside the public ones
    #[arg(long, value_name = "FILE", env = CA_VARIABLE, hide_env_values = true, global = true, help_heading = HEADING)]
    pub(super) ca_file: Option<PathBuf>,
    /// PEM with this client's certificate, for a server that asks for one
    #[arg(long, value_name = "FILE", requires = "client_key_file", global = true, help_heading = HEADING)]
    pub(super) client_certificate_file: Option<PathBuf>,
    /// PEM with the key of this client's certificate
    #[arg(long, value_name = "FILE", requires = "client_certificate_file", global = true, help_heading = HEADING)]
    pub(super) client_key_file: Option<PathBuf>,
    /// Print answers and errors as proto3 JSON, one object a line
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) json: bool,
}

/// The account that is meant.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AccountOption {
    /// Account, as `account list` shows it
    #[arg(id = "account", long = "account", value_name = "ID", env = ACCOUNT_VARIABLE)]
    pub(super) id: AccountId,
}

/// Secrets that come from the environment, and from nowhere on the command line, where others could
/// read them.
#[derive(Default)]
pub(super) struct ClientSecrets {
    /// `CONTACT_SYNC_TOKEN`.
    pub(super) token: Option<SecretString>,
    /// Of each CRM, from variables that begin with its name.
    pub(super) crms: PerProvider<CrmSecrets>,
}

/// What opens one CRM; each variable begins with the CRM's name. The last two are read only where
/// an assertion may be signed.
#[derive(Default)]
pub(super) struct CrmSecrets {
    /// `..._API_TOKEN`.
    pub(super) api_token: Option<SecretString>,
    /// `..._BEARER_TOKEN`.
    pub(super) bearer_token: Option<SecretString>,
    /// `..._REFRESH_TOKEN`.
    pub(super) refresh_token: Option<SecretString>,
    /// `..._CLIENT_ID`, which is no secret, and belongs to the next one.
    pub(super) client_id: Option<SecretString>,
    /// `..._CLIENT_SECRET`.
    pub(super) client_secret: Option<SecretString>,
    /// `..._JWT_KEY_FILE`.
    pub(super) jwt_key_file: Option<PathBuf>,
    /// `..._USERNAME`.
    pub(super) username: Option<String>,
}

impl CrmSecrets {
    /// The names of the variables that are set.
    pub(super) fn names(&self, crm: &str) -> Vec<String> {
        let set = [
            ("API_TOKEN", self.api_token.is_some()),
            ("BEARER_TOKEN", self.bearer_token.is_some()),
            ("REFRESH_TOKEN", self.refresh_token.is_some()),
            ("CLIENT_ID", self.client_id.is_some()),
            ("CLIENT_SECRET", self.client_secret.is_some()),
            ("JWT_KEY_FILE", self.jwt_key_file.is_some()),
            ("USERNAME", self.username.is_some()),
        ];
        set.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| format!("{crm}_{name}")).collect()
    }
}

/// What a client command takes from the machine it runs on.
pub(super) struct LocalContext {
    /// Tells where a server of this machine listens and keeps its keys.
    pub(super) config: Config,
    /// Dates a token that is issued here.
    pub(super) clock: Arc<dyn Clock>,
    /// From the environment.
    pub(super) secrets: ClientSecrets,
}

/// A connection to the server.
pub(super) struct ServiceClient {
    channel: Channel,
    guard: TokenInterceptor,
    is_json: bool,
    /// Where the token came from.
    token_from: &'static str,
}

/// What the generated clients are built on.
pub(super) type GuardedChannel = InterceptedService<Channel, TokenInterceptor>;

/// Puts the token and the time limit on every call.
#[derive(Clone)]
pub(super) struct TokenInterceptor(MetadataValue<Ascii>);

impl Interceptor for TokenInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let limit = request.extensions().get::<GrpcMethod<'_>>().map_or(UNKNOWN_METHOD, time_max);
        request.set_timeout(limit);
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// How long the server works on one call of this method: nobody needs to wait longer.
fn time_max(method: &GrpcMethod<'_>) -> Duration {
    let path = format!("/{}/{}", method.service(), method.method());
    find_method(&path, false).and_then(|method| method.time_max).unwrap_or(UNKNOWN_METHOD)
}

impl ServiceClient {
    /// Connects. Errors say what to do: start a server, or say where it is and what token it takes.
    pub(super) async fn connect(options: &ClientOptions, here: &LocalContext) -> anyhow::Result<Self> {
        let address = address(options.server.as_deref(), &here.config)?;
        let (token, token_from) = token_of(options, here)?;
        let tls = if address.starts_with("https://") { Some(tls_of(options)?) } else { None };
        Ok(Self { token_from, ..Self::connect_to(&address, tls, &token, options.json).await? })
    }

    /// Where the token came from, by its flag or variable.
    pub(super) const fn token_from(&self) -> &'static str {
        self.token_from
    }

    /// Connects to this server with this token.
    pub(super) async fn connect_to(
        address: &str,
        tls: Option<ClientTlsConfig>,
        token: &SecretString,
        is_json: bool,
    ) -> anyhow::Result<Self> {
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", token.expose_secret())
            .parse()
            .context("the token holds characters that no token has; it is one line of ASCII")?;
        bearer.set_sensitive(true);
        let mut endpoint = Endpoint::from_shared(address.to_owned())
            .with_context(|| format!("--server {address:?} is no address; it should be like http://127.0.0.1:50051"))?
            .connect_timeout(CONNECT_TIMEOUT);
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls).context("--ca-file, --client-certificate-file or --client-key-file")?;
        }
        let channel = endpoint.connect().await.map_err(|error| {
            let cause = io_cause(&error).unwrap_or_else(|| error.to_string());
            let stopped = CommandFailure {
                next: after_no_connection(&cause),
                what: format!("no server answers at {address} ({cause})"),
            };
            anyhow::Error::new(error).context(stopped)
        })?;
        Ok(Self { channel, guard: TokenInterceptor(bearer), is_json, token_from: "" })
    }

    fn caller(&self) -> GuardedChannel {
        InterceptedService::new(self.channel.clone(), self.guard.clone())
    }

    /// `AccountService`.
    pub(super) fn accounts(&self) -> AccountServiceClient<GuardedChannel> {
        AccountServiceClient::new(self.caller())
    }

    /// `CallerService`.
    pub(super) fn callers(&self) -> CallerServiceClient<GuardedChannel> {
        CallerServiceClient::new(self.caller())
    }

    /// `ContactService`.
    pub(super) fn contacts(&self) -> ContactServiceClient<GuardedChannel> {
        ContactServiceClient::new(self.caller())
    }

    /// `SyncService`.
    pub(super) fn syncs(&self) -> SyncServiceClient<GuardedChannel> {
        SyncServiceClient::new(self.caller())
    }

    /// The answer is wanted as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Prints the answer, for a program (see [`json`]) or for a person. A reader that has gone away
    /// is no error.
    pub(super) fn print(&self, json: &impl Serialize, text: impl std::fmt::Display) -> anyhow::Result<()> {
        let line = if self.is_json { json::line(json)? } else { text.to_string().trim_end().to_owned() };
        match writeln!(io::stdout().lock(), "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }
}

/// The server's URL. Without one: where this machine's settings say that it listens.
fn address(given: Option<&str>, config: &Config) -> anyhow::Result<String> {
    let listen = config.listen;
    let Some(given) = given.map(str::trim).filter(|given| !given.is_empty()) else {
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        if listen.port() == 0 {
            bail!("the settings say that the server takes any port; say which it took with --server URL");
        }
        if config.tls.files().is_some() {
            // Certificates name hosts, rarely addresses.
            let host = if ip.is_loopback() { "localhost".to_owned() } else { ip.to_string() };
            return Ok(format!("https://{host}:{}", listen.port()));
        }
        return Ok(format!("http://{}", SocketAddr::new(ip, listen.port())));
    };
    match given.split_once("://") {
        None => Ok(format!("http://{given}")),
        Some(("http" | "https", _)) => Ok(given.to_owned()),
        Some((scheme, _)) => bail!("--server begins with {scheme}://; give http://HOST:PORT or https://HOST:PORT"),
    }
}

/// Whom an https:// server is believed, and what it is shown.
fn tls_of(options: &ClientOptions) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut tls = ClientTlsConfig::new().with_enabled_roots();
    if let Some(path) = &options.ca_file {
        tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
    }
    if let Some((certificate, key)) = options.client_certificate_file.as_ref().zip(options.client_key_file.as_ref()) {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

/// What helps, by the words of rustls where its handshake failed.
fn after_no_connection(cause: &str) -> String {
    if cause.contains("UnknownIssuer") {
        return "have its certificate's authority trusted: --ca-file FILE or CONTACT_SYNC_CA_FILE".to_owned();
    }
    if cause.contains("NotValidForName") {
        return "call it by a name that its certificate has: --server https://NAME:PORT".to_owned();
    }
    if cause.contains("InvalidContentType") {
        return "it speaks no TLS there: --server http://HOST:PORT".to_owned();
    }
    format!(
        "start one with `contact-sync serve`, or try everything with `contact-sync demo`; if it runs elsewhere, say where \
         with --server URL or {SERVER_VARIABLE}, https:// if it speaks TLS"
    )
}

/// What went wrong below the transport, such as "Connection refused".
fn io_cause(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.to_string());
        }
        cause = error.source();
    }
    None
}

fn token_of(options: &ClientOptions, here: &LocalContext) -> anyhow::Result<(SecretString, &'static str)> {
    if let Some(path) = &options.token_file {
        return Ok((read_secret(path).context("--token-file")?, "of --token-file"));
    }
    if let Some(token) = &here.secrets.token {
        return Ok((token.clone(), "of CONTACT_SYNC_TOKEN (environment)"));
    }
    let own = own_token(here).map(|token| (token.into(), "signed with the key in the data directory"));
    own.map_err(|error| {
        let what = format!(
            "no token to call with: neither --token-file nor {TOKEN_VARIABLE} is given, and none could be issued here: \
             {error:#}"
        );
        let next = format!(
            "on the server's machine, as its user, start it with `contact-sync serve`, and name its data directory with \
             --data-dir if it is not {}; elsewhere, give a token of the server's issuer",
            here.config.data_dir.display()
        );
        CommandFailure { what, next }.into()
    })
}

/// A short-lived token for everything that the commands do, signed with the local key.
pub(super) fn own_token(here: &LocalContext) -> anyhow::Result<String> {
    let args = TokenArgs {
        accounts: Vec::new(),
        all_accounts: true,
        scopes: TokenScope::ALL.to_vec(),
        subject: "command-line".to_owned(),
        valid_for: OWN_TOKEN_VALID_FOR,
    };
    token::run(&args, &here.config, Arc::clone(&here.clock))
}

/// The secret in a file: its only line. `-` is standard input.
pub(super) fn read_secret(path: &Path) -> anyhow::Result<SecretString> {
    let text = read_bounded(path)?;
    // Editors of some systems begin a file with a mark that says how it is encoded.
    let secret = text.trim_start_matches('\u{feff}').trim();
    if secret.is_empty() && path == Path::new("-") {
        bail!("standard input is empty, or another flag has read it: only one may be -");
    }
    if secret.is_empty() || secret.contains(char::is_whitespace) {
        bail!("{} should hold one secret on one line, and nothing else", path.display());
    }
    Ok(secret.into())
}

/// The private key in a file: its block in PEM form, of many lines (RFC 7468), whatever stands
/// around it. `-` is standard input.
pub(super) fn read_private_key(path: &Path) -> anyhow::Result<SecretString> {
    let text = read_bounded(path)?;
    let label = |at: usize| text[at..].lines().next().unwrap_or_default().trim_end();
    let mut blocks = text.match_indices("-----BEGIN ").map(|(at, _)| at);
    let Some(start) = blocks.find(|&at| label(at).ends_with(" PRIVATE KEY-----")) else {
        let held = match text.find("-----BEGIN ").map(label) {
            Some(first) if first.contains("CERTIFICATE") => {
                "holds a certificate, which is for the CRM; give the private key that it was made with"
            }
            Some(first) if first.contains("PUBLIC KEY") => {
                "holds a public key; give the private key that belongs to it"
            }
            _ if text.trim().is_empty() => "is empty",
            _ => "holds no private key",
        };
        bail!(
            "{} {held}: an RSA key in PEM form, beginning with -----BEGIN PRIVATE KEY----- or -----BEGIN RSA PRIVATE KEY-----",
            if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
        )
    };
    if label(start).contains("ENCRYPTED") {
        bail!(
            "{} holds a key that is locked by a passphrase; `openssl pkey -in FILE -out UNLOCKED` writes it without",
            path.display()
        );
    }
    if label(start).contains("OPENSSH") {
        bail!("{} holds a key of OpenSSH; `ssh-keygen -p -m PEM -f COPY` writes a copy in PEM form", path.display());
    }
    if label(start).contains("BEGIN EC ") {
        bail!("{} holds a key of an elliptic curve; an RSA key is needed", path.display());
    }
    let end = label(start).replace("BEGIN", "END");
    let length = text[start..].find(&end).map_or(text.len() - start, |at| at + end.len());
    Ok(text[start..start + length].trim_end().into())
}

fn read_bounded(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text))
    };
    let bytes = match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            bail!("{} is no plain text (UTF-8); was it written as UTF-16, or is it a key in DER form?", path.display())
        }
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    if bytes as u64 > SECRET_FILE_BYTES_MAX {
        bail!(
            "{} has more than {SECRET_FILE_BYTES_MAX} bytes; it should hold one secret and nothing else",
            path.display()
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Config {
        Config { listen: text.parse().unwrap(), ..Config::with_defaults("/nonexistent".into()) }
    }

    #[test]
    fn without_a_server_this_machines_own_is_meant() {
        let of = |text| address(None, &listen(text)).unwrap();

        assert_eq!(of("127.0.0.1:50051"), "http://127.0.0.1:50051");
        assert_eq!(of("0.0.0.0:7000"), "http://127.0.0.1:7000");
        assert_eq!(of("[::]:7000"), "http://[::1]:7000");
        assert!(address(None, &listen("127.0.0.1:0")).is_err());
        let mut secure = listen("0.0.0.0:7000");
        secure.tls.certificate_file = Some("cert.pem".into());
        secure.tls.key_file = Some("key.pem".into());
        assert_eq!(address(None, &secure).unwrap(), "https://localhost:7000");
    }

    /// A server is a URL, or a host and a port.
    #[test]
    fn server_is_url_or_host_and_port() {
        let of = |text| address(Some(text), &listen("127.0.0.1:1"));

        assert_eq!(of("http://sync.internal:50051").unwrap(), "http://sync.internal:50051");
        assert_eq!(of(" sync.internal:50051 ").unwrap(), "http://sync.internal:50051");
        assert_eq!(of("").unwrap(), "http://127.0.0.1:1");
        assert_eq!(of("https://sync.internal").unwrap(), "https://sync.internal");
        assert!(of("grpc://sync.internal").unwrap_err().to_string().contains("grpc://"));
    }

    /// Every method has the time limit of the table.
    #[test]
    fn methods_have_time_limits_of_table() {
        let limit = |service, method| time_max(&GrpcMethod::new(service, method));

        assert_eq!(limit("contactsync.v1.CallerService", "MatchCaller"), Duration::from_secs(2));
        assert_eq!(limit("contactsync.v1.SyncService", "EnableSync"), Duration::from_secs(30));
        assert_eq!(limit("contactsync.v1.SyncService", "NewerThanThis"), UNKNOWN_METHOD);
    }

    /// A secret is one line, and its error never shows it.
    #[test]
    fn secret_is_one_line_never_shown_in_error() {
        let path = std::env::temp_dir().join(format!("contact-sync-secret-{}", std::process::id()));
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_secret(&path)
        };

        assert_eq!(read("s3cret\n").unwrap().expose_secret(), "s3cret");
        for wrong in ["", "\n", "two s3cret", "s3cret\nmore", &"s3cret".repeat(3_000)] {
            let error = read(wrong).unwrap_err();
            assert!(!format!("{error:#}").contains("s3cret"), "{error:#}");
        }
        fs::remove_file(&path).unwrap();
        assert!(read_secret(&path).is_err());
    }

    /// A private key is a block of lines, and its error never shows it.
    #[test]
    fn private_key_is_block_never_shown_in_error() {
        const PEM: &str = include_str!("../../../tests/fixtures/oauth-test-key.pem");
        const CERTIFICATE: &str = "friendlyName: sync\n-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n";
        let path = std::env::temp_dir().join(format!("contact-sync-key-{}", std::process::id()));
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_private_key(&path)
        };

        for text in [PEM.to_owned(), PEM.replace('\n', "\r\n"), format!("{CERTIFICATE}{PEM}\n{CERTIFICATE}")] {
            let key = read(&text).unwrap();
            assert!(key.expose_secret().starts_with("-----BEGIN RSA PRIVATE KEY-----"));
            assert!(key.expose_secret().ends_with("-----END RSA PRIVATE KEY-----"));
        }
        let locked = PEM.replace("RSA PRIVATE", "ENCRYPTED PRIVATE");
        let public = PEM.replace("RSA PRIVATE", "PUBLIC");
        for (wrong, word) in [
            ("", "is empty"),
            ("MIIE", "PEM form"),
            (CERTIFICATE, "a certificate"),
            (&locked, "passphrase"),
            (&public, "a public key"),
        ] {
            let error = format!("{:#}", read(wrong).unwrap_err());
            assert!(error.contains(word) && !error.contains("MIIE"), "{error}");
        }
        fs::remove_file(&path).unwrap();
    }
}
