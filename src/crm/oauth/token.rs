//! One token request: each vendor's form of it, and what its refusals mean. The crate `oauth2`
//! writes and reads what keeps to RFC 6749; fields as JSON and the assertion of RFC 7523 are
//! written here. No body leaves this file, not even in an error.

use std::borrow::Cow;

use oauth2::{
    AsyncHttpClient, AuthType, AuthorizationCode, Client as OAuth2Client, ClientId, ClientSecret, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError,
    StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
    basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType},
    url::form_urlencoded,
};
use reqwest::{
    StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{
    answer::{NO_TOKENS, TokenAnswer, VendorFields},
    rules::{ClientAuth, OAuthRules, TokenForm, TokenLives},
};
use crate::{
    crm::{CrmError, CrmFuture, LoginRefusal, http},
    domain::{credentials::OAuthClient, provider::Provider},
};

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const NO_URL: CrmError = CrmError::Unavailable("the address for tokens is no URL");

/// What a client shows for a token.
#[derive(Clone, Copy)]
pub(super) enum TokenGrant<'a> {
    /// A code, from the browser of whoever authorized.
    Code { code: &'a SecretString, redirect_uri: &'a str, verifier: Option<&'a SecretString>, scopes: &'a str },
    /// The token that an earlier answer brought.
    Refresh(&'a SecretString),
    /// Nothing but itself, for these scopes.
    ClientCredentials { scopes: &'a str },
}

type VendorAnswer = StandardTokenResponse<VendorFields, BasicTokenType>;
type VendorClient = OAuth2Client<
    BasicErrorResponse,
    VendorAnswer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

impl From<VendorAnswer> for TokenAnswer {
    fn from(answer: VendorAnswer) -> Self {
        let scopes =
            answer.scopes().map(|scopes| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "));
        Self {
            access_token: answer.access_token().secret().clone(),
            refresh_token: answer.refresh_token().map(|token| token.secret().clone()),
            expires_in: answer.expires_in().map(|life| life.as_secs()),
            own_fields: answer.extra_fields().clone().with_scopes(scopes),
        }
    }
}

/// Where one vendor gives tokens.
pub(super) struct TokenEndpoint<'a> {
    pub(super) provider: Provider,
    pub(super) http: &'a reqwest::Client,
    pub(super) rules: &'static OAuthRules,
    /// Scheme, host and port.
    pub(super) base: String,
}

impl TokenEndpoint<'_> {
    /// Asks for tokens in the name of a client.
    pub(super) async fn ask(&self, client: &OAuthClient, grant: TokenGrant<'_>) -> Result<TokenAnswer, CrmError> {
        let answer = match self.rules.token_form {
            TokenForm::Json(lives) => self.ask_by_json(client, grant, lives).await?,
            TokenForm::Form => self.ask_by_form(client, grant).await?,
        };
        if answer.access_token.is_empty() || !is_visible(&answer.access_token) {
            return Err(NO_TOKENS);
        }
        Ok(answer)
    }

    /// Asks for an access token by a signed assertion.
    pub(super) async fn assert(&self, assertion: &SecretString) -> Result<TokenAnswer, CrmError> {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .append_pair("assertion", assertion.expose_secret())
            .finish();
        match self.post(FORM, body.into_bytes()).await {
            // An assertion lives for minutes: what is over by the CRM's clock was made by a wrong
            // one.
            Err(TokenRefusal::Expired) => Err(CrmError::LoginRefused(LoginRefusal::ClockWrong)),
            answer => Ok(answer?),
        }
    }

    /// The fields as JSON, with how long tokens shall live.
    async fn ask_by_json(
        &self,
        client: &OAuthClient,
        grant: TokenGrant<'_>,
        lives: TokenLives,
    ) -> Result<TokenAnswer, CrmError> {
        let mut fields = json!({
            "client_id": client.id,
            "client_secret": client.secret.expose_secret(),
            "expires_in": lives.access_seconds,
        });
        match grant {
            TokenGrant::Code { code, redirect_uri, verifier, scopes } => {
                fields["grant_type"] = "authorization_code".into();
                fields["code"] = code.expose_secret().into();
                fields["redirect_uri"] = redirect_uri.into();
                fields["scope"] = scopes.into();
                fields["refresh_token_expires_in"] = lives.refresh_seconds.into();
                if let Some(verifier) = verifier {
                    fields["code_verifier"] = verifier.expose_secret().into();
                }
            }
            TokenGrant::Refresh(token) => {
                fields["grant_type"] = "refresh_token".into();
                fields["refresh_token"] = token.expose_secret().into();
                fields["refresh_token_expires_in"] = lives.refresh_seconds.into();
            }
            TokenGrant::ClientCredentials { scopes } => {
                fields["grant_type"] = "client_credentials".into();
                fields["scope"] = scopes.into();
            }
        }
        Ok(self.post(JSON, fields.to_string().into_bytes()).await?)
    }

    async fn ask_by_form(&self, client: &OAuthClient, grant: TokenGrant<'_>) -> Result<TokenAnswer, CrmError> {
        let client = self.client(client)?;
        let answer = match grant {
            TokenGrant::Code { code, redirect_uri, verifier, .. } => {
                let redirect = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| NO_TOKENS)?;
                let code = AuthorizationCode::new(code.expose_secret().to_owned());
                let mut request = client.exchange_code(code).set_redirect_uri(Cow::Owned(redirect));
                if let Some(verifier) = verifier {
                    request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier.expose_secret().to_owned()));
                }
                request.request_async(self).await
            }
            TokenGrant::Refresh(token) => {
                let token = RefreshToken::new(token.expose_secret().to_owned());
                client.exchange_refresh_token(&token).request_async(self).await
            }
            TokenGrant::ClientCredentials { .. } => client.exchange_client_credentials().request_async(self).await,
        };
        match answer {
            Ok(answer) => Ok(answer.into()),
            Err(RequestTokenError::Request(error)) => Err(error),
            // The others hold the body.
            Err(_) => Err(NO_TOKENS),
        }
    }

    fn client(&self, client: &OAuthClient) -> Result<VendorClient, CrmError> {
        let auth_type = match self.rules.client_auth {
            ClientAuth::Basic => AuthType::BasicAuth,
            ClientAuth::InBody => AuthType::RequestBody,
        };
        let url = TokenUrl::new(self.url()).map_err(|_| NO_URL)?;
        Ok(OAuth2Client::new(ClientId::new(client.id.clone()))
            .set_client_secret(ClientSecret::new(client.secret.expose_secret().to_owned()))
            .set_auth_type(auth_type)
            .set_token_uri(url))
    }

    fn url(&self) -> String {
        format!("{}{}", self.base, self.rules.token_path)
    }

    async fn post(&self, content_type: HeaderValue, body: Vec<u8>) -> Result<TokenAnswer, TokenRefusal> {
        let request = oauth2::http::Request::post(self.url())
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT, JSON)
            .body(body)
            .map_err(|_| NO_URL)?;
        let response = self.send(request).await?;
        Ok(serde_json::from_slice(response.body()).map_err(|_| NO_TOKENS)?)
    }

    /// Sends a request; what comes back is a success with its whole body.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, TokenRefusal> {
        // Made of a URL and a body that were checked before.
        let request = request.try_into().map_err(|_: reqwest::Error| NO_URL)?;
        let response = http::counted(self.provider, self.http.execute(request)).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_server_error() || status.is_redirection() || status == StatusCode::TOO_MANY_REQUESTS {
            let meaning = http::meaning_of_status(status, &headers);
            return Err(meaning.unwrap_or(CrmError::Refused(status.as_u16())).into());
        }
        let body = http::read_body_up_to(response, http::SMALL_BODY_BYTES_MAX).await?;
        if !status.is_success() {
            return Err(meaning_of_refusal(status, &headers, &body));
        }
        let mut answer = HttpResponse::new(body);
        answer.headers_mut().insert(CONTENT_TYPE, JSON);
        Ok(answer)
    }
}

impl<'c> AsyncHttpClient<'c> for TokenEndpoint<'_> {
    type Error = CrmError;
    type Future = CrmFuture<'c, HttpResponse>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move { Ok(self.send(request).await?) })
    }
}

/// Why there are no tokens.
enum TokenRefusal {
    /// What was shown is over.
    Expired,
    /// Anything else.
    Other(CrmError),
}

impl From<CrmError> for TokenRefusal {
    fn from(error: CrmError) -> Self {
        Self::Other(error)
    }
}

impl From<TokenRefusal> for CrmError {
    fn from(refusal: TokenRefusal) -> Self {
        match refusal {
            TokenRefusal::Expired => Self::GrantRefused,
            TokenRefusal::Other(error) => error,
        }
    }
}

/// What a 4xx of a token request means: by its code (RFC 6749 §5.2 and the vendors' further ones),
/// and where the code has several meanings by its words. What is in no row is doubtful: told by its
/// status, and taken for no more.
fn meaning_of_refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> TokenRefusal {
    #[derive(Deserialize)]
    struct RefusalWords {
        error: String,
        #[serde(alias = "message")]
        error_description: Option<String>,
    }
    let Ok(refusal) = serde_json::from_slice::<RefusalWords>(body) else {
        let meaning = match status {
            StatusCode::NOT_FOUND => CrmError::OrganizationNotFound,
            _ if http::is_page(headers, body) => http::PAGE,
            StatusCode::UNAUTHORIZED => CrmError::ClientRefused,
            _ => http::meaning_of_status(status, headers).unwrap_or(CrmError::Refused(status.as_u16())),
        };
        return meaning.into();
    };
    let words = refusal.error_description.unwrap_or_default().to_ascii_lowercase();
    let is_about = |some: &[&str]| some.iter().any(|part| words.contains(part));
    let meaning = match refusal.error.as_str() {
        _ if is_about(&["uninstalled", "has been removed by"]) => CrmError::Uninstalled,
        // Salesforce says so of too many logins, which passes.
        "invalid_grant" if is_about(&["login rate exceeded"]) => CrmError::RateLimited { retry_after: None },
        "invalid_grant" if is_about(&["retry your request", "temporarily"]) => {
            CrmError::Unavailable("it asks to try again")
        }
        "invalid_grant" if is_about(&["expired", "too long-lived"]) && !is_about(&["password"]) => {
            return TokenRefusal::Expired;
        }
        "invalid_grant" => login_refusal(&words).map_or(CrmError::GrantRefused, CrmError::LoginRefused),
        "inactive_user" => CrmError::LoginRefused(LoginRefusal::UserInactive),
        "invalid_app_access" => CrmError::LoginRefused(LoginRefusal::UserNotApproved),
        "access_denied" => CrmError::LoginRefused(login_refusal(&words).unwrap_or(LoginRefusal::Other)),
        "inactive_org" => CrmError::AccountClosed("the organisation is inactive; its administrator must open it"),
        "invalid_client"
        | "invalid_client_id"
        | "invalid_client_credentials"
        | "unauthorized_client"
        | "app_not_found"
        | "unsupported_grant_type"
        | "invalid_scope"
        | "redirect_uri_mismatch" => CrmError::ClientRefused,
        "rate_limit_exceeded" => CrmError::RateLimited { retry_after: http::wait(headers, RETRY_AFTER.as_str()) },
        "unknown_error" | "server_error" | "temporarily_unavailable" => CrmError::Unavailable("it asks to try again"),
        _ if status == StatusCode::NOT_FOUND => CrmError::OrganizationNotFound,
        _ => http::meaning_of_status(status, headers)
            .filter(|error| !matches!(error, CrmError::CredentialsRefused))
            .unwrap_or(CrmError::Refused(status.as_u16())),
    };
    meaning.into()
}

/// What Salesforce's words behind `invalid_grant` say of its user, its app, its hours and its
/// addresses, and nothing of a refresh token. Of a user whom it does not know it says, too, that he
/// has not approved the app.
fn login_refusal(words: &str) -> Option<LoginRefusal> {
    const ROWS: [(&[&str], LoginRefusal); 7] = [
        (&["hasn't approved", "not approved", "not admin approved"], LoginRefusal::UserNotApproved),
        (&["user not found", "unknown user", "user does not exist", "user doesn't exist"], LoginRefusal::UserUnknown),
        (&["inactive user", "user is inactive", "locked", "frozen"], LoginRefusal::UserInactive),
        (&["ip restricted", "login hours"], LoginRefusal::PlaceOrHour),
        (&["invalid assertion", "invalid signature"], LoginRefusal::AssertionInvalid),
        (&["audience"], LoginRefusal::AudienceWrong),
        (&["maintenance"], LoginRefusal::Maintenance),
    ];
    let row = ROWS.into_iter().find(|(parts, _)| parts.iter().any(|part| words.contains(part)));
    row.map(|(_, refusal)| refusal)
}

/// It travels in an HTTP header.
fn is_visible(token: &str) -> bool {
    token.bytes().all(|b| (0x21..0x7f).contains(&b))
}
