//! What one step of a run has brought, and what comes after it.

use super::position::{DeletedProgress, RunStage};
use crate::{
    crm::RecordPage,
    domain::{notice::Notice, record::ObjectType},
};

/// What one call has brought.
pub(super) struct StepResult {
    pub(super) page: RecordPage,
    pub(super) then: NextStage,
}

/// What comes after a step.
pub(super) enum NextStage {
    /// More of the same object.
    Stay(RunStage),
    /// All rows until this time are read, milliseconds.
    Rows { fields: Vec<String>, through: i64 },
    /// The log of deletions is read until this time, milliseconds; `None`: to its end.
    Deletions { through: i64, more: Option<DeletedProgress> },
    /// The log of deletions stays where it was; a later run reads it.
    DeletionsLeft,
    /// The integration's user does not see the object.
    Hidden,
    /// The CRM has trouble with the object; a later run goes on here.
    Left(RunStage),
}

impl StepResult {
    pub(super) fn stay(stage: RunStage) -> Self {
        Self { page: RecordPage::default(), then: NextStage::Stay(stage) }
    }

    pub(super) fn hidden(object: ObjectType) -> Self {
        let object = object.as_str();
        let notice = Notice::new(
            "OBJECT_HIDDEN",
            format!(
                "{object}s cannot be read: the organisation has none, or the integration's user may not read them; give its profile or a permission set read access to {object}s, or switch copying them off"
            ),
        );
        Self { page: RecordPage { notices: vec![notice], ..RecordPage::default() }, then: NextStage::Hidden }
    }
}
