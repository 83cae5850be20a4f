//! `UpdateSync`: options, sync on or off, new credentials.

use std::sync::Arc;

use chrono::TimeDelta;

use super::{IntegrationError, Integrations};
use crate::{
    crm::CrmError,
    domain::{
        credentials::{Access, Credentials},
        ids::{AccountId, IntegrationId, SyncRunId},
        integration::{Integration, Organization},
        notice::Notice,
        options::{Options, OptionsChange},
        sync_run::SyncKind,
    },
    store::{
        Tx, access,
        integrations::{self, Change},
        sync_runs,
    },
};

/// Why its run ends.
const SWITCHED_OFF: Notice = Notice::fixed("SYNC_OFF", "sync was switched off");

/// What to change; what is `None` stays.
#[derive(Default)]
pub struct Update {
    /// Copies contacts.
    pub is_sync_on: Option<bool>,
    /// From the end of a pass to the next.
    pub period_seconds: Option<i32>,
    /// What is copied and mirrored.
    pub options: OptionsChange,
    /// Tried first, if sync is or will be on.
    pub credentials: Option<Credentials>,
}

/// What trying credentials has brought and shown.
#[derive(Default)]
pub(super) struct Proven {
    /// Access that was got by them.
    pub(super) access: Option<Access>,
    /// The name that the organisation has now, if that is another.
    pub(super) organization: Option<String>,
    /// The CRM's own number of it.
    pub(super) company_id: Option<String>,
}

impl Integrations {
    /// Changes an integration. New credentials, and switching on, start a pass at once; switching off stops a running one.
    pub async fn update(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        update: Update,
    ) -> Result<Integration, IntegrationError> {
        let before = self.get(account_id, integration_id).await?;
        if !before.freshness.is_enabled {
            return Err(IntegrationError::Disabled);
        }
        let turns_on = update.is_sync_on == Some(true) && !before.freshness.is_sync_on;
        let will_be_on = update.is_sync_on.unwrap_or(before.freshness.is_sync_on);
        let organization = Organization { provider: before.freshness.provider, name: before.organization };
        let options = update.options.apply(organization.provider, before.options)?;
        if update.credentials.is_none() && turns_on {
            if !before.has_credentials {
                return Err(IntegrationError::CredentialsMissing);
            }
            // Kept from before it was switched off: do they still open it?
            self.test_stored(account_id, integration_id, &organization, options).await?;
        }
        let this = self.clone();
        // In a task of its own: a caller who hangs up between the CRM and the database must not lose a rotated refresh token.
        let tried_and_stored = async move {
            let (mut update, mut proven) = (update, Proven::default());
            if let Some(credentials) = update.credentials.take_if(|_| will_be_on) {
                let stored = access::find(&this.db, account_id, integration_id).await?;
                let company_id = stored.and_then(|stored| stored.company_id);
                let tried = this.try_out(&organization, company_id, options, credentials).await?;
                update.credentials = Some(tried.credentials);
                proven = Proven {
                    access: tried.access,
                    organization: (tried.organization != organization).then_some(tried.organization.name),
                    company_id: tried.probe.company_id,
                };
            }
            this.store_update(account_id, integration_id, update, proven).await
        };
        self.db.task(tried_and_stored).await?;
        self.wake.notify_one();
        self.get(account_id, integration_id).await
    }

    pub(super) async fn store_update(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        update: Update,
        proven: Proven,
    ) -> Result<(), IntegrationError> {
        let (this, update, proven) = (self.clone(), Arc::new(update), Arc::new(proven));
        self.db
            .transaction(move |tx| {
                let (this, update, proven) = (this.clone(), Arc::clone(&update), Arc::clone(&proven));
                Box::pin(async move { this.update_in(tx, account_id, integration_id, &update, &proven).await })
            })
            .await
    }

    async fn update_in(
        &self,
        tx: &mut Tx,
        account_id: AccountId,
        integration_id: IntegrationId,
        update: &Update,
        proven: &Proven,
    ) -> Result<(), IntegrationError> {
        let now = self.clock.now();
        let locked = integrations::lock(tx, account_id, Some(integration_id), None, None, now)
            .await?
            .ok_or(IntegrationError::IntegrationNotFound)?;
        if !locked.is_enabled {
            return Err(IntegrationError::Disabled);
        }
        let credentials = update
            .credentials
            .as_ref()
            .map(|credentials| self.vault.seal(account_id, integration_id, credentials))
            .transpose()?;
        let seal_access = |access: &Access| self.vault.seal_access(account_id, integration_id, access);
        let access = proven.access.as_ref().map(seal_access).transpose()?;
        let is_sync_on = update.is_sync_on.unwrap_or(locked.is_sync_on);
        let provider = locked.organization.provider;
        let options = update.options.apply(provider, locked.options)?;
        let has_other_options = options != locked.options;
        let needs_all = options.need_sweep_after(&locked.options, provider);
        let starts_sweep = !locked.is_first_copy && needs_all;
        // Other options mend no refused credentials and no spent quota: they count when passes go on.
        let is_free_to_run = has_other_options && locked.hold.is_none();
        let starts_now = is_sync_on && (credentials.is_some() || !locked.is_sync_on || is_free_to_run);
        // A shorter period counts from now; a pass under way is due already and stays so.
        let by_period = update.period_seconds.map(|seconds| now + TimeDelta::seconds(i64::from(seconds)));
        let change = Change {
            is_sync_on,
            period_seconds: update.period_seconds,
            options: has_other_options.then_some(options),
            starts_sweep,
            widens: options.is_wider_than(&locked.options, provider),
            confirmed_deletions: None,
            organization: proven.organization.clone(),
            company_id: proven.company_id.clone(),
            credentials,
            access,
            ends_hold: starts_now,
            tries_refresh_token: false,
            due_at: if starts_now { Some(now) } else { locked.due_at.min(by_period).or(locked.due_at) },
            // A pass under way would go on with the old credentials or wishes; it is taken up again with the new ones.
            stops_run: locked.is_sync_on && (!is_sync_on || update.credentials.is_some() || has_other_options),
        };
        integrations::change(tx, account_id, integration_id, &change, now).await?;
        if needs_all {
            sync_runs::forget_places_of_full_passes(tx, account_id, integration_id).await?;
        }
        if !is_sync_on {
            sync_runs::cancel_current(tx, account_id, integration_id, Some(&SWITCHED_OFF), now).await?;
        }
        if starts_now {
            let kind = SyncKind::next(locked.is_first_copy, locked.is_sweep_due || starts_sweep);
            // One that is under way already will do.
            sync_runs::enqueue(tx, account_id, integration_id, SyncRunId(self.ids.new_v7(now)), kind, None, now)
                .await?;
        }
        Ok(())
    }

    async fn test_stored(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        organization: &Organization,
        options: Options,
    ) -> Result<(), IntegrationError> {
        let access = self.access_tokens.current(account_id, integration_id, organization, None).await?;
        let version = access.version;
        match self.probe(organization, options, access).await {
            // A token that was stored may have ended meanwhile.
            Err(CrmError::CredentialsRefused) if version > 0 => {
                let access =
                    self.access_tokens.current(account_id, integration_id, organization, Some(version)).await?;
                self.probe(organization, options, access).await?;
            }
            probed => drop(probed?),
        }
        Ok(())
    }
}
