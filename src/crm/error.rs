//! What a CRM's refusal means, and what may be tried after it.

use std::time::Duration;

use thiserror::Error;

use crate::domain::{integration_state::UNINSTALLED, provider::Provider};

/// What a CRM's refusal means. Texts say what to do, and never hold a body, a URL's query or a
/// credential.
#[derive(Debug, Error)]
pub enum CrmError {
    /// 401, or an anonymous session.
    #[error(
        "the CRM refuses the credentials: the token (or the e-mail) is wrong, expired or switched off; bring others"
    )]
    CredentialsRefused,
    /// OAuth `invalid_grant` of a refresh token. Asked again minutes later with the same answer,
    /// the token is spent.
    #[error(
        "the CRM has ended this authorization: it was revoked, has expired, or its refresh token was used elsewhere; authorize again"
    )]
    GrantRefused,
    /// The login itself is refused, by what the CRM knows of its user or its app; no refresh token
    /// is used up by it.
    #[error("the CRM refuses the login: {0}")]
    LoginRefused(LoginRefusal),
    /// The app was removed from the CRM, and the CRM says so.
    #[error("{}", UNINSTALLED.message)]
    Uninstalled,
    /// OAuth `invalid_client` and its like, of a client that came with the credentials.
    #[error(
        "the CRM refuses the OAuth client of these credentials: its id or secret is wrong, or it may not ask for tokens in this way; bring others"
    )]
    ClientRefused,
    /// The same, of the deployment's own client: for the operator, and over when it is mended.
    #[error(
        "the CRM refuses this deployment's own OAuth client: its operator must set providers.{}.client_id and .client_secret right", .0.setting_name()
    )]
    OwnClientRefused(Provider),
    /// The deployment has no client of its own for this CRM.
    #[error(
        "this deployment has no OAuth client of its own for the CRM: its operator must set providers.{}.client_id and .client_secret, or the credentials bring a client", .0.setting_name()
    )]
    OwnClientMissing(Provider),
    /// The credentials' private key signs nothing.
    #[error(
        "the private key cannot be used: it must be an RSA key of 2048, 3072 or 4096 bits in PEM (PKCS#8 or PKCS#1), unencrypted"
    )]
    KeyUnusable,
    /// 403.
    #[error("the credentials may not read all contacts: {0}")]
    PermissionMissing(&'static str),
    /// A field that is said to hold phone numbers is none that could.
    #[error("the CRM has no text field {wished} of its users that could hold phone numbers; {known}")]
    FieldUnknown {
        /// The key that was wished for.
        wished: String,
        /// Which there are, in words.
        known: String,
    },
    /// 404: no such organisation, or no such endpoint there.
    #[error(
        "the CRM knows no organisation of this name; compare it with the address that agents use, and see that its account is open"
    )]
    OrganizationNotFound,
    /// 404 in the vendor's own documented words for a record. Of which record, and whether that
    /// means anything, knows who has asked.
    #[error(
        "the CRM knows no such record or endpoint; compare the organisation's name with the address that agents use"
    )]
    RecordNotFound,
    /// The host does not answer for the organisation: it sends elsewhere, shows a page, or says
    /// that it is the wrong one. A new token names the right host, where the vendor's tokens do.
    #[error(
        "the CRM's host does not answer for this organisation any more: it sends elsewhere or shows a page; if the organisation has moved or has another name, bring its credentials again with the new address"
    )]
    HostMoved,
    /// The place to go on from is not accepted any more.
    #[error("the CRM refuses the place where the last run stopped; the run starts again")]
    PositionRefused,
    /// 429, or 503 with a time.
    #[error("the CRM's rate limit is reached")]
    RateLimited {
        /// How long the CRM asks to wait.
        retry_after: Option<Duration>,
    },
    /// 5xx, or a page of what stands before the CRM.
    #[error("the CRM cannot be reached or is failing: {0}")]
    Unavailable(&'static str),
    /// Nothing was sent.
    #[error("the CRM cannot be reached: no connection to {host}: {why}")]
    NoConnection {
        /// Which host.
        host: String,
        /// What failed.
        why: ConnectFailure,
    },
    /// The connection broke before the whole answer was there.
    #[error("the CRM cannot be reached or is failing: the connection to {host} broke")]
    ConnectionBroke {
        /// Which host.
        host: String,
    },
    /// No answer in time: a smaller page may come.
    #[error("the CRM does not manage so much at once: {host} did not answer in time")]
    TimedOut {
        /// Which host.
        host: String,
    },
    /// 504, or an answer above the limit: a smaller page may come.
    #[error("the CRM does not manage so much at once: {0}")]
    TooMuch(&'static str),
    /// Our own share of the CRM's short limit is used up; nothing has failed.
    #[error("the share of the CRM's rate limit that this service may use is spent for the moment")]
    Paced {
        /// Until there is more.
        wait: Duration,
    },
    /// Not the JSON that the vendor documents.
    #[error("the CRM's answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// A page that is not the last does not lead on.
    #[error("the CRM's pages do not get on: the same place came twice; if it stays so, tell the CRM's support")]
    Stuck,
    /// Any other refusal: not understood, and so never taken for more than it is.
    #[error("the CRM refused the request with HTTP status {0}, for a reason that this service does not know")]
    Refused(u16),
    /// The host leads to an address that tenants must not reach.
    #[error("the CRM's host leads to a private address")]
    HostRefused,
    /// The vendor names a host for its API that is not the vendor's.
    #[error("the CRM names a host for its API that is not one of {0}; nothing is sent there")]
    HostUnknown(&'static str),
    /// The vendor has no host for all, and nobody has named this organisation's.
    #[error("the credentials do not say where the API is; bring the organisation's own host with them ({0})")]
    HostMissing(&'static str),
    /// The CRM's quota, or the share of it that this service may use, is spent.
    #[error("{words}")]
    QuotaSpent {
        /// `UPPER_SNAKE`.
        reason: &'static str,
        /// Which quota, and what would help.
        words: &'static str,
        /// When to go on.
        resume_after: Duration,
    },
    /// The credentials open another organisation than the one that is linked: this one, where the
    /// CRM tells a name that can be one.
    #[error("the credentials belong to {}; bring those of the one that is linked", opened(.0.as_ref()))]
    OtherOrganization(Option<String>),
    /// The organisation has another name now, and is the same by the CRM's own number of it.
    #[error("the organisation has another name in the CRM now: {0}")]
    Renamed(String),
    /// The CRM's account is closed or unpaid, or its edition has no API.
    #[error("the CRM's account does not allow it: {0}")]
    AccountClosed(&'static str),
}

/// Why a login is refused, as far as the CRM says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LoginRefusal {
    /// Salesforce's `invalid_app_access`, or that the user has not approved the app, which it says
    /// of a user whom it does not know, too.
    #[error(
        "its user is not pre-authorized for the app, or there is no user of that name (a sandbox adds its own name to it); in Salesforce's Setup, External Client App Manager, open the app's policies, permit admin approved users, and add a profile or permission set of the user"
    )]
    UserNotApproved,
    /// There is no such user.
    #[error(
        "it knows no user of that name; compare it with the user's page in the CRM (a sandbox adds its own name to it)"
    )]
    UserUnknown,
    /// Inactive, locked or frozen.
    #[error(
        "its user is inactive or locked; its administrator must activate or unlock that user, or bring other credentials"
    )]
    UserInactive,
    /// The user's address or hours.
    #[error(
        "its user may not log in from this service's address or at this hour; its administrator must allow it (login IP ranges and login hours of the user's profile, IP relaxation in the app's policies)"
    )]
    PlaceOrHour,
    /// The signature is not by the key of the certificate that the app has.
    #[error("the private key is not that of the certificate which was uploaded to the app, or the app has none")]
    AssertionInvalid,
    /// The assertion is meant for another login host.
    #[error(
        "the assertion is for another login host: name the organisation's own with the credentials (sandboxes log in at test.salesforce.com)"
    )]
    AudienceWrong,
    /// The assertion's time is over or too far away.
    #[error("the assertion's time does not fit the CRM's: this machine's clock is wrong")]
    ClockWrong,
    /// The CRM is being maintained.
    #[error("the CRM is under maintenance; it is tried again")]
    Maintenance,
    /// Anything else.
    #[error(
        "its user or app may not log in so; its administrator must look at the app's policies, or bring other credentials"
    )]
    Other,
}

impl LoginRefusal {
    /// In `UPPER_SNAKE`, for error details.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::UserNotApproved => "USER_NOT_APPROVED",
            Self::UserUnknown => "USER_UNKNOWN",
            Self::UserInactive => "USER_INACTIVE",
            Self::PlaceOrHour => "PLACE_OR_HOUR",
            Self::AssertionInvalid => "ASSERTION_INVALID",
            Self::AudienceWrong => "AUDIENCE_WRONG",
            Self::ClockWrong => "CLOCK_WRONG",
            Self::Maintenance => "MAINTENANCE",
            Self::Other => "LOGIN_REFUSED",
        }
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConnectFailure {
    /// Its name is not known, or no name server answers.
    #[error("its name cannot be resolved (DNS)")]
    Name,
    /// Refused, reset, or no way there.
    #[error("nothing answers at its port (TCP)")]
    Port,
    /// A certificate that is not trusted, is over, or is of another name; or no TLS there at all.
    #[error("its certificate is not accepted, or it speaks no TLS (TLS)")]
    Tls,
    /// Nobody answered the attempt.
    #[error("it did not take the connection in time (timeout); a firewall may drop what is sent there")]
    Timeout,
}

impl ConnectFailure {
    /// In `UPPER_SNAKE`, for error details.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Name => "DNS",
            Self::Port => "TCP",
            Self::Tls => "TLS",
            Self::Timeout => "TIMEOUT",
        }
    }
}

fn opened(organization: Option<&String>) -> String {
    let other = "another organisation of this CRM";
    organization.map_or_else(|| other.to_owned(), |name| format!("{other}, {name}"))
}

/// What may be tried after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAdvice {
    /// Nothing changes by itself.
    Never,
    /// After this long.
    After(Duration),
    /// Later, and later each time.
    Backoff,
}

impl CrmError {
    /// What may be tried.
    pub const fn retry(&self) -> RetryAdvice {
        match self {
            Self::RateLimited { retry_after: Some(wait) } | Self::QuotaSpent { resume_after: wait, .. } => {
                RetryAdvice::After(*wait)
            }
            Self::Paced { wait } => RetryAdvice::After(*wait),
            Self::RateLimited { retry_after: None }
            | Self::Unavailable(_)
            | Self::TooMuch(_)
            | Self::NoConnection { .. }
            | Self::ConnectionBroke { .. }
            | Self::TimedOut { .. }
            | Self::HostMoved
            | Self::Unreadable(_)
            | Self::Stuck => RetryAdvice::Backoff,
            Self::CredentialsRefused
            | Self::GrantRefused
            | Self::LoginRefused(_)
            | Self::Uninstalled
            | Self::ClientRefused
            | Self::OwnClientRefused(_)
            | Self::OwnClientMissing(_)
            | Self::KeyUnusable
            | Self::PermissionMissing(_)
            | Self::FieldUnknown { .. }
            | Self::OrganizationNotFound
            | Self::RecordNotFound
            | Self::PositionRefused
            | Self::Refused(_)
            | Self::HostRefused
            | Self::HostUnknown(_)
            | Self::HostMissing(_)
            | Self::OtherOrganization(_)
            | Self::Renamed(_)
            | Self::AccountClosed(_) => RetryAdvice::Never,
        }
    }

    /// Whether this may be about the one thing that was asked for, so that the rest can go on
    /// without it: not where the credentials, the host or a quota are why, which holds for
    /// everything.
    pub const fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::TooMuch(_)
                | Self::ConnectionBroke { .. }
                | Self::TimedOut { .. }
                | Self::Unreadable(_)
                | Self::Stuck
                | Self::Refused(_)
                | Self::PermissionMissing(_)
                | Self::OrganizationNotFound
                | Self::RecordNotFound
        )
    }

    /// In `UPPER_SNAKE`, for `TestConnection` and error details.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::CredentialsRefused => "CREDENTIALS_REFUSED",
            Self::GrantRefused | Self::LoginRefused(_) => "GRANT_REFUSED",
            Self::Uninstalled => "APP_UNINSTALLED",
            Self::ClientRefused | Self::OwnClientRefused(_) => "OAUTH_CLIENT_REFUSED",
            Self::OwnClientMissing(_) => "OAUTH_NOT_CONFIGURED",
            Self::KeyUnusable => "PRIVATE_KEY_UNUSABLE",
            Self::PermissionMissing(_) => "PERMISSION_MISSING",
            Self::FieldUnknown { .. } => "FIELD_UNKNOWN",
            Self::OrganizationNotFound | Self::RecordNotFound => "ORGANIZATION_NOT_FOUND",
            Self::RateLimited { .. } | Self::Paced { .. } => "RATE_LIMITED",
            Self::QuotaSpent { reason, .. } => reason,
            Self::OtherOrganization(_) | Self::Renamed(_) => "OTHER_ORGANIZATION",
            Self::AccountClosed(_) => "CRM_ACCOUNT_CLOSED",
            Self::HostMissing(_) => "CRM_HOST_MISSING",
            Self::HostMoved => "CRM_HOST_MOVED",
            Self::Unavailable(_)
            | Self::TooMuch(_)
            | Self::NoConnection { .. }
            | Self::ConnectionBroke { .. }
            | Self::TimedOut { .. }
            | Self::HostRefused
            | Self::HostUnknown(_) => "CRM_UNREACHABLE",
            Self::PositionRefused | Self::Unreadable(_) | Self::Stuck | Self::Refused(_) => "CRM_ANSWER_UNREADABLE",
        }
    }

    /// What of it a program may want to know apart from the words: `organization` that was opened
    /// instead, `host` that was asked, `cause` in `UPPER_SNAKE`.
    pub fn details(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::OtherOrganization(Some(name)) | Self::Renamed(name) => vec![("organization", name)],
            Self::NoConnection { host, why } => vec![("host", host), ("cause", why.cause())],
            Self::ConnectionBroke { host } => vec![("host", host), ("cause", "CONNECTION_BROKE")],
            Self::TimedOut { host } => vec![("host", host), ("cause", "TIMEOUT")],
            Self::LoginRefused(why) => vec![("cause", why.cause())],
            _ => Vec::new(),
        }
    }
}
