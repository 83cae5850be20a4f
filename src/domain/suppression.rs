//! How an erased record is known again without being kept: a keyed hash of its id. Without the
//! account's key nobody can tell which records were erased, nor try ids out.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{ids::IntegrationId, record::RecordKey};

/// Bytes of a key.
pub const KEY_LENGTH: usize = 32;

/// The secret of an account by which its erased records are known again. Made once, never changed.
#[derive(Clone)]
pub struct SuppressionKey([u8; KEY_LENGTH]);

impl SuppressionKey {
    /// A key of these bytes, which must be random.
    pub const fn new(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA256 of integration, object type and record id. Records of one id in two integrations
    /// have two marks.
    pub fn mark(&self, integration_id: IntegrationId, record: &RecordKey) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(integration_id.0.as_bytes());
        mac.update(record.object_type.as_str().as_bytes());
        // No object type holds a NUL, so no two records give one text.
        mac.update(&[0]);
        mac.update(record.record_id.as_bytes());
        mac.finalize().into_bytes().to_vec()
    }
}

impl fmt::Debug for SuppressionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SuppressionKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::record::ObjectType;

    /// A mark tells apart integrations, types, ids and keys.
    #[test]
    fn mark_distinguishes_integrations_types_ids_and_keys() {
        let record = |object_type, record_id: &str| RecordKey { object_type, record_id: record_id.to_owned() };
        let (one, two) = (IntegrationId(Uuid::from_u128(1)), IntegrationId(Uuid::from_u128(2)));
        let key = SuppressionKey::new([1; KEY_LENGTH]);
        let mark = key.mark(one, &record(ObjectType::Contact, "a"));

        assert_eq!(mark, key.mark(one, &record(ObjectType::Contact, "a")));
        for other in [
            key.mark(two, &record(ObjectType::Contact, "a")),
            key.mark(one, &record(ObjectType::Lead, "a")),
            key.mark(one, &record(ObjectType::Contact, "b")),
            SuppressionKey::new([2; KEY_LENGTH]).mark(one, &record(ObjectType::Contact, "a")),
        ] {
            assert_ne!(mark, other);
        }
    }
}
