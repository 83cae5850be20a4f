//! How requests to Salesforce are authorized: by a bearer token of Salesforce's, and by no other.

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

/// The header of a request: Bearer, which is all that Salesforce takes.
pub(super) fn authorization(token: &AccessToken) -> Result<AuthHeader, CrmError> {
    match secret_for(Provider::Salesforce, token)? {
        AccessSecret::Bearer(token) => AuthHeader::bearer(token),
        AccessSecret::ApiToken { .. } => Err(CrmError::CredentialsRefused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_of_salesforces_signs() {
        let bearer = |provider| AccessToken::bearer(provider, "tok".into());

        let own = authorization(&bearer(Provider::Salesforce)).unwrap();
        assert_eq!(own.parts(), ("authorization", "Bearer tok"));
        let api_token = AccessSecret::ApiToken { user: None, token: "tok".into() };
        for other in [
            bearer(Provider::Zendesk),
            bearer(Provider::Pipedrive),
            AccessToken::new(Provider::Salesforce, api_token),
            AccessToken::bearer(Provider::Salesforce, "to\nk".into()),
        ] {
            assert!(matches!(authorization(&other), Err(CrmError::CredentialsRefused)));
        }
    }
}
