//! Seals credentials before they reach the store, and opens them for the CRM client: joins vault and store for the features.
//! A sealed value opens only for the account, integration and field that it was sealed for.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    domain::{
        credentials::Credentials,
        ids::{AccountId, IdSource, IntegrationId},
    },
    vault::{KeyRing, Scope, VaultError},
};

const FIELD: &str = "credentials";

/// Why credentials cannot be sealed or opened.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The vault refused.
    #[error("the stored credentials cannot be opened; is the key ring the one that sealed them?")]
    Vault(#[from] VaultError),
    /// They opened, and are not ours.
    #[error("the stored credentials have a form that this version does not know")]
    Form,
}

/// Seals and opens credentials.
#[derive(Clone)]
pub struct Safe {
    /// The keys.
    pub key_ring: Arc<KeyRing>,
    /// For nonces.
    pub ids: Arc<IdSource>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Stored {
    ZendeskApiToken { email: String, token: String },
    Bearer { token: String },
}

impl Safe {
    /// Seals credentials for one integration.
    pub fn seal(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        credentials: &Credentials,
    ) -> Result<Vec<u8>, CredentialsError> {
        let exposed = |secret: &SecretString| secret.expose_secret().to_owned();
        let stored = match credentials {
            Credentials::ZendeskApiToken { email, token } => {
                Stored::ZendeskApiToken { email: exposed(email), token: exposed(token) }
            }
            Credentials::Bearer(token) => Stored::Bearer { token: exposed(token) },
        };
        let plaintext = SecretString::from(serde_json::to_string(&stored).map_err(|_| CredentialsError::Form)?);
        let scope = scope(account_id, integration_id);
        Ok(self.ids.with_rng(|rng| self.key_ring.seal(rng, &scope, &plaintext))?)
    }

    /// The same credentials sealed by the primary key; `None`: they are, or do not open. So that an old key can leave the ring.
    pub fn reseal(&self, account_id: AccountId, integration_id: IntegrationId, sealed: &[u8]) -> Option<Vec<u8>> {
        if !self.key_ring.needs_reseal(sealed) {
            return None;
        }
        let scope = scope(account_id, integration_id);
        let plaintext = self.key_ring.open(&scope, sealed).ok()?;
        self.ids.with_rng(|rng| self.key_ring.seal(rng, &scope, &plaintext)).ok()
    }

    /// Opens the credentials of one integration.
    pub fn open(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        sealed: &[u8],
    ) -> Result<Credentials, CredentialsError> {
        let plaintext = self.key_ring.open(&scope(account_id, integration_id), sealed)?;
        // The parser's own error could quote the secret.
        match serde_json::from_str(plaintext.expose_secret()).map_err(|_| CredentialsError::Form)? {
            Stored::ZendeskApiToken { email, token } => {
                Ok(Credentials::ZendeskApiToken { email: email.into(), token: token.into() })
            }
            Stored::Bearer { token } => Ok(Credentials::Bearer(token.into())),
        }
    }
}

fn scope(account_id: AccountId, integration_id: IntegrationId) -> Scope<'static> {
    Scope { account: account_id.0, integration: integration_id.0, field: FIELD }
}
