//! The servers that are asked, each in a process of its own: the real service as an operator runs
//! it, and the bare ones.

use std::{fs, process::Stdio, time::Duration};

use anyhow::Context as _;
use contact_sync::rpc::pb;
use prost::Message as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
};

use crate::process::{Scratch, ServiceProcess};

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

impl Server {
    /// The service with so many connections for calls, and its defaults but for what concerns
    /// syncs: there is nothing to sync.
    pub(crate) async fn start_service(database_url: &str, scratch: &Scratch, connections: u32) -> anyhow::Result<Self> {
        let settings = vec![
            ("CONTACT_SYNC_WORKER__CONCURRENCY", "0".to_owned()),
            ("CONTACT_SYNC_POOLS__CALL__CONNECTIONS", connections.to_string()),
            ("CONTACT_SYNC_POOLS__CALL__ACQUIRE_TIMEOUT_MS", ACQUIRE_TIMEOUT.as_millis().to_string()),
        ];
        let ServiceProcess { child, mut log, address, token } =
            ServiceProcess::start(database_url, scratch, settings).await?;
        #[expect(clippy::disallowed_methods, reason = "ends with the service")]
        tokio::spawn(async move { log.next_event(|_| false).await });
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
