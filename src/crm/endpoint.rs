//! Where a provider is reached: the one rule that says to which host a request with a token goes.
//! Which hosts are the vendor's own says its descriptor ([`HostRules`]); an operator may point a
//! provider at a proxy or a simulator, and then nothing is sent elsewhere.

use reqwest::Url;

use super::CrmError;
use crate::domain::host::{HostRules, ORGANIZATION_PLACE};

/// Where a provider is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderEndpoint {
    /// The vendor's own hosts.
    Vendor,
    /// Where the operator points it: a simulator or a proxy. May contain `{subdomain}`.
    Operator(String),
}

impl ProviderEndpoint {
    /// Where an organisation's API is, without a slash at its end. `named`: as the vendor has said
    /// with the access; it must then be a host of the vendor's.
    pub(super) fn api_base(
        &self,
        hosts: &HostRules,
        organization: &str,
        named: Option<&str>,
    ) -> Result<String, CrmError> {
        match (self, named) {
            (Self::Vendor, None) => {
                let host = hosts.api_host(organization).map_err(CrmError::HostMissing)?;
                Ok(format!("https://{host}"))
            }
            (Self::Vendor, Some(url)) => hosts.named_origin(url).ok_or(CrmError::HostUnknown(hosts.apis_in_words)),
            (Self::Operator(own), named) => {
                let own = own_base(own, organization);
                // A simulator or proxy may serve organisations on ports of their own.
                Ok(named.and_then(|url| origin_beside(&own, url)).unwrap_or(own))
            }
        }
    }

    /// Where tokens are given. `host`: as the credentials name it.
    pub(super) fn token_base(&self, hosts: &HostRules, organization: &str, host: Option<&str>) -> String {
        match self {
            Self::Operator(own) => own_base(own, organization),
            Self::Vendor => match host {
                Some(host) => format!("https://{host}"),
                None => format!("https://{}", hosts.token_host(organization)),
            },
        }
    }

    /// The origin at which the vendor says with an access that the API is. Behind an operator's URL
    /// that is its host, at any port.
    pub(super) fn named_origin(&self, hosts: &HostRules, organization: &str, url: &str) -> Result<String, CrmError> {
        let origin = match self {
            Self::Vendor => hosts.named_origin(url),
            Self::Operator(own) => bare_origin_beside(&own_base(own, organization), url),
        };
        origin.ok_or(CrmError::HostUnknown(hosts.apis_in_words))
    }
}

fn own_base(own: &str, organization: &str) -> String {
    own.replace(ORGANIZATION_PLACE, organization).trim_end_matches('/').to_owned()
}

/// The origin of a URL on the same host.
fn origin_beside(own: &str, url: &str) -> Option<String> {
    let (own, url) = (Url::parse(own).ok()?, Url::parse(url).ok()?);
    (url.host_str() == own.host_str()).then(|| url.origin().ascii_serialization())
}

/// The same of a URL that is nothing but a place in the web.
fn bare_origin_beside(own: &str, url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    let is_bare =
        parsed.path() == "/" && parsed.query().is_none() && parsed.username().is_empty() && parsed.password().is_none();
    let is_web = matches!(parsed.scheme(), "http" | "https");
    if is_bare && is_web { origin_beside(own, url) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::host::ApiHost;

    const HOSTS: HostRules = HostRules {
        api: ApiHost::MadeOf("{subdomain}.example.com"),
        named_apis: &[".example.com"],
        apis_in_words: "*.example.com",
        tokens: "oauth.example.com",
    };

    fn operator(url: &str) -> ProviderEndpoint {
        ProviderEndpoint::Operator(url.to_owned())
    }

    #[test]
    fn vendors_host_is_made_of_the_label_or_named_by_the_vendor() {
        for (api_url, base) in [
            (None, "https://acme.example.com"),
            (Some("https://acme.example.com"), "https://acme.example.com"),
            (Some("https://acme-2.example.com/"), "https://acme-2.example.com"),
        ] {
            assert_eq!(ProviderEndpoint::Vendor.api_base(&HOSTS, "acme", api_url).unwrap(), base);
        }
        let without = HostRules { api: ApiHost::Named("its own"), ..HOSTS };
        assert!(matches!(
            ProviderEndpoint::Vendor.api_base(&without, "acme", None),
            Err(CrmError::HostMissing("its own"))
        ));
    }

    #[test]
    fn no_token_is_sent_to_a_host_that_is_not_the_vendors() {
        for api_url in [
            "http://acme.example.com",
            "https://example.com.evil.example",
            "https://evilexample.com",
            "https://acme.example.com@evil.example",
            "https://acme.example.com:8443",
            "https://127.0.0.1",
            "acme.example.com",
            "",
        ] {
            let refused = ProviderEndpoint::Vendor.api_base(&HOSTS, "acme", Some(api_url));
            assert!(matches!(refused, Err(CrmError::HostUnknown("*.example.com"))), "{api_url}");

            let refused = ProviderEndpoint::Vendor.named_origin(&HOSTS, "acme", api_url);
            assert!(matches!(refused, Err(CrmError::HostUnknown("*.example.com"))), "{api_url}");
        }
    }

    #[test]
    fn operators_host_wins_and_its_ports_may_differ() {
        for (base, api_url, expected) in [
            ("http://127.0.0.1:8080/", None, "http://127.0.0.1:8080"),
            ("http://{subdomain}.sim:8080", None, "http://acme.sim:8080"),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:9090"), "http://127.0.0.1:9090"),
            ("http://127.0.0.1:8080", Some("https://acme.example.com"), "http://127.0.0.1:8080"),
        ] {
            assert_eq!(operator(base).api_base(&HOSTS, "acme", api_url).unwrap(), expected);
        }
    }

    #[test]
    fn an_answer_names_the_operators_host_and_nothing_beside_it() {
        let named = |url| operator("http://127.0.0.1:8080").named_origin(&HOSTS, "acme", url);

        assert_eq!(named("http://127.0.0.1:9090/").unwrap(), "http://127.0.0.1:9090");
        for wrong in
            ["https://acme.example.com", "http://127.0.0.1:1/api", "http://u@127.0.0.1:1", "ftp://127.0.0.1", ""]
        {
            assert!(matches!(named(wrong), Err(CrmError::HostUnknown(_))), "{wrong}");
        }
    }

    #[test]
    fn tokens_are_asked_for_at_the_host_that_the_credentials_name_or_the_vendors() {
        assert_eq!(ProviderEndpoint::Vendor.token_base(&HOSTS, "acme", None), "https://oauth.example.com");
        assert_eq!(ProviderEndpoint::Vendor.token_base(&HOSTS, "acme", Some("t.example.com")), "https://t.example.com");
        assert_eq!(operator("http://h:1/").token_base(&HOSTS, "acme", Some("t.example.com")), "http://h:1");
    }
}
