//! The real service in a process of its own, as an operator runs it, with its defaults but for what
//! a bench sets; for every bench that asks it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use chrono::TimeDelta;
use contact_sync::{
    domain::clock::{Clock as _, SystemClock},
    rpc::{
        claims::TokenAccounts,
        local_token::{self, LocalClaims},
        methods::TokenScope,
    },
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

const KEY_RING: &str = r#"{"primary":"k1","keys":[{"id":"k1","key":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]}"#;

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

/// A running service; ends with this.
pub(crate) struct ServiceProcess {
    pub child: Child,
    pub log: ServiceLog,
    /// Where it is asked.
    pub address: String,
    /// What callers show: all accounts, all scopes.
    pub token: String,
}

impl ServiceProcess {
    /// With these variables beside those that every service needs.
    pub(crate) async fn start(
        database_url: &str,
        scratch: &Scratch,
        settings: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let keys = local_token::generate(&[7; 32]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_contact-sync"))
            .arg("serve")
            .args(["--set", "admin.listen=127.0.0.1:0"])
            .env("DATABASE_URL", database_url)
            .env("CONTACT_SYNC_LISTEN", "127.0.0.1:0")
            .env("CONTACT_SYNC_DATA_DIR", scratch.path())
            .env("CONTACT_SYNC_AUTH__JWKS_FILE", scratch.write("jwks.json", &keys.jwks_json)?)
            .env("CONTACT_SYNC_VAULT__KEY_RING_FILE", scratch.write("key-ring.json", KEY_RING)?)
            .env("CONTACT_SYNC_LOG__FORMAT", "json")
            .envs(settings)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the service cannot be started")?;
        let mut log = ServiceLog(BufReader::new(child.stderr.take().context("the service has no log")?).lines());
        let listening = log.next_event(|event| event["message"] == "serving gRPC").await?;
        let address = listening["listen"].as_str().context("the service does not say where it listens")?.to_owned();
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
        Ok(Self { child, log, address, token })
    }
}

/// What it says.
pub(crate) struct ServiceLog(Lines<BufReader<ChildStderr>>);

impl ServiceLog {
    /// Reads on; warnings and errors are shown. An error: the service has ended.
    pub(crate) async fn next_event(&mut self, is_wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        while let Some(line) = self.0.next_line().await? {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["level"] != "INFO" {
                eprintln!("service: {line}");
            }
            if is_wanted(&event) {
                return Ok(event);
            }
        }
        bail!("the service has ended")
    }
}
