//! `contact-sync migrate`: brings the schema to this program's version and ends. For operators
//! whose service role owns no table.

use anyhow::{Context, bail};

use crate::{config::Config, store::schema};

/// Migrates `MIGRATE_DATABASE_URL`, else `DATABASE_URL`.
pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let Some(url) = config.migrate_database_url.as_ref().or(config.database_url.as_ref()) else {
        bail!(
            "set MIGRATE_DATABASE_URL (or DATABASE_URL) to the database to migrate; a private cluster is migrated by `contact-sync serve`"
        );
    };
    schema::migrate(url.expose()).await.context("the schema was not migrated")?;
    println!("The schema is at version {}.", schema::newest_version());
    Ok(())
}
