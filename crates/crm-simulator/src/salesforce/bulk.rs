//! Bulk API 2.0 query jobs. Owns: jobs, their states, results as CSV. Invariant: a result is of the
//! moment in which the job was made, so that its pages fit together in whatever order they are
//! read.
//!
//! ```text
//! UploadComplete ─ polls ─▶ InProgress ─ polls ─▶ JobComplete      (7 days) ─▶ gone
//!        └───────── PATCH ─────┴────▶ Aborted      └ fault ─▶ Failed
//! ```

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Bytes,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::{Value, json};

use super::{
    Salesforce,
    id::RecordId,
    record::{Millis, wire_time},
    refusal::SalesforceRefusal,
    rest::body,
    schema::Schema,
    session::administrator,
    soql::{Query, Row},
};
use crate::{call::ApiCall, faults::Fault, reply::VendorReply};

/// Rows of one answer, unless the client asks for less.
pub(super) const RESULT_ROWS: usize = 50_000;
/// Jobs that are kept; the vendor's limit for 24 hours.
const JOBS_MAX: usize = 10_000;
/// How long results are kept, milliseconds.
const RESULT_MILLIS: Millis = 7 * 24 * 3_600 * 1_000;
/// What a job's id begins with.
const PREFIX: &str = "750";

#[derive(Clone, Copy, PartialEq, Eq)]
enum JobState {
    UploadComplete,
    InProgress,
    JobComplete,
    Failed,
    Aborted,
}

impl JobState {
    fn name(self) -> &'static str {
        match self {
            Self::UploadComplete => "UploadComplete",
            Self::InProgress => "InProgress",
            Self::JobComplete => "JobComplete",
            Self::Failed => "Failed",
            Self::Aborted => "Aborted",
        }
    }

    fn is_over(self) -> bool {
        !matches!(self, Self::UploadComplete | Self::InProgress)
    }
}

struct Job {
    id: RecordId,
    operation: &'static str,
    query: Arc<Query>,
    rows: Arc<[Row]>,
    state: JobState,
    polls: u32,
    made: Millis,
    changed: Millis,
    error: Option<String>,
    delimiter: (&'static str, char),
    line_ending: (&'static str, &'static str),
    version: String,
}

impl Job {
    fn json(&self) -> Value {
        let mut body = json!({
            "id": self.id,
            "operation": self.operation,
            "object": self.query.object.name(),
            "createdById": administrator(),
            "createdDate": wire_time(self.made),
            "systemModstamp": wire_time(self.changed),
            "state": self.state.name(),
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": self.version.trim_start_matches('v').parse::<f64>().unwrap_or_default(),
            "lineEnding": self.line_ending.0,
            "columnDelimiter": self.delimiter.0,
        });
        if self.state != JobState::UploadComplete {
            let is_done = self.state == JobState::JobComplete;
            body["jobType"] = json!("V2Query");
            body["numberRecordsProcessed"] = json!(if is_done { self.rows.len() } else { 0 });
            body["retries"] = json!(0);
            body["totalProcessingTime"] = json!(0);
            body["isPkChunkingSupported"] = json!(true);
        }
        if let Some(error) = &self.error {
            body["errorMessage"] = json!(error);
        }
        body
    }

    /// The lines of some rows, under a line of column names.
    fn csv(&self, schema: &Schema, rows: &[Row]) -> String {
        let (delimiter, end) = (self.delimiter.1, self.line_ending.1);
        let mut text = String::new();
        let names: Vec<String> = self.query.columns.iter().map(|column| column.names.join(".")).collect();
        push_line(&mut text, names.iter().map(String::as_str), delimiter, end);
        for row in rows {
            let values: Vec<_> = self.query.columns.iter().map(|column| row.column(schema, column)).collect();
            let cells: Vec<_> = values.iter().map(|value| value.to_csv()).collect();
            push_line(&mut text, cells.iter().map(AsRef::as_ref), delimiter, end);
        }
        text
    }
}

/// Every cell in quotation marks, those inside doubled (RFC 4180).
fn push_line<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>, delimiter: char, end: &str) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            text.push(delimiter);
        }
        text.push('"');
        text.push_str(&cell.replace('"', "\"\""));
        text.push('"');
    }
    text.push_str(end);
}

/// The query jobs of the organisation.
#[derive(Default)]
pub(super) struct Jobs {
    by_id: BTreeMap<RecordId, Job>,
    serial: u64,
}

impl Jobs {
    fn find(&mut self, id: &str) -> Result<&mut Job, SalesforceRefusal> {
        RecordId::parse(id).and_then(|id| self.by_id.get_mut(&id)).ok_or_else(SalesforceRefusal::not_found)
    }
}

impl Salesforce {
    /// `/jobs/query` and what is below.
    pub(super) fn query_jobs(
        &self,
        call: &ApiCall,
        version: &str,
        rest: &[&str],
        faults: &[&Fault],
    ) -> Result<VendorReply, SalesforceRefusal> {
        match (&call.method, rest) {
            (&Method::POST, []) => self.create_job(call, version),
            (&Method::GET, [id]) => self.poll_job(id, faults),
            (&Method::PATCH, [id]) => self.abort_job(call, id),
            (&Method::DELETE, [id]) => self.delete_job(id),
            (&Method::GET, [id, "results"]) => self.job_results(call, id, faults),
            (method, [] | [_] | [_, "results"]) => Err(SalesforceRefusal::method_not_allowed(method.as_str())),
            _ => Err(SalesforceRefusal::not_found()),
        }
    }

    fn create_job(&self, call: &ApiCall, version: &str) -> Result<VendorReply, SalesforceRefusal> {
        let input = body(call)?;
        let text = |name: &str| input.get(name).and_then(Value::as_str);
        let invalid = |message: &str| SalesforceRefusal::bad("INVALIDJOB", message);
        let operation = match text("operation") {
            Some("query") => "query",
            Some("queryAll") => "queryAll",
            _ => return Err(invalid("operation must be query or queryAll")),
        };
        let delimiter = match text("columnDelimiter").unwrap_or("COMMA") {
            "COMMA" => ("COMMA", ','),
            "TAB" => ("TAB", '\t'),
            "SEMICOLON" => ("SEMICOLON", ';'),
            "PIPE" => ("PIPE", '|'),
            "CARET" => ("CARET", '^'),
            "BACKQUOTE" => ("BACKQUOTE", '`'),
            _ => return Err(invalid("columnDelimiter is not one of those known")),
        };
        let line_ending = match text("lineEnding").unwrap_or("LF") {
            "LF" => ("LF", "\n"),
            "CRLF" => ("CRLF", "\r\n"),
            _ => return Err(invalid("lineEnding must be LF or CRLF")),
        };
        if text("contentType").is_some_and(|kind| kind != "CSV") {
            return Err(invalid("contentType must be CSV"));
        }
        let statement = text("query").ok_or_else(|| invalid("query is missing"))?;
        let (query, rows) = self.run_query(&mut self.state(), statement, operation == "queryAll")?;
        if query.columns.is_empty() {
            return Err(invalid("count() is not supported by query jobs"));
        }
        let now = self.now_millis();
        let mut jobs = self.jobs();
        if jobs.by_id.len() >= JOBS_MAX {
            jobs.by_id.pop_first();
        }
        jobs.serial += 1;
        let id = RecordId::numbered(PREFIX, jobs.serial);
        let job = Job {
            id,
            operation,
            query: Arc::new(query),
            rows: rows.into(),
            state: JobState::UploadComplete,
            polls: 0,
            made: now,
            changed: now,
            error: None,
            delimiter,
            line_ending,
            version: version.to_owned(),
        };
        let reply = VendorReply::json(StatusCode::OK, &job.json());
        jobs.by_id.insert(id, job);
        Ok(reply)
    }

    /// Each poll brings a job further.
    fn poll_job(&self, id: &str, faults: &[&Fault]) -> Result<VendorReply, SalesforceRefusal> {
        let now = self.now_millis();
        let polls_needed = self.config.bulk_polls.max(1);
        let mut jobs = self.jobs();
        let job = jobs.find(id)?;
        if !job.state.is_over() {
            job.polls += 1;
            job.changed = now;
            job.state = if job.polls >= polls_needed {
                JobState::JobComplete
            } else if job.polls == 1 && polls_needed > 2 {
                JobState::UploadComplete
            } else {
                JobState::InProgress
            };
        }
        for fault in faults {
            match fault {
                Fault::JobFailed { message } => {
                    job.state = JobState::Failed;
                    job.error = Some(message.clone());
                }
                Fault::JobAborted => job.state = JobState::Aborted,
                _ => {}
            }
        }
        Ok(VendorReply::json(StatusCode::OK, &job.json()))
    }

    fn abort_job(&self, call: &ApiCall, id: &str) -> Result<VendorReply, SalesforceRefusal> {
        if body(call)?.get("state") != Some(&json!("Aborted")) {
            return Err(SalesforceRefusal::bad("INVALIDJOBSTATE", "the only state that a client can set is Aborted"));
        }
        let mut jobs = self.jobs();
        let job = jobs.find(id)?;
        if job.state.is_over() {
            let message = format!("Aborting already {} Job not allowed", job.state.name());
            return Err(SalesforceRefusal::bad("INVALIDJOBSTATE", message));
        }
        job.state = JobState::Aborted;
        job.changed = self.now_millis();
        Ok(VendorReply::json(StatusCode::OK, &job.json()))
    }

    fn delete_job(&self, id: &str) -> Result<VendorReply, SalesforceRefusal> {
        let mut jobs = self.jobs();
        let job = jobs.find(id)?;
        if !job.state.is_over() {
            return Err(SalesforceRefusal::bad("INVALIDJOBSTATE", "a job that is not over cannot be deleted"));
        }
        let id = job.id;
        jobs.by_id.remove(&id);
        Ok(VendorReply::empty())
    }

    fn job_results(&self, call: &ApiCall, id: &str, faults: &[&Fault]) -> Result<VendorReply, SalesforceRefusal> {
        let state = self.state();
        let mut jobs = self.jobs();
        let job = jobs.find(id)?;
        if job.state != JobState::JobComplete {
            let message = format!("Results of a job in state {} cannot be read", job.state.name());
            return Err(SalesforceRefusal::bad("INVALIDJOBSTATE", message));
        }
        if self.now_millis() >= job.made + RESULT_MILLIS {
            return Err(SalesforceRefusal::not_found());
        }
        let from = call.param("locator").map_or(Some(0), read_locator).filter(|from| *from <= job.rows.len());
        let from = from.ok_or_else(SalesforceRefusal::invalid_locator)?;
        let most = self.config.bulk_rows_max.max(1);
        let size = call.param("maxRecords").and_then(|size| size.parse().ok()).unwrap_or(most).clamp(1, most);
        let to = (from + size).min(job.rows.len());
        let mut text = job.csv(&state.schema, &job.rows[from..to]);
        for fault in faults {
            if let Fault::CsvLine { line, text: other } = fault {
                let lines = text.split_inclusive('\n').enumerate();
                text = lines.map(|(at, own)| if at == *line { format!("{other}\n") } else { own.to_owned() }).collect();
            }
        }
        let next = if to < job.rows.len() { STANDARD_NO_PAD.encode(to.to_string()) } else { "null".to_owned() };
        let content_type = HeaderValue::from_static("text/csv");
        let mut reply = VendorReply {
            status: StatusCode::OK,
            headers: vec![(header::CONTENT_TYPE, content_type)],
            body: Bytes::from(text),
        };
        reply.set_header(HeaderName::from_static("sforce-locator"), &next);
        reply.set_header(HeaderName::from_static("sforce-numberofrecords"), &(to - from).to_string());
        Ok(reply)
    }
}

fn read_locator(locator: &str) -> Option<usize> {
    let bytes = STANDARD_NO_PAD.decode(locator.trim_end_matches('=')).ok()?;
    String::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_locators_are_the_vendors() {
        let mut text = String::new();
        push_line(&mut text, ["a\"b", "c,d\ne", ""].into_iter(), ',', "\n");

        assert_eq!(text, "\"a\"\"b\",\"c,d\ne\",\"\"\n");
        assert_eq!(read_locator("MTAwMDA"), Some(10_000));
        assert_eq!(read_locator("x"), None);
    }
}
