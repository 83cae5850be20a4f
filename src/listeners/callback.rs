//! `/oauth/callback`. GET: an administrator comes back from a CRM. The parameters are secrets: none
//! is logged, none is shown. DELETE: a CRM tells that a company has removed the app; it is proven
//! by its header before anything of its body is read, and nothing is told to anybody.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    body::to_bytes,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{
        StatusCode,
        header::{AUTHORIZATION, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::{sync::Semaphore, time::timeout};
use tracing::{info, warn};

use super::page::HtmlPage;
use crate::{
    domain::integration::Integration,
    integrations::{
        AuthorizeError, ConsentOutcome, IntegrationContext, IntegrationError, complete_authorization, prove_uninstall,
        uninstall,
    },
    telemetry::chain,
};

const BEGIN_AGAIN: &str = "Begin again: ask for a new link (StartAuthorization, or `contact-sync sync authorize`).";

/// Uninstalls that are taken at once.
pub(super) const UNINSTALLS_MAX: usize = 4;
/// Longest body of an uninstall, in bytes; the documented one has about 120.
const UNINSTALL_BYTES_MAX: usize = 16 * 1024;
/// The body of an uninstall is here within this.
const UNINSTALL_BODY_MAX: Duration = Duration::from_secs(2);
/// When to say an uninstall again that was not taken, in seconds.
const UNINSTALL_AGAIN: &str = "30";

/// What both work with.
#[derive(Clone)]
pub(super) struct CallbackState {
    pub(super) integrations: Arc<IntegrationContext>,
    /// A place for each uninstall that is taken.
    pub(super) uninstalls: Arc<Semaphore>,
}

/// What a CRM appends to our address; it may append more.
#[derive(Deserialize)]
pub(super) struct CallbackParameters {
    state: Option<String>,
    code: Option<SecretString>,
    error: Option<String>,
}

pub(super) async fn answer(
    State(CallbackState { integrations, .. }): State<CallbackState>,
    parameters: Result<Query<CallbackParameters>, QueryRejection>,
) -> HtmlPage {
    // The rejection would quote what came.
    let Ok(Query(CallbackParameters { state: Some(state), code, error })) = parameters else { return incomplete() };
    let outcome = match (code, error) {
        (_, Some(error)) if error == "invalid_scope" => ConsentOutcome::ScopeRefused,
        (_, Some(_)) => ConsentOutcome::Refused,
        (Some(code), None) => ConsentOutcome::Code(code),
        (None, None) => return incomplete(),
    };
    match complete_authorization(&integrations, &state, outcome).await {
        Ok(integration) => {
            info!(integration.id = %integration.freshness.integration_id, "an administrator has authorized access");
            connected(&integration)
        }
        Err(error) => {
            warn!(error = %chain(&error), "an authorization was not completed");
            refused(&error)
        }
    }
}

pub(super) async fn uninstalled(
    State(CallbackState { integrations, uninstalls }): State<CallbackState>,
    request: Request,
) -> Response {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(provider) = prove_uninstall(&integrations, shown) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let again = (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, UNINSTALL_AGAIN)]);
    let Ok(_place) = uninstalls.try_acquire() else { return again.into_response() };
    let body = match timeout(UNINSTALL_BODY_MAX, to_bytes(request.into_body(), UNINSTALL_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    match uninstall(&integrations, provider, &body).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            warn!(error = %chain(&error), "an uninstall that a CRM has told of could not be stored; it is asked to say it again");
            again.into_response()
        }
    }
}

fn connected(integration: &Integration) -> HtmlPage {
    let next = if integration.freshness.is_sync_on {
        "Its contacts are being copied now"
    } else {
        "Sync is off, so nothing is copied until it is switched on"
    };
    let (provider, organization) = (integration.freshness.provider, &integration.organization);
    HtmlPage {
        status: StatusCode::OK,
        title: "Connected",
        text: format!("{provider} {organization} is connected. {next}. You can close this page.").into(),
    }
}

fn incomplete() -> HtmlPage {
    let text = format!("This address lacks what the CRM should have sent with it. {BEGIN_AGAIN}");
    HtmlPage { status: StatusCode::BAD_REQUEST, title: "Not connected", text: text.into() }
}

fn refused(error: &AuthorizeError) -> HtmlPage {
    let (status, what): (_, Cow<'static, str>) = match error {
        AuthorizeError::Unknown => (
            StatusCode::BAD_REQUEST,
            "This link is not known, was used already, or is over. If you have just been told that you are connected, all is well; else begin again."
                .into(),
        ),
        AuthorizeError::Expired => {
            (StatusCode::BAD_REQUEST, "This took longer than ten minutes, and nothing was changed.".into())
        }
        AuthorizeError::Refused => {
            (StatusCode::BAD_REQUEST, "The CRM was not allowed to give access, and nothing was changed.".into())
        }
        AuthorizeError::ScopeRefused => (
            StatusCode::BAD_REQUEST,
            "The CRM does not let this deployment's OAuth client ask for webhooks, and nothing was changed. Begin again without pushed changes (`--push off`), or have the operator give the client that scope, or leave providers.*.push_scopes empty."
                .into(),
        ),
        AuthorizeError::OtherOrganization(chosen) => (
            StatusCode::CONFLICT,
            format!("Another organisation was chosen, {chosen}, than the one that is to be authorized, and nothing was changed. Log in to the right one first.")
                .into(),
        ),
        AuthorizeError::Integration(IntegrationError::Crm(error)) => {
            (StatusCode::BAD_GATEWAY, format!("It did not work, and nothing was changed: {error}.").into())
        }
        AuthorizeError::Integration(
            error @ (IntegrationError::PurgeRunning
            | IntegrationError::Disabled
            | IntegrationError::IntegrationNotFound
            | IntegrationError::NothingCopied(_)),
        ) => (StatusCode::CONFLICT, format!("Nothing was changed: {error}.").into()),
        AuthorizeError::Integration(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong on our side; the service's log says what.".into(),
        ),
    };
    HtmlPage { status, title: "Not connected", text: format!("{what} {BEGIN_AGAIN}").into() }
}
