//! Asks the CRM for records that may have changed, and takes in what it says, as of a page. Between
//! two pages and in the waits of a run, or in a turn of its own (`hint_turn`). Moves nothing of the
//! run: no resume point, checkpoint, count or attempt. Why a hint is looked at only between pages:
//! a page that is on its way may hold an older copy.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use phone_key::PhoneKey;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use super::{
    apply::{PageIntake, PageWriter},
    error::RunError,
    look_aside,
    pacer::RunPause,
    page::page_of,
    push_losses,
    session::CrmSession,
    successors,
};
use crate::{
    crm::{CrmError, LOOK_UP_MAX, RecordPage, RecordSightings, RetryAdvice},
    domain::{
        hint::HintReason,
        record::{Record, RecordKey},
    },
    store::{
        Transaction, Tx,
        hint_drains::{self, TakenHint},
        lease::{self, Lease},
    },
    telemetry::metrics,
};

/// From look to look within a run: a first copy keeps its pace beside any number of events.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// From look to look within a wait, whether a call waits.
const CALLS_EVERY: Duration = Duration::from_millis(500);
/// A record of which the CRM had no news yet is asked for again after this ..
const NO_NEWS_WAIT: TimeDelta = TimeDelta::seconds(2);
/// .. and so often in all; then it is left to the poll.
const ATTEMPTS_MAX: i32 = 5;
/// One that the CRM does not have and that was never seen here may be too new for its queries
/// (Salesforce shows a row up to three seconds after its event), and is asked for so often in all.
const UNSEEN_ATTEMPTS_MAX: i32 = 3;
/// What waits for a CRM that does not answer.
const TROUBLE_WAIT: TimeDelta = TimeDelta::seconds(60);
/// Gone records of one look whose merge winners are searched for: events name most of them.
const WINNERLESS_MAX: usize = 5;
/// Records asked for one by one that bring no answer, before the CRM as a whole is taken to be in
/// trouble.
const UNANSWERED_MAX: usize = 3;

/// What came of one look.
pub(super) enum HintLook {
    /// So many records were asked for.
    Settled(usize),
    /// The CRM did not answer; nothing is changed.
    Unanswered(CrmError),
}

/// Looks at the hints of a run's integration.
pub(super) struct HintDrainer<'r> {
    pub writer: PageWriter<'r>,
    bell: watch::Receiver<u64>,
    looked_at: Option<Instant>,
}

impl<'r> HintDrainer<'r> {
    pub(super) fn new(writer: PageWriter<'r>) -> Self {
        Self { writer, bell: writer.context.hint_bell.listen(), looked_at: None }
    }

    /// Waits as a run does, and looks at hints that come meanwhile, and at calls that wait.
    pub(super) async fn pause(&mut self, session: &mut CrmSession<'r>, wanted: RunPause) -> Result<(), RunError> {
        let (pacer, began) = (session.pacer, Instant::now());
        let mut calls = self.writer.context.aside_bell.listen();
        pacer.begin_pause(&wanted).await?;
        loop {
            let rest =
                self.looked_at.map_or(Duration::ZERO, |looked_at| LOOK_EVERY.saturating_sub(looked_at.elapsed()));
            let bell = &mut self.bell;
            let rung = async {
                sleep(rest).await;
                // Last: a ring that is heard must not be dropped with this future.
                if bell.changed().await.is_err() {
                    // Nobody rings any more.
                    pending::<()>().await;
                }
            };
            let asked = async {
                // Calls of other processes ring nowhere.
                let _ = timeout(CALLS_EVERY, calls.changed()).await;
            };
            tokio::select! {
                biased;
                is_over = pacer.wait_in_slot(wanted.wait.saturating_sub(began.elapsed())) => {
                    return if is_over { Ok(()) } else { Err(wanted.parked(began.elapsed())) };
                }
                () = asked => Box::pin(look_aside::serve(self.writer, session)).await?,
                () = rung => self.drain_between(session).await?,
            }
        }
    }

    /// Between two requests of a run: looks at as many hints as one request takes, and not again at
    /// once. What the CRM does not answer for waits; why is seen by the run's own requests.
    /// Before that a call that waits for this CRM is served.
    pub(super) async fn drain_between(&mut self, session: &mut CrmSession<'r>) -> Result<(), RunError> {
        Box::pin(look_aside::serve(self.writer, session)).await?;
        if self.looked_at.is_some_and(|looked_at| looked_at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let taken = self.take().await?;
        if taken.is_empty() {
            return Ok(());
        }
        self.looked_at = Some(Instant::now());
        if let HintLook::Unanswered(error) = self.settle(session, &taken).await? {
            info!(error = %error, hints = taken.len(), "records that may have changed were not answered for, and wait");
            let wait = match error.retry() {
                RetryAdvice::After(wait) => TimeDelta::from_std(wait).unwrap_or(TROUBLE_WAIT),
                RetryAdvice::Backoff | RetryAdvice::Never => TROUBLE_WAIT,
            };
            self.put_off(taken, wait).await?;
        }
        Ok(())
    }

    /// What is to be looked at now, as many as one request takes.
    pub(super) async fn take(&self) -> Result<Vec<TakenHint>, RunError> {
        let (context, lease) = (self.writer.context, self.writer.job.lease());
        let limit = i64::try_from(LOOK_UP_MAX).unwrap_or(i64::MAX);
        Ok(hint_drains::take(&context.db, lease, context.clock.now(), limit).await?)
    }

    /// Asks for these records, takes in what the CRM says, and deletes the hints with it.
    pub(super) async fn settle(&self, session: &mut CrmSession<'r>, taken: &[TakenHint]) -> Result<HintLook, RunError> {
        let copied = self.writer.job.copied_types();
        let keys: Vec<RecordKey> =
            taken.iter().map(|hint| hint.key.clone()).filter(|key| copied.contains(&key.object_type)).collect();
        let (seen, failed) = match self.ask(session, &keys).await? {
            Ok(answer) => answer,
            Err(error) => return Ok(HintLook::Unanswered(error)),
        };
        let mut page = page_of(seen, &keys);
        name_successors(&mut page, taken);
        let has_no_news: HashSet<RecordKey> = without_news(&page, taken).chain(failed).collect();
        successors::add(session, self.writer, &mut page, WINNERLESS_MAX).await?;
        let intake = self.writer.intake(self.writer.normalize(page, None).await?).await?;
        let is_left = |hint: &&TakenHint| has_no_news.contains(&hint.key) && hint.attempts + 1 < ATTEMPTS_MAX;
        let (again, settled): (Vec<&TakenHint>, Vec<&TakenHint>) = taken.iter().partition(is_left);
        let given_up = settled.iter().filter(|hint| has_no_news.contains(&hint.key)).count();
        let first_at: Vec<DateTime<Utc>> = settled.iter().map(|hint| hint.first_at).collect();
        let (asked, repeated) = (keys.len(), again.len());
        let owned = |hints: Vec<&TakenHint>| hints.into_iter().cloned().collect();
        let now = intake.now;
        let of_events =
            taken.iter().filter(|hint| hint.reason == HintReason::Event).map(|hint| hint.key.clone()).collect();
        let work = ApplyHints { intake, settled: owned(settled), again: owned(again), of_events };
        let gained = self.writer.context.db.of(self.writer.job.lease().account_id).run(work).await?;
        self.writer.adopt_late(gained, now).await?;
        let ages = first_at.into_iter().map(|first_at| (now - first_at).to_std().unwrap_or_default());
        metrics::hints_settled(self.writer.job.provider().as_str(), ages, given_up, repeated);
        debug!(hints = asked, repeated, given_up, "records that may have changed were asked for");
        Ok(HintLook::Settled(asked))
    }

    /// Lets these wait, and counts an attempt of one that was asked for alone: that may be its own
    /// fault.
    pub(super) async fn put_off(&self, taken: Vec<TakenHint>, wait: TimeDelta) -> Result<(), RunError> {
        let (context, lease) = (self.writer.context, self.writer.job.lease());
        let (over, again): (Vec<TakenHint>, Vec<TakenHint>) = if taken.len() == 1 {
            taken.into_iter().partition(|hint| hint.attempts + 1 >= ATTEMPTS_MAX)
        } else {
            (Vec::new(), taken)
        };
        metrics::hints_settled(self.writer.job.provider().as_str(), std::iter::empty(), over.len(), again.len());
        let work = PutOffHints { lease, over, again, not_before: context.clock.now() + wait };
        context.db.of(lease.account_id).run(work).await
    }

    /// Asks for records, and where that fails for each alone. Gives which the CRM did not answer
    /// for though it did for others; an error: it answered for none.
    async fn ask(
        &self,
        session: &mut CrmSession<'r>,
        keys: &[RecordKey],
    ) -> Result<Result<(RecordSightings, Vec<RecordKey>), CrmError>, RunError> {
        if keys.is_empty() {
            return Ok(Ok((RecordSightings::default(), Vec::new())));
        }
        let error = match session.look_up_once(keys).await? {
            Ok(seen) => return Ok(Ok((seen, Vec::new()))),
            Err(error) => error,
        };
        if !error.is_local() || keys.len() == 1 {
            return Ok(Err(error));
        }
        let (mut seen, mut failed) = (RecordSightings::default(), Vec::new());
        for key in keys {
            if failed.len() >= UNANSWERED_MAX {
                // The rest is left for the next look.
                failed.push(key.clone());
                continue;
            }
            match session.look_up_once(std::slice::from_ref(key)).await? {
                Ok(one) => seen.absorb(one),
                Err(error) if error.is_local() => failed.push(key.clone()),
                Err(error) => return Ok(Err(error)),
            }
        }
        if failed.len() == keys.len() { Ok(Err(error)) } else { Ok(Ok((seen, failed))) }
    }
}

/// What an event has said and the CRM's record does not: what it was merged into. Where the event
/// does not say which of two lives on, each is the other's: the one that is gone was merged. If
/// both are gone, the one that was is not known, and neither is named.
fn name_successors(page: &mut RecordPage, taken: &[TakenHint]) {
    let gone = gone_keys(page);
    let named: HashMap<&RecordKey, &RecordKey> =
        taken.iter().filter_map(|hint| Some((&hint.key, hint.successor.as_ref()?))).collect();
    let find = |key: &RecordKey| {
        let successor = *named.get(key)?;
        let is_circle = named.get(successor) == Some(&key) && gone.contains(successor);
        (!is_circle).then(|| successor.clone())
    };
    for record in page.records.iter_mut().filter(|record| record.is_gone && record.successor.is_none()) {
        record.successor = find(&record.key);
    }
    for gone in &mut page.gone {
        gone.successor = find(&gone.key);
    }
}

fn gone_keys(page: &RecordPage) -> HashSet<RecordKey> {
    let gone_records = page.records.iter().filter(|record| record.is_gone).map(|record| &record.key);
    gone_records.chain(page.gone.iter().map(|gone| &gone.key)).cloned().collect()
}

/// Records whose answer is older than what was told of them: it came from a copy that lags. So did
/// one that shows both of a merge as live.
fn without_news<'t>(page: &RecordPage, taken: &'t [TakenHint]) -> impl Iterator<Item = RecordKey> + use<'t> {
    let gone = gone_keys(page);
    let seen: HashMap<RecordKey, DateTime<Utc>> =
        page.records.iter().map(|record: &Record| (record.key.clone(), record.updated_at)).collect();
    taken.iter().filter_map(move |hint| {
        let updated_at = *seen.get(&hint.key)?;
        let is_older = hint.record_updated_at > Some(updated_at);
        let is_unmerged =
            !gone.contains(&hint.key) && hint.successor.as_ref().is_some_and(|successor| !gone.contains(successor));
        (is_older || is_unmerged).then(|| hint.key.clone())
    })
}

/// Takes in what the CRM said of hinted records, and deletes their hints. Gives the numbers that
/// records have gained.
struct ApplyHints {
    intake: PageIntake,
    settled: Vec<TakenHint>,
    /// To be asked for again soon.
    again: Vec<TakenHint>,
    /// Those that events have hinted.
    of_events: HashSet<RecordKey>,
}

impl Transaction for ApplyHints {
    const NAME: &'static str = "apply_hints";
    type Output = Vec<PhoneKey>;
    type Error = RunError;

    async fn run(&self, tx: &mut Tx) -> Result<Vec<PhoneKey>, RunError> {
        let applied = self.intake.take_in(tx).await?;
        let lease = self.intake.run.lease;
        let announced = applied.changed.iter().filter(|(key, _)| self.of_events.contains(key)).count();
        push_losses::note_announced(tx, lease, announced).await?;
        // Answers that cannot be put in order with what is held.
        let is_open = |hint: &&TakenHint| {
            (applied.look_again.contains(&hint.key) && hint.attempts + 1 < ATTEMPTS_MAX)
                || (applied.never_seen.contains(&hint.key) && hint.attempts + 1 < UNSEEN_ATTEMPTS_MAX)
        };
        let (open, settled): (Vec<&TakenHint>, Vec<&TakenHint>) = self.settled.iter().partition(is_open);
        let owned = |hints: Vec<&TakenHint>| hints.into_iter().cloned().collect::<Vec<TakenHint>>();
        hint_drains::remove(tx, lease, &owned(settled)).await?;
        let again = [owned(open), self.again.clone()].concat();
        if !again.is_empty() {
            hint_drains::put_off(tx, lease, &again, true, self.intake.now + NO_NEWS_WAIT).await?;
        }
        Ok(applied.gained)
    }
}

/// Lets hints wait for a CRM that does not answer.
struct PutOffHints {
    lease: Lease,
    /// Asked for often enough.
    over: Vec<TakenHint>,
    again: Vec<TakenHint>,
    not_before: DateTime<Utc>,
}

impl Transaction for PutOffHints {
    const NAME: &'static str = "put_off_hints";
    type Output = ();
    type Error = RunError;

    async fn run(&self, tx: &mut Tx) -> Result<(), RunError> {
        if !lease::lock(tx, self.lease).await? {
            return Err(RunError::LeaseLost);
        }
        hint_drains::remove(tx, self.lease, &self.over).await?;
        let is_attempt = self.again.len() == 1;
        Ok(hint_drains::put_off(tx, self.lease, &self.again, is_attempt, self.not_before).await?)
    }
}
