//! Seals what a page could not give, before it is kept.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    credentials::CredentialVault,
    domain::{record::RecordKey, rejected::RejectedRecord, suppression::SuppressionKey},
    store::{
        lease::Lease,
        rejected::{NAMELESS, NewRejected},
    },
};

/// A rejected record that is ready to be kept.
pub(super) struct SealedReject {
    pub row: NewRejected,
    /// By which it is known if it was erased; `None`: it does not say which record it is.
    pub mark: Option<Vec<u8>>,
}

impl SealedReject {
    /// Which record it is; `None`: it does not say.
    pub(super) fn key(&self) -> Option<&RecordKey> {
        self.mark.as_ref().map(|_| &self.row.key)
    }
}

/// Seals rejected records of one integration.
pub(super) struct RejectSealer {
    pub vault: CredentialVault,
    pub suppression: SuppressionKey,
    pub lease: Lease,
}

impl RejectSealer {
    /// One that cannot be sealed is kept without its content.
    pub(super) fn seal(&self, rejected: RejectedRecord) -> SealedReject {
        let Lease { account_id, integration_id, .. } = self.lease;
        let RejectedRecord { object_type, record_id, reason, fields, is_copied, hides_number, raw } = rejected;
        let is_nameless = record_id.is_none();
        let key = RecordKey { object_type, record_id: record_id.unwrap_or_else(|| format!("{NAMELESS}{raw}")) };
        let mark = self.suppression.mark(integration_id, &key);
        let fingerprint = || format!("{NAMELESS}{}", BASE64_URL_SAFE_NO_PAD.encode(&mark));
        let key = if is_nameless { RecordKey { record_id: fingerprint(), ..key } } else { key };
        let raw = (!raw.is_empty()).then(|| self.vault.seal_rejected(account_id, integration_id, &raw).ok()).flatten();
        let row = NewRejected { key, reason, fields, is_copied, hides_number, raw };
        SealedReject { row, mark: (!is_nameless).then_some(mark) }
    }
}
