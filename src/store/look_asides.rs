//! The table `look_asides`: the last look into each CRM for a call that found nobody. Calls ask by
//! one upsert, which the number lets one of several win; whoever holds the integration's lease
//! answers, in the transaction that takes in what the CRM has. It never begins a run.

use chrono::{DateTime, NaiveDate, Utc};
use phone_key::PhoneKey;
use sqlx::PgExecutor;
use uuid::Uuid;

use super::{CallDb, Db, StoreError, Tx, known, lease::Lease};
use crate::domain::{
    ids::{AccountId, IntegrationId},
    look_aside::{AsideAsk, AsideEntry, AsideMode, AsideRow, AskedAside, NUMBERS_MAX},
};

fn mode_of(text: &str) -> Result<AsideMode, StoreError> {
    known(text.parse().ok(), "look_asides", "mode")
}

/// The number that was asked for first, and those that have joined it.
fn keys_of(e164: Option<i64>, joined: &[i64]) -> Result<Vec<PhoneKey>, StoreError> {
    let first = e164.map(|e164| (e164, "e164"));
    let all = first.into_iter().chain(joined.iter().map(|e164| (*e164, "joined")));
    all.map(|(e164, column)| known(PhoneKey::try_from_i64(e164).ok(), "look_asides", column)).collect()
}

/// The last look into each of an account's CRMs.
pub async fn list(db: &CallDb, account_id: AccountId) -> Result<Vec<AsideRow>, StoreError> {
    let rows = db
        .of(account_id)
        .read(|pool| async move {
            sqlx::query!(
                "-- store::look_asides::list
                select integration_id, asked, answered, asked_at, mode, e164, joined, has_begun, has_failed, day, day_cost,
                    day_limit
                from look_asides
                where account_id = $1",
                account_id.0,
            )
            .fetch_all(&pool)
            .await
        })
        .await?;
    rows.into_iter()
        .map(|row| {
            Ok(AsideRow {
                integration_id: IntegrationId(row.integration_id),
                asked: row.asked,
                answered: row.answered,
                asked_at: row.asked_at,
                mode: mode_of(&row.mode)?,
                keys: keys_of(row.e164, &row.joined)?,
                has_begun: row.has_begun,
                has_failed: row.has_failed,
                day: row.day,
                day_cost: row.day_cost,
                day_limit: row.day_limit,
            })
        })
        .collect()
}

/// Asks for these looks, each of another CRM, on this day. Gives those that were asked for: of the
/// others somebody else was quicker. In the order of ids, so that calls never wait in a circle.
pub async fn ask(
    db: &CallDb,
    account_id: AccountId,
    asks: &[AsideAsk],
    now: DateTime<Utc>,
) -> Result<Vec<IntegrationId>, StoreError> {
    let mut asks: Vec<&AsideAsk> = asks.iter().collect();
    asks.sort_unstable_by_key(|ask| ask.integration_id);
    let integrations: Vec<Uuid> = asks.iter().map(|ask| ask.integration_id.0).collect();
    let numbers: Vec<i64> = asks.iter().map(|ask| ask.number).collect();
    let modes: Vec<String> = asks.iter().map(|ask| ask.mode.as_str().to_owned()).collect();
    let keys: Vec<Option<i64>> = asks.iter().map(|ask| ask.key.map(PhoneKey::as_i64)).collect();
    let costs: Vec<i64> = asks.iter().map(|ask| ask.day_cost).collect();
    let day: NaiveDate = now.date_naive();
    let won = sqlx::query_scalar!(
        "-- store::look_asides::ask
        insert into look_asides as l (account_id, integration_id, asked, answered, asked_at, mode, e164, has_failed, day, day_cost)
        select $1, u.integration_id, u.asked, 0, $2, u.mode, u.e164, false, $3, u.day_cost
        from unnest($4::uuid[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[]) as u (integration_id, asked, mode, e164, day_cost)
        on conflict (account_id, integration_id) do update
        set asked = excluded.asked, asked_at = excluded.asked_at, mode = excluded.mode, e164 = excluded.e164, day = excluded.day,
            day_cost = excluded.day_cost, joined = '{}', has_begun = false
        where l.account_id = $1 and l.asked = excluded.asked - 1
        returning integration_id",
        account_id.0,
        now,
        day,
        &integrations,
        &numbers,
        &modes,
        &keys as &[Option<i64>],
        &costs,
    )
    .fetch_all(db.of(account_id))
    .await?;
    Ok(won.into_iter().map(IntegrationId).collect())
}

/// Adds a number to those of a search; false: it has begun, is over, or has enough.
pub async fn enter(db: &CallDb, account_id: AccountId, entry: &AsideEntry) -> Result<bool, StoreError> {
    let joined_max = i32::try_from(NUMBERS_MAX).unwrap_or(i32::MAX) - 1;
    let done = sqlx::query!(
        "-- store::look_asides::enter
        update look_asides
        set joined = joined || $4::bigint, day_cost = day_cost + $5
        where account_id = $1 and integration_id = $2 and asked = $3 and answered < $3 and not has_begun
            and cardinality(joined) < $6",
        account_id.0,
        entry.integration_id.0,
        entry.number,
        entry.key.as_i64(),
        entry.cost,
        joined_max,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The numbers of a search, which begins: no other joins it. None: it is over, or they were erased.
pub async fn begin(db: &Db, asked: AskedAside) -> Result<Vec<PhoneKey>, StoreError> {
    let AskedAside { account_id, integration_id, number } = asked;
    let row = sqlx::query!(
        "-- store::look_asides::begin
        update look_asides
        set has_begun = true
        where account_id = $1 and integration_id = $2 and asked = $3 and answered < $3
        returning e164, joined",
        account_id.0,
        integration_id.0,
        number,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map_or_else(|| Ok(Vec::new()), |row| keys_of(row.e164, &row.joined))
}

/// How far one CRM's looks have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnsweredAside {
    /// Which CRM.
    pub integration_id: IntegrationId,
    /// Number of the last look that is over.
    pub answered: i64,
    /// The CRM did not answer it.
    pub has_failed: bool,
}

/// How far these looks have come; for a call that waits.
pub async fn find_answered(
    db: &CallDb,
    account_id: AccountId,
    integrations: &[IntegrationId],
) -> Result<Vec<AnsweredAside>, StoreError> {
    let ids: Vec<Uuid> = integrations.iter().map(|id| id.0).collect();
    let ids = ids.as_slice();
    let rows = db
        .of(account_id)
        .read(|pool| async move {
            sqlx::query!(
                "-- store::look_asides::find_answered
                select integration_id, answered, has_failed
                from look_asides
                where account_id = $1 and integration_id = any($2)",
                account_id.0,
                ids,
            )
            .fetch_all(&pool)
            .await
        })
        .await?;
    let answered = rows.into_iter().map(|row| AnsweredAside {
        integration_id: IntegrationId(row.integration_id),
        answered: row.answered,
        has_failed: row.has_failed,
    });
    Ok(answered.collect())
}

/// A look that is asked for and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenAside {
    /// Its number.
    pub number: i64,
    /// When it was asked for.
    pub asked_at: DateTime<Utc>,
    /// How.
    pub mode: AsideMode,
}

impl OpenAside {
    /// Whose it is, by the lease of the integration that it is of.
    pub fn asked_of(&self, lease: Lease) -> AskedAside {
        AskedAside { account_id: lease.account_id, integration_id: lease.integration_id, number: self.number }
    }
}

/// The look that an integration is to answer, if there is one.
pub async fn find_open(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<Option<OpenAside>, StoreError> {
    let row = sqlx::query!(
        "-- store::look_asides::find_open
        select asked, asked_at, mode
        from look_asides
        where account_id = $1 and integration_id = $2 and asked > answered",
        account_id.0,
        integration_id.0,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map(|row| Ok(OpenAside { number: row.asked, asked_at: row.asked_at, mode: mode_of(&row.mode)? })).transpose()
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsideAnswer {
    /// Its number.
    pub number: i64,
    /// The CRM did not answer, or not for all kinds of objects.
    pub has_failed: bool,
    /// What the CRM gives a day, if it has said so.
    pub day_limit: Option<i64>,
}

/// Answers a look, in the transaction that takes in what the CRM has.
pub async fn answer_in(tx: &mut Tx, lease: Lease, answer: &AsideAnswer) -> Result<(), StoreError> {
    write_answer(&mut **tx, lease.account_id, lease.integration_id, answer).await
}

/// Answers a look that brings nothing.
pub async fn answer(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    answer: &AsideAnswer,
) -> Result<(), StoreError> {
    write_answer(db.of(account_id), account_id, integration_id, answer).await
}

/// Says of a look that was just asked for that nobody will answer it.
pub async fn refuse(db: &CallDb, asked: AskedAside) -> Result<(), StoreError> {
    let AskedAside { account_id, integration_id, number } = asked;
    let answer = AsideAnswer { number, has_failed: true, day_limit: None };
    write_answer(db.of(account_id), account_id, integration_id, &answer).await
}

/// Unless a later one has been asked for since. What the CRM has answered, no failure takes back.
async fn write_answer<'e>(
    executor: impl PgExecutor<'e>,
    account_id: AccountId,
    integration_id: IntegrationId,
    answer: &AsideAnswer,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::look_asides::write_answer
        update look_asides
        set answered = $3, has_failed = $4, e164 = null, joined = '{}', day_limit = coalesce($5, day_limit)
        where account_id = $1 and integration_id = $2 and asked = $3 and (answered < $3 or not $4)",
        account_id.0,
        integration_id.0,
        answer.number,
        answer.has_failed,
        answer.day_limit,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Forgets these numbers: an erased person's.
pub async fn forget_numbers(tx: &mut Tx, account_id: AccountId, numbers: &[i64]) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::look_asides::forget_numbers
        update look_asides
        set e164 = case when e164 = any($2) then null else e164 end,
            joined = array(select number from unnest(joined) as number where number <> all($2))
        where account_id = $1 and (e164 = any($2) or joined && $2)",
        account_id.0,
        numbers,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets the numbers of looks that nobody has answered since then. Gives how many.
pub async fn forget_late(db: &Db, account_id: AccountId, asked_since: DateTime<Utc>) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "-- store::look_asides::forget_late
        update look_asides
        set e164 = null, joined = '{}'
        where account_id = $1 and (e164 is not null or joined <> '{}') and asked_at < $2",
        account_id.0,
        asked_since,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(done.rows_affected())
}

/// Forgets an integration's looks.
pub async fn remove(tx: &mut Tx, lease: Lease) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::look_asides::remove
        delete from look_asides
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
