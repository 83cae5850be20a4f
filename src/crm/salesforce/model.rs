//! Salesforce's JSON, as far as it is read. Unknown fields are ignored.
//! Source: Salesforce, "REST API Developer Guide" and "Bulk API 2.0 and Bulk API Developer Guide".

use serde::Deserialize;

use super::descriptor::DESCRIPTOR;
use crate::crm::CrmError;

/// What is read of a page of a query.
pub(super) const QUERY: [&str; 3] = ["totalSize", "done", "records"];
/// What is read of an object's description: what it looks like to the integration's user.
pub(super) const DESCRIBE: [&str; 2] = ["queryable", "fields"];
/// What is read of an answer to a search.
pub(super) const FOUND: [&str; 1] = ["searchRecords"];
/// What is read of a page of the log of deletions.
pub(super) const DELETED: [&str; 2] = ["deletedRecords", "latestDateCovered"];

/// What is said of a body that is not so.
pub(super) const NO_JSON: CrmError = CrmError::Unreadable("it is not the JSON that Salesforce documents");

/// A job of the bulk interface.
#[derive(Deserialize)]
pub(super) struct BulkJob {
    pub id: String,
    pub state: String,
}

/// Who a token is of.
#[derive(Deserialize)]
pub(super) struct TokenIdentity {
    pub organization_id: String,
    pub user_id: String,
}

impl TokenIdentity {
    /// It is of another organisation than the linked one.
    pub(super) fn of_another(&self) -> CrmError {
        let opened = DESCRIPTOR.parse_organization(&self.organization_id);
        CrmError::OtherOrganization(opened.ok().map(|opened| opened.name))
    }
}

/// One entry of a refusal.
#[derive(Deserialize)]
pub(super) struct RefusalEntry {
    #[serde(rename = "errorCode", default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}
