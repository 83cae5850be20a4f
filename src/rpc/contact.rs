//! `ContactService`: plain reads of the store, the feed of changes, and erasure.

use chrono::DateTime;
use tonic::{Request, Response, Status};

use super::{
    auth::caller,
    convert, page_token, parse,
    pb::{self, contact_service_server::ContactService},
    status,
};
use crate::{
    domain::{
        account::{MatchPolicy, MatchRules},
        change::CHANGES_MAX,
        contact::{Contact, TOTAL_MAX},
        ids::{AccountId, ContactId},
        phone::{self, PhoneKey},
    },
    erasure::Erasure,
    feed::Feed,
    store::{self, Db, accounts::RulesCache},
};

/// Changes in a page for which no size is given.
const CHANGES_DEFAULT: usize = 200;

/// Serves contacts.
pub struct ContactRpc {
    /// The API's pool.
    pub db: Db,
    /// How the accounts' numbers are read and who comes first.
    pub rules: RulesCache,
    /// What has become of contacts.
    pub feed: Feed,
    /// Erases persons.
    pub erasure: Erasure,
}

#[tonic::async_trait]
impl ContactService for ContactRpc {
    async fn get_contact(
        &self,
        request: Request<pb::GetContactRequest>,
    ) -> Result<Response<pb::GetContactResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let contact_id: ContactId = parse::id("contact_id", &request.get_ref().contact_id)?;

        let contact = store::contacts::find(&self.db, account_id, contact_id).await?;

        let contact = contact.ok_or_else(|| {
            status::not_found("CONTACT_NOT_FOUND", "there is no contact with this id in this account")
        })?;
        Ok(Response::new(pb::GetContactResponse { contact: Some(convert::contact(contact)) }))
    }

    async fn list_contacts(
        &self,
        request: Request<pb::ListContactsRequest>,
    ) -> Result<Response<pb::ListContactsResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let request = request.into_inner();
        let size = page_token::page_size(request.page_size)?;
        let number = parse::phone_number(&request.phone_number)?;
        let rules = self.rules.find(account_id).await?.ok_or_else(status::account_not_found)?;
        let key = if number.is_empty() { None } else { Some(read_number(&rules, &number)?) };
        let filter = [account_id.to_string(), convert::e164(key)];
        let filter = [filter[0].as_str(), filter[1].as_str()];
        let after = page_token::decode("ListContacts", &filter, &request.page_token)?;

        let mut contacts = self.page(account_id, key, rules.policy, after, size).await?;

        let next = convert::cut_page(&mut contacts, size).map(|last| {
            let place =
                [last.id.to_string(), last.is_placeholder.to_string(), last.created_at.timestamp_micros().to_string()];
            page_token::encode("ListContacts", &filter, &place.each_ref().map(String::as_str))
        });
        let contacts = contacts.into_iter().map(convert::contact).collect();
        Ok(Response::new(pb::ListContactsResponse { contacts, next_page_token: next.unwrap_or_default() }))
    }

    async fn list_changes(
        &self,
        request: Request<pb::ListChangesRequest>,
    ) -> Result<Response<pb::ListChangesResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let request = request.into_inner();
        if request.after < 0 {
            return Err(status::invalid("after", "must be 0, or `next_after` of an earlier answer"));
        }
        let size = match usize::try_from(request.page_size) {
            Ok(0) => CHANGES_DEFAULT,
            Ok(size) => size.min(CHANGES_MAX),
            Err(_) => return Err(status::invalid("page_size", "must not be negative")),
        };
        if request.only_position {
            let next_after = self.feed.end(account_id).await?;
            return Ok(Response::new(pb::ListChangesResponse { next_after, ..pb::ListChangesResponse::default() }));
        }

        let page = self.feed.list(account_id, request.after, size).await?;

        Ok(Response::new(pb::ListChangesResponse {
            changes: page.changes.into_iter().map(convert::change).collect(),
            next_after: page.next_after,
            has_more: page.has_more,
        }))
    }

    async fn erase_contact(
        &self,
        request: Request<pb::EraseContactRequest>,
    ) -> Result<Response<pb::EraseContactResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let contact_id: ContactId = parse::id("contact_id", &request.get_ref().contact_id)?;

        let erased = self.erasure.erase(account_id, contact_id).await?;

        Ok(Response::new(pb::EraseContactResponse {
            contact_id: erased.contact_id.to_string(),
            records: i32::try_from(erased.records.len()).unwrap_or(i32::MAX),
            already_erased: !erased.is_new,
        }))
    }
}

fn read_number(rules: &MatchRules, raw: &str) -> Result<PhoneKey, Status> {
    let key = phone::read(raw, Some(rules.default_region)).first().map(|number| number.key);
    key.ok_or_else(|| {
        status::invalid("phone_number", "is not a number that can be called; give it in E.164, such as +13108675309")
    })
}

/// Where a page goes on: a contact's rank.
type Place = (bool, DateTime<chrono::Utc>, ContactId);

impl ContactRpc {
    async fn page(
        &self,
        account_id: AccountId,
        key: Option<PhoneKey>,
        policy: MatchPolicy,
        after: Option<Vec<String>>,
        size: usize,
    ) -> Result<Vec<Contact>, Status> {
        let after = after.map(|place| parse_place(&place).ok_or_else(page_token::refused)).transpose()?;
        let limit = convert::limit(size);
        let page = match key {
            None => store::contacts::list(&self.db, account_id, after.map(|(_, _, id)| id), limit).await,
            Some(key) if policy == MatchPolicy::FirstCreated => {
                store::contacts::list_by_number(&self.db, account_id, key, after, limit).await
            }
            Some(key) => return self.ranked_page(account_id, key, policy, after, size + 1).await,
        };
        Ok(page?)
    }

    /// In the order of another policy than the first created: it ranks the first 200, as a match does; the others follow.
    async fn ranked_page(
        &self,
        account_id: AccountId,
        key: PhoneKey,
        policy: MatchPolicy,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Vec<Contact>, Status> {
        let ranked = store::contacts::rank_by_number(&self.db, account_id, key, policy).await?;
        let last = ranked.iter().map(|row| (row.is_placeholder, row.created_at, row.contact_id)).max();
        let start = match after {
            None => Some(0),
            Some((.., id)) => ranked.iter().position(|row| row.contact_id == id).map(|at| at + 1),
        };
        let ids: Vec<ContactId> = match start {
            Some(start) => ranked[start..].iter().map(|row| row.contact_id).take(limit).collect(),
            None => Vec::new(),
        };
        let mut page = store::contacts::find_all(&self.db, account_id, &ids).await?;
        if ids.len() < limit && ranked.len() >= TOTAL_MAX {
            let behind = if start.is_some() { last } else { after.max(last) };
            let rest = convert::limit(limit - ids.len() - 1);
            page.extend(store::contacts::list_by_number(&self.db, account_id, key, behind, rest).await?);
        }
        Ok(page)
    }
}

/// What a client sent: also a time that Postgres cannot hold.
fn parse_place(place: &[String]) -> Option<Place> {
    const MICROS_MAX: i64 = 253_402_300_799_999_999; // the end of the year 9999
    let [id, is_placeholder, micros] = place else { return None };
    let micros = micros.parse().ok().filter(|micros| (0..=MICROS_MAX).contains(micros))?;
    Some((is_placeholder.parse().ok()?, DateTime::from_timestamp_micros(micros)?, id.parse().ok()?))
}
