//! Looks for what is due and runs it, a bounded number at once. Any number of processes may do so: a claim decides.

use std::sync::Arc;

use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Syncing;
use crate::{
    store::{StoreError, lease},
    telemetry::chain,
};

impl Syncing {
    /// Until `stop` is cancelled; the runs themselves are tasks of the tracker and stop by the same token.
    pub async fn work_until(self: Arc<Self>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.settings.runs_max));
        loop {
            if let Err(error) = self.start_due(&places, &stop).await {
                warn!(error = %chain(&error), "cannot look for due integrations, will look again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = sleep(self.settings.poll) => {}
            }
        }
    }

    async fn start_due(self: &Arc<Self>, places: &Arc<Semaphore>, stop: &CancellationToken) -> Result<(), StoreError> {
        let free = places.available_permits();
        if free == 0 || stop.is_cancelled() {
            return Ok(());
        }
        let found = lease::find_due(&self.db, self.clock.now(), i64::try_from(free).unwrap_or(i64::MAX)).await?;
        for due in found {
            let Ok(place) = Arc::clone(places).try_acquire_owned() else { return Ok(()) };
            let (this, stop) = (Arc::clone(self), stop.clone());
            self.tasks.spawn(async move {
                if let Err(error) = this.run(due, &stop).await {
                    warn!(integration.id = %due.integration_id, error = %chain(&error), "a run was left, it is taken up when its lease is over");
                }
                drop(place);
                // Its place is free: something else may be waiting for it.
                this.wake.notify_one();
            });
        }
        Ok(())
    }

    /// Runs everything that is due now, one after the other, and returns how many runs that were; for tests and tools.
    pub async fn run_due(&self) -> Result<usize, StoreError> {
        let mut runs = 0;
        for due in lease::find_due(&self.db, self.clock.now(), 1_000).await? {
            runs += usize::from(self.run(due, &CancellationToken::new()).await?);
        }
        Ok(runs)
    }
}
