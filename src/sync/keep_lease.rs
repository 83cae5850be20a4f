//! The heartbeat of whoever holds a lease.

use std::time::Instant;

use tokio::time::sleep;

use super::context::SyncContext;
use crate::store::lease::{self, Lease};

/// Extends the lease until it is lost. Also gives up by this machine's own clock: a process that
/// could not reach the database for a whole lease must not believe that it still holds it.
pub(super) async fn keep_lease(context: &SyncContext, lease: Lease) {
    let settings = &context.settings;
    let margin = settings.heartbeat;
    let mut held_until = Instant::now() + settings.lease;
    loop {
        sleep(settings.heartbeat).await;
        let asked_at = Instant::now();
        match lease::extend(&context.db, lease, settings.lease).await {
            Ok(true) => held_until = asked_at + settings.lease,
            Err(_) if Instant::now() + margin < held_until => {}
            Ok(false) | Err(_) => return,
        }
    }
}
