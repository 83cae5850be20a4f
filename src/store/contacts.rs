//! The table `contacts` and the view `contact_details`: how a contact is read everywhere, and the writes that `identity` makes.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{CallDb, Db, StoreError, Tx, known};
use crate::domain::{
    contact::{Contact, ContactNumber, ContactRecord},
    ids::{AccountId, ContactId, IntegrationId},
    phone::PhoneKey,
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

/// The displayed fields of a contact.
pub struct Fields {
    /// Which contact.
    pub contact_id: ContactId,
    /// Its name.
    pub display_name: String,
    /// Its organisation.
    pub organization: String,
    /// Its e-mail addresses; none holds a line break.
    pub emails: Vec<String>,
}

fn columns(fields: &[Fields]) -> (Vec<Uuid>, Vec<String>, Vec<String>, Vec<String>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in fields {
        columns.0.push(row.contact_id.0);
        columns.1.push(row.display_name.clone());
        columns.2.push(row.organization.clone());
        // Arrays of arrays cannot be unnested row by row.
        columns.3.push(row.emails.join("\n"));
    }
    columns
}

/// New contacts with a record.
pub async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    fields: &[Fields],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (ids, names, organizations, emails) = columns(fields);
    sqlx::query!(
        "-- store::contacts::insert
        insert into contacts (account_id, contact_id, display_name, organization, emails, is_placeholder, created_at, updated_at)
        select $1, u.contact_id, u.display_name, u.organization, string_to_array(u.emails, E'\\n'), false, $6, $6
        from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as u (contact_id, display_name, organization, emails)",
        account_id.0,
        &ids,
        &names,
        &organizations,
        &emails,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// New fields for these contacts; a tombstone among them lives again, a placeholder has a record now.
pub async fn update(
    tx: &mut Tx,
    account_id: AccountId,
    fields: &[Fields],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (ids, names, organizations, emails) = columns(fields);
    sqlx::query!(
        "-- store::contacts::update
        update contacts c
        set display_name = u.display_name,
            organization = u.organization,
            emails = string_to_array(u.emails, E'\\n'),
            is_placeholder = false,
            deleted_at = null,
            merged_into = null,
            survivor_id = null,
            updated_at = $6
        from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as u (contact_id, display_name, organization, emails)
        where c.account_id = $1 and c.contact_id = u.contact_id",
        account_id.0,
        &ids,
        &names,
        &organizations,
        &emails,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What a further click says of a contact that no sync has seen: an empty name or no e-mail leaves what is there.
pub async fn add_clicked(
    tx: &mut Tx,
    account_id: AccountId,
    fields: &Fields,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::contacts::add_clicked
        update contacts
        set display_name = coalesce(nullif($3, ''), display_name),
            emails = case when cardinality($4::text[]) > 0 then $4 else emails end,
            updated_at = $5
        where account_id = $1 and contact_id = $2",
        account_id.0,
        fields.contact_id.0,
        fields.display_name,
        &fields.emails,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What identity needs to know of a contact that it is about to change.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Which.
    pub contact_id: ContactId,
    /// Its rank.
    pub created_at: DateTime<Utc>,
    /// Made by a call, and without a record.
    pub is_placeholder: bool,
    /// Neither deleted nor merged.
    pub is_live: bool,
    /// Where it went.
    pub survivor_id: Option<ContactId>,
}

/// Locks these contacts, in the order of their ids.
pub async fn lock(tx: &mut Tx, account_id: AccountId, contact_ids: &[ContactId]) -> Result<Vec<Standing>, StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        "-- store::contacts::lock
        select contact_id, created_at, is_placeholder, deleted_at, survivor_id
        from contacts
        where account_id = $1 and contact_id = any($2)
        order by contact_id
        for update",
        account_id.0,
        &ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    let standing = rows.into_iter().map(|row| Standing {
        contact_id: ContactId(row.contact_id),
        created_at: row.created_at,
        is_placeholder: row.is_placeholder,
        is_live: row.deleted_at.is_none(),
        survivor_id: row.survivor_id.map(ContactId),
    });
    Ok(standing.collect())
}

/// Makes tombstones of those that have no live record left, forgets what was personal, and ends their numbers (a record whose
/// deletion was not mirrored may have left some).
pub async fn bury_without_live_refs(
    tx: &mut Tx,
    account_id: AccountId,
    contact_ids: &[ContactId],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    let buried = sqlx::query_scalar!(
        "-- store::contacts::bury_without_live_refs
        update contacts c
        set display_name = '', organization = '', emails = '{}', is_placeholder = false, deleted_at = $3, updated_at = $3
        where c.account_id = $1 and c.contact_id = any($2) and c.deleted_at is null
          and not exists (
            select from external_refs e
            where e.account_id = $1 and e.contact_id = c.contact_id and e.is_live
          )
        returning contact_id",
        account_id.0,
        &ids,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::contacts::bury_without_live_refs (ends numbers)
        delete from phone_numbers n
        where n.account_id = $1 and n.contact_id = any($2)",
        account_id.0,
        &buried,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
