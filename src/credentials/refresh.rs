//! The access token of an integration: the stored one while it is good, else a new one, got by one
//! process for all.
//!
//! Invariant: of all who need a new token at once, one asks the CRM, since many a vendor ends a
//! refresh token by its use. What came is stored before it is used. No HTTP while a transaction is
//! open. A refresh is finished although its caller has gone away.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use uuid::Uuid;

use super::{CredentialVault, CredentialsError};
use crate::{
    crm::{CrmClients, CrmError, oauth::GrantedAccess},
    domain::{
        clock::Clock,
        credentials::{CredentialKind, Credentials, CrmAccess},
        ids::{AccountId, IdSource, IntegrationId},
        integration::Organization,
        integration_state::RefreshUse,
    },
    store::{
        Db, StoreError,
        access::{self, StoredAccess},
    },
    telemetry::chain,
};

/// How long a claim lasts, by the database's clock.
const CLAIM: Duration = Duration::from_mins(1);
/// The CRM answers within this, so that a claim outlives its request.
const OBTAIN_MAX: Duration = Duration::from_secs(45);
/// How long one waits for another's refresh.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// From look to look meanwhile.
const POLL: Duration = Duration::from_millis(100);
/// A token that ends sooner than this is not begun with.
const EXPIRY_MARGIN: TimeDelta = TimeDelta::seconds(60);
/// A new token must be stored: tries, while the database does not answer.
const STORE_TRIES_MAX: u32 = 15;
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no access.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The CRM refuses, or cannot be asked.
    #[error("the CRM gave no access token")]
    Crm(#[from] CrmError),
    /// No credentials are stored, or they do not open.
    #[error("the stored credentials cannot be used")]
    Credentials(#[source] Option<CredentialsError>),
    /// A rotated refresh token never arrived here; the one that is stored is over.
    #[error(
        "an earlier answer of the CRM, with the refresh token to use from now on, was lost before it was stored (a process ended, or the connection broke); authorize again"
    )]
    Interrupted,
    /// The refresh token was refused twice, or its last answer was lost: it is not sent again by
    /// itself.
    #[error("the stored refresh token is spent and not sent again; authorize again (TriggerSync tries it once more)")]
    Spent,
    /// The database.
    #[error("the database did not do its part")]
    Store(#[from] StoreError),
}

/// Gives access to the CRMs of integrations.
#[derive(Clone)]
pub struct AccessTokens {
    /// Where tokens are kept.
    pub db: Db,
    /// Opens credentials, seals tokens.
    pub vault: CredentialVault,
    /// Gives tokens.
    pub crms: CrmClients,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Claims.
    pub ids: Arc<IdSource>,
}

/// One refresh, and the right to it.
struct TokenRefresh {
    account_id: AccountId,
    integration_id: IntegrationId,
    organization: Organization,
    claim: Uuid,
    /// Sealed.
    credentials: Vec<u8>,
    /// The version of the access token that it is to follow.
    seen: i64,
    /// Where the API was by then.
    api_url: Option<String>,
    /// The CRM's own number of the organisation, once it is known.
    company_id: Option<String>,
    /// An earlier answer of the CRM may have been lost.
    is_after_loss: bool,
    /// Access is wished that allows what pushed changes need.
    wants_push: bool,
}

impl AccessTokens {
    /// What the next request carries. `used`: the version of an access that the CRM has just
    /// refused; a newer one is given, or got.
    pub async fn current(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        organization: &Organization,
        used: Option<i64>,
    ) -> Result<CrmAccess, AccessError> {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let stored = access::find(&self.db, account_id, integration_id).await?;
            let stored = stored.ok_or(AccessError::Credentials(None))?;
            let sealed = stored.credentials.as_deref().ok_or(AccessError::Credentials(None))?;
            let credentials = self.vault.open(account_id, integration_id, sealed);
            let credentials = credentials.map_err(|error| AccessError::Credentials(Some(error)))?;
            if let Some(access) = credentials.as_access() {
                let access = CrmAccess { company_id: stored.company_id, ..access };
                return if used.is_none() { Ok(access) } else { Err(CrmError::CredentialsRefused.into()) };
            }
            if let Some(access) = self.usable(account_id, integration_id, &stored, used) {
                return Ok(CrmAccess { company_id: stored.company_id, ..access });
            }
            if is_not_to_be_sent(&credentials, &stored) {
                return Err(AccessError::Spent);
            }
            if Instant::now() > deadline {
                return Err(CrmError::Unavailable("another process is getting an access token, and takes long").into());
            }
            if stored.is_claim_live {
                sleep(POLL).await;
            } else if let Some(access) = self.refresh(account_id, integration_id, organization, &stored).await? {
                return Ok(access);
            }
        }
    }

    /// The stored access, if it is good. One that does not open (the key ring has changed) is got
    /// anew.
    fn usable(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        stored: &StoredAccess,
        used: Option<i64>,
    ) -> Option<CrmAccess> {
        let sealed = stored.access.as_deref().filter(|_| used.is_none_or(|used| stored.version > used))?;
        let access = self.vault.open_access(account_id, integration_id, sealed, stored.version).ok()?;
        let now = self.clock.now();
        access.expires_at.is_none_or(|expires_at| now < expires_at - EXPIRY_MARGIN).then_some(access)
    }

    /// Claims and refreshes; `None`: look again, somebody was quicker or has changed the
    /// credentials.
    async fn refresh(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        organization: &Organization,
        seen: &StoredAccess,
    ) -> Result<Option<CrmAccess>, AccessError> {
        let (this, organization, claim) = (self.clone(), organization.clone(), self.ids.new_v4());
        let is_after_loss = seen.claim.is_some();
        let claimed = access::claim(&self.db, account_id, integration_id, claim, CLAIM.as_secs_f64(), seen).await?;
        let Some(credentials) = claimed else { return Ok(None) };
        let open = |sealed: &Vec<u8>| self.vault.open_access(account_id, integration_id, sealed, seen.version).ok();
        let api_url = seen.access.as_ref().and_then(open).and_then(|access| access.api_url);
        let wants_push = seen.wants_push;
        let (seen, company_id) = (seen.version, seen.company_id.clone());
        let refresh = TokenRefresh {
            account_id,
            integration_id,
            organization,
            claim,
            credentials,
            seen,
            api_url,
            company_id,
            is_after_loss,
            wants_push,
        };
        // In a task of its own: a run that is stopped in between must not lose a rotated token.
        self.db.task(async move { this.finish(refresh).await }).await
    }

    async fn finish(&self, refresh: TokenRefresh) -> Result<Option<CrmAccess>, AccessError> {
        let TokenRefresh { account_id, integration_id, claim, .. } = refresh;
        let opened = self.vault.open(account_id, integration_id, &refresh.credentials);
        let credentials = opened.map_err(|error| AccessError::Credentials(Some(error)))?;
        let asked = self.crms.obtain(&refresh.organization, &credentials, self.clock.now(), refresh.wants_push);
        let answer = timeout(OBTAIN_MAX, asked).await;
        match answer.unwrap_or(Err(CrmError::Unavailable("it did not answer in time"))) {
            Ok(mut granted) => {
                granted.access.company_id.clone_from(&refresh.company_id);
                granted.access.is_elsewhere = refresh.api_url.is_some() && refresh.api_url != granted.access.api_url;
                match self.prove(&refresh, &granted).await {
                    Ok(()) => self.keep(&refresh, granted.credentials, Some(granted.access)).await,
                    // Used by nobody. A refresh token that came with it is the only one that is
                    // good.
                    Err(error) => {
                        self.keep(&refresh, granted.credentials, None).await?;
                        Err(error.into())
                    }
                }
            }
            // Another process, whose claim had run out, may have used the token meanwhile, and
            // stored what came.
            Err(CrmError::GrantRefused) if self.is_outdated(&refresh).await? => Ok(None),
            Err(error) => {
                let is_lost = refresh.is_after_loss || may_have_given(&error);
                access::release(&self.db, account_id, integration_id, claim, is_lost).await?;
                let is_rotating = matches!(credentials.kind, CredentialKind::RefreshToken { .. });
                if refresh.is_after_loss && is_rotating && matches!(error, CrmError::GrantRefused) {
                    return Err(AccessError::Interrupted);
                }
                Err(error.into())
            }
        }
    }

    /// That the access is of the organisation that is linked, wherever it lies now. Another name of
    /// it is for whoever uses it to learn.
    async fn prove(&self, refresh: &TokenRefresh, granted: &GrantedAccess) -> Result<(), CrmError> {
        if let Some(name) = &granted.organization {
            let is_linked = *name == refresh.organization.name;
            return if is_linked { Ok(()) } else { Err(CrmError::OtherOrganization(Some(name.clone()))) };
        }
        if !granted.access.is_elsewhere {
            return Ok(());
        }
        match self.crms.identify(&refresh.organization, granted.access.clone()).await {
            Err(CrmError::Renamed(_)) => Ok(()),
            identified => identified,
        }
    }

    async fn is_outdated(&self, refresh: &TokenRefresh) -> Result<bool, StoreError> {
        let stored = access::find(&self.db, refresh.account_id, refresh.integration_id).await?;
        Ok(stored.is_some_and(|stored| stored.version > refresh.seen))
    }

    /// Stores what the CRM gave. While the database does not answer, it is tried again: a rotated
    /// refresh token exists only here.
    async fn keep(
        &self,
        refresh: &TokenRefresh,
        credentials: Option<Credentials>,
        access: Option<CrmAccess>,
    ) -> Result<Option<CrmAccess>, AccessError> {
        let TokenRefresh { account_id, integration_id, seen, .. } = *refresh;
        let seal_failed = |error| AccessError::Credentials(Some(error));
        let seal = |credentials: &Credentials| self.vault.seal(account_id, integration_id, credentials);
        let credentials = credentials.as_ref().map(seal).transpose().map_err(seal_failed)?;
        let seal_access = |access: &CrmAccess| self.vault.seal_access(account_id, integration_id, access);
        let sealed = access.as_ref().map(seal_access).transpose().map_err(seal_failed)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let stored =
                access::store(&self.db, account_id, integration_id, seen, credentials.as_deref(), sealed.as_deref())
                    .await;
            match stored {
                Ok(Some(version)) => {
                    info!(integration.id = %integration_id, "there is a new access token");
                    return Ok(access.map(|access| CrmAccess { version, ..access }));
                }
                Ok(None) => return Ok(None),
                Err(error) if error.is_transient() && tries < STORE_TRIES_MAX => {
                    warn!(integration.id = %integration_id, error = %chain(&error), "a new access token is not stored yet, will try again");
                    sleep(STORE_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A refresh token that is spent, or (while the integration is held) one whose last use is unknown,
/// is sent only if somebody asks for it.
fn is_not_to_be_sent(credentials: &Credentials, stored: &StoredAccess) -> bool {
    let is_refused = match stored.refresh_use {
        RefreshUse::Spent => true,
        RefreshUse::Free => stored.is_auth_failed && stored.claim.is_some(),
        RefreshUse::Once => false,
    };
    matches!(credentials.kind, CredentialKind::RefreshToken { .. }) && !stored.is_claim_live && is_refused
}

/// Whether tokens may have been given although none arrived.
const fn may_have_given(error: &CrmError) -> bool {
    matches!(
        error,
        CrmError::Unavailable(_)
            | CrmError::TooMuch(_)
            | CrmError::ConnectionBroke { .. }
            | CrmError::TimedOut { .. }
            | CrmError::Unreadable(_)
            | CrmError::HostUnknown(_)
    )
}
