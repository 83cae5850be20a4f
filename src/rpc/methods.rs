//! The one table of what is served: each method's scopes, what more a field of its message asks
//! for, and how long the server works for one call of it. A method that is not in the table is
//! refused, whatever the token says; tests compare the table with the descriptors and with
//! docs/api.md. Must not know tokens, time or tonic.

use std::{any::Any, fmt, str::FromStr, time::Duration};

use super::pb;

/// What a token may be allowed to do; the claim `scope` lists them, separated by spaces. None gives
/// what another gives, but that `Calls` and `Sync` give all of their service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenScope {
    /// The call path: `CallerService`.
    Calls,
    /// An agent's clicks and choices: only of calls whose agent is the token's subject.
    Clicks,
    /// Integrations and their runs: `SyncService`.
    Sync,
    /// Reading of integrations, runs and records.
    SyncRead,
    /// Linking, changing, triggering; disabling that keeps what was copied.
    SyncWrite,
    /// Disabling, also such that removes what was copied.
    SyncPurge,
    /// Reading contacts.
    ContactsRead,
    /// Erasing a person.
    ContactsErase,
    /// Accounts.
    Admin,
}

impl TokenScope {
    /// Every scope, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Calls,
        Self::Clicks,
        Self::Sync,
        Self::SyncRead,
        Self::SyncWrite,
        Self::SyncPurge,
        Self::ContactsRead,
        Self::ContactsErase,
        Self::Admin,
    ];

    /// As written in a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Clicks => "clicks",
            Self::Sync => "sync",
            Self::SyncRead => "sync.read",
            Self::SyncWrite => "sync.write",
            Self::SyncPurge => "sync.purge",
            Self::ContactsRead => "contacts.read",
            Self::ContactsErase => "contacts.erase",
            Self::Admin => "admin",
        }
    }

    /// Whether it opens a method only as far as a call's agent is the token's subject.
    pub(super) const fn is_of_own_calls(self) -> bool {
        matches!(self, Self::Clicks)
    }

    /// As a list in a text: `calls, clicks`.
    pub(super) fn listed(scopes: &[Self], between: &str) -> String {
        scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(between)
    }
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TokenScope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// The text is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope; one of {}", TokenScope::listed(&TokenScope::ALL, ", "))]
pub struct UnknownScope;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodAccess {
    /// Anybody who reaches the port, without a token.
    Open,
    /// A token with any of these scopes; the first gives all of the service.
    AnyOf(&'static [TokenScope]),
}

/// What a message asks for beyond what its method's scopes give.
#[derive(Debug, Clone, Copy)]
pub struct FieldRule {
    /// The field by which it asks, as in the proto file.
    pub field: &'static str,
    /// What in the field asks for more, for people to read.
    pub value: &'static str,
    /// Any of these scopes gives it.
    pub scopes: &'static [TokenScope],
    /// Whether this message, of a token with this subject, asks for it. A message of another method
    /// does.
    asks: fn(&dyn Any, subject: &str) -> bool,
}

impl FieldRule {
    /// Whether this message, of a token with this subject, asks for more.
    pub(super) fn applies(&self, message: &dyn Any, subject: &str) -> bool {
        (self.asks)(message, subject)
    }
}

/// What a call waits for, when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallQueue {
    /// The call path's connections to the database: a short queue, for a phone rings.
    CallPath,
    /// Anything else.
    Other,
}

/// One method as the server treats it.
#[derive(Debug, Clone, Copy)]
pub struct MethodRule {
    /// The HTTP/2 path: `/package.Service/Method`.
    pub path: &'static str,
    /// Who may call it.
    pub access: MethodAccess,
    /// What its message may ask for beyond that.
    pub fields: &'static [FieldRule],
    /// How long the server works on one call, streams included; `None`: until the client leaves or
    /// the server drains.
    pub time_max: Option<Duration>,
    /// Which room it needs.
    pub queue: CallQueue,
}

/// A phone rings meanwhile: the router has long given up after this.
const RINGING: Duration = Duration::from_secs(2);
/// A plain read or write of our own database.
const PLAIN: Duration = Duration::from_secs(10);
/// Asks a CRM before it answers: connect, one retry and the answer fit.
const ASKS_CRM: Duration = Duration::from_secs(30);
/// A follower of a run calls again after this; nobody watches for ever unseen.
pub(super) const WATCH: Duration = Duration::from_hours(1);

const CALLS: &[TokenScope] = &[TokenScope::Calls];
const CLICKS: &[TokenScope] = &[TokenScope::Calls, TokenScope::Clicks];
const READS: &[TokenScope] = &[TokenScope::Sync, TokenScope::SyncRead];
const WRITES: &[TokenScope] = &[TokenScope::Sync, TokenScope::SyncWrite];
const DISABLES: &[TokenScope] = &[TokenScope::Sync, TokenScope::SyncWrite, TokenScope::SyncPurge];
const PURGES: &[TokenScope] = &[TokenScope::Sync, TokenScope::SyncPurge];
const CONTACTS: &[TokenScope] = &[TokenScope::ContactsRead];
const ERASES: &[TokenScope] = &[TokenScope::ContactsErase];
const ADMIN: &[TokenScope] = &[TokenScope::Admin];

const PURGE: FieldRule = FieldRule {
    field: "copied_data",
    value: "COPIED_DATA_PURGE",
    scopes: PURGES,
    asks: |message, _| {
        let request = message.downcast_ref::<pb::DisableSyncRequest>();
        request.is_none_or(|request| request.copied_data() == pb::CopiedData::Purge)
    },
};

const fn other_agent(asks: fn(&dyn Any, &str) -> bool) -> FieldRule {
    FieldRule { field: "agent_id", value: "another agent than the token's sub", scopes: CALLS, asks }
}

const CLICK_OF_OTHER: FieldRule = other_agent(|message, subject| {
    let request = message.downcast_ref::<pb::PreRegisterContactRequest>();
    request.is_none_or(|request| is_other(&request.agent_id, subject))
});

const CHOICE_OF_OTHER: FieldRule = other_agent(|message, subject| {
    let request = message.downcast_ref::<pb::SelectMatchRequest>();
    request.is_none_or(|request| is_other(&request.agent_id, subject))
});

/// A placeholder that is named becomes the record's for good, whosever call it is of.
const PLACEHOLDER: FieldRule = FieldRule {
    field: "contact_id",
    value: "any placeholder",
    scopes: CALLS,
    asks: |message, _| {
        let request = message.downcast_ref::<pb::PreRegisterContactRequest>();
        request.is_none_or(|request| !request.contact_id.is_empty())
    },
};

/// Byte for byte; an empty one stands for the subject.
fn is_other(agent_id: &str, subject: &str) -> bool {
    !agent_id.is_empty() && agent_id != subject
}

const fn method(path: &'static str, scopes: &'static [TokenScope], time_max: Duration) -> MethodRule {
    let access = MethodAccess::AnyOf(scopes);
    MethodRule { path, access, fields: &[], time_max: Some(time_max), queue: CallQueue::Other }
}

const fn open(path: &'static str, time_max: Option<Duration>) -> MethodRule {
    MethodRule { path, access: MethodAccess::Open, fields: &[], time_max, queue: CallQueue::Other }
}

impl MethodRule {
    const fn on_call_path(self) -> Self {
        Self { queue: CallQueue::CallPath, ..self }
    }

    const fn with(self, fields: &'static [FieldRule]) -> Self {
        Self { fields, ..self }
    }
}

/// Everything that is always served.
pub const METHODS: [MethodRule; 33] = [
    method("/contactsync.v1.CallerService/MatchCaller", CALLS, RINGING).on_call_path(),
    method("/contactsync.v1.CallerService/SelectMatch", CLICKS, RINGING).with(&[CHOICE_OF_OTHER]).on_call_path(),
    method("/contactsync.v1.CallerService/PreRegisterContact", CLICKS, RINGING).with(&[CLICK_OF_OTHER, PLACEHOLDER]),
    method("/contactsync.v1.CallerService/ResolveRequester", CALLS, RINGING).on_call_path(),
    method("/contactsync.v1.CallerService/ExplainMatch", CALLS, PLAIN).on_call_path(),
    method("/contactsync.v1.SyncService/TestConnection", WRITES, ASKS_CRM),
    method("/contactsync.v1.SyncService/EnableSync", WRITES, ASKS_CRM),
    method("/contactsync.v1.SyncService/UpdateSync", WRITES, ASKS_CRM),
    method("/contactsync.v1.SyncService/StartAuthorization", WRITES, PLAIN),
    method("/contactsync.v1.SyncService/DisableSync", DISABLES, PLAIN).with(&[PURGE]),
    method("/contactsync.v1.SyncService/TriggerSync", WRITES, PLAIN),
    method("/contactsync.v1.SyncService/ConfirmDeletions", WRITES, PLAIN),
    method("/contactsync.v1.SyncService/GetIntegration", READS, PLAIN),
    method("/contactsync.v1.SyncService/ListIntegrations", READS, PLAIN),
    method("/contactsync.v1.SyncService/GetSyncRun", READS, PLAIN),
    method("/contactsync.v1.SyncService/ListSyncRuns", READS, PLAIN),
    method("/contactsync.v1.SyncService/CancelSyncRun", WRITES, PLAIN),
    method("/contactsync.v1.SyncService/WatchSyncRun", READS, WATCH),
    method("/contactsync.v1.SyncService/ListRejectedRecords", READS, PLAIN),
    method("/contactsync.v1.SyncService/RetryRejectedRecords", WRITES, PLAIN),
    method("/contactsync.v1.SyncService/TraceRecord", READS, PLAIN),
    method("/contactsync.v1.ContactService/GetContact", CONTACTS, PLAIN),
    method("/contactsync.v1.ContactService/ListContacts", CONTACTS, PLAIN),
    method("/contactsync.v1.ContactService/ListChanges", CONTACTS, PLAIN),
    method("/contactsync.v1.ContactService/EraseContact", ERASES, PLAIN),
    method("/contactsync.v1.AccountService/CreateAccount", ADMIN, PLAIN),
    method("/contactsync.v1.AccountService/GetAccount", ADMIN, PLAIN),
    method("/contactsync.v1.AccountService/UpdateAccount", ADMIN, PLAIN),
    method("/contactsync.v1.AccountService/ListAccounts", ADMIN, PLAIN),
    method("/contactsync.v1.AccountService/ListAuditEvents", ADMIN, PLAIN),
    open("/grpc.health.v1.Health/Check", Some(PLAIN)),
    open("/grpc.health.v1.Health/List", Some(PLAIN)),
    open("/grpc.health.v1.Health/Watch", None),
];

/// Served, and then to anybody, only if reflection is switched on.
pub const REFLECTION_METHODS: [MethodRule; 2] = [
    open("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Some(WATCH)),
    open("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Some(WATCH)),
];

/// The method behind a path; `None`: it is not served.
pub fn find_method(path: &str, reflection: bool) -> Option<&'static MethodRule> {
    let further: &'static [MethodRule] = if reflection { &REFLECTION_METHODS } else { &[] };
    METHODS.iter().chain(further).find(|method| method.path == path)
}

#[cfg(test)]
#[path = "methods_tests.rs"]
mod tests;
