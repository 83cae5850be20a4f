//! Administrators who were sent to a CRM to authorize this service, and have not come back yet.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, StoreError, Tx, known};
use crate::domain::{
    ids::{AccountId, IntegrationId},
    provider::Provider,
};

/// Open ones of an account.
pub const OPEN_MAX: i64 = 100;

/// An authorization under way.
#[derive(Debug, Clone)]
pub struct PendingAuthorization {
    /// The CRM.
    pub provider: Provider,
    /// Its organisation; empty: whichever the administrator chooses.
    pub organization: String,
    /// The integration to authorize again; `None`: a new one.
    pub integration_id: Option<IntegrationId>,
    /// Details, sealed by the vault.
    pub sealed: Vec<u8>,
    /// When it is over.
    pub expires_at: DateTime<Utc>,
}

/// Stores one under the hash of its secret; false: [`OPEN_MAX`] are open.
pub async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    state_hash: &[u8],
    new: &PendingAuthorization,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    // Two administrators at once may pass the limit together; it only keeps the table from growing.
    let open = sqlx::query_scalar!(
        r#"-- store::authorizations::insert (counts the open ones)
        select count(*) as "open!"
        from authorizations
        where account_id = $1 and expires_at > $2"#,
        account_id.0,
        now,
    )
    .fetch_one(&mut **tx)
    .await?;
    if open >= OPEN_MAX {
        return Ok(false);
    }
    sqlx::query!(
        "-- store::authorizations::insert
        insert into authorizations (account_id, state_hash, provider, organization, integration_id, sealed, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)",
        account_id.0,
        state_hash,
        new.provider.as_str(),
        new.organization,
        new.integration_id.map(|id| id.0),
        new.sealed,
        now,
        new.expires_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

/// Takes one away: whoever gets it is the only one. `None`: there is none, or no longer.
pub async fn take(
    db: &Db,
    account_id: AccountId,
    state_hash: &[u8],
) -> Result<Option<PendingAuthorization>, StoreError> {
    let row = sqlx::query!(
        "-- store::authorizations::take
        delete from authorizations
        where account_id = $1 and state_hash = $2
        returning provider, organization, integration_id, sealed, expires_at",
        account_id.0,
        state_hash,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map(|row| {
        Ok(PendingAuthorization {
            provider: known(row.provider.parse::<Provider>().ok(), "authorizations", "provider")?,
            organization: row.organization,
            integration_id: row.integration_id.map(|id: Uuid| IntegrationId(id)),
            sealed: row.sealed,
            expires_at: row.expires_at,
        })
    })
    .transpose()
}
