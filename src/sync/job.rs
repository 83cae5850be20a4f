//! A run and the right to write for it: the ground on which everything stands that works for a run.

use crate::{
    domain::{ids::SyncRunId, provider::Provider, record::ObjectType, sync_run::SyncKind},
    store::{
        lease::{ClaimedIntegration, Lease},
        run_progress::StartedRun,
    },
};

/// A run and the right to write for it.
pub(super) struct SyncJob {
    pub claimed: ClaimedIntegration,
    pub run: StartedRun,
    /// Of the sweep that this run is, or goes on with.
    pub sweep_number: Option<i64>,
    /// It only asks for a few records that may have changed: there is no run to report of, and
    /// nothing of the next one is moved.
    pub is_brief: bool,
}

/// What a page's transaction must know of its run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunContext {
    pub lease: Lease,
    pub run_id: SyncRunId,
    pub kind: SyncKind,
    pub sweep_number: Option<i64>,
}

impl SyncJob {
    /// Asks for a few records. `id` names what cannot be read: there is no run.
    pub(super) fn brief(claimed: ClaimedIntegration, id: SyncRunId) -> Self {
        let run = StartedRun {
            id,
            kind: SyncKind::Incremental,
            resume_point: None,
            attempt: 1,
            stalled_attempts: 0,
            is_listed: false,
        };
        // A sweep that waits to be gone on with need not ask for them again.
        let sweep_number = Some(claimed.sweep_number).filter(|number| *number > 0);
        Self { claimed, run, sweep_number, is_brief: true }
    }

    pub(super) const fn lease(&self) -> Lease {
        self.claimed.lease
    }

    pub(super) const fn context(&self) -> RunContext {
        RunContext {
            lease: self.claimed.lease,
            run_id: self.run.id,
            kind: self.run.kind,
            sweep_number: self.sweep_number,
        }
    }

    pub(super) const fn provider(&self) -> Provider {
        self.claimed.organization.provider
    }

    /// The kinds of objects that it copies.
    pub(super) fn copied_types(&self) -> Vec<ObjectType> {
        self.claimed.options.copied(self.claimed.organization.provider)
    }
}
