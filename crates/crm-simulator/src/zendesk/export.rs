//! The incremental exports: by cursor (the one to use) and by time (kept for its well-known traps).
//! Owns: cursors, page rules, page faults. A page costs its own length, however large the account.
//! By cursor, pages never skip a change: the order is (time of change, id), every change has a time
//! of its own, and a cursor stands between two of them.

use std::ops::Bound;

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{
    Zendesk,
    refusal::ZendeskRefusal,
    state::State,
    user::{IdentityJson, MICROS, Stamp, User, UserJson},
};
use crate::{call::ApiCall, faults::Fault, reply::VendorReply};

/// Rows of a page: the default and the most.
const PAGE_MAX: usize = 1_000;
/// Rows of a sample.
const SAMPLE_MAX: usize = 50;
/// A first request must ask for a time at least this old.
const START_TIME_AGE_SECONDS: i64 = 60;

const TOO_RECENT: ZendeskRefusal = ZendeskRefusal::BadRequest {
    code: "StartTimeTooRecent",
    description: "Too recent start_time. Use a start_time older than 60 seconds",
};
const NO_START: ZendeskRefusal =
    ZendeskRefusal::BadRequest { code: "InvalidValue", description: "start_time or cursor is required" };
const BAD_START: ZendeskRefusal =
    ZendeskRefusal::BadRequest { code: "InvalidValue", description: "start_time must be a Unix time in seconds" };
const BAD_CURSOR: ZendeskRefusal =
    ZendeskRefusal::BadRequest { code: "InvalidPaginationParameter", description: "cursor is not valid" };

/// A place in the export's order: after this key. In the vendor's notation `1576613539.0||467|`, in
/// base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    key: (Stamp, i64),
    /// Makes a cursor differ from one at the same place; zero is not written.
    turn: u32,
}

impl Cursor {
    fn encode(self) -> String {
        let (stamp, id) = self.key;
        let fraction = format!("{:06}", stamp.rem_euclid(MICROS));
        let fraction = fraction.trim_end_matches('0');
        let fraction = if fraction.is_empty() { "0" } else { fraction };
        let turn = if self.turn == 0 { String::new() } else { self.turn.to_string() };
        STANDARD.encode(format!("{}.{fraction}||{id}|{turn}", stamp.div_euclid(MICROS)))
    }

    fn decode(text: &str) -> Option<Self> {
        let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        let mut parts = text.split('|');
        let (time, middle, id, turn) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (seconds, fraction) = time.split_once('.')?;
        if !middle.is_empty() || parts.next().is_some() || !(1..=6).contains(&fraction.len()) {
            return None;
        }
        let micros: Stamp = format!("{fraction:0<6}").parse().ok()?;
        let stamp = seconds.parse::<Stamp>().ok()?.checked_mul(MICROS)?.checked_add(micros)?;
        let turn = if turn.is_empty() { 0 } else { turn.parse().ok()? };
        Some(Self { key: (stamp, id.parse().ok()?), turn })
    }

    /// The place just before the row with this key, so that this row is the first to come.
    fn before(key: (Stamp, i64)) -> Self {
        Self { key: (key.0, key.1 - 1), turn: 0 }
    }
}

#[derive(Serialize)]
struct CursorPage<'a> {
    users: Vec<UserJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identities: Option<Vec<IdentityJson<'a>>>,
    after_url: String,
    after_cursor: String,
    before_url: Option<String>,
    before_cursor: Option<String>,
    end_of_stream: bool,
}

#[derive(Serialize)]
struct TimePage<'a> {
    users: Vec<UserJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identities: Option<Vec<IdentityJson<'a>>>,
    count: usize,
    end_time: Option<i64>,
    next_page: String,
    end_of_stream: bool,
}

impl Zendesk {
    /// `GET /api/v2/incremental/users/cursor`.
    pub(super) fn export_by_cursor(&self, call: &ApiCall, faults: &[&Fault]) -> Result<VendorReply, ZendeskRefusal> {
        let asked = self.read_cursor(call)?;
        let state = self.state();
        let mut rows = self.rows_after(&state, Bound::Excluded(asked.key), page_size(call) + 1);
        let mut is_end = rows.len() <= page_size(call);
        rows.truncate(page_size(call));
        // A finished run stands before its last row, which the next run therefore reads again:
        // resuming is inclusive.
        let mut next = match rows.last() {
            Some(last) if is_end => Cursor::before(last.export_key()),
            Some(last) => Cursor { key: last.export_key(), turn: 0 },
            None => asked,
        };
        for fault in faults {
            match fault {
                Fault::EmptyPage { advance } => {
                    (rows, is_end) = (Vec::new(), false);
                    next = if *advance { Cursor { turn: asked.turn + 1, ..asked } } else { asked };
                }
                Fault::StuckCursor => (next, is_end) = (asked, false),
                Fault::RepeatPrevious => {
                    let previous =
                        state.by_update().range(..=asked.key).next_back().and_then(|(_, id)| state.find(*id));
                    rows.splice(0..0, previous);
                }
                Fault::DuplicateRow => rows.extend(rows.first().copied()),
                Fault::StaleRow { id } => rows.extend(state.previous_copy(*id)),
                _ => {}
            }
        }
        let after_cursor = next.encode();
        let page = CursorPage {
            users: users_json(&rows, call),
            identities: identities_json(&rows, call),
            after_url: call.url_with("cursor", &after_cursor, &["start_time"]),
            after_cursor,
            before_url: None,
            before_cursor: None,
            end_of_stream: is_end,
        };
        Ok(VendorReply::json(StatusCode::OK, &page))
    }

    /// `GET /api/v2/incremental/users`. As in life, more rows in one second than fit a page repeat
    /// for ever.
    pub(super) fn export_by_time(&self, call: &ApiCall) -> Result<VendorReply, ZendeskRefusal> {
        self.time_page(call, page_size(call))
    }

    /// `GET /api/v2/incremental/users/sample`: a short page of the export by time.
    pub(super) fn sample_by_time(&self, call: &ApiCall) -> Result<VendorReply, ZendeskRefusal> {
        self.time_page(call, SAMPLE_MAX)
    }

    fn time_page(&self, call: &ApiCall, size: usize) -> Result<VendorReply, ZendeskRefusal> {
        let start = read_seconds(call)?.ok_or(NO_START)?;
        // The links lead to the last second seen, so the age rule of the first request cannot hold
        // here.
        if start > self.now().timestamp() {
            return Err(TOO_RECENT);
        }
        let state = self.state();
        let rows = self.rows_after(&state, Bound::Included((start.saturating_mul(MICROS), i64::MIN)), size);
        let end_time = rows.last().map(|user| user.updated_at.div_euclid(MICROS));
        let page = TimePage {
            users: users_json(&rows, call),
            identities: identities_json(&rows, call),
            count: rows.len(),
            end_time,
            next_page: call.url_with("start_time", &end_time.unwrap_or(start).to_string(), &[]),
            end_of_stream: rows.len() < size,
        };
        Ok(VendorReply::json(StatusCode::OK, &page))
    }

    fn read_cursor(&self, call: &ApiCall) -> Result<Cursor, ZendeskRefusal> {
        if let Some(cursor) = call.param("cursor") {
            return Cursor::decode(cursor).ok_or(BAD_CURSOR);
        }
        let start = read_seconds(call)?.ok_or(NO_START)?;
        if start > self.now().timestamp() - START_TIME_AGE_SECONDS {
            return Err(TOO_RECENT);
        }
        Ok(Cursor { key: (start.saturating_mul(MICROS), 0), turn: 0 })
    }

    /// At most `count` users whose key lies after `from`, and that are old enough to be told.
    fn rows_after<'s>(&self, state: &'s State, from: Bound<(Stamp, i64)>, count: usize) -> Vec<&'s User> {
        let lag = i64::from(self.config.freshness_lag_seconds);
        // Without a lag there is no bound: stamps may run a little ahead of a clock that stands
        // still.
        let newest = if lag == 0 { Stamp::MAX } else { self.now().timestamp_micros() - lag * MICROS };
        let keys = state.by_update().range((from, Bound::Unbounded)).take_while(|(stamp, _)| *stamp <= newest);
        keys.take(count).filter_map(|(_, id)| state.find(*id)).collect()
    }
}

fn users_json<'a>(rows: &[&'a User], call: &'a ApiCall) -> Vec<UserJson<'a>> {
    rows.iter().map(|user| UserJson { user, base_url: &call.base_url, is_search_result: false }).collect()
}

/// The identities of these users, if the call asks for them.
pub(super) fn identities_json<'a>(rows: &[&'a User], call: &'a ApiCall) -> Option<Vec<IdentityJson<'a>>> {
    if !call.list_param("include").contains(&"identities") {
        return None;
    }
    let of_user = |user: &'a User| {
        user.identities.iter().map(move |identity| IdentityJson {
            identity,
            user_id: user.id,
            base_url: &call.base_url,
        })
    };
    Some(rows.iter().copied().flat_map(of_user).collect())
}

fn page_size(call: &ApiCall) -> usize {
    call.param("per_page").and_then(|size| size.parse().ok()).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX)
}

fn read_seconds(call: &ApiCall) -> Result<Option<i64>, ZendeskRefusal> {
    let Some(text) = call.param("start_time") else { return Ok(None) };
    text.parse().ok().filter(|seconds| *seconds >= 0).map(Some).ok_or(BAD_START)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_has_the_vendors_notation() {
        let cursor = Cursor { key: (1_576_613_539 * MICROS, 467), turn: 0 };

        assert_eq!(cursor.encode(), "MTU3NjYxMzUzOS4wfHw0Njd8");
        assert_eq!(Cursor::decode("MTU3NjYxMzUzOS4wfHw0Njd8"), Some(cursor));
    }

    #[test]
    fn cursor_keeps_fractions_and_turns() {
        for (micros, id, turn) in [(1, 7, 0), (120_000, 7, 1), (999_999, i64::MAX, 20)] {
            let cursor = Cursor { key: (1_790_000_000 * MICROS + micros, id), turn };
            assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }
    }

    #[test]
    fn anything_else_is_no_cursor() {
        for text in ["", "x", "1.0||2", "1||2|", "1.0|x|2|", "1.0||2|x", "1.0||2|3|4", "99999999999999999999.0||1|"] {
            assert_eq!(Cursor::decode(&STANDARD.encode(text)), None, "{text}");
            assert_eq!(Cursor::decode(text), None);
        }
    }
}
