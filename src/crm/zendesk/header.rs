//! How requests to Zendesk are authorized: by Zendesk's own kinds of tokens, and by no other's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};

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

/// `Authorization`: Basic for an administrator's API token, else Bearer.
pub(super) fn authorization(token: &AccessToken) -> Result<AuthHeader, CrmError> {
    match secret_for(Provider::Zendesk, token)? {
        AccessSecret::ApiToken { user: Some(email), token } => {
            let pair = SecretString::from(format!("{}/token:{}", email.expose_secret(), token.expose_secret()));
            AuthHeader::new(AUTHORIZATION, &format!("Basic {}", STANDARD.encode(pair.expose_secret())).into())
        }
        AccessSecret::ApiToken { user: None, .. } => Err(CrmError::CredentialsRefused),
        AccessSecret::Bearer(token) => AuthHeader::bearer(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_token(provider: Provider, user: Option<&str>) -> AccessToken {
        AccessToken::new(provider, AccessSecret::ApiToken { user: user.map(Into::into), token: "tok".into() })
    }

    #[test]
    fn zendesks_own_kinds_sign_and_another_vendors_token_never_does() {
        let own = api_token(Provider::Zendesk, Some("ann@example.com"));
        let basic = format!("Basic {}", STANDARD.encode("ann@example.com/token:tok"));

        assert_eq!(authorization(&own).unwrap().parts(), ("authorization", basic.as_str()));
        let bearer = |provider| AccessToken::bearer(provider, "tok".into());
        assert_eq!(authorization(&bearer(Provider::Zendesk)).unwrap().parts(), ("authorization", "Bearer tok"));
        for other in [
            bearer(Provider::Pipedrive),
            bearer(Provider::Salesforce),
            api_token(Provider::Pipedrive, None),
            api_token(Provider::Pipedrive, Some("ann@example.com")),
            api_token(Provider::Zendesk, None),
            AccessToken::bearer(Provider::Zendesk, "to\nk".into()),
        ] {
            assert!(matches!(authorization(&other), Err(CrmError::CredentialsRefused)));
        }
    }
}
