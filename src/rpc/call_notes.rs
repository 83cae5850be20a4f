//! What is found out about a call while it is worked on, for whoever tells of it when it has ended.

use std::sync::{Arc, OnceLock};

use crate::domain::ids::AccountId;

/// Of 128 characters.
const CALL_ID_BYTES_MAX: usize = 512;

/// In the extensions of each request.
#[derive(Default)]
pub(crate) struct CallNotes {
    subject: OnceLock<Arc<str>>,
    account_id: OnceLock<AccountId>,
    call_id: OnceLock<String>,
}

impl CallNotes {
    /// Whose token it has, as it may be logged.
    pub(super) fn note_subject(&self, logged_subject: &Arc<str>) {
        let _ = self.subject.set(Arc::clone(logged_subject));
    }

    /// The account that it turned out to be for.
    pub(super) fn note_account(&self, account_id: AccountId) {
        let _ = self.account_id.set(account_id);
    }

    /// The phone call that it is about, as the request says it: one that is too long for an id is
    /// refused anyway.
    pub(super) fn note_call(&self, call_id: &str) {
        if !call_id.is_empty() && call_id.len() <= CALL_ID_BYTES_MAX {
            let _ = self.call_id.set(call_id.to_owned());
        }
    }

    pub(super) fn subject(&self) -> Option<&str> {
        self.subject.get().map(|subject| &**subject)
    }

    pub(super) fn account_id(&self) -> Option<AccountId> {
        self.account_id.get().copied()
    }

    pub(super) fn call_id(&self) -> Option<&str> {
        self.call_id.get().map(String::as_str)
    }
}
