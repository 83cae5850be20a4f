//! Fills a database with accounts and contacts, straight into the tables, the same each time; and
//! says who can call.

use contact_sync::{domain::ids::AccountId, rpc::pb};
use phone_key::KEY_VERSION;
use rand::{RngExt as _, rngs::StdRng};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::{clients::Calls, database::Database};

/// Accounts beside those that are asked.
const OTHER_ACCOUNTS: u64 = 49;
/// The share of the contacts that those hold together, in percent.
const OTHERS_PERCENT: u64 = 20;
/// Contacts of the account that a large one is compared with.
pub(crate) const SMALL: u64 = 100_000;
/// Contacts of one shared number.
pub(crate) const SWITCHBOARD_CONTACTS: u64 = 10_000;

/// The number of the first contact: Seattle.
pub(crate) const FIRST_NUMBER: u64 = 12_062_000_000;
/// An area code has so many numbers: no local part begins with 0 or 1.
pub(crate) const NUMBERS_OF_AREA: u64 = 8_000_000;
/// From the last number of an area code to the first of the next one that exists: 206, 212, 218,
/// 224.
pub(crate) const NUMBERS_BETWEEN_AREAS: u64 = 52_000_000;
/// Nobody has it or one of those after it: Miami.
const FIRST_UNKNOWN_NUMBER: u64 = 13_052_000_000;
/// A shared line: Chicago.
const SWITCHBOARD_NUMBER: u64 = 13_122_000_000;
/// A second number, which nobody calls from: Los Angeles.
const FIRST_SECOND_NUMBER: u64 = 12_132_000_000;

/// An account whose callers are known.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub account_id: AccountId,
    /// Contacts with a number of their own.
    pub contacts: u64,
}

impl Asked {
    /// Known callers, at random; nothing is stored.
    pub(crate) fn known_callers(self) -> Calls {
        Calls::new(pb::MatchOutcome::Matched, move |rng| self.call(self.any_number(rng)))
    }

    /// The same, each a call with an id of its own, which is stored.
    pub(crate) fn calls_with_ids(self) -> Calls {
        Calls::new(pb::MatchOutcome::Matched, move |rng| pb::MatchCallerRequest {
            call_id: format!("bench-{:016x}", rng.random::<u64>()),
            ..self.call(self.any_number(rng))
        })
    }

    /// Strangers: each becomes a contact.
    pub(crate) fn strangers(self) -> Calls {
        let next = std::sync::atomic::AtomicU64::new(FIRST_UNKNOWN_NUMBER);
        Calls::new(pb::MatchOutcome::Created, move |_| {
            self.call(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        })
    }

    /// One and the same known caller.
    pub(crate) fn one_caller(self) -> Calls {
        Calls::new(pb::MatchOutcome::Matched, move |_| self.call(number(self.contacts / 2)))
    }

    /// The number that many contacts share.
    pub(crate) fn switchboard(self) -> Calls {
        Calls::new(pb::MatchOutcome::Ambiguous, move |_| self.call(SWITCHBOARD_NUMBER))
    }

    fn any_number(self, rng: &mut StdRng) -> u64 {
        number(rng.random_range(0..self.contacts))
    }

    fn call(self, number: u64) -> pb::MatchCallerRequest {
        pb::MatchCallerRequest {
            account_id: self.account_id.to_string(),
            phone_number: format!("+{number}"),
            ..Default::default()
        }
    }
}

/// The number of an account's contact.
const fn number(contact: u64) -> u64 {
    FIRST_NUMBER + contact + contact / NUMBERS_OF_AREA * NUMBERS_BETWEEN_AREAS
}

/// An account with so many contacts holds most of them; others have the rest. With `compares` there
/// is a second one to ask.
pub(crate) async fn fill(database: &Database, contacts: u64, compares: bool) -> anyhow::Result<(Asked, Option<Asked>)> {
    let mut connection = database.connect().await?;
    // The rows fit each other by construction; what the service writes later is checked again.
    sqlx::raw_sql("set session_replication_role = replica; set maintenance_work_mem = '256MB'")
        .execute(&mut connection)
        .await?;
    let others = contacts * OTHERS_PERCENT / 100 / OTHER_ACCOUNTS;
    let asked = fill_account(&mut connection, 0, contacts - others * OTHER_ACCOUNTS).await?;
    for ordinal in 1..=OTHER_ACCOUNTS {
        fill_account(&mut connection, ordinal, others).await?;
    }
    let small = if compares { Some(fill_account(&mut connection, OTHER_ACCOUNTS + 1, SMALL).await?) } else { None };
    add_switchboard(&mut connection, asked).await?;
    sqlx::raw_sql("vacuum (analyze)").execute(&mut connection).await?;
    connection.close().await?;
    database.checkpoint().await?;
    Ok((asked, small))
}

/// Ids grow as those that the service makes.
async fn fill_account(connection: &mut PgConnection, ordinal: u64, contacts: u64) -> anyhow::Result<Asked> {
    let account_id = id(ordinal, 0);
    sqlx::query(
        "insert into accounts (account_id, display_name, default_region, further_regions, key_version, created_at, updated_at)
        values ($1, 'Bench', 'US', '{}', $2, now(), now())",
    )
    .bind(account_id)
    // Else the service would read all numbers again meanwhile.
    .bind(KEY_VERSION)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "insert into integrations (account_id, integration_id, provider, organization, is_enabled, is_sync_on, period_seconds,
            first_started_at, last_completed_at, known_through, created_at, updated_at)
        values ($1, $1, 'ZENDESK', 'acme', true, true, 86400, now(), now(), now(), now(), now())",
    )
    .bind(account_id)
    .execute(&mut *connection)
    .await?;
    let number = format!("{FIRST_NUMBER} + (n.i - 1) + (n.i - 1) / {NUMBERS_OF_AREA} * {NUMBERS_BETWEEN_AREAS}");
    insert_contacts(connection, ordinal, 1, contacts, &number).await?;
    Ok(Asked { account_id: AccountId(account_id), contacts })
}

async fn add_switchboard(connection: &mut PgConnection, asked: Asked) -> anyhow::Result<()> {
    let first = asked.contacts + 1;
    insert_contacts(connection, 0, first, SWITCHBOARD_CONTACTS, &SWITCHBOARD_NUMBER.to_string()).await
}

/// `number` is an expression over the contact, `n.i`; every fourth contact has a second number.
async fn insert_contacts(
    connection: &mut PgConnection,
    ordinal: u64,
    first: u64,
    count: u64,
    number: &str,
) -> anyhow::Result<()> {
    let account_id = id(ordinal, 0);
    // As `id` makes them.
    let contact_id = format!("('01930000-0000-7000-8{ordinal:03x}-' || lpad(to_hex(n.i), 12, '0'))::uuid");
    let created_at = "timestamptz '2025-01-01 00:00:00Z' + n.i * interval '1 second'";
    let series = format!("generate_series({first}::bigint, {}) as n (i)", first + count - 1);
    let statements = [
        format!(
            "insert into contacts (account_id, contact_id, display_name, organization, emails, is_placeholder, created_at, updated_at)
            select '{account_id}', {contact_id}, 'Ada ' || initcap(left(md5(n.i::text), 9)), 'Company ' || n.i % 1000,
                array['ada.' || n.i || '@example.com'], false, {created_at}, {created_at}
            from {series}"
        ),
        format!(
            "insert into external_refs (account_id, integration_id, object_type, record_id, contact_id, is_live, is_synced,
                record_updated_at, role, url, fingerprint, created_at, updated_at)
            select '{account_id}', '{account_id}', 'user', n.i::text, {contact_id}, true, true, {created_at}, 'end-user',
                'https://acme.zendesk.com/agent/users/' || n.i, n.i, {created_at}, {created_at}
            from {series}"
        ),
        format!(
            "insert into phone_numbers (account_id, contact_id, integration_id, object_type, record_id, position, raw, region, e164,
                key_version, extension, label, is_placeholder, contact_created_at)
            select '{account_id}', {contact_id}, '{account_id}', 'user', n.i::text, p.position, '+' || p.e164, '', p.e164, 1, '',
                'work', false, {created_at}
            from {series}
            cross join lateral (values (0, {number}), (1, {FIRST_SECOND_NUMBER} + n.i)) as p (position, e164)
            where p.position = 0 or n.i % 4 = 0"
        ),
    ];
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Of an account (and its integration) with contact 0, else of its contact.
fn id(ordinal: u64, contact: u64) -> Uuid {
    Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 | u128::from(ordinal) << 48 | u128::from(contact))
}
