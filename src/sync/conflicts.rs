//! Asks the CRM for records of which copies came that cannot be put in order: one that may be from
//! before a deletion, an answer that is older than what is held. What the CRM answers to that is
//! applied like a page. Until that is done the run's resume point is where the page began, so that
//! a run that goes on after a crash meets the same copies again.

use std::time::Duration;

use super::{apply::PageWriter, error::RunError, pacer::RunPause, page::page_of, session::CrmSession};
use crate::{
    crm::LOOK_UP_MAX,
    domain::{notice::Notice, record::RecordKey},
    telemetry::metrics,
};

/// How often a run asks for such a record. An answer of the very second of the deletion, or of a
/// part of the CRM that is behind, says nothing, and the next one does. What stays without an
/// answer is found by reading everything again.
const TRIES_MAX: u32 = 3;
/// The longest wait between two tries: the run keeps its slot for it. One that gave its slot back
/// here would read the page again, and might never end.
const WAIT_MAX: Duration = Duration::from_secs(1);

pub(super) const CONFLICTS_LEFT: Notice = Notice::fixed(
    "CONFLICTS_LEFT",
    "copies of some records came that may be from before their deletion, and the CRM, asked for them, did not answer, or not with anything newer: they are left as they were; the next full read asks again",
);

/// Settles what a page has left open.
pub(super) struct ConflictSettler<'s, 'r> {
    pub session: &'s mut CrmSession<'r>,
    pub writer: PageWriter<'r>,
}

impl ConflictSettler<'_, '_> {
    /// Returns how many of these stay open.
    pub(super) async fn settle(self, keys: Vec<RecordKey>) -> Result<usize, RunError> {
        let mut open = keys;
        for attempt in 0..TRIES_MAX {
            if open.is_empty() {
                return Ok(0);
            }
            open.sort_unstable();
            open.dedup();
            metrics::records_asked_again(self.writer.job.provider().as_str(), open.len());
            if attempt > 0 {
                let wait = self.session.pacer.backoff(attempt).min(WAIT_MAX);
                let phase = "waiting to ask for records again";
                self.session.pacer.pause(RunPause { wait, phase, error: None }).await?;
            }
            let mut left = Vec::new();
            for some in open.chunks(LOOK_UP_MAX) {
                let Some(seen) = self.session.ask_optional(some, |client, keys| client.look_up(keys)).await? else {
                    left.extend_from_slice(some);
                    continue;
                };
                let page = self.writer.normalize(page_of(seen, some), None).await?;
                left.extend(self.writer.write(page).await?);
            }
            open = left;
        }
        Ok(open.len())
    }
}
