//! Where connections come from: [`Db::of`] and [`CallDb::of`] an account, and [`Db::all`] for the few statements across accounts, which
//! `tests/architecture.rs` lists. Nobody else sees a pool, so that accounts may lie in several databases one day.

use std::{future::Future, io, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, future::BoxFuture, stream::BoxStream};
use serde::{Deserialize, Serialize};
use sqlx::{
    Describe, Either, Execute, Executor, Postgres, SqlStr,
    postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{StoreError, Transaction, pool::ConnectionPool, session::answer_limit, transaction};
use crate::domain::ids::AccountId;

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
#[derive(Debug, Clone)]
pub struct CallDb {
    pool: ConnectionPool,
}

/// A pool for everything that may need a transaction.
#[derive(Debug, Clone)]
pub struct Db {
    pool: ConnectionPool,
    tasks: TaskTracker,
}

impl CallDb {
    /// Connects in the background.
    pub fn connect_lazy(url: &str, settings: PoolSettings) -> Result<Self, StoreError> {
        let options = connect_options(url, "calls", settings)?;
        Ok(Self { pool: ConnectionPool::connect_lazy("calls", options, settings) })
    }

    /// Waits until all connections are there; false if they are not after `limit`.
    pub async fn warm_up(&self, limit: Duration) -> bool {
        self.pool.warm_up(limit).await
    }

    /// The database of this account.
    pub const fn of(&self, _account_id: AccountId) -> AccountCallDb<'_> {
        AccountCallDb { pool: &self.pool }
    }

    /// Whether a connection of this pool answers.
    pub async fn answers(&self) -> bool {
        match self.pool.acquire().await {
            Ok(mut session) => session.answers(answer_limit(self.pool.statement_timeout())).await,
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
        Ok(Self { pool: ConnectionPool::connect_lazy(name, options, settings), tasks })
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

    /// The database of this account.
    pub const fn of(&self, account_id: AccountId) -> AccountDb<'_> {
        AccountDb { db: self, account_id }
    }

    /// All accounts. For the statements and looks that `tests/architecture.rs` lists.
    pub const fn all(&self) -> AllAccounts<'_> {
        AllAccounts { pool: &self.pool }
    }

    /// Whether the database answers; for readiness.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match sqlx::query("-- store::Db::ping\nselect 1").execute(self.all()).await.map_err(StoreError::from) {
            // It answers others.
            Ok(_) | Err(StoreError::Busy) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What time it is for the database, which all processes on it share.
    pub async fn time(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(sqlx::query_scalar("-- store::Db::time\nselect statement_timestamp()").fetch_one(self.all()).await?)
    }

    /// Ends all connections; for shutting down.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// One account's connections of the call path.
#[derive(Debug, Clone, Copy)]
pub struct AccountCallDb<'d> {
    pool: &'d ConnectionPool,
}

impl AccountCallDb<'_> {
    /// Runs a read (or a write that may be repeated) and, if it met a dead connection, runs it again on another: after a restart of
    /// the server every connection is dead, and each leaves the pool as soon as it is tried. One that has gone silent has cost its
    /// time and has taken its contemporaries with it, so that there is one more try; so it is with one that cannot write.
    pub(super) async fn read<T, F, Fut>(self, statement: F) -> Result<T, StoreError>
    where
        F: Fn(ConnectionPool) -> Fut,
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

    const fn pool(&self) -> &ConnectionPool {
        self.pool
    }
}

/// One account's connections.
#[derive(Debug, Clone, Copy)]
pub struct AccountDb<'d> {
    db: &'d Db,
    account_id: AccountId,
}

impl AccountDb<'_> {
    /// Runs a transaction and commits. It runs in a task of its own and is awaited: dropping this future leaves it to finish by itself.
    /// Conflicts with others (serialization, deadlock, [`TxError::is_conflict`](super::TxError::is_conflict)) run it again. What it logs names it.
    // Boxed: the compiler cannot prove that callers' futures may be sent when this one's type shows the work's.
    pub fn run<T: Transaction>(self, work: T) -> BoxFuture<'static, Result<T::Output, T::Error>> {
        let (db, account_id) = (self.db.clone(), self.account_id);
        let span = tracing::info_span!("transaction", transaction = T::NAME);
        let work = async move {
            let pool = db.pool.clone();
            db.task(async move { transaction::execute(&pool, account_id, &work).await }.instrument(span)).await
        };
        work.boxed()
    }

    const fn pool(&self) -> &ConnectionPool {
        &self.db.pool
    }
}

/// The connections of all accounts.
#[derive(Debug, Clone, Copy)]
pub struct AllAccounts<'d> {
    pool: &'d ConnectionPool,
}

impl AllAccounts<'_> {
    const fn pool(&self) -> &ConnectionPool {
        self.pool
    }
}

/// One statement on whichever connection is free.
macro_rules! run_statements {
    ($($connections:ty),+) => { $(
        impl<'p> Executor<'p> for $connections {
            type Database = Postgres;

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
            where
                'p: 'e,
                E: 'q + Execute<'q, Postgres>,
            {
                self.pool().fetch_many(query)
            }

            fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
            where
                'p: 'e,
                E: 'q + Execute<'q, Postgres>,
            {
                self.pool().fetch_optional(query)
            }

            fn prepare_with<'e>(
                self,
                sql: SqlStr,
                parameters: &'e [PgTypeInfo],
            ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
            where
                'p: 'e,
            {
                self.pool().prepare_with(sql, parameters)
            }

            #[doc(hidden)]
            fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
            where
                'p: 'e,
            {
                self.pool().describe(sql)
            }
        }
    )+ };
}

run_statements!(AccountCallDb<'_>, AccountDb<'_>, AllAccounts<'_>);

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
