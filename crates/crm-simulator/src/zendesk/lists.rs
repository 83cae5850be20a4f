//! Lists of users, identities and deleted users, page by page. Owns: Zendesk's two ways of paging:
//! by cursor (`page[size]`, `page[after]`) and by number (`page`, `per_page`), which ends at the
//! hundredth page.

use std::ops::Bound;

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Zendesk,
    export::identities_json,
    refusal::ZendeskRefusal,
    user::{DeletedUserJson, IdentityJson, Role, User, UserJson, wire_time},
};
use crate::{call::ApiCall, reply::VendorReply};

/// Rows of a page: the default and the most.
const PAGE_MAX: usize = 100;
/// The last page that can be had by its number.
const PAGE_NUMBER_MAX: usize = 100;
/// Ids in one show-many call.
const MANY_MAX: usize = 100;

const BAD_PAGE: ZendeskRefusal =
    ZendeskRefusal::BadRequest { code: "InvalidPaginationParameter", description: "page is not valid" };
const TOO_DEEP: ZendeskRefusal = ZendeskRefusal::BadRequest {
    code: "InvalidPaginationDepth",
    description: "Number of pages is limited to 100 with offset pagination. Use cursor pagination instead",
};

/// One page and what its envelope says of the others.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    envelope: Map<String, Value>,
}

impl<T: Copy> Page<T> {
    /// The body: the items under `key`, as `shape` writes them, and the envelope.
    pub(super) fn reply<J: Serialize>(&self, key: &str, shape: impl Fn(T) -> J) -> VendorReply {
        let mut body = self.envelope.clone();
        let items = self
            .items
            .iter()
            .map(|item| serde_json::to_value(shape(*item)).expect("our shapes have string keys"))
            .collect();
        body.insert(key.to_owned(), Value::Array(items));
        VendorReply::json(StatusCode::OK, &body)
    }
}

/// The page that `call` asks for. `items` gives what lies between two ids, in id order.
pub(super) fn paged<T, I>(
    call: &ApiCall,
    items: impl Fn(Bound<i64>, Bound<i64>) -> I,
) -> Result<Page<T>, ZendeskRefusal>
where
    I: DoubleEndedIterator<Item = (i64, T)>,
{
    let is_by_cursor = ["page[size]", "page[after]", "page[before]"].iter().any(|name| call.param(name).is_some());
    if is_by_cursor { by_cursor(call, items) } else { by_number(call, items) }
}

fn by_cursor<T, I>(call: &ApiCall, items: impl Fn(Bound<i64>, Bound<i64>) -> I) -> Result<Page<T>, ZendeskRefusal>
where
    I: DoubleEndedIterator<Item = (i64, T)>,
{
    let size = size_of(call, "page[size]")?;
    let place = |name| call.param(name).map(|cursor| decode_place(cursor).ok_or(BAD_PAGE)).transpose();
    let before = place("page[before]")?;
    let after = place("page[after]")?;
    let mut found: Vec<(i64, T)> = match before {
        Some(before) => items(Bound::Unbounded, Bound::Excluded(before)).rev().take(size + 1).collect(),
        None => items(after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded).take(size + 1).collect(),
    };
    let has_more = found.len() > size;
    found.truncate(size);
    if before.is_some() {
        found.reverse();
    }
    let edge = |edge: Option<&(i64, T)>| edge.map(|(id, _)| encode_place(*id));
    let (first, last) = (edge(found.first()), edge(found.last()));
    let link = |name, cursor: &Option<String>| {
        cursor.as_ref().map(|cursor| call.url_with(name, cursor, &["page[after]", "page[before]"]))
    };
    let next = if has_more || before.is_some() { link("page[after]", &last) } else { None };
    let previous = if after.is_some() || (before.is_some() && has_more) { link("page[before]", &first) } else { None };
    let mut envelope = Map::new();
    envelope.insert("meta".to_owned(), json!({"has_more": has_more, "after_cursor": last, "before_cursor": first}));
    envelope.insert("links".to_owned(), json!({"prev": previous, "next": next}));
    Ok(Page { items: found.into_iter().map(|(_, item)| item).collect(), envelope })
}

fn by_number<T, I>(call: &ApiCall, items: impl Fn(Bound<i64>, Bound<i64>) -> I) -> Result<Page<T>, ZendeskRefusal>
where
    I: DoubleEndedIterator<Item = (i64, T)>,
{
    let size = size_of(call, "per_page")?;
    let number = match call.param("page") {
        Some(page) => page.parse::<usize>().ok().filter(|page| *page > 0).ok_or(BAD_PAGE)?,
        None => 1,
    };
    if number > PAGE_NUMBER_MAX {
        return Err(TOO_DEEP);
    }
    let all = || items(Bound::Unbounded, Bound::Unbounded);
    let count = all().count();
    let found = all().skip((number - 1) * size).take(size).map(|(_, item)| item).collect();
    Ok(Page { items: found, envelope: numbered_envelope(call, number, size, count) })
}

/// `count`, `next_page` and `previous_page`.
pub(super) fn numbered_envelope(call: &ApiCall, number: usize, size: usize, count: usize) -> Map<String, Value> {
    let link = |number: usize| json!(call.url_with("page", &number.to_string(), &[]));
    let mut envelope = Map::new();
    envelope.insert("count".to_owned(), json!(count));
    envelope.insert("next_page".to_owned(), if number * size < count { link(number + 1) } else { Value::Null });
    envelope.insert("previous_page".to_owned(), if number > 1 { link(number - 1) } else { Value::Null });
    envelope
}

/// A page size between one and 100; a larger one counts as 100.
pub(super) fn size_of(call: &ApiCall, name: &str) -> Result<usize, ZendeskRefusal> {
    match call.param(name) {
        Some(size) => Ok(size.parse::<usize>().ok().filter(|size| *size > 0).ok_or(BAD_PAGE)?.min(PAGE_MAX)),
        None => Ok(PAGE_MAX),
    }
}

fn encode_place(id: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("id:{id}"))
}

fn decode_place(cursor: &str) -> Option<i64> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor.trim_end_matches('=')).ok()?).ok()?;
    text.strip_prefix("id:")?.parse().ok()
}

impl Zendesk {
    /// `GET /api/v2/users`: active users, by id.
    pub(super) fn list_users(&self, call: &ApiCall) -> Result<VendorReply, ZendeskRefusal> {
        let roles = roles_of(call);
        let external_id = call.param("external_id").map(str::to_lowercase);
        let is_wanted = |user: &User| {
            user.is_active
                && (roles.is_empty() || roles.contains(&user.role))
                && external_id
                    .as_ref()
                    .is_none_or(|wanted| user.external_id.as_ref().is_some_and(|id| id.to_lowercase() == *wanted))
        };
        let state = self.state();
        let range = |from, to| {
            state.users().range((from, to)).filter(|(_, user)| is_wanted(user)).map(|(id, user)| (*id, user))
        };
        Ok(paged(call, range)?.reply("users", |user| user_json(user, call)))
    }

    /// `GET /api/v2/users/count`.
    pub(super) fn count_users(&self, call: &ApiCall) -> VendorReply {
        let roles = roles_of(call);
        let state = self.state();
        let count = if roles.is_empty() {
            state.active_count()
        } else {
            state.users().values().filter(|user| user.is_active && roles.contains(&user.role)).count()
        };
        self.count_reply(count)
    }

    /// `GET /api/v2/users/show_many`: by id or external id, in the order asked for; what is not
    /// there is left out. With their identities, if those are asked for.
    pub(super) fn show_many(&self, call: &ApiCall) -> Result<VendorReply, ZendeskRefusal> {
        let state = self.state();
        let ids = call.list_param("ids");
        let external_ids = call.list_param("external_ids");
        if ids.len() + external_ids.len() > MANY_MAX {
            return Err(ZendeskRefusal::BadRequest { code: "TooManyIds", description: "at most 100 ids" });
        }
        let by_id = ids.iter().filter_map(|id| id.parse().ok());
        let by_external_id = external_ids.iter().filter_map(|id| state.external_id_owner(id));
        let found: Vec<_> =
            by_id.chain(by_external_id).filter_map(|id| state.find(id)).filter(|user| !user.is_purged).collect();
        let users: Vec<_> = found.iter().map(|user| user_json(user, call)).collect();
        let mut body = json!({"users": users, "count": users.len(), "next_page": null, "previous_page": null});
        if let Some(identities) = identities_json(&found, call).filter(|_| self.config.quirks.sideloads_of_many) {
            body["identities"] = serde_json::to_value(identities).expect("our shapes have string keys");
        }
        Ok(VendorReply::json(StatusCode::OK, &body))
    }

    /// `GET /api/v2/users/{id}/identities`.
    pub(super) fn list_identities(&self, call: &ApiCall, user_id: i64) -> Result<VendorReply, ZendeskRefusal> {
        let kinds = call.list_param("type");
        let state = self.state();
        let user = state.find(user_id).filter(|user| !user.is_purged).ok_or(ZendeskRefusal::NotFound)?;
        let range = |from: Bound<i64>, to: Bound<i64>| {
            let is_within = move |id: i64| std::ops::RangeBounds::contains(&(from, to), &id);
            let wanted = user.identities.iter().filter(|identity| kinds.is_empty() || kinds.contains(&identity.kind));
            wanted.map(|identity| (identity.id, identity)).filter(move |(id, _)| is_within(*id))
        };
        let json = |identity| IdentityJson { identity, user_id, base_url: &call.base_url };
        Ok(paged(call, range)?.reply("identities", json))
    }

    /// `GET /api/v2/deleted_users`: softly and permanently deleted ones.
    pub(super) fn list_deleted(&self, call: &ApiCall) -> Result<VendorReply, ZendeskRefusal> {
        let state = self.state();
        let range = |from, to| {
            state.users().range((from, to)).filter(|(_, user)| !user.is_active).map(|(id, user)| (*id, user))
        };
        Ok(paged(call, range)?.reply("deleted_users", |user| DeletedUserJson { user, base_url: &call.base_url }))
    }

    /// `GET /api/v2/deleted_users/count`.
    pub(super) fn count_deleted(&self) -> VendorReply {
        let state = self.state();
        self.count_reply(state.users().len() - state.active_count())
    }

    fn count_reply(&self, count: usize) -> VendorReply {
        let refreshed_at = wire_time(self.now().timestamp_micros());
        VendorReply::json(StatusCode::OK, &json!({"count": {"value": count, "refreshed_at": refreshed_at}}))
    }
}

fn roles_of(call: &ApiCall) -> Vec<Role> {
    call.list_param("role").into_iter().filter_map(Role::parse).collect()
}

pub(super) fn user_json<'a>(user: &'a User, call: &'a ApiCall) -> UserJson<'a> {
    UserJson { user, base_url: &call.base_url, is_search_result: false }
}
