//! Which CRM organisation, and what opens it, as the command line and the environment give them.

use std::path::PathBuf;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    cli::client::{CrmSecrets, Secrets, failure::Stopped, read_private_key, read_secret},
    rpc::pb::{self, connection::Organization, credentials::Kind},
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
    pub(super) fn parts(self, salesforce_host: Option<String>) -> anyhow::Result<(pb::Provider, pb::Connection)> {
        let (provider, organization) = match (self.zendesk, self.salesforce, self.pipedrive) {
            (Some(label), _, _) => (pb::Provider::Zendesk, Organization::ZendeskSubdomain(label)),
            (_, Some(id), _) => (pb::Provider::Salesforce, Organization::SalesforceOrgId(id)),
            (_, _, Some(label)) => (pb::Provider::Pipedrive, Organization::PipedriveCompany(label)),
            (None, None, None) => bail!("name a CRM with --zendesk, --salesforce or --pipedrive"),
        };
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
    pub(super) fn parts(self, salesforce_host: Option<String>) -> anyhow::Result<(pb::Provider, pb::Connection)> {
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        let (provider, organization) = match (self.zendesk, self.salesforce, self.pipedrive) {
            (Some(label), _, _) => (pb::Provider::Zendesk, named(label).map(Organization::ZendeskSubdomain)),
            (_, Some(id), _) => (pb::Provider::Salesforce, named(id).map(Organization::SalesforceOrgId)),
            (_, _, Some(label)) => (pb::Provider::Pipedrive, named(label).map(Organization::PipedriveCompany)),
            (None, None, None) => bail!("name a CRM with --zendesk, --salesforce or --pipedrive"),
        };
        Ok((provider, pb::Connection { organization, salesforce_host: salesforce_host.unwrap_or_default() }))
    }
}

/// What opens a CRM. The secrets themselves come from a file or the environment: of one CRM (ZENDESK, SALESFORCE or
/// PIPEDRIVE) the first there is of `<CRM>_API_TOKEN`, `_BEARER_TOKEN`, `_REFRESH_TOKEN` (with `_CLIENT_ID` and
/// `_CLIENT_SECRET`, unless the server has its own), and `_CLIENT_ID` with `_CLIENT_SECRET`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct CredentialArgs {
    /// Zendesk: the administrator's e-mail address, with an API token of `ZENDESK_API_TOKEN` or --api-token-file;
    /// without it `ZENDESK_BEARER_TOKEN`, `ZENDESK_REFRESH_TOKEN` or `ZENDESK_CLIENT_ID` and `ZENDESK_CLIENT_SECRET`
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Zendesk: file with the API token; - for standard input
    #[arg(long, value_name = "FILE", requires = "email")]
    api_token_file: Option<PathBuf>,
    /// Salesforce: My Domain, such as acme.my.salesforce.com, or test.salesforce.com; for `SALESFORCE_BEARER_TOKEN`,
    /// `SALESFORCE_REFRESH_TOKEN`, or `SALESFORCE_CLIENT_ID` and `SALESFORCE_CLIENT_SECRET`
    #[arg(long, value_name = "HOST")]
    salesforce_host: Option<String>,
    /// Salesforce: file with the RSA key (PEM) that signs for `SALESFORCE_CLIENT_ID`; - for standard input
    #[arg(long, value_name = "FILE", env = "SALESFORCE_JWT_KEY_FILE", requires = "username")]
    jwt_key_file: Option<PathBuf>,
    /// Salesforce: the user in whose name it signs
    #[arg(long, value_name = "USERNAME")]
    username: Option<String>,
}

impl CredentialArgs {
    /// Salesforce's host, if one is given.
    pub(super) fn host(&self) -> Option<String> {
        self.salesforce_host.clone()
    }

    /// The credentials, or what to do to bring some.
    pub(super) fn required(self, provider: pb::Provider, secrets: &Secrets) -> anyhow::Result<pb::Credentials> {
        let next = match provider {
            pb::Provider::Salesforce => {
                "set SALESFORCE_BEARER_TOKEN, SALESFORCE_REFRESH_TOKEN, or SALESFORCE_CLIENT_ID and \
                 SALESFORCE_CLIENT_SECRET, or give --jwt-key-file FILE and --username"
            }
            pb::Provider::Pipedrive => "set PIPEDRIVE_API_TOKEN or PIPEDRIVE_REFRESH_TOKEN",
            _ => {
                "give --email ADDRESS with the API token in ZENDESK_API_TOKEN or --api-token-file FILE, or set \
                 ZENDESK_BEARER_TOKEN, ZENDESK_REFRESH_TOKEN, or ZENDESK_CLIENT_ID and ZENDESK_CLIENT_SECRET"
            }
        };
        let next = format!("{next}; or let an administrator authorize it with `contact-sync sync authorize`");
        let what = "there are no credentials for the CRM".to_owned();
        self.optional(provider, secrets)?.ok_or_else(|| Stopped { what, next }.into())
    }

    /// The credentials, if any are given.
    pub(super) fn optional(self, provider: pb::Provider, secrets: &Secrets) -> anyhow::Result<Option<pb::Credentials>> {
        let kind = match provider {
            pb::Provider::Zendesk => match self.email {
                Some(email) => {
                    let token = exposed(&api_token(self.api_token_file, &secrets.zendesk)?);
                    Some(Kind::ZendeskApiToken(pb::ZendeskApiToken { email, token }))
                }
                None => by_oauth(&secrets.zendesk),
            },
            pb::Provider::Salesforce => match (self.jwt_key_file, self.username) {
                (Some(path), Some(username)) => {
                    let private_key = exposed(&read_private_key(&path).context("--jwt-key-file")?);
                    let client_id = secrets.salesforce.client_id.as_ref().map(exposed).ok_or_else(|| Stopped {
                        what: "--jwt-key-file is given, and no client id".to_owned(),
                        next: "put the consumer key of the connected app into SALESFORCE_CLIENT_ID".to_owned(),
                    })?;
                    Some(Kind::SalesforceJwt(pb::SalesforceJwt { client_id, username, private_key }))
                }
                _ => by_oauth(&secrets.salesforce),
            },
            pb::Provider::Pipedrive => match &secrets.pipedrive.api_token {
                Some(token) => Some(Kind::PipedriveApiToken(exposed(token))),
                None => by_oauth(&secrets.pipedrive),
            },
            pb::Provider::Unspecified => None,
        };
        Ok(kind.map(|kind| pb::Credentials { kind: Some(kind) }))
    }
}

/// A token, or a client, as every CRM has them.
fn by_oauth(secrets: &CrmSecrets) -> Option<Kind> {
    if let Some(token) = &secrets.bearer_token {
        return Some(Kind::BearerToken(exposed(token)));
    }
    let client = secrets.client_id.as_ref().map(exposed).zip(secrets.client_secret.as_ref().map(exposed));
    match (&secrets.refresh_token, client) {
        (Some(token), client) => {
            let (client_id, client_secret) = client.unwrap_or_default();
            Some(Kind::RefreshToken(pb::RefreshToken { token: exposed(token), client_id, client_secret }))
        }
        (None, Some((client_id, client_secret))) => {
            Some(Kind::ClientCredentials(pb::ClientCredentials { client_id, client_secret }))
        }
        (None, None) => None,
    }
}

fn exposed(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

fn api_token(file: Option<PathBuf>, secrets: &CrmSecrets) -> anyhow::Result<SecretString> {
    match (file, &secrets.api_token) {
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
        CredentialArgs { email: email.map(str::to_owned), api_token_file: file, ..CredentialArgs::default() }
    }

    fn secrets(api_token: Option<&str>, bearer: Option<&str>) -> Secrets {
        let zendesk = CrmSecrets {
            api_token: api_token.map(Into::into),
            bearer_token: bearer.map(Into::into),
            ..CrmSecrets::default()
        };
        Secrets { zendesk, ..Secrets::default() }
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

        let with_email = args(Some("admin@example.com"), None).required(pb::Provider::Zendesk, &both).unwrap();
        let without = args(None, None).required(pb::Provider::Zendesk, &both).unwrap();

        let token = pb::ZendeskApiToken { email: "admin@example.com".into(), token: "api".into() };
        assert_eq!(with_email.kind, Some(Kind::ZendeskApiToken(token)));
        assert_eq!(without.kind, Some(Kind::BearerToken("bearer".into())));
    }

    #[test]
    fn missing_credentials_are_said_with_what_to_do() {
        let none = secrets(None, None);

        assert_eq!(args(None, None).optional(pb::Provider::Zendesk, &none).unwrap(), None);
        assert!(
            args(None, None).required(pb::Provider::Zendesk, &none).unwrap_err().downcast_ref::<Stopped>().is_some()
        );
        assert!(
            args(Some("admin@example.com"), None)
                .optional(pb::Provider::Zendesk, &secrets(None, Some("bearer")))
                .is_err()
        );
    }

    #[test]
    fn a_refresh_token_goes_with_its_client_and_a_client_alone_is_one_too() {
        let crm = |refresh: Option<&str>, id: Option<&str>| Secrets {
            pipedrive: CrmSecrets {
                refresh_token: refresh.map(Into::into),
                client_id: id.map(Into::into),
                client_secret: id.map(|_| "s".into()),
                ..CrmSecrets::default()
            },
            ..Secrets::default()
        };
        let kind =
            |secrets: &Secrets| args(None, None).required(pb::Provider::Pipedrive, secrets).unwrap().kind.unwrap();
        let refresh = |id: &str, secret: &str| {
            let (token, client_id, client_secret) = ("r".into(), id.into(), secret.into());
            Kind::RefreshToken(pb::RefreshToken { token, client_id, client_secret })
        };

        assert_eq!(kind(&crm(Some("r"), Some("i"))), refresh("i", "s"));
        assert_eq!(kind(&crm(Some("r"), None)), refresh("", ""));
        let alone = pb::ClientCredentials { client_id: "i".into(), client_secret: "s".into() };
        assert_eq!(kind(&crm(None, Some("i"))), Kind::ClientCredentials(alone));
    }

    #[test]
    fn a_crm_is_named_with_its_organisation() {
        let args = ConnectionArgs { zendesk: None, salesforce: Some("00Dx0000000BV7z".into()), pipedrive: None };

        let (provider, connection) = args.parts(None).unwrap();

        assert_eq!(provider, pb::Provider::Salesforce);
        assert_eq!(connection.organization, Some(Organization::SalesforceOrgId("00Dx0000000BV7z".into())));
    }
}
