//! What has become of contacts and of earlier answers, as a reader of the feed sees it.

use chrono::{DateTime, Utc};
use strum::{EnumString, IntoStaticStr};

use super::{
    contact::Contact,
    ids::{ContactId, IntegrationId},
    requester::RequesterVerdict,
};

/// Most changes in one answer.
pub const CHANGES_MAX: usize = 1_000;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum ChangeKind {
    /// A contact is new.
    Created,
    /// A contact shows something else, or lives again.
    Changed,
    /// A contact is gone.
    Deleted,
    /// A contact's record was merged away in the CRM: another contact goes on.
    Merged,
    /// A placeholder and a record turned out to be one person: another contact goes on.
    Adopted,
    /// A person was erased.
    Erased,
    /// A call that an automation asked about belongs to somebody else than it was told.
    Corrected,
}

impl ChangeKind {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One entry of the feed.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its place: 1, 2, 3 and so on within an account.
    pub number: i64,
    /// What has happened.
    pub kind: ChangeKind,
    /// To which contact; `None` of a correction.
    pub contact_id: Option<ContactId>,
    /// The contact that goes on after a merge or an adoption.
    pub survivor_id: Option<ContactId>,
    /// The contact as it is now, not as it was then; `None`: it is gone, or it is a correction.
    pub contact: Option<Contact>,
    /// What a correction says.
    pub correction: Option<Correction>,
    /// When it happened.
    pub created_at: DateTime<Utc>,
}

/// An earlier answer of `ResolveRequester` that does not hold any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The call that was asked about.
    pub call_id: String,
    /// The integration that it was asked for.
    pub integration_id: IntegrationId,
    /// What was said last.
    pub before: RequesterVerdict,
    /// What would be said now.
    pub after: RequesterVerdict,
    /// A person in it was erased meanwhile: neither verdict says anything any more.
    pub is_erased: bool,
}
