//! Erases a person and keeps them erased. The rule is `identity::erasure`; here are its key, its transaction, and the calls that were
//! being answered meanwhile.

use std::sync::Arc;

use chrono::TimeDelta;
use thiserror::Error;

use crate::{
    credentials::{SuppressionKeyError, SuppressionKeys},
    domain::{
        clock::Clock,
        ids::{AccountId, ContactId},
    },
    identity::erasure::{self, EraseError, Erased},
    store::{self, Db, accounts::RulesCache},
};

/// Calls of persons erased so long ago are looked for again after an erasure: a statement of the call path lasts a second at most.
const LATE_CALLS: TimeDelta = TimeDelta::hours(1);

/// What erasing works with.
#[derive(Clone)]
pub struct Erasure {
    /// For its transaction.
    pub db: Db,
    /// The accounts' secrets.
    pub keys: SuppressionKeys,
    /// Which accounts there are.
    pub rules: RulesCache,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// Why a person was not erased.
#[derive(Debug, Error)]
pub enum ErasureError {
    /// No such account.
    #[error("there is no such account")]
    AccountNotFound,
    /// The account's secret cannot be had.
    #[error(transparent)]
    Key(#[from] SuppressionKeyError),
    /// Identity refused it.
    #[error(transparent)]
    Erase(#[from] EraseError),
    /// The database did not answer.
    #[error("the account could not be read")]
    Store(#[from] store::StoreError),
}

impl Erasure {
    /// Erases the person of this contact (or of its survivor). When it returns, no answer names them any more, and no sync, click or
    /// report brings their records back. Repeating it is safe.
    pub async fn erase(&self, account_id: AccountId, contact_id: ContactId) -> Result<Erased, ErasureError> {
        self.rules.find(account_id).await?.ok_or(ErasureError::AccountNotFound)?;
        let key = self.keys.find_or_make(account_id).await?;
        let now = self.clock.now();
        let erased = self
            .db
            .transaction(move |tx| {
                let key = key.clone();
                Box::pin(async move { erasure::erase(tx, account_id, contact_id, &key, now).await })
            })
            .await?;
        // A call that found the person a moment before stores its answer a moment after, and so does what is told of it. `retention`
        // looks once more.
        store::erasure::remove_late_calls(&self.db, account_id, now - LATE_CALLS).await?;
        let records = erased.records.clone();
        self.db
            .transaction(move |tx| {
                let records = records.clone();
                Box::pin(async move { store::erasure::remove_decisions(tx, account_id, &[], &[], &records).await })
            })
            .await?;
        Ok(erased)
    }
}
