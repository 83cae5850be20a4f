//! How much is measured: `--changes N`, `--calls N`, `--events N`, `--pairs N`, `--contacts N`. 0
//! leaves that part out.

use anyhow::{Context as _, bail, ensure};

const USAGE: &str = "./dev bench fresh [--changes N] [--calls N] [--events N] [--pairs N] [--contacts N]";
/// More of anything takes a day.
const MOST: usize = 1_000_000;

/// The command line.
#[derive(Clone, Copy)]
pub(crate) struct Arguments {
    /// Changes in each CRM, for how soon they are known.
    pub changes: usize,
    /// Calls of people who were added a moment before, in all CRMs together.
    pub calls: usize,
    /// Events of a burst, of each CRM.
    pub events: usize,
    /// Pairs of first copies, with events and without, of each CRM.
    pub pairs: usize,
    /// Contacts of each of these copies.
    pub contacts: usize,
}

impl Arguments {
    /// `None`: there was nothing to measure but the usage to show.
    pub(crate) fn read() -> anyhow::Result<Option<Self>> {
        let mut read = Self { changes: 200, calls: 10_000, events: 10_000, pairs: 15, contacts: 50_000 };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let field = match word.as_str() {
                // Cargo says so to every bench.
                "--bench" => continue,
                "--changes" => &mut read.changes,
                "--calls" => &mut read.calls,
                "--events" => &mut read.events,
                "--pairs" => &mut read.pairs,
                "--contacts" => &mut read.contacts,
                "--help" | "-h" => {
                    println!("{USAGE}");
                    return Ok(None);
                }
                other => bail!("unknown argument {other:?}; {USAGE}"),
            };
            let number = words.next().unwrap_or_default().replace([',', '_'], "");
            *field = number.parse().with_context(|| format!("{word} {number:?} is no number"))?;
            ensure!(*field <= MOST, "{word} must be at most {MOST}");
        }
        Ok(Some(read))
    }
}
