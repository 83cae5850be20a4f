//! What operators ask of a sync: run now, look at this record, ask again for what could not be
//! read, stop this run.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    credentials::SuppressionKeyError,
    domain::{
        audit::{AuditActor, AuditResult, AuditTarget},
        clock::Clock,
        descriptor::Descriptors,
        hint::{HintBatch, HintReason, NewHint},
        ids::{AccountId, IdSource, IntegrationId, SyncRunId},
        integration::Freshness,
        integration_state::{ControlEvent, TransitionRefused},
        record::{InvalidRecordKey, RecordKey},
        sync_run::{SyncKind, SyncRun, SyncRunState},
    },
    store::{
        Db, StoreError, Transaction, Tx, TxError, audit, hints,
        integrations::{self, LockedIntegration},
        rejected, sync_runs,
    },
};

/// Why a run was not started or stopped.
#[derive(Debug, Error)]
pub enum TriggerError {
    /// No such integration.
    #[error("there is no such integration")]
    IntegrationNotFound,
    /// No such run.
    #[error("there is no such sync run; runs are kept 90 days")]
    RunNotFound,
    /// Nothing is copied.
    #[error("sync of this integration is off; switch it on with UpdateSync")]
    SyncOff,
    /// It is not linked any more.
    #[error("the integration is disabled; use EnableSync to take it up again")]
    Disabled,
    /// The request id was used for another integration.
    #[error("this request id was used for another integration; use a new one")]
    RequestIdReused,
    /// It has ended.
    #[error("the run has ended already")]
    RunFinished,
    /// There is nothing to confirm.
    #[error("no deletions are held back; see GetIntegration, `held_deletions`")]
    NoDeletionsHeld,
    /// Another number than the one that was seen.
    #[error("{0} deletions are held back by now, another number than the one confirmed; look again, and confirm that")]
    HeldDeletionsChanged(i64),
    /// No record of this CRM.
    #[error(transparent)]
    Record(#[from] InvalidRecordKey),
    /// Whether a record was erased cannot be known.
    #[error(transparent)]
    SuppressionKey(#[from] SuppressionKeyError),
    /// The database did not do it.
    #[error("the request could not be stored")]
    Store(#[from] StoreError),
}

impl TxError for TriggerError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict))
    }
}

impl From<TransitionRefused> for TriggerError {
    fn from(refused: TransitionRefused) -> Self {
        match refused {
            TransitionRefused::Disabled => Self::Disabled,
            TransitionRefused::SyncOff => Self::SyncOff,
            TransitionRefused::NoDeletionsHeld => Self::NoDeletionsHeld,
            TransitionRefused::HeldDeletionsChanged(held) => Self::HeldDeletionsChanged(held),
            // Nothing of what is asked for here links or purges.
            TransitionRefused::AlreadyEnabled | TransitionRefused::PurgeRunning | TransitionRefused::NothingToPurge => {
                Self::Store(StoreError::Conflict)
            }
        }
    }
}

/// A run, and whether it was there before.
pub struct TriggeredRun {
    /// Queued, running, or the one of the same request.
    pub run: SyncRun,
    /// It was under way already.
    pub already_running: bool,
}

/// Rejected records that are asked for again, and the run under way or queued.
pub struct RetriedRecords {
    /// How many.
    pub count: u64,
    /// `None`: there is nothing to ask for, and no run was started.
    pub triggered: Option<TriggeredRun>,
}

/// When a single record is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordLook {
    /// A worker asks now.
    Now,
    /// A run is under way, and asks between two pages.
    WithinRun,
    /// The integration is on hold: its next run asks.
    OnHold,
}

/// A record that is asked for, and the run under way, if there is one.
pub struct AskedRecord {
    /// When.
    pub look: RecordLook,
    /// Queued or running.
    pub run: Option<SyncRun>,
}

/// What starting and stopping works with.
#[derive(Clone)]
pub struct SyncControl {
    /// For its transactions.
    pub db: Db,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<IdSource>,
    /// What is known of the CRMs: the form of their ids.
    pub descriptors: Descriptors,
    /// Wakes the workers of this process.
    pub wake: Arc<Notify>,
}

impl SyncControl {
    /// Makes a run due now, unless one is under way. Also of an integration whose credentials are
    /// refused: it is tried, with whatever it has, once.
    pub async fn trigger(
        &self,
        actor: &AuditActor,
        account_id: AccountId,
        integration_id: IntegrationId,
        kind: Option<SyncKind>,
        request_id: Option<Uuid>,
    ) -> Result<TriggeredRun, TriggerError> {
        let start = self.start(account_id, integration_id, kind, request_id);
        let (run_id, already_running) = self.db.of(account_id).run(TriggerRun { actor: actor.clone(), start }).await?;
        self.wake.notify_one();
        Ok(TriggeredRun { run: self.get(account_id, run_id).await?, already_running })
    }

    /// Has the CRM asked for one record, which may have changed, now. Starts no run.
    pub async fn look_at_record(
        &self,
        actor: &AuditActor,
        account_id: AccountId,
        integration_id: IntegrationId,
        object_type: &str,
        record_id: &str,
    ) -> Result<AskedRecord, TriggerError> {
        let integration = integrations::find(&self.db, account_id, integration_id).await?;
        let integration = integration.ok_or(TriggerError::IntegrationNotFound)?;
        let Freshness { provider, is_enabled, is_sync_on, hold, .. } = integration.freshness;
        let descriptor = self.descriptors[provider];
        let key = descriptor.parse_record_key(object_type, record_id)?;
        if !is_enabled {
            return Err(TriggerError::Disabled);
        }
        if !is_sync_on {
            return Err(TriggerError::SyncOff);
        }
        if !integration.options.copied(provider).contains(&key.object_type) {
            let words = "records of this kind are not copied; UpdateSync, `options`, says which are";
            return Err(InvalidRecordKey::ObjectType(words.to_owned()).into());
        }
        let work = HintRecord {
            actor: actor.clone(),
            account_id,
            integration_id,
            hint: [NewHint::of_record(key, HintReason::Operator)],
            listing_lag: descriptor.listing_lag,
            write_id: self.ids.new_v4(),
            now: self.clock.now(),
        };
        self.db.of(account_id).run(work).await?;
        self.wake.notify_one();
        let run = match integration.current_sync_run_id {
            Some(run_id) => sync_runs::find(&self.db, account_id, run_id).await?,
            None => None,
        };
        let is_under_way = run.as_ref().is_some_and(|run| run.state == SyncRunState::Running);
        let look = match (hold, is_under_way) {
            (Some(_), _) => RecordLook::OnHold,
            (None, true) => RecordLook::WithinRun,
            (None, false) => RecordLook::Now,
        };
        Ok(AskedRecord { look, run })
    }

    /// Has the next run ask for this rejected record again, or (`None`) for all that have an id,
    /// and starts it. If one is under way, it is followed by the one that asks.
    pub async fn retry_rejected(
        &self,
        actor: &AuditActor,
        account_id: AccountId,
        integration_id: IntegrationId,
        key: Option<RecordKey>,
    ) -> Result<RetriedRecords, TriggerError> {
        let start = self.start(account_id, integration_id, None, None);
        let work = RetryRejected { actor: actor.clone(), start, key };
        let (count, started) = self.db.of(account_id).run(work).await?;
        let Some((run_id, already_running)) = started else { return Ok(RetriedRecords { count, triggered: None }) };
        self.wake.notify_one();
        let run = self.get(account_id, run_id).await?;
        Ok(RetriedRecords { count, triggered: Some(TriggeredRun { run, already_running }) })
    }

    /// Lets a sweep make the deletions that the last one held back, and starts it; a run under way
    /// is followed by it.
    pub async fn confirm_deletions(
        &self,
        actor: &AuditActor,
        account_id: AccountId,
        integration_id: IntegrationId,
        deletions: i64,
    ) -> Result<SyncRun, TriggerError> {
        let start = self.start(account_id, integration_id, None, None);
        let work = ConfirmDeletions { actor: actor.clone(), start, deletions };
        let run_id = self.db.of(account_id).run(work).await?;
        self.wake.notify_one();
        self.get(account_id, run_id).await
    }

    /// Stops a run. What it applied stays; the next run, a period from now, goes on from there.
    pub async fn cancel(
        &self,
        actor: &AuditActor,
        account_id: AccountId,
        run_id: SyncRunId,
    ) -> Result<SyncRun, TriggerError> {
        let integration_id = self.get(account_id, run_id).await?.integration_id;
        let actor = actor.clone();
        let work = CancelRun { actor, account_id, integration_id, run_id, now: self.clock.now() };
        self.db.of(account_id).run(work).await?;
        self.get(account_id, run_id).await
    }

    fn start(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        kind: Option<SyncKind>,
        request_id: Option<Uuid>,
    ) -> RunStart {
        let now = self.clock.now();
        RunStart { account_id, integration_id, kind, request_id, new_id: SyncRunId(self.ids.new_v7(now)), now }
    }

    async fn get(&self, account_id: AccountId, run_id: SyncRunId) -> Result<SyncRun, TriggerError> {
        sync_runs::find(&self.db, account_id, run_id).await?.ok_or(TriggerError::RunNotFound)
    }
}

/// How a run is started.
#[derive(Clone, Copy)]
struct RunStart {
    account_id: AccountId,
    integration_id: IntegrationId,
    kind: Option<SyncKind>,
    request_id: Option<Uuid>,
    new_id: SyncRunId,
    now: DateTime<Utc>,
}

impl RunStart {
    async fn lock(self, tx: &mut Tx) -> Result<LockedIntegration, TriggerError> {
        let locked = integrations::lock(tx, self.account_id, self.integration_id).await?;
        locked.ok_or(TriggerError::IntegrationNotFound)
    }

    /// Makes a run due now, unless one is under way. Returns which, and whether it was there
    /// before.
    async fn trigger(self, tx: &mut Tx, locked: &LockedIntegration) -> Result<(SyncRunId, bool), TriggerError> {
        match sync_runs::find_current(tx, self.account_id, self.integration_id, self.request_id).await? {
            Some((run_id, of)) if of == self.integration_id => return Ok((run_id, true)),
            Some(_) => return Err(TriggerError::RequestIdReused),
            None => {}
        }
        let transition = locked.state.apply(ControlEvent::Trigger(self.kind), self.now)?;
        integrations::save_transition(tx, self.account_id, self.integration_id, &transition, self.now).await?;
        self.enqueue(tx, transition.starts_run).await?;
        Ok((self.new_id, false))
    }

    /// Says who has asked for it; that it was all so before, if nothing has changed.
    async fn record(
        self,
        tx: &mut Tx,
        actor: &AuditActor,
        run_id: Option<SyncRunId>,
        has_changed: bool,
    ) -> Result<(), TriggerError> {
        let target = AuditTarget::integration(self.integration_id, run_id);
        let result = if has_changed { AuditResult::Done } else { AuditResult::Unchanged };
        Ok(audit::insert(tx, self.account_id, actor, target, result, &[]).await?)
    }

    async fn enqueue(self, tx: &mut Tx, kind: Option<SyncKind>) -> Result<(), TriggerError> {
        let Self { account_id, integration_id, request_id, new_id, now, .. } = self;
        let Some(kind) = kind else { return Ok(()) };
        if sync_runs::enqueue(tx, account_id, integration_id, new_id, kind, request_id, now).await? {
            return Ok(());
        }
        Err(StoreError::Conflict.into())
    }
}

/// Starts a run. Gives which, and whether it was there before.
struct TriggerRun {
    actor: AuditActor,
    start: RunStart,
}

impl Transaction for TriggerRun {
    const NAME: &'static str = "trigger_run";
    type Output = (SyncRunId, bool);
    type Error = TriggerError;

    async fn run(&self, tx: &mut Tx) -> Result<(SyncRunId, bool), TriggerError> {
        let locked = self.start.lock(tx).await?;
        let (run_id, was_there) = self.start.trigger(tx, &locked).await?;
        self.start.record(tx, &self.actor, Some(run_id), !was_there).await?;
        Ok((run_id, was_there))
    }
}

/// Writes down that somebody wants a record to be asked for.
struct HintRecord {
    actor: AuditActor,
    account_id: AccountId,
    integration_id: IntegrationId,
    hint: [NewHint; 1],
    listing_lag: TimeDelta,
    write_id: Uuid,
    now: DateTime<Utc>,
}

impl Transaction for HintRecord {
    const NAME: &'static str = "hint_record";
    type Output = ();
    type Error = TriggerError;

    async fn run(&self, tx: &mut Tx) -> Result<(), TriggerError> {
        let Self { actor, account_id, integration_id, hint, listing_lag, write_id, now } = self;
        let (account_id, integration_id) = (*account_id, *integration_id);
        let (listing_lag, write_id, now) = (*listing_lag, *write_id, *now);
        let batch = HintBatch { account_id, integration_id, hints: hint, listing_lag, write_id, now };
        hints::write_in(tx, &batch).await?;
        let target = AuditTarget::integration(integration_id, None);
        let fields = ["object_type", "record_id"];
        Ok(audit::insert(tx, account_id, actor, target, AuditResult::Done, &fields).await?)
    }
}

/// Marks rejected records to be asked for again, and starts a run if there are any. Gives how many,
/// and the run.
struct RetryRejected {
    actor: AuditActor,
    start: RunStart,
    key: Option<RecordKey>,
}

impl Transaction for RetryRejected {
    const NAME: &'static str = "retry_rejected";
    type Output = (u64, Option<(SyncRunId, bool)>);
    type Error = TriggerError;

    async fn run(&self, tx: &mut Tx) -> Result<(u64, Option<(SyncRunId, bool)>), TriggerError> {
        let RunStart { account_id, integration_id, .. } = self.start;
        let locked = self.start.lock(tx).await?;
        let count = rejected::mark_retried(tx, account_id, integration_id, self.key.as_ref()).await?;
        let started = if count > 0 { Some(self.start.trigger(tx, &locked).await?) } else { None };
        self.start.record(tx, &self.actor, started.map(|(run_id, _)| run_id), count > 0).await?;
        Ok((count, started))
    }
}

/// Confirms deletions. Gives the run that makes them, or that it follows.
struct ConfirmDeletions {
    actor: AuditActor,
    start: RunStart,
    deletions: i64,
}

impl Transaction for ConfirmDeletions {
    const NAME: &'static str = "confirm_deletions";
    type Output = SyncRunId;
    type Error = TriggerError;

    async fn run(&self, tx: &mut Tx) -> Result<SyncRunId, TriggerError> {
        let RunStart { account_id, integration_id, new_id, now, .. } = self.start;
        let locked = self.start.lock(tx).await?;
        let transition = locked.state.apply(ControlEvent::ConfirmDeletions(self.deletions), now)?;
        integrations::save_transition(tx, account_id, integration_id, &transition, now).await?;
        let current = sync_runs::find_current(tx, account_id, integration_id, None).await?;
        let run_id = if let Some((run_id, _)) = current {
            run_id
        } else {
            self.start.enqueue(tx, transition.starts_run).await?;
            new_id
        };
        self.start.record(tx, &self.actor, Some(run_id), true).await?;
        Ok(run_id)
    }
}

/// Stops a run that is queued or under way.
struct CancelRun {
    actor: AuditActor,
    account_id: AccountId,
    integration_id: IntegrationId,
    run_id: SyncRunId,
    now: DateTime<Utc>,
}

impl Transaction for CancelRun {
    const NAME: &'static str = "cancel_run";
    type Output = ();
    type Error = TriggerError;

    async fn run(&self, tx: &mut Tx) -> Result<(), TriggerError> {
        let Self { account_id, integration_id, run_id, now, .. } = *self;
        let locked = integrations::lock(tx, account_id, integration_id).await?.ok_or(TriggerError::RunNotFound)?;
        if sync_runs::find_current(tx, account_id, integration_id, None).await? != Some((run_id, integration_id)) {
            return Err(TriggerError::RunFinished);
        }
        let transition = locked.state.apply(ControlEvent::CancelRun, now)?;
        integrations::save_transition(tx, account_id, integration_id, &transition, now).await?;
        sync_runs::cancel_current(tx, account_id, integration_id, None, now).await?;
        let target = AuditTarget::integration(integration_id, Some(run_id));
        Ok(audit::insert(tx, account_id, &self.actor, target, AuditResult::Done, &[]).await?)
    }
}
