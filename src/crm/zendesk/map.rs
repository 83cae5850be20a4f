//! Zendesk users into records: phone numbers are `phone` ∪ the identities of type `phone_number`, since a shared number stands in
//! `phone` only, and a deleted identity can leave its number there.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::model::{Identity, User};
use crate::domain::{
    options::UserRoles,
    record::{ObjectType, RawNumber, Record, RecordKey},
};

/// The rows of a page as records, and how many could not be understood. Users who are not wished are gone.
pub(super) fn records(
    users: &[Box<RawValue>],
    identity_rows: &[Box<RawValue>],
    base_url: &str,
    roles: UserRoles,
) -> (Vec<Record>, usize) {
    let mut identities: HashMap<u64, Vec<Identity>> = HashMap::new();
    // An identity that cannot be read costs itself, not its user.
    for identity in identity_rows.iter().filter_map(|row| parse::<Identity>(row)) {
        identities.entry(identity.user_id).or_default().push(identity);
    }
    let mut records = Vec::with_capacity(users.len());
    for row in users {
        let record = parse::<User>(row).and_then(|user| {
            let own = identities.get(&user.id).map_or(&[][..], Vec::as_slice);
            record(user, own, base_url)
        });
        records.extend(record);
    }
    let rejected = users.len() - records.len();
    if roles == UserRoles::EndUsers {
        for record in &mut records {
            record.is_gone |= record.role != "end-user";
        }
    }
    (records, rejected)
}

fn parse<'a, T: serde::Deserialize<'a>>(row: &'a RawValue) -> Option<T> {
    serde_json::from_str(row.get()).ok()
}

fn record(user: User, identities: &[Identity], base_url: &str) -> Option<Record> {
    let updated_at = time(&user.updated_at)?;
    let values = |kind: &'static str| {
        identities.iter().filter(move |identity| identity.kind == kind).map(|identity| identity.value.clone())
    };
    let mut numbers: Vec<RawNumber> = Vec::new();
    let phone = user.phone.into_iter().map(|raw| (raw, "phone"));
    for (raw, label) in phone.chain(values("phone_number").map(|raw| (raw, "direct line"))) {
        if numbers.iter().all(|known| known.raw != raw) {
            numbers.push(RawNumber { raw, label: label.to_owned() });
        }
    }
    let mut emails: Vec<String> = Vec::new();
    for email in user.email.into_iter().chain(values("email")) {
        if !emails.contains(&email) {
            emails.push(email);
        }
    }
    Some(Record {
        key: RecordKey { object_type: ObjectType::User, record_id: user.id.to_string() },
        updated_at,
        is_gone: !user.active,
        // Polling never names the winner of a merge.
        successor: None,
        region: None,
        display_name: user.name.unwrap_or_default(),
        // Users carry the id of their organisation only.
        organization: String::new(),
        emails,
        numbers,
        role: user.role.unwrap_or_default(),
        url: format!("{base_url}/agent/users/{}", user.id),
    })
}

/// `2026-01-02T10:00:00Z`; offsets with and without a colon are taken too.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let parsed =
        DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    Some(parsed.ok()?.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crm::zendesk::model::UsersPage;

    fn records_of(json: &str, roles: UserRoles) -> (Vec<Record>, usize) {
        let page: UsersPage = serde_json::from_str(json).unwrap();
        records(&page.users, page.identities.as_deref().unwrap_or_default(), "https://acme.zendesk.com", roles)
    }

    #[test]
    fn numbers_are_the_phone_and_the_phone_identities_without_repeats() {
        let (records, rejected) = records_of(
            r#"{"users":[{"id":1,"name":"A","phone":"+15551234567","updated_at":"2026-01-02T10:00:00Z"}],
                "identities":[{"user_id":"1","type":"phone_number","value":"+15551234567"},{"user_id":1,"type":"phone_number","value":"+15557654321"},
                    {"user_id":1,"type":"email","value":"a@example.com"},{"user_id":2,"type":"phone_number","value":"+1"}],
                "end_of_stream":true}"#,
            UserRoles::All,
        );

        assert_eq!(rejected, 0);
        assert_eq!(
            records[0].numbers.iter().map(|number| number.raw.as_str()).collect::<Vec<_>>(),
            ["+15551234567", "+15557654321"]
        );
        assert_eq!(records[0].emails, ["a@example.com"]);
        assert_eq!(records[0].url, "https://acme.zendesk.com/agent/users/1");
    }

    #[test]
    fn a_row_that_cannot_be_read_is_rejected_alone() {
        let (records, rejected) = records_of(
            r#"{"users":[{"id":"x","updated_at":"2026-01-02T10:00:00Z"},{"id":2,"updated_at":"yesterday"},{"id":3},7,null,
                {"id":4,"name":null,"phone":null,"email":null,"updated_at":"2026-01-02T10:00:00.5+0000","surprise":[1]}],
                "identities":[{"user_id":4},{"user_id":4,"type":"phone_number","value":null}],"end_of_stream":false,"after_cursor":null}"#,
            UserRoles::All,
        );

        assert_eq!(rejected, 5);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].key.record_id, "4");
    }

    #[test]
    fn inactive_is_deleted_and_suspended_is_not() {
        let (records, _) = records_of(
            r#"{"users":[{"id":1,"active":false,"updated_at":"2026-01-02T10:00:00Z"},{"id":2,"active":true,"suspended":true,"updated_at":"2026-01-02T10:00:00Z"}],
                "end_of_stream":true}"#,
            UserRoles::All,
        );

        assert!(records[0].is_gone);
        assert!(!records[1].is_gone);
    }

    #[test]
    fn agents_are_gone_where_only_end_users_are_wished() {
        let users = r#"{"users":[{"id":1,"role":"agent","updated_at":"2026-01-02T10:00:00Z"},{"id":2,"role":"end-user","updated_at":"2026-01-02T10:00:00Z"}],
            "end_of_stream":true}"#;

        let gone = |roles| records_of(users, roles).0.iter().map(|record| record.is_gone).collect::<Vec<_>>();

        assert_eq!(gone(UserRoles::EndUsers), [true, false]);
        assert_eq!(gone(UserRoles::All), [false, false]);
    }
}
