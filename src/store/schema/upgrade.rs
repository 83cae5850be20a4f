//! Runs migrations beside calls. What a transaction changes waits for its lock for less than a call
//! waits, and tries again; indexes are made outside of transactions, statement by statement.
//!
//! Not by `Migrator::run`: who waits for its turn there does so within a statement, which `create
//! index concurrently` waits for in the other session, and the two are a deadlock.

use std::{fmt::Write as _, time::Duration};

use sqlx::{
    AssertSqlSafe, PgConnection,
    error::DatabaseError,
    migrate::{Migrate as _, Migration},
};
use tokio::time::sleep;
use tracing::{info, warn};

use super::error::SchemaError;

/// What the session is told at its beginning. "Does not exist, skipping" is no news. Calls give up
/// on a lock after 100 ms (`app::pool_settings`), and they stand behind whoever waits for a
/// stronger one: half of that is for waiting, half for the work.
pub(super) const SESSION: [(&str, &str); 7] = [
    ("client_min_messages", "warning"),
    ("lock_timeout", "50ms"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "10000"),
    // One whose migrator has vanished gives the turn back within a minute, and a long statement
    // keeps its connection known on the way.
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// `create index concurrently` stands in nobody's way and waits for every transaction that is older
/// than itself, such as a dump's. An autovacuum gives way to it after a second.
const CONCURRENT_WAIT: &str = "set lock_timeout = '10min'";
const USUAL_WAIT: &str = "reset lock_timeout";

/// Tries of a transaction, ten minutes with their pauses.
const ATTEMPTS_MAX: u32 = 300;
/// Tries of a statement outside of transactions, each of ten minutes.
const CONCURRENT_ATTEMPTS_MAX: u32 = 6;
/// Between two tries at first, and in the end.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The lock of migrations, which one session of a database holds at a time.
const TURN: &str = "select pg_try_advisory_lock(7166460117429644660)";
/// How often a session asks whether it is its turn: for an hour in sum.
const TURN_PAUSE: Duration = Duration::from_millis(500);
const TURN_ATTEMPTS_MAX: u64 = 7_200;

/// Waits until no other session migrates; from then on none does, until this one ends.
pub(super) async fn take_turn(connection: &mut PgConnection) -> Result<(), SchemaError> {
    for attempt in 0..TURN_ATTEMPTS_MAX {
        if sqlx::query_scalar(TURN).fetch_one(&mut *connection).await.map_err(SchemaError::read)? {
            let made = connection.ensure_migrations_table("_sqlx_migrations").await;
            return made.map_err(|error| SchemaError::read(error.into()));
        }
        if attempt % 120 == 0 {
            info!("another session is migrating the database; waiting for it");
        }
        sleep(TURN_PAUSE).await;
    }
    Err(SchemaError::Occupied(TURN_ATTEMPTS_MAX * 500 / 60_000))
}

/// Runs a migration and says so in the database.
pub(super) async fn apply(connection: &mut PgConnection, migration: &Migration) -> Result<(), SchemaError> {
    info!(migration = migration.version, what = &*migration.description, "migrating");
    if migration.no_tx {
        run_concurrently(connection, migration).await
    } else {
        run_in_transaction(connection, migration).await
    }
}

/// All in one message: its locks are held for no round trip.
async fn run_in_transaction(connection: &mut PgConnection, migration: &Migration) -> Result<(), SchemaError> {
    let whole = format!("begin;\n{}\n;{}\n;commit", migration.sql.as_str(), record(migration));
    let mut attempt = 1;
    while let Err(error) = execute(connection, &whole).await {
        // If this fails, so does the next try, which says why.
        let _ = execute(connection, "rollback").await;
        wait_or_fail(migration, error, attempt, ATTEMPTS_MAX).await?;
        attempt += 1;
    }
    Ok(())
}

/// Statement by statement: several in one message would be a transaction. What was begun before is
/// begun anew, from the file's first statement, which drops an index that was left invalid.
async fn run_concurrently(connection: &mut PgConnection, migration: &Migration) -> Result<(), SchemaError> {
    let mut attempt = 1;
    while let Err(error) = run_statements(connection, migration).await {
        wait_or_fail(migration, error, attempt, CONCURRENT_ATTEMPTS_MAX).await?;
        attempt += 1;
    }
    Ok(())
}

async fn run_statements(connection: &mut PgConnection, migration: &Migration) -> Result<(), sqlx::Error> {
    execute(connection, CONCURRENT_WAIT).await?;
    for statement in statements(migration.sql.as_str()) {
        execute(connection, &statement).await?;
    }
    execute(connection, &record(migration)).await?;
    execute(connection, USUAL_WAIT).await
}

/// Of a file without a transaction, where comments have lines of their own and no text holds a
/// semicolon: a lint says so.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    code.join("\n").split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// A statement that says that a migration was applied.
fn record(migration: &Migration) -> String {
    let mut checksum = String::new();
    for byte in migration.checksum.iter() {
        let _ = write!(checksum, "{byte:02x}");
    }
    format!(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
        values ({}, '{}', true, '\\x{checksum}', -1)",
        migration.version,
        migration.description.replace('\'', "''"),
    )
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(|_| ())
}

/// Waits for the next try, if others were in the way and there may be one.
async fn wait_or_fail(
    migration: &Migration,
    source: sqlx::Error,
    attempt: u32,
    attempts_max: u32,
) -> Result<(), SchemaError> {
    let version = migration.version;
    // A lock that did not come in time, or a deadlock.
    let code = source.as_database_error().and_then(DatabaseError::code);
    let is_in_use = matches!(code.as_deref(), Some("55P03" | "40P01"));
    if !is_in_use {
        return Err(SchemaError::migrate(version, source));
    }
    if attempt >= attempts_max {
        return Err(SchemaError::Locked { version, attempts: attempt, source });
    }
    if attempt.is_power_of_two() {
        warn!(migration = version, attempt, "a migration's table is in use; it gives way to calls and tries again");
    }
    sleep((PAUSE_MIN * attempt).min(PAUSE_MAX)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_transaction_are_split_into_statements() {
        let sql = "-- no-transaction\n-- For: looking; up.\ndrop index concurrently if exists i;\n\n  -- again;\ncreate index concurrently i\n    on t (account_id);\n";

        assert_eq!(
            statements(sql),
            ["drop index concurrently if exists i", "create index concurrently i\n    on t (account_id)"]
        );
    }
}
