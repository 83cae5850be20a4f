//! What opens a CRM: which of the credentials in files and the environment are used, which are not,
//! and what those lack that are there in half. Says so by the names of variables and files, never
//! by a value.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::connection::only;
use crate::{
    cli::client::{
        ClientSecrets, CrmSecrets, ServiceClient,
        failure::CommandFailure,
        read_private_key, read_secret,
        show::{self, LabelledLines},
    },
    domain::provider::Provider,
    rpc::pb::{self, credentials::Kind},
};

/// What opens a CRM. The secrets themselves come from a file or the environment: of one CRM
/// (ZENDESK, SALESFORCE or PIPEDRIVE) the first there is of `<CRM>_API_TOKEN`, `_BEARER_TOKEN`,
/// `_REFRESH_TOKEN` (with `_CLIENT_ID` and `_CLIENT_SECRET`, unless the server has its own), and
/// `_CLIENT_ID` with `_CLIENT_SECRET`.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct CredentialArgs {
    /// Zendesk: the administrator's e-mail address, with an API token of `ZENDESK_API_TOKEN` or
    /// --api-token-file; without it `ZENDESK_BEARER_TOKEN`, `ZENDESK_REFRESH_TOKEN` or
    /// `ZENDESK_CLIENT_ID` and `ZENDESK_CLIENT_SECRET`
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Zendesk: file with the API token; - for standard input
    #[arg(long, value_name = "FILE", requires = "email")]
    api_token_file: Option<PathBuf>,
    /// Salesforce: My Domain, such as acme.my.salesforce.com, or test.salesforce.com; for
    /// `SALESFORCE_BEARER_TOKEN`, `SALESFORCE_REFRESH_TOKEN`, or `SALESFORCE_CLIENT_ID` and
    /// `SALESFORCE_CLIENT_SECRET`
    #[arg(long, value_name = "HOST")]
    salesforce_host: Option<String>,
    /// Salesforce: file with the RSA key (PEM) that signs for `SALESFORCE_CLIENT_ID`; - for
    /// standard input [env: `SALESFORCE_JWT_KEY_FILE`]
    #[arg(long, value_name = "FILE")]
    jwt_key_file: Option<PathBuf>,
    /// Salesforce: the user in whose name it signs [env: `SALESFORCE_USERNAME`]
    #[arg(long, value_name = "USERNAME")]
    username: Option<String>,
}

/// Credentials, and where they came from.
#[derive(Debug)]
pub(super) struct FoundCredentials {
    pub(super) credentials: pb::Credentials,
    /// Files and variables that they were taken from.
    used: String,
    /// Variables of this CRM that are set and were not needed.
    unused: Vec<String>,
}

impl FoundCredentials {
    /// Tells on standard error what is used: an answer for a program stays as it is.
    pub(super) fn tell(self, client: &ServiceClient) -> pb::Credentials {
        if client.is_json() {
            eprintln!("{}", json!({ "credentials": self.used, "notUsed": self.unused }));
        } else {
            let mut lines = LabelledLines::default();
            lines.add("credentials", &self.used);
            lines.add("not used", self.unused.join(", "));
            eprint!("{lines}");
        }
        self.credentials
    }
}

/// What there is of one CRM.
enum FoundKind {
    Whole(Kind, String),
    /// Half of something, and what it lacks.
    Half(CommandFailure),
    Nothing,
}

impl CredentialArgs {
    /// Salesforce's host, if one is given.
    pub(super) fn host(&self) -> Option<String> {
        self.salesforce_host.clone()
    }

    /// The credentials, or what to do to bring some.
    pub(super) fn required(self, provider: Provider, secrets: &ClientSecrets) -> anyhow::Result<FoundCredentials> {
        match self.find(provider, secrets)? {
            FoundKind::Whole(kind, used) => Ok(brought(kind, used, provider, secrets)),
            FoundKind::Half(stopped) => Err(stopped.into()),
            FoundKind::Nothing => {
                let what = "there are no credentials for the CRM".to_owned();
                let ways = ways(provider);
                let next = format!("{ways}; or let an administrator authorize it with `contact-sync sync authorize`");
                Err(CommandFailure { what, next }.into())
            }
        }
    }

    /// The credentials, if any are given whole.
    pub(super) fn optional(
        self,
        provider: Provider,
        secrets: &ClientSecrets,
    ) -> anyhow::Result<Option<FoundCredentials>> {
        Ok(match self.find(provider, secrets)? {
            FoundKind::Whole(kind, used) => Some(brought(kind, used, provider, secrets)),
            FoundKind::Half(_) | FoundKind::Nothing => None,
        })
    }

    /// Errors are about what was typed: a flag of another CRM, a file that cannot be read, half of
    /// a way that was chosen by a flag.
    fn find(self, provider: Provider, secrets: &ClientSecrets) -> anyhow::Result<FoundKind> {
        for (of, flag, is_given) in [
            (Provider::Zendesk, "--email", self.email.is_some()),
            (Provider::Zendesk, "--api-token-file", self.api_token_file.is_some()),
            (Provider::Salesforce, "--salesforce-host", self.salesforce_host.is_some()),
            (Provider::Salesforce, "--jwt-key-file", self.jwt_key_file.is_some()),
            (Provider::Salesforce, "--username", self.username.is_some()),
        ] {
            only(of, provider, flag, is_given)?;
        }
        match provider {
            Provider::Zendesk => match self.email {
                Some(email) => by_email(email, self.api_token_file, &secrets.crms[provider]),
                None => Ok(zendesk_without_email(&secrets.crms[provider])),
            },
            Provider::Salesforce => by_key(self.jwt_key_file, self.username, &secrets.crms[provider]),
            Provider::Pipedrive => Ok(pipedrive(&secrets.crms[provider])),
        }
    }
}

/// How credentials of this CRM may be brought.
pub(super) const fn ways(provider: Provider) -> &'static str {
    match provider {
        Provider::Salesforce => {
            "set SALESFORCE_BEARER_TOKEN, SALESFORCE_REFRESH_TOKEN, or SALESFORCE_CLIENT_ID and SALESFORCE_CLIENT_SECRET, \
             or give --jwt-key-file FILE and --username with SALESFORCE_CLIENT_ID"
        }
        Provider::Pipedrive => "set PIPEDRIVE_API_TOKEN or PIPEDRIVE_REFRESH_TOKEN",
        Provider::Zendesk => {
            "give --email ADDRESS with the API token in ZENDESK_API_TOKEN or --api-token-file FILE, or set \
             ZENDESK_BEARER_TOKEN, ZENDESK_REFRESH_TOKEN, or ZENDESK_CLIENT_ID and ZENDESK_CLIENT_SECRET"
        }
    }
}

fn brought(kind: Kind, used: String, provider: Provider, secrets: &ClientSecrets) -> FoundCredentials {
    let mut unused: Vec<String> = secrets.crms[provider].names(provider.as_str());
    unused.retain(|name| !used.split([' ', ',']).any(|word| word == name));
    FoundCredentials { credentials: pb::Credentials { kind: Some(kind) }, used, unused }
}

fn from_environment(names: &str) -> String {
    format!("{names} (environment)")
}

fn from_file(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { show::clean(&path.display().to_string()) }
}

fn half(what: String, next: impl Into<String>) -> CommandFailure {
    CommandFailure { what, next: next.into() }
}

fn by_email(email: String, file: Option<PathBuf>, secrets: &CrmSecrets) -> anyhow::Result<FoundKind> {
    let (token, used) = match (file, &secrets.api_token) {
        (Some(path), _) => {
            let token = read_secret(&path).context("--api-token-file")?;
            (exposed(&token), format!("--api-token-file {}, with --email", from_file(&path)))
        }
        (None, Some(token)) => (exposed(token), from_environment("ZENDESK_API_TOKEN, with --email")),
        (None, None) => {
            let next = "put the token into ZENDESK_API_TOKEN, or into a file for --api-token-file FILE";
            return Err(half("--email is given, and no API token".to_owned(), next).into());
        }
    };
    Ok(FoundKind::Whole(Kind::ZendeskApiToken(pb::ZendeskApiToken { email, token }), used))
}

fn zendesk_without_email(secrets: &CrmSecrets) -> FoundKind {
    match by_oauth("ZENDESK", secrets) {
        FoundKind::Nothing if secrets.api_token.is_some() => FoundKind::Half(half(
            "ZENDESK_API_TOKEN is set, and no e-mail address is given, without which it opens nothing".to_owned(),
            "give --email ADDRESS: the administrator's to whom the token belongs",
        )),
        found => found,
    }
}

fn pipedrive(secrets: &CrmSecrets) -> FoundKind {
    if let Some(token) = &secrets.api_token {
        return FoundKind::Whole(Kind::PipedriveApiToken(exposed(token)), from_environment("PIPEDRIVE_API_TOKEN"));
    }
    match by_oauth("PIPEDRIVE", secrets) {
        FoundKind::Whole(Kind::ClientCredentials(_), _) => FoundKind::Half(half(
            "PIPEDRIVE_CLIENT_ID and PIPEDRIVE_CLIENT_SECRET are set, and alone open nothing at Pipedrive".to_owned(),
            "set PIPEDRIVE_API_TOKEN, or PIPEDRIVE_REFRESH_TOKEN beside them; or let an administrator authorize it with \
             `contact-sync sync authorize --pipedrive`",
        )),
        found => found,
    }
}

/// Salesforce: by a key, if there are a key and a user; a flag decides for it, and lacks nothing
/// silently.
fn by_key(file: Option<PathBuf>, username: Option<String>, secrets: &CrmSecrets) -> anyhow::Result<FoundKind> {
    let is_chosen = file.is_some() || username.is_some();
    let key = match file {
        Some(path) => Some((path, "--jwt-key-file")),
        None => secrets.jwt_key_file.clone().map(|path| (path, "SALESFORCE_JWT_KEY_FILE")),
    };
    let named = username.map(|name| (name, "--username"));
    let named = named.or_else(|| secrets.username.clone().map(|name| (name, "SALESFORCE_USERNAME")));
    let lacks =
        |given: &str, what: &str, next: &str| FoundKind::Half(half(format!("{given} is given, and no {what}"), next));
    let found = match (key, named) {
        (Some((path, by)), Some((username, named_by))) => {
            let Some(client_id) = secrets.client_id.as_ref().map(exposed) else {
                let next = "put the consumer key of the app into SALESFORCE_CLIENT_ID";
                return Err(half(format!("{by} is given, and no client id"), next).into());
            };
            let private_key = exposed(&read_private_key(&path).context(by)?);
            let used = format!("{by} {}, with SALESFORCE_CLIENT_ID and {named_by}", from_file(&path));
            let kind = Kind::SalesforceJwt(pb::SalesforceJwt { client_id, username, private_key });
            return Ok(FoundKind::Whole(kind, used));
        }
        (Some((_, by)), None) => lacks(by, "user", "give --username: the user in whose name the key signs"),
        (None, Some((_, by))) => lacks(by, "key", "give --jwt-key-file FILE: the key of the app's certificate"),
        (None, None) => FoundKind::Nothing,
    };
    match (found, by_oauth("SALESFORCE", secrets)) {
        (FoundKind::Half(stopped), _) if is_chosen => Err(stopped.into()),
        (FoundKind::Nothing, FoundKind::Half(mut stopped)) if secrets.client_secret.is_none() => {
            stopped.next = format!("{}; or give --jwt-key-file FILE and --username", stopped.next);
            Ok(FoundKind::Half(stopped))
        }
        (FoundKind::Half(stopped), FoundKind::Nothing | FoundKind::Half(_)) => Ok(FoundKind::Half(stopped)),
        (_, found) => Ok(found),
    }
}

/// A token, or a client, as every CRM has them.
fn by_oauth(name: &str, secrets: &CrmSecrets) -> FoundKind {
    if let Some(token) = &secrets.bearer_token {
        return FoundKind::Whole(Kind::BearerToken(exposed(token)), from_environment(&format!("{name}_BEARER_TOKEN")));
    }
    let (id, secret) = (format!("{name}_CLIENT_ID"), format!("{name}_CLIENT_SECRET"));
    let client = match (&secrets.client_id, &secrets.client_secret) {
        (Some(client_id), Some(client_secret)) => Some((exposed(client_id), exposed(client_secret))),
        (Some(_), None) => {
            return FoundKind::Half(half(format!("{id} is set, and {secret} is not"), format!("set {secret}")));
        }
        (None, Some(_)) => {
            return FoundKind::Half(half(format!("{secret} is set, and {id} is not"), format!("set {id}")));
        }
        (None, None) => None,
    };
    match (&secrets.refresh_token, client) {
        (Some(token), client) => {
            let whose =
                if client.is_some() { format!("{id} and {secret}") } else { "the server's own client".to_owned() };
            let (client_id, client_secret) = client.unwrap_or_default();
            let kind = Kind::RefreshToken(pb::RefreshToken { token: exposed(token), client_id, client_secret });
            FoundKind::Whole(kind, from_environment(&format!("{name}_REFRESH_TOKEN, with {whose}")))
        }
        (None, Some((client_id, client_secret))) => {
            let kind = Kind::ClientCredentials(pb::ClientCredentials { client_id, client_secret });
            FoundKind::Whole(kind, from_environment(&format!("{id} and {secret}")))
        }
        (None, None) => FoundKind::Nothing,
    }
}

fn exposed(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> CredentialArgs {
        CredentialArgs::default()
    }

    /// As if these variables were set, to their own names in small letters.
    fn set(names: &[&str]) -> CrmSecrets {
        let secret = |name: &str| names.contains(&name).then(|| SecretString::from(name.to_lowercase()));
        CrmSecrets {
            api_token: secret("API_TOKEN"),
            bearer_token: secret("BEARER_TOKEN"),
            refresh_token: secret("REFRESH_TOKEN"),
            client_id: secret("CLIENT_ID"),
            client_secret: secret("CLIENT_SECRET"),
            jwt_key_file: names.contains(&"JWT_KEY_FILE").then(|| "/nonexistent".into()),
            username: names.contains(&"USERNAME").then(|| "user@example.com".to_owned()),
        }
    }

    fn secrets(provider: Provider, names: &[&str]) -> ClientSecrets {
        let mut secrets = ClientSecrets::default();
        secrets.crms[provider] = set(names);
        secrets
    }

    fn used(provider: Provider, args: CredentialArgs, names: &[&str]) -> (String, Vec<String>) {
        let brought = args.required(provider, &secrets(provider, names)).unwrap();
        (brought.used, brought.unused)
    }

    fn lacking(provider: Provider, args: CredentialArgs, names: &[&str]) -> String {
        let error = args.required(provider, &secrets(provider, names)).unwrap_err();
        let next = error.downcast_ref::<CommandFailure>().map(|stopped| stopped.next.clone()).unwrap_or_default();
        format!("{error}; {next}")
    }

    /// What is used and what is not used is said by name.
    #[test]
    fn used_and_unused_credentials_are_said_by_name() {
        use Provider::{Pipedrive, Salesforce, Zendesk};
        let by_email = || CredentialArgs { email: Some("admin@example.com".into()), ..args() };
        for (provider, args, names, expected, unused) in [
            (
                Zendesk,
                args(),
                &["BEARER_TOKEN", "API_TOKEN"][..],
                "ZENDESK_BEARER_TOKEN (environment)",
                "ZENDESK_API_TOKEN",
            ),
            (
                Zendesk,
                by_email(),
                &["BEARER_TOKEN", "API_TOKEN"],
                "ZENDESK_API_TOKEN, with --email (environment)",
                "ZENDESK_BEARER_TOKEN",
            ),
            (
                Zendesk,
                args(),
                &["CLIENT_ID", "CLIENT_SECRET"],
                "ZENDESK_CLIENT_ID and ZENDESK_CLIENT_SECRET (environment)",
                "",
            ),
            (
                Salesforce,
                args(),
                &["REFRESH_TOKEN"],
                "SALESFORCE_REFRESH_TOKEN, with the server's own client (environment)",
                "",
            ),
            (
                Salesforce,
                args(),
                &["REFRESH_TOKEN", "CLIENT_ID", "CLIENT_SECRET"],
                "SALESFORCE_REFRESH_TOKEN, with SALESFORCE_CLIENT_ID and SALESFORCE_CLIENT_SECRET (environment)",
                "",
            ),
            (
                Salesforce,
                args(),
                &["BEARER_TOKEN", "JWT_KEY_FILE"],
                "SALESFORCE_BEARER_TOKEN (environment)",
                "SALESFORCE_JWT_KEY_FILE",
            ),
            (
                Pipedrive,
                args(),
                &["API_TOKEN", "REFRESH_TOKEN"],
                "PIPEDRIVE_API_TOKEN (environment)",
                "PIPEDRIVE_REFRESH_TOKEN",
            ),
        ] {
            let (told, left) = used(provider, args, names);

            assert_eq!((told.as_str(), left.join(", ").as_str()), (expected, unused));
        }
    }

    #[test]
    fn half_of_something_says_what_it_lacks() {
        use Provider::{Pipedrive, Salesforce, Zendesk};
        let by_email = || CredentialArgs { email: Some("admin@example.com".into()), ..args() };
        let by_user = || CredentialArgs { username: Some("user@example.com".into()), ..args() };
        let by_key = || CredentialArgs { jwt_key_file: Some("/nonexistent".into()), ..args() };
        for (provider, args, names, words) in [
            (Zendesk, args(), &["API_TOKEN"][..], &["ZENDESK_API_TOKEN is set", "give --email"][..]),
            (Zendesk, by_email(), &["BEARER_TOKEN"], &["no API token", "--api-token-file"]),
            (Zendesk, args(), &["CLIENT_ID"], &["ZENDESK_CLIENT_ID is set", "set ZENDESK_CLIENT_SECRET"]),
            (Zendesk, args(), &["CLIENT_SECRET"], &["ZENDESK_CLIENT_SECRET is set", "set ZENDESK_CLIENT_ID"]),
            (Zendesk, args(), &["REFRESH_TOKEN", "CLIENT_ID"], &["set ZENDESK_CLIENT_SECRET"]),
            (Salesforce, args(), &["CLIENT_ID"], &["set SALESFORCE_CLIENT_SECRET; or give --jwt-key-file FILE"]),
            (Salesforce, by_user(), &["CLIENT_ID"], &["--username is given, and no key", "--jwt-key-file"]),
            (Salesforce, by_key(), &["CLIENT_ID", "BEARER_TOKEN"], &["--jwt-key-file is given, and no user"]),
            (Salesforce, args(), &["CLIENT_ID", "JWT_KEY_FILE"], &["SALESFORCE_JWT_KEY_FILE is given, and no user"]),
            (Salesforce, args(), &["JWT_KEY_FILE", "USERNAME"], &["no client id", "SALESFORCE_CLIENT_ID"]),
            (Pipedrive, args(), &["CLIENT_ID", "CLIENT_SECRET"], &["alone open nothing", "PIPEDRIVE_REFRESH_TOKEN"]),
            (Pipedrive, args(), &["REFRESH_TOKEN", "CLIENT_SECRET"], &["set PIPEDRIVE_CLIENT_ID"]),
            (Pipedrive, args(), &[], &["there are no credentials", "PIPEDRIVE_API_TOKEN", "sync authorize"]),
        ] {
            let told = lacking(provider, args, names);

            assert!(words.iter().all(|word| told.contains(word)), "{names:?}: {told}");
        }
    }

    /// Where none are needed, half of something is none.
    #[test]
    fn half_credential_is_none_where_optional() {
        for names in [&["CLIENT_ID"][..], &["API_TOKEN"], &[]] {
            let found = args().optional(Provider::Zendesk, &secrets(Provider::Zendesk, names)).unwrap();

            assert!(found.is_none(), "{names:?}");
        }
    }

    /// Flags of another CRM are refused by name, and its variables are not.
    #[test]
    fn other_crms_flags_are_refused_variables_not() {
        use Provider::{Pipedrive, Salesforce, Zendesk};
        let text = || Some("x".to_owned());
        let path = || Some(PathBuf::from("x"));
        for (of, flag, args) in [
            (Zendesk, "--email", CredentialArgs { email: text(), ..args() }),
            (Zendesk, "--api-token-file", CredentialArgs { api_token_file: path(), ..args() }),
            (Salesforce, "--salesforce-host", CredentialArgs { salesforce_host: text(), ..args() }),
            (Salesforce, "--jwt-key-file", CredentialArgs { jwt_key_file: path(), ..args() }),
            (Salesforce, "--username", CredentialArgs { username: text(), ..args() }),
        ] {
            for provider in [Zendesk, Salesforce, Pipedrive].into_iter().filter(|provider| *provider != of) {
                let told = lacking(provider, args.clone(), &["BEARER_TOKEN"]);

                assert!(told.contains(&format!("{flag} is for ")) && told.contains("leave"), "{told}");
            }
        }
        let mut both = secrets(Zendesk, &["BEARER_TOKEN"]);
        both.crms[Salesforce] = set(&["JWT_KEY_FILE", "USERNAME", "CLIENT_ID"]);
        assert!(args().required(Zendesk, &both).is_ok());
    }
}
