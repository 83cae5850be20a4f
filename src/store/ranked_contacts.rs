//! The contacts with one number, in the order in which an answer takes them, for lists of them:
//! those with a record before placeholders, then whom the account's policy ([`MatchPolicy`])
//! prefers, then the first created in this service. An answer itself is read and sorted in
//! `caller_lookup`.
//!
//! What a policy prefers is the piece `MATCH_RANK` of `fragments`.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;
use uuid::Uuid;

use super::{Db, StoreError, fragments::statement};
use crate::domain::{
    contact::TOTAL_MAX,
    ids::{AccountId, ContactId},
    match_policy::MatchPolicy,
};

/// The live contacts with this number that the account's policy puts in order: the first 200
/// created, best first.
pub async fn rank_by_number(
    db: &Db,
    account_id: AccountId,
    key: PhoneKey,
    policy: MatchPolicy,
) -> Result<Vec<RankedContact>, StoreError> {
    let rows = statement!(
        [
            "-- store::ranked_contacts::rank_by_number
            with found as materialized (
                select n.is_placeholder, n.contact_created_at, n.contact_id
                from phone_numbers n
                where n.account_id = $1 and n.e164 = $2
                group by n.is_placeholder, n.contact_created_at, n.contact_id
                order by n.is_placeholder, n.contact_created_at, n.contact_id
                limit $3
            ),
            ranked as materialized (
                select f.is_placeholder, f.contact_created_at, f.contact_id, " MATCH_RANK r#" as rank
                from found f
            )
            select is_placeholder as "is_placeholder!", contact_created_at as "contact_created_at!", contact_id as "contact_id!",
                case rank when 'infinity' then 9223372036854775807 else (extract(epoch from rank) * 1000000)::bigint end as rank
            from ranked
            order by is_placeholder, ranked.rank desc nulls last, contact_created_at, contact_id"#
        ],
        account_id.0,
        key.as_i64(),
        i64::try_from(TOTAL_MAX).unwrap_or(i64::MAX),
        policy.as_str(),
        policy.preferred().map(|id| id.0) as Option<Uuid>,
    )
    .fetch_all(db.of(account_id))
    .await?;
    let ranked = rows.into_iter().map(|row| RankedContact {
        is_placeholder: row.is_placeholder,
        rank: Reverse(row.rank),
        created_at: row.contact_created_at,
        contact_id: ContactId(row.contact_id),
    });
    Ok(ranked.collect())
}

/// A contact's rank among those with one number, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RankedContact {
    /// Strangers come last.
    pub is_placeholder: bool,
    /// What the policy says, the greatest first: a time in microseconds, or the greatest number
    /// there is; `None` comes last.
    pub rank: Reverse<Option<i64>>,
    /// First created first, where the policy says no more.
    pub created_at: DateTime<Utc>,
    /// Which contact.
    pub contact_id: ContactId,
}
