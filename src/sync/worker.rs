//! Looks for what is due and runs it, a bounded number at once. Any number of processes may do so:
//! a claim decides.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    backoff,
    context::SyncContext,
    run::{self, TurnOutcome},
};
use crate::{
    domain::ids::IntegrationId,
    store::{
        StoreError,
        lease::{self, DueIntegration},
    },
    telemetry::chain,
};

/// An integration that cannot even be claimed rests so long, and twice as long each time, up to a
/// minute ..
const REST_FIRST: Duration = Duration::from_secs(1);
/// .. and at most so many are remembered; the others are tried with each look.
const RESTING_MAX: usize = 10_000;

/// What this process is doing with which integration.
#[derive(Default)]
struct BusyIntegrations(Mutex<BusyEntries>);

#[derive(Default)]
struct BusyEntries {
    busy: HashSet<IntegrationId>,
    resting: HashMap<IntegrationId, RestPeriod>,
}

/// Of an integration whose run ended without a word in the database.
#[derive(Clone, Copy)]
struct RestPeriod {
    failures: u32,
    until: Instant,
}

impl BusyIntegrations {
    /// How many of those that are due are not to be taken now.
    fn len(&self) -> usize {
        let entries = self.entries();
        entries.busy.len() + entries.resting.len()
    }

    fn is_free(&self, id: IntegrationId, now: Instant) -> bool {
        let entries = self.entries();
        !entries.busy.contains(&id) && entries.resting.get(&id).is_none_or(|rest| rest.until <= now)
    }

    fn take(&self, id: IntegrationId) {
        self.entries().busy.insert(id);
    }

    /// Its run has ended, well or not.
    fn give_back(&self, id: IntegrationId, is_failed: bool, now: Instant) {
        let mut entries = self.entries();
        entries.busy.remove(&id);
        if !is_failed {
            entries.resting.remove(&id);
            return;
        }
        let failures = entries.resting.get(&id).map_or(1, |rest| rest.failures.saturating_add(1));
        if failures > 1 || entries.resting.len() < RESTING_MAX {
            let until = now + backoff::backoff(REST_FIRST, failures, u8::MAX);
            entries.resting.insert(id, RestPeriod { failures, until });
        }
    }

    fn entries(&self) -> MutexGuard<'_, BusyEntries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From look to look at the database's clock.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// Looks for what is due, and runs it.
pub struct SyncWorker {
    /// What its runs work with.
    pub context: Arc<SyncContext>,
}

impl SyncWorker {
    /// Keeps this process's clock with the database's, until `stop` is cancelled.
    pub async fn follow_database_clock_until(self: Arc<Self>, stop: CancellationToken) {
        loop {
            self.follow_database_clock().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(CLOCK_EVERY) => {}
            }
        }
    }

    async fn follow_database_clock(&self) {
        let asked_at = Instant::now();
        // One that does not answer is reported elsewhere; one that takes its time says nothing of
        // now.
        let Ok(time) = self.context.db.time().await else { return };
        if asked_at.elapsed() < Duration::from_secs(1)
            && let Some(difference) = self.context.clock.follow(time)
        {
            warn!(
                difference_ms = difference.num_milliseconds(),
                "this machine's clock differs from the database's, whose time is taken from now on; see to its time service"
            );
        }
    }

    /// Until `stop` is cancelled; the runs themselves are tasks of the tracker and stop by the same
    /// token.
    pub async fn work_until(self: Arc<Self>, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.context.settings.runs_max));
        let busy = Arc::new(BusyIntegrations::default());
        // Before anything is found to be due.
        self.follow_database_clock().await;
        loop {
            if let Err(error) = self.start_due(&slots, &busy, &stop).await {
                warn!(error = %chain(&error), "cannot look for due integrations, will look again");
                // Whoever ends a run wakes this; a database in trouble is not asked more often for
                // it.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(self.context.settings.poll) => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.context.wake.notified() => {}
                () = sleep(self.context.settings.poll) => {}
            }
        }
    }

    /// Starts what is due and finds a slot, longest due first, and lets the others know whether
    /// somebody finds none.
    async fn start_due(
        self: &Arc<Self>,
        slots: &Arc<Semaphore>,
        busy: &Arc<BusyIntegrations>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        if stop.is_cancelled() {
            return Ok(());
        }
        let limit = slots.available_permits() + busy.len() + 1;
        let found =
            lease::find_due(&self.context.db, self.context.clock.now(), i64::try_from(limit).unwrap_or(i64::MAX))
                .await?;
        let now = Instant::now();
        let mut is_waiting = false;
        for due in found.into_iter().filter(|due| busy.is_free(due.integration_id, now)) {
            let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
                is_waiting = true;
                break;
            };
            busy.take(due.integration_id);
            let (this, busy, stop) = (Arc::clone(self), Arc::clone(busy), stop.clone());
            self.context.tasks.spawn(async move {
                let wait = this.take_turn(due, &busy, &stop).await;
                drop(slot);
                // Its slot is free: something else may be waiting for it.
                this.context.wake.notify_one();
                if let Some(wait) = wait {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = sleep(wait) => this.context.wake.notify_one(),
                    }
                }
            });
        }
        self.context.slot_demand.report(is_waiting);
        Ok(())
    }

    /// Works on a due integration, and says when to look again sooner than by polling.
    async fn take_turn(
        &self,
        due: DueIntegration,
        busy: &BusyIntegrations,
        stop: &CancellationToken,
    ) -> Option<Duration> {
        let turn = run::run(&self.context, due, stop).await;
        // One that somebody else has is looked at with the next poll.
        let is_failed = turn.is_err();
        if let Err(error) = &turn {
            warn!(integration.id = %due.integration_id, error = %chain(error), "a run was left, it is taken up when its lease is over");
        }
        busy.give_back(due.integration_id, is_failed, Instant::now());
        match turn {
            Ok(TurnOutcome::Parked(wait)) => Some(wait),
            Ok(TurnOutcome::Elsewhere | TurnOutcome::Over) | Err(_) => None,
        }
    }

    /// Runs everything that is due now, one after the other, and returns how many runs that were;
    /// for tests and tools.
    pub async fn run_due(&self) -> Result<usize, StoreError> {
        let mut runs = 0;
        for due in lease::find_due(&self.context.db, self.context.clock.now(), 1_000).await? {
            runs += usize::from(!matches!(
                run::run(&self.context, due, &CancellationToken::new()).await?,
                TurnOutcome::Elsewhere
            ));
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// A run that fails before it begins rests longer each time, and never for more than a minute.
    #[test]
    fn unbegun_run_rests_longer_within_minute() {
        let (busy, id) = (BusyIntegrations::default(), IntegrationId(Uuid::nil()));
        let (mut now, end) = (Instant::now(), Instant::now() + Duration::from_mins(4));
        let mut tries = 0;

        while now < end {
            if busy.is_free(id, now) {
                busy.take(id);
                assert!(!busy.is_free(id, now), "it is being worked on");
                busy.give_back(id, true, now);
                tries += 1;
            }
            now += Duration::from_millis(50);
        }

        assert!((7..=10).contains(&tries), "{tries}");
        busy.give_back(id, false, now);
        assert!(busy.is_free(id, now));
        assert_eq!(busy.len(), 0);
    }
}
