//! Asks the CRM again for rejected records of which an operator wishes it, before a run's first page.

use std::collections::HashSet;

use super::{normalize::NumberRules, rejected::SealedReject, run::RunError, session::Session, sweep};
use crate::{
    crm::LOOK_UP_MAX,
    domain::{notice::Notice, record::RecordKey},
    store::{
        StoreError, lease, rejected,
        run_progress::{self, Report},
    },
};

/// What became of the records that were asked for.
#[derive(Default)]
struct Tally {
    asked: usize,
    mended: usize,
    gone: usize,
    rejected: usize,
}

impl Tally {
    fn notice(&self) -> Notice {
        let Self { asked, mended, gone, rejected } = self;
        let rest = asked.saturating_sub(mended + gone + rejected);
        Notice::new(
            "REJECTED_RETRIED",
            format!(
                "{asked} rejected records were asked for again: {mended} are copied now, {gone} are gone, {rejected} still cannot be read, {rest} were not shown or not answered for"
            ),
        )
    }
}

impl Session<'_> {
    /// Batch by batch, each applied like a page. Each is asked for once, whatever comes of it, so that this comes to an end; what the CRM
    /// does not answer for costs nothing but itself.
    pub(super) async fn retry_rejected(&mut self, rules: NumberRules) -> Result<(), RunError> {
        let (lease, run_id) = (self.job.claimed.lease, self.job.begun.id);
        let copied = self.job.claimed.options.copied(self.job.claimed.organization.provider);
        let limit = i64::try_from(LOOK_UP_MAX).unwrap_or(i64::MAX);
        let mut tally = Tally::default();
        loop {
            let marked = rejected::find_retried(&self.syncing.db, lease, limit).await?;
            if marked.is_empty() {
                break;
            }
            if tally.asked == 0 {
                self.report(&Report { phase: "asking for rejected records", error: None, estimated_total: None })
                    .await?;
            }
            let keys: Vec<RecordKey> = marked.iter().filter(|key| copied.contains(&key.object_type)).cloned().collect();
            if !keys.is_empty() {
                self.ask_again(&keys, rules, &mut tally).await?;
            }
            self.end_retry(marked).await?;
        }
        if tally.asked > 0 {
            run_progress::notice(&self.syncing.db, lease, run_id, &tally.notice(), self.now()).await?;
        }
        Ok(())
    }

    async fn ask_again(&mut self, keys: &[RecordKey], rules: NumberRules, tally: &mut Tally) -> Result<(), RunError> {
        tally.asked += keys.len();
        let seen = match self.look_up(keys).await {
            Err(RunError::Crm(error)) if error.is_local() => return Ok(()),
            seen => seen?,
        };
        let page = self.normal_page(sweep::page_of(seen, keys), None, rules).await?;
        let unread: HashSet<&RecordKey> = page.rejected.iter().filter_map(SealedReject::key).collect();
        let shown = page.records.iter().filter(|record| keys.contains(&record.key) && !unread.contains(&record.key));
        let (here, gone): (Vec<_>, Vec<_>) = shown.partition(|record| !record.is_gone);
        tally.mended += here.len();
        tally.gone += gone.len() + page.gone.len();
        tally.rejected += keys.iter().filter(|key| unread.contains(key)).count();
        self.syncing.apply(self.job, page).await?;
        Ok(())
    }

    async fn end_retry(&self, keys: Vec<RecordKey>) -> Result<(), RunError> {
        let lease = self.job.claimed.lease;
        let is_held = self.syncing.db.transaction(move |tx| {
            let keys = keys.clone();
            Box::pin(async move {
                let is_held = lease::hold(tx, lease).await?;
                if is_held {
                    rejected::end_retry(tx, lease, &keys).await?;
                }
                Ok::<bool, StoreError>(is_held)
            })
        });
        if is_held.await? { Ok(()) } else { Err(RunError::LeaseLost) }
    }
}
