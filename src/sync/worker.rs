//! Looks for what is due and runs it, a bounded number at once. Any number of processes may do so:
//! a claim decides.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    backoff,
    context::SyncContext,
    hint_turn::{self, HintTurn},
    run::{self, TurnOutcome},
};
use crate::{
    domain::ids::IntegrationId,
    store::{
        StoreError,
        hint_drains::{self, HintedIntegration},
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

/// Looks at hints at once, beside the runs: each takes a request or two, and must not wait for the
/// end of a first copy.
const HINT_TURNS_MAX: usize = 4;
/// An integration that many hints have had polled is not polled again by hints for so long.
const POLLS_APART: TimeDelta = TimeDelta::seconds(60);

/// What this process does at once, and what it has in hand.
struct WorkerHands {
    slots: Arc<Semaphore>,
    busy: Arc<BusyIntegrations>,
    hint_slots: Arc<Semaphore>,
    /// Whose hints are looked at, or rest after that.
    hinted: Arc<BusyIntegrations>,
    stop: CancellationToken,
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
        let hands = WorkerHands {
            slots: Arc::new(Semaphore::new(self.context.settings.runs_max)),
            busy: Arc::default(),
            hint_slots: Arc::new(Semaphore::new(HINT_TURNS_MAX)),
            hinted: Arc::default(),
            stop: stop.clone(),
        };
        // Before anything is found to be due.
        self.follow_database_clock().await;
        loop {
            let started = match self.start_due(&hands).await {
                Ok(()) => self.start_hinted(&hands).await,
                failed => failed,
            };
            // Runs under way look themselves.
            self.context.hint_bell.ring();
            if let Err(error) = started {
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
    async fn start_due(self: &Arc<Self>, hands: &WorkerHands) -> Result<(), StoreError> {
        let WorkerHands { slots, busy, stop, .. } = hands;
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

    /// Looks at the hints of integrations that have some and no run, longest due first. One that
    /// finds no room is looked at when there is some.
    async fn start_hinted(self: &Arc<Self>, hands: &WorkerHands) -> Result<(), StoreError> {
        let WorkerHands { busy, hint_slots, hinted, stop, .. } = hands;
        let room = hint_slots.available_permits();
        if stop.is_cancelled() || room == 0 {
            return Ok(());
        }
        let limit = room + hinted.len() + busy.len();
        let found = self.find_hinted(i64::try_from(limit).unwrap_or(i64::MAX)).await?;
        let now = Instant::now();
        let is_free = |id| busy.is_free(id, now) && hinted.is_free(id, now);
        for one in found.into_iter().filter(|one| is_free(one.due.integration_id)) {
            let Ok(slot) = Arc::clone(hint_slots).try_acquire_owned() else { break };
            let id = one.due.integration_id;
            hinted.take(id);
            let (this, hinted, stop) = (Arc::clone(self), Arc::clone(hinted), stop.clone());
            self.context.tasks.spawn(async move {
                let turn = hint_turn::run(&this.context, one, &stop).await;
                drop(slot);
                if let Err(error) = &turn {
                    warn!(integration.id = %id, error = %chain(error), "hints were left, they are looked at again");
                }
                if let Ok(HintTurn::Rest(rest)) = turn {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = sleep(rest) => {}
                    }
                }
                hinted.give_back(id, !matches!(turn, Ok(HintTurn::Rest(_))), Instant::now());
                // Others may have waited for the slot, and more may have come meanwhile.
                this.context.wake.notify_one();
            });
        }
        Ok(())
    }

    async fn find_hinted(&self, limit: i64) -> Result<Vec<HintedIntegration>, StoreError> {
        let now = self.context.clock.now();
        hint_drains::find_due(&self.context.db, now, now - POLLS_APART, limit).await
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

    /// Looks at all hints that are due now, one integration after the other, and returns how many
    /// had some; for tests and tools.
    pub async fn drain_hints(&self) -> Result<usize, StoreError> {
        let found = self.find_hinted(1_000).await?;
        let turns = found.len();
        for hinted in found {
            hint_turn::run(&self.context, hinted, &CancellationToken::new()).await?;
        }
        Ok(turns)
    }

    /// Runs everything that is due now, one after the other, and returns how many runs that were;
    /// for tests and tools.
    pub async fn run_due(&self) -> Result<usize, StoreError> {
        let mut runs = 0;
        for due in lease::find_due(&self.context.db, self.context.clock.now(), 1_000).await? {
            runs += usize::from(!matches!(
                Box::pin(run::run(&self.context, due, &CancellationToken::new())).await?,
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
