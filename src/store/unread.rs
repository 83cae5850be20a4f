//! Whether all of an integration could be read, for answers that say "complete". Under the lease of its worker; a run's end
//! ([`run_progress::complete`](super::run_progress::complete)) settles it.

use super::{StoreError, Tx, lease::Lease};

/// A full pass begins from the start: what it could not read is not known yet.
pub async fn begin_pass(tx: &mut Tx, lease: Lease) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::unread::begin_pass
        update integrations
        set pass_has_unread = false
        where account_id = $1 and integration_id = $2 and pass_has_unread",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A page that is stored held a record or a number that could not be read.
pub async fn mark(tx: &mut Tx, lease: Lease) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::unread::mark
        update integrations
        set has_unread = true, pass_has_unread = true
        where account_id = $1 and integration_id = $2 and not (has_unread and pass_has_unread)",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
