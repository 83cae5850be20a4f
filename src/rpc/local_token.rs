//! The local issuer: a signing key and its JWKS in files of our own, for embedded mode, the demo
//! and tests, where no identity provider exists. Makes the pair once and never overwrites it;
//! nobody but the owner may read it. Not used where the operator configures a JWKS of another
//! issuer.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use ed25519_dalek::{
    SigningKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes, spki::der::pem::LineEnding},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{claims::TokenAccounts, methods::TokenScope};

/// Longest life of a local token.
pub const VALID_FOR_MAX: TimeDelta = TimeDelta::days(30);

const SIGNING_KEY_FILE: &str = "signing-key.pem";
const JWKS_FILE: &str = "jwks.json";

/// Where the local issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalKeys {
    /// Ed25519 private key, PKCS#8 in PEM (RFC 8410), mode 0600. Version 1, which OpenSSL and
    /// others read; version 2, which has the public key too, is read as well.
    pub signing_key_file: PathBuf,
    /// Its public part as a JWKS, mode 0600.
    pub jwks_file: PathBuf,
}

impl LocalKeys {
    /// The paths within this directory, whether or not the files exist.
    pub fn in_dir(dir: &Path) -> Self {
        Self { signing_key_file: dir.join(SIGNING_KEY_FILE), jwks_file: dir.join(JWKS_FILE) }
    }
}

/// A fresh key pair in its two written forms.
pub struct KeyPair {
    /// PKCS#8 in PEM.
    pub signing_key_pem: Zeroizing<String>,
    /// A JWKS with the public key alone.
    pub jwks_json: String,
}

/// The key pair of these random bytes: the same bytes, the same pair.
///
/// # Panics
/// Never: every Ed25519 key has a PKCS#8 form.
pub fn generate(seed: &[u8; 32]) -> KeyPair {
    let signing = SigningKey::from_bytes(seed);
    let x = BASE64_URL_SAFE_NO_PAD.encode(signing.verifying_key().as_bytes());
    let jwks = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": thumbprint(&x), "x": x,
    }]});
    // Without the public key it is version 1.
    let bytes = KeypairBytes { secret_key: signing.to_bytes(), public_key: None };
    KeyPair {
        signing_key_pem: bytes.to_pkcs8_pem(LineEnding::LF).expect("every Ed25519 key has a PKCS#8 form"),
        jwks_json: format!("{jwks:#}\n"),
    }
}

/// The local issuer's keys in this directory, made from `seed` (32 random bytes) if there are none.
/// The directory appears whole, by a rename: a crash leaves no half of a pair, and of two processes
/// that start at once both use the same one. Fails if only one of the two files exists, or if the
/// private key can be read by others.
pub fn ensure_local_keys(dir: &Path, seed: &[u8; 32]) -> io::Result<LocalKeys> {
    let keys = LocalKeys::in_dir(dir);
    if !is_complete(&keys)? {
        create(dir, &generate(seed))?;
        if !is_complete(&keys)? {
            let text = format!(
                "{} holds other files and no keys; the local keys need a directory of their own",
                dir.display()
            );
            return Err(io::Error::other(text));
        }
    }
    read_signing_key(&keys)?;
    Ok(keys)
}

/// The private key's PEM. Fails if others than its owner may read the file.
pub fn read_signing_key(keys: &LocalKeys) -> io::Result<Zeroizing<String>> {
    let path = &keys.signing_key_file;
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let mode = fs::metadata(path).map_err(named)?.permissions().mode();
    if mode & 0o077 != 0 {
        let text =
            format!("{} has mode {:04o}; it must be readable by its owner only (0600)", path.display(), mode & 0o7777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(named)
}

fn is_complete(keys: &LocalKeys) -> io::Result<bool> {
    match (keys.signing_key_file.try_exists()?, keys.jwks_file.try_exists()?) {
        (true, true) => Ok(true),
        (false, false) => Ok(false),
        (has_key, _) => {
            let (there, missing) = if has_key {
                (&keys.signing_key_file, &keys.jwks_file)
            } else {
                (&keys.jwks_file, &keys.signing_key_file)
            };
            let text = format!(
                "{} exists and {} does not; restore it, or remove the other: then a new pair is made and old tokens end",
                there.display(),
                missing.display()
            );
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

fn create(dir: &Path, pair: &KeyPair) -> io::Result<()> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    // What an earlier process of this id left behind is of no use: it was never renamed.
    let partial = dir.with_extension(format!("partial-{}", std::process::id()));
    match fs::remove_dir_all(&partial) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&partial)?;
    let made = LocalKeys::in_dir(&partial);
    write_new(&made.signing_key_file, pair.signing_key_pem.as_bytes())?;
    write_new(&made.jwks_file, pair.jwks_json.as_bytes())?;
    match fs::rename(&partial, dir) {
        Ok(()) => fs::File::open(parent)?.sync_all(),
        // Another process was first; its pair counts.
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            fs::remove_dir_all(&partial)
        }
        Err(e) => Err(e),
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// What a local token says.
pub struct LocalClaims<'a> {
    /// Must be what the server expects.
    pub issuer: &'a str,
    /// Must be what the server expects.
    pub audience: &'a str,
    /// Who will call; at most 256 bytes.
    pub subject: &'a str,
    /// For which accounts.
    pub accounts: &'a TokenAccounts,
    /// For what.
    pub scopes: &'a [TokenScope],
    /// The token is valid from this moment.
    pub now: DateTime<Utc>,
    /// How long, at most 30 days.
    pub valid_for: TimeDelta,
}

/// What can be wrong with a token to issue.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The key is not what `generate` makes.
    #[error("the signing key is no Ed25519 private key in PKCS#8 PEM")]
    BadKey,
    /// Not a positive time, or too long.
    #[error("a local token is valid for at least a second and at most 30 days")]
    BadLifetime,
    /// The library refused.
    #[error("the token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// One JWT, signed with `EdDSA`.
pub fn issue(signing_key_pem: &str, claims: &LocalClaims<'_>) -> Result<String, IssueError> {
    if claims.valid_for < TimeDelta::seconds(1) || claims.valid_for > VALID_FOR_MAX {
        return Err(IssueError::BadLifetime);
    }
    let signing = SigningKey::from_pkcs8_pem(signing_key_pem).map_err(|_| IssueError::BadKey)?;
    let der = signing.to_pkcs8_der().map_err(|_| IssueError::BadKey)?;
    crate::jwt::install();
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(thumbprint(&BASE64_URL_SAFE_NO_PAD.encode(signing.verifying_key().as_bytes())));
    let accounts = match claims.accounts {
        TokenAccounts::All => json!("*"),
        TokenAccounts::Listed(ids) => json!(ids),
    };
    let scope = claims.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ");
    let now = claims.now.timestamp();
    let body = json!({
        "iss": claims.issuer, "aud": claims.audience, "sub": claims.subject,
        "iat": now, "nbf": now, "exp": now + claims.valid_for.num_seconds(),
        "accounts": accounts, "scope": scope,
    });
    encode(&header, &body, &EncodingKey::from_ed_der(der.as_bytes())).map_err(IssueError::Sign)
}

/// The key's name: its JWK thumbprint (RFC 7638, RFC 8037 §2).
fn thumbprint(x: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
}

#[cfg(test)]
#[path = "local_token_tests.rs"]
mod tests;
