//! What an administrator is to authorize, as a request says it.

use tonic::Status;

use super::{parse, parse_credentials, pb, status};
use crate::{
    domain::{integration::Provider, options::Options},
    integrations::AuthorizationWish,
};

/// Reads the request. The organisation is the integration's, or named, or left to the administrator; a Zendesk's own page needs its name.
pub(super) fn wish(
    request: pb::StartAuthorizationRequest,
    period_default_seconds: i32,
) -> Result<AuthorizationWish, Status> {
    let provider = parse::provider(request.provider)?;
    let integration_id = parse::optional_id("integration_id", &request.integration_id)?;
    let options = request.options.unwrap_or_default();
    let wishes = parse::options(&options)?.apply(provider, Options::default());
    let connection = request.connection.unwrap_or_default();
    let host = parse_credentials::host_of(provider, Some(&connection))?.name;
    let is_named = connection.organization.is_some();
    if is_named && integration_id.is_some() {
        return Err(status::invalid(
            "connection",
            "must not name an organisation beside integration_id, which has its own",
        ));
    }
    let is_needed = provider == Provider::Zendesk && integration_id.is_none();
    let organization =
        if is_named || is_needed { Some(parse::organization(provider, Some(connection))?) } else { None };
    Ok(AuthorizationWish {
        provider,
        organization,
        host,
        integration_id,
        is_sync_on: parse::sync_mode(options.sync)?.unwrap_or(true),
        period_seconds: parse::period(options.period.as_ref())?.unwrap_or(period_default_seconds),
        options: wishes.map_err(|error| status::invalid("options", &error.to_string()))?,
    })
}
