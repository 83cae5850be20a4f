//! `UpdateSync`: options, sync on or off, new credentials.

use chrono::{DateTime, Utc};

use super::{
    context::IntegrationContext,
    error::IntegrationError,
    verify::{TestedCredentials, probe, verify},
};
use crate::{
    crm::CrmError,
    domain::{
        audit::{AuditActor, AuditResult, AuditTarget},
        credentials::Credentials,
        ids::{AccountId, IntegrationId, SyncRunId},
        integration::{Integration, Organization},
        integration_state::{ControlEvent, SettingsUpdate},
        notice::Notice,
        options::{Options, OptionsChange},
    },
    store::{Transaction, Tx, access, audit, integrations, sync_runs},
};

/// Why its run ends.
const SWITCHED_OFF: Notice = Notice::fixed("SYNC_OFF", "sync was switched off");

/// What to change; what is `None` stays.
#[derive(Default)]
pub struct SyncUpdate {
    /// Copies contacts.
    pub is_sync_on: Option<bool>,
    /// From the end of a run to the next.
    pub period_seconds: Option<i32>,
    /// What is copied and mirrored.
    pub options: OptionsChange,
    /// Tried first, if sync is or will be on.
    pub credentials: Option<Credentials>,
}

impl SyncUpdate {
    /// What is given, by name.
    fn fields(&self, has_credentials: bool) -> Vec<&'static str> {
        let given = [
            ("sync", self.is_sync_on.is_some()),
            ("period", self.period_seconds.is_some()),
            ("options", self.options != OptionsChange::default()),
            ("credentials", has_credentials),
        ];
        given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect()
    }
}

/// Changes an integration. New credentials, and switching on, start a run at once; switching off
/// stops the one under way.
pub async fn update(
    context: &IntegrationContext,
    actor: &AuditActor,
    account_id: AccountId,
    integration_id: IntegrationId,
    update: SyncUpdate,
) -> Result<Integration, IntegrationError> {
    let before = context.get(account_id, integration_id).await?;
    if !before.freshness.is_enabled {
        return Err(IntegrationError::Disabled);
    }
    let turns_on = update.is_sync_on == Some(true) && !before.freshness.is_sync_on;
    let will_be_on = update.is_sync_on.unwrap_or(before.freshness.is_sync_on);
    let organization = Organization { provider: before.freshness.provider, name: before.organization };
    let options = update.options.apply(organization.provider, &before.options)?;
    // The CRM says whether it has such fields.
    let has_new_fields = options.phone_fields.iter().any(|key| !before.options.phone_fields.contains(key));
    if update.credentials.is_none() && (turns_on || (will_be_on && has_new_fields)) {
        if !before.has_credentials {
            return Err(IntegrationError::CredentialsMissing);
        }
        // Kept from before it was switched off: do they still open it?
        test_stored(context, account_id, integration_id, &organization, &options).await?;
    }
    let (own, actor) = (context.clone(), actor.clone());
    // In a task of its own: a caller who hangs up between the CRM and the database must not lose a
    // rotated refresh token.
    let verified_and_stored = async move {
        let mut update = update;
        let mut tested = TestedCredentials::default();
        if let Some(credentials) = update.credentials.take() {
            if will_be_on {
                let stored = access::find(&own.db, account_id, integration_id).await?;
                let company_id = stored.and_then(|stored| stored.company_id);
                let verified = verify(&own, &organization, company_id, &options, credentials).await?;
                let is_renamed = verified.organization != organization;
                tested = TestedCredentials {
                    credentials: Some(verified.credentials),
                    access: verified.access,
                    organization_name: is_renamed.then_some(verified.organization.name),
                    company_id: verified.probe.company_id,
                };
            } else {
                tested.credentials = Some(credentials);
            }
        }
        store_update(&own, &actor, account_id, integration_id, update, tested).await
    };
    context.db.task(verified_and_stored).await?;
    context.wake.notify_one();
    context.get(account_id, integration_id).await
}

/// Stores a change whose credentials, if there are any, were tried: those of `tested` count, not
/// those of the change.
pub(super) async fn store_update(
    context: &IntegrationContext,
    actor: &AuditActor,
    account_id: AccountId,
    integration_id: IntegrationId,
    update: SyncUpdate,
    tested: TestedCredentials,
) -> Result<(), IntegrationError> {
    let (db, now) = (context.db.clone(), context.clock.now());
    let (context, actor) = (context.clone(), actor.clone());
    let work = StoreUpdate { context, actor, integration_id, update, tested, now };
    db.of(account_id).run(work).await
}

/// Changes one, stops or queues its run.
struct StoreUpdate {
    context: IntegrationContext,
    actor: AuditActor,
    integration_id: IntegrationId,
    update: SyncUpdate,
    tested: TestedCredentials,
    now: DateTime<Utc>,
}

impl Transaction for StoreUpdate {
    const NAME: &'static str = "store_update";
    type Output = ();
    type Error = IntegrationError;

    async fn run(&self, tx: &mut Tx) -> Result<(), IntegrationError> {
        let Self { context, actor, integration_id, update, tested, now } = self;
        let (account_id, integration_id, now) = (tx.account_id(), *integration_id, *now);
        let locked = integrations::lock(tx, account_id, integration_id).await?;
        let state = locked.ok_or(IntegrationError::IntegrationNotFound)?.state;
        if !state.is_enabled {
            return Err(IntegrationError::Disabled);
        }
        let event = ControlEvent::Update(SettingsUpdate {
            is_sync_on: update.is_sync_on,
            period_seconds: update.period_seconds,
            options: update.options.apply(state.organization.provider, &state.options)?,
            descriptor: context.crms.descriptor(state.organization.provider),
            has_new_credentials: tested.credentials.is_some(),
            organization_name: tested.organization_name.clone(),
            company_id: tested.company_id.clone(),
        });
        let transition = state.apply(event, now)?;
        integrations::save_transition(tx, account_id, integration_id, &transition, now).await?;
        if tested.credentials.is_some() {
            let sealed = tested.seal(context, account_id, integration_id)?;
            access::replace(tx, account_id, integration_id, &sealed, now).await?;
        }
        if transition.cancels_run {
            sync_runs::cancel_current(tx, account_id, integration_id, Some(&SWITCHED_OFF), now).await?;
        }
        let mut started = None;
        if let Some(kind) = transition.starts_run {
            // One that is under way already will do.
            let run_id = SyncRunId(context.ids.new_v7(now));
            let is_new = sync_runs::enqueue(tx, account_id, integration_id, run_id, kind, None, now).await?;
            started = Some(run_id).filter(|_| is_new);
        }
        let target = AuditTarget::integration(integration_id, started);
        let fields = update.fields(tested.credentials.is_some());
        Ok(audit::insert(tx, account_id, actor, target, AuditResult::Done, &fields).await?)
    }
}

async fn test_stored(
    context: &IntegrationContext,
    account_id: AccountId,
    integration_id: IntegrationId,
    organization: &Organization,
    options: &Options,
) -> Result<(), IntegrationError> {
    let access = context.access_tokens.current(account_id, integration_id, organization, None).await?;
    let version = access.version;
    match probe(context, organization, options, access).await {
        // A token that was stored may have ended meanwhile.
        Err(CrmError::CredentialsRefused) if version > 0 => {
            let access = context.access_tokens.current(account_id, integration_id, organization, Some(version)).await?;
            probe(context, organization, options, access).await?;
        }
        probed => drop(probed?),
    }
    Ok(())
}
