//! One request and its answer: the token, the quota, the refusals.

use chrono::{DateTime, Utc};
use reqwest::{
    Client, RequestBuilder,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde::de::DeserializeOwned;

use super::{
    map::{self, ReadRows, RowMapping},
    model::{NO_JSON, QUERY, TokenIdentity},
    refusal::{self, RequestFailure},
};
use crate::crm::{
    CrmError,
    header::AuthHeader,
    http,
    json::{self, BodyText, JsonFields},
    quota::{DailyReport, RequestQuota},
};
use crate::domain::provider::Provider;

/// Summer '26; a version works for three years at least (Salesforce, "API End-of-Life").
const API: &str = "/services/data/v67.0";
/// Who the token is of; it needs no scope besides `api` (Salesforce's own command line asks here,
/// too).
const USER_INFO: &str = "/services/oauth2/userinfo";
/// What each answer says of the organisation's quota of 24 hours: `api-usage=18/5000`.
const LIMIT_INFO: &str = "sforce-limit-info";

/// One organisation's API.
pub(super) struct RestApi {
    pub(super) http: Client,
    /// Without a slash at its end.
    pub(super) base_url: String,
    pub(super) header: AuthHeader,
    pub(super) quota: RequestQuota,
}

/// An answer that is a success.
pub(super) struct RestReply {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Whether a query shows deleted rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryScope {
    Live,
    All,
}

impl RestApi {
    /// Asks for a path below the API's root.
    pub(super) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<RestReply, RequestFailure> {
        self.send(self.http.get(self.url(path)).query(query)).await
    }

    pub(super) async fn post(&self, path: &str, body: &serde_json::Value) -> Result<RestReply, RequestFailure> {
        let request = self.http.post(self.url(path)).header(CONTENT_TYPE, "application/json");
        self.send(request.body(body.to_string())).await
    }

    /// The first page of a query as records, at most so many rows of it, and the server's clock.
    /// Further pages are asked for by the last row, never by Salesforce's cursors: those do not
    /// outlive two days.
    pub(super) async fn query(
        &self,
        soql: &str,
        scope: QueryScope,
        mapping: &RowMapping,
        rows_max: usize,
    ) -> Result<(ReadRows, Option<DateTime<Utc>>), RequestFailure> {
        let reply = self.ask_query(soql, scope).await?;
        let (at, mapping) = (http::server_time(&reply.headers), mapping.clone());
        let answer = json::off_thread(move || mapping.answer(&BodyText::json(reply.body)?, rows_max)).await?;
        Ok((answer, at))
    }

    /// How many live rows a query has.
    pub(super) async fn count(&self, soql: &str) -> Result<i64, RequestFailure> {
        let body = self.ask_query(soql, QueryScope::Live).await?.text().await?;
        let page = body.value().and_then(|page| JsonFields::of(page, &QUERY)).ok_or(NO_JSON)?;
        Ok(map::head(&page)?.total_size)
    }

    async fn ask_query(&self, soql: &str, scope: QueryScope) -> Result<RestReply, RequestFailure> {
        let path = if scope == QueryScope::All { "/queryAll" } else { "/query" };
        self.get(path, &[("q", soql)]).await
    }

    /// The organisation and the user of the token.
    pub(super) async fn identity(&self) -> Result<TokenIdentity, CrmError> {
        self.send(self.http.get(format!("{}{USER_INFO}", self.base_url))).await?.json().await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{API}{path}", self.base_url)
    }

    async fn send(&self, request: RequestBuilder) -> Result<RestReply, RequestFailure> {
        self.quota.take().await?;
        let response = http::counted(Provider::Salesforce, self.header.put_on(request).send()).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        self.learn(&headers);
        if !status.is_success() {
            let failure = refusal::meaning(status, &headers, &http::read_refusal(response).await);
            if let RequestFailure::Known(error) = &failure {
                self.quota.refused(error);
            }
            return Err(failure);
        }
        let body = http::read_body(response).await?;
        let is_of_records = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/csv"));
        if !is_of_records && refusal::says_moved(&body) {
            return Err(refusal::meaning(status, &headers, &body));
        }
        Ok(RestReply { headers, body })
    }

    fn learn(&self, headers: &HeaderMap) {
        let Some((used, limit)) = headers.get(LIMIT_INFO).and_then(|value| api_usage(value.to_str().ok()?)) else {
            return;
        };
        self.quota.learn_daily(DailyReport {
            used,
            limit,
            resume_after: refusal::QUOTA_RESUME_AFTER,
            reason: refusal::QUOTA_REASON,
            words: refusal::QUOTA_WORDS,
        });
    }
}

impl RestReply {
    pub(super) async fn text(self) -> Result<BodyText, CrmError> {
        json::off_thread(move || BodyText::json(self.body)).await
    }

    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, CrmError> {
        json::parse(&self.text().await?.text).ok_or(NO_JSON)
    }
}

/// `api-usage=18/5000`, possibly followed by more after a semicolon.
fn api_usage(text: &str) -> Option<(u64, u64)> {
    let usage = text.split(';').find_map(|part| part.trim().strip_prefix("api-usage="))?;
    let (used, limit) = usage.split_once('/')?;
    Some((used.trim().parse().ok()?, limit.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of the day that is spent is read.
    #[test]
    fn spent_share_of_day_is_read() {
        assert_eq!(api_usage("api-usage=18/5000"), Some((18, 5000)));
        assert_eq!(api_usage("api-usage=25/5000; per-app-api-usage=17/250(appName=sample-app)"), Some((25, 5000)));
        for other in ["", "per-app-api-usage=17/250", "api-usage=x/1", "api-usage=5"] {
            assert_eq!(api_usage(other), None, "{other}");
        }
    }
}
