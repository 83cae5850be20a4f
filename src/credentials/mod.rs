//! Seals credentials before they reach the store, and opens them for the CRM client: joins vault
//! and store for the features. A sealed value opens only for the account, integration and field
//! that it was sealed for. `refresh` keeps the access tokens.

mod refresh;
mod reseal;
mod suppression;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use refresh::{AccessError, AccessTokens};
pub use reseal::{ResealOutcome, SealCounts, VaultResealer};
pub use suppression::{SuppressionKeyError, SuppressionKeys};

use crate::{
    domain::{
        credentials::{AccessSecret, AccessToken, CredentialKind, Credentials, CrmAccess, OAuthClient},
        hook::HookSecret,
        ids::{AccountId, IdSource, IntegrationId},
        provider::Provider,
    },
    vault::{KeyRing, SealScope, VaultError},
};

/// What the administrator gave.
const CREDENTIALS: &str = "credentials";
/// The access token got by it.
const ACCESS: &str = "access";
/// A record of a CRM that could not be read.
const REJECTED: &str = "rejected";
/// Of the secret of an integration's hook.
const HOOK: &str = "hook";
/// The account's secret for erased records.
const SUPPRESSION: &str = "suppression";
/// What an administrator is being asked for.
pub const AUTHORIZATION: &str = "authorization";

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
pub struct CredentialVault {
    /// The keys.
    pub key_ring: Arc<KeyRing>,
    /// For nonces.
    pub ids: Arc<IdSource>,
}

/// The CRM that they are of is sealed with them, so that whatever opens is shown to that one only.
#[derive(Serialize, Deserialize)]
struct StoredCredentials {
    provider: String,
    #[serde(flatten)]
    kind: StoredKind,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum StoredKind {
    ApiToken {
        user: Option<String>,
        token: String,
    },
    Bearer {
        token: String,
        host: Option<String>,
    },
    RefreshToken {
        client: Option<StoredClient>,
        token: String,
        host: Option<String>,
        #[serde(default)]
        scopes: Option<String>,
    },
    ClientCredentials {
        client: StoredClient,
        host: Option<String>,
    },
    JwtBearer {
        client_id: String,
        username: String,
        private_key: String,
        host: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
struct StoredClient {
    id: String,
    secret: String,
}

/// A bearer token: credentials that are used as they are have no access of their own.
#[derive(Serialize, Deserialize)]
struct StoredAccess {
    provider: String,
    token: String,
    api_url: Option<String>,
    expires_at: Option<DateTime<Utc>>,
}

impl CredentialVault {
    /// Seals credentials for one integration.
    pub fn seal(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        credentials: &Credentials,
    ) -> Result<Vec<u8>, CredentialsError> {
        let stored = StoredCredentials::from(credentials);
        let plaintext = SecretString::from(serde_json::to_string(&stored).map_err(|_| CredentialsError::Form)?);
        let scope = scope(account_id, integration_id, CREDENTIALS);
        Ok(self.ids.with_rng(|rng| self.key_ring.seal(rng, &scope, &plaintext))?)
    }

    /// Seals an access token for one integration.
    pub fn seal_access(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        access: &CrmAccess,
    ) -> Result<Vec<u8>, CredentialsError> {
        let provider = access.token.provider();
        let Some(AccessSecret::Bearer(token)) = access.token.secret_for(provider) else {
            return Err(CredentialsError::Form);
        };
        let stored = StoredAccess {
            provider: provider.as_str().to_owned(),
            token: token.expose_secret().to_owned(),
            api_url: access.api_url.clone(),
            expires_at: access.expires_at,
        };
        let plaintext = SecretString::from(serde_json::to_string(&stored).map_err(|_| CredentialsError::Form)?);
        let scope = scope(account_id, integration_id, ACCESS);
        Ok(self.ids.with_rng(|rng| self.key_ring.seal(rng, &scope, &plaintext))?)
    }

    /// Opens the access token of one integration, which has this version.
    pub fn open_access(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        sealed: &[u8],
        version: i64,
    ) -> Result<CrmAccess, CredentialsError> {
        let plaintext = self.key_ring.open(&scope(account_id, integration_id, ACCESS), sealed)?;
        let stored: StoredAccess =
            serde_json::from_str(plaintext.expose_secret()).map_err(|_| CredentialsError::Form)?;
        let provider = stored.provider.parse().map_err(|_| CredentialsError::Form)?;
        let token = AccessToken::bearer(provider, stored.token.into());
        let StoredAccess { api_url, expires_at, .. } = stored;
        Ok(CrmAccess { api_url, expires_at, version, ..CrmAccess::with(token) })
    }

    /// Seals the content of a record that could not be read.
    pub fn seal_rejected(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        raw: &str,
    ) -> Result<Vec<u8>, CredentialsError> {
        let scope = scope(account_id, integration_id, REJECTED);
        Ok(self.ids.with_rng(|rng| self.key_ring.seal(rng, &scope, &SecretString::from(raw)))?)
    }

    /// Opens it.
    pub fn open_rejected(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        sealed: &[u8],
    ) -> Result<SecretString, CredentialsError> {
        Ok(self.key_ring.open(&scope(account_id, integration_id, REJECTED), sealed)?)
    }

    /// Seals the secret of an integration's hook.
    pub fn seal_hook(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        secret: &HookSecret,
    ) -> Result<Vec<u8>, CredentialsError> {
        let (scope, json) = (scope(account_id, integration_id, HOOK), secret.to_json().ok_or(CredentialsError::Form)?);
        Ok(self.ids.with_rng(|rng| self.key_ring.seal(rng, &scope, &json))?)
    }

    /// Opens it.
    pub fn open_hook(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        sealed: &[u8],
    ) -> Result<HookSecret, CredentialsError> {
        let json = self.key_ring.open(&scope(account_id, integration_id, HOOK), sealed)?;
        HookSecret::from_json(json.expose_secret()).ok_or(CredentialsError::Form)
    }

    /// The same credentials sealed by the primary key; `None`: they are, or do not open. So that an
    /// old key can leave the ring.
    pub fn reseal(&self, account_id: AccountId, integration_id: IntegrationId, sealed: &[u8]) -> Option<Vec<u8>> {
        if !self.key_ring.needs_reseal(sealed) {
            return None;
        }
        let scope = scope(account_id, integration_id, CREDENTIALS);
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
        let plaintext = self.key_ring.open(&scope(account_id, integration_id, CREDENTIALS), sealed)?;
        // The parser's own error could quote the secret.
        let stored: StoredCredentials =
            serde_json::from_str(plaintext.expose_secret()).map_err(|_| CredentialsError::Form)?;
        let provider = stored.provider.parse::<Provider>().map_err(|_| CredentialsError::Form)?;
        Ok(Credentials { provider, kind: stored.kind.into() })
    }
}

impl From<&Credentials> for StoredCredentials {
    fn from(credentials: &Credentials) -> Self {
        Self { provider: credentials.provider.as_str().to_owned(), kind: StoredKind::from(&credentials.kind) }
    }
}

impl From<&CredentialKind> for StoredKind {
    fn from(kind: &CredentialKind) -> Self {
        let exposed = |secret: &SecretString| secret.expose_secret().to_owned();
        let stored_client =
            |client: &OAuthClient| StoredClient { id: client.id.clone(), secret: exposed(&client.secret) };
        match kind {
            CredentialKind::ApiToken { user, token } => {
                Self::ApiToken { user: user.as_ref().map(exposed), token: exposed(token) }
            }
            CredentialKind::Bearer { token, host } => Self::Bearer { token: exposed(token), host: host.clone() },
            CredentialKind::RefreshToken { client, token, host, scopes } => Self::RefreshToken {
                client: client.as_ref().map(stored_client),
                token: exposed(token),
                host: host.clone(),
                scopes: scopes.clone(),
            },
            CredentialKind::ClientCredentials { client, host } => {
                Self::ClientCredentials { client: stored_client(client), host: host.clone() }
            }
            CredentialKind::JwtBearer { client_id, username, private_key, host } => Self::JwtBearer {
                client_id: client_id.clone(),
                username: exposed(username),
                private_key: exposed(private_key),
                host: host.clone(),
            },
        }
    }
}

impl From<StoredKind> for CredentialKind {
    fn from(stored: StoredKind) -> Self {
        let client = |client: StoredClient| OAuthClient { id: client.id, secret: client.secret.into() };
        match stored {
            StoredKind::ApiToken { user, token } => Self::ApiToken { user: user.map(Into::into), token: token.into() },
            StoredKind::Bearer { token, host } => Self::Bearer { token: token.into(), host },
            StoredKind::RefreshToken { client: own, token, host, scopes } => {
                Self::RefreshToken { client: own.map(client), token: token.into(), host, scopes }
            }
            StoredKind::ClientCredentials { client: own, host } => {
                Self::ClientCredentials { client: client(own), host }
            }
            StoredKind::JwtBearer { client_id, username, private_key, host } => {
                Self::JwtBearer { client_id, username: username.into(), private_key: private_key.into(), host }
            }
        }
    }
}

fn scope(account_id: AccountId, integration_id: IntegrationId, field: &'static str) -> SealScope<'static> {
    SealScope { account: account_id.0, integration: integration_id.0, field }
}
