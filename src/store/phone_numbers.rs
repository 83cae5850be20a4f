//! What weaker tiers look for among numbers. `caller_lookup` reads who has the very number;
//! `contact_writes` writes them.

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;

use super::{CallDb, StoreError, known};
use crate::domain::ids::{AccountId, ContactId};

/// A number found by a weaker tier, still to be proved.
pub struct NumberHit {
    /// Whose it is.
    pub contact_id: ContactId,
    /// The contact's rank.
    pub contact_created_at: DateTime<Utc>,
    /// As written.
    pub raw: String,
    /// Its key.
    pub key: Option<PhoneKey>,
}

/// Numbers of contacts with a record that have one of these keys, or stand without a country as one
/// of these digits. At most 201 each, first created first.
pub async fn find_hits(
    db: &CallDb,
    account_id: AccountId,
    keys: &[PhoneKey],
    local_digits: &[i64],
) -> Result<Vec<NumberHit>, StoreError> {
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
            Ok(NumberHit {
                contact_id: ContactId(row.contact_id),
                contact_created_at: row.contact_created_at,
                raw: row.raw,
                key: key.transpose()?,
            })
        })
        .collect()
}
