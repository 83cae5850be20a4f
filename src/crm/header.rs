//! The header by which a request is authorized. A vendor's own code makes it, of a token that is
//! that vendor's: [`AccessToken`] gives its secret out for no other. Never printed.

use reqwest::{
    RequestBuilder,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};

use super::CrmError;
use crate::domain::{
    credentials::{AccessSecret, AccessToken},
    provider::Provider,
};

/// What says in a request that it may be made.
#[derive(Debug, Clone)]
pub(super) struct AuthHeader {
    name: HeaderName,
    value: HeaderValue,
}

impl AuthHeader {
    /// A header of this content.
    pub(super) fn new(name: HeaderName, content: &SecretString) -> Result<Self, CrmError> {
        // A token with a line break in it is nobody's.
        let value = HeaderValue::from_str(content.expose_secret());
        let mut value = value.map_err(|_| CrmError::CredentialsRefused)?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }

    /// `Authorization: Bearer`.
    pub(super) fn bearer(token: &SecretString) -> Result<Self, CrmError> {
        Self::new(AUTHORIZATION, &format!("Bearer {}", token.expose_secret()).into())
    }

    /// The request with it.
    pub(super) fn put_on(&self, request: RequestBuilder) -> RequestBuilder {
        request.header(&self.name, &self.value)
    }

    /// Its name and its content.
    #[cfg(test)]
    pub(super) fn parts(&self) -> (&str, &str) {
        (self.name.as_str(), self.value.to_str().unwrap())
    }
}

/// What of a token may be shown to this CRM. Another's is refused here, before anything is sent.
pub(super) fn secret_for(provider: Provider, token: &AccessToken) -> Result<&AccessSecret, CrmError> {
    token.secret_for(provider).ok_or(CrmError::CredentialsRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_never_printed_and_a_broken_token_is_nobodys() {
        let header = AuthHeader::bearer(&"tok".into()).unwrap();

        assert_eq!(header.parts(), ("authorization", "Bearer tok"));
        assert!(!format!("{header:?}").contains("tok"));
        assert!(matches!(AuthHeader::bearer(&"to\nk".into()), Err(CrmError::CredentialsRefused)));
    }
}
