//! Which CRM organisation, or which integration with one, as the command line gives it.

use anyhow::Context as _;

use crate::{
    cli::client::{AccountOption, failure::CommandFailure},
    domain::{ids::IntegrationId, provider::Provider},
    rpc::pb::{self, connection::Organization},
};

/// The CRM and the organisation in it.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "crm", required = true, multiple = false)]
pub(super) struct ConnectionArgs {
    /// Zendesk: the label before .zendesk.com, such as acme
    #[arg(long, value_name = "SUBDOMAIN")]
    zendesk: Option<String>,
    /// Salesforce: the organisation's id (00D..)
    #[arg(long, value_name = "ORG_ID")]
    salesforce: Option<String>,
    /// Pipedrive: the label before .pipedrive.com
    #[arg(long, value_name = "COMPANY")]
    pipedrive: Option<String>,
}

impl ConnectionArgs {
    /// As the API takes it, with Salesforce's host.
    pub(super) fn parts(self, salesforce_host: Option<String>) -> anyhow::Result<(Provider, pb::Connection)> {
        let (provider, organization) = chosen([
            (Provider::Zendesk, self.zendesk.map(Organization::ZendeskSubdomain)),
            (Provider::Salesforce, self.salesforce.map(Organization::SalesforceOrgId)),
            (Provider::Pipedrive, self.pipedrive.map(Organization::PipedriveCompany)),
        ])?;
        only(Provider::Salesforce, provider, "--salesforce-host", salesforce_host.is_some())?;
        let salesforce_host = salesforce_host.unwrap_or_default();
        Ok((provider, pb::Connection { organization: Some(organization), salesforce_host }))
    }
}

/// The CRM that is to be authorized, and perhaps the organisation in it.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "authorized_crm", required = true, multiple = false)]
pub(super) struct AuthorizedArgs {
    /// Zendesk: the label before .zendesk.com, such as acme; not needed with --integration
    #[arg(long, value_name = "SUBDOMAIN", num_args = 0..=1, default_missing_value = "")]
    zendesk: Option<String>,
    /// Salesforce; with the organisation's id (00D..) no other is taken
    #[arg(long, value_name = "ORG_ID", num_args = 0..=1, default_missing_value = "")]
    salesforce: Option<String>,
    /// Pipedrive; with the label before .pipedrive.com no other company is taken
    #[arg(long, value_name = "COMPANY", num_args = 0..=1, default_missing_value = "")]
    pipedrive: Option<String>,
}

impl AuthorizedArgs {
    /// As the API takes it.
    pub(super) fn parts(self, salesforce_host: Option<String>) -> anyhow::Result<(Provider, pb::Connection)> {
        let (provider, organization) = chosen([
            (Provider::Zendesk, self.zendesk.map(|name| named(name, Organization::ZendeskSubdomain))),
            (Provider::Salesforce, self.salesforce.map(|name| named(name, Organization::SalesforceOrgId))),
            (Provider::Pipedrive, self.pipedrive.map(|name| named(name, Organization::PipedriveCompany))),
        ])?;
        only(Provider::Salesforce, provider, "--salesforce-host", salesforce_host.is_some())?;
        Ok((provider, pb::Connection { organization, salesforce_host: salesforce_host.unwrap_or_default() }))
    }
}

/// An organisation, if its name was given.
fn named(name: String, organization: fn(String) -> Organization) -> Option<Organization> {
    (!name.is_empty()).then(|| organization(name))
}

/// The CRM whose flag was given.
fn chosen<T, const COUNT: usize>(crms: [(Provider, Option<T>); COUNT]) -> anyhow::Result<(Provider, T)> {
    let mut given = crms.into_iter().filter_map(|(provider, said)| said.map(|said| (provider, said)));
    given.next().context("name a CRM with --zendesk, --salesforce or --pipedrive")
}

/// An integration that there is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct IntegrationOption {
    #[command(flatten)]
    pub(super) account: AccountOption,
    /// Integration, as `sync status` shows it
    #[arg(id = "integration", long = "integration", value_name = "ID")]
    pub(super) id: IntegrationId,
}

/// Refuses a flag that was given, and belongs to another CRM than the one that is meant.
pub(super) fn only(of: Provider, meant: Provider, flag: &str, is_given: bool) -> anyhow::Result<()> {
    if !is_given || of == meant {
        return Ok(());
    }
    let what = format!("{flag} is for {of} only, and this is {meant}");
    Err(CommandFailure { what, next: format!("leave {flag} out") }.into())
}

/// `30m`: a number and s, m or h, from a minute to a day.
pub(super) fn period(text: &str) -> Result<prost_types::Duration, String> {
    let wrong = || "a number and s, m or h, from 1m to 24h".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3_600),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| (60..=86_400).contains(seconds)).ok_or_else(wrong)?;
    Ok(prost_types::Duration { seconds, nanos: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_minute_to_a_day() {
        for (text, seconds) in [("60s", 60), ("30m", 1_800), ("24h", 86_400)] {
            assert_eq!(period(text).unwrap().seconds, seconds);
        }
        for wrong in ["", "30", "m", "59s", "25h", "1d", "-5m", "99999999999999999999m", "9223372036854775807h"] {
            assert!(period(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_crm_is_named_with_its_organisation() {
        let args = ConnectionArgs { zendesk: None, salesforce: Some("00Dx0000000BV7z".into()), pipedrive: None };

        let (provider, connection) = args.parts(None).unwrap();

        assert_eq!(provider, Provider::Salesforce);
        assert_eq!(connection.organization, Some(Organization::SalesforceOrgId("00Dx0000000BV7z".into())));
    }

    /// A host of Salesforce's is for no other CRM.
    #[test]
    fn salesforce_host_is_for_salesforce_only() {
        let zendesk = || ConnectionArgs { zendesk: Some("acme".into()), salesforce: None, pipedrive: None };

        let error = zendesk().parts(Some("acme.my.salesforce.com".into())).unwrap_err();

        assert_eq!(error.to_string(), "--salesforce-host is for Salesforce only, and this is Zendesk");
        assert!(zendesk().parts(None).is_ok());
    }
}
