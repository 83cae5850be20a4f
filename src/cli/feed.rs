//! `contact-sync feed new-epoch`: what an operator says after a restore that nothing else shows.

use std::process::ExitCode;

use anyhow::Context;

use super::serve;
use crate::{config::Config, store::changes};

/// Look after the feed of changes
#[derive(Debug, Clone, clap::Args)]
pub(super) struct FeedArgs {
    #[command(subcommand)]
    command: FeedCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum FeedCommand {
    /// Tell all readers of the feed to begin anew: after the database's files were put back from a
    /// copy
    ///
    /// A dump that was restored, a point in time that was recovered and a standby that was promoted
    /// are noticed without it. Files or a volume that were put back as they were are not: run this
    /// before the service serves again. Every reader is then told `FEED_RESET` at its next call.
    /// Works on `DATABASE_URL`, else on the private PostgreSQL in the data directory.
    NewEpoch,
}

/// Does it.
pub(super) async fn run(args: &FeedArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.command {
        FeedCommand::NewEpoch => {
            let (cluster, url) = serve::database(config).await?;
            let done = changes::distrust_all(&url).await.context("the feeds were not renewed");
            if let Some(cluster) = cluster {
                cluster.stop().await.context("the private PostgreSQL did not stop")?;
            }
            println!("Feeds that begin a new epoch when they are read next: {}.", done?);
            Ok(ExitCode::SUCCESS)
        }
    }
}
