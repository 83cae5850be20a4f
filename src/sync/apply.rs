//! One page, one transaction: records, adopted placeholders, resume point and, on the last page, the checkpoint; all under a live
//! lease. After the commit, the second look.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Syncing;
use crate::{
    domain::{ids::SyncRunId, record::NormalRecord, sync_run::SyncCounts},
    identity::{adoption, records},
    store::{
        StoreError, Tx, TxError,
        lease::{self, Lease},
    },
};

/// A page that is ready to be written.
pub(super) struct NormalPage {
    /// Each record once.
    pub records: Vec<NormalRecord>,
    /// Older or equal copies that the page held besides.
    pub repeats: usize,
    /// Rows that could not be understood.
    pub rejected: usize,
    /// Where the next page goes on.
    pub next: Option<String>,
    /// The end of the pass.
    pub is_last: bool,
    /// Every change until then is in this page or before.
    pub known_through: Option<DateTime<Utc>>,
}

/// Why a page was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// Somebody else has the run, or it was cancelled.
    #[error("the lease is lost")]
    LeaseLost,
    /// The database did not do it.
    #[error("a page could not be stored")]
    Store(#[from] StoreError),
}

impl TxError for ApplyError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict))
    }
}

impl Syncing {
    /// Writes a page and what it says of the run.
    pub(super) async fn apply(&self, lease: Lease, run_id: SyncRunId, page: NormalPage) -> Result<(), ApplyError> {
        let now = self.clock.now();
        let (page, ids) = (Arc::new(page), Arc::clone(&self.ids));
        let gained = self
            .db
            .transaction(move |tx| {
                let (page, ids) = (Arc::clone(&page), Arc::clone(&ids));
                Box::pin(async move {
                    if !lease::hold(tx, lease).await? {
                        return Err(ApplyError::LeaseLost);
                    }
                    let applied =
                        records::apply(tx, lease.account_id, lease.integration_id, &page.records, now, &ids).await?;
                    adoption::adopt(tx, lease.account_id, &applied.gained, now).await?;
                    write_progress(tx, lease, run_id, &page, applied.counts, now).await?;
                    Ok(applied.gained)
                })
            })
            .await?;
        adoption::look_again(&self.db, lease.account_id, gained, now).await?;
        Ok(())
    }
}

async fn write_progress(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    page: &NormalPage,
    counts: SyncCounts,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (repeats, rejected) = (count(page.repeats), count(page.rejected));
    let counts =
        SyncCounts { read: counts.read + repeats + rejected, skipped: counts.skipped + repeats, rejected, ..counts };
    lease::advance(tx, lease, run_id, page.next.as_deref(), counts, now).await?;
    if page.is_last {
        lease::complete(tx, lease, run_id, page.next.as_deref(), page.known_through, now).await?;
    }
    Ok(())
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
