//! What opens a CRM. In the clear only between the vault and the CRM client.

use secrecy::SecretString;

/// Longest e-mail or token taken, in bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 4096;

/// One kind of credentials. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Zendesk: an administrator's e-mail and API token.
    ZendeskApiToken {
        /// The administrator's e-mail address.
        email: SecretString,
        /// The token.
        token: SecretString,
    },
    /// A bearer access token.
    Bearer(SecretString),
}
