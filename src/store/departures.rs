//! What is held of records that a page says are gone, read before the page is applied.

use super::{
    Db, StoreError,
    external_refs::{key_columns, key_of},
};
use crate::domain::{
    ids::{AccountId, IntegrationId},
    record::RecordKey,
};

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
        r#"-- store::departures::find_unknown
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
pub async fn find_departing(
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
        r#"-- store::departures::find_departing
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
