//! Which vendor reads what came over HTTP: events, by the secret of their hook.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    CrmClients, ProviderEndpoint,
    hook::{HookDelivery, HookMessage, HookRefusal},
    vendors::vendor,
};
use crate::domain::{hook::HookSecret, notice::Notice, provider::Provider};

impl CrmClients {
    /// Whether this CRM sends events.
    pub fn has_hooks(&self, provider: Provider) -> bool {
        vendor(provider).hooks().is_some()
    }

    /// From look to look at a hook of this CRM's, while all is well; `None`: it has none.
    pub fn hook_check_every(&self, provider: Provider) -> Option<TimeDelta> {
        vendor(provider).hooks().map(|rules| rules.check_every)
    }

    /// Whether what events show is chosen here; else the CRM says it, once it has the hook.
    pub fn chooses_hook_secret(&self, provider: Provider) -> bool {
        vendor(provider).hooks().is_some_and(|rules| rules.secret_is_ours)
    }

    /// What is said of a token that may not make hooks, by the scopes that it has; `None`: it may.
    pub fn lacks_push_scope(&self, provider: Provider, scopes: &str) -> Option<Notice> {
        let rules = vendor(provider).hooks()?;
        let mut words = scopes.split([' ', ',']);
        if words.any(rules.is_enough) { None } else { Some(rules.scope_missing.clone()) }
    }

    /// Whether this CRM can send to an address that begins so: over TLS, but for one that the
    /// operator runs himself.
    pub fn sends_to(&self, provider: Provider, base: &str) -> bool {
        base.starts_with("https://") || self.settings.providers[provider].endpoint != ProviderEndpoint::Vendor
    }

    /// What an event says, if it shows the secret.
    pub fn read_hook(
        &self,
        provider: Provider,
        delivery: &HookDelivery<'_>,
        secret: &HookSecret,
        now: DateTime<Utc>,
    ) -> Result<HookMessage, HookRefusal> {
        let rules = vendor(provider).hooks().ok_or(HookRefusal::Unsigned)?;
        if !(rules.verify)(delivery, secret, now) {
            return Err(HookRefusal::Unsigned);
        }
        (rules.read)(delivery.body).ok_or(HookRefusal::Unreadable)
    }
}
