//! Rates and latencies, medians of rounds, and lines of a table.

use std::{fmt, time::Duration};

use anyhow::ensure;

/// What a round shows.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Answers in a second.
    pub rate: f64,
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
}

impl Figures {
    pub(crate) fn of(mut latencies: Vec<Duration>, span: Duration) -> anyhow::Result<Self> {
        ensure!(!latencies.is_empty(), "no call was answered");
        latencies.sort_unstable();
        // In thousandths; the smallest latency that so many do not exceed.
        let percentile = |thousandths: usize| latencies[(latencies.len() * thousandths).div_ceil(1_000) - 1];
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = latencies.len() as f64 / span.as_secs_f64();
        Ok(Self { rate, p50: percentile(500), p99: percentile(990), p999: percentile(999) })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |latency: Duration| latency.as_secs_f64() * 1_000.0;
        let Self { rate, p50, p99, p999 } = self;
        write!(f, "{rate:>8.0}/s {:>8.2} ms {:>8.2} ms {:>8.2} ms", millis(*p50), millis(*p99), millis(*p999))
    }
}

/// Rounds of the same, of which each figure's median counts: on a shared machine one round says
/// little.
#[derive(Default)]
pub(crate) struct Rounds(pub(crate) Vec<Figures>);

impl Rounds {
    pub(crate) fn median(&self) -> Figures {
        let of = |figure: fn(&Figures) -> Duration| {
            Duration::from_secs_f64(median(self.0.iter().map(|round| figure(round).as_secs_f64()).collect()))
        };
        Figures {
            rate: median(self.0.iter().map(|round| round.rate).collect()),
            p50: of(|round| round.p50),
            p99: of(|round| round.p99),
            p999: of(|round| round.p999),
        }
    }

    /// The median of a figure's ratios, round by round: what slows a whole round down falls out.
    pub(crate) fn ratio(&self, to: &Self, figure: fn(&Figures) -> f64) -> f64 {
        median(self.0.iter().zip(&to.0).map(|(ours, theirs)| figure(ours) / figure(theirs)).collect())
    }
}

/// NaN if there are none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a figure should be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

pub(crate) fn print_head(title: &str) {
    println!("\n{title:50} {:>10} {:>11} {:>11} {:>11}", "rate", "p50", "p99", "p99.9");
}

pub(crate) fn print_figures(what: &str, figures: &Figures, note: &str) {
    println!("{}", format!("{what:50} {figures}   {note}").trim_end());
}

pub(crate) fn print_ratio(what: &str, value: f64, goal: Option<Goal>) {
    let verdict = match goal {
        None => String::new(),
        Some(Goal::AtLeast(least)) => format!("goal: at least {least:.2}, {}", met(value >= least)),
        Some(Goal::AtMost(most)) => format!("goal: at most {most:.2}, {}", met(value <= most)),
    };
    println!("{}", format!("{what:50} {value:>10.2}   {verdict}").trim_end());
}

const fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}
