//! The table `expected_calls`: clicks that wait for their call.

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;
use uuid::Uuid;

use super::{CallDb, StoreError, Tx, fragments::statement};
use crate::domain::{
    call::{CLICK_TTL, MatchRequest},
    ids::{AccountId, ContactId, ExpectedCallId},
};

/// An agent clicked this number of this contact.
pub async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    id: ExpectedCallId,
    key: PhoneKey,
    contact_id: ContactId,
    agent_id: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::expected_calls::insert
        insert into expected_calls (account_id, expected_call_id, e164, contact_id, agent_id, created_at)
        values ($1, $2, $3, $4, $5, $6)",
        account_id.0,
        id.0,
        key.as_i64(),
        contact_id.0,
        agent_id,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What waits for a call to a number.
#[derive(Debug, PartialEq, Eq)]
pub enum ConsumedClick {
    /// Nothing (any more).
    Nothing,
    /// This living contact; consumed now.
    Taken {
        /// Whom the agent clicked.
        contact_id: ContactId,
        /// Stored as the call's answer and selection; false: the call has no id, or has another
        /// answer by now.
        is_stored: bool,
    },
    /// Several agents clicked, and the call does not say whose it is; living contacts. Nothing is
    /// consumed.
    SeveralAgents(Vec<ContactId>),
}

/// Takes the newest click on this number, the same agent's first, and stores the call with it in
/// the same statement. Of two calls that race for one click, one gets it. The same agent's older
/// clicks on the number end with it (of an unknown agent, those on the same contact): one call was
/// made, not two. A call that does not say whose it is becomes the clicking agent's.
pub async fn consume(
    db: &CallDb,
    account_id: AccountId,
    key: PhoneKey,
    request: &MatchRequest,
    now: DateTime<Utc>,
) -> Result<ConsumedClick, StoreError> {
    let row = statement!(
        [r#"-- store::expected_calls::consume
        with waiting as materialized (
            select x.expected_call_id, x.agent_id, x.created_at, x.contact_id, l.contact_id as living_id
            from expected_calls x
            join contacts c on c.account_id = $1 and c.contact_id = x.contact_id
            join contacts l on l.account_id = $1 and l.contact_id = coalesce(c.survivor_id, c.contact_id) and l.deleted_at is null
            where x.account_id = $1 and x.e164 = $3 and x.consumed_at is null and x.created_at > $4
            order by x.created_at desc, x.expected_call_id desc
            limit 100
        ),
        choice as materialized (
            select w.expected_call_id, w.agent_id, w.created_at, w.contact_id, w.living_id
            from waiting w
            where ($5 <> '' or (select count(distinct agent_id) from waiting) = 1)
              and not exists (
                select from calls c
                where c.account_id = $1 and c.call_id = $2
                  and (c.selection_id is not null or c.outcome not in ('NOT_FOUND', 'NOT_KNOWN_YET'))
              )
            order by (w.agent_id = $5) desc, w.created_at desc, w.expected_call_id desc
            limit 1
        ),
        consumed as (
            update expected_calls x
            set consumed_at = $6
            from choice h
            where x.account_id = $1 and x.e164 = $3 and x.consumed_at is null
              and (x.expected_call_id = h.expected_call_id
                or (x.agent_id = h.agent_id and x.created_at <= h.created_at and (h.agent_id <> '' or x.contact_id = h.contact_id)))
            returning x.expected_call_id
        ),
        taken as materialized (
            select h.living_id, h.agent_id
            from choice h
            where exists (select from consumed d where d.expected_call_id = h.expected_call_id)
        ),
        stored as (
            insert into calls as c (account_id, call_id, e164, direction, outcome, contact_id, tier, selection_id, selected_by, agent_id, created_at, updated_at)
            select $1, $2, $3, 'OUTBOUND', 'MATCHED', t.living_id, 'CLICKED', t.living_id, $5, nullif(coalesce(nullif($5, ''), t.agent_id), ''), $6, $6
            from taken t
            where $2::text is not null
            on conflict (account_id, call_id) do update
            set outcome = excluded.outcome, contact_id = excluded.contact_id, tier = excluded.tier,
                selection_id = excluded.selection_id, selected_by = excluded.selected_by,
                agent_id = coalesce(excluded.agent_id, c.agent_id), updated_at = excluded.updated_at
            where c.selection_id is null and (c.outcome is null or c.outcome in ('NOT_FOUND', 'NOT_KNOWN_YET'))
            returning c.call_id
        ),
        "# MARK_STALE r#"
        select
            (select living_id from taken) as "taken?",
            array(select distinct living_id from waiting) as "waiting!",
            (select count(distinct agent_id) from waiting) as "agents!",
            exists (select from stored) as "is_stored!""#],
        account_id.0,
        request.call_id.as_deref(),
        key.as_i64(),
        now - CLICK_TTL,
        request.agent_id,
        now,
    )
    .fetch_one(db.of(account_id))
    .await?;
    Ok(match row.taken {
        Some(contact_id) => ConsumedClick::Taken { contact_id: ContactId(contact_id), is_stored: row.is_stored },
        None if row.agents > 1 && request.agent_id.is_empty() => {
            ConsumedClick::SeveralAgents(row.waiting.into_iter().map(|id: Uuid| ContactId(id)).collect())
        }
        None => ConsumedClick::Nothing,
    })
}
