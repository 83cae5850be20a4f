//! The agent's choice once the call is accepted. Who comes first before that is the account's
//! policy, `domain::match_policy`.

use crate::{
    domain::{
        contact::Contact,
        ids::{AccountId, ContactId},
    },
    store::{calls, contacts},
};

use super::{MatchContext, MatchError};

/// Makes this contact (or its survivor) the call's. The last write wins.
pub async fn select_match(
    context: &MatchContext,
    account_id: AccountId,
    call_id: &str,
    contact_id: ContactId,
    agent_id: &str,
) -> Result<Contact, MatchError> {
    let found = contacts::find_live(&context.call_db, account_id, &[contact_id]).await?;
    let Some((_, contact)) = found.into_iter().next() else { return Err(MatchError::ContactNotFound) };
    let is_known =
        calls::select(&context.call_db, account_id, call_id, contact.id, agent_id, context.clock.now()).await?;
    if is_known { Ok(contact) } else { Err(MatchError::CallNotFound) }
}
