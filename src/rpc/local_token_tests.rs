use std::{collections::HashSet, sync::Arc};

use super::{
    super::{auth::TokenVerifier, claims::TokenRules},
    *,
};
use crate::domain::clock::ManualClock;

/// A directory of this test's own, removed at its end.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("contact-sync-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn auth(&self) -> PathBuf {
        self.0.join("data").join("auth")
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_305_600, 0).unwrap()
}

fn local_claims<'a>(accounts: &'a TokenAccounts, scopes: &'a [TokenScope]) -> LocalClaims<'a> {
    LocalClaims {
        issuer: "contact-sync",
        audience: "contact-sync",
        subject: "local",
        accounts,
        scopes,
        now: now(),
        valid_for: TimeDelta::hours(8),
    }
}

/// A local token is accepted with exactly what it was given.
#[test]
fn local_token_grants_exactly_what_was_given() {
    let pair = generate(&[3; 32]);
    let clock = Arc::new(ManualClock::new(now()));
    let verifier = TokenVerifier::new(&pair.jwks_json, TokenRules::new("contact-sync", "contact-sync"), clock).unwrap();
    let account = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f".parse().unwrap();

    for accounts in [TokenAccounts::All, TokenAccounts::Listed(HashSet::from([account]))] {
        let token =
            issue(&pair.signing_key_pem, &local_claims(&accounts, &[TokenScope::Calls, TokenScope::ContactsRead]))
                .unwrap();
        let caller = verifier.verify(&token).unwrap();

        assert_eq!(caller.accounts(), &accounts);
        assert_eq!(caller.subject(), "local");
        let has: Vec<TokenScope> = TokenScope::ALL.into_iter().filter(|&scope| caller.has(scope)).collect();
        assert_eq!(has, [TokenScope::Calls, TokenScope::ContactsRead]);
    }
}

/// A local token lives a second to thirty days.
#[test]
fn local_token_lives_second_to_thirty_days() {
    let pair = generate(&[3; 32]);
    let issue_for = |valid_for| {
        let claims = LocalClaims { valid_for, ..local_claims(&TokenAccounts::All, &[]) };
        issue(&pair.signing_key_pem, &claims)
    };

    assert!(issue_for(TimeDelta::seconds(1)).is_ok());
    assert!(issue_for(TimeDelta::days(30)).is_ok());
    for wrong in [TimeDelta::zero(), TimeDelta::seconds(-1), TimeDelta::days(30) + TimeDelta::seconds(1)] {
        assert!(matches!(issue_for(wrong), Err(IssueError::BadLifetime)));
    }
    assert!(matches!(issue("no key", &local_claims(&TokenAccounts::All, &[])), Err(IssueError::BadKey)));
}

#[test]
fn the_key_set_holds_no_private_part() {
    let pair = generate(&[3; 32]);

    assert!(!pair.jwks_json.contains("\"d\""));
    assert!(pair.signing_key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(generate(&[3; 32]).jwks_json, pair.jwks_json);
    assert_ne!(generate(&[4; 32]).jwks_json, pair.jwks_json);
}

#[test]
fn the_name_of_a_key_is_its_thumbprint() {
    // RFC 8037, appendix A.3.
    assert_eq!(
        thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}

/// Keys are made once, for their owner only, and never overwritten.
#[test]
fn keys_are_made_once_for_owner_only() {
    let dir = TempDir::new("keys-made-once");

    let keys = ensure_local_keys(&dir.auth(), &[1; 32]).unwrap();
    let first = read_signing_key(&keys).unwrap();
    let again = ensure_local_keys(&dir.auth(), &[2; 32]).unwrap();

    assert_eq!(keys, again);
    assert_eq!(*read_signing_key(&again).unwrap(), *first);
    assert_eq!(fs::read_to_string(&keys.jwks_file).unwrap(), generate(&[1; 32]).jwks_json);
    assert_eq!(mode(&dir.auth()), 0o700);
    assert_eq!((mode(&keys.signing_key_file), mode(&keys.jwks_file)), (0o600, 0o600));
    assert_eq!(fs::read_dir(dir.auth().parent().unwrap()).unwrap().count(), 1, "nothing partial is left");
}

#[test]
fn half_a_pair_is_reported_and_left_alone() {
    for missing in [SIGNING_KEY_FILE, JWKS_FILE] {
        let dir = TempDir::new(&format!("half-a-pair-{missing}"));
        let keys = ensure_local_keys(&dir.auth(), &[1; 32]).unwrap();
        fs::remove_file(dir.auth().join(missing)).unwrap();

        let error = ensure_local_keys(&dir.auth(), &[2; 32]).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains(&format!("{missing} does not")), "{error}");
        assert_ne!(keys.signing_key_file.exists(), keys.jwks_file.exists());
    }
}

#[test]
fn a_directory_with_other_files_is_left_alone() {
    let dir = TempDir::new("other-files");
    fs::create_dir_all(dir.auth()).unwrap();
    fs::write(dir.auth().join("notes"), "mine").unwrap();

    let error = ensure_local_keys(&dir.auth(), &[1; 32]).unwrap_err();

    assert!(error.to_string().contains("a directory of their own"), "{error}");
    assert_eq!(fs::read_dir(dir.auth()).unwrap().count(), 1);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = TempDir::new("readable-key");
    let keys = ensure_local_keys(&dir.auth(), &[1; 32]).unwrap();
    fs::set_permissions(&keys.signing_key_file, fs::Permissions::from_mode(0o640)).unwrap();

    let error = ensure_local_keys(&dir.auth(), &[1; 32]).unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().contains("mode 0640"), "{error}");
}

#[test]
fn processes_that_start_at_once_use_one_pair() {
    let dir = TempDir::new("two-starts");
    let auth = dir.auth();
    // What a crash before the rename leaves: another process's unfinished directory.
    fs::create_dir_all(auth.parent().unwrap()).unwrap();
    fs::create_dir(auth.with_extension(format!("partial-{}", std::process::id()))).unwrap();
    // The other process wins between our look and our rename.
    let ours = generate(&[1; 32]);
    let winner = ensure_local_keys(&auth, &[2; 32]).unwrap();

    create(&auth, &ours).unwrap();

    assert_eq!(fs::read_to_string(&winner.jwks_file).unwrap(), generate(&[2; 32]).jwks_json);
    assert_eq!(fs::read_dir(auth.parent().unwrap()).unwrap().count(), 1, "nothing partial is left");
}

/// The signing key is written as other tools read it. RFC 8410 §7: version 0, the algorithm's
/// identifier alone, the key in an OCTET STRING of its own, and nothing behind it.
#[test]
fn signing_key_is_written_as_others_read() {
    use base64::prelude::BASE64_STANDARD;

    let pair = generate(&[3; 32]);

    let lines: Vec<&str> = pair.signing_key_pem.lines().collect();
    let [first, body, last] = lines[..] else { panic!("not three lines") };
    let der = BASE64_STANDARD.decode(body).unwrap();
    let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    assert_eq!((first, last), ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"));
    assert_eq!(der, [&head[..], &[3; 32]].concat());
    assert!(pair.signing_key_pem.ends_with("-----\n"));
}

/// A signing key of another tool or an earlier version is read.
#[test]
fn signing_key_of_other_tools_is_read() {
    let pair = generate(&[3; 32]);
    let with_public_key = SigningKey::from_bytes(&[3; 32]).to_pkcs8_pem(LineEnding::LF).unwrap();
    let with_crlf = pair.signing_key_pem.replace('\n', "\r\n");
    let expected = issue(&pair.signing_key_pem, &local_claims(&TokenAccounts::All, &[])).unwrap();

    for pem in [with_public_key.as_str(), &with_crlf, pair.signing_key_pem.trim_end()] {
        assert_eq!(issue(pem, &local_claims(&TokenAccounts::All, &[])).unwrap(), expected, "one key, one token");
    }
}
