//! The tables `changes` and `feeds`: what has become of contacts, in the order in which readers see
//! it. A change is written without a number, in the transaction that makes it. Numbers are given
//! here, to committed rows only, under the lock of the account's row in `feeds`: so one publisher
//! works at a time.

use std::{
    io,
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, postgres::PgConnectOptions, types::Json};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Db, StoreError, Tx,
    fragments::statement,
    known,
    requester_decisions::{self, StoredCorrection, correction_of},
};
use crate::domain::{
    change::{Change, ChangeKind},
    contact::Contact,
    ids::{AccountId, ContactId},
};

/// How long a command waits for the database server.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Changes that one transaction numbers or forgets.
pub const BATCH_MAX: i64 = 1_000;

/// A contact that was just changed, as the statement that did it returns it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangedContact {
    pub(super) contact_id: Uuid,
    /// The version that this change made.
    pub(super) version: i64,
    /// Of an alias: the contact that goes on.
    pub(super) survivor_id: Option<Uuid>,
}

/// Writes these changes, in the transaction that made them.
pub(super) async fn record(
    tx: &mut Tx,
    account_id: AccountId,
    kind: ChangeKind,
    changed: &[ChangedContact],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if changed.is_empty() {
        return Ok(());
    }
    let names_survivor = matches!(kind, ChangeKind::Merged | ChangeKind::Adopted);
    let contact_ids: Vec<Uuid> = changed.iter().map(|row| row.contact_id).collect();
    let versions: Vec<i64> = changed.iter().map(|row| row.version).collect();
    let survivors: Vec<Option<Uuid>> = changed.iter().map(|row| row.survivor_id.filter(|_| names_survivor)).collect();
    sqlx::query!(
        "-- store::changes::record
        insert into changes (account_id, subject_id, version, kind, survivor_id, created_at)
        select $1, u.contact_id, u.version, $5, u.survivor_id, $6
        from unnest($2::uuid[], $3::bigint[], $4::uuid[]) as u (contact_id, version, survivor_id)",
        account_id.0,
        &contact_ids,
        &versions,
        &survivors as &[Option<Uuid>],
        kind.as_str(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How far a feed reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedBounds {
    /// The number of the newest published change; 0: none was ever published.
    pub last_number: i64,
    /// Changes up to this number are not kept any more; 0: all are.
    pub forgotten_through: i64,
    /// Which database gave the numbers; `None`: not known.
    pub origin: Option<String>,
    /// In which the numbers are; `None`: none was ever given.
    pub epoch: Option<String>,
    /// All numbers of the epoch are above this one.
    pub epoch_base: i64,
}

/// What a database is known by, from the most telling form to the one that every server answers:
/// the server's system identifier (another server, or a restored dump), its timeline (a restored
/// base backup, a promoted standby) and the database's own id.
const ORIGIN_FORMS: [&str; 3] = [
    "-- store::changes::find_origin (may be refused)
    select concat_ws('/', (select system_identifier from pg_control_system()),
        substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
        (select oid from pg_database where datname = current_database()))",
    "-- store::changes::find_origin, without the server (may be refused)
    select concat_ws('/', substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
        (select oid from pg_database where datname = current_database()))",
    "-- store::changes::find_origin, without the timeline
    select (select oid from pg_database where datname = current_database())::text",
];

/// What the account's database is known by now. Tells apart a database from its backup where the
/// server shows it: not if its files were put back as they were, for which there is `contact-sync
/// feed new-epoch`. `form` is where to begin, and is moved past what the server refuses.
pub async fn find_origin(db: &Db, account_id: AccountId, form: &AtomicUsize) -> Result<String, StoreError> {
    loop {
        let at = form.load(Ordering::Relaxed).min(ORIGIN_FORMS.len() - 1);
        match sqlx::query_scalar(ORIGIN_FORMS[at]).fetch_one(db.of(account_id)).await {
            Ok(origin) => return Ok(origin),
            Err(sqlx::Error::Database(refusal))
                if at + 1 < ORIGIN_FORMS.len()
                    && matches!(refusal.code().as_deref(), Some("42501" | "42883" | "0A000")) =>
            {
                form.store(at + 1, Ordering::Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// How far the feed reaches; `None`: nobody has ever read it.
pub async fn find_bounds(db: &Db, account_id: AccountId) -> Result<Option<FeedBounds>, StoreError> {
    let bounds = sqlx::query_as!(
        FeedBounds,
        "-- store::changes::find_bounds
        select last_number, forgotten_through, origin, epoch, epoch_base
        from feeds
        where account_id = $1",
        account_id.0,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    Ok(bounds)
}

/// The published changes behind `after`, in order, with their contacts as they are now.
pub async fn list(db: &Db, account_id: AccountId, after: i64, limit: i64) -> Result<Vec<Change>, StoreError> {
    let rows = statement!(
        [r#"-- store::changes::list
        with page as materialized (
            select number, kind, subject_id, survivor_id, correction, created_at
            from changes
            where account_id = $1 and number > $2
            order by number
            limit $3
        )
        select p.number as "number!", p.kind as "kind!", p.subject_id as "subject_id!", p.survivor_id,
            p.correction as "correction: Json<StoredCorrection>", p.created_at as "created_at!",
            (
                select "# CONTACT r#"
                from contacts c
                where c.account_id = $1 and c.contact_id = p.subject_id and c.deleted_at is null
                  and p.kind in ('CREATED', 'CHANGED')
            ) as "contact: Contact"
        from page p
        order by p.number"#],
        account_id.0,
        after,
        limit,
    )
    .fetch_all(db.of(account_id))
    .await?;
    rows.into_iter()
        .map(|row| {
            let kind = known(row.kind.parse::<ChangeKind>().ok(), "changes", "kind")?;
            Ok(Change {
                number: row.number,
                kind,
                contact_id: (kind != ChangeKind::Corrected).then_some(ContactId(row.subject_id)),
                survivor_id: row.survivor_id.map(ContactId),
                contact: row.contact,
                correction: row.correction.map(|Json(stored)| correction_of(stored)).transpose()?,
                created_at: row.created_at,
            })
        })
        .collect()
}

/// Locks the feed for publishing, until the transaction ends; makes it if this is the first time.
pub async fn lock_feed(tx: &mut Tx, account_id: AccountId) -> Result<FeedBounds, StoreError> {
    sqlx::query!(
        "-- store::changes::lock_feed (makes it)
        insert into feeds (account_id, last_number, forgotten_through)
        values ($1, 0, 0)
        on conflict (account_id) do nothing",
        account_id.0,
    )
    .execute(&mut **tx)
    .await?;
    let bounds = sqlx::query_as!(
        FeedBounds,
        "-- store::changes::lock_feed
        select last_number, forgotten_through, origin, epoch, epoch_base
        from feeds
        where account_id = $1
        for update",
        account_id.0,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(bounds)
}

/// Begins an epoch: the numbers of this database, all above `base`. What was told before is not
/// told again. The feed must be locked.
pub async fn begin_epoch(
    tx: &mut Tx,
    account_id: AccountId,
    origin: &str,
    epoch: &str,
    base: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::changes::begin_epoch
        update feeds
        set origin = $2, epoch = $3, epoch_base = $4, last_number = greatest(last_number, $4),
            forgotten_through = greatest(forgotten_through, $4)
        where account_id = $1",
        account_id.0,
        origin,
        epoch,
        base,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Of all accounts, since a restored database is restored for all: no feed's numbers are trusted
/// any more, so that the next reader of each begins an epoch. Returns how many feeds there are.
pub async fn distrust_all(url: &str) -> Result<u64, StoreError> {
    let options = PgConnectOptions::from_str(url)?.application_name("contact-sync feed");
    let mut connection = timeout(CONNECT_MAX, options.connect()).await.map_err(|_| {
        sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer from the database server"))
    })??;
    let done = sqlx::query!(
        "-- store::changes::distrust_all (across accounts)
        update feeds
        set origin = null",
    )
    .execute(&mut connection)
    .await?;
    Ok(done.rows_affected())
}

/// A committed change that has no number yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpublishedChange {
    /// The contact, or the decision.
    pub subject_id: Uuid,
    /// The version that it made.
    pub version: i64,
    /// By the clock of the process that made it, which may be wrong.
    pub created_at: DateTime<Utc>,
}

/// About [`BATCH_MAX`] of the oldest changes without a number, with all earlier ones of the same
/// subjects.
pub async fn find_unpublished(tx: &mut Tx, account_id: AccountId) -> Result<Vec<UnpublishedChange>, StoreError> {
    let rows = sqlx::query_as!(
        UnpublishedChange,
        r#"-- store::changes::find_unpublished
        with oldest as materialized (
            select subject_id, version
            from changes
            where account_id = $1 and number is null
            order by created_at
            limit $2
        ),
        reach as materialized (
            select subject_id, max(version) as version
            from oldest
            group by subject_id
        )
        -- A clock that was behind must not leave a subject's earlier change to a later batch.
        select c.subject_id as "subject_id!", c.version as "version!", c.created_at as "created_at!"
        from reach r
        cross join lateral (
            select e.subject_id, e.version, e.created_at
            from changes e
            where e.account_id = $1 and e.subject_id = r.subject_id and e.version <= r.version and e.number is null
        ) c"#,
        account_id.0,
        BATCH_MAX,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows)
}

/// Numbers these changes, in this order, behind the last number. The feed must be locked.
pub async fn number(
    tx: &mut Tx,
    account_id: AccountId,
    ordered: &[UnpublishedChange],
    last_number: i64,
) -> Result<(), StoreError> {
    let subjects: Vec<Uuid> = ordered.iter().map(|row| row.subject_id).collect();
    let versions: Vec<i64> = ordered.iter().map(|row| row.version).collect();
    let numbers: Vec<i64> = (last_number + 1..).take(ordered.len()).collect();
    let done = sqlx::query!(
        "-- store::changes::number
        update changes c
        set number = u.number
        from unnest($2::uuid[], $3::bigint[], $4::bigint[]) as u (subject_id, version, number)
        where c.account_id = $1 and c.subject_id = u.subject_id and c.version = u.version and c.number is null",
        account_id.0,
        &subjects,
        &versions,
        &numbers,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() != ordered.len() as u64 {
        return Err(StoreError::Conflict);
    }
    sqlx::query!(
        "-- store::changes::number (moves the counter)
        update feeds
        set last_number = $2
        where account_id = $1",
        account_id.0,
        numbers.last().copied().unwrap_or(last_number),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets a batch of changes from before `kept_since`. Returns how many. What nobody has asked for
/// by then is forgotten without having been published, and counted, so that a reader notices.
pub async fn forget_batch(tx: &mut Tx, account_id: AccountId, kept_since: DateTime<Utc>) -> Result<u64, StoreError> {
    let bounds = lock_feed(tx, account_id).await?;
    let published = sqlx::query_scalar!(
        r#"-- store::changes::forget_batch
        with oldest as materialized (
            select number, created_at
            from changes
            where account_id = $1 and number is not null
            order by number
            limit $3
        ),
        gone as (
            delete from changes c
            where c.account_id = $1 and c.number is not null
              and c.number <= (select max(number) from oldest)
              and c.number < coalesce((select min(number) from oldest where created_at >= $2), 9223372036854775807)
            returning c.number
        )
        select number as "number!"
        from gone"#,
        account_id.0,
        kept_since,
        BATCH_MAX,
    )
    .fetch_all(&mut **tx)
    .await?;
    let unpublished = sqlx::query_scalar!(
        "-- store::changes::forget_batch (unpublished)
        delete from changes
        where account_id = $1 and (subject_id, version) in (
            select subject_id, version
            from changes
            where account_id = $1 and number is null and created_at < $2
            order by created_at
            limit $3
        )
        returning subject_id",
        account_id.0,
        kept_since,
        BATCH_MAX,
    )
    .fetch_all(&mut **tx)
    .await?;
    // Nobody heard of the change, but what was told of calls is kept longer, and may be wrong by
    // it.
    requester_decisions::mark_stale(tx, account_id, &unpublished).await?;
    let unpublished = unpublished.len() as u64;
    let last_number = bounds.last_number + i64::try_from(unpublished).unwrap_or(i64::MAX);
    let newest = published.iter().copied().max().unwrap_or(0);
    let newest = if unpublished > 0 { last_number } else { newest };
    sqlx::query!(
        "-- store::changes::forget_batch (moves the beginning)
        update feeds
        set last_number = $2, forgotten_through = greatest(forgotten_through, $3)
        where account_id = $1",
        account_id.0,
        last_number,
        newest,
    )
    .execute(&mut **tx)
    .await?;
    Ok(published.len() as u64 + unpublished)
}
