//! `contact-sync health`: asks the service on this machine, at its admin listener, whether calls
//! are answered. For containers, where nothing else can ask.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::client::failure::CommandFailure;
use crate::config::Config;

/// How long the service may take for its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// More than it ever says.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Ask the service on this machine whether calls are answered; ends with 0 if so, else with 1
#[derive(Debug, Clone, clap::Args)]
pub(super) struct HealthArgs {
    /// Ask only whether the process lives
    #[arg(long)]
    live: bool,
}

/// What the service says, if it is well; else an error.
pub(super) async fn run(args: &HealthArgs, config: &Config) -> anyhow::Result<String> {
    let Some(address) = config.admin.listen else {
        bail!(CommandFailure {
            what: "admin.listen is empty, so nobody can ask how the service is".to_owned(),
            next: "set it to a free address and port, for the service and for this command".to_owned(),
        });
    };
    let address = within_reach(address);
    let asking = ask(address, if args.live { "/livez" } else { "/readyz" });
    let answer = match timeout(ANSWER_LIMIT, asking).await.context("it does not answer in time").flatten() {
        Ok(answer) => answer,
        Err(error) => bail!(CommandFailure {
            what: format!("no answer at {address}: {error:#}"),
            next: "see whether the service runs, and whether this command knows its admin.listen".to_owned(),
        }),
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or("no status");
    if status != "200" {
        bail!(CommandFailure {
            what: format!("not healthy ({status}): {}", body.trim()),
            next: "the service's log says why".to_owned(),
        });
    }
    Ok(body.to_owned())
}

/// One request, and all of the answer.
async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A listener on all addresses is asked at this machine's own.
fn within_reach(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => ([0u16, 0, 0, 0, 0, 0, 0, 1], v6.port()).into(),
        named => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_on_all_addresses_is_asked_here() {
        for (listens, asked) in
            [("0.0.0.0:9464", "127.0.0.1:9464"), ("[::]:9464", "[::1]:9464"), ("10.1.2.3:1", "10.1.2.3:1")]
        {
            assert_eq!(within_reach(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
