//! How requests to Zendesk are signed: by Zendesk's own kinds of credentials, and by no other's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use crate::{crm::CrmError, domain::credentials::AccessToken};

/// The value of `Authorization`.
pub(super) fn of(token: &AccessToken) -> Result<HeaderValue, CrmError> {
    let text: SecretString = match token {
        AccessToken::ZendeskApiToken { email, token } => {
            let pair = SecretString::from(format!("{}/token:{}", email.expose_secret(), token.expose_secret()));
            format!("Basic {}", STANDARD.encode(pair.expose_secret())).into()
        }
        AccessToken::Bearer(token) => format!("Bearer {}", token.expose_secret()).into(),
        // Another vendor's: never sent.
        AccessToken::PipedriveApiToken(_) => return Err(CrmError::CredentialsRefused),
    };
    // A token with a line break in it is nobody's.
    let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| CrmError::CredentialsRefused)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zendesk's own kinds of token sign, and another vendor's token never does.
    #[test]
    fn own_token_kinds_sign_foreign_tokens_never() {
        let api_token = AccessToken::ZendeskApiToken { email: "ann@example.com".into(), token: "tok".into() };
        let basic = STANDARD.encode("ann@example.com/token:tok");

        assert_eq!(of(&api_token).unwrap().to_str().unwrap(), format!("Basic {basic}"));
        assert_eq!(of(&AccessToken::Bearer("tok".into())).unwrap().to_str().unwrap(), "Bearer tok");
        assert!(!format!("{:?}", of(&AccessToken::Bearer("tok".into())).unwrap()).contains("tok"));
        for other in [AccessToken::PipedriveApiToken("tok".into()), AccessToken::Bearer("to\nk".into())] {
            assert!(matches!(of(&other), Err(CrmError::CredentialsRefused)));
        }
    }
}
