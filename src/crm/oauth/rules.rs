//! What vendors' forms of OAuth differ in, as values.

/// A vendor's form of OAuth (RFC 6749).
pub(in crate::crm) struct OAuthRules {
    /// Where an administrator authorizes, below the place that gives tokens.
    pub(in crate::crm) authorize_path: &'static str,
    /// Where tokens are asked for.
    pub(in crate::crm) token_path: &'static str,
    /// What tokens are for.
    pub(in crate::crm) scopes: &'static [&'static str],
    /// It knows PKCE (RFC 7636).
    pub(in crate::crm) uses_pkce: bool,
    /// How a client shows itself.
    pub(in crate::crm) client_auth: ClientAuth,
    /// How the fields of a token request are written.
    pub(in crate::crm) token_form: TokenForm,
}

/// How a client shows itself (RFC 6749 §2.3.1).
#[derive(Clone, Copy)]
pub(in crate::crm) enum ClientAuth {
    /// HTTP Basic.
    Basic,
    /// Among the fields.
    InBody,
}

/// How the fields of a token request are written.
#[derive(Clone, Copy)]
pub(in crate::crm) enum TokenForm {
    /// As RFC 6749 says.
    Form,
    /// As JSON, with how long tokens shall live.
    Json(TokenLives),
}

/// How long tokens shall live, in seconds.
#[derive(Clone, Copy)]
pub(in crate::crm) struct TokenLives {
    /// An access token.
    pub(in crate::crm) access_seconds: u32,
    /// A refresh token.
    pub(in crate::crm) refresh_seconds: u32,
}
