//! Copies contacts: a worker leases what is due, a run goes page by page, each page is one
//! transaction with its resume point. Whether a request is asked again is decided in `session`, how
//! long a run waits in `pacer`, how it ends in `run`, and what that makes of its integration in
//! `domain::integration_state`.
//!
//! Each file uses those above it in this list, and none below: `slots` `run_bell`
//! `aside_limits` `context` `job` `backoff` `heartbeat` `error` · `normalize` `unread`
//! `seal` `page` `rejected` · `pacer` `session` · `push_losses` `apply` · `conflicts`
//! `successors` `look_aside` · `hints` · `copy` `sweep` `retry` `purge` `push_upkeep` ·
//! `keep_lease` · `run` `hint_turn` · `worker`. Beside them: `streams`, `reparse`, and
//! what operators ask for, `control` and `trace`.

mod apply;
mod aside_limits;
mod backoff;
mod conflicts;
mod context;
mod control;
mod copy;
mod error;
mod heartbeat;
mod hint_turn;
mod hints;
mod job;
mod keep_lease;
mod look_aside;
mod normalize;
mod pacer;
mod page;
mod purge;
mod push_losses;
mod push_upkeep;
mod rejected;
mod reparse;
mod retry;
mod run;
mod run_bell;
mod seal;
mod session;
mod slots;
mod streams;
mod successors;
mod sweep;
mod trace;
mod unread;
mod worker;

pub use aside_limits::AsideLimits;
pub use context::{SyncContext, SyncSettings};
pub use control::{AskedRecord, RecordLook, RetriedRecords, SyncControl, TriggerError, TriggeredRun};
pub use look_aside::AsideRunner;
pub use reparse::NumberReparser;
pub use run_bell::RunBell;
pub use slots::SlotDemand;
pub use streams::StreamSupervisor;
pub use trace::{OpenedReject, RecordFate, RecordInspector, RecordTrace, RejectedPage};
pub use worker::SyncWorker;
