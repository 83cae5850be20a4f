//! The pages of one run: fetch, complete by what the CRM does not put in a page, normalise, write.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use tracing::warn;

use super::{
    apply::PageWriter,
    backoff,
    conflicts::{CONFLICTS_LEFT, ConflictSettler},
    error::RunError,
    hints::HintDrainer,
    job::SyncJob,
    pacer::RunPause,
    page::NormalizedPage,
    session::{CrmSession, PageAnswer, PageRequest},
    successors,
    unread::UnreadSummary,
};
use crate::{
    crm::{CrmError, RecordPage},
    domain::{record::RecordKey, sync_run::SyncKind},
    store,
    telemetry::{chain, metrics},
};

/// A first copy refreshes the tables' statistics with its first records, and again when it has so
/// many times more.
const ANALYZE_AGAIN_AFTER: usize = 10;
/// Cursors of one run that are remembered, to see a circle: 100,000 pages are 100 million users.
const CURSORS_MAX: usize = 100_000;
/// Gone records of one page whose merge winners are looked for, each by a search or two: whoever
/// deletes more at once does not merge.
const WINNERLESS_MAX: usize = 50;
/// How often a run may start its window again because the CRM refused its cursor.
const RESTARTS_MAX: usize = 2;

/// Where a run reads: its cursor, and those that it has been at.
struct PageCursor {
    position: Option<String>,
    checkpoint: Option<String>,
    visited: HashSet<String>,
    restarts: usize,
    is_from_nothing: bool,
}

impl PageCursor {
    fn of(job: &SyncJob) -> Self {
        let checkpoint = job.claimed.checkpoint.clone().filter(|_| job.run.kind == SyncKind::Incremental);
        let position = job.run.resume_point.clone().or_else(|| checkpoint.clone());
        Self { position, checkpoint, visited: HashSet::new(), restarts: 0, is_from_nothing: false }
    }

    /// The CRM refuses the cursor: from the checkpoint; and if that was what it refused, from the
    /// beginning.
    fn restart(&mut self) -> Result<(), RunError> {
        if self.restarts >= RESTARTS_MAX || self.position.is_none() {
            return Err(CrmError::PositionRefused.into());
        }
        self.restarts += 1;
        self.visited.clear();
        self.position = self.checkpoint.clone().filter(|checkpoint| Some(checkpoint) != self.position.as_ref());
        self.is_from_nothing |= self.position.is_none();
        Ok(())
    }

    /// A CRM that leads in a circle would be read for ever.
    fn check(&mut self, page: &RecordPage) -> Result<(), RunError> {
        if let Some(next) = page.next.as_ref().filter(|_| !page.is_last)
            && self.visited.len() < CURSORS_MAX
            && !self.visited.insert(next.clone())
        {
            return Err(CrmError::Stuck.into());
        }
        Ok(())
    }
}

/// Where the time of a run's pages went.
#[derive(Default)]
pub(super) struct PageTimings {
    /// Pages that were applied.
    pub pages: u32,
    /// Until they were here, waits and repeated tries included.
    pub fetch: Duration,
    /// Reading their texts and numbers.
    pub normalize: Duration,
    /// Their transactions, and the second look after each.
    pub apply: Duration,
    /// The cursor where the last page ended.
    pub end: Option<String>,
}

/// Copies the pages of one run.
pub(super) struct PageCopier<'s, 'r> {
    session: &'s mut CrmSession<'r>,
    writer: PageWriter<'r>,
    hints: &'s mut HintDrainer<'r>,
    timings: PageTimings,
    /// What could not be read.
    unread: UnreadSummary,
    /// Records in the pages.
    records: usize,
    /// Of these when the statistics were last refreshed.
    analyzed: usize,
}

impl<'s, 'r> PageCopier<'s, 'r> {
    pub(super) fn new(session: &'s mut CrmSession<'r>, hints: &'s mut HintDrainer<'r>) -> Self {
        let (writer, timings, unread) = (hints.writer, PageTimings::default(), UnreadSummary::default());
        Self { session, writer, hints, timings, unread, records: 0, analyzed: 0 }
    }

    /// Until the last page.
    pub(super) async fn copy_pages(mut self) -> Result<PageTimings, RunError> {
        let mut cursor = PageCursor::of(self.writer.job);
        loop {
            let asked_at = Instant::now();
            let mut page = match self.fetch_page(cursor.position.as_ref()).await {
                Ok(page) => page,
                Err(RunError::Crm(CrmError::PositionRefused)) => {
                    cursor.restart()?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            cursor.check(&page)?;
            // What was deleted since the lost checkpoint shows in no list any more.
            page.needs_sweep |=
                cursor.is_from_nothing && page.is_last && self.writer.job.run.kind == SyncKind::Incremental;
            successors::add(self.session, self.writer, &mut page, WINNERLESS_MAX).await?;
            self.unread.add(&page.rejects);
            if page.is_last {
                page.notices.extend(self.unread.notices());
            }
            self.timings.fetch += asked_at.elapsed();
            let (next, is_last, wait) = (page.next.clone(), page.is_last, page.wait);
            self.store(page, cursor.position.take()).await?;
            if is_last {
                self.timings.end = next;
                return Ok(self.timings);
            }
            cursor.position = next;
            if let Some(wait) = wait {
                let phase = "waiting for the CRM to prepare the next page";
                let pause = RunPause { wait: wait.min(backoff::LONG_WAIT), phase, error: None };
                self.hints.pause(self.session, pause).await?;
            }
            self.hints.drain_between(self.session).await?;
            self.session.pacer.make_room()?;
        }
    }

    /// Asks for a page until it is here; hints are looked at in the waits.
    async fn fetch_page(&mut self, cursor: Option<&String>) -> Result<RecordPage, RunError> {
        let mut request = PageRequest::default();
        loop {
            match self.session.try_page(cursor, &mut request).await? {
                PageAnswer::Page(page) => return Ok(*page),
                PageAnswer::Wait(pause) => self.hints.pause(self.session, pause).await?,
            }
        }
    }

    async fn store(&mut self, page: RecordPage, cursor: Option<String>) -> Result<(), RunError> {
        let fetched_at = Instant::now();
        let (records, rejected) = (page.records.len(), page.rejects.records + page.rejects.values);
        let page = self.writer.normalize(page, cursor).await?;
        self.timings.normalize += fetched_at.elapsed();
        let normalized_at = Instant::now();
        self.records += page.records.len();
        let end = page.end_of_page();
        let open = self.writer.write(page).await?;
        if !open.is_empty() {
            self.settle(open, end).await?;
        }
        self.timings.apply += normalized_at.elapsed();
        self.timings.pages += 1;
        metrics::page_written(self.writer.job.provider().as_str(), records, rejected);
        self.analyze().await;
        Ok(())
    }

    /// Asks for what a page has left open, and then ends the page.
    async fn settle(&mut self, open: Vec<RecordKey>, end: NormalizedPage) -> Result<(), RunError> {
        let settler = ConflictSettler { session: &mut *self.session, writer: self.writer };
        let left = (settler.settle(open).await? > 0).then_some(CONFLICTS_LEFT);
        let end = NormalizedPage { is_partial: left.is_some(), notices: left.into_iter().collect(), ..end };
        self.writer.write(end).await?;
        Ok(())
    }

    /// Autovacuum would come a minute later: too late for the plans of a first copy. Not by pages:
    /// the first ones may be empty, while the CRM prepares the others, and statistics of an empty
    /// table are worse than none.
    async fn analyze(&mut self) {
        if self.writer.job.run.kind != SyncKind::Initial || self.records <= self.analyzed * ANALYZE_AGAIN_AFTER {
            return;
        }
        self.analyzed = self.records;
        if let Err(error) =
            store::schema::analyze_contacts(&self.writer.context.db, self.writer.job.lease().account_id).await
        {
            warn!(error = %chain(&error), "the tables' statistics were not refreshed; autovacuum will");
        }
    }
}
