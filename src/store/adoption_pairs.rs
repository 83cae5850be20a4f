//! Which placeholders have a record on their number, for `identity::adoption`.

use phone_key::PhoneKey;
use uuid::Uuid;

use super::{CallDb, Db, StoreError, Tx, known};
use crate::domain::{
    ids::{AccountId, ContactId, IntegrationId},
    record::{ObjectType, RecordKey},
};

/// The most placeholders that one look takes up.
pub const LOOK_MAX: i64 = 500;

/// A live record on a placeholder's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptionPair {
    /// The stranger's contact.
    pub placeholder_id: ContactId,
    /// The record's contact.
    pub contact_id: ContactId,
    /// Its integration.
    pub integration_id: IntegrationId,
    /// Which record.
    pub record: RecordKey,
}

struct PairRow {
    placeholder_id: Uuid,
    contact_id: Uuid,
    integration_id: Uuid,
    object_type: String,
    record_id: String,
}

impl TryFrom<PairRow> for AdoptionPair {
    type Error = StoreError;

    fn try_from(row: PairRow) -> Result<Self, StoreError> {
        Ok(Self {
            placeholder_id: ContactId(row.placeholder_id),
            contact_id: ContactId(row.contact_id),
            integration_id: IntegrationId(row.integration_id),
            record: RecordKey {
                object_type: known(row.object_type.parse::<ObjectType>().ok(), "phone_numbers", "object_type")?,
                record_id: row.record_id,
            },
        })
    }
}

/// Placeholders among these numbers that have a record beside them, with all such records.
pub async fn find_pairs(
    tx: &mut Tx,
    account_id: AccountId,
    keys: &[PhoneKey],
) -> Result<Vec<AdoptionPair>, StoreError> {
    let e164: Vec<i64> = keys.iter().map(|key| key.as_i64()).collect();
    let rows = sqlx::query_as!(
        PairRow,
        "-- store::adoption_pairs::find_pairs
        with stranger as materialized (
            -- One look-up a number: with statistics that have seen no placeholders, a list of numbers scanned all of them (1.9 s).
            select p.contact_id, p.e164
            from unnest($2::bigint[]) as k (e164)
            cross join lateral (
                select n.contact_id, n.e164
                from phone_numbers n
                where n.account_id = $1 and n.e164 = k.e164 and n.is_placeholder
                limit 1
            ) p
        )
        select s.contact_id as placeholder_id, n.contact_id, n.integration_id, n.object_type, n.record_id
        from stranger s
        join phone_numbers n on n.account_id = $1 and n.e164 = s.e164 and not n.is_placeholder",
        account_id.0,
        &e164,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(AdoptionPair::try_from).collect()
}

/// Whether a placeholder on this number has a record beside it: the cheap look of the call path.
pub async fn has_pair(db: &CallDb, account_id: AccountId, key: PhoneKey) -> Result<bool, StoreError> {
    db.of(account_id).read(|pool| async move {
        sqlx::query_scalar!(
            r#"-- store::adoption_pairs::has_pair
            select exists (select from phone_numbers n where n.account_id = $1 and n.e164 = $2 and n.is_placeholder)
               and exists (select from phone_numbers n where n.account_id = $1 and n.e164 = $2 and not n.is_placeholder) as "has_pair!""#,
            account_id.0,
            key.as_i64(),
        )
        .fetch_one(&pool)
        .await
    })
    .await
}

/// Numbers, from `after` on, whose placeholder has a record beside it: what a crash may have left
/// behind. At most [`LOOK_MAX`].
pub async fn find_left_behind(db: &Db, account_id: AccountId, after: i64) -> Result<Vec<PhoneKey>, StoreError> {
    let keys = sqlx::query_scalar!(
        r#"-- store::adoption_pairs::find_left_behind
        select p.e164 as "e164!"
        from phone_numbers p
        where p.account_id = $1 and p.is_placeholder and p.e164 > $2
          and exists (select from phone_numbers n where n.account_id = $1 and n.e164 = p.e164 and not n.is_placeholder)
        order by p.e164
        limit $3"#,
        account_id.0,
        after,
        LOOK_MAX,
    )
    .fetch_all(db.of(account_id))
    .await?;
    keys.into_iter().map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "phone_numbers", "e164")).collect()
}
