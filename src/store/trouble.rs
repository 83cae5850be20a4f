//! What a database's refusals mean for a connection and for the operator: which end it, what to do
//! about each, and which statement was refused.

use std::{borrow::Cow, fmt};

use sqlx::{
    Error,
    error::{BoxDynError, DatabaseError, ErrorKind},
    postgres::{PgDatabaseError, PgSeverity},
};

/// How the name of a statement ends that asks for what a server need not grant: there is another
/// way, and nothing to mend.
const MAY_BE_REFUSED: &str = "(may be refused)";

/// Something that an operator should know and can mend. Texts hold no values.
pub(super) struct DatabaseTrouble {
    /// What it is; also the key by which repetitions are counted.
    pub(super) what: &'static str,
    /// What to do.
    pub(super) next: &'static str,
}

const fn trouble(what: &'static str, next: &'static str) -> DatabaseTrouble {
    DatabaseTrouble { what, next }
}

impl DatabaseTrouble {
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

    /// A refused statement that is the operator's to mend: a schema that is not there, or not this
    /// program's, or not allowed.
    pub(super) fn of_statement(error: &Error, sql: &str) -> Option<Self> {
        if name_of(sql).ends_with(MAY_BE_REFUSED) {
            return None;
        }
        Some(match code(error)? {
            code if is_of_schema(code) => trouble(
                "the database's schema is missing or is another program's",
                "if the database was restored, dropped or made anew, run `contact-sync migrate`; nothing needs a restart. If it was \
                 migrated for newer programs, run one of them (see Upgrades in docs/operating.md)",
            ),
            "42501" => trouble(
                "the database's user may not do what it must",
                "see docs/operating.md for the rights that it needs, and grant them again",
            ),
            "53100" | "53200" | "53400" => {
                trouble("the database is out of disk space, memory or another resource", "make room; it is tried again")
            }
            "XX001" | "XX002" => trouble(
                "the database says that its data is damaged",
                "look at the server's log and disks, and restore what is damaged from a backup",
            ),
            _ => return None,
        })
    }
}

/// What is refused because the schema is not there, or is not this program's. The compiler has held
/// every statement against the right one, so that it cannot be a statement's fault: no such schema,
/// table, column, function, type or index, or one of another type.
fn is_of_schema(code: &str) -> bool {
    matches!(code, "3F000" | "42P01" | "42703" | "42883" | "42704" | "42P10" | "42804")
}

/// Whether whoever has met this could be served by trying again later, perhaps after an operator
/// has mended something.
pub(super) fn is_passing(error: &Error) -> bool {
    let Some(code) = code(error) else { return false };
    // Not accepting connections, or in recovery; no such database; no right.
    matches!(code, "57P03" | "55000" | "3D000" | "42501")
        || is_of_schema(code)
        // Connection, authorization, resources, I/O.
        || ["08", "28", "53", "58"].iter().any(|class| code.starts_with(class))
        // Another connection may do better.
        || ends_connection(error)
}

/// Whether the connection is not to be used again: it is gone, or holds what the server no longer
/// knows.
pub(super) fn ends_connection(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Protocol(_) | Error::Tls(_) | Error::WorkerCrashed => true,
        Error::Database(refusal) => {
            let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() else { return false };
            // Whatever the reason: the server ends the session.
            let is_fatal = matches!(refusal.severity(), PgSeverity::Fatal | PgSeverity::Panic);
            let is_stale = match refusal.code() {
                // A prepared statement that is not there any more, or twice: somebody between has
                // mixed up sessions.
                "26000" | "42P05" | "42P01" | "3F000" => true,
                // Prepared for a schema that has changed; anything else of this code is refused on
                // every connection.
                "0A000" => refusal.routine() == Some("RevalidateCachedQuery"),
                _ => false,
            };
            is_fatal || is_stale || refusal.code().starts_with("08")
        }
        _ => false,
    }
}

/// Whether the server said that it does not write.
pub(super) fn is_read_only(error: &Error) -> bool {
    code(error) == Some("25006")
}

/// Whether the server cannot write, and can be read: it says so, or has no room left on its disk.
pub(super) fn is_unwritable(error: &Error) -> bool {
    matches!(code(error), Some("25006" | "53100"))
}

/// What a statement is called: its first line, which names its place.
pub(super) fn name_of(sql: &str) -> &str {
    sql.lines().next().unwrap_or_default().trim_start_matches("-- ")
}

/// The error, and if the database has refused the statement, which one that was.
pub(super) fn named(error: Error, sql: &str) -> Error {
    match error {
        Error::Database(refusal) => {
            Error::Database(Box::new(StatementRefusal { statement: name_of(sql).to_owned(), refusal }))
        }
        error => error,
    }
}

/// What the database has refused, and why. Its text, also for debugging, holds no parameter and no
/// row: details are left out, and messages of the class that quotes what it could not read.
struct StatementRefusal {
    statement: String,
    refusal: Box<dyn DatabaseError>,
}

impl fmt::Display for StatementRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.refusal.code().unwrap_or_default();
        // Class 22 is "data exception" (PostgreSQL's appendix A).
        let words = if code.starts_with("22") { "a value" } else { self.refusal.message() };
        write!(f, "{}: {words} ({code})", self.statement)
    }
}

impl fmt::Debug for StatementRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for StatementRefusal {}

impl DatabaseError for StatementRefusal {
    fn message(&self) -> &str {
        self.refusal.message()
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.refusal.code()
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self.refusal.as_error()
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self.refusal.as_error_mut()
    }

    fn into_error(self: Box<Self>) -> BoxDynError {
        self.refusal.into_error()
    }

    fn constraint(&self) -> Option<&str> {
        self.refusal.constraint()
    }

    fn table(&self) -> Option<&str> {
        self.refusal.table()
    }

    fn kind(&self) -> ErrorKind {
        self.refusal.kind()
    }
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
