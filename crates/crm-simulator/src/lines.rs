//! Files with one JSON object a line, by which simulated CRMs are filled. Owns: the reading of
//! lines and what is wrong with one. Invariant: an error names the line, never what stands in it.

use std::io::{self, BufRead};

use serde_json::{Map, Value};

/// Longest line, bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Why a line is no JSON object.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The file cannot be read, or is not UTF-8.
    #[error("line {line} cannot be read")]
    Unreadable {
        /// From one.
        line: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A line is longer than one MiB.
    #[error("line {line} is longer than 1 MiB")]
    TooLong {
        /// From one.
        line: usize,
    },
    /// A line is not a JSON object.
    #[error("line {line} is not a JSON object: {problem} at column {column}")]
    NotAnObject {
        /// From one.
        line: usize,
        /// From one; zero if the line is JSON but no object.
        column: usize,
        /// What kind of mistake it is.
        problem: &'static str,
    },
}

/// Hands each object to `take` with its line number, from one; empty lines are skipped. Returns how
/// many there were. Stops at the first error.
pub(crate) fn each_object<E: From<LineError>>(
    mut lines: impl BufRead,
    mut take: impl FnMut(usize, &Map<String, Value>) -> Result<(), E>,
) -> Result<usize, E> {
    let mut count = 0;
    let mut buffer = String::new();
    for line in 1.. {
        buffer.clear();
        let mut limited = io::Read::take(&mut lines, LINE_BYTES_MAX as u64 + 1);
        let length = limited.read_line(&mut buffer).map_err(|source| LineError::Unreadable { line, source })?;
        if length == 0 {
            break;
        }
        if length > LINE_BYTES_MAX {
            return Err(LineError::TooLong { line }.into());
        }
        // A byte order mark is no part of the first line's JSON.
        let text = buffer.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        take(line, &read_object(text, line)?)?;
        count += 1;
    }
    Ok(count)
}

fn read_object(text: &str, line: usize) -> Result<Map<String, Value>, LineError> {
    let value = serde_json::from_str(text).map_err(|error| {
        let problem = if error.is_eof() { "it ends too early" } else { "it is not valid JSON" };
        LineError::NotAnObject { line, column: error.column(), problem }
    })?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(LineError::NotAnObject { line, column: 0, problem: "it holds another kind of value" }),
    }
}
