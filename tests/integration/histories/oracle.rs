//! Compares what was copied with what the simulated CRM truly holds, record by record. Differences
//! are told by record id alone.

use std::collections::{BTreeMap, BTreeSet};

use crm_simulator::zendesk::TrueUser;
use phone_key::Region;
use uuid::Uuid;

use crate::support::TestApp;

#[derive(sqlx::FromRow)]
struct Copied {
    record_id: String,
    contact_id: Option<Uuid>,
    is_live: bool,
    role: String,
    is_contact_live: Option<bool>,
    display_name: Option<String>,
    emails: Option<Vec<String>>,
}

#[derive(sqlx::FromRow)]
struct CopiedNumber {
    record_id: String,
    contact_id: Uuid,
    raw: String,
    e164: Option<i64>,
}

/// Fails if the copy is not the truth: every active user is one live contact with exactly its
/// fields and numbers, every other user is remembered and nobody.
pub async fn assert_is_a_true_copy(test: &TestApp, integration_id: &str) {
    let differences = differences(test, integration_id, "US").await;
    assert!(
        differences.is_empty(),
        "{} differences: {:#?}",
        differences.len(),
        &differences[..differences.len().min(20)]
    );
}

pub async fn differences(test: &TestApp, integration_id: &str, region: &str) -> Vec<String> {
    let integration_id: Uuid = integration_id.parse().unwrap();
    let region = Region::parse(region).unwrap();
    let copied: Vec<Copied> = sqlx::query_as(
        "select e.record_id, e.contact_id, e.is_live, e.role, c.deleted_at is null as is_contact_live, c.display_name, c.emails
        from external_refs e left join contacts c on c.account_id = e.account_id and c.contact_id = e.contact_id
        where e.integration_id = $1",
    )
    .bind(integration_id)
    .fetch_all(&test.db.pool)
    .await
    .unwrap();
    let numbers: Vec<CopiedNumber> =
        sqlx::query_as("select record_id, contact_id, raw, e164 from phone_numbers where integration_id = $1")
            .bind(integration_id)
            .fetch_all(&test.db.pool)
            .await
            .unwrap();
    let mut numbers_of: BTreeMap<String, Vec<CopiedNumber>> = BTreeMap::new();
    for number in numbers {
        numbers_of.entry(number.record_id.clone()).or_default().push(number);
    }
    let mut copied: BTreeMap<String, Copied> = copied.into_iter().map(|row| (row.record_id.clone(), row)).collect();
    let mut differences = Vec::new();
    for user in test.zendesk.oracle() {
        let id = user.id.to_string();
        let numbers = numbers_of.remove(&id).unwrap_or_default();
        let problem = match copied.remove(&id) {
            None => Some("never copied"),
            Some(row) if user.active => of_active(&user, &row, &numbers, region),
            Some(row) => of_inactive(&row, &numbers),
        };
        differences.extend(problem.map(|problem| format!("user {id}: {problem}")));
    }
    differences.extend(copied.keys().map(|id| format!("user {id}: not in the CRM")));
    differences.extend(numbers_of.keys().map(|id| format!("user {id}: numbers without a user")));
    differences
}

fn of_active(user: &TrueUser, row: &Copied, numbers: &[CopiedNumber], region: Region) -> Option<&'static str> {
    let contact_id = row.contact_id?;
    let (keys, texts) = readings(user, region);
    let copied_keys: Vec<i64> = numbers.iter().filter_map(|number| number.e164).collect();
    let copied_texts: BTreeSet<&str> =
        numbers.iter().filter(|number| number.e164.is_none()).map(|number| number.raw.as_str()).collect();
    let email = user.email.as_ref();
    if !row.is_live {
        Some("active, and dead here")
    } else if row.is_contact_live != Some(true) {
        Some("its contact is dead")
    } else if row.display_name.as_deref() != Some(user.name.trim()) {
        Some("another name")
    } else if row.role != user.role {
        Some("another role")
    } else if email.is_some() != row.emails.as_ref().is_some_and(|emails| !emails.is_empty())
        || email.is_some_and(|email| row.emails.as_ref().is_none_or(|emails| !emails.contains(email)))
    {
        Some("another e-mail address")
    } else if copied_keys.len() != keys.len() || copied_keys.into_iter().collect::<BTreeSet<_>>() != keys {
        Some("other numbers")
    } else if copied_texts != texts.iter().map(String::as_str).collect() {
        Some("other texts without a number")
    } else if numbers.iter().any(|number| number.contact_id != contact_id) {
        Some("a number on another contact")
    } else {
        None
    }
}

fn of_inactive(row: &Copied, numbers: &[CopiedNumber]) -> Option<&'static str> {
    if row.is_live {
        Some("gone, and alive here")
    } else if row.is_contact_live == Some(true) && row.contact_id.is_some() {
        Some("gone, and its contact is alive")
    } else if !numbers.is_empty() {
        Some("gone, and has numbers")
    } else {
        None
    }
}

/// The keys of a user's numbers, and the texts that hold none.
fn readings(user: &TrueUser, region: Region) -> (BTreeSet<i64>, BTreeSet<String>) {
    let (mut keys, mut texts) = (BTreeSet::new(), BTreeSet::new());
    for raw in user.numbers() {
        let reading = phone_key::read(raw, Some(region));
        if reading.first().is_none() {
            texts.insert(raw.trim().to_owned());
        }
        keys.extend(reading.numbers().map(|number| number.key.as_i64()));
    }
    (keys, texts)
}
