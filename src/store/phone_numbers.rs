//! The table `phone_numbers`: what weaker tiers look for, and the writes that `identity` makes. `caller_lookup` reads who has a number.

use chrono::{DateTime, Utc};
use phone_key::{KEY_VERSION, PhoneKey, Region};
use uuid::Uuid;

use super::{CallDb, StoreError, Tx, known};
use crate::domain::{
    ids::{AccountId, ContactId, IntegrationId},
    record::{NUMBERS_MAX, RecordKey},
};

/// A number found by a weaker tier, still to be proved.
pub struct Hit {
    /// Whose it is.
    pub contact_id: ContactId,
    /// The contact's rank.
    pub contact_created_at: DateTime<Utc>,
    /// As written.
    pub raw: String,
    /// Its key.
    pub key: Option<PhoneKey>,
}

/// Numbers of contacts with a record that have one of these keys, or stand without a country as one of these digits. At most 201 each,
/// first created first.
pub async fn find_hits(
    db: &CallDb,
    account_id: AccountId,
    keys: &[PhoneKey],
    local_digits: &[i64],
) -> Result<Vec<Hit>, StoreError> {
    let keys: &Vec<i64> = &keys.iter().map(|key| key.as_i64()).collect();
    let rows = db
        .of(account_id)
        .read(|pool| async move {
            sqlx::query!(
                r#"-- store::phone_numbers::find_hits
                select h.contact_id as "contact_id!", h.contact_created_at as "contact_created_at!", h.raw as "raw!", h.e164
                from unnest($2::bigint[]) as k (e164)
                cross join lateral (
                    select n.contact_id, n.contact_created_at, n.raw, n.e164
                    from phone_numbers n
                    where n.account_id = $1 and n.e164 = k.e164 and not n.is_placeholder
                    order by n.contact_created_at, n.contact_id
                    limit 201
                ) h
                union all
                select h.contact_id, h.contact_created_at, h.raw, h.e164
                from unnest($3::bigint[]) as k (digits)
                cross join lateral (
                    select n.contact_id, n.contact_created_at, n.raw, n.e164
                    from phone_numbers n
                    where n.account_id = $1 and n.local_digits = k.digits and not n.is_placeholder
                    order by n.contact_created_at, n.contact_id
                    limit 201
                ) h"#,
                account_id.0,
                keys,
                local_digits,
            )
            .fetch_all(&pool)
            .await
        })
        .await?;
    rows.into_iter()
        .map(|row| {
            let key = row.e164.map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "phone_numbers", "e164"));
            Ok(Hit {
                contact_id: ContactId(row.contact_id),
                contact_created_at: row.contact_created_at,
                raw: row.raw,
                key: key.transpose()?,
            })
        })
        .collect()
}

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
            "-- store::phone_numbers::replace (removes)
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

/// Adds a number behind those of its ref, unless the ref has its key already, or has as many as a record may have. Its contact must be
/// locked.
pub async fn add(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    number: &NumberRow,
) -> Result<(), StoreError> {
    let there = sqlx::query!(
        r#"-- store::phone_numbers::add
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
        "-- store::phone_numbers::insert
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
