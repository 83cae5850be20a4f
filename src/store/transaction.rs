//! Transactions as values: what one does is a type with a name, in the module that needs it, and it
//! is run by [`AccountDb::run`](super::AccountDb::run). No HTTP happens in one.

use std::{
    future::Future,
    ops::{Deref, DerefMut},
    time::Duration,
};

use tokio::time::sleep;

use super::{Session, StoreError, pool::ConnectionPool};
use crate::{domain::ids::AccountId, telemetry::metrics};

/// How often a transaction is tried when others were in its way.
const ATTEMPTS_MAX: u32 = 6;
/// The pause before the second try; before the third it is twice as long, and so on.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

/// Work that is done wholly or not at all.
pub trait Transaction: Send + Sync + 'static {
    /// The type's name in snake case, as logs show it. No other transaction has it;
    /// `tests/architecture.rs` holds both.
    const NAME: &'static str;
    /// What it gives when it is committed.
    type Output: Send + 'static;
    /// Why it was rolled back.
    type Error: TxError;

    /// The work. It runs again after a conflict ([`TxError::is_conflict`], serialization,
    /// deadlock), six times at most.
    fn run(&self, tx: &mut Tx) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
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

/// An open transaction of one account. Dropped before its end, it closes its connection, which
/// rolls it back.
#[derive(Debug)]
pub struct Tx {
    session: Session,
    account_id: AccountId,
}

impl Tx {
    /// Whose rows it reads and writes.
    pub const fn account_id(&self) -> AccountId {
        self.account_id
    }
}

impl Deref for Tx {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// Runs the work until it is committed, has failed, or has met others too often.
pub(super) async fn execute<T: Transaction>(
    pool: &ConnectionPool,
    account_id: AccountId,
    work: &T,
) -> Result<T::Output, T::Error> {
    let mut attempt = 1;
    loop {
        match try_once(pool, account_id, work).await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS_MAX => {
                metrics::transaction_conflict(T::NAME);
                tracing::debug!(attempt, "a transaction met a concurrent change, and is run again");
                sleep(CONFLICT_PAUSE * attempt).await;
                attempt += 1;
            }
            Err(error) if error.is_conflict() => {
                tracing::warn!(
                    attempt,
                    "concurrent changes were in the way of a transaction each time that it was tried"
                );
                return Err(error);
            }
            result => return result,
        }
    }
}

async fn try_once<T: Transaction>(
    pool: &ConnectionPool,
    account_id: AccountId,
    work: &T,
) -> Result<T::Output, T::Error> {
    let session = Session::acquire(pool).await.map_err(StoreError::from)?;
    let mut tx = Tx { session, account_id };
    tx.begin().await.map_err(StoreError::from)?;
    match work.run(&mut tx).await {
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
