//! Rows by the bulk interface: a job that Salesforce works on by itself, whose results are fetched
//! part by part and stay for seven days. Where it does not serve, an object is read by REST however
//! large it is.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::json;

use super::{
    client::SalesforceClient,
    map::{QueryRow, ReadRows, RowMapping},
    model::BulkJob,
    position::{self, BulkProgress, RowsProgress, RunStage},
    refusal::RequestFailure,
    rest::RestReply,
    soql,
    step::{NextStage, StepResult},
};
use crate::{
    crm::{
        CrmError, PageEffort, RecordPage, http,
        json::{self, BodyText},
    },
    domain::{record::ObjectType, rejected::RejectReason},
};

/// Rows in one part of the results; about 3 MiB.
const ROWS_PER_PART: usize = 10_000;
/// A job is looked at after so long, then after twice as long, and so on: a small one is done in
/// seconds, and a look costs a request.
const POLL_FIRST: Duration = Duration::from_millis(500);
const POLL_LONGEST: Duration = Duration::from_mins(1);
/// Of a minute each: six hours. Salesforce's queue is longer on some days, but a copy by REST has
/// come far by then.
const POLLS_MAX: u16 = 360;
/// Where the results go on; the text `null` after the last part.
const LOCATOR: &str = "sforce-locator";
/// Rows in this part.
const NUMBER_OF_RECORDS: &str = "sforce-numberofrecords";

impl SalesforceClient {
    /// Has a job made, or reads by REST if that is refused.
    pub(super) async fn begin_bulk(
        &self,
        object: ObjectType,
        fields: Vec<String>,
        failures: u8,
        effort: PageEffort,
    ) -> Result<StepResult, CrmError> {
        let body = json!({
            "operation": "queryAll",
            "query": soql::all(object, &fields),
            "contentType": "CSV",
            "columnDelimiter": "COMMA",
            "lineEnding": "LF",
        });
        let reply = match self.rest.post("/jobs/query", &body).await {
            Err(failure) if failure.is_final() || effort == PageEffort::Essential => {
                return self.read_rows(object, RowsProgress { fields, ..RowsProgress::default() }).await;
            }
            reply => reply?,
        };
        let at = http::server_time(&reply.headers).ok_or(CrmError::Unreadable("it has no Date header"))?;
        let job: BulkJob = reply.json().await?;
        if !position::is_id(&job.id) {
            return Err(CrmError::Unreadable("the id of its job is no id"));
        }
        let until = at.timestamp_millis();
        Ok(waiting(BulkProgress { fields, job: job.id, locator: None, polls: 0, failures, until }))
    }

    pub(super) async fn read_bulk(&self, object: ObjectType, bulk: BulkProgress) -> Result<StepResult, CrmError> {
        let path = format!("/jobs/query/{}", bulk.job);
        if bulk.locator.is_none() {
            let job: BulkJob = match self.rest.get(&path, &[]).await {
                Err(failure) if failure.is_final() => return Ok(StepResult::stay(bulk.begin_again())),
                reply => reply?.json().await?,
            };
            match job.state.as_str() {
                "JobComplete" => {}
                "Failed" | "Aborted" => return Ok(StepResult::stay(bulk.begin_again())),
                _ if bulk.polls >= POLLS_MAX => return Ok(StepResult::stay(bulk.begin_again())),
                _ => return Ok(waiting(BulkProgress { polls: bulk.polls + 1, ..bulk })),
            }
        }
        match self.ask_part(&path, bulk.locator.as_deref()).await {
            Err(failure) if failure.is_final() => Ok(StepResult::stay(bulk.begin_again())),
            part => self.part(object, bulk, part?).await,
        }
    }

    async fn ask_part(&self, path: &str, locator: Option<&str>) -> Result<RestReply, RequestFailure> {
        let size = self.rest.quota.page_size().of(ROWS_PER_PART).to_string();
        let mut query = vec![("maxRecords", size.as_str())];
        query.extend(locator.map(|locator| ("locator", locator)));
        self.rest.get(&format!("{path}/results"), &query).await
    }

    async fn part(&self, object: ObjectType, bulk: BulkProgress, part: RestReply) -> Result<StepResult, CrmError> {
        let mapping = self.mapping(object, &bulk.fields);
        let rows = json::off_thread(move || rows(part.body, &mapping)).await?;
        // Half a file reads like a whole one.
        if number_of_records(&part.headers) != Some(rows.count) {
            return Err(CrmError::Unreadable("its part of the results has not as many rows as it says"));
        }
        let page = RecordPage { records: rows.records, rejects: rows.rejects, ..RecordPage::default() };
        let then = match locator(&part.headers)? {
            Some(next) if bulk.locator.as_ref() == Some(&next) => return Err(CrmError::Stuck),
            Some(next) => NextStage::Stay(RunStage::Bulk(BulkProgress { locator: Some(next), ..bulk })),
            None => NextStage::Rows { fields: bulk.fields, through: bulk.until },
        };
        Ok(StepResult { page, then })
    }
}

/// An empty page, and when to look at the job again.
fn waiting(bulk: BulkProgress) -> StepResult {
    let wait = POLL_LONGEST.min(POLL_FIRST * 2_u32.pow(u32::from(bulk.polls).min(7)));
    StepResult {
        page: RecordPage { wait: Some(wait), ..RecordPage::default() },
        then: NextStage::Stay(RunStage::Bulk(bulk)),
    }
}

/// The lines of a file as records. A line that is not like the first one is rejected alone; one
/// that the file breaks off in means that the file is not whole.
fn rows(body: Vec<u8>, mapping: &RowMapping) -> Result<ReadRows, CrmError> {
    const NO_CSV: CrmError = CrmError::Unreadable("it is not the CSV that Salesforce documents");
    let body = BodyText::plain(body)?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(body.text.as_bytes());
    let columns = reader.headers().map_err(|_| NO_CSV)?.clone();
    let mut answer = ReadRows::default();
    let mut values = csv::StringRecord::new();
    while reader.read_record(&mut values).map_err(|_| NO_CSV)? {
        if answer.count >= ROWS_PER_PART {
            return Err(CrmError::Unreadable("its part of the results has more rows than were asked for"));
        }
        let start = values.position().map_or(0, csv::Position::byte);
        let raw = slice(&body.text, start, reader.position().byte());
        if values.len() == columns.len() {
            answer.add(&QueryRow::Line { columns: &columns, values: &values }, mapping, raw);
        } else if reader.position().byte() >= body.text.len() as u64 && !body.text.ends_with('\n') {
            return Err(NO_CSV);
        } else {
            answer.count += 1;
            answer.rejects.reject(mapping.object, None, RejectReason::ColumnsUnreadable, "", raw);
        }
    }
    answer.rejects.characters += body.replaced;
    Ok(answer)
}

fn slice(text: &str, start: u64, end: u64) -> &str {
    let place = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX);
    text.get(place(start)..place(end)).unwrap_or_default().trim_end_matches(['\r', '\n'])
}

fn number_of_records(headers: &HeaderMap) -> Option<usize> {
    headers.get(NUMBER_OF_RECORDS)?.to_str().ok()?.trim().parse().ok()
}

fn locator(headers: &HeaderMap) -> Result<Option<String>, CrmError> {
    let Some(value) = headers.get(LOCATOR) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    match text {
        "null" | "" => Ok(None),
        text if position::is_locator(text) => Ok(Some(text.to_owned())),
        _ => Err(CrmError::Unreadable("its place in the results is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> RowMapping {
        let fields = ["Name", "Phone", "Account.Name"].map(str::to_owned).to_vec();
        RowMapping { object: ObjectType::Contact, fields, base_url: String::new() }
    }

    const COLUMNS: &[u8] = b"\"Id\",\"IsDeleted\",\"SystemModstamp\",\"Name\",\"Phone\",\"Account.Name\"\n";

    fn read(lines: &[u8]) -> Result<ReadRows, CrmError> {
        rows([COLUMNS, lines].concat(), &mapping())
    }

    const FIRST: &[u8] =
        b"\"003D000000QV9n2IAD\",\"false\",\"2026-01-02T10:05:00.120Z\",\"Ann\",\"1\",\"A, \"\"B\"\"\nC\"\n";

    /// A line of CSV is read by the names of its columns.
    #[test]
    fn csv_line_is_read_by_column_names() {
        let answer = read(FIRST).unwrap();

        let [record] = &answer.records[..] else { panic!("{}", answer.count) };
        assert_eq!((record.display_name.as_str(), record.organization.as_str()), ("Ann", "A, \"B\"\nC"));
        assert_eq!(record.numbers[0].raw, "1");
        assert!(!record.is_gone && answer.rejects.is_empty());
    }

    /// A line that cannot be read is rejected alone.
    #[test]
    fn unreadable_line_is_rejected_alone() {
        let second = b"\"003D000000QV9n3\",\"\",\"2026-01-02T10:05:00Z\",\"Jos\xe9\",\"2\",\"\"\n";
        let short = b"\"003D000000QV9n4\",\"false\"\n\n";
        let wrong = b"\"7\",\"false\",\"2026-01-02T10:05:00Z\",\"\",\"\",\"\"\n";

        let answer = read(&[&short[..], wrong, FIRST, second].concat()).unwrap();

        assert_eq!((answer.count, answer.records.len()), (4, 2));
        assert_eq!(answer.records[1].display_name, "Jos\u{fffd}");
        assert_eq!((answer.rejects.records, answer.rejects.characters), (2, 1));
        let kept = &answer.rejects.kept;
        assert_eq!((kept[0].reason, kept[1].reason), (RejectReason::ColumnsUnreadable, RejectReason::IdUnreadable));
        assert_eq!(kept[0].raw, "\"003D000000QV9n4\",\"false\"");
    }

    #[test]
    fn a_file_that_breaks_off_is_no_csv() {
        assert!(read(&FIRST[..30]).is_err());
        assert!(read(b"").unwrap().records.is_empty());
    }

    /// More lines than were asked for are not taken.
    #[test]
    fn more_lines_than_asked_for_are_refused() {
        assert!(matches!(read(&b"1\n".repeat(ROWS_PER_PART + 1)), Err(CrmError::Unreadable(_))));
    }

    /// The last part has no place to go on.
    #[test]
    fn last_part_has_no_locator() {
        let with = |text: &'static str| HeaderMap::from_iter([(LOCATOR.parse().unwrap(), text.parse().unwrap())]);

        assert_eq!(locator(&with("null")).unwrap(), None);
        assert_eq!(locator(&HeaderMap::new()).unwrap(), None);
        assert_eq!(locator(&with("MTAwMDA")).unwrap().as_deref(), Some("MTAwMDA"));
    }

    #[test]
    fn waits_grow_to_a_minute() {
        let wait = |polls| {
            let bulk =
                BulkProgress { fields: Vec::new(), job: "7".to_owned(), locator: None, polls, failures: 0, until: 0 };
            waiting(bulk).page.wait.unwrap().as_millis()
        };

        assert_eq!([wait(0), wait(1), wait(6), wait(7), wait(300)], [500, 1_000, 32_000, 60_000, 60_000]);
    }
}
