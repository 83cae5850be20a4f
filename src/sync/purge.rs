//! Removes what an integration copied, batch by batch under its lease: `DisableSync` with PURGE.

use super::Syncing;
use crate::store::{
    StoreError,
    lease::{self, Lease},
    purge,
};

impl Syncing {
    /// Until nothing is left, or the lease is lost.
    pub(super) async fn purge(&self, lease: Lease) -> Result<(), StoreError> {
        loop {
            let now = self.clock.now();
            let goes_on = self
                .db
                .transaction(move |tx| {
                    Box::pin(async move {
                        if !lease::hold_alone(tx, lease).await? {
                            return Ok(false);
                        }
                        if purge::remove_batch(tx, lease, now).await? > 0 {
                            return Ok(true);
                        }
                        purge::complete(tx, lease, now).await?;
                        Ok::<bool, StoreError>(false)
                    })
                })
                .await?;
            if !goes_on {
                return Ok(());
            }
        }
    }
}
