//! What is held of records: of one, for whoever asks why it is here or not; of many, before a page
//! that ends them is applied. Reads only.

use chrono::{DateTime, Utc};
use phone_key::Region;

use super::{
    Db, StoreError, known,
    record_keys::{key_columns, key_of, successor_of},
};
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
        "-- store::stored_records::find
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

/// Those of these records that are not held at all.
pub async fn find_unknown(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<Vec<RecordKey>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (types, records) = key_columns(keys);
    let rows = sqlx::query!(
        r#"-- store::stored_records::find_unknown
        select u.object_type as "object_type!", u.record_id as "record_id!"
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        where (
            select e.record_id
            from external_refs e
            where e.account_id = $1 and e.integration_id = $2 and e.object_type = u.object_type and e.record_id = u.record_id
        ) is null"#,
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .fetch_all(db.of(account_id))
    .await?;
    rows.into_iter().map(|row| key_of(&row.object_type, row.record_id)).collect()
}

/// Those of these records that are held as live, with the e-mail addresses of their contacts.
pub async fn find_live_emails(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<Vec<(RecordKey, Vec<String>)>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (types, records) = key_columns(keys);
    let rows = sqlx::query!(
        r#"-- store::stored_records::find_live_emails
        select e.object_type, e.record_id,
            coalesce((select c.emails from contacts c where c.account_id = $1 and c.contact_id = e.contact_id), '{}') as "emails!"
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        cross join lateral (
            select r.object_type, r.record_id, r.contact_id, r.is_live
            from external_refs r
            where r.account_id = $1 and r.integration_id = $2 and r.object_type = u.object_type and r.record_id = u.record_id
            limit 1
        ) e
        where e.is_live"#,
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .fetch_all(db.of(account_id))
    .await?;
    rows.into_iter().map(|row| Ok((key_of(&row.object_type, row.record_id)?, row.emails))).collect()
}

/// A record as far as a look aside must know it.
pub struct HeldCopy {
    /// Which.
    pub key: RecordKey,
    /// The CRM's update time of the copy.
    pub record_updated_at: Option<DateTime<Utc>>,
    /// Not deleted in the CRM.
    pub is_live: bool,
    /// Its contact's organisation.
    pub organization: String,
}

/// Those of these records that are held.
pub async fn find_held(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<Vec<HeldCopy>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (types, records) = key_columns(keys);
    let rows = sqlx::query!(
        r#"-- store::stored_records::find_held
        select e.object_type, e.record_id, e.record_updated_at, e.is_live,
            coalesce((select c.organization from contacts c where c.account_id = $1 and c.contact_id = e.contact_id), '') as "organization!"
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        cross join lateral (
            select r.object_type, r.record_id, r.contact_id, r.record_updated_at, r.is_live
            from external_refs r
            where r.account_id = $1 and r.integration_id = $2 and r.object_type = u.object_type and r.record_id = u.record_id
            limit 1
        ) e"#,
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .fetch_all(db.of(account_id))
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(HeldCopy {
                key: key_of(&row.object_type, row.record_id)?,
                record_updated_at: row.record_updated_at,
                is_live: row.is_live,
                organization: row.organization,
            })
        })
        .collect()
}

/// The country of a record's address, where it is known.
pub async fn find_country(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    key: &RecordKey,
) -> Result<Option<Region>, StoreError> {
    let region = sqlx::query_scalar!(
        "-- store::stored_records::find_country
        select region
        from external_refs
        where account_id = $1 and integration_id = $2 and object_type = $3 and record_id = $4 and region <> ''",
        account_id.0,
        integration_id.0,
        key.object_type.as_str(),
        key.record_id,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    region.map(|region| known(Region::parse(&region).ok(), "external_refs", "region")).transpose()
}
