//! What the supervisor that started this process is told, by `sd_notify(3)`: systemd, or whoever
//! speaks its protocol, over the socket that `NOTIFY_SOCKET` names. Without one nothing is said.
//! Nothing here stops or delays the service: it serves as well when nobody listens.

use std::{convert::Infallible, ffi::OsString, future::pending, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::{net::UnixDatagram, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The shortest time between two signs of life, whatever the supervisor asks for.
const PERIOD_MIN: Duration = Duration::from_millis(10);

/// Where the supervisor listens, if there is one.
pub(super) struct SupervisorSocket {
    path: Option<PathBuf>,
    /// How often it wants a sign of life: twice in the time after which it ends the process.
    period: Option<Duration>,
}

impl SupervisorSocket {
    /// As the environment says.
    pub(super) fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_for_us = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let allowed = number("WATCHDOG_USEC").filter(|_| is_for_us).map(Duration::from_micros);
        Self {
            path: variable("NOTIFY_SOCKET").map(PathBuf::from),
            period: allowed.map(|allowed| (allowed / 2).max(PERIOD_MIN)),
        }
    }

    /// Says that this address is served, then that the end has begun, and gives signs of life.
    /// Goes on until it is dropped: a drain is alive, too.
    pub(super) async fn attend(self, address: SocketAddr, soft: CancellationToken) -> Infallible {
        self.tell(&format!("READY=1\nSTATUS=serving gRPC on {address}")).await;
        let mut is_stopping = false;
        loop {
            tokio::select! {
                biased;
                () = soft.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    self.tell("STOPPING=1\nSTATUS=stopping: open calls may end").await;
                }
                () = sleep(self.period.unwrap_or_default()), if self.period.is_some() => self.tell("WATCHDOG=1").await,
                else => pending().await,
            }
        }
    }

    /// Waits while the supervisor's queue is full. Connected: Linux tells no other socket that
    /// there is room again (`unix_dgram_poll`).
    async fn tell(&self, news: &str) {
        let Some(path) = &self.path else { return };
        let sent = async {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.send(news.as_bytes()).await
        };
        if let Err(error) = sent.await {
            warn!(%error, "the supervisor cannot be told how the service is (NOTIFY_SOCKET); it may end it");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use futures_util::poll;

    use super::*;

    /// A supervisor that reads late is told as soon as it reads.
    #[tokio::test]
    async fn full_queue_is_waited_for_and_no_longer() {
        let path = std::env::temp_dir().join(format!("contact-sync-supervisor-{}", std::process::id()));
        let supervisor = UnixDatagram::bind(&path).unwrap();
        let filler = std::os::unix::net::UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to(b"full", &path).is_ok() {}
        let socket = SupervisorSocket { path: Some(path.clone()), period: None };
        let mut telling = Box::pin(socket.tell("READY=1"));
        assert!(poll!(telling.as_mut()).is_pending());

        let mut bytes = [0; 16];
        let reading = async {
            loop {
                let length = supervisor.recv(&mut bytes).await.unwrap();
                if &bytes[..length] == b"READY=1" {
                    return;
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_mins(1), async { tokio::join!(telling, reading) }).await;

        fs::remove_file(&path).unwrap();
        assert!(told.is_ok(), "it is still waiting");
    }
}
