//! One company's Pipedrive: where it is, how requests are signed, and how answers are read. What to
//! ask is said by `run` and `look_up`.

use std::sync::{Arc, atomic::AtomicBool};

use moka::sync::Cache;
use phone_key::PhoneKey;
use reqwest::{
    Client, Method,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{
    descriptor::DESCRIPTOR,
    header, limits,
    map::NO_PAGE,
    model::{AnyAnswer, PhoneField, SingleAnswer, TokenUser},
    refusal::HttpReply,
};
use crate::{
    crm::{
        ClientTarget, ConnectionProbe, CrmClient, CrmError, CrmFuture, FoundRecords, NumberMatches, PageEffort,
        PageSize, RecordPage, RecordSightings, StreamSettings,
        endpoint::ProviderEndpoint,
        header::AuthHeader,
        hook::{HookWish, KeptHook},
        http,
        json::{self, BodyText},
        quota::RequestQuota,
        vendor::{ClientParts, LostOrganization},
    },
    domain::{
        credentials::CrmAccess,
        options::Options,
        provider::Provider,
        record::{ObjectType, RecordKey},
    },
};

/// Names of organizations that are remembered for a run.
const NAMES_MAX: u64 = 50_000;

/// One company's Pipedrive.
pub(super) struct PipedriveClient {
    http: Client,
    pub(super) base_url: String,
    header: AuthHeader,
    /// The company's label.
    company: String,
    /// The company's number, once it is known.
    company_id: Option<String>,
    /// Where the token's user is asked for.
    me_path: &'static str,
    pub(super) is_copied: bool,
    pub(super) quota: RequestQuota,
    sees_everything: OnceCell<bool>,
    pub(super) organization_names: Cache<u64, String>,
    pub(super) organizations_are_hidden: AtomicBool,
    /// The company's own; asked for once.
    pub(super) phone_fields: OnceCell<Arc<[PhoneField]>>,
}

impl PipedriveClient {
    /// The Pipedrive of the target's company, whose label has been checked to be one.
    pub(super) fn new(parts: ClientParts<'_>) -> Result<Self, CrmError> {
        let ClientParts { http, endpoint, target, quota, .. } = parts;
        let company = target.organization.name.clone();
        Ok(Self {
            http,
            base_url: endpoint.api_base(&DESCRIPTOR.hosts, &company, target.access.api_url.as_deref())?,
            header: header::authorization(&target.access.token)?,
            company,
            company_id: target.access.company_id,
            me_path: "/api/v1/users/me",
            is_copied: target.options.of(ObjectType::Person).is_copied,
            quota,
            sees_everything: OnceCell::new(),
            organization_names: Cache::new(NAMES_MAX),
            organizations_are_hidden: AtomicBool::new(false),
            phone_fields: OnceCell::new(),
        })
    }

    /// Where every company is known by the token alone; for asking what its host is called now.
    /// Source: Pipedrive's API reference, version 1.
    pub(super) fn anywhere(lost: &LostOrganization<'_>) -> Result<Self, CrmError> {
        let &LostOrganization { http, endpoint, organization, access } = lost;
        let access = CrmAccess { api_url: None, ..access.clone() };
        let target = ClientTarget {
            is_trial: true,
            is_first_copy: false,
            is_beside: false,
            organization,
            options: Options::default(),
            access,
        };
        let quota = RequestQuota::new(Arc::default(), 100);
        let streams = &StreamSettings::default();
        let here = Self::new(ClientParts { http: http.clone(), endpoint, target, quota, bulk_above: 0, streams })?;
        let base_url = endpoint.api_base(&DESCRIPTOR.hosts, "api", None)?;
        // At the vendor's place for all, the path has no prefix.
        let me_path = if *endpoint == ProviderEndpoint::Vendor { "/v1/users/me" } else { here.me_path };
        Ok(Self { base_url, me_path, ..here })
    }

    /// Whether the token opens this company and shows persons. A user who is no administrator is
    /// taken: a full read tells what that costs.
    async fn check(&self) -> Result<ConnectionProbe, CrmError> {
        let me = self.me().await?;
        self.get::<AnyAnswer>("/api/v2/persons", &[("limit", "1")]).await?;
        Ok(ConnectionProbe { estimated_contacts: None, company_id: me.company_id(), text_fields: Vec::new() })
    }

    /// The token's user. The company must be the one that is linked: by its number, once that is
    /// known, whatever its name is now.
    pub(super) async fn me(&self) -> Result<TokenUser, CrmError> {
        let (me, _) = self.get::<SingleAnswer<TokenUser>>(self.me_path, &[]).await?;
        let me = me.data;
        let has_its_name = me.company_domain.eq_ignore_ascii_case(&self.company);
        // A number that one side alone knows proves nothing.
        let has_its_number = self.company_id.as_ref().zip(me.company_id()).map(|(known, id)| *known == id);
        let opened = || DESCRIPTOR.parse_organization(&me.company_domain).ok().map(|opened| opened.name);
        match (has_its_number, has_its_name) {
            (None | Some(true), true) => Ok(me),
            (Some(true), false) => Err(opened().map_or(CrmError::OtherOrganization(None), CrmError::Renamed)),
            (None, false) | (Some(false), _) => Err(CrmError::OtherOrganization(opened())),
        }
    }

    /// The user of the token is an administrator. To anybody else a person who is hidden looks like
    /// one who is deleted.
    pub(super) async fn sees_everything(&self) -> Result<bool, CrmError> {
        let is_admin = async || match self.me().await {
            Ok(me) => Ok(me.is_admin),
            Err(CrmError::PermissionMissing(_)) => Ok(false),
            Err(error) => Err(error),
        };
        self.sees_everything.get_or_try_init(is_admin).await.copied()
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<(T, HeaderMap), CrmError> {
        let (body, headers) = self.get_text(path, query).await?;
        Ok((json::parse(&body.text).ok_or(NO_PAGE)?, headers))
    }

    /// The body of a success.
    pub(super) async fn get_text(&self, path: &str, query: &[(&str, &str)]) -> Result<(BodyText, HeaderMap), CrmError> {
        let reply = self.send(path, query).await?;
        if let Some(error) = reply.refusal() {
            self.quota.refused(&error);
            return Err(error);
        }
        let body = json::off_thread(move || BodyText::json(reply.body)).await?;
        Ok((body, reply.headers))
    }

    /// Asks, and says nothing yet of what the answer means.
    pub(super) async fn send(&self, path: &str, query: &[(&str, &str)]) -> Result<HttpReply, CrmError> {
        self.request(Method::GET, path, query, None).await
    }

    /// The same of any method, with a body as JSON.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<HttpReply, CrmError> {
        // The short limit counts requests; what they cost of the day's budget is learned from the
        // answers.
        self.quota.take().await?;
        let mut request = self.http.request(method, format!("{}{path}", self.base_url)).query(query);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = http::counted(Provider::Pipedrive, self.header.put_on(request).send()).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if let Some(told) = limits::burst(&headers) {
            self.quota.learn_window(&told);
        }
        if let Some(daily) = limits::daily(&headers) {
            self.quota.learn_daily(daily);
        }
        let body =
            if status.is_success() { http::read_body(response).await? } else { http::read_refusal(response).await };
        Ok(HttpReply { status, headers, body })
    }
}

impl CrmClient for PipedriveClient {
    fn identify(&self) -> CrmFuture<'_, ()> {
        Box::pin(async { self.me().await.map(drop) })
    }

    fn probe(&self) -> CrmFuture<'_, ConnectionProbe> {
        Box::pin(self.check())
    }

    /// Version 2 counts nothing.
    fn count(&self) -> CrmFuture<'_, Option<i64>> {
        Box::pin(async { Ok(None) })
    }

    fn fetch_page<'a>(&'a self, position: Option<&'a str>, effort: PageEffort) -> CrmFuture<'a, RecordPage> {
        Box::pin(self.next_page(position, effort))
    }

    fn has_optional_parts(&self) -> bool {
        true
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

    fn fetch_newest<'a>(&'a self, checkpoint: &'a str) -> CrmFuture<'a, FoundRecords> {
        Box::pin(self.newest(checkpoint))
    }

    fn find_by_number(&self, key: PhoneKey) -> CrmFuture<'_, NumberMatches> {
        Box::pin(async move { Ok(NumberMatches { named: self.search(key).await?, ..NumberMatches::default() }) })
    }
}
