//! Whether a call that found nobody has a CRM asked, and what for: decided from the row of the last
//! look and from what strangers did in this minute. Pure. A **delta** asks what has changed since
//! the last run, a **search** asks for the numbers of the calls that wait for it.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use phone_key::PhoneKey;
use strum::{EnumString, IntoStaticStr};

use super::{
    hook::PushState,
    ids::{AccountId, IntegrationId},
    integration::{Freshness, IntegrationState},
};

/// From the beginning of one look into a CRM to the next.
pub const SPACING: TimeDelta = TimeDelta::seconds(5);
/// A look that was asked for longer ago and is not answered is under way nowhere any more.
const ABANDONED_AFTER: TimeDelta = TimeDelta::seconds(10);
/// Looks take one in so many of what a CRM gives a day.
const DAY_SHARE: i64 = 10;
/// Numbers that one search looks for.
pub const NUMBERS_MAX: usize = 4;
/// Unknown callers of an account in a minute; more are no customers who happen to be new.
const MISSES_MAX: u32 = 30;
/// Looks for callers of an account in a minute.
const LOOKS_MAX: u32 = 20;
/// How long an account with too many misses does not look.
const OFF_FOR: Duration = Duration::from_mins(1);
const MINUTE: Duration = Duration::from_mins(1);

/// How a CRM is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum AsideMode {
    /// What has changed since the last run.
    Delta,
    /// Who has these numbers.
    Search,
}

impl AsideMode {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What a look into one CRM came to, as answers say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum AsideOutcome {
    /// The CRM has somebody with the number.
    Found,
    /// It was asked a moment ago, and has nobody new with it.
    NothingFound,
    /// It had not answered in time.
    TimedOut,
    /// It did not answer, or refused.
    Failed,
    /// Its day's share is spent.
    OutOfBudget,
    /// It was asked something else a moment ago, or too often in this minute.
    TooSoon,
    /// It is not asked in this state.
    NotForThisCrm,
    /// It was asked for this very number within the last minute.
    Repeated,
    /// Too many unknown numbers call.
    TooManyMisses,
    /// Too many calls wait.
    Busy,
    /// Too little of the deadline was left.
    NoTime,
}

impl AsideOutcome {
    /// As a label of metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How a CRM can be asked, and what that costs of the limit that it tells for a day, in its unit.
#[derive(Debug)]
pub struct AsideRules {
    /// It lists what has changed, without delay.
    pub has_delta: bool,
    /// When it is searched.
    pub search: SearchWhen,
    /// What a delta costs.
    pub delta_cost: i64,
    /// What a search costs for each number, with reading whom it finds.
    pub search_cost: i64,
}

/// When a CRM is searched by number. Its index is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchWhen {
    /// Before its first copy is whole.
    FirstCopy,
    /// While it does not push its changes.
    PushDown,
}

/// The last look into one CRM, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideRow {
    /// Which CRM.
    pub integration_id: IntegrationId,
    /// Number of the last look.
    pub asked: i64,
    /// Number of the last one that is over.
    pub answered: i64,
    /// When it was asked for.
    pub asked_at: DateTime<Utc>,
    /// How.
    pub mode: AsideMode,
    /// The numbers looked for; none: a delta, or it is over.
    pub keys: Vec<PhoneKey>,
    /// The CRM is asked: no other call's number joins it.
    pub has_begun: bool,
    /// The CRM did not answer it.
    pub has_failed: bool,
    /// The day of `day_cost`, UTC.
    pub day: NaiveDate,
    /// What the looks of that day cost.
    pub day_cost: i64,
    /// What the CRM gives a day, if it has said so.
    pub day_limit: Option<i64>,
}

impl AsideRow {
    /// Whether the looks of a day may cost so much.
    fn affords(&self, day_cost: i64) -> bool {
        self.day_limit.is_none_or(|limit| day_cost.saturating_mul(DAY_SHARE) <= limit)
    }
}

/// What a call does about one CRM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AsideStep {
    /// Has it asked.
    Ask(AsideAsk),
    /// Waits for the look with this number, which is under way.
    Join(i64),
    /// Adds its own to the numbers that a search is about to look for, and waits for it.
    Enter(AsideEntry),
    /// Nothing: that is what is said.
    Told(AsideOutcome),
}

/// A look that is to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideAsk {
    /// Which CRM.
    pub integration_id: IntegrationId,
    /// One more than the last look's.
    pub number: i64,
    /// How.
    pub mode: AsideMode,
    /// The number looked for; `None`: a delta.
    pub key: Option<PhoneKey>,
    /// What the looks of today cost with it.
    pub day_cost: i64,
}

/// A number that is to join the others of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsideEntry {
    /// Which CRM.
    pub integration_id: IntegrationId,
    /// The search's number.
    pub number: i64,
    /// The number looked for.
    pub key: PhoneKey,
    /// What it adds to what the looks of that day cost.
    pub cost: i64,
}

/// A look that was asked for, for whoever asks the CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedAside {
    /// Whose.
    pub account_id: AccountId,
    /// Which CRM.
    pub integration_id: IntegrationId,
    /// Its number.
    pub number: i64,
}

/// What to do about one CRM for a caller whom nobody here knows.
pub fn plan(
    source: &Freshness,
    rules: &AsideRules,
    row: Option<&AsideRow>,
    key: PhoneKey,
    now: DateTime<Utc>,
) -> AsideStep {
    let Some(mode) = mode_of(source, rules, now) else { return AsideStep::Told(AsideOutcome::NotForThisCrm) };
    if let Some(row) = row {
        // Of two processes one's clock may be a moment ahead.
        let is_recent = |limit| (now - row.asked_at).abs() < limit;
        if row.asked > row.answered && is_recent(ABANDONED_AFTER) {
            return join(row, rules, key);
        }
        if is_recent(SPACING) {
            return AsideStep::Told(match row.mode {
                _ if row.has_failed => AsideOutcome::Failed,
                AsideMode::Delta => AsideOutcome::NothingFound,
                // Of which number is not kept.
                AsideMode::Search => AsideOutcome::TooSoon,
            });
        }
    }
    let today = now.date_naive();
    let spent = row.filter(|row| row.day == today).map_or(0, |row| row.day_cost);
    let day_cost = spent.saturating_add(match mode {
        AsideMode::Delta => rules.delta_cost,
        AsideMode::Search => rules.search_cost,
    });
    if row.is_some_and(|row| !row.affords(day_cost)) {
        return AsideStep::Told(AsideOutcome::OutOfBudget);
    }
    AsideStep::Ask(AsideAsk {
        integration_id: source.integration_id,
        number: row.map_or(0, |row| row.asked) + 1,
        mode,
        key: (mode == AsideMode::Search).then_some(key),
        day_cost,
    })
}

/// A look that is under way.
fn join(row: &AsideRow, rules: &AsideRules, key: PhoneKey) -> AsideStep {
    let cost = rules.search_cost;
    match row.mode {
        AsideMode::Delta => AsideStep::Join(row.asked),
        AsideMode::Search if row.keys.contains(&key) => AsideStep::Join(row.asked),
        AsideMode::Search if row.has_begun || row.keys.len() >= NUMBERS_MAX => AsideStep::Told(AsideOutcome::TooSoon),
        AsideMode::Search if !row.affords(row.day_cost.saturating_add(cost)) => {
            AsideStep::Told(AsideOutcome::OutOfBudget)
        }
        AsideMode::Search => {
            AsideStep::Enter(AsideEntry { integration_id: row.integration_id, number: row.asked, key, cost })
        }
    }
}

fn mode_of(source: &Freshness, rules: &AsideRules, now: DateTime<Utc>) -> Option<AsideMode> {
    let search = match rules.search {
        SearchWhen::FirstCopy => false,
        SearchWhen::PushDown => source.push_state(now) != Some(PushState::Active),
    };
    match source.state(now) {
        IntegrationState::Active | IntegrationState::Stale if rules.has_delta => Some(AsideMode::Delta),
        IntegrationState::Active | IntegrationState::Stale => search.then_some(AsideMode::Search),
        IntegrationState::Pending | IntegrationState::InitialSync => {
            (search || rules.search == SearchWhen::FirstCopy).then_some(AsideMode::Search)
        }
        IntegrationState::Paused
        | IntegrationState::QuotaPaused
        | IntegrationState::AuthFailed
        | IntegrationState::Off => None,
    }
}

/// How many strangers call one account, and how often CRMs were asked for them, in one process. By
/// a clock that nobody sets.
#[derive(Debug, Clone, Copy, Default)]
pub struct MissGuard {
    /// Of the minute that is counted; `None`: none yet.
    began: Option<Duration>,
    misses: u32,
    looks: u32,
    off_until: Duration,
}

impl MissGuard {
    /// A stranger calls. `now`: since any moment that stays the same.
    pub fn note_miss(&mut self, now: Duration) -> Result<(), AsideOutcome> {
        if self.began.is_none_or(|began| now.saturating_sub(began) >= MINUTE) {
            (self.began, self.misses, self.looks) = (Some(now), 0, 0);
        }
        self.misses = self.misses.saturating_add(1);
        if self.misses > MISSES_MAX {
            self.off_until = now + OFF_FOR;
        }
        if now < self.off_until { Err(AsideOutcome::TooManyMisses) } else { Ok(()) }
    }

    /// CRMs are asked for that stranger.
    pub fn take_look(&mut self) -> Result<(), AsideOutcome> {
        self.looks = self.looks.saturating_add(1);
        if self.looks > LOOKS_MAX { Err(AsideOutcome::TooSoon) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        integration::{PushSight, SyncHold},
        provider::Provider,
    };

    const DELTAS: AsideRules =
        AsideRules { has_delta: true, search: SearchWhen::FirstCopy, delta_cost: 10, search_cost: 40 };
    const SEARCHES: AsideRules =
        AsideRules { has_delta: false, search: SearchWhen::PushDown, delta_cost: 0, search_cost: 2 };

    fn now() -> DateTime<Utc> {
        "2026-12-01T10:00:00Z".parse().unwrap()
    }

    fn key(digits: i64) -> PhoneKey {
        PhoneKey::try_from_i64(digits).unwrap()
    }

    fn active() -> Freshness {
        Freshness {
            integration_id: IntegrationId(Uuid::nil()),
            provider: Provider::Salesforce,
            is_enabled: true,
            is_sync_on: true,
            hold: None,
            first_started_at: Some(now()),
            last_completed_at: Some(now()),
            known_through: Some(now()),
            period_seconds: 1_800,
            is_widened: false,
            has_unread: false,
            is_push_wished: true,
            push: None,
        }
    }

    fn row() -> AsideRow {
        AsideRow {
            integration_id: IntegrationId(Uuid::nil()),
            asked: 7,
            answered: 7,
            asked_at: now() - TimeDelta::minutes(1),
            mode: AsideMode::Delta,
            keys: Vec::new(),
            has_begun: true,
            has_failed: false,
            day: now().date_naive(),
            day_cost: 30,
            day_limit: None,
        }
    }

    fn asked_mode(source: &Freshness, rules: &AsideRules) -> Option<AsideMode> {
        match plan(source, rules, None, key(13_105_550_100), now()) {
            AsideStep::Ask(ask) => Some(ask.mode),
            _ => None,
        }
    }

    #[test]
    fn state_and_push_decide_how_a_crm_is_asked() {
        let pushed = |state| PushSight { state, checked_at: Some(now()) };
        let first_copy = Freshness { last_completed_at: None, ..active() };
        let pending = Freshness { first_started_at: None, ..first_copy.clone() };
        let stale = Freshness { last_completed_at: Some(now() - TimeDelta::hours(9)), ..active() };
        let held = |hold| Freshness { hold: Some(hold), ..active() };
        let off = Freshness { is_sync_on: false, ..active() };
        let (delta, search) = (Some(AsideMode::Delta), Some(AsideMode::Search));

        for (source, of_deltas, of_searches) in [
            (active(), delta, search),
            (stale, delta, search),
            (first_copy.clone(), search, search),
            (pending, search, search),
            (Freshness { push: Some(pushed(PushState::Active)), ..active() }, delta, None),
            (Freshness { push: Some(pushed(PushState::Active)), ..first_copy }, search, None),
            (Freshness { push: Some(pushed(PushState::Degraded)), ..active() }, delta, search),
            (Freshness { push: Some(pushed(PushState::Unavailable)), ..active() }, delta, search),
            (Freshness { push: Some(pushed(PushState::Active)), is_push_wished: false, ..active() }, delta, search),
            (held(SyncHold::Paused), None, None),
            (held(SyncHold::QuotaPaused), None, None),
            (held(SyncHold::AuthFailed), None, None),
            (off, None, None),
        ] {
            assert_eq!(asked_mode(&source, &DELTAS), of_deltas, "{source:?}");
            assert_eq!(asked_mode(&source, &SEARCHES), of_searches, "{source:?}");
        }
    }

    #[test]
    fn last_look_is_joined_waited_for_or_told() {
        let ours = key(13_105_550_100);
        let before = |seconds: i64| now() - TimeDelta::seconds(seconds);
        let open = |seconds| AsideRow { asked: 8, asked_at: before(seconds), ..row() };
        let over = |seconds| AsideRow { asked_at: before(seconds), ..row() };
        let search = |row: AsideRow, of: Option<PhoneKey>| {
            let keys = of.into_iter().collect();
            AsideRow { mode: AsideMode::Search, keys, ..row }
        };
        let told = AsideStep::Told;
        let planned = |row: &AsideRow| plan(&active(), &DELTAS, Some(row), ours, now());

        for (row, expected) in [
            (open(0), AsideStep::Join(8)),
            (open(9), AsideStep::Join(8)),
            (search(open(3), Some(ours)), AsideStep::Join(8)),
            (search(open(3), Some(key(13_105_550_199))), told(AsideOutcome::TooSoon)),
            (over(0), told(AsideOutcome::NothingFound)),
            (over(4), told(AsideOutcome::NothingFound)),
            (search(over(4), None), told(AsideOutcome::TooSoon)),
            // Asked for by a clock that is a moment ahead.
            (open(-1), AsideStep::Join(8)),
            (over(-1), told(AsideOutcome::NothingFound)),
            (AsideRow { has_failed: true, ..over(4) }, told(AsideOutcome::Failed)),
        ] {
            assert_eq!(planned(&row), expected, "{row:?}");
        }
        for (row, number) in [
            (over(5), 8),
            (AsideRow { has_failed: true, ..over(5) }, 8),
            // Abandoned: whoever asked for it is gone.
            (open(10), 9),
            // Asked for by a clock that was far ahead.
            (open(-10), 9),
            (over(-60), 8),
        ] {
            let AsideStep::Ask(ask) = planned(&row) else { panic!("not asked: {row:?}") };
            assert_eq!((ask.number, ask.mode, ask.key), (number, AsideMode::Delta, None), "{row:?}");
        }
    }

    #[test]
    fn number_joins_others_of_a_search_that_has_not_begun() {
        let ours = key(13_105_550_100);
        let gathers = |count: i64| AsideRow {
            asked: 8,
            asked_at: now(),
            mode: AsideMode::Search,
            keys: (0..count).map(|n| key(13_105_550_200 + n)).collect(),
            has_begun: false,
            ..row()
        };
        let planned = |row: &AsideRow| plan(&active(), &SEARCHES, Some(row), ours, now());
        let too_soon = AsideStep::Told(AsideOutcome::TooSoon);
        let integration_id = row().integration_id;

        assert_eq!(
            planned(&gathers(3)),
            AsideStep::Enter(AsideEntry { integration_id, number: 8, key: ours, cost: 2 })
        );
        assert_eq!(planned(&gathers(4)), too_soon, "enough for one search");
        assert_eq!(planned(&AsideRow { has_begun: true, ..gathers(1) }), too_soon);
        let spent = |day_cost| AsideRow { day_cost, day_limit: Some(1_000), ..gathers(1) };
        assert!(matches!(planned(&spent(98)), AsideStep::Enter(_)));
        assert_eq!(planned(&spent(99)), AsideStep::Told(AsideOutcome::OutOfBudget));
    }

    #[test]
    fn tenth_of_day_is_never_passed_and_begins_anew() {
        let ours = key(13_105_550_100);
        let spent = |day_cost, day_limit| AsideRow { day_cost, day_limit, ..row() };
        let planned = |row: &AsideRow| plan(&active(), &DELTAS, Some(row), ours, now());

        let AsideStep::Ask(ask) = planned(&spent(90, Some(1_000))) else { panic!("a tenth is allowed") };
        assert_eq!(ask.day_cost, 100);
        assert_eq!(planned(&spent(91, Some(1_000))), AsideStep::Told(AsideOutcome::OutOfBudget));
        let yesterday = AsideRow { day: now().date_naive().pred_opt().unwrap(), ..spent(i64::MAX, Some(1_000)) };
        let AsideStep::Ask(ask) = planned(&yesterday) else { panic!("a new day") };
        assert_eq!(ask.day_cost, 10);
        assert!(matches!(planned(&spent(i64::MAX, None)), AsideStep::Ask(_)), "no limit is known");
    }

    #[test]
    fn thirty_misses_a_minute_switch_off_for_a_minute() {
        let (mut guard, second) = (MissGuard::default(), Duration::from_secs);

        for _ in 0..30 {
            assert_eq!(guard.note_miss(second(1)), Ok(()));
        }
        assert_eq!(guard.note_miss(second(2)), Err(AsideOutcome::TooManyMisses));
        assert_eq!(guard.note_miss(second(61)), Err(AsideOutcome::TooManyMisses), "counted anew, and still off");
        assert_eq!(guard.note_miss(second(62)), Ok(()));
    }

    #[test]
    fn twenty_looks_a_minute_are_enough() {
        let (mut guard, second) = (MissGuard::default(), Duration::from_secs);

        for at in 0..20 {
            guard.note_miss(second(at)).unwrap();
            assert_eq!(guard.take_look(), Ok(()));
        }
        guard.note_miss(second(59)).unwrap();
        assert_eq!(guard.take_look(), Err(AsideOutcome::TooSoon));
        guard.note_miss(second(60)).unwrap();
        assert_eq!(guard.take_look(), Ok(()));
    }
}
