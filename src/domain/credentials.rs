//! What opens a CRM. In the clear only between the vault and the CRM client.

use std::fmt;

use chrono::{DateTime, Utc};
use secrecy::SecretString;

/// Longest e-mail, token or key taken, in bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 4096;

/// What an administrator has given, and how access is got from it. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Zendesk: an administrator's e-mail and API token.
    ZendeskApiToken {
        /// The administrator's e-mail address.
        email: SecretString,
        /// The token.
        token: SecretString,
    },
    /// Pipedrive: the API token of a user, best of an administrator.
    PipedriveApiToken(SecretString),
    /// An access token as it is; when it has expired, somebody must bring another.
    Bearer {
        /// The token.
        token: SecretString,
        /// Where the API is: Salesforce's My Domain, such as `acme.my.salesforce.com`; `None` for other providers.
        host: Option<String>,
    },
    /// OAuth, authorized by an administrator: access tokens are got by it for as long as it is not revoked.
    RefreshToken {
        /// Who asks; `None`: the deployment's own client of this provider.
        client: Option<OAuthClient>,
        /// The refresh token; some vendors give a new one with each access token, and end the old.
        token: SecretString,
        /// Salesforce: where tokens are got: `login.salesforce.com`, `test.salesforce.com` or My Domain; `None`: the usual place.
        host: Option<String>,
    },
    /// OAuth without a person: the client itself is let in (Salesforce, Zendesk).
    ClientCredentials {
        /// Who asks.
        client: OAuthClient,
        /// Salesforce: My Domain, which this flow needs.
        host: Option<String>,
    },
    /// Salesforce: a signed assertion (RFC 7523), RS256.
    JwtBearer {
        /// The client's id.
        client_id: String,
        /// In whose name.
        username: SecretString,
        /// PEM, PKCS#8 or PKCS#1.
        private_key: SecretString,
        /// `login.salesforce.com`, `test.salesforce.com` or My Domain; `None`: `login.salesforce.com`.
        host: Option<String>,
    },
}

/// An OAuth client of a vendor.
#[derive(Debug, Clone)]
pub struct OAuthClient {
    /// Its public name.
    pub id: String,
    /// Its secret.
    pub secret: SecretString,
}

impl Credentials {
    /// What a request carries, if these are used as they are; `None`: an access token is got by them first.
    pub fn as_access(&self) -> Option<Access> {
        let (token, host) = match self {
            Self::ZendeskApiToken { email, token } => {
                (AccessToken::ZendeskApiToken { email: email.clone(), token: token.clone() }, &None)
            }
            Self::PipedriveApiToken(token) => (AccessToken::PipedriveApiToken(token.clone()), &None),
            Self::Bearer { token, host } => (AccessToken::Bearer(token.clone()), host),
            Self::RefreshToken { .. } | Self::ClientCredentials { .. } | Self::JwtBearer { .. } => return None,
        };
        let api_url = host.as_ref().map(|host| format!("https://{host}"));
        Some(Access { token, api_url, expires_at: None, version: 0, company_id: None, is_elsewhere: false })
    }

    /// Whether a new access token can be got without a person.
    pub const fn are_renewable(&self) -> bool {
        matches!(self, Self::RefreshToken { .. } | Self::ClientCredentials { .. } | Self::JwtBearer { .. })
    }
}

/// What a request to a CRM carries.
#[derive(Clone)]
pub struct Access {
    /// How the request is signed.
    pub token: AccessToken,
    /// Where the API is, if the vendor said so: Salesforce's `instance_url`, Pipedrive's `api_domain`. Checked against the hosts that
    /// are the vendor's before it came here.
    pub api_url: Option<String>,
    /// When it ends, if the vendor said so.
    pub expires_at: Option<DateTime<Utc>>,
    /// Of several of one integration the newer has the larger one; 0: not stored.
    pub version: i64,
    /// The CRM's own number of the organisation, as an earlier answer gave it: by it the organisation is known under a new name.
    pub company_id: Option<String>,
    /// The vendor names another host for the API than with the access before.
    pub is_elsewhere: bool,
}

/// How a request is signed.
#[derive(Clone)]
pub enum AccessToken {
    /// Zendesk's Basic form.
    ZendeskApiToken {
        /// The administrator's e-mail address.
        email: SecretString,
        /// The token.
        token: SecretString,
    },
    /// Pipedrive's header `x-api-token`.
    PipedriveApiToken(SecretString),
    /// `Authorization: Bearer`.
    Bearer(SecretString),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("version", &self.version)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
