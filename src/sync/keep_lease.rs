//! The heartbeat of whoever works under an integration's lease.

use std::ops::ControlFlow;

use super::{context::SyncContext, heartbeat};
use crate::store::lease::{self, Lease};

/// Extends the lease until it is lost.
pub(super) async fn keep_lease(context: &SyncContext, lease: Lease) {
    let extend = || async {
        let is_held = lease::extend(&context.db, lease, context.settings.lease).await?;
        Ok(if is_held { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    };
    heartbeat::keep(&context.settings, extend).await;
}
