//! Erases a person and keeps them erased. The rule is `identity::erasure`; here are its key, its
//! transaction, and the calls that were being answered meanwhile.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tracing::warn;

use crate::{
    credentials::{SuppressionKeyError, SuppressionKeys},
    domain::{
        audit::{AuditActor, AuditResult, AuditTarget},
        clock::Clock,
        ids::{AccountId, ContactId, IntegrationId},
        record::RecordKey,
        suppression::SuppressionKey,
    },
    identity::erasure::{self, EraseError, ErasedPerson},
    store::{self, Db, StoreError, Transaction, Tx, accounts::RulesCache, audit, changes},
    telemetry::chain,
};

/// Calls of persons erased so long ago are looked for again after an erasure: a statement of the
/// call path lasts a second at most.
const LATE_CALLS: TimeDelta = TimeDelta::hours(1);

/// What erasing works with.
#[derive(Clone)]
pub struct PersonErasure {
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
    Store(#[from] StoreError),
}

impl PersonErasure {
    /// Erases the person of this contact (or of its survivor). When it returns, no answer names
    /// them any more, and no sync, click or report brings their records back. Repeating it is safe.
    pub async fn erase(
        &self,
        actor: &AuditActor,
        account_id: AccountId,
        contact_id: ContactId,
    ) -> Result<ErasedPerson, ErasureError> {
        self.rules.find(account_id).await?.ok_or(ErasureError::AccountNotFound)?;
        let key = self.keys.find_or_make(account_id).await?;
        let now = self.clock.now();
        let work = ErasePerson { actor: actor.clone(), contact_id, key, now };
        let erased = self.db.of(account_id).run(work).await?;
        if let Err(error) = self.remove_late(account_id, &erased.records, now).await {
            // The person is erased. `retention` looks for late calls once more.
            warn!(account.id = %account_id, error = %chain(&error), "what was being written of an erased person could not be looked for");
        }
        Ok(erased)
    }

    /// A call that found the person a moment before stores its answer a moment after, and so does
    /// what is told of it.
    async fn remove_late(
        &self,
        account_id: AccountId,
        records: &[(IntegrationId, RecordKey)],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        store::erasure::remove_late_calls(&self.db, account_id, now - LATE_CALLS).await?;
        self.db.of(account_id).run(EraseLateDecisions { records: records.to_vec() }).await
    }
}

struct ErasePerson {
    actor: AuditActor,
    contact_id: ContactId,
    key: SuppressionKey,
    now: DateTime<Utc>,
}

impl Transaction for ErasePerson {
    const NAME: &'static str = "erase_person";
    type Output = ErasedPerson;
    type Error = EraseError;

    async fn run(&self, tx: &mut Tx) -> Result<ErasedPerson, EraseError> {
        let account_id = tx.account_id();
        let erased = erasure::erase(tx, account_id, self.contact_id, &self.key, self.now).await?;
        let result = if erased.is_new { AuditResult::Done } else { AuditResult::Unchanged };
        audit::insert(tx, account_id, &self.actor, AuditTarget::contact(erased.contact_id), result, &[]).await?;
        Ok(erased)
    }
}

struct EraseLateDecisions {
    records: Vec<(IntegrationId, RecordKey)>,
}

impl Transaction for EraseLateDecisions {
    const NAME: &'static str = "erase_late_decisions";
    type Output = ();
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let account_id = tx.account_id();
        // Whoever is looking again at a decision writes it before.
        changes::lock_feed(tx, account_id).await?;
        store::erasure::remove_decisions(tx, account_id, &[], &[], &self.records).await
    }
}
