//! The table `expected_calls`: clicks that wait for their call.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{CallDb, StoreError, Tx};
use crate::domain::{
    ids::{AccountId, ContactId, ExpectedCallId},
    phone::PhoneKey,
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
pub enum Expected {
    /// Nothing (any more).
    Nothing,
    /// This contact; consumed now, and stored as the call's answer and selection if it has an id.
    Consumed(ContactId),
    /// Several agents clicked, and the call does not say whose it is; newest first. Nothing is consumed.
    SeveralAgents(Vec<ContactId>),
}

/// The call that takes a click.
pub struct Dialling<'a> {
    /// Empty: nothing is stored.
    pub call_id: Option<&'a str>,
    /// Empty: not known.
    pub agent_id: &'a str,
    /// Older clicks do not count.
    pub clicks_since: DateTime<Utc>,
    /// Now.
    pub now: DateTime<Utc>,
}

/// Takes the newest click on this number, the same agent's first, and stores the call with it in the same statement. Of two calls
/// that race for one click, one gets it.
pub async fn consume(
    db: &CallDb,
    account_id: AccountId,
    key: PhoneKey,
    dialling: &Dialling<'_>,
) -> Result<Expected, StoreError> {
    let row = sqlx::query!(
        r#"-- store::expected_calls::consume
        with waiting as materialized (
            select x.expected_call_id, x.contact_id, x.agent_id, x.created_at
            from expected_calls x
            where x.account_id = $1 and x.e164 = $2 and x.consumed_at is null and x.created_at > $4
            order by x.created_at desc, x.expected_call_id desc
            limit 100
        ),
        choice as materialized (
            select w.expected_call_id
            from waiting w
            where $5 <> '' or (select count(distinct agent_id) from waiting) = 1
            order by (w.agent_id = $5) desc, w.created_at desc, w.expected_call_id desc
            limit 1
        ),
        consumed as (
            update expected_calls x
            set consumed_at = $6
            where x.account_id = $1 and x.expected_call_id = (select expected_call_id from choice) and x.consumed_at is null
            returning x.contact_id
        ),
        stored as (
            insert into calls as c (account_id, call_id, e164, direction, outcome, contact_id, tier, selection_id, selected_by, created_at, updated_at)
            select $1, $3, $2, 'OUTBOUND', 'MATCHED', consumed.contact_id, 'CLICKED', consumed.contact_id, $5, $6, $6
            from consumed
            where $3::text is not null
            on conflict (account_id, call_id) do update
            set outcome = excluded.outcome, contact_id = excluded.contact_id, tier = excluded.tier,
                selection_id = excluded.selection_id, selected_by = excluded.selected_by, updated_at = excluded.updated_at
            returning c.call_id
        )
        select
            (select contact_id from consumed) as "consumed?",
            array(select distinct contact_id from waiting) as "waiting!",
            (select count(distinct agent_id) from waiting) as "agents!",
            (select count(*) from stored) as "stored!""#,
        account_id.0,
        key.as_i64(),
        dialling.call_id,
        dialling.clicks_since,
        dialling.agent_id,
        dialling.now,
    )
    .fetch_one(&db.0)
    .await?;
    Ok(match row.consumed {
        Some(contact_id) => Expected::Consumed(ContactId(contact_id)),
        None if row.agents > 1 && dialling.agent_id.is_empty() => {
            Expected::SeveralAgents(row.waiting.into_iter().map(|id: Uuid| ContactId(id)).collect())
        }
        None => Expected::Nothing,
    })
}
