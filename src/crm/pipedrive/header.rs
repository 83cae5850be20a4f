//! How requests to Pipedrive are authorized: by Pipedrive's own kinds of tokens, and by no other's.

use reqwest::header::HeaderName;

use crate::{
    crm::{
        CrmError,
        header::{AuthHeader, secret_for},
    },
    domain::{
        credentials::{AccessSecret, AccessToken},
        provider::Provider,
    },
};

/// `x-api-token` for an API token, else Bearer.
pub(super) fn authorization(token: &AccessToken) -> Result<AuthHeader, CrmError> {
    match secret_for(Provider::Pipedrive, token)? {
        AccessSecret::ApiToken { user: None, token } => AuthHeader::new(HeaderName::from_static("x-api-token"), token),
        AccessSecret::ApiToken { user: Some(_), .. } => Err(CrmError::CredentialsRefused),
        AccessSecret::Bearer(token) => AuthHeader::bearer(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_token(provider: Provider, user: Option<&str>, token: &str) -> AccessToken {
        AccessToken::new(provider, AccessSecret::ApiToken { user: user.map(Into::into), token: token.into() })
    }

    #[test]
    fn signature_is_the_tokens_own_and_never_printed() {
        let header = authorization(&api_token(Provider::Pipedrive, None, "s3cret")).unwrap();
        assert_eq!(header.parts(), ("x-api-token", "s3cret"));
        assert!(!format!("{header:?}").contains("s3cret"));

        let bearer = authorization(&AccessToken::bearer(Provider::Pipedrive, "tok".into())).unwrap();
        assert_eq!(bearer.parts(), ("authorization", "Bearer tok"));
    }

    #[test]
    fn another_vendors_token_never_signs() {
        for other in [
            AccessToken::bearer(Provider::Zendesk, "tok".into()),
            AccessToken::bearer(Provider::Salesforce, "tok".into()),
            api_token(Provider::Zendesk, None, "tok"),
            api_token(Provider::Pipedrive, Some("ann@example.com"), "tok"),
            api_token(Provider::Pipedrive, None, "to\nk"),
        ] {
            assert!(matches!(authorization(&other), Err(CrmError::CredentialsRefused)));
        }
    }
}
