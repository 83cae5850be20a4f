//! A company has removed the deployment's app from its CRM: what opened it is forgotten at once, in
//! every account, and the integrations say what to do. Contacts and checkpoints stay.

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tracing::{info, warn};

use super::context::IntegrationContext;
use crate::{
    crm::UninstallNotice,
    domain::{
        audit::{AuditActor, AuditResult, AuditTarget},
        credentials::CredentialKind,
        ids::IntegrationId,
        integration_state::{ControlEvent, UNINSTALLED},
        provider::Provider,
    },
    store::{
        StoreError, Transaction, Tx, TxError, access, audit,
        integrations::{self, SealedCredentials},
        push_channels, sync_runs,
    },
    telemetry::{chain, metrics},
};

/// The CRM's clock and ours may differ by so much before an uninstall is taken for older than an
/// authorization.
const CLOCKS_DIFFER_MAX: TimeDelta = TimeDelta::seconds(5);

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UninstallOutcome {
    /// So many integrations have lost their authorization; 0: nobody uses this app with that
    /// company, or all of it was so before.
    Done(usize),
    /// It is the CRM's, and cannot be read.
    Unreadable,
}

/// Why it is not known what became of it. The CRM is to say it again.
#[derive(Debug, Error)]
#[error("the uninstall could not be stored")]
pub struct UninstallError(#[from] StoreError);

impl TxError for UninstallError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self(StoreError::Conflict))
    }
}

/// The CRM that shows this deployment's own client for it; `None`: a stranger, who is told nothing.
pub fn prove_uninstall(context: &IntegrationContext, authorization: Option<&str>) -> Option<Provider> {
    let proven = authorization.and_then(|authorization| context.crms.proven_by_own_client(authorization));
    if proven.is_none() {
        metrics::uninstall_ended("none", "refused");
    }
    proven
}

/// Takes the notice of a CRM that is proven.
pub async fn uninstall(
    context: &IntegrationContext,
    provider: Provider,
    body: &[u8],
) -> Result<UninstallOutcome, UninstallError> {
    let Some(notice) = context.crms.read_uninstall(provider, body) else {
        warn!(%provider, "a CRM has told of an uninstall in a form that is not known; nothing was changed");
        metrics::uninstall_ended(provider.as_str(), "unreadable");
        return Ok(UninstallOutcome::Unreadable);
    };
    let ended = end_all(context, provider, &notice).await;
    let outcome = match &ended {
        Ok(0) => "nobody",
        Ok(_) => "done",
        Err(_) => "failed",
    };
    metrics::uninstall_ended(provider.as_str(), outcome);
    ended.map(UninstallOutcome::Done)
}

/// Each in a transaction of its own: what is done stays, and whoever says it again finds the rest.
async fn end_all(
    context: &IntegrationContext,
    provider: Provider,
    notice: &UninstallNotice,
) -> Result<usize, UninstallError> {
    let mut ended = 0;
    for (account_id, integration_id) in integrations::find_installed(&context.db, provider, &notice.company_id).await? {
        let now = context.clock.now();
        let actor = AuditActor {
            event_id: context.ids.new_v7(now),
            called_at: now,
            subject: None,
            method: "UninstallCallback",
            request_id: context.ids.new_v7(now),
        };
        let context_of = context.clone();
        let work = UninstallIntegration { context: context_of, actor, integration_id, at: notice.at, now };
        if context.db.of(account_id).run(work).await? {
            info!(integration.id = %integration_id, "the app was uninstalled in the CRM: its authorization is forgotten");
            ended += 1;
        }
    }
    Ok(ended)
}

/// Forgets what the app was given, and ends its run. Gives whether there was something to forget.
struct UninstallIntegration {
    context: IntegrationContext,
    actor: AuditActor,
    integration_id: IntegrationId,
    /// By the CRM's clock.
    at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
}

impl Transaction for UninstallIntegration {
    const NAME: &'static str = "uninstall_integration";
    type Output = bool;
    type Error = UninstallError;

    async fn run(&self, tx: &mut Tx) -> Result<bool, UninstallError> {
        let Self { actor, integration_id, at, now, .. } = self;
        let (account_id, integration_id, now) = (tx.account_id(), *integration_id, *now);
        let Some(locked) = integrations::lock(tx, account_id, integration_id).await? else { return Ok(false) };
        let Some(given) = access::find_given(tx, account_id, integration_id).await? else { return Ok(false) };
        // A notice that comes late ends no authorization that was given since.
        let is_late = at.is_some_and(|at| given.authorized_at > at + CLOCKS_DIFFER_MAX);
        if is_late || !locked.state.is_enabled || !self.are_the_apps(tx, given.sealed.as_deref()) {
            return Ok(false);
        }
        // Never refused.
        let Ok(transition) = locked.state.apply(ControlEvent::Uninstalled, now) else { return Ok(false) };
        integrations::save_transition(tx, account_id, integration_id, &transition, now).await?;
        let nothing = SealedCredentials { credentials: None, access: None };
        access::replace(tx, account_id, integration_id, &nothing, now).await?;
        push_channels::remove(tx, account_id, integration_id).await?;
        sync_runs::cancel_current(tx, account_id, integration_id, Some(&UNINSTALLED), now).await?;
        let target = AuditTarget::integration(integration_id, None);
        audit::insert(tx, account_id, actor, target, AuditResult::Done, &["credentials"]).await?;
        Ok(true)
    }
}

impl UninstallIntegration {
    /// Whether they were given to the deployment's own app: a token, or another client's, goes on.
    fn are_the_apps(&self, tx: &Tx, sealed: Option<&[u8]>) -> bool {
        let Some(sealed) = sealed else { return false };
        match self.context.vault.open(tx.account_id(), self.integration_id, sealed) {
            Ok(credentials) => matches!(credentials.kind, CredentialKind::RefreshToken { client: None, .. }),
            Err(error) => {
                warn!(
                    error = %chain(&error), integration.id = %self.integration_id,
                    "the app was uninstalled in the CRM, and the stored credentials do not open: the next run will say so"
                );
                false
            }
        }
    }
}
