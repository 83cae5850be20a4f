//! The figures, with what was hoped for and whether it was met.

use std::fmt;

/// What a figure should be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {least:.2}"),
            Self::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}

struct Line {
    crm: &'static str,
    what: &'static str,
    value: String,
    goal: String,
    verdict: &'static str,
}

/// Prints as one table.
#[derive(Default)]
pub(crate) struct Table(Vec<Line>);

impl Table {
    /// A figure without a goal.
    pub(crate) fn fact(&mut self, crm: &'static str, what: &'static str, value: String) {
        self.0.push(Line { crm, what, value, goal: String::new(), verdict: "" });
    }

    /// A figure with one.
    pub(crate) fn goal(&mut self, crm: &'static str, what: &'static str, value: f64, goal: Goal) {
        let verdict = if goal.is_met(value) { "met" } else { "MISSED" };
        self.0.push(Line { crm, what, value: format!("{value:.2}"), goal: goal.to_string(), verdict });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { crm, what, value, goal, verdict } in &self.0 {
            let line = format!("{crm:10} {what:36} {value:34} {goal:14} {verdict}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
