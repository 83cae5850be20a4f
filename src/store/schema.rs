//! The schema's version: migrating forward, and refusing a schema that is newer than this program,
//! or older than the baseline.

use std::{io, str::FromStr, time::Duration};

use sqlx::{Connection, PgConnection, migrate::Migrator, postgres::PgConnectOptions};
use thiserror::Error;
use tokio::time::timeout;

use super::{Db, StoreError};
use crate::domain::ids::AccountId;

/// How long a start waits for the database server, and for the schema's version.
const CONNECT_MAX: Duration = Duration::from_secs(10);

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Why the schema cannot be used.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The database cannot be reached.
    #[error(
        "cannot connect to the database to check its schema; is DATABASE_URL (or MIGRATE_DATABASE_URL) right, and the server up?"
    )]
    Connect(#[source] sqlx::Error),
    /// A newer program has been here.
    #[error(
        "the database's schema is at version {found}, and this program knows {known} at most; run the newer program, it was migrated by one"
    )]
    Newer {
        /// The version in the database.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A program from before the first baseline made it.
    #[error(
        "the database was made by a version before the first baseline (its schema names {found}) and cannot be migrated; nothing in it \
        was changed. Make a new, empty database and name it in DATABASE_URL (or MIGRATE_DATABASE_URL; in local mode move the folder \
        `pg` of the data directory away), start, create the accounts by the same ids and enable the integrations again: their CRMs \
        are copied anew; see Migrations in docs/operating.md for what is lost"
    )]
    BeforeBaseline {
        /// The migration that this program does not have.
        found: i64,
    },
    /// Another text of a migration was applied: by a program that was not released, or by hand.
    #[error(
        "the database was migrated by another text of migration {0} than this program's; nothing in it was changed. Run the program \
        that migrated it, or make a new, empty database"
    )]
    Edited(i64),
    /// Migrations are missing, and were not asked for.
    #[error(
        "the database's schema lacks {0} migrations; start without --no-migrate, or run `contact-sync migrate` as the owner of the tables"
    )]
    Pending(usize),
    /// A migration failed; it was rolled back.
    #[error("a migration failed and was rolled back; see the cause, the schema is as it was before that migration")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Reading the schema's version failed.
    #[error("cannot read the schema's version")]
    Read(#[source] sqlx::Error),
}

/// Brings the schema to this program's version. Two at once wait for each other. One that is there
/// already needs no write, so that a start does not fail while the database can only be read.
pub async fn migrate(url: &str) -> Result<(), SchemaError> {
    let mut connection = connect(url).await?;
    if pending(&mut connection).await? == 0 {
        return Ok(());
    }
    MIGRATOR.run_direct(None, &mut connection, false).await.map_err(SchemaError::Migrate)?;
    Ok(())
}

/// Refreshes the statistics of the tables that a sync of this account fills; a few hundred
/// milliseconds. Prepared plans are made anew after it. A role that may not analyze a table skips
/// it, with a warning in the server's log.
pub async fn analyze_contacts(db: &Db, account_id: AccountId) -> Result<(), StoreError> {
    sqlx::query("-- store::schema::analyze_contacts\nanalyze contacts, external_refs, phone_numbers, changes")
        .execute(db.of(account_id))
        .await?;
    Ok(())
}

/// Fails unless the schema is exactly this program's.
pub async fn verify(url: &str) -> Result<(), SchemaError> {
    let pending = pending(&mut connect(url).await?).await?;
    if pending > 0 { Err(SchemaError::Pending(pending)) } else { Ok(()) }
}

/// How many migrations are missing.
async fn pending(connection: &mut PgConnection) -> Result<usize, SchemaError> {
    let silent = || SchemaError::Read(io::Error::from(io::ErrorKind::TimedOut).into());
    let applied = timeout(CONNECT_MAX, applied_versions(connection)).await.map_err(|_| silent())??;
    Ok(MIGRATOR.iter().filter(|migration| !applied.contains(&migration.version)).count())
}

/// The newest migration that this program knows.
pub fn newest_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Of all migrations' texts, in hexadecimal: tells apart two programs whose migrations differ.
pub fn checksum() -> String {
    let all = MIGRATOR.iter().flat_map(|migration| migration.checksum.iter());
    let folded = all.fold(0_u64, |sum, byte| sum.rotate_left(7) ^ u64::from(*byte));
    format!("{folded:016x}")
}

async fn connect(url: &str) -> Result<PgConnection, SchemaError> {
    let options = PgConnectOptions::from_str(url).map_err(SchemaError::Connect)?;
    // "already exists, skipping" is no news at each start.
    let options = options.application_name("contact-sync migrate").options([("client_min_messages", "warning")]);
    let connecting = timeout(CONNECT_MAX, PgConnection::connect_with(&options)).await;
    connecting.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())).map_err(SchemaError::Connect)
}

/// What was applied to the database; refuses what this program does not know, before anything is
/// written.
async fn applied_versions(connection: &mut PgConnection) -> Result<Vec<i64>, SchemaError> {
    let has_table: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await
        .map_err(SchemaError::Read)?;
    if !has_table {
        return Ok(Vec::new());
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("select version, checksum from _sqlx_migrations where success order by version")
            .fetch_all(connection)
            .await
            .map_err(SchemaError::Read)?;
    let known = newest_version();
    if let Some((found, _)) = applied.last().filter(|(found, _)| *found > known) {
        return Err(SchemaError::Newer { found: *found, known });
    }
    for (version, checksum) in &applied {
        match MIGRATOR.iter().find(|migration| migration.version == *version) {
            None => return Err(SchemaError::BeforeBaseline { found: *version }),
            Some(migration) if *migration.checksum != **checksum => return Err(SchemaError::Edited(*version)),
            Some(_) => {}
        }
    }
    Ok(applied.into_iter().map(|(version, _)| version).collect())
}
