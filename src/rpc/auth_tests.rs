use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use ed25519_dalek::{Signer, SigningKey, pkcs8::DecodePrivateKey};
use futures_util::FutureExt;
use ring::hmac;
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use super::{super::local_token::generate, *};
use crate::{domain::clock::ManualClock, rpc::methods::find_method};

#[path = "auth_scope_tests.rs"]
mod scopes;

const ISSUER: &str = "https://issuer.test";
const AUDIENCE: &str = "contact-sync";
/// 2026-11-22T00:00:00Z
const NOW: i64 = 1_795_305_600;
const MINE: &str = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";
const OTHERS: &str = "11111111-2222-4333-8444-555555555555";
const SEED: [u8; 32] = [7; 32];

/// A 2048-bit public key. Its private half signed `RSA_TOKEN` once and is gone.
const RSA_N: &str = "sfDu6VKtcuB-vT8yt-6lHLPCuzNDqa5dpa3adW3FQ70Ol6qThc3UHJz2lH_PNEDtRwnT-03GsQGB_WL3mQesuTq8fBWMJvAPPXJttEqTZyoCMqzt3OQPCuF-yKoVNNbk9yxkdiCv8vwKvCoRmEoaqjoIOb89fegbpm76puiTJctmoJA8qS0G44SoNwLTNzWBJrxblMvpXX9ab0IVLxGy8UlJE80-I4kbOMKL_ivX3H7ZJBWmfY0wqgOrdim9sSVQuF1Fg25w-bjaKvmvO3ZQmzchsbQfQfNeJQJPiMBzMeeSoDkNqWl6S1-Og0VwbEC1Xauoq5NZfd0AbEgbYAv3FQ";
/// RS256, kid rsa-1, valid for an hour from NOW, all accounts, scope calls.
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InJzYS0xIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjoiY29udGFjdC1zeW5jIiwic3ViIjoicm91dGVyIiwibmJmIjoxNzk1MzA1NjAwLCJleHAiOjE3OTUzMDkyMDAsImFjY291bnRzIjoiKiIsInNjb3BlIjoiY2FsbHMifQ.X4Aayi-r16BdouFvtQnu0VHB0_YM9hIadVIyEh908Uw_rQOLeOT4NKhvQdhnpUseKfoal1x2-s5uxhH54LaRzJGDJJDE9ZMAFng4K_X3jL4okUWx_nyf-a7pOdoU6prW_AUHHSZr5JJ1VbeTGtVevE4ogDPdUIydV3qW9fACFc57Nje9kI2BiiAKieckSb8VaD-d_vyuujesuMhvkyVEHBtiFflNd_OAtulpiiqjKvj-qCtvrfEpP-q1fIUVqlRGzhNH1D8c8qWK4xxOwhEFQ0pY6njf3exUfsy8gkRJStJhugwf7cpfYfN55mGyZ9tLZ1FKsLDQdxGxneF-q7r9rg";

/// The coordinates of a public key; its private half signed `P256_TOKEN` once and is gone.
const P256_X: &str = "JCQF3uK9EfsNnMzmdMJ3A8BsTwFkrnzRnoXcQ2A8c_I";
/// The other one.
const P256_Y: &str = "G8B3oip4ywAAc4PbpPeirdeY6f6uk9MolRQnNZ3BSkE";
/// ES256, kid ec-1, valid until an hour after NOW, without `nbf`, all accounts, scope calls.
const P256_TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImVjLTEifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjoiY29udGFjdC1zeW5jIiwic3ViIjoicm91dGVyIiwiZXhwIjoxNzk1MzA5MjAwLCJhY2NvdW50cyI6IioiLCJzY29wZSI6ImNhbGxzIn0.AflBwBu7IoIvvzzKVkqz5aZJO6uoTIZBtrrMxUZglkMgjcjeIT_Xt1f4hzEVqqRqLhuBNO-ashOX_Z1beSsQyQ";

struct Fixture {
    verifier: TokenVerifier,
    clock: Arc<ManualClock>,
    kid: String,
}

fn fixture() -> Fixture {
    let mut jwks: Value = serde_json::from_str(&generate(&SEED).jwks_json).unwrap();
    let kid = jwks["keys"][0]["kid"].as_str().unwrap().to_owned();
    jwks["keys"].as_array_mut().unwrap().push(json!({"kty": "RSA", "kid": "rsa-1", "n": RSA_N, "e": "AQAB"}));
    let elliptic = json!({"kty": "EC", "crv": "P-256", "kid": "ec-1", "x": P256_X, "y": P256_Y});
    jwks["keys"].as_array_mut().unwrap().push(elliptic);
    let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(NOW, 0).unwrap()));
    let same_clock = Arc::clone(&clock);
    let verifier = TokenVerifier::new(&jwks.to_string(), TokenRules::new(ISSUER, AUDIENCE), same_clock).unwrap();
    Fixture { verifier, clock, kid }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "router", "nbf": NOW, "exp": NOW + 3600,
        "accounts": [MINE], "scope": "calls openid sync",
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

/// A token with any header at all, rightly signed with the fixture's Ed25519 key.
fn sign_with_header(header: &Value, claims: &Value) -> String {
    let key = SigningKey::from_pkcs8_pem(&generate(&SEED).signing_key_pem).unwrap();
    let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).to_bytes());
    format!("{message}.{signature}")
}

impl Fixture {
    fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "JWT", "kid": self.kid})
    }

    fn sign(&self, claims: &Value) -> String {
        sign_with_header(&self.header(), claims)
    }

    fn call(&self, path: &str, authorization: &[&str]) -> Result<Option<Arc<TokenHolder>>, Status> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        // Nobody reads keys here, so that nothing is waited for.
        self.verifier.admit(find_method(path, false), &headers).now_or_never().unwrap()
    }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

fn metadata(status: &Status) -> HashMap<String, String> {
    status.get_error_details().error_info().unwrap().metadata.clone()
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

const MATCH_CALLER: &str = "/contactsync.v1.CallerService/MatchCaller";
const CREATE_ACCOUNT: &str = "/contactsync.v1.AccountService/CreateAccount";

/// A good token of either algorithm makes a caller.
#[test]
fn good_token_of_either_algorithm_makes_caller() {
    let f = fixture();

    let caller = f.call(MATCH_CALLER, &[&format!("Bearer {}", f.sign(&claims()))]).unwrap().unwrap();
    assert_eq!(caller.subject(), "router");
    assert!(caller.has(TokenScope::Calls) && caller.has(TokenScope::Sync) && !caller.has(TokenScope::Admin));
    assert_eq!(caller.accounts(), &TokenAccounts::Listed(HashSet::from([MINE.parse().unwrap()])));

    let caller = f.call(MATCH_CALLER, &[&format!("bearer {RSA_TOKEN}")]).unwrap().unwrap();
    assert_eq!(caller.accounts(), &TokenAccounts::All);
}

#[test]
fn tokens_that_other_issuers_shape_differently_are_read() {
    let f = fixture();

    for accepted in [
        with("aud", json!(["another", AUDIENCE])),
        with("exp", json!(1_795_305_610.5)),
        with("accounts", json!([])),
        with("scope", json!("")),
        with("scope", json!(["calls"])),
        with("scope", json!(["calls sync", "openid"])),
        with("accounts", json!(["*"])),
        with("accounts", json!(MINE)),
        without("nbf"),
    ] {
        assert!(f.verifier.verify(&f.sign(&accepted)).is_ok(), "{accepted}");
    }
    for typ in ["jwt", "at+jwt", "application/AT+JWT"] {
        let header = json!({"alg": "EdDSA", "typ": typ, "kid": f.kid});
        assert!(f.verifier.verify(&sign_with_header(&header, &claims())).is_ok(), "{typ}");
    }
    for header in [json!({"alg": "EdDSA"}), json!({"alg": "EdDSA", "x5t": "abc"})] {
        assert!(f.verifier.verify(&sign_with_header(&header, &claims())).is_ok(), "{header}");
    }
}

/// A request without a bearer token is told so.
#[test]
fn request_without_bearer_token_is_told_so() {
    let f = fixture();

    for authorization in [&[][..], &["Basic dXNlcjpzZWNyZXQ="], &["Bearer"], &[""], &["token"]] {
        let refused = f.call(MATCH_CALLER, authorization).unwrap_err();

        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
    }
}

/// Every token without a good signature is refused with the same words.
#[test]
fn every_unsigned_token_hears_same_words() {
    let f = fixture();
    let good = f.sign(&claims());
    let by_secret = |secret: &[u8]| {
        let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(json!({"alg": "HS256", "kid": f.kid})), part(claims()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
    };
    let public = SigningKey::from_bytes(&SEED).verifying_key();
    let none = |alg: &str| {
        let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.", part(json!({"alg": alg, "typ": "JWT"})), part(claims()))
    };
    let foreign_key = {
        let key = SigningKey::from_bytes(&[8; 32]);
        let message = good.rsplit_once('.').unwrap().0;
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).to_bytes()))
    };
    let other_claims = {
        let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
        parts[1] = BASE64_URL_SAFE_NO_PAD.encode(with("accounts", json!("*")).to_string());
        parts.join(".")
    };
    let header = |extra: Value| {
        let mut header = f.header();
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        sign_with_header(&header, &claims())
    };
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode(public.as_bytes())});

    let wrong = [
        ("garbage", "garbage".to_owned()),
        ("two dots", "a.b.c".to_owned()),
        ("empty", " ".to_owned()),
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("alg none and no signature", none("EdDSA")),
        ("HS256 with the public key as secret", by_secret(public.as_bytes())),
        ("HS256 with the RSA modulus as secret", by_secret(&BASE64_URL_SAFE_NO_PAD.decode(RSA_N).unwrap())),
        ("HS256 with the key set as secret", by_secret(generate(&SEED).jwks_json.as_bytes())),
        ("RS256 named for an Ed25519 key", header(json!({"alg": "RS256"}))),
        ("EdDSA named for an RSA key", header(json!({"kid": "rsa-1"}))),
        ("ES256 named for an Ed25519 key", header(json!({"alg": "ES256"}))),
        ("ES256 named for an RSA key", header(json!({"alg": "ES256", "kid": "rsa-1"}))),
        ("EdDSA named for a P-256 key", header(json!({"kid": "ec-1"}))),
        ("unknown kid", header(json!({"kid": "another"}))),
        ("empty kid", header(json!({"kid": ""}))),
        ("key by URL", header(json!({"jku": "https://attacker.test/keys"}))),
        ("certificate by URL", header(json!({"x5u": "https://attacker.test/cert"}))),
        ("certificate in the token", header(json!({"x5c": ["AAAA"]}))),
        ("key in the token", header(json!({"jwk": jwk}))),
        ("critical extension", header(json!({"crit": ["exp"]}))),
        ("another kind of token", header(json!({"typ": "logout+jwt"}))),
        ("another key", foreign_key),
        ("other claims under the signature", other_claims),
        ("too long", f.sign(&with("further", json!("x".repeat(TOKEN_BYTES_MAX))))),
    ];
    for (name, token) in wrong {
        let Err(refused) = f.call(MATCH_CALLER, &[&format!("Bearer {token}")]) else { panic!("accepted: {name}") };

        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_INVALID"), "{name}");
        assert_eq!(refused.message(), "the token is not accepted", "{name}");
    }
}

/// Of a token with a good signature it is told which claim is wrong.
#[test]
fn wrong_claim_of_signed_token_is_named() {
    let f = fixture();
    for (name, claims, expected) in [
        ("not valid yet", with("nbf", json!(NOW + 31)), "TOKEN_NOT_YET_VALID"),
        ("nbf as text", with("nbf", json!("now")), "TOKEN_CLAIM_INVALID"),
        ("no exp", without("exp"), "TOKEN_CLAIM_INVALID"),
        ("no iss", without("iss"), "TOKEN_OF_OTHER_ISSUER"),
        ("no aud", without("aud"), "TOKEN_FOR_OTHER_AUDIENCE"),
        ("no sub", without("sub"), "TOKEN_CLAIM_INVALID"),
        ("wrong iss", with("iss", json!("https://issuer.test/")), "TOKEN_OF_OTHER_ISSUER"),
        ("iss in a list", with("iss", json!([ISSUER])), "TOKEN_OF_OTHER_ISSUER"),
        ("wrong aud", with("aud", json!("another")), "TOKEN_FOR_OTHER_AUDIENCE"),
        ("no aud in the list", with("aud", json!([])), "TOKEN_FOR_OTHER_AUDIENCE"),
        ("empty sub", with("sub", json!("")), "TOKEN_CLAIM_INVALID"),
        ("long sub", with("sub", json!("x".repeat(257))), "TOKEN_CLAIM_INVALID"),
        ("exp as text", with("exp", json!((NOW + 3600).to_string())), "TOKEN_CLAIM_INVALID"),
        ("negative exp", with("exp", json!(-1)), "TOKEN_CLAIM_INVALID"),
        ("exp beyond all time", with("exp", json!(1e300)), "TOKEN_CLAIM_INVALID"),
        ("exp at the end of time", with("exp", json!(8_210_266_876_790_u64)), "TOKEN_CLAIM_INVALID"),
        ("over", with("exp", json!(NOW - 30)), "TOKEN_EXPIRED"),
        ("accounts with another word", with("accounts", json!("all")), "TOKEN_CLAIM_INVALID"),
        ("all accounts beside one", with("accounts", json!([MINE, "*"])), "TOKEN_CLAIM_INVALID"),
        ("accounts as a number", with("accounts", json!(7)), "TOKEN_CLAIM_INVALID"),
        ("scope as a number", with("scope", json!(7)), "TOKEN_CLAIM_INVALID"),
        ("scope as a list of numbers", with("scope", json!([7])), "TOKEN_CLAIM_INVALID"),
    ] {
        let token = format!("Bearer {}", f.sign(&claims));
        let Err(refused) = f.call(MATCH_CALLER, &[&token]) else { panic!("accepted: {name}") };

        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, expected), "{name}");
    }
}

/// A token that names no accounts or no scopes is good, and opens none.
#[test]
fn token_without_accounts_or_scopes_opens_none() {
    let f = fixture();

    let nobodys = f.verifier.verify(&f.sign(&without("accounts"))).unwrap();
    assert_eq!(nobodys.authorize(MINE).unwrap_err().code(), Code::NotFound);
    let refused = f.call(MATCH_CALLER, &[&format!("Bearer {}", f.sign(&without("scope")))]).unwrap_err();
    assert_eq!(reason(&refused), "SCOPE_MISSING");
}

/// What Keycloak, Auth0, Okta and Entra write.
#[test]
fn claims_of_identity_providers_are_read() {
    let f = fixture();
    let named = |accounts: &str, scopes: Option<&str>| TokenRules {
        accounts_claim: accounts.to_owned(),
        scopes_claim: scopes.map(str::to_owned),
        ..TokenRules::new(ISSUER, AUDIENCE)
    };
    let base = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "router", "exp": NOW + 3600, "iat": NOW});
    for (name, rules, further) in [
        (
            "Keycloak",
            named("accounts", None),
            json!({"aud": [AUDIENCE, "account"], "scope": "profile calls", "accounts": [MINE]}),
        ),
        ("one of Keycloak's, as a text", named("accounts", None), json!({"scope": "calls", "accounts": MINE})),
        (
            "Auth0",
            named("https://acme.example/accounts", None),
            json!({"scope": "calls", "https://acme.example/accounts": [MINE]}),
        ),
        (
            "Auth0's permissions",
            named("accounts", Some("permissions")),
            json!({"scope": "openid", "permissions": ["calls"], "accounts": [MINE]}),
        ),
        ("Okta", named("accounts", None), json!({"scp": ["calls", "offline_access"], "accounts": [MINE]})),
        ("Entra", named("extn.accounts", None), json!({"scp": "calls User.Read", "extn.accounts": [MINE], "nbf": NOW})),
        (
            "Entra's roles of a daemon",
            named("extn.accounts", Some("roles")),
            json!({"roles": ["calls"], "extn.accounts": [MINE]}),
        ),
    ] {
        let mut claims = base.clone();
        claims.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());

        let read = rules.read(claims.as_object().unwrap(), f.clock.now()).unwrap();

        assert_eq!(read.accounts, TokenAccounts::Listed(HashSet::from([MINE.parse().unwrap()])), "{name}");
        assert_eq!(read.scopes, HashSet::from([TokenScope::Calls]), "{name}");
    }
}

/// ES256: a key of the curve P-256 verifies what its private half has signed, and nothing else.
#[test]
fn es256_token_makes_caller() {
    let f = fixture();

    assert_eq!(f.verifier.verify(P256_TOKEN).unwrap().accounts(), &TokenAccounts::All);
    let [header, claims, signature]: [&str; 3] = P256_TOKEN.split('.').collect::<Vec<_>>().try_into().unwrap();
    let raised = BASE64_URL_SAFE_NO_PAD.encode(super::tests::claims().to_string());
    let whole = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let short = BASE64_URL_SAFE_NO_PAD.encode(&whole[..63]);
    let long = BASE64_URL_SAFE_NO_PAD.encode([&whole[..], &[0]].concat());
    let zeros = BASE64_URL_SAFE_NO_PAD.encode([0; 64]);
    for (claims, signature) in
        [(raised.as_str(), signature), (claims, ""), (claims, &short), (claims, &long), (claims, &zeros)]
    {
        let forged = format!("{header}.{claims}.{signature}");
        assert!(matches!(f.verifier.verify(&forged), Err(TokenRefused::Invalid(_))), "{forged}");
    }
}

/// Other keys know nothing of what earlier ones have verified, and a set that cannot be used
/// changes nothing.
#[test]
fn replaced_keys_forget_tokens_of_old_ones() {
    let f = fixture();
    let old = f.sign(&claims());
    f.verifier.verify(&old).unwrap();

    assert!(f.verifier.replace_keys("{\"keys\": []}").is_err());
    f.verifier.verify(&old).unwrap();
    f.verifier.replace_keys(&generate(&[8; 32]).jwks_json).unwrap();

    assert_eq!(f.verifier.verify(&old), Err(TokenRefused::UnknownKey));
    f.verifier.replace_keys(&generate(&SEED).jwks_json).unwrap();
    f.verifier.verify(&old).unwrap();
}

#[test]
fn two_authorization_headers_are_refused() {
    let f = fixture();
    let good = format!("Bearer {}", f.sign(&claims()));

    let refused = f.call(MATCH_CALLER, &[&good, &good]).unwrap_err();

    assert_eq!(reason(&refused), "TOKEN_INVALID");
}

#[test]
fn a_token_with_any_bit_flipped_is_refused() {
    let f = fixture();
    for good in [f.sign(&claims()), RSA_TOKEN.to_owned(), P256_TOKEN.to_owned()] {
        let start = good.rfind('.').unwrap() + 1;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(&good[start..]).unwrap();
        for byte in [0, signature.len() / 2, signature.len() - 1] {
            let mut flipped = signature.clone();
            flipped[byte] ^= 1;
            let token = format!("{}{}", &good[..start], BASE64_URL_SAFE_NO_PAD.encode(flipped));

            let refused = f.verifier.verify(&token);
            assert!(matches!(refused, Err(TokenRefused::Invalid(_) | TokenRefused::UnknownKey)), "byte {byte}");
        }
    }
}

/// A token ends with its time, even when it is remembered.
#[test]
fn token_ends_in_time_even_when_remembered() {
    let f = fixture();
    let (token, early) = (f.sign(&claims()), f.sign(&with("nbf", json!(NOW + 30))));

    assert!(f.verifier.verify(&early).is_ok(), "within the leeway");
    f.clock.advance(TimeDelta::seconds(3600));
    assert!(f.verifier.verify(&token).is_ok(), "within the leeway");
    f.clock.advance(TimeDelta::seconds(29));
    assert!(f.verifier.verify(&token).is_ok(), "remembered, within the leeway");
    f.clock.advance(TimeDelta::seconds(1));

    assert_eq!(f.verifier.verify(&token), Err(TokenRefused::Claim(WrongClaim::Expired)), "remembered");
    assert_eq!(f.verifier.verify(&token), Err(TokenRefused::Claim(WrongClaim::Expired)), "read again");
    let refused = f.call(MATCH_CALLER, &[&format!("Bearer {token}")]).unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_EXPIRED"));
}

/// A token is verified once, and a refused one is not remembered.
#[test]
fn token_is_verified_once_refused_one_unremembered() {
    let f = fixture();
    let token = f.sign(&claims());

    let first = f.verifier.verify(&token).unwrap();
    let second = f.verifier.verify(&token).unwrap();
    f.verifier.verify("garbage").unwrap_err();
    f.verifier.keys().verified.run_pending_tasks();

    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(f.verifier.keys().verified.entry_count(), 1);
    assert_eq!(f.verifier.keys().verified.policy().max_capacity(), Some(CACHED_TOKENS_MAX));
}

/// A good token without the scope is denied, and told which one.
#[test]
fn good_token_without_scope_is_told_which() {
    let f = fixture();
    let refused = f.call(CREATE_ACCOUNT, &[&format!("Bearer {}", f.sign(&claims()))]).unwrap_err();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "SCOPE_MISSING"));
    assert_eq!(metadata(&refused), [("scope", "admin"), ("scopes", "admin")].map(owned).into());
    assert_eq!(refused.message(), "the token lacks the scope admin");
}

/// A method that is not in the table is unimplemented for everybody.
#[test]
fn untabled_method_is_unimplemented_for_everybody() {
    let f = fixture();
    let all = f.sign(&with("scope", json!("calls clicks sync contacts.read contacts.erase admin")));
    let unknown =
        ["/contactsync.v1.CallerService/New", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/", "*"];

    for path in unknown {
        for headers in [&[format!("Bearer {all}").as_str()][..], &[]] {
            let refused = f.call(path, headers).unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unimplemented, "METHOD_NOT_SERVED"));
        }
    }
    assert_eq!(f.call("/grpc.health.v1.Health/Check", &[]).unwrap(), None);
    assert_eq!(f.call("/grpc.health.v1.Health/Check", &["Bearer garbage"]).unwrap(), None);
}

#[test]
fn only_the_accounts_of_the_token_are_authorized() {
    let f = fixture();
    let one = f.verifier.verify(&f.sign(&claims())).unwrap();
    let all = f.verifier.verify(RSA_TOKEN).unwrap();

    assert_eq!(one.authorize(MINE).unwrap().to_string(), MINE);
    assert_eq!(one.authorize(&MINE.to_uppercase()).unwrap().to_string(), MINE);
    assert_eq!(all.authorize(OTHERS).unwrap().to_string(), OTHERS);

    let refused = one.authorize(OTHERS).unwrap_err();
    let nonexistent = status::account_not_found();
    assert_eq!(
        (refused.code(), refused.message(), refused.details()),
        (nonexistent.code(), nonexistent.message(), nonexistent.details())
    );
    for malformed in ["", "*", "1", "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6", "7b0c5f9e_58b4_4a3f_9d1e_0a2b3c4d5e6f"] {
        let refused = one.authorize(malformed).unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
        assert!(refused.message().starts_with("account_id: "));
    }
}

#[test]
fn a_caller_shows_no_subject() {
    let f = fixture();
    let caller = f.verifier.verify(&f.sign(&with("sub", json!("bryce@example.com")))).unwrap();

    assert!(!format!("{caller:?}").contains("bryce"));
}

/// What a log may hold of a subject is the subject, or the hash of one that names a person.
#[test]
fn logged_subject_hides_addresses_and_control_characters() {
    let f = fixture();
    let logged = |subject: &str| {
        let holder = f.verifier.verify(&f.sign(&with("sub", json!(subject)))).unwrap();
        holder.logged_subject().to_string()
    };

    assert_eq!(logged("auth0|5f7c8ec7c33c6c004bbafe82"), "auth0|5f7c8ec7c33c6c004bbafe82");
    // printf bryce@example.com | sha256sum
    assert_eq!(logged("bryce@example.com"), "sha256:58da9b1864baebff");
    assert_eq!(logged("router\u{0}").len(), "sha256:".len() + 16);
    assert_eq!(logged("router\nroot").len(), "sha256:".len() + 16);
}
