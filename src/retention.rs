//! Forgets audit events after a year (a setting), calls and runs after 90 days, changes and
//! rejected records after 30, hints after 7, clicks after a day, authorizations when they are over:
//! what is not kept cannot leak.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    domain::{audit::NO_ACCOUNT, clock::Clock, ids::AccountId},
    store::{
        Db, StoreError, Transaction, Tx, accounts, audit, changes, erasure, hints, look_asides, rejected, retention,
    },
    telemetry::chain,
};

/// How long calls and finished runs are kept.
pub const KEPT: TimeDelta = TimeDelta::days(90);
/// Clicks count for five minutes; a day is for looking into what went wrong.
const CLICKS_KEPT: TimeDelta = TimeDelta::days(1);
/// How long the feed of changes is kept.
pub const CHANGES_KEPT: TimeDelta = TimeDelta::days(30);
/// How long a rejected record is kept after it was last met.
const REJECTED_KEPT: TimeDelta = TimeDelta::days(30);
/// How long a hint waits for an integration that is not read; polls find everything without it.
const HINTS_KEPT: TimeDelta = TimeDelta::days(7);
/// A call that was being answered while its person was erased is stored within seconds.
const LATE_CALLS: TimeDelta = TimeDelta::days(1);
/// A number that a CRM was to be asked for, and which nobody has answered for.
const LATE_LOOK_ASIDES: TimeDelta = TimeDelta::hours(1);
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// A clock that was set by more than this since the last look is not believed before the next one.
const CLOCK_SLACK: TimeDelta = TimeDelta::minutes(10);
const ACCOUNTS_PAGE: i64 = 100;

/// Forgets what is over, every hour, until `stop` is cancelled. A clock that was set meanwhile has
/// an hour to be set right: one that is a year ahead would forget everything.
pub async fn forget_until(db: Db, clock: Arc<dyn Clock>, audit_kept: TimeDelta, stop: CancellationToken) {
    let mut last_look: Option<(DateTime<Utc>, Instant)> = None;
    loop {
        let look = (clock.now(), Instant::now());
        if last_look.replace(look).is_none_or(|last| is_steady(look.0 - last.0, look.1 - last.1)) {
            tokio::select! {
                () = stop.cancelled() => return,
                result = forget(&db, clock.as_ref(), audit_kept) => {
                    if let Err(error) = result {
                        warn!(error = %chain(&error), "cannot forget what is over, will try again in an hour");
                    }
                }
            }
        } else {
            warn!("the clock was set: nothing is forgotten by it for an hour; is the time right?");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// Whether a clock has gone about as far as this process has run.
fn is_steady(by_clock: TimeDelta, ran: Duration) -> bool {
    TimeDelta::from_std(ran).is_ok_and(|ran| (by_clock - ran).abs() <= CLOCK_SLACK)
}

/// Forgets what is over now, in all accounts. Returns how many rows.
pub async fn forget(db: &Db, clock: &dyn Clock, audit_kept: TimeDelta) -> Result<u64, StoreError> {
    let now = clock.now();
    let (mut removed, mut after) = (0, None);
    loop {
        let page = accounts::list(db, None, after, ACCOUNTS_PAGE).await?;
        // Last, as strangers fill it: its trouble must not keep the accounts' calls either.
        let Some(last) = page.last() else {
            return Ok(removed + forget_audit(db, NO_ACCOUNT, now, audit_kept).await?);
        };
        after = Some(last.id);
        for account in page {
            match forget_in(db, account.id, now, audit_kept).await {
                Ok(rows) => removed += rows,
                // One account's trouble must not keep the others' calls.
                Err(error) => {
                    warn!(account.id = %account.id, error = %chain(&error), "cannot forget what is over in an account");
                }
            }
        }
    }
}

async fn forget_in(
    db: &Db,
    account_id: AccountId,
    now: DateTime<Utc>,
    audit_kept: TimeDelta,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let batch = retention::remove_batch(db, account_id, now - KEPT, now - CLICKS_KEPT, now).await?;
        removed += batch;
        if batch == 0 {
            break;
        }
    }
    removed += erasure::remove_late_calls(db, account_id, now - LATE_CALLS).await?;
    removed += rejected::expire(db, account_id, now - REJECTED_KEPT).await?;
    removed += hints::expire(db, account_id, now - HINTS_KEPT).await?;
    removed += look_asides::forget_late(db, account_id, now - LATE_LOOK_ASIDES).await?;
    loop {
        let kept_since = now - CHANGES_KEPT;
        let batch = db.of(account_id).run(ForgetChanges { kept_since }).await?;
        removed += batch;
        if batch == 0 {
            break;
        }
    }
    Ok(removed + forget_audit(db, account_id, now, audit_kept).await?)
}

/// In batches; whoever writes events meanwhile is in no batch's way.
async fn forget_audit(db: &Db, account_id: AccountId, now: DateTime<Utc>, kept: TimeDelta) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let batch = audit::forget_batch(db, account_id, now, kept).await?;
        removed += batch;
        if batch == 0 {
            return Ok(removed);
        }
    }
}

struct ForgetChanges {
    kept_since: DateTime<Utc>,
}

impl Transaction for ForgetChanges {
    const NAME: &'static str = "forget_changes";
    type Output = u64;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<u64, StoreError> {
        changes::forget_batch(tx, tx.account_id(), self.kept_since).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that was set is not believed at once.
    #[test]
    fn set_clock_is_not_believed_at_once() {
        let hour = Duration::from_hours(1);

        assert!(is_steady(TimeDelta::minutes(60), hour));
        assert!(is_steady(TimeDelta::minutes(51), hour), "put right by a time service");
        for set in [TimeDelta::days(365), TimeDelta::days(-365), TimeDelta::minutes(71)] {
            assert!(!is_steady(set, hour), "{set}");
        }
        assert!(is_steady(TimeDelta::zero(), Duration::ZERO));
    }
}
