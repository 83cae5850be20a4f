//! Reads of the requester rule: whose call or contact it is, and which live records an integration
//! has for them.

use phone_key::PhoneKey;
use serde::Deserialize;
use sqlx::{PgExecutor, types::Json};
use uuid::Uuid;

use super::{CallDb, StoreError, Tx, fragments::statement, known};
use crate::domain::{
    contact::{CANDIDATES_MAX, ContactRecord},
    ids::{AccountId, ContactId, IntegrationId},
    integration::Freshness,
    record::{ObjectType, RecordKey},
};

/// A contact for the rule: where it lives on, and its numbers.
pub struct RequesterContact {
    /// The contact, or its survivor; `None`: deleted.
    pub living_id: Option<ContactId>,
    /// All keys of that contact.
    pub keys: Vec<PhoneKey>,
}

/// The contact for the rule; `None`: there never was one with this id.
pub async fn find_contact(
    db: &CallDb,
    account_id: AccountId,
    contact_id: ContactId,
) -> Result<Option<RequesterContact>, StoreError> {
    db.of(account_id)
        .read(|pool| async move { select_contact(&pool, account_id, contact_id).await })
        .await?
        .map(RequesterContact::try_from)
        .transpose()
}

/// The same within a transaction.
pub async fn find_contact_in(
    tx: &mut Tx,
    account_id: AccountId,
    contact_id: ContactId,
) -> Result<Option<RequesterContact>, StoreError> {
    select_contact(&mut **tx, account_id, contact_id).await?.map(RequesterContact::try_from).transpose()
}

struct ContactRow {
    living_id: Option<Uuid>,
    keys: Vec<i64>,
}

impl TryFrom<ContactRow> for RequesterContact {
    type Error = StoreError;

    fn try_from(row: ContactRow) -> Result<Self, StoreError> {
        let keys = row.keys.into_iter().map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "phone_numbers", "e164"));
        Ok(Self { living_id: row.living_id.map(ContactId), keys: keys.collect::<Result<_, _>>()? })
    }
}

async fn select_contact(
    executor: impl PgExecutor<'_>,
    account_id: AccountId,
    contact_id: ContactId,
) -> Result<Option<ContactRow>, sqlx::Error> {
    sqlx::query_as!(
                ContactRow,
                r#"-- store::requester::select_contact
                with asked as materialized (
                    select coalesce(c.survivor_id, c.contact_id) as living_id
                    from contacts c
                    where c.account_id = $1 and c.contact_id = $2
                )
                select
                    (select c.contact_id from contacts c where c.account_id = $1 and c.contact_id = a.living_id and c.deleted_at is null) as "living_id?",
                    array(
                        select distinct n.e164
                        from phone_numbers n
                        where n.account_id = $1 and n.contact_id = a.living_id and n.e164 is not null
                        limit 64
                    ) as "keys!: Vec<i64>"
                from asked a"#,
                account_id.0,
                contact_id.0,
            )
            .fetch_optional(executor)
            .await
}

#[derive(Debug, Deserialize)]
struct RecordRow {
    contact_id: Uuid,
    object_type: String,
    record_id: String,
    role: String,
    url: String,
}

/// The live records that may be the requester, and how fresh the integration is, in one snapshot.
pub struct RequesterCandidates {
    /// Of the contact itself.
    pub own: Vec<ContactRecord>,
    /// With one of the keys, at most one more than [`CANDIDATES_MAX`].
    pub by_number: Vec<ContactRecord>,
    /// The contacts of those.
    pub holders: Vec<ContactId>,
    /// The integration.
    pub freshness: Freshness,
}

/// Looks a requester up; `None`: no such integration.
pub async fn find_candidates(
    db: &CallDb,
    account_id: AccountId,
    integration_id: IntegrationId,
    contact_id: Option<ContactId>,
    keys: &[PhoneKey],
) -> Result<Option<RequesterCandidates>, StoreError> {
    let e164 = &e164_of(keys);
    db.of(account_id)
        .read(|pool| async move { select_candidates(&pool, account_id, integration_id, contact_id, e164).await })
        .await?
        .map(|row| row.into_candidates(integration_id))
        .transpose()
}

/// The same within a transaction.
pub async fn find_candidates_in(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    contact_id: Option<ContactId>,
    keys: &[PhoneKey],
) -> Result<Option<RequesterCandidates>, StoreError> {
    let row = select_candidates(&mut **tx, account_id, integration_id, contact_id, &e164_of(keys)).await?;
    row.map(|row| row.into_candidates(integration_id)).transpose()
}

fn e164_of(keys: &[PhoneKey]) -> Vec<i64> {
    keys.iter().map(|key| key.as_i64()).collect()
}

struct CandidatesRow {
    own: Json<Vec<RecordRow>>,
    by_number: Json<Vec<RecordRow>>,
    freshness: Freshness,
}

impl CandidatesRow {
    fn into_candidates(self, integration_id: IntegrationId) -> Result<RequesterCandidates, StoreError> {
        let records = |rows: Vec<RecordRow>| {
            let record = |row: RecordRow| -> Result<ContactRecord, StoreError> {
                let object_type = known(row.object_type.parse::<ObjectType>().ok(), "external_refs", "object_type")?;
                let key = RecordKey { object_type, record_id: row.record_id };
                Ok(ContactRecord { integration_id, key, url: row.url, role: row.role, is_live: true })
            };
            rows.into_iter().map(record).collect::<Result<Vec<_>, _>>()
        };
        let holders = self.by_number.0.iter().map(|row| ContactId(row.contact_id)).collect();
        Ok(RequesterCandidates {
            own: records(self.own.0)?,
            by_number: records(self.by_number.0)?,
            holders,
            freshness: self.freshness,
        })
    }
}

async fn select_candidates(
    executor: impl PgExecutor<'_>,
    account_id: AccountId,
    integration_id: IntegrationId,
    contact_id: Option<ContactId>,
    e164: &[i64],
) -> Result<Option<CandidatesRow>, sqlx::Error> {
    statement!(
                    CandidatesRow,
                    [r#"-- store::requester::select_candidates
                    with own as materialized (
                        select e.contact_id, e.object_type, e.record_id, e.role, e.url
                        from external_refs e
                        where e.account_id = $1 and e.contact_id = $3 and e.integration_id = $2 and e.is_live
                        limit $5
                    ),
                    by_number as materialized (
                        -- Number by number, each bounded: as a plain join it read 10,000 records of a shared line, and on an empty
                        -- database a join was planned that reads the whole account. A record has a key once.
                        select distinct e.contact_id, e.object_type, e.record_id, e.role, e.url
                        from unnest($4::bigint[]) as k (e164)
                        cross join lateral (
                            select p.object_type, p.record_id
                            from phone_numbers p
                            where p.account_id = $1 and p.e164 = k.e164 and p.integration_id = $2
                              and exists (
                                select from external_refs l
                                where l.account_id = $1 and l.integration_id = $2 and l.object_type = p.object_type
                                  and l.record_id = p.record_id and l.is_live
                              )
                            limit $5
                        ) n
                        cross join lateral (
                            select r.contact_id, r.object_type, r.record_id, r.role, r.url
                            from external_refs r
                            where r.account_id = $1 and r.integration_id = $2 and r.object_type = n.object_type and r.record_id = n.record_id
                            limit 1
                        ) e
                        limit $5
                    )
                    select
                        coalesce((select json_agg(o) from own o), '[]'::json) as "own!: Json<Vec<RecordRow>>",
                        coalesce((select json_agg(b) from by_number b), '[]'::json) as "by_number!: Json<Vec<RecordRow>>",
                        "# FRESHNESS r#" as "freshness!: Freshness"
                    from integrations i
                    where i.account_id = $1 and i.integration_id = $2"#],
                    account_id.0,
                    integration_id.0,
                    contact_id.map(|id| id.0) as Option<Uuid>,
                    e164,
                    i64::try_from(CANDIDATES_MAX + 1).unwrap_or(i64::MAX),
                )
                .fetch_optional(executor)
                .await
}
