//! The fields of contacts, and their locks.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        change::ChangeKind,
        ids::{AccountId, ContactId},
    },
    store::{
        StoreError, Tx,
        changes::{self, ChangedContact},
    },
};

/// The displayed fields of a contact.
pub struct ContactFields {
    /// Which contact.
    pub contact_id: ContactId,
    /// Its name.
    pub display_name: String,
    /// Its organisation.
    pub organization: String,
    /// Its e-mail addresses; none holds a line break.
    pub emails: Vec<String>,
}

fn columns(fields: &[ContactFields]) -> (Vec<Uuid>, Vec<String>, Vec<String>, Vec<String>) {
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
    fields: &[ContactFields],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (ids, names, organizations, emails) = columns(fields);
    let inserted = sqlx::query_as!(
        ChangedContact,
        "-- store::contact_writes::contacts::insert
        insert into contacts (account_id, contact_id, display_name, organization, emails, is_placeholder, created_at, updated_at)
        select $1, u.contact_id, u.display_name, u.organization, string_to_array(u.emails, E'\\n'), false, $6, $6
        from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as u (contact_id, display_name, organization, emails)
        returning contact_id, version, survivor_id",
        account_id.0,
        &ids,
        &names,
        &organizations,
        &emails,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Created, &inserted, now).await
}

/// New fields for these contacts; a tombstone among them lives again, a placeholder has a record
/// now.
pub async fn update(
    tx: &mut Tx,
    account_id: AccountId,
    fields: &[ContactFields],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (ids, names, organizations, emails) = columns(fields);
    let changed = sqlx::query_as!(
        ChangedContact,
        "-- store::contact_writes::contacts::update
        update contacts c
        set display_name = u.display_name,
            organization = u.organization,
            emails = string_to_array(u.emails, E'\\n'),
            is_placeholder = false,
            deleted_at = null,
            merged_into = null,
            survivor_id = null,
            updated_at = $6,
            version = c.version + 1
        from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as u (contact_id, display_name, organization, emails)
        where c.account_id = $1 and c.contact_id = u.contact_id
        returning c.contact_id, c.version, c.survivor_id",
        account_id.0,
        &ids,
        &names,
        &organizations,
        &emails,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Changed, &changed, now).await
}

/// What a further click says of a contact that no sync has seen: an empty name or no e-mail leaves
/// what is there.
pub async fn add_clicked(
    tx: &mut Tx,
    account_id: AccountId,
    fields: &ContactFields,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let changed = sqlx::query_as!(
        ChangedContact,
        "-- store::contact_writes::contacts::add_clicked
        update contacts
        set display_name = coalesce(nullif($3, ''), display_name),
            emails = case when cardinality($4::text[]) > 0 then $4 else emails end,
            updated_at = $5,
            version = version + 1
        where account_id = $1 and contact_id = $2
        returning contact_id, version, survivor_id",
        account_id.0,
        fields.contact_id.0,
        fields.display_name,
        &fields.emails,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Changed, &changed, now).await
}

/// What identity needs to know of a contact that it is about to change.
#[derive(Debug, Clone, Copy)]
pub struct LockedContact {
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
pub async fn lock(
    tx: &mut Tx,
    account_id: AccountId,
    contact_ids: &[ContactId],
) -> Result<Vec<LockedContact>, StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        "-- store::contact_writes::contacts::lock
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
    let locked = rows.into_iter().map(|row| LockedContact {
        contact_id: ContactId(row.contact_id),
        created_at: row.created_at,
        is_placeholder: row.is_placeholder,
        is_live: row.deleted_at.is_none(),
        survivor_id: row.survivor_id.map(ContactId),
    });
    Ok(locked.collect())
}

/// Says in the feed that these have changed, as far as they live: a record of theirs ended or
/// moved, and nothing that they show.
pub async fn touch(
    tx: &mut Tx,
    account_id: AccountId,
    contact_ids: &[ContactId],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    let changed = sqlx::query_as!(
        ChangedContact,
        "-- store::contact_writes::contacts::touch
        update contacts
        set updated_at = $3, version = version + 1
        where account_id = $1 and contact_id = any($2) and deleted_at is null
        returning contact_id, version, survivor_id",
        account_id.0,
        &ids,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Changed, &changed, now).await
}
