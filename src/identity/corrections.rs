//! A second look at what automations were told: if sync, merge or selection has changed to whom a
//! call belongs, the feed gets one correction, in the transaction that takes the new verdict down.
//! A crash leaves the decision stale, and somebody looks again.

use chrono::{DateTime, Utc};

use super::requester::decide;
use crate::{
    domain::{
        call::Call,
        ids::{AccountId, ContactId},
        requester::RequesterVerdict,
    },
    store::{
        StoreError, Tx, calls, requester,
        requester_decisions::{self, RequesterDecision},
    },
};

/// Looks again at stale decisions, at most `limit`, oldest first; returns at how many. Under the
/// lock of the account's feed, so that nobody else does.
pub async fn correct_stale(
    tx: &mut Tx,
    account_id: AccountId,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    let mut stale = requester_decisions::lock_stale(tx, account_id, limit).await?;
    for decision in &mut stale {
        let (verdict, evidence_ids) = decide_again(tx, account_id, decision, now).await?;
        requester_decisions::save_requester_decision(tx, account_id, decision, &verdict, &evidence_ids, now).await?;
    }
    Ok(stale.len())
}

/// What would be said now, and the contacts on which that rests; the decision takes the call's
/// number as it is now.
async fn decide_again(
    tx: &mut Tx,
    account_id: AccountId,
    decision: &mut RequesterDecision,
    now: DateTime<Utc>,
) -> Result<(RequesterVerdict, Vec<ContactId>), StoreError> {
    let call = calls::find_in(tx, account_id, &decision.call_id).await?;
    let asked_id = call.as_ref().map_or(decision.contact_id, Call::contact);
    let living_id = match asked_id {
        Some(id) => requester::find_contact_in(tx, account_id, id).await?.and_then(|contact| contact.living_id),
        None => None,
    };
    // The number of the call as it is now: one that was only clicked may have been another's.
    decision.key = call.as_ref().map_or(decision.key, |call| call.key);
    let keys: Vec<_> = decision.key.into_iter().collect();
    let candidates = requester::find_candidates_in(tx, account_id, decision.integration_id, living_id, &keys).await?;
    let mut evidence_ids: Vec<ContactId> = asked_id.into_iter().chain(living_id).collect();
    let Some(candidates) = candidates else { return Ok((decision.verdict.clone(), evidence_ids)) };
    if candidates.own.is_empty() {
        evidence_ids.extend(&candidates.holders);
    }
    evidence_ids.sort_unstable();
    evidence_ids.dedup();
    Ok((RequesterVerdict::from(&decide(candidates, now)), evidence_ids))
}
