//! What is measured: `--contacts N`, `--compare`; or, for the bench's own children, which bare
//! server to be.

use anyhow::{Context as _, bail, ensure};

const CONTACTS_DEFAULT: u64 = 1_000_000;
/// The generated numbers are enough for so many.
const CONTACTS_MAX: u64 = 20_000_000;
/// An account of at least one contact each.
const CONTACTS_MIN: u64 = 1_000;

/// The command line.
pub(crate) enum Arguments {
    /// Only show how it is used.
    Usage,
    /// Be the server that answers without looking.
    ServeEcho,
    /// Be the server that runs the look-up's statement on this database, and nothing else.
    ServeStatement(String),
    /// Measure.
    Measure(Measured),
}

/// What is measured.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    /// In all accounts together.
    pub contacts: u64,
    /// Beside it an account of 100,000 contacts, and how much slower the large one is.
    pub compares: bool,
}

impl Arguments {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let mut measured = Measured { contacts: CONTACTS_DEFAULT, compares: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                // Cargo says so to every bench.
                "--bench" => {}
                "--contacts" => measured.contacts = contacts(&words.next().unwrap_or_default())?,
                "--compare" => measured.compares = true,
                "--serve-echo" => return Ok(Self::ServeEcho),
                "--serve-statement" => return Ok(Self::ServeStatement(words.next().context("no database")?)),
                "--help" | "-h" => return Ok(Self::Usage),
                other => bail!("unknown argument {other:?}; there are --contacts N and --compare"),
            }
        }
        Ok(Self::Measure(measured))
    }
}

fn contacts(text: &str) -> anyhow::Result<u64> {
    let contacts = text.replace([',', '_'], "").parse().with_context(|| format!("--contacts {text:?} is no number"))?;
    let range = CONTACTS_MIN..=CONTACTS_MAX;
    ensure!(range.contains(&contacts), "--contacts must be {CONTACTS_MIN} to {CONTACTS_MAX}");
    Ok(contacts)
}
