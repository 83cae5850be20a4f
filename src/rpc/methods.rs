//! The one table of what is served: each method's scope and how long the server works for one call
//! of it. A method that is not in the table is refused, whatever the token says; a test compares
//! the table with the descriptors. Must not know tokens, time or tonic.

use std::{fmt, str::FromStr, time::Duration};

/// What a token may be allowed to do; the claim `scope` lists them, separated by spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenScope {
    /// The call path: `CallerService`.
    Calls,
    /// Integrations and their runs: `SyncService`.
    Sync,
    /// Reading contacts.
    ContactsRead,
    /// Erasing a person.
    ContactsErase,
    /// Accounts.
    Admin,
}

impl TokenScope {
    /// Every scope, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Calls, Self::Sync, Self::ContactsRead, Self::ContactsErase, Self::Admin];

    /// As written in a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Sync => "sync",
            Self::ContactsRead => "contacts.read",
            Self::ContactsErase => "contacts.erase",
            Self::Admin => "admin",
        }
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
#[error("unknown scope; one of calls, sync, contacts.read, contacts.erase, admin")]
pub struct UnknownScope;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodAccess {
    /// Anybody who reaches the port, without a token.
    Open,
    /// A token with this scope.
    Scope(TokenScope),
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

const fn method(path: &'static str, scope: TokenScope, time_max: Duration) -> MethodRule {
    MethodRule { path, access: MethodAccess::Scope(scope), time_max: Some(time_max), queue: CallQueue::Other }
}

const fn ringing(path: &'static str) -> MethodRule {
    MethodRule { queue: CallQueue::CallPath, ..method(path, TokenScope::Calls, RINGING) }
}

const fn open(path: &'static str, time_max: Option<Duration>) -> MethodRule {
    MethodRule { path, access: MethodAccess::Open, time_max, queue: CallQueue::Other }
}

/// Everything that is always served.
pub const METHODS: [MethodRule; 32] = [
    ringing("/contactsync.v1.CallerService/MatchCaller"),
    ringing("/contactsync.v1.CallerService/SelectMatch"),
    method("/contactsync.v1.CallerService/PreRegisterContact", TokenScope::Calls, RINGING),
    ringing("/contactsync.v1.CallerService/ResolveRequester"),
    MethodRule {
        queue: CallQueue::CallPath,
        ..method("/contactsync.v1.CallerService/ExplainMatch", TokenScope::Calls, PLAIN)
    },
    method("/contactsync.v1.SyncService/TestConnection", TokenScope::Sync, ASKS_CRM),
    method("/contactsync.v1.SyncService/EnableSync", TokenScope::Sync, ASKS_CRM),
    method("/contactsync.v1.SyncService/UpdateSync", TokenScope::Sync, ASKS_CRM),
    method("/contactsync.v1.SyncService/StartAuthorization", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/DisableSync", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/TriggerSync", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/ConfirmDeletions", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/GetIntegration", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/ListIntegrations", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/GetSyncRun", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/ListSyncRuns", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/CancelSyncRun", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/WatchSyncRun", TokenScope::Sync, WATCH),
    method("/contactsync.v1.SyncService/ListRejectedRecords", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/RetryRejectedRecords", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.SyncService/TraceRecord", TokenScope::Sync, PLAIN),
    method("/contactsync.v1.ContactService/GetContact", TokenScope::ContactsRead, PLAIN),
    method("/contactsync.v1.ContactService/ListContacts", TokenScope::ContactsRead, PLAIN),
    method("/contactsync.v1.ContactService/ListChanges", TokenScope::ContactsRead, PLAIN),
    method("/contactsync.v1.ContactService/EraseContact", TokenScope::ContactsErase, PLAIN),
    method("/contactsync.v1.AccountService/CreateAccount", TokenScope::Admin, PLAIN),
    method("/contactsync.v1.AccountService/GetAccount", TokenScope::Admin, PLAIN),
    method("/contactsync.v1.AccountService/UpdateAccount", TokenScope::Admin, PLAIN),
    method("/contactsync.v1.AccountService/ListAccounts", TokenScope::Admin, PLAIN),
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
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::rpc::pb::FILE_DESCRIPTOR_SET;

    fn described_paths() -> BTreeSet<String> {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut paths = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        paths
    }

    /// Every method of the descriptors is in the table, and nothing else.
    #[test]
    fn table_lists_exactly_described_methods() {
        let table: BTreeSet<String> = METHODS.iter().map(|method| method.path.to_owned()).collect();

        assert_eq!(table, described_paths());
        assert_eq!(table.len(), METHODS.len(), "a path is twice in the table");
    }

    #[test]
    fn each_service_needs_its_scope() {
        for method in METHODS {
            let expected = match method.path.split('/').nth(1).unwrap() {
                _ if method.path.ends_with("/EraseContact") => MethodAccess::Scope(TokenScope::ContactsErase),
                "contactsync.v1.CallerService" => MethodAccess::Scope(TokenScope::Calls),
                "contactsync.v1.SyncService" => MethodAccess::Scope(TokenScope::Sync),
                "contactsync.v1.ContactService" => MethodAccess::Scope(TokenScope::ContactsRead),
                "contactsync.v1.AccountService" => MethodAccess::Scope(TokenScope::Admin),
                "grpc.health.v1.Health" => MethodAccess::Open,
                other => panic!("unexpected service {other}"),
            };

            assert_eq!(method.access, expected, "{}", method.path);
        }
    }

    /// Every method that needs a scope ends in time.
    #[test]
    fn every_scoped_method_ends_in_time() {
        for method in METHODS.iter().filter(|m| m.access != MethodAccess::Open) {
            assert!(method.time_max.is_some(), "{}", method.path);
        }
    }

    /// Reflection is not served unless it is switched on, and unknown methods never are.
    #[test]
    fn reflection_needs_switch_unknown_methods_never_served() {
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

        assert!(find_method(reflection, false).is_none());
        assert!(find_method(reflection, true).is_some());
        assert!(find_method("/contactsync.v1.CallerService/matchcaller", true).is_none());
        assert!(find_method("/contactsync.v1.CallerService/MatchCaller/", true).is_none());
        assert!(find_method("contactsync.v1.CallerService/MatchCaller", true).is_none());
    }

    #[test]
    fn a_scope_reads_back_as_it_is_written() {
        for scope in TokenScope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert_eq!("Calls".parse::<TokenScope>(), Err(UnknownScope));
    }
}
