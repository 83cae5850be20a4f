//! Owns sqlx and all SQL; one file per table group. Every statement but the named cross-account ones has `account_id = $1`.
//! A transaction lives in a task of its own, so that a caller who hangs up cannot leave one open; no HTTP happens in one.

pub mod access;
pub mod accounts;
pub mod adoption;
pub mod authorizations;
pub mod caller_lookup;
pub mod calls;
pub mod changes;
pub mod contact_writes;
pub mod contacts;
pub mod decisions;
pub mod departures;
pub mod erasure;
pub mod expected_calls;
pub mod external_refs;
pub mod integrations;
pub mod lease;
pub mod merges;
pub mod phone_numbers;
pub(crate) mod pool;
pub mod purge;
pub mod rejected;
pub mod reparse;
pub mod requester;
pub mod retention;
pub mod run_progress;
pub mod schema;
mod session;
pub mod sources;
pub mod suppressions;
pub mod sweeps;
pub mod sync_runs;
pub mod traces;
mod trouble;

use std::{
    future::Future,
    io,
    ops::{Deref, DerefMut},
    pin::Pin,
    str::FromStr,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use pool::Pool;
pub use session::Session;

/// How often a transaction is tried when others were in its way.
const TRANSACTION_ATTEMPTS_MAX: u32 = 6;
/// The pause before the second try; before the third it is twice as long, and so on.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

/// An open transaction. Dropped before its end, it closes its connection, which rolls it back.
#[derive(Debug)]
pub struct Tx(Session);

impl Deref for Tx {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}

/// What a transaction's work returns.
pub type TxFuture<'t, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

/// Why the database did not do it. Texts hold no values of rows.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Cannot be reached, is shutting down, or does not answer. Try again.
    #[error("the database cannot be reached, or does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// It answers others, and whoever waited for a connection had no turn in time. Try again later.
    #[error("the database has more to do than it can")]
    Busy,
    /// A statement or a lock took longer than allowed. Try again.
    #[error("the database took longer than allowed")]
    Timeout(#[source] sqlx::Error),
    /// The database can be read and not written: a standby, one whose writing is switched off, or a full disk. Try again.
    #[error("the database can only be read at the moment")]
    ReadOnly(#[source] sqlx::Error),
    /// Others were in the way, also after several tries. Try again.
    #[error("concurrent changes were in the way")]
    Conflict,
    /// A named constraint refused a row.
    #[error("the constraint {0} refused a row")]
    Constraint(String, #[source] sqlx::Error),
    /// A value that the schema should have prevented.
    #[error("inconsistent row: {table}.{column}")]
    InconsistentRow {
        /// Where.
        table: &'static str,
        /// Which.
        column: &'static str,
    },
    /// Anything else: a bug, or a schema that is not ours.
    #[error("the database refused a statement")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether the same work may succeed a moment later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy | Self::ReadOnly(_) | Self::Timeout(_) | Self::Conflict)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::PoolTimedOut => Self::Busy,
                sqlx::Error::PoolClosed
                | sqlx::Error::Configuration(_)
                | sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
                other => Self::Database(other),
            };
        };
        let code = database.code().unwrap_or_default();
        match code.as_ref() {
            // Serialization failure, deadlock.
            "40001" | "40P01" => Self::Conflict,
            // Statement or lock timeout.
            "57014" | "55P03" => Self::Timeout(error),
            _ if trouble::is_unwritable(&error) => Self::ReadOnly(error),
            _ if trouble::is_passing(&error) => Self::Unavailable(error),
            _ => match database.constraint().map(str::to_owned) {
                Some(name) => Self::Constraint(name, error),
                None => Self::Database(error),
            },
        }
    }
}

/// A failure of work in a transaction: anything that can also be the database's.
pub trait TxError: From<StoreError> + Send + 'static {
    /// The work met a concurrent change: roll back and run it again.
    fn is_conflict(&self) -> bool;
}

impl TxError for StoreError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict)
    }
}

/// How the server plans a statement that it has seen before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanMode {
    /// Once, for all parameters. With custom plans an account that the statistics have not seen gets the wrong index (27 ms instead
    /// of 0.04).
    #[default]
    Generic,
    /// Each time anew: a distributed database must see the account to know where its rows are.
    Custom,
}

impl PlanMode {
    /// The value of `plan_cache_mode`.
    const fn setting(self) -> &'static str {
        match self {
            Self::Generic => "force_generic_plan",
            Self::Custom => "force_custom_plan",
        }
    }
}

/// Size and patience of one pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// Most connections.
    pub connections_max: u32,
    /// As many are made at once and kept.
    pub connections_min: u32,
    /// How long to wait for a free one.
    pub acquire_timeout: Duration,
    /// How long a new one may take; never in the time of whoever waits for one.
    pub connect_timeout: Duration,
    /// How long one statement may take. Its connection is closed a little later if the server has not said so itself.
    pub statement_timeout: Duration,
    /// How long to wait for a lock.
    pub lock_timeout: Duration,
    /// How statements are planned.
    pub plan_mode: PlanMode,
    /// Ask each connection whether it is there before it is used: one round trip, for work that cannot simply be done again.
    pub asks_before_use: bool,
}

/// The call path's pool. It never begins a transaction, and what meets a dead connection is done again on another.
#[derive(Clone)]
pub struct CallDb {
    pool: Pool,
}

/// A pool for everything that may need a transaction.
#[derive(Clone)]
pub struct Db {
    pub(crate) pool: Pool,
    tasks: TaskTracker,
}

impl CallDb {
    /// Connects in the background.
    pub fn connect_lazy(url: &str, settings: PoolSettings) -> Result<Self, StoreError> {
        let options = connect_options(url, "calls", settings)?;
        Ok(Self { pool: Pool::connect_lazy("calls", options, settings) })
    }

    /// Waits until all connections are there; false if they are not after `limit`.
    pub async fn warm_up(&self, limit: Duration) -> bool {
        self.pool.warm_up(limit).await
    }

    /// Runs a read (or a write that may be repeated) and, if it met a dead connection, runs it again on another: after a restart of
    /// the server every connection is dead, and each leaves the pool as soon as it is tried. One that has gone silent has cost its
    /// time and has taken its contemporaries with it, so that there is one more try; so it is with one that cannot write.
    pub(crate) async fn read<T, F, Fut>(&self, statement: F) -> Result<T, StoreError>
    where
        F: Fn(Pool) -> Fut,
        Fut: Future<Output = Result<T, sqlx::Error>>,
    {
        let mut attempts_left = self.pool.connections_max() + 1;
        loop {
            attempts_left -= 1;
            match statement(self.pool.clone()).await.map_err(StoreError::from) {
                Err(StoreError::Unavailable(sqlx::Error::Io(error)))
                    if error.kind() == io::ErrorKind::TimedOut && attempts_left > 0 =>
                {
                    attempts_left = 1;
                }
                Err(StoreError::ReadOnly(_)) if attempts_left > 0 => attempts_left = attempts_left.min(1),
                Err(StoreError::Unavailable(error)) if attempts_left > 0 && was_connected(&error) => {}
                result => return result,
            }
        }
    }

    /// Whether a connection of this pool answers.
    pub async fn answers(&self) -> bool {
        match self.pool.acquire().await {
            Ok(mut session) => session.answers(session::answer_limit(self.pool.statement_timeout())).await,
            Err(_) => false,
        }
    }

    /// Ends all connections; for shutting down. Takes about a second at most.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Whether this ended a connection that there was, so that another may do better at once.
fn was_connected(error: &sqlx::Error) -> bool {
    !matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Configuration(_))
}

impl Db {
    /// Connects as needed. Transactions run in tasks of this tracker, which the shutdown awaits.
    pub fn connect_lazy(url: &str, name: &str, settings: PoolSettings, tasks: TaskTracker) -> Result<Self, StoreError> {
        let options = connect_options(url, name, settings)?;
        Ok(Self { pool: Pool::connect_lazy(name, options, settings), tasks })
    }

    /// Runs this in a task of its own and awaits it: dropping this future leaves the task to finish by itself.
    pub async fn task<T, E>(&self, work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        // A panic in the work has already been printed by the runtime; here it is one more reason why it was not done.
        let done = self.tasks.spawn(work).await;
        done.unwrap_or_else(|_| Err(StoreError::Database(sqlx::Error::WorkerCrashed).into()))
    }

    /// Runs `work` in a transaction and commits. It runs in a task of its own and is awaited: dropping this future leaves the
    /// transaction to finish by itself. Conflicts with others (serialization, deadlock, [`TxError::is_conflict`]) run it again.
    pub async fn transaction<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: TxError,
        W: for<'t> Fn(&'t mut Tx) -> TxFuture<'t, T, E> + Send + Sync + 'static,
    {
        let pool = self.pool.clone();
        self.task(async move {
            for attempt in 1..TRANSACTION_ATTEMPTS_MAX {
                match run_transaction(&pool, &work).await {
                    Err(error) if error.is_conflict() => sleep(CONFLICT_PAUSE * attempt).await,
                    result => return result,
                }
            }
            run_transaction(&pool, &work).await
        })
        .await
    }

    /// Whether the database answers; for readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match sqlx::query("-- store::Db::ping\nselect 1").execute(&self.pool).await.map_err(StoreError::from) {
            // It answers others.
            Ok(_) | Err(StoreError::Busy) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What time it is for the database, which all processes on it share.
    pub async fn time(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(sqlx::query_scalar("-- store::Db::time\nselect statement_timestamp()").fetch_one(&self.pool).await?)
    }

    /// Ends all connections; for shutting down.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

async fn run_transaction<T, E, W>(pool: &Pool, work: &W) -> Result<T, E>
where
    E: TxError,
    W: for<'t> Fn(&'t mut Tx) -> TxFuture<'t, T, E>,
{
    let mut tx = Tx(pool.acquire().await.map_err(StoreError::from)?);
    tx.begin().await.map_err(StoreError::from)?;
    match work(&mut tx).await {
        Ok(value) => {
            tx.end("commit").await.map_err(StoreError::from)?;
            Ok(value)
        }
        Err(error) => {
            // If it fails, the connection is closed, which does the same.
            let _ = tx.end("rollback").await;
            Err(error)
        }
    }
}

fn connect_options(url: &str, name: &str, settings: PoolSettings) -> Result<PgConnectOptions, StoreError> {
    Ok(PgConnectOptions::from_str(url)?
        .application_name(&format!("contact-sync {name}"))
        .statement_cache_capacity(200)
        .options([
            ("plan_cache_mode", settings.plan_mode.setting().to_owned()),
            // Plans made while the tables were empty are kept, and nothing here ever wants a whole table.
            ("enable_seqscan", "off".to_owned()),
            // Compiling a statement that is thought to be costly took 0.7 s of the 0.8 that it ran.
            ("jit", "off".to_owned()),
            ("statement_timeout", millis(settings.statement_timeout)),
            ("lock_timeout", millis(settings.lock_timeout)),
            ("idle_in_transaction_session_timeout", "10000".to_owned()),
            // A session whose client has vanished gives its locks back within a minute; the system's default is two hours.
            ("tcp_keepalives_idle", "30".to_owned()),
            ("tcp_keepalives_interval", "10".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
            ("timezone", "UTC".to_owned()),
        ]))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}

/// Reads a stored enum; a value that the schema should have prevented is an error that names the place.
pub(crate) fn known<T>(value: Option<T>, table: &'static str, column: &'static str) -> Result<T, StoreError> {
    value.ok_or(StoreError::InconsistentRow { table, column })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_plan_as_the_setting_says() {
        for (plan_mode, expected) in [
            (PlanMode::Generic, "plan_cache_mode=force_generic_plan"),
            (PlanMode::Custom, "plan_cache_mode=force_custom_plan"),
        ] {
            let second = Duration::from_secs(1);
            let settings = PoolSettings {
                connections_max: 1,
                connections_min: 0,
                acquire_timeout: second,
                connect_timeout: second,
                statement_timeout: second,
                lock_timeout: second,
                plan_mode,
                asks_before_use: false,
            };
            let options = connect_options("postgres://localhost/db", "calls", settings).unwrap();
            assert!(options.get_options().unwrap().contains(expected), "{plan_mode:?}");
        }
    }
}
