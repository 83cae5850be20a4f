//! Looks after the private server for as long as the service runs: one that was killed, or that a
//! full disk has stopped, is started again. If it cannot be, the service ends, so that its
//! supervisor hears of it.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{Cluster, ClusterError, Started, bring_up, layout, process};

/// Between two looks whether the server runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Starts that fail, or hold for less than [`HELD_MIN`], before the service gives up: half a minute
/// with their pauses.
const STARTS_MAX: u32 = 6;
/// A server that has run for so long was in order, whatever stopped it.
const HELD_MIN: Duration = Duration::from_mins(1);

impl Cluster {
    /// Starts the server again whenever it has ended, until `stop` is cancelled. An error: it could
    /// not be started, several times.
    pub async fn watch(&self, stop: CancellationToken) -> Result<(), ClusterError> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            error = self.keep_running() => Err(error),
        }
    }

    async fn keep_running(&self) -> ClusterError {
        let (mut starts, mut running_since) = (0, Instant::now());
        loop {
            sleep(LOOK_EVERY).await;
            if self.is_running() {
                continue;
            }
            if running_since.elapsed() > HELD_MIN {
                starts = 0;
            }
            error!(
                "the private PostgreSQL has ended, though nobody asked it to (killed, or a full disk?); it is started again"
            );
            while let Err(error) = self.start_again().await {
                starts += 1;
                if starts >= STARTS_MAX {
                    return error;
                }
                let pause = self.config.restart_pause * 2_u32.pow(starts - 1);
                warn!(%error, starts, ?pause, "the private PostgreSQL does not start; it is tried again");
                sleep(pause).await;
            }
            starts += 1;
            running_since = Instant::now();
            info!("the private PostgreSQL runs again");
        }
    }

    fn is_running(&self) -> bool {
        {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            // A child that has ended stays a process until somebody asks how.
            if child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
                *child = None;
            }
        }
        process::running_server(&self.data_dir()).is_some()
    }

    async fn start_again(&self) -> Result<(), ClusterError> {
        let Self { config, layout, bin_dir, major, .. } = self;
        let _starting = layout::lock_start(&layout.pg_dir, config.start_timeout).await?;
        let deadline = Instant::now() + config.start_timeout;
        let mut server = Started { child: None };
        match bring_up(config, layout, bin_dir, *major, deadline, &mut server).await {
            Ok(connection) => {
                drop(connection);
                *self.child.lock().unwrap_or_else(PoisonError::into_inner) = server.child.take();
                Ok(())
            }
            Err(error) => {
                server.abandon().await;
                Err(error)
            }
        }
    }
}
