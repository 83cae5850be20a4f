//! One page, one transaction: records, adopted placeholders, resume point and, on the last page,
//! the checkpoint; all under a live lease. After the commit, the second look.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use phone_key::PhoneKey;

use super::{
    context::SyncContext,
    error::RunError,
    job::{RunContext, SyncJob},
    normalize::{NumberRules, normalize_page},
    page::NormalizedPage,
    push_losses, rejected,
    seal::{RejectSealer, SealedReject},
};
use crate::{
    crm::{CrmError, RecordPage},
    domain::{
        ids::IdSource,
        integration_state::SweepOutcome,
        notice::Notice,
        options::Options,
        record::RecordKey,
        suppression::SuppressionKey,
        sync_run::{SyncCounts, SyncKind},
    },
    identity::{
        adoption,
        records::{self, AppliedBatch, RecordBatch},
    },
    store::{
        self, StoreError, Transaction, Tx, accounts, lease,
        run_progress::{self, PageProgress, RunEnd},
        sweeps,
    },
    telemetry::metrics,
};

/// What an optional look-up has left, or an increment could not read, is found by reading
/// everything again, at the latest after so long. Not sooner: what is refused for good must not
/// cost a full read with every run.
const PARTIAL_SWEEP_AFTER: TimeDelta = TimeDelta::days(1);

/// Writes the pages of one run.
#[derive(Clone, Copy)]
pub(super) struct PageWriter<'r> {
    pub context: &'r SyncContext,
    pub job: &'r SyncJob,
    /// How the account's numbers are read.
    pub rules: NumberRules,
}

impl PageWriter<'_> {
    /// Reads the numbers of a page that came from this cursor, and seals what could not be read,
    /// off the threads that answer calls.
    pub(super) async fn normalize(&self, page: RecordPage, cursor: Option<String>) -> Result<NormalizedPage, RunError> {
        let now = self.context.clock.now();
        let SyncContext { access_tokens, suppression_keys, .. } = self.context;
        let (lease, rules) = (self.job.lease(), self.rules);
        let suppression = suppression_keys.find_or_make(lease.account_id).await?;
        let sealer = RejectSealer { vault: access_tokens.vault.clone(), suppression, lease };
        let (records, mut rejects) = (page.records, page.rejects);
        let kept = std::mem::take(&mut rejects.kept);
        let read = tokio::task::spawn_blocking(move || {
            let rejected: Vec<_> = kept.into_iter().map(|one| sealer.seal(one)).collect();
            (normalize_page(records, rules), rejected)
        });
        let ((records, repeats), rejected) =
            read.await.map_err(|_| CrmError::Unreadable("reading its records failed; see the log"))?;
        let mut gone = page.gone;
        gone.sort_unstable_by(|a, b| (&a.key, b.seen_at).cmp(&(&b.key, a.seen_at)));
        gone.dedup_by(|later, first| later.key == first.key);
        let shown: HashSet<&RecordKey> = records.iter().map(|record| &record.key).collect();
        gone.retain(|one| !shown.contains(&one.key));
        Ok(NormalizedPage {
            records,
            gone,
            hidden: Vec::new(),
            repeats,
            rejects,
            rejected,
            rules: Some(rules),
            next: page.next.or(cursor),
            is_last: page.is_last,
            // A CRM whose clock is ahead must not promise what has not happened yet.
            known_through: page.known_through.map(|time| time.min(now)),
            notices: page.notices,
            needs_sweep: page.needs_sweep,
            is_partial: page.is_partial,
            is_incomplete: page.is_incomplete,
            records_per_minute: page.records_per_minute,
        })
    }

    /// Writes a page and what it says of the run. The last page of a sweep leaves the run open:
    /// what did not come is still to be asked for. A page that leaves records open, those which the
    /// CRM is to be asked for again ([`AppliedBatch::look_again`]), moves no resume point and ends
    /// no list: the caller settles them, and then writes the page's end.
    pub(super) async fn write(&self, page: NormalizedPage) -> Result<Vec<RecordKey>, RunError> {
        let intake = self.intake(page).await?;
        let now = intake.now;
        let work = ApplyPage { intake, end: self.run_end() };
        let (applied, missed) = self.context.db.of(self.job.lease().account_id).run(work).await?;
        metrics::events_missed(self.job.provider().as_str(), missed);
        self.adopt_late(applied.gained, now).await?;
        Ok(applied.look_again)
    }

    /// What a transaction needs to take a page in.
    pub(super) async fn intake(&self, page: NormalizedPage) -> Result<PageIntake, RunError> {
        Ok(PageIntake {
            page,
            run: self.job.context(),
            options: self.job.claimed.options.clone(),
            suppression: self.context.suppression_keys.find_or_make(self.job.lease().account_id).await?,
            ids: Arc::clone(&self.context.ids),
            now: self.context.clock.now(),
        })
    }

    /// After the commit: for placeholders that the page could not see, on numbers that it brought.
    pub(super) async fn adopt_late(&self, gained: Vec<PhoneKey>, now: DateTime<Utc>) -> Result<(), RunError> {
        adoption::adopt_late(&self.context.db, self.job.lease().account_id, gained, now).await?;
        Ok(())
    }

    /// Ends a sweep that has asked for everything.
    pub(super) async fn end_sweep(
        &self,
        outcome: SweepOutcome,
        is_incomplete: bool,
        notices: Vec<Notice>,
    ) -> Result<(), RunError> {
        let now = self.context.clock.now();
        let end = RunEnd { sweep: Some(outcome), is_incomplete, ..self.run_end() };
        let work = EndSweep { run: self.job.context(), end, notices, now };
        self.context.db.of(self.job.lease().account_id).run(work).await
    }

    /// The end of a run that is no sweep, and whole.
    fn run_end(&self) -> RunEnd {
        let provider = self.job.claimed.organization.provider;
        RunEnd {
            kind: self.job.run.kind,
            planned_sweep_at: self.job.claimed.sweep_due_at,
            sweep_every: TimeDelta::from_std(self.context.settings.sweep_every[provider]).ok(),
            sweep: None,
            is_incomplete: false,
        }
    }
}

/// Records that are to be taken in under a lease, whoever asked for them.
pub(super) struct PageIntake {
    pub page: NormalizedPage,
    pub run: RunContext,
    options: Options,
    suppression: SuppressionKey,
    ids: Arc<IdSource>,
    pub now: DateTime<Utc>,
}

impl PageIntake {
    /// Takes the records in. Nothing of the run is moved.
    pub(super) async fn take_in(&self, tx: &mut Tx) -> Result<AppliedBatch, RunError> {
        let Self { page, options, suppression, now, .. } = self;
        let (lease, now) = (self.run.lease, *now);
        if !lease::lock(tx, lease).await? {
            return Err(RunError::LeaseLost);
        }
        // After a change of regions everything is read again: what was read by the old ones must
        // not come behind it.
        if let Some(rules) = page.rules
            && !accounts::hold_rules(tx, lease.account_id, rules.region, rules.has_further_regions).await?
        {
            return Err(RunError::RulesChanged);
        }
        let batch = RecordBatch { records: &page.records, gone: &page.gone, options: options.clone(), suppression };
        let applied = records::apply(tx, lease.account_id, lease.integration_id, &batch, now, &self.ids).await?;
        adoption::adopt(tx, lease.account_id, &applied.gained, now).await?;
        rejected::write(tx, lease, self.run.run_id, page, now).await?;
        self.mark_seen(tx, &applied.look_again).await?;
        if page.rejects.hidden_numbers > 0 {
            store::rejected::mark_unread(tx, lease).await?;
        }
        Ok(applied)
    }

    /// In a sweep: what came need not be asked for, but what it left open.
    async fn mark_seen(&self, tx: &mut Tx, open: &[RecordKey]) -> Result<(), StoreError> {
        let Some(sweep_number) = self.run.sweep_number else { return Ok(()) };
        let page = &self.page;
        let records = page.records.iter().map(|record| &record.key);
        let gone = page.gone.iter().map(|gone| &gone.key);
        // Nor what is there, and could not be read.
        let rejected = page.rejected.iter().filter_map(SealedReject::key);
        let came = records.chain(gone).chain(&page.hidden).chain(rejected);
        let seen: Vec<RecordKey> = came.filter(|key| !open.contains(key)).cloned().collect();
        sweeps::mark_seen(tx, self.run.lease, sweep_number, &seen).await
    }
}

/// One page. Gives what it has done, and how many changes an event should have announced.
struct ApplyPage {
    intake: PageIntake,
    end: RunEnd,
}

impl Transaction for ApplyPage {
    const NAME: &'static str = "apply_page";
    type Output = (AppliedBatch, i64);
    type Error = RunError;

    async fn run(&self, tx: &mut Tx) -> Result<(AppliedBatch, i64), RunError> {
        let applied = self.intake.take_in(tx).await?;
        let is_increment = self.intake.run.kind == SyncKind::Incremental;
        let changed = if is_increment { applied.changed.as_slice() } else { &[] };
        let missed = push_losses::note_polled(tx, self.intake.run.lease, changed, self.intake.now).await?;
        let is_settled = applied.look_again.is_empty();
        let resume_point = self.intake.page.next.as_deref().filter(|_| is_settled);
        self.advance(tx, applied.counts, resume_point).await?;
        self.schedule_sweep(tx).await?;
        if self.intake.page.is_last && is_settled {
            self.end_list(tx).await?;
        }
        Ok((applied, missed))
    }
}

impl ApplyPage {
    async fn advance(&self, tx: &mut Tx, counts: SyncCounts, resume_point: Option<&str>) -> Result<(), StoreError> {
        let PageIntake { page, run, now, .. } = &self.intake;
        let (repeats, rejected, hidden) = (count(page.repeats), count(page.rejects.records), count(page.hidden.len()));
        let counts = SyncCounts {
            read: counts.read + repeats + rejected + hidden,
            skipped: counts.skipped + repeats + hidden,
            rejected,
            ..counts
        };
        let progress =
            PageProgress { resume_point, counts, notices: &page.notices, records_per_minute: page.records_per_minute };
        run_progress::advance(tx, run.lease, run.run_id, &progress, *now).await
    }

    /// What the page left out is found by a sweep, now or some day soon.
    async fn schedule_sweep(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let PageIntake { page, run: RunContext { lease, .. }, now, .. } = &self.intake;
        let (lease, now) = (*lease, *now);
        if page.needs_sweep {
            sweeps::make_due(tx, lease, now).await?;
        } else if page.is_partial || page.rejects.hidden_numbers > 0 {
            sweeps::bring_forward(tx, lease, now + PARTIAL_SWEEP_AFTER, now).await?;
        }
        Ok(())
    }

    async fn end_list(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let PageIntake { page, run, now, .. } = &self.intake;
        let (RunContext { lease, run_id, kind, .. }, now) = (*run, *now);
        run_progress::move_checkpoint(tx, lease, run_id, page.next.as_deref(), page.known_through, now).await?;
        if kind == SyncKind::Sweep {
            return Ok(());
        }
        if kind == SyncKind::Initial && !page.is_incomplete {
            store::rejected::end_full(tx, lease).await?;
        }
        let end = RunEnd { is_incomplete: page.is_incomplete, ..self.end };
        run_progress::complete(tx, lease, run_id, end, now).await
    }
}

/// The end of a sweep that has asked for everything.
struct EndSweep {
    run: RunContext,
    end: RunEnd,
    notices: Vec<Notice>,
    now: DateTime<Utc>,
}

impl Transaction for EndSweep {
    const NAME: &'static str = "end_sweep";
    type Output = ();
    type Error = RunError;

    async fn run(&self, tx: &mut Tx) -> Result<(), RunError> {
        let RunContext { lease, run_id, .. } = self.run;
        if !lease::lock(tx, lease).await? {
            return Err(RunError::LeaseLost);
        }
        let progress = PageProgress { notices: &self.notices, ..PageProgress::default() };
        run_progress::advance(tx, lease, run_id, &progress, self.now).await?;
        if !self.end.is_incomplete {
            store::rejected::end_full(tx, lease).await?;
        }
        Ok(run_progress::complete(tx, lease, run_id, self.end, self.now).await?)
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
