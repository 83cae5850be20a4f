//! What is held of one record, for whoever asks why it is here or not. Reads only.

use chrono::{DateTime, Utc};

use super::{Db, StoreError, external_refs::successor_of};
use crate::domain::{
    ids::{AccountId, ContactId, IntegrationId},
    record::RecordKey,
};

/// A record as it is held.
pub struct HeldRecord {
    /// Its contact; `None`: first seen as deleted.
    pub contact_id: Option<ContactId>,
    /// Not deleted in the CRM.
    pub is_live: bool,
    /// A sync brought it.
    pub is_synced: bool,
    /// The CRM's update time of this copy.
    pub record_updated_at: Option<DateTime<Utc>>,
    /// What it was merged or converted into.
    pub successor: Option<RecordKey>,
    /// When it was last written.
    pub updated_at: DateTime<Utc>,
}

/// One record.
pub async fn find(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    key: &RecordKey,
) -> Result<Option<HeldRecord>, StoreError> {
    let row = sqlx::query!(
        "-- store::traces::find
        select contact_id, is_live, is_synced, record_updated_at, successor_type, successor_id, updated_at
        from external_refs
        where account_id = $1 and integration_id = $2 and object_type = $3 and record_id = $4",
        account_id.0,
        integration_id.0,
        key.object_type.as_str(),
        key.record_id,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map(|row| {
        Ok(HeldRecord {
            contact_id: row.contact_id.map(ContactId),
            is_live: row.is_live,
            is_synced: row.is_synced,
            record_updated_at: row.record_updated_at,
            successor: successor_of(row.successor_type.as_deref(), row.successor_id)?,
            updated_at: row.updated_at,
        })
    })
    .transpose()
}

/// Whether this mark is of an erased record.
pub async fn is_erased(db: &Db, account_id: AccountId, mark: &[u8]) -> Result<bool, StoreError> {
    let is_erased = sqlx::query_scalar!(
        r#"-- store::traces::is_erased
        select exists (select from suppressions where account_id = $1 and mark = $2) as "is_erased!""#,
        account_id.0,
        mark,
    )
    .fetch_one(db.of(account_id))
    .await?;
    Ok(is_erased)
}
