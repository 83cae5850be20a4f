//! `contact-sync call-ref`: how a phone call is named in the log and in traces. Reads the key ring,
//! and asks nobody.

use anyhow::Context;

use super::client::AccountOption;
use crate::{config::Config, key_source::read_file, vault::KeyRing};

/// Prints how a call is named in the log and in traces
///
/// One line for each key of the key ring, the newest first: what was logged before a rotation has
/// the name by the key of then.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CallRefArgs {
    #[command(flatten)]
    account: AccountOption,
    /// The call's id, as the router gave it
    call_id: String,
}

/// The lines.
pub(super) fn run(args: &CallRefArgs, config: &Config) -> anyhow::Result<String> {
    let path = config.vault.key_ring_file.clone().unwrap_or_else(|| config.data_dir.join("key-ring.json"));
    let ring = read_file(&path).context("vault.key_ring_file")?;
    let keys = KeyRing::parse(&ring).context("vault.key_ring_file")?.call_ref_keys();
    let refs = keys.iter().map(|key| key.call_ref(args.account.id, &args.call_id).to_string());
    Ok(refs.collect::<Vec<_>>().join("\n"))
}
