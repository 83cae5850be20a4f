//! Takes in one record that an agent clicked or an automation created, before a sync has seen it.
//! Never overwrites what a sync brought.

use std::slice;

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;

use super::records::{fields, find_erased, number_rows, ref_row};
use crate::{
    domain::{
        ids::{AccountId, ContactId, IdSource, IntegrationId},
        record::NormalRecord,
        suppression::SuppressionKey,
    },
    store::{
        StoreError, Tx,
        contact_writes::{
            contacts,
            numbers::{self, NumberRow},
            refs,
        },
    },
};

/// Why a record cannot be registered by a click or a report.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The CRM has deleted it, as far as the last sync saw.
    #[error(
        "the record is deleted in the CRM as of the last sync; it can be registered again when a sync has seen it restored"
    )]
    RecordGone,
    /// The contact to bind it to has a record already, or is not live.
    #[error("the contact already has a record; leave `contact_id` empty, or give the placeholder of the call")]
    ContactHasRecord,
    /// The contact to bind it to does not exist.
    #[error("there is no such contact")]
    ContactNotFound,
    /// The person was erased.
    #[error("the person of this record was erased and must not be known here again")]
    Erased,
    /// The database did not do it.
    #[error("the record could not be stored")]
    Store(#[from] StoreError),
}

impl crate::store::TxError for RegisterError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict))
    }
}

/// A record to take in.
pub struct RecordRegistration<'a> {
    /// What a click or a report says of it.
    pub record: &'a NormalRecord,
    /// The placeholder that it is; `None`: a contact of its own, if it has none.
    pub bind_to: Option<ContactId>,
    /// Tells whether it was erased.
    pub suppression: &'a SuppressionKey,
}

/// Takes in one record that an agent clicked or an automation created. Never overwrites what a sync
/// brought. Returns the record's contact.
pub async fn register(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    registration: &RecordRegistration<'_>,
    now: DateTime<Utc>,
    ids: &IdSource,
) -> Result<ContactId, RegisterError> {
    let RecordRegistration { record, bind_to, suppression } = *registration;
    let known = refs::lock(tx, account_id, integration_id, slice::from_ref(&record.key)).await?;
    if known.is_empty()
        && !find_erased(tx, account_id, integration_id, std::iter::once(record), suppression).await?.is_empty()
    {
        return Err(RegisterError::Erased);
    }
    let placeholder = match bind_to {
        Some(contact_id) => Some(lock_placeholder(tx, account_id, contact_id).await?),
        None => None,
    };
    let Some(known) = known.first() else {
        return register_unknown(tx, account_id, integration_id, record, placeholder, now, ids).await;
    };
    let (true, Some((contact_id, created_at))) = (known.is_live, known.contact) else {
        return Err(RegisterError::RecordGone);
    };
    if !known.is_synced {
        contacts::lock(tx, account_id, &[contact_id]).await?;
        contacts::add_clicked(tx, account_id, &fields(record, contact_id), now).await?;
        if let Some(region) = record.region {
            refs::set_region(tx, account_id, integration_id, &record.key, region).await?;
        }
        for number in number_rows(record, contact_id, created_at) {
            numbers::add(tx, account_id, integration_id, &number).await?;
        }
    }
    match placeholder {
        Some(BindTarget::Placeholder(placeholder_id)) => {
            Ok(super::adoption::merge_placeholders(tx, account_id, contact_id, &[placeholder_id], now).await?)
        }
        // The contact given is the record's own already, or was merged into it.
        Some(BindTarget::HasRecord(known_id)) if known_id != contact_id => Err(RegisterError::ContactHasRecord),
        _ => Ok(contact_id),
    }
}

async fn register_unknown(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    record: &NormalRecord,
    placeholder: Option<BindTarget>,
    now: DateTime<Utc>,
    ids: &IdSource,
) -> Result<ContactId, RegisterError> {
    if let Some(BindTarget::HasRecord(_)) = placeholder {
        // A page may have brought this very record, and adopted the placeholder, while its lock was
        // waited for.
        let is_there = !refs::lock(tx, account_id, integration_id, slice::from_ref(&record.key)).await?.is_empty();
        return Err(if is_there { StoreError::Conflict.into() } else { RegisterError::ContactHasRecord });
    }
    let contact_id = ContactId(ids.new_v7(now));
    let mut fields = fields(record, contact_id);
    if fields.display_name.is_empty() {
        fields.display_name =
            record.numbers.iter().find_map(|number| number.key).map(PhoneKey::e164).unwrap_or_default();
    }
    contacts::insert(tx, account_id, &[fields], now).await?;
    refs::insert(tx, account_id, integration_id, &[ref_row(record, Some(contact_id))], now).await?;
    let rows: Vec<NumberRow> = number_rows(record, contact_id, now).collect();
    numbers::replace(tx, account_id, integration_id, &[], &rows).await?;
    match placeholder {
        Some(BindTarget::Placeholder(placeholder_id)) => {
            Ok(super::adoption::merge_placeholders(tx, account_id, contact_id, &[placeholder_id], now).await?)
        }
        _ => Ok(contact_id),
    }
}

enum BindTarget {
    /// Still without a record.
    Placeholder(ContactId),
    /// Not a placeholder, or not any more: this contact, which has a record.
    HasRecord(ContactId),
}

async fn lock_placeholder(
    tx: &mut Tx,
    account_id: AccountId,
    contact_id: ContactId,
) -> Result<BindTarget, RegisterError> {
    let locked = contacts::lock(tx, account_id, &[contact_id]).await?;
    let Some(contact) = locked.first() else { return Err(RegisterError::ContactNotFound) };
    match contact.survivor_id {
        Some(survivor_id) => Ok(BindTarget::HasRecord(survivor_id)),
        None if !contact.is_live => Err(RegisterError::ContactNotFound),
        None if contact.is_placeholder => Ok(BindTarget::Placeholder(contact_id)),
        None => Ok(BindTarget::HasRecord(contact_id)),
    }
}
