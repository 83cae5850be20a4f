//! The table `integrations`: what is read of it, and what `domain::integration_state` has decided
//! of it, written as plain columns. The right to write for one is in `lease`, its tokens are in
//! `access`.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    Db, StoreError, Tx, known,
    lease::{self, Lease},
    sync_runs,
};
use crate::domain::{
    hook::{PushState, PushStatus},
    ids::{AccountId, IntegrationId, SyncRunId},
    integration::{Freshness, Integration, Organization, PushSight, SyncHold},
    integration_state::{ControlEvent, ControlState, RefreshUse, StateTransition},
    notice::Notice,
    options::{Options, PushWish},
    provider::Provider,
};

#[expect(clippy::struct_excessive_bools, reason = "one a column")]
struct IntegrationRow {
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
    push_state: Option<String>,
    push_notice: Option<String>,
    push_checked_at: Option<DateTime<Utc>>,
    last_event_at: Option<DateTime<Utc>>,
    last_lag_ms: Option<i64>,
    suspected_losses: Option<i64>,
}

impl TryFrom<IntegrationRow> for Integration {
    type Error = StoreError;

    fn try_from(row: IntegrationRow) -> Result<Self, StoreError> {
        let hold = |text: String| known(text.parse::<SyncHold>().ok(), "integrations", "hold");
        let status = |state: String| -> Result<PushStatus, StoreError> {
            Ok(PushStatus {
                state: known(state.parse::<PushState>().ok(), "push_channels", "state")?,
                notice: row.push_notice.as_deref().and_then(Notice::read),
                checked_at: row.push_checked_at,
                last_event_at: row.last_event_at,
                last_lag_ms: row.last_lag_ms,
                suspected_losses: row.suspected_losses.unwrap_or(0),
            })
        };
        let push = row.push_state.map(status).transpose()?;
        Ok(Self {
            freshness: Freshness {
                integration_id: IntegrationId(row.integration_id),
                provider: known(row.provider.parse::<Provider>().ok(), "integrations", "provider")?,
                is_enabled: row.is_enabled,
                is_sync_on: row.is_sync_on,
                hold: row.hold.map(hold).transpose()?,
                first_started_at: row.first_started_at,
                last_completed_at: row.last_completed_at,
                known_through: row.known_through,
                period_seconds: row.period_seconds,
                is_widened: row.is_widened,
                has_unread: row.has_unread,
                is_push_wished: row.options.0.push == PushWish::On,
                push: push.as_ref().map(|push| PushSight { state: push.state, checked_at: push.checked_at }),
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
            push,
        })
    }
}

/// What opens its organisation, sealed by the vault.
pub struct SealedCredentials {
    /// What the administrator gave.
    pub credentials: Option<Vec<u8>>,
    /// The access token that they have brought already.
    pub access: Option<Vec<u8>>,
}

/// Inserts it; [`StoreError::Conflict`] if somebody else has just linked the same organisation:
/// look again.
pub async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    state: &ControlState,
    sealed: &SealedCredentials,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "-- store::integrations::insert
        insert into integrations (account_id, integration_id, provider, organization, is_enabled, is_sync_on, period_seconds, credentials, request_id,
            due_at, created_at, updated_at, options, access, access_version, company_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, 1, $14)
        on conflict do nothing",
        account_id.0,
        integration_id.0,
        state.organization.provider.as_str(),
        state.organization.name,
        state.is_enabled,
        state.is_sync_on,
        state.period_seconds,
        sealed.credentials,
        state.request_id,
        state.due_at,
        now,
        Json(state.options.clone()) as Json<Options>,
        sealed.access,
        state.company_id,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

/// Gives an integration the name that its organisation has now, under a run's lease. False: the
/// lease is lost, or another integration of the account has that name.
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

/// The most integrations of one company that an uninstall reaches.
const INSTALLED_MAX: i64 = 100;

/// The integrations of all accounts with an organisation, by the CRM's own number of it. One of the
/// named statements across accounts.
pub async fn find_installed(
    db: &Db,
    provider: Provider,
    company_id: &str,
) -> Result<Vec<(AccountId, IntegrationId)>, StoreError> {
    let rows = sqlx::query!(
        "-- store::integrations::find_installed (across accounts)
        select account_id, integration_id
        from integrations
        where provider = $1 and company_id = $2 and is_enabled
        order by account_id, integration_id
        limit $3",
        provider.as_str(),
        company_id,
        INSTALLED_MAX,
    )
    .fetch_all(db.all())
    .await?;
    Ok(rows.into_iter().map(|row| (AccountId(row.account_id), IntegrationId(row.integration_id))).collect())
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
        IntegrationRow,
        r#"-- store::integrations::list
        select i.integration_id, i.provider, i.organization, i.is_enabled, i.is_sync_on, i.is_purging, i.period_seconds, i.is_widened, i.has_unread, i.hold, i.hold_reason,
            i.known_through, i.first_started_at, i.last_completed_at, i.due_at, i.created_at, i.credentials is not null as "has_credentials!",
            i.options as "options: Json<Options>", i.held_deletions, i.sweep_due_at,
            (
                select r.sync_run_id
                from sync_runs r
                where r.account_id = $1 and r.integration_id = i.integration_id and r.state in ('QUEUED', 'RUNNING')
            ) as current_sync_run_id,
            p.state as "push_state?", p.notice as push_notice, p.checked_at as push_checked_at, p.last_event_at, p.last_lag_ms,
            p.suspected_losses as "suspected_losses?"
        from integrations i
        left join push_channels p on p.account_id = $1 and p.integration_id = i.integration_id
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

/// An integration that nobody else changes until the transaction ends.
pub struct LockedIntegration {
    /// Which.
    pub id: IntegrationId,
    /// All that decides of its runs.
    pub state: ControlState,
}

#[expect(clippy::struct_excessive_bools, reason = "one a column")]
struct ControlRow {
    provider: String,
    organization: String,
    company_id: Option<String>,
    request_id: Option<Uuid>,
    is_enabled: bool,
    is_sync_on: bool,
    is_purging: bool,
    is_widened: bool,
    has_unread: bool,
    period_seconds: i32,
    options: Json<Options>,
    hold: Option<String>,
    hold_reason: Option<String>,
    refused_at: Option<DateTime<Utc>>,
    failures: i32,
    refresh_use: String,
    last_completed_at: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    sweep_due_at: Option<DateTime<Utc>>,
    held_deletions: Option<i64>,
    confirmed_deletions: Option<i64>,
}

impl TryFrom<ControlRow> for ControlState {
    type Error = StoreError;

    fn try_from(row: ControlRow) -> Result<Self, StoreError> {
        let hold = |text: String| known(text.parse::<SyncHold>().ok(), "integrations", "hold");
        Ok(Self {
            organization: Organization {
                provider: known(row.provider.parse::<Provider>().ok(), "integrations", "provider")?,
                name: row.organization,
            },
            company_id: row.company_id,
            request_id: row.request_id,
            is_enabled: row.is_enabled,
            is_sync_on: row.is_sync_on,
            is_purging: row.is_purging,
            is_widened: row.is_widened,
            has_unread: row.has_unread,
            period_seconds: row.period_seconds,
            options: row.options.0,
            hold: row.hold.map(hold).transpose()?,
            hold_notice: row.hold_reason.as_deref().and_then(Notice::read),
            refused_at: row.refused_at,
            failures: row.failures,
            refresh_use: known(row.refresh_use.parse::<RefreshUse>().ok(), "integrations", "refresh_use")?,
            last_completed_at: row.last_completed_at,
            due_at: row.due_at,
            sweep_due_at: row.sweep_due_at,
            held_deletions: row.held_deletions,
            confirmed_deletions: row.confirmed_deletions,
        })
    }
}

/// Locks one integration.
pub async fn lock(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<Option<LockedIntegration>, StoreError> {
    let row = sqlx::query_as!(
        ControlRow,
        r#"-- store::integrations::lock
        select provider, organization, company_id, request_id, is_enabled, is_sync_on, is_purging, is_widened, has_unread, period_seconds,
            options as "options: Json<Options>", hold, hold_reason, refused_at, failures, refresh_use, last_completed_at, due_at,
            sweep_due_at, held_deletions, confirmed_deletions
        from integrations
        where account_id = $1 and integration_id = $2
        for no key update"#,
        account_id.0,
        integration_id.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| Ok(LockedIntegration { id: integration_id, state: row.try_into()? })).transpose()
}

/// Locks the integration of an organisation, or the one that this request made; the latter if there
/// are both.
pub async fn lock_link(
    tx: &mut Tx,
    account_id: AccountId,
    organization: &Organization,
    request_id: Option<Uuid>,
) -> Result<Option<LockedIntegration>, StoreError> {
    let found = sqlx::query_scalar!(
        "-- store::integrations::lock_link
        select integration_id
        from integrations
        where account_id = $1 and ((provider = $2 and organization = $3) or request_id = $4)
        order by (request_id = $4) desc nulls last
        limit 1
        for no key update",
        account_id.0,
        organization.provider.as_str(),
        organization.name,
        request_id,
    )
    .fetch_optional(&mut **tx)
    .await?;
    match found {
        Some(id) => lock(tx, account_id, IntegrationId(id)).await,
        None => Ok(None),
    }
}

/// Whether it is enabled now, read after a ref of it was written: a purge that waits for that ref
/// has not ended then.
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

/// Writes what has been decided of a locked integration, and takes what goes with it of its lease
/// and its runs. Whoever decides it cancels or queues runs itself.
pub async fn save_transition(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    transition: &StateTransition,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    save(tx, account_id, integration_id, &transition.state, now).await?;
    if transition.stops_run {
        lease::revoke(tx, account_id, integration_id).await?;
    }
    if transition.forgets_resume_points {
        sync_runs::forget_resume_points_of_full_runs(tx, account_id, integration_id).await?;
    }
    Ok(())
}

/// What an event of its own run makes of an integration, whose lease the transaction holds; the
/// lease ends.
pub(super) async fn apply_to_own(
    tx: &mut Tx,
    lease: Lease,
    event: ControlEvent,
    now: DateTime<Utc>,
) -> Result<ControlState, StoreError> {
    let Lease { account_id, integration_id, .. } = lease;
    let locked = known(lock(tx, account_id, integration_id).await?, "integrations", "integration_id")?;
    // Whoever disables it, or switches sync off, takes the lease away.
    let state = known(locked.state.apply(event, now).ok(), "integrations", "is_sync_on")?.state;
    save(tx, account_id, integration_id, &state, now).await?;
    lease::end(tx, lease).await?;
    Ok(state)
}

async fn save(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    state: &ControlState,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::integrations::save
        update integrations
        set organization = $3, company_id = $4, request_id = $5, is_enabled = $6, is_sync_on = $7, is_purging = $8, is_widened = $9,
            has_unread = $10, period_seconds = $11, options = $12, hold = $13, hold_reason = $14, refused_at = $15, failures = $16,
            refresh_use = $17, last_completed_at = $18, due_at = $19, sweep_due_at = $20, held_deletions = $21,
            confirmed_deletions = $22, updated_at = $23
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
        state.organization.name,
        state.company_id,
        state.request_id,
        state.is_enabled,
        state.is_sync_on,
        state.is_purging,
        state.is_widened,
        state.has_unread,
        state.period_seconds,
        Json(state.options.clone()) as Json<Options>,
        state.hold.map(SyncHold::as_str),
        state.hold_notice.as_ref().map(Notice::to_string),
        state.refused_at,
        state.failures,
        state.refresh_use.as_str(),
        state.last_completed_at,
        state.due_at,
        state.sweep_due_at,
        state.held_deletions,
        state.confirmed_deletions,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
