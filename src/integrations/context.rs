//! What linking works with, made once by `app`.

use std::sync::Arc;

use tokio::sync::Notify;

use super::error::IntegrationError;
use crate::{
    audit::RefusalRecorder,
    credentials::{AccessTokens, CredentialVault},
    crm::CrmClients,
    domain::{
        clock::Clock,
        ids::{AccountId, IdSource, IntegrationId},
        integration::Integration,
    },
    store::{self, Db},
};

/// What linking works with.
#[derive(Clone)]
pub struct IntegrationContext {
    /// For its transactions.
    pub db: Db,
    /// Seals credentials.
    pub vault: CredentialVault,
    /// For trying connections.
    pub crms: CrmClients,
    /// For trying stored credentials.
    pub access_tokens: AccessTokens,
    /// Where a CRM sends an administrator back to; `None`: nowhere.
    pub callback_url: Option<String>,
    /// Where CRMs find this deployment, without a slash at the end; `None`: nowhere.
    pub push_base: Option<String>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<IdSource>,
    /// Takes down what is refused to whoever comes back from a CRM.
    pub refusals: RefusalRecorder,
    /// Wakes the workers of this process.
    pub wake: Arc<Notify>,
}

impl IntegrationContext {
    pub(super) async fn get(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
    ) -> Result<Integration, IntegrationError> {
        let found = store::integrations::find(&self.db, account_id, integration_id).await?;
        found.ok_or(IntegrationError::IntegrationNotFound)
    }
}
