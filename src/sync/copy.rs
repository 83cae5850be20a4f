//! The pages of one run: fetch, complete by what the CRM does not put in a page, normalise, apply.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tracing::warn;

use super::{
    Syncing,
    apply::{ApplyError, NormalPage},
    normalize::{NumberRules, normalize_page},
    rejected::RejectSealer,
    run::{Job, RunError},
    schedule,
    session::Session,
    unread::Unread,
};
use crate::{
    crm::{Answer, CrmClient, CrmError, GoneRecord, LOOK_UP_MAX, Page},
    domain::{
        notice::Notice,
        record::{Record, RecordKey},
        sync_run::SyncKind,
    },
    store::{self, departures},
    telemetry::chain,
};

/// A first copy refreshes the tables' statistics with its first records, and again when it has so many times more.
const ANALYZE_AGAIN_AFTER: usize = 10;
/// Places of one run that are remembered, to see a circle: 100,000 pages are 100 million users.
const PLACES_MAX: usize = 100_000;
/// Departed records of one page whose heirs are looked for, each by a search or two: whoever deletes more at once does not merge.
const HEIRLESS_MAX: usize = 50;
/// E-mail addresses of one departed record that are searched for.
const HEIR_SEARCHES_MAX: usize = 2;
/// Look-ups of a page that bring no answer, one after the other, before the others are left unasked.
const UNANSWERED_MAX: usize = 3;

const LOOK_UPS_LEFT: Notice = Notice::fixed(
    "LOOK_UPS_LEFT",
    "the CRM did not answer when it was asked who lives on in the place of records that are gone (merged ones, perhaps): what those have taken over is copied with their next change, or with the next full read",
);
/// How often a run may start its window again because the CRM refused its place.
const RESTARTS_MAX: usize = 2;

/// Where a run reads: its place, and the places that it has been to.
struct Reading {
    position: Option<String>,
    checkpoint: Option<String>,
    places: HashSet<String>,
    restarts: usize,
    is_from_nothing: bool,
}

impl Reading {
    fn of(job: &Job) -> Self {
        let checkpoint = job.claimed.checkpoint.clone().filter(|_| job.begun.kind == SyncKind::Incremental);
        let position = job.begun.resume_point.clone().or_else(|| checkpoint.clone());
        Self { position, checkpoint, places: HashSet::new(), restarts: 0, is_from_nothing: false }
    }

    /// The CRM refuses the place: from the checkpoint; and if that was what it refused, from the beginning.
    fn restart(&mut self) -> Result<(), RunError> {
        if self.restarts >= RESTARTS_MAX || self.position.is_none() {
            return Err(CrmError::PositionRefused.into());
        }
        self.restarts += 1;
        self.places.clear();
        self.position = self.checkpoint.clone().filter(|checkpoint| Some(checkpoint) != self.position.as_ref());
        self.is_from_nothing |= self.position.is_none();
        Ok(())
    }

    /// A CRM that leads in a circle would be read for ever.
    fn check(&mut self, page: &Page) -> Result<(), RunError> {
        if let Some(next) = page.next.as_ref().filter(|_| !page.is_last)
            && self.places.len() < PLACES_MAX
            && !self.places.insert(next.clone())
        {
            return Err(CrmError::Stuck.into());
        }
        Ok(())
    }
}

/// Where the time of a run's pages went.
#[derive(Default)]
pub(super) struct Spent {
    /// Pages that were applied.
    pub pages: u32,
    /// Records in them.
    pub records: usize,
    /// What could not be read.
    unread: Unread,
    /// Of these when the statistics were last refreshed.
    analyzed: usize,
    /// Until they were here, waits and repeated tries included.
    pub fetch: Duration,
    /// Reading their texts and numbers.
    pub normalize: Duration,
    /// Their transactions, and the second look after each.
    pub apply: Duration,
    /// The place where the last page ended.
    pub end: Option<String>,
}

/// The optional look-ups of one page. Where several in a row bring nothing, the CRM has other trouble, and the rest is left unasked.
#[derive(Default)]
struct Asking {
    unanswered: usize,
    /// Something was left.
    is_partial: bool,
}

impl Asking {
    async fn ask<A: ?Sized + Sync, T>(
        &mut self,
        session: &mut Session<'_>,
        argument: &A,
        request: impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> Answer<'c, T> + Sync,
    ) -> Result<Option<T>, RunError> {
        if self.unanswered >= UNANSWERED_MAX {
            return Ok(None);
        }
        let answer = session.ask_optional(argument, request).await?;
        self.unanswered = if answer.is_some() { 0 } else { self.unanswered + 1 };
        self.is_partial |= answer.is_none();
        Ok(answer)
    }
}

impl Session<'_> {
    /// Until the last page.
    pub(super) async fn copy_pages(&mut self, rules: NumberRules) -> Result<Spent, RunError> {
        let mut reading = Reading::of(self.job);
        let mut spent = Spent::default();
        loop {
            let asked_at = Instant::now();
            let mut page = match self.fetch_page(reading.position.as_ref()).await {
                Ok(page) => page,
                Err(RunError::Crm(CrmError::PositionRefused)) => {
                    reading.restart()?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            reading.check(&page)?;
            // What was deleted since the lost checkpoint shows in no list any more.
            page.needs_sweep |= reading.is_from_nothing && page.is_last && self.job.begun.kind == SyncKind::Incremental;
            self.complete(&mut page).await?;
            spent.unread.add(&page.rejects);
            if page.is_last {
                page.notices.extend(spent.unread.notices());
            }
            spent.fetch += asked_at.elapsed();
            let (next, is_last, wait) = (page.next.clone(), page.is_last, page.wait);
            let fetched_at = Instant::now();
            let page = self.normal_page(page, reading.position.take(), rules).await?;
            spent.normalize += fetched_at.elapsed();
            let normalized_at = Instant::now();
            spent.records += page.records.len();
            self.syncing.apply(self.job, page).await?;
            spent.apply += normalized_at.elapsed();
            spent.pages += 1;
            self.analyze(&mut spent).await;
            if is_last {
                spent.end = next;
                return Ok(spent);
            }
            reading.position = next;
            if let Some(wait) = wait {
                let phase = "waiting for the CRM to prepare the next page";
                self.pause(wait.min(schedule::WAIT_MAX), phase, None).await?;
            }
            self.take_turns()?;
        }
    }

    /// Adds what must be known together with a page: the records that its merged or converted ones live on in, and whoever may have
    /// taken in those that have gone, where the CRM does not say who that is.
    async fn complete(&mut self, page: &mut Page) -> Result<(), RunError> {
        let gone: Vec<&Record> = page.records.iter().filter(|record| record.is_gone).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let here: HashSet<&RecordKey> = page.records.iter().map(|record| &record.key).collect();
        let copied = self.job.claimed.options.copied(self.job.claimed.organization.provider);
        let mut wanted: Vec<RecordKey> = gone
            .iter()
            .filter_map(|record| record.successor.clone())
            .filter(|key| copied.contains(&key.object_type) && !here.contains(key))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let heirless: Vec<RecordKey> =
            gone.iter().filter(|record| record.successor.is_none()).map(|record| record.key.clone()).collect();
        let lease = self.job.claimed.lease;
        let db = &self.syncing.db;
        let wanted = departures::find_unknown(db, lease.account_id, lease.integration_id, &wanted).await?;
        let departing = departures::find_departing(db, lease.account_id, lease.integration_id, &heirless).await?;
        let emails = departing.into_iter().take(HEIRLESS_MAX).flat_map(|(key, emails)| {
            let one = move |email| GoneRecord { key: key.clone(), emails: vec![email] };
            emails.into_iter().take(HEIR_SEARCHES_MAX).map(one)
        });
        let mut asking = Asking::default();
        for keys in wanted.chunks(LOOK_UP_MAX) {
            let Some(seen) = asking.ask(self, keys, |client, keys| client.look_up(keys)).await? else { continue };
            page.records.extend(seen.records);
            page.rejects.absorb(seen.rejects);
        }
        // One address after the other: one that the CRM does not search for costs no other.
        for departed in emails.collect::<Vec<_>>() {
            let heirs =
                asking.ask(self, std::slice::from_ref(&departed), |client, one| client.find_merge_winners(one)).await?;
            let heirs = heirs.unwrap_or_default();
            page.records.extend(heirs.records);
            page.rejects.absorb(heirs.rejects);
        }
        if asking.is_partial {
            page.is_partial = true;
            page.notices.push(LOOK_UPS_LEFT);
        }
        Ok(())
    }

    /// Reads the numbers of a page, and seals what could not be read, off the threads that answer calls.
    pub(super) async fn normal_page(
        &self,
        page: Page,
        position: Option<String>,
        rules: NumberRules,
    ) -> Result<NormalPage, RunError> {
        let now = self.now();
        let Syncing { access_tokens, suppression_keys, .. } = self.syncing;
        let lease = self.job.claimed.lease;
        let suppression = suppression_keys.find_or_make(lease.account_id).await.map_err(ApplyError::from)?;
        let sealing = RejectSealer { vault: access_tokens.vault.clone(), suppression, lease };
        let (records, mut rejects) = (page.records, page.rejects);
        let kept = std::mem::take(&mut rejects.kept);
        let read = tokio::task::spawn_blocking(move || {
            let rejected: Vec<_> = kept.into_iter().map(|one| sealing.seal(one)).collect();
            (normalize_page(records, rules), rejected)
        });
        let ((records, repeats), rejected) =
            read.await.map_err(|_| CrmError::Unreadable("reading its records failed; see the log"))?;
        let mut gone = page.gone;
        gone.sort_unstable();
        gone.dedup();
        let shown: HashSet<&RecordKey> = records.iter().map(|record| &record.key).collect();
        gone.retain(|key| !shown.contains(key));
        Ok(NormalPage {
            records,
            gone,
            hidden: Vec::new(),
            repeats,
            rejects,
            rejected,
            rules: Some(rules),
            next: page.next.or(position),
            is_last: page.is_last,
            // A CRM whose clock is ahead must not promise what has not happened yet.
            known_through: page.known_through.map(|time: DateTime<Utc>| time.min(now)),
            notices: page.notices,
            needs_sweep: page.needs_sweep,
            is_partial: page.is_partial,
            is_incomplete: page.is_incomplete,
            records_per_minute: page.records_per_minute,
        })
    }

    /// Autovacuum would come a minute later: too late for the plans of a first copy. Not by pages: the first ones may be empty, while
    /// the CRM prepares the others, and statistics of an empty table are worse than none.
    async fn analyze(&self, spent: &mut Spent) {
        if self.job.begun.kind != SyncKind::Initial || spent.records <= spent.analyzed * ANALYZE_AGAIN_AFTER {
            return;
        }
        spent.analyzed = spent.records;
        if let Err(error) = store::schema::analyze_contacts(&self.syncing.db, self.job.claimed.lease.account_id).await {
            warn!(error = %chain(&error), "the tables' statistics were not refreshed; autovacuum will");
        }
    }
}
