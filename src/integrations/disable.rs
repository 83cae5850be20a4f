//! `DisableSync`: stop the run under way, forget the credentials, keep or purge what was copied.

use chrono::{DateTime, Utc};

use super::{context::IntegrationContext, error::IntegrationError};
use crate::{
    domain::{
        audit::{AuditActor, AuditResult, AuditTarget},
        ids::{AccountId, IntegrationId},
        integration::Integration,
        integration_state::ControlEvent,
        notice::Notice,
    },
    store::{
        Transaction, Tx, access, audit,
        integrations::{self, SealedCredentials},
        sync_runs,
    },
};

/// Why its run ends.
const DISABLED: Notice = Notice::fixed("INTEGRATION_DISABLED", "the integration was disabled");

/// Disables it; a repeat changes nothing, but may add a purge. A worker removes purged data.
pub async fn disable(
    context: &IntegrationContext,
    actor: &AuditActor,
    account_id: AccountId,
    integration_id: IntegrationId,
    purge: bool,
) -> Result<Integration, IntegrationError> {
    let work = DisableIntegration { actor: actor.clone(), integration_id, purge, now: context.clock.now() };
    context.db.of(account_id).run(work).await?;
    context.wake.notify_one();
    context.get(account_id, integration_id).await
}

/// Disables one, and ends its run.
struct DisableIntegration {
    actor: AuditActor,
    integration_id: IntegrationId,
    purge: bool,
    now: DateTime<Utc>,
}

impl Transaction for DisableIntegration {
    const NAME: &'static str = "disable_integration";
    type Output = ();
    type Error = IntegrationError;

    async fn run(&self, tx: &mut Tx) -> Result<(), IntegrationError> {
        let Self { integration_id, purge, now, .. } = *self;
        let account_id = tx.account_id();
        let locked = integrations::lock(tx, account_id, integration_id).await?;
        let locked = locked.ok_or(IntegrationError::IntegrationNotFound)?;
        let transition = locked.state.apply(ControlEvent::Disable { purge }, now)?;
        integrations::save_transition(tx, account_id, integration_id, &transition, now).await?;
        let nothing = SealedCredentials { credentials: None, access: None };
        access::replace(tx, account_id, integration_id, &nothing, now).await?;
        sync_runs::cancel_current(tx, account_id, integration_id, Some(&DISABLED), now).await?;
        let is_repeat = !locked.state.is_enabled && (!purge || locked.state.is_purging);
        let result = if is_repeat { AuditResult::Unchanged } else { AuditResult::Done };
        let (target, fields) =
            (AuditTarget::integration(integration_id, None), if purge { &["copied_data"][..] } else { &[] });
        Ok(audit::insert(tx, account_id, &self.actor, target, result, fields).await?)
    }
}
