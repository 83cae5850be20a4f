//! What the features refuse, as the status that a client gets: its code says what to do, its reason
//! which refusal it is.

use std::{error::Error, time::Duration};

use tonic::Status;

use super::{parse, room::NoRoom, status};
use crate::{
    click_to_call::ClickError,
    crm::{CrmError, RetryAdvice},
    domain::record::InvalidRecordKey,
    erasure::ErasureError,
    feed::FeedError,
    identity::{erasure::EraseError, registration::RegisterError},
    integrations::IntegrationError,
    matching::MatchError,
    store::StoreError,
    sync::TriggerError,
};

const RETRY_AFTER: Duration = Duration::from_millis(200);
const AUTHORIZATIONS_RETRY_AFTER: Duration = Duration::from_mins(1);

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        // Others are answered: to try again at once would add to what is too much.
        if matches!(error, StoreError::Busy) {
            return status::overloaded(NoRoom::Database);
        }
        if error.is_transient() {
            tracing::warn!(error = %crate::telemetry::chain(&error), "the database did not do it");
            return status::unavailable(
                "DATABASE_UNAVAILABLE",
                "the database did not answer in time; try again",
                Some(RETRY_AFTER),
            );
        }
        status::internal(&error)
    }
}

fn integration_not_found() -> Status {
    status::not_found("INTEGRATION_NOT_FOUND", "there is no integration with this id in this account")
}

impl From<InvalidRecordKey> for Status {
    fn from(wrong: InvalidRecordKey) -> Self {
        let field = match wrong {
            InvalidRecordKey::ObjectType(_) => "object_type",
            InvalidRecordKey::RecordId(_) => "record_id",
        };
        status::invalid(field, &wrong.to_string())
    }
}

impl From<MatchError> for Status {
    fn from(error: MatchError) -> Self {
        let message = error.to_string();
        match error {
            MatchError::AccountNotFound => status::account_not_found(),
            MatchError::CallIdReused => status::failed_precondition("CALL_ID_REUSED", &message, &[]),
            MatchError::CallNotFound => status::not_found("CALL_NOT_FOUND", &message),
            MatchError::ContactNotFound => {
                status::not_found("CONTACT_NOT_FOUND", "there is no live contact with this id in this account")
            }
            MatchError::IntegrationNotFound => integration_not_found(),
            MatchError::NumberUnreadable => status::invalid("phone_number", &message),
            MatchError::Store(error) => error.into(),
        }
    }
}

impl From<ClickError> for Status {
    fn from(error: ClickError) -> Self {
        let message = error.to_string();
        match error {
            ClickError::AccountNotFound => status::account_not_found(),
            ClickError::IntegrationNotFound => integration_not_found(),
            ClickError::IntegrationDisabled => status::failed_precondition("INTEGRATION_DISABLED", &message, &[]),
            ClickError::CallNotFound => status::not_found("CALL_NOT_FOUND", &message),
            ClickError::CallIdReused => status::failed_precondition("CALL_ID_REUSED", &message, &[]),
            ClickError::Record(wrong) => wrong.into(),
            ClickError::NumberUnreadable => status::invalid("phone_number", &message),
            ClickError::RecordAndNumber(wrong) => {
                let number = status::invalid("phone_number", &ClickError::NumberUnreadable.to_string());
                status::one_of(&[&wrong.into(), &number])
            }
            ClickError::Register(RegisterError::RecordGone) => {
                status::failed_precondition("RECORD_GONE", &message, &[])
            }
            ClickError::Register(RegisterError::ContactHasRecord) => {
                status::failed_precondition("CONTACT_HAS_RECORD", &message, &[])
            }
            ClickError::Register(RegisterError::ContactNotFound) => {
                status::not_found("CONTACT_NOT_FOUND", "there is no live contact with this id in this account")
            }
            ClickError::Register(RegisterError::Erased) => status::failed_precondition("ERASED", &message, &[]),
            ClickError::SuppressionKey(error) => status::internal(&error as &(dyn Error + 'static)),
            ClickError::Register(RegisterError::Store(error)) | ClickError::Store(error) => error.into(),
        }
    }
}

impl From<ErasureError> for Status {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::AccountNotFound => status::account_not_found(),
            ErasureError::Erase(EraseError::ContactNotFound) => {
                status::not_found("CONTACT_NOT_FOUND", "there is no contact with this id in this account")
            }
            ErasureError::Erase(EraseError::Store(error)) | ErasureError::Store(error) => error.into(),
            ErasureError::Key(error) => status::internal(&error as &(dyn Error + 'static)),
        }
    }
}

impl From<FeedError> for Status {
    fn from(error: FeedError) -> Self {
        let message = error.to_string();
        match error {
            FeedError::AccountNotFound => status::account_not_found(),
            FeedError::Forgotten(through) => status::failed_precondition(
                "CHANGES_FORGOTTEN",
                &message,
                &[("forgotten_through", &through.to_string())],
            ),
            FeedError::Reset { epoch, position } => status::failed_precondition(
                "FEED_RESET",
                &message,
                &[("epoch", &epoch), ("position", &position.to_string())],
            ),
            FeedError::Beyond(_) => status::invalid("after", &message),
            FeedError::Store(error) => error.into(),
        }
    }
}

impl From<IntegrationError> for Status {
    fn from(error: IntegrationError) -> Self {
        let message = error.to_string();
        match error {
            IntegrationError::AccountNotFound => status::account_not_found(),
            IntegrationError::IntegrationNotFound => integration_not_found(),
            IntegrationError::Exists(id) => {
                status::already_exists("INTEGRATION_EXISTS", &message, &[("integration_id", &id.to_string())])
            }
            IntegrationError::RequestIdReused => status::failed_precondition("REQUEST_ID_REUSED", &message, &[]),
            IntegrationError::PurgeRunning => status::failed_precondition("PURGE_RUNNING", &message, &[]),
            IntegrationError::Disabled => status::failed_precondition("INTEGRATION_DISABLED", &message, &[]),
            IntegrationError::CredentialsMissing => status::invalid("credentials", &message),
            IntegrationError::NothingCopied(_) => status::invalid("options", &message),
            IntegrationError::Crm(error) => error.into(),
            IntegrationError::OtherProvider => status::invalid("provider", &message),
            IntegrationError::CallbackUnknown => status::failed_precondition("OAUTH_NOT_CONFIGURED", &message, &[]),
            IntegrationError::TooManyAuthorizations => {
                status::resource_exhausted("TOO_MANY_AUTHORIZATIONS", &message, Some(AUTHORIZATIONS_RETRY_AFTER))
            }
            IntegrationError::RefreshInterrupted => status::failed_precondition("REFRESH_INTERRUPTED", &message, &[]),
            IntegrationError::Credentials(error) => status::internal(&error as &(dyn Error + 'static)),
            IntegrationError::Store(error) => error.into(),
        }
    }
}

impl From<CrmError> for Status {
    fn from(error: CrmError) -> Self {
        let (reason, message) = (error.reason(), error.to_string());
        let details = error.details();
        if matches!(error, CrmError::FieldUnknown { .. }) {
            return status::invalid(parse::PHONE_FIELDS, &message);
        }
        match error.retry() {
            RetryAdvice::After(wait) => status::unavailable_behind(reason, &message, Some(wait), &details),
            RetryAdvice::Backoff => status::unavailable_behind(reason, &message, None, &details),
            RetryAdvice::Never => status::failed_precondition(reason, &message, &details),
        }
    }
}

impl From<TriggerError> for Status {
    fn from(error: TriggerError) -> Self {
        let message = error.to_string();
        match error {
            TriggerError::IntegrationNotFound => integration_not_found(),
            TriggerError::RunNotFound => status::not_found(
                "SYNC_RUN_NOT_FOUND",
                "there is no sync run with this id in this account; runs are kept 90 days",
            ),
            TriggerError::Disabled => status::failed_precondition("INTEGRATION_DISABLED", &message, &[]),
            TriggerError::SyncOff => status::failed_precondition("SYNC_OFF", &message, &[]),
            TriggerError::RequestIdReused => status::failed_precondition("REQUEST_ID_REUSED", &message, &[]),
            TriggerError::RunFinished => status::failed_precondition("RUN_FINISHED", &message, &[]),
            TriggerError::NoDeletionsHeld => status::failed_precondition("NO_DELETIONS_HELD", &message, &[]),
            TriggerError::HeldDeletionsChanged(held) => status::failed_precondition(
                "HELD_DELETIONS_CHANGED",
                &message,
                &[("held_deletions", &held.to_string())],
            ),
            TriggerError::Record(wrong) => wrong.into(),
            TriggerError::SuppressionKey(error) => status::internal(&error as &(dyn Error + 'static)),
            TriggerError::Store(error) => error.into(),
        }
    }
}
