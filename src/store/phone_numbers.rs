//! The table `phone_numbers`: the look-up of a call, and the writes that `identity` makes.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    CallDb, StoreError, Tx,
    calls::StoredCall,
    contacts::{Details, contacts_of},
};
use crate::domain::{
    call::{Call, Direction},
    contact::Contact,
    ids::{AccountId, ContactId, IntegrationId},
    integration::Freshness,
    phone::{KEY_VERSION, PhoneKey, Region},
    record::{NUMBERS_MAX, RecordKey},
};

/// What one statement tells of a number.
pub struct LookUp {
    /// Best first, at most [`crate::domain::contact::CANDIDATES_MAX`].
    pub candidates: Vec<Contact>,
    /// Counted up to one more than [`crate::domain::contact::TOTAL_MAX`].
    pub total: usize,
    /// The integrations at the same moment.
    pub sources: Vec<Freshness>,
    /// The call, as it was before this statement.
    pub call: Option<Call>,
    /// The call was stored by this statement: `MATCHED` or `AMBIGUOUS`, with the first candidate.
    pub is_stored: bool,
    /// A click on the number waits for a call; nothing was stored.
    pub has_expected_call: bool,
}

/// The call whose answer is to be stored with the look-up.
pub struct Asking<'a> {
    /// Empty: nothing is stored.
    pub call_id: Option<&'a str>,
    /// Which way.
    pub direction: Direction,
    /// A click after this moment still counts.
    pub clicks_since: DateTime<Utc>,
    /// Now.
    pub now: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
struct Found {
    candidates: Vec<Details>,
}

/// Everyone with this number, the freshness of all integrations, and the call, in one snapshot; stores the answer of a known
/// caller in the same statement. A fresh call of a known caller costs this one statement.
pub async fn look_up(
    db: &CallDb,
    account_id: AccountId,
    key: PhoneKey,
    asking: &Asking<'_>,
) -> Result<LookUp, StoreError> {
    let row = db
        .read(|pool| {
            let call_id = asking.call_id.map(str::to_owned);
            async move {
                sqlx::query!(
                    r#"-- store::phone_numbers::look_up
                    with found as materialized (
                        select n.is_placeholder, n.contact_created_at, n.contact_id
                        from phone_numbers n
                        where n.account_id = $1 and n.e164 = $2
                        group by n.is_placeholder, n.contact_created_at, n.contact_id
                        order by n.is_placeholder, n.contact_created_at, n.contact_id
                        limit 201
                    ),
                    known_call as materialized (
                        select c.e164, c.raw, c.outcome, c.contact_id, c.tier, c.selection_id
                        from calls c
                        where c.account_id = $1 and c.call_id = $3
                    ),
                    click as materialized (
                        select $4 = 'OUTBOUND' and exists (
                            select from expected_calls x
                            where x.account_id = $1 and x.e164 = $2 and x.consumed_at is null and x.created_at > $5
                        ) as is_expected
                    ),
                    stored as (
                        insert into calls (account_id, call_id, e164, direction, outcome, contact_id, tier, created_at, updated_at)
                        select $1, $3, $2, $4, case when f.total = 1 then 'MATCHED' else 'AMBIGUOUS' end, f.first_id, 'EXACT', $6, $6
                        from (
                            select count(*) as total,
                                   (array_agg(contact_id order by is_placeholder, contact_created_at, contact_id))[1] as first_id
                            from found
                        ) f
                        where $3::text is not null and f.total > 0
                          and not exists (select from known_call)
                          and not (select is_expected from click)
                        on conflict (account_id, call_id) do nothing
                        returning call_id
                    )
                    select
                        (select count(*) from found) as "total!",
                        json_build_object('candidates', coalesce((
                            -- A subquery, not a join: on an empty database a join was planned that reads the whole account.
                            select json_agg(
                                (select d.details from contact_details d where d.account_id = $1 and d.contact_id = t.contact_id)
                                order by t.is_placeholder, t.contact_created_at, t.contact_id)
                            from (select * from found order by is_placeholder, contact_created_at, contact_id limit 20) t
                        ), '[]'::json)) as "found!: Json<Found>",
                        coalesce((
                            select json_agg(i.details order by i.integration_id)
                            from integration_freshness i
                            where i.account_id = $1
                        ), '[]'::json) as "sources!: Json<Vec<Freshness>>",
                        (select row_to_json(k) from known_call k) as "call?: Json<StoredCall>",
                        exists (select from stored) as "is_stored!",
                        (select is_expected from click) as "has_expected_call!""#,
                    account_id.0,
                    key.as_i64(),
                    call_id,
                    asking.direction.as_str(),
                    asking.clicks_since,
                    asking.now,
                )
                .fetch_one(&pool)
                .await
            }
        })
        .await?;
    Ok(LookUp {
        candidates: contacts_of(row.found.0.candidates)?,
        total: usize::try_from(row.total).unwrap_or(0),
        sources: row.sources.0,
        call: row.call.map(|Json(call)| call.try_into()).transpose()?,
        is_stored: row.is_stored,
        has_expected_call: row.has_expected_call,
    })
}

/// The freshness of all integrations, for an answer that looks no number up.
pub async fn list_sources(db: &CallDb, account_id: AccountId) -> Result<Vec<Freshness>, StoreError> {
    let sources = db
        .read(|pool| async move {
            sqlx::query_scalar!(
                r#"-- store::phone_numbers::list_sources
                select i.details as "source!: Json<Freshness>"
                from integration_freshness i
                where i.account_id = $1
                order by i.integration_id"#,
                account_id.0,
            )
            .fetch_all(&pool)
            .await
        })
        .await?;
    Ok(sources.into_iter().map(|Json(source)| source).collect())
}

/// Numbers of one ref, as they are stored.
pub struct NumberRow {
    /// Its contact.
    pub contact_id: ContactId,
    /// Its contact's rank.
    pub contact_created_at: DateTime<Utc>,
    /// The ref that owns it.
    pub record: RecordKey,
    /// Its place among the ref's numbers.
    pub position: i16,
    /// As written.
    pub raw: String,
    /// The region that it was read with.
    pub region: Option<Region>,
    /// Its key.
    pub key: Option<PhoneKey>,
    /// Extension digits.
    pub extension: String,
    /// The CRM's name for it.
    pub label: String,
}

/// Removes all numbers of these refs, then adds the new ones.
pub async fn replace(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    owners: &[(ContactId, RecordKey)],
    numbers: &[NumberRow],
) -> Result<(), StoreError> {
    if !owners.is_empty() {
        let contact_ids: Vec<Uuid> = owners.iter().map(|(id, _)| id.0).collect();
        let types: Vec<String> = owners.iter().map(|(_, key)| key.object_type.as_str().to_owned()).collect();
        let records: Vec<String> = owners.iter().map(|(_, key)| key.record_id.clone()).collect();
        sqlx::query!(
            "-- store::phone_numbers::replace (removes)
            delete from phone_numbers n
            using unnest($3::uuid[], $4::text[], $5::text[]) as u (contact_id, object_type, record_id)
            where n.account_id = $1 and n.integration_id = $2
              and n.contact_id = u.contact_id and n.object_type = u.object_type and n.record_id = u.record_id",
            account_id.0,
            integration_id.0,
            &contact_ids,
            &types,
            &records,
        )
        .execute(&mut **tx)
        .await?;
    }
    if numbers.is_empty() {
        return Ok(());
    }
    insert(tx, account_id, integration_id, numbers).await
}

/// Adds a number behind those of its ref, unless the ref has its key already, or has as many as a record may have.
pub async fn add(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    number: &NumberRow,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::phone_numbers::add
        insert into phone_numbers (account_id, integration_id, contact_id, contact_created_at, object_type, record_id, position, raw, region,
            e164, extension, label, key_version, is_placeholder)
        select $1, $2, $3, $4, $5, $6, coalesce(max(n.position) + 1, 0), $7, $8, $9, $10, $11, $12, false
        from phone_numbers n
        where n.account_id = $1 and n.integration_id = $2 and n.contact_id = $3 and n.object_type = $5 and n.record_id = $6
        having count(*) filter (where n.e164 = $9) = 0 and count(*) < $13",
        account_id.0,
        integration_id.0,
        number.contact_id.0,
        number.contact_created_at,
        number.record.object_type.as_str(),
        number.record.record_id,
        number.raw,
        number.region.as_ref().map_or("", Region::as_str),
        number.key.map(PhoneKey::as_i64),
        number.extension,
        number.label,
        KEY_VERSION,
        i64::try_from(NUMBERS_MAX).unwrap_or(i64::MAX),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    numbers: &[NumberRow],
) -> Result<(), StoreError> {
    let column = |text: fn(&NumberRow) -> &str| numbers.iter().map(|row| text(row).to_owned()).collect::<Vec<_>>();
    sqlx::query!(
        "-- store::phone_numbers::insert
        insert into phone_numbers (account_id, integration_id, contact_id, contact_created_at, object_type, record_id, position, raw, region,
            e164, extension, label, key_version, is_placeholder)
        select $1, $2, u.contact_id, u.contact_created_at, u.object_type, u.record_id, u.position, u.raw, u.region,
            u.e164, u.extension, u.label, $13, false
        from unnest($3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::smallint[], $8::text[], $9::text[], $10::bigint[], $11::text[],
            $12::text[]) as u (contact_id, contact_created_at, object_type, record_id, position, raw, region, e164, extension, label)",
        account_id.0,
        integration_id.0,
        &numbers.iter().map(|row| row.contact_id.0).collect::<Vec<_>>(),
        &numbers.iter().map(|row| row.contact_created_at).collect::<Vec<_>>(),
        &column(|row| row.record.object_type.as_str()),
        &column(|row| &row.record.record_id),
        &numbers.iter().map(|row| row.position).collect::<Vec<_>>(),
        &column(|row| &row.raw),
        &column(|row| row.region.as_ref().map_or("", Region::as_str)),
        &numbers.iter().map(|row| row.key.map(PhoneKey::as_i64)).collect::<Vec<_>>() as &[Option<i64>],
        &column(|row| &row.extension),
        &column(|row| &row.label),
        KEY_VERSION,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
