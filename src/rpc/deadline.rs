//! How long a call may take: the sooner of the client's `grpc-timeout` and the method's own limit.
//! Handlers read it to bound what they wait for; the gate drops a handler, and ends a stream, when
//! the time has come. (tonic's own timeout only drops the handler: it tells it nothing, ignores a
//! header it cannot read and answers CANCELLED.)

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::{Request, Status};

use super::status;

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// For a request that came past no gate, as in a handler's own test.
const UNBOUNDED_MAX: Duration = Duration::from_secs(10);

/// When the answer must be on its way. In the extensions of every request that the gate lets
/// through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallDeadline(Instant);

impl CallDeadline {
    /// The moment itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// What is left of it; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// The deadline of this request: what a handler gives to whatever it waits for.
pub fn deadline<T>(request: &Request<T>) -> CallDeadline {
    request.extensions().get().copied().unwrap_or_else(|| CallDeadline(Instant::now() + UNBOUNDED_MAX))
}

/// The deadline of a call that arrived at this instant. `None`: neither side sets one.
/// `INVALID_ARGUMENT` if the client's timeout cannot be read: to guess one would cut its call short
/// or work for nobody.
pub(crate) fn deadline_of(
    headers: &HeaderMap,
    time_max: Option<Duration>,
    arrived: Instant,
) -> Result<Option<CallDeadline>, Status> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    let asked = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => Some(parse_timeout(value).ok_or_else(unreadable)?),
        (Some(_), Some(_)) => return Err(unreadable()),
    };
    let allowed = match (asked, time_max) {
        (Some(asked), Some(max)) => Some(asked.min(max)),
        (asked, max) => asked.or(max),
    };
    // The longest timeout that can be written is 11,400 years: an instant that far away may not
    // exist on this system.
    Ok(allowed.and_then(|allowed| arrived.checked_add(allowed)).map(CallDeadline))
}

fn unreadable() -> Status {
    status::invalid(GRPC_TIMEOUT, "must be 1 to 8 digits and one of the units H, M, S, m, u, n")
}

/// `TimeoutValue TimeoutUnit` of the gRPC protocol over HTTP/2. Zero is not positive, yet some
/// clients send it for "too late".
fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(GRPC_TIMEOUT, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_timeout_is_read_in_every_unit() {
        for (text, expected) in [
            ("1H", Duration::from_hours(1)),
            ("2M", Duration::from_mins(2)),
            ("3S", Duration::from_secs(3)),
            ("300m", Duration::from_millis(300)),
            ("00000250u", Duration::from_micros(250)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse_timeout(&text.parse().unwrap()), Some(expected), "{text}");
        }
    }

    #[test]
    fn an_unreadable_timeout_is_an_invalid_argument() {
        let now = Instant::now();

        for text in ["", "S", "1", "1s", "+1S", "-1S", "1.5S", " 1S", "123456789S", "1 S", "١S"] {
            let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) else { continue };
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, value);
            let refused = deadline_of(&headers, Some(Duration::from_secs(2)), now).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{text:?}");
        }
        assert!(deadline_of(&headers(&["1S", "2S"]), None, now).is_err());
    }

    #[test]
    fn the_sooner_of_client_and_server_counts() {
        let now = Instant::now();
        let two = Some(Duration::from_secs(2));
        let at = |headers: &HeaderMap, max| deadline_of(headers, max, now).unwrap().map(|d| d.instant() - now);

        assert_eq!(at(&headers(&["300m"]), two), Some(Duration::from_millis(300)));
        assert_eq!(at(&headers(&["1H"]), two), two);
        assert_eq!(at(&headers(&[]), two), two);
        assert_eq!(at(&headers(&["1S"]), None), Some(Duration::from_secs(1)));
        assert_eq!(at(&headers(&[]), None), None);
        assert_eq!(at(&headers(&["99999999H"]), two), two);
    }
}
