//! The one HTTP client: time limits, no redirects, bounded bodies, and no way to addresses that
//! tenants must not reach.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::{
    Client, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use thiserror::Error;
use tracing::{Instrument as _, field};

use super::{
    ConnectFailure, CrmError, ProviderEndpoint,
    addresses::{NameUnknown, NoPublicAddress, causes, usable},
};
use crate::{domain::provider::Provider, telemetry::metrics};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A page of 1,000 users can take a CRM many seconds to make, and longer to send: the whole may
/// take so many times what a silence may.
const TOTAL_PER_SILENCE: u32 = 3;
/// After decompression; a full page is about 2 MiB.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Of a refusal this much is read; vendors' have a few hundred bytes.
pub const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Of an answer with tokens, or about few records.
pub const SMALL_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What [`CrmError::TooMuch`] says of a body above the limit.
const TOO_LARGE: &str = "it is larger than 32 MiB";
/// No CRM asks for more; a lying header must not stop a sync for days.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Why there is no client.
#[derive(Debug, Error)]
#[error(
    "the HTTP client cannot be built; are the system's root certificates installed (Debian: apt-get install ca-certificates)?"
)]
pub struct HttpError(#[source] reqwest::Error);

/// Builds the client, which waits `silence_max` for the next byte and three times that for a whole
/// answer. For a vendor's hosts only public addresses are connected to, whatever the name resolves
/// to (a check before the connection could be answered differently from the connection's own
/// look-up).
pub fn build(endpoint: &ProviderEndpoint, silence_max: Duration) -> Result<Client, HttpError> {
    #[expect(clippy::disallowed_methods, reason = "the one place that builds HTTP clients")]
    let mut builder = Client::builder()
        .user_agent(concat!("contact-sync/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(silence_max)
        .timeout(silence_max * TOTAL_PER_SILENCE)
        .redirect(Policy::none())
        .pool_max_idle_per_host(4)
        .no_proxy();
    let only_public = *endpoint == ProviderEndpoint::Vendor;
    builder = builder.https_only(only_public).dns_resolver(Arc::new(VendorNames { only_public }));
    builder.build().map_err(HttpError)
}

struct VendorNames {
    only_public: bool,
}

impl Resolve for VendorNames {
    fn resolve(&self, name: Name) -> Resolving {
        let only_public = self.only_public;
        Box::pin(async move { Ok(Box::new(usable(name.as_str(), 0, only_public).await?.into_iter()) as Addrs) })
    }
}

/// Awaits what a request to this CRM leads to, up to the head of the answer, and counts it. An
/// error is told by what it means, and its causes are logged.
pub async fn counted(
    provider: Provider,
    sent: impl Future<Output = Result<Response, reqwest::Error>>,
) -> Result<Response, CrmError> {
    let started = Instant::now();
    let span =
        tracing::debug_span!("crm_request", otel.kind = "client", provider = provider.as_str(), outcome = field::Empty);
    let sent = sent.instrument(span.clone()).await;
    let outcome = match &sent {
        Ok(response) => match response.status() {
            StatusCode::TOO_MANY_REQUESTS => "limited",
            status if status.is_success() => "answered",
            status if status.is_server_error() => "failed",
            _ => "refused",
        },
        Err(error) if error.is_timeout() => "timed_out",
        Err(_) => "unreached",
    };
    span.record("outcome", outcome);
    metrics::crm_request_ended(provider.as_str(), outcome, started.elapsed());
    sent.map_err(|error| meaning_of(&error))
}

/// What became of sending a request. Logs the cause, which tells an unknown name from a closed port
/// or a refused certificate.
fn meaning_of(error: &reqwest::Error) -> CrmError {
    // The first text names the URL with its query; the causes below it do not.
    let below: Vec<String> = causes(error).skip(1).map(ToString::to_string).collect();
    tracing::warn!(error = below.join(": "), "a CRM could not be reached, or its connection broke");
    let host = error.url().and_then(|url| url.host_str()).unwrap_or_default().to_owned();
    if causes(error).any(<dyn std::error::Error>::is::<NoPublicAddress>) {
        CrmError::HostRefused
    } else if error.is_connect() {
        CrmError::NoConnection { host, why: why_no_connection(error) }
    } else if error.is_timeout() {
        CrmError::TimedOut { host }
    } else {
        CrmError::ConnectionBroke { host }
    }
}

fn why_no_connection(error: &reqwest::Error) -> ConnectFailure {
    // The connector wraps whatever ends its handshake in an error of its own, and nothing else.
    let is_tls = |cause: &(dyn std::error::Error + 'static)| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<io::Error>() || inner.is::<rustls::Error>())
    };
    if causes(error).any(<dyn std::error::Error>::is::<NameUnknown>) {
        ConnectFailure::Name
    } else if error.is_timeout() {
        ConnectFailure::Timeout
    } else if causes(error).any(is_tls) {
        ConnectFailure::Tls
    } else {
        ConnectFailure::Port
    }
}

/// Reads a page to its end, or to [`BODY_BYTES_MAX`].
pub async fn read_body(response: Response) -> Result<Vec<u8>, CrmError> {
    read_body_up_to(response, BODY_BYTES_MAX).await
}

/// Reads a body to its end; an error if it has more than so many bytes.
pub async fn read_body_up_to(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, CrmError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| body_error(&error))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(if bytes_max == BODY_BYTES_MAX {
                CrmError::TooMuch(TOO_LARGE)
            } else {
                CrmError::Unreadable("it is much larger than such answers are")
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The first [`REFUSAL_BYTES_MAX`] of a refusal. Its status says enough, if it breaks.
pub async fn read_refusal(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = REFUSAL_BYTES_MAX.saturating_sub(body.len());
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() >= REFUSAL_BYTES_MAX {
            break;
        }
    }
    body
}

/// The client calls every failure of a body "decode"; what lies below tells a broken connection
/// from broken compression.
fn body_error(error: &reqwest::Error) -> CrmError {
    let is_connection = |cause: &(dyn std::error::Error + 'static)| {
        let is_incomplete = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        is_incomplete || matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::TimedOut))
    };
    if error.is_decode() && !error.is_timeout() && !causes(error).any(is_connection) {
        return CrmError::Unreadable("its compression is broken");
    }
    meaning_of(error)
}

/// What a status means that every vendor uses alike; `None`: a success, or the vendor's own matter.
pub fn meaning_of_status(status: StatusCode, headers: &HeaderMap) -> Option<CrmError> {
    let retry_after = wait(headers, RETRY_AFTER.as_str());
    match status.as_u16() {
        429 => Some(CrmError::RateLimited { retry_after }),
        401 => Some(CrmError::CredentialsRefused),
        300..=399 => Some(CrmError::HostMoved),
        503 if retry_after.is_some() => Some(CrmError::RateLimited { retry_after }),
        408 | 409 | 425 => Some(CrmError::Unavailable("it asks to try again")),
        504 => Some(CrmError::TooMuch("a gateway on its side did not wait any longer")),
        500.. => Some(CrmError::Unavailable("server error")),
        _ => None,
    }
}

/// Whether an answer is a page for people, whatever its status: of a proxy, a firewall, a place for
/// maintenance. No API of these vendors speaks HTML, so it says nothing of credentials, permissions
/// or records.
pub fn is_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.to_ascii_lowercase().contains("html") || body.trim_ascii_start().starts_with(b"<")
}

/// What is said of such a page.
pub const PAGE: CrmError =
    CrmError::Unavailable("a page for people came instead of an answer, as of a proxy or a firewall");

/// The wait that a header asks for, at most an hour. Read as generously as servers write it (RFC
/// 9110 §10.2.3): seconds, also with a fraction; a date, against the answer's own clock; a list, of
/// which the longest counts. What cannot be read asks for nothing.
pub fn wait(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let waits = headers.get_all(name).iter().filter_map(|value| {
        let text = value.to_str().ok()?.trim();
        // A date has a comma of its own.
        http_date(text).map(|date| until(date, headers)).or_else(|| text.split(',').filter_map(seconds).max())
    });
    waits.max().map(|wait| wait.min(RETRY_AFTER_MAX))
}

fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    // More digits than fit are more than an hour.
    let seconds = whole.parse().unwrap_or(u64::MAX);
    let begun = u64::from(fraction.bytes().any(|b| b != b'0'));
    Some(Duration::from_secs(seconds.saturating_add(begun)))
}

/// The three forms of RFC 9110 §5.6.7.
fn http_date(text: &str) -> Option<DateTime<Utc>> {
    let rfc_850 = |text: &str| NaiveDateTime::parse_from_str(text, "%A, %d-%b-%y %H:%M:%S GMT").ok();
    let asctime = |text: &str| NaiveDateTime::parse_from_str(text, "%a %b %e %H:%M:%S %Y").ok();
    let fixdate = || DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc());
    fixdate().or_else(|| rfc_850(text).or_else(|| asctime(text)).map(|date| date.and_utc()))
}

fn until(date: DateTime<Utc>, headers: &HeaderMap) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "an answer without a clock of its own; what comes of it is bounded")]
    let now = server_time(headers).unwrap_or_else(Utc::now);
    (date - now).to_std().unwrap_or_default()
}

/// The server's clock (RFC 9110 §6.6.1).
pub fn server_time(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(text).ok()?.to_utc())
}

/// The same of an answer that is of no use without it.
pub fn answered_at(headers: &HeaderMap) -> Result<DateTime<Utc>, CrmError> {
    server_time(headers).ok_or(CrmError::Unreadable("it does not say when it was made: it has no Date header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUNDAY: (&str, &str) = ("date", "Sun, 22 Nov 2026 09:00:00 GMT");

    fn waits(pairs: &[(&str, &str)]) -> Option<Duration> {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (name.parse::<reqwest::header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        wait(&headers, RETRY_AFTER.as_str())
    }

    /// A wait is read in every form that servers write.
    #[test]
    fn wait_is_read_in_every_written_form() {
        for (text, asked) in [
            ("17", Some(17)),
            (" 12 ", Some(12)),
            ("0", Some(0)),
            ("1.5", Some(2)),
            ("2.000", Some(2)),
            ("50, 53", Some(53)),
            ("53,50", Some(53)),
            ("soon, 7", Some(7)),
            ("Sun, 22 Nov 2026 09:02:00 GMT", Some(120)),
            ("Sunday, 22-Nov-26 09:02:00 GMT", Some(120)),
            ("Sun Nov 22 09:02:00 2026", Some(120)),
            ("Sun, 22 Nov 2026 08:00:00 GMT", Some(0)),
            ("Sat, 22 Nov 2036 09:00:00 GMT", Some(3_600)),
            ("99999999", Some(3_600)),
            ("99999999999999999999999", Some(3_600)),
            ("-5", None),
            ("+5", None),
            ("", None),
            ("1e3", None),
            ("soon", None),
            ("Sun, 99 Nov 2026 09:02:00 GMT", None),
        ] {
            assert_eq!(waits(&[SUNDAY, ("retry-after", text)]), asked.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(waits(&[("retry-after", "5"), ("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(waits(&[SUNDAY]), None);
    }

    /// A date without the server's clock is held against ours.
    #[test]
    fn date_without_servers_clock_uses_ours() {
        assert_eq!(waits(&[("retry-after", "Sun, 22 Nov 2015 09:02:00 GMT")]), Some(Duration::ZERO));
        assert_eq!(waits(&[("retry-after", "Sun, 22 Nov 2099 09:02:00 GMT")]), Some(Duration::from_hours(1)));
    }

    /// A page of HTML is known by its type, or by its first character.
    #[test]
    fn page_is_known_by_type_or_first_character() {
        let html: HeaderMap = [(CONTENT_TYPE, "Text/HTML; charset=UTF-8".parse().unwrap())].into_iter().collect();

        assert!(is_page(&html, b"denied") && is_page(&HeaderMap::new(), b" \n<!DOCTYPE html>"));
        assert!(!is_page(&HeaderMap::new(), br#"{"error":"<b>"}"#) && !is_page(&HeaderMap::new(), b""));
    }

    #[test]
    fn server_time_is_the_date_header() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 22 Nov 2026 09:22:20 GMT".parse().unwrap());

        assert_eq!(server_time(&headers).unwrap().to_rfc3339(), "2026-11-22T09:22:20+00:00");
    }
}
