//! Which methods leave an audit event, who acts by a call of one, and which answers are refusals.
//! Handlers pass the actor on, so that what they do and its event are one transaction; the gate
//! tells of refusals, which have none.

use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use http::Response;
use tonic::{Code, Request, Status, body::Body};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::{auth::TokenHolder, methods::MethodRule, room::RoomPlace, status};
use crate::{
    audit::RefusalRecorder,
    domain::{
        audit::{AuditActor, AuditTarget, NO_ACCOUNT, RefusedAction},
        ids::IdSource,
    },
};

/// The methods that write for a customer or an operator. What the call path writes is its own
/// record: `calls`, `selections`, `requester_decisions`.
pub const AUDITED: [&str; 11] = [
    "/contactsync.v1.SyncService/EnableSync",
    "/contactsync.v1.SyncService/UpdateSync",
    "/contactsync.v1.SyncService/StartAuthorization",
    "/contactsync.v1.SyncService/DisableSync",
    "/contactsync.v1.SyncService/TriggerSync",
    "/contactsync.v1.SyncService/ConfirmDeletions",
    "/contactsync.v1.SyncService/CancelSyncRun",
    "/contactsync.v1.SyncService/RetryRejectedRecords",
    "/contactsync.v1.ContactService/EraseContact",
    "/contactsync.v1.AccountService/CreateAccount",
    "/contactsync.v1.AccountService/UpdateAccount",
];

/// Whether a refused call of this method may leave an event: what it does leaves one, or a field of
/// it may ask for more than the token gives, which is a missing scope.
pub(super) fn leaves_refusals(method: &MethodRule) -> bool {
    is_audited(method) || !method.fields.is_empty()
}

fn is_audited(method: &MethodRule) -> bool {
    AUDITED.contains(&method.path)
}

/// A call that leaves an event. In the extensions of its request.
pub(super) struct AuditedCall {
    actor: AuditActor,
    target: OnceLock<AuditTarget>,
    is_audited: bool,
}

impl AuditedCall {
    /// Who acts.
    pub(super) const fn actor(&self) -> &AuditActor {
        &self.actor
    }

    /// What the request names, for when it is refused.
    pub(super) fn aim(&self, target: AuditTarget) {
        // One request is handled by one task, which says it once.
        let _ = self.target.set(target);
    }

    /// Notes the answer, if it is a refusal: under the account that the request was found to be
    /// for.
    pub(super) fn note_refusal(&self, answer: &Response<Body>, place: &RoomPlace, recorder: &RefusalRecorder) {
        let reason = answer.extensions().get().and_then(refusal_reason);
        let Some(reason) = reason.filter(|reason| self.is_audited || reason == "SCOPE_MISSING") else { return };
        // Whether it is there is looked at when it is written.
        let account_id = place.account_id().unwrap_or(NO_ACCOUNT);
        let target = self.target.get().copied().unwrap_or_default();
        recorder.note(account_id, RefusedAction { actor: self.actor.clone(), target, reason });
    }
}

/// The call behind this request. INTERNAL if its method is not in [`AUDITED`].
pub(super) fn audited<T>(request: &Request<T>) -> Result<Arc<AuditedCall>, Status> {
    let call: Option<&Arc<AuditedCall>> = request.extensions().get();
    call.filter(|call| call.is_audited).cloned().ok_or_else(|| status::internal(&NotAudited))
}

#[derive(Debug, thiserror::Error)]
#[error("a handler that writes asked who acts, and its method is not in the table of those that are audited")]
struct NotAudited;

/// What makes the events of calls.
#[derive(Clone, Copy)]
pub(super) struct AuditMoment<'c> {
    pub(super) ids: &'c IdSource,
    pub(super) now: DateTime<Utc>,
    pub(super) request_id: Uuid,
}

impl AuditMoment<'_> {
    /// A call of this method.
    pub(super) fn audit(self, method: &MethodRule, caller: &TokenHolder) -> Arc<AuditedCall> {
        let actor = self.actor(method, Some(Arc::clone(caller.logged_subject())));
        Arc::new(AuditedCall { actor, target: OnceLock::new(), is_audited: is_audited(method) })
    }

    /// Notes a token that opens nothing here, or not this method. `caller` is known of the latter.
    pub(super) fn note_token(
        self,
        method: Option<&MethodRule>,
        caller: Option<&TokenHolder>,
        refused: &Status,
        recorder: &RefusalRecorder,
    ) {
        let (Some(method), Some(reason)) = (method, refusal_reason(refused)) else { return };
        let actor = self.actor(method, caller.map(|caller| Arc::clone(caller.logged_subject())));
        recorder.note(NO_ACCOUNT, RefusedAction { actor, target: AuditTarget::default(), reason });
    }

    fn actor(self, method: &MethodRule, subject: Option<Arc<str>>) -> AuditActor {
        AuditActor {
            event_id: self.ids.new_v7(self.now),
            called_at: self.now,
            subject,
            method: method.path.rsplit('/').next().unwrap_or(method.path),
            request_id: self.request_id,
        }
    }
}

/// The reason of an answer by which the service has decided; `None`: it was done, or whether it was
/// is not certain (the database did not answer, the deadline has passed), or there was no room.
fn refusal_reason(answer: &Status) -> Option<String> {
    let is_decided = matches!(
        answer.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
    );
    let info = answer.get_details_error_info().filter(|_| is_decided)?;
    Some(info.reason).filter(|reason| reason != "OVERLOADED")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rpc::methods::METHODS;

    /// What is not audited, and why.
    const NOT_AUDITED: [(&str, &str); 22] = [
        ("/contactsync.v1.CallerService/MatchCaller", "the call path: `calls` has it"),
        ("/contactsync.v1.CallerService/SelectMatch", "the call path: `calls.selected_by` has it"),
        ("/contactsync.v1.CallerService/PreRegisterContact", "the call path: `expected_calls` has it"),
        ("/contactsync.v1.CallerService/ResolveRequester", "the call path: `requester_decisions` has it"),
        ("/contactsync.v1.CallerService/ExplainMatch", "reads"),
        ("/contactsync.v1.SyncService/TestConnection", "stores nothing"),
        ("/contactsync.v1.SyncService/GetIntegration", "reads"),
        ("/contactsync.v1.SyncService/ListIntegrations", "reads"),
        ("/contactsync.v1.SyncService/GetSyncRun", "reads"),
        ("/contactsync.v1.SyncService/ListSyncRuns", "reads"),
        ("/contactsync.v1.SyncService/WatchSyncRun", "reads"),
        ("/contactsync.v1.SyncService/ListRejectedRecords", "reads"),
        ("/contactsync.v1.SyncService/TraceRecord", "reads"),
        ("/contactsync.v1.ContactService/GetContact", "reads"),
        ("/contactsync.v1.ContactService/ListContacts", "reads"),
        ("/contactsync.v1.ContactService/ListChanges", "numbers changes, which is a reader's own affair"),
        ("/contactsync.v1.AccountService/GetAccount", "reads"),
        ("/contactsync.v1.AccountService/ListAccounts", "reads"),
        ("/contactsync.v1.AccountService/ListAuditEvents", "reads"),
        ("/grpc.health.v1.Health/Check", "reads"),
        ("/grpc.health.v1.Health/List", "reads"),
        ("/grpc.health.v1.Health/Watch", "reads"),
    ];

    /// Whoever adds a method decides whether it is audited.
    #[test]
    fn every_method_is_audited_or_has_reason_not_to() {
        let decided: Vec<&str> = AUDITED.into_iter().chain(NOT_AUDITED.map(|(path, _)| path)).collect();
        let methods: BTreeSet<&str> = METHODS.iter().map(|method| method.path).collect();

        assert_eq!(decided.iter().copied().collect::<BTreeSet<_>>(), methods);
        assert_eq!(decided.len(), methods.len(), "a method is decided twice");
    }

    /// A call whose end is not certain is no refusal: it may have been done.
    #[test]
    fn uncertain_ends_and_want_of_room_are_no_refusals() {
        let reason = |status: Status| refusal_reason(&status);

        assert_eq!(reason(status::invalid("period", "is wrong")).as_deref(), Some("INVALID_ARGUMENT"));
        assert_eq!(reason(status::account_not_found()).as_deref(), Some("ACCOUNT_NOT_FOUND"));
        assert_eq!(reason(status::unauthenticated("TOKEN_EXPIRED", "")).as_deref(), Some("TOKEN_EXPIRED"));
        assert_eq!(reason(status::resource_exhausted("TOO_MANY", "", None)).as_deref(), Some("TOO_MANY"));
        for uncertain in [
            status::deadline_exceeded(),
            status::internal_logged(),
            status::unavailable("DATABASE_UNAVAILABLE", "", None),
            status::overloaded(super::super::room::NoRoom::Full),
            Status::ok(""),
        ] {
            assert_eq!(reason(uncertain), None);
        }
    }
}
