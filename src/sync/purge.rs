//! Removes what an integration copied, batch by batch under its lease: `DisableSync` with PURGE.

use chrono::{DateTime, Utc};

use super::context::SyncContext;
use crate::{
    identity,
    store::{
        StoreError, Transaction, Tx,
        lease::{self, Lease},
        purge,
    },
};

/// Until nothing is left, or the lease is lost.
pub(super) async fn purge(context: &SyncContext, lease: Lease) -> Result<(), StoreError> {
    loop {
        let work = PurgeBatch { lease, now: context.clock.now() };
        if !context.db.of(lease.account_id).run(work).await? {
            return Ok(());
        }
    }
}

/// One batch, or the end. Gives whether it goes on.
struct PurgeBatch {
    lease: Lease,
    now: DateTime<Utc>,
}

impl Transaction for PurgeBatch {
    const NAME: &'static str = "purge_batch";
    type Output = bool;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        if !lease::lock_alone(tx, self.lease).await? {
            return Ok(false);
        }
        if identity::purge::remove_batch(tx, self.lease.account_id, self.lease.integration_id, self.now).await? > 0 {
            return Ok(true);
        }
        purge::complete(tx, self.lease, self.now).await?;
        Ok(false)
    }
}
