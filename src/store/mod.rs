//! Owns sqlx and all SQL; one file per table group. Every statement but the named cross-account
//! ones has `account_id = $1`. Connections come from `database`: `Db::of` an account,
//! `CallDb::of` one, `Db::all` for the few statements across accounts; `schema` alone opens others,
//! before there is a service. What is done wholly or not
//! at all is a value, see `transaction`.

pub mod access;
pub mod accounts;
pub mod adoption_pairs;
pub mod audit;
pub mod authorizations;
pub mod caller_lookup;
pub mod calls;
pub mod changes;
pub mod contact_writes;
pub mod contacts;
mod database;
pub mod erasure;
pub mod expected_calls;
pub mod figures;
mod fragments;
pub mod hint_drains;
pub mod hints;
pub mod integrations;
pub mod lease;
pub mod look_asides;
pub mod merge_chains;
pub mod phone_numbers;
mod pool;
pub mod purge;
pub mod push_channels;
pub mod push_streams;
pub mod ranked_contacts;
mod record_keys;
pub mod rejected;
pub mod reparse;
pub mod requester;
pub mod requester_decisions;
pub mod retention;
pub mod run_progress;
pub mod schema;
pub mod sealed_values;
mod session;
pub mod sources;
pub mod stored_records;
pub mod suppressions;
pub mod sweeps;
pub mod sync_runs;
mod transaction;
mod trouble;

use thiserror::Error;

pub use database::{AccountCallDb, AccountDb, AllAccounts, CallDb, Db};
pub use pool::{PlanMode, PoolSettings};
pub use session::Session;
pub use transaction::{Transaction, Tx, TxError};

/// Why the database did not do it. Texts hold no values of rows.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Cannot be reached, is shutting down, or does not answer. Try again.
    #[error("the database cannot be reached, or does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// It answers others, and whoever waited for a connection had no turn in time. Try again later.
    #[error("the database has more to do than it can")]
    Busy,
    /// A statement or a lock took longer than allowed. Try again.
    #[error("the database took longer than allowed")]
    Timeout(#[source] sqlx::Error),
    /// The database can be read and not written: a standby, one whose writing is switched off, or a
    /// full disk. Try again.
    #[error("the database can only be read at the moment")]
    ReadOnly(#[source] sqlx::Error),
    /// Others were in the way, also after several tries. Try again.
    #[error("concurrent changes were in the way")]
    Conflict,
    /// A named constraint refused a row.
    #[error("the constraint {0} refused a row")]
    Constraint(String, #[source] sqlx::Error),
    /// A value that the schema should have prevented.
    #[error("inconsistent row: {table}.{column}")]
    InconsistentRow {
        /// Where.
        table: &'static str,
        /// Which.
        column: &'static str,
    },
    /// Anything else: a bug, or a schema that is not ours.
    #[error("the database refused a statement")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether the same work may succeed a moment later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy | Self::ReadOnly(_) | Self::Timeout(_) | Self::Conflict)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::PoolTimedOut => Self::Busy,
                sqlx::Error::PoolClosed
                | sqlx::Error::Configuration(_)
                | sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
                other => Self::Database(other),
            };
        };
        let code = database.code().unwrap_or_default();
        match code.as_ref() {
            // Serialization failure, deadlock.
            "40001" | "40P01" => Self::Conflict,
            // Statement or lock timeout.
            "57014" | "55P03" => Self::Timeout(error),
            _ if trouble::is_unwritable(&error) => Self::ReadOnly(error),
            _ if trouble::is_passing(&error) => Self::Unavailable(error),
            _ => match database.constraint().map(str::to_owned) {
                Some(name) => Self::Constraint(name, error),
                None => Self::Database(error),
            },
        }
    }
}

/// Reads a stored enum; a value that the schema should have prevented is an error that names the
/// place.
pub(crate) fn known<T>(value: Option<T>, table: &'static str, column: &'static str) -> Result<T, StoreError> {
    value.ok_or(StoreError::InconsistentRow { table, column })
}
