//! The end of a sweep: the CRM has listed everything, and is asked for each record held here that did not come. Only what it confirms
//! to be gone ends; what it hides stays, and is told. Too many deletions at once wait for somebody's word.

use std::collections::HashSet;

use tracing::warn;

use super::{
    apply::NormalPage, normalize::NumberRules, rejected::SealedReject, run::RunError, session::Session, unread::Unread,
};
use crate::{
    crm::{LOOK_UP_MAX, Page, RecordSightings},
    domain::{
        notice::Notice,
        record::{ObjectType, RecordKey},
    },
    store::{
        run_progress::{Report, Swept},
        sweeps,
    },
};

/// The brake: a sweep that would end more than so many contacts ..
const BRAKE_ABOVE: i64 = 100;
/// .. and more than this share of those held, in percent, stops.
const BRAKE_ABOVE_PERCENT: i64 = 30;

/// Records asked for one by one that bring no answer, before the CRM as a whole is taken to be in trouble.
const UNANSWERED_MAX: usize = 3;

/// Whether so many deletions wait for somebody's word; `confirmed` have it already.
fn is_braked(deletions: i64, held: i64, confirmed: i64) -> bool {
    let unasked = deletions - confirmed;
    unasked > BRAKE_ABOVE && unasked.saturating_mul(100) > held.saturating_mul(BRAKE_ABOVE_PERCENT)
}

impl Session<'_> {
    /// Asks for what did not come, and ends the run. Of kinds of objects that were `left` nothing is known.
    pub(super) async fn sweep(
        &mut self,
        sweep_number: i64,
        left: &[ObjectType],
        rules: NumberRules,
    ) -> Result<(), RunError> {
        let claimed = &self.job.claimed;
        let copied = claimed.options.copied(claimed.organization.provider);
        let (mirrored, kept): (Vec<ObjectType>, Vec<ObjectType>) = copied
            .into_iter()
            .filter(|kind| !left.contains(kind))
            .partition(|kind| claimed.options.of(*kind).mirrors_deletions);
        self.report(&Report { phase: "asking for what did not come", error: None, estimated_total: None }).await?;

        let (db, lease) = (&self.syncing.db, claimed.lease);
        let counts = sweeps::count_missing(db, lease, sweep_number, &mirrored).await?;
        let deletions = counts.missing + counts.undeleted_leftovers;
        let is_held =
            is_braked(deletions, counts.live + counts.undeleted_leftovers, claimed.confirmed_deletions.unwrap_or(0));
        let mut notices = Vec::new();
        if is_held {
            warn!(integration.id = %lease.integration_id, deletions, held = counts.live, "a sweep would delete too many contacts, and waits for ConfirmDeletions");
            notices.push(Notice::new("DELETIONS_HELD", format!(
                "{deletions} of {} contacts did not come any more, and none was deleted; see in the CRM whether they are gone or only hidden from the integration's user, then ConfirmDeletions",
                counts.live + counts.undeleted_leftovers
            )));
        }
        let types = if is_held { kept } else { [mirrored.as_slice(), kept.as_slice()].concat() };
        let mut unread = Unread::default();
        let hidden = self.confirm(sweep_number, &types, rules, &mut unread).await?;
        notices.extend(unread.notices());
        if hidden > 0 {
            notices.push(Notice::new("RECORDS_HIDDEN", format!(
                "{hidden} records are kept though the CRM does not show them: its answer does not tell whether they are deleted or only hidden from the integration's user; use a user who sees everything"
            )));
        }
        if !is_held {
            self.end_undeleted_leftovers(&mirrored).await?;
        }
        let swept = Swept { held_deletions: is_held.then_some(deletions) };
        self.syncing.end_sweep(self.job, swept, !left.is_empty(), notices).await?;
        Ok(())
    }

    /// Batch by batch, each a transaction; whatever was asked for counts as seen, so that this comes to an end, and goes on after a
    /// crash where it was.
    async fn confirm(
        &mut self,
        sweep_number: i64,
        types: &[ObjectType],
        rules: NumberRules,
        unread: &mut Unread,
    ) -> Result<usize, RunError> {
        let lease = self.job.claimed.lease;
        let limit = i64::try_from(LOOK_UP_MAX).unwrap_or(i64::MAX);
        let (mut hidden, mut after) = (0, None);
        loop {
            let missing =
                sweeps::find_missing(&self.syncing.db, lease, sweep_number, types, after.as_ref(), limit).await?;
            let Some(last) = missing.last() else { return Ok(hidden) };
            after = Some(last.clone());
            let seen = self.look_up(&missing).await?;
            unread.add(&seen.rejects);
            let mut page = self.normal_page(page_of(seen, &missing), None, rules).await?;
            page.hidden = unanswered(&missing, &page);
            hidden += page.hidden.len();
            self.syncing.apply(self.job, page).await?;
            self.take_turns()?;
        }
    }

    /// Asks for records, and where that fails for each alone: one that the CRM cannot answer for is one that it does not show, and costs
    /// no other. Where it answers for none, the run fails.
    pub(super) async fn look_up(&mut self, keys: &[RecordKey]) -> Result<RecordSightings, RunError> {
        let error = match self.ask(keys, |client, keys| client.look_up(keys)).await {
            Err(RunError::Crm(error)) if error.is_local() && keys.len() > 1 => error,
            answer => return answer,
        };
        let (mut sightings, mut is_answered, mut unanswered) = (RecordSightings::default(), false, 0);
        for key in keys {
            match self.ask_optional(std::slice::from_ref(key), |client, one| client.look_up(one)).await? {
                Some(some) => {
                    is_answered = true;
                    sightings.absorb(some);
                }
                None => unanswered += 1,
            }
            if !is_answered && unanswered >= UNANSWERED_MAX {
                break;
            }
        }
        if is_answered { Ok(sightings) } else { Err(error.into()) }
    }

    /// Contacts whose records are known to be gone, from before deletions were mirrored.
    async fn end_undeleted_leftovers(&mut self, types: &[ObjectType]) -> Result<(), RunError> {
        let lease = self.job.claimed.lease;
        loop {
            let gone = sweeps::find_undeleted_leftovers(
                &self.syncing.db,
                lease.account_id,
                lease.integration_id,
                types,
                i64::try_from(LOOK_UP_MAX).unwrap_or(i64::MAX),
            )
            .await?;
            if gone.is_empty() {
                return Ok(());
            }
            let page = NormalPage { gone, ..NormalPage::default() };
            self.syncing.apply(self.job, page).await?;
        }
    }
}

/// What look-ups say of records as a page; nothing is gone that was not asked for.
pub(super) fn page_of(seen: RecordSightings, asked: &[RecordKey]) -> Page {
    let gone = seen.gone.into_iter().filter(|key| asked.contains(key)).collect();
    Page { records: seen.records, gone, rejects: seen.rejects, ..Page::default() }
}

/// What was asked for and not shown.
fn unanswered(asked: &[RecordKey], page: &NormalPage) -> Vec<RecordKey> {
    let rejected: HashSet<&RecordKey> = page.rejected.iter().filter_map(SealedReject::key).collect();
    let is_answered = |key: &RecordKey| {
        page.gone.contains(key) || rejected.contains(key) || page.records.iter().any(|record| record.key == *key)
    };
    asked.iter().filter(|key| !is_answered(key)).cloned().collect()
}
