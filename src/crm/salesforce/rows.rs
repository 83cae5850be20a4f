//! Rows by REST, in the order of change: each page is asked for by the last row of the one before.
//! Salesforce may give fewer rows than are asked for; `done` tells whether more fit the query, and
//! a full page says the same.

use chrono::{DateTime, Utc};

use super::{
    client::SalesforceClient,
    fields::{self, ACCOUNT_NAME},
    map::{ReadRows, RowMapping},
    position::{RowKeyset, RowsProgress, RunStage},
    refusal::{ErrorCode, RequestFailure},
    rest::QueryScope,
    soql::{self, QueryWindow, ROWS_PER_PAGE},
    step::{NextStage, StepResult},
};
use crate::{
    crm::{CrmError, RecordPage},
    domain::{
        notice::Notice,
        record::{ObjectType, RecordKey},
    },
};

/// An answer with more rows than this is not Salesforce's.
const ROWS_MAX: usize = 2 * ROWS_PER_PAGE;
/// How often in succession the time that a query spans is halved: 30 years come down to a quarter
/// of an hour.
const HALVINGS_MAX: u8 = 20;
/// Salesforce was founded in March 1999; no row is older. Milliseconds since 1970.
const FOUNDED: i64 = 920_246_400_000;
/// The server tells its time in whole seconds.
const SECOND: i64 = 1_000;

/// An answer with its rows, the server's clock, and what was found out on the way.
type AnsweredRows = ((ReadRows, Option<DateTime<Utc>>), Vec<Notice>);

impl SalesforceClient {
    pub(super) async fn read_rows(&self, object: ObjectType, mut rows: RowsProgress) -> Result<StepResult, CrmError> {
        let ((answer, at), notices) = match self.ask_rows(object, &mut rows).await {
            Err(RequestFailure::Vendor(ErrorCode::InvalidType, _)) => return Ok(StepResult::hidden(object)),
            Err(RequestFailure::Vendor(ErrorCode::QueryTimeout, at)) => {
                return Ok(StepResult::stay(RunStage::Rows(rows.halved(at)?)));
            }
            answered => answered?,
        };
        let asked = self.rest.quota.page_size().of(ROWS_PER_PAGE);
        let until = rows.until.or(at.map(|at| at.timestamp_millis()));
        let until = until.ok_or(CrmError::Unreadable("it has no Date header"))?;
        rows.until = Some(until);
        let then = if !answer.done || answer.count >= asked {
            let last = answer.last.filter(|last| leads_on(rows.after.as_ref(), last)).ok_or(CrmError::Stuck)?;
            rows.after = Some(last);
            rows.halvings = 0;
            NextStage::Stay(RunStage::Rows(rows))
        } else if let Some(bound) = rows.bound {
            NextStage::Stay(RunStage::Rows(rows.beyond(bound)))
        } else {
            NextStage::Rows { fields: rows.fields, through: until }
        };
        Ok(StepResult {
            page: RecordPage { records: answer.records, rejects: answer.rejects, notices, ..RecordPage::default() },
            then,
        })
    }

    pub(super) fn mapping(&self, object: ObjectType, fields: &[String]) -> RowMapping {
        RowMapping { object, fields: fields.to_vec(), base_url: self.rest.base_url.clone() }
    }

    /// The rows of these records (at most 400), in the recycle bin too, and when the last of them
    /// was answered for. Salesforce may give fewer than fit, and says so: the rest is asked for
    /// again.
    pub(super) async fn rows_of(
        &self,
        object: ObjectType,
        fields: &[String],
        keys: &[RecordKey],
    ) -> Result<(ReadRows, DateTime<Utc>), RequestFailure> {
        let mapping = self.mapping(object, fields);
        let mut left: Vec<&RecordKey> = keys.iter().collect();
        let mut whole = ReadRows::default();
        loop {
            let soql = soql::by_ids(object, fields, left.iter().map(|key| key.record_id.as_str()));
            let (mut answer, at) = self.rest.query(&soql, QueryScope::All, &mapping, ROWS_MAX).await?;
            let at = at.ok_or(CrmError::Unreadable("it has no Date header"))?;
            for record in &mut answer.records {
                record.answered_at = Some(at);
            }
            let asked = left.len();
            left.retain(|key| !answer.shown.contains(key));
            whole.absorb(answer);
            if whole.done || left.is_empty() {
                return Ok((whole, at));
            }
            if left.len() == asked {
                return Err(CrmError::Unreadable("an answer by ids is not whole").into());
            }
        }
    }

    /// Asks, and once more with other fields where those of before are not there any more.
    async fn ask_rows(&self, object: ObjectType, rows: &mut RowsProgress) -> Result<AnsweredRows, RequestFailure> {
        let mut notices = Vec::new();
        let first = self.query_rows(object, rows).await;
        if !matches!(first, Err(RequestFailure::Vendor(ErrorCode::InvalidField, _))) {
            return Ok((first?, notices));
        }
        let Some(visible) = self.describe(object).await? else {
            return Err(RequestFailure::Vendor(ErrorCode::InvalidType, None));
        };
        rows.fields = visible.fields;
        notices.extend(visible.notices);
        let second = self.query_rows(object, rows).await;
        // The field that leads to the Account can be seen where Accounts cannot.
        let leads_to_account = rows.fields.iter().any(|field| field == ACCOUNT_NAME);
        if !matches!(second, Err(RequestFailure::Vendor(ErrorCode::InvalidField, _))) || !leads_to_account {
            return Ok((second?, notices));
        }
        rows.fields.retain(|field| field != ACCOUNT_NAME);
        notices.push(fields::hidden(object, ACCOUNT_NAME));
        Ok((self.query_rows(object, rows).await?, notices))
    }

    async fn query_rows(
        &self,
        object: ObjectType,
        rows: &RowsProgress,
    ) -> Result<(ReadRows, Option<DateTime<Utc>>), RequestFailure> {
        let window = QueryWindow { since: rows.since, after: rows.after.as_ref(), before: rows.end() };
        let limit = self.rest.quota.page_size().of(ROWS_PER_PAGE);
        let soql = soql::page(object, &rows.fields, &window, limit);
        self.rest.query(&soql, QueryScope::All, &self.mapping(object, &rows.fields), ROWS_MAX).await
    }
}

impl RowsProgress {
    /// Before when rows are asked for: the second of the window's end is in it. The first answer,
    /// which tells the time, has no end.
    fn end(&self) -> Option<i64> {
        self.bound.or_else(|| self.until.map(|until| until + SECOND))
    }

    /// The same from the same place, over half the time.
    fn halved(mut self, at: Option<DateTime<Utc>>) -> Result<Self, CrmError> {
        const HOPELESS: CrmError = CrmError::Unavailable("its queries take too long, however short a time they span");
        self.until = self.until.or(at.map(|at| at.timestamp_millis()));
        let end = self.end().ok_or(HOPELESS)?;
        let start = self.after.as_ref().map(|last| last.at).or(self.since).unwrap_or(FOUNDED);
        let span = (end - start) / 2;
        if span < 1 || self.halvings >= HALVINGS_MAX {
            return Err(HOPELESS);
        }
        Ok(Self { bound: Some(start + span), span, halvings: self.halvings + 1, ..self })
    }

    /// The time after a nearer end, twice as long: what was slow may have been there only.
    fn beyond(self, bound: i64) -> Self {
        let span = self.span.saturating_mul(2).max(1);
        let is_near = self.until.is_none_or(|until| bound + span < until + SECOND);
        Self { since: Some(bound), after: None, bound: is_near.then_some(bound + span), span, halvings: 0, ..self }
    }
}

/// Whether a page's last row lies behind that of the page before. Salesforce orders ids of one time
/// in its own way.
fn leads_on(before: Option<&RowKeyset>, last: &RowKeyset) -> bool {
    before.is_none_or(|before| last.at > before.at || (last.at == before.at && last.id != before.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(millis)
    }

    /// A window that is too slow is halved, and then read in growing parts.
    #[test]
    fn slow_window_is_halved_then_grows() {
        let rows = RowsProgress { since: Some(0), ..RowsProgress::default() };

        let half = rows.halved(at(999_000)).unwrap();
        let quarter = half.clone().halved(at(2_000_000)).unwrap();

        assert_eq!((half.until, half.bound), (Some(999_000), Some(500_000)));
        assert_eq!((quarter.until, quarter.bound), (Some(999_000), Some(250_000)));
        let next = quarter.beyond(250_000);
        assert_eq!((next.since, next.bound, next.halvings), (Some(250_000), Some(750_000), 0));
        let last = next.beyond(750_000);
        assert_eq!((last.since, last.bound, last.end()), (Some(750_000), None, Some(1_000_000)));
    }

    /// Halving begins at the last row, and has an end.
    #[test]
    fn halving_begins_at_last_row_and_ends() {
        let last = RowKeyset { at: 600_000, id: "003D000000QV9n2IAD".to_owned() };
        let mut rows =
            RowsProgress { since: Some(0), after: Some(last), until: Some(999_000), ..RowsProgress::default() };

        rows = rows.halved(None).unwrap();
        assert_eq!(rows.bound, Some(800_000));

        let mut halvings = 1;
        while let Ok(next) = rows.clone().halved(None) {
            assert!(next.bound > Some(600_000));
            rows = next;
            halvings += 1;
        }
        assert!(halvings <= HALVINGS_MAX);
        assert!(matches!(RowsProgress::default().halved(None), Err(CrmError::Unavailable(_))));
    }

    /// A last row that is the one before leads nowhere.
    #[test]
    fn unmoved_last_row_leads_nowhere() {
        let row = |at, id: &str| RowKeyset { at, id: id.to_owned() };

        assert!(leads_on(None, &row(1, "a")));
        assert!(leads_on(Some(&row(1, "b")), &row(1, "a")));
        assert!(leads_on(Some(&row(1, "a")), &row(2, "a")));
        assert!(!leads_on(Some(&row(1, "a")), &row(1, "a")));
        assert!(!leads_on(Some(&row(2, "a")), &row(1, "b")));
    }
}
