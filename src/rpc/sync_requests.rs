//! What requests of `SyncService` ask for, as the features take it.

use tonic::Status;

use super::{parse, parse_credentials, pb, status, together::ReadTogether};
use crate::{
    domain::{
        credentials::Credentials,
        descriptor::{Descriptors, ProviderDescriptor},
        ids::{AccountId, IntegrationId},
        integration::Organization,
    },
    integrations::{NewLink, SyncUpdate},
};

/// A new link to a CRM.
pub(super) fn new_link(
    descriptors: &Descriptors,
    request: pb::EnableSyncRequest,
    period_default_seconds: i32,
) -> Result<NewLink, Status> {
    let options = request.options.unwrap_or_default();
    let of_provider = parse::provider(request.provider).and_then(|provider| {
        let descriptor = descriptors[provider];
        let host = parse_credentials::host_of(descriptor, request.connection.as_ref());
        (
            parse::new_options(provider, &options),
            parse::organization(descriptors, provider, request.connection),
            parse_credentials::credentials(descriptor, host, request.credentials),
        )
            .together()
    });
    let (of_provider, is_sync_on, period_seconds, request_id) = (
        of_provider,
        parse::sync_mode(options.sync),
        parse::period(options.period.as_ref()),
        parse::request_id(&request.request_id),
    )
        .together()?;
    let (options, organization, credentials) = of_provider;
    Ok(NewLink {
        options,
        organization,
        credentials,
        is_sync_on: is_sync_on.unwrap_or(true),
        period_seconds: period_seconds.unwrap_or(period_default_seconds),
        request_id,
    })
}

/// What decides what a listing of an integration lists.
pub(super) fn list_filter(ids: &Result<(AccountId, IntegrationId), Status>) -> [String; 2] {
    let texts = ids.as_ref().map(|(account_id, integration_id)| [account_id.to_string(), integration_id.to_string()]);
    texts.unwrap_or_default()
}

/// What is to be tried.
pub(super) fn trial(
    descriptors: &Descriptors,
    request: pb::TestConnectionRequest,
) -> Result<(Organization, Credentials), Status> {
    let provider = parse::provider(request.provider)?;
    let host = parse_credentials::host_of(descriptors[provider], request.connection.as_ref());
    let credentials = parse_credentials::credentials(descriptors[provider], host, request.credentials)
        .and_then(|given| given.ok_or_else(|| status::invalid("credentials", "is required")))
        .and_then(parse_credentials::not_used_up);
    (parse::organization(descriptors, provider, request.connection), credentials).together()
}

/// What of an integration is to change.
pub(super) fn update_of(descriptor: &ProviderDescriptor, request: pb::UpdateSyncRequest) -> Result<SyncUpdate, Status> {
    let options = request.options.unwrap_or_default();
    let host = parse_credentials::login_host("salesforce_host", descriptor, &request.salesforce_host);
    let (is_sync_on, period_seconds, options, credentials) = (
        parse::sync_mode(options.sync),
        parse::period(options.period.as_ref()),
        parse::options(descriptor.provider, &options),
        parse_credentials::credentials(descriptor, host, request.credentials),
    )
        .together()?;
    Ok(SyncUpdate { is_sync_on, period_seconds, options, credentials })
}
