//! What an administrator is to authorize, as a request says it.

use tonic::Status;

use super::{parse, parse_credentials, pb, status, together::ReadTogether};
use crate::{
    domain::{
        descriptor::{Descriptors, ProviderDescriptor},
        integration::Organization,
    },
    integrations::AuthorizationRequest,
};

/// Reads the request. The organisation is the integration's, or named, or left to the
/// administrator; an organisation's own page needs its name.
pub(super) fn authorization_request(
    descriptors: &Descriptors,
    request: pb::StartAuthorizationRequest,
    period_default_seconds: i32,
) -> Result<AuthorizationRequest, Status> {
    let options = request.options.unwrap_or_default();
    let is_again = !request.integration_id.is_empty();
    let connection = request.connection.unwrap_or_default();
    let of_provider = parse::provider(request.provider).and_then(|provider| {
        let host = parse_credentials::host_of(descriptors[provider], Some(&connection));
        let organization = organization(descriptors, descriptors[provider], connection, is_again);
        (Ok(provider), parse::new_options(provider, &options), host, organization).together()
    });
    let (of_provider, integration_id, is_sync_on, period_seconds) = (
        of_provider,
        parse::optional_id("integration_id", &request.integration_id),
        parse::sync_mode(options.sync),
        parse::period(options.period.as_ref()),
    )
        .together()?;
    let (provider, options, host, organization) = of_provider;
    Ok(AuthorizationRequest {
        provider,
        organization,
        host: host.name,
        integration_id,
        is_sync_on: is_sync_on.unwrap_or(true),
        period_seconds: period_seconds.unwrap_or(period_default_seconds),
        options,
    })
}

fn organization(
    descriptors: &Descriptors,
    descriptor: &ProviderDescriptor,
    connection: pb::Connection,
    is_again: bool,
) -> Result<Option<Organization>, Status> {
    let is_named = connection.organization.is_some();
    if is_named && is_again {
        let problem = "must not name an organisation beside integration_id, which has its own";
        return Err(status::invalid("connection", problem));
    }
    let is_needed = descriptor.organization.is_needed_to_authorize && !is_again;
    if !is_named && !is_needed {
        return Ok(None);
    }
    parse::organization(descriptors, descriptor.provider, Some(connection)).map(Some)
}
