//! `EnableSync`: try the credentials, seal them, store the link, make the first pass due.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{IntegrationError, Integrations};
use crate::{
    domain::{
        credentials::{Access, Credentials},
        ids::{AccountId, IntegrationId, SyncRunId},
        integration::{Integration, Organization},
        options::Options,
        sync_run::SyncKind,
    },
    store::{
        self, StoreError, Tx,
        integrations::{self, Locked, NewIntegration},
        sync_runs,
    },
};

/// A link to make.
pub struct NewLink {
    /// The CRM's organisation.
    pub organization: Organization,
    /// What opens it; may be absent if sync is off.
    pub credentials: Option<Credentials>,
    /// Copies contacts.
    pub is_sync_on: bool,
    /// From the end of a pass to the next.
    pub period_seconds: i32,
    /// What is copied and mirrored.
    pub options: Options,
    /// A repeat with the same one returns the same integration.
    pub request_id: Option<Uuid>,
}

impl Integrations {
    /// Links the account to the organisation, or takes a disabled link up again with its contacts.
    pub async fn enable(&self, account_id: AccountId, link: NewLink) -> Result<Integration, IntegrationError> {
        store::accounts::find(&self.db, account_id).await?.ok_or(IntegrationError::AccountNotFound)?;
        let link = Arc::new(link);
        let before = self.look(account_id, &link).await?;
        if let Some(Standing::Repeated(id)) = before {
            return self.get(account_id, id).await;
        }
        if link.is_sync_on && link.credentials.is_none() {
            return Err(IntegrationError::CredentialsMissing);
        }
        let this = self.clone();
        // In a task of its own: a caller who hangs up between the CRM and the database must not lose a rotated refresh token.
        let id = self.db.task(async move { this.try_and_store(account_id, link).await }).await?;
        self.wake.notify_one();
        self.get(account_id, id).await
    }

    async fn try_and_store(
        &self,
        account_id: AccountId,
        link: Arc<NewLink>,
    ) -> Result<IntegrationId, IntegrationError> {
        let tried = match &link.credentials {
            Some(credentials) if link.is_sync_on => {
                let tried = self.try_out(&link.organization, None, link.options, credentials.clone()).await?;
                Gate { credentials: Some(tried.credentials), access: tried.access, company_id: tried.probe.company_id }
            }
            credentials => Gate { credentials: credentials.clone(), access: None, company_id: None },
        };
        self.store(account_id, link, Arc::new(tried)).await
    }

    /// Refuses early what would be refused late, before the CRM is asked.
    async fn look(&self, account_id: AccountId, link: &Arc<NewLink>) -> Result<Option<Standing>, IntegrationError> {
        let (link, now) = (Arc::clone(link), self.clock.now());
        self.db
            .transaction(move |tx| {
                let link = Arc::clone(&link);
                Box::pin(async move { stand(tx, account_id, &link, None, now).await })
            })
            .await
    }

    pub(super) async fn store(
        &self,
        account_id: AccountId,
        link: Arc<NewLink>,
        gate: Arc<Gate>,
    ) -> Result<IntegrationId, IntegrationError> {
        let this = self.clone();
        self.db
            .transaction(move |tx| {
                let (this, link, gate) = (this.clone(), Arc::clone(&link), Arc::clone(&gate));
                Box::pin(async move { this.store_in(tx, account_id, &link, &gate).await })
            })
            .await
    }

    async fn store_in(
        &self,
        tx: &mut Tx,
        account_id: AccountId,
        link: &NewLink,
        gate: &Gate,
    ) -> Result<IntegrationId, IntegrationError> {
        let now = self.clock.now();
        let known = match stand(tx, account_id, link, gate.company_id.as_deref(), now).await? {
            Some(Standing::Repeated(id)) => return Ok(id),
            Some(Standing::Disabled(known)) => Some(known),
            None => None,
        };
        let id = known.as_ref().map_or_else(|| IntegrationId(self.ids.new_v7(now)), |known| known.id);
        let credentials =
            gate.credentials.as_ref().map(|credentials| self.vault.seal(account_id, id, credentials)).transpose()?;
        let access = gate.access.as_ref().map(|access| self.vault.seal_access(account_id, id, access)).transpose()?;
        let new = NewIntegration {
            id,
            organization: link.organization.clone(),
            is_sync_on: link.is_sync_on,
            period_seconds: link.period_seconds,
            options: link.options,
            credentials,
            access,
            company_id: gate.company_id.clone(),
            request_id: link.request_id,
        };
        match &known {
            Some(known) => {
                integrations::enable_again(tx, account_id, id, &new, now).await?;
                if link.options.need_sweep_after(&known.options, link.organization.provider) {
                    sync_runs::forget_places_of_full_passes(tx, account_id, id).await?;
                }
            }
            None => integrations::insert(tx, account_id, &new, now).await?,
        }
        if link.is_sync_on {
            let kind =
                if known.is_none_or(|known| known.is_first_copy) { SyncKind::Initial } else { SyncKind::Incremental };
            if !sync_runs::enqueue(tx, account_id, id, SyncRunId(self.ids.new_v7(now)), kind, None, now).await? {
                return Err(StoreError::Conflict.into());
            }
        }
        Ok(id)
    }
}

/// What opens the CRM, as it is after the try.
pub(super) struct Gate {
    pub(super) credentials: Option<Credentials>,
    pub(super) access: Option<Access>,
    pub(super) company_id: Option<String>,
}

/// What is there already.
enum Standing {
    /// This very request made it.
    Repeated(IntegrationId),
    /// It was disabled.
    Disabled(Locked),
}

async fn stand(
    tx: &mut Tx,
    account_id: AccountId,
    link: &NewLink,
    company_id: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<Standing>, IntegrationError> {
    let mut known = integrations::lock(tx, account_id, None, Some(&link.organization), link.request_id, now).await?;
    if known.as_ref().is_some_and(|known| known.organization != link.organization) {
        return Err(IntegrationError::RequestIdReused);
    }
    // Linked before under another name: the same by the CRM's own number.
    if let (None, Some(company_id)) = (&known, company_id)
        && let Some(id) = integrations::find_by_company(tx, account_id, link.organization.provider, company_id).await?
    {
        known = integrations::lock(tx, account_id, Some(id), None, None, now).await?;
    }
    let Some(known) = known else { return Ok(None) };
    if known.is_enabled && link.request_id.is_some() && known.request_id == link.request_id {
        return Ok(Some(Standing::Repeated(known.id)));
    }
    if known.is_enabled {
        return Err(IntegrationError::Exists(known.id));
    }
    if known.is_purging {
        return Err(IntegrationError::PurgeRunning);
    }
    Ok(Some(Standing::Disabled(known)))
}
