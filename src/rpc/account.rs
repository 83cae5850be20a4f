//! `AccountService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    account_requests,
    audit::audited,
    audit_events,
    claims::TokenAccounts,
    convert, page_token, parse,
    pb::{self, account_service_server::AccountService},
    request_caller::caller,
    status,
    together::ReadTogether,
};
use crate::{
    domain::{
        account::Account,
        audit::NO_ACCOUNT,
        clock::Clock,
        ids::{AccountId, IdSource},
        match_policy::MatchPolicy,
    },
    store::{self, Db, accounts::CreatedAccount},
};

/// Serves accounts; plain reads and writes of the store.
pub struct AccountRpc {
    /// The API's pool.
    pub db: Db,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<IdSource>,
}

#[tonic::async_trait]
impl AccountService for AccountRpc {
    async fn create_account(
        &self,
        request: Request<pb::CreateAccountRequest>,
    ) -> Result<Response<pb::CreateAccountResponse>, Status> {
        let call = audited(&request)?;
        let id = match (request.get_ref().account_id.as_str(), caller(&request)?.accounts()) {
            ("", TokenAccounts::All) => Ok(AccountId(self.ids.new_v4())),
            ("", TokenAccounts::Listed(_)) => Err(status::invalid(
                "account_id",
                "must be one of the token's accounts, or the token must name all accounts (*)",
            )),
            (given, _) => caller(&request)?.authorize(given).and_then(account_requests::not_nil),
        };
        let request = request.into_inner();
        let (id, display_name, default_region, further_regions, match_policy, look_aside_ms) = (
            id,
            account_requests::display_name(&request.display_name),
            parse::region("default_region", &request.default_region),
            account_requests::regions(&request.further_regions),
            account_requests::policy(request.match_policy, None),
            account_requests::look_aside_ms(request.look_aside_ms),
        )
            .together()?;
        let now = self.clock.now();
        let account = Account {
            id,
            display_name,
            default_region,
            further_regions,
            match_policy,
            look_aside_ms,
            created_at: now,
            updated_at: now,
        };

        let stored = match store::accounts::create(&self.db, &account, call.actor()).await? {
            CreatedAccount::New => account,
            CreatedAccount::Same(known) => known,
            CreatedAccount::Taken => {
                return Err(status::already_exists(
                    "ACCOUNT_EXISTS",
                    "there is an account with this id and other content; use UpdateAccount",
                    &[],
                ));
            }
        };
        Ok(Response::new(pb::CreateAccountResponse { account: Some(convert::account(&stored)) }))
    }

    async fn get_account(
        &self,
        request: Request<pb::GetAccountRequest>,
    ) -> Result<Response<pb::GetAccountResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;

        let account = store::accounts::find(&self.db, account_id).await?.ok_or_else(status::account_not_found)?;

        Ok(Response::new(pb::GetAccountResponse { account: Some(convert::account(&account)) }))
    }

    async fn update_account(
        &self,
        request: Request<pb::UpdateAccountRequest>,
    ) -> Result<Response<pb::UpdateAccountResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let (account_id, change) = (account_id, account_requests::change(request.get_ref())).together()?;
        if let Some(MatchPolicy::PreferredIntegration(id)) = change.match_policy
            && store::integrations::find(&self.db, account_id, id).await?.is_none()
        {
            return Err(status::invalid("account.preferred_integration_id", "must be an integration of this account"));
        }

        let account = store::accounts::update(&self.db, account_id, call.actor(), change, self.clock.now()).await?;

        let account = account.ok_or_else(status::account_not_found)?;
        Ok(Response::new(pb::UpdateAccountResponse { account: Some(convert::account(&account)) }))
    }

    async fn list_accounts(
        &self,
        request: Request<pb::ListAccountsRequest>,
    ) -> Result<Response<pb::ListAccountsResponse>, Status> {
        let among: Option<Vec<AccountId>> = match caller(&request)?.accounts() {
            TokenAccounts::All => None,
            TokenAccounts::Listed(ids) => Some(ids.iter().copied().collect()),
        };
        let request = request.into_inner();
        let after = page_token::decode_id("ListAccounts", &[], &request.page_token);
        let (size, after) = (page_token::page_size(request.page_size), after).together()?;

        let mut accounts = store::accounts::list(&self.db, among.as_deref(), after, convert::limit(size)).await?;

        let next = convert::cut_page(&mut accounts, size)
            .map(|last| page_token::encode("ListAccounts", &[], &[&last.id.to_string()]));
        let accounts = accounts.iter().map(convert::account).collect();
        Ok(Response::new(pb::ListAccountsResponse { accounts, next_page_token: next.unwrap_or_default() }))
    }

    async fn list_audit_events(
        &self,
        request: Request<pb::ListAuditEventsRequest>,
    ) -> Result<Response<pb::ListAuditEventsResponse>, Status> {
        let caller = caller(&request)?;
        let account_id = match request.get_ref().account_id.as_str() {
            "" if *caller.accounts() == TokenAccounts::All => Ok(NO_ACCOUNT),
            "" => Err(status::invalid("account_id", "is required, unless the token names all accounts (*)")),
            given => caller.authorize(given),
        };

        let page = audit_events::list(&self.db, account_id, request.into_inner()).await?;

        Ok(Response::new(page))
    }
}
