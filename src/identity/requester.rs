//! The requester rule: which CRM record an automation attributes to. A dead record never, a guess never.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        contact::{CANDIDATES_MAX, ContactRecord},
        integration::IntegrationState,
        record::ObjectType,
        requester::{Evidence, Verdict},
    },
    store::requester::Holdings,
};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requester {
    /// This one.
    Resolved(ContactRecord, Evidence),
    /// Several; at most [`CANDIDATES_MAX`].
    Ambiguous(Vec<ContactRecord>),
    /// None, surely.
    NotFound,
    /// None here, and the CRM is not fully or freshly copied, or not all of it could be read.
    NotKnownYet,
    /// None here, and sync is off.
    SyncOff,
}

impl From<&Requester> for Verdict {
    fn from(requester: &Requester) -> Self {
        match requester {
            Requester::Resolved(record, evidence) => Self::Resolved(record.key.clone(), *evidence),
            Requester::Ambiguous(_) => Self::Ambiguous,
            Requester::NotFound | Requester::NotKnownYet | Requester::SyncOff => Self::Nobody,
        }
    }
}

/// (1) The contact's own live record, a Contact before a Lead; (2) else the only live record with the number; (3) else several or none.
pub fn decide(mut holdings: Holdings, now: DateTime<Utc>) -> Requester {
    holdings.own.retain(|record| record.is_live);
    if holdings.own.iter().any(|record| record.key.object_type == ObjectType::Contact) {
        holdings.own.retain(|record| record.key.object_type != ObjectType::Lead);
    }
    let evidence = if holdings.own.is_empty() { Evidence::OnlyRecordWithNumber } else { Evidence::SelectedContact };
    let mut records = if holdings.own.is_empty() { holdings.by_number } else { holdings.own };
    records.sort_by(|a, b| a.key.rank().cmp(&b.key.rank()).then(a.key.cmp(&b.key)));
    match (records.len(), holdings.freshness.state(now)) {
        (1, _) => Requester::Resolved(records.remove(0), evidence),
        (2.., _) => {
            records.truncate(CANDIDATES_MAX);
            Requester::Ambiguous(records)
        }
        (_, IntegrationState::Off) => Requester::SyncOff,
        (_, IntegrationState::Active) if !holdings.freshness.has_unread => Requester::NotFound,
        _ => Requester::NotKnownYet,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        ids::IntegrationId,
        integration::{Freshness, Provider},
        record::RecordKey,
    };

    fn record(object_type: ObjectType, record_id: &str) -> ContactRecord {
        ContactRecord {
            integration_id: IntegrationId(Uuid::nil()),
            key: RecordKey { object_type, record_id: record_id.to_owned() },
            url: String::new(),
            role: String::new(),
            is_live: true,
        }
    }

    fn holdings(own: Vec<ContactRecord>, by_number: Vec<ContactRecord>, is_sync_on: bool, is_copied: bool) -> Holdings {
        let now = DateTime::from_timestamp(0, 0).unwrap();
        let freshness = Freshness {
            integration_id: IntegrationId(Uuid::nil()),
            provider: Provider::Salesforce,
            is_enabled: true,
            is_sync_on,
            hold: None,
            first_started_at: Some(now),
            last_completed_at: is_copied.then_some(now),
            known_through: None,
            period_seconds: 1800,
            is_widened: false,
            has_unread: false,
        };
        Holdings { own, by_number, holders: vec![], freshness }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(60, 0).unwrap()
    }

    #[test]
    fn own_record_wins_over_others_with_the_number() {
        let decided = decide(
            holdings(
                vec![record(ObjectType::Contact, "b")],
                vec![record(ObjectType::Contact, "a"), record(ObjectType::Contact, "b")],
                true,
                true,
            ),
            now(),
        );

        assert_eq!(decided, Requester::Resolved(record(ObjectType::Contact, "b"), Evidence::SelectedContact));
    }

    #[test]
    fn a_contact_is_a_better_requester_than_a_lead() {
        let decided = decide(
            holdings(vec![record(ObjectType::Lead, "a"), record(ObjectType::Contact, "b")], vec![], true, true),
            now(),
        );

        assert_eq!(decided, Requester::Resolved(record(ObjectType::Contact, "b"), Evidence::SelectedContact));
    }

    #[test]
    fn several_with_the_number_are_never_guessed() {
        let decided = decide(
            holdings(vec![], vec![record(ObjectType::Contact, "b"), record(ObjectType::Contact, "a")], true, true),
            now(),
        );

        assert_eq!(
            decided,
            Requester::Ambiguous(vec![record(ObjectType::Contact, "a"), record(ObjectType::Contact, "b")])
        );
    }

    #[test]
    fn a_held_record_resolves_also_with_sync_off() {
        let decided = decide(holdings(vec![], vec![record(ObjectType::Lead, "a")], false, false), now());

        assert_eq!(decided, Requester::Resolved(record(ObjectType::Lead, "a"), Evidence::OnlyRecordWithNumber));
    }

    #[test]
    fn nobody_means_nobody_only_when_the_copy_is_complete() {
        assert_eq!(decide(holdings(vec![], vec![], true, true), now()), Requester::NotFound);
        assert_eq!(decide(holdings(vec![], vec![], true, false), now()), Requester::NotKnownYet);
        assert_eq!(decide(holdings(vec![], vec![], false, true), now()), Requester::SyncOff);

        let mut unread = holdings(vec![], vec![], true, true);
        unread.freshness.has_unread = true;
        assert_eq!(decide(unread, now()), Requester::NotKnownYet);
    }
}
