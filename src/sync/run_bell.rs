//! Wakes the runs of this process that wait: hints may have come, or a call waits for their CRM.

use tokio::sync::watch;

/// Rings when there may be something to do; the table is the truth.
#[derive(Debug, Default)]
pub struct RunBell(watch::Sender<u64>);

impl RunBell {
    /// There may be something to do.
    pub(super) fn ring(&self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// Hears what rings from now on.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
