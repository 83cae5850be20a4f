//! The servers that are asked, each in a process of its own: the real service as an operator runs
//! it, and the bare ones.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use chrono::TimeDelta;
use contact_sync::{
    domain::clock::{Clock as _, SystemClock},
    rpc::{
        claims::TokenAccounts,
        local_token::{self, LocalClaims},
        methods::TokenScope,
        pb,
    },
};
use prost::Message as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
};

const KEY_RING: &str = r#"{"primary":"k1","keys":[{"id":"k1","key":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]}"#;

/// As `app.rs` sets it for the call path.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(1);
/// As `app.rs` sets it for the call path.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// A call waits in the queue for as long as it must: what it would wait is to be seen, and not that
/// it was refused.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_mins(1);

/// A server; ends with this.
pub(crate) struct Server {
    pub address: String,
    /// What callers show; bare servers do not look at it.
    pub token: String,
    child: Child,
}

/// A folder for keys and logs; removed with this.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("contact-sync-bench.{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Server {
    /// The service with so many connections for calls, and its defaults but for what concerns
    /// syncs: there is nothing to sync.
    pub(crate) async fn start_service(database_url: &str, scratch: &Scratch, connections: u32) -> anyhow::Result<Self> {
        let keys = local_token::generate(&[7; 32]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_contact-sync"))
            .arg("serve")
            .args(["--set", "admin.listen=127.0.0.1:0"])
            .env("DATABASE_URL", database_url)
            .env("CONTACT_SYNC_LISTEN", "127.0.0.1:0")
            .env("CONTACT_SYNC_DATA_DIR", scratch.path())
            .env("CONTACT_SYNC_AUTH__JWKS_FILE", scratch.write("jwks.json", &keys.jwks_json)?)
            .env("CONTACT_SYNC_VAULT__KEY_RING_FILE", scratch.write("key-ring.json", KEY_RING)?)
            .env("CONTACT_SYNC_WORKER__CONCURRENCY", "0")
            .env("CONTACT_SYNC_POOLS__CALL__CONNECTIONS", connections.to_string())
            .env("CONTACT_SYNC_POOLS__CALL__ACQUIRE_TIMEOUT_MS", ACQUIRE_TIMEOUT.as_millis().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the service cannot be started")?;
        let mut log = BufReader::new(child.stderr.take().context("the service has no log")?).lines();
        let address = loop {
            let Some(line) = log.next_line().await? else { bail!("the service has ended") };
            if let Some((_, address)) = line.split_once("serving gRPC listen=") {
                break address.trim().to_owned();
            }
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the service")]
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                eprintln!("service: {line}");
            }
        });
        let claims = LocalClaims {
            issuer: "contact-sync",
            audience: "contact-sync",
            subject: "bench",
            accounts: &TokenAccounts::All,
            scopes: &TokenScope::ALL,
            now: SystemClock::default().now(),
            valid_for: TimeDelta::days(1),
        };
        let token = local_token::issue(&keys.signing_key_pem, &claims)?;
        Ok(Self { address, token, child })
    }

    /// A server that answers with this reply, after the look-up's statement if there is a database.
    pub(crate) async fn start_bare(
        reply: &pb::MatchCallerResponse,
        database_url: Option<&str>,
        token: &str,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        match database_url {
            None => command.arg("--serve-echo"),
            Some(url) => command.args(["--serve-statement", url]),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        child.stdin.take().context("no standard input")?.write_all(&reply.encode_to_vec()).await?;
        let mut said = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let address = said.next_line().await?.context("a bare server has ended")?;
        Ok(Self { address, token: token.to_owned(), child })
    }

    /// What the process's threads have used of the processors so far.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let id = self.child.id().context("a server has ended")?;
        let mut nanos = 0;
        for thread in fs::read_dir(format!("/proc/{id}/task")).context("read on Linux only")? {
            let used = fs::read_to_string(thread?.path().join("schedstat"))?;
            nanos += used.split(' ').next().and_then(|field| field.parse::<u64>().ok()).context("schedstat")?;
        }
        Ok(Duration::from_nanos(nanos))
    }
}
