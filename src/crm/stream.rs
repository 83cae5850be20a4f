//! A stream of changes that this service opens to a CRM, in no vendor's words. What it tells is a
//! hint and never data.

use std::{pin::Pin, sync::Arc};

use chrono::{DateTime, Utc};
use futures_util::Stream;

use super::{CrmError, EventReach};
use crate::domain::{notice::Notice, record::ObjectType, stream::StreamPlace};

/// What the operator says of streams of changes.
#[derive(Debug, Clone, Default)]
pub struct StreamSettings {
    /// Where they are, if not at the vendor: `https`, a host and perhaps a port.
    pub url: Option<String>,
    /// PEM: who may have signed the certificate there, beside those that are known.
    pub ca: Option<Arc<str>>,
}

/// Which stream, and how it is asked for.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Changes of this kind of object.
    pub object: ObjectType,
    /// After the last change that was stored; `None`: what happens from now on.
    pub after: Option<StreamPlace>,
    /// Events that are asked for at once: 1 to 100.
    pub events_max: u16,
    /// Of the vendor's ports the so-manieth is tried, by turns.
    pub port_turn: usize,
}

/// Changes that came together.
#[derive(Debug)]
pub struct StreamBatch {
    /// What may have changed.
    pub reach: EventReach,
    /// After the last of them.
    pub place: StreamPlace,
    /// When the newest of them happened, by the CRM's clock.
    pub newest_event_at: Option<DateTime<Utc>>,
    /// What the events were.
    pub counts: EventCounts,
}

/// How many events were what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Of records that are copied.
    pub hinted: u64,
    /// Of fields that are not.
    pub untouched: u64,
    /// Of records of which the CRM could not say what was changed.
    pub gaps: u64,
    /// Of more records than the CRM tells.
    pub overflows: u64,
    /// Not understood.
    pub unreadable: u64,
    /// Of another kind of object.
    pub foreign: u64,
}

impl EventCounts {
    /// Each with its name, as metrics have it.
    pub const fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("hinted", self.hinted),
            ("untouched", self.untouched),
            ("gap", self.gaps),
            ("overflow", self.overflows),
            ("unreadable", self.unreadable),
            ("foreign", self.foreign),
        ]
    }
}

/// Ends with its first error; dropped, it ends the subscription. It asks for more only when it is
/// polled: poll it after the batch before is stored.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Result<StreamBatch, StreamFailure>> + Send>>;

/// What a look at a stream leads to.
pub type StreamFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StreamFailure>> + Send + 'a>>;

/// Why a stream has ended, or cannot be had.
#[derive(Debug)]
pub enum StreamFailure {
    /// Passes by itself: the connection, a silence, the vendor's trouble.
    Broke(CrmError),
    /// The token is over.
    Credentials,
    /// The place leads nowhere any more.
    PlaceRefused,
    /// The deliveries of the day are used up, or too many listen.
    QuotaSpent(Notice),
    /// More was asked for than can be sent at once.
    TooFast,
    /// Not for these credentials, or not in this edition: what is to be done.
    Closed(Notice),
    /// What this service sends is refused.
    Refused(Notice),
}

impl StreamFailure {
    /// One word of it, for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Broke(CrmError::TimedOut { .. }) => "silent",
            Self::Broke(_) => "broke",
            Self::Credentials => "credentials",
            Self::PlaceRefused => "place_refused",
            Self::QuotaSpent(_) => "quota",
            Self::TooFast => "too_fast",
            Self::Closed(_) => "closed",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<CrmError> for StreamFailure {
    fn from(error: CrmError) -> Self {
        match error {
            CrmError::CredentialsRefused => Self::Credentials,
            other => Self::Broke(other),
        }
    }
}
