//! The table `push_channels`: how the CRM of an integration pushes its changes. Written by the run
//! that looks after it, under its lease, and by the events that come.

use chrono::{DateTime, Utc};

use super::{Db, StoreError, Tx, known, lease::Lease, push_streams::PushLease};
use crate::domain::{
    hook::{HookAddress, HookOwner, PushChannel, PushState, PushWatch},
    ids::{AccountId, IntegrationId},
    notice::Notice,
    provider::Provider,
    push_losses::PushLosses,
};

/// Whose events this address is for; `None`: nobody's any more.
pub async fn find_owner(db: &Db, address: HookAddress) -> Result<Option<HookOwner>, StoreError> {
    let row = sqlx::query!(
        r#"-- store::push_channels::find_owner
        select p.integration_id, p.secret as "secret!", i.provider, i.is_enabled and i.is_sync_on as "is_on!"
        from push_channels p
        join integrations i on i.account_id = $1 and i.integration_id = p.integration_id
        where p.account_id = $1 and p.hook_number = $2 and p.secret is not null"#,
        address.account_id.0,
        address.number,
    )
    .fetch_optional(db.of(address.account_id))
    .await?;
    row.map(|row| {
        Ok(HookOwner {
            integration_id: IntegrationId(row.integration_id),
            provider: known(row.provider.parse::<Provider>().ok(), "integrations", "provider")?,
            secret: row.secret,
            is_on: row.is_on,
        })
    })
    .transpose()
}

/// What is stored of an integration's hook; `None`: it has none, as one whose changes are a stream.
pub async fn find(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<Option<PushChannel>, StoreError> {
    let row = sqlx::query!(
        r#"-- store::push_channels::find
        select state, notice, hook_number as "hook_number!", hook_id, secret as "secret!", checked_at, registered_at, renewed_at, announced, missed
        from push_channels
        where account_id = $1 and integration_id = $2 and hook_number is not null and secret is not null"#,
        account_id.0,
        integration_id.0,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map(|row| {
        Ok(PushChannel {
            state: known(row.state.parse::<PushState>().ok(), "push_channels", "state")?,
            notice: row.notice.as_deref().and_then(Notice::read),
            number: row.hook_number,
            hook_id: row.hook_id,
            secret: row.secret,
            checked_at: row.checked_at,
            registered_at: row.registered_at,
            renewed_at: row.renewed_at,
            losses: PushLosses { announced: row.announced, missed: row.missed },
        })
    })
    .transpose()
}

/// Stores what a look at the hook found, and how many events more were lost, in a transaction that
/// holds the run's lease.
pub async fn save(tx: &mut Tx, lease: Lease, channel: &PushChannel, lost: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::push_channels::save
        insert into push_channels as p (account_id, integration_id, state, notice, hook_number, hook_id, secret, checked_at, suspected_losses,
            registered_at, renewed_at, announced, missed)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        on conflict (account_id, integration_id) do update
        set state = excluded.state, notice = excluded.notice, hook_number = excluded.hook_number, hook_id = excluded.hook_id,
            secret = excluded.secret, checked_at = excluded.checked_at, suspected_losses = p.suspected_losses + excluded.suspected_losses,
            registered_at = excluded.registered_at, renewed_at = excluded.renewed_at, announced = excluded.announced, missed = excluded.missed",
        lease.account_id.0,
        lease.integration_id.0,
        channel.state.as_str(),
        channel.notice.as_ref().map(Notice::to_string),
        channel.number,
        channel.hook_id,
        channel.secret,
        channel.checked_at,
        lost,
        channel.registered_at,
        channel.renewed_at,
        channel.losses.announced,
        channel.losses.missed,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Stores how the changes of a stream arrive, in a transaction that holds the stream's lease.
pub async fn save_standing(
    tx: &mut Tx,
    lease: PushLease,
    state: PushState,
    notice: Option<&Notice>,
    checked_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::push_channels::save_standing
        insert into push_channels (account_id, integration_id, state, notice, checked_at)
        values ($1, $2, $3, $4, $5)
        on conflict (account_id, integration_id) do update
        set state = excluded.state, notice = excluded.notice, checked_at = excluded.checked_at",
        lease.account_id.0,
        lease.integration_id.0,
        state.as_str(),
        notice.map(Notice::to_string),
        checked_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes the newest of the events that have come.
pub async fn note_event(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    event_at: DateTime<Utc>,
    lag_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::push_channels::note_event
        update push_channels
        set last_event_at = $3, last_lag_ms = $4
        where account_id = $1 and integration_id = $2 and (last_event_at is null or last_event_at < $3)",
        account_id.0,
        integration_id.0,
        event_at,
        lag_ms,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(())
}

/// What the changes of a poll are compared with, in a transaction that holds the lease; `None`: no
/// hook is there.
pub async fn find_watch(tx: &mut Tx, lease: Lease) -> Result<Option<PushWatch>, StoreError> {
    let row = sqlx::query!(
        r#"-- store::push_channels::find_watch
        select registered_at as "registered_at!", storm_at, announced, missed
        from push_channels
        where account_id = $1 and integration_id = $2 and registered_at is not null and state in ('ACTIVE', 'DEGRADED')"#,
        lease.account_id.0,
        lease.integration_id.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| PushWatch {
        registered_at: row.registered_at,
        storm_at: row.storm_at,
        losses: PushLosses { announced: row.announced, missed: row.missed },
    }))
}

/// Notes changes that were taken in after an event, in a transaction that holds the lease.
pub async fn note_announced(tx: &mut Tx, lease: Lease, changes: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::push_channels::note_announced
        update push_channels
        set announced = announced + $3
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
        changes,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes changes that only a poll brought, in a transaction that holds the lease. `doubt`: why a
/// hook that seemed well is not trusted any more.
pub async fn note_losses(
    tx: &mut Tx,
    lease: Lease,
    losses: PushLosses,
    missed: i64,
    doubt: Option<&Notice>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::push_channels::note_losses
        update push_channels
        set announced = $3, missed = $4, suspected_losses = suspected_losses + $5,
            state = case when $6::text is not null and state = 'ACTIVE' then 'DEGRADED' else state end,
            notice = case when $6::text is not null and state = 'ACTIVE' then $6::text else notice end
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
        losses.announced,
        losses.missed,
        missed,
        doubt.map(Notice::to_string),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes that a poll is begun in the place of many events.
pub async fn note_storm(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::push_channels::note_storm
        update push_channels
        set storm_at = $3
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets it: what the CRM still sends is for nobody.
pub async fn remove(tx: &mut Tx, account_id: AccountId, integration_id: IntegrationId) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::push_channels::remove
        delete from push_channels
        where account_id = $1 and integration_id = $2",
        account_id.0,
        integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
