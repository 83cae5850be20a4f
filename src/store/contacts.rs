//! How a contact is read everywhere: its row, with its numbers and records (`CONTACT` of
//! `fragments`). `contact_writes` writes them.

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;
use sqlx::{
    Decode, Postgres,
    error::BoxDynError,
    postgres::{PgValueRef, types::PgRecordDecoder},
};
use uuid::Uuid;

use super::{CallDb, Db, StoreError, fragments::statement, known};
use crate::domain::{
    contact::{Contact, ContactNumber, ContactRecord},
    ids::{AccountId, ContactId, IntegrationId},
    record::{ObjectType, RecordKey},
};

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
        let object_type = known(object_type.parse::<ObjectType>().ok(), "external_refs", "object_type")?;
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
    let row = statement!(
        ["-- store::contacts::find
        select " CONTACT r#" as "contact!: Contact"
        from contacts c
        where c.account_id = $1 and c.contact_id = $2"#],
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
    let rows = statement!(
        ["-- store::contacts::find_all
        select " CONTACT r#" as "contact!: Contact"
        from unnest($2::uuid[]) with ordinality as k (contact_id, place)
        -- One look-up a contact: as a plain join it was planned, on an empty database, so that it reads the whole account.
        cross join lateral (
            select * from contacts l where l.account_id = $1 and l.contact_id = k.contact_id and l.deleted_at is null limit 1
        ) c
        order by k.place"#],
        account_id.0,
        &ids,
    )
    .fetch_all(db.of(account_id))
    .await?;
    Ok(rows.into_iter().map(|row| row.contact).collect())
}

/// These contacts, and in the place of merged ones their survivors, by id; dead ones without a
/// survivor are left out.
pub async fn find_live(
    db: &CallDb,
    account_id: AccountId,
    contact_ids: &[ContactId],
) -> Result<Vec<(ContactId, Contact)>, StoreError> {
    let ids: &Vec<Uuid> = &contact_ids.iter().map(|id| id.0).collect();
    let rows = db
        .of(account_id)
        .read(|pool| async move {
            statement!(
                [r#"-- store::contacts::find_live
                select k.contact_id as "asked_id!", "# CONTACT r#" as "contact!: Contact"
                from unnest($2::uuid[]) as k (contact_id)
                cross join lateral (
                    select coalesce(a.survivor_id, a.contact_id) as contact_id
                    from contacts a
                    where a.account_id = $1 and a.contact_id = k.contact_id
                    limit 1
                ) living
                cross join lateral (
                    select * from contacts l where l.account_id = $1 and l.contact_id = living.contact_id and l.deleted_at is null limit 1
                ) c"#],
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
    let rows = statement!(
        ["-- store::contacts::list
        with page as materialized (
            select *
            from contacts
            where account_id = $1 and deleted_at is null
              and contact_id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid)
            order by contact_id
            limit $3
        )
        select " CONTACT r#" as "contact!: Contact"
        from page c
        order by c.contact_id"#],
        account_id.0,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db.of(account_id))
    .await?;
    Ok(rows.into_iter().map(|row| row.contact).collect())
}

/// A page of the live contacts with this number, in the order of a match under "first created".
pub async fn list_by_number(
    db: &Db,
    account_id: AccountId,
    key: PhoneKey,
    after: Option<(bool, DateTime<Utc>, ContactId)>,
    limit: i64,
) -> Result<Vec<Contact>, StoreError> {
    let (placeholder, created_at, contact_id) =
        after.map_or((None, None, None), |(p, c, id)| (Some(p), Some(c), Some(id.0)));
    let rows = statement!(
        ["-- store::contacts::list_by_number
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
            select " CONTACT r#"
            from contacts c
            where c.account_id = $1 and c.contact_id = p.contact_id
        ) as "contact!: Contact"
        from page p
        order by p.is_placeholder, p.contact_created_at, p.contact_id"#],
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
