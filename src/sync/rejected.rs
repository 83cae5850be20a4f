//! What a page could not give, kept: sealed, bounded, and never of a record that was erased.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};

use super::apply::NormalPage;
use crate::{
    credentials::CredentialVault,
    domain::{
        ids::SyncRunId,
        record::RecordKey,
        rejected::{KEPT_MAX, RejectedRecord},
        suppression::SuppressionKey,
    },
    store::{
        StoreError, Tx,
        lease::Lease,
        rejected::{self, NAMELESS, NewRejected},
        suppressions,
    },
};

/// A rejected record that is ready to be kept.
pub(super) struct SealedReject {
    row: NewRejected,
    /// By which it is known if it was erased; `None`: it does not say which record it is.
    mark: Option<Vec<u8>>,
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

/// Keeps what this page could not give, as far as there is room, and forgets what was rejected of records that it brought whole or that
/// are gone. After [`lease::hold`](crate::store::lease::hold): nobody else keeps any meanwhile.
pub(super) async fn write(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    page: &NormalPage,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut kept = rejected::list_keys(tx, lease).await?;
    if kept.is_empty() && page.rejected.is_empty() {
        return Ok(());
    }
    let gone: HashSet<&RecordKey> = page.gone.iter().collect();
    let rejects: Vec<&SealedReject> = page.rejected.iter().filter(|one| !gone.contains(&one.row.key)).collect();
    let rejected_keys: HashSet<&RecordKey> = rejects.iter().map(|one| &one.row.key).collect();
    let shown = page.records.iter().map(|record| &record.key).chain(gone);
    let over: Vec<RecordKey> =
        shown.filter(|key| kept.contains(*key) && !rejected_keys.contains(key)).cloned().collect();
    if !over.is_empty() {
        rejected::remove(tx, lease.account_id, lease.integration_id, &over).await?;
        kept.retain(|key| !over.contains(key));
    }
    let erased = find_erased(tx, lease, &rejects).await?;
    let (mut rows, mut left_out): (Vec<&NewRejected>, usize) = (Vec::new(), page.rejects.left_out);
    let mut met: HashSet<&RecordKey> = HashSet::new();
    let not_erased = rejects.into_iter().filter(|one| one.mark.as_ref().is_none_or(|mark| !erased.contains(mark)));
    for one in not_erased {
        if !met.insert(&one.row.key) {
            continue;
        }
        if kept.contains(&one.row.key) {
            rows.push(&one.row);
        } else if kept.len() < KEPT_MAX {
            kept.insert(one.row.key.clone());
            rows.push(&one.row);
        } else {
            left_out += 1;
        }
    }
    if !rows.is_empty() {
        rejected::keep(tx, lease, run_id, &rows, now).await?;
    }
    if left_out > 0 {
        rejected::leave_out(tx, lease, i64::try_from(left_out).unwrap_or(i64::MAX), now).await?;
    }
    Ok(())
}

async fn find_erased(tx: &mut Tx, lease: Lease, rejects: &[&SealedReject]) -> Result<HashSet<Vec<u8>>, StoreError> {
    if rejects.is_empty() || !suppressions::has_any(tx, lease.account_id).await? {
        return Ok(HashSet::new());
    }
    let marks: Vec<Vec<u8>> = rejects.iter().filter_map(|one| one.mark.clone()).collect();
    suppressions::find(tx, lease.account_id, &marks).await
}
