//! What opens a CRM. In the clear only between the vault and the CRM client.

use std::fmt;

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use strum::EnumDiscriminants;

use super::provider::Provider;

/// Longest e-mail, token or key taken, in bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 4096;

/// What an administrator has given for one CRM. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The CRM that they open, and the only one to which they are shown.
    pub provider: Provider,
    /// What they are.
    pub kind: CredentialKind,
}

/// How access is got.
#[derive(Debug, Clone, EnumDiscriminants)]
#[strum_discriminants(name(CredentialType))]
pub enum CredentialKind {
    /// A token of the vendor's own making that is used as it is.
    ApiToken {
        /// Whose it is, where the vendor wants to be told: an administrator's e-mail address.
        user: Option<SecretString>,
        /// The token.
        token: SecretString,
    },
    /// An access token as it is; when it has expired, somebody must bring another.
    Bearer {
        /// The token.
        token: SecretString,
        /// Where the API is, for a vendor without a host that can be made of the organisation's
        /// name.
        host: Option<String>,
    },
    /// OAuth, authorized by an administrator: access tokens are got by it for as long as it is not
    /// revoked.
    RefreshToken {
        /// Who asks; `None`: the deployment's own client of this provider.
        client: Option<OAuthClient>,
        /// The refresh token; some vendors give a new one with each access token, and end the old.
        token: SecretString,
        /// Where tokens are got; `None`: the vendor's usual place.
        host: Option<String>,
        /// What it allows, in the vendor's words; `None`: the vendor has not said.
        scopes: Option<String>,
    },
    /// OAuth without a person: the client itself is let in.
    ClientCredentials {
        /// Who asks.
        client: OAuthClient,
        /// Where tokens are got; `None`: the vendor's usual place.
        host: Option<String>,
    },
    /// A signed assertion (RFC 7523), RS256.
    JwtBearer {
        /// The client's id.
        client_id: String,
        /// In whose name.
        username: SecretString,
        /// PEM, PKCS#8 or PKCS#1.
        private_key: SecretString,
        /// Where tokens are got; `None`: the vendor's usual place.
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

impl OAuthClient {
    /// Whether this is its id and its secret, as HTTP Basic shows them. Takes as long for whatever
    /// is shown.
    pub fn is(&self, shown: &str) -> bool {
        is_same_secret(&format!("{}:{}", self.id, self.secret.expose_secret()), shown)
    }
}

/// Compares secrets in a time that tells nothing of what is in them.
pub fn is_same_secret(own: &str, shown: &str) -> bool {
    let Ok(keyed) = Hmac::<Sha256>::new_from_slice(b"contact-sync comparison of secrets") else { return false };
    let own = keyed.clone().chain_update(own).finalize().into_bytes();
    keyed.chain_update(shown).verify_slice(&own).is_ok()
}

impl Credentials {
    /// What a request carries, if these are used as they are; `None`: an access token is got by
    /// them first.
    pub fn as_access(&self) -> Option<CrmAccess> {
        let (secret, host) = match &self.kind {
            CredentialKind::ApiToken { user, token } => {
                (AccessSecret::ApiToken { user: user.clone(), token: token.clone() }, &None)
            }
            CredentialKind::Bearer { token, host } => (AccessSecret::Bearer(token.clone()), host),
            CredentialKind::RefreshToken { .. }
            | CredentialKind::ClientCredentials { .. }
            | CredentialKind::JwtBearer { .. } => return None,
        };
        let api_url = host.as_ref().map(|host| format!("https://{host}"));
        Some(CrmAccess { api_url, ..CrmAccess::with(AccessToken::new(self.provider, secret)) })
    }

    /// Whether a new access token can be got without a person.
    pub const fn are_renewable(&self) -> bool {
        matches!(
            self.kind,
            CredentialKind::RefreshToken { .. }
                | CredentialKind::ClientCredentials { .. }
                | CredentialKind::JwtBearer { .. }
        )
    }
}

/// What a request to a CRM carries.
#[derive(Clone)]
pub struct CrmAccess {
    /// What the vendor's code makes the header of a request of.
    pub token: AccessToken,
    /// Where the API is, if the vendor said so. Checked against the hosts that are the vendor's
    /// before it came here.
    pub api_url: Option<String>,
    /// When it ends, if the vendor said so.
    pub expires_at: Option<DateTime<Utc>>,
    /// Of several of one integration the newer has the larger one; 0: not stored.
    pub version: i64,
    /// The CRM's own number of the organisation, as an earlier answer gave it: by it the
    /// organisation is known under a new name.
    pub company_id: Option<String>,
    /// The vendor names another host for the API than with the access before.
    pub is_elsewhere: bool,
}

impl CrmAccess {
    /// By this token, of which nothing else is known.
    pub const fn with(token: AccessToken) -> Self {
        Self { token, api_url: None, expires_at: None, version: 0, company_id: None, is_elsewhere: false }
    }
}

/// A token, and whose it is. Invariant: only for requests to that CRM its secret is given out, so
/// that no client can send another vendor's token.
#[derive(Clone)]
pub struct AccessToken {
    provider: Provider,
    secret: AccessSecret,
}

/// What a header is made of.
#[derive(Clone)]
pub enum AccessSecret {
    /// A token of the vendor's own making.
    ApiToken {
        /// Whose it is, where the vendor wants to be told.
        user: Option<SecretString>,
        /// The token.
        token: SecretString,
    },
    /// `Authorization: Bearer`.
    Bearer(SecretString),
}

impl AccessToken {
    /// A token of this CRM's.
    pub const fn new(provider: Provider, secret: AccessSecret) -> Self {
        Self { provider, secret }
    }

    /// A bearer token of this CRM's.
    pub const fn bearer(provider: Provider, token: SecretString) -> Self {
        Self::new(provider, AccessSecret::Bearer(token))
    }

    /// What to show to this CRM; `None`: it is another's.
    pub fn secret_for(&self, provider: Provider) -> Option<&AccessSecret> {
        (self.provider == provider).then_some(&self.secret)
    }

    /// Whose it is.
    pub const fn provider(&self) -> Provider {
        self.provider
    }
}

impl fmt::Debug for CrmAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("version", &self.version)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_known_by_its_whole_id_and_secret() {
        let client = OAuthClient { id: "client".into(), secret: "secret".into() };

        assert!(client.is("client:secret"));
        for other in ["", "client", "client:", "client:secre", "client:secrets", "Client:secret", "secret:client"] {
            assert!(!client.is(other), "{other}");
        }
    }

    #[test]
    fn a_token_is_given_out_for_its_own_crm_only() {
        for own in Provider::ALL {
            let token = AccessToken::bearer(*own, "tok".into());

            for provider in Provider::ALL {
                assert_eq!(token.secret_for(*provider).is_some(), provider == own);
            }
        }
    }
}
