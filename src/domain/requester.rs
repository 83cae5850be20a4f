//! To whom a call was attributed, and why.

use strum::{EnumString, IntoStaticStr};

use super::record::RecordKey;

/// Why this record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum RequesterEvidence {
    /// It is the contact's own.
    SelectedContact,
    /// It is the only live one with the number.
    OnlyRecordWithNumber,
}

impl RequesterEvidence {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What an automation was told, as far as it decides whom a ticket belongs to: how fresh the copy
/// was is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequesterVerdict {
    /// This record.
    Resolved(RecordKey, RequesterEvidence),
    /// One of several.
    Ambiguous,
    /// None.
    Nobody,
}

impl RequesterVerdict {
    /// Whether the ticket belongs to the same record; another reason for it is no other verdict.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Resolved(one, _), Self::Resolved(two, _)) => one == two,
            (one, two) => one == two,
        }
    }

    /// As stored.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Resolved(..) => "RESOLVED",
            Self::Ambiguous => "AMBIGUOUS",
            Self::Nobody => "NONE",
        }
    }

    /// The record, if it is one.
    pub const fn record(&self) -> Option<&RecordKey> {
        match self {
            Self::Resolved(record, _) => Some(record),
            Self::Ambiguous | Self::Nobody => None,
        }
    }

    /// Why that record.
    pub const fn evidence(&self) -> Option<RequesterEvidence> {
        match self {
            Self::Resolved(_, evidence) => Some(*evidence),
            Self::Ambiguous | Self::Nobody => None,
        }
    }

    /// Puts the stored columns together; `None` if they contradict each other.
    pub fn of(outcome: &str, record: Option<RecordKey>, evidence: Option<RequesterEvidence>) -> Option<Self> {
        match (outcome, record, evidence) {
            ("RESOLVED", Some(record), Some(evidence)) => Some(Self::Resolved(record, evidence)),
            ("AMBIGUOUS", None, None) => Some(Self::Ambiguous),
            ("NONE", None, None) => Some(Self::Nobody),
            _ => None,
        }
    }
}
