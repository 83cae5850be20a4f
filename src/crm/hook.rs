//! Webhooks, in no vendor's words: what a delivery says, how a hook is wished, and what a look at
//! it finds. What a delivery holds is a hint and never data.

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use reqwest::header::HeaderMap;

use super::times;
use crate::domain::{hook::HookSecret, notice::Notice, record::RecordKey};

/// A request that claims to come from a CRM. Its body may hold numbers and names: never logged.
#[derive(Clone, Copy)]
pub struct HookDelivery<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, exactly as it came.
    pub body: &'a [u8],
}

/// Why a delivery is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookRefusal {
    /// It does not show the secret, or is too old.
    Unsigned,
    /// It is the CRM's, and says nothing that is known.
    Unreadable,
}

/// What a delivery says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookMessage {
    /// When it happened, by the CRM's clock, if it says so.
    pub event_at: Option<DateTime<Utc>>,
    /// What may have changed.
    pub reach: EventReach,
}

/// What an event may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventReach {
    /// Nothing that is copied.
    Nothing,
    /// These records; a dozen at most.
    Records(Vec<TouchedRecord>),
    /// Any record.
    Everything,
}

/// A record that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TouchedRecord {
    /// Which.
    pub key: RecordKey,
    /// What it was merged into, as the event says.
    pub successor: Option<RecordKey>,
    /// The update time that the record has at least, as the event says: an answer of the CRM's that
    /// is older came from a copy that lags.
    pub updated_at: Option<DateTime<Utc>>,
}

impl TouchedRecord {
    /// And no more is known.
    pub(super) const fn of(key: RecordKey) -> Self {
        Self { key, successor: None, updated_at: None }
    }

    /// As an event has its update time. What is below a second other answers may not have.
    pub(super) fn updated(self, text: Option<&str>) -> Self {
        let updated_at = text.and_then(times::parse).map(|at| at.trunc_subsecs(0));
        Self { updated_at, ..self }
    }
}

/// A vendor's form of webhooks.
pub(super) struct HookRules {
    /// Whether a delivery shows this secret.
    pub(super) verify: fn(&HookDelivery<'_>, &HookSecret, DateTime<Utc>) -> bool,
    /// Reads a body that is the vendor's; `None`: it is not what the vendor documents.
    pub(super) read: fn(&[u8]) -> Option<HookMessage>,
    /// From look to look at a hook, while all is well.
    pub(super) check_every: TimeDelta,
    /// Whether a token with this word among its scopes may make hooks. In doubt it may, and the CRM
    /// says.
    pub(super) is_enough: fn(&str) -> bool,
    /// What is said if it may not.
    pub(super) scope_missing: Notice,
    /// We choose what events show; else the CRM does, once it has the hook.
    pub(super) secret_is_ours: bool,
}

/// How an integration's hook is to be.
#[derive(Debug, Clone)]
pub struct HookWish {
    /// By it the hook is found again; of this deployment and integration alone.
    pub name: String,
    /// Where events go.
    pub url: String,
    /// The CRM's id of the hook, if it was made before.
    pub hook_id: Option<String>,
    /// What events are to show, where that is ours to choose.
    pub secret: HookSecret,
    /// Since when failed deliveries are to be counted: the end of the last count; `None`: not at
    /// all.
    pub since: Option<DateTime<Utc>>,
    /// Until when: this look.
    pub until: DateTime<Utc>,
    /// Whatever is there is removed first: it has fallen silent.
    pub anew: bool,
}

/// What a look at a hook has found, and made of it.
#[derive(Debug, Clone)]
pub struct HookStanding {
    /// The CRM's id of it.
    pub hook_id: String,
    /// What events show, where the CRM chooses it.
    pub secret: Option<HookSecret>,
    /// It was made before, and was gone or not as wished: events may be lost.
    pub was_mended: bool,
    /// Events that were not delivered in the time that was asked for; `None`: the CRM did not say,
    /// and may do so later.
    pub lost: Option<u32>,
    /// Some events do not come, or did not.
    pub trouble: Option<Notice>,
}

/// How a CRM answers to a wish: the hook stands, or it cannot be had, and why.
pub type KeptHook = Result<HookStanding, Notice>;
