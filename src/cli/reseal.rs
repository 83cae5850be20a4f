//! `contact-sync keys reseal`: brings everything that is sealed under the newest key of the ring,
//! so that an older one can be taken out, beside a service that goes on.

use std::{fmt::Write, process::ExitCode, sync::Arc};

use anyhow::Context;
use tokio_util::task::TaskTracker;

use super::{client::failure::CommandFailure, keys::key_ring_file, serve};
use crate::{
    app,
    config::Config,
    credentials::{CredentialVault, ResealOutcome, SealCounts, VaultResealer},
    domain::ids::IdSource,
    key_source::read_file,
    store::{Db, schema::ProgramSchema},
    vault::KeyRing,
};

/// How it ends when values are left that another key than the newest has sealed.
const LEFT: u8 = 3;

/// Look after the keys that seal credentials
#[derive(Debug, Clone, clap::Args)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum KeysCommand {
    /// Seal everything under the newest key of the ring (`primary`), so that an older one can be
    /// taken out
    ///
    /// Run it with the settings of `serve` when every process seals with the new key. The service
    /// goes on meanwhile: what it writes stays as it is. Interrupted, it is run again and goes on
    /// with what is left. Prints how many values each key has sealed. Ends with 0 if all are under
    /// the newest key, so that the others may be taken out, with 3 if some are not, with 1 if it
    /// failed. Works on `DATABASE_URL`, else on the private PostgreSQL in the data directory.
    Reseal(ResealArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct ResealArgs {
    /// Only count, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
pub(super) async fn run(args: &KeysArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let KeysCommand::Reseal(args) = &args.command;
    let ids = Arc::new(IdSource::from_os());
    let ring = read_file(&key_ring_file(config, &ids)?).context("vault.key_ring_file")?;
    let key_ring = Arc::new(KeyRing::parse(&ring).context("vault.key_ring_file")?);
    let (cluster, url) = serve::database(config).await?;
    let done = reseal(args, config, &url, CredentialVault { key_ring, ids }).await;
    if let Some(cluster) = cluster {
        cluster.stop().await.context("the private PostgreSQL did not stop")?;
    }
    done
}

async fn reseal(args: &ResealArgs, config: &Config, url: &str, vault: CredentialVault) -> anyhow::Result<ExitCode> {
    ProgramSchema::own().verify(url).await?;
    let newest = vault.key_ring.primary_id();
    let db = Db::connect_lazy(url, "reseal", app::command_pool(config), TaskTracker::new())?;
    let resealer = VaultResealer { db: db.clone(), vault };
    let told = |accounts: u64| eprintln!("accounts looked at: {accounts}");
    let worked = async {
        let outcome = if args.dry_run { None } else { Some(resealer.reseal(told).await?) };
        Ok::<_, crate::store::StoreError>((outcome, resealer.count(|_| {}).await?))
    };
    let worked = worked.await;
    db.close().await;
    let (outcome, counts) = worked.map_err(|error| CommandFailure {
        what: format!("not everything was seen: {}", crate::telemetry::chain(&error)),
        next: "run it again: it goes on with what is left".to_owned(),
    })?;
    print!("{}", report(&newest, outcome.as_ref(), &counts));
    Ok(if counts.others_than(&newest) == 0 { ExitCode::SUCCESS } else { ExitCode::from(LEFT) })
}

fn report(newest: &str, outcome: Option<&ResealOutcome>, counts: &SealCounts) -> String {
    let mut text = String::new();
    for (key, column, count) in counts.rows() {
        let key = match key {
            "" => "(not sealed)",
            key => key,
        };
        let _ = writeln!(text, "{key:<32}  {column:<24}  {count:>9}");
    }
    if let Some(outcome) = outcome {
        let ResealOutcome { resealed, passed_over, unopened } = outcome;
        let _ = writeln!(text, "{resealed} were sealed anew by {newest}.");
        if *passed_over > 0 {
            let _ = writeln!(text, "{passed_over} were changed by the service meanwhile, or held by it: run it again.");
        }
        if *unopened > 0 {
            let _ = writeln!(
                text,
                "{unopened} do not open: add the key that sealed them to the ring again; where that is lost, bring the credentials \
                 anew. Records that could not be read go by themselves within 30 days."
            );
        }
    }
    let _ = match counts.others_than(newest) {
        0 => writeln!(text, "Everything is under {newest}: every other key may be taken out of the ring."),
        left => writeln!(text, "{left} are under other keys than {newest}, which must stay in the ring."),
    };
    text
}
