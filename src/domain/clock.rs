//! Time, passed in. Nothing but the join makes a clock; leases alone use the database's.

use std::sync::Mutex;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// What time it is, in whole microseconds: what Postgres keeps.
pub trait Clock: Send + Sync {
    /// Now, by this machine's clock. It may jump: nothing may rely on two answers being in order.
    fn now(&self) -> DateTime<Utc>;
}

/// The operating system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the operating system")]
    fn now(&self) -> DateTime<Utc> {
        whole_micros(Utc::now())
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
