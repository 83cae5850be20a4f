//! The heartbeat of whoever holds a lease, of whichever kind.

use std::{future::Future, ops::ControlFlow, time::Instant};

use tokio::time::sleep;

use super::context::SyncSettings;
use crate::store::StoreError;

/// Extends a lease until that says to stop, and gives why; `None`: it may be lost by this machine's
/// own clock. A process that could not reach the database for a whole lease must not believe that
/// it still holds it.
pub(super) async fn keep<T, F>(settings: &SyncSettings, mut extend: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<ControlFlow<T>, StoreError>>,
{
    let mut held_until = Instant::now() + settings.lease;
    loop {
        sleep(settings.heartbeat).await;
        let asked_at = Instant::now();
        match extend().await {
            Ok(ControlFlow::Continue(())) => held_until = asked_at + settings.lease,
            Ok(ControlFlow::Break(why)) => return Some(why),
            Err(_) if Instant::now() + settings.heartbeat < held_until => {}
            Err(_) => return None,
        }
    }
}
