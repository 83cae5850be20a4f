//! The table `push_streams`: who follows an integration's stream of changes, under a lease of its
//! own, and how far it was read. A place is written with the hints of what came before it, in one
//! transaction, under the lease's number. Whether the stream is still wished is asked with each
//! write: so nobody else has to end one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::types::Json;

use super::{Db, StoreError, Tx, known};
use crate::domain::{
    ids::{AccountId, IntegrationId},
    integration::Organization,
    options::{Options, PushWish},
    provider::Provider,
    record::ObjectType,
    stream::{StreamPlace, StreamPlaces},
};

/// A rest of a stream that is this old is cut short by a run.
const REST_CUT_AFTER: TimeDelta = TimeDelta::minutes(15);

/// The right to follow an integration's stream, and to write for it. Another one than a run's: the
/// two do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushLease {
    /// Whose.
    pub account_id: AccountId,
    /// Which.
    pub integration_id: IntegrationId,
    /// Grows with each claim and each end of one.
    pub number: i64,
}

/// An integration whose stream nobody follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueStream {
    /// Whose.
    pub account_id: AccountId,
    /// Which.
    pub integration_id: IntegrationId,
}

/// What the integration says of its stream at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamWish {
    /// It is linked, and copies contacts.
    pub is_on: bool,
    /// Its credentials are good, as far as runs know.
    pub has_access: bool,
    /// What is copied, and whether changes are to be pushed.
    pub options: Options,
}

impl StreamWish {
    /// Whether somebody is to follow.
    pub fn is_wished(&self) -> bool {
        self.is_on && self.options.push == PushWish::On
    }
}

/// What a claim found.
#[derive(Debug)]
pub struct ClaimedStreams {
    /// The right to follow.
    pub lease: PushLease,
    /// The CRM's organisation.
    pub organization: Organization,
    /// What is wished.
    pub wish: StreamWish,
    /// How far each kind was read.
    pub places: StreamPlaces,
    /// What is shown of them says that they do not come as they should.
    pub is_degraded: bool,
}

/// Has somebody follow an integration's stream soon. One that is followed goes on, and one that
/// rests of late goes on resting.
pub async fn wish(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::push_streams::wish
        insert into push_streams as p (account_id, integration_id, due_at)
        values ($1, $2, $3)
        on conflict (account_id, integration_id) do update
        set due_at = excluded.due_at
        where p.due_at is null or (p.lease_until is null and p.due_at > excluded.due_at and p.rested_at < $4)",
        account_id.0,
        integration_id.0,
        now,
        now - REST_CUT_AFTER,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Streams that are due and that nobody follows, longest due first. One of the named statements
/// across accounts.
pub async fn find_due(db: &Db, now: DateTime<Utc>, limit: i64) -> Result<Vec<DueStream>, StoreError> {
    let rows = sqlx::query!(
        "-- store::push_streams::find_due (across accounts)
        select account_id, integration_id
        from push_streams
        where due_at <= $1
          and (lease_until is null or lease_until < statement_timestamp() or lease_until > statement_timestamp() + interval '1 hour')
        order by due_at
        limit $2",
        now,
        limit,
    )
    .fetch_all(db.all())
    .await?;
    let due = |account_id, integration_id| DueStream {
        account_id: AccountId(account_id),
        integration_id: IntegrationId(integration_id),
    };
    Ok(rows.into_iter().map(|row| due(row.account_id, row.integration_id)).collect())
}

/// Claims a stream that is due for so many seconds; `None`: somebody else has it.
pub async fn claim(
    db: &Db,
    due: DueStream,
    lease_seconds: f64,
    now: DateTime<Utc>,
) -> Result<Option<ClaimedStreams>, StoreError> {
    let row = sqlx::query!(
        r#"-- store::push_streams::claim
        update push_streams p
        set lease_number = p.lease_number + 1, lease_until = statement_timestamp() + make_interval(secs => $3)
        from integrations i
        left join push_channels c on c.account_id = $1 and c.integration_id = i.integration_id
        where p.account_id = $1 and p.integration_id = $2 and i.account_id = $1 and i.integration_id = $2
          and p.due_at <= $4
          and (p.lease_until is null or p.lease_until < statement_timestamp() or p.lease_until > statement_timestamp() + interval '1 hour')
        returning p.lease_number, p.places as "places: Json<StreamPlaces>", i.provider, i.organization,
            i.options as "options: Json<Options>",
            i.is_enabled and i.is_sync_on and not i.is_purging as "is_on!",
            i.hold is distinct from 'AUTH_FAILED' as "has_access!",
            c.state is not distinct from 'DEGRADED' as "is_degraded!""#,
        due.account_id.0,
        due.integration_id.0,
        lease_seconds,
        now,
    )
    .fetch_optional(db.of(due.account_id))
    .await?;
    row.map(|row| {
        Ok(ClaimedStreams {
            lease: PushLease {
                account_id: due.account_id,
                integration_id: due.integration_id,
                number: row.lease_number,
            },
            organization: Organization {
                provider: known(row.provider.parse::<Provider>().ok(), "integrations", "provider")?,
                name: row.organization,
            },
            wish: StreamWish { is_on: row.is_on, has_access: row.has_access, options: row.options.0 },
            places: row.places.0,
            is_degraded: row.is_degraded,
        })
    })
    .transpose()
}

/// Extends the lease, and says what is wished now; `None`: it is lost, stop at once.
pub async fn extend(db: &Db, lease: PushLease, lease_time: Duration) -> Result<Option<StreamWish>, StoreError> {
    let now = sqlx::query_scalar!(
        r#"-- store::push_streams::extend (the database's time)
        select statement_timestamp() as "now!""#
    )
    .fetch_one(db.of(lease.account_id))
    .await?;
    let row = sqlx::query!(
        r#"-- store::push_streams::extend
        update push_streams p
        set lease_until = $4
        from integrations i
        where p.account_id = $1 and p.integration_id = $2 and p.lease_number = $3 and p.lease_until is not null
          and i.account_id = $1 and i.integration_id = $2
        returning i.options as "options: Json<Options>",
            i.is_enabled and i.is_sync_on and not i.is_purging as "is_on!",
            i.hold is distinct from 'AUTH_FAILED' as "has_access!""#,
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        now + lease_time,
    )
    .fetch_optional(db.of(lease.account_id))
    .await?;
    Ok(row.map(|row| StreamWish { is_on: row.is_on, has_access: row.has_access, options: row.options.0 }))
}

/// Notes how far a kind was read. First statement of its transaction, and the fence of what
/// follows; false: the lease is lost, or nobody wishes any more that anything is written.
pub async fn save_place(
    tx: &mut Tx,
    lease: PushLease,
    object: ObjectType,
    place: StreamPlace,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::push_streams::save_place
        update push_streams p
        set places = p.places || $4
        from integrations i
        where p.account_id = $1 and p.integration_id = $2 and p.lease_number = $3
          and i.account_id = $1 and i.integration_id = $2 and i.is_enabled and i.is_sync_on",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        Json(StreamPlaces::of(object, place)) as _,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets how far a kind was read; else as [`save_place`].
pub async fn forget_place(tx: &mut Tx, lease: PushLease, object: ObjectType) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::push_streams::forget_place
        update push_streams p
        set places = p.places - $4::text
        from integrations i
        where p.account_id = $1 and p.integration_id = $2 and p.lease_number = $3
          and i.account_id = $1 and i.integration_id = $2 and i.is_enabled and i.is_sync_on",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        object.as_str(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Holds the lease until the end of a transaction that says how changes arrive. False: it is lost.
pub async fn lock(tx: &mut Tx, lease: PushLease) -> Result<bool, StoreError> {
    let row = sqlx::query_scalar!(
        "-- store::push_streams::lock
        select p.lease_number
        from push_streams p
        join integrations i on i.account_id = $1 and i.integration_id = p.integration_id and i.is_enabled
        where p.account_id = $1 and p.integration_id = $2 and p.lease_number = $3
        for no key update of p",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_some())
}

/// How long nobody follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRest {
    /// Until then.
    Until(DateTime<Utc>),
    /// Until a run wishes it, and then from where it stands.
    Paused,
    /// For good: a run that wishes it again has it begin at now.
    Over,
}

/// Gives the lease back. Does nothing if it is lost. What is still under way can write no more.
pub async fn rest(tx: &mut Tx, lease: PushLease, rest: StreamRest, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let due_at = if let StreamRest::Until(due_at) = rest { Some(due_at) } else { None };
    let done = sqlx::query!(
        "-- store::push_streams::rest
        update push_streams
        set lease_until = null, lease_number = lease_number + 1, due_at = $4, rested_at = $5,
            places = case when $6 then '{}'::jsonb else places end
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
        due_at,
        now,
        rest == StreamRest::Over,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
