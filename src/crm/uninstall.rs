//! What a CRM tells the deployment's own app when a company removes it. Proven by the app's id and
//! secret, which nobody else has.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{CrmClients, vendor::UninstallNotice, vendors::vendor};
use crate::domain::provider::Provider;

impl CrmClients {
    /// The CRM that shows this deployment's own client for it, as HTTP Basic does; `None`: nobody
    /// that may tell of an uninstall.
    pub fn proven_by_own_client(&self, authorization: &str) -> Option<Provider> {
        let (scheme, encoded) = authorization.split_once(' ')?;
        let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let shown = String::from_utf8(decoded).ok()?;
        let is_shown = |provider: &&Provider| {
            let own = self.settings.providers[**provider].oauth_client.as_ref();
            vendor(**provider).uninstall().is_some() && own.is_some_and(|own| own.is(&shown))
        };
        Provider::ALL.iter().find(is_shown).copied()
    }

    /// Which company it is, of a notice that is proven; `None`: it cannot be read.
    pub fn read_uninstall(&self, provider: Provider, body: &[u8]) -> Option<UninstallNotice> {
        let own = self.settings.providers[provider].oauth_client.as_ref()?;
        vendor(provider).uninstall()?(&own.id, body)
    }
}
