//! What Salesforce's refusals mean. They are arrays of codes and messages on REST, and HTML pages
//! of what stands before it; neither is ever shown.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{StatusCode, header::HeaderMap};

use super::model::RefusalEntry;
use crate::crm::{CrmError, http};

/// The daily quota is counted over the last 24 hours, so that some of it comes back every hour.
pub(super) const QUOTA_RESUME_AFTER: Duration = Duration::from_hours(1);
/// See [`CrmError::QuotaSpent`].
pub(super) const QUOTA_REASON: &str = "DAILY_LIMIT";
/// See [`CrmError::QuotaSpent`].
pub(super) const QUOTA_WORDS: &str = "the Salesforce organisation's API requests of 24 hours, or the share of them that this service may use, are spent; sync goes on when some come back; more requests can be bought from Salesforce";
/// 25 requests of 20 seconds and more may run at once; one of them is over after that long at the
/// latest, mostly much sooner.
const CONCURRENCY_RETRY_AFTER: Duration = Duration::from_secs(5);
/// What says that an organisation has moved is no longer, in bytes.
const MOVED_BYTES_MAX: usize = 1_024;

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum RequestFailure {
    /// Nobody here can help it.
    Known(CrmError),
    /// Salesforce's code, which means something where it was asked for, and the server's clock.
    Vendor(ErrorCode, Option<DateTime<Utc>>),
}

/// Codes that lead to another way of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorCode {
    /// A field of the query is not there, or not for this user.
    InvalidField,
    /// The object is not there, or not for this user.
    InvalidType,
    /// The query took longer than Salesforce lets it.
    QueryTimeout,
    /// The log of deletions does not reach back so far.
    ReplicationDate,
    /// More deletions than one answer may hold.
    IdLimit,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
}

impl From<CrmError> for RequestFailure {
    fn from(error: CrmError) -> Self {
        Self::Known(error)
    }
}

/// What a code means where nobody expects it.
impl From<RequestFailure> for CrmError {
    fn from(failure: RequestFailure) -> Self {
        match failure {
            RequestFailure::Known(error) => error,
            RequestFailure::Vendor(word, _) => match word {
                ErrorCode::InvalidField | ErrorCode::ReplicationDate | ErrorCode::IdLimit => Self::Refused(400),
                ErrorCode::InvalidType => HIDDEN,
                ErrorCode::QueryTimeout => Self::Unavailable("its query takes too long"),
                ErrorCode::NotFound => Self::OrganizationNotFound,
                ErrorCode::Conflict => Self::Unavailable("it asks to try again"),
            },
        }
    }
}

impl RequestFailure {
    /// Whether asking the same again is of no use, and the quota is not why.
    pub(super) const fn is_final(&self) -> bool {
        match self {
            Self::Known(error) => matches!(
                error,
                CrmError::PermissionMissing(_)
                    | CrmError::OrganizationNotFound
                    | CrmError::Refused(_)
                    | CrmError::AccountClosed(_)
            ),
            Self::Vendor(..) => true,
        }
    }
}

/// The objects are not shown at all.
pub(super) const HIDDEN: CrmError = CrmError::PermissionMissing(
    "the integration's user must be allowed to read every kind of object that is copied (Contacts, Leads), or copying that kind must be switched off",
);

/// What an answer means that is no success. A table by status and code; what is in no row is
/// doubtful: told by its status, and taken for no more. Source: Salesforce, "REST API Developer
/// Guide", "Status Codes and Error Responses"; "The `UserInfo` Endpoint".
pub(super) fn meaning(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> RequestFailure {
    let entries: Vec<RefusalEntry> = serde_json::from_slice(body).unwrap_or_default();
    let entry = entries.first();
    let code = entry.map_or("", |entry| entry.code.as_str());
    let is_page = http::is_page(headers, body);
    let word = |word| RequestFailure::Vendor(word, http::server_time(headers));
    let known = match (status.as_u16(), code) {
        _ if says_moved(body) => CrmError::HostMoved,
        // The one refusal that is a mere word: of the endpoint that says who a token is of, for a
        // token that is not good.
        (403, "") if matches!(body.trim_ascii(), b"Bad_OAuth_Token" | b"Missing_OAuth_Token") => {
            CrmError::CredentialsRefused
        }
        // Salesforce answers so at the old host of an organisation that has moved; and so does a
        // proxy.
        (403 | 404, "") if is_page => CrmError::HostMoved,
        (_, "QUERY_TIMEOUT") => return word(ErrorCode::QueryTimeout),
        (400, "INVALID_FIELD") => return word(ErrorCode::InvalidField),
        (400 | 404, "INVALID_TYPE") => return word(ErrorCode::InvalidType),
        (_, "INVALID_REPLICATION_DATE") => return word(ErrorCode::ReplicationDate),
        (_, "EXCEEDED_ID_LIMIT") => return word(ErrorCode::IdLimit),
        (404, _) => return word(ErrorCode::NotFound),
        (409, _) => return word(ErrorCode::Conflict),
        // A cursor of Salesforce's that is gone costs nothing: the next try asks by the last row
        // again.
        (_, "INVALID_QUERY_LOCATOR") => CrmError::Unavailable("its cursor is gone"),
        (_, "REQUEST_LIMIT_EXCEEDED") if entry.is_some_and(|entry| entry.message.contains("Concurrent")) => {
            CrmError::RateLimited { retry_after: Some(CONCURRENCY_RETRY_AFTER) }
        }
        (_, "REQUEST_LIMIT_EXCEEDED") => {
            CrmError::QuotaSpent { reason: QUOTA_REASON, words: QUOTA_WORDS, resume_after: QUOTA_RESUME_AFTER }
        }
        (_, "API_DISABLED_FOR_ORG" | "API_CURRENTLY_DISABLED") => CrmError::AccountClosed(
            "its edition or its profiles have no API; ask Salesforce, or the organisation's administrator",
        ),
        (_, "ORG_LOCKED" | "INACTIVE_ORG" | "TRIAL_EXPIRED") => {
            CrmError::AccountClosed("the organisation is locked, or its trial is over; its administrator must open it")
        }
        (403, "INVALID_SESSION_ID") => CrmError::PermissionMissing("the token needs the scope `api`"),
        (403, "INSUFFICIENT_ACCESS" | "INSUFFICIENT_ACCESS_OR_READONLY" | "INSUFFICIENT_ACCESS_APP" | "FORBIDDEN") => {
            CrmError::PermissionMissing(
                "the integration's user needs the permission \"API Enabled\" and access to Contacts and Leads",
            )
        }
        // Its own metering of requests, or a row that somebody writes, is in the way; and statuses
        // with other meanings than RFC 9110's, which Salesforce sends when it is busy.
        (_, "TXN_SECURITY_METERING_ERROR" | "SERVER_UNAVAILABLE" | "UNABLE_TO_LOCK_ROW") | (406 | 420, _) => {
            CrmError::Unavailable("it asks to try again")
        }
        (400 | 402 | 405..=428 | 430..=499, _) if is_page => http::PAGE,
        (other, _) => http::meaning_of_status(status, headers).unwrap_or(CrmError::Refused(other)),
    };
    RequestFailure::Known(known)
}

/// Whether an answer, with whatever status, says that this is not the organisation's host:
/// `URL_NOT_RESET`, "Destination URL not reset". A page of records may hold any words, and is
/// longer than this.
pub(super) fn says_moved(body: &[u8]) -> bool {
    body.len() <= MOVED_BYTES_MAX
        && [&b"URL_NOT_RESET"[..], b"Destination URL not reset"]
            .iter()
            .any(|words| body.windows(words.len()).any(|found| found == *words))
        && !body.trim_ascii_start().starts_with(b"{\"totalSize\"")
}

#[cfg(test)]
mod tests {
    use reqwest::header::{DATE, RETRY_AFTER};

    use super::*;

    fn error(status: u16, body: &str) -> CrmError {
        meaning(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), body.as_bytes()).into()
    }

    fn refused(status: u16, code: &str, message: &str) -> CrmError {
        error(status, &serde_json::json!([{"errorCode": code, "message": message}]).to_string())
    }

    #[test]
    fn each_refusal_has_its_meaning() {
        assert!(matches!(refused(401, "INVALID_SESSION_ID", "Session expired"), CrmError::CredentialsRefused));
        assert!(matches!(refused(403, "INVALID_SESSION_ID", "not valid for REST"), CrmError::PermissionMissing(_)));
        assert!(matches!(
            refused(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
            CrmError::QuotaSpent { reason: "DAILY_LIMIT", .. }
        ));
        assert!(matches!(
            refused(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."),
            CrmError::RateLimited { retry_after: Some(_) }
        ));
        assert!(matches!(refused(403, "API_DISABLED_FOR_ORG", ""), CrmError::AccountClosed(_)));
        assert!(matches!(refused(403, "API_CURRENTLY_DISABLED", ""), CrmError::AccountClosed(_)));
        assert!(matches!(refused(403, "INSUFFICIENT_ACCESS", ""), CrmError::PermissionMissing(_)));
        assert!(matches!(refused(400, "INVALID_QUERY_LOCATOR", ""), CrmError::Unavailable(_)));
        assert!(matches!(refused(400, "MALFORMED_QUERY", ""), CrmError::Refused(400)));
        assert!(matches!(refused(503, "SERVER_UNAVAILABLE", ""), CrmError::Unavailable(_)));
        assert!(matches!(refused(500, "UNKNOWN_EXCEPTION", ""), CrmError::Unavailable(_)));
        assert!(matches!(refused(404, "NOT_FOUND", ""), CrmError::OrganizationNotFound));
        assert!(matches!(error(503, "<html>maintenance</html>"), CrmError::Unavailable(_)));
        assert!(matches!(refused(403, "TXN_SECURITY_METERING_ERROR", ""), CrmError::Unavailable(_)));
        assert!(matches!(refused(403, "SOMETHING_NEW", ""), CrmError::Refused(403)));
        assert!(matches!(error(403, ""), CrmError::Refused(403)));
        assert!(matches!(error(403, "Bad_OAuth_Token"), CrmError::CredentialsRefused));
        assert!(matches!(error(403, "<html>no</html>"), CrmError::HostMoved));
        assert!(matches!(error(404, "<html>no</html>"), CrmError::HostMoved));
        assert!(matches!(error(400, "<html>no</html>"), CrmError::Unavailable(_)));
        for status in [400, 401, 404, 500] {
            let moved = "Destination URL not reset. The URL returned from login must be set";
            assert!(matches!(refused(status, "URL_NOT_RESET", moved), CrmError::HostMoved), "{status}");
            assert!(matches!(refused(status, "UNKNOWN_EXCEPTION", moved), CrmError::HostMoved), "{status}");
        }
        assert!(matches!(error(429, ""), CrmError::RateLimited { retry_after: None }));
        assert!(matches!(error(301, ""), CrmError::HostMoved));
        for busy in [406, 408, 409, 420, 425, 502] {
            assert!(matches!(error(busy, "[]"), CrmError::Unavailable(_)), "{busy}");
        }
    }

    /// A record with those words in it is no move.
    #[test]
    fn record_with_those_words_is_no_move() {
        let page = br#"{"totalSize":1,"done":true,"records":[{"LastName":"Destination URL not reset"}]}"#;

        assert!(!says_moved(page) && !says_moved(b"") && says_moved(b"<p>Destination URL not reset</p>"));
    }

    #[test]
    fn words_that_lead_on_bring_the_servers_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 22 Nov 2026 09:22:20 GMT".parse().unwrap());

        for (code, word) in [
            ("QUERY_TIMEOUT", ErrorCode::QueryTimeout),
            ("INVALID_FIELD", ErrorCode::InvalidField),
            ("INVALID_TYPE", ErrorCode::InvalidType),
            ("INVALID_REPLICATION_DATE", ErrorCode::ReplicationDate),
            ("EXCEEDED_ID_LIMIT", ErrorCode::IdLimit),
        ] {
            let body = serde_json::json!([{"errorCode": code, "message": "m"}]).to_string();
            let RequestFailure::Vendor(said, Some(at)) = meaning(StatusCode::BAD_REQUEST, &headers, body.as_bytes())
            else {
                panic!("{code}")
            };
            assert_eq!((said, at.timestamp()), (word, 1_795_339_340), "{code}");
        }
    }

    #[test]
    fn a_time_to_wait_is_obeyed() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "17".parse().unwrap());

        let RequestFailure::Known(CrmError::RateLimited { retry_after }) =
            meaning(StatusCode::SERVICE_UNAVAILABLE, &headers, b"<html>")
        else {
            panic!("not a rate limit")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(17)));
    }

    #[test]
    fn what_salesforce_writes_is_in_no_error_text() {
        for (status, code) in
            [(400, "INVALID_FIELD"), (400, "MALFORMED_QUERY"), (403, "X"), (404, "NOT_FOUND"), (500, "X")]
        {
            let text = refused(status, code, "Ann Doe 4155551212").to_string();

            assert!(!text.contains("Ann") && !text.contains("4155551212"), "{text}");
        }
    }
}
