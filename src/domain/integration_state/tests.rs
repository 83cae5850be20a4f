//! Every state and every event, by the table in `table.txt`; then the rules of failures one by one.

use std::{fmt::Write as _, time::Duration};

use super::*;
use crate::domain::{options::UserRoles, provider::Provider};

const HELD: i64 = 412;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000_000, 0).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "as the columns have it")]
fn minutes_ago(minutes: i64) -> Option<DateTime<Utc>> {
    Some(now() - TimeDelta::minutes(minutes))
}

fn acme() -> Organization {
    Organization { provider: Provider::Zendesk, name: "acme".to_owned() }
}

fn zendesk() -> &'static ProviderDescriptor {
    crate::crm::descriptors()[Provider::Zendesk]
}

/// Copied half an hour ago, and due.
fn active() -> ControlState {
    ControlState {
        last_completed_at: minutes_ago(30),
        due_at: minutes_ago(0),
        sweep_due_at: Some(now() + TimeDelta::hours(20)),
        ..ControlState::enable_new(link(), now()).state
    }
}

fn link() -> LinkSettings {
    LinkSettings {
        organization: acme(),
        company_id: None,
        request_id: None,
        is_sync_on: true,
        period_seconds: 1_800,
        options: Options::default(),
        descriptor: zendesk(),
    }
}

fn end_users() -> Options {
    Options { user_roles: UserRoles::EndUsers, ..Options::default() }
}

fn held(hold: SyncHold) -> ControlState {
    let notice = Notice::fixed("EARLIER", "as it was");
    ControlState { hold: Some(hold), hold_notice: Some(notice), failures: 5, refused_at: minutes_ago(60), ..active() }
}

fn states() -> Vec<(&'static str, ControlState)> {
    let disabled = ControlState { is_enabled: false, is_sync_on: false, due_at: None, ..active() };
    let spent = ControlState { refresh_use: RefreshUse::Spent, due_at: None, ..held(SyncHold::AuthFailed) };
    vec![
        ("first copy", ControlState::enable_new(link(), now()).state),
        ("active", active()),
        ("sync off", ControlState { is_sync_on: false, due_at: None, ..active() }),
        ("disabled", disabled.clone()),
        ("purging", ControlState { is_purging: true, due_at: minutes_ago(1), ..disabled }),
        ("refused once", ControlState { refused_at: minutes_ago(1), failures: 1, ..active() }),
        ("auth failed", held(SyncHold::AuthFailed)),
        ("token spent", spent),
        ("uninstalled", active().apply(ControlEvent::Uninstalled, now()).unwrap().state),
        ("paused", held(SyncHold::Paused)),
        ("quota paused", held(SyncHold::QuotaPaused)),
        ("two failures", ControlState { failures: 2, ..active() }),
        ("sweep due", ControlState { sweep_due_at: minutes_ago(5), ..active() }),
        ("widened", ControlState { is_widened: true, sweep_due_at: minutes_ago(20), ..active() }),
        ("braked", ControlState { held_deletions: Some(HELD), ..active() }),
        ("confirmed", ControlState { held_deletions: Some(HELD), confirmed_deletions: Some(HELD), ..active() }),
        ("unread", ControlState { has_unread: true, ..active() }),
    ]
}

fn update() -> SettingsUpdate {
    SettingsUpdate {
        is_sync_on: None,
        period_seconds: None,
        options: Options::default(),
        descriptor: zendesk(),
        has_new_credentials: false,
        organization_name: None,
        company_id: None,
    }
}

fn completion(kind: SyncKind) -> RunCompletion {
    RunCompletion {
        kind,
        started_at: minutes_ago(10),
        planned_sweep_at: Some(now() + TimeDelta::hours(20)),
        sweep_every: Some(TimeDelta::days(1)),
        sweep: None,
        is_incomplete: false,
        is_retry_asked: false,
        keeps_unread: false,
    }
}

fn failure(verdict: FailureVerdict) -> ControlEvent {
    ControlEvent::RunFailed(RunFailure { verdict, notice: Notice::fixed("FAILED", "just now"), has_progressed: false })
}

fn events() -> Vec<(&'static str, ControlEvent)> {
    let swept =
        |held_deletions| RunCompletion { sweep: Some(SweepOutcome { held_deletions }), ..completion(SyncKind::Sweep) };
    let renamed =
        SettingsUpdate { organization_name: Some("acme2".to_owned()), company_id: Some("17".to_owned()), ..update() };
    let wait = Duration::from_mins(10);
    vec![
        ("enable", ControlEvent::Enable(link())),
        ("enable with other options", ControlEvent::Enable(LinkSettings { options: end_users(), ..link() })),
        ("enable with sync off", ControlEvent::Enable(LinkSettings { is_sync_on: false, ..link() })),
        ("update of nothing", ControlEvent::Update(update())),
        ("update of the options", ControlEvent::Update(SettingsUpdate { options: end_users(), ..update() })),
        ("update of the period", ControlEvent::Update(SettingsUpdate { period_seconds: Some(600), ..update() })),
        ("update of the credentials", ControlEvent::Update(SettingsUpdate { has_new_credentials: true, ..update() })),
        ("update of the name", ControlEvent::Update(renamed)),
        ("sync on", ControlEvent::Update(SettingsUpdate { is_sync_on: Some(true), ..update() })),
        ("sync off", ControlEvent::Update(SettingsUpdate { is_sync_on: Some(false), ..update() })),
        ("trigger", ControlEvent::Trigger(None)),
        ("trigger a sweep", ControlEvent::Trigger(Some(SyncKind::Sweep))),
        ("confirm deletions", ControlEvent::ConfirmDeletions(HELD)),
        ("confirm other deletions", ControlEvent::ConfirmDeletions(HELD + 1)),
        ("cancel run", ControlEvent::CancelRun),
        ("disable", ControlEvent::Disable { purge: false }),
        ("disable and purge", ControlEvent::Disable { purge: true }),
        ("uninstalled", ControlEvent::Uninstalled),
        ("purge completed", ControlEvent::PurgeCompleted),
        ("initial run completed", ControlEvent::RunCompleted(completion(SyncKind::Initial))),
        ("run completed", ControlEvent::RunCompleted(completion(SyncKind::Incremental))),
        (
            "run completed, incomplete",
            ControlEvent::RunCompleted(RunCompletion { is_incomplete: true, ..completion(SyncKind::Incremental) }),
        ),
        (
            "run completed, records unread",
            ControlEvent::RunCompleted(RunCompletion {
                is_retry_asked: true,
                keeps_unread: true,
                ..completion(SyncKind::Incremental)
            }),
        ),
        ("sweep completed", ControlEvent::RunCompleted(swept(None))),
        ("sweep completed, braked", ControlEvent::RunCompleted(swept(Some(HELD)))),
        ("failed, passes", failure(FailureVerdict::Passes)),
        ("failed, waits", failure(FailureVerdict::Waits(wait))),
        ("failed, refused", failure(REFUSED)),
        ("failed, grant refused", failure(GRANT_REFUSED)),
        ("failed, lasts", failure(FailureVerdict::Lasts)),
        ("failed, final", failure(FailureVerdict::Final { spends_refresh_token: false })),
        ("failed, final and spent", failure(FailureVerdict::Final { spends_refresh_token: true })),
        ("failed, stops", failure(FailureVerdict::Stops)),
    ]
}

fn time(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "none".to_owned(), |time| format!("{:+}min", (time - now()).num_minutes()))
}

/// What differs, and what goes with it.
fn words(before: &ControlState, transition: &StateTransition) -> String {
    let after = &transition.state;
    let mut words = Vec::new();
    let mut field = |name: &str, old: String, new: String| {
        if old != new {
            words.push(format!("{name}={new}"));
        }
    };
    field("organization", before.organization.name.clone(), after.organization.name.clone());
    field("company_id", format!("{:?}", before.company_id), format!("{:?}", after.company_id));
    field("request_id", format!("{:?}", before.request_id), format!("{:?}", after.request_id));
    field("enabled", before.is_enabled.to_string(), after.is_enabled.to_string());
    field("sync_on", before.is_sync_on.to_string(), after.is_sync_on.to_string());
    field("purging", before.is_purging.to_string(), after.is_purging.to_string());
    field("widened", before.is_widened.to_string(), after.is_widened.to_string());
    field("unread", before.has_unread.to_string(), after.has_unread.to_string());
    field("period", before.period_seconds.to_string(), after.period_seconds.to_string());
    field("roles", format!("{:?}", before.options.user_roles), format!("{:?}", after.options.user_roles));
    let hold = |state: &ControlState| state.hold.map_or("none", SyncHold::as_str).to_owned();
    field("hold", hold(before), hold(after));
    let notice = |state: &ControlState| state.hold_notice.as_ref().map_or("none", |notice| &notice.reason).to_owned();
    field("words", notice(before), notice(after));
    field("refused", time(before.refused_at), time(after.refused_at));
    field("failures", before.failures.to_string(), after.failures.to_string());
    field("refresh", before.refresh_use.as_str().to_owned(), after.refresh_use.as_str().to_owned());
    field("completed", time(before.last_completed_at), time(after.last_completed_at));
    field("due", time(before.due_at), time(after.due_at));
    field("sweep", time(before.sweep_due_at), time(after.sweep_due_at));
    field("held", format!("{:?}", before.held_deletions), format!("{:?}", after.held_deletions));
    field("confirmed", format!("{:?}", before.confirmed_deletions), format!("{:?}", after.confirmed_deletions));
    let steps = [
        (transition.stops_run, "STOPS"),
        (transition.forgets_resume_points, "FORGETS"),
        (transition.cancels_run, "CANCELS"),
    ];
    words.extend(steps.into_iter().filter(|(is_taken, _)| *is_taken).map(|(_, step)| step.to_owned()));
    words.extend(transition.starts_run.map(|kind| format!("STARTS {}", kind.as_str())));
    if words.is_empty() { "as it was".to_owned() } else { words.join(" ") }
}

/// A change of a rule changes lines of `table.txt`: read them, and put the printed table there only
/// if each is meant.
#[test]
fn every_state_answers_every_event_as_the_table_says() {
    let mut table = String::new();
    for (event_name, event) in events() {
        writeln!(table, "{event_name}").unwrap();
        for (state_name, state) in states() {
            let outcome = match state.apply(event.clone(), now()) {
                Ok(transition) => words(&state, &transition),
                Err(refused) => format!("refused: {refused:?}"),
            };
            writeln!(table, "    {state_name:<13} {outcome}").unwrap();
        }
    }

    assert!(table == include_str!("table.txt"), "the table is now:\n{table}");
}

#[test]
fn whatever_happens_the_state_makes_sense() {
    for (event_name, event) in events() {
        for (state_name, before) in states() {
            let Ok(StateTransition { state, stops_run, cancels_run, starts_run, .. }) =
                before.apply(event.clone(), now())
            else {
                continue;
            };
            let place = format!("{event_name} of {state_name}");
            let is_running = state.is_enabled && state.is_sync_on;
            let has_work = is_running || state.is_purging;
            assert!(state.due_at.is_none() || has_work, "{place}: nothing is due when there is nothing to do");
            assert!(state.due_at.is_some() || !has_work || state.hold.is_some(), "{place}: only a hold ends its runs");
            assert!(state.is_enabled || !state.is_sync_on, "{place}: what is disabled copies nothing");
            assert_eq!(state.hold.is_some(), state.hold_notice.is_some(), "{place}: a hold has words");
            assert!(starts_run.is_none() || is_running, "{place}: only what copies is started");
            assert!(!cancels_run || stops_run || !before.is_sync_on, "{place}: a worker of a cancelled run is stopped");
            assert!(
                starts_run != Some(SyncKind::Incremental) || !state.is_first_copy(),
                "{place}: from which checkpoint?"
            );
            assert!(state.confirmed_deletions.is_none() || state.held_deletions.is_some(), "{place}");
        }
    }
}

#[test]
fn a_wait_for_the_quota_is_no_failure() {
    let failed = |verdict| active().apply(failure(verdict), now()).unwrap().state.failures;

    assert_eq!(failed(FailureVerdict::Waits(Duration::ZERO)), 0);
    assert_eq!(failed(FailureVerdict::Passes), 1);
}

const REFUSED: FailureVerdict = FailureVerdict::Refused { spends_refresh_token: false, ends_with_a_page: true };
const GRANT_REFUSED: FailureVerdict = FailureVerdict::Refused { spends_refresh_token: true, ends_with_a_page: true };

fn refused_before(minutes: i64) -> ControlState {
    ControlState { refused_at: minutes_ago(minutes), failures: 1, ..active() }
}

/// A first refusal holds nothing, and is looked at again minutes later.
#[test]
fn first_refusal_only_leads_to_second_look() {
    let after = active().after_failure(REFUSED, false, now());

    assert_eq!((after.hold, after.refused_at), (None, Some(now())));
    assert_eq!(after.due_at, Some(now() + TimeDelta::minutes(3)));
    // Somebody triggered a run between the two looks: that is no second look.
    let sooner = refused_before(1).after_failure(GRANT_REFUSED, false, now());
    assert_eq!((sooner.hold, sooner.spends_refresh_token), (None, false));
    assert_eq!(sooner.due_at, Some(now() + TimeDelta::minutes(2)));
}

/// What is paused stays so until the second look, with its own words.
#[test]
fn first_refusal_ends_no_pause() {
    let paused = ControlState { refused_at: None, ..held(SyncHold::Paused) };

    let after = paused.after_failure(REFUSED, false, now());

    assert_eq!((after.hold, after.keeps_notice), (Some(SyncHold::Paused), true));
    assert_eq!((after.due_at, after.refused_at), (Some(now() + TimeDelta::minutes(3)), Some(now())));
    let believed = ControlState { refused_at: minutes_ago(3), ..paused }.after_failure(REFUSED, false, now());
    assert_eq!(believed.hold, Some(SyncHold::AuthFailed));
}

/// A second refusal minutes later is believed, and probed hourly.
#[test]
fn second_refusal_is_believed_and_probed_hourly() {
    let after = refused_before(3).after_failure(REFUSED, false, now());

    assert_eq!((after.hold, after.due_at), (Some(SyncHold::AuthFailed), Some(now() + TimeDelta::hours(1))));
    assert!(!after.spends_refresh_token && !after.keeps_notice);
    let again = held(SyncHold::AuthFailed).after_failure(REFUSED, false, now());
    assert_eq!((again.hold, again.due_at), (after.hold, after.due_at));
}

/// A refresh token that is refused twice is spent, and not probed.
#[test]
fn twice_refused_refresh_token_is_never_probed() {
    let after = refused_before(3).after_failure(GRANT_REFUSED, false, now());

    assert_eq!((after.hold, after.due_at), (Some(SyncHold::AuthFailed), None));
    assert!(after.spends_refresh_token);
}

/// A page between two refusals of access makes the second one a first one.
#[test]
fn page_between_access_refusals_makes_second_first() {
    let permission = FailureVerdict::Refused { spends_refresh_token: false, ends_with_a_page: false };

    assert_eq!(refused_before(30).after_failure(REFUSED, true, now()).hold, None);
    assert_eq!(refused_before(30).after_failure(permission, true, now()).hold, Some(SyncHold::AuthFailed));
}

/// A clock that was ahead does not put the second look off.
#[test]
fn clock_that_was_ahead_postpones_no_look() {
    let ahead = refused_before(-600);

    assert_eq!(ahead.after_failure(REFUSED, false, now()).due_at, Some(now() + TimeDelta::minutes(3)));
}

/// What no second look could change is believed at once.
#[test]
fn refusals_no_look_could_change_count_at_once() {
    for (spends_refresh_token, due_at) in [(false, Some(now() + TimeDelta::hours(1))), (true, None)] {
        let after = active().after_failure(FailureVerdict::Final { spends_refresh_token }, false, now());

        assert_eq!((after.hold, after.due_at), (Some(SyncHold::AuthFailed), due_at));
    }
}

/// An outage is tried for ever, and ever later.
#[test]
fn outage_is_retried_forever_ever_later() {
    let due_in = |failures| {
        let state = ControlState { failures, ..active() };
        state.after_failure(FailureVerdict::Passes, false, now()).due_at.unwrap() - now()
    };

    assert_eq!(due_in(0), TimeDelta::seconds(60));
    assert_eq!(due_in(3), TimeDelta::seconds(480));
    assert_eq!(due_in(1_000), TimeDelta::seconds(1800));
}

/// What passes neither ends a hold nor changes its words.
#[test]
fn passing_failure_keeps_hold_and_its_words() {
    for hold in [SyncHold::AuthFailed, SyncHold::Paused] {
        for verdict in [FailureVerdict::Passes, FailureVerdict::Waits(Duration::from_mins(10))] {
            let after = held(hold).after_failure(verdict, false, now());

            assert!(after.hold == Some(hold) && after.keeps_notice && after.refused_at.is_some(), "{after:?}");
        }
    }
    let quota = held(SyncHold::QuotaPaused).after_failure(FailureVerdict::Passes, false, now());
    assert_eq!(quota.hold, None);
}

/// A rate limit says when it goes on, and is never a hot loop.
#[test]
fn rate_limit_says_when_without_hot_loop() {
    for (wait, due_in) in [(0, 60), (1, 60), (600, 600), (21_600, 21_600)] {
        let after = active().after_failure(FailureVerdict::Waits(Duration::from_secs(wait)), false, now());

        assert_eq!(after.hold, Some(SyncHold::QuotaPaused));
        assert_eq!(after.due_at, Some(now() + TimeDelta::seconds(due_in)));
    }
}

#[test]
fn a_lasting_refusal_pauses_on_the_third_run_and_is_probed() {
    let after = |failures| ControlState { failures, ..active() }.after_failure(FailureVerdict::Lasts, false, now());

    assert_eq!(after(1).hold, None);
    assert_eq!((after(2).hold, after(2).due_at), (Some(SyncHold::Paused), Some(now() + TimeDelta::hours(1))));
    assert_eq!(active().after_failure(FailureVerdict::Stops, false, now()).due_at, None);
}
