//! Why a run did not complete, what that says of its integration, and what an operator reads of it.

use std::time::Duration;

use super::backoff::STALLED_ATTEMPTS_MAX;
use crate::{
    credentials::{AccessError, CredentialsError, SuppressionKeyError},
    crm::CrmError,
    domain::{integration_state::FailureVerdict, notice::Notice},
    store::{StoreError, TxError},
    vault::VaultError,
};

/// Why a run did not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// Another worker, or a cancellation, has taken over: write nothing more.
    #[error("the lease is lost")]
    LeaseLost,
    /// It waits, and somebody else needs its worker's slot: it goes on after this.
    #[error("the run waits")]
    Parked {
        /// Until it goes on.
        wait: Duration,
        /// What it waits for.
        phase: &'static str,
        /// The failure that it waits after.
        error: Option<Notice>,
    },
    /// The account's regions have changed since the run began: it goes on where it was, with the
    /// new ones.
    #[error("the account's regions have changed")]
    RulesChanged,
    /// The CRM.
    #[error("the CRM did not do its part")]
    Crm(#[from] CrmError),
    /// Stored credentials are missing or do not open.
    #[error("the stored credentials cannot be used")]
    Credentials(#[source] Option<CredentialsError>),
    /// A rotated refresh token is lost.
    #[error("an earlier answer of the CRM, with the refresh token to use from now on, was lost before it was stored")]
    RefreshInterrupted,
    /// The refresh token is not sent again by itself.
    #[error("the stored refresh token was refused, and is not sent again by itself")]
    RefreshSpent,
    /// It has crashed its workers again and again.
    #[error("the run was taken up {STALLED_ATTEMPTS_MAX} times and never got on")]
    Stalled,
    /// The account's row is gone, or the provider cannot be synced: a bug.
    #[error("the run has no account or no client")]
    Impossible,
    /// Whether a record was erased cannot be known.
    #[error(transparent)]
    SuppressionKey(SuppressionKeyError),
    /// The database.
    #[error("the database did not do its part")]
    Store(#[from] StoreError),
}

impl From<AccessError> for RunError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Crm(error) => Self::Crm(error),
            AccessError::Credentials(error) => Self::Credentials(error),
            AccessError::Interrupted => Self::RefreshInterrupted,
            AccessError::Spent => Self::RefreshSpent,
            AccessError::Store(error) => Self::Store(error),
        }
    }
}

impl From<SuppressionKeyError> for RunError {
    fn from(error: SuppressionKeyError) -> Self {
        match error {
            SuppressionKeyError::Store(error) => Self::Store(error),
            SuppressionKeyError::Vault(_) | SuppressionKeyError::Form => Self::SuppressionKey(error),
        }
    }
}

impl TxError for RunError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict))
    }
}

impl RunError {
    /// What it says of its integration.
    pub(super) const fn verdict(&self) -> FailureVerdict {
        match self {
            Self::Crm(error) => verdict_of(error),
            // Another process may have sealed them with a key that this one has not read yet.
            Self::Credentials(Some(CredentialsError::Vault(VaultError::UnknownKey { .. }))) => {
                FailureVerdict::Refused { spends_refresh_token: false, ends_with_a_page: false }
            }
            Self::SuppressionKey(SuppressionKeyError::Vault(VaultError::UnknownKey { .. })) => FailureVerdict::Lasts,
            // Looked at again without a request to anybody: a key that is restored mends it.
            Self::Credentials(_) => FailureVerdict::Final { spends_refresh_token: false },
            Self::RefreshInterrupted | Self::RefreshSpent => FailureVerdict::Final { spends_refresh_token: true },
            Self::Stalled
            | Self::Impossible
            | Self::SuppressionKey(_)
            | Self::LeaseLost
            | Self::Parked { .. }
            | Self::RulesChanged
            | Self::Store(_) => FailureVerdict::Stops,
        }
    }

    /// What an operator reads, with what to do next.
    pub(super) fn notice(&self) -> Notice {
        match self {
            Self::Crm(error) => notice_of(error),
            Self::Credentials(None) => {
                Notice::fixed("CREDENTIALS_MISSING", "no credentials are stored; bring them with UpdateSync")
            }
            Self::Credentials(Some(_)) => Notice::fixed(
                "CREDENTIALS_SEALED_BY_ANOTHER_KEY",
                "the stored credentials do not open with this key ring; restore the key, or bring the credentials again with UpdateSync",
            ),
            Self::RefreshInterrupted => Notice::new(
                "REFRESH_INTERRUPTED",
                format!("{self} (a process ended, or the connection broke); authorize again"),
            ),
            Self::RefreshSpent => {
                Notice::new("GRANT_REFUSED", format!("{self}; authorize again, or TriggerSync to try it once more"))
            }
            Self::SuppressionKey(_) => Notice::fixed(
                "SECRET_SEALED_BY_ANOTHER_KEY",
                "the account's stored secret does not open with this key ring; restore the key",
            ),
            Self::Stalled => {
                Notice::new("NO_PROGRESS", format!("{self}; see the log for what ended its workers, then TriggerSync"))
            }
            Self::LeaseLost | Self::Parked { .. } | Self::RulesChanged | Self::Impossible | Self::Store(_) => {
                Notice::new("INTERNAL", format!("{self}; see the log"))
            }
        }
    }
}

/// The same of what a CRM did.
pub(super) fn notice_of(error: &CrmError) -> Notice {
    Notice::new(error.reason(), error.to_string())
}

/// What a CRM's refusal says of its integration.
const fn verdict_of(error: &CrmError) -> FailureVerdict {
    match error {
        CrmError::RateLimited { retry_after: Some(wait) } | CrmError::QuotaSpent { resume_after: wait, .. } => {
            FailureVerdict::Waits(*wait)
        }
        CrmError::RateLimited { retry_after: None }
        | CrmError::Paced { .. }
        | CrmError::Unavailable(_)
        | CrmError::TooMuch(_)
        | CrmError::NoConnection { .. }
        | CrmError::ConnectionBroke { .. }
        | CrmError::TimedOut { .. }
        | CrmError::Unreadable(_)
        | CrmError::Stuck
        | CrmError::PositionRefused
        // The operator mends those for all integrations.
        | CrmError::OwnClientRefused(_)
        | CrmError::OwnClientMissing(_) => FailureVerdict::Passes,
        CrmError::GrantRefused => FailureVerdict::Refused { spends_refresh_token: true, ends_with_a_page: true },
        CrmError::CredentialsRefused | CrmError::LoginRefused(_) | CrmError::ClientRefused => {
            FailureVerdict::Refused { spends_refresh_token: false, ends_with_a_page: true }
        }
        // Other requests than the refused one are answered all the time.
        CrmError::PermissionMissing(_) => {
            FailureVerdict::Refused { spends_refresh_token: false, ends_with_a_page: false }
        }
        // Nothing was sent, and nothing will be.
        CrmError::KeyUnusable => FailureVerdict::Final { spends_refresh_token: false },
        CrmError::Uninstalled => FailureVerdict::Final { spends_refresh_token: true },
        CrmError::OrganizationNotFound
        | CrmError::RecordNotFound
        | CrmError::FieldUnknown { .. }
        | CrmError::HostMoved
        | CrmError::OtherOrganization(_)
        | CrmError::Renamed(_)
        | CrmError::AccountClosed(_)
        | CrmError::Refused(_)
        | CrmError::HostRefused
        | CrmError::HostUnknown(_)
        | CrmError::HostMissing(_) => FailureVerdict::Lasts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crms_refusal_says_whether_to_wait_to_look_again_or_to_hold() {
        for (error, verdict) in [
            (CrmError::KeyUnusable, FailureVerdict::Final { spends_refresh_token: false }),
            (CrmError::Uninstalled, FailureVerdict::Final { spends_refresh_token: true }),
            (CrmError::OrganizationNotFound, FailureVerdict::Lasts),
            (CrmError::GrantRefused, FailureVerdict::Refused { spends_refresh_token: true, ends_with_a_page: true }),
            (
                CrmError::PermissionMissing("scope"),
                FailureVerdict::Refused { spends_refresh_token: false, ends_with_a_page: false },
            ),
            (CrmError::Unavailable("503"), FailureVerdict::Passes),
        ] {
            assert_eq!(verdict_of(&error), verdict, "{error}");
        }
    }
}
