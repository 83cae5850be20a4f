//! Where connections come from: [`Db::of`] and [`CallDb::of`] an account, and [`Db::all`] for the
//! few statements across accounts, which `tests/architecture.rs` lists. Nobody outside of the
//! store sees a pool, so that accounts may lie in several databases one day.

use std::{
    future::Future,
    io,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, future::BoxFuture, stream::BoxStream};
use sqlx::{
    Describe, Either, Execute, Executor, Postgres, SqlStr,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{
    StoreError,
    pool::{ConnectionPool, PoolSettings},
    session::{Session, answer_limit},
    transaction::{self, Transaction},
};
use crate::{
    domain::ids::AccountId,
    telemetry::metrics::{self, PoolFigures},
};

/// The call path's pool. It never begins a transaction, and what meets a dead connection is done
/// again on another.
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
        Ok(Self { pool: ConnectionPool::connect_lazy(url, "calls", settings)? })
    }

    /// Waits until all connections are there; false if they are not after `limit`.
    pub async fn warm_up(&self, limit: Duration) -> bool {
        self.pool.warm_up(limit).await
    }

    /// The database of this account.
    pub const fn of(&self, _account_id: AccountId) -> AccountCallDb<'_> {
        AccountCallDb { pool: &self.pool }
    }

    /// How its connections are used now.
    pub fn figures(&self) -> PoolFigures {
        self.pool.figures()
    }

    /// Whether a connection of this pool answers.
    pub async fn answers(&self) -> bool {
        match Session::acquire(&self.pool).await {
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
    pub fn connect_lazy(
        url: &str,
        name: &'static str,
        settings: PoolSettings,
        tasks: TaskTracker,
    ) -> Result<Self, StoreError> {
        Ok(Self { pool: ConnectionPool::connect_lazy(url, name, settings)?, tasks })
    }

    /// Runs this in a task of its own and awaits it: dropping this future leaves the task to finish
    /// by itself. What it logs names the request that it is a part of.
    pub async fn task<T, E>(&self, work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        // A panic in the work has already been printed by the runtime; here it is one more reason
        // why it was not done.
        let done = self.tasks.spawn(work.in_current_span()).await;
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

    /// How its connections are used now.
    pub fn figures(&self) -> PoolFigures {
        self.pool.figures()
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
    /// Runs a read (or a write that may be repeated) and, if it met a dead connection, runs it
    /// again on another: after a restart of the server every connection is dead, and each leaves
    /// the pool as soon as it is tried. One that has gone silent has cost its time and has taken
    /// its contemporaries with it, so that there is one more try; so it is with one that cannot
    /// write.
    pub(super) async fn read<T, F, Fut>(self, statement: F) -> Result<T, StoreError>
    where
        F: Fn(ConnectionPool) -> Fut,
        Fut: Future<Output = Result<T, sqlx::Error>>,
    {
        let span = tracing::debug_span!("database");
        self.try_to_read(statement).instrument(span).await
    }

    async fn try_to_read<T, F, Fut>(self, statement: F) -> Result<T, StoreError>
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
    /// Runs a transaction and commits. It runs in a task of its own and is awaited: dropping this
    /// future leaves it to finish by itself. Conflicts with others (serialization, deadlock,
    /// [`TxError::is_conflict`](super::TxError::is_conflict)) run it again. What it logs names it.
    // Boxed: the compiler cannot prove that callers' futures may be sent when this one's type shows
    // the work's.
    pub fn run<T: Transaction>(self, work: T) -> BoxFuture<'static, Result<T::Output, T::Error>> {
        let (db, account_id) = (self.db.clone(), self.account_id);
        let span = tracing::info_span!("transaction", transaction = T::NAME);
        let work = async move {
            let pool = db.pool.clone();
            // In the task: it is told however long it takes, also when nobody waits any more.
            let measured = async move {
                let started = Instant::now();
                let done = transaction::execute(&pool, account_id, &work).await;
                metrics::transaction_ended(T::NAME, done.is_ok(), started.elapsed());
                done
            };
            db.task(measured.instrument(span)).await
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
