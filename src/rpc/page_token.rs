//! Page tokens and page sizes of every List call. A token is opaque to the client, bound to its
//! method and filter, and holds the last key of the page before. It is not signed: its key only
//! ever becomes a bound parameter beside the authorised account, so a forged one shows nothing that
//! the caller could not list anyway.

use std::str::FromStr;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::status;

/// Longest token that is read, in bytes; what `encode` makes of ids and times stays well below.
pub(super) const TOKEN_BYTES_MAX: usize = 512;
/// Entries of a page if the request says 0.
pub(super) const PAGE_SIZE_DEFAULT: usize = 50;
/// Most entries of a page; a larger wish is lowered to this (AIP-158).
pub(super) const PAGE_SIZE_MAX: usize = 200;

/// Changes with the token's content: a token of another version is refused, and the client starts
/// its listing again.
const VERSION: u8 = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    v: u8,
    m: String,
    f: String,
    k: Vec<String>,
}

/// The token of the page after the one that ended with this key. `filter` is everything that
/// decides what is listed: the account's id first, then each filter field of the request.
pub(super) fn encode(method: &str, filter: &[&str], key: &[&str]) -> String {
    let json = json!({"v": VERSION, "m": method, "f": fingerprint(filter), "k": key});
    let text = BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    debug_assert!(text.len() <= TOKEN_BYTES_MAX, "a page's key is ids and times only");
    text
}

/// The key that the page before ended with; `None` for the first page (an empty token).
/// `INVALID_ARGUMENT` naming `page_token` if it is not a token of this method with this filter. The
/// parts of the key are what a client sent: parse them again, and refuse them with the same error.
pub(super) fn decode(method: &str, filter: &[&str], token: &str) -> Result<Option<Vec<String>>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(refused());
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| refused())?;
    let token: Token = serde_json::from_slice(&json).map_err(|_| refused())?;
    if token.v != VERSION || token.m != method || token.f != fingerprint(filter) {
        return Err(refused());
    }
    Ok(Some(token.k))
}

/// The same for a listing that goes on behind an id.
pub(super) fn decode_id<T: FromStr>(method: &str, filter: &[&str], token: &str) -> Result<Option<T>, Status> {
    let key = decode(method, filter, token)?;
    key.map(|key| key.first().and_then(|id| id.parse().ok()).ok_or_else(refused)).transpose()
}

/// The error for a token that is none, or not of this listing.
pub(super) fn refused() -> Status {
    status::invalid("page_token", "must be the next_page_token of the same call with the same filter, or empty")
}

/// How many entries a page has: 0 is 50, more than 200 is 200. `INVALID_ARGUMENT` if negative.
pub(super) fn page_size(wished: i32) -> Result<usize, Status> {
    match usize::try_from(wished) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(status::invalid("page_size", "must not be negative; 0 means 50, and above 200 means 200")),
    }
}

/// Tells two filters apart without holding them: 64 bits of SHA-256 over the parts with their
/// lengths.
fn fingerprint(filter: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in filter {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;

    const ACCOUNT: &str = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";

    fn assert_refused(result: Result<Option<Vec<String>>, Status>) {
        let status = result.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("page_token: "));
    }

    /// A token gives its key back, and an empty one the first page.
    #[test]
    fn token_returns_key_empty_gives_first_page() {
        let token = encode("ListContacts", &[ACCOUNT, ""], &["2026-11-22T00:00:00.000001Z", ACCOUNT]);

        assert!(token.len() <= TOKEN_BYTES_MAX / 2);
        assert_eq!(
            decode("ListContacts", &[ACCOUNT, ""], &token).unwrap().unwrap(),
            ["2026-11-22T00:00:00.000001Z", ACCOUNT]
        );
        assert_eq!(decode("ListContacts", &[ACCOUNT, ""], "").unwrap(), None);
    }

    /// A token of another method, account, filter or version is refused.
    #[test]
    fn token_of_other_list_is_refused() {
        let token = encode("ListContacts", &[ACCOUNT, "+1"], &["a"]);
        let other_version = BASE64_URL_SAFE_NO_PAD
            .encode(json!({"v": VERSION + 1, "m": "M", "f": fingerprint(&[]), "k": []}).to_string());

        assert_refused(decode("ListSyncRuns", &[ACCOUNT, "+1"], &token));
        assert_refused(decode("ListContacts", &["another", "+1"], &token));
        assert_refused(decode("ListContacts", &[ACCOUNT, "+2"], &token));
        assert_refused(decode("ListContacts", &[ACCOUNT], &token));
        assert_refused(decode("M", &[], &other_version));
    }

    /// The parts of a filter do not run together.
    #[test]
    fn filter_parts_never_run_together() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_ne!(fingerprint(&["a"]), fingerprint(&["a", ""]));
    }

    /// A token that is too long is refused before it is read.
    #[test]
    fn too_long_token_is_refused_unread() {
        assert_refused(decode("M", &[], &"A".repeat(TOKEN_BYTES_MAX + 1)));
    }

    /// A page has fifty entries unless it is said, and never more than two hundred.
    #[test]
    fn page_defaults_to_fifty_at_most_two_hundred() {
        assert_eq!(page_size(0).unwrap(), 50);
        assert_eq!(page_size(1).unwrap(), 1);
        assert_eq!(page_size(200).unwrap(), 200);
        assert_eq!(page_size(i32::MAX).unwrap(), 200);
        assert_eq!(page_size(-1).unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(page_size(i32::MIN).unwrap_err().code(), Code::InvalidArgument);
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_never_panics(token in "[ -~]{1,600}") {
            assert_refused(decode("M", &[], &token));
        }
    }
}
