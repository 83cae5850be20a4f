//! What is measured: `--contacts N`, `--providers zendesk,pipedrive`.

use anyhow::{Context as _, bail, ensure};

use crate::crm::Provider;

const CONTACTS_DEFAULT: u64 = 100_000;
/// What the simulator generates at most.
const CONTACTS_MAX: u64 = 3_000_000;
/// Contacts that an increment changes.
const CHANGES_MAX: u64 = 100_000;

/// The command line.
pub(crate) struct Arguments {
    pub contacts: u64,
    pub providers: Vec<Provider>,
}

impl Arguments {
    /// `None`: there was nothing to measure but the usage to show.
    pub(crate) fn read() -> anyhow::Result<Option<Self>> {
        let mut read = Self { contacts: CONTACTS_DEFAULT, providers: Provider::ALL.to_vec() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                // Cargo says so to every bench.
                "--bench" => {}
                "--contacts" => read.contacts = contacts(&words.next().unwrap_or_default())?,
                "--providers" => read.providers = providers(&words.next().unwrap_or_default())?,
                "--help" | "-h" => {
                    println!("./dev bench sync [--contacts N] [--providers {}]", names());
                    return Ok(None);
                }
                other => bail!("unknown argument {other:?}; there are --contacts N and --providers {}", names()),
            }
        }
        Ok(Some(read))
    }

    /// Contacts that the increment changes.
    pub(crate) fn changes(&self) -> u64 {
        self.contacts.min(CHANGES_MAX)
    }
}

fn contacts(text: &str) -> anyhow::Result<u64> {
    let contacts = text.replace([',', '_'], "").parse().with_context(|| format!("--contacts {text:?} is no number"))?;
    ensure!((1..=CONTACTS_MAX).contains(&contacts), "--contacts must be 1 to {CONTACTS_MAX}");
    Ok(contacts)
}

fn providers(text: &str) -> anyhow::Result<Vec<Provider>> {
    let find = |name: &str| Provider::ALL.into_iter().find(|provider| provider.name() == name);
    text.split(',')
        .map(|name| find(name).with_context(|| format!("--providers {name:?} is none of {}", names())))
        .collect()
}

fn names() -> String {
    Provider::ALL.map(Provider::name).join(",")
}
