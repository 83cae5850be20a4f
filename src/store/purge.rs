//! The end of a purge (`DisableSync` with PURGE): what is left of an integration when its refs are
//! gone. `identity::purge` removes those.

use chrono::{DateTime, Utc};

use super::{StoreError, Tx, hints, integrations, lease::Lease, look_asides};
use crate::domain::integration_state::ControlEvent;

/// Marks the removal as done: nothing of this integration is here, and enabling it again starts
/// from nothing.
pub async fn complete(tx: &mut Tx, lease: Lease, now: DateTime<Utc>) -> Result<(), StoreError> {
    integrations::apply_to_own(tx, lease, ControlEvent::PurgeCompleted, now).await?;
    sqlx::query!(
        "-- store::purge::complete
        update integrations
        set checkpoint = null, known_through = null, first_started_at = null, rejected_left_out = 0
        where account_id = $1 and integration_id = $2 and lease_number = $3",
        lease.account_id.0,
        lease.integration_id.0,
        lease.number,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::purge::complete (rejected records)
        delete from rejected_records
        where account_id = $1 and integration_id = $2",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    hints::remove_all(tx, lease).await?;
    look_asides::remove(tx, lease).await?;
    // A copy that was cut off before must not be gone on with: what it had read is not here any
    // more.
    sqlx::query!(
        "-- store::purge::complete (forgets resume points)
        update sync_runs
        set resume_point = null
        where account_id = $1 and integration_id = $2 and resume_point is not null",
        lease.account_id.0,
        lease.integration_id.0,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
