//! One page, one transaction: records, adopted placeholders, resume point and, on the last page, the checkpoint; all under a live
//! lease. After the commit, the second look.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Syncing,
    normalize::NumberRules,
    rejected::{self, SealedReject},
    run::Job,
};
use crate::{
    credentials::SuppressionKeyError,
    domain::{
        notice::Notice,
        record::{NormalRecord, RecordKey},
        rejected::Rejects,
        sync_run::{SyncCounts, SyncKind},
    },
    identity::{
        adoption,
        records::{self, Batch},
    },
    store::{
        self, StoreError, Tx, TxError, accounts, lease,
        run_progress::{self, Advance, Completion, Swept},
        sweeps,
    },
};

/// What an optional look-up has left, or an increment could not read, is found by reading everything again, at the latest after so
/// long. Not sooner: what is refused for good must not cost a full read with every pass.
const PARTIAL_SWEEP_AFTER: TimeDelta = TimeDelta::days(1);

/// A page that is ready to be written.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent things that a page says of its pass")]
pub(super) struct NormalPage {
    /// Each record once.
    pub records: Vec<NormalRecord>,
    /// Records that are gone, none of `records`.
    pub gone: Vec<RecordKey>,
    /// Records that were asked for and not shown.
    pub hidden: Vec<RecordKey>,
    /// Older or equal copies that the page held besides.
    pub repeats: usize,
    /// How much could not be read.
    pub rejects: Rejects,
    /// What of that is kept.
    pub rejected: Vec<SealedReject>,
    /// How its numbers were read; `None`: it has none.
    pub rules: Option<NumberRules>,
    /// Where the next page goes on.
    pub next: Option<String>,
    /// The end of the pass.
    pub is_last: bool,
    /// Every change until then is in this page or before.
    pub known_through: Option<DateTime<Utc>>,
    /// What could not be seen.
    pub notices: Vec<Notice>,
    /// The next pass must be a sweep.
    pub needs_sweep: bool,
    /// Something optional was left: a sweep must come some day soon.
    pub is_partial: bool,
    /// Something that was never copied was left.
    pub is_incomplete: bool,
    /// The most records that the CRM's limit lets the run read in a minute.
    pub records_per_minute: Option<i64>,
}

/// Why a page was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// Somebody else has the run, or it was cancelled.
    #[error("the lease is lost")]
    LeaseLost,
    /// The account's regions have changed since the run began.
    #[error("the account's regions have changed")]
    RulesChanged,
    /// Whether a record was erased cannot be told.
    #[error(transparent)]
    SuppressionKey(SuppressionKeyError),
    /// The database did not do it.
    #[error("a page could not be stored")]
    Store(#[from] StoreError),
}

impl From<SuppressionKeyError> for ApplyError {
    fn from(error: SuppressionKeyError) -> Self {
        match error {
            SuppressionKeyError::Store(error) => Self::Store(error),
            other => Self::SuppressionKey(other),
        }
    }
}

impl TxError for ApplyError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict))
    }
}

impl Syncing {
    /// Writes a page and what it says of the run. The last page of a sweep leaves the run open: what did not come is still to be
    /// asked for.
    pub(super) async fn apply(&self, job: &Job, page: NormalPage) -> Result<(), ApplyError> {
        let now = self.clock.now();
        let (lease, options) = (job.claimed.lease, job.claimed.options);
        let suppression = self.suppression_keys.find_or_make(lease.account_id).await?;
        let page = Arc::new(page);
        let progress = Progress { job: job.mark(), sweep_due_at: self.next_sweep(job, now), now };
        let ids = Arc::clone(&self.ids);
        let gained = self
            .db
            .transaction(move |tx| {
                let (page, ids, suppression) = (Arc::clone(&page), Arc::clone(&ids), suppression.clone());
                Box::pin(async move {
                    if !lease::hold(tx, lease).await? {
                        return Err(ApplyError::LeaseLost);
                    }
                    // After a change of regions everything is read again: what was read by the old ones must not come behind it.
                    if let Some(rules) = page.rules
                        && !accounts::hold_rules(tx, lease.account_id, rules.region, rules.has_further_regions).await?
                    {
                        return Err(ApplyError::RulesChanged);
                    }
                    let batch = Batch { records: &page.records, gone: &page.gone, options, suppression: &suppression };
                    let applied = records::apply(tx, lease.account_id, lease.integration_id, &batch, now, &ids).await?;
                    adoption::adopt(tx, lease.account_id, &applied.gained, now).await?;
                    rejected::write(tx, lease, progress.job.run_id, &page, now).await?;
                    progress.write(tx, &page, applied.counts).await?;
                    Ok(applied.gained)
                })
            })
            .await?;
        adoption::adopt_late(&self.db, lease.account_id, gained, now).await?;
        Ok(())
    }

    /// Ends a sweep that has asked for everything.
    pub(super) async fn end_sweep(
        &self,
        job: &Job,
        swept: Swept,
        is_incomplete: bool,
        notices: Vec<Notice>,
    ) -> Result<(), ApplyError> {
        let now = self.clock.now();
        let (lease, run_id, sweep_due_at) = (job.claimed.lease, job.begun.id, self.next_sweep(job, now));
        let notices = Arc::new(notices);
        self.db
            .transaction(move |tx| {
                let notices = Arc::clone(&notices);
                Box::pin(async move {
                    if !lease::hold(tx, lease).await? {
                        return Err(ApplyError::LeaseLost);
                    }
                    let advance = Advance { notices: &notices, ..Advance::default() };
                    run_progress::advance(tx, lease, run_id, &advance, now).await?;
                    let completion = Completion { swept: Some(swept), sweep_due_at, is_incomplete };
                    if !is_incomplete {
                        store::rejected::end_full(tx, lease).await?;
                    }
                    run_progress::complete(tx, lease, run_id, completion, now).await?;
                    Ok(())
                })
            })
            .await
    }

    /// When the next sweep is due, if this run moves that.
    fn next_sweep(&self, job: &Job, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let provider = job.claimed.organization.provider;
        let every = self.settings.sweep_every.iter().find(|(of, _)| *of == provider).map(|(_, every)| *every);
        let next = now + TimeDelta::from_std(every?).ok()?;
        let is_moved = match job.begun.kind {
            SyncKind::Sweep => true,
            // It does not do what a sweep was asked for: one that is due comes after it.
            SyncKind::Initial => job.claimed.sweep_due_at.is_none_or(|due_at| due_at > now),
            // One later than that was put there by a clock that was ahead, or another setting.
            SyncKind::Incremental => job.claimed.sweep_due_at.is_none_or(|due_at| due_at > next),
        };
        is_moved.then_some(next)
    }
}

/// What a page says of its run.
#[derive(Clone, Copy)]
struct Progress {
    job: super::run::Mark,
    sweep_due_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
}

impl Progress {
    async fn write(self, tx: &mut Tx, page: &NormalPage, counts: SyncCounts) -> Result<(), StoreError> {
        let Self { job, now, .. } = self;
        if let Some(sweep_number) = job.sweep_number {
            let records = page.records.iter().map(|record| &record.key);
            // What is there, and could not be read, need not be asked for.
            let rejected = page.rejected.iter().filter_map(SealedReject::key);
            let seen: Vec<RecordKey> = records.chain(&page.gone).chain(&page.hidden).chain(rejected).cloned().collect();
            sweeps::mark_seen(tx, job.lease, sweep_number, &seen).await?;
        }
        let (repeats, rejected, hidden) = (count(page.repeats), count(page.rejects.records), count(page.hidden.len()));
        let counts = SyncCounts {
            read: counts.read + repeats + rejected + hidden,
            skipped: counts.skipped + repeats + hidden,
            rejected,
            ..counts
        };
        let advance = Advance {
            resume_point: page.next.as_deref(),
            counts,
            notices: &page.notices,
            records_per_minute: page.records_per_minute,
        };
        run_progress::advance(tx, job.lease, job.run_id, &advance, now).await?;
        let hides_numbers = page.rejects.hidden_numbers > 0;
        if hides_numbers {
            store::rejected::mark_unread(tx, job.lease).await?;
        }
        if page.needs_sweep {
            sweeps::make_due(tx, job.lease, now).await?;
        } else if page.is_partial || hides_numbers {
            sweeps::bring_forward(tx, job.lease, now + PARTIAL_SWEEP_AFTER, now).await?;
        }
        if page.is_last {
            let next = page.next.as_deref();
            run_progress::move_checkpoint(tx, job.lease, job.run_id, next, page.known_through, now).await?;
            if job.kind != SyncKind::Sweep {
                let (sweep_due_at, is_incomplete) = (self.sweep_due_at, page.is_incomplete);
                let completion = Completion { swept: None, sweep_due_at, is_incomplete };
                if job.kind == SyncKind::Initial && !is_incomplete {
                    store::rejected::end_full(tx, job.lease).await?;
                }
                run_progress::complete(tx, job.lease, job.run_id, completion, now).await?;
            }
        }
        Ok(())
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
