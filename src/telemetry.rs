//! What the service tells its operator: the log on standard error, as text or as JSON lines, and
//! errors with all their causes. Set up once, by the join. Nothing may log numbers, names, e-mails,
//! tokens or bodies; a panic's text is shown only if it is a literal, because a formatted one may
//! carry data.

mod json_line;
pub mod metrics;
mod repeats;
pub mod traces;

use std::{
    error::Error,
    fmt,
    io::{self, IsTerminal},
    panic,
    sync::{LazyLock, OnceLock},
};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{MakeWriter, format::JsonFields},
    layer::SubscriberExt,
    registry,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

pub use repeats::RepeatCounter;
use traces::TraceExport;

/// What the log of this process repeats.
static REPEATS: LazyLock<RepeatCounter> = LazyLock::new(RepeatCounter::default);

/// Lines that wait to be written; a line has some hundred bytes.
const LINES_KEPT_MAX: usize = 16_384;
static LINES_LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Most causes that are printed of one error; a longer chain is a cycle.
const CAUSES_MAX: usize = 16;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("the log filter is not readable; it should be like \"info\" or \"info,contact_sync=debug\"")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Something has set a subscriber before.
    #[error("the log is set up already")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts the log on standard error and sends panics there too. `filter` is a list of tracing
/// directives. Lines are written by a thread of their own, so that whoever reads them slowly holds
/// up no call; what it cannot keep is dropped and counted. When the guard is dropped, all is
/// written. What is traced goes to `traces`, whatever the filter says.
pub fn start_log(format: LogFormat, filter: &str, traces: Option<TraceExport>) -> Result<LogGuard, TelemetryError> {
    let filter = read_filter(filter)?;
    let writer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_KEPT_MAX);
    let (writer, guard) = writer.thread_name("log").finish(io::stderr());
    let _ = LINES_LOST.set(writer.error_counter());
    let text = || tracing_subscriber::fmt::layer().with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => text().with_writer(writer).boxed(),
        LogFormat::Json => json_layer(writer).boxed(),
    };
    let log = REPEATS.clone().and_then(lines).with_filter(filter);
    let spans = traces.as_ref().map(TraceExport::layer);
    registry().with(log).with(spans).try_init().map_err(TelemetryError::AlreadySet)?;
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(ToString::to_string);
        tracing::error!(
            panic.place = place.as_deref().unwrap_or("unknown"),
            panic.text = literal_text(panicked.payload()),
            "a task panicked"
        );
    }));
    Ok(LogGuard { _traces: traces, _lines: guard })
}

/// Sends what is left of the spans, and writes what is left of the log, when it is dropped.
#[must_use]
pub struct LogGuard {
    _traces: Option<TraceExport>,
    _lines: WorkerGuard,
}

/// Lines of the log that were dropped since the start.
pub fn lines_lost() -> usize {
    LINES_LOST.get().map_or(0, ErrorCounter::dropped_lines)
}

/// What is to be logged, as a list of tracing directives says it.
pub fn read_filter(directives: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(directives).map_err(TelemetryError::Filter)
}

fn json_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::new())
        .event_format(json_line::JsonLine)
        .with_writer(writer)
        .with_ansi(false)
}

/// What counts the repeated warnings of the log that [`start_log`] has started; a process that runs
/// for long lets it.
pub fn repeats() -> RepeatCounter {
    REPEATS.clone()
}

/// The text of a panic if it is a literal of the source; a formatted one may hold what must not be
/// logged.
fn literal_text(payload: &(dyn std::any::Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("(not shown: it is made from data)")
}

/// The error and all its causes on one line, for a log: `page fetch failed: connection refused (os
/// error 111)`.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> ErrorChain<'a> {
    ErrorChain(error)
}

/// See [`chain`].
pub struct ErrorChain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        for _ in 0..CAUSES_MAX {
            let Some(error) = cause else { return Ok(()) };
            let text = error.to_string();
            // Some libraries say the cause themselves and name it all the same.
            if !said.ends_with(&format!(": {text}")) {
                write!(f, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        if cause.is_some() { f.write_str(": ..") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Layered {
        #[error("page fetch failed")]
        Page(#[source] Box<Layered>),
        #[error("connection refused")]
        Refused,
    }

    #[test]
    fn a_chain_shows_every_cause_in_order() {
        let error = Layered::Page(Box::new(Layered::Page(Box::new(Layered::Refused))));

        assert_eq!(chain(&error).to_string(), "page fetch failed: page fetch failed: connection refused");
        assert_eq!(chain(&Layered::Refused).to_string(), "connection refused");
    }

    /// A cause that its error has told is not told twice.
    #[test]
    fn cause_told_by_error_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("no such table")]
        struct Refusal;
        #[derive(Debug, thiserror::Error)]
        #[error("returned from database: {0}")]
        struct Told(#[source] Refusal);
        #[derive(Debug, thiserror::Error)]
        #[error("not done")]
        struct NotDone(#[source] Told);

        let told = chain(&NotDone(Told(Refusal))).to_string();

        assert_eq!(told, "not done: returned from database: no such table");
    }

    #[test]
    fn a_chain_that_does_not_end_is_cut() {
        let mut error = Layered::Refused;
        for _ in 0..100 {
            error = Layered::Page(Box::new(error));
        }

        let text = chain(&error).to_string();

        assert!(text.ends_with(": .."));
        assert_eq!(text.matches("page fetch failed").count(), CAUSES_MAX + 1);
    }

    /// The text of a panic is shown only if it holds no data.
    #[test]
    fn panic_text_shows_only_without_data() {
        assert_eq!(literal_text(&"the set is never empty"), "the set is never empty");
        assert!(!literal_text(&String::from("called with Bryce")).contains("Bryce"));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_said() {
        let error = start_log(LogFormat::Text, "info,=,", None).err().unwrap();

        assert!(matches!(error, TelemetryError::Filter(_)));
    }
}
