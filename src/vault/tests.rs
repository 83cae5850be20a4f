use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::domain::ids::AccountId;

const SECRET: &str = r#"{"email":"admin@example.com","token":"s3cr3t-ünïcode"}"#;

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn scope(account: u128, integration: u128, field: &str) -> SealScope<'_> {
    SealScope { account: Uuid::from_u128(account), integration: Uuid::from_u128(integration), field }
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

fn ring_file(primary: &str, keys: &[(&str, u8)]) -> String {
    let keys: Vec<String> = keys
        .iter()
        .map(|(id, byte)| format!(r#"{{"id":"{id}","key":"{}"}}"#, BASE64.encode([*byte; KEY_BYTES])))
        .collect();
    format!(r#"{{"primary":"{primary}","keys":[{}]}}"#, keys.join(","))
}

fn ring(primary: &str, keys: &[(&str, u8)]) -> KeyRing {
    KeyRing::parse(&ring_file(primary, keys)).unwrap()
}

/// What was sealed opens with a ring that is read back from its file.
#[test]
fn sealed_value_opens_with_ring_from_file() {
    let ring = KeyRing::generate(&mut rng(1));
    let here = scope(1, 2, "api_token");

    let sealed = ring.seal(&mut rng(2), &here, &secret(SECRET)).unwrap();
    let read_back = KeyRing::parse(ring.to_json().expose_secret()).unwrap();

    assert_eq!(read_back.open(&here, &sealed).unwrap().expose_secret(), SECRET);
    assert_eq!(sealed.len(), 2 + 2 + NONCE_BYTES + SECRET.len() + TAG_BYTES);
    assert!(!read_back.needs_reseal(&sealed));
}

/// A value that is moved to another account, integration or field does not open.
#[test]
fn moved_value_does_not_open() {
    let ring = ring("k1", &[("k1", 7)]);
    let sealed = ring.seal(&mut rng(3), &scope(1, 2, "oauth"), &secret(SECRET)).unwrap();

    // The last two shift bytes between neighbouring parts.
    for elsewhere in
        [scope(9, 2, "oauth"), scope(1, 9, "oauth"), scope(2, 1, "oauth"), scope(1, 2, "oauth2"), scope(1, 2, "oaut")]
    {
        assert_eq!(ring.open(&elsewhere, &sealed).unwrap_err(), VaultError::DoesNotOpen);
    }
}

#[test]
fn a_cut_value_never_opens() {
    let ring = ring("k1", &[("k1", 7)]);
    let here = scope(1, 2, "oauth");
    let sealed = ring.seal(&mut rng(4), &here, &secret(SECRET)).unwrap();

    for length in 0..sealed.len() {
        assert!(ring.open(&here, &sealed[..length]).is_err(), "opened with {length} of {} bytes", sealed.len());
        assert!(ring.open(&here, &sealed[sealed.len() - length..]).is_err(), "opened with the last {length} bytes");
    }
    let mut longer = sealed;
    longer.push(0);
    assert!(ring.open(&here, &longer).is_err());
}

#[test]
fn a_value_with_any_byte_changed_never_opens() {
    // The second key makes a changed key id name a key that exists.
    let ring = ring("k1", &[("k1", 7), ("k0", 8)]);
    let here = scope(1, 2, "oauth");
    let sealed = ring.seal(&mut rng(5), &here, &secret(SECRET)).unwrap();

    for index in 0..sealed.len() {
        for change in 1..=u8::MAX {
            let mut changed = sealed.clone();
            changed[index] ^= change;
            assert!(ring.open(&here, &changed).is_err(), "opened with byte {index} changed by {change}");
        }
    }
}

/// An old key opens, and asks to be replaced.
#[test]
fn old_key_opens_and_wants_replacing() {
    let here = scope(1, 2, "oauth");
    let sealed = ring("k1", &[("k1", 7)]).seal(&mut rng(6), &here, &secret(SECRET)).unwrap();
    let rotated = ring("k2", &[("k2", 8), ("k1", 7)]);

    let opened = rotated.open(&here, &sealed).unwrap();
    let resealed = rotated.seal(&mut rng(7), &here, &opened).unwrap();

    assert!(rotated.needs_reseal(&sealed));
    assert!(!rotated.needs_reseal(&resealed));
    assert_eq!(ring("k2", &[("k2", 8)]).open(&here, &resealed).unwrap().expose_secret(), SECRET);
    assert!(!rotated.needs_reseal(b"not sealed"));
}

/// A ring that is replaced opens by the keys that are left, and seals by the new one; what cannot
/// be right changes nothing.
#[test]
fn replaced_ring_opens_by_what_is_left() {
    let here = scope(1, 2, "oauth");
    let live = ring("k1", &[("k1", 7)]);
    let namer = live.call_namer().clone();
    let sealed = live.seal(&mut rng(6), &here, &secret(SECRET)).unwrap();

    for wrong in ["{".to_owned(), ring_file("k1", &[("k1", 9)]), ring_file("k2", &[("k2", 8), ("k1", 9)])] {
        assert!(matches!(live.replace(&wrong), Err(VaultError::KeyRing(_))), "{wrong}");
        assert_eq!(live.primary_id(), "k1");
    }
    let change = live.replace(&ring_file("k2", &[("k2", 8), ("k1", 7)])).unwrap();
    assert_eq!(change, RingChange { primary: "k2".into(), ids: vec!["k2".into(), "k1".into()], removed: Vec::new() });
    assert_eq!(live.open(&here, &sealed).unwrap().expose_secret(), SECRET);
    let resealed = live.seal(&mut rng(7), &here, &secret(SECRET)).unwrap();
    assert!(live.needs_reseal(&sealed) && !live.needs_reseal(&resealed));
    assert!(resealed.starts_with(&live.primary_head()) && !sealed.starts_with(&live.primary_head()));
    assert_eq!((key_id_of(&sealed), key_id_of(&resealed[..4])), (Some("k1"), Some("k2")));
    assert_eq!((key_id_of(b"no"), key_id_of(&resealed[..3]), key_id_of(&[])), (None, None, None));

    // Calls are named by the key that seals, also by whoever took the namer before.
    let (account_id, by_k2) = (AccountId(Uuid::from_u128(1)), CallRefKey::derive(&[8; 32]));
    assert_eq!(namer.call_ref(account_id, "call-1"), by_k2.call_ref(account_id, "call-1"));

    assert_eq!(live.replace(&ring_file("k2", &[("k2", 8)])).unwrap().removed, ["k1"]);
    assert_eq!(live.open(&here, &sealed).unwrap_err(), VaultError::UnknownKey { id: "k1".to_owned() });
}

/// A key that is not in the ring is named.
#[test]
fn key_missing_from_ring_is_named() {
    let here = scope(1, 2, "oauth");
    let sealed = ring("2025-11", &[("2025-11", 7)]).seal(&mut rng(8), &here, &secret(SECRET)).unwrap();

    let error = ring("k2", &[("k2", 8)]).open(&here, &sealed).unwrap_err();

    assert_eq!(error, VaultError::UnknownKey { id: "2025-11".to_owned() });
    assert!(error.to_string().contains("2025-11"));
}

/// The same key id with another key does not open.
#[test]
fn same_key_id_with_other_key_fails() {
    let here = scope(1, 2, "oauth");
    let sealed = ring("k1", &[("k1", 7)]).seal(&mut rng(9), &here, &secret(SECRET)).unwrap();

    assert_eq!(ring("k1", &[("k1", 8)]).open(&here, &sealed).unwrap_err(), VaultError::DoesNotOpen);
}

#[test]
fn two_seals_of_one_text_differ() {
    let ring = ring("k1", &[("k1", 7)]);
    let (here, mut source) = (scope(1, 2, "oauth"), rng(10));

    let first = ring.seal(&mut source, &here, &secret(SECRET)).unwrap();
    let second = ring.seal(&mut source, &here, &secret(SECRET)).unwrap();

    assert_ne!(first, second);
}

#[test]
fn sizes_are_limited() {
    let ring = ring("k1", &[("k1", 7)]);
    let (here, mut source) = (scope(1, 2, "oauth"), rng(11));
    let field = "f".repeat(FIELD_BYTES_MAX + 1);

    let longest = ring.seal(&mut source, &here, &secret(&"x".repeat(PLAINTEXT_BYTES_MAX))).unwrap();
    let too_long = ring.seal(&mut source, &here, &secret(&"x".repeat(PLAINTEXT_BYTES_MAX + 1)));

    assert!(ring.open(&here, &longest).is_ok());
    assert_eq!(too_long.unwrap_err(), VaultError::TooLong { bytes: PLAINTEXT_BYTES_MAX + 1 });
    assert_eq!(ring.seal(&mut source, &scope(1, 2, ""), &secret("x")).unwrap_err(), VaultError::FieldName { bytes: 0 });
    assert_eq!(
        ring.seal(&mut source, &scope(1, 2, &field), &secret("x")).unwrap_err(),
        VaultError::FieldName { bytes: 65 }
    );
}

/// A wrong key ring is refused without quoting it.
#[test]
fn wrong_key_ring_is_refused_unquoted() {
    let long_id = "i".repeat(KEY_ID_BYTES_MAX + 1);
    let many: Vec<String> = (0..=KEYS_MAX).map(|index| format!("k{index}")).collect();
    let many: Vec<(&str, u8)> = many.iter().map(String::as_str).zip(1..).collect();
    let wrong = [
        ("empty", String::new()),
        ("no keys", r#"{"primary":"k1","keys":[]}"#.to_owned()),
        ("primary not there", ring_file("k9", &[("k1", 7)])),
        ("id twice", ring_file("k1", &[("k1", 7), ("k1", 8)])),
        ("key twice", ring_file("k1", &[("k1", 7), ("k2", 7)])),
        ("id empty", ring_file("", &[("", 7)])),
        ("id too long", ring_file(&long_id, &[(&long_id, 7)])),
        ("id with a quote", ring_file("k\\\"1", &[("k\\\"1", 7)])),
        ("too many", ring_file("k1", &many)),
        (
            "short key",
            format!(r#"{{"primary":"k1","keys":[{{"id":"k1","key":"{}"}}]}}"#, BASE64.encode("hunter2hunter2")),
        ),
        ("not base64", r#"{"primary":"k1","keys":[{"id":"k1","key":"hunter2 hunter2"}]}"#.to_owned()),
        ("key a number", r#"{"primary":"k1","keys":[{"id":"k1","key":424242}]}"#.to_owned()),
        ("unknown field", r#"{"primary":"k1","keys":[],"hunter2":1}"#.to_owned()),
        ("too large", " ".repeat(RING_BYTES_MAX + 1)),
    ];

    for (what, json) in wrong {
        let error = KeyRing::parse(&json).expect_err(what).to_string();
        assert!(error.starts_with("key ring: "), "{what}: {error}");
        assert!(!error.contains("hunter2") && !error.contains("424242"), "{what}: {error}");
        assert!(!error.contains(&BASE64.encode("hunter2hunter2")), "{what}: {error}");
    }
}

#[test]
fn debug_shows_ids_and_no_key() {
    let ring = ring("k2", &[("k1", 0x41), ("k2", 0x42)]);

    let shown = format!("{ring:?}");

    assert_eq!(shown, r#"KeyRing { primary: "k2", ids: ["k1", "k2"], .. }"#);
    assert!(!format!("{:?}", ring.to_json()).contains("QUFB"));
}

proptest! {
    /// Any text opens where it was sealed, and nowhere else.
    #[test]
    fn any_text_opens_only_where_sealed(
        text in ".{0,300}", seed: u64, account: u128, integration: u128, other: u128, field in "[a-z_]{1,64}", other_field in "[a-z_]{1,64}",
    ) {
        let ring = KeyRing::generate(&mut rng(seed));
        let here = scope(account, integration, &field);
        let sealed = ring.seal(&mut rng(seed ^ 1), &here, &secret(&text)).unwrap();

        let opened = ring.open(&here, &sealed).unwrap();
        prop_assert_eq!(opened.expose_secret(), &text);
        for elsewhere in [scope(other, integration, &field), scope(account, other, &field), scope(account, integration, &other_field)] {
            if elsewhere != here {
                prop_assert_eq!(ring.open(&elsewhere, &sealed).unwrap_err(), VaultError::DoesNotOpen);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_open_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), seed: u64) {
        let ring = KeyRing::generate(&mut rng(seed));
        let mut plausible = vec![VERSION, 2, b'k', b'1'];
        plausible.extend_from_slice(&bytes);

        prop_assert!(ring.open(&scope(1, 2, "oauth"), &bytes).is_err());
        prop_assert!(ring.open(&scope(1, 2, "oauth"), &plausible).is_err());
    }
}
