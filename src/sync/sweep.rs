//! The end of a sweep: the CRM has listed everything, and is asked for each record held here that
//! did not come. Only what it confirms to be gone ends; what it hides stays, and is noted in the
//! run. Too many deletions at once wait for somebody's word.

use tracing::warn;

use super::{
    apply::PageWriter,
    conflicts::{CONFLICTS_LEFT, ConflictSettler},
    error::RunError,
    hints::HintDrainer,
    page::{NormalizedPage, page_of},
    session::CrmSession,
    unread::UnreadSummary,
};
use crate::{
    crm::LOOK_UP_MAX,
    domain::{
        integration_state::SweepOutcome,
        notice::Notice,
        record::{AbsentRecord, ObjectType},
    },
    store::{
        run_progress::PhaseReport,
        sweeps::{self, MissingCounts},
    },
};

/// The brake: a sweep that would end more than so many contacts ..
const BRAKE_ABOVE: i64 = 100;
/// .. and more than this share of those held, in percent, stops.
const BRAKE_ABOVE_PERCENT: i64 = 30;

/// Whether so many deletions wait for somebody's word; `confirmed` have it already.
fn is_braked(deletions: i64, held: i64, confirmed: i64) -> bool {
    let unasked = deletions - confirmed;
    unasked > BRAKE_ABOVE && unasked.saturating_mul(100) > held.saturating_mul(BRAKE_ABOVE_PERCENT)
}

/// What a sweep has asked for, and could not end or keep by the answer.
#[derive(Default)]
struct ConfirmCounts {
    /// The CRM does not show these.
    hidden: usize,
    /// Its answer cannot be put in order with what is held.
    open: usize,
}

/// Asks for what did not come, and ends the run.
pub(super) struct Sweeper<'s, 'r> {
    pub session: &'s mut CrmSession<'r>,
    pub writer: PageWriter<'r>,
    pub hints: &'s mut HintDrainer<'r>,
    pub sweep_number: i64,
}

impl Sweeper<'_, '_> {
    /// Of kinds of objects that were `left` nothing is known.
    pub(super) async fn sweep(mut self, left: &[ObjectType]) -> Result<(), RunError> {
        let claimed = &self.writer.job.claimed;
        let (mirrored, kept): (Vec<ObjectType>, Vec<ObjectType>) = self
            .writer
            .job
            .copied_types()
            .into_iter()
            .filter(|kind| !left.contains(kind))
            .partition(|kind| claimed.options.of(*kind).mirrors_deletions);
        let report = PhaseReport { phase: "asking for what did not come", error: None, estimated_total: None };
        self.session.pacer.report(&report).await?;

        let counts =
            sweeps::count_missing(&self.writer.context.db, claimed.lease, self.sweep_number, &mirrored).await?;
        let MissingCounts { live, missing, undeleted_leftovers } = counts;
        let (deletions, held) = (missing + undeleted_leftovers, live + undeleted_leftovers);
        let is_held = is_braked(deletions, held, claimed.confirmed_deletions.unwrap_or(0));
        let mut notices = Vec::new();
        if is_held {
            warn!(deletions, held = live, "a sweep would delete too many contacts, and waits for ConfirmDeletions");
            notices.push(Notice::new("DELETIONS_HELD", format!(
                "{deletions} of {held} contacts did not come any more, and none was deleted; see in the CRM whether they are gone or only hidden from the integration's user, then ConfirmDeletions"
            )));
        }
        let types = if is_held { kept } else { [mirrored.as_slice(), kept.as_slice()].concat() };
        let mut unread = UnreadSummary::default();
        let ConfirmCounts { hidden, open } = self.confirm(&types, &mut unread).await?;
        notices.extend(unread.notices());
        notices.extend((open > 0).then_some(CONFLICTS_LEFT));
        if hidden > 0 {
            notices.push(Notice::new("RECORDS_HIDDEN", format!(
                "{hidden} records are kept though the CRM does not show them: its answer does not tell whether they are deleted or only hidden from the integration's user; use a user who sees everything"
            )));
        }
        if !is_held {
            self.end_undeleted_leftovers(&mirrored).await?;
        }
        let outcome = SweepOutcome { held_deletions: is_held.then_some(deletions) };
        self.writer.end_sweep(outcome, !left.is_empty(), notices).await
    }

    /// Batch by batch, each a transaction; whatever was asked for counts as seen, so that this
    /// comes to an end, and goes on after a crash where it was.
    async fn confirm(&mut self, types: &[ObjectType], unread: &mut UnreadSummary) -> Result<ConfirmCounts, RunError> {
        let (db, lease) = (&self.writer.context.db, self.writer.job.lease());
        let limit = i64::try_from(LOOK_UP_MAX).unwrap_or(i64::MAX);
        let (mut counts, mut after) = (ConfirmCounts::default(), None);
        loop {
            let missing = sweeps::find_missing(db, lease, self.sweep_number, types, after.as_ref(), limit).await?;
            let Some(last) = missing.last() else { return Ok(counts) };
            after = Some(last.clone());
            let seen = self.session.look_up(&missing).await?;
            unread.add(&seen.rejects);
            let mut page = self.writer.normalize(page_of(seen, &missing), None).await?;
            page.hidden = page.unanswered(&missing);
            counts.hidden += page.hidden.len();
            let open = self.writer.write(page).await?;
            let settler = ConflictSettler { session: &mut *self.session, writer: self.writer };
            counts.open += settler.settle(open).await?;
            self.hints.drain_between(self.session).await?;
            self.session.pacer.make_room()?;
        }
    }

    /// Contacts whose records are known to be gone, from before deletions were mirrored.
    async fn end_undeleted_leftovers(&self, types: &[ObjectType]) -> Result<(), RunError> {
        let (db, lease) = (&self.writer.context.db, self.writer.job.lease());
        let limit = i64::try_from(LOOK_UP_MAX).unwrap_or(i64::MAX);
        loop {
            let gone =
                sweeps::find_undeleted_leftovers(db, lease.account_id, lease.integration_id, types, limit).await?;
            if gone.is_empty() {
                return Ok(());
            }
            let gone = gone.into_iter().map(|key| AbsentRecord { key, seen_at: None, successor: None }).collect();
            self.writer.write(NormalizedPage { gone, ..NormalizedPage::default() }).await?;
        }
    }
}
