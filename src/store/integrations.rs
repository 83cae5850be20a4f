//! The table `integrations`, but for what a worker writes under its lease (see `lease`).

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Db, StoreError, Tx, known, lease::Lease};
use crate::domain::{
    ids::{AccountId, IntegrationId, SyncRunId},
    integration::{Freshness, Hold, Integration, Organization, Provider},
    notice::Notice,
    options::Options,
    sync_run::SyncKind,
};

#[expect(clippy::struct_excessive_bools, reason = "one a column")]
struct Row {
    integration_id: Uuid,
    provider: String,
    organization: String,
    is_enabled: bool,
    is_sync_on: bool,
    is_purging: bool,
    period_seconds: i32,
    is_widened: bool,
    has_unread: bool,
    hold: Option<String>,
    hold_reason: Option<String>,
    known_through: Option<DateTime<Utc>>,
    first_started_at: Option<DateTime<Utc>>,
    last_completed_at: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    has_credentials: bool,
    options: Json<Options>,
    held_deletions: Option<i64>,
    sweep_due_at: Option<DateTime<Utc>>,
    current_sync_run_id: Option<Uuid>,
}

impl TryFrom<Row> for Integration {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let hold = |text: String| known(Hold::parse(&text), "integrations", "hold");
        Ok(Self {
            freshness: Freshness {
                integration_id: IntegrationId(row.integration_id),
                provider: known(Provider::parse(&row.provider), "integrations", "provider")?,
                is_enabled: row.is_enabled,
                is_sync_on: row.is_sync_on,
                hold: row.hold.map(hold).transpose()?,
                first_started_at: row.first_started_at,
                last_completed_at: row.last_completed_at,
                known_through: row.known_through,
                period_seconds: row.period_seconds,
                is_widened: row.is_widened,
                has_unread: row.has_unread,
            },
            organization: row.organization,
            is_purging: row.is_purging,
            hold_notice: row.hold_reason.as_deref().and_then(Notice::read),
            due_at: row.due_at,
            current_sync_run_id: row.current_sync_run_id.map(SyncRunId),
            has_credentials: row.has_credentials,
            options: row.options.0,
            held_deletions: row.held_deletions,
            sweep_due_at: row.sweep_due_at,
            created_at: row.created_at,
        })
    }
}

/// What `EnableSync` stores.
pub struct NewIntegration {
    /// Its id, if it is new.
    pub id: IntegrationId,
    /// The CRM's organisation.
    pub organization: Organization,
    /// Copies contacts.
    pub is_sync_on: bool,
    /// From the end of a pass to the next.
    pub period_seconds: i32,
    /// What is copied and mirrored.
    pub options: Options,
    /// Sealed by the vault.
    pub credentials: Option<Vec<u8>>,
    /// The access token that they have brought already, sealed by the vault.
    pub access: Option<Vec<u8>>,
    /// The CRM's own number of the organisation, if it gave one.
    pub company_id: Option<String>,
    /// The client's id of its request.
    pub request_id: Option<Uuid>,
}

/// Inserts it; [`StoreError::Conflict`] if somebody else has just linked the same organisation: look again.
pub async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    new: &NewIntegration,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "-- store::integrations::insert
        insert into integrations (account_id, integration_id, provider, organization, is_enabled, is_sync_on, period_seconds, credentials, request_id,
            due_at, created_at, updated_at, options, access, access_version, company_id)
        values ($1, $2, $3, $4, true, $5, $6, $7, $8, case when $5 then $9::timestamptz end, $9, $9, $10, $11, 1, $12)
        on conflict do nothing",
        account_id.0,
        new.id.0,
        new.organization.provider.as_str(),
        new.organization.name,
        new.is_sync_on,
        new.period_seconds,
        new.credentials,
        new.request_id,
        now,
        Json(new.options) as Json<Options>,
        new.access,
        new.company_id,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

/// Takes a disabled integration up again, with its contacts and its checkpoint.
pub async fn enable_again(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    new: &NewIntegration,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::integrations::enable_again
        update integrations
        set is_enabled = true, is_sync_on = $3, period_seconds = $4, credentials = coalesce($5, credentials), request_id = $6,
            due_at = case when $3 then $7::timestamptz end, hold = null, hold_reason = null, refused_at = null, failures = 0, updated_at = $7,
            -- Other wishes than before: everything is looked at anew.
            sweep_due_at = case when options <> $8 and last_completed_at is not null then $7 else sweep_due_at end,
            is_widened = is_widened or (options <> $8 and last_completed_at is not null),
            options = $8, organization = $10, company_id = coalesce($11, company_id),
            access = $9, access_version = access_version + 1, refresh_claim = null, refresh_claimed_until = null, refresh_use = 'FREE'
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
        new.is_sync_on,
        new.period_seconds,
        new.credentials,
        new.request_id,
        now,
        Json(new.options) as Json<Options>,
        new.access,
        new.organization.name,
        new.company_id,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Gives an integration the name that its organisation has now, under a run's lease. False: the lease is lost, or another integration of the
/// account has that name.
pub async fn rename(db: &Db, lease: Lease, name: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::integrations::rename
        update integrations i
        set organization = $4, updated_at = $5
        where i.account_id = $1 and i.integration_id = $2 and i.lease_number = $3
          and not exists (
              select from integrations o
              where o.account_id = $1 and o.provider = i.provider and o.organization = $4 and o.integration_id <> $2
          )",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        name,
        now,
    )
    .execute(db.of(lease.account_id))
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The integration of an organisation, by the CRM's own number of it.
pub async fn find_by_company(
    tx: &mut Tx,
    account_id: AccountId,
    provider: Provider,
    company_id: &str,
) -> Result<Option<IntegrationId>, StoreError> {
    let found = sqlx::query_scalar!(
        "-- store::integrations::find_by_company
        select integration_id
        from integrations
        where account_id = $1 and provider = $2 and company_id = $3
        order by integration_id
        limit 1",
        account_id.0,
        provider.as_str(),
        company_id,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found.map(IntegrationId))
}

/// One integration.
pub async fn find(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<Option<Integration>, StoreError> {
    let found = list_among(db, account_id, Some(integration_id), None, 1).await?;
    Ok(found.into_iter().next())
}

/// A page of an account's integrations by id.
pub async fn list(
    db: &Db,
    account_id: AccountId,
    after: Option<IntegrationId>,
    limit: i64,
) -> Result<Vec<Integration>, StoreError> {
    list_among(db, account_id, None, after, limit).await
}

async fn list_among(
    db: &Db,
    account_id: AccountId,
    only: Option<IntegrationId>,
    after: Option<IntegrationId>,
    limit: i64,
) -> Result<Vec<Integration>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"-- store::integrations::list
        select i.integration_id, i.provider, i.organization, i.is_enabled, i.is_sync_on, i.is_purging, i.period_seconds, i.is_widened, i.has_unread, i.hold, i.hold_reason,
            i.known_through, i.first_started_at, i.last_completed_at, i.due_at, i.created_at, i.credentials is not null as "has_credentials!",
            i.options as "options: Json<Options>", i.held_deletions, i.sweep_due_at,
            (
                select r.sync_run_id
                from sync_runs r
                where r.account_id = $1 and r.integration_id = i.integration_id and r.state in ('QUEUED', 'RUNNING')
            ) as current_sync_run_id
        from integrations i
        where i.account_id = $1
          and ($2::uuid is null or i.integration_id = $2)
          and ($3::uuid is null or i.integration_id > $3)
        order by i.integration_id
        limit $4"#,
        account_id.0,
        only.map(|id| id.0),
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db.of(account_id))
    .await?;
    rows.into_iter().map(Integration::try_from).collect()
}

/// What a change of an integration must know while it is locked.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Locked {
    /// Which.
    pub id: IntegrationId,
    /// Its CRM's organisation.
    pub organization: Organization,
    /// False after `DisableSync`.
    pub is_enabled: bool,
    /// Copies contacts.
    pub is_sync_on: bool,
    /// Copied data is being removed.
    pub is_purging: bool,
    /// Why it is held.
    pub hold: Option<Hold>,
    /// Sealed by the vault.
    pub credentials: Option<Vec<u8>>,
    /// Nothing was ever copied completely.
    pub is_first_copy: bool,
    /// The request that enabled it last.
    pub request_id: Option<Uuid>,
    /// When the next pass may start.
    pub due_at: Option<DateTime<Utc>>,
    /// What is copied and mirrored.
    pub options: Options,
    /// The next pass is to be a sweep.
    pub is_sweep_due: bool,
    /// Deletions that the last sweep did not make because they were too many.
    pub held_deletions: Option<i64>,
}

impl Locked {
    /// What a pass does that nobody has asked for by its kind.
    pub const fn next_kind(&self) -> SyncKind {
        SyncKind::next(self.is_first_copy, self.is_sweep_due)
    }
}

/// Locks one integration: by its id, by its organisation, or by the request that made it.
pub async fn lock(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: Option<IntegrationId>,
    organization: Option<&Organization>,
    request_id: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<Option<Locked>, StoreError> {
    let row = sqlx::query!(
        r#"-- store::integrations::lock
        select integration_id, provider, organization, is_enabled, is_sync_on, is_purging, hold, credentials, request_id, due_at,
            last_completed_at is null as "is_first_copy!", options as "options: Json<Options>", held_deletions,
            coalesce(sweep_due_at <= $6, false) as "is_sweep_due!"
        from integrations
        where account_id = $1 and (integration_id = $2 or (provider = $3 and organization = $4) or request_id = $5)
        order by (request_id = $5) desc nulls last
        limit 1
        for no key update"#,
        account_id.0,
        integration_id.map(|id| id.0),
        organization.map(|organization| organization.provider.as_str()),
        organization.map(|organization| organization.name.as_str()),
        request_id,
        now,
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        Ok(Locked {
            id: IntegrationId(row.integration_id),
            organization: Organization {
                provider: known(Provider::parse(&row.provider), "integrations", "provider")?,
                name: row.organization,
            },
            is_enabled: row.is_enabled,
            is_sync_on: row.is_sync_on,
            is_purging: row.is_purging,
            hold: row.hold.map(|text| known(Hold::parse(&text), "integrations", "hold")).transpose()?,
            credentials: row.credentials,
            is_first_copy: row.is_first_copy,
            request_id: row.request_id,
            due_at: row.due_at,
            options: row.options.0,
            is_sweep_due: row.is_sweep_due,
            held_deletions: row.held_deletions,
        })
    })
    .transpose()
}

/// Whether it is enabled now, read after a ref of it was written: a purge that waits for that ref has not ended then.
pub async fn is_enabled(tx: &mut Tx, account_id: AccountId, integration_id: IntegrationId) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar!(
        "-- store::integrations::is_enabled
        select is_enabled
        from integrations
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found.unwrap_or(false))
}

/// A change of options, credentials or sync; by default only sync is switched off.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
pub struct Change {
    /// Sync on or off, as it shall be.
    pub is_sync_on: bool,
    /// A new period.
    pub period_seconds: Option<i32>,
    /// New wishes.
    pub options: Option<Options>,
    /// The next pass is a sweep.
    pub starts_sweep: bool,
    /// More is to be copied than before.
    pub widens: bool,
    /// Deletions that the next sweep may make.
    pub confirmed_deletions: Option<i64>,
    /// The name that the organisation has now.
    pub organization: Option<String>,
    /// The CRM's own number of the organisation.
    pub company_id: Option<String>,
    /// New sealed credentials.
    pub credentials: Option<Vec<u8>>,
    /// The sealed access token that the new credentials have brought already; the old one goes with the old credentials.
    pub access: Option<Vec<u8>>,
    /// Ends a hold: whatever stopped the passes is mended, or is to be tried again.
    pub ends_hold: bool,
    /// A refresh token that is spent may be sent once more.
    pub tries_refresh_token: bool,
    /// When the next pass is due; `None`: as it is. Sync off is never due.
    pub due_at: Option<DateTime<Utc>>,
    /// Stops a running pass: its next write is refused.
    pub stops_run: bool,
}

/// Changes a locked integration.
pub async fn change(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    change: &Change,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::integrations::change
        update integrations
        set is_sync_on = $3,
            period_seconds = coalesce($4, period_seconds),
            credentials = coalesce($5, credentials),
            hold = case when $6 then null else hold end,
            hold_reason = case when $6 then null else hold_reason end,
            failures = case when $6 then 0 else failures end,
            due_at = case when $3 then coalesce($7, due_at) end,
            lease_number = lease_number + case when $8 then 1 else 0 end,
            lease_until = case when $8 then null else lease_until end,
            updated_at = $9,
            options = coalesce($10, options),
            sweep_due_at = case when $11 then $9 else sweep_due_at end,
            is_widened = is_widened or $14,
            confirmed_deletions = coalesce($12, confirmed_deletions),
            access = case when $5::bytea is null then access else $13 end,
            access_version = access_version + case when $5::bytea is null then 0 else 1 end,
            refresh_claim = case when $5::bytea is null then refresh_claim end,
            refresh_claimed_until = case when $5::bytea is null then refresh_claimed_until end,
            refused_at = case when $5::bytea is null then refused_at end,
            organization = coalesce($16, organization), company_id = coalesce($17, company_id),
            refresh_use = case when $5::bytea is not null then 'FREE' when $15 and refresh_use = 'SPENT' then 'ONCE' else refresh_use end
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
        change.is_sync_on,
        change.period_seconds,
        change.credentials,
        change.ends_hold,
        change.due_at,
        change.stops_run,
        now,
        change.options.map(Json) as Option<Json<Options>>,
        change.starts_sweep,
        change.confirmed_deletions,
        change.access,
        change.widens,
        change.tries_refresh_token,
        change.organization,
        change.company_id,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Disables a locked integration, forgets its credentials and tokens, and stops a running pass; `purge` leaves the removal to a worker.
pub async fn disable(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    purge: bool,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::integrations::disable
        update integrations
        set is_enabled = false, is_sync_on = false, credentials = null, hold = null, hold_reason = null, refused_at = null, failures = 0,
            access = null, access_version = access_version + 1, refresh_claim = null, refresh_claimed_until = null, refresh_use = 'FREE',
            is_purging = is_purging or $3,
            due_at = case when is_purging or $3 then $4::timestamptz end,
            lease_number = lease_number + 1, lease_until = null, updated_at = $4
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
        purge,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
