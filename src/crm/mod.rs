//! Owns reqwest and all vendor words. A client turns vendor pages into [`Record`]s and vendor failures into meanings; whether and
//! when to try again is said by the error and obeyed by `sync::run` alone.

pub mod http;
pub mod zendesk;

use std::time::Duration;

use chrono::{DateTime, Utc};
use thiserror::Error;

use self::zendesk::Zendesk;
use crate::domain::{
    credentials::Credentials,
    integration::{Organization, Provider},
    record::Record,
};

/// What a CRM's refusal means. Texts say what to do, and never hold a body, a URL's query or a credential.
#[derive(Debug, Error)]
pub enum CrmError {
    /// 401, or an anonymous session.
    #[error(
        "the CRM refuses the credentials: the token (or the e-mail) is wrong, expired or switched off; bring others"
    )]
    CredentialsRefused,
    /// 403.
    #[error("the credentials may not read all contacts: {0}")]
    PermissionMissing(&'static str),
    /// 404: no such organisation, or no such endpoint there.
    #[error(
        "the CRM knows no organisation of this name; compare it with the address that agents use, and see that its account is open"
    )]
    OrganizationNotFound,
    /// The place to go on from is not accepted any more.
    #[error("the CRM refuses the place where the last pass stopped; the pass starts again")]
    PositionRefused,
    /// 429, or 503 with a time.
    #[error("the CRM's rate limit is reached")]
    RateLimited {
        /// How long the CRM asks to wait.
        retry_after: Option<Duration>,
    },
    /// 5xx, a time-out, or no connection.
    #[error("the CRM cannot be reached or is failing: {0}")]
    Unavailable(&'static str),
    /// Not the JSON that the vendor documents.
    #[error("the CRM's answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// A page that is not the last does not lead on.
    #[error("the CRM's pages do not get on: the same place came twice; if it stays so, tell the CRM's support")]
    Stuck,
    /// Any other refusal.
    #[error("the CRM refused the request with HTTP status {0}")]
    Refused(u16),
    /// The host leads to an address that tenants must not reach.
    #[error("the CRM's host leads to a private address")]
    HostRefused,
}

/// What may be tried after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing changes by itself.
    Never,
    /// After this long.
    After(Duration),
    /// Later, and later each time.
    Backoff,
}

impl CrmError {
    /// What may be tried.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::RateLimited { retry_after: Some(wait) } => Retry::After(*wait),
            Self::RateLimited { retry_after: None } | Self::Unavailable(_) | Self::Unreadable(_) | Self::Stuck => {
                Retry::Backoff
            }
            Self::CredentialsRefused
            | Self::PermissionMissing(_)
            | Self::OrganizationNotFound
            | Self::PositionRefused
            | Self::Refused(_)
            | Self::HostRefused => Retry::Never,
        }
    }

    /// In `UPPER_SNAKE`, for `TestConnection` and error details.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::CredentialsRefused => "CREDENTIALS_REFUSED",
            Self::PermissionMissing(_) => "PERMISSION_MISSING",
            Self::OrganizationNotFound => "ORGANIZATION_NOT_FOUND",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::Unavailable(_) | Self::HostRefused => "CRM_UNREACHABLE",
            Self::PositionRefused | Self::Unreadable(_) | Self::Stuck | Self::Refused(_) => "CRM_ANSWER_UNREADABLE",
        }
    }
}

/// One page of records.
#[derive(Debug)]
pub struct Page {
    /// In the CRM's order; one record may come twice.
    pub records: Vec<Record>,
    /// Rows that could not be understood.
    pub rejected: usize,
    /// Where the next page, or the next pass, goes on; `None`: where this one began.
    pub next: Option<String>,
    /// The end of what the CRM has now.
    pub is_last: bool,
    /// Every change that the CRM made until then is in this page or before; the CRM's clock.
    pub known_through: Option<DateTime<Utc>>,
}

/// What a look at a connection says.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// About how many contacts there are.
    pub estimated_contacts: Option<i64>,
}

/// The clients of all CRMs that can be synced.
#[derive(Clone)]
pub struct Crms {
    zendesk_http: reqwest::Client,
    zendesk_endpoint: http::Endpoint,
}

impl Crms {
    /// Builds the HTTP clients once.
    pub fn new(zendesk_endpoint: http::Endpoint, zendesk_silence_max: Duration) -> Result<Self, http::HttpError> {
        Ok(Self { zendesk_http: http::build(&zendesk_endpoint, zendesk_silence_max)?, zendesk_endpoint })
    }

    /// A client for one organisation; `None`: this version cannot sync the provider.
    pub fn client(&self, organization: &Organization, credentials: Credentials) -> Option<Zendesk> {
        match organization.provider {
            Provider::Zendesk => {
                Some(Zendesk::new(self.zendesk_http.clone(), &self.zendesk_endpoint, &organization.name, credentials))
            }
            Provider::Salesforce | Provider::Pipedrive => None,
        }
    }
}
