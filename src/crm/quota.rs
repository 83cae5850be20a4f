//! How much of a customer's request quota this service takes. Learned from the vendor's headers,
//! never guessed: a CRM that says nothing is not slowed down. What is left is for the customer's
//! other programs and people.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{CrmError, RetryAdvice, page_size::PageSize};

/// A wait up to this is slept where the request is; a longer one is told, since whoever asks may
/// use the time for something else.
const WAIT_INSIDE_MAX: Duration = Duration::from_secs(2);
/// What is asked beside takes one in so many of a short limit ..
const BESIDE_SHARE: u32 = 10;
/// .. or as much as one question to a CRM takes: they come 5 s apart.
const BESIDE_MIN: u32 = 6;
/// What is asked beside keeps to the time that a vendor has asked for, for so long at most: a lying
/// header must not end it.
const BESIDE_HELD_MAX: Duration = Duration::from_mins(10);

/// What one client may take of an organisation's budget.
#[derive(Clone)]
pub(super) struct RequestQuota {
    learned: Arc<LearnedLimits>,
    /// 1 to 100, of what there is.
    share_percent: u32,
    /// Of requests that the vendor counts apart.
    is_of_exports: bool,
    /// Of a call that waits: it never sleeps, and takes little of a short limit.
    is_beside: bool,
}

/// What is known of an organisation's limits; all its clients of this process share it.
#[derive(Default)]
pub(super) struct LearnedLimits {
    state: Mutex<LimitState>,
    exports: Mutex<LimitState>,
    page_size: PageSize,
}

#[derive(Default)]
struct LimitState {
    window: Option<LimitWindow>,
    day: Option<(DailyReport, Instant)>,
    /// Until then nothing is asked beside: the vendor has asked to wait.
    held_until: Option<Instant>,
}

/// A limit of requests in a short time, as the vendor counts: so many until the window ends, and
/// then as many again.
struct LimitWindow {
    total: u32,
    /// Left of them for everybody: as the vendor has said last, less what was asked since.
    remaining: u32,
    ends: Instant,
    length: Duration,
    /// What was asked beside in it.
    beside: u32,
}

/// What an answer tells of a short limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowReport {
    /// Requests in a window.
    pub total: u32,
    /// Left in this one, if told.
    pub remaining: Option<u32>,
    /// Until it ends, if told.
    pub resets: Option<Duration>,
    /// A whole window.
    pub length: Duration,
}

/// A quota of a day, as a response tells it.
pub(super) struct DailyReport {
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

impl RequestQuota {
    /// A share, in percent from 1 to 100, of what is there.
    pub(super) const fn new(learned: Arc<LearnedLimits>, share_percent: u32) -> Self {
        Self { learned, share_percent, is_of_exports: false, is_beside: false }
    }

    /// The same share of a limit that the vendor has for its exports alone.
    pub(super) fn of_exports(&self) -> Self {
        Self { is_of_exports: true, ..self.clone() }
    }

    /// The same for requests that come beside: refused instead of waiting, and a tenth of a short
    /// limit together.
    pub(super) fn beside(&self) -> Self {
        Self { is_beside: true, ..self.clone() }
    }

    /// How much of a page is asked for at present.
    pub(super) fn page_size(&self) -> &PageSize {
        &self.learned.page_size
    }

    /// Waits for a place in the short limit if that takes a moment; [`CrmError::Paced`] if it takes
    /// longer, [`CrmError::QuotaSpent`] if the long one is spent.
    pub(super) async fn take(&self) -> Result<(), CrmError> {
        loop {
            let wait = self.state().take(self.share_percent, self.is_beside, Instant::now())?;
            match wait {
                None => return Ok(()),
                Some(wait) if wait <= WAIT_INSIDE_MAX && !self.is_beside => sleep(wait).await,
                Some(wait) => return Err(CrmError::Paced { wait }),
            }
        }
    }

    /// The vendor tells of its short limit.
    pub(super) fn learn_window(&self, told: &WindowReport) {
        self.state().learn_window(told, Instant::now());
    }

    /// The vendor has refused a request, and says for how long. A longer time than the window has
    /// is another matter.
    pub(super) fn exhausted(&self, wait: Duration) {
        self.hold_beside(wait);
        if let Some(window) = self.state().window.as_mut().filter(|window| wait <= window.length) {
            window.remaining = 0;
            window.ends = Instant::now() + wait;
        }
    }

    /// The vendor has refused a request. Who has asked waits as long as it says; so does what is
    /// asked beside.
    pub(super) fn refused(&self, error: &CrmError) {
        if let RetryAdvice::After(wait) = error.retry() {
            self.hold_beside(wait);
        }
    }

    fn hold_beside(&self, wait: Duration) {
        self.state().held_until = Some(Instant::now() + wait.min(BESIDE_HELD_MAX));
    }

    /// The vendor tells how much of a day's quota is spent.
    pub(super) fn learn_daily(&self, daily: DailyReport) {
        let until = Instant::now() + daily.resume_after;
        self.state().day = Some((daily, until));
    }

    /// The most requests in so long, as far as it is known.
    pub(super) fn most_in(&self, time: Duration) -> Option<u32> {
        let state = self.state();
        let window = state.window.as_ref()?;
        let windows = u32::try_from(time.as_millis() / window.length.as_millis().max(1)).ok()?;
        Some(allowed(window.total, self.share_percent).saturating_mul(windows))
    }

    fn state(&self) -> MutexGuard<'_, LimitState> {
        if self.is_of_exports { locked(&self.learned.exports) } else { locked(&self.learned.state) }
    }
}

impl LearnedLimits {
    /// What there is in a day, if the vendor has said so.
    pub(super) fn day_limit(&self) -> Option<i64> {
        let state = locked(&self.state);
        let (day, _) = state.day.as_ref().filter(|(day, _)| day.limit > 0)?;
        i64::try_from(day.limit).ok()
    }

    /// Of 1, what is left of the short limit (of two, the one with less) and of the long one, as
    /// far as they are known.
    pub(super) fn left(&self) -> [Option<f64>; 2] {
        let exports = locked(&self.exports).window_left();
        let state = locked(&self.state);
        let window = state.window_left().into_iter().chain(exports).reduce(f64::min);
        let day = state.day.as_ref().filter(|(day, _)| day.limit > 0).map(|(day, _)| {
            let per_mille = u128::from(day.limit.saturating_sub(day.used)) * 1000 / u128::from(day.limit);
            f64::from(u16::try_from(per_mille).unwrap_or(1000)) / 1000.0
        });
        [window, day]
    }
}

fn locked(state: &Mutex<LimitState>) -> MutexGuard<'_, LimitState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LimitState {
    fn window_left(&self) -> Option<f64> {
        let window = self.window.as_ref()?;
        let is_over = Instant::now() >= window.ends;
        Some(if is_over { 1.0 } else { f64::from(window.remaining) / f64::from(window.total.max(1)) })
    }

    /// Takes one request, or says how long there is none.
    fn take(&mut self, share_percent: u32, is_beside: bool, now: Instant) -> Result<Option<Duration>, CrmError> {
        if let Some((day, until)) = &self.day
            && day.limit > 0
            && u128::from(day.used) * 100 >= u128::from(day.limit) * u128::from(share_percent)
        {
            if now < *until {
                let resume_after = *until - now;
                return Err(CrmError::QuotaSpent { reason: day.reason, words: day.words, resume_after });
            }
            // The next response tells whether there is more.
            self.day = None;
        }
        if let Some(until) = self.held_until.filter(|until| is_beside && now < *until) {
            return Ok(Some(until - now));
        }
        Ok(self.window.as_mut().and_then(|window| window.take(share_percent, is_beside, now)))
    }

    fn learn_window(&mut self, told: &WindowReport, now: Instant) {
        if told.total == 0 {
            return;
        }
        // A lying header must not stop a sync.
        let ends = told.resets.map(|resets| now + resets.min(told.length));
        let known = self.window.take().filter(|window| window.length == told.length && now < window.ends);
        let asked = known.as_ref().map_or(1, |window| window.total.saturating_sub(window.remaining));
        self.window = Some(LimitWindow {
            total: told.total,
            remaining: told.remaining.unwrap_or(told.total.saturating_sub(asked)).min(told.total),
            beside: known.as_ref().map_or(0, |window| window.beside),
            ends: ends.or(known.map(|window| window.ends)).unwrap_or(now + told.length),
            length: told.length,
        });
    }
}

impl LimitWindow {
    fn take(&mut self, share_percent: u32, is_beside: bool, now: Instant) -> Option<Duration> {
        if now >= self.ends {
            self.remaining = self.total;
            self.ends = now + self.length;
            self.beside = 0;
        }
        let reserved = self.total - allowed(self.total, share_percent);
        let is_enough = is_beside && self.beside >= (self.total / BESIDE_SHARE).max(BESIDE_MIN);
        if self.remaining <= reserved || is_enough {
            return Some(self.ends - now);
        }
        self.remaining -= 1;
        self.beside += u32::from(is_beside);
        None
    }
}

/// The share of a limit, at least one request.
fn allowed(total: u32, share_percent: u32) -> u32 {
    let share = u64::from(total) * u64::from(share_percent.min(100)) / 100;
    u32::try_from(share).unwrap_or(total).max(1).min(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn daily(used: u64) -> DailyReport {
        DailyReport {
            used,
            limit: 100,
            resume_after: Duration::from_hours(1),
            reason: "DAILY",
            words: "the day's quota is spent",
        }
    }

    fn quota(share_percent: u32) -> RequestQuota {
        RequestQuota::new(Arc::default(), share_percent)
    }

    /// A vendor that counts in windows of a minute, and the requests of everybody.
    struct Vendor {
        total: u32,
        used: u32,
        window: u64,
        refused: u32,
        began: Instant,
        tells: fn(WindowReport) -> WindowReport,
    }

    impl Vendor {
        fn new(total: u32, began: Instant) -> Self {
            Self { total, used: 0, window: 0, refused: 0, began, tells: |told| told }
        }

        /// Answers at this moment, and tells of the limit, in whole seconds.
        fn ask(&mut self, now: Instant) -> WindowReport {
            let elapsed = now - self.began;
            if self.window != elapsed.as_secs() / 60 {
                (self.window, self.used) = (elapsed.as_secs() / 60, 0);
            }
            if self.used >= self.total {
                self.refused += 1;
            } else {
                self.used += 1;
            }
            let resets = Duration::from_secs(60 - elapsed.as_secs() % 60);
            (self.tells)(WindowReport {
                total: self.total,
                remaining: Some(self.total - self.used),
                resets: Some(resets),
                length: MINUTE,
            })
        }
    }

    /// Asks as often as it may for an hour, each request taking 300 ms; the requests that were
    /// answered.
    fn hour(vendor: &mut Vendor, share_percent: u32, mut others: impl FnMut(u64, &mut Vendor, Instant)) -> u32 {
        let (mut state, mut now, mut asked) = (LimitState::default(), vendor.began, 0);
        let end = now + Duration::from_hours(1);
        let mut minute = u64::MAX;
        while now < end {
            let at = (now - vendor.began).as_secs() / 60;
            if minute != at {
                minute = at;
                others(minute, vendor, now);
            }
            if let Some(wait) = state.take(share_percent, false, now).unwrap() {
                now += wait;
                continue;
            }
            now += Duration::from_millis(300);
            let told = vendor.ask(now);
            state.learn_window(&told, now);
            asked += 1;
        }
        asked
    }

    /// An hour of asking reaches the share and is never refused.
    #[test]
    fn hour_of_asking_fills_share_unrefused() {
        for (total, share) in [(20, 95), (20, 80), (60, 95), (20, 100), (1, 50), (7, 33)] {
            let mut vendor = Vendor::new(total, Instant::now());

            let asked = hour(&mut vendor, share, |_, _, _| {});

            let most = allowed(total, share) * 60;
            assert!(f64::from(asked) >= f64::from(most) * 0.95, "{total} {share}: {asked} of {most}");
            assert!(asked <= most + allowed(total, share), "{total} {share}: {asked} of {most}");
            assert_eq!(vendor.refused, 0, "{total} {share}");
        }
    }

    /// For a vendor that tells its limit only, the requests are counted here.
    #[test]
    fn vendor_telling_only_limit_is_counted_for() {
        let mut vendor = Vendor::new(20, Instant::now());
        vendor.tells = |told| WindowReport { remaining: None, resets: None, ..told };

        let asked = hour(&mut vendor, 80, |_, _, _| {});

        assert!((900..=960 + 16).contains(&asked), "{asked}");
        assert_eq!(vendor.refused, 0);
    }

    /// What another program takes of a window is not taken again.
    #[test]
    fn another_programs_requests_are_not_taken_again() {
        let mut vendor = Vendor::new(20, Instant::now());

        let asked = hour(&mut vendor, 80, |_, vendor, now| {
            for _ in 0..10 {
                vendor.ask(now);
            }
        });

        assert_eq!(vendor.refused, 0);
        assert!((330..=380).contains(&asked), "{asked}");
    }

    /// An add-on that is bought during a copy is used at once.
    #[test]
    fn bought_add_on_counts_at_once() {
        let now = Instant::now();
        let mut state = LimitState::default();
        let told =
            WindowReport { total: 20, remaining: Some(4), resets: Some(Duration::from_secs(50)), length: MINUTE };
        state.learn_window(&told, now);
        assert!(state.take(80, false, now).unwrap().is_some());

        state.learn_window(&WindowReport { total: 60, remaining: Some(44), ..told }, now);

        assert_eq!(state.take(80, false, now).unwrap(), None);
    }

    /// A window that lies about its end ends nevertheless.
    #[test]
    fn window_lying_about_its_end_ends_anyway() {
        let now = Instant::now();
        let mut state = LimitState::default();
        let resets = Some(Duration::from_hours(1_000));
        state.learn_window(&WindowReport { total: 20, remaining: Some(0), resets, length: MINUTE }, now);

        assert_eq!(state.take(100, false, now).unwrap(), Some(MINUTE));
        assert_eq!(state.take(100, false, now + MINUTE).unwrap(), None);
    }

    /// A CRM that says nothing is not slowed down.
    #[tokio::test]
    async fn silent_crm_is_not_slowed_down() {
        let quota = quota(80);

        for _ in 0..10_000 {
            quota.take().await.unwrap();
        }
        assert_eq!(quota.most_in(MINUTE), None);
    }

    /// A long wait is told, and shared by all clients of an organisation.
    #[tokio::test]
    async fn long_wait_is_told_and_shared_by_clients() {
        let learned = Arc::new(LearnedLimits::default());
        let (first, second) = (RequestQuota::new(Arc::clone(&learned), 95), RequestQuota::new(learned, 80));
        let told =
            WindowReport { total: 20, remaining: Some(4), resets: Some(Duration::from_secs(50)), length: MINUTE };

        first.learn_window(&told);

        first.take().await.unwrap();
        let Err(CrmError::Paced { wait }) = second.take().await else { panic!("not paced") };
        assert!(wait > Duration::from_secs(48) && wait <= Duration::from_secs(50), "{wait:?}");
        assert_eq!((first.most_in(MINUTE), second.most_in(MINUTE)), (Some(19), Some(16)));
    }

    /// What is counted apart is paced apart, and the shorter of the two is told.
    #[tokio::test]
    async fn exports_are_paced_apart_from_other_requests() {
        let learned = Arc::new(LearnedLimits::default());
        let others = RequestQuota::new(Arc::clone(&learned), 80);
        let exports = others.of_exports();
        let told = WindowReport { total: 100, remaining: Some(50), resets: Some(MINUTE), length: MINUTE };
        others.learn_window(&told);
        exports.learn_window(&WindowReport { total: 20, remaining: Some(4), ..told });

        others.take().await.unwrap();

        assert!(matches!(exports.take().await, Err(CrmError::Paced { .. })));
        assert!(learned.left()[0].is_some_and(|left| (left - 0.2).abs() < 0.001));
        assert_eq!((others.most_in(MINUTE), exports.most_in(MINUTE)), (Some(80), Some(16)));
    }

    /// What is asked beside is refused at once, and leaves nine tenths to the others.
    #[tokio::test]
    async fn beside_never_waits_and_keeps_to_a_tenth() {
        let others = quota(80);
        let beside = others.beside();
        let told = WindowReport {
            total: 100,
            remaining: Some(100),
            resets: Some(Duration::from_secs(1)),
            length: Duration::from_secs(2),
        };
        others.learn_window(&told);
        for taken in 0..10 {
            beside.take().await.unwrap();
            // Each answer tells of the same window.
            beside.learn_window(&WindowReport { remaining: Some(99 - taken), ..told });
        }

        assert!(matches!(beside.take().await, Err(CrmError::Paced { .. })), "a run would wait so long");
        others.take().await.unwrap();
        others.learn_window(&WindowReport { remaining: Some(0), ..told });
        assert!(matches!(others.beside().take().await, Err(CrmError::Paced { .. })));
    }

    /// Also where the vendor tells of no limit; what it counts apart is another matter.
    #[tokio::test]
    async fn beside_keeps_to_what_vendor_asks_a_run_to_wait() {
        let run = quota(80);
        run.refused(&CrmError::Unavailable("503"));
        run.beside().take().await.unwrap();

        run.refused(&CrmError::RateLimited { retry_after: Some(Duration::from_secs(30)) });

        assert!(matches!(run.beside().take().await, Err(CrmError::Paced { .. })));
        run.take().await.unwrap();
        run.of_exports().beside().take().await.unwrap();
        run.exhausted(Duration::from_hours(9));
        let Err(CrmError::Paced { wait }) = run.beside().take().await else { panic!("asked") };
        assert!(wait <= BESIDE_HELD_MAX);
    }

    #[test]
    fn limit_of_a_day_is_told_as_learned() {
        let learned = Arc::new(LearnedLimits::default());
        assert_eq!(learned.day_limit(), None);

        RequestQuota::new(Arc::clone(&learned), 80).learn_daily(daily(3));

        assert_eq!(learned.day_limit(), Some(100));
    }

    /// Beyond the share of a day, nothing is asked.
    #[tokio::test]
    async fn beyond_daily_share_nothing_is_asked() {
        let quota = quota(80);
        quota.learn_daily(daily(79));
        quota.take().await.unwrap();

        quota.learn_daily(daily(80));

        let Err(CrmError::QuotaSpent { reason, resume_after, .. }) = quota.take().await else { panic!("not spent") };
        assert_eq!(reason, "DAILY");
        assert!(resume_after > Duration::from_mins(59) && resume_after <= Duration::from_hours(1));
    }
}
