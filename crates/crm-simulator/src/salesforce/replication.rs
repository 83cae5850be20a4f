//! `/deleted/` and `/updated/`: which records changed in a time. Owns: the rules for such times:
//! whole minutes, how far back, how far the answer reaches. A window's end is not in it, so that
//! windows laid end to end tell everything once.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::json;

use super::{
    Salesforce,
    id::RecordId,
    record::{Millis, read_time, wire_time},
    refusal::SalesforceRefusal,
};
use crate::{call::ApiCall, reply::VendorReply};

const MINUTE: Millis = 60_000;
const DAY: Millis = 24 * 60 * MINUTE;
/// Age of the oldest deletion that is told of.
const DELETED_AGE: Millis = 15 * DAY;
/// Age of the oldest change that is told of.
const UPDATED_AGE: Millis = 30 * DAY;
/// Ids in one answer.
const IDS_MAX: usize = 600_000;

/// From `start` to before `end`, as far as it lies in the past.
struct Window {
    start: Millis,
    end: Millis,
}

impl Salesforce {
    /// `GET /sobjects/{object}/deleted/`.
    pub(super) fn deleted(&self, call: &ApiCall, object: &str) -> Result<VendorReply, SalesforceRefusal> {
        let state = self.state();
        let kind = state.schema.find(object)?.kind;
        let window = self.window(call, DELETED_AGE)?;
        let keys = (window.start, RecordId::MIN)..(window.end, RecordId::MIN);
        let deletions = state.table(kind).deletions().range(keys).filter(|(_, id)| state.is_plain(*id));
        let deleted: Vec<_> =
            deletions.map(|(time, id)| json!({"id": id, "deletedDate": wire_time(*time)})).take(IDS_MAX + 1).collect();
        check_count(deleted.len())?;
        let body = json!({
            "deletedRecords": deleted,
            "earliestDateAvailable": wire_time(self.now_millis() - DELETED_AGE),
            "latestDateCovered": wire_time(window.end),
        });
        Ok(VendorReply::json(StatusCode::OK, &body))
    }

    /// `GET /sobjects/{object}/updated/`.
    pub(super) fn updated(&self, call: &ApiCall, object: &str) -> Result<VendorReply, SalesforceRefusal> {
        let state = self.state();
        let kind = state.schema.find(object)?.kind;
        let window = self.window(call, UPDATED_AGE)?;
        let keys = (window.start, RecordId::MIN)..(window.end, RecordId::MIN);
        let table = state.table(kind);
        let is_told =
            |id: &RecordId| state.is_plain(*id) && table.records().get(id).is_some_and(|record| !record.is_deleted);
        let changed = table.by_stamp().range(keys).map(|(_, id)| *id).filter(is_told);
        let ids: BTreeSet<RecordId> = changed.take(IDS_MAX + 1).collect();
        check_count(ids.len())?;
        Ok(VendorReply::json(StatusCode::OK, &json!({"ids": ids, "latestDateCovered": wire_time(window.end)})))
    }

    fn window(&self, call: &ApiCall, age: Millis) -> Result<Window, SalesforceRefusal> {
        let refused = |message: &str| Err(SalesforceRefusal::bad("INVALID_REPLICATION_DATE", message));
        let read = |name| call.param(name).and_then(read_time).map(|time| time.div_euclid(MINUTE) * MINUTE);
        let (Some(start), Some(end)) = (read("start"), read("end")) else {
            let message = "start and end must be dates with times, such as 2026-01-02T10:00:00+00:00, URL-encoded";
            return Err(SalesforceRefusal::bad("MALFORMED_QUERY", message));
        };
        let now = self.now_millis();
        if end <= start {
            return refused("endDate must be at least 1 minute greater than startDate");
        }
        if start > now {
            return refused("startDate cannot be in the future");
        }
        if start < now - age {
            return Err(SalesforceRefusal::replication_too_old());
        }
        let lag = Millis::from(self.config.visibility_lag_seconds) * 1_000;
        let newest = (now - lag).div_euclid(MINUTE) * MINUTE;
        Ok(Window { start, end: end.min(newest).max(start) })
    }
}

fn check_count(count: usize) -> Result<(), SalesforceRefusal> {
    let message = "exceeded id limit for this call: 600000";
    if count > IDS_MAX { Err(SalesforceRefusal::bad("EXCEEDED_ID_LIMIT", message)) } else { Ok(()) }
}
