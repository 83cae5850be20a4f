//! Where an organisation's API is. A token is sent to Salesforce's own hosts only, or to the one that the operator named.

use reqwest::Url;

use crate::{
    crm::{CrmError, http::Endpoint},
    domain::{credentials::Access, host, integration::Provider},
};

/// The URL before `/services`, without a slash at its end.
pub(super) fn base_url(endpoint: &Endpoint, access: &Access) -> Result<String, CrmError> {
    let named = access.api_url.as_deref();
    match endpoint {
        Endpoint::Vendor => {
            let url = named.ok_or(CrmError::HostMissing)?;
            host::api_origin(Provider::Salesforce, url)
                .ok_or(CrmError::HostUnknown(host::api_hosts(Provider::Salesforce)))
        }
        Endpoint::Operator(own) => {
            // A simulator on another port of the same host is the operator's too.
            let url =
                named.filter(|named| host_of(named).is_some_and(|host| Some(host) == host_of(own))).unwrap_or(own);
            Ok(url.trim_end_matches('/').to_owned())
        }
    }
}

fn host_of(url: &str) -> Option<String> {
    Some(Url::parse(url).ok()?.host_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::credentials::AccessToken;

    fn base(endpoint: &Endpoint, api_url: Option<&str>) -> Result<String, CrmError> {
        let access = Access {
            token: AccessToken::Bearer("t".into()),
            api_url: api_url.map(str::to_owned),
            expires_at: None,
            version: 0,
            company_id: None,
            is_elsewhere: false,
        };
        base_url(endpoint, &access)
    }

    #[test]
    fn the_token_goes_to_hosts_of_salesforce_only() {
        let acme = "https://acme.my.salesforce.com";
        assert_eq!(base(&Endpoint::Vendor, Some("https://Acme.my.salesforce.com/")).unwrap(), acme);
        for url in [
            "http://acme.my.salesforce.com",
            "https://acme.my.salesforce.com.evil.example",
            "https://acme.pipedrive.com",
            "",
        ] {
            assert!(matches!(base(&Endpoint::Vendor, Some(url)), Err(CrmError::HostUnknown(_))), "{url}");
        }
        assert!(matches!(base(&Endpoint::Vendor, None), Err(CrmError::HostMissing)));
    }

    /// An operator's host may be left for another of its ports only.
    #[test]
    fn operators_host_changes_only_its_port() {
        let operator = Endpoint::Operator("http://127.0.0.1:8099/".to_owned());

        assert_eq!(base(&operator, None).unwrap(), "http://127.0.0.1:8099");
        assert_eq!(base(&operator, Some("http://127.0.0.1:9000")).unwrap(), "http://127.0.0.1:9000");
        assert_eq!(base(&operator, Some("https://acme.my.salesforce.com")).unwrap(), "http://127.0.0.1:8099");
    }
}
