//! Who calls, and for which accounts: verifies bearer JWTs (RFC 7519) against configured keys and
//! makes the `TokenHolder`, whose `authorize` is the only way from a request to an `AccountId`.
//! Keys come from the JWKS alone: what a token says about keys (jku, x5u, jwk) is refused, its
//! algorithm must be its key's. Nothing here tells a caller whether an account exists, and no token
//! or claim is ever logged.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use http::{HeaderMap, header::AUTHORIZATION};
use jsonwebtoken::{Header, Validation, decode, decode_header};
use moka::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tonic::Status;

use super::{
    claims::{TokenAccounts, TokenRules, WrongClaim},
    jwks::{JwksError, KeySet, VerifyingJwk},
    methods::{MethodAccess, MethodRule, TokenScope},
    status,
};
use crate::{
    domain::{audit::NO_ACCOUNT, clock::Clock, ids::AccountId},
    key_source::EarlyLook,
    telemetry::metrics,
};

/// Longest token, in bytes; all headers of a request together have 16 KiB.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Most verified tokens remembered.
const CACHED_TOKENS_MAX: u64 = 10_000;

/// Somebody whose token was verified. In the extensions of every request that needs a scope.
#[derive(PartialEq, Eq)]
pub struct TokenHolder {
    subject: Arc<str>,
    logged_subject: Arc<str>,
    accounts: TokenAccounts,
    scopes: HashSet<TokenScope>,
}

impl TokenHolder {
    /// The claim `sub`, at most 256 bytes. It may name a person: not for logs.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The subject as logs and audit events may hold it: itself, or, if it has an `@` (an address)
    /// or a character that no log should have, `sha256:` and the first 16 hex digits of its hash.
    pub const fn logged_subject(&self) -> &Arc<str> {
        &self.logged_subject
    }

    /// What the token says of accounts; for listing them. A request's own account goes through
    /// `authorize`.
    pub fn accounts(&self) -> &TokenAccounts {
        &self.accounts
    }

    /// Whether the token has this scope.
    pub fn has(&self, scope: TokenScope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Whether the token has any of these.
    pub(super) fn has_any(&self, scopes: &[TokenScope]) -> bool {
        scopes.iter().any(|scope| self.has(*scope))
    }

    /// The account that a request names. `INVALID_ARGUMENT` if the text is no UUID; `NOT_FOUND`
    /// `ACCOUNT_NOT_FOUND`, exactly as for an account that does not exist, if it is none of the
    /// caller's; nobody lists the nil UUID, under which the audit has what belongs to no account.
    /// Also notes the account in the request's span.
    pub fn authorize(&self, account_id: &str) -> Result<AccountId, Status> {
        let account_id: AccountId = account_id.parse().map_err(|_| status::invalid("account_id", "must be a UUID"))?;
        match &self.accounts {
            TokenAccounts::All => {}
            TokenAccounts::Listed(ids) if ids.contains(&account_id) && account_id != NO_ACCOUNT => {}
            TokenAccounts::Listed(_) => return Err(status::account_not_found()),
        }
        tracing::Span::current().record("account.id", tracing::field::display(account_id));
        Ok(account_id)
    }

    /// Whose share of the room its calls are. A token of all accounts (the router's) has no share
    /// of its own: it speaks for many customers, and each of those has one.
    pub(super) fn share(&self) -> Option<&Arc<str>> {
        match self.accounts {
            TokenAccounts::All => None,
            TokenAccounts::Listed(_) => Some(&self.subject),
        }
    }

    /// The same for messages that are still being read: nobody knows yet which accounts they are
    /// for.
    pub(super) fn reading_share(&self) -> &Arc<str> {
        &self.subject
    }
}

/// A subject may be a person's e-mail address.
impl fmt::Debug for TokenHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenHolder")
            .field("subject", &"[redacted]")
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// Why a token was not accepted. Of one whose signature is good the caller is told which claim is
/// wrong; of any other, no more than that it is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// No `authorization` header, or not of the scheme Bearer.
    #[error("a bearer token is required in the authorization header")]
    Missing,
    /// Not one of ours in form, key or signature. What is wrong is for the log.
    #[error("the token is not accepted")]
    Invalid(&'static str),
    /// It names a key that is not in the key set, or not for its algorithm.
    #[error("the token is not accepted")]
    UnknownKey,
    /// A claim.
    #[error(transparent)]
    Claim(#[from] WrongClaim),
}

impl TokenRefused {
    /// What the caller is told, and what is counted.
    const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "TOKEN_MISSING",
            Self::Invalid(_) | Self::UnknownKey => "TOKEN_INVALID",
            Self::Claim(WrongClaim::Issuer) => "TOKEN_OF_OTHER_ISSUER",
            Self::Claim(WrongClaim::Audience) => "TOKEN_FOR_OTHER_AUDIENCE",
            Self::Claim(WrongClaim::NotYetValid) => "TOKEN_NOT_YET_VALID",
            Self::Claim(WrongClaim::Expired) => "TOKEN_EXPIRED",
            Self::Claim(WrongClaim::Unreadable(_)) => "TOKEN_CLAIM_INVALID",
        }
    }

    /// For the log of whoever runs the server; nothing of the token is in it.
    fn cause(&self) -> String {
        match self {
            Self::Invalid(cause) => (*cause).to_owned(),
            Self::UnknownKey => "no key of the key set has its kid and its algorithm".to_owned(),
            Self::Missing | Self::Claim(_) => self.to_string(),
        }
    }
}

impl From<TokenRefused> for Status {
    fn from(refused: TokenRefused) -> Self {
        status::unauthenticated(refused.reason(), &refused.to_string())
    }
}

/// A verified token, remembered by its hash.
#[derive(Clone)]
struct Verified {
    caller: Arc<TokenHolder>,
    expires_at: DateTime<Utc>,
}

/// The keys, and the tokens that were verified with them: other keys know none of these.
struct TrustedKeys {
    set: KeySet,
    verified: Cache<[u8; 32], Verified>,
}

impl TrustedKeys {
    fn parse(jwks_json: &str) -> Result<Arc<Self>, JwksError> {
        Ok(Arc::new(Self { set: KeySet::parse(jwks_json)?, verified: Cache::new(CACHED_TOKENS_MAX) }))
    }
}

/// Verifies tokens of one issuer for one audience.
pub struct TokenVerifier {
    keys: RwLock<Arc<TrustedKeys>>,
    rules: TokenRules,
    clock: Arc<dyn Clock>,
    early_look: Option<EarlyLook>,
}

impl TokenVerifier {
    /// Reads the keys (RFC 7517). Fails if the set cannot be read, holds no usable key, a weak one,
    /// or a private one.
    pub fn new(jwks_json: &str, rules: TokenRules, clock: Arc<dyn Clock>) -> Result<Self, JwksError> {
        crate::jwt::install();
        Ok(Self { keys: RwLock::new(TrustedKeys::parse(jwks_json)?), rules, clock, early_look: None })
    }

    /// Has the key set read at once when a request names a key that is not in it: an issuer may
    /// sign with a key as soon as it publishes it.
    #[must_use]
    pub fn looking_early(mut self, early_look: EarlyLook) -> Self {
        self.early_look = Some(early_look);
        self
    }

    /// From now on these keys are trusted, and no others. Fails like [`TokenVerifier::new`], and
    /// then those of before stay.
    pub fn replace_keys(&self, jwks_json: &str) -> Result<(), JwksError> {
        let keys = TrustedKeys::parse(jwks_json)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn keys(&self) -> Arc<TrustedKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides on one request: `None` for a method that is open to all, the caller if the token has
    /// one of the method's scopes. `method` is the table's entry; one that is not in it is
    /// UNIMPLEMENTED, to anybody: what is served stands in the proto files, and clients fall back
    /// by this code.
    pub(crate) async fn admit(
        &self,
        method: Option<&MethodRule>,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<TokenHolder>>, Status> {
        let needed = match method.map(|method| method.access) {
            Some(MethodAccess::Open) => return Ok(None),
            Some(MethodAccess::AnyOf(scopes)) => scopes,
            None => return Err(status::method_not_served()),
        };
        let verified = match bearer_token(headers) {
            Ok(token) => self.verify_or_look(token).await,
            Err(refused) => Err(refused),
        };
        let caller = verified.inspect_err(|refused| {
            metrics::token_refused(refused.reason());
            tracing::warn!(cause = refused.cause(), "a token was refused");
        })?;
        if !caller.has_any(needed) {
            return Err(status::scope_missing(needed, None));
        }
        Ok(Some(caller))
    }

    /// Who calls, if the token is good, whatever it may do.
    pub(crate) fn find_holder(&self, headers: &HeaderMap) -> Option<Arc<TokenHolder>> {
        bearer_token(headers).ok().and_then(|token| self.verify(token).ok())
    }

    /// As [`TokenVerifier::verify`]; one that names an unknown key has the key set read, and waits
    /// for it, a second at most.
    async fn verify_or_look(&self, token: &str) -> Result<Arc<TokenHolder>, TokenRefused> {
        match (self.verify(token), &self.early_look) {
            (Err(TokenRefused::UnknownKey), Some(early)) if early.look().await => self.verify(token),
            (verified, _) => verified,
        }
    }

    /// The caller behind a token. A token that was verified before costs one hash, until it
    /// expires.
    pub fn verify(&self, token: &str) -> Result<Arc<TokenHolder>, TokenRefused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefused::Invalid("it is longer than 8 KiB"));
        }
        let now = self.clock.now();
        let hash: [u8; 32] = Sha256::digest(token).into();
        let keys = self.keys();
        if let Some(known) = keys.verified.get(&hash) {
            if now < known.expires_at {
                return Ok(known.caller);
            }
            keys.verified.invalidate(&hash);
            return Err(WrongClaim::Expired.into());
        }
        let verified = self.verify_new(&keys.set, token, now)?;
        keys.verified.insert(hash, verified.clone());
        Ok(verified.caller)
    }

    fn verify_new(&self, keys: &KeySet, token: &str, now: DateTime<Utc>) -> Result<Verified, TokenRefused> {
        let header = decode_header(token).map_err(|_| TokenRefused::Invalid("it is no JWT"))?;
        if !is_plain(&header) {
            return Err(TokenRefused::Invalid("its header brings a key, an extension, or another kind of token"));
        }
        let mut keys = keys.candidates(header.alg, header.kid.as_deref()).peekable();
        if keys.peek().is_none() {
            return Err(match header.kid {
                Some(_) => TokenRefused::UnknownKey,
                None => TokenRefused::Invalid("it names no key, and no key of the key set is for its algorithm"),
            });
        }
        let claims = keys.find_map(|key| claims_signed_with(key, token));
        let claims = claims.ok_or(TokenRefused::Invalid("its signature is not of the key that it names"))?;
        let claims = self.rules.read(&claims, now)?;
        let subject: Arc<str> = claims.subject.into();
        let logged_subject = logged(&subject);
        let caller = TokenHolder { subject, logged_subject, accounts: claims.accounts, scopes: claims.scopes };
        Ok(Verified { caller: Arc::new(caller), expires_at: claims.expires_at })
    }
}

/// A subject as it may be logged. The hash of an address is no secret: who knows the address finds
/// it again.
fn logged(subject: &Arc<str>) -> Arc<str> {
    if !subject.contains(|c: char| c == '@' || c.is_control()) {
        return Arc::clone(subject);
    }
    let hash: [u8; 32] = Sha256::digest(subject.as_bytes()).into();
    let hex = hash.iter().take(8).fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    hex.into()
}

/// One `authorization` header of the scheme Bearer (RFC 6750; the scheme's case does not count).
fn bearer_token(headers: &HeaderMap) -> Result<&str, TokenRefused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenRefused::Missing)?;
    if values.next().is_some() {
        return Err(TokenRefused::Invalid("there are two authorization headers"));
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(TokenRefused::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(TokenRefused::Missing);
    }
    Ok(token.trim_start_matches(' '))
}

/// No header that asks us to fetch a key, to trust one in the token, or to understand an extension
/// (RFC 7515 §4.1); and no other kind of token, such as an ID token's `logout+jwt` (RFC 8725
/// §3.11).
fn is_plain(header: &Header) -> bool {
    let kind = header.typ.as_deref().unwrap_or("JWT");
    header.jku.is_none()
        && header.jwk.is_none()
        && header.x5u.is_none()
        && header.x5c.is_none()
        && header.crit.is_none()
        && ["JWT", "at+jwt", "application/at+jwt"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}

/// The claims, if this key signed them. Only the signature is checked here: the library asks the
/// operating system for the time.
fn claims_signed_with(key: &VerifyingJwk, token: &str) -> Option<Map<String, Value>> {
    let mut signature_only = Validation::new(key.algorithm);
    signature_only.required_spec_claims = HashSet::new();
    signature_only.validate_exp = false;
    signature_only.validate_nbf = false;
    signature_only.validate_aud = false;
    decode(token, &key.verifying, &signature_only).ok().map(|decoded| decoded.claims)
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
