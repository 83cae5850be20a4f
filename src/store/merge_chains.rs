//! Which records the CRM has merged into which, for `identity::named_merges`.

use uuid::Uuid;

use super::{
    StoreError, Tx,
    record_keys::{key_columns, key_of, successor_of},
};
use crate::domain::{
    ids::{AccountId, ContactId, IntegrationId},
    record::RecordKey,
};

/// A record as a step of a chain of merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainLink {
    /// Which record.
    pub key: RecordKey,
    /// Its contact; `None`: first seen as deleted.
    pub contact_id: Option<ContactId>,
    /// Not deleted in the CRM.
    pub is_live: bool,
    /// What it was merged or converted into.
    pub successor: Option<RecordKey>,
}

struct LinkRow {
    object_type: String,
    record_id: String,
    contact_id: Option<Uuid>,
    is_live: bool,
    successor_type: Option<String>,
    successor_id: Option<String>,
}

impl TryFrom<LinkRow> for ChainLink {
    type Error = StoreError;

    fn try_from(row: LinkRow) -> Result<Self, StoreError> {
        Ok(Self {
            key: key_of(&row.object_type, row.record_id)?,
            contact_id: row.contact_id.map(ContactId),
            is_live: row.is_live,
            successor: successor_of(row.successor_type.as_deref(), row.successor_id)?,
        })
    }
}

/// Records that were merged into one of these.
pub async fn find_predecessors(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<Vec<ChainLink>, StoreError> {
    let (types, records) = key_columns(keys);
    let rows = sqlx::query_as!(
        LinkRow,
        "-- store::merge_chains::find_predecessors
        select e.object_type, e.record_id, e.contact_id, e.is_live, e.successor_type, e.successor_id
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        -- One look-up a record; see `contact_writes::refs::lock`. Nobody merges a thousand records into one.
        cross join lateral (
            select r.object_type, r.record_id, r.contact_id, r.is_live, r.successor_type, r.successor_id
            from external_refs r
            where r.account_id = $1 and r.integration_id = $2 and r.successor_type = u.object_type and r.successor_id = u.record_id
            limit 1000
        ) e",
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(ChainLink::try_from).collect()
}

/// These records, as far as they are known.
pub async fn find(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    keys: &[RecordKey],
) -> Result<Vec<ChainLink>, StoreError> {
    let (types, records) = key_columns(keys);
    let rows = sqlx::query_as!(
        LinkRow,
        "-- store::merge_chains::find
        select e.object_type, e.record_id, e.contact_id, e.is_live, e.successor_type, e.successor_id
        from unnest($3::text[], $4::text[]) as u (object_type, record_id)
        cross join lateral (
            select r.object_type, r.record_id, r.contact_id, r.is_live, r.successor_type, r.successor_id
            from external_refs r
            where r.account_id = $1 and r.integration_id = $2 and r.object_type = u.object_type and r.record_id = u.record_id
            limit 1
        ) e",
        account_id.0,
        integration_id.0,
        &types,
        &records,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(ChainLink::try_from).collect()
}
