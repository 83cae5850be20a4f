//! Every method against every wrong credential, through the real server; the list of methods is
//! that of the descriptors.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use contact_sync::rpc::{
    claims::TokenAccounts,
    local_token::{self, LocalClaims},
    methods::TokenScope,
};
use ring::hmac;
use serde_json::{Value, json};
use tonic::{Code, Request, metadata::MetadataValue};

use crate::{
    api::methods::{Things, invoke, requests},
    support::calls::refusal,
    support::{TestApp, only, start_time},
};

pub const OTHER_ACCOUNT: &str = "8b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";
pub const NOWHERE: &str = "01234567-89ab-7def-8123-456789abcdef";

pub fn things(account: &str) -> Things {
    Things {
        account: account.into(),
        integration: NOWHERE.into(),
        run: NOWHERE.into(),
        contact: NOWHERE.into(),
        call_id: "call-1".into(),
        number: "+13108675309".into(),
        subdomain: "acme".into(),
        record_id: "77".into(),
    }
}

struct Forger<'a> {
    test: &'a TestApp,
    signing_key: String,
    now: DateTime<Utc>,
}

impl<'a> Forger<'a> {
    fn new(test: &'a TestApp, seed: u8) -> Self {
        // The tests' own key is that of seven.
        Self { test, signing_key: local_token::generate(&[seed; 32]).signing_key_pem.to_string(), now: start_time() }
    }

    fn claims(&self) -> LocalClaims<'_> {
        LocalClaims {
            issuer: &self.test.config.auth.issuer,
            audience: &self.test.config.auth.audience,
            subject: "router",
            accounts: &TokenAccounts::All,
            scopes: &TokenScope::ALL,
            now: self.now,
            valid_for: TimeDelta::hours(1),
        }
    }

    fn issue(&self, claims: &LocalClaims<'_>) -> String {
        local_token::issue(&self.signing_key, claims).unwrap()
    }
}

/// Every authorization header that must open nothing, with its name and the reason that the caller
/// is told.
fn forgeries(test: &TestApp) -> Vec<(&'static str, Option<String>, &'static str)> {
    let forger = Forger::new(test, 7);
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    let good = forger.issue(&forger.claims());
    let [header, claims, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let readable: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let mut raised = readable.clone();
    raised["sub"] = json!("operator");
    let raised = BASE64_URL_SAFE_NO_PAD.encode(raised.to_string());
    let no_algorithm = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let public_key = local_token::generate(&[7; 32]).jwks_json;
    let by_secret = format!("{}.{claims}", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, public_key.as_bytes());
    let mac = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&secret, by_secret.as_bytes()));
    let with_public_key_as_secret = format!("{by_secret}.{mac}");
    let later = Forger { now: start_time() + TimeDelta::hours(2), ..Forger::new(test, 7) };
    let earlier = Forger { now: start_time() - TimeDelta::hours(3), ..Forger::new(test, 7) };
    let stranger = Forger::new(test, 8);
    vec![
        ("no token", None, "TOKEN_MISSING"),
        ("another scheme", Some(format!("Basic {good}")), "TOKEN_MISSING"),
        ("no scheme", Some(good.clone()), "TOKEN_MISSING"),
        ("an empty token", Some("Bearer ".into()), "TOKEN_INVALID"),
        ("garbage", bearer("garbage"), "TOKEN_INVALID"),
        ("two dots", bearer(".."), "TOKEN_INVALID"),
        ("no signature", bearer(&format!("{header}.{claims}.")), "TOKEN_INVALID"),
        ("half a signature", bearer(&format!("{header}.{claims}.{}", &signature[..40])), "TOKEN_INVALID"),
        ("other claims", bearer(&format!("{header}.{raised}.{signature}")), "TOKEN_INVALID"),
        ("no algorithm", bearer(&format!("{no_algorithm}.{claims}.")), "TOKEN_INVALID"),
        ("the public key as a secret", bearer(&with_public_key_as_secret), "TOKEN_INVALID"),
        ("another key", bearer(&stranger.issue(&stranger.claims())), "TOKEN_INVALID"),
        ("expired", bearer(&earlier.issue(&earlier.claims())), "TOKEN_EXPIRED"),
        ("not valid yet", bearer(&later.issue(&later.claims())), "TOKEN_NOT_YET_VALID"),
        (
            "wrong audience",
            bearer(&forger.issue(&LocalClaims { audience: "billing", ..forger.claims() })),
            "TOKEN_FOR_OTHER_AUDIENCE",
        ),
        (
            "wrong issuer",
            bearer(&forger.issue(&LocalClaims { issuer: "evil", ..forger.claims() })),
            "TOKEN_OF_OTHER_ISSUER",
        ),
    ]
}

#[tokio::test]
async fn a_wrong_token_opens_no_method() {
    let test = TestApp::start().await;
    let account = test.account().await;

    for (name, header, reason) in forgeries(&test) {
        for (path, bytes) in requests(&things(&account)) {
            let mut request = Request::new(bytes);
            if let Some(header) = &header {
                request.metadata_mut().insert("authorization", MetadataValue::try_from(header).unwrap());
            }
            let status = invoke(test.channel.clone(), path, request).await.unwrap_err();
            assert_eq!(refusal(&status), (Code::Unauthenticated, reason.to_owned()), "{name}: {path}");
        }
    }

    assert_nothing_happened(&test).await;
}

#[tokio::test]
async fn two_tokens_are_no_token() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let good = format!("Bearer {}", test.token(&TokenAccounts::All, &TokenScope::ALL));

    for (path, bytes) in requests(&things(&account)) {
        let mut request = Request::new(bytes);
        for header in [&good, &good] {
            request.metadata_mut().append("authorization", MetadataValue::try_from(header).unwrap());
        }
        let status = invoke(test.channel.clone(), path, request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{path}");
    }
}

/// A token of another account, or of none, opens no method.
#[tokio::test]
async fn token_of_other_or_no_account_opens_nothing() {
    let test = TestApp::start().await;
    let account = test.account().await;

    for accounts in [only(OTHER_ACCOUNT), TokenAccounts::Listed([].into())] {
        let token = test.token(&accounts, &TokenScope::ALL);
        for (path, bytes) in requests(&things(&account)) {
            match test.invoke(&token, path, &bytes).await {
                Err(status) => {
                    assert_eq!(refusal(&status), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()), "{path}");
                }
                Ok(told) => assert!(path.ends_with("/ListAccounts") && told.is_empty(), "{path}"),
            }
        }
    }

    assert_nothing_happened(&test).await;
}

/// A token that was good ends when its time is over.
#[tokio::test]
async fn good_token_ends_when_time_is_over() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let token = test.token(&TokenAccounts::All, &[TokenScope::Admin]);
    let request = prost::Message::encode_to_vec(&contact_sync::rpc::pb::GetAccountRequest { account_id: account });
    let path = "/contactsync.v1.AccountService/GetAccount";
    assert!(test.invoke(&token, path, &request).await.is_ok());

    test.pass(TimeDelta::days(1) + TimeDelta::seconds(31));

    for _ in 0..2 {
        let status = test.invoke(&token, path, &request).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::Unauthenticated, "TOKEN_EXPIRED".to_owned()));
    }
}

/// What is not served is UNIMPLEMENTED, whatever the token.
#[tokio::test]
async fn unserved_method_is_unimplemented_whatever_token() {
    let test = TestApp::start().await;
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);

    for path in [
        "/contactsync.v1.ContactService/ErasePerson",
        "/contactsync.v1.CallerService/matchcaller",
        "/contactsync.v1.CallerService/MatchCaller/",
        "/contactsync.v2.CallerService/MatchCaller",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/",
    ] {
        let with_token = test.invoke(&token, path, &[]).await.unwrap_err();
        let without = invoke(test.channel.clone(), path, Request::new(Vec::new())).await.unwrap_err();
        for refused in [with_token, without] {
            assert_eq!(refusal(&refused), (Code::Unimplemented, "METHOD_NOT_SERVED".to_owned()), "{path}");
        }
    }
}

#[tokio::test]
async fn health_needs_no_token() {
    let test = TestApp::start().await;

    let told = invoke(test.channel.clone(), "/grpc.health.v1.Health/Check", Request::new(Vec::new())).await.unwrap();

    // status = SERVING
    assert_eq!(told, [0x08, 0x01]);
}

pub async fn assert_nothing_happened(test: &TestApp) {
    for (table, rows) in [("accounts", 1), ("integrations", 0), ("contacts", 0), ("calls", 0), ("sync_runs", 0)] {
        assert_eq!(test.db.number(&format!("select count(*) from {table}")).await, rows, "{table}");
    }
    assert_eq!(test.db.number("select count(*) from accounts where display_name <> 'Test'").await, 0);
    assert_eq!(test.zendesk.requests().total, 0);
}
