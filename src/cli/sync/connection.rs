//! Which CRM organisation, and what opens it, as the command line and the environment give them.

use std::path::PathBuf;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    cli::client::{Secrets, failure::Stopped, read_secret},
    rpc::pb::{self, connection::Organization, credentials::Kind},
};

/// The CRM and the organisation in it.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "crm", required = true, multiple = false)]
pub(super) struct ConnectionArgs {
    /// Zendesk: the label before .zendesk.com, such as acme
    #[arg(long, value_name = "SUBDOMAIN")]
    zendesk: Option<String>,
    /// Salesforce: the organisation's id (00D..); for now only with --off
    #[arg(long, value_name = "ORG_ID")]
    salesforce: Option<String>,
    /// Pipedrive: the label before .pipedrive.com; for now only with --off
    #[arg(long, value_name = "COMPANY")]
    pipedrive: Option<String>,
}

impl ConnectionArgs {
    /// As the API takes it.
    pub(super) fn parts(self) -> anyhow::Result<(pb::Provider, pb::Connection)> {
        let (provider, organization) = match (self.zendesk, self.salesforce, self.pipedrive) {
            (Some(label), _, _) => (pb::Provider::Zendesk, Organization::ZendeskSubdomain(label)),
            (_, Some(id), _) => (pb::Provider::Salesforce, Organization::SalesforceOrgId(id)),
            (_, _, Some(label)) => (pb::Provider::Pipedrive, Organization::PipedriveCompany(label)),
            (None, None, None) => bail!("name a CRM with --zendesk, --salesforce or --pipedrive"),
        };
        Ok((provider, pb::Connection { organization: Some(organization), ..Default::default() }))
    }
}

/// What opens a CRM. The secrets themselves come from a file or the environment.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CredentialArgs {
    /// The administrator's e-mail address, with an API token of `ZENDESK_API_TOKEN` or --api-token-file; without it
    /// the bearer token of `ZENDESK_BEARER_TOKEN` is used
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// File with the API token; - for standard input
    #[arg(long, value_name = "FILE", requires = "email")]
    api_token_file: Option<PathBuf>,
}

impl CredentialArgs {
    /// The credentials, or what to do to bring some.
    pub(super) fn required(self, secrets: &Secrets) -> anyhow::Result<pb::Credentials> {
        self.optional(secrets)?.ok_or_else(|| {
            Stopped {
                what: "there are no credentials for the CRM".to_owned(),
                next: "give --email ADDRESS with the API token in ZENDESK_API_TOKEN or --api-token-file FILE, or a \
                       bearer token in ZENDESK_BEARER_TOKEN"
                    .to_owned(),
            }
            .into()
        })
    }

    /// The credentials, if any are given.
    pub(super) fn optional(self, secrets: &Secrets) -> anyhow::Result<Option<pb::Credentials>> {
        let kind = match (self.email, &secrets.zendesk_bearer_token) {
            (Some(email), _) => {
                let token = api_token(self.api_token_file, secrets)?;
                let token = token.expose_secret().to_owned();
                Kind::ZendeskApiToken(pb::ZendeskApiToken { email, token })
            }
            (None, Some(token)) => Kind::BearerToken(token.expose_secret().to_owned()),
            (None, None) => return Ok(None),
        };
        Ok(Some(pb::Credentials { kind: Some(kind) }))
    }
}

fn api_token(file: Option<PathBuf>, secrets: &Secrets) -> anyhow::Result<SecretString> {
    match (file, &secrets.zendesk_api_token) {
        (Some(path), _) => read_secret(&path).context("--api-token-file"),
        (None, Some(token)) => Ok(token.clone()),
        (None, None) => Err(Stopped {
            what: "--email is given, and no API token".to_owned(),
            next: "put the token into ZENDESK_API_TOKEN, or into a file for --api-token-file FILE".to_owned(),
        }
        .into()),
    }
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

    fn args(email: Option<&str>, file: Option<PathBuf>) -> CredentialArgs {
        CredentialArgs { email: email.map(str::to_owned), api_token_file: file }
    }

    fn secrets(api_token: Option<&str>, bearer: Option<&str>) -> Secrets {
        Secrets {
            zendesk_api_token: api_token.map(Into::into),
            zendesk_bearer_token: bearer.map(Into::into),
            ..Secrets::default()
        }
    }

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
    fn an_email_goes_with_an_api_token_and_without_it_the_bearer_token_is_used() {
        let both = secrets(Some("api"), Some("bearer"));

        let with_email = args(Some("admin@example.com"), None).required(&both).unwrap();
        let without = args(None, None).required(&both).unwrap();

        let token = pb::ZendeskApiToken { email: "admin@example.com".into(), token: "api".into() };
        assert_eq!(with_email.kind, Some(Kind::ZendeskApiToken(token)));
        assert_eq!(without.kind, Some(Kind::BearerToken("bearer".into())));
    }

    #[test]
    fn missing_credentials_are_said_with_what_to_do() {
        let none = secrets(None, None);

        assert_eq!(args(None, None).optional(&none).unwrap(), None);
        assert!(args(None, None).required(&none).unwrap_err().downcast_ref::<Stopped>().is_some());
        assert!(args(Some("admin@example.com"), None).optional(&secrets(None, Some("bearer"))).is_err());
    }

    #[test]
    fn a_crm_is_named_with_its_organisation() {
        let args = ConnectionArgs { zendesk: None, salesforce: Some("00Dx0000000BV7z".into()), pipedrive: None };

        let (provider, connection) = args.parts().unwrap();

        assert_eq!(provider, pb::Provider::Salesforce);
        assert_eq!(connection.organization, Some(Organization::SalesforceOrgId("00Dx0000000BV7z".into())));
    }
}
