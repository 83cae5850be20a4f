//! What a verified token says: reads the claims of a JWT (RFC 7519) as identity providers write
//! them, and says which one is wrong. Pure; the signature was checked before.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::methods::TokenScope;
use crate::domain::ids::AccountId;

/// How far the clocks of issuer and server may be apart.
const LEEWAY: TimeDelta = TimeDelta::seconds(30);
/// Longest subject, in bytes.
const SUBJECT_BYTES_MAX: usize = 256;

/// What tokens must say, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be or hold.
    pub audience: String,
    /// The claim that names accounts.
    pub accounts_claim: String,
    /// The claim that names scopes; `None`: `scope` (RFC 8693 §4.2), or `scp` where there is none
    /// (Okta, Entra).
    pub scopes_claim: Option<String>,
}

/// The accounts that a token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenAccounts {
    /// `"*"`: every account there is or will be.
    All,
    /// These, and no others.
    Listed(HashSet<AccountId>),
}

/// A claim that is not as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongClaim {
    /// `iss`.
    #[error("the token is of another issuer")]
    Issuer,
    /// `aud`.
    #[error("the token is for another audience")]
    Audience,
    /// `nbf`.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `exp`.
    #[error("the token has expired")]
    Expired,
    /// Not there, or not of its form: `sub`, `exp`, `nbf`, or what is named here `accounts` or
    /// `scopes`, whatever it is called in the token.
    #[error("the token's {0} cannot be read")]
    Unreadable(&'static str),
}

/// What a token says, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenClaims {
    pub(super) subject: String,
    pub(super) accounts: TokenAccounts,
    pub(super) scopes: HashSet<TokenScope>,
    /// With the leeway.
    pub(super) expires_at: DateTime<Utc>,
}

impl TokenRules {
    /// Tokens of this issuer for this audience, with claims by their usual names.
    pub fn new(issuer: &str, audience: &str) -> Self {
        let (issuer, audience) = (issuer.to_owned(), audience.to_owned());
        Self { issuer, audience, accounts_claim: "accounts".to_owned(), scopes_claim: None }
    }

    /// What this token says. Scopes of other services may stand beside ours; a token that names no
    /// accounts or no scopes opens none.
    pub(super) fn read(&self, claims: &Map<String, Value>, now: DateTime<Utc>) -> Result<TokenClaims, WrongClaim> {
        let claim = |name: &str| claims.get(name).filter(|value| !value.is_null());
        if claim("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(WrongClaim::Issuer);
        }
        if !claim("aud").and_then(words_of).is_some_and(|words| words.contains(&&*self.audience)) {
            return Err(WrongClaim::Audience);
        }
        let subject = claim("sub").and_then(Value::as_str).unwrap_or_default();
        if !(1..=SUBJECT_BYTES_MAX).contains(&subject.len()) {
            return Err(WrongClaim::Unreadable("sub"));
        }
        let time = |name: &'static str, value| time_of(value).ok_or(WrongClaim::Unreadable(name));
        let not_before = claim("nbf").map(|value| time("nbf", value)).transpose()?;
        let expires_at = time("exp", claim("exp").unwrap_or(&Value::Null))? + LEEWAY;
        if not_before.is_some_and(|not_before| now < not_before - LEEWAY) {
            return Err(WrongClaim::NotYetValid);
        }
        if now >= expires_at {
            return Err(WrongClaim::Expired);
        }
        let scopes = match &self.scopes_claim {
            Some(name) => claim(name),
            None => claim("scope").or_else(|| claim("scp")),
        };
        Ok(TokenClaims {
            subject: subject.to_owned(),
            accounts: accounts_of(claim(&self.accounts_claim)).ok_or(WrongClaim::Unreadable("accounts"))?,
            scopes: scopes_of(scopes).ok_or(WrongClaim::Unreadable("scopes"))?,
            expires_at,
        })
    }
}

/// A text, or a list of texts.
fn words_of(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(word) => Some(vec![word]),
        Value::Array(words) => words.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// A list beside `*` is a mistake that would open more than was meant.
fn accounts_of(claim: Option<&Value>) -> Option<TokenAccounts> {
    let words = claim.map_or(Some(Vec::new()), words_of)?;
    if words == ["*"] {
        return Some(TokenAccounts::All);
    }
    words.iter().map(|word| word.parse().ok()).collect::<Option<_>>().map(TokenAccounts::Listed)
}

fn scopes_of(claim: Option<&Value>) -> Option<HashSet<TokenScope>> {
    let words = claim.map_or(Some(Vec::new()), words_of)?;
    let scopes = words.iter().flat_map(|words| words.split_ascii_whitespace());
    Some(scopes.filter_map(|scope| scope.parse().ok()).collect())
}

/// Seconds since 1970, whole or not (RFC 7519 §2).
fn time_of(value: &Value) -> Option<DateTime<Utc>> {
    let since_epoch = std::time::Duration::try_from_secs_f64(value.as_f64()?).ok()?;
    let time = DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::from_std(since_epoch).ok()?)?;
    // Room for the leeway on either side.
    (time < DateTime::<Utc>::MAX_UTC - TimeDelta::days(1)).then_some(time)
}
