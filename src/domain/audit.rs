//! Audit events: who did what to which account, and what came of it. Ids and fixed words alone: no
//! name, number, address, value or credential is ever in one.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use strum::{EnumString, IntoStaticStr};
use uuid::Uuid;

use super::ids::{AccountId, ContactId, IntegrationId, SyncRunId};

/// The account of what belongs to none: refused tokens, and what was asked of accounts that are not
/// the caller's or are not there. No account has this id.
pub const NO_ACCOUNT: AccountId = AccountId(Uuid::nil());

/// Who acts, by which call. A call leaves one event at most: the event's id and time are the
/// call's, whatever is tried again.
#[derive(Debug, Clone)]
pub struct AuditActor {
    /// Of the event that the call leaves. Version 7.
    pub event_id: Uuid,
    /// When the call came.
    pub called_at: DateTime<Utc>,
    /// The token's subject as it may be logged; `None`: the token was refused.
    pub subject: Option<Arc<str>>,
    /// The method, without its service: `EnableSync`.
    pub method: &'static str,
    /// The call's, as the log has it.
    pub request_id: Uuid,
}

/// What was acted upon, beside the account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditTarget {
    /// An integration.
    pub integration_id: Option<IntegrationId>,
    /// One of its runs: started, joined or stopped.
    pub sync_run_id: Option<SyncRunId>,
    /// A person.
    pub contact_id: Option<ContactId>,
}

impl AuditTarget {
    /// An integration, and perhaps one of its runs.
    pub fn integration(integration_id: IntegrationId, sync_run_id: Option<SyncRunId>) -> Self {
        Self { integration_id: Some(integration_id), sync_run_id, ..Self::default() }
    }

    /// A run.
    pub fn sync_run(sync_run_id: SyncRunId) -> Self {
        Self { sync_run_id: Some(sync_run_id), ..Self::default() }
    }

    /// A person.
    pub fn contact(contact_id: ContactId) -> Self {
        Self { contact_id: Some(contact_id), ..Self::default() }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditResult {
    /// It was done; the event was committed with it.
    Done,
    /// It succeeded and changed nothing: all was so before, as with a repeat of the same request.
    Unchanged,
    /// It was refused, and nothing was done.
    Refused,
}

impl AuditResult {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What was refused.
#[derive(Debug, Clone)]
pub struct RefusedAction {
    /// Who asked, for what.
    pub actor: AuditActor,
    /// Upon what, as far as the request said so.
    pub target: AuditTarget,
    /// Which refusal, as the caller was told.
    pub reason: String,
}

/// An event, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Version 7.
    pub id: Uuid,
    /// When the call came.
    pub called_at: DateTime<Utc>,
    /// Whose token it was, as it may be logged.
    pub subject: Option<String>,
    /// The method, without its service.
    pub method: String,
    /// What was acted upon.
    pub target: AuditTarget,
    /// What the call said of it, by the names of its fields.
    pub fields: Vec<String>,
    /// What came of it.
    pub result: AuditResult,
    /// Why it was refused.
    pub reason: Option<String>,
    /// The call's.
    pub request_id: Uuid,
    /// Refusals that were not written down, because there were more than are.
    pub left_out: i64,
}
