//! `DisableSync`: stop the running pass, forget the credentials, keep or purge what was copied.

use super::{IntegrationError, Integrations};
use crate::{
    domain::{
        ids::{AccountId, IntegrationId},
        integration::Integration,
        notice::Notice,
    },
    store::{integrations, sync_runs},
};

/// Why its run ends.
const DISABLED: Notice = Notice::fixed("INTEGRATION_DISABLED", "the integration was disabled");

impl Integrations {
    /// Disables it; a repeat changes nothing, but may add a purge. A worker removes purged data.
    pub async fn disable(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        purge: bool,
    ) -> Result<Integration, IntegrationError> {
        let now = self.clock.now();
        self.db
            .transaction(move |tx| {
                Box::pin(async move {
                    let locked = integrations::lock(tx, account_id, Some(integration_id), None, None, now).await?;
                    locked.ok_or(IntegrationError::IntegrationNotFound)?;
                    integrations::disable(tx, account_id, integration_id, purge, now).await?;
                    sync_runs::cancel_current(tx, account_id, integration_id, Some(&DISABLED), now).await?;
                    Ok::<(), IntegrationError>(())
                })
            })
            .await?;
        self.wake.notify_one();
        self.get(account_id, integration_id).await
    }
}
