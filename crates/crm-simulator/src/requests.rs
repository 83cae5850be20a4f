//! What a simulated vendor was asked. Owns: counts by endpoint and the last requests. Bounded: the
//! newest 10,000 requests, and as many endpoints as the vendor has (numbers in a path count as
//! `{id}`), at most 1,000.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Requests kept one by one.
pub const REQUESTS_KEPT_MAX: usize = 10_000;

/// Endpoints counted apart; further ones are counted together as `other`.
const ENDPOINTS_MAX: usize = 1_000;

/// One request as it arrived, before faults and authentication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoggedRequest {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path as sent, with `.json` and trailing slash if the client wrote them.
    pub path: String,
    /// The query as sent, without `?`; empty if there was none.
    pub query: String,
    /// The vendor's time of arrival.
    pub at: DateTime<Utc>,
}

/// A copy of the log.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RequestReport {
    /// Requests since the start, or since the log was cleared.
    pub total: u64,
    /// Requests by `METHOD path`, with `{id}` for numbers and without `.json`.
    pub counts: BTreeMap<String, u64>,
    /// The newest requests, oldest first, at most [`REQUESTS_KEPT_MAX`].
    pub recent: Vec<LoggedRequest>,
}

impl RequestReport {
    /// How many requests came whose `METHOD path` (as in `counts`) contains `part`.
    pub fn count_of(&self, part: &str) -> u64 {
        self.counts.iter().filter(|(endpoint, _)| endpoint.contains(part)).map(|(_, count)| count).sum()
    }
}

#[derive(Default)]
struct Log {
    total: u64,
    counts: BTreeMap<String, u64>,
    recent: VecDeque<LoggedRequest>,
}

/// The log itself.
#[derive(Default)]
pub(crate) struct RequestLog {
    log: Mutex<Log>,
}

impl RequestLog {
    pub(crate) fn record(&self, request: LoggedRequest, endpoint: String) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.total += 1;
        let endpoint = if log.counts.len() < ENDPOINTS_MAX || log.counts.contains_key(&endpoint) {
            endpoint
        } else {
            "other".to_owned()
        };
        *log.counts.entry(endpoint).or_default() += 1;
        if log.recent.len() == REQUESTS_KEPT_MAX {
            log.recent.pop_front();
        }
        log.recent.push_back(request);
    }

    pub(crate) fn report(&self) -> RequestReport {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        RequestReport { total: log.total, counts: log.counts.clone(), recent: log.recent.iter().cloned().collect() }
    }

    pub(crate) fn clear(&self) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = Log::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_keeps_the_newest_requests_and_counts_all() {
        let log = RequestLog::default();
        for number in 0..=REQUESTS_KEPT_MAX {
            let request = LoggedRequest {
                method: "GET".to_owned(),
                path: format!("/{number}"),
                query: String::new(),
                at: DateTime::UNIX_EPOCH,
            };
            log.record(request, "GET /{id}".to_owned());
        }

        let report = log.report();

        assert_eq!(report.total, 10_001);
        assert_eq!(report.recent.len(), REQUESTS_KEPT_MAX);
        assert_eq!(report.recent[0].path, "/1");
        assert_eq!(report.count_of("{id}"), 10_001);
    }

    #[test]
    fn endless_endpoints_are_counted_together() {
        let log = RequestLog::default();
        for number in 0..2_000 {
            let request = LoggedRequest {
                method: "GET".to_owned(),
                path: String::new(),
                query: String::new(),
                at: DateTime::UNIX_EPOCH,
            };
            log.record(request, format!("GET /x{number}"));
        }

        let report = log.report();

        assert_eq!(report.counts.len(), ENDPOINTS_MAX + 1);
        assert_eq!(report.counts["other"], 1_000);
    }
}
