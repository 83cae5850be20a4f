//! The keys that tokens are verified with: reads a JSON Web Key Set (RFC 7517) and accepts Ed25519
//! (`EdDSA`), P-256 (ES256) and RSA (RS256). Strict where a mistake would weaken every call,
//! lenient where the RFC asks for it: keys for other uses or algorithms are passed over. Holds
//! public keys only.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// Largest key set, in bytes.
pub const JWKS_BYTES_MAX: usize = 64 * 1024;
/// Most keys in a set: a token without `kid` is tried with each that fits.
const KEYS_MAX: usize = 32;
/// Smallest RSA modulus, in bits (RFC 7518 §3.3).
const RSA_BITS_MIN: usize = 2048;
/// Largest RSA modulus, in bits: what is longer takes the time of many calls.
const RSA_BITS_MAX: usize = 4096;

/// What is wrong with a key set.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Longer than 64 KiB.
    #[error("the key set has {0} bytes; at most {JWKS_BYTES_MAX} are read")]
    TooLarge(usize),
    /// Not JSON, or not shaped like a JWKS.
    #[error("the key set is no JSON Web Key Set: an object with the array \"keys\" is expected")]
    Unreadable(#[source] serde_json::Error),
    /// More than 32.
    #[error("the key set has {0} keys; at most {KEYS_MAX} are expected")]
    TooMany(usize),
    /// Nothing to verify with.
    #[error(
        "the key set has no key for signatures with EdDSA (kty OKP, crv Ed25519), ES256 (kty EC, crv P-256) or RS256 (kty RSA)"
    )]
    NoneUsable,
    /// Two keys claim one name.
    #[error("two keys have the kid {0:?}; each needs its own")]
    SameKid(String),
    /// A key file in the wrong place.
    #[error("key {0} is private or secret; put its public part into the key set and keep the other to the issuer")]
    Private(usize),
    /// Unusable parameters.
    #[error("key {0} is not a valid {1} public key")]
    BadKey(usize, &'static str),
    /// An RSA key that is too short, or longer than the library verifies.
    #[error("key {0} has an RSA modulus of {1} bits; {RSA_BITS_MIN} to {RSA_BITS_MAX} are accepted")]
    RsaSize(usize, usize),
}

/// One key and the only algorithm that it may verify.
pub(crate) struct VerifyingJwk {
    kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) verifying: DecodingKey,
}

/// A non-empty set of keys.
pub(crate) struct KeySet(Vec<VerifyingJwk>);

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<RawKey>,
}

/// The members that matter here; the rest is passed over (RFC 7517 §4).
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// Private exponent or seed.
    d: Option<serde::de::IgnoredAny>,
    /// Secret of a symmetric key.
    k: Option<serde::de::IgnoredAny>,
}

impl KeySet {
    pub(crate) fn parse(json: &str) -> Result<Self, JwksError> {
        if json.len() > JWKS_BYTES_MAX {
            return Err(JwksError::TooLarge(json.len()));
        }
        let raw: RawSet = serde_json::from_str(json).map_err(JwksError::Unreadable)?;
        if raw.keys.len() > KEYS_MAX {
            return Err(JwksError::TooMany(raw.keys.len()));
        }
        let mut keys: Vec<VerifyingJwk> = Vec::with_capacity(raw.keys.len());
        for (index, raw) in raw.keys.into_iter().enumerate() {
            let Some(key) = read_key(index, raw)? else { continue };
            if key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid) {
                return Err(JwksError::SameKid(key.kid.unwrap_or_default()));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(JwksError::NoneUsable);
        }
        Ok(Self(keys))
    }

    /// The keys that may have signed a token with this header: of its algorithm, and of its `kid`
    /// if it has one.
    pub(crate) fn candidates(&self, algorithm: Algorithm, kid: Option<&str>) -> impl Iterator<Item = &VerifyingJwk> {
        self.0.iter().filter(move |key| key.algorithm == algorithm && (kid.is_none() || key.kid.as_deref() == kid))
    }
}

/// `None`: a key for something else. Keys are counted from 0 in errors.
fn read_key(index: usize, raw: RawKey) -> Result<Option<VerifyingJwk>, JwksError> {
    if raw.d.is_some() || raw.k.is_some() {
        return Err(JwksError::Private(index));
    }
    if raw.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return Ok(None);
    }
    let fits = |algorithm| raw.alg.as_deref().is_none_or(|alg| alg == algorithm);
    let (algorithm, verifying) = match raw.kty.as_str() {
        "OKP" if raw.crv.as_deref() == Some("Ed25519") && (fits("EdDSA") || fits("Ed25519")) => {
            (Algorithm::EdDSA, read_ed25519(raw.x.as_deref()).ok_or(JwksError::BadKey(index, "Ed25519"))?)
        }
        "EC" if raw.crv.as_deref() == Some("P-256") && fits("ES256") => {
            let key = read_p256(raw.x.as_deref(), raw.y.as_deref());
            (Algorithm::ES256, key.ok_or(JwksError::BadKey(index, "P-256"))?)
        }
        "RSA" if fits("RS256") => (Algorithm::RS256, read_rsa(index, raw.n.as_deref(), raw.e.as_deref())?),
        _ => return Ok(None),
    };
    Ok(Some(VerifyingJwk { kid: raw.kid, algorithm, verifying }))
}

/// A point of the curve that is not of small order: signatures under such a key say nothing.
fn read_ed25519(x: Option<&str>) -> Option<DecodingKey> {
    let bytes: [u8; 32] = BASE64_URL_SAFE_NO_PAD.decode(x?).ok()?.try_into().ok()?;
    let point = ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok()?;
    (!point.is_weak()).then(|| DecodingKey::from_ed_der(&bytes))
}

/// Two coordinates of 32 bytes each (RFC 7518 §6.2.1), of a point of the curve: under another key
/// nothing could be verified, and it would take the place of one that can.
fn read_p256(x: Option<&str>, y: Option<&str>) -> Option<DecodingKey> {
    let (x, y) = (x?, y?);
    let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 32);
    if !crate::jwt::is_p256_point(&bytes(x)?, &bytes(y)?) {
        return None;
    }
    DecodingKey::from_ec_components(x, y).ok()
}

fn read_rsa(index: usize, n: Option<&str>, e: Option<&str>) -> Result<DecodingKey, JwksError> {
    let bad = || JwksError::BadKey(index, "RSA");
    let read = |text: Option<&str>| text.and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(bad);
    // Some libraries write a leading zero, against RFC 7518 §6.3.1.1, and others refuse it.
    let bare = |number: Vec<u8>| number.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let (modulus, exponent) = (bare(read(n)?), bare(read(e)?));
    let bits = bit_length(&modulus);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(JwksError::RsaSize(index, bits));
    }
    // An even modulus or exponent is no RSA key; 1 as the exponent makes every signature valid.
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !is_odd(&modulus) || !is_odd(&exponent) || !(2..=33).contains(&bit_length(&exponent)) {
        return Err(bad());
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

/// Bits of a big-endian number.
fn bit_length(number: &[u8]) -> usize {
    match number.iter().position(|&byte| byte != 0) {
        None => 0,
        Some(first) => (number.len() - first) * 8 - number[first].leading_zeros() as usize,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ed25519(kid: &str) -> Value {
        let public = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": BASE64_URL_SAFE_NO_PAD.encode(public.as_bytes())})
    }

    fn rsa(modulus_bytes: usize, exponent: &[u8]) -> Value {
        let modulus = vec![0xff; modulus_bytes];
        json!({
            "kty": "RSA",
            "n": BASE64_URL_SAFE_NO_PAD.encode(modulus),
            "e": BASE64_URL_SAFE_NO_PAD.encode(exponent),
        })
    }

    fn parse(keys: &[Value]) -> Result<KeySet, JwksError> {
        KeySet::parse(&json!({"keys": keys}).to_string())
    }

    /// Keys for other uses and algorithms are passed over.
    #[test]
    fn keys_for_other_uses_are_passed_over() {
        let mut for_encryption = ed25519("enc");
        for_encryption["use"] = json!("enc");
        let mut for_pss = rsa(256, &[1, 0, 1]);
        for_pss["alg"] = json!("PS256");
        let elliptic = json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"});
        let others = [for_encryption, for_pss, elliptic];

        assert!(matches!(parse(&others), Err(JwksError::NoneUsable)));
        let with_one: Vec<Value> = others.into_iter().chain([ed25519("a")]).collect();
        assert_eq!(parse(&with_one).unwrap().0.len(), 1);
    }

    /// A key verifies its own algorithm and name only.
    #[test]
    fn key_verifies_only_its_algorithm_and_name() {
        let keys = parse(&[ed25519("a"), rsa(256, &[1, 0, 1])]).unwrap();
        let count = |algorithm, kid| keys.candidates(algorithm, kid).count();

        assert_eq!(count(Algorithm::EdDSA, Some("a")), 1);
        assert_eq!(count(Algorithm::EdDSA, None), 1);
        assert_eq!(count(Algorithm::RS256, None), 1);
        assert_eq!(count(Algorithm::EdDSA, Some("b")), 0);
        assert_eq!(count(Algorithm::RS256, Some("a")), 0);
        assert_eq!(count(Algorithm::HS256, None), 0);
        assert_eq!(count(Algorithm::RS512, None), 0);
    }

    /// A leading zero in front of a number of RSA changes nothing.
    #[test]
    fn leading_zeros_of_rsa_are_passed_over() {
        let mut padded = rsa(256, &[0, 1, 0, 1]);
        padded["n"] = json!(BASE64_URL_SAFE_NO_PAD.encode([&[0][..], &[0xff; 256]].concat()));
        let keys = parse(&[padded]).unwrap();

        let kind = keys.0[0].verifying.kind();
        let jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, e } = kind else { panic!("{kind:?}") };
        assert_eq!((n.len(), n[0], &e[..]), (256, 0xff, &[1, 0, 1][..]));
    }

    #[test]
    fn weak_broken_private_and_ambiguous_sets_are_refused() {
        let mut private = ed25519("a");
        private["d"] = json!("AAAA");
        let secret = json!({"kty": "oct", "k": "AAAA"});
        let mut short = ed25519("a");
        short["x"] = json!("AAAA");
        let mut weak = ed25519("a");
        weak["x"] = json!(BASE64_URL_SAFE_NO_PAD.encode([0; 32]));

        assert!(matches!(parse(&[private]), Err(JwksError::Private(0))));
        assert!(matches!(parse(&[ed25519("a"), secret]), Err(JwksError::Private(1))));
        assert!(matches!(parse(&[short]), Err(JwksError::BadKey(0, "Ed25519"))));
        assert!(matches!(parse(&[weak]), Err(JwksError::BadKey(0, "Ed25519"))));
        let off_the_curve = (json!("A".repeat(43)), json!("A".repeat(43)));
        for (x, y) in [(json!("AAAA"), json!("AAAA")), (json!("A".repeat(43)), json!(null)), off_the_curve] {
            let elliptic = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
            assert!(matches!(parse(&[elliptic]), Err(JwksError::BadKey(0, "P-256"))));
        }
        assert!(matches!(parse(&[rsa(128, &[1, 0, 1])]), Err(JwksError::RsaSize(0, 1024))));
        assert!(matches!(parse(&[rsa(1024, &[1, 0, 1])]), Err(JwksError::RsaSize(0, 8192))));
        assert!(matches!(parse(&[rsa(256, &[1])]), Err(JwksError::BadKey(0, "RSA"))));
        assert!(matches!(parse(&[rsa(256, &[1, 0, 0])]), Err(JwksError::BadKey(0, "RSA"))));
        assert!(matches!(parse(&[ed25519("a"), ed25519("a")]), Err(JwksError::SameKid(_))));
        assert!(matches!(parse(&vec![ed25519("a"); 33]), Err(JwksError::TooMany(33))));
        assert!(matches!(KeySet::parse(&" ".repeat(JWKS_BYTES_MAX + 1)), Err(JwksError::TooLarge(_))));
        for text in ["", "[]", "{}", "{\"keys\": 1}", "-----BEGIN PUBLIC KEY-----"] {
            assert!(matches!(KeySet::parse(text), Err(JwksError::Unreadable(_))), "{text}");
        }
    }
}
