//! Time, passed in. Nothing but the join makes a clock. Leases use the database's own; everything
//! else this process's, which follows the database's where the two differ: several processes that
//! share a database must agree on when something is due.

use std::sync::{
    Mutex,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// What time it is, in whole microseconds: what Postgres keeps.
pub trait Clock: Send + Sync {
    /// Now. It may jump: nothing may rely on two answers being in order.
    fn now(&self) -> DateTime<Utc>;

    /// What the database has said the time was a moment ago; how far this clock was from it, if it
    /// has been corrected by that.
    fn follow(&self, database_now: DateTime<Utc>) -> Option<TimeDelta> {
        let _ = database_now;
        None
    }
}

/// Two clocks nearer than this agree: an answer of the database takes its time to come.
const AGREEMENT: TimeDelta = TimeDelta::seconds(5);

/// The operating system's clock, set right by the database's where they differ by more than a few
/// seconds.
#[derive(Default)]
pub struct SystemClock {
    /// Microseconds that are added to what the operating system says.
    correction: AtomicI64,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the operating system")]
    fn machine() -> DateTime<Utc> {
        whole_micros(Utc::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Self::machine() + TimeDelta::microseconds(self.correction.load(Ordering::Relaxed))
    }

    fn follow(&self, database_now: DateTime<Utc>) -> Option<TimeDelta> {
        let difference = self.now() - database_now;
        if difference.abs() <= AGREEMENT {
            return None;
        }
        let correction = (database_now - Self::machine()).num_microseconds().unwrap_or(0);
        self.correction.store(correction, Ordering::Relaxed);
        Some(difference)
    }
}

/// A clock that moves only when told; for tests.
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    /// Starts at this moment.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(whole_micros(now)))
    }

    /// Moves on (or back, if negative).
    pub fn advance(&self, by: TimeDelta) {
        let mut now = self.0.lock().expect("no code panics while it holds this lock");
        *now += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("no code panics while it holds this lock")
    }
}

fn whole_micros(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that is an hour ahead follows the database.
    #[test]
    fn machine_hour_ahead_follows_database() {
        let clock = SystemClock::default();
        let machine = clock.now();

        let difference = clock.follow(machine - TimeDelta::hours(1)).unwrap();

        assert!((difference - TimeDelta::hours(1)).abs() < AGREEMENT, "{difference}");
        assert!((clock.now() - (machine - TimeDelta::hours(1))).abs() < AGREEMENT);
        assert_eq!(clock.follow(clock.now()), None, "it agrees by now");

        clock.follow(machine);

        assert!((clock.now() - machine).abs() < AGREEMENT, "the machine was set right");
    }

    #[test]
    fn clocks_that_nearly_agree_are_left_alone() {
        let clock = SystemClock::default();

        assert_eq!(clock.follow(clock.now() - TimeDelta::seconds(4)), None);
        assert_eq!(clock.correction.load(Ordering::Relaxed), 0);
    }
}
