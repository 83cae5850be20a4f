//! How a call is named where its id must not stand: a SIP `Call-ID` may hold a phone number.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::ids::AccountId;

/// Keeps what is made of a key here apart from what else is made of it.
const LABEL: &[u8] = b"contact-sync call reference, version 1";

/// Makes references of one key. Prints nothing of it.
#[derive(Clone)]
pub struct CallRefKey(Hmac<Sha256>);

/// A call's name in logs and traces: sixteen hexadecimal digits, the same for one call as long as
/// the key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRef([u8; 8]);

impl CallRefKey {
    /// Of a secret, which cannot be learned from it.
    pub fn derive(secret: &[u8; 32]) -> Self {
        let derived = keyed(secret).chain_update(LABEL).finalize().into_bytes();
        Self(keyed(&derived.into()))
    }

    /// Of this call of this account. Without the key nobody can tell whether a call id that he
    /// guesses is the one.
    pub fn call_ref(&self, account_id: AccountId, call_id: &str) -> CallRef {
        let hash = self.0.clone().chain_update(account_id.0.as_bytes()).chain_update(call_id).finalize().into_bytes();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        CallRef(first)
    }
}

/// Names calls by one key, until it is given another. Cheap to clone; clones go together.
#[derive(Debug, Clone)]
pub struct CallNamer(Arc<RwLock<CallRefKey>>);

impl CallNamer {
    /// By this key.
    pub fn new(key: CallRefKey) -> Self {
        Self(Arc::new(RwLock::new(key)))
    }

    /// From now on by this one.
    pub fn follow(&self, key: CallRefKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// As [`CallRefKey::call_ref`].
    pub fn call_ref(&self, account_id: AccountId, call_id: &str) -> CallRef {
        self.0.read().unwrap_or_else(PoisonError::into_inner).call_ref(account_id, call_id)
    }
}

fn keyed(secret: &[u8; 32]) -> Hmac<Sha256> {
    let Ok(keyed) = Hmac::new_from_slice(secret) else { unreachable!("HMAC takes keys of every length") };
    keyed
}

impl fmt::Display for CallRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for CallRefKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallRefKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn reference_depends_on_key_account_and_call() {
        let account = |last| AccountId(Uuid::from_u128(last));
        let (key, other_key) = (CallRefKey::derive(&[1; 32]), CallRefKey::derive(&[2; 32]));
        let one = key.call_ref(account(1), "a@b");

        assert_eq!(one, CallRefKey::derive(&[1; 32]).call_ref(account(1), "a@b"));
        for other in
            [key.call_ref(account(2), "a@b"), key.call_ref(account(1), "a@c"), other_key.call_ref(account(1), "a@b")]
        {
            assert_ne!(one, other);
        }
        assert_eq!(one.to_string().len(), 16);
        assert!(!format!("{key:?}").contains('1'));
    }
}
