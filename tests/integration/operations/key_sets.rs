//! The issuer's keys come from an address: read over real HTTP and TLS, never followed elsewhere,
//! bounded, kept while the place errs, and read at once when a token names a key that is not known.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use contact_sync::{
    domain::{
        clock::{Clock, ManualClock},
        ids::IdSource,
    },
    key_source::{KEYS_BYTES_MAX, KeyAddress, KeySource, KeySourceError, KeyWatch, read_at_start},
    rpc::{
        auth::TokenVerifier,
        claims::{TokenAccounts, TokenRules},
        jwks::JwksError,
        local_token::{KeyPair, LocalClaims, generate, issue},
        methods::TokenScope,
        pb,
    },
};
use tonic::Code;

use crate::support::{
    TestApp,
    key_server::{KeyAnswer, KeyServer},
    reason, start_time,
};

const EVERY: Duration = Duration::from_mins(5);

fn ids() -> Arc<IdSource> {
    Arc::new(IdSource::seeded(1))
}

fn token(keys: &KeyPair) -> String {
    let claims = LocalClaims {
        issuer: "contact-sync",
        audience: "contact-sync",
        subject: "router",
        accounts: &TokenAccounts::All,
        scopes: &TokenScope::ALL,
        now: start_time(),
        valid_for: TimeDelta::hours(1),
    };
    issue(&keys.signing_key_pem, &claims).unwrap()
}

fn verifier(text: &str) -> Result<TokenVerifier, JwksError> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(start_time()));
    TokenVerifier::new(text, TokenRules::new("contact-sync", "contact-sync"), clock)
}

async fn started(server: &KeyServer) -> (TokenVerifier, KeyWatch) {
    read_at_start("key set", server.source(), EVERY, ids(), verifier).await.unwrap()
}

/// A place with a certificate of the operator's own authority is read, and by nobody without it.
#[tokio::test]
async fn keys_are_read_under_operators_authority() {
    let (server, keys) = (KeyServer::encrypted().await, generate(&[1; 32]));
    server.publish(&keys.jwks_json);

    let (verifier, _) = started(&server).await;
    let stranger = KeySource::Address(KeyAddress::new(&server.url, None).unwrap()).read().await;

    assert!(verifier.verify(&token(&keys)).is_ok());
    assert!(server.ca_file().is_some() && matches!(stranger, Err(KeySourceError::Unreachable(_))), "{stranger:?}");
    assert_eq!(server.requests(), 1);
}

/// Whatever else a place answers is refused, and nothing of it is followed.
#[tokio::test]
async fn other_answers_are_refused_and_not_followed() {
    let (server, elsewhere) = (KeyServer::plain().await, KeyServer::plain().await);
    elsewhere.publish(&generate(&[1; 32]).jwks_json);
    let read = async |head: &str, body: &[u8]| {
        server.tell_head(head, body);
        server.source().read().await.unwrap_err()
    };

    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"] {
        let refused = read(&format!("{status}\r\nlocation: {}", elsewhere.url), b"").await;
        assert!(matches!(refused, KeySourceError::Redirect(301 | 302 | 307)), "{refused}");
    }
    assert!(matches!(read("500 Internal Server Error", b"{}").await, KeySourceError::Status(500)));
    assert!(matches!(read("204 No Content", b"").await, KeySourceError::Status(204)));
    assert!(matches!(read("200 OK", &[0xff; 10]).await, KeySourceError::NoText));
    assert!(matches!(read("200 OK", &vec![b' '; KEYS_BYTES_MAX + 1]).await, KeySourceError::TooLarge));
    // Without a length, and more than it says.
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b' '; 4 * KEYS_BYTES_MAX]].concat();
    server.tell(KeyAnswer::Bytes(endless));
    assert!(matches!(server.source().read().await, Err(KeySourceError::TooLarge)));
    server.tell(KeyAnswer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()));
    assert!(matches!(server.source().read().await, Err(KeySourceError::Unreachable(_))));
    server.tell(KeyAnswer::Silence);
    assert!(matches!(server.impatient().read().await, Err(KeySourceError::Unreachable(_))));
    assert_eq!(elsewhere.requests(), 0);
    let largest = format!("{}{}", generate(&[2; 32]).jwks_json, " ".repeat(KEYS_BYTES_MAX));
    server.publish(&largest[..KEYS_BYTES_MAX]);
    assert!(verifier(&server.source().read().await.unwrap()).is_ok(), "as much as is read");
}

/// The last good keys stay while the place errs, and another set takes their place when it comes.
#[tokio::test]
async fn last_keys_stay_while_place_errs() {
    let (server, old, new) = (KeyServer::plain().await, generate(&[1; 32]), generate(&[2; 32]));
    server.publish(&old.jwks_json);
    let (verifier, mut watch) = started(&server).await;
    let takes = |keys: &KeyPair| verifier.verify(&token(keys)).is_ok();

    for (status, body) in [
        ("500 Internal Server Error", new.jwks_json.as_str()),
        ("200 OK", "<html>We are being maintained</html>"),
        ("200 OK", "{\"keys\": []}"),
        ("302 Found", ""),
        ("200 OK", old.jwks_json.as_str()),
    ] {
        server.tell_head(status, body.as_bytes());
        watch.look(|text: &str| verifier.replace_keys(text)).await;
        assert!(takes(&old) && !takes(&new), "{status}: {body}");
    }
    server.publish(&new.jwks_json);
    watch.look(|text: &str| verifier.replace_keys(text)).await;

    assert!(takes(&new) && !takes(&old));
}

/// A key that is used as soon as it is published costs no call: the set is read at once, and for
/// keys that nobody has, not again and again.
#[tokio::test]
async fn unknown_key_has_set_read_at_once() {
    let server = KeyServer::plain().await;
    let (old, new, nobodys) = (generate(&[1; 32]), generate(&[2; 32]), generate(&[3; 32]));
    server.publish(&old.jwks_json);
    let (verifier, watch) = started(&server).await;
    let verifier = Arc::new(verifier.looking_early(watch.early.clone()));
    let test = TestApp::start_verifying(Arc::clone(&verifier)).await;
    let taking = Arc::clone(&verifier);
    let watching = watch.watch_until(move |text: &str| taking.replace_keys(text), test.lifecycle.soft());
    test.lifecycle.tasks().spawn(watching);
    let ask = async |token: String| {
        let client = test.client_with(&token);
        let mut accounts = pb::account_service_client::AccountServiceClient::new(client);
        accounts.list_accounts(pb::ListAccountsRequest::default()).await.map(|_| ())
    };

    ask(token(&old)).await.unwrap();
    assert_eq!(server.requests(), 1);
    server.publish(&new.jwks_json);
    ask(token(&old)).await.unwrap();
    ask(token(&new)).await.unwrap();
    assert_eq!(server.requests(), 2);
    for _ in 0..20 {
        let refused = ask(token(&nobodys)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_INVALID"));
    }
    assert_eq!(server.requests(), 2, "once in half a minute");
    test.lifecycle.soft().cancel();
}

/// What cannot be read at the start is told with the address, after some tries.
#[tokio::test(start_paused = true)]
async fn start_without_keys_fails_with_address() {
    // As `main` does; another test of this process may have.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/keys", closed.local_addr().unwrap())
    };
    let source = KeySource::Address(KeyAddress::new(&url, None).unwrap());

    let failed = read_at_start("key set", source, EVERY, ids(), verifier).await.err().unwrap().to_string();

    assert!(failed.starts_with(&format!("{url}: it cannot be reached")), "{failed}");
    let missing = read_at_start("key set", KeySource::File("/nowhere/jwks.json".into()), EVERY, ids(), verifier).await;
    assert!(missing.err().unwrap().to_string().contains("cannot read /nowhere/jwks.json"));
}
