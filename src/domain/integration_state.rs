//! What decides whether, when and how an integration's next run starts, and what each event makes
//! of that: [`ControlState::apply`]. Pure: the store reads the locked row, this decides, the store
//! writes plain columns. `tests` has a row for every state and event.
//!
//! Not here: the claim of a due integration and the number that fences its run (`store::lease`),
//! and who renews an access token (`store::access`). Both are races that one conditional statement
//! must decide. Nor what sets one column whatever the state is: another name of the organisation
//! (`store::integrations::rename`), a sweep that is due sooner (`store::sweeps`,
//! `store::accounts`), a record that is unread (`store::rejected`), a lease that is given back
//! (`store::lease`).

mod failure;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

pub use failure::{FailureVerdict, LONG_WAIT};
use strum::{EnumString, IntoStaticStr};

use super::{
    descriptor::ProviderDescriptor,
    integration::{Organization, SyncHold},
    notice::Notice,
    options::Options,
    sync_run::SyncKind,
};

/// What is said of an integration whose app was removed from the CRM.
pub const UNINSTALLED: Notice = Notice::fixed(
    "APP_UNINSTALLED",
    "the app was uninstalled in the CRM; its administrator must install it and authorize again",
);

/// Whether a refresh token may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum RefreshUse {
    /// Whenever an access token is needed.
    Free,
    /// Not by itself: it was refused twice, or its last answer was lost.
    Spent,
    /// Once, because somebody has asked for it.
    Once,
}

impl RefreshUse {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The state: one field a column.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as stored")]
pub struct ControlState {
    /// The CRM's organisation, as it is called now.
    pub organization: Organization,
    /// The CRM's own number of it, once it is known.
    pub company_id: Option<String>,
    /// The request that enabled it last.
    pub request_id: Option<Uuid>,
    /// False after `DisableSync`.
    pub is_enabled: bool,
    /// Copies contacts.
    pub is_sync_on: bool,
    /// Copied data is being removed.
    pub is_purging: bool,
    /// More is to be copied than before, and has not been yet.
    pub is_widened: bool,
    /// Records or numbers could not be read, and have not come whole since.
    pub has_unread: bool,
    /// From the end of a run to the next, in seconds.
    pub period_seconds: i32,
    /// What is copied and mirrored.
    pub options: Options,
    /// Why no run is started by the clock alone, or only to look whether the reason is over.
    pub hold: Option<SyncHold>,
    /// The hold in words; none without a hold.
    pub hold_notice: Option<Notice>,
    /// When the CRM first refused what it has refused since.
    pub refused_at: Option<DateTime<Utc>>,
    /// Runs that failed in a row.
    pub failures: i32,
    /// Whether its refresh token may be sent.
    pub refresh_use: RefreshUse,
    /// When the last complete run ended; `None`: nothing was ever copied completely.
    pub last_completed_at: Option<DateTime<Utc>>,
    /// When the next run may start; `None`: not before somebody acts. Kept while a run is under
    /// way, so that a crash leaves it due.
    pub due_at: Option<DateTime<Utc>>,
    /// When the next run is a sweep; `None`: nobody has said yet.
    pub sweep_due_at: Option<DateTime<Utc>>,
    /// Deletions that the last sweep did not make because they were too many.
    pub held_deletions: Option<i64>,
    /// How many of them somebody has confirmed since.
    pub confirmed_deletions: Option<i64>,
}

/// What may happen to an integration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlEvent {
    /// It is linked again, with its contacts and its checkpoint.
    Enable(LinkSettings),
    /// Its settings or its credentials are changed.
    Update(SettingsUpdate),
    /// Somebody wants a run now; `None`: of whichever kind is next.
    Trigger(Option<SyncKind>),
    /// Somebody allows so many deletions that a sweep held back.
    ConfirmDeletions(i64),
    /// Somebody stops the run under way or queued.
    CancelRun,
    /// It is disabled.
    Disable {
        /// What it copied is to be removed, too.
        purge: bool,
    },
    /// Its CRM says that the app was removed there.
    Uninstalled,
    /// What it copied is removed.
    PurgeCompleted,
    /// A run has come to its end.
    RunCompleted(RunCompletion),
    /// A run has failed.
    RunFailed(RunFailure),
}

/// How an integration is to be linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSettings {
    /// The CRM's organisation.
    pub organization: Organization,
    /// The CRM's own number of it, if it gave one.
    pub company_id: Option<String>,
    /// The client's id of its request.
    pub request_id: Option<Uuid>,
    /// Copies contacts.
    pub is_sync_on: bool,
    /// From the end of a run to the next, in seconds.
    pub period_seconds: i32,
    /// What is copied and mirrored.
    pub options: Options,
    /// Of its CRM: what other options lead to.
    pub descriptor: &'static ProviderDescriptor,
}

/// What is changed; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsUpdate {
    /// Copies contacts.
    pub is_sync_on: Option<bool>,
    /// From the end of a run to the next, in seconds.
    pub period_seconds: Option<i32>,
    /// What is copied and mirrored, changes included.
    pub options: Options,
    /// Of its CRM: what other options lead to.
    pub descriptor: &'static ProviderDescriptor,
    /// New credentials are stored with it.
    pub has_new_credentials: bool,
    /// The name that the organisation has now.
    pub organization_name: Option<String>,
    /// The CRM's own number of it.
    pub company_id: Option<String>,
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunCompletion {
    /// What it did.
    pub kind: SyncKind,
    /// When a worker first began it.
    pub started_at: Option<DateTime<Utc>>,
    /// When the next sweep was due as its worker took it up.
    pub planned_sweep_at: Option<DateTime<Utc>>,
    /// From sweep to sweep; `None`: sweeps come only if asked for.
    pub sweep_every: Option<TimeDelta>,
    /// Of a sweep that has asked for everything.
    pub sweep: Option<SweepOutcome>,
    /// Something that was never copied was left: the copy is not whole.
    pub is_incomplete: bool,
    /// Rejected records are to be asked for again.
    pub is_retry_asked: bool,
    /// Records or numbers that could not be read are still kept, or found no room.
    pub keeps_unread: bool,
}

/// What a sweep leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepOutcome {
    /// Deletions that were too many to make unasked.
    pub held_deletions: Option<i64>,
}

/// How a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFailure {
    /// What that says of its integration.
    pub verdict: FailureVerdict,
    /// Why, and what to do.
    pub notice: Notice,
    /// A page of this run has been stored since a worker took it up.
    pub has_progressed: bool,
}

/// The new state, and what goes with it in the same transaction, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateTransition {
    /// What is stored.
    pub state: ControlState,
    /// A worker's next write is refused: the lease moves on. Its run is taken up again where it is,
    /// unless it ends.
    pub stops_run: bool,
    /// Full runs that were stopped begin anew: what they have read was read for other options.
    pub forgets_resume_points: bool,
    /// The run that is queued or under way is cancelled.
    pub cancels_run: bool,
    /// A run of this kind is queued, unless one is.
    pub starts_run: Option<SyncKind>,
}

/// Why an event does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransitionRefused {
    /// It is linked already.
    AlreadyEnabled,
    /// Its copied data is still being removed.
    PurgeRunning,
    /// It is not linked any more.
    Disabled,
    /// Nothing is copied.
    SyncOff,
    /// There is nothing to confirm.
    NoDeletionsHeld,
    /// Another number of deletions, this one, is held back.
    HeldDeletionsChanged(i64),
    /// Nothing is being removed.
    NothingToPurge,
}

impl ControlState {
    /// A new link: its first run is due at once, if it copies.
    pub fn enable_new(link: LinkSettings, now: DateTime<Utc>) -> StateTransition {
        let LinkSettings { organization, company_id, request_id, is_sync_on, period_seconds, options, .. } = link;
        let state = Self {
            organization,
            company_id,
            request_id,
            is_enabled: true,
            is_sync_on,
            is_purging: false,
            is_widened: false,
            has_unread: false,
            period_seconds,
            options,
            hold: None,
            hold_notice: None,
            refused_at: None,
            failures: 0,
            refresh_use: RefreshUse::Free,
            last_completed_at: None,
            due_at: is_sync_on.then_some(now),
            sweep_due_at: None,
            held_deletions: None,
            confirmed_deletions: None,
        };
        StateTransition { starts_run: is_sync_on.then_some(SyncKind::Initial), ..state.into() }
    }

    /// Nothing was ever copied completely.
    pub const fn is_first_copy(&self) -> bool {
        self.last_completed_at.is_none()
    }

    /// What a run does that nobody has asked for by its kind.
    pub fn next_kind(&self, now: DateTime<Utc>) -> SyncKind {
        SyncKind::next(self.is_first_copy(), self.sweep_due_at.is_some_and(|due_at| due_at <= now))
    }

    /// What an event makes of this state.
    pub fn apply(&self, event: ControlEvent, now: DateTime<Utc>) -> Result<StateTransition, TransitionRefused> {
        match event {
            ControlEvent::Enable(link) => self.enable_again(link, now),
            ControlEvent::Update(update) => self.update(update, now),
            ControlEvent::Trigger(kind) => self.trigger(kind, now),
            ControlEvent::ConfirmDeletions(deletions) => self.confirm_deletions(deletions, now),
            ControlEvent::CancelRun => self.may_run().map(|()| self.cancel_run(now)),
            ControlEvent::Disable { purge } => Ok(self.disable(purge, now)),
            ControlEvent::Uninstalled => Ok(self.uninstall()),
            ControlEvent::PurgeCompleted => self.end_purge(),
            // Whoever switches sync off takes the lease away from its run.
            ControlEvent::RunCompleted(completion) => self.may_run().map(|()| self.complete_run(completion, now)),
            ControlEvent::RunFailed(failure) => self.may_run().map(|()| self.fail_run(failure, now).into()),
        }
    }

    /// Whether it can be linked again.
    pub const fn may_enable(&self) -> Result<(), TransitionRefused> {
        match (self.is_enabled, self.is_purging) {
            (true, _) => Err(TransitionRefused::AlreadyEnabled),
            (false, true) => Err(TransitionRefused::PurgeRunning),
            (false, false) => Ok(()),
        }
    }

    const fn may_run(&self) -> Result<(), TransitionRefused> {
        match (self.is_enabled, self.is_sync_on) {
            (false, _) => Err(TransitionRefused::Disabled),
            (true, false) => Err(TransitionRefused::SyncOff),
            (true, true) => Ok(()),
        }
    }

    fn enable_again(&self, link: LinkSettings, now: DateTime<Utc>) -> Result<StateTransition, TransitionRefused> {
        self.may_enable()?;
        // With other options than before, what was copied is looked at anew.
        let is_outdated = link.options.of_copies() != self.options.of_copies() && !self.is_first_copy();
        let state = Self {
            company_id: link.company_id.or_else(|| self.company_id.clone()),
            request_id: link.request_id,
            is_enabled: true,
            is_sync_on: link.is_sync_on,
            is_widened: self.is_widened || is_outdated,
            period_seconds: link.period_seconds,
            options: link.options.clone(),
            refused_at: None,
            refresh_use: RefreshUse::Free,
            due_at: link.is_sync_on.then_some(now),
            sweep_due_at: if is_outdated { Some(now) } else { self.sweep_due_at },
            ..self.without_hold()
        };
        let kind = if self.is_first_copy() { SyncKind::Initial } else { SyncKind::Incremental };
        Ok(StateTransition {
            forgets_resume_points: link.descriptor.needs_sweep(&link.options, &self.options),
            starts_run: link.is_sync_on.then_some(kind),
            ..Self { organization: link.organization, ..state }.into()
        })
    }

    fn update(&self, update: SettingsUpdate, now: DateTime<Utc>) -> Result<StateTransition, TransitionRefused> {
        if !self.is_enabled {
            return Err(TransitionRefused::Disabled);
        }
        let provider = self.organization.provider;
        let is_sync_on = update.is_sync_on.unwrap_or(self.is_sync_on);
        let has_other_options = update.options != self.options;
        let needs_all = update.descriptor.needs_sweep(&update.options, &self.options);
        // Other options mend no refused credentials and no spent quota: they count when runs go on.
        let is_free_to_run = has_other_options && self.hold.is_none();
        let starts_now = is_sync_on && (update.has_new_credentials || !self.is_sync_on || is_free_to_run);
        // A shorter period counts from now; a run under way is due already and stays so.
        let by_period = update.period_seconds.map(|seconds| now + TimeDelta::seconds(i64::from(seconds)));
        let due_at = if starts_now { Some(now) } else { self.due_at.min(by_period).or(self.due_at) };
        let before = if starts_now { self.without_hold() } else { self.clone() };
        let name = update.organization_name.unwrap_or_else(|| self.organization.name.clone());
        let state = Self {
            organization: Organization { provider, name },
            company_id: update.company_id.or_else(|| self.company_id.clone()),
            is_sync_on,
            is_widened: self.is_widened || update.descriptor.is_widened(&update.options, &self.options),
            period_seconds: update.period_seconds.unwrap_or(self.period_seconds),
            options: update.options,
            refused_at: self.refused_at.filter(|_| !update.has_new_credentials),
            refresh_use: if update.has_new_credentials { RefreshUse::Free } else { self.refresh_use },
            due_at: due_at.filter(|_| is_sync_on),
            sweep_due_at: if needs_all && !self.is_first_copy() { Some(now) } else { self.sweep_due_at },
            ..before
        };
        Ok(StateTransition {
            // A run under way would go on with the old credentials or options; it is taken up again
            // with the new ones.
            stops_run: self.is_sync_on && (!is_sync_on || update.has_new_credentials || has_other_options),
            forgets_resume_points: needs_all,
            cancels_run: !is_sync_on,
            starts_run: starts_now.then(|| state.next_kind(now)),
            ..state.into()
        })
    }

    fn trigger(&self, kind: Option<SyncKind>, now: DateTime<Utc>) -> Result<StateTransition, TransitionRefused> {
        self.may_run()?;
        // Refused credentials are refused until a run has shown otherwise.
        let before = if self.hold == Some(SyncHold::AuthFailed) { self.clone() } else { self.without_hold() };
        let refresh_use = if self.refresh_use == RefreshUse::Spent { RefreshUse::Once } else { self.refresh_use };
        // Before the first complete copy there is no checkpoint to go on from.
        let kind = kind.filter(|_| !self.is_first_copy()).unwrap_or_else(|| self.next_kind(now));
        let state = Self { due_at: Some(now), refresh_use, ..before };
        Ok(StateTransition { starts_run: Some(kind), ..state.into() })
    }

    fn confirm_deletions(&self, deletions: i64, now: DateTime<Utc>) -> Result<StateTransition, TransitionRefused> {
        self.may_run()?;
        match self.held_deletions {
            None => return Err(TransitionRefused::NoDeletionsHeld),
            Some(held) if held != deletions => return Err(TransitionRefused::HeldDeletionsChanged(held)),
            Some(_) => {}
        }
        let state = Self {
            confirmed_deletions: Some(deletions),
            sweep_due_at: Some(now),
            due_at: if self.hold.is_none() { Some(now) } else { self.due_at },
            ..self.clone()
        };
        // A sweep under way does not know of it, and would end with none: it is taken up again
        // where it is.
        Ok(StateTransition { stops_run: true, starts_run: Some(SyncKind::Sweep), ..state.into() })
    }

    /// The next run, a period from now, goes on from there.
    fn cancel_run(&self, now: DateTime<Utc>) -> StateTransition {
        let due_at = Some(now + self.period());
        StateTransition { stops_run: true, cancels_run: true, ..Self { due_at, ..self.clone() }.into() }
    }

    /// A repeat changes nothing, but may add a purge.
    fn disable(&self, purge: bool, now: DateTime<Utc>) -> StateTransition {
        let is_purging = self.is_purging || purge;
        let state = Self {
            is_enabled: false,
            is_sync_on: false,
            is_purging,
            refused_at: None,
            refresh_use: RefreshUse::Free,
            due_at: is_purging.then_some(now),
            ..self.without_hold()
        };
        StateTransition { stops_run: true, cancels_run: true, ..state.into() }
    }

    /// What opened the CRM is over, and nothing but a new authorization mends that. What is
    /// disabled has nothing to lose.
    fn uninstall(&self) -> StateTransition {
        if !self.is_enabled {
            return self.clone().into();
        }
        let state = Self {
            hold: Some(SyncHold::AuthFailed),
            hold_notice: Some(UNINSTALLED),
            refresh_use: RefreshUse::Spent,
            due_at: None,
            ..self.clone()
        };
        StateTransition { stops_run: true, cancels_run: true, ..state.into() }
    }

    /// Nothing of it is here: enabling it again starts from nothing.
    fn end_purge(&self) -> Result<StateTransition, TransitionRefused> {
        if !self.is_purging {
            return Err(TransitionRefused::NothingToPurge);
        }
        let state = Self {
            is_purging: false,
            has_unread: false,
            last_completed_at: None,
            due_at: None,
            sweep_due_at: None,
            held_deletions: None,
            confirmed_deletions: None,
            ..self.clone()
        };
        Ok(state.into())
    }

    /// The next run is due a period from now, or at once if something waits for it.
    fn complete_run(&self, run: RunCompletion, now: DateTime<Utc>) -> StateTransition {
        let is_swept = run.sweep.is_some();
        let was_sweep_due = self.sweep_due_at.is_some_and(|due_at| due_at <= now);
        // One that was asked for while this run was under way may have missed what it was asked
        // for.
        let asked_meanwhile =
            self.sweep_due_at.filter(|due| *due <= now && run.started_at.is_some_and(|started| *due > started));
        let sweep_due_at = asked_meanwhile.or_else(|| run.next_sweep(now)).or(self.sweep_due_at);
        // A sweep that became due meanwhile does not wait for a period; nor do rejected records
        // that are to be asked for again.
        let is_due = run.is_retry_asked || sweep_due_at.is_some_and(|due| due <= now);
        let state = Self {
            // A sweep that is due brings what was not copied before.
            is_widened: run.is_incomplete || (self.is_widened && !is_swept && was_sweep_due),
            // What was lost has come whole since, is gone, or was not met by a full read.
            has_unread: self.has_unread && run.keeps_unread,
            refused_at: None,
            last_completed_at: Some(now),
            due_at: Some(if is_due { now } else { now + self.period() }),
            sweep_due_at,
            held_deletions: run.sweep.map_or(self.held_deletions, |sweep| sweep.held_deletions),
            confirmed_deletions: self.confirmed_deletions.filter(|_| !is_swept),
            ..self.without_hold()
        };
        state.into()
    }

    fn without_hold(&self) -> Self {
        Self { hold: None, hold_notice: None, failures: 0, ..self.clone() }
    }

    fn period(&self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.period_seconds))
    }
}

impl RunCompletion {
    /// When the next sweep is due, if this run moves that.
    fn next_sweep(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = now + self.sweep_every?;
        let is_moved = match self.kind {
            SyncKind::Sweep => true,
            // It does not do what a sweep was asked for: one that is due comes after it.
            SyncKind::Initial => self.planned_sweep_at.is_none_or(|due_at| due_at > now),
            // One later than that was put there by a clock that was ahead, or another setting.
            SyncKind::Incremental => self.planned_sweep_at.is_none_or(|due_at| due_at > next),
        };
        is_moved.then_some(next)
    }
}

impl From<ControlState> for StateTransition {
    /// Nothing goes with it.
    fn from(state: ControlState) -> Self {
        Self { state, stops_run: false, forgets_resume_points: false, cancels_run: false, starts_run: None }
    }
}

#[cfg(test)]
mod tests;
