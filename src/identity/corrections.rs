//! A second look at what automations were told: if sync, merge or selection has changed to whom a call belongs, the feed gets one
//! correction, in the transaction that takes the new verdict down. A crash leaves the decision stale, and somebody looks again.

use chrono::{DateTime, Utc};

use super::requester::decide;
use crate::{
    domain::{
        call::Call,
        ids::{AccountId, ContactId},
        requester::Verdict,
    },
    store::{
        StoreError, Tx, calls,
        decisions::{self, Decision},
        requester,
    },
};

/// Looks again at stale decisions, at most `limit`, oldest first; returns at how many. Under the lock of the account's feed, so that
/// nobody else does.
pub async fn correct_stale(
    tx: &mut Tx,
    account_id: AccountId,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let mut stale = decisions::lock_stale(tx, account_id, limit).await?;
    for decision in &mut stale {
        let (verdict, grounds) = decide_again(tx, account_id, decision, now).await?;
        decisions::settle(tx, account_id, decision, &verdict, &grounds, now).await?;
    }
    Ok(stale.len())
}

/// What would be said now, and the contacts on which that rests; the decision takes the call's number as it is now.
async fn decide_again(
    tx: &mut Tx,
    account_id: AccountId,
    decision: &mut Decision,
    now: DateTime<Utc>,
) -> Result<(Verdict, Vec<ContactId>), StoreError> {
    let call = calls::find_in(tx, account_id, &decision.call_id).await?;
    let asked_id = call.as_ref().map_or(decision.contact_id, Call::contact);
    let living_id = match asked_id {
        Some(id) => requester::find_subject_in(tx, account_id, id).await?.and_then(|subject| subject.living_id),
        None => None,
    };
    // The number of the call as it is now: one that was only clicked may have been another's.
    decision.key = call.as_ref().map_or(decision.key, |call| call.key);
    let keys: Vec<_> = decision.key.into_iter().collect();
    let holdings = requester::find_holdings_in(tx, account_id, decision.integration_id, living_id, &keys).await?;
    let mut grounds: Vec<ContactId> = asked_id.into_iter().chain(living_id).collect();
    let Some(holdings) = holdings else { return Ok((decision.verdict.clone(), grounds)) };
    if holdings.own.is_empty() {
        grounds.extend(&holdings.holders);
    }
    grounds.sort_unstable();
    grounds.dedup();
    Ok((Verdict::from(&decide(holdings, now)), grounds))
}
