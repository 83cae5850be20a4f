//! A turn of an integration that has hints and no run: asks for the records under the integration's
//! lease, in seconds, or has it polled where they are many. Does nothing that a run does beside:
//! no second look at all strangers, no report, no count of failures; what fails waits.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error_span, info, warn};
use uuid::Uuid;

use super::{
    apply::PageWriter,
    context::SyncContext,
    error::RunError,
    hints::{HintDrainer, HintLook},
    job::SyncJob,
    keep_lease::keep_lease,
    look_aside,
    normalize::NumberRules,
    session::CrmSession,
};
use crate::{
    crm::CrmClients,
    domain::{
        hint::{HintBatch, HintReason, NewHint},
        ids::SyncRunId,
        integration_state::{ControlEvent, FailureVerdict},
        sync_run::SyncKind,
    },
    store::{
        StoreError, Transaction, Tx, accounts,
        hint_drains::{self, HintedIntegration},
        hints, integrations,
        lease::{self, DueIntegration, Lease},
        push_channels, sync_runs,
    },
    telemetry::{chain, metrics, traces},
};

/// More hints than this at once are a storm: one poll brings them.
const STORM_ABOVE: usize = 25;
/// What an integration rests after a look, for each record that was asked for ..
const REST_PER_RECORD: Duration = Duration::from_millis(200);
/// .. at least this long, so that many events cost few requests ..
const REST_MIN: Duration = Duration::from_secs(1);
/// .. and at most: a storm is seen by then.
const REST_MAX: Duration = Duration::from_secs(5);
/// What waits for a CRM in passing trouble ..
const PASSING_WAIT: TimeDelta = TimeDelta::seconds(60);
/// .. and for one that refuses: the next run says what of it lasts.
const REFUSED_WAIT: TimeDelta = TimeDelta::minutes(30);
/// The longest wait that a CRM may ask for.
const WAIT_MAX: TimeDelta = TimeDelta::days(1);

/// What came of a turn.
pub(super) enum HintTurn {
    /// It is looked at again after this.
    Rest(Duration),
    /// The CRM did not do its part.
    Troubled,
}

/// Looks at the hints of an integration. All messages of it name the integration.
pub(super) async fn run(
    context: &SyncContext,
    hinted: HintedIntegration,
    stop: &CancellationToken,
) -> Result<HintTurn, StoreError> {
    let span = error_span!(target: traces::ROOT_TARGET, "hint_turn", integration.id = %hinted.due.integration_id);
    let turn = async {
        if hinted.needs_poll {
            start_poll(context, hinted.due).await?;
        }
        if hinted.has_records { ask(context, hinted.due, stop).await } else { Ok(HintTurn::Rest(REST_MIN)) }
    };
    turn.instrument(span).await
}

/// Makes a run due now: what so many hints came to.
async fn start_poll(context: &SyncContext, due: DueIntegration) -> Result<(), StoreError> {
    let now = context.clock.now();
    let new_id = SyncRunId(context.ids.new_v7(now));
    if context.db.of(due.account_id).run(StartPoll { crms: context.crms.clone(), due, new_id, now }).await? {
        info!("many records have changed: a run is due now");
        context.wake.notify_one();
    }
    Ok(())
}

async fn ask(context: &SyncContext, due: DueIntegration, stop: &CancellationToken) -> Result<HintTurn, StoreError> {
    let lease_seconds = context.settings.lease.as_secs_f64();
    let Some(claimed) = lease::claim_for_hints(&context.db, due, lease_seconds).await? else {
        return Ok(HintTurn::Rest(REST_MIN));
    };
    let lease = claimed.lease;
    let now = context.clock.now();
    let job = SyncJob::brief(claimed, SyncRunId(context.ids.new_v7(now)));
    let turn = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(HintTurn::Rest(REST_MIN)),
        turn = settle(context, &job) => turn,
        () = keep_lease(context, lease) => {
            warn!("the lease is lost, records that may have changed are asked for elsewhere");
            Ok(HintTurn::Rest(REST_MIN))
        }
    };
    lease::give_back(&context.db, lease).await?;
    turn
}

async fn settle(context: &SyncContext, job: &SyncJob) -> Result<HintTurn, StoreError> {
    let lease = job.lease();
    let wait = match look(context, job).await {
        Ok(asked) => {
            let rest = REST_PER_RECORD * u32::try_from(asked).unwrap_or(u32::MAX);
            return Ok(HintTurn::Rest(rest.clamp(REST_MIN, REST_MAX)));
        }
        // Somebody has disabled it, or has it now; or the next look does it.
        Err(RunError::LeaseLost | RunError::RulesChanged | RunError::Store(StoreError::Conflict)) => {
            return Ok(HintTurn::Rest(REST_MIN));
        }
        Err(RunError::Store(error)) => return Err(error),
        Err(RunError::Parked { wait, .. }) => TimeDelta::from_std(wait).unwrap_or(WAIT_MAX),
        Err(error) => {
            info!(error = %chain(&error), "records that may have changed were not answered for, and wait");
            match error.verdict() {
                FailureVerdict::Waits(wait) => TimeDelta::from_std(wait).unwrap_or(WAIT_MAX),
                FailureVerdict::Passes => PASSING_WAIT,
                FailureVerdict::Refused { .. }
                | FailureVerdict::Lasts
                | FailureVerdict::Final { .. }
                | FailureVerdict::Stops => REFUSED_WAIT,
            }
        }
    };
    let not_before = context.clock.now() + wait.min(WAIT_MAX);
    context.db.of(lease.account_id).run(PutOffAll { lease, not_before }).await?;
    Ok(HintTurn::Troubled)
}

/// Gives how many records were asked for.
async fn look(context: &SyncContext, job: &SyncJob) -> Result<usize, RunError> {
    let lease = job.lease();
    let account = accounts::find(&context.db, lease.account_id).await?.ok_or(RunError::Impossible)?;
    let drainer = HintDrainer::new(PageWriter { context, job, rules: NumberRules::from(&account) });
    let mut taken = drainer.take().await?;
    if taken.len() > STORM_ABOVE {
        let provider = job.provider();
        let listing_lag = context.crms.descriptor(provider).listing_lag;
        let (write_id, now) = (context.ids.new_v4(), context.clock.now());
        let folded = context.db.of(lease.account_id).run(FoldHints { lease, listing_lag, write_id, now }).await?;
        info!(hints = folded, "many records have changed: a run will bring them");
        metrics::hint_storm(provider.as_str(), folded);
        // What an event alone knows is not lost.
        taken.retain(|hint| hint.successor.is_some());
    }
    if taken.is_empty() {
        return Ok(0);
    }
    let mut session = CrmSession::open(context, job).await?;
    let looked = drainer.settle(&mut session, &taken).await?;
    // A call that has come meanwhile found the integration held.
    Box::pin(look_aside::serve(drainer.writer, &session)).await?;
    match looked {
        HintLook::Settled(asked) => Ok(asked),
        HintLook::Unanswered(error) if error.is_local() => {
            drainer.put_off(taken, PASSING_WAIT).await?;
            Err(error.into())
        }
        HintLook::Unanswered(error) => Err(error.into()),
    }
}

/// Replaces the hints of records by one of the whole integration. Gives how many.
struct FoldHints {
    lease: Lease,
    listing_lag: TimeDelta,
    write_id: Uuid,
    now: DateTime<Utc>,
}

impl Transaction for FoldHints {
    const NAME: &'static str = "fold_hints";
    type Output = u64;
    type Error = RunError;

    async fn run(&self, tx: &mut Tx) -> Result<u64, RunError> {
        let Self { lease, listing_lag, write_id, now } = *self;
        if !lease::lock(tx, lease).await? {
            return Err(RunError::LeaseLost);
        }
        let (folded, event_time) = hint_drains::fold(tx, lease).await?;
        if folded > 0 {
            let whole = [NewHint::of_integration(HintReason::Event, event_time)];
            let Lease { account_id, integration_id, .. } = lease;
            let batch = HintBatch { account_id, integration_id, hints: &whole, listing_lag, write_id, now };
            hints::write_in(tx, &batch).await?;
        }
        Ok(folded)
    }
}

/// Lets all hints of an integration wait for its CRM.
struct PutOffAll {
    lease: Lease,
    not_before: DateTime<Utc>,
}

impl Transaction for PutOffAll {
    const NAME: &'static str = "put_off_all";
    type Output = ();
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<(), StoreError> {
        if !lease::lock(tx, self.lease).await? {
            return Ok(());
        }
        hint_drains::put_off_all(tx, self.lease, self.not_before).await
    }
}

/// Starts the run that many hints came to, and takes their hint up with it. False: there is nothing
/// to start, or something speaks against it, and the hint waits for the next look.
struct StartPoll {
    crms: CrmClients,
    due: DueIntegration,
    new_id: SyncRunId,
    now: DateTime<Utc>,
}

impl Transaction for StartPoll {
    const NAME: &'static str = "start_poll";
    type Output = bool;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        let Self { crms, due: DueIntegration { account_id, integration_id }, new_id, now } = self;
        let (account_id, integration_id, new_id, now) = (*account_id, *integration_id, *new_id, *now);
        let Some(locked) = integrations::lock(tx, account_id, integration_id).await? else { return Ok(false) };
        // It is no way around a hold, or the pause after a failure.
        if locked.state.hold.is_some() || locked.state.failures > 0 || locked.state.is_first_copy() {
            return Ok(false);
        }
        let listing_lag = crms.descriptor(locked.state.organization.provider).listing_lag;
        let Ok(transition) = locked.state.apply(ControlEvent::Trigger(None), now) else { return Ok(false) };
        if sync_runs::find_current(tx, account_id, integration_id, None).await?.is_some()
            || !hint_drains::take_whole(tx, account_id, integration_id, listing_lag, now).await?
        {
            return Ok(false);
        }
        push_channels::note_storm(tx, account_id, integration_id, now).await?;
        integrations::save_transition(tx, account_id, integration_id, &transition, now).await?;
        let kind = transition.starts_run.unwrap_or(SyncKind::Incremental);
        if sync_runs::enqueue(tx, account_id, integration_id, new_id, kind, None, now).await? {
            return Ok(true);
        }
        Err(StoreError::Conflict)
    }
}
