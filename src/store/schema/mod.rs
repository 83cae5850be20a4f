//! The schema's version: which databases a program takes, and bringing one forward. Never back: a
//! program that is older than the schema runs on it as it is, unless the schema says that it is
//! too old.

mod error;
mod program_version;
mod upgrade;

use std::{borrow::Cow, collections::BTreeSet, io, str::FromStr, time::Duration};

use sqlx::{
    Connection, PgConnection,
    migrate::{Migration, Migrator},
    postgres::PgConnectOptions,
};
use tokio::time::timeout;
use tracing::info;

pub use self::{
    error::SchemaError,
    program_version::{InvalidVersion, ProgramVersion},
};
use super::{Db, StoreError};
use crate::domain::ids::AccountId;

/// How long a start waits for the database server, and for the schema's version.
const CONNECT_MAX: Duration = Duration::from_secs(10);

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// What one program knows of the schema: its own version, and the migrations that it has.
#[derive(Debug)]
pub struct ProgramSchema {
    version: ProgramVersion,
    migrations: Cow<'static, [Migration]>,
}

/// What a database says of its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaState {
    /// The migrations that were applied, whoever did.
    pub applied: BTreeSet<i64>,
    /// The oldest program that runs on it; none before the migration that writes the first.
    pub oldest_program: Option<ProgramVersion>,
}

impl ProgramSchema {
    /// What this program knows.
    pub fn own() -> Self {
        let version = env!("CARGO_PKG_VERSION").parse().expect("Cargo.toml has a version of three numbers");
        Self { version, migrations: Cow::Borrowed(MIGRATOR.iter().as_slice()) }
    }

    /// What another program knows, as tests need it: its version, and its migrations in order.
    pub const fn new(version: ProgramVersion, migrations: Vec<Migration>) -> Self {
        Self { version, migrations: Cow::Owned(migrations) }
    }

    /// In order.
    pub fn migrations(&self) -> &[Migration] {
        &self.migrations
    }

    /// Its own.
    pub const fn version(&self) -> ProgramVersion {
        self.version
    }

    /// The newest migration that it knows.
    pub fn newest_version(&self) -> i64 {
        self.migrations.last().map_or(0, |migration| migration.version)
    }

    /// Of all migrations' texts, in hexadecimal: tells apart two programs whose migrations differ.
    pub fn checksum(&self) -> String {
        let all = self.migrations.iter().flat_map(|migration| migration.checksum.iter());
        let folded = all.fold(0_u64, |sum, byte| sum.rotate_left(7) ^ u64::from(*byte));
        format!("{folded:016x}")
    }

    /// Brings the schema to this program's version, while calls are answered. Two at once wait for
    /// each other. One that is there already needs no write, so that a start does not fail while
    /// the database can only be read.
    pub async fn migrate(&self, url: &str) -> Result<SchemaState, SchemaError> {
        let mut connection = connect(url).await?;
        let state = self.read(&mut connection).await?;
        if self.missing(&state)? == 0 {
            return Ok(state);
        }
        upgrade::take_turn(&mut connection).await?;
        // Who had the turn before may have done everything.
        let mut state = self.read(&mut connection).await?;
        if self.missing(&state)? > 0 {
            for migration in self.migrations.iter().filter(|migration| !state.applied.contains(&migration.version)) {
                upgrade::apply(&mut connection, migration).await?;
            }
            state = self.read(&mut connection).await?;
        }
        // The lock of migrations goes with the session: others need not wait for its silence.
        let _ = connection.close().await;
        Ok(state)
    }

    /// Fails unless this program runs on the schema as it is.
    pub async fn verify(&self, url: &str) -> Result<(), SchemaError> {
        let state = self.read(&mut connect(url).await?).await?;
        match self.missing(&state)? {
            0 => Ok(()),
            missing => Err(SchemaError::Pending(missing)),
        }
    }

    /// What the database says; refuses what this program cannot run on, before anything is written.
    async fn read(&self, connection: &mut PgConnection) -> Result<SchemaState, SchemaError> {
        let silent = || SchemaError::Read(io::Error::from(io::ErrorKind::TimedOut).into());
        let (applied, oldest_program) = timeout(CONNECT_MAX, read(connection)).await.map_err(|_| silent())??;
        if let Some(oldest) = oldest_program.filter(|oldest| *oldest > self.version) {
            return Err(SchemaError::TooOld { oldest, program: self.version });
        }
        let baseline = self.migrations.first().map_or(0, |migration| migration.version);
        for (version, checksum) in &applied {
            match self.migrations.iter().find(|migration| migration.version == *version) {
                None if *version < baseline => return Err(SchemaError::BeforeBaseline { found: *version }),
                Some(migration) if *migration.checksum != **checksum => return Err(SchemaError::Edited(*version)),
                // A newer program's, which has not said that this one is too old.
                None | Some(_) => {}
            }
        }
        Ok(SchemaState { applied: applied.into_iter().map(|(version, _)| version).collect(), oldest_program })
    }

    /// How many migrations are missing. A schema that has others instead is not touched: what a
    /// newer program has made may rest on what is missing, and says itself which programs it is
    /// for.
    fn missing(&self, state: &SchemaState) -> Result<usize, SchemaError> {
        let missing = self.migrations.iter().filter(|migration| !state.applied.contains(&migration.version)).count();
        let knows = |version: i64| self.migrations.iter().any(|migration| migration.version == version);
        match state.applied.iter().rev().find(|version| !knows(**version)) {
            Some(found) if missing > 0 => Err(SchemaError::Diverged { found: *found, missing }),
            Some(found) => {
                info!(schema = *found, "the schema is newer than this program, which runs on it");
                Ok(0)
            }
            None => Ok(missing),
        }
    }
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

async fn connect(url: &str) -> Result<PgConnection, SchemaError> {
    let options = PgConnectOptions::from_str(url).map_err(SchemaError::Connect)?;
    let options = options.application_name("contact-sync migrate").options(upgrade::SESSION);
    let connecting = timeout(CONNECT_MAX, PgConnection::connect_with(&options)).await;
    connecting.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())).map_err(SchemaError::Connect)
}

/// The migrations that were applied, with the checksum of each text, and the oldest program.
type Found = (Vec<(i64, Vec<u8>)>, Option<ProgramVersion>);

async fn read(connection: &mut PgConnection) -> Result<Found, SchemaError> {
    let (has_migrations, has_programs): (bool, bool) = sqlx::query_as(
        "select to_regclass('_sqlx_migrations') is not null, to_regclass('schema_compatibility') is not null",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(SchemaError::read)?;
    let applied = if has_migrations {
        sqlx::query_as("select version, checksum from _sqlx_migrations where success order by version")
            .fetch_all(&mut *connection)
            .await
            .map_err(SchemaError::read)?
    } else {
        Vec::new()
    };
    if !has_programs {
        return Ok((applied, None));
    }
    let oldest: Option<String> = sqlx::query_scalar("select oldest_program from schema_compatibility")
        .fetch_optional(connection)
        .await
        .map_err(SchemaError::read)?;
    let oldest = oldest.ok_or(SchemaError::Unsaid(None))?.parse().map_err(|error| SchemaError::Unsaid(Some(error)))?;
    Ok((applied, Some(oldest)))
}
