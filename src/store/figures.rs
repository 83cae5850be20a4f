//! What operators are shown of all accounts together: how many integrations are in which state, and
//! how far they are behind. One statement, asked by every process every half minute.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Db, StoreError, known};
use crate::domain::{hook::PushState, integration::STALE_PERIODS, provider::Provider};

/// Every state that an enabled integration may be in, as the API names it.
pub const STATES: [&str; 8] =
    ["PENDING", "INITIAL_SYNC", "ACTIVE", "STALE", "PAUSED", "QUOTA_PAUSED", "AUTH_FAILED", "OFF"];

/// The integrations of one CRM that are in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrationFigures {
    /// Whose.
    pub provider: Provider,
    /// As `Integration.state` in the API: `ACTIVE`, `AUTH_FAILED`, ..
    pub state: String,
    /// How many.
    pub integrations: i64,
    /// Of these, whose next run is due for longer than their period.
    pub overdue: i64,
    /// Of these, which have records or numbers that could not be read.
    pub with_unread: i64,
    /// Every change that the CRM made until then is known, of the one that is furthest behind.
    /// `None`: of none it is known.
    pub known_through: Option<DateTime<Utc>>,
}

/// What is shown of all accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountFigures {
    /// The enabled ones, by CRM and state.
    pub integrations: Vec<IntegrationFigures>,
    /// Since when the oldest change waits for its number, of the feeds that somebody has read.
    pub unpublished_since: Option<DateTime<Utc>>,
    /// Hints that wait.
    pub hints_waiting: i64,
    /// Since when the oldest record waits that is to be asked for now.
    pub hinted_since: Option<DateTime<Utc>>,
}

/// Reads the figures. One of the named statements across accounts.
pub async fn read(db: &Db, now: DateTime<Utc>) -> Result<AccountFigures, StoreError> {
    let rows = sqlx::query!(
        r#"-- store::figures::read (across accounts)
        select i.provider as "provider?", i.state as "state?", count(i.provider) as "integrations!",
            count(*) filter (where not i.is_running and i.due_at < $1::timestamptz - i.period_seconds * interval '1 second') as "overdue!",
            count(*) filter (where i.has_unread) as "with_unread!",
            min(i.known_through) as known_through,
            (
                select min(w.created_at)
                from feeds f
                cross join lateral (
                    select c.created_at
                    from changes c
                    where c.account_id = f.account_id and c.number is null
                    order by c.created_at
                    limit 1
                ) w
            ) as unpublished_since,
            (select count(*) from hints) as "hints_waiting!",
            (
                select min(h.first_at)
                from hints h
                join integrations k on k.account_id = h.account_id and k.integration_id = h.integration_id
                where h.record_id <> '' and h.not_before <= $1 and k.is_enabled and k.is_sync_on and k.hold is null
            ) as hinted_since
        from (select 1) as always
        left join (
            select provider, due_at, period_seconds, has_unread,
                coalesce(lease_until > $1, false) as is_running,
                case when is_sync_on then known_through end as known_through,
                case
                    when not is_sync_on then 'OFF'
                    when hold is not null then hold
                    when last_completed_at is null and first_started_at is null then 'PENDING'
                    when last_completed_at is null then 'INITIAL_SYNC'
                    when last_completed_at < $1::timestamptz - $2::integer * period_seconds * interval '1 second'
                        or last_completed_at > $1::timestamptz + period_seconds * interval '1 second' then 'STALE'
                    when is_widened then 'INITIAL_SYNC'
                    else 'ACTIVE'
                end as state
            from integrations
            where is_enabled
        ) i on true
        group by i.provider, i.state"#,
        now,
        STALE_PERIODS,
    )
    .fetch_all(db.all())
    .await?;
    let mut figures = AccountFigures::default();
    for row in rows {
        figures.unpublished_since = row.unpublished_since;
        (figures.hints_waiting, figures.hinted_since) = (row.hints_waiting, row.hinted_since);
        let (Some(provider), Some(state)) = (row.provider, row.state) else { continue };
        figures.integrations.push(IntegrationFigures {
            provider: known(provider.parse::<Provider>().ok(), "integrations", "provider")?,
            state,
            integrations: row.integrations,
            overdue: row.overdue,
            with_unread: row.with_unread,
            known_through: row.known_through,
        });
    }
    Ok(figures)
}

/// The hooks of one CRM that are in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelFigures {
    /// Whose.
    pub provider: Provider,
    /// As the last look at them found.
    pub state: PushState,
    /// How many.
    pub channels: i64,
}

/// Counts the hooks of integrations that copy. One of the named statements across accounts.
pub async fn read_channels(db: &Db) -> Result<Vec<ChannelFigures>, StoreError> {
    let rows = sqlx::query!(
        r#"-- store::figures::read_channels (across accounts)
        select i.provider, p.state, count(*) as "channels!"
        from push_channels p
        join integrations i on i.account_id = p.account_id and i.integration_id = p.integration_id
        where i.is_enabled and i.is_sync_on
        group by i.provider, p.state"#,
    )
    .fetch_all(db.all())
    .await?;
    let figures = rows.into_iter().map(|row| {
        Ok(ChannelFigures {
            provider: known(row.provider.parse::<Provider>().ok(), "integrations", "provider")?,
            state: known(row.state.parse::<PushState>().ok(), "push_channels", "state")?,
            channels: row.channels,
        })
    });
    figures.collect()
}

/// How long ago that was, in seconds; never below 0.
pub fn seconds_since(then: Option<DateTime<Utc>>, now: DateTime<Utc>) -> i64 {
    then.map_or(TimeDelta::zero(), |then| now - then).num_seconds().max(0)
}
