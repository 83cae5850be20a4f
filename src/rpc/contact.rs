//! `ContactService`: plain reads of the store, the feed of changes, and erasure.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use phone_key::{PhoneKey, Region};
use tonic::{Request, Response, Status};

use super::{
    audit::audited,
    convert, page_token, parse,
    pb::{self, contact_service_server::ContactService},
    request_caller::caller,
    status,
    together::ReadTogether,
};
use crate::{
    domain::{
        audit::AuditTarget,
        change::CHANGES_MAX,
        contact::{Contact, TOTAL_MAX},
        ids::{AccountId, ContactId},
        match_policy::MatchPolicy,
    },
    erasure::PersonErasure,
    feed::{ChangeFeed, FeedPosition},
    store::{self, Db, accounts::RulesCache, ranked_contacts::RankedContact},
};

/// Changes in a page for which no size is given.
const CHANGES_DEFAULT: usize = 200;
/// Longest name of an epoch that is read.
const EPOCH_BYTES_MAX: usize = 64;

/// Serves contacts.
pub struct ContactRpc {
    /// The API's pool.
    pub db: Db,
    /// How the accounts' numbers are read and who comes first.
    pub rules: RulesCache,
    /// What has become of contacts.
    pub feed: ChangeFeed,
    /// Erases persons.
    pub erasure: PersonErasure,
}

#[tonic::async_trait]
impl ContactService for ContactRpc {
    async fn get_contact(
        &self,
        request: Request<pb::GetContactRequest>,
    ) -> Result<Response<pb::GetContactResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let contact_id = parse::id("contact_id", &request.get_ref().contact_id);
        let (account_id, contact_id): (AccountId, ContactId) = (account_id, contact_id).together()?;

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
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let request = request.into_inner();
        let has_number = !request.phone_number.is_empty();
        let (account_id, size, number, region, ()) = (
            account_id,
            page_token::page_size(request.page_size),
            parse::phone_number(&request.phone_number),
            parse::optional_region("default_region", &request.default_region),
            parse::only_with_number(&request.default_region, has_number),
        )
            .together()?;
        let rules = self.rules.find(account_id).await?.ok_or_else(status::account_not_found)?;
        let region = region.unwrap_or(rules.default_region);
        let key = if has_number { Some(read_number(region, &number)?) } else { None };
        // Under another policy the places of a number's contacts mean something else.
        let policy = key.map(|_| rules.policy).unwrap_or_default();
        let preferred = policy.preferred().map(|id| id.to_string()).unwrap_or_default();
        let filter = [account_id.to_string(), convert::e164(key), policy.as_str().to_owned(), preferred];
        let filter = filter.each_ref().map(String::as_str);
        let after = page_token::decode("ListContacts", &filter, &request.page_token)?;
        let after = after.map(|place| Place::parse(&place).ok_or_else(page_token::refused)).transpose()?;

        let Listed { contacts, next } = self.page(account_id, key, policy, after, size).await?;

        let next = next
            .map(|place| page_token::encode("ListContacts", &filter, &place.parts().each_ref().map(String::as_str)));
        let contacts = contacts.into_iter().map(convert::contact).collect();
        Ok(Response::new(pb::ListContactsResponse { contacts, next_page_token: next.unwrap_or_default() }))
    }

    async fn list_changes(
        &self,
        request: Request<pb::ListChangesRequest>,
    ) -> Result<Response<pb::ListChangesResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let (account_id, size) = (account_id, changes_size(request.get_ref())).together()?;
        let request = request.into_inner();
        if request.only_position {
            let (next_after, epoch) = self.feed.end(account_id).await?;
            let answer = pb::ListChangesResponse { next_after, epoch, ..pb::ListChangesResponse::default() };
            return Ok(Response::new(answer));
        }

        let position = FeedPosition { epoch: &request.epoch, after: request.after };
        let page = self.feed.list(account_id, position, size).await?;

        Ok(Response::new(pb::ListChangesResponse {
            changes: page.changes.into_iter().map(convert::change).collect(),
            next_after: page.next_after,
            has_more: page.has_more,
            epoch: page.epoch,
        }))
    }

    async fn erase_contact(
        &self,
        request: Request<pb::EraseContactRequest>,
    ) -> Result<Response<pb::EraseContactResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let contact_id = parse::id("contact_id", &request.get_ref().contact_id);
        let (account_id, contact_id): (AccountId, ContactId) = (account_id, contact_id).together()?;
        call.aim(AuditTarget::contact(contact_id));

        let erased = self.erasure.erase(call.actor(), account_id, contact_id).await?;

        Ok(Response::new(pb::EraseContactResponse {
            contact_id: erased.contact_id.to_string(),
            record_count: i32::try_from(erased.records.len()).unwrap_or(i32::MAX),
            already_erased: !erased.is_new,
        }))
    }
}

/// How many changes are asked for, if the position is one.
fn changes_size(request: &pb::ListChangesRequest) -> Result<usize, Status> {
    let after = if request.after < 0 {
        Err(status::invalid("after", "must be 0, or `next_after` of an earlier answer"))
    } else {
        Ok(())
    };
    let size = match usize::try_from(request.page_size) {
        Ok(0) => Ok(CHANGES_DEFAULT),
        Ok(size) => Ok(size.min(CHANGES_MAX)),
        Err(_) => Err(status::invalid("page_size", "must not be negative; 0 means 200, and above 1000 means 1000")),
    };
    let epoch = if request.epoch.len() > EPOCH_BYTES_MAX {
        Err(status::invalid("epoch", "must be the `epoch` of an earlier answer, or empty"))
    } else {
        Ok(())
    };
    let ((), size, ()) = (after, size, epoch).together()?;
    Ok(size)
}

fn read_number(region: Region, raw: &str) -> Result<PhoneKey, Status> {
    let key = phone_key::read(raw, Some(region)).first().map(|number| number.key);
    key.ok_or_else(|| {
        status::invalid("phone_number", "is not a number that can be called; give it in E.164, such as +13108675309")
    })
}

/// Where a page goes on: behind this rank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Among those behind whom the policy ranks.
    is_behind: bool,
    rank: RankedContact,
}

impl Place {
    fn of(contact: &Contact, is_behind: bool) -> Self {
        let Contact { id: contact_id, is_placeholder, created_at, .. } = *contact;
        Self { is_behind, rank: RankedContact { is_placeholder, rank: Reverse(None), created_at, contact_id } }
    }

    /// The rank by age alone.
    fn by_age(self) -> ByAge {
        (self.rank.is_placeholder, self.rank.created_at, self.rank.contact_id)
    }

    fn parts(self) -> [String; 5] {
        let RankedContact { is_placeholder, rank: Reverse(rank), created_at, contact_id } = self.rank;
        [
            contact_id.to_string(),
            is_placeholder.to_string(),
            created_at.timestamp_micros().to_string(),
            rank.map(|rank| rank.to_string()).unwrap_or_default(),
            self.is_behind.to_string(),
        ]
    }

    /// What a client sent: also a time that Postgres cannot hold.
    fn parse(parts: &[String]) -> Option<Self> {
        const MICROS_MAX: i64 = 253_402_300_799_999_999; // the end of the year 9999
        let [id, is_placeholder, micros, rank, is_behind] = parts else { return None };
        let micros = micros.parse().ok().filter(|micros| (0..=MICROS_MAX).contains(micros))?;
        Some(Self {
            is_behind: is_behind.parse().ok()?,
            rank: RankedContact {
                is_placeholder: is_placeholder.parse().ok()?,
                rank: Reverse(if rank.is_empty() { None } else { Some(rank.parse().ok()?) }),
                created_at: DateTime::from_timestamp_micros(micros)?,
                contact_id: id.parse().ok()?,
            },
        })
    }
}

type ByAge = (bool, DateTime<Utc>, ContactId);

/// A page, and where the next begins, if there is one.
struct Listed {
    contacts: Vec<Contact>,
    next: Option<Place>,
}

impl ContactRpc {
    async fn page(
        &self,
        account_id: AccountId,
        key: Option<PhoneKey>,
        policy: MatchPolicy,
        after: Option<Place>,
        size: usize,
    ) -> Result<Listed, Status> {
        let limit = convert::limit(size);
        let mut contacts = match key {
            None => {
                store::contacts::list(&self.db, account_id, after.map(|place| place.rank.contact_id), limit).await?
            }
            Some(key) if policy == MatchPolicy::FirstCreated => {
                store::contacts::list_by_number(&self.db, account_id, key, after.map(Place::by_age), limit).await?
            }
            Some(key) => return self.ranked_page(account_id, key, policy, after, size).await,
        };
        let next = convert::cut_page(&mut contacts, size).map(|last| Place::of(last, false));
        Ok(Listed { contacts, next })
    }

    /// In the order of another policy than the first created: it ranks the first 200, as a match
    /// does; the others follow by age. Whoever ends between two pages is left out, whoever moves,
    /// also among the first 200, may be met twice or not at all; everyone else is met once.
    async fn ranked_page(
        &self,
        account_id: AccountId,
        key: PhoneKey,
        policy: MatchPolicy,
        after: Option<Place>,
        size: usize,
    ) -> Result<Listed, Status> {
        if let Some(after) = after.filter(|after| after.is_behind) {
            return self.page_behind(account_id, key, after.by_age(), size).await;
        }
        let ranked = store::ranked_contacts::rank_by_number(&self.db, account_id, key, policy).await?;
        let places = ranked.iter().map(|rank| Place { is_behind: false, rank: *rank });
        let mut page: Vec<Place> =
            places.filter(|&place| after.is_none_or(|after| place > after)).take(size + 1).collect();
        let has_more = page.len() > size;
        page.truncate(size);
        let ids: Vec<ContactId> = page.iter().map(|place| place.rank.contact_id).collect();
        let mut contacts = store::contacts::find_all(&self.db, account_id, &ids).await?;
        if has_more || ranked.len() < TOTAL_MAX {
            return Ok(Listed { contacts, next: page.last().copied().filter(|_| has_more) });
        }
        let Some(oldest) = ranked.iter().map(|rank| (rank.is_placeholder, rank.created_at, rank.contact_id)).max()
        else {
            return Ok(Listed { contacts, next: None });
        };
        let rest = self.page_behind(account_id, key, oldest, size - page.len()).await?;
        contacts.extend(rest.contacts);
        Ok(Listed { contacts, next: rest.next })
    }

    /// Those behind whom the policy ranks, by age.
    async fn page_behind(
        &self,
        account_id: AccountId,
        key: PhoneKey,
        behind: ByAge,
        size: usize,
    ) -> Result<Listed, Status> {
        let limit = convert::limit(size);
        let mut contacts = store::contacts::list_by_number(&self.db, account_id, key, Some(behind), limit).await?;
        let has_more = contacts.len() > size;
        contacts.truncate(size);
        let (is_placeholder, created_at, contact_id) = behind;
        let none = Place {
            is_behind: true,
            rank: RankedContact { is_placeholder, rank: Reverse(None), created_at, contact_id },
        };
        let next = contacts.last().map_or(none, |last| Place::of(last, true));
        Ok(Listed { contacts, next: has_more.then_some(next) })
    }
}
