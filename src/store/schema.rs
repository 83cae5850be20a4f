//! The schema's version: migrating forward, and refusing a schema that is newer than this program.

use std::str::FromStr;

use sqlx::{Connection, PgConnection, migrate::Migrator, postgres::PgConnectOptions};
use thiserror::Error;

use super::{Db, StoreError};

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

/// Brings the schema to this program's version. Two at once wait for each other.
pub async fn migrate(url: &str) -> Result<(), SchemaError> {
    let mut connection = connect(url).await?;
    refuse_newer(&mut connection).await?;
    MIGRATOR.run_direct(None, &mut connection, false).await.map_err(SchemaError::Migrate)?;
    Ok(())
}

/// Refreshes the statistics of the tables that a sync fills; a few hundred milliseconds. Prepared plans are made anew after it.
/// A role that may not analyze a table skips it, with a warning in the server's log.
pub async fn analyze_contacts(db: &Db) -> Result<(), StoreError> {
    sqlx::query("analyze contacts, external_refs, phone_numbers, changes").execute(&db.pool).await?;
    Ok(())
}

/// Fails unless the schema is exactly this program's.
pub async fn verify(url: &str) -> Result<(), SchemaError> {
    let mut connection = connect(url).await?;
    let applied = refuse_newer(&mut connection).await?;
    let pending = MIGRATOR.iter().filter(|migration| !applied.contains(&migration.version)).count();
    if pending > 0 { Err(SchemaError::Pending(pending)) } else { Ok(()) }
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
    PgConnection::connect_with(&options).await.map_err(SchemaError::Connect)
}

async fn refuse_newer(connection: &mut PgConnection) -> Result<Vec<i64>, SchemaError> {
    let has_table: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await
        .map_err(SchemaError::Read)?;
    if !has_table {
        return Ok(Vec::new());
    }
    let applied: Vec<i64> = sqlx::query_scalar("select version from _sqlx_migrations where success order by version")
        .fetch_all(connection)
        .await
        .map_err(SchemaError::Read)?;
    let known = newest_version();
    match applied.last() {
        Some(found) if *found > known => Err(SchemaError::Newer { found: *found, known }),
        _ => Ok(applied),
    }
}
