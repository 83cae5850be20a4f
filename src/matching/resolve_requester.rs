//! Whom does it belong to? Finds the subject's contact and numbers; the rule itself is `identity::requester`.

use chrono::{DateTime, Utc};
use phone_key::{PhoneKey, Region};

use crate::{
    domain::{
        ids::{AccountId, ContactId, IntegrationId},
        integration::Freshness,
        requester::Verdict,
    },
    identity::requester::{Requester, decide},
    store::{
        calls,
        decisions::{self, Decision},
        requester as store,
    },
};

use super::{MatchError, Matching};

/// By what the requester is asked for.
pub enum Subject {
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
pub struct Resolution {
    /// The answer.
    pub requester: Requester,
    /// The integration, in the same snapshot.
    pub freshness: Freshness,
    /// The contact by which it was found.
    pub contact_id: Option<ContactId>,
    /// When it was asked.
    pub asked_at: DateTime<Utc>,
}

impl Matching {
    /// The record of this integration to which an automation attributes what it creates.
    pub async fn resolve_requester(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        subject: &Subject,
    ) -> Result<Resolution, MatchError> {
        let (contact_id, keys) = match subject {
            Subject::Call(call_id) => self.subject_of_call(account_id, call_id).await?,
            Subject::Contact(contact_id) => {
                let found = store::find_subject(&self.call_db, account_id, *contact_id)
                    .await?
                    .ok_or(MatchError::ContactNotFound)?;
                (found.living_id, found.keys)
            }
            Subject::PhoneNumber { raw, region } => (None, vec![self.read_number(account_id, raw, *region).await?]),
        };
        let asked_at = self.clock.now();
        let holdings = store::find_holdings(&self.call_db, account_id, integration_id, contact_id, &keys)
            .await?
            .ok_or(MatchError::IntegrationNotFound)?;
        let freshness = holdings.freshness.clone();
        let mut requester = decide(holdings, asked_at);
        if requester == Requester::NotFound && self.is_reparsing(account_id).await? {
            requester = Requester::NotKnownYet;
        }
        if let Subject::Call(call_id) = subject {
            let decision = Decision {
                call_id: call_id.clone(),
                integration_id,
                id: self.ids.new_v7(asked_at),
                verdict: Verdict::from(&requester),
                contact_id,
                key: keys.first().copied(),
            };
            // The feed corrects it, should it turn out to be wrong.
            decisions::keep(&self.call_db, account_id, &decision, asked_at).await?;
        }
        Ok(Resolution { requester, freshness, contact_id, asked_at })
    }

    /// The call's contact now (the selection before the answer) and the call's number. A contact that died is followed to its
    /// survivor; without one only the number is left.
    async fn subject_of_call(
        &self,
        account_id: AccountId,
        call_id: &str,
    ) -> Result<(Option<ContactId>, Vec<PhoneKey>), MatchError> {
        let call = calls::find(&self.call_db, account_id, call_id).await?.ok_or(MatchError::CallNotFound)?;
        let contact_id = match call.contact() {
            Some(contact_id) => {
                store::find_subject(&self.call_db, account_id, contact_id).await?.and_then(|subject| subject.living_id)
            }
            None => None,
        };
        Ok((contact_id, call.key.into_iter().collect()))
    }

    async fn is_reparsing(&self, account_id: AccountId) -> Result<bool, MatchError> {
        Ok(self.rules.find(account_id).await?.is_some_and(|rules| rules.is_reparsing))
    }

    async fn read_number(
        &self,
        account_id: AccountId,
        raw: &str,
        region: Option<Region>,
    ) -> Result<PhoneKey, MatchError> {
        let rules = self.rules.find(account_id).await?.ok_or(MatchError::AccountNotFound)?;
        phone_key::read(raw, region.or(Some(rules.default_region)))
            .first()
            .map(|number| number.key)
            .ok_or(MatchError::NumberUnreadable)
    }
}
