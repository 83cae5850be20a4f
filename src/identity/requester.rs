//! The requester rule: which CRM record an automation attributes to. A dead record never, a guess
//! never.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        contact::{CANDIDATES_MAX, ContactRecord},
        integration::IntegrationState,
        requester::{RequesterEvidence, RequesterVerdict},
    },
    store::requester::RequesterCandidates,
};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequesterAnswer {
    /// This one.
    Resolved(ContactRecord, RequesterEvidence),
    /// Several; at most [`CANDIDATES_MAX`].
    Ambiguous(Vec<ContactRecord>),
    /// None, surely.
    NotFound,
    /// None here, and the CRM is not fully or freshly copied, or not all of it could be read.
    NotKnownYet,
    /// None here, and sync is off.
    SyncOff,
}

impl From<&RequesterAnswer> for RequesterVerdict {
    fn from(answer: &RequesterAnswer) -> Self {
        match answer {
            RequesterAnswer::Resolved(record, evidence) => Self::Resolved(record.key.clone(), *evidence),
            RequesterAnswer::Ambiguous(_) => Self::Ambiguous,
            RequesterAnswer::NotFound | RequesterAnswer::NotKnownYet | RequesterAnswer::SyncOff => Self::Nobody,
        }
    }
}

/// (1) The contact's own live record, of the better kind (see `ObjectType`: a Contact before a
/// Lead); (2) else the only live record with the number; (3) else several or none.
pub fn decide(mut candidates: RequesterCandidates, now: DateTime<Utc>) -> RequesterAnswer {
    candidates.own.retain(|record| record.is_live);
    let best = candidates.own.iter().map(|record| record.key.object_type).min();
    candidates.own.retain(|record| Some(record.key.object_type) == best);
    let evidence = if candidates.own.is_empty() {
        RequesterEvidence::OnlyRecordWithNumber
    } else {
        RequesterEvidence::SelectedContact
    };
    let mut records = if candidates.own.is_empty() { candidates.by_number } else { candidates.own };
    records.sort_by(|a, b| a.key.rank().cmp(&b.key.rank()).then(a.key.cmp(&b.key)));
    match (records.len(), candidates.freshness.state(now)) {
        (1, _) => RequesterAnswer::Resolved(records.remove(0), evidence),
        (2.., _) => {
            records.truncate(CANDIDATES_MAX);
            RequesterAnswer::Ambiguous(records)
        }
        (_, IntegrationState::Off) => RequesterAnswer::SyncOff,
        (_, IntegrationState::Active) if !candidates.freshness.has_unread => RequesterAnswer::NotFound,
        _ => RequesterAnswer::NotKnownYet,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        ids::IntegrationId,
        integration::Freshness,
        provider::Provider,
        record::{ObjectType, RecordKey},
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

    fn candidates(
        own: Vec<ContactRecord>,
        by_number: Vec<ContactRecord>,
        is_sync_on: bool,
        is_copied: bool,
    ) -> RequesterCandidates {
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
            is_push_wished: false,
            push: None,
        };
        RequesterCandidates { own, by_number, holders: vec![], freshness }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(60, 0).unwrap()
    }

    #[test]
    fn own_record_wins_over_others_with_the_number() {
        let decided = decide(
            candidates(
                vec![record(ObjectType::Contact, "b")],
                vec![record(ObjectType::Contact, "a"), record(ObjectType::Contact, "b")],
                true,
                true,
            ),
            now(),
        );

        assert_eq!(
            decided,
            RequesterAnswer::Resolved(record(ObjectType::Contact, "b"), RequesterEvidence::SelectedContact)
        );
    }

    /// A Contact is a better requester than a Lead.
    #[test]
    fn contact_is_better_requester_than_lead() {
        let decided = decide(
            candidates(vec![record(ObjectType::Lead, "a"), record(ObjectType::Contact, "b")], vec![], true, true),
            now(),
        );

        assert_eq!(
            decided,
            RequesterAnswer::Resolved(record(ObjectType::Contact, "b"), RequesterEvidence::SelectedContact)
        );
    }

    #[test]
    fn several_with_the_number_are_never_guessed() {
        let decided = decide(
            candidates(vec![], vec![record(ObjectType::Contact, "b"), record(ObjectType::Contact, "a")], true, true),
            now(),
        );

        assert_eq!(
            decided,
            RequesterAnswer::Ambiguous(vec![record(ObjectType::Contact, "a"), record(ObjectType::Contact, "b")])
        );
    }

    #[test]
    fn a_held_record_resolves_also_with_sync_off() {
        let decided = decide(candidates(vec![], vec![record(ObjectType::Lead, "a")], false, false), now());

        assert_eq!(
            decided,
            RequesterAnswer::Resolved(record(ObjectType::Lead, "a"), RequesterEvidence::OnlyRecordWithNumber)
        );
    }

    /// Nobody means nobody only when the copy is complete.
    #[test]
    fn nobody_is_final_only_in_complete_copy() {
        assert_eq!(decide(candidates(vec![], vec![], true, true), now()), RequesterAnswer::NotFound);
        assert_eq!(decide(candidates(vec![], vec![], true, false), now()), RequesterAnswer::NotKnownYet);
        assert_eq!(decide(candidates(vec![], vec![], false, true), now()), RequesterAnswer::SyncOff);

        let mut unread = candidates(vec![], vec![], true, true);
        unread.freshness.has_unread = true;
        assert_eq!(decide(unread, now()), RequesterAnswer::NotKnownYet);
    }
}
