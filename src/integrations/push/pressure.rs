//! How much of one hook's events is stored record by record. A flood becomes one hint of the whole
//! integration a second, and is still answered well: no CRM takes it for a failure, and no table
//! grows. Pure over a time that is passed in, by a clock that does not jump.

use std::time::{Duration, Instant};

/// Events that are stored one by one in the long run.
const PER_SECOND: f64 = 25.0;
/// Events that are stored one by one at once.
const AT_ONCE: f64 = 250.0;
/// How long a hint of the whole integration speaks for the events after it, too.
pub(super) const COVERED_FOR: Duration = Duration::from_secs(1);

/// What has come of late to one address.
#[derive(Debug)]
pub(super) struct HookPressure {
    tokens: f64,
    at: Instant,
    covered_until: Option<Instant>,
}

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PressureVerdict {
    /// Store what it says.
    Store,
    /// Store that anything may have changed.
    StoreWhole,
    /// That is stored already.
    Covered,
}

impl HookPressure {
    pub(super) const fn new(now: Instant) -> Self {
        Self { tokens: AT_ONCE, at: now, covered_until: None }
    }

    pub(super) fn admit(&mut self, now: Instant) -> PressureVerdict {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.tokens, self.at) = (PER_SECOND.mul_add(passed, self.tokens).min(AT_ONCE), now.max(self.at));
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return PressureVerdict::Store;
        }
        if self.covered_until.is_some_and(|until| now < until) {
            return PressureVerdict::Covered;
        }
        PressureVerdict::StoreWhole
    }

    /// A hint of the whole integration that was begun then is committed.
    pub(super) fn cover(&mut self, begun: Instant) {
        self.covered_until = Some(begun + COVERED_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_becomes_one_hint_a_second_and_rows_stay_bounded() {
        let begin = Instant::now();
        let (mut pressure, mut rows, mut wholes) = (HookPressure::new(begin), 0, 0);
        for event in 0..10_000_u64 {
            let now = begin + Duration::from_micros(event * 300);
            match pressure.admit(now) {
                PressureVerdict::Store => rows += 1,
                PressureVerdict::StoreWhole => {
                    wholes += 1;
                    pressure.cover(now);
                }
                PressureVerdict::Covered => {}
            }
        }

        assert!((250..=326).contains(&rows), "{rows}");
        assert!((3..=4).contains(&wholes), "{wholes}");
        let later = begin + Duration::from_mins(1);
        assert_eq!(pressure.admit(later), PressureVerdict::Store, "it is over");
    }

    #[test]
    fn write_that_failed_covers_nothing() {
        let earlier = Instant::now();
        let now = earlier + Duration::from_secs(5);
        let mut pressure = HookPressure::new(now);
        while pressure.admit(now) == PressureVerdict::Store {}

        assert_eq!(pressure.admit(now), PressureVerdict::StoreWhole);
        assert_eq!(pressure.admit(now), PressureVerdict::StoreWhole);
        pressure.cover(now);
        assert_eq!(pressure.admit(now), PressureVerdict::Covered);
        assert_eq!(pressure.admit(earlier), PressureVerdict::Covered, "no time runs backwards");
    }
}
