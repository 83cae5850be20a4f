//! The numbers of refs and placeholders.

use chrono::{DateTime, Utc};
use phone_key::{KEY_VERSION, PhoneKey, Region};
use uuid::Uuid;

use crate::{
    domain::{
        ids::{AccountId, ContactId, IntegrationId},
        record::{NUMBERS_MAX, RecordKey},
    },
    store::{StoreError, Tx},
};

/// Numbers of one ref, as they are stored.
#[derive(Clone)]
pub struct NumberRow {
    /// Its contact.
    pub contact_id: ContactId,
    /// Its contact's rank.
    pub contact_created_at: DateTime<Utc>,
    /// The ref that owns it.
    pub record: RecordKey,
    /// Its place among the ref's numbers.
    pub position: i16,
    /// As written.
    pub raw: String,
    /// The region that it was read with.
    pub region: Option<Region>,
    /// Its key.
    pub key: Option<PhoneKey>,
    /// Extension digits.
    pub extension: String,
    /// The CRM's name for it.
    pub label: String,
    /// Its digits, where another region or none may be meant.
    pub local_digits: Option<i64>,
}

/// Removes all numbers of these refs, then adds the new ones.
pub async fn replace(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    owners: &[(ContactId, RecordKey)],
    numbers: &[NumberRow],
) -> Result<(), StoreError> {
    if !owners.is_empty() {
        let contact_ids: Vec<Uuid> = owners.iter().map(|(id, _)| id.0).collect();
        let types: Vec<String> = owners.iter().map(|(_, key)| key.object_type.as_str().to_owned()).collect();
        let records: Vec<String> = owners.iter().map(|(_, key)| key.record_id.clone()).collect();
        sqlx::query!(
            "-- store::contact_writes::numbers::replace (removes)
            delete from phone_numbers n
            using unnest($3::uuid[], $4::text[], $5::text[]) as u (contact_id, object_type, record_id)
            where n.account_id = $1 and n.integration_id = $2
              and n.contact_id = u.contact_id and n.object_type = u.object_type and n.record_id = u.record_id",
            account_id.0,
            integration_id.0,
            &contact_ids,
            &types,
            &records,
        )
        .execute(&mut **tx)
        .await?;
    }
    if numbers.is_empty() {
        return Ok(());
    }
    insert(tx, account_id, integration_id, numbers).await
}

/// Adds a number behind those of its ref, unless the ref has its key already, or has as many as a
/// record may have. Its contact must be locked.
pub async fn add(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    number: &NumberRow,
) -> Result<(), StoreError> {
    let there = sqlx::query!(
        r#"-- store::contact_writes::numbers::add
        select coalesce(max(n.position) + 1, 0)::smallint as "position!", count(*) as "count!",
            count(*) filter (where n.e164 = $6) > 0 as "has_key!"
        from phone_numbers n
        where n.account_id = $1 and n.integration_id = $2 and n.contact_id = $3 and n.object_type = $4 and n.record_id = $5"#,
        account_id.0,
        integration_id.0,
        number.contact_id.0,
        number.record.object_type.as_str(),
        number.record.record_id,
        number.key.map(PhoneKey::as_i64),
    )
    .fetch_one(&mut **tx)
    .await?;
    if there.has_key || usize::try_from(there.count).is_ok_and(|count| count >= NUMBERS_MAX) {
        return Ok(());
    }
    insert(tx, account_id, integration_id, &[NumberRow { position: there.position, ..number.clone() }]).await
}

async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    numbers: &[NumberRow],
) -> Result<(), StoreError> {
    let column = |text: fn(&NumberRow) -> &str| numbers.iter().map(|row| text(row).to_owned()).collect::<Vec<_>>();
    sqlx::query!(
        "-- store::contact_writes::numbers::insert
        insert into phone_numbers (account_id, integration_id, contact_id, contact_created_at, object_type, record_id, position, raw, region,
            e164, extension, label, local_digits, key_version, is_placeholder)
        select $1, $2, u.contact_id, u.contact_created_at, u.object_type, u.record_id, u.position, u.raw, u.region,
            u.e164, u.extension, u.label, u.local_digits, $14, false
        from unnest($3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::smallint[], $8::text[], $9::text[], $10::bigint[], $11::text[],
            $12::text[], $13::bigint[])
            as u (contact_id, contact_created_at, object_type, record_id, position, raw, region, e164, extension, label, local_digits)",
        account_id.0,
        integration_id.0,
        &numbers.iter().map(|row| row.contact_id.0).collect::<Vec<_>>(),
        &numbers.iter().map(|row| row.contact_created_at).collect::<Vec<_>>(),
        &column(|row| row.record.object_type.as_str()),
        &column(|row| &row.record.record_id),
        &numbers.iter().map(|row| row.position).collect::<Vec<_>>(),
        &column(|row| &row.raw),
        &column(|row| row.region.as_ref().map_or("", Region::as_str)),
        &numbers.iter().map(|row| row.key.map(PhoneKey::as_i64)).collect::<Vec<_>>() as &[Option<i64>],
        &column(|row| &row.extension),
        &column(|row| &row.label),
        &numbers.iter().map(|row| row.local_digits).collect::<Vec<_>>() as &[Option<i64>],
        KEY_VERSION,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes all numbers of these contacts. Returns the keys of those that could be called.
pub async fn remove_all(tx: &mut Tx, account_id: AccountId, contact_ids: &[Uuid]) -> Result<Vec<i64>, StoreError> {
    let removed = sqlx::query_scalar!(
        "-- store::contact_writes::numbers::remove_all
        delete from phone_numbers
        where account_id = $1 and contact_id = any($2)
        returning e164",
        account_id.0,
        contact_ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(removed.into_iter().flatten().collect())
}
