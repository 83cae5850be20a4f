//! The contact of a stranger: exactly one to an account and number, however many calls race.

use chrono::{DateTime, Utc};

use super::adoption;
use crate::{
    domain::{
        ids::{AccountId, ContactId, IdSource},
        phone::PhoneKey,
    },
    store::{CallDb, Db, StoreError, adoption::insert_placeholder},
};

/// What became of the wish for a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// This call made it.
    Made(ContactId),
    /// Somebody is on the number by now: another call's placeholder, or a record. Look again.
    SomebodyIsThere,
}

/// Makes the placeholder of a number, then looks again for a record that a page brought at the same moment.
pub async fn create(
    call_db: &CallDb,
    db: &Db,
    account_id: AccountId,
    key: PhoneKey,
    raw: &str,
    now: DateTime<Utc>,
    ids: &IdSource,
) -> Result<Placeholder, StoreError> {
    let contact_id = ContactId(ids.new_v7(now));
    let Some(contact_id) = insert_placeholder(call_db, account_id, contact_id, key, raw, now).await? else {
        return Ok(Placeholder::SomebodyIsThere);
    };
    if adoption::look_again_at_number(call_db, db, account_id, key, now).await? {
        return Ok(Placeholder::SomebodyIsThere);
    }
    Ok(Placeholder::Made(contact_id))
}
