//! Counts which changes came after an event, and which by a poll alone, and doubts a silent hook.
//! Under the lease, in the transactions that take records in. No count is a promise: what an event
//! should have announced is polled anyway.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{notice::Notice, record::RecordKey},
    store::{StoreError, Tx, hints, lease::Lease, push_channels},
};

/// An event has this long to come.
const LATE_AFTER: TimeDelta = TimeDelta::seconds(60);

pub(super) const EVENTS_MISSED: Notice = Notice::fixed(
    "EVENTS_MISSED",
    "polls bring changes that no event announced; the webhook is made anew, once a day at most: if this stays, see what the token's user may see, and whether http.public_url can be reached from the internet",
);

/// Notes that so many changes were taken in after an event.
pub(super) async fn note_announced(tx: &mut Tx, lease: Lease, changes: usize) -> Result<(), StoreError> {
    if changes == 0 {
        return Ok(());
    }
    push_channels::note_announced(tx, lease, i64::try_from(changes).unwrap_or(i64::MAX)).await
}

/// Looks which of the changes that an increment has brought an event should have announced, and
/// notes them; how many. `changed`: which records, and when by the CRM's clock.
pub(super) async fn note_polled(
    tx: &mut Tx,
    lease: Lease,
    changed: &[(RecordKey, Option<DateTime<Utc>>)],
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    if changed.is_empty() {
        return Ok(0);
    }
    let Some(watch) = push_channels::find_watch(tx, lease).await? else { return Ok(0) };
    // A poll in the place of many events answers for them.
    let since = watch.storm_at.max(Some(watch.registered_at + LATE_AFTER));
    let is_due = |at: DateTime<Utc>| Some(at) > since && at <= now - LATE_AFTER;
    let due: Vec<RecordKey> =
        changed.iter().filter(|(_, at)| at.is_some_and(is_due)).map(|(key, _)| key.clone()).collect();
    if due.is_empty() {
        return Ok(0);
    }
    let missed = hints::count_unhinted(tx, lease, &due).await?;
    let losses = watch.losses.with_missed(missed);
    let doubt = losses.are_suspicious().then_some(EVENTS_MISSED);
    push_channels::note_losses(tx, lease, losses, missed, doubt.as_ref()).await?;
    Ok(missed)
}
