//! The contact of a caller whom nobody knows: the one placeholder of a number.

use chrono::{DateTime, Utc};
use phone_key::{KEY_VERSION, PhoneKey};

use crate::{
    domain::{
        call::MatchRequest,
        ids::{AccountId, ContactId},
    },
    store::{CallDb, StoreError, fragments::statement},
};

/// A caller whom nobody knows, to make a contact of.
pub struct UnknownCaller<'a> {
    /// The new contact's id.
    pub contact_id: ContactId,
    /// The number.
    pub key: PhoneKey,
    /// The call, which is stored with it if it has an id.
    pub request: &'a MatchRequest,
    /// The contact of that call's earlier answer, which is gone.
    pub replaces: Option<ContactId>,
}

/// What became of an unknown caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InsertedPlaceholder {
    /// The placeholder was made; false: the number has one already (perhaps not visible yet). Look
    /// again.
    pub is_new: bool,
    /// The call was stored with it; false: it has another answer, or no id.
    pub is_call_stored: bool,
}

/// Makes the one placeholder of a number, and stores its call.
///
/// One statement, so that a caller who hangs up leaves either all of it or nothing, and routers
/// that race with one call id see both or neither.
pub async fn insert(
    db: &CallDb,
    account_id: AccountId,
    caller: &UnknownCaller<'_>,
    now: DateTime<Utc>,
) -> Result<InsertedPlaceholder, StoreError> {
    let row = statement!(
        [
            "-- store::contact_writes::placeholders::insert
            with placeholder as (
                insert into phone_numbers (account_id, contact_id, integration_id, object_type, record_id, position, raw, region, e164,
                    key_version, extension, label, is_placeholder, contact_created_at)
                values ($1, $3, '00000000-0000-0000-0000-000000000000', '', '', 0, $4, '', $5, $6, '', '', true, $7)
                on conflict (account_id, e164) where is_placeholder do nothing
                returning contact_id
            ),
            person as (
                insert into contacts (account_id, contact_id, display_name, organization, emails, is_placeholder, created_at, updated_at)
                select $1, contact_id, $8, '', '{}', true, $7, $7
                from placeholder
                returning contact_id
            ),
            change as (
                insert into changes (account_id, subject_id, version, kind, created_at)
                select $1, contact_id, 1, 'CREATED', $7
                from person
            ),
            stored as (
                insert into calls as c (account_id, call_id, e164, direction, outcome, contact_id, agent_id, created_at, updated_at)
                select $1, $2, $5, $9, 'CREATED', contact_id, $11, $7, $7
                from person
                where $2::text is not null
                on conflict (account_id, call_id) do update
                set e164 = excluded.e164, raw = null, direction = excluded.direction, outcome = excluded.outcome,
                    contact_id = excluded.contact_id, tier = null, agent_id = coalesce(excluded.agent_id, c.agent_id),
                    updated_at = excluded.updated_at
                where c.outcome is null
                   or (c.e164 = excluded.e164 and (c.outcome in ('NOT_FOUND', 'NOT_KNOWN_YET') or c.contact_id = $10))
                returning c.call_id
            ),
            " MARK_STALE r#"
            select exists (select from person) as "is_new!", exists (select from stored) as "is_call_stored!""#
        ],
        account_id.0,
        caller.request.call_id.as_deref(),
        caller.contact_id.0,
        caller.request.kept_number(),
        caller.key.as_i64(),
        KEY_VERSION,
        now,
        caller.key.e164(),
        caller.request.direction.as_str(),
        caller.replaces.map(|id| id.0),
        caller.request.agent(),
    )
    .fetch_one(db.of(account_id))
    .await?;
    Ok(InsertedPlaceholder { is_new: row.is_new, is_call_stored: row.is_call_stored })
}
