//! How the story is told: headings, calls, answers and checks in 80 columns, with colours only
//! where they are wanted. Counts the checks and remembers what was wrong. Must not call anything.

use std::{
    fmt::Display,
    io::{self, Write},
};

use crate::cli::client::show::{clean, wrap};

/// A terminal's least width.
const WIDTH: usize = 80;
/// Where the text of a line begins; the longest method is `PreRegisterContact`.
const TEXT_COLUMN: usize = 24;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "1;31";
const CYAN: &str = "36";
const YELLOW: &str = "33";

/// Tells the story on standard output.
pub(super) struct DemoNarrator {
    has_colour: bool,
    chapter: u32,
    checks: u32,
    wrong: Vec<String>,
}

impl DemoNarrator {
    /// With colours, or without.
    pub(super) fn new(has_colour: bool) -> Self {
        Self { has_colour, chapter: 0, checks: 0, wrong: Vec::new() }
    }

    /// A heading without a number.
    pub(super) fn heading(&self, text: &str) {
        self.print(&format!("\n{}", self.paint(BOLD, text)));
    }

    /// The next chapter of the story.
    pub(super) fn chapter(&mut self, text: &str) {
        self.chapter += 1;
        self.heading(&format!("{}. {text}", self.chapter));
    }

    /// Prose.
    pub(super) fn say(&self, text: &str) {
        for line in wrap(text, WIDTH - 2) {
            self.print(&format!("  {line}"));
        }
    }

    /// An empty line.
    pub(super) fn gap(&self) {
        self.print("");
    }

    /// Something to type; never broken, so that it can be copied.
    pub(super) fn command(&self, text: &str) {
        self.print(&format!("  {}", self.paint(CYAN, text)));
    }

    /// Something that is so.
    pub(super) fn fact(&self, name: &str, text: &str) {
        self.line(" ", name, DIM, text);
    }

    /// What happens in a CRM.
    pub(super) fn crm(&self, name: &str, text: &str) {
        self.line("*", name, YELLOW, text);
    }

    /// A call.
    pub(super) fn ask(&self, method: &str, text: &str) {
        self.line(">", method, CYAN, text);
    }

    /// Its answer.
    pub(super) fn answer(&self, outcome: &str, text: &str) {
        self.line("<", outcome, BOLD, text);
    }

    /// Compares what came with what should have come.
    pub(super) fn check(&mut self, what: &str, expected: impl Display, got: impl Display) {
        self.checks += 1;
        let (expected, got) = (expected.to_string(), got.to_string());
        if expected == got {
            return self.line(" ", "ok", GREEN, what);
        }
        let problem = format!("{what}: expected {}, got {}", said(&expected), said(&got));
        self.line(" ", "WRONG", RED, &problem);
        self.wrong.push(format!("chapter {}: {problem}", self.chapter));
    }

    /// Says how many checks there were and what was wrong. True: nothing.
    pub(super) fn sum_up(&self) -> bool {
        self.gap();
        if self.wrong.is_empty() {
            let text = format!("All {} answers are what they should be.", self.checks);
            self.print(&format!("  {}", self.paint(GREEN, &text)));
            return true;
        }
        let text = format!("{} of {} answers are not what they should be:", self.wrong.len(), self.checks);
        self.print(&format!("  {}", self.paint(RED, &text)));
        self.wrong.iter().for_each(|problem| self.say(problem));
        false
    }

    fn line(&self, mark: &str, label: &str, colour: &str, text: &str) {
        self.print(&item(mark, label, text, |label| self.paint(colour, label)));
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.has_colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A reader that has gone away ends no demo.
    #[expect(clippy::unused_self, reason = "everything is told by the teller")]
    fn print(&self, text: &str) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
}

/// Mark, label and text in their columns, the text broken where the line is full.
fn item(mark: &str, label: &str, text: &str, paint: impl Fn(&str) -> String) -> String {
    let gap = (TEXT_COLUMN - 4).saturating_sub(label.chars().count()).max(1);
    let text = wrap(&clean(text), WIDTH - TEXT_COLUMN).join(&format!("\n{}", " ".repeat(TEXT_COLUMN)));
    format!("  {mark} {}{}{text}", paint(label), " ".repeat(gap)).trim_end().to_owned()
}

/// A value in a message, where nothing must not look like nothing.
fn said(value: &str) -> &str {
    if value.is_empty() { "nothing" } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_in_columns_and_break_at_eighty() {
        let text = item("<", "MATCHED", &"words and more ".repeat(12), str::to_owned);

        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("  < MATCHED             words"), "{text}");
        assert!(lines[1].starts_with(&" ".repeat(TEXT_COLUMN)), "{text}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{text}");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let plain = item(">", "MatchCaller", "text", str::to_owned);
        let painted = item(">", "MatchCaller", "text", |label| format!("\x1b[36m{label}\x1b[0m"));

        assert_eq!(painted.replace("\x1b[36m", "").replace("\x1b[0m", ""), plain);
    }

    /// A wrong answer is remembered, and a right one counted.
    #[test]
    fn wrong_answer_is_remembered_right_one_counted() {
        let mut narrator = DemoNarrator::new(false);
        narrator.chapter("A call");
        narrator.check("the caller is named", "Bryce Love", "Bryce Love");
        assert!(narrator.sum_up());

        narrator.check("nobody is named", "Bryce Love", "");

        assert!(!narrator.sum_up());
        assert_eq!(narrator.wrong, ["chapter 1: nobody is named: expected Bryce Love, got nothing"]);
        assert_eq!(narrator.checks, 2);
    }
}
