//! Why a program does not take a database's schema, and what to do.

use thiserror::Error;

use super::program_version::{InvalidVersion, ProgramVersion};

/// Why the schema cannot be used.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The database cannot be reached.
    #[error(
        "cannot connect to the database to check its schema; is DATABASE_URL (or MIGRATE_DATABASE_URL) right, and the server up?"
    )]
    Connect(#[source] sqlx::Error),
    /// The schema says that this program's statements do not run on it any more.
    #[error(
        "the database's schema needs version {oldest} of this program or a newer one, and this is {program}; nothing in it was \
        changed. Run {oldest} or newer; to go on with {program}, restore the backup from before the upgrade \
        (see Upgrades in docs/operating.md)"
    )]
    TooOld {
        /// The oldest program that runs on it.
        oldest: ProgramVersion,
        /// This one.
        program: ProgramVersion,
    },
    /// Which programs it is for cannot be read.
    #[error(
        "the database does not say which programs its schema is for (schema_compatibility.oldest_program); was it restored in \
        part? Restore it whole, or write the version of the release that migrated it last there"
    )]
    Unsaid(#[source] Option<InvalidVersion>),
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
    /// It has migrations that this program does not know, and lacks some that it knows.
    #[error(
        "the database's schema has migration {found}, which this program does not know, and lacks {missing} that it knows; nothing \
        in it was changed. Run the program that migrated it, or one that is newer than both"
    )]
    Diverged {
        /// The newest that this program does not know.
        found: i64,
        /// How many it lacks.
        missing: usize,
    },
    /// Migrations are missing, and were not asked for.
    #[error(
        "the database's schema lacks {0} migrations; start without --no-migrate, or run `contact-sync migrate` as the owner of the tables"
    )]
    Pending(usize),
    /// Somebody else has been migrating for longer than anybody waits.
    #[error(
        "another session has been migrating this database for {0} minutes; look for the application name \"contact-sync migrate\" in \
        pg_stat_activity, and start again when it has ended"
    )]
    Occupied(u64),
    /// A migration never had its turn. Nothing of it stays but an index that is not valid, which
    /// the next try makes anew.
    #[error(
        "migration {version} found its table in use {attempts} times and gave way to calls each time; the migrations before it stay, \
        and the service runs on. Look for long transactions, and for an autovacuum of the table (pg_stat_activity, pg_locks), wait for \
        them or end them, and migrate again"
    )]
    Locked {
        /// Which.
        version: i64,
        /// How often it was tried.
        attempts: u32,
        /// The last refusal.
        #[source]
        source: sqlx::Error,
    },
    /// A migration failed.
    #[error(
        "migration {version} failed; see the cause. Nothing of it stays but an index that is not valid, which the next try makes anew, \
        and the migrations before it"
    )]
    Migrate {
        /// Which.
        version: i64,
        /// The database's refusal.
        #[source]
        source: sqlx::Error,
    },
    /// The role lacks a right.
    #[error(
        "the database's role may not do that ({0}). To serve it needs: grant select, insert, update, delete on all tables in schema \
        public. To migrate, run `contact-sync migrate` with MIGRATE_DATABASE_URL of the role that owns the tables, and serve with \
        --no-migrate (see Database and roles in docs/operating.md)"
    )]
    Denied(String),
    /// Reading or keeping the schema's version failed.
    #[error("cannot read the schema's version, or take the lock of migrations")]
    Read(#[source] sqlx::Error),
}

/// `insufficient_privilege` of PostgreSQL.
const NO_RIGHT: &str = "42501";

impl SchemaError {
    /// Reading failed.
    pub(super) fn read(error: sqlx::Error) -> Self {
        denial(&error).map_or(Self::Read(error), Self::Denied)
    }

    /// A migration failed.
    pub(super) fn migrate(version: i64, error: sqlx::Error) -> Self {
        denial(&error).map_or(Self::Migrate { version, source: error }, Self::Denied)
    }
}

/// What the role may not do, in the database's words. They stand below what wraps them.
fn denial(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let database = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    match database {
        Some(refused) => (refused.code().as_deref() == Some(NO_RIGHT)).then(|| refused.message().to_owned()),
        None => denial(error.source()?),
    }
}
