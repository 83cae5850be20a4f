//! The tokens that a simulated vendor gives out: authorization codes, access tokens, refresh
//! tokens. Owns: what each is bound to, how long it lives, what ends it, and how often tokens were
//! asked for. Invariant: a code and a rotated refresh token work once; one seed and one order of
//! calls give the same tokens. Must not: know any vendor's endpoints or words, or read a clock;
//! times come with each call.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Life of an authorization code, seconds: five minutes, as at Pipedrive.
const CODE_SECONDS: i64 = 300;
/// Codes and tokens of each kind that are kept; beyond it the oldest is forgotten.
const KEPT_MAX: usize = 10_000;
/// Length of an S256 code challenge, characters (RFC 7636).
const CHALLENGE_CHARS: usize = 43;

/// Tokens that are there from the beginning.
#[derive(Clone)]
pub(crate) struct StaticGrant {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
    pub(crate) scope: String,
}

/// The one client application that a vendor knows, and how its tokens look.
#[derive(Clone)]
pub(crate) struct OAuthConfig {
    /// Of the codes and tokens.
    pub(crate) seed: u64,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    /// Whether a client must show its secret where it may be left out (PKCE, refresh).
    pub(crate) requires_secret: bool,
    /// What every access token begins with.
    pub(crate) access_prefix: &'static str,
    /// What every refresh token begins with.
    pub(crate) refresh_prefix: &'static str,
    pub(crate) static_grants: Vec<StaticGrant>,
}

/// What the browser asks for.
#[derive(Clone, Copy)]
pub(crate) struct AuthorizationRequest<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) code_challenge: Option<&'a str>,
    pub(crate) code_challenge_method: Option<&'a str>,
}

/// Why there is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorizationError {
    #[error("unknown client")]
    UnknownClient,
    #[error("redirect_uri must be an absolute http or https URL without a fragment")]
    BadRedirect,
    #[error("code_challenge must be 43 characters with code_challenge_method S256")]
    BadChallenge,
}

/// Who asks for a token.
#[derive(Clone, Copy)]
pub(crate) struct TokenClient<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: Option<&'a str>,
}

/// What a vendor promises with a token.
#[derive(Clone, Copy)]
pub(crate) struct TokenTerms {
    /// Life of the access token, seconds; `None`: until it is ended.
    pub(crate) access_seconds: Option<u32>,
    /// Life of a new refresh token, seconds; `None`: until it is ended.
    pub(crate) refresh_seconds: Option<u32>,
    /// Whether a refresh token comes with a code's access token.
    pub(crate) gives_refresh_token: bool,
    /// Whether a refresh ends the refresh token and the access token that came with it.
    pub(crate) rotates_refresh_tokens: bool,
}

/// Tokens given out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct IssuedTokens {
    pub(crate) access_token: String,
    /// The refresh token to use from now on: a new one, or the one that was used if it does not
    /// rotate.
    pub(crate) refresh_token: Option<String>,
    pub(crate) scope: String,
}

impl fmt::Debug for IssuedTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("IssuedTokens").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GrantError {
    /// Id or secret is wrong: `invalid_client`.
    #[error("unknown client or wrong secret")]
    InvalidClient,
    /// Never given out, used already, or older than five minutes: `invalid_grant`, as are all
    /// below.
    #[error("the code is unknown, used or expired")]
    InvalidCode,
    /// Not the URL that the code was asked with.
    #[error("redirect_uri is not the one of the authorization request")]
    RedirectMismatch,
    /// Not the secret behind the challenge that the code was asked with.
    #[error("code_verifier does not fit the code_challenge")]
    VerifierMismatch,
    /// Never given out, rotated away, revoked or expired.
    #[error("the refresh token is unknown, used, revoked or expired")]
    InvalidRefreshToken,
}

/// How often tokens were asked for, refused requests included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenRequests {
    /// With a code.
    pub authorization_code: u64,
    /// With a refresh token.
    pub refresh_token: u64,
    /// With nothing but the client's secret.
    pub client_credentials: u64,
    /// With a signed assertion instead of a secret.
    pub assertion: u64,
    /// Of these, how many got no token.
    pub refused: u64,
}

struct Code {
    serial: u64,
    client_id: String,
    redirect_uri: String,
    scope: String,
    challenge: Option<String>,
    expires_at: DateTime<Utc>,
}

struct AccessToken {
    serial: u64,
    scope: String,
    expires_at: Option<DateTime<Utc>>,
}

struct RefreshToken {
    serial: u64,
    scope: String,
    /// The newest access token that it stands for.
    access_token: String,
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Default)]
struct Issued {
    serial: u64,
    codes: HashMap<String, Code>,
    access: HashMap<String, AccessToken>,
    refresh: HashMap<String, RefreshToken>,
    requests: TokenRequests,
}

/// The codes and tokens of one simulated vendor.
pub(crate) struct OAuth {
    config: OAuthConfig,
    issued: Mutex<Issued>,
}

impl OAuth {
    pub(crate) fn new(config: OAuthConfig) -> Self {
        let mut issued = Issued::default();
        for grant in &config.static_grants {
            issued.put_access(grant.access_token.clone(), &grant.scope, None);
            if let Some(token) = &grant.refresh_token {
                issued.put_refresh(token.clone(), &grant.scope, &grant.access_token, None);
            }
        }
        Self { config, issued: Mutex::new(issued) }
    }

    /// A code for a user who consents.
    pub(crate) fn authorize(
        &self,
        request: AuthorizationRequest<'_>,
        now: DateTime<Utc>,
    ) -> Result<String, AuthorizationError> {
        if request.client_id != self.config.client_id {
            return Err(AuthorizationError::UnknownClient);
        }
        if !is_redirect_target(request.redirect_uri) {
            return Err(AuthorizationError::BadRedirect);
        }
        let is_challenge_right = match (request.code_challenge, request.code_challenge_method) {
            (None, None) => true,
            (Some(challenge), Some("S256")) => challenge.len() == CHALLENGE_CHARS,
            _ => false,
        };
        if !is_challenge_right {
            return Err(AuthorizationError::BadChallenge);
        }
        let mut issued = self.lock();
        issued.codes.retain(|_, code| now < code.expires_at);
        let serial = issued.take_serial();
        let code = self.draw("code", serial);
        forget_oldest(&mut issued.codes, |code| code.serial);
        issued.codes.insert(
            code.clone(),
            Code {
                serial,
                client_id: request.client_id.to_owned(),
                redirect_uri: request.redirect_uri.to_owned(),
                scope: request.scope.to_owned(),
                challenge: request.code_challenge.map(str::to_owned),
                expires_at: now + TimeDelta::seconds(CODE_SECONDS),
            },
        );
        Ok(code)
    }

    /// Tokens for a code. Whatever comes of it, the code is spent, unless the client is a stranger.
    pub(crate) fn exchange_code(
        &self,
        client: TokenClient<'_>,
        code: &str,
        redirect_uri: Option<&str>,
        code_verifier: Option<&str>,
        terms: TokenTerms,
        now: DateTime<Utc>,
    ) -> Result<IssuedTokens, GrantError> {
        let mut issued = self.lock();
        issued.requests.authorization_code += 1;
        let outcome = self.redeem(&mut issued, client, code, redirect_uri, code_verifier, now);
        let scope = issued.counted(outcome)?;
        let access_token = self.issue_access(&mut issued, &scope, terms, now);
        let refresh_token =
            terms.gives_refresh_token.then(|| self.issue_refresh(&mut issued, &scope, &access_token, terms, now));
        Ok(IssuedTokens { access_token, refresh_token, scope })
    }

    /// A new access token for a refresh token, and if it rotates a new refresh token: then the old
    /// ones are ended.
    pub(crate) fn refresh(
        &self,
        client: TokenClient<'_>,
        refresh_token: &str,
        terms: TokenTerms,
        now: DateTime<Utc>,
    ) -> Result<IssuedTokens, GrantError> {
        let mut issued = self.lock();
        issued.requests.refresh_token += 1;
        let is_known = issued.refresh.get(refresh_token).is_some_and(|token| is_alive(token.expires_at, now));
        let known = if is_known { Ok(()) } else { Err(GrantError::InvalidRefreshToken) };
        let outcome = self.check_client(client).and(known);
        issued.counted(outcome)?;
        let scope = issued.refresh.get(refresh_token).map(|token| token.scope.clone()).unwrap_or_default();
        let access_token = self.issue_access(&mut issued, &scope, terms, now);
        if !terms.rotates_refresh_tokens {
            let token = issued.refresh.get_mut(refresh_token).ok_or(GrantError::InvalidRefreshToken)?;
            token.access_token.clone_from(&access_token);
            return Ok(IssuedTokens { access_token, refresh_token: Some(refresh_token.to_owned()), scope });
        }
        let old = issued.refresh.remove(refresh_token).ok_or(GrantError::InvalidRefreshToken)?;
        issued.access.remove(&old.access_token);
        let refresh_token = self.issue_refresh(&mut issued, &old.scope, &access_token, terms, now);
        Ok(IssuedTokens { access_token, refresh_token: Some(refresh_token), scope: old.scope })
    }

    /// A token for the client itself, without a user; the secret is always needed.
    pub(crate) fn client_credentials(
        &self,
        client: TokenClient<'_>,
        scope: &str,
        terms: TokenTerms,
        now: DateTime<Utc>,
    ) -> Result<IssuedTokens, GrantError> {
        let mut issued = self.lock();
        issued.requests.client_credentials += 1;
        let has_secret = if client.secret.is_some() { Ok(()) } else { Err(GrantError::InvalidClient) };
        let outcome = has_secret.and_then(|()| self.check_client(client));
        issued.counted(outcome)?;
        let access_token = self.issue_access(&mut issued, scope, terms, now);
        Ok(IssuedTokens { access_token, refresh_token: None, scope: scope.to_owned() })
    }

    /// An access token for whoever has shown the vendor itself who they are.
    pub(crate) fn issue(&self, scope: &str, terms: TokenTerms, now: DateTime<Utc>) -> IssuedTokens {
        let access_token = self.issue_access(&mut self.lock(), scope, terms, now);
        IssuedTokens { access_token, refresh_token: None, scope: scope.to_owned() }
    }

    /// Counts a request with an assertion, which the vendor checks itself.
    pub(crate) fn count_assertion(&self, is_right: bool) {
        let mut issued = self.lock();
        issued.requests.assertion += 1;
        issued.requests.refused += u64::from(!is_right);
    }

    /// Whether an access token is good now.
    pub(crate) fn admits(&self, access_token: &str, now: DateTime<Utc>) -> bool {
        self.lock().access.get(access_token).is_some_and(|token| is_alive(token.expires_at, now))
    }

    /// What an access token allows; `None`: it is not good now.
    pub(crate) fn scope_of(&self, access_token: &str, now: DateTime<Utc>) -> Option<String> {
        let issued = self.lock();
        issued.access.get(access_token).filter(|token| is_alive(token.expires_at, now)).map(|token| token.scope.clone())
    }

    /// Ends one token of either kind; a refresh token takes its access token along. An unknown one
    /// is no mistake (RFC 7009).
    pub(crate) fn revoke(&self, token: &str) {
        let mut issued = self.lock();
        issued.access.remove(token);
        if let Some(refresh) = issued.refresh.remove(token) {
            issued.access.remove(&refresh.access_token);
        }
    }

    /// Ends every code and token, as when a user withdraws consent.
    pub(crate) fn revoke_all(&self) {
        let mut issued = self.lock();
        issued.codes.clear();
        issued.access.clear();
        issued.refresh.clear();
    }

    /// Ends every access token; refresh tokens stay.
    pub(crate) fn expire_all_access_tokens(&self) {
        self.lock().access.clear();
    }

    /// Ends every refresh token; access tokens stay.
    pub(crate) fn revoke_refresh_tokens(&self) {
        self.lock().refresh.clear();
    }

    /// How often tokens were asked for since the start.
    pub(crate) fn token_requests(&self) -> TokenRequests {
        self.lock().requests
    }

    fn redeem(
        &self,
        issued: &mut Issued,
        client: TokenClient<'_>,
        code: &str,
        redirect_uri: Option<&str>,
        code_verifier: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<String, GrantError> {
        self.check_client(client)?;
        let code = issued.codes.remove(code).ok_or(GrantError::InvalidCode)?;
        if now >= code.expires_at || code.client_id != client.id {
            return Err(GrantError::InvalidCode);
        }
        if redirect_uri != Some(code.redirect_uri.as_str()) {
            return Err(GrantError::RedirectMismatch);
        }
        if code_verifier.map(challenge_of) != code.challenge {
            return Err(GrantError::VerifierMismatch);
        }
        Ok(code.scope)
    }

    fn check_client(&self, client: TokenClient<'_>) -> Result<(), GrantError> {
        let is_secret_right =
            client.secret.map_or(!self.config.requires_secret, |secret| secret == self.config.client_secret);
        if client.id == self.config.client_id && is_secret_right { Ok(()) } else { Err(GrantError::InvalidClient) }
    }

    fn issue_access(&self, issued: &mut Issued, scope: &str, terms: TokenTerms, now: DateTime<Utc>) -> String {
        let token = format!("{}{}", self.config.access_prefix, self.draw("access", issued.take_serial()));
        issued.put_access(token.clone(), scope, expiry(terms.access_seconds, now));
        token
    }

    fn issue_refresh(
        &self,
        issued: &mut Issued,
        scope: &str,
        access_token: &str,
        terms: TokenTerms,
        now: DateTime<Utc>,
    ) -> String {
        let token = format!("{}{}", self.config.refresh_prefix, self.draw("refresh", issued.take_serial()));
        issued.put_refresh(token.clone(), scope, access_token, expiry(terms.refresh_seconds, now));
        token
    }

    /// A text that nobody guesses and everybody with the seed can repeat.
    fn draw(&self, kind: &str, serial: u64) -> String {
        let digest = Sha256::digest(format!("{}/{kind}/{serial}", self.config.seed));
        URL_SAFE_NO_PAD.encode(&digest[..30])
    }

    fn lock(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issued {
    fn take_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn put_access(&mut self, token: String, scope: &str, expires_at: Option<DateTime<Utc>>) {
        forget_oldest(&mut self.access, |token| token.serial);
        let serial = self.take_serial();
        self.access.insert(token, AccessToken { serial, scope: scope.to_owned(), expires_at });
    }

    fn put_refresh(&mut self, token: String, scope: &str, access_token: &str, expires_at: Option<DateTime<Utc>>) {
        forget_oldest(&mut self.refresh, |token| token.serial);
        let serial = self.take_serial();
        let kept = RefreshToken { serial, scope: scope.to_owned(), access_token: access_token.to_owned(), expires_at };
        self.refresh.insert(token, kept);
    }

    fn counted<T>(&mut self, outcome: Result<T, GrantError>) -> Result<T, GrantError> {
        self.requests.refused += u64::from(outcome.is_err());
        outcome
    }
}

fn forget_oldest<T>(kept: &mut HashMap<String, T>, serial: impl Fn(&T) -> u64) {
    if kept.len() < KEPT_MAX {
        return;
    }
    if let Some(oldest) = kept.iter().min_by_key(|(_, item)| serial(item)).map(|(token, _)| token.clone()) {
        kept.remove(&oldest);
    }
}

fn expiry(seconds: Option<u32>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    seconds.map(|seconds| now + TimeDelta::seconds(i64::from(seconds)))
}

fn is_alive(expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    expires_at.is_none_or(|expires_at| now < expires_at)
}

fn is_redirect_target(uri: &str) -> bool {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) && !uri.contains('#')
}

/// RFC 7636: the S256 challenge of a verifier.
fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

#[cfg(test)]
mod tests;
