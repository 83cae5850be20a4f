//! Which hosts are a vendor's own: credentials and tokens are sent to no other, whoever names it, a
//! tenant or a vendor's answer. The rule is here; which families are a vendor's says its
//! descriptor.

use thiserror::Error;

/// Longest host name, in bytes (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// Longest label of one, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// What stands for the organisation's name in a host.
pub const ORGANIZATION_PLACE: &str = "{subdomain}";

/// Where a vendor's APIs are, and where it gives tokens.
#[derive(Debug)]
pub struct HostRules {
    /// An organisation's API, unless the vendor has named its host.
    pub api: ApiHost,
    /// The families of hosts, such as `.example.com`, of which the vendor may name one for an API.
    /// Empty: it never does.
    pub named_apis: &'static [&'static str],
    /// All hosts at which its APIs may be, in words, for an error.
    pub apis_in_words: &'static str,
    /// Where tokens are given, unless the credentials name a host; with [`ORGANIZATION_PLACE`].
    pub tokens: &'static str,
}

/// The host of an organisation's API.
#[derive(Debug, Clone, Copy)]
pub enum ApiHost {
    /// Made of the organisation's name; with [`ORGANIZATION_PLACE`].
    MadeOf(&'static str),
    /// Nobody can make it: the vendor or the administrator names it. Which it is, in words, for an
    /// error.
    Named(&'static str),
}

/// Where an administrator may say that people log in.
#[derive(Debug)]
pub struct LoginHosts {
    /// The families of hosts, such as `.example.com`.
    pub families: &'static [&'static str],
    /// Those of them where everybody logs in, and so no organisation's API is.
    pub shared: &'static [&'static str],
    /// What such a host must be.
    pub must_be: &'static str,
    /// What it must be with credentials that say nothing of the organisation: its own host.
    /// `{kind}` stands for theirs.
    pub must_be_own: &'static str,
}

/// Why a text names no host of a vendor's.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidHost(&'static str);

impl HostRules {
    /// The host of an organisation's API, if nobody need name it; else which host is to be named,
    /// in words.
    pub fn api_host(&self, organization: &str) -> Result<String, &'static str> {
        match self.api {
            ApiHost::MadeOf(host) => Ok(host.replace(ORGANIZATION_PLACE, organization)),
            ApiHost::Named(words) => Err(words),
        }
    }

    /// The host that gives tokens for an organisation.
    pub fn token_host(&self, organization: &str) -> String {
        self.tokens.replace(ORGANIZATION_PLACE, organization)
    }

    /// `https://host` of the URL at which the vendor says that an API is; `None`: not one of its
    /// hosts, or more than a host.
    pub fn named_origin(&self, url: &str) -> Option<String> {
        let rest = url.strip_prefix("https://")?;
        let host = within(self.named_apis, rest.strip_suffix('/').unwrap_or(rest))?;
        Some(format!("https://{host}"))
    }
}

impl LoginHosts {
    /// A host that a tenant names, lower-cased.
    pub fn parse(&self, text: &str) -> Result<String, InvalidHost> {
        within(self.families, text).ok_or(InvalidHost(self.must_be))
    }

    /// Whether a host is an organisation's own.
    pub fn is_own(&self, host: &str) -> bool {
        !self.shared.contains(&host)
    }
}

/// The host in lower case, if it is a plain name below one of the families: labels of letters,
/// digits and inner hyphens (RFC 1123), which leaves no room for a port, a user, a path, an
/// address, or letters that look like others.
fn within(families: &[&str], text: &str) -> Option<String> {
    let host = text.to_ascii_lowercase();
    let is_name = host.len() <= HOST_BYTES_MAX && host.split('.').all(is_label);
    let is_within = families.iter().any(|family| host.len() > family.len() && host.ends_with(family));
    (is_name && is_within).then_some(host)
}

/// One label of a host, lower-cased (RFC 1123): letters, digits and inner hyphens, at most 63.
pub fn dns_label(text: &str) -> Option<String> {
    is_label(text).then(|| text.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: HostRules = HostRules {
        api: ApiHost::MadeOf("{subdomain}.example.com"),
        named_apis: &[".example.com", ".example.cn"],
        apis_in_words: "*.example.com, *.example.cn",
        tokens: "{subdomain}.login.example.com",
    };

    #[test]
    fn hosts_are_made_of_the_organisations_name() {
        assert_eq!(RULES.api_host("acme").as_deref(), Ok("acme.example.com"));
        assert_eq!(RULES.token_host("acme"), "acme.login.example.com");
        assert_eq!(HostRules { api: ApiHost::Named("its own"), ..RULES }.api_host("acme"), Err("its own"));
    }

    /// A vendor's answer names an API at the vendor's hosts, over https.
    #[test]
    fn a_vendor_names_a_host_of_its_own_families_and_nothing_else() {
        assert_eq!(RULES.named_origin("https://Acme.example.cn/").as_deref(), Some("https://acme.example.cn"));
        for wrong in ["https://example.com", "https://acme.example.com.evil.com", "http://acme.example.com", ""] {
            assert_eq!(RULES.named_origin(wrong), None, "{wrong}");
        }
        assert_eq!(HostRules { named_apis: &[], ..RULES }.named_origin("https://acme.example.com"), None);
    }
}
