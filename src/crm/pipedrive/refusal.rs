//! What Pipedrive's refusals mean.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde_json::Value;

use super::limits;
use crate::crm::{CrmError, http};

/// A block by what stands before Pipedrive does not end within seconds, and asking on prolongs it.
const BLOCK_WAIT_MIN: Duration = Duration::from_mins(5);

/// An answer with whatever status.
pub(super) struct HttpReply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl HttpReply {
    /// What a refusal means; `None`: a success. A table; what is in no row is doubtful: told by its
    /// status, and taken for no more.
    pub(super) fn refusal(&self) -> Option<CrmError> {
        if self.status.is_success() {
            return None;
        }
        let is_page = http::is_page(&self.headers, &self.body);
        let words = if is_page { String::new() } else { self.words() };
        Some(match self.status.as_u16() {
            429 => limits::meaning_of_429(&self.headers),
            402 if !is_page => CrmError::AccountClosed(
                "the company's Pipedrive account is not open (its trial is over, or it is unpaid); its owner must open it",
            ),
            401 | 403 if words.contains("uninstalled") => CrmError::Uninstalled,
            // After too many 429s Cloudflare refuses in Pipedrive's place: a page, not JSON.
            403 if is_page => {
                let asked = http::wait(&self.headers, RETRY_AFTER.as_str()).unwrap_or_default();
                CrmError::RateLimited { retry_after: Some(asked.max(BLOCK_WAIT_MIN)) }
            }
            403 if words.contains("scope") => CrmError::PermissionMissing("the token needs the scope `contacts:read`"),
            403 if self.is_pipedrives() => {
                CrmError::PermissionMissing("the user of the token must be an administrator")
            }
            404 if is_page => CrmError::HostMoved,
            404 => CrmError::OrganizationNotFound,
            _ if is_page && self.status.is_client_error() && self.status != StatusCode::UNAUTHORIZED => http::PAGE,
            status => http::meaning_of_status(self.status, &self.headers).unwrap_or(CrmError::Refused(status)),
        })
    }

    /// Pipedrive itself says that there is no such object, or (410) no more. A page that says 404
    /// may come from anybody on the way, and a path that is not served says nothing of whom it
    /// would have shown.
    pub(super) fn says_absent(&self) -> bool {
        let words = self.words();
        let is_of_a_path = ["route", "endpoint", "url", "path", "method", "company", "page"];
        let says_not_found = self.status == StatusCode::NOT_FOUND && words.contains("not found");
        (says_not_found || self.status == StatusCode::GONE)
            && self.is_pipedrives()
            && !is_of_a_path.iter().any(|word| words.contains(word))
    }

    /// Its envelope of a refusal.
    fn is_pipedrives(&self) -> bool {
        self.json().is_some_and(|body| body["success"] == false)
    }

    /// What it says, in lower case.
    pub(super) fn words(&self) -> String {
        self.json().and_then(|body| Some(body["error"].as_str()?.to_ascii_lowercase())).unwrap_or_default()
    }

    fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crm::RetryAdvice;

    const SECRET: &str = "tok-4711";

    fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> HttpReply {
        let pairs = headers.iter();
        HttpReply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: pairs
                .map(|(name, value)| (name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap()))
                .collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    /// Each refusal has its meaning, and no body in its words.
    #[test]
    fn each_refusal_has_meaning_without_body() {
        let json = format!(r#"{{"success":false,"error":"{SECRET}"}}"#);
        let scope = format!(r#"{{"success":false,"error":"Scope and URL mismatch {SECRET}"}}"#);
        let uninstalled = format!(r#"{{"success":false,"error":"The app was uninstalled {SECRET}"}}"#);
        for (status, body, reason, retry) in [
            (400, &json, "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
            (401, &json, "CREDENTIALS_REFUSED", RetryAdvice::Never),
            (402, &json, "CRM_ACCOUNT_CLOSED", RetryAdvice::Never),
            (403, &json, "PERMISSION_MISSING", RetryAdvice::Never),
            (403, &scope, "PERMISSION_MISSING", RetryAdvice::Never),
            (403, &format!("<html>{SECRET}</html>"), "RATE_LIMITED", RetryAdvice::After(BLOCK_WAIT_MIN)),
            (404, &json, "ORGANIZATION_NOT_FOUND", RetryAdvice::Never),
            (410, &json, "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
            (429, &json, "RATE_LIMITED", RetryAdvice::Backoff),
            (302, &json, "CRM_HOST_MOVED", RetryAdvice::Backoff),
            (301, &String::new(), "CRM_HOST_MOVED", RetryAdvice::Backoff),
            (404, &format!("<html>{SECRET}</html>"), "CRM_HOST_MOVED", RetryAdvice::Backoff),
            (400, &format!("<html>{SECRET}</html>"), "CRM_UNREACHABLE", RetryAdvice::Backoff),
            (402, &format!("<html>{SECRET}</html>"), "CRM_UNREACHABLE", RetryAdvice::Backoff),
            (401, &format!("<html>{SECRET}</html>"), "CREDENTIALS_REFUSED", RetryAdvice::Never),
            (401, &uninstalled, "APP_UNINSTALLED", RetryAdvice::Never),
            (403, &uninstalled, "APP_UNINSTALLED", RetryAdvice::Never),
            (403, &String::new(), "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
            (403, &"{}".to_owned(), "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
            (418, &json, "CRM_ANSWER_UNREADABLE", RetryAdvice::Never),
            (500, &json, "CRM_UNREACHABLE", RetryAdvice::Backoff),
            (503, &json, "CRM_UNREACHABLE", RetryAdvice::Backoff),
        ] {
            let error = reply(status, &[], body).refusal().unwrap();

            assert_eq!((error.reason(), error.retry()), (reason, retry), "{status}");
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
        assert!(reply(200, &[], &json).refusal().is_none());
    }

    /// A block by a page waits five minutes, or as long as it says.
    #[test]
    fn block_page_waits_five_minutes_or_longer() {
        let html = ("content-type", "text/html; charset=UTF-8");

        assert_eq!(
            reply(403, &[html], "denied").refusal().unwrap().retry(),
            RetryAdvice::After(Duration::from_mins(5))
        );
        let longer = reply(403, &[html, ("retry-after", "600")], "denied").refusal().unwrap();
        assert_eq!(longer.retry(), RetryAdvice::After(Duration::from_mins(10)));
    }

    #[test]
    fn only_pipedrive_itself_says_that_somebody_is_absent() {
        assert!(reply(404, &[], r#"{"success":false,"error":"Person not found."}"#).says_absent());
        for body in [
            "",
            "<html>404</html>",
            "{}",
            r#"{"success":true,"error":"Person not found."}"#,
            r#"{"success":false}"#,
            r#"{"success":false,"error":"Route not found"}"#,
            r#"{"success":false,"error":"Company not found"}"#,
            r#"{"success":false,"error":"Unknown endpoint: not found"}"#,
        ] {
            assert!(!reply(404, &[], body).says_absent(), "{body}");
        }
        assert!(reply(410, &[], r#"{"success":false,"error":"Person is deleted."}"#).says_absent());
        assert!(!reply(410, &[], "<html>gone</html>").says_absent());
        assert!(!reply(403, &[], r#"{"success":false}"#).says_absent());
    }
}
