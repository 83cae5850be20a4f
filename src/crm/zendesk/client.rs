//! The calls that a sync makes, and what Zendesk's refusals mean.
//!
//! The cursor-based incremental export is the one to use: the time-based one loops for ever when one second holds more than a page.
//! Its rules: `start_time` on the very first call only, then `cursor`; the end is `end_of_stream`, never an empty page; the last
//! minute is not promised; resuming is inclusive, so the last record can come again.

use chrono::TimeDelta;
use reqwest::{Client, RequestBuilder, Response, StatusCode, header::HeaderMap};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;

use super::{
    map,
    model::{Count, Me, UsersPage},
};
use crate::{
    crm::{CrmError, Page, Probe, http, http::Endpoint},
    domain::credentials::Credentials,
};

/// Users in a page: Zendesk's default and maximum.
const PER_PAGE: &str = "1000";
/// A page with more rows than this is not Zendesk's.
const ROWS_MAX: usize = 2_000;
/// Zendesk's have about 30 bytes.
const CURSOR_BYTES_MAX: usize = 4_096;
/// "Data of the most recent minute is not provided."
const FRESHNESS_LAG: TimeDelta = TimeDelta::seconds(60);

/// One organisation's Zendesk.
pub struct Zendesk {
    http: Client,
    base_url: String,
    credentials: Credentials,
}

impl Zendesk {
    /// The Zendesk of this subdomain, which has been checked to be one label.
    pub fn new(http: Client, endpoint: &Endpoint, subdomain: &str, credentials: Credentials) -> Self {
        let base_url = match endpoint {
            Endpoint::Vendor => format!("https://{subdomain}.zendesk.com"),
            Endpoint::Operator(url) => url.replace("{subdomain}", subdomain).trim_end_matches('/').to_owned(),
        };
        Self { http, base_url, credentials }
    }

    /// Whether the credentials open it and may read every user: the export is for administrators only.
    pub async fn probe(&self) -> Result<Probe, CrmError> {
        let (me, _) = self.get::<Me>("/api/v2/users/me", &[]).await?;
        if me.user.id.is_none_or(|id| id.is_null()) {
            return Err(CrmError::CredentialsRefused);
        }
        if me.user.role.as_deref() != Some("admin") {
            return Err(CrmError::PermissionMissing("the user of the token must be an administrator"));
        }
        Ok(Probe { estimated_contacts: self.count().await? })
    }

    /// About how many users there are; `None` if Zendesk does not say.
    pub async fn count(&self) -> Result<Option<i64>, CrmError> {
        match self.get::<Count>("/api/v2/users/count", &[]).await {
            Ok((count, _)) => Ok(Some(count.count.value.max(0))),
            Err(error @ (CrmError::CredentialsRefused | CrmError::RateLimited { .. } | CrmError::Unavailable(_))) => {
                Err(error)
            }
            Err(_) => Ok(None),
        }
    }

    /// The page at this position; `None`: the first page of everything.
    pub async fn fetch_page(&self, position: Option<&str>) -> Result<Page, CrmError> {
        let place = position.map_or(("start_time", "0"), |cursor| ("cursor", cursor));
        let query = [place, ("per_page", PER_PAGE), ("include", "identities")];
        let answer = self.get::<UsersPage>("/api/v2/incremental/users/cursor", &query).await;
        let (page, headers) = answer.map_err(|error| match error {
            // With a cursor the request has nothing else that could be wrong.
            CrmError::Refused(400 | 422) if position.is_some() => CrmError::PositionRefused,
            other => other,
        })?;
        if page.users.len() > ROWS_MAX {
            return Err(CrmError::Unreadable("a page has more than 2,000 users"));
        }
        let next = page.after_cursor.clone().filter(|cursor| !cursor.is_empty());
        if next
            .as_deref()
            .is_some_and(|cursor| cursor.len() > CURSOR_BYTES_MAX || !cursor.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(CrmError::Unreadable("its cursor is no cursor"));
        }
        let leads_on = next.as_deref().is_some_and(|next| Some(next) != position);
        if !page.end_of_stream && !leads_on {
            return Err(CrmError::Stuck);
        }
        let (records, rejected) = map::records(&page, &self.base_url);
        Ok(Page {
            records,
            rejected,
            next,
            is_last: page.end_of_stream,
            known_through: http::server_time(&headers).map(|time| time - FRESHNESS_LAG),
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<(T, HeaderMap), CrmError> {
        let request = self.http.get(format!("{}{path}", self.base_url)).query(query);
        let response = self.authorized(request).send().await.map_err(|error| http::meaning_of(&error))?;
        let headers = response.headers().clone();
        if let Some(error) = http::meaning_of_status(response.status(), &headers) {
            return Err(error);
        }
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(status, response).await);
        }
        let body = http::read_body(response).await?;
        let value = serde_json::from_slice(&body)
            .map_err(|_| CrmError::Unreadable("it is not the JSON that Zendesk documents"))?;
        Ok((value, headers))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            Credentials::ZendeskApiToken { email, token } => {
                request.basic_auth(format!("{}/token", email.expose_secret()), Some(token.expose_secret()))
            }
            Credentials::Bearer(token) => request.bearer_auth(token.expose_secret()),
        }
    }
}

/// 403 is a role or a scope, and Zendesk says which in words; 404 an unknown subdomain.
async fn refusal(status: StatusCode, response: Response) -> CrmError {
    match status {
        StatusCode::FORBIDDEN => match http::read_body(response).await {
            Ok(body) if String::from_utf8_lossy(&body).contains("scope") => {
                CrmError::PermissionMissing("the token needs the scope `read`")
            }
            Ok(_) => CrmError::PermissionMissing("the user of the token must be an administrator"),
            Err(error) => error,
        },
        StatusCode::NOT_FOUND => CrmError::OrganizationNotFound,
        other => CrmError::Refused(other.as_u16()),
    }
}
