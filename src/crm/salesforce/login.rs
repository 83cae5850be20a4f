//! Where Salesforce lets people and programs in: at one host for all, at one for sandboxes and
//! their like, and at each organisation's own, its My Domain.

/// Where tokens are given unless My Domain is named.
pub(super) const PRODUCTION: &str = "login.salesforce.com";
/// The same for sandboxes.
pub(super) const SANDBOX: &str = "test.salesforce.com";

/// Where tokens are given too, if an organisation's My Domain does not answer for it any more: the
/// login host behind it.
pub(super) fn behind(my_domain: &str) -> Option<&'static str> {
    my_domain.ends_with(".my.salesforce.com").then(|| of_all(my_domain))
}

/// Whom an assertion is for. Salesforce does not take My Domain there, but the login host behind
/// it: one for sandboxes and scratch organisations, one for the rest. Its government and Chinese
/// clouds document none, so it is the host that is asked.
pub(super) fn audience(host: Option<&str>) -> String {
    let host = host.unwrap_or(PRODUCTION);
    let login = if host.ends_with(".salesforce.com") { of_all(host) } else { host };
    format!("https://{login}")
}

fn of_all(host: &str) -> &'static str {
    if is_for_tests(host) { SANDBOX } else { PRODUCTION }
}

/// Whether a host of Salesforce's is of an organisation for tests, to which `test.salesforce.com`
/// lets in: `test` itself, sandboxes and scratch organisations by their My Domain, also in its
/// older forms with `--`, and the instances of sandboxes (`cs12`, `usa3s`). Developer editions,
/// demo, patch and training organisations log in at `login.salesforce.com` (Salesforce, "My Domain
/// URL Formats").
fn is_for_tests(host: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::{super::descriptor::DESCRIPTOR, *};
    use crate::domain::host::LoginHosts;

    fn hosts() -> &'static LoginHosts {
        DESCRIPTOR.login_hosts.as_ref().unwrap()
    }

    #[test]
    fn salesforces_login_hosts_and_my_domains_are_its_own() {
        for (given, host) in [
            ("login.salesforce.com", "login.salesforce.com"),
            ("Acme.My.Salesforce.com", "acme.my.salesforce.com"),
            ("acme--dev.sandbox.my.salesforce.com", "acme--dev.sandbox.my.salesforce.com"),
            ("acme.my.salesforce.mil", "acme.my.salesforce.mil"),
            ("acme.my.sfcrmproducts.cn", "acme.my.sfcrmproducts.cn"),
        ] {
            assert_eq!(hosts().parse(given).as_deref(), Ok(host));
        }
    }

    #[test]
    fn organisations_for_tests_are_told_from_those_of_customers() {
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
            assert!(is_for_tests(host), "{host}");
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
            assert!(!is_for_tests(host), "{host}");
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
            assert!(hosts().parse(nasty).is_err(), "{nasty:?}");
        }
    }

    #[test]
    fn the_api_is_at_salesforces_hosts_over_https() {
        let origin = |url| DESCRIPTOR.hosts.named_origin(url);

        assert_eq!(origin("https://acme.my.salesforce.com").as_deref(), Some("https://acme.my.salesforce.com"));
        assert_eq!(origin("https://Acme.cloudforce.com/").as_deref(), Some("https://acme.cloudforce.com"));
        for wrong in [
            "http://acme.my.salesforce.com",
            "https://acme.my.salesforce.com//",
            "https://acme.my.salesforce.com/services",
            "https://acme.my.salesforce.com:444",
            "https://acme.my.salesforce.com.evil.example",
            "https://user@acme.my.salesforce.com",
            "https://acme.pipedrive.com",
            "https://salesforce.com",
            "//acme.my.salesforce.com",
            "acme.my.salesforce.com",
            "",
        ] {
            assert_eq!(origin(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_assertion_is_for_the_login_host_behind_my_domain() {
        for (host, audience_is) in [
            (None, "https://login.salesforce.com"),
            (Some("acme.my.salesforce.com"), "https://login.salesforce.com"),
            (Some("acme--dev.sandbox.my.salesforce.com"), "https://test.salesforce.com"),
            (Some("test.salesforce.com"), "https://test.salesforce.com"),
            (Some("acme-1234.scratch.my.salesforce.com"), "https://test.salesforce.com"),
            (Some("acme-dev-ed.develop.my.salesforce.com"), "https://login.salesforce.com"),
            (Some("acme.my.sfcrmproducts.cn"), "https://acme.my.sfcrmproducts.cn"),
        ] {
            assert_eq!(audience(host), audience_is);
        }
    }
}
