//! The view `contact_details`: how a contact is read everywhere. `contact_writes` writes them.

use std::{cmp::Reverse, fmt};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{CallDb, Db, StoreError, known};
use crate::domain::{
    account::MatchPolicy,
    contact::{Contact, ContactNumber, ContactRecord, TOTAL_MAX},
    ids::{AccountId, ContactId, IntegrationId},
    phone::{PhoneKey, Region},
    record::{ObjectType, RecordKey},
};

/// A row of `contact_details.details`.
#[derive(Deserialize)]
pub(super) struct Details {
    contact_id: Uuid,
    display_name: String,
    organization: String,
    emails: Vec<String>,
    is_placeholder: bool,
    created_at: DateTime<Utc>,
    deleted_at: Option<DateTime<Utc>>,
    survivor_id: Option<Uuid>,
    numbers: Vec<NumberDetails>,
    records: Vec<RecordDetails>,
}

#[derive(Deserialize)]
struct NumberDetails {
    raw: String,
    e164: Option<i64>,
    label: String,
    extension: String,
}

#[derive(Deserialize)]
struct RecordDetails {
    integration_id: Uuid,
    object_type: String,
    record_id: String,
    url: String,
    is_live: bool,
    role: String,
}

// sqlx wants it of every column; personal data stays out of it.
impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Details").field("contact_id", &self.contact_id).finish_non_exhaustive()
    }
}

impl TryFrom<Details> for Contact {
    type Error = StoreError;

    fn try_from(row: Details) -> Result<Self, StoreError> {
        Ok(Self {
            id: ContactId(row.contact_id),
            display_name: row.display_name,
            organization: row.organization,
            emails: row.emails,
            numbers: row.numbers.into_iter().map(ContactNumber::try_from).collect::<Result<_, _>>()?,
            records: row.records.into_iter().map(ContactRecord::try_from).collect::<Result<_, _>>()?,
            created_at: row.created_at,
            deleted_at: row.deleted_at,
            survivor_id: row.survivor_id.map(ContactId),
            is_placeholder: row.is_placeholder,
        })
    }
}

impl TryFrom<NumberDetails> for ContactNumber {
    type Error = StoreError;

    fn try_from(row: NumberDetails) -> Result<Self, StoreError> {
        let key = row.e164.map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "phone_numbers", "e164")).transpose()?;
        Ok(Self { raw: row.raw, key, label: row.label, extension: row.extension })
    }
}

impl TryFrom<RecordDetails> for ContactRecord {
    type Error = StoreError;

    fn try_from(row: RecordDetails) -> Result<Self, StoreError> {
        Ok(Self {
            integration_id: IntegrationId(row.integration_id),
            key: RecordKey {
                object_type: known(ObjectType::parse(&row.object_type), "external_refs", "object_type")?,
                record_id: row.record_id,
            },
            url: row.url,
            role: row.role,
            is_live: row.is_live,
        })
    }
}

pub(super) fn contacts_of(details: Vec<Details>) -> Result<Vec<Contact>, StoreError> {
    details.into_iter().map(Contact::try_from).collect()
}

/// One contact, dead or alive.
pub async fn find(db: &Db, account_id: AccountId, contact_id: ContactId) -> Result<Option<Contact>, StoreError> {
    let details = sqlx::query_scalar!(
        r#"-- store::contacts::find
        select details as "details!: Json<Details>"
        from contact_details
        where account_id = $1 and contact_id = $2"#,
        account_id.0,
        contact_id.0,
    )
    .fetch_optional(&db.pool)
    .await?;
    details.map(|Json(details)| details.try_into()).transpose()
}

/// These contacts as far as they live, in this order.
pub async fn find_all(db: &Db, account_id: AccountId, contact_ids: &[ContactId]) -> Result<Vec<Contact>, StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    let details = sqlx::query_scalar!(
        r#"-- store::contacts::find_all
        with found as materialized (
            select k.place,
                (
                    select d.details
                    from contact_details d
                    where d.account_id = $1 and d.contact_id = k.contact_id
                      and exists (
                        select from contacts c
                        where c.account_id = $1 and c.contact_id = k.contact_id and c.deleted_at is null
                      )
                ) as details
            from unnest($2::uuid[]) with ordinality as k (contact_id, place)
        )
        select details as "details!: Json<Details>"
        from found
        where details is not null
        order by place"#,
        account_id.0,
        &ids,
    )
    .fetch_all(&db.pool)
    .await?;
    contacts_of(details.into_iter().map(|Json(details)| details).collect())
}

/// These contacts, and in the place of merged ones their survivors, by id; dead ones without a survivor are left out.
pub async fn find_live(
    db: &CallDb,
    account_id: AccountId,
    contact_ids: &[ContactId],
) -> Result<Vec<(ContactId, Contact)>, StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    let rows = db
        .read(|pool| {
            let ids = ids.clone();
            async move {
                sqlx::query!(
                    r#"-- store::contacts::find_live
                    with asked as materialized (
                        select k.contact_id as asked_id,
                            (
                                select coalesce(c.survivor_id, c.contact_id)
                                from contacts c
                                where c.account_id = $1 and c.contact_id = k.contact_id
                            ) as living_id
                        from unnest($2::uuid[]) as k (contact_id)
                    ),
                    found as materialized (
                        select a.asked_id,
                            (
                                select d.details
                                from contact_details d
                                where d.account_id = $1 and d.contact_id = a.living_id
                                  and exists (
                                    select from contacts c
                                    where c.account_id = $1 and c.contact_id = a.living_id and c.deleted_at is null
                                  )
                            ) as details
                        from asked a
                    )
                    select asked_id as "asked_id!", details as "details!: Json<Details>"
                    from found
                    where details is not null"#,
                    account_id.0,
                    &ids,
                )
                .fetch_all(&pool)
                .await
            }
        })
        .await?;
    rows.into_iter().map(|row| Ok((ContactId(row.asked_id), row.details.0.try_into()?))).collect()
}

/// A page of live contacts by id.
pub async fn list(
    db: &Db,
    account_id: AccountId,
    after: Option<ContactId>,
    limit: i64,
) -> Result<Vec<Contact>, StoreError> {
    let details = sqlx::query_scalar!(
        r#"-- store::contacts::list
        with page as materialized (
            select contact_id
            from contacts
            where account_id = $1 and deleted_at is null
              and contact_id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
            order by contact_id
            limit $3
        )
        -- A join read the whole table.
        select (
            select d.details from contact_details d where d.account_id = $1 and d.contact_id = p.contact_id
        ) as "details!: Json<Details>"
        from page p
        order by p.contact_id"#,
        account_id.0,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    contacts_of(details.into_iter().map(|Json(details)| details).collect())
}

/// A page of the live contacts with this number, in the order of a match.
pub async fn list_by_number(
    db: &Db,
    account_id: AccountId,
    key: PhoneKey,
    after: Option<(bool, DateTime<Utc>, ContactId)>,
    limit: i64,
) -> Result<Vec<Contact>, StoreError> {
    let (placeholder, created_at, contact_id) =
        after.map_or((None, None, None), |(p, c, id)| (Some(p), Some(c), Some(id.0)));
    let details = sqlx::query_scalar!(
        r#"-- store::contacts::list_by_number
        with page as materialized (
            select n.is_placeholder, n.contact_created_at, n.contact_id
            from phone_numbers n
            where n.account_id = $1 and n.e164 = $2
              and ($3::boolean is null or (n.is_placeholder, n.contact_created_at, n.contact_id) > ($3, $4, $5))
            group by n.is_placeholder, n.contact_created_at, n.contact_id
            order by n.is_placeholder, n.contact_created_at, n.contact_id
            limit $6
        )
        select (
            select d.details from contact_details d where d.account_id = $1 and d.contact_id = p.contact_id
        ) as "details!: Json<Details>"
        from page p
        order by p.is_placeholder, p.contact_created_at, p.contact_id"#,
        account_id.0,
        key.as_i64(),
        placeholder,
        created_at,
        contact_id,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    contacts_of(details.into_iter().map(|Json(details)| details).collect())
}

/// The live contacts with this number that the account's policy puts in order: the first 200 created, best first.
pub async fn rank_by_number(
    db: &Db,
    account_id: AccountId,
    key: PhoneKey,
    policy: MatchPolicy,
) -> Result<Vec<Ranked>, StoreError> {
    let rows = sqlx::query!(
        r#"-- store::contacts::rank_by_number
        with found as materialized (
            select n.is_placeholder, n.contact_created_at, n.contact_id
            from phone_numbers n
            where n.account_id = $1 and n.e164 = $2
            group by n.is_placeholder, n.contact_created_at, n.contact_id
            order by n.is_placeholder, n.contact_created_at, n.contact_id
            limit $5
        ),
        ranked as materialized (
            select f.is_placeholder, f.contact_created_at, f.contact_id,
            case $3::text
                when 'LAST_SELECTED' then (
                    select s.selected_at
                    from selections s
                    join contacts c on c.account_id = $1 and c.contact_id = s.contact_id
                    where s.account_id = $1 and s.e164 = $2 and coalesce(c.survivor_id, c.contact_id) = f.contact_id
                )
                when 'LAST_UPDATED' then (
                    select max(e.record_updated_at)
                    from external_refs e
                    where e.account_id = $1 and e.contact_id = f.contact_id and e.is_live
                )
                when 'PREFERRED_INTEGRATION' then (
                    select max('infinity'::timestamptz)
                    from external_refs e
                    where e.account_id = $1 and e.contact_id = f.contact_id and e.integration_id = $4 and e.is_live
                )
            end as rank
            from found f
        )
        select is_placeholder, contact_created_at, contact_id,
            case rank when 'infinity' then 9223372036854775807 else (extract(epoch from rank) * 1000000)::bigint end as rank
        from ranked
        order by is_placeholder, ranked.rank desc nulls last, contact_created_at, contact_id"#,
        account_id.0,
        key.as_i64(),
        policy.as_str(),
        policy.preferred().map(|id| id.0) as Option<Uuid>,
        i64::try_from(TOTAL_MAX).unwrap_or(i64::MAX),
    )
    .fetch_all(&db.pool)
    .await?;
    let ranked = rows.into_iter().map(|row| Ranked {
        is_placeholder: row.is_placeholder,
        rank: Reverse(row.rank),
        created_at: row.contact_created_at,
        contact_id: ContactId(row.contact_id),
    });
    Ok(ranked.collect())
}

/// A contact's rank among those with one number, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    /// Strangers come last.
    pub is_placeholder: bool,
    /// What the policy says, the greatest first: a time in microseconds, or the greatest number there is; `None` comes last.
    pub rank: Reverse<Option<i64>>,
    /// First created first, where the policy says no more.
    pub created_at: DateTime<Utc>,
    /// Which contact.
    pub contact_id: ContactId,
}

/// The country of a record's address, where it is known.
pub async fn find_country(
    db: &Db,
    account_id: AccountId,
    integration_id: IntegrationId,
    key: &RecordKey,
) -> Result<Option<Region>, StoreError> {
    let region = sqlx::query_scalar!(
        "-- store::contacts::find_country
        select region
        from external_refs
        where account_id = $1 and integration_id = $2 and object_type = $3 and record_id = $4 and region <> ''",
        account_id.0,
        integration_id.0,
        key.object_type.as_str(),
        key.record_id,
    )
    .fetch_optional(&db.pool)
    .await?;
    region.map(|region| known(Region::parse(&region).ok(), "external_refs", "region")).transpose()
}
