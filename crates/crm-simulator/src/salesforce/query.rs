//! `/query` and `/queryAll`: pages of a result. Owns: locators, page sizes, page faults. Invariant:
//! a result is made when the query is asked; its pages show the rows as they were then, in one
//! order, for two days. A locator serves under both paths, as clients expect.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::StatusCode;
use serde::Serialize;

use super::{
    Salesforce,
    id::RecordId,
    record::Millis,
    refusal::SalesforceRefusal,
    soql::{self, Query, Row},
    state::State,
    wire::{Layout, RowJson},
};
use crate::{call::ApiCall, faults::Fault, reply::VendorReply};

/// Rows of a page: the least and the most that a client may ask for, and the most without its
/// asking.
pub(super) const PAGE_ROWS_MAX: usize = 2_000;
const PAGE_ROWS_MIN: usize = 200;
/// Life of a locator, milliseconds.
const LOCATOR_MILLIS: Millis = 2 * 24 * 3_600 * 1_000;
/// Rows of all results that are kept, and results; beyond it the oldest result is forgotten.
const ROWS_KEPT_MAX: usize = 20_000_000;
const RESULTS_KEPT_MAX: usize = 1_000;
/// What a locator begins with.
const PREFIX: &str = "01g";

/// A result with more than one page.
pub(super) struct Cursor {
    query: Arc<Query>,
    rows: Arc<[Row]>,
    page_rows: usize,
    made: Millis,
}

/// The results that have locators.
#[derive(Default)]
pub(super) struct Cursors {
    by_id: BTreeMap<RecordId, Arc<Cursor>>,
    serial: u64,
}

impl Cursors {
    pub(super) fn clear(&mut self) {
        self.by_id.clear();
    }

    fn find(&self, id: RecordId, now: Millis) -> Result<Arc<Cursor>, SalesforceRefusal> {
        let found = self.by_id.get(&id).filter(|cursor| now < cursor.made + LOCATOR_MILLIS);
        found.map(Arc::clone).ok_or_else(SalesforceRefusal::invalid_locator)
    }

    fn keep(&mut self, cursor: Arc<Cursor>) -> RecordId {
        self.by_id.retain(|_, old| cursor.made < old.made + LOCATOR_MILLIS);
        let rows = |kept: &BTreeMap<RecordId, Arc<Cursor>>| kept.values().map(|kept| kept.rows.len()).sum::<usize>();
        while self.by_id.len() >= RESULTS_KEPT_MAX || rows(&self.by_id) + cursor.rows.len() > ROWS_KEPT_MAX {
            if self.by_id.pop_first().is_none() {
                break;
            }
        }
        self.serial += 1;
        let id = RecordId::numbered(PREFIX, self.serial);
        self.by_id.insert(id, cursor);
        id
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    total_size: usize,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_records_url: Option<String>,
    records: Vec<RowJson<'a>>,
}

impl Salesforce {
    /// Runs a statement as it is asked now. The result is of this moment.
    pub(super) fn run_query(
        &self,
        state: &mut State,
        statement: &str,
        with_deleted: bool,
    ) -> Result<(Query, Vec<Row>), SalesforceRefusal> {
        let now = self.now_millis();
        state.lift_veils(now);
        let query = soql::bind(&state.schema, &soql::parse(statement)?, statement, now)?;
        let rows = query.run(state, with_deleted);
        Ok((query, rows))
    }

    /// `GET /query?q=` and `GET /queryAll?q=`.
    pub(super) fn query(
        &self,
        call: &ApiCall,
        version: &str,
        resource: &str,
        faults: &[&Fault],
    ) -> Result<VendorReply, SalesforceRefusal> {
        let no_query = || SalesforceRefusal::bad("MALFORMED_QUERY", "A query string has to be specified");
        let statement = call.param("q").ok_or_else(no_query)?;
        let mut state = self.state();
        let (query, rows) = self.run_query(&mut state, statement, resource == "queryAll")?;
        if query.columns.is_empty() {
            let page = Page { total_size: rows.len(), done: true, next_records_url: None, records: Vec::new() };
            return Ok(VendorReply::json(StatusCode::OK, &page));
        }
        let cursor = Cursor {
            query: Arc::new(query),
            rows: rows.into(),
            page_rows: self.page_rows(call),
            made: self.now_millis(),
        };
        Ok(self.page(&state, &Arc::new(cursor), None, 0, &PageAsked { call, version, resource, faults }))
    }

    /// `GET /query/{locator}` and `GET /queryAll/{locator}`.
    pub(super) fn query_more(
        &self,
        call: &ApiCall,
        version: &str,
        resource: &str,
        locator: &str,
        faults: &[&Fault],
    ) -> Result<VendorReply, SalesforceRefusal> {
        let parts = locator.split_once('-').and_then(|(id, from)| Some((RecordId::parse(id)?, from.parse().ok()?)));
        let (id, from): (RecordId, usize) = parts.ok_or_else(SalesforceRefusal::invalid_locator)?;
        let cursor = self.cursors().find(id, self.now_millis())?;
        if from > cursor.rows.len() {
            return Err(SalesforceRefusal::invalid_locator());
        }
        let state = self.state();
        Ok(self.page(&state, &cursor, Some(id), from, &PageAsked { call, version, resource, faults }))
    }

    fn page(
        &self,
        state: &State,
        cursor: &Arc<Cursor>,
        id: Option<RecordId>,
        from: usize,
        asked: &PageAsked,
    ) -> VendorReply {
        let size =
            if asked.call.headers.contains_key(OPTIONS_HEADER) { self.page_rows(asked.call) } else { cursor.page_rows };
        let mut count = size.min(cursor.rows.len() - from);
        let mut next = None;
        for fault in asked.faults {
            match fault {
                Fault::ShortPage { rows } => count = count.min(*rows),
                Fault::EmptyPage { .. } => (count, next) = (0, Some(from)),
                Fault::StuckCursor => next = Some(from),
                _ => {}
            }
        }
        let to = from + count;
        let next = next.or_else(|| (to < cursor.rows.len()).then_some(to));
        let mut rows = cursor.rows[from..to].to_vec();
        for fault in asked.faults {
            match fault {
                Fault::RepeatPrevious if from > 0 => rows.insert(0, cursor.rows[from - 1].clone()),
                Fault::DuplicateRow => rows.extend(rows.first().cloned()),
                Fault::StaleRow { .. } => {
                    let older = state.previous_copy(None);
                    let row = older.and_then(|record| cursor.rows.first().map(|row| row.of_copy(record)));
                    rows.extend(row);
                }
                _ => {}
            }
        }
        let next_records_url = next.map(|next| {
            let id = id.unwrap_or_else(|| self.cursors().keep(Arc::clone(cursor)));
            format!("/services/data/{}/{}/{id}-{next}", asked.version, asked.resource)
        });
        let layout = Layout::new(&state.schema, &cursor.query, asked.version);
        let page = Page {
            total_size: cursor.rows.len(),
            done: next_records_url.is_none(),
            next_records_url,
            records: rows.iter().map(|row| layout.row(row)).collect(),
        };
        VendorReply::json(StatusCode::OK, &page)
    }

    /// The header is a hint: the server may give less.
    fn page_rows(&self, call: &ApiCall) -> usize {
        let header = call.headers.get(OPTIONS_HEADER).and_then(|header| header.to_str().ok());
        let mut options = header.into_iter().flat_map(|header| header.split(','));
        let asked = options.find_map(|option| option.trim().strip_prefix("batchSize=")?.trim().parse().ok());
        let most = self.config.page_rows_max.clamp(1, PAGE_ROWS_MAX);
        asked.map_or(most, |asked: usize| asked.clamp(PAGE_ROWS_MIN, PAGE_ROWS_MAX).min(most))
    }
}

const OPTIONS_HEADER: &str = "sforce-query-options";

/// How a page was asked for.
struct PageAsked<'a> {
    call: &'a ApiCall,
    version: &'a str,
    resource: &'a str,
    faults: &'a [&'a Fault],
}
