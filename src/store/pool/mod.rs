//! A pool of connections that a database in trouble cannot hold up. It owns when connections are
//! made, how long anybody waits for one, and which are no longer trusted. [`super::session`] owns
//! what is said on them.
//!
//! - Connections are made in the background, never in a waiting caller's time: a database that
//!   takes longer to greet than a call may wait still gets all its connections, and a caller takes
//!   whichever becomes free first.
//! - A connection that passes its limit is closed. What froze it (a fail-over, a NAT that has
//!   forgotten) froze its contemporaries too, so that every idle one of its generation is closed
//!   with it; those made afterwards are trusted.
//! - Idle connections are asked now and then, so that the first call after a quiet night meets none
//!   that has gone silent.
//! - While connections lead to a server that cannot write (a standby), the pool looks every second
//!   whether new ones lead to another.

mod growth;
mod settings;
mod upkeep;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::settings::connect_options;
pub use self::settings::{PlanMode, PoolSettings};
use super::trouble::{self, DatabaseTrouble};
use crate::telemetry::metrics::{self, PoolFigures};

/// How long an idle connection may take to answer.
pub(super) const IDLE_ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long connections may take to end when the pool closes.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// The same news is told once a minute at most, with its count.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Connections to one database; clones share them. When the last clone is dropped, its tasks end.
#[derive(Clone)]
pub(crate) struct ConnectionPool {
    shared: Arc<SharedPool>,
    _alive: Arc<PoolOwner>,
}

/// Ends the pool when its last handle is gone: idle connections hold their pool, and would keep
/// each other open.
struct PoolOwner(Arc<SharedPool>);

impl Drop for PoolOwner {
    fn drop(&mut self) {
        self.0.closed.cancel();
        let idle = std::mem::take(&mut self.0.lock().idle);
        drop(idle);
    }
}

pub(super) struct SharedPool {
    name: &'static str,
    options: PgConnectOptions,
    pub(super) settings: PoolSettings,
    state: Mutex<PoolState>,
    /// A connection was made or has ended.
    changed: Notify,
    tasks: TaskTracker,
    closed: CancellationToken,
}

#[derive(Default)]
struct PoolState {
    idle: Vec<IdleConnection>,
    /// Open connections and those being made.
    size: u32,
    connecting: u32,
    /// Connections of earlier ones are not used again.
    generation: u64,
    waiters: VecDeque<oneshot::Sender<LoanedConnection>>,
    /// How often a connection was given to somebody, or became free.
    turns: u64,
    /// More do not wait: so many had their turn in the time of one who waited in vain. `None`:
    /// nobody did since a connection was free.
    waiters_max: Option<usize>,
    /// Why the last attempt to connect failed, if it did.
    failure: Option<Arc<sqlx::Error>>,
    /// The newest connections lead to a server that cannot write.
    is_read_only: bool,
    /// What was told when, and how often it was met since.
    told: HashMap<&'static str, (Instant, u64)>,
}

impl PoolState {
    fn forget_leavers(&mut self) {
        self.waiters.retain(|waiter| !waiter.is_closed());
    }

    /// Whether more wait than this many connections will serve.
    fn is_awaited(&self, connecting: u32) -> bool {
        self.waiters.iter().filter(|waiter| !waiter.is_closed()).count() > connecting as usize
    }
}

struct IdleConnection {
    link: PooledConnection,
    since: Instant,
}

/// A connection and what the pool knows of it.
pub(super) struct PooledConnection {
    pub(super) raw: PgConnection,
    generation: u64,
    made_at: Instant,
    is_read_only: bool,
    _slot: PoolSlot,
}

/// A connection on loan. Dropped, it goes back as one that is in order; whoever knows better takes
/// it out before.
pub(super) struct LoanedConnection {
    /// `None`: taken out.
    pub(super) link: Option<PooledConnection>,
    pub(super) shared: Arc<SharedPool>,
}

impl Drop for LoanedConnection {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.shared.release(link);
        }
    }
}

/// A place in the pool, given back when it is dropped.
struct PoolSlot {
    shared: Arc<SharedPool>,
    is_connecting: bool,
}

impl Drop for PoolSlot {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.size -= 1;
            state.connecting -= u32::from(self.is_connecting);
        }
        self.shared.changed.notify_waiters();
        if !self.is_connecting {
            self.shared.grow();
        }
    }
}

impl ConnectionPool {
    /// Connects in the background, as many as the settings want at least; inside a runtime.
    pub(super) fn connect_lazy(url: &str, name: &'static str, settings: PoolSettings) -> Result<Self, sqlx::Error> {
        let options = connect_options(url, name, settings)?;
        let shared = Arc::new(SharedPool {
            name,
            options,
            settings,
            state: Mutex::default(),
            changed: Notify::new(),
            tasks: TaskTracker::new(),
            closed: CancellationToken::new(),
        });
        shared.begin_upkeep();
        shared.grow();
        let alive = Arc::new(PoolOwner(Arc::clone(&shared)));
        Ok(Self { shared, _alive: alive })
    }

    /// The next free connection. [`sqlx::Error::PoolTimedOut`] if others get theirs, and more wait
    /// than can be served within `acquire_timeout`; [`sqlx::Error::Configuration`] if nobody does:
    /// why none could be made, or that none answers.
    pub(super) async fn lend(&self) -> Result<LoanedConnection, sqlx::Error> {
        self.shared.lend().await
    }

    /// Waits until the least number of connections is there; false if it is not after `limit`.
    pub(super) async fn warm_up(&self, limit: Duration) -> bool {
        let is_warm = async {
            loop {
                let changed = self.shared.changed.notified();
                if self.shared.open() >= self.shared.settings.connections_min {
                    return;
                }
                changed.await;
            }
        };
        timeout(limit, is_warm).await.is_ok()
    }

    pub(super) fn figures(&self) -> PoolFigures {
        let mut state = self.shared.lock();
        state.forget_leavers();
        let (idle, connecting) = (state.idle.len(), state.connecting as usize);
        PoolFigures {
            idle,
            used: (state.size as usize).saturating_sub(idle + connecting),
            connecting,
            waiting: state.waiters.len(),
            connections_max: self.shared.settings.connections_max as usize,
        }
    }

    pub(super) fn connections_max(&self) -> u32 {
        self.shared.settings.connections_max
    }

    pub(super) fn statement_timeout(&self) -> Duration {
        self.shared.settings.statement_timeout
    }

    /// Ends all connections, politely for a moment: those in use end when their work does. Whoever
    /// waits is told.
    pub(super) async fn close(&self) {
        self.shared.closed.cancel();
        let (idle, waiters) = {
            let mut state = self.shared.lock();
            (std::mem::take(&mut state.idle), std::mem::take(&mut state.waiters))
        };
        drop(waiters);
        let farewells = idle.into_iter().map(|idle| async move {
            let PooledConnection { raw, _slot, .. } = idle.link;
            let _ = raw.close().await;
        });
        let ended = async {
            join_all(farewells).await;
            loop {
                let changed = self.shared.changed.notified();
                if self.shared.lock().size == 0 {
                    return;
                }
                changed.await;
            }
        };
        if timeout(CLOSE_MAX, ended).await.is_err() {
            tracing::warn!(pool = self.shared.name, "connections to the database did not end in time and are dropped");
        }
    }
}

impl fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPool").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// One who waits for a connection; told when the wait ends, also by a caller who leaves.
struct PoolWait {
    pool: &'static str,
    since: Instant,
    is_in_vain: bool,
}

impl Drop for PoolWait {
    fn drop(&mut self) {
        metrics::pool_waited(self.pool, self.since.elapsed(), self.is_in_vain);
    }
}

impl SharedPool {
    /// Never held across an await, and nothing that owns a connection is dropped under it: its slot
    /// would lock again.
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> u32 {
        let state = self.lock();
        state.size - state.connecting
    }

    fn loan(self: &Arc<Self>, link: PooledConnection) -> LoanedConnection {
        LoanedConnection { link: Some(link), shared: Arc::clone(self) }
    }

    async fn lend(self: &Arc<Self>) -> Result<LoanedConnection, sqlx::Error> {
        if self.closed.is_cancelled() {
            return Err(sqlx::Error::PoolClosed);
        }
        let (mut waiting, turns_before) = {
            let mut state = self.lock();
            if let Some(IdleConnection { link, .. }) = state.idle.pop() {
                state.waiters_max = None;
                drop(state);
                return Ok(self.loan(link));
            }
            if let Some(most) = state.waiters_max {
                state.forget_leavers();
                if state.waiters.len() >= most {
                    metrics::pool_waited(self.name, Duration::ZERO, true);
                    return Err(sqlx::Error::PoolTimedOut);
                }
            }
            let (send, receive) = oneshot::channel();
            state.waiters.push_back(send);
            (receive, state.turns)
        };
        self.grow();
        let mut wait = PoolWait { pool: self.name, since: Instant::now(), is_in_vain: true };
        let lent = if let Ok(loan) = timeout(self.settings.acquire_timeout, &mut waiting).await {
            loan.map_err(|_| sqlx::Error::PoolClosed)
        } else {
            waiting.close();
            waiting.try_recv().map_err(|_| self.why_none(turns_before))
        };
        wait.is_in_vain = lent.is_err();
        lent
    }

    /// Why somebody who waited got no connection.
    fn why_none(&self, turns_before: u64) -> sqlx::Error {
        let mut state = self.lock();
        let turns = state.turns - turns_before;
        let is_alive = turns > 0 && state.size > state.connecting;
        state.waiters_max = usize::try_from(turns).ok().filter(|_| is_alive);
        if is_alive {
            return sqlx::Error::PoolTimedOut;
        }
        match state.failure.clone() {
            Some(failure) => sqlx::Error::Configuration(failure.into()),
            None => sqlx::Error::Configuration("no connection was made or became free in time".into()),
        }
    }

    /// Gives a connection that is in order to whoever waits, or keeps it.
    pub(super) fn release(self: &Arc<Self>, mut link: PooledConnection) {
        loop {
            let mut state = self.lock();
            if self.closed.is_cancelled() || link.generation != state.generation {
                drop(state);
                drop(link);
                return;
            }
            let Some(waiter) = state.waiters.pop_front() else {
                state.turns += 1;
                state.waiters_max = None;
                state.idle.push(IdleConnection { link, since: Instant::now() });
                return;
            };
            state.turns += u64::from(!waiter.is_closed());
            drop(state);
            match waiter.send(self.loan(link)) {
                Ok(()) => return,
                // Has given up meanwhile.
                Err(mut loan) => match loan.link.take() {
                    Some(back) => link = back,
                    None => return,
                },
            }
        }
    }

    /// This connection has passed its limit in silence: those that are as old are not used again.
    pub(super) fn suspect(self: &Arc<Self>, link: &PooledConnection) {
        let dropped = {
            let mut state = self.lock();
            if state.generation != link.generation {
                return;
            }
            state.generation += 1;
            std::mem::take(&mut state.idle)
        };
        drop(dropped);
        self.tell(&DatabaseTrouble::SILENT, None);
        self.grow();
    }

    /// This connection's server has refused to write: new ones may lead to one that does.
    pub(super) fn met_read_only(self: &Arc<Self>, link: PooledConnection) {
        self.tell(&DatabaseTrouble::READ_ONLY, None);
        if link.is_read_only {
            // Known when it was made: `look_for_primary` is looking, and meanwhile it answers what
            // only reads.
            self.release(link);
            return;
        }
        let dropped = {
            let mut state = self.lock();
            state.is_read_only = true;
            if state.generation != link.generation {
                return;
            }
            state.generation += 1;
            std::mem::take(&mut state.idle)
        };
        drop(dropped);
        self.grow();
    }

    /// Tells what has happened and what to do: once, and then once a minute at most, with the
    /// count.
    pub(super) fn tell(&self, trouble: &DatabaseTrouble, error: Option<&sqlx::Error>) {
        let times = {
            let mut state = self.lock();
            match state.told.get_mut(trouble.what) {
                Some((at, times)) if at.elapsed() < TELL_EVERY => {
                    *times += 1;
                    return;
                }
                Some((at, times)) => {
                    *at = Instant::now();
                    std::mem::take(times) + 1
                }
                None => {
                    state.told.insert(trouble.what, (Instant::now(), 0));
                    1
                }
            }
        };
        let error = error.map(trouble::words);
        tracing::error!(pool = self.name, times, error, "{}: {}", trouble.what, trouble.next);
    }
}
