//! Looks for streams that nobody follows, and follows as many as this process may. Any number of
//! processes may do so: a claim decides. First come, first served; nothing is moved to a process
//! that came later, until another gives something back.

use std::sync::Arc;

use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::keeper;
use crate::{
    store::{StoreError, push_streams},
    sync::context::SyncContext,
    telemetry::chain,
};

/// Follows streams of changes.
pub struct StreamSupervisor {
    context: Arc<SyncContext>,
    room: Arc<Semaphore>,
}

impl StreamSupervisor {
    /// For at most so many integrations at once.
    pub fn new(context: Arc<SyncContext>, streams_max: usize) -> Self {
        Self { context, room: Arc::new(Semaphore::new(streams_max.min(Semaphore::MAX_PERMITS))) }
    }

    /// Takes what is due, until `stop` is cancelled; those who follow are tasks of the tracker, and
    /// stop by the same token. Never ends by itself.
    pub async fn follow_until(self, stop: CancellationToken) {
        let mut is_troubled = false;
        while !stop.is_cancelled() {
            let looked = self.follow_due(&stop).await;
            if let Err(error) = &looked
                && !is_troubled
            {
                warn!(error = %chain(error), "cannot look for streams of changes to follow, will look again");
            }
            is_troubled = looked.is_err();
            tokio::select! {
                () = stop.cancelled() => return,
                // A database in trouble is not asked more often for it.
                () = self.context.stream_wake.notified(), if !is_troubled => {}
                () = sleep(self.context.settings.stream_poll) => {}
            }
        }
    }

    /// Takes what is due now, as far as there is room, and follows it until `stop` is cancelled.
    /// Gives how many that were.
    pub async fn follow_due(&self, stop: &CancellationToken) -> Result<usize, StoreError> {
        let free = self.room.available_permits();
        if free == 0 {
            return Ok(0);
        }
        let (context, mut taken) = (&self.context, 0);
        let limit = i64::try_from(free).unwrap_or(i64::MAX);
        for due in push_streams::find_due(&context.db, context.clock.now(), limit).await? {
            let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else { break };
            let (lease, now) = (context.settings.lease.as_secs_f64(), context.clock.now());
            // Claimed before the task begins, so that the next look does not find it.
            let Some(claimed) = push_streams::claim(&context.db, due, lease, now).await? else { continue };
            let (own, stop) = (Arc::clone(context), stop.clone());
            context.tasks.spawn(async move {
                let _place = place;
                keeper::keep(own, claimed, stop).await;
            });
            taken += 1;
        }
        Ok(taken)
    }
}
