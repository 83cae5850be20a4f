//! Which hosts are a vendor's own: credentials and tokens are sent to no other, whoever names it, a tenant or a vendor's answer.

use thiserror::Error;

use super::integration::Provider;

/// Longest host name, in bytes (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// Longest label of one, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// Where Salesforce lets people and programs in: `login`, `test` and every My Domain, also of its government and Chinese clouds.
/// Not `force.com`, where customers' own sites live.
const SALESFORCE_LOGIN: [&str; 3] = [".salesforce.com", ".salesforce.mil", ".sfcrmproducts.cn"];
/// Where Salesforce may say that an organisation's API is: as its own command line knows them.
const SALESFORCE_API: [&str; 6] =
    [".salesforce.com", ".salesforce.mil", ".sfcrmproducts.cn", ".sfcrmapps.cn", ".force.com", ".cloudforce.com"];
/// Where Pipedrive's API is.
const PIPEDRIVE_API: [&str; 1] = [".pipedrive.com"];

/// Why a text names no host of Salesforce's.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "must be a host of Salesforce's alone, without https:// or a path, such as acme.my.salesforce.com, login.salesforce.com or test.salesforce.com"
)]
pub struct InvalidHost;

/// A host that a tenant names, lower-cased: Salesforce's login host or My Domain.
pub fn salesforce_login(text: &str) -> Result<String, InvalidHost> {
    within(&SALESFORCE_LOGIN, text).ok_or(InvalidHost)
}

/// Whether a host of Salesforce's is of an organisation for tests, to which `test.salesforce.com` lets in: `test` itself, sandboxes and
/// scratch organisations by their My Domain, also in its older forms with `--`, and the instances of sandboxes (`cs12`, `usa3s`).
/// Developer editions, demo, patch and training organisations log in at `login.salesforce.com` (Salesforce, "My Domain URL Formats").
pub fn is_salesforce_test(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let Some(below) = host.strip_suffix(".salesforce.com") else { return false };
    let labels: Vec<&str> = below.split('.').filter(|label| *label != "my").collect();
    match labels.as_slice() {
        ["test"] | [_, .., "sandbox" | "scratch"] => true,
        [alone] => is_sandbox_instance(alone) || alone.contains("--"),
        [name, rest @ ..] => name.contains("--") || rest.iter().any(|label| is_sandbox_instance(label)),
        [] => false,
    }
}

/// `cs` and a number, or three letters, a number and an `s`.
fn is_sandbox_instance(label: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let of_a_place = label.strip_suffix('s').and_then(|label| label.split_at_checked(3));
    label.strip_prefix("cs").is_some_and(is_number)
        || of_a_place.is_some_and(|(place, number)| place.bytes().all(|b| b.is_ascii_alphabetic()) && is_number(number))
}

/// The hosts at which a vendor's API may be, in words, for an error.
pub const fn api_hosts(provider: Provider) -> &'static str {
    match provider {
        Provider::Zendesk => "*.zendesk.com",
        Provider::Salesforce => {
            "*.salesforce.com, *.force.com, *.cloudforce.com, *.salesforce.mil, *.sfcrmproducts.cn, *.sfcrmapps.cn"
        }
        Provider::Pipedrive => "*.pipedrive.com",
    }
}

/// `https://host` of the URL at which a vendor says that its API is; `None`: not one of the vendor's hosts, or more than a host.
pub fn api_origin(provider: Provider, url: &str) -> Option<String> {
    let families: &[&str] = match provider {
        Provider::Zendesk => &[],
        Provider::Salesforce => &SALESFORCE_API,
        Provider::Pipedrive => &PIPEDRIVE_API,
    };
    let rest = url.strip_prefix("https://")?;
    let host = within(families, rest.strip_suffix('/').unwrap_or(rest))?;
    Some(format!("https://{host}"))
}

/// The host in lower case, if it is a plain name below one of the families: labels of letters, digits and inner hyphens (RFC 1123), which
/// leaves no room for a port, a user, a path, an address, or letters that look like others.
fn within(families: &[&str], text: &str) -> Option<String> {
    let host = text.to_ascii_lowercase();
    let is_name = host.len() <= HOST_BYTES_MAX && host.split('.').all(is_label);
    let is_within = families.iter().any(|family| host.len() > family.len() && host.ends_with(family));
    (is_name && is_within).then_some(host)
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

    /// Salesforce's login hosts and My Domains are its own.
    #[test]
    fn login_hosts_and_my_domains_are_salesforces() {
        for (given, host) in [
            ("login.salesforce.com", "login.salesforce.com"),
            ("Acme.My.Salesforce.com", "acme.my.salesforce.com"),
            ("acme--dev.sandbox.my.salesforce.com", "acme--dev.sandbox.my.salesforce.com"),
            ("acme.my.salesforce.mil", "acme.my.salesforce.mil"),
            ("acme.my.sfcrmproducts.cn", "acme.my.sfcrmproducts.cn"),
        ] {
            assert_eq!(salesforce_login(given).as_deref(), Ok(host));
        }
    }

    /// Organisations for tests are told from those of customers.
    #[test]
    fn organizations_for_tests_are_told_from_customers() {
        for host in [
            "test.salesforce.com",
            "acme--dev.sandbox.my.salesforce.com",
            "Acme--Dev.Sandbox.my.salesforce.com",
            "acme--uat.my.salesforce.com",
            "acme--uat.cs12.my.salesforce.com",
            "velocity-data-1234-dev-ed.scratch.my.salesforce.com",
            "cs12.salesforce.com",
            "cs101.my.salesforce.com",
            "usa3s.salesforce.com",
        ] {
            assert!(is_salesforce_test(host), "{host}");
        }
        for host in [
            "login.salesforce.com",
            "acme.my.salesforce.com",
            "scratch.my.salesforce.com",
            "sandbox.my.salesforce.com",
            "acme-dev-ed.develop.my.salesforce.com",
            "acme.demo.my.salesforce.com",
            "acme.patch.my.salesforce.com",
            "acme.trailblaze.my.salesforce.com",
            "na139.salesforce.com",
            "css.my.salesforce.com",
            "acme--dev.sandbox.my.salesforce.mil",
            "acme--dev.sandbox.my.salesforce.com.evil.example",
        ] {
            assert!(!is_salesforce_test(host), "{host}");
        }
    }

    #[test]
    fn whatever_leads_elsewhere_is_no_host_of_salesforces() {
        let long = format!("{}.salesforce.com", "a".repeat(64));
        let longer = format!("{}salesforce.com", "a.".repeat(130));
        for nasty in [
            "",
            ".",
            "salesforce.com",
            ".salesforce.com",
            "evilsalesforce.com",
            "acme.my.salesforce.com.evil.com",
            "acme.my.salesforce.com.",
            "acme..salesforce.com",
            "-acme.salesforce.com",
            "acme-.salesforce.com",
            "evil.com/.salesforce.com",
            "evil.com\\.salesforce.com",
            "evil.com?.salesforce.com",
            "evil.com#.salesforce.com",
            "evil.com@acme.my.salesforce.com",
            "user:password@acme.my.salesforce.com",
            "acme.my.salesforce.com@evil.com",
            "acme.my.salesforce.com:8443",
            "evil.com:443.salesforce.com",
            "https://acme.my.salesforce.com",
            "acme.my.salesforce.com/path",
            " acme.my.salesforce.com",
            "acme.my.salesforce.com\n",
            "acme .salesforce.com",
            "a\0b.salesforce.com",
            "acmé.salesforce.com",
            "acme.my.salesforce。com",
            "acme.my.ѕalesforce.com",
            "acme_x.salesforce.com",
            "%61cme.salesforce.com",
            "127.0.0.1",
            "[::1]",
            "localhost",
            "evil.force.com",
            "evil.my.salesforce-sites.com",
            &long,
            &longer,
        ] {
            assert_eq!(salesforce_login(nasty), Err(InvalidHost), "{nasty:?}");
        }
    }

    /// A vendor's answer names an API at the vendor's hosts, over https.
    #[test]
    fn answer_names_api_at_vendors_https_hosts() {
        let salesforce = |url| api_origin(Provider::Salesforce, url);
        let pipedrive = |url| api_origin(Provider::Pipedrive, url);

        assert_eq!(salesforce("https://acme.my.salesforce.com").as_deref(), Some("https://acme.my.salesforce.com"));
        assert_eq!(salesforce("https://Acme.cloudforce.com/").as_deref(), Some("https://acme.cloudforce.com"));
        assert_eq!(pipedrive("https://acme.pipedrive.com").as_deref(), Some("https://acme.pipedrive.com"));
        for wrong in [
            "http://acme.my.salesforce.com",
            "https://acme.my.salesforce.com//",
            "https://acme.my.salesforce.com/services",
            "https://acme.my.salesforce.com:444",
            "https://user@acme.my.salesforce.com",
            "https://acme.pipedrive.com",
            "https://salesforce.com",
            "//acme.my.salesforce.com",
            "acme.my.salesforce.com",
        ] {
            assert_eq!(salesforce(wrong), None, "{wrong}");
        }
        assert_eq!(pipedrive("https://acme.my.salesforce.com"), None);
        assert_eq!(api_origin(Provider::Zendesk, "https://acme.zendesk.com"), None);
    }
}
