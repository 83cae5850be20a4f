//! What a refused connection says: which organisation was opened, which host was not reached and
//! how, what a login lacks, and which field belongs to another CRM. For a program as metadata, for
//! a person in words.

use std::collections::HashMap;

use contact_sync::{
    domain::provider,
    rpc::pb::{self, connection::Organization, credentials::Kind},
};
use crm_simulator::{
    faults::{Fault, FaultRule},
    salesforce,
};
use serde_json::json;
use tokio::net::TcpListener;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{
    TestApp, api_token, bearer, enable_request, field, pipedrive_connection, reason, salesforce_connection,
    with_address, zendesk_connection,
};

const KEY: &str = include_str!("../../fixtures/oauth-test-key.pem");
const OTHER_ORGANIZATION: &str = "00D000000000xyzEAA";

fn jwt(username: &str) -> pb::Credentials {
    let (client_id, username) = (salesforce::DEFAULT_CLIENT_ID.to_owned(), username.to_owned());
    let jwt = pb::SalesforceJwt { client_id, username, private_key: KEY.to_owned() };
    pb::Credentials { kind: Some(Kind::SalesforceJwt(jwt)) }
}

fn client() -> pb::Credentials {
    let (client_id, client_secret) = ("client".to_owned(), "secret".to_owned());
    pb::Credentials { kind: Some(Kind::ClientCredentials(pb::ClientCredentials { client_id, client_secret })) }
}

fn pipedrive_token() -> pb::Credentials {
    pb::Credentials { kind: Some(Kind::PipedriveApiToken("pipedrive-token".into())) }
}

/// What both a try and `EnableSync` say of it, which must be the same: reason, words, metadata.
async fn refused(
    test: &TestApp,
    provider: pb::Provider,
    connection: pb::Connection,
    credentials: pb::Credentials,
) -> (String, String, HashMap<String, String>) {
    let account_id = test.account().await;
    let request = pb::TestConnectionRequest {
        account_id: account_id.clone(),
        provider: provider.into(),
        connection: Some(connection.clone()),
        credentials: Some(credentials.clone()),
    };
    let tried = test.syncs().test_connection(request).await.unwrap().into_inner();
    let request = pb::EnableSyncRequest {
        account_id,
        provider: provider.into(),
        connection: Some(connection),
        credentials: Some(credentials),
        ..Default::default()
    };
    let enabled = test.syncs().enable_sync(request).await.unwrap_err();

    let info = enabled.get_details_error_info().unwrap();
    assert!(!tried.ok);
    assert_eq!((&tried.reason, tried.message.as_str()), (&info.reason, enabled.message()));
    assert_eq!(tried.metadata, info.metadata);
    (tried.reason, tried.message, tried.metadata)
}

/// Credentials of another organisation say which one they open.
#[tokio::test]
async fn foreign_credentials_name_organization_they_open() {
    let test = TestApp::start().await;
    let salesforce_id = salesforce::organization_id();
    let other = pb::Connection {
        organization: Some(Organization::SalesforceOrgId(OTHER_ORGANIZATION.into())),
        ..salesforce_connection()
    };
    for (provider, connection, credentials, opened) in [
        (pb::Provider::Salesforce, other.clone(), client(), salesforce_id.as_str()),
        (pb::Provider::Salesforce, other.clone(), bearer("salesforce-token"), salesforce_id.as_str()),
        (pb::Provider::Salesforce, other, jwt(salesforce::DEFAULT_USERNAME), salesforce_id.as_str()),
        (pb::Provider::Pipedrive, pipedrive_connection("initech"), pipedrive_token(), "acme"),
    ] {
        let (reason, message, metadata) = refused(&test, provider, connection, credentials).await;

        assert_eq!((reason.as_str(), metadata["organization"].as_str()), ("OTHER_ORGANIZATION", opened));
        assert!(message.contains(opened), "{message}");
    }
}

/// A CRM that is not reached says which host, and where it failed.
#[tokio::test]
async fn unreached_crm_says_host_and_failing_step() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let plain = TestApp::start().await;
    let speaks_no_tls = plain.config.providers.each[provider::Provider::Zendesk]
        .base_url
        .clone()
        .unwrap()
        .replace("http://", "https://");
    for (url, host, cause, word) in [
        ("http://no-such-host.invalid", "no-such-host.invalid", "DNS", "(DNS)"),
        ("http://127.0.0.1:1", "127.0.0.1", "TCP", "(TCP)"),
        (speaks_no_tls.as_str(), "127.0.0.1", "TLS", "(TLS)"),
        (silent_url.as_str(), "127.0.0.1", "TIMEOUT", "did not answer in time"),
    ] {
        let test = TestApp::start_with(|config| {
            for provider in config.providers.each.values_mut() {
                (provider.base_url, provider.timeout_seconds) = (Some(url.to_owned()), 1);
            }
        })
        .await;
        for (provider, connection, credentials) in [
            (pb::Provider::Zendesk, zendesk_connection("acme"), api_token("secret")),
            (pb::Provider::Zendesk, zendesk_connection("acme"), client()),
            (pb::Provider::Salesforce, salesforce_connection(), jwt(salesforce::DEFAULT_USERNAME)),
            (pb::Provider::Pipedrive, pipedrive_connection("acme"), pipedrive_token()),
        ] {
            let (reason, message, metadata) = refused(&test, provider, connection, credentials).await;

            assert_eq!(reason, "CRM_UNREACHABLE", "{url}");
            assert_eq!((metadata["host"].as_str(), metadata["cause"].as_str()), (host, cause), "{message}");
            assert!(message.contains(host) && message.contains(word), "{message}");
        }
    }
}

/// A login that Salesforce refuses says what it lacks.
#[tokio::test]
async fn refused_salesforce_login_says_what_it_lacks() {
    let test = TestApp::start().await;
    let said = |error: &str, words: &str| Fault::json(400, &json!({"error": error, "error_description": words}));
    for (username, fault, cause, word) in [
        ("nobody@example.com", None, "USER_NOT_APPROVED", "External Client App Manager"),
        (
            "admin@example.com",
            Some(said("invalid_grant", "user hasn't approved this consumer")),
            "USER_NOT_APPROVED",
            "pre-authorized",
        ),
        (
            "admin@example.com",
            Some(Fault::TokenError { error: "invalid_app_access".into() }),
            "USER_NOT_APPROVED",
            "permission set",
        ),
        ("admin@example.com", Some(Fault::TokenError { error: "inactive_user".into() }), "USER_INACTIVE", "activate"),
        ("admin@example.com", Some(said("invalid_grant", "invalid assertion")), "ASSERTION_INVALID", "certificate"),
        (
            "admin@example.com",
            Some(said("invalid_grant", "audience is invalid")),
            "AUDIENCE_WRONG",
            "test.salesforce.com",
        ),
        ("admin@example.com", Some(said("invalid_grant", "expired authorization code")), "CLOCK_WRONG", "clock"),
        (
            "admin@example.com",
            Some(said("invalid_grant", "ip restricted or invalid login hours")),
            "PLACE_OR_HOUR",
            "login hours",
        ),
        ("admin@example.com", Some(said("invalid_grant", "something that nobody knows")), "LOGIN_REFUSED", "policies"),
    ] {
        if let Some(fault) = fault {
            test.salesforce.faults().add(FaultRule::always("/services/oauth2/token", fault)).unwrap();
        }

        let (reason, message, metadata) =
            refused(&test, pb::Provider::Salesforce, salesforce_connection(), jwt(username)).await;

        assert_eq!((reason.as_str(), metadata["cause"].as_str()), ("GRANT_REFUSED", cause), "{message}");
        assert!(message.contains(word) && !message.contains(username), "{message}");
        test.salesforce.faults().clear();
    }
}

/// A disabled integration is told apart from one whose sync is off.
#[tokio::test]
async fn disabled_is_told_apart_from_sync_off() {
    let test = TestApp::start().await;
    let account_id = test.account().await;
    let off = test.enable_off(&account_id, pb::Provider::Pipedrive, "acme").await;
    let disabled = test.enable_off(&account_id, pb::Provider::Zendesk, "acme").await;
    let request = pb::DisableSyncRequest {
        account_id: account_id.clone(),
        integration_id: disabled.clone(),
        ..Default::default()
    };
    test.syncs().disable_sync(request).await.unwrap();

    for (integration_id, expected) in [(off, "SYNC_OFF"), (disabled, "INTEGRATION_DISABLED")] {
        let of = || (account_id.clone(), integration_id.clone());
        let (account, integration) = of();
        let trigger = pb::TriggerSyncRequest { account_id: account, integration_id: integration, ..Default::default() };
        let triggered = test.syncs().trigger_sync(trigger).await.unwrap_err();
        let (account, integration) = of();
        let confirm =
            pb::ConfirmDeletionsRequest { account_id: account, integration_id: integration, held_deletions: 1 };
        let confirmed = test.syncs().confirm_deletions(confirm).await.unwrap_err();

        assert_eq!((reason(&triggered).as_str(), reason(&confirmed).as_str()), (expected, expected));
    }
}

/// What says something of one CRM: of its objects, in the options.
fn wishes() -> [(pb::Provider, &'static str, pb::IntegrationOptions); 6] {
    let off = || Some(pb::ObjectOptions { copy: pb::Switch::Off.into(), mirror_deletions: 0 });
    let mirrored = || Some(pb::ObjectOptions { copy: 0, mirror_deletions: pb::Switch::On.into() });
    let none = pb::IntegrationOptions::default;
    let end_users = pb::ZendeskUsers::EndUsers.into();
    [
        (
            pb::Provider::Salesforce,
            "options.salesforce_contacts",
            pb::IntegrationOptions { salesforce_contacts: off(), ..none() },
        ),
        (
            pb::Provider::Salesforce,
            "options.salesforce_leads",
            pb::IntegrationOptions { salesforce_leads: off(), ..none() },
        ),
        (
            pb::Provider::Salesforce,
            "options.salesforce_leads",
            pb::IntegrationOptions { salesforce_leads: mirrored(), ..none() },
        ),
        (
            pb::Provider::Pipedrive,
            "options.pipedrive_persons",
            pb::IntegrationOptions { pipedrive_persons: mirrored(), ..none() },
        ),
        (pb::Provider::Zendesk, "options.zendesk_users", pb::IntegrationOptions { zendesk_users: end_users, ..none() }),
        (
            pb::Provider::Zendesk,
            "options.zendesk_phone_fields",
            pb::IntegrationOptions { zendesk_phone_fields: Some(pb::ZendeskPhoneFields::default()), ..none() },
        ),
    ]
}

/// Options and organisations of another CRM are refused by name.
#[tokio::test]
async fn other_crms_options_are_refused_by_name() {
    let test = TestApp::start_with(with_address).await;
    for (provider, connection) in [
        (pb::Provider::Zendesk, zendesk_connection("acme")),
        (pb::Provider::Salesforce, salesforce_connection()),
        (pb::Provider::Pipedrive, pipedrive_connection("acme")),
    ] {
        for (of, name, mut options) in wishes() {
            options.set_sync(pb::SyncMode::Off);
            let account_id = test.account().await;
            let enable = pb::EnableSyncRequest {
                account_id: account_id.clone(),
                provider: provider.into(),
                connection: Some(connection.clone()),
                options: Some(options.clone()),
                ..Default::default()
            };
            let start = pb::StartAuthorizationRequest {
                account_id: account_id.clone(),
                provider: provider.into(),
                connection: Some(connection.clone()),
                options: Some(options.clone()),
                ..Default::default()
            };
            let started = test.syncs().start_authorization(start).await;
            let enabled = test.syncs().enable_sync(enable.clone()).await;
            if of == provider {
                assert!(started.is_ok() && enabled.is_ok(), "{provider:?} {name}");
                continue;
            }
            let plain = pb::EnableSyncRequest {
                options: Some(pb::IntegrationOptions { sync: pb::SyncMode::Off.into(), ..Default::default() }),
                ..enable
            };
            let integration = test.syncs().enable_sync(plain).await.unwrap().into_inner().integration.unwrap();
            let update = pb::UpdateSyncRequest {
                account_id,
                integration_id: integration.id,
                options: Some(options.clone()),
                ..Default::default()
            };
            let updated = test.syncs().update_sync(update).await.unwrap_err();

            for refused in [started.unwrap_err(), enabled.unwrap_err(), updated] {
                assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, name), "{provider:?}");
            }
        }
    }
    let mut crossed = enable_request(&test.account().await, "acme");
    crossed.set_provider(pb::Provider::Pipedrive);
    let refused = test.syncs().enable_sync(crossed).await.unwrap_err();
    assert_eq!(field(&refused), "connection.pipedrive_company");
    assert!(refused.message().contains("connection.zendesk_subdomain is for Zendesk only"), "{}", refused.message());
}

/// Options that say nothing of another CRM are no harm.
#[tokio::test]
async fn empty_options_of_other_crm_are_harmless() {
    let test = TestApp::start().await;
    let mut request = enable_request(&test.account().await, "acme");
    let nothing = || Some(pb::ObjectOptions::default());
    request.options = Some(pb::IntegrationOptions {
        salesforce_contacts: nothing(),
        salesforce_leads: nothing(),
        pipedrive_persons: nothing(),
        ..Default::default()
    });

    test.syncs().enable_sync(request).await.unwrap();
}
