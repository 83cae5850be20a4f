//! What a call does that finds nobody with a record, where its account looks aside: has the CRMs
//! asked, and waits, within its deadline and without a connection, until somebody may be known.
//! Asks no CRM itself and writes nothing of one: whoever holds an integration's lease does. Trouble
//! is an outcome, and never the call's error.

use std::{
    collections::BTreeMap,
    future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use moka::sync::Cache;
use phone_key::PhoneKey;
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc,
    },
    time::{sleep_until, timeout_at},
};
use tracing::warn;

use super::{
    MatchContext,
    wait_room::{WaitPlace, WaitRoom},
};
use crate::{
    domain::{
        call::MatchAnswer,
        descriptor::Descriptors,
        ids::{AccountId, IntegrationId},
        integration::{Freshness, IntegrationState},
        look_aside::{
            self, AsideAsk, AsideEntry, AsideMode, AsideOutcome, AsideRow, AsideStep, AskedAside, MissGuard, SPACING,
        },
    },
    store::{StoreError, caller_lookup, look_asides},
    telemetry::{chain, metrics},
};

/// What of its deadline a call keeps for its answer.
const ANSWER_RESERVE: Duration = Duration::from_millis(250);
/// With less left of it, nobody is asked.
const TIME_LEAST: Duration = Duration::from_millis(400);
/// A number that nobody had is not asked for again so long, by this process ..
const REMEMBERED_FOR: Duration = Duration::from_mins(1);
/// .. of so many.
const REMEMBERED_MAX: u64 = 20_000;
/// Accounts whose strangers are counted.
const GUARDED_MAX: u64 = 10_000;
/// When a waiting call looks whether the CRMs have answered, milliseconds after it asked. Where its
/// own process asks them, it is woken.
const POLLS_MS: [u64; 12] = [60, 120, 180, 240, 320, 400, 500, 600, 750, 900, 1_100, 1_300];

/// What has CRMs asked for calls.
#[derive(Clone)]
pub struct AsideDesk {
    descriptors: Descriptors,
    asked: mpsc::Sender<AskedAside>,
    answered: broadcast::Sender<AskedAside>,
    room: WaitRoom,
    memory: Cache<(AccountId, PhoneKey), ()>,
    guards: Cache<AccountId, Arc<Mutex<MissGuard>>>,
    since: Instant,
}

/// A call that finds nobody.
pub(super) struct AsideQuestion<'a> {
    pub account_id: AccountId,
    pub key: PhoneKey,
    pub sources: &'a [Freshness],
    /// The most that it waits.
    pub budget: Duration,
    /// When its answer must be on its way.
    pub answer_by: Instant,
}

/// What came of it.
#[derive(Default)]
pub(super) struct AsideReport {
    outcomes: BTreeMap<IntegrationId, AsideOutcome>,
    /// What was asked for, or waited for.
    asked: Vec<IntegrationId>,
    waited: Option<Duration>,
    /// Somebody may have become known.
    pub looks_again: bool,
}

/// What a call is to do about its CRMs.
#[derive(Default)]
struct AsidePlan {
    pending: Vec<PendingAside>,
    entries: Vec<AsideEntry>,
    asks: Vec<AsideAsk>,
}

/// A look that a call waits for.
struct PendingAside {
    integration_id: IntegrationId,
    number: i64,
}

/// Until one of these is over, as this process knows.
async fn one_answered(answered: &mut broadcast::Receiver<AskedAside>, pending: &[PendingAside]) {
    let is_waited_for = |over: AskedAside| {
        pending.iter().any(|one| one.integration_id == over.integration_id && one.number <= over.number)
    };
    loop {
        match answered.recv().await {
            Ok(over) if !is_waited_for(over) => {}
            // Or some were missed.
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // Never: the desk has a sender.
            Err(RecvError::Closed) => future::pending().await,
        }
    }
}

/// Adds the caller's number to searches that have not begun. Gives those that are waited for.
async fn enter(
    context: &MatchContext,
    account_id: AccountId,
    entries: Vec<AsideEntry>,
    report: &mut AsideReport,
) -> Result<Vec<PendingAside>, StoreError> {
    let mut entered = Vec::new();
    for entry in entries {
        let AsideEntry { integration_id, number, .. } = entry;
        if look_asides::enter(&context.call_db, account_id, &entry).await? {
            entered.push(PendingAside { integration_id, number });
        } else {
            report.outcomes.insert(integration_id, AsideOutcome::TooSoon);
        }
    }
    Ok(entered)
}

impl AsideDesk {
    /// `asked`: to whoever asks CRMs in this process; `answered`: wakes calls when one was. At most
    /// `waiting_max` calls wait at once.
    pub fn new(
        descriptors: Descriptors,
        asked: mpsc::Sender<AskedAside>,
        answered: broadcast::Sender<AskedAside>,
        waiting_max: usize,
    ) -> Self {
        Self {
            descriptors,
            asked,
            answered,
            room: WaitRoom::new(waiting_max),
            memory: Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(REMEMBERED_FOR).build(),
            guards: Cache::builder().max_capacity(GUARDED_MAX).time_to_idle(2 * REMEMBERED_FOR).build(),
            since: Instant::now(),
        }
    }

    /// Waits until somebody may be known, the CRMs have nobody, or time is up. Holds a connection
    /// only within a statement; dropping it gives its place back.
    pub(super) async fn look(&self, context: &MatchContext, question: &AsideQuestion<'_>) -> AsideReport {
        let now = context.clock.now();
        let all = |outcome| {
            let of = |source: &Freshness| match source.state(now) {
                IntegrationState::Off => AsideOutcome::NotForThisCrm,
                _ => outcome,
            };
            question.sources.iter().map(|source| (source.integration_id, of(source))).collect()
        };
        let mut report = AsideReport::default();
        let _place = match self.admit(question) {
            Ok(place) => place,
            Err(outcome) => return AsideReport { outcomes: all(outcome), ..report },
        };
        let began = Instant::now();
        let until = (began + question.budget).min(question.answer_by.checked_sub(ANSWER_RESERVE).unwrap_or(began));
        // What has no word yet when time is up.
        report.outcomes = all(AsideOutcome::TimedOut);
        match timeout_at(until.into(), self.ask_and_wait(context, question, &mut report, until)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => {
                warn!(error = %chain(&error), "CRMs were not asked for a caller");
                report = AsideReport { outcomes: all(AsideOutcome::Failed), ..AsideReport::default() };
            }
        }
        if !report.asked.is_empty() {
            report.waited = Some(began.elapsed());
            report.looks_again = true;
        }
        report
    }

    /// Whether CRMs may be asked for this call at all.
    fn admit(&self, question: &AsideQuestion<'_>) -> Result<WaitPlace, AsideOutcome> {
        let &AsideQuestion { account_id, key, answer_by, .. } = question;
        if self.memory.contains_key(&(account_id, key)) {
            return Err(AsideOutcome::Repeated);
        }
        self.guarded(account_id, |guard| guard.note_miss(self.since.elapsed()))?;
        if answer_by.saturating_duration_since(Instant::now()) < TIME_LEAST {
            return Err(AsideOutcome::NoTime);
        }
        self.room.enter(account_id).ok_or(AsideOutcome::Busy)
    }

    fn guarded<T>(&self, account_id: AccountId, act: impl FnOnce(&mut MissGuard) -> T) -> T {
        let guard = self.guards.get_with(account_id, Arc::default);
        let mut guard = guard.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut guard)
    }

    async fn ask_and_wait(
        &self,
        context: &MatchContext,
        question: &AsideQuestion<'_>,
        report: &mut AsideReport,
        until: Instant,
    ) -> Result<(), StoreError> {
        // From now on: an answer may come before this waits.
        let mut answered = self.answered.subscribe();
        let mut pending = self.ask(context, question, report).await?;
        report.asked = pending.iter().map(|one| one.integration_id).collect();
        let began = Instant::now();
        let mut polls = POLLS_MS.iter().map(|ms| began + Duration::from_millis(*ms));
        let mut poll = polls.next().unwrap_or(until);
        while !pending.is_empty() {
            tokio::select! {
                () = one_answered(&mut answered, &pending) => {}
                () = sleep_until(poll.min(until).into()) => poll = polls.next().unwrap_or(until),
            }
            let is_news = self.take_answers(context, question, &mut pending, report).await?;
            if is_news && !pending.is_empty() && self.is_known(context, question).await? {
                break;
            }
        }
        Ok(())
    }

    /// Decides about each CRM, and has those asked that are to be. Gives what is waited for.
    async fn ask(
        &self,
        context: &MatchContext,
        question: &AsideQuestion<'_>,
        report: &mut AsideReport,
    ) -> Result<Vec<PendingAside>, StoreError> {
        let account_id = question.account_id;
        let rows = look_asides::list(&context.call_db, account_id).await?;
        let sources: Vec<&Freshness> = question.sources.iter().collect();
        let AsidePlan { mut pending, entries, asks } = self.plan(context, question.key, &sources, &rows, report);
        let entered = entries.iter().map(|entry| entry.integration_id);
        let waited_for = pending.iter().map(|one| one.integration_id).chain(entered);
        let waited_for: Vec<IntegrationId> = waited_for.chain(asks.iter().map(|ask| ask.integration_id)).collect();
        if waited_for.is_empty() {
            return Ok(pending);
        }
        if let Err(outcome) = self.guarded(account_id, MissGuard::take_look) {
            report.outcomes.extend(waited_for.into_iter().map(|id| (id, outcome)));
            return Ok(Vec::new());
        }
        pending.extend(enter(context, account_id, entries, report).await?);
        if asks.is_empty() {
            return Ok(pending);
        }
        let won = look_asides::ask(&context.call_db, account_id, &asks, context.clock.now()).await?;
        let (ours, lost): (Vec<AsideAsk>, Vec<AsideAsk>) =
            asks.into_iter().partition(|ask| won.contains(&ask.integration_id));
        for AsideAsk { integration_id, number, .. } in ours {
            let asked = AskedAside { account_id, integration_id, number };
            if self.asked.try_send(asked).is_ok() {
                pending.push(PendingAside { integration_id, number });
                continue;
            }
            // More than can be asked in time: nobody is to wait for it.
            look_asides::refuse(&context.call_db, asked).await?;
            report.outcomes.insert(integration_id, AsideOutcome::Busy);
        }
        if lost.is_empty() {
            return Ok(pending);
        }
        // Other calls were quicker.
        let rows = look_asides::list(&context.call_db, account_id).await?;
        let lost: Vec<IntegrationId> = lost.iter().map(|ask| ask.integration_id).collect();
        let sources: Vec<&Freshness> =
            question.sources.iter().filter(|source| lost.contains(&source.integration_id)).collect();
        let plan = self.plan(context, question.key, &sources, &rows, report);
        report.outcomes.extend(plan.asks.iter().map(|ask| (ask.integration_id, AsideOutcome::TooSoon)));
        pending.extend(plan.pending);
        pending.extend(enter(context, account_id, plan.entries, report).await?);
        Ok(pending)
    }

    /// What is joined, and what is to be asked; of the others the outcome is noted.
    fn plan(
        &self,
        context: &MatchContext,
        key: PhoneKey,
        sources: &[&Freshness],
        rows: &[AsideRow],
        report: &mut AsideReport,
    ) -> AsidePlan {
        let (now, mut plan) = (context.clock.now(), AsidePlan::default());
        for source in sources {
            let integration_id = source.integration_id;
            let row = rows.iter().find(|row| row.integration_id == integration_id);
            // What it brought may have come after this call had looked.
            report.looks_again |=
                row.is_some_and(|row| row.asked == row.answered && (now - row.asked_at).abs() < SPACING);
            let rules = &self.descriptors[source.provider].look_aside;
            match look_aside::plan(source, rules, row, key, now) {
                AsideStep::Ask(ask) => plan.asks.push(ask),
                AsideStep::Enter(entry) => plan.entries.push(entry),
                AsideStep::Join(number) => plan.pending.push(PendingAside { integration_id, number }),
                AsideStep::Told(outcome) => {
                    report.outcomes.insert(integration_id, outcome);
                }
            }
        }
        plan
    }

    /// Notes which CRMs have answered; whether one of them may have brought somebody.
    async fn take_answers(
        &self,
        context: &MatchContext,
        question: &AsideQuestion<'_>,
        pending: &mut Vec<PendingAside>,
        report: &mut AsideReport,
    ) -> Result<bool, StoreError> {
        let ids: Vec<IntegrationId> = pending.iter().map(|one| one.integration_id).collect();
        let answers = look_asides::find_answered(&context.call_db, question.account_id, &ids).await?;
        let mut is_news = false;
        pending.retain(|one| {
            let answer = answers.iter().find(|answer| answer.integration_id == one.integration_id);
            let Some(answer) = answer.filter(|answer| answer.answered >= one.number) else { return true };
            let outcome = if answer.has_failed { AsideOutcome::Failed } else { AsideOutcome::NothingFound };
            // A failure of one kind of objects, too, may have brought somebody of another.
            is_news = true;
            report.outcomes.insert(one.integration_id, outcome);
            false
        });
        Ok(is_news)
    }

    async fn is_known(&self, context: &MatchContext, question: &AsideQuestion<'_>) -> Result<bool, StoreError> {
        let lookup = caller_lookup::read_lean(&context.call_db, question.account_id, question.key, None).await?;
        // A shared line is known.
        Ok(lookup.is_none_or(|lookup| lookup.has_record()))
    }

    /// Says in the answer what the look came to, now that it is known who calls, and remembers a
    /// number that nobody has.
    pub(super) fn tell(&self, account_id: AccountId, report: AsideReport, answer: &mut MatchAnswer) {
        let AsideReport { mut outcomes, asked, waited, .. } = report;
        for record in answer.candidates.iter().flat_map(|contact| &contact.records).filter(|record| record.is_live) {
            if let Some(outcome @ (AsideOutcome::NothingFound | AsideOutcome::TimedOut | AsideOutcome::Failed)) =
                outcomes.get_mut(&record.integration_id)
            {
                *outcome = AsideOutcome::Found;
            }
        }
        for source in &answer.sources {
            if let Some(outcome) = outcomes.get(&source.integration_id) {
                metrics::looked_aside(source.provider.as_str(), outcome.as_str());
            }
        }
        // A CRM that was not asked, or has not answered, may have him.
        let is_final =
            |outcome: &AsideOutcome| matches!(outcome, AsideOutcome::NothingFound | AsideOutcome::NotForThisCrm);
        if let Some(key) = answer.key.filter(|_| !asked.is_empty() && outcomes.values().all(is_final)) {
            self.memory.insert((account_id, key), ());
        }
        answer.look_asides = outcomes.into_iter().collect();
        answer.look_aside_wait = waited;
    }

    /// Which CRMs a call would have asked that finds nobody, and how, whatever was asked before.
    pub(super) fn would_ask(&self, context: &MatchContext, answer: &MatchAnswer) -> Vec<(IntegrationId, AsideMode)> {
        let (Some(key), now) = (answer.key, context.clock.now()) else { return Vec::new() };
        let step = |source: &Freshness| {
            let rules = &self.descriptors[source.provider].look_aside;
            match look_aside::plan(source, rules, None, key, now) {
                AsideStep::Ask(ask) => Some((source.integration_id, ask.mode)),
                AsideStep::Join(_) | AsideStep::Enter(_) | AsideStep::Told(_) => None,
            }
        };
        answer.sources.iter().filter_map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    fn integration(number: u128) -> IntegrationId {
        IntegrationId(Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn only_what_a_call_waits_for_wakes_it() {
        let answered = broadcast::Sender::new(4);
        let mut heard = answered.subscribe();
        let pending = [PendingAside { integration_id: integration(1), number: 7 }];
        let tell = |of, number| {
            let over = AskedAside { account_id: AccountId(Uuid::nil()), integration_id: integration(of), number };
            answered.send(over).unwrap();
        };
        tell(2, 7);
        tell(1, 6);
        assert!(one_answered(&mut heard, &pending).now_or_never().is_none(), "of another, or of an earlier look");

        tell(1, 7);
        assert!(one_answered(&mut heard, &pending).now_or_never().is_some());
        for _ in 0..5 {
            tell(2, 1);
        }
        assert!(one_answered(&mut heard, &pending).now_or_never().is_some(), "some were missed");
    }
}
