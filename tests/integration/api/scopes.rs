//! Which scopes open which method, as docs/api.md says it, through the real server; and what a
//! field of a request asks for beyond that.

use std::collections::HashMap;

use contact_sync::rpc::{
    claims::TokenAccounts,
    methods::TokenScope,
    pb::{self, sync_service_client::SyncServiceClient},
};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    api::authorization::{NOWHERE, OTHER_ACCOUNT, assert_nothing_happened, things},
    api::methods::{Call, described, requests},
    support::calls::refusal,
    support::sync::live_contacts,
    support::{Client, TestApp, only},
};

const PAGE: &str = include_str!("../../../docs/api.md");

const DISABLE: &str = "/contactsync.v1.SyncService/DisableSync";

/// A row of the page's table: the scopes that open the method, and those that a field asks for.
struct DocumentedMethod {
    opened_by: Vec<TokenScope>,
    beyond: Vec<TokenScope>,
}

fn scopes_in(cell: &str) -> Vec<TokenScope> {
    cell.split('`').skip(1).step_by(2).filter_map(|word| word.parse().ok()).collect()
}

/// By the methods' names.
fn documented() -> HashMap<&'static str, DocumentedMethod> {
    let (_, table) = PAGE.split_once("\n| method | opened by any of | beyond that |\n|---|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with("| "));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        // Two fields may ask for the same scope.
        let mut beyond = scopes_in(cells[3]);
        beyond.dedup();
        (cells[1], DocumentedMethod { opened_by: scopes_in(cells[2]), beyond })
    })
    .collect()
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

/// Whether a field of it asks for more than the method does.
fn asks_beyond(path: &str, request: &[u8]) -> bool {
    match name_of(path) {
        "DisableSync" => pb::DisableSyncRequest::decode(request).unwrap().copied_data() == pb::CopiedData::Purge,
        "PreRegisterContact" => !pb::PreRegisterContactRequest::decode(request).unwrap().contact_id.is_empty(),
        _ => false,
    }
}

/// One request of every method; of `DisableSync` one that keeps, too.
fn every_request(account: &str) -> Vec<Call> {
    let keep = pb::DisableSyncRequest { copied_data: pb::CopiedData::Keep.into(), ..disable(account, NOWHERE) };
    [requests(&things(account)), vec![(DISABLE, keep.encode_to_vec())]].concat()
}

fn disable(account: &str, integration: &str) -> pb::DisableSyncRequest {
    pb::DisableSyncRequest { account_id: account.into(), integration_id: integration.into(), ..Default::default() }
}

fn metadata(status: &Status) -> HashMap<String, String> {
    status.get_error_details().error_info().unwrap().metadata.clone()
}

fn told(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_method_is_in_the_page_with_its_scopes() {
    let documented = documented();
    let described = described();

    assert_eq!(documented.len(), described.len());
    for path in described {
        assert!(documented.get(name_of(&path)).is_some_and(|row| !row.opened_by.is_empty()), "{path}");
    }
}

/// Every method with every scope alone: admitted or refused as the page says.
#[tokio::test]
async fn each_scope_alone_opens_what_page_says() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let documented = documented();

    for (path, bytes) in every_request(&account) {
        let row = &documented[name_of(path)];
        let opened_by = if asks_beyond(path, &bytes) { &row.beyond } else { &row.opened_by };
        for scope in TokenScope::ALL {
            // Of another account, so that nothing happens.
            let answer = test.invoke(&test.token(&only(OTHER_ACCOUNT), &[scope]), path, &bytes).await;
            let is_refused = answer.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied);
            assert_eq!(is_refused, !opened_by.contains(&scope), "{path} with {scope}: {answer:?}");
            match answer {
                Err(status) if is_refused => {
                    assert_eq!(refusal(&status).1, "SCOPE_MISSING");
                    let scopes = metadata(&status)["scopes"].clone();
                    let scopes: Vec<TokenScope> = scopes.split(' ').map(|scope| scope.parse().unwrap()).collect();
                    let missing = if row.opened_by.contains(&scope) { &row.beyond } else { &row.opened_by };
                    assert_eq!(&scopes, missing, "{path} with {scope}");
                    assert_eq!(metadata(&status)["scope"], scopes[0].as_str());
                }
                Err(status) => assert_eq!(refusal(&status), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned())),
                Ok(told) => assert!(path.ends_with("/ListAccounts") && told.is_empty(), "{path}"),
            }
        }
    }

    assert_nothing_happened(&test).await;
}

/// A token with every scope but those that would do opens no method.
#[tokio::test]
async fn all_other_scopes_together_open_no_method() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let documented = documented();

    for (path, bytes) in every_request(&account) {
        let opened_by = &documented[name_of(path)].opened_by;
        let others: Vec<TokenScope> = TokenScope::ALL.into_iter().filter(|scope| !opened_by.contains(scope)).collect();
        let status = test.invoke(&test.token(&TokenAccounts::All, &others), path, &bytes).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::PermissionDenied, "SCOPE_MISSING".to_owned()), "{path}");
    }

    assert_nothing_happened(&test).await;
}

fn syncs(test: &TestApp, scopes: &[TokenScope]) -> SyncServiceClient<Client> {
    SyncServiceClient::new(test.client_with(&test.token(&TokenAccounts::All, scopes)))
}

/// Who may write and not purge is refused before anything is written, and may keep.
#[tokio::test]
async fn purge_needs_its_scope_and_keep_does_not() {
    let test = TestApp::start().await;
    test.user("Bryce Love", "+13108675309");
    let (account, integration) = test.synced().await;
    let purge = pb::DisableSyncRequest { copied_data: pb::CopiedData::Purge.into(), ..disable(&account, &integration) };

    for scopes in [&[TokenScope::SyncWrite][..], &[TokenScope::SyncWrite, TokenScope::SyncRead, TokenScope::Calls]] {
        let refused = syncs(&test, scopes).disable_sync(purge.clone()).await.unwrap_err();
        assert_eq!(refusal(&refused), (Code::PermissionDenied, "SCOPE_MISSING".to_owned()));
        let expected = told(&[("scope", "sync"), ("scopes", "sync sync.purge"), ("field", "copied_data")]);
        assert_eq!(metadata(&refused), expected);
        assert!(refused.message().starts_with("copied_data: "), "{}", refused.message());
        assert!(test.integration(&account, &integration).await.enabled, "nothing was written");
    }
    // Nor is it told whether there is such an integration.
    let elsewhere = pb::DisableSyncRequest { integration_id: NOWHERE.into(), ..purge.clone() };
    let refused = syncs(&test, &[TokenScope::SyncWrite]).disable_sync(elsewhere).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::PermissionDenied, "SCOPE_MISSING".to_owned()));

    let keep = disable(&account, &integration);
    let kept = syncs(&test, &[TokenScope::SyncWrite]).disable_sync(keep).await.unwrap().into_inner();
    assert!(!kept.integration.unwrap().enabled);
    assert_eq!(live_contacts(&test, &account).await, 1);
    syncs(&test, &[TokenScope::SyncPurge]).disable_sync(purge).await.unwrap();
    test.sync_due().await;
    assert_eq!(live_contacts(&test, &account).await, 0);
}

/// A token that may only read looks at everything, and changes nothing.
#[tokio::test]
async fn reading_scope_shows_runs_and_changes_nothing() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let mut reader = syncs(&test, &[TokenScope::SyncRead]);

    let list = pb::ListIntegrationsRequest { account_id: account.clone(), ..Default::default() };
    let listed = reader.list_integrations(list).await.unwrap().into_inner();
    assert_eq!(listed.integrations[0].id, integration);
    let trigger =
        pb::TriggerSyncRequest { account_id: account.clone(), integration_id: integration, ..Default::default() };
    let refused = reader.trigger_sync(trigger.clone()).await.unwrap_err();
    assert_eq!(metadata(&refused), told(&[("scope", "sync"), ("scopes", "sync sync.write")]));
    syncs(&test, &[TokenScope::SyncWrite]).trigger_sync(trigger).await.unwrap();
    // Who may write and not read is shown no list.
    let list = pb::ListIntegrationsRequest { account_id: account, ..Default::default() };
    let refused = syncs(&test, &[TokenScope::SyncWrite, TokenScope::SyncPurge]).list_integrations(list).await;
    assert_eq!(refusal(&refused.unwrap_err()).1, "SCOPE_MISSING");
}
