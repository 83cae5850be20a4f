//! Why an integration was not linked or changed.

use thiserror::Error;

use crate::{
    credentials::{AccessError, CredentialsError},
    crm::CrmError,
    domain::{ids::IntegrationId, integration_state::TransitionRefused, options::NothingCopied},
    store::{StoreError, TxError},
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

impl From<TransitionRefused> for IntegrationError {
    fn from(refused: TransitionRefused) -> Self {
        match refused {
            TransitionRefused::Disabled => Self::Disabled,
            TransitionRefused::PurgeRunning => Self::PurgeRunning,
            // Nothing of what is asked for here runs or confirms; that it is linked was seen
            // before.
            TransitionRefused::AlreadyEnabled
            | TransitionRefused::SyncOff
            | TransitionRefused::NoDeletionsHeld
            | TransitionRefused::HeldDeletionsChanged(_)
            | TransitionRefused::NothingToPurge => Self::Store(StoreError::Conflict),
        }
    }
}
