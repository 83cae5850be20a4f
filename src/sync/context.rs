//! What everything in here works with, made once by `app`.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, broadcast};
use tokio_util::task::TaskTracker;

use super::{aside_limits::AsideLimits, run_bell::RunBell, slots::SlotDemand};
use crate::{
    credentials::{AccessTokens, SuppressionKeys},
    crm::CrmClients,
    domain::{clock::Clock, ids::IdSource, look_aside::AskedAside, provider::PerProvider},
    store::Db,
};

/// Times and limits of the workers.
#[derive(Debug, Clone, Copy)]
pub struct SyncSettings {
    /// How long a lease lasts without a heartbeat, by the database's clock.
    pub lease: Duration,
    /// From heartbeat to heartbeat; at most a third of the lease.
    pub heartbeat: Duration,
    /// From look to look for what is due.
    pub poll: Duration,
    /// A run that has had its slot for so long gives it back between two pages, if somebody else
    /// needs it.
    pub turn: Duration,
    /// Runs at once in this process.
    pub runs_max: usize,
    /// Tries of one request before the run fails.
    pub attempts_max: u32,
    /// The first wait after a failure; doubles each time, up to a minute.
    pub backoff_base: Duration,
    /// A stream of changes that says nothing for so long is broken.
    pub stream_silence: Duration,
    /// From look to look for streams that nobody follows.
    pub stream_poll: Duration,
    /// From the end of a sweep of this provider to the next.
    pub sweep_every: PerProvider<Duration>,
}

/// What the workers work with.
pub struct SyncContext {
    /// The workers' own pool.
    pub db: Db,
    /// Opens credentials, and gets access by them.
    pub access_tokens: AccessTokens,
    /// The accounts' secrets, by which erased records are known.
    pub suppression_keys: SuppressionKeys,
    /// The CRMs.
    pub crms: CrmClients,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<IdSource>,
    /// Times and limits.
    pub settings: SyncSettings,
    /// Runs are tasks of this tracker.
    pub tasks: TaskTracker,
    /// Something may be due now; polling is the truth.
    pub wake: Arc<Notify>,
    /// A stream may be due to be followed now; polling is the truth.
    pub stream_wake: Notify,
    /// Where CRMs find this deployment, without a slash at the end; `None`: nowhere.
    pub push_base: Option<String>,
    /// Whether somebody waits for a slot.
    pub slot_demand: SlotDemand,
    /// Wakes runs that wait, for hints.
    pub hint_bell: RunBell,
    /// Wakes runs that wait, for a call that waits for their CRM.
    pub aside_bell: RunBell,
    /// How many looks aside fly at once, and which CRMs rest.
    pub aside_limits: AsideLimits,
    /// Wakes the calls of this process that wait for a look into a CRM which is over.
    pub aside_answered: broadcast::Sender<AskedAside>,
}

impl SyncContext {
    /// A look into a CRM is over.
    pub(super) fn tell_answered(&self, asked: AskedAside) {
        // Nobody may wait for it any more.
        let _ = self.aside_answered.send(asked);
    }
}
