//! Who has a caller's number: the read of the call path. It writes nothing; `calls` stores answers.
//!
//! Two statements, each of one snapshot: what an answer says of contacts, of the integrations'
//! freshness and of the call is true of one moment. `read_lean` serves nearly all calls;
//! `read_full` counts shared lines, puts several contacts in another order than "first created",
//! and looks for clicks. What the lean one answers, the full one answers equally.

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;
use uuid::Uuid;

use super::{CallDb, StoreError, fragments::statement};
use crate::domain::{
    call::{Call, CallDirection},
    contact::{CANDIDATES_MAX, Contact},
    ids::AccountId,
    integration::Freshness,
    match_policy::MatchPolicy,
};

/// What is known of a number, and of the call that asks.
#[derive(Clone, PartialEq, Eq)]
pub struct CallerLookup {
    /// Best first, at most [`CANDIDATES_MAX`].
    pub candidates: Vec<Contact>,
    /// Counted up to one more than [`crate::domain::contact::TOTAL_MAX`].
    pub total: usize,
    /// The integrations at the same moment.
    pub sources: Vec<Freshness>,
    /// The call as it is stored; `None`: it has no id, or is not known yet.
    pub call: Option<Call>,
    /// A click on the number waits for this (outbound) call.
    pub has_expected_call: bool,
}

impl CallerLookup {
    /// Somebody with a record has the number.
    pub fn has_record(&self) -> bool {
        self.candidates.iter().any(|contact| !contact.is_placeholder)
    }
}

/// A call as far as it decides what is looked up.
#[derive(Debug, Clone, Copy)]
pub struct LookupRequest<'a> {
    /// The router's id.
    pub call_id: Option<&'a str>,
    /// Only an outbound call may have been clicked.
    pub direction: CallDirection,
    /// A click after this moment still counts.
    pub clicks_since: DateTime<Utc>,
    /// Who comes first of several.
    pub policy: MatchPolicy,
}

/// Everyone with this number, the freshness of all integrations, and the call: one statement, or
/// two for a shared line of more than [`CANDIDATES_MAX`] and for several contacts under another
/// policy than "first created".
pub async fn look_up(
    db: &CallDb,
    account_id: AccountId,
    key: PhoneKey,
    request: &LookupRequest<'_>,
) -> Result<CallerLookup, StoreError> {
    if request.direction == CallDirection::Inbound {
        let lean = read_lean(db, account_id, key, request.call_id).await?;
        if let Some(lookup) = lean.filter(|lookup| lookup.total < 2 || request.policy == MatchPolicy::FirstCreated) {
            return Ok(lookup);
        }
    }
    read_full(db, account_id, key, request).await
}

/// The first created first; `None`: more than [`CANDIDATES_MAX`] rows have the number, and the
/// contacts are to be counted.
pub async fn read_lean(
    db: &CallDb,
    account_id: AccountId,
    key: PhoneKey,
    call_id: Option<&str>,
) -> Result<Option<CallerLookup>, StoreError> {
    let row = db
        .of(account_id)
        .read(|pool| async move {
            statement!(
                ["-- store::caller_lookup::read_lean
                select
                    array(
                        select (
                            select " CONTACT r#"
                            from contacts c
                            where c.account_id = $1 and c.contact_id = n.contact_id
                        )
                        from phone_numbers n
                        where n.account_id = $1 and n.e164 = $2
                        order by n.is_placeholder, n.contact_created_at, n.contact_id
                        -- One more than an answer shows: a shared line, which is for the full statement.
                        limit 21
                    ) as "contacts!: Vec<Contact>",
                    "# SOURCES r#" as "sources!: Vec<Freshness>",
                    "# CALL r#" as "call: Call""#],
                account_id.0,
                key.as_i64(),
                call_id,
            )
            .fetch_one(&pool)
            .await
        })
        .await?;
    let mut candidates = row.contacts;
    if candidates.len() > CANDIDATES_MAX {
        return Ok(None);
    }
    // A contact that has the number several times has as many rows, one after the other.
    candidates.dedup_by_key(|contact| contact.id);
    Ok(Some(CallerLookup {
        total: candidates.len(),
        candidates,
        sources: row.sources,
        call: row.call,
        has_expected_call: false,
    }))
}

/// By the account's policy, of the first 200 created; with the clicks that wait.
pub async fn read_full(
    db: &CallDb,
    account_id: AccountId,
    key: PhoneKey,
    request: &LookupRequest<'_>,
) -> Result<CallerLookup, StoreError> {
    let row = db
        .of(account_id)
        .read(|pool| async move {
            statement!(
                ["-- store::caller_lookup::read_full
                with found as materialized (
                    select n.is_placeholder, n.contact_created_at, n.contact_id
                    from phone_numbers n
                    where n.account_id = $1 and n.e164 = $2
                    group by n.is_placeholder, n.contact_created_at, n.contact_id
                    order by n.is_placeholder, n.contact_created_at, n.contact_id
                    limit 201
                ),
                ranked as materialized (
                    select f.is_placeholder, f.contact_created_at, f.contact_id,
                        " MATCH_RANK " as rank
                    from found f
                    order by f.is_placeholder, f.contact_created_at, f.contact_id
                    limit 200
                )
                select
                    array(
                        -- A subquery, not a join: on an empty database a join was planned that reads the whole account.
                        select (
                            select " CONTACT r#"
                            from contacts c
                            where c.account_id = $1 and c.contact_id = b.contact_id
                        )
                        from (
                            select * from ranked order by is_placeholder, rank desc nulls last, contact_created_at, contact_id limit 20
                        ) b
                        order by b.is_placeholder, b.rank desc nulls last, b.contact_created_at, b.contact_id
                    ) as "contacts!: Vec<Contact>",
                    (select count(*) from found) as "total!",
                    "# SOURCES r#" as "sources!: Vec<Freshness>",
                    "# CALL r#" as "call: Call",
                    $6::boolean and exists (
                        select
                        from expected_calls x
                        where x.account_id = $1 and x.e164 = $2 and x.consumed_at is null and x.created_at > $7
                    ) as "has_expected_call!""#],
                account_id.0,
                key.as_i64(),
                request.call_id,
                request.policy.as_str(),
                request.policy.preferred().map(|id| id.0) as Option<Uuid>,
                request.direction == CallDirection::Outbound,
                request.clicks_since,
            )
            .fetch_one(&pool)
            .await
        })
        .await?;
    Ok(CallerLookup {
        candidates: row.contacts,
        total: usize::try_from(row.total).unwrap_or(0),
        sources: row.sources,
        call: row.call,
        has_expected_call: row.has_expected_call,
    })
}
