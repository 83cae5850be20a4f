use tonic::Request;

use super::*;
use crate::rpc::{pb, request_caller::caller};

const DISABLE_SYNC: &str = "/contactsync.v1.SyncService/DisableSync";
const SELECT_MATCH: &str = "/contactsync.v1.CallerService/SelectMatch";

/// Where several scopes would do, all are told, and the one of before first.
#[test]
fn every_scope_that_would_do_is_told() {
    let f = fixture();
    let token = f.sign(&with("scope", json!("contacts.read")));
    let refused = f.call(DISABLE_SYNC, &[&format!("Bearer {token}")]).unwrap_err();

    let told = [("scope", "sync"), ("scopes", "sync sync.write sync.purge")];
    assert_eq!(metadata(&refused), told.map(owned).into());
    assert!(refused.message().ends_with("sync, sync.write, sync.purge"), "{}", refused.message());
}

/// A request as the gate hands it to the handler, of a token with this scope and the subject anna.
fn handed<T>(path: &str, scope: &str, message: T) -> Request<T> {
    let f = fixture();
    let mut claims = with("scope", json!(scope));
    claims["sub"] = json!("anna");
    let caller = f.call(path, &[&format!("Bearer {}", f.sign(&claims))]).unwrap().unwrap();
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(find_method(path, false).unwrap());
    request
}

/// What a field asks for is refused with the name of that field, before anything else is looked at.
#[test]
fn field_that_asks_for_more_is_named() {
    let purge = pb::DisableSyncRequest { copied_data: pb::CopiedData::Purge.into(), ..Default::default() };
    let other = pb::SelectMatchRequest { agent_id: "bob".into(), ..Default::default() };

    let (purging, choosing) =
        (handed(DISABLE_SYNC, "sync.write", purge.clone()), handed(SELECT_MATCH, "clicks", other.clone()));
    let purged = caller(&purging).unwrap().authorize(MINE).unwrap_err();
    let chosen = caller(&choosing).unwrap().authorize_reach(MINE).err().unwrap();

    assert_eq!((purged.code(), reason(&purged).as_str()), (Code::PermissionDenied, "SCOPE_MISSING"));
    let told = [("scope", "sync"), ("scopes", "sync sync.purge"), ("field", "copied_data")];
    assert_eq!(metadata(&purged), told.map(owned).into());
    assert!(purged.message().starts_with("copied_data: for COPIED_DATA_PURGE"), "{}", purged.message());
    assert_eq!((chosen.code(), reason(&chosen).as_str()), (Code::PermissionDenied, "SCOPE_MISSING"));
    assert_eq!(metadata(&chosen), [("scope", "calls"), ("scopes", "calls"), ("field", "agent_id")].map(owned).into());
    for scope in ["sync", "sync.purge", "sync.write sync.purge"] {
        assert!(caller(&handed(DISABLE_SYNC, scope, purge.clone())).unwrap().authorize(MINE).is_ok(), "{scope}");
    }
    assert!(caller(&handed(SELECT_MATCH, "clicks calls", other)).unwrap().authorize(MINE).is_ok());
    let elsewhere = caller(&purging).unwrap().authorize(OTHERS).unwrap_err();
    assert_eq!((elsewhere.message(), metadata(&elsewhere)), (purged.message(), metadata(&purged)));
}

/// A handler that does not ask whose calls its caller may touch gets no account of an agent's.
#[test]
fn agents_account_comes_with_its_calls_only() {
    let choice = || pb::SelectMatchRequest { account_id: MINE.into(), ..Default::default() };
    let agents = handed(SELECT_MATCH, "clicks", choice());
    let routers = handed(SELECT_MATCH, "clicks calls", choice());
    let (agent, router) = (caller(&agents).unwrap(), caller(&routers).unwrap());

    assert_eq!(agent.authorize(MINE).unwrap_err().code(), Code::Internal);
    let (_, reach) = agent.authorize_reach(MINE).unwrap();
    assert!(reach.is_own());
    assert_eq!(reach.agent(String::new()), "anna");
    assert_eq!(agent.authorize_reach(OTHERS).err().map(|status| reason(&status)).unwrap(), "ACCOUNT_NOT_FOUND");
    assert_eq!(router.authorize(MINE).unwrap().to_string(), MINE);
    let (_, reach) = router.authorize_reach(MINE).unwrap();
    assert!(!reach.is_own());
    assert_eq!(reach.agent("bob".into()), "bob");
}

/// A subject that no agent can have is refused where it stands for one.
#[test]
fn subject_that_can_be_no_agent_is_refused() {
    let f = fixture();
    for (subject, is_agent) in [("ж".repeat(128), true), ("a".repeat(129), false), ("an\0na".into(), false)] {
        let mut claims = with("scope", json!("clicks"));
        claims["sub"] = json!(subject);
        let holder = f.call(SELECT_MATCH, &[&format!("Bearer {}", f.sign(&claims))]).unwrap().unwrap();
        let mut request = Request::new(pb::SelectMatchRequest::default());
        request.extensions_mut().insert(holder);
        request.extensions_mut().insert(find_method(SELECT_MATCH, false).unwrap());

        let authorized = caller(&request).unwrap().authorize_reach(MINE);

        assert_eq!(authorized.is_ok(), is_agent);
        if let Err(refused) = authorized {
            assert_eq!(reason(&refused), "INVALID_ARGUMENT");
            assert!(refused.message().starts_with("agent_id: is the token's sub"), "{}", refused.message());
        }
    }
}
