//! Accounts: created once however often asked, changed field by field, listed for whom the token
//! names.

use std::collections::{BTreeSet, HashSet};

use contact_sync::rpc::{
    claims::TokenAccounts,
    methods::TokenScope,
    pb::{
        self, CreateAccountRequest, ListAccountsRequest, UpdateAccountRequest,
        account_service_client::AccountServiceClient,
    },
};
use tonic::Code;

use crate::{
    support::calls::refusal,
    support::sync::eventually,
    support::{TestApp, call, field, only},
};

const ID: &str = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";

fn new_account(account_id: &str) -> CreateAccountRequest {
    CreateAccountRequest {
        account_id: account_id.into(),
        display_name: "Acme".into(),
        default_region: "US".into(),
        further_regions: vec!["DE".into(), "GB".into()],
        match_policy: 0,
        look_aside_ms: 0,
    }
}

/// Creating with an id is safe to repeat, and not to repeat differently.
#[tokio::test]
async fn creating_with_id_repeats_only_identically() {
    let test = TestApp::start().await;
    let create = async |request: CreateAccountRequest| test.accounts().create_account(request).await;

    let first = create(new_account(ID)).await.unwrap().into_inner().account.unwrap();
    test.minutes(1);
    let again = create(new_account(ID)).await.unwrap().into_inner().account.unwrap();
    let upper_case = create(new_account(&ID.to_uppercase())).await.unwrap().into_inner().account.unwrap();
    let other_name = CreateAccountRequest { display_name: "Other".into(), ..new_account(ID) };
    let other = create(other_name).await.unwrap_err();

    assert_eq!((first.id.as_str(), first.default_region.as_str()), (ID, "US"));
    assert_eq!(first.further_regions, ["DE", "GB"]);
    assert_eq!([&again, &upper_case], [&first; 2]);
    assert_eq!(refusal(&other), (Code::AlreadyExists, "ACCOUNT_EXISTS".to_owned()));
}

/// Creating without an id makes another account each time.
#[tokio::test]
async fn creating_without_id_makes_another_account() {
    let test = TestApp::start().await;

    assert_ne!(test.account().await, test.account().await);
}

/// An update changes what is given, and leaves the rest.
#[tokio::test]
async fn update_changes_given_and_leaves_rest() {
    let test = TestApp::start().await;
    let created = test.accounts().create_account(new_account(ID)).await.unwrap().into_inner().account.unwrap();
    test.minutes(1);
    let update = async |account: pb::Account, paths: &[&str]| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        let request = UpdateAccountRequest { account_id: ID.into(), account: Some(account), update_mask };
        test.accounts().update_account(request).await.unwrap().into_inner().account.unwrap()
    };

    let renamed = update(pb::Account { display_name: "New Name".into(), ..Default::default() }, &[]).await;
    let french = pb::Account { default_region: "FR".into(), display_name: "Not named".into(), ..Default::default() };
    let moved = update(french, &["default_region"]).await;
    let twice = pb::Account { further_regions: vec!["GB".into(), "DE".into(), "GB".into()], ..Default::default() };
    assert_eq!(update(twice, &[]).await.further_regions, ["GB", "DE"]);
    let looking = update(pb::Account { look_aside_ms: 1_500, ..Default::default() }, &[]).await;
    assert_eq!(
        (looking.look_aside_ms, update(pb::Account::default(), &["look_aside_ms"]).await.look_aside_ms),
        (1_500, 0)
    );
    let emptied = update(pb::Account::default(), &["further_regions"]).await;
    let stored = test.accounts().get_account(pb::GetAccountRequest { account_id: ID.into() }).await.unwrap();

    assert_eq!((renamed.display_name.as_str(), renamed.default_region.as_str()), ("New Name", "US"));
    assert_eq!((moved.display_name.as_str(), moved.default_region.as_str()), ("New Name", "FR"));
    assert_eq!(moved.further_regions, ["DE", "GB"]);
    assert!(emptied.further_regions.is_empty() && emptied.default_region == "FR");
    assert!(emptied.create_time == created.create_time && emptied.update_time != created.update_time);
    assert_eq!(stored.into_inner().account.unwrap(), emptied);
}

/// Listing shows the accounts of the token, page by page.
#[tokio::test]
async fn listing_pages_through_tokens_accounts() {
    let test = TestApp::start().await;
    let mut ids = BTreeSet::new();
    for _ in 0..7 {
        ids.insert(test.account().await);
    }
    let some: HashSet<_> = ids.iter().take(3).map(|id| id.parse().unwrap()).collect();
    let token = test.token(&TokenAccounts::Listed(some), &[TokenScope::Admin]);
    let list = async |mut client: AccountServiceClient<_>| {
        let (mut listed, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListAccountsRequest { page_size: 2, page_token };
            let page = client.list_accounts(request).await.unwrap().into_inner();
            listed.extend(page.accounts.into_iter().map(|account| account.id));
            if page.next_page_token.is_empty() {
                return listed;
            }
            page_token = page.next_page_token;
        }
    };

    let all = list(test.accounts()).await;
    let three = list(AccountServiceClient::new(test.client_with(&token))).await;

    assert!(all.is_sorted());
    assert_eq!(BTreeSet::from_iter(all), ids);
    assert!(three.iter().eq(ids.iter().take(3)));
}

/// A token of some accounts creates none but its own.
#[tokio::test]
async fn token_of_accounts_creates_only_its_own() {
    let test = TestApp::start().await;
    let token = test.token(&only(ID), &[TokenScope::Admin]);
    let create = async |request| AccountServiceClient::new(test.client_with(&token)).create_account(request).await;

    let unnamed = create(new_account("")).await.unwrap_err();
    let foreign = create(new_account("8b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f")).await.unwrap_err();
    let own = create(new_account(ID)).await;

    assert_eq!((unnamed.code(), field(&unnamed).as_str()), (Code::InvalidArgument, "account_id"));
    assert_eq!(refusal(&foreign), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()));
    assert!(own.is_ok());
}

/// What is asked of an account that does not exist is `NOT_FOUND`.
#[tokio::test]
async fn unknown_account_is_not_found() {
    let test = TestApp::start().await;

    let get = test.accounts().get_account(pb::GetAccountRequest { account_id: ID.into() }).await.unwrap_err();
    let update = UpdateAccountRequest { account_id: ID.into(), ..Default::default() };
    let update = test.accounts().update_account(update).await.unwrap_err();
    let matched = test.match_refused(call(ID, "+13108675309")).await;

    for refused in [get, update, matched] {
        assert_eq!(refusal(&refused), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()));
    }
    // And is there as soon as it is created: not being there is not remembered.
    test.accounts().create_account(new_account(ID)).await.unwrap();
    assert_eq!(test.match_caller(call(ID, "+13108675309")).await.e164, "+13108675309");
}

#[tokio::test]
async fn a_new_region_applies_to_calls_within_seconds() {
    let test = TestApp::start().await;
    let account = test.account_in("US").await;
    assert_eq!(test.look_up(&account, "(310) 867-5309").await.e164, "+13108675309");
    let german = pb::Account { default_region: "DE".into(), ..Default::default() };
    let request = UpdateAccountRequest { account_id: account.clone(), account: Some(german), update_mask: None };
    test.accounts().update_account(request).await.unwrap();

    eventually("the new region", async || test.look_up(&account, "030 901820").await.e164 == "+4930901820").await;
}
