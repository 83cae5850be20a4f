//! `ContactService`: plain reads of the store.

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
        contact::Contact,
        ids::{AccountId, ContactId},
        phone::{self, PhoneKey},
    },
    store::{self, Db, accounts::Regions},
};

/// Serves contacts.
pub struct ContactRpc {
    /// The API's pool.
    pub db: Db,
    /// The accounts' regions.
    pub regions: Regions,
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
        let key = if number.is_empty() { None } else { Some(self.read_number(account_id, &number).await?) };
        let filter = [account_id.to_string(), convert::e164(key)];
        let filter = [filter[0].as_str(), filter[1].as_str()];
        let after = page_token::decode("ListContacts", &filter, &request.page_token)?;

        let mut contacts = self.page(account_id, key, after, size).await?;

        if contacts.is_empty() {
            self.regions.find(account_id).await?.ok_or_else(status::account_not_found)?;
        }
        let next = convert::cut_page(&mut contacts, size).map(|last| {
            let place =
                [last.id.to_string(), last.is_placeholder.to_string(), last.created_at.timestamp_micros().to_string()];
            page_token::encode("ListContacts", &filter, &place.each_ref().map(String::as_str))
        });
        let contacts = contacts.into_iter().map(convert::contact).collect();
        Ok(Response::new(pb::ListContactsResponse { contacts, next_page_token: next.unwrap_or_default() }))
    }
}

impl ContactRpc {
    async fn read_number(&self, account_id: AccountId, raw: &str) -> Result<PhoneKey, Status> {
        let region = self.regions.find(account_id).await?.ok_or_else(status::account_not_found)?;
        let key = phone::read(raw, Some(region)).first().map(|number| number.key);
        key.ok_or_else(|| {
            status::invalid(
                "phone_number",
                "is not a number that can be called; give it in E.164, such as +13108675309",
            )
        })
    }

    async fn page(
        &self,
        account_id: AccountId,
        key: Option<PhoneKey>,
        after: Option<Vec<String>>,
        size: usize,
    ) -> Result<Vec<Contact>, Status> {
        let after = after.map(|place| parse_place(&place).ok_or_else(page_token::refused)).transpose()?;
        let limit = convert::limit(size);
        let page = match key {
            None => store::contacts::list(&self.db, account_id, after.map(|(_, _, id)| id), limit).await,
            Some(key) => store::contacts::list_by_number(&self.db, account_id, key, after, limit).await,
        };
        Ok(page?)
    }
}

/// What a client sent: also a time that Postgres cannot hold.
fn parse_place(place: &[String]) -> Option<(bool, DateTime<chrono::Utc>, ContactId)> {
    const MICROS_MAX: i64 = 253_402_300_799_999_999; // the end of the year 9999
    let [id, is_placeholder, micros] = place else { return None };
    let micros = micros.parse().ok().filter(|micros| (0..=MICROS_MAX).contains(micros))?;
    Some((is_placeholder.parse().ok()?, DateTime::from_timestamp_micros(micros)?, id.parse().ok()?))
}
