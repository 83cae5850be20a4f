//! Reading stored numbers again: which accounts need it, how far it has come, and the numbers of
//! some contacts at a time. Called by `sync::reparse`, which decides what they are now.

use chrono::{DateTime, Utc};
use phone_key::{KEY_VERSION, PhoneKey, Region};
use uuid::Uuid;

use super::{Db, StoreError, Tx, known, record_keys::key_of};
use crate::domain::{
    ids::{AccountId, ContactId, IntegrationId},
    record::RecordKey,
};

/// Contacts that one transaction reads again.
pub const BATCH_MAX: i64 = 200;
/// Accounts found at once.
const ACCOUNTS_MAX: i64 = 100;

/// Accounts whose stored numbers were read by older rules, or for other regions. One of the named
/// statements across accounts.
pub async fn find_due(db: &Db) -> Result<Vec<AccountId>, StoreError> {
    let found = sqlx::query_scalar!(
        "-- store::reparse::find_due (across accounts)
        select account_id
        from accounts
        where key_version < $1 or reparse_requested_at is not null
        order by account_id
        limit $2",
        KEY_VERSION,
        ACCOUNTS_MAX,
    )
    .fetch_all(db.all())
    .await?;
    Ok(found.into_iter().map(AccountId).collect())
}

/// How an account's numbers are to be read, and behind which contact it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReparsePoint {
    /// The country of numbers written without one.
    pub default_region: Region,
    /// The customer works in other countries too.
    pub has_further_regions: bool,
    /// `None`: it begins.
    pub after: Option<ContactId>,
}

/// Locks the account for this batch; `None`: nothing is to be read again (any more). Pages wait
/// meanwhile, calls do not.
pub async fn lock(tx: &mut Tx, account_id: AccountId) -> Result<Option<ReparsePoint>, StoreError> {
    let row = sqlx::query!(
        r#"-- store::reparse::lock
        select default_region, cardinality(further_regions) > 0 as "has_further_regions!", reparse_after
        from accounts
        where account_id = $1 and (key_version < $2 or reparse_requested_at is not null)
        for no key update"#,
        account_id.0,
        KEY_VERSION,
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        Ok(ReparsePoint {
            default_region: known(Region::parse(&row.default_region).ok(), "accounts", "default_region")?,
            has_further_regions: row.has_further_regions,
            after: row.reparse_after.map(ContactId),
        })
    })
    .transpose()
}

/// A stored number.
#[derive(Debug, Clone)]
pub struct StoredNumber {
    /// Whose it is.
    pub contact_id: ContactId,
    /// The contact's rank.
    pub contact_created_at: DateTime<Utc>,
    /// The ref that brought it.
    pub integration_id: IntegrationId,
    /// Which record that is.
    pub record: RecordKey,
    /// As written.
    pub raw: String,
    /// The CRM's name for it.
    pub label: String,
    /// The region that it was read with; empty: none.
    pub region: String,
    /// The country of the record's address.
    pub record_region: Option<Region>,
    /// Its key.
    pub key: Option<PhoneKey>,
    /// Extension digits.
    pub extension: String,
    /// Its digits, where another region or none may be meant.
    pub local_digits: Option<i64>,
}

/// The next contacts with numbers of records, in the order of their ids. A stranger's number is a
/// key already.
pub async fn find_contacts(
    tx: &mut Tx,
    account_id: AccountId,
    after: Option<ContactId>,
) -> Result<Vec<ContactId>, StoreError> {
    let found = sqlx::query_scalar!(
        "-- store::reparse::find_contacts
        select contact_id
        from phone_numbers
        where account_id = $1 and contact_id > coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid) and not is_placeholder
        group by contact_id
        order by contact_id
        limit $3",
        account_id.0,
        after.map(|id| id.0),
        BATCH_MAX,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(found.into_iter().map(ContactId).collect())
}

/// The numbers of these contacts, ref by ref, in their order. The contacts must be locked.
pub async fn list_numbers(
    tx: &mut Tx,
    account_id: AccountId,
    contact_ids: &[ContactId],
) -> Result<Vec<StoredNumber>, StoreError> {
    let ids: Vec<Uuid> = contact_ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        "-- store::reparse::list_numbers
        select n.contact_id, n.contact_created_at, n.integration_id, n.object_type, n.record_id, n.raw, n.label, n.region, n.e164, n.extension,
            n.local_digits,
            -- One look-up a number: a join is planned for a whole table.
            (select r.region
             from external_refs r
             where r.account_id = $1 and r.integration_id = n.integration_id and r.object_type = n.object_type
               and r.record_id = n.record_id) as record_region
        from phone_numbers n
        where n.account_id = $1 and n.contact_id = any($2) and not n.is_placeholder
        order by n.contact_id, n.integration_id, n.object_type, n.record_id, n.position",
        account_id.0,
        &ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = row.e164.map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "phone_numbers", "e164"));
            Ok(StoredNumber {
                contact_id: ContactId(row.contact_id),
                contact_created_at: row.contact_created_at,
                integration_id: IntegrationId(row.integration_id),
                record: key_of(&row.object_type, row.record_id)?,
                raw: row.raw,
                label: row.label,
                region: row.region,
                record_region: row
                    .record_region
                    .as_deref()
                    .filter(|region| !region.is_empty())
                    .map(region_of)
                    .transpose()?,
                key: key.transpose()?,
                extension: row.extension,
                local_digits: row.local_digits,
            })
        })
        .collect()
}

fn region_of(text: &str) -> Result<Region, StoreError> {
    known(Region::parse(text).ok(), "external_refs", "region")
}

/// Notes how far it has come; `None`: everything is read by today's rules.
pub async fn advance(tx: &mut Tx, account_id: AccountId, after: Option<ContactId>) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::reparse::advance
        update accounts
        set reparse_after = $2,
            key_version = case when $2::uuid is null then $3 else key_version end,
            reparse_requested_at = case when $2::uuid is null then null else reparse_requested_at end
        where account_id = $1",
        account_id.0,
        after.map(|id| id.0) as Option<Uuid>,
        KEY_VERSION,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
