//! What Pipedrive's refusals mean.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};

use super::limits;
use crate::crm::{CrmError, http};

/// A block by what stands before Pipedrive does not end within seconds, and asking on prolongs it.
const BLOCK_WAIT_MIN: Duration = Duration::from_mins(5);

/// An answer with whatever status.
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    /// What a refusal means; `None`: a success.
    pub(super) fn refusal(&self) -> Option<CrmError> {
        match self.status.as_u16() {
            429 => Some(limits::meaning_of_429(&self.headers)),
            402 => Some(CrmError::AccountClosed(
                "the company's Pipedrive account is not open (its trial is over, or it is unpaid); its owner must open it",
            )),
            // After too many 429s Cloudflare refuses in Pipedrive's place: a page, not JSON.
            403 if self.is_page() => {
                let asked = http::seconds(&self.headers, RETRY_AFTER.as_str()).unwrap_or_default();
                Some(CrmError::RateLimited { retry_after: Some(asked.max(BLOCK_WAIT_MIN)) })
            }
            403 if String::from_utf8_lossy(&self.body).to_ascii_lowercase().contains("scope") => {
                Some(CrmError::PermissionMissing("the token needs the scope `contacts:read`"))
            }
            403 => Some(CrmError::PermissionMissing("the user of the token must be an administrator")),
            404 => Some(CrmError::OrganizationNotFound),
            status => http::meaning_of_status(self.status, &self.headers)
                .or_else(|| (!self.status.is_success()).then_some(CrmError::Refused(status))),
        }
    }

    /// Pipedrive itself says that there is no such object. A page that says 404 may come from anybody on the way.
    pub(super) fn says_absent(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
            && serde_json::from_slice::<serde_json::Value>(&self.body).is_ok_and(|body| body["success"] == false)
    }

    fn is_page(&self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        kind.contains("html") || self.body.trim_ascii_start().starts_with(b"<")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crm::Retry;

    const SECRET: &str = "tok-4711";

    fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
        let pairs = headers.iter();
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: pairs
                .map(|(name, value)| (name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap()))
                .collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn each_refusal_has_its_meaning_and_no_body_in_its_words() {
        let json = format!(r#"{{"success":false,"error":"{SECRET}"}}"#);
        let scope = format!(r#"{{"success":false,"error":"Scope and URL mismatch {SECRET}"}}"#);
        for (status, body, reason, retry) in [
            (400, &json, "CRM_ANSWER_UNREADABLE", Retry::Never),
            (401, &json, "CREDENTIALS_REFUSED", Retry::Never),
            (402, &json, "CRM_ACCOUNT_CLOSED", Retry::Never),
            (403, &json, "PERMISSION_MISSING", Retry::Never),
            (403, &scope, "PERMISSION_MISSING", Retry::Never),
            (403, &format!("<html>{SECRET}</html>"), "RATE_LIMITED", Retry::After(BLOCK_WAIT_MIN)),
            (404, &json, "ORGANIZATION_NOT_FOUND", Retry::Never),
            (410, &json, "CRM_ANSWER_UNREADABLE", Retry::Never),
            (429, &json, "RATE_LIMITED", Retry::Backoff),
            (302, &json, "CRM_ANSWER_UNREADABLE", Retry::Backoff),
            (500, &json, "CRM_UNREACHABLE", Retry::Backoff),
            (503, &json, "CRM_UNREACHABLE", Retry::Backoff),
        ] {
            let error = reply(status, &[], body).refusal().unwrap();

            assert_eq!((error.reason(), error.retry()), (reason, retry), "{status}");
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
        assert!(reply(200, &[], &json).refusal().is_none());
    }

    #[test]
    fn block_by_a_page_waits_a_minute_or_as_long_as_it_says() {
        let html = ("content-type", "text/html; charset=UTF-8");

        assert_eq!(reply(403, &[html], "denied").refusal().unwrap().retry(), Retry::After(Duration::from_mins(5)));
        let longer = reply(403, &[html, ("retry-after", "600")], "denied").refusal().unwrap();
        assert_eq!(longer.retry(), Retry::After(Duration::from_mins(10)));
    }

    #[test]
    fn only_pipedrive_itself_says_that_somebody_is_absent() {
        assert!(reply(404, &[], r#"{"success":false,"error":"Person not found."}"#).says_absent());
        for body in ["", "<html>404</html>", "{}", r#"{"success":true}"#] {
            assert!(!reply(404, &[], body).says_absent(), "{body}");
        }
        assert!(!reply(410, &[], r#"{"success":false}"#).says_absent());
    }
}
