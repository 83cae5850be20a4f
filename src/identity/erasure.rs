//! Erases a person: refs, numbers, calls, decisions and what the feed says of the records, in one
//! transaction. The marks that stay keep the records from coming back, see `records`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::{
    domain::{
        ids::{AccountId, ContactId, IntegrationId},
        record::RecordKey,
        suppression::SuppressionKey,
    },
    store::{
        self, StoreError, Tx, TxError,
        contact_writes::{contacts, erasure, refs, tombstones},
        hints, look_asides, rejected, suppressions,
    },
};

/// What was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedPerson {
    /// The contact, or its survivor if another's id was given.
    pub contact_id: ContactId,
    /// Records that will not come back.
    pub records: Vec<(IntegrationId, RecordKey)>,
    /// False: the person had been erased before.
    pub is_new: bool,
}

/// Why a person was not erased.
#[derive(Debug, Error)]
pub enum EraseError {
    /// There never was one.
    #[error("there is no contact with this id in this account")]
    ContactNotFound,
    /// The database did not do it.
    #[error("the person could not be erased; nothing was, try again")]
    Store(#[from] StoreError),
}

impl TxError for EraseError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict))
    }
}

/// Erases the person of this contact, with all aliases. Locks in the order of every writer:
/// integrations, refs, contacts. A page that is being written is waited for; the next one finds the
/// marks.
pub async fn erase(
    tx: &mut Tx,
    account_id: AccountId,
    contact_id: ContactId,
    suppression: &SuppressionKey,
    now: DateTime<Utc>,
) -> Result<ErasedPerson, EraseError> {
    let person = erasure::find_person(tx, account_id, contact_id).await?;
    let Some(&head_id) = person.first() else { return Err(EraseError::ContactNotFound) };
    erasure::lock_integrations(tx, account_id, &person).await?;
    refs::lock_of_contacts(tx, account_id, &person).await?;
    contacts::lock(tx, account_id, &person).await?;
    if erasure::find_person(tx, account_id, contact_id).await? != person {
        // It was merged, or somebody into it, while its locks were waited for.
        return Err(StoreError::Conflict.into());
    }
    let records = erasure::remove_refs(tx, account_id, &person).await?;
    let marks: Vec<Vec<u8>> =
        records.iter().map(|(integration_id, key)| suppression.mark(*integration_id, key)).collect();
    suppressions::insert(tx, account_id, &marks, now).await?;
    let of_integrations: BTreeSet<IntegrationId> = records.iter().map(|(integration_id, _)| *integration_id).collect();
    for integration_id in of_integrations {
        let keys: Vec<RecordKey> =
            records.iter().filter(|(of, _)| *of == integration_id).map(|(_, key)| key.clone()).collect();
        rejected::remove(tx, account_id, integration_id, &keys).await?;
        hints::remove_of(tx, account_id, integration_id, &keys).await?;
        rejected::empty_nameless(tx, account_id, integration_id).await?;
    }
    let numbers = erasure::remove_numbers(tx, account_id, &person).await?;
    store::erasure::remove_calls(tx, account_id, &person, &numbers).await?;
    look_asides::forget_numbers(tx, account_id, &numbers).await?;
    store::erasure::remove_decisions(tx, account_id, &person, &numbers, &records).await?;
    let is_new = tombstones::tombstone_erased(tx, account_id, head_id, now).await?;
    Ok(ErasedPerson { contact_id: head_id, records, is_new })
}
