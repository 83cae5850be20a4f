//! What codes and tokens are bound to, and what ends them.

use super::*;

const REDIRECT: &str = "http://localhost/callback";
const CLIENT: TokenClient<'_> = TokenClient { id: "client", secret: Some("secret") };
const TERMS: TokenTerms = TokenTerms {
    access_seconds: Some(7_200),
    refresh_seconds: Some(86_400),
    gives_refresh_token: true,
    rotates_refresh_tokens: true,
};
/// The example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn oauth() -> OAuth {
    OAuth::new(OAuthConfig {
        seed: 7,
        client_id: "client".to_owned(),
        client_secret: "secret".to_owned(),
        requires_secret: true,
        access_prefix: "a:",
        refresh_prefix: "r:",
        static_grants: vec![StaticGrant {
            access_token: "static-token".to_owned(),
            refresh_token: Some("static-refresh".to_owned()),
            scope: "read".to_owned(),
        }],
    })
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
}

fn request(challenge: Option<&'static str>) -> AuthorizationRequest<'static> {
    AuthorizationRequest {
        client_id: "client",
        redirect_uri: REDIRECT,
        scope: "read write",
        code_challenge: challenge,
        code_challenge_method: challenge.map(|_| "S256"),
    }
}

fn exchange(oauth: &OAuth, code: &str, verifier: Option<&str>, now: DateTime<Utc>) -> Result<IssuedTokens, GrantError> {
    oauth.exchange_code(CLIENT, code, Some(REDIRECT), verifier, TERMS, now)
}

#[test]
fn code_gives_tokens_once_and_for_five_minutes() {
    let oauth = oauth();
    let code = oauth.authorize(request(None), at(0)).unwrap();
    let late = oauth.authorize(request(None), at(0)).unwrap();

    let grant = exchange(&oauth, &code, None, at(299)).unwrap();

    assert_eq!(grant.scope, "read write");
    assert!(grant.access_token.starts_with("a:") && grant.refresh_token.unwrap().starts_with("r:"));
    assert!(oauth.admits(&grant.access_token, at(299)));
    assert_eq!(exchange(&oauth, &code, None, at(299)), Err(GrantError::InvalidCode));
    assert_eq!(exchange(&oauth, &late, None, at(300)), Err(GrantError::InvalidCode));
    let counted = TokenRequests { authorization_code: 3, refused: 2, ..TokenRequests::default() };
    assert_eq!(oauth.token_requests(), counted);
}

#[test]
fn code_is_bound_to_client_redirect_and_challenge() {
    let oauth = oauth();
    let code = |challenge| oauth.authorize(request(challenge), at(0)).unwrap();

    let wrong_client = TokenClient { secret: Some("guess"), ..CLIENT };
    let refused = oauth.exchange_code(wrong_client, &code(None), Some(REDIRECT), None, TERMS, at(1));
    assert_eq!(refused, Err(GrantError::InvalidClient));
    let refused = oauth.exchange_code(CLIENT, &code(None), Some("http://localhost/other"), None, TERMS, at(1));
    assert_eq!(refused, Err(GrantError::RedirectMismatch));
    for (challenge, verifier) in [(Some(CHALLENGE), None), (Some(CHALLENGE), Some("guess")), (None, Some(VERIFIER))] {
        assert_eq!(exchange(&oauth, &code(challenge), verifier, at(1)), Err(GrantError::VerifierMismatch));
    }
    assert!(exchange(&oauth, &code(Some(CHALLENGE)), Some(VERIFIER), at(1)).is_ok());
}

/// An authorization needs a known client, a real redirect address and S256.
#[test]
fn authorization_needs_known_client_real_redirect_and_s256() {
    let oauth = oauth();
    let good = request(Some(CHALLENGE));
    for (request, expected) in [
        (AuthorizationRequest { client_id: "stranger", ..good }, AuthorizationError::UnknownClient),
        (AuthorizationRequest { redirect_uri: "/callback", ..good }, AuthorizationError::BadRedirect),
        (AuthorizationRequest { redirect_uri: "http://x/#y", ..good }, AuthorizationError::BadRedirect),
        (AuthorizationRequest { code_challenge_method: Some("plain"), ..good }, AuthorizationError::BadChallenge),
        (AuthorizationRequest { code_challenge_method: None, ..good }, AuthorizationError::BadChallenge),
        (AuthorizationRequest { code_challenge: Some("short"), ..good }, AuthorizationError::BadChallenge),
    ] {
        assert_eq!(oauth.authorize(request, at(0)), Err(expected));
    }
}

/// Rotation ends the old refresh token and its access token.
#[test]
fn rotation_ends_old_refresh_and_access_token() {
    let oauth = oauth();

    let first = oauth.refresh(CLIENT, "static-refresh", TERMS, at(0)).unwrap();
    let again = oauth.refresh(CLIENT, "static-refresh", TERMS, at(1));

    assert_eq!(again, Err(GrantError::InvalidRefreshToken));
    assert!(!oauth.admits("static-token", at(1)));
    assert!(oauth.admits(&first.access_token, at(1)));
    let second = oauth.refresh(CLIENT, &first.refresh_token.unwrap(), TERMS, at(2)).unwrap();
    assert!(!oauth.admits(&first.access_token, at(2)));
    assert_eq!(second.scope, "read");
}

/// A refresh token that does not rotate stays good, with the access tokens got before.
#[test]
fn unrotated_refresh_token_and_earlier_access_stay_good() {
    let oauth = oauth();
    let terms = TokenTerms { rotates_refresh_tokens: false, ..TERMS };

    let first = oauth.refresh(CLIENT, "static-refresh", terms, at(0)).unwrap();
    let second = oauth.refresh(CLIENT, "static-refresh", terms, at(1)).unwrap();

    assert_eq!(second.refresh_token.as_deref(), Some("static-refresh"));
    assert_ne!(first.access_token, second.access_token);
    assert!(oauth.admits("static-token", at(1)) && oauth.admits(&first.access_token, at(1)));
}

#[test]
fn tokens_end_with_their_time() {
    let oauth = oauth();
    let grant = oauth.refresh(CLIENT, "static-refresh", TERMS, at(0)).unwrap();
    let refresh_token = grant.refresh_token.unwrap();

    assert!(oauth.admits(&grant.access_token, at(7_199)));
    assert!(!oauth.admits(&grant.access_token, at(7_200)));
    assert_eq!(oauth.refresh(CLIENT, &refresh_token, TERMS, at(86_400)), Err(GrantError::InvalidRefreshToken));
}

/// Client credentials need the secret and give no refresh token.
#[test]
fn client_credentials_need_secret_give_no_refresh_token() {
    let oauth = oauth();

    let grant = oauth.client_credentials(CLIENT, "read", TERMS, at(0)).unwrap();
    let refused = oauth.client_credentials(TokenClient { secret: None, ..CLIENT }, "read", TERMS, at(0));

    assert!(grant.refresh_token.is_none() && oauth.admits(&grant.access_token, at(0)));
    assert_eq!(refused, Err(GrantError::InvalidClient));
}

/// Tokens are ended one by one, or all at once.
#[test]
fn tokens_end_one_by_one_or_together() {
    let oauth = oauth();
    let terms = TokenTerms { rotates_refresh_tokens: false, ..TERMS };

    oauth.expire_all_access_tokens();
    assert!(!oauth.admits("static-token", at(0)));
    let grant = oauth.refresh(CLIENT, "static-refresh", terms, at(0)).unwrap();
    oauth.revoke("never-heard-of");
    assert!(oauth.admits(&grant.access_token, at(0)));
    oauth.revoke("static-refresh");
    assert!(!oauth.admits(&grant.access_token, at(0)));
    assert!(oauth.refresh(CLIENT, "static-refresh", terms, at(0)).is_err());

    let code = oauth.authorize(request(None), at(0)).unwrap();
    oauth.revoke_all();
    assert_eq!(exchange(&oauth, &code, None, at(1)), Err(GrantError::InvalidCode));
}

#[test]
fn one_seed_gives_the_same_tokens() {
    let draw = || oauth().refresh(CLIENT, "static-refresh", TERMS, at(0)).unwrap();

    assert_eq!(draw(), draw());
    let other = OAuth::new(OAuthConfig { seed: 8, ..oauth().config }).refresh(CLIENT, "static-refresh", TERMS, at(0));
    assert_ne!(draw(), other.unwrap());
}

#[test]
fn oldest_tokens_are_forgotten_beyond_the_limit() {
    let oauth = oauth();
    let terms = TokenTerms { rotates_refresh_tokens: false, ..TERMS };

    for _ in 0..KEPT_MAX {
        oauth.refresh(CLIENT, "static-refresh", terms, at(0)).unwrap();
    }

    assert_eq!(oauth.lock().access.len(), KEPT_MAX);
    assert!(!oauth.admits("static-token", at(0)));
}
