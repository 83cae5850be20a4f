//! Where a run stands, as text that outlives the process: all that a run must remember is in it.
//! Invariant: what was not written by this version is refused, and the run starts again.

use chrono::{DateTime, Utc, serde::ts_seconds, serde::ts_seconds_option};
use serde::{Deserialize, Serialize};

use crate::crm::CrmError;

/// Of the notation; another one is refused.
const VERSION: u32 = 1;
/// The longest is one of 200 suspects, about 4 KiB.
const BYTES_MAX: usize = 8 * 1024;

/// Where a run stands. Times are of the CRM's clock, in whole seconds: Pipedrive refuses fractions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
pub(super) enum PipedrivePosition {
    /// A run is over: the next one is an increment.
    Checkpoint {
        /// Every change before this has been read.
        #[serde(with = "ts_seconds")]
        through: DateTime<Utc>,
    },
    /// Persons are being read, by id.
    Persons {
        /// Those changed since then; `None`: all.
        #[serde(with = "ts_seconds_option", default)]
        since: Option<DateTime<Utc>>,
        /// When the run's first answer was made: where the next run goes on.
        #[serde(with = "ts_seconds")]
        until: DateTime<Utc>,
        /// Pipedrive's, opaque; it holds for these parameters only.
        cursor: String,
    },
    /// Recent changes are being looked through for deletions.
    Recents {
        /// As of the persons.
        #[serde(with = "ts_seconds")]
        since: DateTime<Utc>,
        /// As of the persons.
        #[serde(with = "ts_seconds")]
        until: DateTime<Utc>,
        /// Changes looked through.
        start: u64,
        /// Ids of persons that may be deleted.
        suspects: Vec<u64>,
    },
    /// Persons that may be deleted are being asked for.
    Confirm {
        /// As of the persons.
        #[serde(with = "ts_seconds")]
        until: DateTime<Utc>,
        /// Ids that are still to be asked for.
        suspects: Vec<u64>,
    },
}

#[derive(Serialize, Deserialize)]
struct StoredPosition {
    v: u32,
    #[serde(flatten)]
    position: PipedrivePosition,
}

impl PipedrivePosition {
    /// Reads what [`Self::write`] has written.
    pub(super) fn read(text: &str) -> Result<Self, CrmError> {
        if text.len() > BYTES_MAX {
            return Err(CrmError::PositionRefused);
        }
        let stored: StoredPosition = serde_json::from_str(text).map_err(|_| CrmError::PositionRefused)?;
        if stored.v == VERSION { Ok(stored.position) } else { Err(CrmError::PositionRefused) }
    }

    /// As text.
    pub(super) fn write(self) -> String {
        serde_json::to_string(&StoredPosition { v: VERSION, position: self }).expect("numbers and text are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn position_is_read_as_it_was_written() {
        let suspects: Vec<u64> = (0..200).map(|place| u64::MAX - place).collect();
        for position in [
            PipedrivePosition::Checkpoint { through: at(1_767_348_300) },
            PipedrivePosition::Persons { since: None, until: at(2), cursor: "eyJmaWVsZCI6ImlkIn0=".to_owned() },
            PipedrivePosition::Persons { since: Some(at(1)), until: at(2), cursor: "c".to_owned() },
            PipedrivePosition::Recents { since: at(1), until: at(2), start: 500, suspects: suspects.clone() },
            PipedrivePosition::Confirm { until: at(2), suspects },
        ] {
            let text = position.clone().write();

            assert!(text.len() <= BYTES_MAX, "{}", text.len());
            assert_eq!(PipedrivePosition::read(&text).unwrap(), position, "{text}");
        }
    }

    #[test]
    fn checkpoint_keeps_its_notation() {
        let text = r#"{"v":1,"at":"checkpoint","through":1767348300}"#;

        assert_eq!(PipedrivePosition::Checkpoint { through: at(1_767_348_300) }.write(), text);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "null",
            "{}",
            "MTU3NjYxMzUzOS4wfHw0Njd8",
            r#"{"v":2,"at":"checkpoint","through":1767348300}"#,
            r#"{"v":1,"at":"checkpoint"}"#,
            r#"{"v":1,"at":"checkpoint","through":"yesterday"}"#,
            r#"{"v":1,"at":"checkpoint","through":9223372036854775807}"#,
            r#"{"v":1,"at":"elsewhere","through":1}"#,
            r#"{"v":1,"at":"persons","until":1}"#,
            &format!(r#"{{"v":1,"at":"persons","until":1,"cursor":"{}"}}"#, "x".repeat(BYTES_MAX)),
        ] {
            assert!(matches!(PipedrivePosition::read(text), Err(CrmError::PositionRefused)), "{text}");
        }
    }
}
