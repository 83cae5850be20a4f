//! The table `calls`. Statements that take a `CallDb` run on the call path: single, and without a
//! transaction.

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;
use sqlx::{
    Decode, PgExecutor, Postgres,
    error::BoxDynError,
    postgres::{PgValueRef, types::PgRecordDecoder},
};
use uuid::Uuid;

use super::{CallDb, StoreError, Tx, contacts::is_record, fragments::statement, known, requester_decisions};
use crate::domain::{
    call::{Call, MatchAnswer, MatchOutcome, MatchRequest, MatchTier},
    ids::{AccountId, ContactId},
};

struct StoredCall {
    e164: Option<i64>,
    raw: Option<String>,
    outcome: Option<String>,
    contact_id: Option<Uuid>,
    tier: Option<String>,
    selection_id: Option<Uuid>,
    agent_id: Option<String>,
}

is_record!(Call);

// `CALL` of `fragments`, within another statement.
impl<'r> Decode<'r, Postgres> for Call {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let mut fields = PgRecordDecoder::new(value)?;
        let row = StoredCall {
            e164: fields.try_decode()?,
            raw: fields.try_decode()?,
            outcome: fields.try_decode()?,
            contact_id: fields.try_decode()?,
            tier: fields.try_decode()?,
            selection_id: fields.try_decode()?,
            agent_id: fields.try_decode()?,
        };
        Ok(row.try_into()?)
    }
}

impl TryFrom<StoredCall> for Call {
    type Error = StoreError;

    fn try_from(row: StoredCall) -> Result<Self, StoreError> {
        let outcome = |text: String| known(text.parse::<MatchOutcome>().ok(), "calls", "outcome");
        let tier = |text: String| known(text.parse::<MatchTier>().ok(), "calls", "tier");
        Ok(Self {
            key: row.e164.map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "calls", "e164")).transpose()?,
            raw: row.raw,
            outcome: row.outcome.map(outcome).transpose()?,
            contact_id: row.contact_id.map(ContactId),
            tier: row.tier.map(tier).transpose()?,
            selection_id: row.selection_id.map(ContactId),
            agent_id: row.agent_id,
        })
    }
}

/// A stored call.
pub async fn find(db: &CallDb, account_id: AccountId, call_id: &str) -> Result<Option<Call>, StoreError> {
    let row = db.of(account_id).read(|pool| async move { select_call(&pool, account_id, call_id).await }).await?;
    row.map(Call::try_from).transpose()
}

/// The same within a transaction.
pub async fn find_in(tx: &mut Tx, account_id: AccountId, call_id: &str) -> Result<Option<Call>, StoreError> {
    select_call(&mut **tx, account_id, call_id).await?.map(Call::try_from).transpose()
}

async fn select_call(
    executor: impl PgExecutor<'_>,
    account_id: AccountId,
    call_id: &str,
) -> Result<Option<StoredCall>, sqlx::Error> {
    sqlx::query_as!(
        StoredCall,
        "-- store::calls::select_call
        select e164, raw, outcome, contact_id, tier, selection_id, agent_id
        from calls
        where account_id = $1 and call_id = $2",
        account_id.0,
        call_id,
    )
    .fetch_optional(executor)
    .await
}

/// Stores the answer of a call that is not known. False: by now it is known, by another router or
/// from a click; look again.
pub async fn insert_answer(
    db: &CallDb,
    account_id: AccountId,
    call_id: &str,
    request: &MatchRequest,
    answer: &MatchAnswer,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::calls::insert_answer
        insert into calls (account_id, call_id, e164, raw, direction, outcome, contact_id, tier, agent_id, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $10, $9, $9)
        on conflict (account_id, call_id) do nothing",
        account_id.0,
        call_id,
        answer.key.map(PhoneKey::as_i64),
        answer.key.is_none().then(|| request.kept_number()),
        request.direction.as_str(),
        answer.outcome.as_str(),
        answer.selected.as_ref().map(|contact| contact.id.0),
        answer.tier.map(MatchTier::as_str),
        now,
        request.agent(),
    )
    .execute(db.of(account_id))
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Stores an answer, unless the call has one that stands: returns the call as it is now, which may
/// be another number's. A call known from a click only, or whose answer was "nobody", takes the new
/// one; `replaces` names a contact whose answer is void because it is gone. `None`: somebody else
/// has just stored it; look again.
pub async fn store_answer(
    db: &CallDb,
    account_id: AccountId,
    call_id: &str,
    request: &MatchRequest,
    answer: &MatchAnswer,
    replaces: Option<ContactId>,
    now: DateTime<Utc>,
) -> Result<Option<Call>, StoreError> {
    let row = statement!(
        StoredCall,
        [r#"-- store::calls::store_answer
        with stored as (
            insert into calls as c (account_id, call_id, e164, raw, direction, outcome, contact_id, tier, agent_id, created_at, updated_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $11, $9, $9)
            on conflict (account_id, call_id) do update
            set e164 = excluded.e164, raw = excluded.raw, direction = excluded.direction, outcome = excluded.outcome,
                contact_id = excluded.contact_id, tier = excluded.tier, agent_id = coalesce(excluded.agent_id, c.agent_id),
                updated_at = excluded.updated_at
            where c.outcome is null
               or (c.e164 is not distinct from excluded.e164 and c.raw is not distinct from excluded.raw
                   and (c.outcome in ('NOT_FOUND', 'NOT_KNOWN_YET') or c.contact_id = $10))
            returning c.e164, c.raw, c.outcome, c.contact_id, c.tier, c.selection_id, c.agent_id
        ),
        "# MARK_STALE r#"
        select e164, raw, outcome, contact_id, tier, selection_id, agent_id
        from stored
        union all
        select e164, raw, outcome, contact_id, tier, selection_id, agent_id
        from calls
        where account_id = $1 and call_id = $2 and not exists (select from stored)"#],
        account_id.0,
        call_id,
        answer.key.map(PhoneKey::as_i64),
        answer.key.is_none().then(|| request.kept_number()),
        request.direction.as_str(),
        answer.outcome.as_str(),
        answer.selected.as_ref().map(|contact| contact.id.0),
        answer.tier.map(MatchTier::as_str),
        now,
        replaces.map(|id| id.0),
        request.agent(),
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map(Call::try_from).transpose()
}

/// Who has a stored call by now: an agent has answered it, or it was handed over.
pub async fn set_agent(
    db: &CallDb,
    account_id: AccountId,
    call_id: &str,
    agent_id: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::calls::set_agent
        update calls
        set agent_id = $3, updated_at = $4
        where account_id = $1 and call_id = $2",
        account_id.0,
        call_id,
        agent_id,
        now,
    )
    .execute(db.of(account_id))
    .await?;
    Ok(())
}

/// Whom an agent chose for a call.
pub struct CallSelection<'a> {
    /// The router's id.
    pub call_id: &'a str,
    /// The living contact.
    pub contact_id: ContactId,
    /// Who chose; may be empty.
    pub agent_id: &'a str,
    /// Only if the call is that agent's.
    pub only_own: bool,
}

/// The agent's choice, which the last write wins, for the call and for its number; what was told of
/// the call is stale. False: there is no such call.
pub async fn select(
    db: &CallDb,
    account_id: AccountId,
    selection: &CallSelection<'_>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let row = statement!(
        [r#"-- store::calls::select
        with stored as (
            update calls
            set selection_id = $3, selected_by = $4, updated_at = $5
            where account_id = $1 and call_id = $2 and (not $6 or agent_id = $4)
            returning e164
        ),
        chosen as (
            insert into selections as s (account_id, e164, contact_id, selected_at)
            select $1, e164, $3, $5
            from stored
            where e164 is not null
            on conflict (account_id, e164) do update
            set contact_id = excluded.contact_id, selected_at = excluded.selected_at
            where s.selected_at <= excluded.selected_at
        ),
        "# MARK_STALE r#"
        select exists (select from stored) as "is_known!""#],
        account_id.0,
        selection.call_id,
        selection.contact_id.0,
        selection.agent_id,
        now,
        selection.only_own,
    )
    .fetch_one(db.of(account_id))
    .await?;
    Ok(row.is_known)
}

/// What binds a call to a contact.
pub struct CallBinding<'a> {
    /// The router's id.
    pub call_id: &'a str,
    /// The number that was clicked or called.
    pub key: PhoneKey,
    /// Other numbers of the same line.
    pub same_line: &'a [i64],
    /// The contact of the call, if whoever binds names it: then the number may be any.
    pub named_id: Option<ContactId>,
    /// Whose the call is from now on.
    pub contact_id: ContactId,
    /// Who says so; may be empty.
    pub agent_id: &'a str,
    /// The call has to be this agent's.
    pub only_own: bool,
}

/// Binds a call to the contact of a clicked or reported record; an unknown call is created with it,
/// and is whoever's clicked.
/// False: it is a call with another number, and of another contact; or another agent's.
pub async fn bind(
    tx: &mut Tx,
    account_id: AccountId,
    binding: &CallBinding<'_>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let bound = sqlx::query!(
        "-- store::calls::bind
        insert into calls as c (account_id, call_id, e164, direction, selection_id, selected_by, agent_id, created_at, updated_at)
        values ($1, $2, $3, 'OUTBOUND', $4, $5, nullif($5, ''), $6, $6)
        on conflict (account_id, call_id) do update
        set selection_id = excluded.selection_id, selected_by = excluded.selected_by, updated_at = excluded.updated_at
        where (c.e164 is null or c.e164 = excluded.e164 or c.e164 = any($7) or c.contact_id = $8 or c.selection_id = $8)
          and (not $9 or c.agent_id = $5)",
        account_id.0,
        binding.call_id,
        binding.key.as_i64(),
        binding.contact_id.0,
        binding.agent_id,
        now,
        binding.same_line,
        binding.named_id.map(|id| id.0),
        binding.only_own,
    )
    .execute(&mut **tx)
    .await?;
    if bound.rows_affected() == 0 {
        return Ok(false);
    }
    requester_decisions::mark_stale_of_call(tx, account_id, binding.call_id).await?;
    Ok(true)
}
