//! The tables `suppressions` and `suppression_keys`: which records were erased and must not come
//! back, by their keyed marks.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{Db, StoreError, Tx};
use crate::domain::ids::AccountId;

/// Whether anything was ever erased in this account: nearly none, and then no mark needs to be
/// made.
pub async fn has_any(tx: &mut Tx, account_id: AccountId) -> Result<bool, StoreError> {
    let has_any = sqlx::query_scalar!(
        r#"-- store::suppressions::has_any
        select exists (select from suppressions where account_id = $1) as "has_any!""#,
        account_id.0,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(has_any)
}

/// Those of these marks that are of erased records.
pub async fn find(tx: &mut Tx, account_id: AccountId, marks: &[Vec<u8>]) -> Result<HashSet<Vec<u8>>, StoreError> {
    let found = sqlx::query_scalar!(
        "-- store::suppressions::find
        select mark
        from suppressions
        where account_id = $1 and mark = any($2)",
        account_id.0,
        marks,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(found.into_iter().collect())
}

/// Remembers erased records.
pub async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    marks: &[Vec<u8>],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::suppressions::insert
        insert into suppressions (account_id, mark, created_at)
        select $1, u.mark, $3
        from unnest($2::bytea[]) as u (mark)
        on conflict (account_id, mark) do nothing",
        account_id.0,
        marks,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The account's sealed key; `None`: it has none yet.
pub async fn find_key(db: &Db, account_id: AccountId) -> Result<Option<Vec<u8>>, StoreError> {
    let sealed = sqlx::query_scalar!(
        "-- store::suppressions::find_key
        select sealed
        from suppression_keys
        where account_id = $1",
        account_id.0,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    Ok(sealed)
}

/// Stores the account's key, unless it has one.
pub async fn insert_key(db: &Db, account_id: AccountId, sealed: &[u8]) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::suppressions::insert_key
        insert into suppression_keys (account_id, sealed)
        values ($1, $2)
        on conflict (account_id) do nothing",
        account_id.0,
        sealed,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(())
}

/// Replaces the account's sealed key by the same key, sealed anew; false: somebody else has.
pub async fn reseal_key(db: &Db, account_id: AccountId, old: &[u8], sealed: &[u8]) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::suppressions::reseal_key
        update suppression_keys
        set sealed = $3
        where account_id = $1 and sealed = $2",
        account_id.0,
        old,
        sealed,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Whether this mark is of an erased record.
pub async fn is_erased(db: &Db, account_id: AccountId, mark: &[u8]) -> Result<bool, StoreError> {
    let is_erased = sqlx::query_scalar!(
        r#"-- store::suppressions::is_erased
        select exists (select from suppressions where account_id = $1 and mark = $2) as "is_erased!""#,
        account_id.0,
        mark,
    )
    .fetch_one(db.of(account_id))
    .await?;
    Ok(is_erased)
}
