//! The cryptography under JSON Web Tokens, by ring, which TLS brings anyway: the library for tokens
//! leaves it to whoever uses it. Its own choices are a crate whose RSA leaks by time
//! (RUSTSEC-2023-0071), and one that needs a C++ tool chain. Signs RS256 and `EdDSA`, verifies
//! these and ES256, and nothing else. Must not know what a token says.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature::{self, Signer, Verifier},
};
use ring::{
    agreement::{self, ECDH_P256, EphemeralPrivateKey},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, Ed25519KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents, UnparsedPublicKey,
    },
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(SigningJwk::read(*algorithm, key)?)),
    verifier_factory: |algorithm, key| Ok(Box::new(PublicJwk { algorithm: *algorithm, key: key.clone() })),
    // For keys that are made or written as JWK by the library, which nobody here does.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Before a token is signed or verified; more than once does no harm.
pub fn install() {
    // Somebody else was first.
    let _ = PROVIDER.install_default();
}

/// Whether these coordinates, of 32 bytes each, are a point of the curve P-256. ring says so only
/// where a secret is to be agreed on.
pub fn is_p256_point(x: &[u8], y: &[u8]) -> bool {
    let Ok(own) = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()) else { return false };
    let point = agreement::UnparsedPublicKey::new(&ECDH_P256, [&[4], x, y].concat());
    agreement::agree_ephemeral(own, &point, |_| ()).is_ok()
}

enum SigningJwk {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

impl SigningJwk {
    fn read(algorithm: Algorithm, key: &EncodingKey) -> Result<Self, Error> {
        match algorithm {
            // PKCS#1, as the library takes it out of PEM.
            Algorithm::RS256 => RsaKeyPair::from_der(key.as_bytes())
                .map(|pair| Self::Rsa(Box::new(pair)))
                .map_err(|rejected| ErrorKind::InvalidRsaKey(rejected.to_string()).into()),
            // Version 1 of PKCS#8, which other libraries write, has no public key to compare.
            Algorithm::EdDSA => Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.as_bytes())
                .map(Self::Ed25519)
                .map_err(|_| ErrorKind::InvalidEddsaKey.into()),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl Signer<Vec<u8>> for SigningJwk {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        match self {
            Self::Rsa(pair) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signed)
                    .map_err(|_| signature::Error::new())?;
                Ok(signed)
            }
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for SigningJwk {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::RS256,
            Self::Ed25519(_) => Algorithm::EdDSA,
        }
    }
}

struct PublicJwk {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for PublicJwk {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (self.algorithm, self.key.kind()) {
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signed)
            }
            (Algorithm::RS256, DecodingKeyKind::SecretOrDer(der)) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).verify(message, signed)
            }
            // A point, uncompressed.
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signed)
            }
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signed)
            }
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for PublicJwk {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
