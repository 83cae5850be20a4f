//! Times in order, and what is said of them.

use std::time::Duration;

/// Times, shortest first.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The shortest time that so many of a hundred do not exceed, in seconds; NaN: there is none.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at).map_or(f64::NAN, Duration::as_secs_f64)
    }

    /// The usual three.
    pub(crate) fn shown(&self) -> String {
        let [p50, p95, p99] = [50, 95, 99].map(|percent| self.percentile(percent));
        format!("{p50:.2} s, {p95:.2} s, {p99:.2} s of {}", self.len())
    }
}

/// The median of ratios, and between which of them it lies by 95 % at least: by ranks, so that
/// nothing is assumed of how they are spread.
pub(crate) fn median_between(mut ratios: Vec<f64>) -> (f64, f64, f64) {
    ratios.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| ratios.get(index).copied().unwrap_or(f64::NAN);
    let count = ratios.len();
    // The most that can be left out at each end so that the chance that the median lies outside
    // stays below 2.5 % each.
    let (mut left_out, mut chance, mut outside) = (0, 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX)), 0.0);
    while left_out < count / 2 && outside + chance <= 0.025 {
        outside += chance;
        #[expect(clippy::cast_precision_loss, reason = "a handful of pairs")]
        let next = (count - left_out) as f64 / (left_out + 1) as f64;
        chance *= next;
        left_out += 1;
    }
    let low = left_out.saturating_sub(1);
    (at(count / 2), at(low), at(count.saturating_sub(1 + low)))
}
