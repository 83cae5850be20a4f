//! What follows the end of a stream. Pure, over a time that is passed in. No failure ends for ever:
//! each leads to a wait, or to a rest of some hours at most.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    crm::{CrmError, RetryAdvice, StreamFailure},
    domain::{hook::PushState, notice::Notice},
    sync::backoff::backoff,
};

/// Events that are asked for at once.
pub(super) const EVENTS_MAX: u16 = 100;
/// The first wait after a failure.
const WAIT_FIRST: Duration = Duration::from_secs(1);
/// Failures in a row that are told, and after which a stream rests.
const FAILURES_TOLD: u32 = 10;
/// Silences in a row that are told: each may have taken minutes.
const SILENCES_TOLD: u32 = 3;
/// A token that is refused again within this is not renewed again.
const RENEWED_FOR: Duration = Duration::from_mins(1);
/// A place that is refused again within this is a failure.
const REFUSED_FOR: Duration = Duration::from_mins(1);
/// As many events as ever are asked for after so long.
const SLOW_FOR: Duration = Duration::from_mins(10);
/// Refusals of one event that is asked for alone: it cannot be taken.
const ALONE_MAX: u32 = 5;
/// What waits for a quota, or for somebody to click.
pub(super) const REST: Duration = Duration::from_hours(1);
/// What has failed again and again, as behind a firewall.
const BROKEN_REST: Duration = Duration::from_mins(15);
/// What waits for credentials: if all of the CRM refuses them, the next run says so.
const CREDENTIALS_REST: Duration = Duration::from_mins(15);
/// What waits for another version of this service.
const REFUSED_REST: Duration = Duration::from_hours(6);
/// A wait above this is a rest, which keeps no lease.
const WAIT_MAX: Duration = Duration::from_mins(1);

pub(super) const INTERRUPTED: Notice = Notice::fixed(
    "PUSH_INTERRUPTED",
    "the CRM's stream of changes cannot be kept open, so they are polled; see that this service reaches the stream's host at port 443 or 7443 (a firewall, TLS that is inspected on the way)",
);

const TOKEN_REFUSED: Notice = Notice::fixed(
    "PUSH_TOKEN_REFUSED",
    "the CRM's stream of changes refuses the credentials, so changes are polled; if runs succeed, see in the CRM that the app and its user may use the API from this service's addresses, then authorize again; it is tried again within half an hour",
);
const NOT_STORED: Notice = Notice::fixed(
    "PUSH_NOT_STORED",
    "this service's database refuses what the CRM's stream of changes told, so the stream began anew, and a poll covers it; the log says why: report it",
);

/// How changes arrive, as it is shown.
pub(super) type ShownState = (PushState, Option<Notice>);

/// What has been tried of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamTries {
    /// In a row.
    pub failures: u32,
    /// Of the vendor's ports, by turns.
    pub port_turn: usize,
    renewed_at: Option<Instant>,
    refused_at: Option<Instant>,
    slow: Option<SlowStream>,
}

/// A stream that is asked for less.
#[derive(Debug, Clone, Copy)]
struct SlowStream {
    events_max: u16,
    refusals_alone: u32,
    since: Instant,
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// From the last place, after this.
    Again(Duration),
    /// With a new token, at once.
    Renew,
    /// From now on, after this; a poll covers what is missed.
    Anew(Duration),
    /// Nobody follows for so long.
    Rest(Duration),
}

impl StreamTries {
    /// After so many failures in a row.
    pub(super) fn after(failures: u32) -> Self {
        Self { failures, ..Self::default() }
    }

    /// Something came and is stored.
    pub(super) const fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Events to ask for at once.
    pub(super) fn events_max(&self, now: Instant) -> u16 {
        let slow = self.slow.filter(|slow| now.duration_since(slow.since) < SLOW_FOR);
        slow.map_or(EVENTS_MAX, |slow| slow.events_max)
    }

    fn wait(&mut self, jitter: u8) -> Duration {
        self.failures = self.failures.saturating_add(1);
        backoff(WAIT_FIRST, self.failures, jitter)
    }

    fn slow_down(&mut self, now: Instant, jitter: u8) -> NextStep {
        let asked = self.events_max(now);
        let alone = self.slow.filter(|_| asked == 1).map_or(0, |slow| slow.refusals_alone + 1);
        self.slow = Some(SlowStream { events_max: (asked / 2).max(1), refusals_alone: alone, since: now });
        let wait = self.wait(jitter);
        if alone < ALONE_MAX {
            return NextStep::Again(wait);
        }
        self.slow = None;
        NextStep::Anew(wait)
    }
}

/// What follows a failure, and what is shown of it; `None`: what was shown before.
pub(super) fn next_step(
    failure: StreamFailure,
    tries: &mut StreamTries,
    now: Instant,
    jitter: u8,
) -> (NextStep, Option<ShownState>) {
    let mut is_told = false;
    let step = match failure {
        StreamFailure::Credentials => {
            let is_first = tries.renewed_at.is_none_or(|at| now.duration_since(at) >= RENEWED_FOR);
            if is_first {
                tries.renewed_at = Some(now);
                return (NextStep::Renew, None);
            }
            return rest_without_access(jitter);
        }
        StreamFailure::PlaceRefused => {
            let is_first = tries.refused_at.is_none_or(|at| now.duration_since(at) >= REFUSED_FOR);
            tries.refused_at = Some(now);
            NextStep::Anew(if is_first { Duration::ZERO } else { tries.wait(jitter) })
        }
        StreamFailure::QuotaSpent(notice) => {
            return (NextStep::Rest(rest(REST, jitter)), Some((PushState::Degraded, Some(notice))));
        }
        StreamFailure::Closed(notice) => {
            return (NextStep::Rest(rest(REST, jitter)), Some((PushState::Unavailable, Some(notice))));
        }
        StreamFailure::Refused(notice) => {
            return (NextStep::Rest(rest(REFUSED_REST, jitter)), Some((PushState::Unavailable, Some(notice))));
        }
        StreamFailure::TooFast => tries.slow_down(now, jitter),
        StreamFailure::Broke(error) => {
            // Silence and resets are as often the network's between as the host's: at one port the
            // second in a row is tried at the other.
            if tries.failures > 0 || matches!(error, CrmError::NoConnection { .. }) {
                tries.port_turn = tries.port_turn.wrapping_add(1);
            }
            let wait = tries.wait(jitter);
            is_told |= tries.failures >= SILENCES_TOLD && matches!(error, CrmError::TimedOut { .. });
            match error.retry() {
                RetryAdvice::Never => NextStep::Rest(rest(REST, jitter)),
                RetryAdvice::After(asked) if asked > WAIT_MAX => NextStep::Rest(rest(asked.min(REFUSED_REST), jitter)),
                RetryAdvice::After(asked) => NextStep::Again(wait.max(asked)),
                RetryAdvice::Backoff if tries.failures >= FAILURES_TOLD => NextStep::Rest(rest(BROKEN_REST, jitter)),
                RetryAdvice::Backoff => NextStep::Again(wait),
            }
        }
    };
    is_told |= tries.failures >= FAILURES_TOLD || matches!(step, NextStep::Rest(_)) && tries.failures > 0;
    (step, is_told.then_some((PushState::Degraded, Some(INTERRUPTED))))
}

/// What follows when there is no access, and what is shown of it.
pub(super) fn rest_without_access(jitter: u8) -> (NextStep, Option<ShownState>) {
    (NextStep::Rest(rest(CREDENTIALS_REST, jitter)), Some((PushState::Degraded, Some(TOKEN_REFUSED))))
}

/// What follows when the database refuses for good what came, and what is shown of it.
pub(super) fn pass_unstorable(tries: &mut StreamTries, jitter: u8) -> (NextStep, Option<ShownState>) {
    let wait = tries.wait(jitter);
    let is_over = tries.failures >= FAILURES_TOLD;
    let step = if is_over { NextStep::Rest(rest(REST, jitter)) } else { NextStep::Anew(wait) };
    (step, Some((PushState::Degraded, Some(NOT_STORED))))
}

/// A quarter more or less, so that many do not come back together.
fn rest(wait: Duration, jitter: u8) -> Duration {
    wait / 4 * 3 + wait / 2 * u32::from(jitter) / 255
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crm::ConnectFailure;

    const NOTICE: Notice = Notice::fixed("PUSH_X", "words");

    fn no_connection() -> StreamFailure {
        CrmError::NoConnection { host: "h".into(), why: ConnectFailure::Port }.into()
    }

    fn broke() -> StreamFailure {
        CrmError::ConnectionBroke { host: "h".into() }.into()
    }

    fn silent() -> StreamFailure {
        CrmError::TimedOut { host: "h".into() }.into()
    }

    fn failure(number: u8) -> StreamFailure {
        match number % 10 {
            0 => no_connection(),
            1 => silent(),
            2 => StreamFailure::Credentials,
            3 => StreamFailure::PlaceRefused,
            4 => StreamFailure::QuotaSpent(NOTICE),
            5 => StreamFailure::TooFast,
            6 => StreamFailure::Closed(NOTICE),
            7 => StreamFailure::Refused(NOTICE),
            8 => CrmError::HostRefused.into(),
            _ => CrmError::RateLimited { retry_after: Some(Duration::from_hours(9)) }.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_has_its_step() {
        let hours = |hours| rest(Duration::from_hours(hours), 255);
        let told = |state, notice| Some((state, Some(notice)));
        for (number, expected, shown) in [
            (0, NextStep::Again(WAIT_FIRST), None),
            (1, NextStep::Again(WAIT_FIRST), None),
            (2, NextStep::Renew, None),
            (3, NextStep::Anew(Duration::ZERO), None),
            (4, NextStep::Rest(hours(1)), told(PushState::Degraded, NOTICE)),
            (5, NextStep::Again(WAIT_FIRST), None),
            (6, NextStep::Rest(hours(1)), told(PushState::Unavailable, NOTICE)),
            (7, NextStep::Rest(hours(6)), told(PushState::Unavailable, NOTICE)),
            (8, NextStep::Rest(hours(1)), told(PushState::Degraded, INTERRUPTED)),
            (9, NextStep::Rest(hours(6)), told(PushState::Degraded, INTERRUPTED)),
        ] {
            let step = next_step(failure(number), &mut StreamTries::default(), Instant::now(), 255);
            assert_eq!(step, (expected, shown), "{number}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn token_is_renewed_once_a_minute_and_then_rests() {
        let (mut tries, now) = (StreamTries::default(), Instant::now());
        let mut ask =
            |after: u64| next_step(StreamFailure::Credentials, &mut tries, now + Duration::from_secs(after), 0);

        assert_eq!(ask(0), (NextStep::Renew, None));
        let refused = Some((PushState::Degraded, Some(TOKEN_REFUSED)));
        assert_eq!(ask(59), (NextStep::Rest(CREDENTIALS_REST / 4 * 3), refused));
        assert_eq!(ask(60), (NextStep::Renew, None));
    }

    #[tokio::test(start_paused = true)]
    async fn ports_take_turns_while_there_is_no_connection() {
        let mut tries = StreamTries::default();
        for turn in 1..4 {
            next_step(no_connection(), &mut tries, Instant::now(), 0);
            assert_eq!(tries.port_turn, turn);
        }
        tries.succeed();
        next_step(broke(), &mut tries, Instant::now(), 0);
        assert_eq!(tries.port_turn, 3, "one that worked is tried again");
    }

    /// A firewall says nothing, or resets what it does not know.
    #[tokio::test(start_paused = true)]
    async fn silence_and_resets_are_tried_at_the_other_port() {
        for failure in [broke, silent] {
            let mut tries = StreamTries::default();
            let turns: Vec<usize> = (0..4)
                .map(|_| {
                    next_step(failure(), &mut tries, Instant::now(), 0);
                    tries.port_turn
                })
                .collect();
            assert_eq!(turns, [0, 1, 2, 3]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_silences_in_a_row_are_told() {
        let mut tries = StreamTries::default();
        let shown: Vec<bool> = (0..3).map(|_| next_step(silent(), &mut tries, Instant::now(), 0).1.is_some()).collect();
        assert_eq!(shown, [false, false, true]);
    }

    /// Each try may cost requests, and none helps behind a firewall.
    #[tokio::test(start_paused = true)]
    async fn ten_failures_in_a_row_rest() {
        for failure in [no_connection, broke, silent] {
            let mut tries = StreamTries::default();
            let steps: Vec<NextStep> = (0..11).map(|_| next_step(failure(), &mut tries, Instant::now(), 0).0).collect();
            assert!(steps[..9].iter().all(|step| matches!(step, NextStep::Again(_))), "{steps:?}");
            assert!(steps[9..].iter().all(|step| *step == NextStep::Rest(BROKEN_REST / 4 * 3)), "{steps:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_stored_is_passed_and_then_rests() {
        let mut tries = StreamTries::default();
        let told = Some((PushState::Degraded, Some(NOT_STORED)));
        for _ in 1..10 {
            let (step, shown) = pass_unstorable(&mut tries, 0);
            assert!(matches!(step, NextStep::Anew(_)), "{step:?}");
            assert_eq!(shown, told);
        }
        assert_eq!(pass_unstorable(&mut tries, 255).0, NextStep::Rest(rest(REST, 255)));
    }

    #[tokio::test(start_paused = true)]
    async fn ten_failures_in_a_row_are_told() {
        let mut tries = StreamTries::default();
        let shown: Vec<bool> =
            (0..10).map(|_| next_step(no_connection(), &mut tries, Instant::now(), 0).1.is_some()).collect();

        assert_eq!(shown, [false, false, false, false, false, false, false, false, false, true]);
        tries.succeed();
        assert_eq!(next_step(no_connection(), &mut tries, Instant::now(), 0).1, None);
    }

    #[tokio::test(start_paused = true)]
    async fn demand_halves_and_recovers() {
        let (mut tries, now) = (StreamTries::default(), Instant::now());
        let mut asked = Vec::new();
        for _ in 0..7 {
            next_step(StreamFailure::TooFast, &mut tries, now, 0);
            asked.push(tries.events_max(now));
        }

        assert_eq!(asked, [50, 25, 12, 6, 3, 1, 1]);
        assert_eq!(tries.events_max(now + SLOW_FOR), EVENTS_MAX);
    }

    /// Asked for alone, and refused each time: a poll brings it.
    #[tokio::test(start_paused = true)]
    async fn an_event_that_cannot_be_taken_is_passed() {
        let (mut tries, now) = (StreamTries::default(), Instant::now());
        let steps: Vec<NextStep> = (0..11).map(|_| next_step(StreamFailure::TooFast, &mut tries, now, 0).0).collect();

        assert!(steps[..10].iter().all(|step| matches!(step, NextStep::Again(_))), "{steps:?}");
        assert!(matches!(steps[10], NextStep::Anew(_)), "{steps:?}");
        assert_eq!(tries.events_max(now), EVENTS_MAX);
    }

    proptest! {
        #[test]
        fn no_failure_ends_for_ever(failures in proptest::collection::vec((any::<u8>(), any::<u8>()), 1_000)) {
            let (mut tries, now) = (StreamTries::default(), Instant::now());
            for (number, jitter) in failures {
                match next_step(failure(number), &mut tries, now, jitter).0 {
                    NextStep::Again(wait) | NextStep::Anew(wait) => prop_assert!(wait <= WAIT_MAX),
                    NextStep::Rest(wait) => prop_assert!(wait <= Duration::from_mins(450)),
                    NextStep::Renew => {}
                }
            }
        }
    }
}
