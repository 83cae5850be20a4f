//! Asks a CRM for a call that found nobody, and takes in what it has as of a page: what has changed
//! since the last run, or who has their numbers. By whoever holds the integration's lease: a run,
//! between its pages and in its waits, or a task of the process whose call asked. Moves nothing of
//! a run, follows no rename, waits for no quota and holds no integration: what fails is the next
//! run's matter.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use futures_util::future::join_all;
use phone_key::PhoneKey;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error_span, info, warn};
use uuid::Uuid;

use super::{
    apply::{PageIntake, PageWriter},
    context::SyncContext,
    error::RunError,
    job::SyncJob,
    normalize::NumberRules,
    session::CrmSession,
};
use crate::{
    crm::{ClientTarget, CrmClient, CrmError, FoundRecords, NumberMatches, RecordPage},
    domain::{
        credentials::CrmAccess,
        hint::{HintBatch, HintReason, NewHint},
        ids::SyncRunId,
        look_aside::{AsideMode, AskedAside},
        record::{Record, RecordKey},
    },
    store::{
        StoreError, Transaction, Tx, accounts, hints,
        lease::{self, DueIntegration},
        look_asides::{self, AsideAnswer, OpenAside},
        stored_records,
    },
    telemetry::{chain, metrics, traces},
};

/// Longest time for all requests of one look.
const FLIGHT_MAX: Duration = Duration::from_secs(5);
const TOO_SLOW: CrmError = CrmError::Unavailable("it did not answer within 5 s");
const RESTING: CrmError = CrmError::Unavailable("it refused less than a minute ago");
/// Twice that: the lease of a look is not renewed.
const LEASE_SECONDS: f64 = 10.0;
/// When a look whose integration somebody holds is tried again, each after the last: the holder is
/// to serve it, and may be over before it has seen it ..
const FIRST_WAITS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(300),
];
/// .. and then, until it is given up: who called first has long been answered.
const LATER_WAIT: Duration = Duration::from_millis(400);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3);
/// What a search waits for numbers of other calls of the same moment, before it begins.
const GATHERED_FOR: Duration = Duration::from_millis(30);
/// No call waits for one that was asked for longer ago.
const NOBODY_WAITS_AFTER: TimeDelta = TimeDelta::seconds(10);

/// Answers what calls of this process ask, where nobody holds the integration. With workers or
/// without.
pub struct AsideRunner {
    /// What it works with.
    pub context: Arc<SyncContext>,
    /// What calls ask for.
    pub asked: mpsc::Receiver<AskedAside>,
}

impl AsideRunner {
    /// Until `stop` is cancelled, or nobody can ask any more. Each look is a task of the tracker.
    pub async fn run_until(mut self, stop: CancellationToken) {
        loop {
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                asked = self.asked.recv() => match asked {
                    Some(asked) => asked,
                    None => return,
                },
            };
            let (context, stop) = (Arc::clone(&self.context), stop.clone());
            let span = error_span!(target: traces::ROOT_TARGET, "look_aside", integration.id = %asked.integration_id);
            let flight = async move { fly(&context, asked, &stop).await };
            self.context.tasks.spawn(flight.instrument(span));
        }
    }
}

/// One look. However it ends, it is answered: nobody waits for what nobody asks.
async fn fly(context: &SyncContext, asked: AskedAside, stop: &CancellationToken) {
    let over = match context.aside_limits.enter(asked.account_id).await {
        Some(_place) => try_until_over(context, asked, stop).await,
        None => Ok(false),
    };
    let left = match over {
        Ok(true) => Ok(()),
        Ok(false) => give_up(context, asked, None).await,
        Err(error) => give_up(context, asked, None).await.and(Err(error)),
    };
    if let Err(error) = left {
        warn!(error = %chain(&error), "a look into a CRM for a caller was left");
    }
}

/// Under a lease of its own if there is one to be had, or by whoever has it. False: it is given up.
async fn try_until_over(
    context: &SyncContext,
    asked: AskedAside,
    stop: &CancellationToken,
) -> Result<bool, StoreError> {
    let AskedAside { account_id, integration_id, number } = asked;
    let (due, began) = (DueIntegration { account_id, integration_id }, Instant::now());
    let mut waits = FIRST_WAITS.into_iter();
    while began.elapsed() < GIVEN_UP_AFTER {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = sleep(waits.next().unwrap_or(LATER_WAIT)) => {}
        }
        let open = look_asides::find_open(&context.db, account_id, integration_id).await?;
        let Some(open) = open.filter(|open| open.number == number) else {
            // By another process, perhaps.
            context.tell_answered(asked);
            return Ok(true);
        };
        if lease::is_held(&context.db, due).await? {
            // Its run may be of this process, and wait.
            context.aside_bell.ring();
            continue;
        }
        let Some(claimed) = lease::claim_for_hints(&context.db, due, LEASE_SECONDS).await? else { continue };
        let lease = claimed.lease;
        let job = SyncJob::brief(claimed, SyncRunId(context.ids.new_v7(context.clock.now())));
        let answered = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(false),
            answered = answer_alone(context, &job, &open) => answered,
        };
        lease::give_back(&context.db, lease).await?;
        return answered;
    }
    Ok(false)
}

/// Says that the CRM did not answer.
async fn give_up(context: &SyncContext, asked: AskedAside, day_limit: Option<i64>) -> Result<(), StoreError> {
    let answer = AsideAnswer { number: asked.number, has_failed: true, day_limit };
    look_asides::answer(&context.db, asked.account_id, asked.integration_id, &answer).await?;
    context.tell_answered(asked);
    Ok(())
}

/// False: it is not answered.
async fn answer_alone(context: &SyncContext, job: &SyncJob, open: &OpenAside) -> Result<bool, StoreError> {
    let account = accounts::find(&context.db, job.lease().account_id).await?;
    let Some(account) = account else { return Ok(false) };
    let writer = PageWriter { context, job, rules: NumberRules::from(&account) };
    let look = async {
        let (client, access) = connect(context, job, None).await?;
        let keys = gather(context, job, open).await?;
        match ask(&*client, job, open, &keys).await {
            // A token that has ended.
            Err(CrmError::CredentialsRefused) if access.version > 0 => {
                let (client, _) = connect(context, job, Some(access.version)).await?;
                Ok(ask(&*client, job, open, &keys).await?)
            }
            found => Ok(found?),
        }
    };
    match answer(writer, open, look).await {
        Ok(()) => Ok(true),
        Err(RunError::LeaseLost) => Ok(false),
        Err(RunError::Store(error)) => Err(error),
        Err(error) => {
            warn!(error = %chain(&error), "what a CRM has for a caller was not taken in");
            Ok(true)
        }
    }
}

async fn connect(
    context: &SyncContext,
    job: &SyncJob,
    used: Option<i64>,
) -> Result<(Box<dyn CrmClient>, CrmAccess), RunError> {
    let (lease, organization) = (job.lease(), &job.claimed.organization);
    let access = context.access_tokens.current(lease.account_id, lease.integration_id, organization, used).await?;
    let target = ClientTarget {
        is_trial: false,
        is_first_copy: job.claimed.is_first_copy,
        is_beside: true,
        organization,
        options: job.claimed.options.clone(),
        access: access.clone(),
    };
    Ok((context.crms.client(target)?, access))
}

/// Of a run, between two of its requests: answers what a call waits for, if one does. What the CRM
/// does not do is not the run's fault.
pub(super) async fn serve(writer: PageWriter<'_>, session: &CrmSession<'_>) -> Result<(), RunError> {
    let (context, job) = (writer.context, writer.job);
    let lease = job.lease();
    let Some(open) = look_asides::find_open(&context.db, lease.account_id, lease.integration_id).await? else {
        return Ok(());
    };
    let age = context.clock.now() - open.asked_at;
    if age.abs() > NOBODY_WAITS_AFTER {
        return Ok(give_up(context, open.asked_of(lease), None).await?);
    }
    let look = async {
        let keys = gather(context, job, &open).await?;
        Ok(ask(&*session.beside()?, job, &open, &keys).await?)
    };
    match answer(writer, &open, look).await {
        Err(error @ (RunError::LeaseLost | RunError::RulesChanged | RunError::Store(_))) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The numbers of a search, which begins with it.
async fn gather(context: &SyncContext, job: &SyncJob, open: &OpenAside) -> Result<Vec<PhoneKey>, StoreError> {
    match open.mode {
        AsideMode::Delta => Ok(Vec::new()),
        AsideMode::Search => {
            sleep(GATHERED_FOR).await;
            look_asides::begin(&context.db, open.asked_of(job.lease())).await
        }
    }
}

/// Asks the CRM, and no more than once for each part.
async fn ask(
    client: &dyn CrmClient,
    job: &SyncJob,
    open: &OpenAside,
    keys: &[PhoneKey],
) -> Result<FoundRecords, CrmError> {
    match (open.mode, &job.claimed.checkpoint) {
        (AsideMode::Delta, Some(checkpoint)) => client.fetch_newest(checkpoint).await,
        // Nothing was ever copied.
        (AsideMode::Delta, None) => Ok(FoundRecords::default()),
        (AsideMode::Search, _) => search(client, keys).await,
    }
}

/// Each number by itself, side by side: whether an index takes several for one or the other is not
/// everywhere said. One that fails costs the others nothing, and leaves the answer open.
async fn search(client: &dyn CrmClient, keys: &[PhoneKey]) -> Result<FoundRecords, CrmError> {
    let (mut found, mut to_read, mut failure) = (FoundRecords::default(), Vec::new(), None);
    for answer in join_all(keys.iter().map(|key| client.find_by_number(*key))).await {
        match answer {
            Ok(NumberMatches { shown, named }) => {
                found.records.extend(shown);
                to_read.extend(named);
            }
            Err(error) => failure = Some(error),
        }
    }
    // Somebody may have two of the numbers.
    found.records.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    found.records.dedup_by(|one, other| one.key == other.key);
    found.unconfirmed = found.records.iter().map(|record| record.key.clone()).collect();
    to_read.sort_unstable();
    to_read.dedup();
    if !to_read.is_empty() {
        match client.look_up(&to_read).await {
            Ok(seen) => {
                found.records.extend(seen.records);
                found.rejects.absorb(seen.rejects);
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if found.records.is_empty() => Err(error),
        failure => Ok(FoundRecords { has_failed: failure.is_some(), ..found }),
    }
}

/// Takes in what the CRM has, or says that it did not answer.
async fn answer(
    writer: PageWriter<'_>,
    open: &OpenAside,
    look: impl Future<Output = Result<FoundRecords, RunError>>,
) -> Result<(), RunError> {
    let (context, job, began) = (writer.context, writer.job, Instant::now());
    let (asked, now) = (open.asked_of(job.lease()), context.clock.now());
    let found = if context.aside_limits.is_resting(asked.integration_id, now) {
        Err(RESTING.into())
    } else {
        let found = timeout(FLIGHT_MAX, look).await.unwrap_or_else(|_| Err(TOO_SLOW.into()));
        metrics::look_aside_ended(job.provider().as_str(), began.elapsed());
        found.inspect_err(|error| context.aside_limits.note_failure(asked.integration_id, error.verdict(), now))
    };
    let taken = match found {
        Ok(found) => take_in(writer, open, found).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &taken
        && !matches!(error, RunError::LeaseLost)
    {
        info!(error = %chain(error), "a CRM was asked for a caller, and did not answer");
        give_up(context, asked, context.crms.day_limit(&job.claimed.organization)).await?;
    }
    taken
}

async fn take_in(writer: PageWriter<'_>, open: &OpenAside, found: FoundRecords) -> Result<(), RunError> {
    let (context, job) = (writer.context, writer.job);
    let lease = job.lease();
    let FoundRecords { mut records, unnamed, unconfirmed, rejects, is_partial, has_failed } = found;
    // Deletions are for whoever reads all of it.
    records.retain(|record| !record.is_gone);
    let keys: Vec<RecordKey> = records.iter().map(|record| record.key.clone()).collect();
    let held = stored_records::find_held(&context.db, lease.account_id, lease.integration_id, &keys).await?;
    let held: HashMap<RecordKey, _> = held.into_iter().map(|held| (held.key.clone(), held)).collect();
    records.retain(|record| held.get(&record.key).is_none_or(|held| held.record_updated_at < Some(record.updated_at)));
    let mut asked_for = Vec::new();
    for record in &mut records {
        if unnamed.contains(&record.key) {
            match held.get(&record.key) {
                // A name is not taken away; a change of it comes with the next run.
                Some(held) if held.is_live => record.organization.clone_from(&held.organization),
                _ => asked_for.push(NewHint::of_record(record.key.clone(), HintReason::Miss)),
            }
        }
    }
    let is_unconfirmed = |record: &&Record| unconfirmed.contains(&record.key);
    let to_confirm = records.iter().filter(is_unconfirmed).map(|record| record.key.clone());
    asked_for.extend(to_confirm.map(|key| NewHint::of_record(key, HintReason::Miss)));
    debug!(records = records.len(), is_partial, "a CRM was asked for a caller");
    let page = RecordPage { records, rejects, ..RecordPage::default() };
    let intake = writer.intake(writer.normalize(page, None).await?).await?;
    let now = intake.now;
    let work = ApplyAside {
        intake,
        answer: AsideAnswer {
            number: open.number,
            has_failed,
            day_limit: context.crms.day_limit(&job.claimed.organization),
        },
        hints: asked_for,
        listing_lag: context.crms.descriptor(job.provider()).listing_lag,
        write_id: context.ids.new_v4(),
    };
    let applied = context.db.of(lease.account_id).run(work).await?;
    context.tell_answered(open.asked_of(lease));
    if applied.has_hints {
        context.wake.notify_one();
    }
    writer.adopt_late(applied.gained, now).await
}

/// Takes in what a CRM has for a call, and answers it: who sees that it is answered sees the
/// contacts.
struct ApplyAside {
    intake: PageIntake,
    answer: AsideAnswer,
    hints: Vec<NewHint>,
    listing_lag: TimeDelta,
    write_id: Uuid,
}

/// What was applied.
struct AppliedAside {
    gained: Vec<PhoneKey>,
    has_hints: bool,
}

impl Transaction for ApplyAside {
    const NAME: &'static str = "apply_aside";
    type Output = AppliedAside;
    type Error = RunError;

    async fn run(&self, tx: &mut Tx) -> Result<AppliedAside, RunError> {
        let Self { intake, answer, listing_lag, write_id, .. } = self;
        let applied = intake.take_in(tx).await?;
        let lease = intake.run.lease;
        let conflicts = applied.look_again.into_iter().map(|key| NewHint::of_record(key, HintReason::Conflict));
        let hints: Vec<NewHint> = self.hints.iter().cloned().chain(conflicts).collect();
        if !hints.is_empty() {
            let (account_id, integration_id) = (lease.account_id, lease.integration_id);
            let (listing_lag, write_id, now) = (*listing_lag, *write_id, intake.now);
            let batch = HintBatch { account_id, integration_id, hints: &hints, listing_lag, write_id, now };
            hints::write_in(tx, &batch).await?;
        }
        // Last: a call that asks again waits for its row no longer than for the commit.
        look_asides::answer_in(tx, lease, answer).await?;
        Ok(AppliedAside { gained: applied.gained, has_hints: !hints.is_empty() })
    }
}
