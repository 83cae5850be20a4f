//! Tells the runs of this process that hints may be there: whoever writes some wakes the worker,
//! which looks, and rings.

use tokio::sync::watch;

/// Rings when hints may have come; the table is the truth.
#[derive(Debug, Default)]
pub struct HintBell(watch::Sender<u64>);

impl HintBell {
    /// Hints may be there.
    pub(super) fn ring(&self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// Hears what rings from now on.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
