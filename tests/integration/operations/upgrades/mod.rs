//! Upgrades without an outage: a release runs on its own schema and on the next one's, migrations
//! take no lock that calls wait for, and binaries roll back alone.

mod from_baseline;
mod lint;
mod load;
mod previous_release;
mod processes;
mod programs;
mod rules;
mod turns;
mod under_load;

use contact_sync::store::schema::{ProgramSchema, ProgramVersion};
use sqlx::{
    SqlSafeStr as _,
    migrate::{Migration, MigrationType},
};

/// A migration as a file with this text is read.
fn migration(version: i64, text: &str) -> Migration {
    let sql = sqlx::AssertSqlSafe(text.to_owned()).into_sql_str();
    Migration::new(version, "of a test".into(), MigrationType::Simple, sql, text.starts_with("-- no-transaction"))
}

/// A program of this version with this one's migrations and others.
fn program(version: &str, further: &[(i64, &str)]) -> ProgramSchema {
    let own = ProgramSchema::own();
    let further = further.iter().map(|(version, text)| migration(*version, text));
    ProgramSchema::new(version_of(version), own.migrations().iter().cloned().chain(further).collect())
}

/// This program, from before its last migrations: so many are left.
fn first_migrations(version: &str, count: usize) -> ProgramSchema {
    ProgramSchema::new(version_of(version), ProgramSchema::own().migrations()[..count].to_vec())
}

fn version_of(text: &str) -> ProgramVersion {
    text.parse().unwrap()
}
