//! Links an account to a CRM: try it, enable, change, disable. HTTP first, then one transaction; never both at once.

mod disable;
mod enable;
mod update;

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::Notify;

pub use enable::NewLink;
pub use update::Update;

use crate::{
    credentials::{CredentialsError, Safe},
    crm::{CrmError, Crms, Probe, Target},
    domain::{
        clock::Clock,
        credentials::Credentials,
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
    /// The database did not do it.
    #[error("the integration could not be stored")]
    Store(#[from] StoreError),
}

impl TxError for IntegrationError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict))
    }
}

/// What linking works with.
#[derive(Clone)]
pub struct Integrations {
    /// For its transactions.
    pub db: Db,
    /// Seals credentials.
    pub safe: Safe,
    /// For trying connections.
    pub crms: Crms,
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
        let access = credentials.as_access().ok_or(IntegrationError::CredentialsMissing)?;
        let target = Target { integration_id: None, organization, options: Options::default(), access };
        Ok(self.crms.client(target)?.probe().await?)
    }

    async fn get(&self, account_id: AccountId, integration_id: IntegrationId) -> Result<Integration, IntegrationError> {
        store::integrations::find(&self.db, account_id, integration_id)
            .await?
            .ok_or(IntegrationError::IntegrationNotFound)
    }
}
