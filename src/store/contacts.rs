//! How a contact is read everywhere: its row, with its numbers and records. `contact_writes` writes them.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use phone_key::{PhoneKey, Region};
use sqlx::{
    Decode, Postgres,
    error::BoxDynError,
    postgres::{PgValueRef, types::PgRecordDecoder},
};
use uuid::Uuid;

use super::{CallDb, Db, StoreError, known};
use crate::domain::{
    account::MatchPolicy,
    contact::{Contact, ContactNumber, ContactRecord, TOTAL_MAX},
    ids::{AccountId, ContactId, IntegrationId},
    record::{ObjectType, RecordKey},
};

/// [`sqlx::query!`] with a text in three pieces, the middle one of which is everything that is read of the contact `c`: a record that
/// is decoded as [`Contact`], field by field. It reads at most [`NUMBERS_SHOWN_MAX`](crate::domain::contact::NUMBERS_SHOWN_MAX) numbers and
/// [`RECORDS_SHOWN_MAX`](crate::domain::contact::RECORDS_SHOWN_MAX) records, live ones first.
macro_rules! query_contacts {
    ($before:tt, $after:tt, $($arguments:tt)*) => {
        sqlx::query!(
            $before + "row(
                c.contact_id, c.display_name, c.organization, c.emails,
                array(
                    select row(p.raw, p.e164, p.label, p.extension)
                    from phone_numbers p
                    where p.account_id = $1 and p.contact_id = c.contact_id
                    order by p.integration_id, p.object_type, p.record_id, p.position
                    limit 64
                ),
                array(
                    select row(e.integration_id, e.object_type, e.record_id, e.url, e.role, e.is_live)
                    from external_refs e
                    where e.account_id = $1 and e.contact_id = c.contact_id
                    order by e.is_live desc, e.integration_id, e.object_type, e.record_id
                    limit 32
                ),
                c.created_at, c.deleted_at, c.survivor_id, c.is_placeholder
            )" + $after,
            $($arguments)*
        )
    };
}
pub(super) use query_contacts;

impl<'r> Decode<'r, Postgres> for Contact {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let mut fields = PgRecordDecoder::new(value)?;
        Ok(Self {
            id: ContactId(fields.try_decode()?),
            display_name: fields.try_decode()?,
            organization: fields.try_decode()?,
            emails: fields.try_decode()?,
            numbers: fields.try_decode()?,
            records: fields.try_decode()?,
            created_at: fields.try_decode()?,
            deleted_at: fields.try_decode()?,
            survivor_id: fields.try_decode::<Option<Uuid>>()?.map(ContactId),
            is_placeholder: fields.try_decode()?,
        })
    }
}

impl<'r> Decode<'r, Postgres> for ContactNumber {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let mut fields = PgRecordDecoder::new(value)?;
        let raw = fields.try_decode()?;
        let key = fields.try_decode::<Option<i64>>()?;
        let key = key.map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "phone_numbers", "e164")).transpose()?;
        Ok(Self { raw, key, label: fields.try_decode()?, extension: fields.try_decode()? })
    }
}

impl<'r> Decode<'r, Postgres> for ContactRecord {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let mut fields = PgRecordDecoder::new(value)?;
        let integration_id = IntegrationId(fields.try_decode()?);
        let object_type = fields.try_decode::<String>()?;
        let object_type = known(ObjectType::parse(&object_type), "external_refs", "object_type")?;
        Ok(Self {
            integration_id,
            key: RecordKey { object_type, record_id: fields.try_decode()? },
            url: fields.try_decode()?,
            role: fields.try_decode()?,
            is_live: fields.try_decode()?,
        })
    }
}

/// Says that a type is read from a record without a name, also from an array of such.
macro_rules! is_record {
    ($($type:ty),+) => { $(
        impl sqlx::Type<sqlx::Postgres> for $type {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                <(bool,) as sqlx::Type<sqlx::Postgres>>::type_info()
            }
        }

        impl sqlx::postgres::PgHasArrayType for $type {
            fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                <(bool,) as sqlx::postgres::PgHasArrayType>::array_type_info()
            }
        }
    )+ };
}
pub(super) use is_record;

is_record!(Contact, ContactNumber, ContactRecord);

/// One contact, dead or alive.
pub async fn find(db: &Db, account_id: AccountId, contact_id: ContactId) -> Result<Option<Contact>, StoreError> {
    let row = query_contacts!(
        "-- store::contacts::find
        select ",
        r#" as "contact!: Contact"
        from contacts c
        where c.account_id = $1 and c.contact_id = $2"#,
        account_id.0,
        contact_id.0,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    Ok(row.map(|row| row.contact))
}

/// These contacts as far as they live, in this order.
pub async fn find_all(db: &Db, account_id: AccountId, contact_ids: &[ContactId]) -> Result<Vec<Contact>, StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    let rows = query_contacts!(
        "-- store::contacts::find_all
        select ",
        r#" as "contact!: Contact"
        from unnest($2::uuid[]) with ordinality as k (contact_id, place)
        -- One look-up a contact: as a plain join it was planned, on an empty database, so that it reads the whole account.
        cross join lateral (
            select * from contacts l where l.account_id = $1 and l.contact_id = k.contact_id and l.deleted_at is null limit 1
        ) c
        order by k.place"#,
        account_id.0,
        &ids,
    )
    .fetch_all(db.of(account_id))
    .await?;
    Ok(rows.into_iter().map(|row| row.contact).collect())
}

/// These contacts, and in the place of merged ones their survivors, by id; dead ones without a survivor are left out.
pub async fn find_live(
    db: &CallDb,
    account_id: AccountId,
    contact_ids: &[ContactId],
) -> Result<Vec<(ContactId, Contact)>, StoreError> {
    let ids: &Vec<Uuid> = &contact_ids.iter().map(|id| id.0).collect();
    let rows = db
        .of(account_id)
        .read(|pool| async move {
            query_contacts!(
                r#"-- store::contacts::find_live
                select k.contact_id as "asked_id!", "#,
                r#" as "contact!: Contact"
                from unnest($2::uuid[]) as k (contact_id)
                cross join lateral (
                    select coalesce(a.survivor_id, a.contact_id) as contact_id
                    from contacts a
                    where a.account_id = $1 and a.contact_id = k.contact_id
                    limit 1
                ) living
                cross join lateral (
                    select * from contacts l where l.account_id = $1 and l.contact_id = living.contact_id and l.deleted_at is null limit 1
                ) c"#,
                account_id.0,
                ids,
            )
            .fetch_all(&pool)
            .await
        })
        .await?;
    Ok(rows.into_iter().map(|row| (ContactId(row.asked_id), row.contact)).collect())
}

/// A page of live contacts by id.
pub async fn list(
    db: &Db,
    account_id: AccountId,
    after: Option<ContactId>,
    limit: i64,
) -> Result<Vec<Contact>, StoreError> {
    let rows = query_contacts!(
        "-- store::contacts::list
        with page as materialized (
            select *
            from contacts
            where account_id = $1 and deleted_at is null
              and contact_id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
            order by contact_id
            limit $3
        )
        select ",
        r#" as "contact!: Contact"
        from page c
        order by c.contact_id"#,
        account_id.0,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db.of(account_id))
    .await?;
    Ok(rows.into_iter().map(|row| row.contact).collect())
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
    let rows = query_contacts!(
        "-- store::contacts::list_by_number
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
            select ",
        r#"
            from contacts c
            where c.account_id = $1 and c.contact_id = p.contact_id
        ) as "contact!: Contact"
        from page p
        order by p.is_placeholder, p.contact_created_at, p.contact_id"#,
        account_id.0,
        key.as_i64(),
        placeholder,
        created_at,
        contact_id,
        limit,
    )
    .fetch_all(db.of(account_id))
    .await?;
    Ok(rows.into_iter().map(|row| row.contact).collect())
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
                    where s.account_id = $1 and s.e164 = $2 and f.contact_id = (
                        select coalesce(c.survivor_id, c.contact_id) from contacts c where c.account_id = $1 and c.contact_id = s.contact_id
                    )
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
    .fetch_all(db.of(account_id))
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
    .fetch_optional(db.of(account_id))
    .await?;
    region.map(|region| known(Region::parse(&region).ok(), "external_refs", "region")).transpose()
}
