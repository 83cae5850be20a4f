//! Links an account to a CRM: try it, enable, change, disable. HTTP first, then one transaction; never both at once.

mod authorize;
mod disable;
mod enable;
mod update;

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::Notify;

pub use authorize::{AuthorizationWish, AuthorizeError, Outcome, StartedAuthorization};
pub use enable::NewLink;
pub use update::Update;

use crate::{
    credentials::{AccessError, AccessTokens, CredentialVault, CredentialsError},
    crm::{CrmError, Crms, Probe, Target},
    domain::{
        clock::Clock,
        credentials::{Access, Credentials},
        ids::{AccountId, IdSource, IntegrationId},
        integration::{Integration, Organization},
        options::{NothingCopied, Options},
    },
    store::{self, Db, StoreError, TxError},
};

/// Why an integration was not linked or changed.
#[derive(Debug, Error)]
pub enum IntegrationError {
    /// No such account.
    #[error("there is no such account")]
    AccountNotFound,
    /// No such integration.
    #[error("there is no such integration")]
    IntegrationNotFound,
    /// The organisation is linked and enabled.
    #[error("this organisation is linked to the account already; use UpdateSync to change it")]
    Exists(IntegrationId),
    /// The request id was used for something else.
    #[error("this request id was used for another organisation; use a new one")]
    RequestIdReused,
    /// Its data is still being removed.
    #[error("the copied data of this integration is being removed; try again when GetIntegration no longer says so")]
    PurgeRunning,
    /// Changing what is disabled.
    #[error("the integration is disabled; use EnableSync to take it up again")]
    Disabled,
    /// Sync needs credentials.
    #[error("sync needs credentials; give them, or switch sync OFF")]
    CredentialsMissing,
    /// Options that leave nothing.
    #[error(transparent)]
    NothingCopied(#[from] NothingCopied),
    /// The CRM refuses, or cannot be asked.
    #[error("the connection was tried and refused")]
    Crm(#[from] CrmError),
    /// The vault.
    #[error("the credentials could not be sealed")]
    Credentials(#[from] CredentialsError),
    /// A rotated refresh token is lost.
    #[error(
        "an earlier answer of the CRM, with the refresh token to use from now on, was lost before it was stored; authorize again"
    )]
    RefreshInterrupted,
    /// The CRM of the request is not the integration's.
    #[error("must be the CRM of the integration")]
    OtherProvider,
    /// Nobody could come back.
    #[error(
        "this deployment has no address to which a CRM could send the administrator back: its operator must set http.public_url and http.listen"
    )]
    CallbackUnknown,
    /// Too many are open.
    #[error(
        "100 authorizations of this account are under way; try again when some are over, ten minutes after their start"
    )]
    TooManyAuthorizations,
    /// The database did not do it.
    #[error("the integration could not be stored")]
    Store(#[from] StoreError),
}

impl TxError for IntegrationError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict))
    }
}

impl From<AccessError> for IntegrationError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Crm(error) => Self::Crm(error),
            AccessError::Credentials(None) => Self::CredentialsMissing,
            AccessError::Credentials(Some(error)) => Self::Credentials(error),
            AccessError::Interrupted => Self::RefreshInterrupted,
            AccessError::Spent => Self::Crm(CrmError::GrantRefused),
            AccessError::Store(error) => Self::Store(error),
        }
    }
}

/// What linking works with.
#[derive(Clone)]
pub struct Integrations {
    /// For its transactions.
    pub db: Db,
    /// Seals credentials.
    pub vault: CredentialVault,
    /// For trying connections.
    pub crms: Crms,
    /// For trying stored credentials.
    pub access_tokens: AccessTokens,
    /// Where a CRM sends an administrator back to; `None`: nowhere.
    pub callback_url: Option<String>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<IdSource>,
    /// Wakes the workers of this process.
    pub wake: Arc<Notify>,
}

impl Integrations {
    /// Tries a connection; stores nothing.
    pub async fn test(&self, organization: &Organization, credentials: Credentials) -> Result<Probe, IntegrationError> {
        Ok(self.try_out(organization, None, Options::default(), credentials).await?.probe)
    }

    /// Gets access by credentials and looks whether it opens this organisation, which is known by the CRM's own number, too, if that was
    /// learned before: then also under another name. What comes back is what must be stored: a refresh token may have been used up by this.
    async fn try_out(
        &self,
        organization: &Organization,
        company_id: Option<String>,
        options: Options,
        credentials: Credentials,
    ) -> Result<Tried, IntegrationError> {
        let mut granted = self.crms.obtain(organization, &credentials, self.clock.now()).await?;
        if let Some(opened) = granted.organization.take_if(|opened| *opened != organization.name) {
            return Err(CrmError::OtherOrganization(Some(opened)).into());
        }
        granted.access.company_id = company_id;
        let (organization, probe) = self.probe_wherever(organization.clone(), options, &granted.access).await?;
        let access = credentials.are_renewable().then_some(granted.access);
        Ok(Tried { organization, probe, credentials: granted.credentials.unwrap_or(credentials), access })
    }

    /// As [`Integrations::probe`], and under the name that the organisation has now.
    async fn probe_wherever(
        &self,
        mut organization: Organization,
        options: Options,
        access: &Access,
    ) -> Result<(Organization, Probe), CrmError> {
        let renamed = match self.probe(&organization, options, access.clone()).await {
            Ok(probe) => return Ok((organization, probe)),
            Err(CrmError::Renamed(name)) => name,
            Err(error @ (CrmError::HostMoved | CrmError::NoConnection { .. } | CrmError::OrganizationNotFound)) => {
                self.crms.find_renamed(&organization, access).await.ok().flatten().ok_or(error)?
            }
            Err(error) => return Err(error),
        };
        organization.name = renamed;
        let probe = self.probe(&organization, options, access.clone()).await?;
        Ok((organization, probe))
    }

    /// Whether it opens this organisation, and shows what is wished of it.
    async fn probe(&self, organization: &Organization, options: Options, access: Access) -> Result<Probe, CrmError> {
        let target = Target { is_trial: true, is_first_copy: false, organization, options, access };
        self.crms.client(target)?.probe().await
    }

    async fn get(&self, account_id: AccountId, integration_id: IntegrationId) -> Result<Integration, IntegrationError> {
        store::integrations::find(&self.db, account_id, integration_id)
            .await?
            .ok_or(IntegrationError::IntegrationNotFound)
    }
}

/// Credentials that open an organisation.
struct Tried {
    /// As it is called now.
    organization: Organization,
    probe: Probe,
    /// As they are now.
    credentials: Credentials,
    /// What was got by them; `None`: they are used as they are.
    access: Option<Access>,
}
