//! What a page could not give, kept: bounded, and never of a record that was erased.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{page::NormalizedPage, seal::SealedReject};
use crate::{
    domain::{ids::SyncRunId, record::RecordKey, rejected::KEPT_MAX},
    store::{
        StoreError, Tx,
        lease::Lease,
        rejected::{self, NewRejected},
        suppressions,
    },
};

/// Keeps what this page could not give, as far as there is room, and forgets what was rejected of
/// records that it brought whole or that are gone. After
/// [`lease::lock`](crate::store::lease::lock): nobody else keeps any meanwhile.
pub(super) async fn write(
    tx: &mut Tx,
    lease: Lease,
    run_id: SyncRunId,
    page: &NormalizedPage,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut kept = rejected::list_keys(tx, lease).await?;
    if kept.is_empty() && page.rejected.is_empty() {
        return Ok(());
    }
    let gone: HashSet<&RecordKey> = page.gone.iter().map(|gone| &gone.key).collect();
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
    let mut seen: HashSet<&RecordKey> = HashSet::new();
    let not_erased = rejects.into_iter().filter(|one| one.mark.as_ref().is_none_or(|mark| !erased.contains(mark)));
    for one in not_erased {
        if !seen.insert(&one.row.key) {
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
