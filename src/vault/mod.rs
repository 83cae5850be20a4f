//! Seals and opens the customers' CRM credentials with AES-256-GCM-SIV (RFC 8452), under keys from
//! a ring.
//!
//! Invariant: what was sealed for one account, integration and field opens for no other, and not
//! after any change, because these are part of what is authenticated. The first (primary) key
//! seals, every key opens, so keys can be rotated. Keys and plaintext held here are wiped from
//! memory when dropped, and never printed. No files and no tables here.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Key, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::CryptoRng;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::domain::{
    call_ref::{CallNamer, CallRefKey},
    hook::HookAddressKey,
};

/// First byte of everything sealed, and of what is authenticated with it.
const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Longest key id; its length is stored in one byte.
const KEY_ID_BYTES_MAX: usize = 32;
/// Longest beginning of a sealed value that names its key, in bytes: version, length and id.
pub const HEAD_BYTES_MAX: usize = 2 + KEY_ID_BYTES_MAX;
/// Most keys in a ring; two suffice for a rotation.
const KEYS_MAX: usize = 16;
/// Longest key ring file in bytes.
const RING_BYTES_MAX: usize = 16 * 1024;
/// Longest field name in bytes.
const FIELD_BYTES_MAX: usize = 64;
/// Longest credential in bytes; a private key or a JSON of tokens is a few thousand.
pub const PLAINTEXT_BYTES_MAX: usize = 64 * 1024;

/// Why something was not sealed or not opened. No variant holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The key ring file is not what it should be.
    #[error("key ring: {0}")]
    KeyRing(String),

    /// The bytes do not look like something sealed here.
    #[error("sealed value: {0}")]
    Malformed(&'static str),

    /// Sealed with a key that the ring does not hold.
    #[error("sealed value needs key {id:?}, which is not in the key ring; add it back to the ring")]
    UnknownKey {
        /// The id of the key that is missing.
        id: String,
    },

    /// Sealed for another place, with another key of the same id, or changed since. Which of them
    /// cannot be known.
    #[error("sealed value does not open: it belongs to another account, integration or field, or it was changed")]
    DoesNotOpen,

    /// More than [`PLAINTEXT_BYTES_MAX`].
    #[error("credential has {bytes} bytes, at most {PLAINTEXT_BYTES_MAX} can be sealed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },

    /// An empty or over-long field name; a mistake in the calling code.
    #[error("field name has {bytes} bytes, 1 to {FIELD_BYTES_MAX} are allowed")]
    FieldName {
        /// Its length.
        bytes: usize,
    },
}

/// The place that a credential belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealScope<'a> {
    /// The tenant.
    pub account: Uuid,
    /// The account's link to one CRM organisation.
    pub integration: Uuid,
    /// Which of the integration's credentials, for example `oauth`; 1 to 64 bytes.
    pub field: &'a str,
}

/// The keys: the primary seals, all of them open.
///
/// As a file: `{"primary":"k2","keys":[{"id":"k2","key":"<32 bytes in
/// base64>"},{"id":"k1","key":"..."}]}`. To rotate, add a key, make it primary when every process
/// has it, reseal what [`KeyRing::needs_reseal`] names, then take the old key out.
pub struct KeyRing {
    keys: RwLock<Arc<RingKeys>>,
    namer: CallNamer,
}

/// The keys of one moment.
struct RingKeys {
    primary: usize,
    keys: Vec<RingKey>,
}

/// What became of a key ring whose keys were replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingChange {
    /// The id of the key that seals from now on.
    pub primary: String,
    /// The ids of all keys, in the file's order.
    pub ids: Vec<String>,
    /// The ids of keys that were there before.
    pub removed: Vec<String>,
}

struct RingKey {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RingFile {
    primary: String,
    keys: Vec<RingFileKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RingFileKey {
    id: String,
    key: SecretString,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys();
        f.debug_struct("KeyRing").field("primary", &keys.primary().id).field("ids", &keys.ids()).finish_non_exhaustive()
    }
}

impl RingKeys {
    fn parse(json: &str) -> Result<Self, VaultError> {
        if json.len() > RING_BYTES_MAX {
            return Err(ring_error(format!("has {} bytes, at most {RING_BYTES_MAX} are read", json.len())));
        }
        // The parser's own words may quote a value, which may be a key: only the place is told.
        let file: RingFile = serde_json::from_str(json).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            ring_error(format!(
                r#"not as expected at {place}: it should be {{"primary":"k1","keys":[{{"id":"k1","key":"<base64>"}}]}}"#
            ))
        })?;
        if file.keys.len() > KEYS_MAX {
            return Err(ring_error(format!("has {} keys, at most {KEYS_MAX} are allowed", file.keys.len())));
        }

        let mut keys: Vec<RingKey> = Vec::with_capacity(file.keys.len());
        for entry in file.keys {
            if !is_key_id(entry.id.as_bytes()) {
                return Err(ring_error(format!(
                    "a key id must have 1 to {KEY_ID_BYTES_MAX} letters, digits, '.', '_' or '-'"
                )));
            }
            let bytes = decode_key(&entry.key).ok_or_else(|| {
                ring_error(format!("key {:?} must be {KEY_BYTES} bytes in standard base64", entry.id))
            })?;
            if keys.iter().any(|key| key.id == entry.id || *key.bytes == *bytes) {
                return Err(ring_error(format!("key {:?} is there twice, by id or by content", entry.id)));
            }
            keys.push(RingKey { id: entry.id, bytes });
        }
        let primary = keys
            .iter()
            .position(|key| key.id == file.primary)
            .ok_or_else(|| ring_error("primary must be the id of one of the keys".to_owned()))?;
        Ok(Self { primary, keys })
    }

    fn primary(&self) -> &RingKey {
        &self.keys[self.primary]
    }

    fn find(&self, id: &str) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    fn ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }
}

impl KeyRing {
    /// Reads a key ring file. Ids have 1 to 32 letters, digits, `.`, `_` or `-`; ids and keys are
    /// each unique.
    pub fn parse(json: &str) -> Result<Self, VaultError> {
        Ok(Self::of(RingKeys::parse(json)?))
    }

    /// Names phone calls in logs, by what is derived from each key, the primary first: what a log
    /// says from before a rotation is found by the key of then, as long as the ring has it.
    pub fn call_ref_keys(&self) -> Vec<CallRefKey> {
        self.derived(CallRefKey::derive)
    }

    /// Write and read hooks' addresses, the primary key's first: those of before a rotation are
    /// read as long as the ring has their key.
    pub fn hook_address_keys(&self) -> Vec<HookAddressKey> {
        self.derived(HookAddressKey::derive)
    }

    fn derived<T>(&self, derive: fn(&[u8; 32]) -> T) -> Vec<T> {
        let keys = self.keys();
        let (before, from) = keys.keys.split_at(keys.primary);
        from.iter().chain(before).map(|key| derive(&key.bytes)).collect()
    }

    /// Names phone calls in logs by what is derived from the primary key, whichever that is then.
    pub const fn call_namer(&self) -> &CallNamer {
        &self.namer
    }

    fn of(keys: RingKeys) -> Self {
        let namer = CallNamer::new(CallRefKey::derive(&keys.primary().bytes));
        Self { keys: RwLock::new(Arc::new(keys)), namer }
    }

    fn keys(&self) -> Arc<RingKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on the keys are those of this file. Fails like [`KeyRing::parse`], and if an id has
    /// another key than before, which would close what the old one has sealed; the keys of before
    /// stay then.
    pub fn replace(&self, json: &str) -> Result<RingChange, VaultError> {
        let (old, new) = (self.keys(), RingKeys::parse(json)?);
        for key in &new.keys {
            if old.find(&key.id).is_some_and(|before| *before.bytes != *key.bytes) {
                return Err(ring_error(format!("key {:?} is another than before; a new key needs a new id", key.id)));
            }
        }
        let removed = old.ids().into_iter().filter(|id| new.find(id).is_none()).collect();
        let change = RingChange { primary: new.primary().id.clone(), ids: new.ids(), removed };
        self.namer.follow(CallRefKey::derive(&new.primary().bytes));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(change)
    }

    /// A ring with one fresh key, `k1`.
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self::of(RingKeys { primary: 0, keys: vec![RingKey { id: "k1".to_owned(), bytes }] })
    }

    /// The key ring file, to be written with mode 0600.
    pub fn to_json(&self) -> SecretString {
        // Written by hand so that a serializer leaves no unwiped copies of keys: ids and base64
        // need no escaping.
        let keys = self.keys();
        let mut json = String::with_capacity(64 + keys.keys.len() * (KEY_ID_BYTES_MAX + 80));
        json.push_str("{\"primary\":\"");
        json.push_str(&keys.primary().id);
        json.push_str("\",\"keys\":[");
        for (index, key) in keys.keys.iter().enumerate() {
            let encoded = Zeroizing::new(BASE64.encode(key.bytes.as_slice()));
            json.push_str(if index == 0 { "{\"id\":\"" } else { ",{\"id\":\"" });
            json.push_str(&key.id);
            json.push_str("\",\"key\":\"");
            json.push_str(&encoded);
            json.push_str("\"}");
        }
        json.push_str("]}\n");
        SecretString::from(json)
    }

    /// The id of the key that seals.
    pub fn primary_id(&self) -> String {
        self.keys().primary().id.clone()
    }

    /// What everything begins with that the primary key seals: it tells in the database what it did
    /// not. At most [`HEAD_BYTES_MAX`] bytes.
    pub fn primary_head(&self) -> Vec<u8> {
        head(&self.keys().primary().id)
    }

    /// Seals a credential for one place: version byte, length and text of the key id, nonce,
    /// ciphertext and tag. At most [`PLAINTEXT_BYTES_MAX`] bytes; 30 and the key id's length are
    /// added. The nonce is random, and AES-GCM-SIV stays safe should one ever repeat.
    pub fn seal(
        &self,
        rng: &mut (impl CryptoRng + ?Sized),
        scope: &SealScope<'_>,
        plaintext: &SecretString,
    ) -> Result<Vec<u8>, VaultError> {
        let plaintext = plaintext.expose_secret().as_bytes();
        if plaintext.len() > PLAINTEXT_BYTES_MAX {
            return Err(VaultError::TooLong { bytes: plaintext.len() });
        }
        let keys = self.keys();
        let key = keys.primary();
        let aad = associated_data(scope, &key.id)?;
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let ciphertext = encrypt(key, nonce, Payload { msg: plaintext, aad: &aad });
        Ok(SealedParts { key_id: &key.id, nonce, ciphertext: &ciphertext }.join())
    }

    /// Opens what was sealed for exactly this place.
    pub fn open(&self, scope: &SealScope<'_>, sealed: &[u8]) -> Result<SecretString, VaultError> {
        let parts = SealedParts::split(sealed)?;
        let keys = self.keys();
        let Some(key) = keys.find(parts.key_id) else {
            return Err(VaultError::UnknownKey { id: parts.key_id.to_owned() });
        };
        let aad = associated_data(scope, &key.id)?;
        let plaintext = cipher(key)
            .decrypt(&Nonce::from(parts.nonce), Payload { msg: parts.ciphertext, aad: &aad })
            .map_err(|_| VaultError::DoesNotOpen)?;
        String::from_utf8(plaintext).map(SecretString::from).map_err(|error| {
            error.into_bytes().zeroize();
            VaultError::Malformed("is not text, though it opens")
        })
    }

    /// Whether another key than the primary sealed it, so that it should be opened and sealed
    /// again. False for what is not a sealed value at all: that cannot be opened either.
    pub fn needs_reseal(&self, sealed: &[u8]) -> bool {
        SealedParts::split(sealed).is_ok_and(|parts| parts.key_id != self.keys().primary().id)
    }
}

fn head(key_id: &str) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    head.push(VERSION);
    head.push(u8::try_from(key_id.len()).expect("a key id has at most 32 bytes"));
    head.extend_from_slice(key_id.as_bytes());
    head
}

/// The id of the key that sealed a value, from its first [`HEAD_BYTES_MAX`] bytes; `None`: it is no
/// sealed value.
pub fn key_id_of(sealed: &[u8]) -> Option<&str> {
    let [VERSION, id_length, rest @ ..] = sealed else { return None };
    let id = rest.get(..usize::from(*id_length)).filter(|id| is_key_id(id))?;
    std::str::from_utf8(id).ok()
}

/// A sealed value in its parts.
struct SealedParts<'a> {
    key_id: &'a str,
    nonce: [u8; NONCE_BYTES],
    ciphertext: &'a [u8],
}

impl<'a> SealedParts<'a> {
    fn join(&self) -> Vec<u8> {
        let mut sealed = head(self.key_id);
        sealed.reserve_exact(NONCE_BYTES + self.ciphertext.len());
        sealed.extend_from_slice(&self.nonce);
        sealed.extend_from_slice(self.ciphertext);
        sealed
    }

    /// Every length is checked before anything is cut.
    fn split(sealed: &'a [u8]) -> Result<Self, VaultError> {
        let too_short = VaultError::Malformed("is too short");
        if sealed.len() > 2 + KEY_ID_BYTES_MAX + NONCE_BYTES + PLAINTEXT_BYTES_MAX + TAG_BYTES {
            return Err(VaultError::Malformed("is too long"));
        }
        let [version, id_length, rest @ ..] = sealed else { return Err(too_short) };
        if *version != VERSION {
            return Err(VaultError::Malformed("is of a version that this program does not know"));
        }
        let Some((id, rest)) = rest.split_at_checked(usize::from(*id_length)) else { return Err(too_short) };
        if !is_key_id(id) {
            return Err(VaultError::Malformed("names no valid key id"));
        }
        let Ok(key_id) = std::str::from_utf8(id) else { return Err(VaultError::Malformed("names no valid key id")) };
        let Some((nonce, ciphertext)) = rest.split_first_chunk::<NONCE_BYTES>() else { return Err(too_short) };
        if ciphertext.len() < TAG_BYTES {
            return Err(too_short);
        }
        Ok(Self { key_id, nonce: *nonce, ciphertext })
    }
}

/// Everything that must be the same at opening. Each part is preceded by its length, so that no two
/// places give the same bytes.
fn associated_data(scope: &SealScope<'_>, key_id: &str) -> Result<Vec<u8>, VaultError> {
    let bytes = scope.field.len();
    if bytes == 0 || bytes > FIELD_BYTES_MAX {
        return Err(VaultError::FieldName { bytes });
    }
    let mut data = Vec::with_capacity(128);
    for part in
        [&[VERSION], key_id.as_bytes(), scope.account.as_bytes(), scope.integration.as_bytes(), scope.field.as_bytes()]
    {
        data.push(u8::try_from(part.len()).expect("every part has at most 64 bytes"));
        data.extend_from_slice(part);
    }
    Ok(data)
}

fn encrypt(key: &RingKey, nonce: [u8; NONCE_BYTES], payload: Payload<'_, '_>) -> Vec<u8> {
    cipher(key).encrypt(&Nonce::from(nonce), payload).expect("RFC 8452 allows 64 GiB, a plaintext has at most 64 KiB")
}

fn cipher(key: &RingKey) -> Aes256GcmSiv {
    Aes256GcmSiv::new(&Key::<Aes256GcmSiv>::from(*key.bytes))
}

fn decode_key(encoded: &SecretString) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let decoded = Zeroizing::new(BASE64.decode(encoded.expose_secret()).ok()?);
    let bytes: &[u8; KEY_BYTES] = decoded.as_slice().try_into().ok()?;
    Some(Zeroizing::new(*bytes))
}

fn is_key_id(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=KEY_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(is_plain)
}

fn ring_error(text: String) -> VaultError {
    VaultError::KeyRing(text)
}

#[cfg(test)]
mod tests;
