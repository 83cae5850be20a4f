//! What is done for connections that nobody uses, and for a pool whose server cannot write.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use sqlx::Connection;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{DatabaseTrouble, IDLE_ANSWER_MAX, IdleConnection, SharedPool};

/// Between two looks at the idle connections.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// An idle connection is asked when it has not been used for so long. Shorter than any NAT forgets.
const IDLE_UNASKED_MAX: Duration = Duration::from_secs(15);
/// A connection is replaced at this age: a server process keeps the memory that its largest
/// statement took.
const AGE_MAX: Duration = Duration::from_mins(30);

impl SharedPool {
    /// Does it until the pool closes or is dropped.
    pub(super) fn begin_upkeep(self: &Arc<Self>) {
        self.tasks.spawn(keep(Arc::downgrade(self), self.closed.clone()));
    }

    /// Looks after the idle connections: replaces what is too old, one at a time, and asks what was
    /// not used for a while.
    async fn look_after(self: &Arc<Self>) {
        let (old, unasked) = {
            let mut state = self.lock();
            // Not while none can be made (a changed password, a server without one to spare): those
            // that there are still serve.
            let is_replaceable = state.failure.is_none() && state.connecting == 0;
            let old = state.idle.iter().position(|idle| is_replaceable && idle.link.made_at.elapsed() > AGE_MAX);
            let old = old.map(|at| state.idle.remove(at));
            let unasked: Vec<IdleConnection> =
                state.idle.extract_if(.., |idle| idle.since.elapsed() > IDLE_UNASKED_MAX).collect();
            (old, unasked)
        };
        drop(old);
        self.ask(unasked).await;
        self.grow();
    }

    /// A connection has turned out to be dead: so may the idle ones be, and nobody should have to
    /// find out.
    pub(in crate::store) fn ask_idle(self: &Arc<Self>) {
        let idle = std::mem::take(&mut self.lock().idle);
        let shared = Arc::clone(self);
        self.spawn(async move { shared.ask(idle).await });
    }

    async fn ask(self: &Arc<Self>, idle: Vec<IdleConnection>) {
        join_all(idle.into_iter().map(|mut idle| async move {
            match timeout(IDLE_ANSWER_MAX, idle.link.raw.ping()).await {
                Ok(Ok(())) => self.release(idle.link),
                Ok(Err(_)) => drop(idle),
                Err(_) => self.suspect(&idle.link),
            }
        }))
        .await;
    }

    /// While connections lead to a server that cannot write: do new ones lead to another?
    async fn look_for_primary(self: &Arc<Self>) {
        if !self.lock().is_read_only {
            return;
        }
        let Ok((raw, false)) = self.open_one().await else { return };
        let dropped = {
            let mut state = self.lock();
            state.is_read_only = false;
            state.generation += 1;
            state.told.remove(DatabaseTrouble::READ_ONLY.what);
            std::mem::take(&mut state.idle)
        };
        drop(dropped);
        self.grow();
        tracing::info!(pool = self.name, "the database can be written again");
        let _ = timeout(IDLE_ANSWER_MAX, raw.close()).await;
    }
}

async fn keep(pool: Weak<SharedPool>, closed: CancellationToken) {
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            () = sleep(KEEP_EVERY) => {}
        }
        let Some(pool) = pool.upgrade() else { return };
        tokio::select! {
            () = closed.cancelled() => return,
            () = async {
                pool.look_after().await;
                pool.look_for_primary().await;
            } => {}
        }
    }
}
