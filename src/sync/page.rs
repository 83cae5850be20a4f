//! A page that is ready to be written.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{normalize::NumberRules, seal::SealedReject};
use crate::{
    crm::{RecordPage, RecordSightings},
    domain::{
        notice::Notice,
        record::{AbsentRecord, NormalRecord, RecordKey},
        rejected::PageRejects,
    },
};

/// A page that is ready to be written.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent things that a page says of its run")]
pub(super) struct NormalizedPage {
    /// Each record once.
    pub records: Vec<NormalRecord>,
    /// Records that the CRM was asked for and does not have, none of `records`; each once.
    pub gone: Vec<AbsentRecord>,
    /// Records that were asked for and not shown.
    pub hidden: Vec<RecordKey>,
    /// Older or equal copies that the page held besides.
    pub repeats: usize,
    /// How much could not be read.
    pub rejects: PageRejects,
    /// What of that is kept.
    pub rejected: Vec<SealedReject>,
    /// How its numbers were read; `None`: it has none.
    pub rules: Option<NumberRules>,
    /// Where the next page goes on.
    pub next: Option<String>,
    /// The end of the run's list.
    pub is_last: bool,
    /// Every change until then is in this page or before.
    pub known_through: Option<DateTime<Utc>>,
    /// What could not be seen.
    pub notices: Vec<Notice>,
    /// The next run must be a sweep.
    pub needs_sweep: bool,
    /// Something optional was left: a sweep must come some day soon.
    pub is_partial: bool,
    /// Something that was never copied was left.
    pub is_incomplete: bool,
    /// The most records that the CRM's limit lets the run read in a minute.
    pub records_per_minute: Option<i64>,
}

impl NormalizedPage {
    /// What a list's page says of the run, for when all that it brought is settled.
    pub(super) fn end_of_page(&self) -> Self {
        Self {
            next: self.next.clone(),
            is_last: self.is_last,
            known_through: self.known_through,
            is_incomplete: self.is_incomplete,
            ..Self::default()
        }
    }

    /// Of the records that were asked for, those that were not shown.
    pub(super) fn unanswered(&self, asked: &[RecordKey]) -> Vec<RecordKey> {
        let rejected: HashSet<&RecordKey> = self.rejected.iter().filter_map(SealedReject::key).collect();
        let is_answered = |key: &RecordKey| {
            self.gone.iter().any(|gone| gone.key == *key)
                || rejected.contains(key)
                || self.records.iter().any(|record| record.key == *key)
        };
        asked.iter().filter(|key| !is_answered(key)).cloned().collect()
    }
}

/// What look-ups say of records as a page; nothing is gone that was not asked for.
pub(super) fn page_of(seen: RecordSightings, asked: &[RecordKey]) -> RecordPage {
    let gone = seen.gone.into_iter().filter(|gone| asked.contains(&gone.key)).collect();
    RecordPage { records: seen.records, gone, rejects: seen.rejects, ..RecordPage::default() }
}
