//! The secret of an account by which its erased records are known again: made once, sealed by the
//! vault, opened into a bounded cache.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use moka::sync::Cache;
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use uuid::Uuid;

use super::{CredentialVault, SUPPRESSION, scope};
use crate::{
    domain::{
        ids::{AccountId, IntegrationId},
        suppression::{KEY_LENGTH, SuppressionKey},
    },
    store::{Db, StoreError, suppressions},
    vault::VaultError,
};

/// Accounts whose key is at hand.
const ACCOUNTS_MAX: u64 = 10_000;
/// A key that nobody asked for is opened anew.
const IDLE_MAX: Duration = Duration::from_hours(1);

/// Why the key cannot be had.
#[derive(Debug, Error)]
pub enum SuppressionKeyError {
    /// The vault refused.
    #[error("the account's stored secret cannot be opened; is the key ring the one that sealed it?")]
    Vault(#[from] VaultError),
    /// It opened, and is not ours.
    #[error("the account's stored secret has a form that this version does not know")]
    Form,
    /// The database did not answer.
    #[error("the account's secret could not be read")]
    Store(#[from] StoreError),
}

/// The keys of all accounts.
#[derive(Clone)]
pub struct SuppressionKeys {
    db: Db,
    vault: CredentialVault,
    cache: Cache<AccountId, SuppressionKey>,
}

impl SuppressionKeys {
    /// Empty at first.
    pub fn new(db: Db, vault: CredentialVault) -> Self {
        Self { db, vault, cache: Cache::builder().max_capacity(ACCOUNTS_MAX).time_to_idle(IDLE_MAX).build() }
    }

    /// The account's key, made if it has none. Of two processes that make one at once, both get
    /// that which was stored.
    pub async fn find_or_make(&self, account_id: AccountId) -> Result<SuppressionKey, SuppressionKeyError> {
        if let Some(key) = self.cache.get(&account_id) {
            return Ok(key);
        }
        let stored = match suppressions::find_key(&self.db, account_id).await? {
            Some(sealed) => sealed,
            None => self.make(account_id).await?,
        };
        let scope = scope(account_id, IntegrationId(Uuid::nil()), SUPPRESSION);
        let opened = self.vault.key_ring.open(&scope, &stored)?;
        let bytes = STANDARD_NO_PAD.decode(opened.expose_secret()).map_err(|_| SuppressionKeyError::Form)?;
        let key = SuppressionKey::new(bytes.try_into().map_err(|_| SuppressionKeyError::Form)?);
        if self.vault.key_ring.needs_reseal(&stored) {
            let sealed = self.vault.ids.with_rng(|rng| self.vault.key_ring.seal(rng, &scope, &opened))?;
            suppressions::reseal_key(&self.db, account_id, &stored, &sealed).await?;
        }
        self.cache.insert(account_id, key.clone());
        Ok(key)
    }

    async fn make(&self, account_id: AccountId) -> Result<Vec<u8>, SuppressionKeyError> {
        let scope = scope(account_id, IntegrationId(Uuid::nil()), SUPPRESSION);
        let sealed = self.vault.ids.with_rng(|rng| {
            let mut bytes = [0; KEY_LENGTH];
            rng.fill_bytes(&mut bytes);
            self.vault.key_ring.seal(rng, &scope, &SecretString::from(STANDARD_NO_PAD.encode(bytes)))
        })?;
        suppressions::insert_key(&self.db, account_id, &sealed).await?;
        suppressions::find_key(&self.db, account_id).await?.ok_or(SuppressionKeyError::Store(StoreError::Conflict))
    }
}
