//! What operators ask of a sync: run now, ask again for what could not be read, stop this run.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    credentials::{CredentialVault, SuppressionKeyError, SuppressionKeys},
    domain::{
        clock::Clock,
        ids::{AccountId, IdSource, IntegrationId, SyncRunId},
        integration::Hold,
        record::{InvalidRecordKey, RecordKey},
        sync_run::{SyncKind, SyncRun},
    },
    store::{
        Db, StoreError, Tx, TxError,
        integrations::{self, Change, Locked},
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
    /// Whether a record was erased cannot be told.
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

/// A run, and whether it was there before.
pub struct Triggered {
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
    pub triggered: Option<Triggered>,
}

/// What starting and stopping works with.
#[derive(Clone)]
pub struct Control {
    /// For its transactions.
    pub db: Db,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<IdSource>,
    /// Wakes the workers of this process.
    pub wake: Arc<Notify>,
    /// Opens the content of rejected records.
    pub vault: CredentialVault,
    /// By which erased records are known.
    pub suppression_keys: SuppressionKeys,
}

impl Control {
    /// Makes a pass due now, unless one is under way. Also of an integration whose credentials are refused: it is tried, with whatever
    /// it has, once.
    pub async fn trigger(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        kind: Option<SyncKind>,
        request_id: Option<Uuid>,
    ) -> Result<Triggered, TriggerError> {
        let start = PassStart { account_id, kind, request_id, new_id: self.new_run_id(), now: self.clock.now() };
        let (run_id, already_running) = self
            .db
            .transaction(move |tx| {
                Box::pin(async move {
                    let locked = lock(tx, account_id, integration_id, start.now).await?;
                    start.pass(tx, &locked).await
                })
            })
            .await?;
        self.wake.notify_one();
        Ok(Triggered { run: self.get(account_id, run_id).await?, already_running })
    }

    /// Has the next run ask for this rejected record again, or (`None`) for all that have an id, and starts it. If one is under way, it is
    /// followed by the one that asks.
    pub async fn retry_rejected(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        key: Option<RecordKey>,
    ) -> Result<RetriedRecords, TriggerError> {
        let start =
            PassStart { account_id, kind: None, request_id: None, new_id: self.new_run_id(), now: self.clock.now() };
        let (count, started) = self
            .db
            .transaction(move |tx| {
                let key = key.clone();
                Box::pin(async move {
                    let locked = lock(tx, account_id, integration_id, start.now).await?;
                    let count = rejected::mark_retried(tx, account_id, integration_id, key.as_ref()).await?;
                    let started = if count > 0 { Some(start.pass(tx, &locked).await?) } else { None };
                    Ok::<_, TriggerError>((count, started))
                })
            })
            .await?;
        let Some((run_id, already_running)) = started else { return Ok(RetriedRecords { count, triggered: None }) };
        self.wake.notify_one();
        let run = self.get(account_id, run_id).await?;
        Ok(RetriedRecords { count, triggered: Some(Triggered { run, already_running }) })
    }

    /// Lets a sweep make the deletions that the last one held back, and starts it; a run under way is followed by it.
    pub async fn confirm_deletions(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        deletions: i64,
    ) -> Result<SyncRun, TriggerError> {
        let now = self.clock.now();
        let new_id = SyncRunId(self.ids.new_v7(now));
        let run_id = self
            .db
            .transaction(move |tx| {
                Box::pin(async move {
                    let locked = lock(tx, account_id, integration_id, now).await?;
                    may_run(&locked)?;
                    match locked.held_deletions {
                        None => return Err(TriggerError::NoDeletionsHeld),
                        Some(held) if held != deletions => return Err(TriggerError::HeldDeletionsChanged(held)),
                        Some(_) => {}
                    }
                    let change = Change {
                        is_sync_on: true,
                        starts_sweep: true,
                        widens: false,
                        confirmed_deletions: Some(deletions),
                        due_at: locked.hold.is_none().then_some(now),
                        // A sweep under way does not know of it, and would end with none: it is taken up again where it is.
                        stops_run: true,
                        ..Change::default()
                    };
                    integrations::change(tx, account_id, integration_id, &change, now).await?;
                    if let Some((run_id, _)) = sync_runs::find_current(tx, account_id, integration_id, None).await? {
                        return Ok(run_id);
                    }
                    if !sync_runs::enqueue(tx, account_id, integration_id, new_id, SyncKind::Sweep, None, now).await? {
                        return Err(StoreError::Conflict.into());
                    }
                    Ok(new_id)
                })
            })
            .await?;
        self.wake.notify_one();
        self.get(account_id, run_id).await
    }

    /// Stops a run. What it applied stays; the next pass, a period from now, goes on from there.
    pub async fn cancel(&self, account_id: AccountId, run_id: SyncRunId) -> Result<SyncRun, TriggerError> {
        let run = self.get(account_id, run_id).await?;
        let integration_id = run.integration_id;
        let integration =
            integrations::find(&self.db, account_id, integration_id).await?.ok_or(TriggerError::RunNotFound)?;
        let now = self.clock.now();
        let due_at = now + TimeDelta::seconds(i64::from(integration.freshness.period_seconds));
        self.db
            .transaction(move |tx| {
                Box::pin(async move {
                    let locked = integrations::lock(tx, account_id, Some(integration_id), None, None, now)
                        .await?
                        .ok_or(TriggerError::RunNotFound)?;
                    if sync_runs::find_current(tx, account_id, integration_id, None).await?
                        != Some((run_id, integration_id))
                    {
                        return Err(TriggerError::RunFinished);
                    }
                    let change = Change {
                        is_sync_on: locked.is_sync_on,
                        due_at: Some(due_at),
                        stops_run: true,
                        ..Change::default()
                    };
                    integrations::change(tx, account_id, integration_id, &change, now).await?;
                    sync_runs::cancel_current(tx, account_id, integration_id, None, now).await?;
                    Ok(())
                })
            })
            .await?;
        self.get(account_id, run_id).await
    }

    fn new_run_id(&self) -> SyncRunId {
        SyncRunId(self.ids.new_v7(self.clock.now()))
    }

    async fn get(&self, account_id: AccountId, run_id: SyncRunId) -> Result<SyncRun, TriggerError> {
        sync_runs::find(&self.db, account_id, run_id).await?.ok_or(TriggerError::RunNotFound)
    }
}

async fn lock(
    tx: &mut Tx,
    account_id: AccountId,
    integration_id: IntegrationId,
    now: DateTime<Utc>,
) -> Result<Locked, TriggerError> {
    let locked = integrations::lock(tx, account_id, Some(integration_id), None, None, now).await?;
    locked.ok_or(TriggerError::IntegrationNotFound)
}

fn may_run(locked: &Locked) -> Result<(), TriggerError> {
    match (locked.is_enabled, locked.is_sync_on) {
        (false, _) => Err(TriggerError::Disabled),
        (true, false) => Err(TriggerError::SyncOff),
        (true, true) => Ok(()),
    }
}

/// How a pass is started.
#[derive(Clone, Copy)]
struct PassStart {
    account_id: AccountId,
    kind: Option<SyncKind>,
    request_id: Option<Uuid>,
    new_id: SyncRunId,
    now: DateTime<Utc>,
}

impl PassStart {
    /// Makes a pass due now, unless one is under way. Returns which, and whether it was there before.
    async fn pass(self, tx: &mut Tx, locked: &Locked) -> Result<(SyncRunId, bool), TriggerError> {
        let Self { account_id, kind, request_id, new_id, now } = self;
        let integration_id = locked.id;
        match sync_runs::find_current(tx, account_id, integration_id, request_id).await? {
            Some((run_id, of)) if of == integration_id => return Ok((run_id, true)),
            Some(_) => return Err(TriggerError::RequestIdReused),
            None => {}
        }
        may_run(locked)?;
        let usual = locked.next_kind();
        // Before the first complete copy there is no checkpoint to go on from.
        let kind = kind.filter(|_| !locked.is_first_copy).unwrap_or(usual);
        // Refused credentials are refused until a pass has shown otherwise.
        let ends_hold = locked.hold != Some(Hold::AuthFailed);
        let change =
            Change { is_sync_on: true, ends_hold, tries_refresh_token: true, due_at: Some(now), ..Change::default() };
        integrations::change(tx, account_id, integration_id, &change, now).await?;
        if !sync_runs::enqueue(tx, account_id, integration_id, new_id, kind, request_id, now).await? {
            return Err(StoreError::Conflict.into());
        }
        Ok((new_id, false))
    }
}
