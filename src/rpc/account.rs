//! `AccountService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    auth::{Accounts, caller},
    convert, page_token, parse,
    pb::{self, account_service_server::AccountService},
    status,
};
use crate::{
    domain::{
        account::{Account, FURTHER_REGIONS_MAX, NAME_CHARS_MAX},
        clock::Clock,
        ids::{AccountId, IdSource},
        phone::Region,
    },
    store::{self, Db},
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
        let id = match (request.get_ref().account_id.as_str(), caller(&request)?.accounts()) {
            ("", Accounts::All) => AccountId(self.ids.new_v4()),
            ("", Accounts::Listed(_)) => {
                return Err(status::invalid(
                    "account_id",
                    "must be one of the token's accounts, or the token must name all accounts (*)",
                ));
            }
            (given, _) => caller(&request)?.authorize(given)?,
        };
        let request = request.into_inner();
        let now = self.clock.now();
        let account = Account {
            id,
            display_name: display_name(&request.display_name)?,
            default_region: parse::region("default_region", &request.default_region)?,
            further_regions: regions(&request.further_regions)?,
            created_at: now,
            updated_at: now,
        };

        let is_new = store::accounts::insert(&self.db, &account).await?;

        let stored = if is_new {
            account.clone()
        } else {
            store::accounts::find(&self.db, id).await?.ok_or_else(status::account_not_found)?
        };
        let is_same = (&stored.display_name, stored.default_region, &stored.further_regions)
            == (&account.display_name, account.default_region, &account.further_regions);
        if !is_same {
            return Err(status::already_exists(
                "ACCOUNT_EXISTS",
                "there is an account with this id and other content; use UpdateAccount",
                &[],
            ));
        }
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
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let request = request.into_inner();
        let name = request.display_name.as_deref().map(display_name).transpose()?;
        let default_region =
            request.default_region.as_deref().map(|text| parse::region("default_region", text)).transpose()?;
        let further_regions = request.further_regions.map(|list| regions(&list.regions)).transpose()?;

        let account = store::accounts::update(
            &self.db,
            account_id,
            name.as_deref(),
            default_region,
            further_regions.as_deref(),
            self.clock.now(),
        )
        .await?;

        let account = account.ok_or_else(status::account_not_found)?;
        Ok(Response::new(pb::UpdateAccountResponse { account: Some(convert::account(&account)) }))
    }

    async fn list_accounts(
        &self,
        request: Request<pb::ListAccountsRequest>,
    ) -> Result<Response<pb::ListAccountsResponse>, Status> {
        let among: Option<Vec<AccountId>> = match caller(&request)?.accounts() {
            Accounts::All => None,
            Accounts::Listed(ids) => Some(ids.iter().copied().collect()),
        };
        let request = request.into_inner();
        let size = page_token::page_size(request.page_size)?;
        let after = page_token::decode("ListAccounts", &[], &request.page_token)?;
        let after =
            after.map(|key| key.first().and_then(|id| id.parse().ok()).ok_or_else(page_token::refused)).transpose()?;

        let mut accounts = store::accounts::list(&self.db, among.as_deref(), after, convert::limit(size)).await?;

        let next = convert::cut_page(&mut accounts, size)
            .map(|last| page_token::encode("ListAccounts", &[], &[&last.id.to_string()]));
        let accounts = accounts.iter().map(convert::account).collect();
        Ok(Response::new(pb::ListAccountsResponse { accounts, next_page_token: next.unwrap_or_default() }))
    }
}

fn display_name(text: &str) -> Result<String, Status> {
    let text = parse::shown_text("display_name", text)?.trim().to_owned();
    if text.is_empty() || text.chars().count() > NAME_CHARS_MAX {
        return Err(status::invalid("display_name", "must have 1 to 200 characters"));
    }
    Ok(text)
}

fn regions(texts: &[String]) -> Result<Vec<Region>, Status> {
    if texts.len() > FURTHER_REGIONS_MAX {
        return Err(status::invalid("further_regions", "must be at most 20"));
    }
    texts.iter().map(|text| parse::region("further_regions", text)).collect()
}
