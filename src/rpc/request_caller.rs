//! Who sent one request, and what it may touch: the only way from a handler to an account. Tries
//! what the message asks for beyond its method's scopes, and hands an agent's calls out together
//! with the account. Does not know how tokens are verified.

use std::{any::Any, sync::Arc};

use tonic::{Request, Status};

use super::{
    auth::TokenHolder,
    call_notes::CallNotes,
    claims::TokenAccounts,
    methods::{FieldRule, MethodAccess, MethodRule, TokenScope},
    parse,
    room::RoomPlace,
    status,
};
use crate::domain::ids::AccountId;

/// Whose calls a request may touch.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum CallReach {
    /// Anybody's.
    Every,
    /// Those of this agent, who is the token's subject.
    OfAgent(String),
}

impl CallReach {
    /// Only those of the agent who asks.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::OfAgent(_))
    }

    /// Who clicks or chooses, by what the request says: an agent does so in no other name.
    pub(super) fn agent(self, said: String) -> String {
        match self {
            Self::Every => said,
            Self::OfAgent(agent_id) => agent_id,
        }
    }
}

/// The caller of one request, with its place in the server's room.
pub(super) struct RequestCaller<'r> {
    caller: &'r TokenHolder,
    method: &'static MethodRule,
    /// What the message asks for, and none of the token's scopes gives.
    ungiven: Option<&'static FieldRule>,
    notes: Option<&'r CallNotes>,
    place: Option<&'r RoomPlace>,
}

impl<'r> RequestCaller<'r> {
    /// As [`TokenHolder::authorize`]; `PERMISSION_DENIED` `SCOPE_MISSING` if the message asks for
    /// more than the token's scopes give, by the method's rules in the table; and counts the
    /// request to this account's share of the room, which may be spent: `OVERLOADED`. INTERNAL for
    /// a caller who may touch its own calls only: [`RequestCaller::authorize_reach`] is for these.
    pub(super) fn authorize(&self, account_id: &str) -> Result<AccountId, Status> {
        if self.is_of_own_calls() {
            return Err(status::internal(&ReachIgnored));
        }
        self.authorize_anyhow(account_id)
    }

    /// The same, with the calls that the caller may touch, which the handler has to keep to.
    /// `INVALID_ARGUMENT` where the subject that stands for an agent can be none.
    pub(super) fn authorize_reach(&self, account_id: &str) -> Result<(AccountId, CallReach), Status> {
        let account_id = self.authorize_anyhow(account_id)?;
        if !self.is_of_own_calls() {
            return Ok((account_id, CallReach::Every));
        }
        let agent_id = parse::short_text("agent_id", self.caller.subject()).map_err(|_| {
            status::invalid("agent_id", "is the token's sub, which must have at most 128 characters, and no NUL")
        })?;
        Ok((account_id, CallReach::OfAgent(agent_id)))
    }

    fn authorize_anyhow(&self, account_id: &str) -> Result<AccountId, Status> {
        let ungiven = self.ungiven.map(|rule| status::scope_missing(rule.scopes, Some(rule)));
        let account_id = self.caller.authorize(account_id).map_err(|refused| ungiven.clone().unwrap_or(refused))?;
        if let Some(notes) = self.notes {
            notes.note_account(account_id);
        }
        if let Some(place) = self.place {
            place.take_account(account_id).map_err(status::overloaded)?;
        }
        // Now that the account is known, under which the audit has the refusal.
        if let Some(ungiven) = ungiven {
            return Err(ungiven);
        }
        Ok(account_id)
    }

    /// The request is about this phone call, for the log.
    pub(super) fn note_call(&self, call_id: &str) {
        if let Some(notes) = self.notes {
            notes.note_call(call_id);
        }
    }

    /// Whether all that opens the method to this caller is a scope of an agent's own calls.
    fn is_of_own_calls(&self) -> bool {
        let MethodAccess::AnyOf(scopes) = self.method.access else { return false };
        !scopes.iter().any(|scope| self.has(*scope) && !scope.is_of_own_calls())
    }

    /// As [`TokenHolder::has`].
    pub(super) fn has(&self, scope: TokenScope) -> bool {
        self.caller.has(scope)
    }

    /// As [`TokenHolder::accounts`].
    pub(super) fn accounts(&self) -> &'r TokenAccounts {
        self.caller.accounts()
    }
}

/// The caller of this request. INTERNAL if the request came past no gate: a method without a scope
/// has no caller.
pub(super) fn caller<T: Any>(request: &Request<T>) -> Result<RequestCaller<'_>, Status> {
    let caller: Option<&Arc<TokenHolder>> = request.extensions().get();
    let method: Option<&&'static MethodRule> = request.extensions().get();
    let place: Option<&Arc<RoomPlace>> = request.extensions().get();
    let (Some(caller), Some(&method)) = (caller, method) else { return Err(status::internal(&NoCaller)) };
    let is_ungiven =
        |rule: &&FieldRule| !caller.has_any(rule.scopes) && rule.applies(request.get_ref(), caller.subject());
    let ungiven = method.fields.iter().find(is_ungiven);
    let notes: Option<&Arc<CallNotes>> = request.extensions().get();
    Ok(RequestCaller { caller, method, ungiven, notes: notes.map(AsRef::as_ref), place: place.map(AsRef::as_ref) })
}

#[derive(Debug, thiserror::Error)]
#[error("a handler asked for the caller of a request that was not authenticated")]
struct NoCaller;

#[derive(Debug, thiserror::Error)]
#[error("a handler of a method that is open to agents did not ask whose calls the caller may touch")]
struct ReachIgnored;

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    /// A handler that no gate has passed gets no caller.
    #[test]
    fn handler_without_gate_gets_no_caller() {
        let refused = caller(&Request::new(())).err().unwrap();

        assert_eq!(refused.code(), Code::Internal);
    }
}
