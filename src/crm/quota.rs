//! How much of a customer's request quota this service takes. Learned from the vendor's headers, never guessed: a CRM that says
//! nothing is not slowed down. What is left is for the customer's other programs and people.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota as Rate, RateLimiter};

use super::CrmError;

/// The budget of one integration, shared by its runs.
pub(super) struct Quota {
    share: f64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pace: Option<Pace>,
    spent: Option<Spent>,
}

/// A limit of requests (or of what they cost) in a short window.
struct Pace {
    limit: u32,
    window: Duration,
    limiter: Arc<DefaultDirectRateLimiter>,
    /// What one wait may ask for at most.
    burst: NonZeroU32,
}

/// A long quota is used up; nothing is asked before.
struct Spent {
    reason: &'static str,
    words: &'static str,
    until: Instant,
}

/// A quota of a day, as a response tells it.
pub(super) struct Daily {
    /// Spent by everybody, in the vendor's unit.
    pub used: u64,
    /// All that there is.
    pub limit: u64,
    /// When to look again, once the share is spent.
    pub resume_after: Duration,
    /// `UPPER_SNAKE`.
    pub reason: &'static str,
    /// Which quota, and what would help.
    pub words: &'static str,
}

impl Quota {
    /// `share` above 0, at most 1.
    pub(super) fn new(share: f64) -> Self {
        Self { share, state: Mutex::default() }
    }

    /// Waits for this much of the short limit; an error if a long quota is spent.
    pub(super) async fn take(&self, cost: u32) -> Result<(), CrmError> {
        let (limiter, cost) = {
            let mut state = self.state();
            if let Some(spent) = &state.spent {
                let now = Instant::now();
                if now < spent.until {
                    let resume_after = spent.until - now;
                    return Err(CrmError::QuotaSpent { reason: spent.reason, words: spent.words, resume_after });
                }
                // The next response tells whether there is more.
                state.spent = None;
            }
            let Some(pace) = &state.pace else { return Ok(()) };
            let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN).min(pace.burst);
            (Arc::clone(&pace.limiter), cost)
        };
        // The cost fits the burst, so that this cannot be refused.
        let _ = limiter.until_n_ready(cost).await;
        Ok(())
    }

    /// The vendor grants so much in each window.
    pub(super) fn learn_pace(&self, limit: u32, window: Duration) {
        let mut state = self.state();
        if state.pace.as_ref().is_some_and(|pace| pace.limit == limit && pace.window == window) {
            return;
        }
        state.pace = Pace::new(limit, window, self.share);
    }

    /// The vendor tells how much of a day's quota is spent.
    pub(super) fn learn_daily(&self, daily: &Daily) {
        #[expect(clippy::cast_precision_loss, reason = "quotas are far below 2^52")]
        let is_spent = daily.limit > 0 && daily.used as f64 >= daily.limit as f64 * self.share;
        if is_spent {
            let until = Instant::now() + daily.resume_after;
            self.state().spent = Some(Spent { reason: daily.reason, words: daily.words, until });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    fn new(limit: u32, window: Duration, share: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32")]
        let allowed = ((f64::from(limit) * share) as u32).max(2);
        // Burst and refill together must not pass what is allowed in any window.
        let burst = NonZeroU32::new((allowed / 4).max(1))?;
        let rate = Rate::with_period(window / (allowed - burst.get()).max(1))?.allow_burst(burst);
        Some(Self { limit, window, limiter: Arc::new(RateLimiter::direct(rate)), burst })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daily(used: u64) -> Daily {
        Daily {
            used,
            limit: 100,
            resume_after: Duration::from_hours(1),
            reason: "DAILY",
            words: "the day's quota is spent",
        }
    }

    #[tokio::test]
    async fn a_crm_that_says_nothing_is_not_slowed_down() {
        let quota = Quota::new(0.8);

        for _ in 0..10_000 {
            quota.take(1).await.unwrap();
        }
    }

    #[tokio::test]
    async fn beyond_the_share_of_a_day_nothing_is_asked() {
        let quota = Quota::new(0.8);
        quota.learn_daily(&daily(79));
        quota.take(1).await.unwrap();

        quota.learn_daily(&daily(80));

        let Err(CrmError::QuotaSpent { reason, resume_after, .. }) = quota.take(1).await else { panic!("not spent") };
        assert_eq!(reason, "DAILY");
        assert!(resume_after > Duration::from_mins(59) && resume_after <= Duration::from_hours(1));
    }

    #[test]
    fn burst_and_refill_stay_within_the_share_of_a_window() {
        for (limit, share) in [(20, 0.8), (60, 0.5), (4, 1.0), (480, 0.8), (1, 0.1)] {
            let window = Duration::from_mins(1);
            let pace = Pace::new(limit, window, share).unwrap();
            let mut granted = 0;
            // What it would grant at once is the burst; the rest of the window comes at the refill rate.
            while pace.limiter.check().is_ok() {
                granted += 1;
            }
            assert_eq!(granted, pace.burst.get(), "{limit} {share}");
            let allowed = (f64::from(limit) * share).max(2.0);
            assert!(f64::from(granted) <= allowed, "{limit} {share}");
        }
    }
}
