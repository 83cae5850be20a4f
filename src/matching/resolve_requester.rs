//! Whom does it belong to? Finds the contact and numbers of what is asked about; the rule itself is
//! `identity::requester`.

use chrono::{DateTime, Utc};
use phone_key::{PhoneKey, Region};

use crate::{
    domain::{
        ids::{AccountId, ContactId, IntegrationId},
        integration::Freshness,
        requester::RequesterVerdict,
    },
    identity::requester::{RequesterAnswer, decide},
    store::{
        calls, requester,
        requester_decisions::{self, RequesterDecision},
    },
};

use super::{MatchContext, MatchError};

/// By what the requester is asked for.
pub enum RequesterQuery {
    /// A call that was matched or clicked.
    Call(String),
    /// A contact.
    Contact(ContactId),
    /// A bare number.
    PhoneNumber {
        /// As given.
        raw: String,
        /// The country of a number without one; `None`: the account's default region.
        region: Option<Region>,
    },
}

/// The requester, and how fresh the copy is that says so.
pub struct RequesterResolution {
    /// The answer.
    pub answer: RequesterAnswer,
    /// The integration, in the same snapshot.
    pub freshness: Freshness,
    /// The contact by which it was found.
    pub contact_id: Option<ContactId>,
    /// When it was asked.
    pub asked_at: DateTime<Utc>,
}

/// The record of this integration to which an automation attributes what it creates.
pub async fn resolve_requester(
    context: &MatchContext,
    account_id: AccountId,
    integration_id: IntegrationId,
    query: &RequesterQuery,
) -> Result<RequesterResolution, MatchError> {
    let (contact_id, keys) = match query {
        RequesterQuery::Call(call_id) => contact_of_call(context, account_id, call_id).await?,
        RequesterQuery::Contact(contact_id) => {
            let found = requester::find_contact(&context.call_db, account_id, *contact_id)
                .await?
                .ok_or(MatchError::ContactNotFound)?;
            (found.living_id, found.keys)
        }
        RequesterQuery::PhoneNumber { raw, region } => {
            (None, vec![read_number(context, account_id, raw, *region).await?])
        }
    };
    let asked_at = context.clock.now();
    let candidates = requester::find_candidates(&context.call_db, account_id, integration_id, contact_id, &keys)
        .await?
        .ok_or(MatchError::IntegrationNotFound)?;
    let freshness = candidates.freshness.clone();
    let mut answer = decide(candidates, asked_at);
    if answer == RequesterAnswer::NotFound && is_reparsing(context, account_id).await? {
        answer = RequesterAnswer::NotKnownYet;
    }
    if let RequesterQuery::Call(call_id) = query {
        let decision = RequesterDecision {
            call_id: call_id.clone(),
            integration_id,
            id: context.ids.new_v7(asked_at),
            verdict: RequesterVerdict::from(&answer),
            contact_id,
            key: keys.first().copied(),
        };
        // The feed corrects it, should it turn out to be wrong.
        requester_decisions::record_requester_decision(&context.call_db, account_id, &decision, asked_at).await?;
    }
    Ok(RequesterResolution { answer, freshness, contact_id, asked_at })
}

/// The call's contact now (the selection before the answer) and the call's number. A contact that
/// died is followed to its survivor; without one only the number is left.
async fn contact_of_call(
    context: &MatchContext,
    account_id: AccountId,
    call_id: &str,
) -> Result<(Option<ContactId>, Vec<PhoneKey>), MatchError> {
    let call = calls::find(&context.call_db, account_id, call_id).await?.ok_or(MatchError::CallNotFound)?;
    let contact_id = match call.contact() {
        Some(contact_id) => requester::find_contact(&context.call_db, account_id, contact_id)
            .await?
            .and_then(|contact| contact.living_id),
        None => None,
    };
    Ok((contact_id, call.key.into_iter().collect()))
}

async fn is_reparsing(context: &MatchContext, account_id: AccountId) -> Result<bool, MatchError> {
    Ok(context.rules.find(account_id).await?.is_some_and(|rules| rules.is_reparsing))
}

async fn read_number(
    context: &MatchContext,
    account_id: AccountId,
    raw: &str,
    region: Option<Region>,
) -> Result<PhoneKey, MatchError> {
    let rules = context.rules.find(account_id).await?.ok_or(MatchError::AccountNotFound)?;
    phone_key::read(raw, region.or(Some(rules.default_region)))
        .first()
        .map(|number| number.key)
        .ok_or(MatchError::NumberUnreadable)
}
