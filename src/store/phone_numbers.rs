//! The table `phone_numbers`: the look-up of a call, and the writes that `identity` makes.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    CallDb, StoreError, Tx,
    calls::StoredCall,
    contacts::{Details, contacts_of},
    known,
};
use crate::domain::{
    account::MatchPolicy,
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

impl LookUp {
    /// Somebody with a record has the number.
    pub fn has_record(&self) -> bool {
        self.candidates.iter().any(|contact| !contact.is_placeholder)
    }
}

/// The call whose answer is to be stored with the look-up.
pub struct Asking<'a> {
    /// Empty: nothing is stored.
    pub call_id: Option<&'a str>,
    /// Which way.
    pub direction: Direction,
    /// A click after this moment still counts.
    pub clicks_since: DateTime<Utc>,
    /// Who comes first of several.
    pub policy: MatchPolicy,
    /// Weaker tiers are asked if nobody with a record has the number: a stranger's answer is not stored yet.
    pub is_widened: bool,
    /// Now.
    pub now: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
struct Found {
    candidates: Vec<Details>,
}

/// Everyone with this number, the freshness of all integrations, and the call, in one snapshot; stores the answer of a known
/// caller in the same statement. A fresh call of a known caller costs this one statement.
#[expect(clippy::too_many_lines, reason = "one statement, and it reads from above to below")]
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
                    ranked as materialized (
                        select f.is_placeholder, f.contact_created_at, f.contact_id,
                            case $7::text
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
                                    where e.account_id = $1 and e.contact_id = f.contact_id and e.integration_id = $8 and e.is_live
                                )
                            end as rank
                        from found f
                        order by f.is_placeholder, f.contact_created_at, f.contact_id
                        limit 200
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
                            select (select count(*) from found) as total, bool_and(is_placeholder) as is_stranger,
                                (array_agg(contact_id order by is_placeholder, rank desc nulls last, contact_created_at, contact_id))[1] as first_id
                            from ranked
                        ) f
                        where $3::text is not null and f.total > 0 and not ($9 and f.is_stranger)
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
                                order by t.is_placeholder, t.rank desc nulls last, t.contact_created_at, t.contact_id)
                            from (
                                select * from ranked order by is_placeholder, rank desc nulls last, contact_created_at, contact_id limit 20
                            ) t
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
                    asking.policy.as_str(),
                    asking.policy.preferred().map(|id| id.0) as Option<Uuid>,
                    asking.is_widened,
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

/// A number found by a weaker tier, still to be proved.
pub struct Hit {
    /// Whose it is.
    pub contact_id: ContactId,
    /// The contact's rank.
    pub contact_created_at: DateTime<Utc>,
    /// As written.
    pub raw: String,
    /// Its key.
    pub key: Option<PhoneKey>,
}

/// Numbers of contacts with a record that have one of these keys, or stand without a country as one of these digits. At most 201 each,
/// first created first.
pub async fn find_hits(
    db: &CallDb,
    account_id: AccountId,
    keys: &[PhoneKey],
    local_digits: &[i64],
) -> Result<Vec<Hit>, StoreError> {
    let keys: &Vec<i64> = &keys.iter().map(|key| key.as_i64()).collect();
    let rows = db
        .read(|pool| async move {
            sqlx::query!(
                r#"-- store::phone_numbers::find_hits
                select h.contact_id as "contact_id!", h.contact_created_at as "contact_created_at!", h.raw as "raw!", h.e164
                from unnest($2::bigint[]) as k (e164)
                cross join lateral (
                    select n.contact_id, n.contact_created_at, n.raw, n.e164
                    from phone_numbers n
                    where n.account_id = $1 and n.e164 = k.e164 and not n.is_placeholder
                    order by n.contact_created_at, n.contact_id
                    limit 201
                ) h
                union all
                select h.contact_id, h.contact_created_at, h.raw, h.e164
                from unnest($3::bigint[]) as k (digits)
                cross join lateral (
                    select n.contact_id, n.contact_created_at, n.raw, n.e164
                    from phone_numbers n
                    where n.account_id = $1 and n.local_digits = k.digits and not n.is_placeholder
                    order by n.contact_created_at, n.contact_id
                    limit 201
                ) h"#,
                account_id.0,
                keys,
                local_digits,
            )
            .fetch_all(&pool)
            .await
        })
        .await?;
    rows.into_iter()
        .map(|row| {
            let key = row.e164.map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "phone_numbers", "e164"));
            Ok(Hit {
                contact_id: ContactId(row.contact_id),
                contact_created_at: row.contact_created_at,
                raw: row.raw,
                key: key.transpose()?,
            })
        })
        .collect()
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
#[derive(Clone)]
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
    /// Its digits, where another region or none may be meant.
    pub local_digits: Option<i64>,
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

/// Adds a number behind those of its ref, unless the ref has its key already, or has as many as a record may have. Its contact must be
/// locked.
pub async fn add(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    number: &NumberRow,
) -> Result<(), StoreError> {
    let there = sqlx::query!(
        r#"-- store::phone_numbers::add
        select coalesce(max(n.position) + 1, 0)::smallint as "position!", count(*) as "count!",
            count(*) filter (where n.e164 = $6) > 0 as "has_key!"
        from phone_numbers n
        where n.account_id = $1 and n.integration_id = $2 and n.contact_id = $3 and n.object_type = $4 and n.record_id = $5"#,
        account_id.0,
        integration_id.0,
        number.contact_id.0,
        number.record.object_type.as_str(),
        number.record.record_id,
        number.key.map(PhoneKey::as_i64),
    )
    .fetch_one(&mut **tx)
    .await?;
    if there.has_key || usize::try_from(there.count).is_ok_and(|count| count >= NUMBERS_MAX) {
        return Ok(());
    }
    insert(tx, account_id, integration_id, &[NumberRow { position: there.position, ..number.clone() }]).await
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
            e164, extension, label, local_digits, key_version, is_placeholder)
        select $1, $2, u.contact_id, u.contact_created_at, u.object_type, u.record_id, u.position, u.raw, u.region,
            u.e164, u.extension, u.label, u.local_digits, $14, false
        from unnest($3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::smallint[], $8::text[], $9::text[], $10::bigint[], $11::text[],
            $12::text[], $13::bigint[])
            as u (contact_id, contact_created_at, object_type, record_id, position, raw, region, e164, extension, label, local_digits)",
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
        &numbers.iter().map(|row| row.local_digits).collect::<Vec<_>>() as &[Option<i64>],
        KEY_VERSION,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
