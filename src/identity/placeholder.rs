//! The contact of a stranger: exactly one to an account and number, however many calls race.

use chrono::{DateTime, Utc};

use super::adoption;
use crate::{
    domain::{
        contact::{Contact, ContactNumber},
        ids::AccountId,
    },
    store::{
        CallDb, Db, StoreError,
        contact_writes::placeholders::{self, UnknownCaller},
    },
    telemetry::chain,
};

/// Makes the placeholder of a number and stores its call, then looks again for a record that a page
/// brought at the same moment. `None`: somebody is on the number by now (another call's
/// placeholder, or a record), or the call has another answer. Look again.
pub async fn create(
    call_db: &CallDb,
    db: &Db,
    account_id: AccountId,
    caller: &UnknownCaller<'_>,
    now: DateTime<Utc>,
) -> Result<Option<Contact>, StoreError> {
    let inserted = placeholders::insert(call_db, account_id, caller, now).await?;
    if !inserted.is_new {
        return Ok(None);
    }
    let (looking_call_db, looking_db, key) = (call_db.clone(), db.clone(), caller.key);
    // In a task of its own: a caller who hangs up now must not leave stranger and record side by
    // side.
    let looked = db
        .task(async move { adoption::adopt_late_at(&looking_call_db, &looking_db, account_id, key, now).await })
        .await;
    match looked {
        Ok(true) => return Ok(None),
        Ok(false) => {}
        // The stranger is stored and the phone rings: the next sync makes it good.
        Err(error) => tracing::warn!(error = %chain(&error), "the second look for a stranger's record failed"),
    }
    if caller.request.call_id.is_some() && !inserted.is_call_stored {
        return Ok(None);
    }
    Ok(Some(contact_of(caller, now)))
}

/// As it was just written.
fn contact_of(caller: &UnknownCaller<'_>, now: DateTime<Utc>) -> Contact {
    let number = ContactNumber {
        raw: caller.request.kept_number().to_owned(),
        key: Some(caller.key),
        label: String::new(),
        extension: String::new(),
    };
    Contact {
        id: caller.contact_id,
        display_name: caller.key.e164(),
        organization: String::new(),
        emails: Vec::new(),
        numbers: vec![number],
        records: Vec::new(),
        created_at: now,
        deleted_at: None,
        survivor_id: None,
        is_placeholder: true,
    }
}
