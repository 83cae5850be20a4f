//! What operators ask of records: which could not be read, and of any one why it is here, is not,
//! or not wholly. Reads only, but that an account's key of erased records is made when it is first
//! needed.

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use super::control::TriggerError;
use crate::{
    credentials::{CredentialVault, SuppressionKeys},
    domain::{
        descriptor::Descriptors,
        ids::{AccountId, ContactId, IntegrationId},
        record::RecordKey,
    },
    store::{
        Db, integrations,
        rejected::{self, KeptRejected},
        stored_records::{self, HeldRecord},
        suppressions,
    },
};

/// What has become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordFate {
    /// It is here.
    Applied,
    /// A click or a report has brought it, and no run.
    Reported,
    /// It could not be read.
    Rejected,
    /// The CRM says that it is gone.
    Gone,
    /// It was merged or converted.
    Merged(RecordKey),
    /// Its person was erased.
    Erased,
    /// Records of its kind are not copied.
    NotCopied,
    /// No run has brought it.
    NotSeen,
}

/// All that is known of a record.
pub struct RecordTrace {
    /// In a word.
    pub fate: RecordFate,
    /// Its contact, while it has one.
    pub contact_id: Option<ContactId>,
    /// The CRM's update time of the copy that is held.
    pub record_updated_at: Option<DateTime<Utc>>,
    /// When it was last written here.
    pub applied_at: Option<DateTime<Utc>>,
    /// What could not be read of it.
    pub rejected: Option<OpenedReject>,
    /// Every change until then is here.
    pub known_through: Option<DateTime<Utc>>,
}

/// A rejected record, and its content if that was asked for, is there and opens.
pub type OpenedReject = (KeptRejected, Option<SecretString>);

/// A page of rejected records.
pub struct RejectedPage {
    /// By kind and id.
    pub records: Vec<OpenedReject>,
    /// How many more were seen since the last full read began, and found no room.
    pub left_out: i64,
}

/// Looks into what was copied and what could not be.
#[derive(Clone)]
pub struct RecordInspector {
    /// For its reads.
    pub db: Db,
    /// Opens the content of rejected records.
    pub vault: CredentialVault,
    /// By which erased records are known.
    pub suppression_keys: SuppressionKeys,
    /// By whose rules records are named.
    pub descriptors: Descriptors,
}

impl RecordInspector {
    /// Rejected records behind this one.
    pub async fn list_rejected(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        after: Option<&RecordKey>,
        limit: i64,
        with_content: bool,
    ) -> Result<RejectedPage, TriggerError> {
        let left_out = rejected::find_left_out(&self.db, account_id, integration_id).await?;
        let left_out = left_out.ok_or(TriggerError::IntegrationNotFound)?;
        let kept = rejected::list(&self.db, account_id, integration_id, after, limit).await?;
        let opened = |record| self.opened(account_id, integration_id, record, with_content);
        Ok(RejectedPage { records: kept.into_iter().map(opened).collect(), left_out })
    }

    /// What has become of a record.
    pub async fn trace(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        object_type: &str,
        record_id: &str,
        with_content: bool,
    ) -> Result<RecordTrace, TriggerError> {
        let integration = integrations::find(&self.db, account_id, integration_id).await?;
        let integration = integration.ok_or(TriggerError::IntegrationNotFound)?;
        let provider = integration.freshness.provider;
        let key = self.descriptors[provider].parse_record_key(object_type, record_id)?;
        let held = stored_records::find(&self.db, account_id, integration_id, &key).await?;
        let rejected = rejected::find(&self.db, account_id, integration_id, &key).await?;
        let fate = match (&held, &rejected) {
            // Met since whatever is held.
            (_, Some(rejected)) if !rejected.is_copied => RecordFate::Rejected,
            (Some(held), _) => fate_of(held),
            (None, _) if self.is_erased(account_id, integration_id, &key).await? => RecordFate::Erased,
            (None, _) if !integration.options.copied(provider).contains(&key.object_type) => RecordFate::NotCopied,
            (None, _) => RecordFate::NotSeen,
        };
        Ok(RecordTrace {
            fate,
            contact_id: held.as_ref().and_then(|held| held.contact_id),
            record_updated_at: held.as_ref().and_then(|held| held.record_updated_at),
            applied_at: held.as_ref().map(|held| held.updated_at),
            rejected: rejected.map(|record| self.opened(account_id, integration_id, record, with_content)),
            known_through: integration.freshness.known_through,
        })
    }

    fn opened(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        record: KeptRejected,
        with_content: bool,
    ) -> OpenedReject {
        let sealed = record.raw.as_deref().filter(|_| with_content);
        let raw = sealed.and_then(|raw| self.vault.open_rejected(account_id, integration_id, raw).ok());
        (record, raw)
    }

    async fn is_erased(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        key: &RecordKey,
    ) -> Result<bool, TriggerError> {
        let suppression = self.suppression_keys.find_or_make(account_id).await?;
        Ok(suppressions::is_erased(&self.db, account_id, &suppression.mark(integration_id, key)).await?)
    }
}

fn fate_of(held: &HeldRecord) -> RecordFate {
    match &held.successor {
        _ if held.is_live && held.is_synced => RecordFate::Applied,
        _ if held.is_live => RecordFate::Reported,
        Some(successor) => RecordFate::Merged(successor.clone()),
        None => RecordFate::Gone,
    }
}
