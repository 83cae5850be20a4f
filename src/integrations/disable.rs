//! `DisableSync`: stop the run under way, forget the credentials, keep or purge what was copied.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{error::Elapsed, timeout};
use tracing::warn;

use super::{context::IntegrationContext, error::IntegrationError};
use crate::{
    crm::{ClientTarget, CrmClient},
    domain::{
        audit::{AuditActor, AuditResult, AuditTarget},
        hook::{HookAddress, hook_name, hook_url},
        ids::{AccountId, IntegrationId},
        integration::{Integration, Organization},
        integration_state::ControlEvent,
        notice::Notice,
        options::PushWish,
    },
    store::{
        Transaction, Tx, access, audit,
        integrations::{self, SealedCredentials},
        push_channels, sync_runs,
    },
    telemetry::chain,
};

/// How long the way to a hook, and then its removal, may hold up a caller.
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
    let way = way_to_hook(context, account_id, integration_id).await?;
    let work = DisableIntegration { actor: actor.clone(), integration_id, purge, now: context.clock.now() };
    context.db.of(account_id).run(work).await?;
    context.wake.notify_one();
    // Only now: a run under way may have made one until its lease was taken. What it makes after
    // that, it removes itself.
    if let Some(way) = way {
        remove_hook(context, way).await;
    }
    context.get(account_id, integration_id).await
}

/// By whom the CRM is asked to forget a hook, and how that is known there.
struct WayToHook {
    client: Box<dyn CrmClient>,
    name: String,
    url: Option<String>,
}

/// A way to the CRM's hook, if there may be one and the CRM lets us in soon: with the credentials
/// nobody can ask any more.
async fn way_to_hook(
    context: &IntegrationContext,
    account_id: AccountId,
    integration_id: IntegrationId,
) -> Result<Option<WayToHook>, IntegrationError> {
    let known = context.get(account_id, integration_id).await?;
    let provider = known.freshness.provider;
    let is_wished = known.freshness.is_sync_on && known.options.push == PushWish::On;
    let may_have_hook = context.crms.has_hooks(provider) && (known.push.is_some() || is_wished);
    let Some(base) = context.push_base.as_deref().filter(|_| may_have_hook && known.has_credentials) else {
        return Ok(None);
    };
    let stored = push_channels::find(&context.db, account_id, integration_id).await?;
    let key = context.vault.key_ring.hook_address_keys().swap_remove(0);
    let address = stored.map(|channel| HookAddress { account_id, number: channel.number });
    let url = address.map(|address| hook_url(base, &key, provider, address));
    let name = hook_name(base, integration_id);
    let own = context.clone();
    // In a task of its own: a renewed token must not be lost on its way.
    let opening = context.db.task(async move {
        let organization = Organization { provider, name: known.organization };
        let access = own.access_tokens.current(account_id, integration_id, &organization, None).await?;
        Ok(own.crms.client(ClientTarget {
            is_trial: true,
            is_first_copy: false,
            is_beside: false,
            organization: &organization,
            options: known.options,
            access,
        })?)
    });
    let opened: Result<Result<Box<dyn CrmClient>, IntegrationError>, _> = timeout(REMOVAL_MAX, opening).await;
    Ok(removed_in_time(opened).map(|client| WayToHook { client, name, url }))
}

/// Has the CRM forget its hook, if it answers soon. One that stays sends to an address that is
/// nobody's, until the CRM gives it up.
async fn remove_hook(context: &IntegrationContext, way: WayToHook) {
    let removing = context.db.task(async move { Ok(way.client.remove_hook(&way.name, way.url.as_deref()).await?) });
    let removed: Result<Result<(), IntegrationError>, _> = timeout(REMOVAL_MAX, removing).await;
    removed_in_time(removed);
}

fn removed_in_time<T>(removed: Result<Result<T, IntegrationError>, Elapsed>) -> Option<T> {
    match removed {
        Ok(Ok(removed)) => return Some(removed),
        Ok(Err(error)) => {
            warn!(error = %chain(&error), "the webhook could not be removed from the CRM, and sends to nobody");
        }
        Err(_) => warn!("the webhook could not be removed from the CRM in time, and sends to nobody"),
    }
    None
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
