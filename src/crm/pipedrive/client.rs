//! One company's Pipedrive: where it is, how requests are signed, and how answers are read. What to ask is said by `pass` and
//! `look_up`.

use std::sync::atomic::AtomicBool;

use moka::sync::Cache;
use reqwest::{
    Client, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::{
    limits,
    map::NO_PAGE,
    model::{Anything, Me, One},
    organizations::NAMES_MAX,
    refusal::Reply,
};
use crate::{
    crm::{
        Answer, CrmClient, CrmError, Effort, Page, PageSize, Probe, RecordSightings, Target,
        http::{self, Endpoint},
        json::{self, Text},
        quota::Quota,
    },
    domain::{
        credentials::{Access, AccessToken},
        host,
        integration::{Organization, Provider},
        options::Options,
        record::{ObjectType, RecordKey},
    },
};

/// One company's Pipedrive.
pub(in crate::crm) struct Pipedrive {
    http: Client,
    pub(super) base_url: String,
    /// The header that signs requests.
    signature: (HeaderName, HeaderValue),
    /// The company's label.
    company: String,
    /// The company's number, once it is known.
    company_id: Option<String>,
    /// Where the token's user is asked for.
    me_path: &'static str,
    pub(super) is_copied: bool,
    pub(super) quota: Quota,
    sees_everything: OnceCell<bool>,
    pub(super) organization_names: Cache<u64, String>,
    pub(super) organizations_are_hidden: AtomicBool,
}

impl Pipedrive {
    /// The Pipedrive of the target's company, whose label has been checked to be one.
    pub(in crate::crm) fn new(
        http: Client,
        endpoint: &Endpoint,
        target: &Target<'_>,
        quota: Quota,
    ) -> Result<Self, CrmError> {
        let company = target.organization.name.clone();
        Ok(Self {
            http,
            base_url: base_url(endpoint, &company, target.access.api_url.as_deref())?,
            signature: signature(&target.access.token)?,
            company,
            company_id: target.access.company_id.clone(),
            me_path: "/api/v1/users/me",
            is_copied: target.options.of(ObjectType::Person).is_copied,
            quota,
            sees_everything: OnceCell::new(),
            organization_names: Cache::new(NAMES_MAX),
            organizations_are_hidden: AtomicBool::new(false),
        })
    }

    /// Where every company is known by the token alone; for asking what its host is called now. Source: Pipedrive's API reference, version 1.
    pub(in crate::crm) fn anywhere(
        http: Client,
        endpoint: &Endpoint,
        organization: &Organization,
        access: &Access,
    ) -> Result<Self, CrmError> {
        let access = Access { api_url: None, ..access.clone() };
        let target = Target { is_trial: true, is_first_copy: false, organization, options: Options::default(), access };
        let here = Self::new(http, endpoint, &target, Quota::new(std::sync::Arc::default(), 100))?;
        Ok(match endpoint {
            Endpoint::Vendor => {
                Self { base_url: "https://api.pipedrive.com".to_owned(), me_path: "/v1/users/me", ..here }
            }
            Endpoint::Operator(url) => {
                Self { base_url: url.replace("{subdomain}", "api").trim_end_matches('/').to_owned(), ..here }
            }
        })
    }

    /// Whether the token opens this company and shows persons. A user who is no administrator is taken: a full read tells what that
    /// costs.
    async fn check(&self) -> Result<Probe, CrmError> {
        let me = self.me().await?;
        self.get::<Anything>("/api/v2/persons", &[("limit", "1")]).await?;
        Ok(Probe { estimated_contacts: None, company_id: me.company_id() })
    }

    /// The token's user. The company must be the one that is linked: by its number, once that is known, whatever its name is now.
    pub(super) async fn me(&self) -> Result<Me, CrmError> {
        let (me, _) = self.get::<One<Me>>(self.me_path, &[]).await?;
        let me = me.data;
        let has_its_name = me.company_domain.eq_ignore_ascii_case(&self.company);
        // A number that one side alone knows proves nothing.
        let has_its_number = self.company_id.as_ref().zip(me.company_id()).map(|(known, id)| *known == id);
        let opened = || Organization::parse(Provider::Pipedrive, &me.company_domain).ok().map(|opened| opened.name);
        match (has_its_number, has_its_name) {
            (None | Some(true), true) => Ok(me),
            (Some(true), false) => Err(opened().map_or(CrmError::OtherOrganization(None), CrmError::Renamed)),
            (None, false) | (Some(false), _) => Err(CrmError::OtherOrganization(opened())),
        }
    }

    /// The user of the token is an administrator. To anybody else a person who is hidden looks like one who is deleted.
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
    pub(super) async fn get_text(&self, path: &str, query: &[(&str, &str)]) -> Result<(Text, HeaderMap), CrmError> {
        let reply = self.send(path, query).await?;
        if let Some(error) = reply.refusal() {
            return Err(error);
        }
        let body = json::off_thread(move || Text::json(reply.body)).await?;
        Ok((body, reply.headers))
    }

    /// Asks, and says nothing yet of what the answer means.
    pub(super) async fn send(&self, path: &str, query: &[(&str, &str)]) -> Result<Reply, CrmError> {
        // The short limit counts requests; what they cost of the day's budget is learned from the answers.
        self.quota.take().await?;
        let (name, value) = &self.signature;
        let request = self.http.get(format!("{}{path}", self.base_url)).query(query).header(name, value);
        let response = request.send().await.map_err(|error| http::meaning_of(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if let Some(told) = limits::burst(&headers) {
            self.quota.learn_window(&told);
        }
        if let Some(daily) = limits::daily(&headers) {
            self.quota.learn_daily(daily);
        }
        let body =
            if status.is_success() { http::read_body(response).await? } else { http::read_refusal(response).await };
        Ok(Reply { status, headers, body })
    }
}

impl CrmClient for Pipedrive {
    fn identify(&self) -> Answer<'_, ()> {
        Box::pin(async { self.me().await.map(drop) })
    }

    fn probe(&self) -> Answer<'_, Probe> {
        Box::pin(self.check())
    }

    /// Version 2 counts nothing.
    fn count(&self) -> Answer<'_, Option<i64>> {
        Box::pin(async { Ok(None) })
    }

    fn fetch_page<'a>(&'a self, position: Option<&'a str>, effort: Effort) -> Answer<'a, Page> {
        Box::pin(self.next_page(position, effort))
    }

    fn has_optional_parts(&self) -> bool {
        true
    }

    fn page_size(&self) -> &PageSize {
        self.quota.page_size()
    }

    fn look_up<'a>(&'a self, keys: &'a [RecordKey]) -> Answer<'a, RecordSightings> {
        Box::pin(self.sightings(keys))
    }
}

/// Where the API is. The vendor names it with an OAuth token; it must then be the vendor's, or lie on the operator's host.
fn base_url(endpoint: &Endpoint, company: &str, api_url: Option<&str>) -> Result<String, CrmError> {
    match (endpoint, api_url) {
        (Endpoint::Vendor, None) => Ok(format!("https://{company}.pipedrive.com")),
        (Endpoint::Vendor, Some(url)) => host::api_origin(Provider::Pipedrive, url)
            .ok_or(CrmError::HostUnknown(host::api_hosts(Provider::Pipedrive))),
        (Endpoint::Operator(base), named) => {
            let base = base.replace("{subdomain}", company).trim_end_matches('/').to_owned();
            let host = Url::parse(&base).ok().and_then(|url| url.host_str().map(str::to_owned));
            // A simulator or proxy may serve companies on ports of their own.
            let here = named.and_then(|url| Url::parse(url).ok()).filter(|url| url.host_str() == host.as_deref());
            Ok(here.map_or(base, |url| url.origin().ascii_serialization()))
        }
    }
}

fn signature(token: &AccessToken) -> Result<(HeaderName, HeaderValue), CrmError> {
    let (name, value) = match token {
        AccessToken::PipedriveApiToken(token) => {
            (HeaderName::from_static("x-api-token"), HeaderValue::from_str(token.expose_secret()))
        }
        AccessToken::Bearer(token) => {
            (AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())))
        }
        AccessToken::ZendeskApiToken { .. } => return Err(CrmError::CredentialsRefused),
    };
    // A token with a line break in it is nobody's.
    let mut value = value.map_err(|_| CrmError::CredentialsRefused)?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(url: &str) -> Endpoint {
        Endpoint::Operator(url.to_owned())
    }

    /// The vendor's host is made of the label, or named by the vendor.
    #[test]
    fn host_comes_from_label_or_vendors_answer() {
        for (api_url, base) in [
            (None, "https://acme.pipedrive.com"),
            (Some("https://acme.pipedrive.com"), "https://acme.pipedrive.com"),
            (Some("https://acme-2.pipedrive.com/"), "https://acme-2.pipedrive.com"),
        ] {
            assert_eq!(base_url(&Endpoint::Vendor, "acme", api_url).unwrap(), base);
        }
    }

    /// No token is sent to a host that is not the vendor's.
    #[test]
    fn no_token_goes_to_foreign_host() {
        for api_url in [
            "http://acme.pipedrive.com",
            "https://pipedrive.com.evil.example",
            "https://evilpipedrive.com",
            "https://acme.pipedrive.com@evil.example",
            "https://acme.pipedrive.com:8443",
            "https://127.0.0.1",
            "acme.pipedrive.com",
            "",
        ] {
            let refused = base_url(&Endpoint::Vendor, "acme", Some(api_url));

            assert!(matches!(refused, Err(CrmError::HostUnknown(_))), "{api_url}");
        }
    }

    #[test]
    fn operators_host_wins_and_its_ports_may_differ() {
        for (base, api_url, expected) in [
            ("http://127.0.0.1:8080/", None, "http://127.0.0.1:8080"),
            ("http://{subdomain}.sim:8080", None, "http://acme.sim:8080"),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:9090"), "http://127.0.0.1:9090"),
            ("http://127.0.0.1:8080", Some("https://acme.pipedrive.com"), "http://127.0.0.1:8080"),
        ] {
            assert_eq!(base_url(&operator(base), "acme", api_url).unwrap(), expected);
        }
    }

    #[test]
    fn signature_is_the_tokens_own_and_never_printed() {
        let (name, value) = signature(&AccessToken::PipedriveApiToken("tok".into())).unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-api-token", "tok"));
        assert!(!format!("{value:?}").contains("tok"));

        let (name, value) = signature(&AccessToken::Bearer("tok".into())).unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer tok"));

        assert!(signature(&AccessToken::PipedriveApiToken("to\nk".into())).is_err());
    }
}
