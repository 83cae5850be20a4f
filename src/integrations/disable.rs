//! `DisableSync`: stop the run under way, forget the credentials, keep or purge what was copied.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::timeout;
use tracing::warn;

use super::{context::IntegrationContext, error::IntegrationError};
use crate::{
    crm::ClientTarget,
    domain::{
        audit::{AuditActor, AuditResult, AuditTarget},
        hook::hook_name,
        ids::{AccountId, IntegrationId},
        integration::{Integration, Organization},
        integration_state::ControlEvent,
        notice::Notice,
    },
    store::{
        Transaction, Tx, access, audit,
        integrations::{self, SealedCredentials},
        push_channels, sync_runs,
    },
    telemetry::chain,
};

/// How long the removal of a hook may hold up a caller.
const REMOVAL_MAX: Duration = Duration::from_secs(5);

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
    remove_hook(context, account_id, integration_id).await?;
    let work = DisableIntegration { actor: actor.clone(), integration_id, purge, now: context.clock.now() };
    context.db.of(account_id).run(work).await?;
    context.wake.notify_one();
    context.get(account_id, integration_id).await
}

/// Has the CRM forget its hook, if it answers soon: with the credentials nobody can ask any more.
/// One that stays sends to an address that is nobody's, until the CRM gives it up.
async fn remove_hook(
    context: &IntegrationContext,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<(), IntegrationError> {
    let known = context.get(account_id, integration_id).await?;
    let has_hook = known.push.is_some() && context.crms.has_hooks(known.freshness.provider);
    let (Some(base), true) = (&context.push_base, has_hook && known.has_credentials) else {
        return Ok(());
    };
    let name = hook_name(base, integration_id);
    let own = context.clone();
    // In a task of its own: a renewed token must not be lost on its way.
    let removing = context.db.task(async move {
        let organization = Organization { provider: known.freshness.provider, name: known.organization };
        let access = own.access_tokens.current(account_id, integration_id, &organization, None).await?;
        let options = known.options;
        let target = ClientTarget {
            is_trial: true,
            is_first_copy: false,
            is_beside: false,
            organization: &organization,
            options,
            access,
        };
        Ok(own.crms.client(target)?.remove_hook(&name).await?)
    });
    let removed: Result<Result<(), IntegrationError>, _> = timeout(REMOVAL_MAX, removing).await;
    match removed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            warn!(error = %chain(&error), "the webhook could not be removed from the CRM, and sends to nobody");
        }
        Err(_) => warn!("the webhook could not be removed from the CRM in time, and sends to nobody"),
    }
    Ok(())
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
        push_channels::remove(tx, account_id, integration_id).await?;
        sync_runs::cancel_current(tx, account_id, integration_id, Some(&DISABLED), now).await?;
        let is_repeat = !locked.state.is_enabled && (!purge || locked.state.is_purging);
        let result = if is_repeat { AuditResult::Unchanged } else { AuditResult::Done };
        let (target, fields) =
            (AuditTarget::integration(integration_id, None), if purge { &["copied_data"][..] } else { &[] });
        Ok(audit::insert(tx, account_id, &self.actor, target, result, fields).await?)
    }
}
