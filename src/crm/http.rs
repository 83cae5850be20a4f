//! The one HTTP client: time limits, no redirects, bounded bodies, and no way to addresses that tenants must not reach.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use reqwest::{
    Client, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{DATE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use thiserror::Error;

use super::CrmError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A page of 1,000 users can take a CRM many seconds to make, and longer to send: the whole may take so many times what a silence may.
const TOTAL_PER_SILENCE: u32 = 3;
/// After decompression; a full page is about 2 MiB.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What [`CrmError::Unreadable`] says of a body above the limit; a smaller page may be asked for then.
pub const TOO_LARGE: &str = "it is larger than 32 MiB";
/// No CRM asks for more; a lying header must not stop a sync for days.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Why there is no client.
#[derive(Debug, Error)]
#[error(
    "the HTTP client cannot be built; are the system's root certificates installed (Debian: apt-get install ca-certificates)?"
)]
pub struct HttpError(#[source] reqwest::Error);

/// Where a provider is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The vendor's own host, made from the organisation's label.
    Vendor,
    /// Where the operator points it: a simulator or a proxy. May contain `{subdomain}`.
    Operator(String),
}

/// Builds the client, which waits `silence_max` for the next byte and three times that for a whole answer. For a vendor's hosts only public addresses are connected to, whatever the name resolves to
/// (a check before the connection could be answered differently from the connection's own look-up).
pub fn build(endpoint: &Endpoint, silence_max: Duration) -> Result<Client, HttpError> {
    #[expect(clippy::disallowed_methods, reason = "the one place that builds HTTP clients")]
    let mut builder = Client::builder()
        .user_agent(concat!("contact-sync/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(silence_max)
        .timeout(silence_max * TOTAL_PER_SILENCE)
        .redirect(Policy::none())
        .pool_max_idle_per_host(4)
        .no_proxy();
    if *endpoint == Endpoint::Vendor {
        builder = builder.https_only(true).dns_resolver(Arc::new(PublicOnly));
    }
    builder.build().map_err(HttpError)
}

struct PublicOnly;

#[derive(Debug, Error)]
#[error("resolves to no public address")]
struct NoPublicAddress;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(NoPublicAddress.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Addresses that may be a vendor's: not loopback, private, link-local, shared (RFC 6598), documentation, benchmarking, multicast,
/// reserved, nor an IPv6 form that leads to one of those (mapped, NAT64, 6to4, Teredo).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_benchmark = a == 198 && (b == 18 || b == 19);
    let is_protocol = a == 192 && b == 0 && c == 0;
    let is_relay = a == 192 && b == 88 && c == 99;
    !(v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_documentation()
        || a == 0
        || a >= 240
        || is_shared
        || is_benchmark
        || is_protocol
        || is_relay)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    // 2000::/3 is all that is assigned to hosts (IANA); the rest of this list lies within it.
    let is_global_unicast = segments[0] & 0xe000 == 0x2000;
    let is_special = segments[0] == 0x2001 && segments[1] < 0x0200;
    let is_documentation = (segments[0] == 0x2001 && segments[1] == 0x0db8) || segments[0] & 0xfff0 == 0x3ff0;
    let is_6to4 = segments[0] == 0x2002;
    is_global_unicast && !is_special && !is_documentation && !is_6to4
}

/// What became of sending a request. Logs the cause, which tells an unknown name from a closed port or a refused certificate.
pub fn meaning_of(error: &reqwest::Error) -> CrmError {
    // The first text names the URL with its query; the causes below it do not.
    let below: Vec<String> = causes(error).skip(1).map(ToString::to_string).collect();
    tracing::warn!(error = below.join(": "), "a CRM could not be reached, or its connection broke");
    if causes(error).any(<dyn std::error::Error>::is::<NoPublicAddress>) {
        CrmError::HostRefused
    } else if error.is_timeout() {
        CrmError::Unavailable("it did not answer in time")
    } else if error.is_connect() {
        CrmError::Unavailable("no connection")
    } else {
        CrmError::Unavailable("the connection broke")
    }
}

/// Reads a body to its end, or to the limit.
pub async fn read_body(mut response: Response) -> Result<Vec<u8>, CrmError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| body_error(&error))? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(CrmError::Unreadable(TOO_LARGE));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The client calls every failure of a body "decode"; what lies below tells a broken connection from broken compression.
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

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// What a status means that every vendor uses alike; `None`: a success, or the vendor's own matter.
pub fn meaning_of_status(status: StatusCode, headers: &HeaderMap) -> Option<CrmError> {
    let retry_after = seconds(headers, RETRY_AFTER.as_str());
    match status.as_u16() {
        429 => Some(CrmError::RateLimited { retry_after }),
        401 => Some(CrmError::CredentialsRefused),
        300..=399 => Some(CrmError::Unreadable("it sends elsewhere; redirects are not followed")),
        503 if retry_after.is_some() => Some(CrmError::RateLimited { retry_after }),
        408 | 409 | 425 => Some(CrmError::Unavailable("it asks to try again")),
        500.. => Some(CrmError::Unavailable("server error")),
        _ => None,
    }
}

/// A wait that this header gives in seconds, at most an hour. `Retry-After` (RFC 9110 §10.2.3) has a form with a date too, which
/// these vendors do not use.
pub fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let seconds: u64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The server's clock (RFC 9110 §6.6.1).
pub fn server_time(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(text).ok()?.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_connected_to() {
        for private in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.88.99.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "100::1",
            "::7f00:1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in
            ["8.8.8.8", "104.16.51.111", "172.32.0.1", "100.128.0.1", "2606:4700::6810:336f", "2a00:1450:4001::1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_lying_retry_after_stops_a_sync_for_an_hour_at_most() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "99999999".parse().unwrap());

        assert_eq!(seconds(&headers, RETRY_AFTER.as_str()), Some(Duration::from_hours(1)));
    }

    #[test]
    fn server_time_is_the_date_header() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 22 Nov 2026 09:22:20 GMT".parse().unwrap());

        assert_eq!(server_time(&headers).unwrap().to_rfc3339(), "2026-11-22T09:22:20+00:00");
    }
}
