//! Rows by the bulk interface: a job that Salesforce works on by itself, whose results are fetched part by part and stay for seven
//! days. Where it does not serve, an object is read by REST however large it is.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::{
    client::Salesforce,
    map,
    model::Job,
    pass::{Step, Then, begin_again},
    position::{self, Bulk, Rows, Stage},
    refusal::Failure,
    rest::Reply,
    soql,
};
use crate::{
    crm::{CrmError, Page, http},
    domain::record::ObjectType,
};

/// Rows in one part of the results; about 3 MiB.
const ROWS_PER_PART: usize = 10_000;
/// A job is looked at after so long, then after twice as long, and so on: a small one is done in seconds, and a look costs a request.
const POLL_FIRST: Duration = Duration::from_millis(500);
const POLL_LONGEST: Duration = Duration::from_mins(1);
/// Of a minute each: six hours. Salesforce's queue is longer on some days, but a copy by REST has come far by then.
const POLLS_MAX: u16 = 360;
/// Where the results go on; the text `null` after the last part.
const LOCATOR: &str = "sforce-locator";
/// Rows in this part.
const NUMBER_OF_RECORDS: &str = "sforce-numberofrecords";

impl Salesforce {
    /// Has a job made, or reads by REST if that is refused.
    pub(super) async fn begin_bulk(
        &self,
        object: ObjectType,
        fields: Vec<String>,
        failures: u8,
    ) -> Result<Step, CrmError> {
        let body = json!({
            "operation": "queryAll",
            "query": soql::all(object, &fields),
            "contentType": "CSV",
            "columnDelimiter": "COMMA",
            "lineEnding": "LF",
        });
        let reply = match self.rest.post("/jobs/query", &body).await {
            Err(failure) if failure.is_final() => {
                return self.read_rows(object, Rows { fields, ..Rows::default() }).await;
            }
            reply => reply?,
        };
        let job: Job = reply.json()?;
        let at = http::server_time(&reply.headers).ok_or(CrmError::Unreadable("it has no Date header"))?;
        if !position::is_id(&job.id) {
            return Err(CrmError::Unreadable("the id of its job is no id"));
        }
        let until = at.timestamp_millis();
        Ok(waiting(Bulk { fields, job: job.id, locator: None, polls: 0, failures, until }))
    }

    pub(super) async fn read_bulk(&self, object: ObjectType, bulk: Bulk) -> Result<Step, CrmError> {
        let path = format!("/jobs/query/{}", bulk.job);
        if bulk.locator.is_none() {
            let job: Job = match self.rest.get(&path, &[]).await {
                Err(failure) if failure.is_final() => return Ok(Step::stay(begin_again(&bulk))),
                reply => reply?.json()?,
            };
            match job.state.as_str() {
                "JobComplete" => {}
                "Failed" | "Aborted" => return Ok(Step::stay(begin_again(&bulk))),
                _ if bulk.polls >= POLLS_MAX => return Ok(Step::stay(begin_again(&bulk))),
                _ => return Ok(waiting(Bulk { polls: bulk.polls + 1, ..bulk })),
            }
        }
        match self.ask_part(&path, bulk.locator.as_deref()).await {
            Err(Failure::Known(CrmError::Unreadable(http::TOO_LARGE))) => Ok(Step::stay(begin_again(&bulk))),
            Err(failure) if failure.is_final() => Ok(Step::stay(begin_again(&bulk))),
            part => self.part(object, bulk, &part?),
        }
    }

    async fn ask_part(&self, path: &str, locator: Option<&str>) -> Result<Reply, Failure> {
        let size = ROWS_PER_PART.to_string();
        let mut query = vec![("maxRecords", size.as_str())];
        query.extend(locator.map(|locator| ("locator", locator)));
        self.rest.get(&format!("{path}/results"), &query).await
    }

    fn part(&self, object: ObjectType, bulk: Bulk, part: &Reply) -> Result<Step, CrmError> {
        let rows = rows(&part.body)?;
        // Half a file reads like a whole one.
        if number_of_records(&part.headers) != Some(rows.len()) {
            return Err(CrmError::Unreadable("its part of the results has not as many rows as it says"));
        }
        let read = rows.iter().filter_map(|row| map::record(object, row, &bulk.fields, &self.rest.base_url));
        let records: Vec<_> = read.collect();
        let page = Page { rejected: rows.len() - records.len(), records, ..Page::default() };
        let then = match locator(&part.headers)? {
            Some(next) if bulk.locator.as_ref() == Some(&next) => return Err(CrmError::Stuck),
            Some(next) => Then::Stay(Stage::Bulk(Bulk { locator: Some(next), ..bulk })),
            None => Then::Rows { fields: bulk.fields, through: bulk.until },
        };
        Ok(Step { page, then })
    }
}

/// An empty page, and when to look at the job again.
fn waiting(bulk: Bulk) -> Step {
    let wait = POLL_LONGEST.min(POLL_FIRST * 2_u32.pow(u32::from(bulk.polls).min(7)));
    Step { page: Page { wait: Some(wait), ..Page::default() }, then: Then::Stay(Stage::Bulk(bulk)) }
}

/// The lines of a file by the columns' names.
fn rows(body: &[u8]) -> Result<Vec<map::Row>, CrmError> {
    const NO_CSV: CrmError = CrmError::Unreadable("it is not the CSV that Salesforce documents");
    let mut reader = csv::Reader::from_reader(body);
    let columns = reader.headers().map_err(|_| NO_CSV)?.clone();
    let mut rows = Vec::new();
    for line in reader.records() {
        let line = line.map_err(|_| NO_CSV)?;
        rows.push(columns.iter().zip(&line).map(|(name, text)| (name.to_owned(), Value::from(text))).collect());
    }
    Ok(rows)
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

    #[test]
    fn csv_has_rows_by_the_names_of_its_columns() {
        let rows = rows(b"\"Id\",\"Account.Name\"\n\"1\",\"A, \"\"B\"\"\nC\"\n\"2\",\"\"\n").unwrap();

        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["Account.Name"], "A, \"B\"\nC");
        assert_eq!(rows[1]["Account.Name"], "");
    }

    #[test]
    fn half_a_line_is_no_csv() {
        assert!(rows(b"\"Id\",\"Name\"\n\"1\",\"A\"\n\"2\"\n").is_err());
        assert!(rows(b"").unwrap().is_empty());
    }

    #[test]
    fn the_last_part_has_no_place_to_go_on() {
        let with = |text: &'static str| HeaderMap::from_iter([(LOCATOR.parse().unwrap(), text.parse().unwrap())]);

        assert_eq!(locator(&with("null")).unwrap(), None);
        assert_eq!(locator(&HeaderMap::new()).unwrap(), None);
        assert_eq!(locator(&with("MTAwMDA")).unwrap().as_deref(), Some("MTAwMDA"));
    }

    #[test]
    fn waits_grow_to_a_minute() {
        let wait = |polls| {
            let bulk = Bulk { fields: Vec::new(), job: "7".to_owned(), locator: None, polls, failures: 0, until: 0 };
            waiting(bulk).page.wait.unwrap().as_millis()
        };

        assert_eq!([wait(0), wait(1), wait(6), wait(7), wait(300)], [500, 1_000, 32_000, 60_000, 60_000]);
    }
}
