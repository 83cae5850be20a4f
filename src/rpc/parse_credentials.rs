//! What opens a CRM, as a request says it: which kinds fit which CRM, and what each needs. No error
//! repeats a value.

use secrecy::SecretString;
use tonic::Status;

use super::{parse, pb, status, together::ReadTogether};
use crate::domain::{
    credentials::{CREDENTIAL_BYTES_MAX, CredentialKind, CredentialType, Credentials, OAuthClient},
    descriptor::ProviderDescriptor,
    provider::Provider,
};

/// A host at which people log in as a request names it, and in which field it does or would.
pub(super) struct LoginHost {
    pub(super) field: &'static str,
    pub(super) name: Option<String>,
}

/// A login host, which may be left out. The API's field for it is named after the one CRM that has
/// such hosts.
pub(super) fn login_host(
    field: &'static str,
    descriptor: &ProviderDescriptor,
    text: &str,
) -> Result<LoginHost, Status> {
    if text.is_empty() {
        return Ok(LoginHost { field, name: None });
    }
    parse::only(Provider::Salesforce, descriptor.provider, field)?;
    let hosts = descriptor.login_hosts.as_ref();
    let hosts = hosts.ok_or_else(|| status::invalid(field, "must be left out"))?;
    let name = hosts.parse(text).map_err(|error| status::invalid(field, &error.to_string()))?;
    Ok(LoginHost { field, name: Some(name) })
}

/// The one of a connection.
pub(super) fn host_of(
    descriptor: &ProviderDescriptor,
    connection: Option<&pb::Connection>,
) -> Result<LoginHost, Status> {
    let text = connection.map_or("", |connection| &connection.salesforce_host);
    login_host("connection.salesforce_host", descriptor, text)
}

/// Credentials, which may be left out.
pub(super) fn credentials(
    descriptor: &ProviderDescriptor,
    host: Result<LoginHost, Status>,
    given: Option<pb::Credentials>,
) -> Result<Option<Credentials>, Status> {
    use pb::credentials::Kind;
    let Some(kind) = given.and_then(|credentials| credentials.kind) else { return host.map(|_| None) };
    let provider = descriptor.provider;
    let own = |host: Result<LoginHost, Status>, kind| host.and_then(|host| own_host(descriptor, host, kind));
    let kind = match kind {
        Kind::BearerToken(token) => {
            taken(descriptor, CredentialType::Bearer, "credentials.bearer_token")?;
            let (token, host) = (secret("credentials.bearer_token", token), own(host, "a bearer_token")).together()?;
            CredentialKind::Bearer { token, host }
        }
        Kind::ZendeskApiToken(given) => {
            parse::only(Provider::Zendesk, provider, "credentials.zendesk_api_token")?;
            let (email, token, _) = (
                secret("credentials.zendesk_api_token.email", given.email),
                secret("credentials.zendesk_api_token.token", given.token),
                host,
            )
                .together()?;
            CredentialKind::ApiToken { user: Some(email), token }
        }
        Kind::PipedriveApiToken(token) => {
            parse::only(Provider::Pipedrive, provider, "credentials.pipedrive_api_token")?;
            let (token, _) = (secret("credentials.pipedrive_api_token", token), host).together()?;
            CredentialKind::ApiToken { user: None, token }
        }
        Kind::RefreshToken(given) => {
            taken(descriptor, CredentialType::RefreshToken, "credentials.refresh_token")?;
            let (token, client, host) = (
                secret("credentials.refresh_token.token", given.token),
                client_if_given(given.client_id, given.client_secret),
                host,
            )
                .together()?;
            CredentialKind::RefreshToken { token, client, host: host.name, scopes: None }
        }
        Kind::ClientCredentials(given) => {
            taken(descriptor, CredentialType::ClientCredentials, "credentials.client_credentials")?;
            let (id, secret, host) = (
                visible("credentials.client_credentials.client_id", given.client_id),
                secret("credentials.client_credentials.client_secret", given.client_secret),
                own(host, "client_credentials"),
            )
                .together()?;
            CredentialKind::ClientCredentials { client: OAuthClient { id, secret }, host }
        }
        Kind::SalesforceJwt(given) => {
            parse::only(Provider::Salesforce, provider, "credentials.salesforce_jwt")?;
            let (client_id, username, private_key, host) = (
                visible("credentials.salesforce_jwt.client_id", given.client_id),
                secret("credentials.salesforce_jwt.username", given.username),
                private_key(given.private_key),
                host,
            )
                .together()?;
            CredentialKind::JwtBearer { client_id, username, private_key, host: host.name }
        }
    };
    Ok(Some(Credentials { provider, kind }))
}

/// Refuses a kind that several CRMs take, and this one does not.
fn taken(descriptor: &ProviderDescriptor, kind: CredentialType, field: &str) -> Result<(), Status> {
    if descriptor.credentials.contains(&kind) {
        return Ok(());
    }
    let problem = format!("is not known to {}; give {}", descriptor.provider, descriptor.credentials_hint);
    Err(status::invalid(field, &problem))
}

/// Refuses a try of what a try would use up.
pub(super) fn not_used_up(credentials: Credentials) -> Result<Credentials, Status> {
    if matches!(credentials.kind, CredentialKind::RefreshToken { .. }) {
        return Err(status::invalid(
            "credentials.refresh_token",
            "cannot be tried alone, since that would use it up; EnableSync and UpdateSync try it before they store it",
        ));
    }
    Ok(credentials)
}

/// Where an API is at the organisation's own host, and these credentials say nothing of it.
fn own_host(descriptor: &ProviderDescriptor, host: LoginHost, kind: &str) -> Result<Option<String>, Status> {
    if let Some(hosts) = &descriptor.login_hosts
        && !host.name.as_deref().is_some_and(|host| hosts.is_own(host))
    {
        return Err(status::invalid(host.field, &hosts.must_be_own.replace("{kind}", kind)));
    }
    Ok(host.name)
}

fn client_if_given(id: String, client_secret: String) -> Result<Option<OAuthClient>, Status> {
    if id.is_empty() && client_secret.is_empty() {
        return Ok(None);
    }
    let (id, secret) = (
        visible("credentials.refresh_token.client_id", id),
        secret("credentials.refresh_token.client_secret", client_secret),
    )
        .together()?;
    Ok(Some(OAuthClient { id, secret }))
}

fn secret(field: &str, text: String) -> Result<SecretString, Status> {
    visible(field, text).map(SecretString::from)
}

/// It travels in an HTTP header or a form.
fn visible(field: &str, text: String) -> Result<String, Status> {
    let fits = (1..=CREDENTIAL_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| (0x21..0x7f).contains(&b));
    if fits {
        Ok(text)
    } else {
        Err(status::invalid(field, "must have 1 to 4096 visible ASCII characters, without spaces"))
    }
}

fn private_key(text: String) -> Result<SecretString, Status> {
    let is_pem = text.trim_start().starts_with("-----BEGIN ") && text.contains("PRIVATE KEY-----");
    if is_pem && text.len() <= CREDENTIAL_BYTES_MAX {
        Ok(text.into())
    } else {
        let problem = "must be an RSA key in PEM, from -----BEGIN PRIVATE KEY----- on, at most 4096 bytes";
        Err(status::invalid("credentials.salesforce_jwt.private_key", problem))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;
    use crate::rpc::pb::credentials::Kind;

    const HOST: &str = "connection.salesforce_host";

    fn parsed(provider: Provider, host: &str, kind: Kind) -> Result<Credentials, (String, String)> {
        let given = Some(pb::Credentials { kind: Some(kind) });
        let descriptor = crate::crm::descriptors()[provider];
        let parsed = credentials(descriptor, login_host(HOST, descriptor, host), given);
        parsed.map(Option::unwrap).map_err(|status| {
            let violation = status.get_details_bad_request().unwrap().field_violations.remove(0);
            (violation.field, violation.description)
        })
    }

    fn refresh(id: &str, secret: &str) -> Kind {
        let (token, client_id, client_secret) = ("token".to_owned(), id.to_owned(), secret.to_owned());
        Kind::RefreshToken(pb::RefreshToken { token, client_id, client_secret })
    }

    fn client() -> Kind {
        Kind::ClientCredentials(pb::ClientCredentials { client_id: "id".into(), client_secret: "secret".into() })
    }

    fn jwt(private_key: &str) -> Kind {
        let (client_id, username) = ("id".into(), "user@example.com".into());
        Kind::SalesforceJwt(pb::SalesforceJwt { client_id, username, private_key: private_key.into() })
    }

    /// Each kind fits its CRMs, and is refused by name for others.
    #[test]
    fn each_kind_fits_its_crms_only() {
        use Provider::{Pipedrive, Salesforce, Zendesk};
        let zendesk = || Kind::ZendeskApiToken(pb::ZendeskApiToken { email: "a@b.c".into(), token: "t".into() });
        let pem = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n";
        for (provider, host, kind) in [
            (Zendesk, "", zendesk()),
            (Zendesk, "", Kind::BearerToken("t".into())),
            (Zendesk, "", refresh("id", "secret")),
            (Zendesk, "", client()),
            (Salesforce, "acme.my.salesforce.com", Kind::BearerToken("t".into())),
            (Salesforce, "", refresh("", "")),
            (Salesforce, "test.salesforce.com", refresh("id", "secret")),
            (Salesforce, "acme.my.salesforce.com", client()),
            (Salesforce, "", jwt(pem)),
            (Pipedrive, "", Kind::PipedriveApiToken("t".into())),
            (Pipedrive, "", refresh("", "")),
        ] {
            assert!(parsed(provider, host, kind.clone()).is_ok(), "{provider} {kind:?}");
        }
        for (provider, host, kind, field) in [
            (Salesforce, "", zendesk(), "credentials.zendesk_api_token"),
            (Zendesk, "", Kind::PipedriveApiToken("t".into()), "credentials.pipedrive_api_token"),
            (Pipedrive, "", client(), "credentials.client_credentials"),
            (Zendesk, "", jwt(pem), "credentials.salesforce_jwt"),
            (Salesforce, "", Kind::BearerToken("t".into()), HOST),
            (Salesforce, "login.salesforce.com", client(), HOST),
            (Salesforce, "evil.com", client(), HOST),
            (Zendesk, "acme.my.salesforce.com", client(), HOST),
            (Zendesk, "", refresh("id", ""), "credentials.refresh_token.client_secret"),
            (Zendesk, "", refresh("", "secret"), "credentials.refresh_token.client_id"),
            (Zendesk, "", Kind::BearerToken("two words".into()), "credentials.bearer_token"),
            (Salesforce, "", jwt("MIIE"), "credentials.salesforce_jwt.private_key"),
            (Salesforce, "", jwt(&format!("{pem}{}", "x".repeat(4096))), "credentials.salesforce_jwt.private_key"),
        ] {
            assert_eq!(parsed(provider, host, kind).unwrap_err().0, field, "{provider}");
        }
    }

    /// A refresh token without a client is one of the deployment's own client.
    #[test]
    fn refresh_token_without_client_is_deployments() {
        let own = parsed(Provider::Pipedrive, "", refresh("", "")).unwrap();

        assert!(matches!(own.kind, CredentialKind::RefreshToken { client: None, .. }));
    }
}
