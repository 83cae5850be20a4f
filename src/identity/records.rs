//! Takes in what a sync brought: each record becomes a contact, changes one, ends one, or brings
//! one back. Older copies never overwrite newer ones, copies that may be from before a deletion
//! never undo it, and an erased person's never come back.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;

use super::revival;
use crate::{
    domain::{
        ids::{AccountId, ContactId, IdSource, IntegrationId},
        options::Options,
        record::{AbsentRecord, NormalRecord, RecordKey},
        suppression::SuppressionKey,
        sync_run::SyncCounts,
    },
    store::{
        StoreError, Tx,
        contact_writes::{
            aliases,
            contacts::{self, ContactFields},
            numbers::{self, NumberRow},
            refs::{self, RefRow, StoredRef},
            tombstones,
        },
        suppressions,
    },
};

/// What taking a batch in has done.
#[derive(Debug, Default)]
pub struct AppliedBatch {
    /// Each record counted once.
    pub counts: SyncCounts,
    /// Numbers that a record may have gained: placeholders on them are to be adopted.
    pub gained: Vec<PhoneKey>,
    /// Records that the CRM is to be asked for: a copy came that may be from before their deletion,
    /// or an answer that is older than what is held. Nothing was made of it.
    pub look_again: Vec<RecordKey>,
    /// Records that are other than before, and the CRM's update time of those that have one.
    pub changed: Vec<(RecordKey, Option<DateTime<Utc>>)>,
    /// Records that the CRM was asked for and does not have, and that were never seen here.
    pub never_seen: Vec<RecordKey>,
}

/// The writes that a batch comes to, collected so that each table is written once.
#[derive(Default)]
struct WritePlan {
    options: Options,
    applied: AppliedBatch,
    new_contacts: Vec<ContactFields>,
    changed_contacts: Vec<ContactFields>,
    ending_contacts: Vec<ContactId>,
    /// A record of theirs ended, and they go on.
    touched_contacts: Vec<ContactId>,
    revived_contacts: Vec<ContactId>,
    merged: Vec<RecordKey>,
    ended_refs: Vec<AbsentRecord>,
    new_refs: Vec<RefRow>,
    changed_refs: Vec<RefRow>,
    emptied: Vec<(ContactId, RecordKey)>,
    numbers: Vec<NumberRow>,
}

/// What a sync brought.
pub struct RecordBatch<'a> {
    /// One copy of each record at most.
    pub records: &'a [NormalRecord],
    /// Records that the CRM was asked for and does not have; none of `records`.
    pub gone: &'a [AbsentRecord],
    /// Which deletions are mirrored.
    pub options: Options,
    /// Tells which records were erased.
    pub suppression: &'a SuppressionKey,
}

/// Takes a batch in.
/// [`StoreError::Conflict`]: somebody else took one of the records in meanwhile; run the
/// transaction again.
pub async fn apply(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    batch: &RecordBatch<'_>,
    now: DateTime<Utc>,
    ids: &IdSource,
) -> Result<AppliedBatch, StoreError> {
    let keys: Vec<RecordKey> = batch
        .records
        .iter()
        .map(|record| record.key.clone())
        .chain(batch.gone.iter().map(|gone| gone.key.clone()))
        .collect();
    let known = refs::lock(tx, account_id, integration_id, &keys).await?;
    let known: HashMap<&RecordKey, &StoredRef> = known.iter().map(|row| (&row.key, row)).collect();
    let mut plan = WritePlan { options: batch.options.clone(), ..WritePlan::default() };
    let unknown = batch.records.iter().filter(|record| !known.contains_key(&record.key));
    // Read after the locks: an erasure that they waited for is seen.
    let erased = find_erased(tx, account_id, integration_id, unknown, batch.suppression).await?;
    for record in batch.records {
        if erased.contains(&record.key) {
            plan.applied.counts.read += 1;
            plan.applied.counts.skipped += 1;
        } else {
            plan.add(record, known.get(&record.key).copied(), now, ids);
        }
    }
    for gone in batch.gone {
        plan.end(gone, known.get(&gone.key).copied());
    }
    let merged = std::mem::take(&mut plan.merged);
    let applied = plan.write(tx, account_id, integration_id, now).await?;
    super::named_merges::follow(tx, account_id, integration_id, &keys, &merged, now).await?;
    Ok(applied)
}

/// Those of these records that were erased, or were merged into one that was.
pub(super) async fn find_erased<'a>(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    records: impl Iterator<Item = &'a NormalRecord>,
    suppression: &SuppressionKey,
) -> Result<HashSet<&'a RecordKey>, StoreError> {
    if !suppressions::has_any(tx, account_id).await? {
        return Ok(HashSet::new());
    }
    let marked: Vec<(&RecordKey, Vec<u8>)> = records
        .flat_map(|record| {
            let keys = std::iter::once(&record.key).chain(&record.successor);
            keys.map(|key| (&record.key, suppression.mark(integration_id, key)))
        })
        .collect();
    let marks: Vec<Vec<u8>> = marked.iter().map(|(_, mark)| mark.clone()).collect();
    let found = suppressions::find(tx, account_id, &marks).await?;
    Ok(marked.into_iter().filter(|(_, mark)| found.contains(mark)).map(|(key, _)| key).collect())
}

impl WritePlan {
    fn add(&mut self, record: &NormalRecord, known: Option<&StoredRef>, now: DateTime<Utc>, ids: &IdSource) {
        self.applied.counts.read += 1;
        let Some(known) = known else { return self.add_unknown(record, now, ids) };
        // Whoever was merged or converted lives on in another record, whatever is wished of
        // deletions.
        // An event has said into whom; lists and answers of some CRMs never do.
        let kept = known.successor.as_ref().filter(|_| record.is_gone && !known.is_live);
        let successor = record.successor.as_ref().or(kept);
        let is_mirrored = successor.is_some() || self.options.of(record.key.object_type).mirrors_deletions;
        let is_older = known.is_synced && record.updated_at < known.record_updated_at;
        let is_same = known.is_synced
            && known.is_live != record.is_gone
            && known.fingerprint == record.fingerprint
            && known.successor.as_ref() == successor
            // Left alive while deletions were not mirrored.
            && !(record.is_gone && is_mirrored && known.is_contact_live);
        // A list may be behind by itself; an answer should not be.
        let is_behind = is_older && record.answered_at.is_some();
        let is_doubtful = !is_older && !record.is_gone && !known.is_live && !revival::is_newer(record, known);
        if is_behind || is_doubtful {
            self.applied.look_again.push(record.key.clone());
        }
        if is_older || is_doubtful || (is_same && known.record_updated_at == record.updated_at) {
            self.applied.counts.skipped += 1;
            return;
        }
        if !is_same && (known.is_live || !record.is_gone) {
            self.note_change(record);
        }
        let mut row = RefRow { successor: successor.cloned(), ..ref_row(record, known.contact.map(|(id, _)| id)) };
        if record.is_gone && !known.is_live {
            row.gone_seen_at = row.gone_seen_at.max(known.gone_seen_at);
        }
        if record.successor.is_some() {
            self.merged.push(record.key.clone());
        }
        match (known.contact, record.is_gone) {
            // Only its age is news.
            _ if is_same => self.applied.counts.skipped += 1,
            (Some((contact_id, _)), true) if is_mirrored => {
                if known.is_live {
                    self.applied.counts.deleted += 1;
                } else {
                    self.applied.counts.skipped += 1;
                }
                self.ending_contacts.push(contact_id);
                self.emptied.push((contact_id, record.key.clone()));
            }
            // It goes on naming its callers, and is no requester any more.
            (Some((contact_id, _)), true) if known.is_live => {
                self.applied.counts.updated += 1;
                self.touched_contacts.push(contact_id);
            }
            (Some((contact_id, created_at)), false) => {
                self.applied.counts.updated += 1;
                if !known.is_live {
                    self.revived_contacts.push(contact_id);
                }
                self.changed_contacts.push(fields(record, contact_id));
                self.emptied.push((contact_id, record.key.clone()));
                self.add_numbers(record, contact_id, created_at);
            }
            // First seen as deleted, and now restored.
            (None, false) => row.contact_id = Some(self.create_contact(record, now, ids)),
            (_, true) => self.applied.counts.skipped += 1,
        }
        self.changed_refs.push(row);
    }

    /// A record is gone, and nothing more is known of it.
    fn end(&mut self, gone: &AbsentRecord, known: Option<&StoredRef>) {
        self.applied.counts.read += 1;
        let Some(known) = known else {
            self.applied.counts.skipped += 1;
            self.applied.never_seen.push(gone.key.clone());
            return;
        };
        let is_mirrored = gone.successor.is_some() || self.options.of(known.key.object_type).mirrors_deletions;
        if gone.successor.is_some() {
            self.merged.push(gone.key.clone());
        }
        match (known.is_live, is_mirrored) {
            (true, true) => self.applied.counts.deleted += 1,
            (true, false) => self.applied.counts.updated += 1,
            (false, _) => self.applied.counts.skipped += 1,
        }
        match known.contact {
            Some((contact_id, _)) if is_mirrored => {
                self.ending_contacts.push(contact_id);
                self.emptied.push((contact_id, known.key.clone()));
            }
            Some((contact_id, _)) if known.is_live => self.touched_contacts.push(contact_id),
            _ => {}
        }
        if known.is_live {
            self.applied.changed.push((gone.key.clone(), None));
        }
        self.ended_refs.push(gone.clone());
    }

    fn note_change(&mut self, record: &NormalRecord) {
        self.applied.changed.push((record.key.clone(), record.updated_at));
    }

    fn add_unknown(&mut self, record: &NormalRecord, now: DateTime<Utc>, ids: &IdSource) {
        if record.successor.is_some() {
            self.merged.push(record.key.clone());
        }
        // First seen as deleted: remembered, so that a late older copy cannot make a contact of it,
        // but nobody here.
        let contact_id = if record.is_gone {
            self.applied.counts.skipped += 1;
            None
        } else {
            self.note_change(record);
            Some(self.create_contact(record, now, ids))
        };
        self.new_refs.push(ref_row(record, contact_id));
    }

    fn create_contact(&mut self, record: &NormalRecord, now: DateTime<Utc>, ids: &IdSource) -> ContactId {
        let contact_id = ContactId(ids.new_v7(now));
        self.applied.counts.created += 1;
        self.new_contacts.push(fields(record, contact_id));
        self.add_numbers(record, contact_id, now);
        contact_id
    }

    fn add_numbers(&mut self, record: &NormalRecord, contact_id: ContactId, contact_created_at: DateTime<Utc>) {
        self.applied.gained.extend(record.numbers.iter().filter_map(|number| number.key));
        self.numbers.extend(number_rows(record, contact_id, contact_created_at));
    }

    async fn write(
        self,
        tx: &mut Tx,
        account_id: AccountId,
        integration_id: IntegrationId,
        now: DateTime<Utc>,
    ) -> Result<AppliedBatch, StoreError> {
        if !self.new_contacts.is_empty() {
            contacts::insert(tx, account_id, &self.new_contacts, now).await?;
        }
        let touched: Vec<ContactId> = self
            .changed_contacts
            .iter()
            .map(|row| row.contact_id)
            .chain(self.ending_contacts.iter().copied())
            .chain(self.touched_contacts.iter().copied())
            .collect();
        if !touched.is_empty() {
            contacts::lock(tx, account_id, &touched).await?;
        }
        if !self.changed_contacts.is_empty() {
            contacts::update(tx, account_id, &self.changed_contacts, now).await?;
        }
        if !self.new_refs.is_empty() {
            refs::insert(tx, account_id, integration_id, &self.new_refs, now).await?;
        }
        if !self.changed_refs.is_empty() {
            refs::update(tx, account_id, integration_id, &self.changed_refs, now).await?;
        }
        if !self.ended_refs.is_empty() {
            refs::end(tx, account_id, integration_id, &self.ended_refs, now).await?;
        }
        if !self.revived_contacts.is_empty() {
            aliases::restore_aliases(tx, account_id, &self.revived_contacts, now).await?;
        }
        numbers::replace(tx, account_id, integration_id, &self.emptied, &self.numbers).await?;
        if !self.ending_contacts.is_empty() {
            tombstones::tombstone_without_refs(tx, account_id, &self.ending_contacts, now).await?;
        }
        if !self.touched_contacts.is_empty() {
            contacts::touch(tx, account_id, &self.touched_contacts, now).await?;
        }
        Ok(self.applied)
    }
}

pub(super) fn fields(record: &NormalRecord, contact_id: ContactId) -> ContactFields {
    ContactFields {
        contact_id,
        display_name: record.display_name.clone(),
        organization: record.organization.clone(),
        emails: record.emails.clone(),
    }
}

pub(super) fn ref_row(record: &NormalRecord, contact_id: Option<ContactId>) -> RefRow {
    RefRow {
        key: record.key.clone(),
        contact_id,
        is_live: !record.is_gone,
        is_synced: record.updated_at.is_some(),
        record_updated_at: record.updated_at,
        role: record.role.clone(),
        url: record.url.clone(),
        region: record.region,
        fingerprint: record.fingerprint,
        successor: record.successor.clone(),
        gone_seen_at: record.answered_at.or(record.updated_at).filter(|_| record.is_gone),
    }
}

pub(super) fn number_rows(
    record: &NormalRecord,
    contact_id: ContactId,
    contact_created_at: DateTime<Utc>,
) -> impl Iterator<Item = NumberRow> {
    (0..).zip(&record.numbers).map(move |(position, number)| NumberRow {
        contact_id,
        contact_created_at,
        record: record.key.clone(),
        position,
        raw: number.raw.clone(),
        region: number.region,
        key: number.key,
        extension: number.extension.clone(),
        label: number.label.clone(),
        local_digits: number.local_digits,
    })
}
