//! What Zendesk's refusals mean, as a table. Its words are never shown. What is in no row is
//! doubtful: told by its status, and taken for no more. Source: Zendesk developer documentation,
//! "Responses", "Incremental Exports", "OAuth"; words as its clients report them.

use reqwest::{StatusCode, header::HeaderMap};
use serde::Deserialize;
use serde_json::Value;

use crate::crm::{CrmError, http};

const ROLE: CrmError = CrmError::PermissionMissing("the user of the token must be an administrator");
const SCOPE: CrmError = CrmError::PermissionMissing("the token needs the scope `read`");

#[derive(Deserialize, Default)]
#[serde(default)]
struct RefusalBody {
    error: Value,
    description: Value,
}

impl RefusalBody {
    /// `error`, or the title in it: Zendesk writes both.
    fn code(&self) -> &str {
        self.error.as_str().or_else(|| self.error["title"].as_str()).unwrap_or_default()
    }

    fn says(&self, word: &str) -> bool {
        [&self.description, &self.error["message"]]
            .iter()
            .any(|text| text.as_str().is_some_and(|text| text.contains(word)))
    }
}

/// What an answer means that is no success.
pub(super) fn meaning(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> CrmError {
    let is_page = http::is_page(headers, body);
    let body: RefusalBody = serde_json::from_slice(body).unwrap_or_default();
    match (status.as_u16(), body.code()) {
        // No help desk of this name: a page.
        (404, _) if is_page => CrmError::OrganizationNotFound,
        (404, "RecordNotFound") => CrmError::RecordNotFound,
        (404, _) => CrmError::OrganizationNotFound,
        (403, _) if is_page => http::PAGE,
        (403, "Forbidden") if body.says("scope") => SCOPE,
        (403, "Forbidden") => ROLE,
        (status_code, _) => http::meaning_of_status(status, headers).unwrap_or(CrmError::Refused(status_code)),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};

    use super::*;
    use crate::crm::RetryAdvice;

    #[test]
    fn each_row_of_the_table_has_its_meaning() {
        let scope = r#"{"error":"Forbidden","description":"You are missing the following required scopes: read"}"#;
        let role = r#"{"error":{"title":"Forbidden","message":"You do not have access to this page."}}"#;
        for (status, kind, body, reason, retry) in [
            (400, "json", r#"{"error":"InvalidValue"}"#, "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
            (401, "json", r#"{"error":"Couldn't authenticate you"}"#, "CREDENTIALS_REFUSED", RetryAdvice::Never),
            (401, "json", r#"{"error":"invalid_token"}"#, "CREDENTIALS_REFUSED", RetryAdvice::Never),
            (401, "plain", "", "CREDENTIALS_REFUSED", RetryAdvice::Never),
            (403, "json", scope, "PERMISSION_MISSING", RetryAdvice::Never),
            (403, "json", role, "PERMISSION_MISSING", RetryAdvice::Never),
            (403, "html", "<html>scope</html>", "CRM_UNREACHABLE", RetryAdvice::Backoff),
            (403, "json", r#"{"error":"SomethingNew"}"#, "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
            (403, "plain", "", "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
            (404, "html", "<html>No help desk here</html>", "ORGANIZATION_NOT_FOUND", RetryAdvice::Never),
            (404, "json", r#"{"error":"InvalidEndpoint"}"#, "ORGANIZATION_NOT_FOUND", RetryAdvice::Never),
            (409, "json", "{}", "CRM_UNREACHABLE", RetryAdvice::Backoff),
            (422, "json", r#"{"error":"RecordInvalid"}"#, "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
            (429, "plain", "Number of allowed API requests per minute exceeded", "RATE_LIMITED", RetryAdvice::Backoff),
            (301, "html", "", "CRM_HOST_MOVED", RetryAdvice::Backoff),
            (302, "html", "", "CRM_HOST_MOVED", RetryAdvice::Backoff),
            (500, "json", "{}", "CRM_UNREACHABLE", RetryAdvice::Backoff),
            (503, "html", "<html>", "CRM_UNREACHABLE", RetryAdvice::Backoff),
            (418, "json", "{}", "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
        ] {
            let headers = [(CONTENT_TYPE, format!("text/{kind}").parse().unwrap())].into_iter().collect();
            let error = meaning(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes());

            assert_eq!((error.reason(), error.retry()), (reason, retry), "{status} {body}");
        }
    }

    /// Only Zendesk's own word says that a record is not there.
    #[test]
    fn only_zendesks_own_word_means_absent_record() {
        let said = |body: &str| meaning(StatusCode::NOT_FOUND, &HeaderMap::new(), body.as_bytes());

        assert!(matches!(said(r#"{"error":"RecordNotFound","description":"Not found"}"#), CrmError::RecordNotFound));
        for other in ["", "{}", "<html>RecordNotFound</html>", r#"{"error":"InvalidEndpoint"}"#, "[]", "RecordNotFound"]
        {
            assert!(matches!(said(other), CrmError::OrganizationNotFound), "{other}");
        }
    }

    /// A time to wait is obeyed also of a maintenance.
    #[test]
    fn maintenance_wait_is_obeyed_too() {
        let headers = [(RETRY_AFTER, "50, 53".parse().unwrap())].into_iter().collect();

        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
            assert_eq!(meaning(status, &headers, b"").retry(), RetryAdvice::After(std::time::Duration::from_secs(53)));
        }
    }
}
