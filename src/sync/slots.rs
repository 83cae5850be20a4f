//! Whether somebody waits for a slot of this process's workers. The worker says so; runs that only
//! wait, or have had their turn, hear it and make room.

use tokio::sync::watch;

/// Says whether due integrations find no free slot.
#[derive(Debug, Default)]
pub struct SlotDemand(watch::Sender<bool>);

impl SlotDemand {
    /// What the last look has found.
    pub(super) fn report(&self, is_waiting: bool) {
        self.0.send_if_modified(|was_waiting| std::mem::replace(was_waiting, is_waiting) != is_waiting);
    }

    /// Whether somebody waits now.
    pub(super) fn is_waiting_now(&self) -> bool {
        *self.0.borrow()
    }

    /// Until somebody waits.
    pub(super) async fn is_waiting(&self) {
        let mut reports = self.0.subscribe();
        // The sender lives in here: this cannot fail.
        let _ = reports.wait_for(|is_waiting| *is_waiting).await;
    }
}
