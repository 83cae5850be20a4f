//! Asks the CRM again for rejected records of which an operator wants it, before a run's first
//! page.

use std::collections::HashSet;

use super::{
    apply::PageWriter,
    conflicts::{CONFLICTS_LEFT, ConflictSettler},
    error::RunError,
    page::page_of,
    seal::SealedReject,
    session::CrmSession,
};
use crate::{
    crm::LOOK_UP_MAX,
    domain::{notice::Notice, record::RecordKey},
    store::{
        Transaction, Tx,
        lease::{self, Lease},
        rejected,
        run_progress::{self, PhaseReport},
    },
};

/// What became of the records that were asked for.
#[derive(Default)]
struct RetryCounts {
    asked: usize,
    mended: usize,
    gone: usize,
    rejected: usize,
    open: usize,
}

impl RetryCounts {
    fn notice(&self) -> Notice {
        let Self { asked, mended, gone, rejected, open: _ } = self;
        let rest = asked.saturating_sub(mended + gone + rejected);
        Notice::new(
            "REJECTED_RETRIED",
            format!(
                "{asked} rejected records were asked for again: {mended} are copied now, {gone} are gone, {rejected} still cannot be read, {rest} were not shown or not answered for"
            ),
        )
    }
}

/// Asks again for what was rejected.
pub(super) struct RejectedRetrier<'s, 'r> {
    pub session: &'s mut CrmSession<'r>,
    pub writer: PageWriter<'r>,
}

impl RejectedRetrier<'_, '_> {
    /// Batch by batch, each applied like a page. Each is asked for once, whatever comes of it, so
    /// that this comes to an end; what the CRM does not answer for costs nothing but itself.
    pub(super) async fn retry(mut self) -> Result<(), RunError> {
        let (context, job) = (self.writer.context, self.writer.job);
        let (lease, copied) = (job.lease(), job.copied_types());
        let limit = i64::try_from(LOOK_UP_MAX).unwrap_or(i64::MAX);
        let mut counts = RetryCounts::default();
        loop {
            let marked = rejected::find_retried(&context.db, lease, limit).await?;
            if marked.is_empty() {
                break;
            }
            if counts.asked == 0 {
                let report = PhaseReport { phase: "asking for rejected records", error: None, estimated_total: None };
                self.session.pacer.report(&report).await?;
            }
            let keys: Vec<RecordKey> = marked.iter().filter(|key| copied.contains(&key.object_type)).cloned().collect();
            if !keys.is_empty() {
                self.ask_again(&keys, &mut counts).await?;
            }
            context.db.of(lease.account_id).run(EndRetry { lease, keys: marked }).await?;
        }
        let asked = (counts.asked > 0).then(|| counts.notice());
        for notice in asked.into_iter().chain((counts.open > 0).then_some(CONFLICTS_LEFT)) {
            run_progress::notice(&context.db, lease, job.run.id, &notice, context.clock.now()).await?;
        }
        Ok(())
    }

    async fn ask_again(&mut self, keys: &[RecordKey], counts: &mut RetryCounts) -> Result<(), RunError> {
        counts.asked += keys.len();
        let seen = match self.session.look_up(keys).await {
            Err(RunError::Crm(error)) if error.is_local() => return Ok(()),
            seen => seen?,
        };
        let page = self.writer.normalize(page_of(seen, keys), None).await?;
        let unread: HashSet<&RecordKey> = page.rejected.iter().filter_map(SealedReject::key).collect();
        let shown = page.records.iter().filter(|record| keys.contains(&record.key) && !unread.contains(&record.key));
        let (here, gone): (Vec<_>, Vec<_>) = shown.partition(|record| !record.is_gone);
        counts.mended += here.len();
        counts.gone += gone.len() + page.gone.len();
        counts.rejected += keys.iter().filter(|key| unread.contains(key)).count();
        let open = self.writer.write(page).await?;
        counts.open += ConflictSettler { session: &mut *self.session, writer: self.writer }.settle(open).await?;
        Ok(())
    }
}

/// These have been asked for.
struct EndRetry {
    lease: Lease,
    keys: Vec<RecordKey>,
}

impl Transaction for EndRetry {
    const NAME: &'static str = "end_retry";
    type Output = ();
    type Error = RunError;

    async fn run(&self, tx: &mut Tx) -> Result<(), RunError> {
        if !lease::lock(tx, self.lease).await? {
            return Err(RunError::LeaseLost);
        }
        Ok(rejected::end_retry(tx, self.lease, &self.keys).await?)
    }
}
