//! What is said on a pooled connection, each statement with a limit on this side: the server's own `statement_timeout` is never heard
//! from a server that has gone silent. A connection that passes the limit is closed and makes its contemporaries suspect; one whose
//! statement was left in the middle is heard out in the background, within the same limit, before anybody else gets it; one that was
//! left in a transaction is closed, which rolls it back. So nothing that a caller does, or leaves undone, reaches the next one.

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
    Connection, Describe, Either, Error, Execute, Executor, PgConnection, Postgres, SqlStr,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::{Sleep, sleep, timeout};

use super::{
    pool::{Link, Pool, Shared},
    trouble::{Trouble, ends_connection, is_read_only},
};

type Step = Result<Either<PgQueryResult, PgRow>, Error>;

/// A connection on loan; dropped, it goes back if it is in order.
pub struct Session {
    link: Option<Link>,
    shared: Arc<Shared>,
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
    pub(super) fn new(link: Link, shared: Arc<Shared>) -> Self {
        Self { link: Some(link), shared, condition: Condition::InOrder, is_in_transaction: false }
    }

    /// The connection of one that nobody came to use.
    pub(super) fn into_link(mut self) -> Option<Link> {
        self.link.take()
    }

    /// Whether it answers within this time; if not, it is not to be used.
    pub(super) async fn answers(&mut self, within: Duration) -> bool {
        let Ok((raw, mut heard)) = self.ask() else { return false };
        let Ok(answer) = timeout(within, raw.ping()).await else {
            heard.pass_limit();
            return false;
        };
        heard.end(answer.as_ref().err());
        answer.is_ok()
    }

    /// Begins a transaction. Until [`Session::end`] has succeeded, dropping this closes the connection.
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
        answer_limit(self.shared.settings.statement_timeout)
    }

    /// The connection, for one statement.
    fn ask(&mut self) -> Result<(&mut PgConnection, Heard<'_>), Error> {
        let limit = self.limit();
        let link = self.link.as_mut().ok_or(Error::WorkerCrashed)?;
        self.condition = Condition::Unanswered;
        Ok((&mut link.raw, Heard { condition: &mut self.condition, shared: &self.shared, limit }))
    }
}

/// A little above what the server allows itself, so that a server that lives says so first.
pub(super) fn answer_limit(statement_timeout: Duration) -> Duration {
    statement_timeout + (statement_timeout / 5).min(Duration::from_secs(2))
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        match self.condition {
            Condition::Silent => self.shared.suspect(&link),
            // Closing it rolls back.
            _ if self.is_in_transaction => drop(link),
            Condition::Broken => {
                drop(link);
                self.shared.ask_idle();
            }
            Condition::InOrder => self.shared.release(link),
            Condition::ReadOnly => self.shared.met_read_only(link),
            Condition::Unanswered => {
                let (shared, limit) = (Arc::clone(&self.shared), self.limit());
                self.shared.spawn(async move {
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
    shared: &'s Arc<Shared>,
    limit: Duration,
}

impl Heard<'_> {
    fn end(&mut self, error: Option<&Error>) {
        *self.condition = match error {
            Some(error) if is_read_only(error) => Condition::ReadOnly,
            Some(error) if ends_connection(error) => Condition::Broken,
            None | Some(_) => Condition::InOrder,
        };
        if let Some((trouble, error)) = error.and_then(|error| Some((Trouble::of_statement(error)?, error))) {
            self.shared.tell(&trouble, Some(error));
        }
    }

    fn pass_limit(&mut self) -> Error {
        *self.condition = Condition::Silent;
        let words = format!("the database did not answer within {:?}", self.limit);
        Error::Io(io::Error::new(io::ErrorKind::TimedOut, words))
    }
}

/// A statement's answer, until its end or the limit.
struct Answer<'s> {
    steps: BoxStream<'s, Step>,
    heard: Heard<'s>,
    limit: Pin<Box<Sleep>>,
    has_ended: bool,
}

impl Stream for Answer<'_> {
    type Item = Step;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Step>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        match self.steps.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(step))) => Poll::Ready(Some(Ok(step))),
            Poll::Ready(Some(Err(error))) => {
                self.has_ended = true;
                self.heard.end(Some(&error));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                self.has_ended = true;
                self.heard.end(None);
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
        match self.ask() {
            Ok((raw, heard)) => {
                let limit = Box::pin(sleep(heard.limit));
                Answer { steps: raw.fetch_many(query), heard, limit, has_ended: false }.boxed()
            }
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let asked = self.ask();
        async move {
            let (raw, mut heard) = asked?;
            match timeout(heard.limit, raw.fetch_optional(query)).await {
                Ok(answer) => {
                    heard.end(answer.as_ref().err());
                    answer
                }
                Err(_) => Err(heard.pass_limit()),
            }
        }
        .boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        let asked = self.ask();
        async move {
            let (raw, mut heard) = asked?;
            match timeout(heard.limit, raw.prepare_with(sql, parameters)).await {
                Ok(answer) => {
                    heard.end(answer.as_ref().err());
                    answer
                }
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
        let asked = self.ask();
        async move { asked?.0.describe(sql).await }.boxed()
    }
}

/// One statement on whichever connection is free.
impl<'p> Executor<'p> for &'_ Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Step>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let all = async move {
            let mut session = pool.acquire().await?;
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
        async move { pool.acquire().await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        async move { pool.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        async move { pool.acquire().await?.describe(sql).await }.boxed()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("condition", &self.condition).finish_non_exhaustive()
    }
}
