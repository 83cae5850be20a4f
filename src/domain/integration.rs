//! An account's link to one CRM organisation, and what its state means.

use chrono::{DateTime, TimeDelta, Utc};
use strum::{EnumString, IntoStaticStr};
use thiserror::Error;

use super::{
    hook::{PushState, PushStatus},
    ids::IntegrationId,
    notice::Notice,
    options::{Options, PushWish},
    provider::Provider,
};

/// An integration is stale when this many periods have passed without a complete run.
pub const STALE_PERIODS: i32 = 3;

/// One organisation within a provider: what makes two integrations the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its CRM.
    pub provider: Provider,
    /// The label before the vendor's domain, or its id, in the one form that the vendor's rule
    /// gives it.
    pub name: String,
}

/// Why this cannot name an organisation.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidOrganization(&'static str);

impl InvalidOrganization {
    /// What such a name must be.
    pub const fn must_be(words: &'static str) -> Self {
        Self(words)
    }
}

/// How an integration is doing, as answers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrationState {
    /// Its first copy has not begun.
    Pending,
    /// Its first copy is under way.
    InitialSync,
    /// Copied, and refreshed on time.
    Active,
    /// Three periods without a complete run.
    Stale,
    /// Stopped after repeated failures.
    Paused,
    /// Waits for the CRM's quota.
    QuotaPaused,
    /// The CRM refuses the credentials.
    AuthFailed,
    /// Nothing is copied.
    Off,
}

/// Why runs are not started as they would be although sync is on. `PAUSED` and `AUTH_FAILED` are
/// looked at by a run every hour. Set by `ControlState::after_failure`, ended by a run that
/// succeeds and by whatever an administrator mends (`ControlState::without_hold`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum SyncHold {
    /// Repeated failures without progress.
    Paused,
    /// The CRM's daily limit.
    QuotaPaused,
    /// The credentials are refused.
    AuthFailed,
}

impl SyncHold {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What an answer needs to know of an integration: read in the same statement as the match, so that
/// "complete" is never older or newer than the contacts it speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as stored")]
pub struct Freshness {
    /// Which.
    pub integration_id: IntegrationId,
    /// Its CRM.
    pub provider: Provider,
    /// False after `DisableSync`.
    pub is_enabled: bool,
    /// Copies contacts.
    pub is_sync_on: bool,
    /// Why it does not at present.
    pub hold: Option<SyncHold>,
    /// When its first run first began.
    pub first_started_at: Option<DateTime<Utc>>,
    /// When its last complete run ended.
    pub last_completed_at: Option<DateTime<Utc>>,
    /// Every change that the CRM made until then is here.
    pub known_through: Option<DateTime<Utc>>,
    /// From the end of a run to the next, in seconds.
    pub period_seconds: i32,
    /// More is to be copied than before, and has not been yet.
    pub is_widened: bool,
    /// Records or numbers could not be read, and have not come whole since.
    pub has_unread: bool,
    /// The CRM is to push its changes.
    pub is_push_wished: bool,
    /// Whether it does, as was seen last; `None`: nothing was set up.
    pub push: Option<PushSight>,
}

/// How a CRM was last seen to push an integration's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushSight {
    /// What was found.
    pub state: PushState,
    /// When; `None`: nobody has looked yet.
    pub checked_at: Option<DateTime<Utc>>,
}

/// What an active hook or stream becomes that nobody has looked at for longer: a run looks every
/// six hours, and begins at least once a day.
const PUSH_DOUBTFUL_AFTER: TimeDelta = TimeDelta::hours(31);

impl Freshness {
    /// The state at this moment. Off wins over everything, then a hold, then age:
    ///
    /// ```text
    /// PENDING -> INITIAL_SYNC -> ACTIVE <-> STALE
    /// any <-> PAUSED, QUOTA_PAUSED, AUTH_FAILED; any <-> OFF
    /// ```
    pub fn state(&self, now: DateTime<Utc>) -> IntegrationState {
        if !self.is_enabled || !self.is_sync_on {
            return IntegrationState::Off;
        }
        let period = TimeDelta::seconds(i64::from(self.period_seconds));
        match (self.hold, self.last_completed_at) {
            (Some(SyncHold::Paused), _) => IntegrationState::Paused,
            (Some(SyncHold::QuotaPaused), _) => IntegrationState::QuotaPaused,
            (Some(SyncHold::AuthFailed), _) => IntegrationState::AuthFailed,
            (None, Some(completed)) if now - completed > period * STALE_PERIODS => IntegrationState::Stale,
            // From the future: a clock was ahead, and nothing is known of how old the copy is.
            (None, Some(completed)) if completed - now > period => IntegrationState::Stale,
            (None, Some(_)) if self.is_widened => IntegrationState::InitialSync,
            (None, Some(_)) => IntegrationState::Active,
            (None, None) if self.first_started_at.is_some() => IntegrationState::InitialSync,
            (None, None) => IntegrationState::Pending,
        }
    }

    /// Whether pushed changes arrive now; `None`: they do not, and are not wished to. Whatever the
    /// CRM pushes by.
    pub fn push_state(&self, now: DateTime<Utc>) -> Option<PushState> {
        let is_wished = self.is_enabled && self.is_sync_on && self.is_push_wished;
        let push = self.push.filter(|_| is_wished)?;
        let is_doubtful = push.checked_at.is_some_and(|checked_at| now - checked_at > PUSH_DOUBTFUL_AFTER)
            || self.hold == Some(SyncHold::AuthFailed);
        Some(if push.state == PushState::Active && is_doubtful { PushState::Degraded } else { push.state })
    }

    /// What this means for an answer, for an agent or an automation's log; empty when there is
    /// nothing to say.
    pub fn note(&self, now: DateTime<Utc>) -> &'static str {
        match self.state(now) {
            IntegrationState::Active if self.has_unread => {
                "some records or numbers of this CRM could not be read: whoever calls from them is not known here; see ListRejectedRecords"
            }
            state => state.note(),
        }
    }
}

/// Whether "nobody" means nobody: every integration that is not off is active, and everything in it
/// could be read.
pub fn is_complete(sources: &[Freshness], now: DateTime<Utc>) -> bool {
    sources.iter().all(|source| match source.state(now) {
        IntegrationState::Off => true,
        IntegrationState::Active => !source.has_unread,
        _ => false,
    })
}

impl IntegrationState {
    const fn note(self) -> &'static str {
        match self {
            Self::Active => "",
            Self::Pending => "the first copy of this CRM has not begun: callers known there may be unknown here",
            Self::InitialSync => {
                "the first copy of this CRM is under way: callers known there may not be known here yet"
            }
            Self::Stale => {
                "the last complete run is more than three periods old: recent changes in the CRM may be missing"
            }
            Self::Paused => {
                "sync is paused after repeated failures: recent changes in the CRM are missing; see GetIntegration, then TriggerSync"
            }
            Self::QuotaPaused => "sync waits for the CRM's request quota: recent changes in the CRM are missing",
            Self::AuthFailed => {
                "the CRM refuses the stored credentials: recent changes are missing until its administrator mends that, or UpdateSync brings new ones"
            }
            Self::Off => {
                "sync is off: this CRM's contacts are not copied or refreshed, so its callers are named, and tickets attributed, only for records that were copied before, clicked or reported"
            }
        }
    }
}

/// An integration as operators and administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Integration {
    /// State and age.
    pub freshness: Freshness,
    /// The CRM's organisation.
    pub organization: String,
    /// Copied data is being removed.
    pub is_purging: bool,
    /// Why it is held.
    pub hold_notice: Option<Notice>,
    /// When the next run may start.
    pub due_at: Option<DateTime<Utc>>,
    /// The run that is queued or running.
    pub current_sync_run_id: Option<super::ids::SyncRunId>,
    /// Credentials are stored.
    pub has_credentials: bool,
    /// What is copied and mirrored.
    pub options: Options,
    /// Deletions that the last sweep did not make because they were too many.
    pub held_deletions: Option<i64>,
    /// When the next sweep is due.
    pub sweep_due_at: Option<DateTime<Utc>>,
    /// When it was first enabled.
    pub created_at: DateTime<Utc>,
    /// How pushed changes arrive, as was stored last; `None`: nothing was set up.
    pub push: Option<PushStatus>,
}

const PUSH_NOT_CHECKED: Notice = Notice::fixed(
    "PUSH_NOT_CHECKED",
    "nobody has looked for a day whether changes are pushed, since runs do not come or the CRM refuses them: see the state",
);

const PUSH_UNASKED: Notice = Notice::fixed(
    "PUSH_UNASKED",
    "this integration is older than pushed changes, and polled as before: authorize it again (`sync authorize --integration`), or, if its credentials allow what the CRM's page asks for, switch them on (`sync options --push on`)",
);

impl Integration {
    /// What is said where nothing is pushed although nobody has decided so.
    pub fn push_unasked(&self) -> Option<Notice> {
        let is_copied = self.freshness.is_enabled && self.freshness.is_sync_on;
        (is_copied && self.options.push == PushWish::Unasked).then_some(PUSH_UNASKED)
    }

    /// How pushed changes arrive now; `None`: they do not, and are not wished to.
    pub fn push_now(&self, now: DateTime<Utc>) -> Option<PushStatus> {
        let state = self.freshness.push_state(now)?;
        let push = self.push.clone()?;
        if state == push.state {
            return Some(push);
        }
        Some(PushStatus { state, notice: Some(PUSH_NOT_CHECKED), ..push })
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(minute * 60, 0).unwrap()
    }

    fn fresh() -> Freshness {
        Freshness {
            integration_id: IntegrationId(Uuid::nil()),
            provider: Provider::Zendesk,
            is_enabled: true,
            is_sync_on: true,
            hold: None,
            first_started_at: Some(at(0)),
            last_completed_at: Some(at(10)),
            known_through: Some(at(9)),
            period_seconds: 1800,
            is_widened: false,
            has_unread: false,
            is_push_wished: true,
            push: None,
        }
    }

    /// A copy is stale after three missed periods, and not before.
    #[test]
    fn copy_is_stale_after_exactly_three_periods() {
        assert_eq!(fresh().state(at(100)), IntegrationState::Active);
        assert_eq!(fresh().state(at(101)), IntegrationState::Stale);
    }

    #[test]
    fn a_copy_from_the_future_is_not_trusted() {
        let ahead = Freshness { last_completed_at: Some(at(1_000)), ..fresh() };

        assert_eq!(ahead.state(at(10)), IntegrationState::Stale);
    }

    /// Off wins over a hold, and a hold over age.
    #[test]
    fn off_beats_hold_and_hold_beats_age() {
        let held = Freshness { hold: Some(SyncHold::AuthFailed), ..fresh() };
        let off = Freshness { is_sync_on: false, ..held.clone() };

        assert_eq!(held.state(at(1_000)), IntegrationState::AuthFailed);
        assert_eq!(off.state(at(1_000)), IntegrationState::Off);
    }

    #[test]
    fn only_integrations_that_are_on_count_for_completeness() {
        let off = Freshness { is_enabled: false, last_completed_at: None, ..fresh() };
        let copying = Freshness { last_completed_at: None, ..fresh() };

        assert!(is_complete(&[], at(20)));
        assert!(is_complete(&[fresh(), off], at(20)));
        assert!(!is_complete(&[fresh(), copying], at(20)));
    }

    /// What is said of every CRM names no way of pushing: some send to webhooks, some stream.
    #[test]
    fn notices_of_every_crm_name_no_way_of_pushing() {
        for notice in [PUSH_UNASKED, PUSH_NOT_CHECKED] {
            let words = notice.to_string();
            assert!(!words.contains("hook") && !words.contains("stream"), "{words}");
        }
    }

    /// What was seen of a hook is told while it is wished, and believed for a day.
    #[test]
    fn push_is_told_while_wished_and_believed_for_a_day() {
        let seen = |state| Some(PushSight { state, checked_at: Some(at(0)) });
        let active = Freshness { push: seen(PushState::Active), ..fresh() };
        let day = 24 * 60;

        assert_eq!(fresh().push_state(at(10)), None);
        assert_eq!(active.push_state(at(day)), Some(PushState::Active));
        assert_eq!(active.push_state(at(day + 8 * 60)), Some(PushState::Degraded));
        let held = Freshness { hold: Some(SyncHold::AuthFailed), ..active.clone() };
        assert_eq!(held.push_state(at(1)), Some(PushState::Degraded));
        let unavailable = Freshness { push: seen(PushState::Unavailable), ..fresh() };
        assert_eq!(unavailable.push_state(at(2 * day)), Some(PushState::Unavailable));
        for off in [
            Freshness { is_push_wished: false, ..active.clone() },
            Freshness { is_sync_on: false, ..active.clone() },
            Freshness { is_enabled: false, ..active },
        ] {
            assert_eq!(off.push_state(at(1)), None);
        }
    }

    /// What could not be read makes an active copy incomplete, and is told.
    #[test]
    fn unread_makes_active_copy_incomplete_and_is_told() {
        let unread = Freshness { has_unread: true, ..fresh() };
        let off = Freshness { is_sync_on: false, ..unread.clone() };

        assert!(!is_complete(&[fresh(), unread.clone()], at(20)));
        assert_eq!(unread.state(at(20)), IntegrationState::Active);
        assert!(unread.note(at(20)).contains("could not be read") && fresh().note(at(20)).is_empty());
        assert!(is_complete(&[off], at(20)));
    }
}
