//! Salesforce's JSON, as far as it is read. Unknown fields are ignored.
//! Source: Salesforce, "REST API Developer Guide" and "Bulk API 2.0 and Bulk API Developer Guide".

use serde::Deserialize;
use serde_json::value::RawValue;

/// A page of a query. Rows are parsed one by one, so that a bad one is rejected alone.
#[derive(Deserialize)]
pub(super) struct QueryPage {
    #[serde(rename = "totalSize", default)]
    pub total_size: i64,
    pub done: bool,
    #[serde(default)]
    pub records: Vec<Box<RawValue>>,
}

/// What an object looks like to the integration's user.
#[derive(Deserialize)]
pub(super) struct Describe {
    #[serde(default = "yes")]
    pub queryable: bool,
    pub fields: Vec<DescribeField>,
}

/// A field that the user sees.
#[derive(Deserialize)]
pub(super) struct DescribeField {
    pub name: String,
    #[serde(rename = "type", default)]
    pub kind: String,
}

/// What was deleted in an interval.
#[derive(Deserialize)]
pub(super) struct DeletedPage {
    #[serde(rename = "deletedRecords", default)]
    pub deleted_records: Vec<DeletedRecord>,
    #[serde(rename = "latestDateCovered")]
    pub latest_date_covered: String,
}

/// One entry of the log of deletions.
#[derive(Deserialize)]
pub(super) struct DeletedRecord {
    pub id: String,
    #[serde(rename = "deletedDate")]
    pub deleted_date: String,
}

/// A job of the bulk interface.
#[derive(Deserialize)]
pub(super) struct Job {
    pub id: String,
    pub state: String,
}

/// Who a token is of.
#[derive(Deserialize)]
pub(super) struct Identity {
    pub organization_id: String,
    pub user_id: String,
}

/// One entry of a refusal.
#[derive(Deserialize)]
pub(super) struct RefusalEntry {
    #[serde(rename = "errorCode", default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}

const fn yes() -> bool {
    true
}
