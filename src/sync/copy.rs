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
    job::SyncJob,
    page::NormalizedPage,
    session::CrmSession,
    unread::UnreadSummary,
};
use crate::{
    crm::{CrmClient, CrmError, CrmFuture, GoneRecord, LOOK_UP_MAX, RecordPage},
    domain::{
        notice::Notice,
        record::{Record, RecordKey},
        sync_run::SyncKind,
    },
    store::{self, stored_records},
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
/// E-mail addresses of one gone record that are searched for.
const WINNER_SEARCHES_MAX: usize = 2;
/// Look-ups of a page that bring no answer, one after the other, before the others are left
/// unasked.
const UNANSWERED_MAX: usize = 3;
/// How often a run may start its window again because the CRM refused its cursor.
const RESTARTS_MAX: usize = 2;

const LOOK_UPS_LEFT: Notice = Notice::fixed(
    "LOOK_UPS_LEFT",
    "the CRM did not answer when it was asked who lives on in the place of records that are gone (merged ones, perhaps): what those have taken over is copied with their next change, or with the next full read",
);

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
    timings: PageTimings,
    /// What could not be read.
    unread: UnreadSummary,
    /// Records in the pages.
    records: usize,
    /// Of these when the statistics were last refreshed.
    analyzed: usize,
}

impl<'s, 'r> PageCopier<'s, 'r> {
    pub(super) fn new(session: &'s mut CrmSession<'r>, writer: PageWriter<'r>) -> Self {
        let (timings, unread) = (PageTimings::default(), UnreadSummary::default());
        Self { session, writer, timings, unread, records: 0, analyzed: 0 }
    }

    /// Until the last page.
    pub(super) async fn copy_pages(mut self) -> Result<PageTimings, RunError> {
        let mut cursor = PageCursor::of(self.writer.job);
        loop {
            let asked_at = Instant::now();
            let mut page = match self.session.fetch_page(cursor.position.as_ref()).await {
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
            self.add_successors(&mut page).await?;
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
                self.session.pacer.pause(wait.min(backoff::LONG_WAIT), phase, None).await?;
            }
            self.session.pacer.make_room()?;
        }
    }

    async fn store(&mut self, page: RecordPage, cursor: Option<String>) -> Result<(), RunError> {
        let fetched_at = Instant::now();
        let (records, rejected) = (page.records.len(), page.rejects.records + page.rejects.values);
        let page = self.writer.normalize(page, cursor).await?;
        self.timings.normalize += fetched_at.elapsed();
        let normalized_at = Instant::now();
        self.records += page.records.len();
        let end = page.end_of_list();
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

    /// Asks for what a page has left open, and ends the list if that was its last one.
    async fn settle(&mut self, open: Vec<RecordKey>, end: NormalizedPage) -> Result<(), RunError> {
        let settler = ConflictSettler { session: &mut *self.session, writer: self.writer };
        let left = (settler.settle(open).await? > 0).then_some(CONFLICTS_LEFT);
        if end.is_last || left.is_some() {
            let end = NormalizedPage { is_partial: left.is_some(), notices: left.into_iter().collect(), ..end };
            self.writer.write(end).await?;
        }
        Ok(())
    }

    /// Adds what must be known together with a page: the records that its merged or converted ones
    /// live on in, and whoever may have taken in those that have gone, where the CRM does not say
    /// who that is.
    async fn add_successors(&mut self, page: &mut RecordPage) -> Result<(), RunError> {
        let gone: Vec<&Record> = page.records.iter().filter(|record| record.is_gone).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let here: HashSet<&RecordKey> = page.records.iter().map(|record| &record.key).collect();
        let copied = self.writer.job.copied_types();
        let mut wanted: Vec<RecordKey> = gone
            .iter()
            .filter_map(|record| record.successor.clone())
            .filter(|key| copied.contains(&key.object_type) && !here.contains(key))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let winnerless: Vec<RecordKey> =
            gone.iter().filter(|record| record.successor.is_none()).map(|record| record.key.clone()).collect();
        let (db, lease) = (&self.writer.context.db, self.writer.job.lease());
        let wanted = stored_records::find_unknown(db, lease.account_id, lease.integration_id, &wanted).await?;
        let departing =
            stored_records::find_live_emails(db, lease.account_id, lease.integration_id, &winnerless).await?;
        let emails = departing.into_iter().take(WINNERLESS_MAX).flat_map(|(key, emails)| {
            let one = move |email| GoneRecord { key: key.clone(), emails: vec![email] };
            emails.into_iter().take(WINNER_SEARCHES_MAX).map(one)
        });
        let emails: Vec<GoneRecord> = emails.collect();
        let mut lookups = PageLookups { session: &mut *self.session, unanswered: 0, is_partial: false };
        for keys in wanted.chunks(LOOK_UP_MAX) {
            let Some(seen) = lookups.ask(keys, |client, keys| client.look_up(keys)).await? else { continue };
            page.records.extend(seen.records);
            page.rejects.absorb(seen.rejects);
        }
        // One address after the other: one that the CRM does not search for costs no other.
        for gone in emails {
            let one = std::slice::from_ref(&gone);
            let winners = lookups.ask(one, |client, one| client.find_merge_winners(one)).await?.unwrap_or_default();
            page.records.extend(winners.records);
            page.rejects.absorb(winners.rejects);
        }
        if lookups.is_partial {
            page.is_partial = true;
            page.notices.push(LOOK_UPS_LEFT);
        }
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

/// The optional look-ups of one page. Where several in a row bring nothing, the CRM has other
/// trouble, and the rest is left unasked.
struct PageLookups<'p, 'r> {
    session: &'p mut CrmSession<'r>,
    unanswered: usize,
    /// Something was left.
    is_partial: bool,
}

impl PageLookups<'_, '_> {
    async fn ask<A: ?Sized + Sync, T>(
        &mut self,
        argument: &A,
        request: impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> CrmFuture<'c, T> + Sync,
    ) -> Result<Option<T>, RunError> {
        if self.unanswered >= UNANSWERED_MAX {
            return Ok(None);
        }
        let answer = self.session.ask_optional(argument, request).await?;
        self.unanswered = if answer.is_some() { 0 } else { self.unanswered + 1 };
        self.is_partial |= answer.is_none();
        Ok(answer)
    }
}
