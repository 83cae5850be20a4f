//! Adoption: a record that gains a number absorbs the placeholder on it. Of the two the smaller
//! (`created_at`, id) is the surviving contact, so that the id first given to the router stays
//! valid; the other becomes its alias.
//!
//! A placeholder and a page that could not see each other are brought together by a second look:
//! whoever commits looks again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;

use crate::{
    domain::ids::{AccountId, ContactId},
    store::{
        CallDb, Db, StoreError, Transaction, Tx,
        adoption_pairs::{self, AdoptionPair},
        contact_writes::{
            aliases::{self, AdoptionMerge},
            contacts::{self, LockedContact},
            refs,
        },
    },
};

/// Adopts, within this transaction, every placeholder on these numbers that has a record beside it.
/// Returns how many ended.
pub async fn adopt(
    tx: &mut Tx,
    account_id: AccountId,
    keys: &[PhoneKey],
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    if keys.is_empty() {
        return Ok(0);
    }
    let pairs = adoption_pairs::find_pairs(tx, account_id, keys).await?;
    let mut adopted = 0;
    for (contact_id, placeholders) in absorbers(&pairs) {
        merge_placeholders(tx, account_id, contact_id, &placeholders, now).await?;
        adopted += placeholders.len();
    }
    Ok(adopted)
}

/// The second look, in a transaction of its own.
pub async fn adopt_late(
    db: &Db,
    account_id: AccountId,
    keys: Vec<PhoneKey>,
    now: DateTime<Utc>,
) -> Result<usize, StoreError> {
    if keys.is_empty() {
        return Ok(0);
    }
    db.of(account_id).run(AdoptLate { keys, now }).await
}

struct AdoptLate {
    keys: Vec<PhoneKey>,
    now: DateTime<Utc>,
}

impl Transaction for AdoptLate {
    const NAME: &'static str = "adopt_late";
    type Output = usize;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<usize, StoreError> {
        adopt(tx, tx.account_id(), &self.keys, self.now).await
    }
}

/// The second look of the call path: one read, and a transaction only when there is something to
/// adopt.
pub async fn adopt_late_at(
    call_db: &CallDb,
    db: &Db,
    account_id: AccountId,
    key: PhoneKey,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    if !adoption_pairs::has_pair(call_db, account_id, key).await? {
        return Ok(false);
    }
    adopt_late(db, account_id, vec![key], now).await?;
    Ok(true)
}

/// Looks at the whole account for what a crash between a page's commit and its second look has left
/// behind.
pub async fn adopt_all(db: &Db, account_id: AccountId, now: DateTime<Utc>) -> Result<usize, StoreError> {
    let (mut adopted, mut after) = (0, 0);
    loop {
        let keys = adoption_pairs::find_left_behind(db, account_id, after).await?;
        let Some(last) = keys.last() else { return Ok(adopted) };
        after = last.as_i64();
        adopted += adopt_late(db, account_id, keys, now).await?;
    }
}

/// For each placeholder the record with the smallest id absorbs; grouped by that record's contact,
/// in the order of ids.
fn absorbers(pairs: &[AdoptionPair]) -> BTreeMap<ContactId, Vec<ContactId>> {
    let mut best: BTreeMap<ContactId, &AdoptionPair> = BTreeMap::new();
    for pair in pairs {
        let rank = |pair: &AdoptionPair| {
            (pair.record.record_id.len(), pair.record.record_id.clone(), pair.integration_id, pair.contact_id)
        };
        best.entry(pair.placeholder_id)
            .and_modify(|known| {
                if rank(pair) < rank(known) {
                    *known = pair;
                }
            })
            .or_insert(pair);
    }
    let mut groups: BTreeMap<ContactId, Vec<ContactId>> = BTreeMap::new();
    for (placeholder_id, pair) in best {
        groups.entry(pair.contact_id).or_default().push(placeholder_id);
    }
    groups
}

/// Makes a record's contact and these placeholders one contact, and returns it. What has ended
/// meanwhile is left alone.
pub async fn merge_placeholders(
    tx: &mut Tx,
    account_id: AccountId,
    contact_id: ContactId,
    placeholders: &[ContactId],
    now: DateTime<Utc>,
) -> Result<ContactId, StoreError> {
    let mut everyone: Vec<ContactId> = placeholders.to_vec();
    everyone.push(contact_id);
    refs::lock_of_contacts(tx, account_id, &everyone).await?;
    let locked = contacts::lock(tx, account_id, &everyone).await?;
    if locked.iter().any(|contact| contact.contact_id == contact_id && contact.survivor_id.is_some()) {
        // It was merged while its lock was waited for; the next try finds where it went.
        return Err(StoreError::Conflict);
    }
    let merges = plan(contact_id, &locked);
    let Some(first) = merges.first() else { return Ok(contact_id) };
    let survivor_id = first.survivor_id;
    aliases::alias_adopted(tx, account_id, &merges, now).await?;
    Ok(survivor_id)
}

/// Who survives: the smallest (`created_at`, id) among the record's contact and the placeholders
/// that still are some.
fn plan(contact_id: ContactId, locked: &[LockedContact]) -> Vec<AdoptionMerge> {
    let takes_part =
        |contact: &&LockedContact| contact.is_live && (contact.contact_id == contact_id || contact.is_placeholder);
    let members: Vec<&LockedContact> = locked.iter().filter(takes_part).collect();
    if !members.iter().any(|member| member.contact_id == contact_id) {
        return Vec::new();
    }
    let Some(survivor) = members.iter().min_by_key(|member| (member.created_at, member.contact_id)) else {
        return Vec::new();
    };
    let losers = members.iter().filter(|member| member.contact_id != survivor.contact_id);
    losers
        .map(|loser| AdoptionMerge {
            loser_id: loser.contact_id,
            survivor_id: survivor.contact_id,
            survivor_created_at: survivor.created_at,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        ids::IntegrationId,
        record::{ObjectType, RecordKey},
    };

    fn id(n: u128) -> ContactId {
        ContactId(Uuid::from_u128(n))
    }

    fn contact(n: u128, second: i64, is_placeholder: bool) -> LockedContact {
        LockedContact {
            contact_id: id(n),
            created_at: DateTime::from_timestamp(second, 0).unwrap(),
            is_placeholder,
            is_live: true,
            survivor_id: None,
        }
    }

    fn pair(placeholder: u128, contact: u128, record_id: &str) -> AdoptionPair {
        AdoptionPair {
            placeholder_id: id(placeholder),
            contact_id: id(contact),
            integration_id: IntegrationId(Uuid::nil()),
            record: RecordKey { object_type: ObjectType::User, record_id: record_id.to_owned() },
        }
    }

    #[test]
    fn older_placeholder_survives_its_record() {
        let merges = plan(id(2), &[contact(1, 10, true), contact(2, 20, false)]);

        assert_eq!(merges.len(), 1);
        assert_eq!((merges[0].loser_id, merges[0].survivor_id), (id(2), id(1)));
    }

    #[test]
    fn long_known_contact_survives_a_younger_placeholder() {
        let merges = plan(id(2), &[contact(1, 30, true), contact(2, 20, false)]);

        assert_eq!((merges[0].loser_id, merges[0].survivor_id), (id(1), id(2)));
    }

    /// A contact that is no placeholder any more is left alone.
    #[test]
    fn former_placeholder_is_left_alone() {
        assert_eq!(plan(id(2), &[contact(1, 10, false), contact(2, 20, false)]), []);
    }

    #[test]
    fn a_dead_record_absorbs_nobody() {
        let dead = LockedContact { is_live: false, ..contact(2, 20, false) };

        assert_eq!(plan(id(2), &[contact(1, 10, true), dead]), []);
    }

    #[test]
    fn smallest_record_id_of_several_absorbs() {
        let groups = absorbers(&[pair(1, 20, "1000"), pair(1, 30, "999"), pair(1, 40, "1001")]);

        assert_eq!(groups, BTreeMap::from([(id(30), vec![id(1)])]));
    }
}
