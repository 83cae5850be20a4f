//! `contact-sync migrate`: brings the schema to this program's version and ends. For operators
//! whose service role owns no table.

use anyhow::{Context, bail};

use crate::{config::Config, store::schema::ProgramSchema};

/// Migrates `MIGRATE_DATABASE_URL`, else `DATABASE_URL`.
pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let Some(url) = config.migrate_database_url.as_ref().or(config.database_url.as_ref()) else {
        bail!(
            "set MIGRATE_DATABASE_URL (or DATABASE_URL) to the database to migrate; a private cluster is migrated by `contact-sync serve`"
        );
    };
    let program = ProgramSchema::own();
    let state = program.migrate(url.expose()).await.context("the schema was not migrated")?;
    let (newest, own) = (state.applied.last().copied().unwrap_or_default(), program.newest_version());
    if newest > own {
        println!(
            "The schema is at version {newest}, by a newer program. This one ({own}) runs on it, and has changed nothing."
        );
    } else {
        println!("The schema is at version {newest}.");
    }
    if let Some(oldest) = state.oldest_program {
        println!("Programs from {oldest} on run on it.");
    }
    Ok(())
}
