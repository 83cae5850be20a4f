//! What a database's refusals mean for a connection and for the operator: which end it, and what to do about each.

use sqlx::{Error, postgres::PgDatabaseError, postgres::PgSeverity};

/// Something that an operator should know and can mend. Texts hold no values.
pub(super) struct Trouble {
    /// What it is; also the key by which repetitions are counted.
    pub(super) what: &'static str,
    /// What to do.
    pub(super) next: &'static str,
}

const fn trouble(what: &'static str, next: &'static str) -> Trouble {
    Trouble { what, next }
}

impl Trouble {
    pub(super) const SILENT: Self = trouble(
        "a connection to the database has gone silent",
        "it and all of its age are closed and made anew; a fail-over, a firewall or NAT that forgets connections, or a frozen server",
    );
    pub(super) const READ_ONLY: Self = trouble(
        "the database can only be read",
        "known callers are answered, nothing is stored; if the address leads to a standby, or writing is switched off \
         (default_transaction_read_only, a full disk at a managed database), mend that: it is looked at every second",
    );

    /// Why no connection could be made.
    pub(super) fn of_connecting(error: &Error) -> Self {
        match code(error) {
            Some("3D000") => trouble(
                "the database does not exist on its server",
                "was it dropped or renamed? create or restore it under the name in DATABASE_URL; nothing needs a restart, \
                 but an empty one needs `contact-sync migrate`",
            ),
            Some("28P01" | "28000") => trouble(
                "the database server refuses this user or password",
                "look at DATABASE_URL, the server's users and pg_hba.conf; a new password needs a restart",
            ),
            Some("42501") => trouble(
                "the database's user may not connect, or not read what it must",
                "grant it CONNECT on the database, and USAGE on its schema",
            ),
            Some("53300") => trouble(
                "the database server has no connection left",
                "raise its max_connections, or lower pools.*.connections of this service and others",
            ),
            Some("57P01" | "57P02" | "57P03") => trouble(
                "the database server is starting, recovering or stopping",
                "it is tried again until it is ready",
            ),
            _ => trouble("the database cannot be reached", "is it up, and can it be reached? it is tried again"),
        }
    }

    /// A refused statement that is the operator's to mend: a schema that is not there, or not this program's, or not allowed.
    pub(super) fn of_statement(error: &Error) -> Option<Self> {
        Some(match code(error)? {
            "42P01" | "3F000" | "42703" | "42883" => trouble(
                "the database's schema is missing or is another program's",
                "if the database was restored, dropped or made anew, run `contact-sync migrate`; nothing needs a restart",
            ),
            "42501" => trouble(
                "the database's user may not do what it must",
                "see docs/operating.md for the rights that it needs, and grant them again",
            ),
            "53100" | "53200" | "53400" => {
                trouble("the database is out of disk space, memory or another resource", "make room; it is tried again")
            }
            _ => return None,
        })
    }
}

/// Whether whoever has met this could be served by trying again later, perhaps after an operator has mended something.
pub(super) fn is_passing(code: &str) -> bool {
    match code {
        // Shutting down or starting up, session idle in transaction, too many connections, no such database, schema or table.
        // Not accepting connections, or in recovery.
        "57P01" | "57P02" | "57P03" | "25P03" | "55000" | "3D000" | "3F000" | "42P01" | "42501" => true,
        // Connection, authorization, resources, I/O.
        code => ["08", "28", "53", "58"].iter().any(|class| code.starts_with(class)),
    }
}

/// Whether the connection is not to be used again: it is gone, or holds what the server no longer knows.
pub(super) fn ends_connection(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Protocol(_) | Error::Tls(_) | Error::WorkerCrashed => true,
        Error::Database(refusal) => {
            let is_fatal = refusal
                .try_downcast_ref::<PgDatabaseError>()
                .is_some_and(|refusal| matches!(refusal.severity(), PgSeverity::Fatal | PgSeverity::Panic));
            // A prepared statement that is not there, or was made for another schema.
            let is_stale = matches!(refusal.code().as_deref(), Some("26000" | "0A000" | "42P01" | "3F000"));
            is_fatal || is_stale || refusal.code().is_some_and(|code| code.starts_with("08"))
        }
        _ => false,
    }
}

/// Whether the server said that it does not write.
pub(super) fn is_read_only(error: &Error) -> bool {
    code(error) == Some("25006")
}

/// The error for a log, with its causes.
pub(super) fn words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = next.source();
    }
    words
}

fn code(error: &Error) -> Option<&str> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code)
}
