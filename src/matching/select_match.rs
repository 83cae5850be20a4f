//! The agent's choice once the call is accepted. Who comes first before that is the account's
//! policy, `domain::match_policy`.

use crate::{
    domain::{
        contact::Contact,
        ids::{AccountId, ContactId},
    },
    store::{
        calls::{self, CallSelection},
        contacts,
    },
};

use super::{MatchContext, MatchError};

/// What an agent has chosen.
pub struct CallChoice {
    /// The router's id of the call.
    pub call_id: String,
    /// Whom.
    pub contact_id: ContactId,
    /// Who chose; may be empty.
    pub agent_id: String,
    /// A call of another agent, or of nobody known, is as if it were not there.
    pub only_own: bool,
}

/// Makes this contact (or its survivor) the call's. The last write wins.
pub async fn select_match(
    context: &MatchContext,
    account_id: AccountId,
    choice: &CallChoice,
) -> Result<Contact, MatchError> {
    let CallChoice { call_id, contact_id, agent_id, only_own } = choice;
    let found = contacts::find_live(&context.call_db, account_id, &[*contact_id]).await?;
    let Some((_, contact)) = found.into_iter().next() else { return Err(MatchError::ContactNotFound) };
    let selection = CallSelection { call_id, contact_id: contact.id, agent_id, only_own: *only_own };
    let is_known = calls::select(&context.call_db, account_id, &selection, context.clock.now()).await?;
    if is_known { Ok(contact) } else { Err(MatchError::CallNotFound) }
}
