//! How connections are made: in the background, as many as are wanted, and one at a time while that
//! fails.

use std::{
    future::Future,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, PgConnection};
use tokio::time::{sleep, timeout};

use super::{DatabaseTrouble, PoolSlot, PoolState, PooledConnection, SharedPool};

/// After a failed attempt to connect; doubles up to `CONNECT_PAUSE_MAX`.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts to connect: calls must be answered within 2 s after the
/// database is back.
const CONNECT_PAUSE_MAX: Duration = Duration::from_millis(250);

impl SharedPool {
    /// Runs this beside the callers; it is dropped when the pool closes.
    pub(in crate::store) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if tokio::runtime::Handle::try_current().is_ok() {
            let closed = self.closed.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = closed.cancelled() => {}
                    () = work => {}
                }
            });
        }
    }

    /// Begins as many connections as are wanted. While they fail, one at a time.
    pub(super) fn grow(self: &Arc<Self>) {
        if self.closed.is_cancelled() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let begun = {
            let mut state = self.lock();
            let mut begun = 0;
            while self.wants_more(&mut state) {
                state.size += 1;
                state.connecting += 1;
                begun += 1;
            }
            begun
        };
        for _ in 0..begun {
            let slot = PoolSlot { shared: Arc::clone(self), is_connecting: true };
            self.tasks.spawn(Arc::clone(self).connect(slot));
        }
    }

    fn wants_more(&self, state: &mut PoolState) -> bool {
        state.forget_leavers();
        let at_once = if state.failure.is_some() { 1 } else { self.settings.connections_max };
        state.connecting < at_once
            && state.size < self.settings.connections_max
            && (state.size < self.settings.connections_min || state.is_awaited(state.connecting))
    }

    /// Makes one connection, however often that fails, for as long as it is wanted.
    async fn connect(self: Arc<Self>, mut slot: PoolSlot) {
        let mut pause = CONNECT_PAUSE;
        loop {
            let generation = self.lock().generation;
            let opened = tokio::select! {
                () = self.closed.cancelled() => return,
                opened = self.open_one() => opened,
            };
            match opened {
                Ok((raw, is_read_only)) => {
                    let was_failing = {
                        let mut state = self.lock();
                        state.connecting -= 1;
                        slot.is_connecting = false;
                        state.is_read_only = is_read_only;
                        state.failure.take().is_some()
                    };
                    if was_failing {
                        self.tell_recovery();
                    }
                    if is_read_only {
                        self.tell(&DatabaseTrouble::READ_ONLY, None);
                    }
                    self.release(PooledConnection {
                        raw,
                        generation,
                        made_at: Instant::now(),
                        is_read_only,
                        _slot: slot,
                    });
                    self.changed.notify_waiters();
                    self.grow();
                    return;
                }
                Err(error) => {
                    self.tell(&DatabaseTrouble::of_connecting(&error), Some(&error));
                    let mut state = self.lock();
                    state.failure = Some(Arc::new(error));
                    let is_below = state.size <= self.settings.connections_min;
                    if state.connecting > 1 || !(is_below || state.is_awaited(0)) {
                        // Under the lock, so that of several that fail at once the last one goes
                        // on.
                        state.connecting -= 1;
                        slot.is_connecting = false;
                        drop(state);
                        return;
                    }
                }
            }
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = sleep(pause) => pause = CONNECT_PAUSE_MAX.min(pause * 2),
            }
        }
    }

    /// A new connection, and whether its server cannot write.
    pub(super) async fn open_one(&self) -> Result<(PgConnection, bool), sqlx::Error> {
        let opened = async {
            let mut raw = self.options.connect().await?;
            let is_read_only =
                sqlx::query_scalar("select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean")
                    .persistent(false)
                    .fetch_one(&mut raw)
                    .await?;
            Ok((raw, is_read_only))
        };
        let limit = self.settings.connect_timeout;
        timeout(limit, opened).await.unwrap_or_else(|_| {
            let words = format!("no answer to a new connection within {limit:?}");
            Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, words)))
        })
    }

    fn tell_recovery(&self) {
        let told = std::mem::take(&mut self.lock().told);
        let times: u64 = told.values().map(|(_, times)| times + 1).sum();
        tracing::info!(pool = self.name, times, "connections to the database can be made again");
    }
}
