//! What is said on a pooled connection, each statement with a limit on this side: the server's own
//! `statement_timeout` is never heard from a server that has gone silent. A connection that passes
//! the limit is closed and makes its contemporaries suspect; one whose statement was left in the
//! middle is heard out in the background, within the same limit, before anybody else gets it; one
//! that was left in a transaction is closed, which rolls it back. So nothing that a caller does, or
//! leaves undone, reaches the next one.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    FutureExt, Stream, StreamExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Connection, Describe, Either, Error, Execute, Executor, PgConnection, Postgres, SqlSafeStr, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::{Sleep, sleep, timeout};

use super::{
    pool::{ConnectionPool, IDLE_ANSWER_MAX, LoanedConnection, SharedPool},
    trouble::{DatabaseTrouble, ends_connection, is_read_only, name_of, named},
};

type Step = Result<Either<PgQueryResult, PgRow>, Error>;

/// A connection on loan; dropped, it goes back if it is in order.
pub struct Session {
    loan: LoanedConnection,
    condition: Condition,
    is_in_transaction: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Whatever was asked has been answered.
    InOrder,
    /// A statement was begun, and its end not yet heard.
    Unanswered,
    /// To be closed.
    Broken,
    /// To be closed: it has passed its limit in silence.
    Silent,
    /// To be closed: its server does not write.
    ReadOnly,
}

impl Session {
    /// On the pool's next free connection, asked before whether it is there if the pool is to do
    /// so. Errors: [`ConnectionPool::lend`]'s.
    pub(super) async fn acquire(pool: &ConnectionPool) -> Result<Self, Error> {
        loop {
            let loan = pool.lend().await?;
            let asks_before_use = loan.shared.settings.asks_before_use;
            let mut session = Self { loan, condition: Condition::InOrder, is_in_transaction: false };
            if !asks_before_use || session.answers(IDLE_ANSWER_MAX).await {
                return Ok(session);
            }
            // Closes it before the next is asked for.
            drop(session);
        }
    }

    /// Whether it answers within this time; if not, it is not to be used.
    pub(super) async fn answers(&mut self, within: Duration) -> bool {
        let Ok((raw, mut heard)) = self.ask("-- ping".into_sql_str()) else { return false };
        let Ok(answer) = timeout(within, raw.ping()).await else {
            heard.pass_limit();
            return false;
        };
        heard.end(answer).is_ok()
    }

    /// Begins a transaction. Until [`Session::end`] has succeeded, dropping this closes the
    /// connection.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        self.is_in_transaction = true;
        self.execute("begin").await?;
        Ok(())
    }

    /// Ends the transaction by `commit` or `rollback`.
    pub(super) async fn end(&mut self, how: &'static str) -> Result<(), Error> {
        self.execute(how).await?;
        self.is_in_transaction = false;
        Ok(())
    }

    fn limit(&self) -> Duration {
        answer_limit(self.loan.shared.settings.statement_timeout)
    }

    /// The connection, for one statement.
    fn ask(&mut self, sql: SqlStr) -> Result<(&mut PgConnection, Heard<'_>), Error> {
        let limit = self.limit();
        let link = self.loan.link.as_mut().ok_or(Error::WorkerCrashed)?;
        self.condition = Condition::Unanswered;
        Ok((&mut link.raw, Heard { condition: &mut self.condition, shared: &self.loan.shared, limit, sql }))
    }
}

/// A little above what the server allows itself, so that a server that lives says so first.
pub(super) fn answer_limit(statement_timeout: Duration) -> Duration {
    statement_timeout + (statement_timeout / 5).min(Duration::from_secs(2))
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut link) = self.loan.link.take() else { return };
        let pool = &self.loan.shared;
        match self.condition {
            Condition::Silent => pool.suspect(&link),
            // Closing it rolls back.
            _ if self.is_in_transaction => drop(link),
            Condition::Broken => {
                drop(link);
                pool.ask_idle();
            }
            Condition::InOrder => pool.release(link),
            Condition::ReadOnly => pool.met_read_only(link),
            Condition::Unanswered => {
                let (shared, limit) = (Arc::clone(pool), self.limit());
                pool.spawn(async move {
                    match timeout(limit, link.raw.ping()).await {
                        Ok(Ok(())) => shared.release(link),
                        Ok(Err(_)) => drop(link),
                        Err(_) => shared.suspect(&link),
                    }
                });
            }
        }
    }
}

/// What became of a statement, noted for when the session ends.
struct Heard<'s> {
    condition: &'s mut Condition,
    shared: &'s Arc<SharedPool>,
    limit: Duration,
    /// Whose first line is its name.
    sql: SqlStr,
}

impl Heard<'_> {
    /// The answer; an error says which statement it is about.
    fn end<T>(&mut self, answer: Result<T, Error>) -> Result<T, Error> {
        *self.condition = match &answer {
            Err(error) if is_read_only(error) => Condition::ReadOnly,
            Err(error) if ends_connection(error) => Condition::Broken,
            _ => Condition::InOrder,
        };
        answer.map_err(|error| {
            let error = named(error, self.sql.as_str());
            if let Some(trouble) = DatabaseTrouble::of_statement(&error, self.sql.as_str()) {
                self.shared.tell(&trouble, Some(&error));
            }
            error
        })
    }

    fn pass_limit(&mut self) -> Error {
        *self.condition = Condition::Silent;
        let words = format!("{}: the database did not answer within {:?}", name_of(self.sql.as_str()), self.limit);
        Error::Io(io::Error::new(io::ErrorKind::TimedOut, words))
    }
}

/// A statement, taken apart: what is sent is told by its name.
struct Statement {
    sql: SqlStr,
    arguments: Option<Result<Option<PgArguments>, BoxDynError>>,
    is_persistent: bool,
}

impl Statement {
    fn of<'q>(mut query: impl Execute<'q, Postgres>) -> Self {
        let (arguments, is_persistent) = (Some(query.take_arguments()), query.persistent());
        Self { sql: query.sql(), arguments, is_persistent }
    }
}

impl Execute<'_, Postgres> for Statement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.arguments.take().unwrap_or(Ok(None))
    }

    fn persistent(&self) -> bool {
        self.is_persistent
    }
}

/// A statement's answer, until its end or the limit.
struct StatementAnswer<'s> {
    steps: BoxStream<'s, Step>,
    heard: Heard<'s>,
    limit: Pin<Box<Sleep>>,
    has_ended: bool,
}

impl Stream for StatementAnswer<'_> {
    type Item = Step;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Step>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        match self.steps.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(step))) => Poll::Ready(Some(Ok(step))),
            Poll::Ready(Some(Err(error))) => {
                self.has_ended = true;
                Poll::Ready(Some(self.heard.end(Err(error))))
            }
            Poll::Ready(None) => {
                self.has_ended = true;
                *self.heard.condition = Condition::InOrder;
                Poll::Ready(None)
            }
            Poll::Pending => {
                if self.limit.poll_unpin(context).is_pending() {
                    return Poll::Pending;
                }
                self.has_ended = true;
                let error = self.heard.pass_limit();
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl<'c> Executor<'c> for &'c mut Session {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Step>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let statement = Statement::of(query);
        match self.ask(statement.sql.clone()) {
            Ok((raw, heard)) => {
                let limit = Box::pin(sleep(heard.limit));
                StatementAnswer { steps: raw.fetch_many(statement), heard, limit, has_ended: false }.boxed()
            }
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let statement = Statement::of(query);
        let asked = self.ask(statement.sql.clone());
        async move {
            let (raw, mut heard) = asked?;
            match timeout(heard.limit, raw.fetch_optional(statement)).await {
                Ok(answer) => heard.end(answer),
                Err(_) => Err(heard.pass_limit()),
            }
        }
        .boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        let asked = self.ask(sql.clone());
        async move {
            let (raw, mut heard) = asked?;
            match timeout(heard.limit, raw.prepare_with(sql, parameters)).await {
                Ok(answer) => heard.end(answer),
                Err(_) => Err(heard.pass_limit()),
            }
        }
        .boxed()
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        let asked = self.ask(sql.clone());
        async move { asked?.0.describe(sql).await }.boxed()
    }
}

/// One statement on whichever connection is free.
impl<'p> Executor<'p> for &'_ ConnectionPool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Step>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let all = async move {
            let mut session = Session::acquire(&pool).await?;
            let steps: Vec<_> = session.fetch_many(query).try_collect().await?;
            Ok::<_, Error>(stream::iter(steps.into_iter().map(Ok)))
        };
        stream::once(all).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        async move { Session::acquire(&pool).await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        async move { Session::acquire(&pool).await?.prepare_with(sql, parameters).await }.boxed()
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        async move { Session::acquire(&pool).await?.describe(sql).await }.boxed()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("condition", &self.condition).finish_non_exhaustive()
    }
}
