//! The calls that a sync makes.
//!
//! The cursor-based incremental export is the one to use: the time-based one loops for ever when
//! one second holds more than a page. Its rules: `start_time` on the very first call only, then
//! `cursor`; the end is `end_of_stream`, never an empty page; the last minute is not promised;
//! resuming is inclusive, so the last record can come again.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use phone_key::PhoneKey;
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    descriptor::DESCRIPTOR,
    header,
    limits::{EXPORT_WINDOW, account_limit, export_limit},
    map::{UserMapping, UsersPage},
    model::{CurrentUser, UserCount},
    refusal,
};
use crate::{
    crm::{
        ConnectionProbe, CrmClient, CrmError, CrmFuture, GoneRecord, NumberMatches, PageEffort, PageSize, RecordPage,
        RecordSightings, RetryAdvice,
        header::AuthHeader,
        hook::{HookWish, KeptHook},
        http,
        json::{self, BodyText, JsonCell, JsonFields},
        quota::RequestQuota,
        vendor::ClientParts,
    },
    domain::{
        provider::Provider,
        record::{ObjectType, Record, RecordKey},
        rejected::{PageRejects, RejectReason, ValueLosses},
    },
};

/// Users in a page: Zendesk's default and maximum.
const PER_PAGE: usize = 1_000;
/// Zendesk's have about 30 bytes.
const CURSOR_BYTES_MAX: usize = 4_096;
/// "Data of the most recent minute is not provided."
const FRESHNESS_LAG: TimeDelta = TimeDelta::seconds(60);
/// Identities of one user in a page: Zendesk's maximum ..
const IDENTITIES_PER_PAGE: &str = "100";
/// .. and pages of them: whoever has more addresses than that is no person.
const IDENTITY_PAGES_MAX: usize = 20;

/// One organisation's Zendesk.
pub(super) struct ZendeskClient {
    http: Client,
    header: AuthHeader,
    pub(super) mapping: UserMapping,
    /// Of all requests but exports.
    quota: RequestQuota,
    /// Nothing is learned of the account's limit: a trial is three requests, which wait for nobody.
    is_trial: bool,
    export_quota: RequestQuota,
    /// A page has come without the identities that it was asked for.
    lacks_identities: AtomicBool,
    /// It was asked whether the fields with numbers are there.
    pub(super) has_checked_fields: AtomicBool,
}

impl ZendeskClient {
    /// The Zendesk of the target's subdomain, which has been checked to be one label. It never
    /// names another host.
    pub(super) fn new(parts: ClientParts<'_>) -> Result<Self, CrmError> {
        let ClientParts { http, endpoint, target, quota, .. } = parts;
        let header = header::authorization(&target.access.token)?;
        let base_url = endpoint.api_base(&DESCRIPTOR.hosts, &target.organization.name, None)?;
        let phone_fields = target.options.phone_fields.into();
        let mapping = UserMapping { base_url, roles: target.options.user_roles, phone_fields };
        let export_quota = quota.of_exports();
        let is_trial = target.is_trial;
        let (lacks_identities, has_checked_fields) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { http, header, mapping, quota, is_trial, export_quota, lacks_identities, has_checked_fields })
    }

    /// Whether it may read every user: the export is for administrators only.
    async fn check(&self) -> Result<ConnectionProbe, CrmError> {
        self.see_administrator().await?;
        let text_fields = self.check_fields().await?;
        Ok(ConnectionProbe { estimated_contacts: self.count_users().await?, company_id: None, text_fields })
    }

    /// Somebody answers here who knows the user of the token, and lets it see everybody.
    async fn see_administrator(&self) -> Result<(), CrmError> {
        let (me, _) = self.get::<CurrentUser>("/api/v2/users/me", &[]).await?;
        if me.user.id.is_none_or(|id| id.is_null()) {
            return Err(CrmError::CredentialsRefused);
        }
        if me.user.role.as_deref() != Some("admin") {
            return Err(CrmError::PermissionMissing("the user of the token must be an administrator"));
        }
        Ok(())
    }

    async fn count_users(&self) -> Result<Option<i64>, CrmError> {
        match self.get::<UserCount>("/api/v2/users/count", &[]).await {
            Ok((count, _)) => Ok(Some(count.count.value.max(0))),
            // Asked again, or of use to whoever tries the credentials.
            Err(error) if error.retry() != RetryAdvice::Never || matches!(error, CrmError::CredentialsRefused) => {
                Err(error)
            }
            Err(_) => Ok(None),
        }
    }

    async fn export(&self, position: Option<&str>) -> Result<RecordPage, CrmError> {
        let per_page = self.quota.page_size().of(PER_PAGE);
        let place = position.map_or(("start_time", "0"), |cursor| ("cursor", cursor));
        let size = per_page.to_string();
        let query = [place, ("per_page", size.as_str()), ("include", "identities")];
        let response = self.send(&self.export_quota, "/api/v2/incremental/users/cursor", &query).await?;
        let headers = response.headers().clone();
        let body = accept(response, http::BODY_BYTES_MAX).await.map_err(|error| match error {
            // With a cursor the request has nothing else that could be wrong.
            CrmError::Refused(400 | 422) if position.is_some() => CrmError::PositionRefused,
            CrmError::RateLimited { retry_after: Some(wait) } => {
                self.export_quota.exhausted(wait);
                CrmError::RateLimited { retry_after: Some(wait) }
            }
            other => other,
        })?;
        if let Some(told) = export_limit(&headers) {
            self.export_quota.learn_window(&told);
        }
        let page = self.read_page(body).await?;
        let is_last = page.end_of_stream.ok_or(CrmError::Unreadable("it does not say whether it is the end"))?;
        let next = page.after_cursor.clone().filter(|cursor| !cursor.is_empty());
        if next
            .as_deref()
            .is_some_and(|cursor| cursor.len() > CURSOR_BYTES_MAX || !cursor.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(CrmError::Unreadable("its cursor is no cursor"));
        }
        let leads_on = next.as_deref().is_some_and(|next| Some(next) != position);
        if !is_last && !leads_on {
            return Err(CrmError::Stuck);
        }
        let rejects = self.check_identities(&page.records, page.rejects, page.has_identities)?;
        Ok(RecordPage {
            records: page.records,
            rejects,
            next,
            is_last,
            notices: self.missing_fields().await,
            known_through: http::server_time(&headers).map(|time| time - FRESHNESS_LAG),
            records_per_minute: self
                .export_quota
                .most_in(EXPORT_WINDOW)
                .map(|pages| i64::from(pages).saturating_mul(i64::try_from(per_page).unwrap_or(0))),
            ..RecordPage::default()
        })
    }

    /// Reads it off the threads that answer calls.
    pub(super) async fn read_page(&self, body: Vec<u8>) -> Result<UsersPage, CrmError> {
        let mapping = self.mapping.clone();
        json::off_thread(move || mapping.page(&BodyText::json(body)?, &[])).await
    }

    /// A page without the identities that it was asked for is asked for once more. If they stay
    /// away, its users are copied with the numbers that they have themselves, and it is told of
    /// each that others may be missing.
    fn check_identities(
        &self,
        records: &[Record],
        mut rejects: PageRejects,
        has_identities: bool,
    ) -> Result<PageRejects, CrmError> {
        let live = || records.iter().filter(|record| !record.is_gone);
        if has_identities || live().next().is_none() {
            return Ok(rejects);
        }
        if !self.lacks_identities.swap(true, Ordering::Relaxed) {
            return Err(CrmError::Unreadable("it lacks the identities that were asked for"));
        }
        let mut losses = ValueLosses::default();
        losses.add(RejectReason::NumbersMissing, "identities", true);
        for record in live() {
            rejects.lose(ObjectType::User, Some(record.key.record_id.clone()), &losses, "");
        }
        Ok(rejects)
    }

    /// Users by their ids with all their identities, as many as Zendesk shows, and when it did.
    async fn show_many(&self, ids: &[&str]) -> Result<(UsersPage, DateTime<Utc>), CrmError> {
        let ids = ids.join(",");
        let query = [("ids", ids.as_str()), ("include", "identities")];
        let (body, headers) = self.ask("/api/v2/users/show_many", &query, http::SMALL_BODY_BYTES_MAX).await?;
        let at = http::answered_at(&headers)?;
        Ok((self.with_identities(body, UserMapping::page).await?, at))
    }

    /// One user with all its identities, and when Zendesk answered; `None`: it has no such user.
    async fn show_alone(&self, key: &RecordKey) -> Result<(Option<UsersPage>, DateTime<Utc>), CrmError> {
        let response = self.answer(&format!("/api/v2/users/{}", key.record_id), &[]).await?;
        let headers = response.headers().clone();
        let user = match accept(response, http::SMALL_BODY_BYTES_MAX).await {
            Err(CrmError::RecordNotFound) => None,
            body => Some(self.with_identities(body?, UserMapping::one).await?),
        };
        Ok((user, http::answered_at(&headers)?))
    }

    /// That identities come with users who are asked for by id is what Zendesk's people say; its
    /// reference says it of lists and exports. Where they are not in the answer, or none of a user
    /// who has an address, that user is asked for its own.
    async fn with_identities(
        &self,
        body: Vec<u8>,
        read: fn(&UserMapping, &BodyText, &[BodyText]) -> Result<UsersPage, CrmError>,
    ) -> Result<UsersPage, CrmError> {
        let mapping = self.mapping.clone();
        let reading = move || {
            let body = BodyText::json(body)?;
            Ok((read(&mapping, &body, &[])?, body))
        };
        let (page, body) = json::off_thread(reading).await?;
        if page.without_identities.is_empty() {
            return Ok(page);
        }
        let mut identities = Vec::new();
        for id in page.without_identities {
            identities.extend(self.identities(id).await?);
        }
        let mapping = self.mapping.clone();
        json::off_thread(move || read(&mapping, &body, &identities)).await
    }

    /// All of them, of every type, as the export has them; page by page.
    async fn identities(&self, user_id: u64) -> Result<Vec<BodyText>, CrmError> {
        let path = format!("/api/v2/users/{user_id}/identities");
        let (mut pages, mut after) = (Vec::new(), None::<String>);
        for _ in 0..IDENTITY_PAGES_MAX {
            let mut query = vec![("page[size]", IDENTITIES_PER_PAGE)];
            query.extend(after.as_deref().map(|after| ("page[after]", after)));
            let page = match self.ask(&path, &query, http::SMALL_BODY_BYTES_MAX).await {
                Ok((body, _)) => BodyText::json(body)?,
                // Deleted since it was shown; that comes with the export.
                Err(CrmError::RecordNotFound) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let next = page_after(&page);
            pages.push(page);
            if next.is_none() || next == after {
                break;
            }
            after = next;
        }
        Ok(pages)
    }

    /// What several of one request left out may be deleted for good: asked for alone, Zendesk says
    /// so. A host that has begun to answer like that to everything is no Zendesk any more:
    /// afterwards it must still know the administrator.
    async fn sightings(&self, keys: &[RecordKey]) -> Result<RecordSightings, CrmError> {
        let ids: Vec<&str> = keys.iter().map(|key| key.record_id.as_str()).collect();
        let (UsersPage { records, rejects, .. }, at) = self.show_many(&ids).await?;
        let mut shown: HashSet<RecordKey> = rejects.keys().collect();
        let mut sightings = RecordSightings { rejects, ..RecordSightings::default() };
        for record in records {
            shown.insert(record.key.clone());
            if keys.contains(&record.key) {
                sightings.see(record, at);
            }
        }
        for key in keys.iter().filter(|key| !shown.contains(key)) {
            match self.show_alone(key).await? {
                (None, at) => sightings.miss(key.clone(), at),
                (Some(UsersPage { records, rejects, .. }), at) => {
                    for record in records.into_iter().filter(|record| record.key == *key) {
                        sightings.see(record, at);
                    }
                    sightings.rejects.absorb(rejects);
                }
            }
        }
        if !sightings.gone.is_empty() {
            self.see_administrator().await?;
        }
        Ok(sightings)
    }

    /// A merge gives the loser's e-mail addresses to the winner, and the export does not name it:
    /// whoever has them now is read again.
    async fn merge_winners(&self, gone: &[GoneRecord]) -> Result<RecordSightings, CrmError> {
        let mut ids: Vec<String> = Vec::new();
        for gone in gone {
            for email in &gone.emails {
                let term = format!("email:\"{}\"", email.replace(['"', '\\'], ""));
                let (found, _) =
                    self.ask("/api/v2/users/search", &[("query", &term)], http::SMALL_BODY_BYTES_MAX).await?;
                let records = self.read_page(found).await?.records.into_iter();
                ids.extend(records.filter(|record| record.key != gone.key).map(|record| record.key.record_id));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let mut winners = RecordSightings::default();
        for some in ids.chunks(100) {
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            let (UsersPage { records, rejects, .. }, at) = self.show_many(&some).await?;
            for record in records {
                winners.see(record, at);
            }
            winners.rejects.absorb(rejects);
        }
        Ok(winners)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<(T, HeaderMap), CrmError> {
        let (body, headers) = self.ask(path, query, http::SMALL_BODY_BYTES_MAX).await?;
        let body = BodyText::json(body)?;
        let value = json::parse(&body.text).ok_or(CrmError::Unreadable("it is not the JSON that Zendesk documents"))?;
        Ok((value, headers))
    }

    /// Asks, and takes a body of at most so many bytes.
    pub(super) async fn ask(
        &self,
        path: &str,
        query: &[(&str, &str)],
        bytes_max: usize,
    ) -> Result<(Vec<u8>, HeaderMap), CrmError> {
        let response = self.answer(path, query).await?;
        let headers = response.headers().clone();
        let body = accept(response, bytes_max).await;
        if let Err(CrmError::RateLimited { retry_after: Some(wait) }) = &body {
            self.quota.exhausted(*wait);
        }
        Ok((body?, headers))
    }

    /// Whatever the answer is; it tells of the account's limit.
    async fn answer(&self, path: &str, query: &[(&str, &str)]) -> Result<Response, CrmError> {
        let response = self.send(&self.quota, path, query).await?;
        self.learn_limit(response.headers());
        Ok(response)
    }

    fn learn_limit(&self, headers: &HeaderMap) {
        if let Some(told) = account_limit(headers).filter(|_| !self.is_trial) {
            self.quota.learn_window(&told);
        }
    }

    async fn send(&self, quota: &RequestQuota, path: &str, query: &[(&str, &str)]) -> Result<Response, CrmError> {
        quota.take().await?;
        let request = self.http.get(format!("{}{path}", self.mapping.base_url)).query(query);
        http::counted(Provider::Zendesk, self.header.put_on(request).send()).await
    }

    /// An answer with whatever status, small; it tells of the account's limit.
    pub(super) async fn raw(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<RawReply, CrmError> {
        self.quota.take().await?;
        let mut request = self.http.request(method, format!("{}{path}", self.mapping.base_url)).query(query);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = http::counted(Provider::Zendesk, self.header.put_on(request).send()).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        self.learn_limit(&headers);
        if status.is_success() {
            let body = http::read_body_up_to(response, http::SMALL_BODY_BYTES_MAX).await?;
            return Ok(RawReply { status, headers, body });
        }
        let reply = RawReply { status, headers, body: http::read_refusal(response).await };
        if let CrmError::RateLimited { retry_after: Some(wait) } = reply.meaning() {
            self.quota.exhausted(wait);
        }
        Ok(reply)
    }
}

/// A success's body of at most so many bytes.
async fn accept(response: Response, bytes_max: usize) -> Result<Vec<u8>, CrmError> {
    let (status, headers) = (response.status(), response.headers().clone());
    if status.is_success() {
        return http::read_body_up_to(response, bytes_max).await;
    }
    Err(refusal::meaning(status, &headers, &http::read_refusal(response).await))
}

/// An answer with whatever status.
pub(super) struct RawReply {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl RawReply {
    /// What it means, if it is no success.
    pub(super) fn meaning(&self) -> CrmError {
        refusal::meaning(self.status, &self.headers, &self.body)
    }

    /// What it says, in lower case; nothing of a page.
    pub(super) fn words(&self) -> String {
        let json = serde_json::from_slice::<Value>(&self.body).unwrap_or_default();
        json.to_string().to_ascii_lowercase()
    }
}

impl CrmClient for ZendeskClient {
    fn probe(&self) -> CrmFuture<'_, ConnectionProbe> {
        Box::pin(self.check())
    }

    fn count(&self) -> CrmFuture<'_, Option<i64>> {
        Box::pin(self.count_users())
    }

    /// A page of the export has no optional parts.
    fn fetch_page<'a>(&'a self, position: Option<&'a str>, _: PageEffort) -> CrmFuture<'a, RecordPage> {
        Box::pin(self.export(position))
    }

    fn page_size(&self) -> &PageSize {
        self.quota.page_size()
    }

    fn keep_hook<'a>(&'a self, wish: &'a HookWish) -> CrmFuture<'a, KeptHook> {
        Box::pin(self.keep(wish))
    }

    fn remove_hook<'a>(&'a self, name: &'a str, url: Option<&'a str>) -> CrmFuture<'a, ()> {
        Box::pin(self.remove(name, url))
    }

    fn look_up<'a>(&'a self, keys: &'a [RecordKey]) -> CrmFuture<'a, RecordSightings> {
        Box::pin(self.sightings(keys))
    }

    fn find_by_number(&self, key: PhoneKey) -> CrmFuture<'_, NumberMatches> {
        Box::pin(self.search(key))
    }

    fn find_merge_winners<'a>(&'a self, gone: &'a [GoneRecord]) -> CrmFuture<'a, RecordSightings> {
        Box::pin(self.merge_winners(gone))
    }
}

/// Where a list by cursor goes on; `None`: it does not.
pub(super) fn page_after(body: &BodyText) -> Option<String> {
    let page = JsonFields::of(body.value()?, &["meta"])?;
    let JsonCell::Object(meta) = page.cell("meta") else { return None };
    let meta = JsonFields::of(meta, &["has_more", "after_cursor"])?;
    let has_more = meta.cell("has_more").flag() == Ok(Some(true));
    meta.cell("after_cursor").text().ok().flatten().filter(|_| has_more)
}
