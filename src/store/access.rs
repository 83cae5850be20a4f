//! The access token of an integration, and who is getting a new one. Of several that need it, one
//! claims it by a conditional update, asks the CRM outside of any transaction, and stores what came
//! unless something newer is there. A claim is a lease, and so uses the database's clock.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, StoreError, Tx, integrations::SealedCredentials, known};
use crate::domain::{
    ids::{AccountId, IntegrationId},
    integration_state::RefreshUse,
};

/// What an integration has for getting in.
pub struct StoredAccess {
    /// Sealed by the vault.
    pub credentials: Option<Vec<u8>>,
    /// The access token, sealed by the vault.
    pub access: Option<Vec<u8>>,
    /// The CRM's own number of the organisation, once it is known.
    pub company_id: Option<String>,
    /// Grows with each access token, and with each change of the credentials.
    pub version: i64,
    /// Who is, or was, getting a new one.
    pub claim: Option<Uuid>,
    /// The claim has not run out.
    pub is_claim_live: bool,
    /// Whether the refresh token may be sent.
    pub refresh_use: RefreshUse,
    /// The integration is held because its credentials are refused.
    pub is_auth_failed: bool,
    /// Its CRM is to push changes, or nobody has said otherwise.
    pub wants_push: bool,
}

/// What an integration has; `None`: there is no such integration. A claim of more than an hour (the
/// longest is a minute) was made by a clock that was ahead.
pub async fn find(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<Option<StoredAccess>, StoreError> {
    let row = sqlx::query!(
        r#"-- store::access::find
        select credentials, access, access_version, company_id, refresh_claim, refresh_use,
            hold is not distinct from 'AUTH_FAILED' as "is_auth_failed!",
            coalesce(refresh_claimed_until > statement_timestamp()
                and refresh_claimed_until < statement_timestamp() + interval '1 hour', false) as "is_claim_live!",
            options ->> 'push' is distinct from 'OFF' as "wants_push!"
        from integrations
        where account_id = $1 and integration_id = $2"#,
        account_id.0,
        integration_id.0,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map(|row| {
        Ok(StoredAccess {
            credentials: row.credentials,
            access: row.access,
            company_id: row.company_id,
            version: row.access_version,
            claim: row.refresh_claim,
            is_claim_live: row.is_claim_live,
            refresh_use: known(row.refresh_use.parse::<RefreshUse>().ok(), "integrations", "refresh_use")?,
            is_auth_failed: row.is_auth_failed,
            wants_push: row.wants_push,
        })
    })
    .transpose()
}

/// Claims the right to get the next access token for `seconds`, if nothing has changed since
/// `seen`. Returns the sealed credentials; `None`: somebody was quicker. A try that somebody has
/// asked for is used up by it.
pub async fn claim(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    claim: Uuid,
    seconds: f64,
    seen: &StoredAccess,
) -> Result<Option<Vec<u8>>, StoreError> {
    let credentials = sqlx::query_scalar!(
        r#"-- store::access::claim
        update integrations
        set refresh_use = case when refresh_use = 'ONCE' then 'SPENT' else refresh_use end, refresh_claim = $3,
            refresh_claimed_until = statement_timestamp() + make_interval(secs => $4)
        where account_id = $1 and integration_id = $2 and access_version = $5 and credentials is not null
          and refresh_claim is not distinct from $6
          and (refresh_claim is null or refresh_claimed_until <= statement_timestamp()
              or refresh_claimed_until >= statement_timestamp() + interval '1 hour')
        returning credentials as "credentials!""#,
        account_id.0,
        integration_id.0,
        claim,
        seconds,
        seen.version,
        seen.claim,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    Ok(credentials)
}

/// Stores what the CRM gave, and ends the claim; without an access token the next one who needs it
/// gets another. Returns the access token's number; `None`: there is a newer one than `seen` by
/// now, or the credentials were changed, and nothing is stored. Whose the claim is does not matter:
/// a process that was stopped for longer than its claim holds the only refresh token that is good.
pub async fn store(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    seen: i64,
    credentials: Option<&[u8]>,
    access: Option<&[u8]>,
) -> Result<Option<i64>, StoreError> {
    let version = sqlx::query_scalar!(
        "-- store::access::store
        update integrations
        set credentials = coalesce($4, credentials), access = $5, access_version = access_version + 1,
            refresh_claim = null, refresh_claimed_until = null, refresh_use = 'FREE'
        where account_id = $1 and integration_id = $2 and access_version = $3
        returning access_version",
        account_id.0,
        integration_id.0,
        seen,
        credentials,
        access,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    Ok(version)
}

/// Replaces the credentials of a locked integration, and the access token with them; whoever is
/// renewing the old one stores nothing. The version is counted here, and not in
/// [`ControlState`](crate::domain::integration_state::ControlState): renewals are decided by it.
pub async fn replace(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    sealed: &SealedCredentials,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::access::replace
        update integrations
        set credentials = $3, access = $4, access_version = access_version + 1, refresh_claim = null, refresh_claimed_until = null,
            authorized_at = $5
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
        sealed.credentials,
        sealed.access,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What an administrator gave a locked integration.
pub struct GivenCredentials {
    /// Sealed by the vault.
    pub sealed: Option<Vec<u8>>,
    /// When they were given; of those that were stored before this was noted, when the integration
    /// was made.
    pub authorized_at: DateTime<Utc>,
}

/// Reads them.
pub async fn find_given(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<Option<GivenCredentials>, StoreError> {
    let found = sqlx::query_as!(
        GivenCredentials,
        r#"-- store::access::find_given
        select credentials as sealed, coalesce(authorized_at, created_at) as "authorized_at!"
        from integrations
        where account_id = $1 and integration_id = $2"#,
        account_id.0,
        integration_id.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found)
}

/// Gives a claim back without a token. `is_lost`: the CRM may have given one that never arrived;
/// the claim stays then, run out, as a mark for the next one.
pub async fn release(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    claim: Uuid,
    is_lost: bool,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::access::release
        update integrations
        set refresh_claim = case when $4 then refresh_claim end,
            refresh_claimed_until = statement_timestamp() + case when $4 then interval '0' end
        where account_id = $1 and integration_id = $2 and refresh_claim = $3",
        account_id.0,
        integration_id.0,
        claim,
        is_lost,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(())
}
