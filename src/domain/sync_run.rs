//! One pass over an integration.

use chrono::{DateTime, TimeDelta, Utc};
use strum::{EnumString, IntoStaticStr};

use super::{
    ids::{IntegrationId, SyncRunId},
    notice::Notice,
};

const MINUTE_MS: i128 = 60_000;

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum SyncKind {
    /// Reads everything.
    Initial,
    /// Reads what changed since the checkpoint.
    Incremental,
    /// Reads everything, then asks for each record held here that did not come: what the CRM lists
    /// nowhere, such as deletions in Pipedrive, shows only so.
    Sweep,
}

impl SyncKind {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What a run does that nobody has asked for by its kind.
    pub const fn next(is_first_copy: bool, is_sweep_due: bool) -> Self {
        match (is_first_copy, is_sweep_due) {
            (true, _) => Self::Initial,
            (false, true) => Self::Sweep,
            (false, false) => Self::Incremental,
        }
    }

    /// Reads everything that the CRM has, not only what changed.
    pub const fn is_full(self) -> bool {
        matches!(self, Self::Initial | Self::Sweep)
    }
}

/// `QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED`; a crash leaves RUNNING, and another
/// worker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum SyncRunState {
    /// Waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// Complete.
    Succeeded,
    /// Given up.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl SyncRunState {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Nothing will change any more.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What a run has done with the records it read: `read` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Records that the CRM sent, repeats included.
    pub read: i64,
    /// First seen.
    pub created: i64,
    /// Changed here.
    pub updated: i64,
    /// Gone in the CRM, and so here.
    pub deleted: i64,
    /// Known already, or older than what is here.
    pub skipped: i64,
    /// Not understood.
    pub rejected: i64,
}

/// A run and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRun {
    /// Which.
    pub id: SyncRunId,
    /// Over which integration.
    pub integration_id: IntegrationId,
    /// What it does.
    pub kind: SyncKind,
    /// Where it is in its life.
    pub state: SyncRunState,
    /// What it is doing, in a word or two.
    pub phase: String,
    /// So far.
    pub counts: SyncCounts,
    /// About how many records it will read; 0: not known.
    pub estimated_total: i64,
    /// The most records that the CRM's limit lets it read in a minute; 0: not known.
    pub records_per_minute: i64,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When a worker first began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it failed, or the failure that it retries.
    pub error: Option<Notice>,
    /// What the run could not see or do, for whoever looks after the integration; empty: nothing.
    pub notices: Vec<Notice>,
    /// How often a worker took it up.
    pub attempt: i32,
}

impl SyncRun {
    /// About how long it will still take: at the rate so far, and no faster than the CRM's limit
    /// lets it.
    pub fn estimated_time_left(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let elapsed_ms = (now - self.started_at?).num_milliseconds();
        let left = self.estimated_total - self.counts.read;
        if self.state != SyncRunState::Running || self.counts.read == 0 || left <= 0 || elapsed_ms <= 0 {
            return None;
        }
        let at_this_rate_ms = i128::from(elapsed_ms) * i128::from(left) / i128::from(self.counts.read);
        let at_most_ms = match self.records_per_minute {
            0 => 0,
            limit => i128::from(left) * MINUTE_MS / i128::from(limit),
        };
        TimeDelta::try_milliseconds(i64::try_from(at_this_rate_ms.max(at_most_ms)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn copying(read: i64, records_per_minute: i64) -> SyncRun {
        SyncRun {
            id: SyncRunId(Uuid::nil()),
            integration_id: IntegrationId(Uuid::nil()),
            kind: SyncKind::Initial,
            state: SyncRunState::Running,
            phase: String::new(),
            counts: SyncCounts { read, ..SyncCounts::default() },
            estimated_total: 100_000,
            records_per_minute,
            created_at: at(0),
            started_at: Some(at(0)),
            finished_at: None,
            error: None,
            notices: Vec::new(),
            attempt: 1,
        }
    }

    /// A quick start does not promise more than the limit gives.
    #[test]
    fn quick_start_promises_within_rate_limit() {
        let left = |read, limit, seconds| copying(read, limit).estimated_time_left(at(seconds)).unwrap().num_seconds();

        assert_eq!(left(19_000, 19_000, 2), 81 * 60 / 19);
        assert_eq!(left(19_000, 0, 2), 8);
        assert_eq!(left(10_000, 19_000, 60), 540, "slower than the limit");
    }
}
