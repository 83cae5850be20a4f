//! `EnableSync`: try the credentials, seal them, store the link, make the first run due.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    context::IntegrationContext,
    error::IntegrationError,
    verify::{TestedCredentials, verify},
};
use crate::{
    domain::{
        audit::{AuditActor, AuditResult, AuditTarget},
        credentials::Credentials,
        ids::{AccountId, IntegrationId, SyncRunId},
        integration::{Integration, Organization},
        integration_state::{ControlEvent, ControlState, LinkSettings, TransitionRefused},
        options::Options,
    },
    store::{
        self, StoreError, Transaction, Tx, access, audit,
        integrations::{self, LockedIntegration},
        sync_runs,
    },
};

/// A link to make.
pub struct NewLink {
    /// The CRM's organisation.
    pub organization: Organization,
    /// What opens it; may be absent if sync is off.
    pub credentials: Option<Credentials>,
    /// Copies contacts.
    pub is_sync_on: bool,
    /// From the end of a run to the next.
    pub period_seconds: i32,
    /// What is copied and mirrored.
    pub options: Options,
    /// A repeat with the same one returns the same integration.
    pub request_id: Option<Uuid>,
}

/// What is there already.
enum ExistingLink {
    /// This very request made it.
    Repeated(IntegrationId),
    /// It was disabled.
    Disabled(Box<LockedIntegration>),
}

/// Links the account to the organisation, or takes a disabled link up again with its contacts.
pub async fn enable(
    context: &IntegrationContext,
    actor: &AuditActor,
    account_id: AccountId,
    link: NewLink,
) -> Result<Integration, IntegrationError> {
    store::accounts::find(&context.db, account_id).await?.ok_or(IntegrationError::AccountNotFound)?;
    let link = Arc::new(link);
    // Refuses early what would be refused late, before the CRM is asked.
    let precheck = PrecheckLink { actor: actor.clone(), link: Arc::clone(&link) };
    if let Some(id) = context.db.of(account_id).run(precheck).await? {
        return context.get(account_id, id).await;
    }
    if link.is_sync_on && link.credentials.is_none() {
        return Err(IntegrationError::CredentialsMissing);
    }
    let (own, actor) = (context.clone(), actor.clone());
    // In a task of its own: a caller who hangs up between the CRM and the database must not lose a
    // rotated refresh token.
    let id = context.db.task(async move { verify_and_store(own, actor, account_id, link).await }).await?;
    context.wake.notify_one();
    context.get(account_id, id).await
}

async fn verify_and_store(
    context: IntegrationContext,
    actor: AuditActor,
    account_id: AccountId,
    link: Arc<NewLink>,
) -> Result<IntegrationId, IntegrationError> {
    let tested = match &link.credentials {
        Some(credentials) if link.is_sync_on => {
            let verified = verify(&context, &link.organization, None, &link.options, credentials.clone()).await?;
            TestedCredentials {
                credentials: Some(verified.credentials),
                access: verified.access,
                company_id: verified.probe.company_id,
                organization_name: None,
            }
        }
        credentials => TestedCredentials { credentials: credentials.clone(), ..TestedCredentials::default() },
    };
    store_link(&context, &actor, account_id, link, tested).await
}

/// Stores a link whose credentials were tried.
pub(super) async fn store_link(
    context: &IntegrationContext,
    actor: &AuditActor,
    account_id: AccountId,
    link: Arc<NewLink>,
    tested: TestedCredentials,
) -> Result<IntegrationId, IntegrationError> {
    let work = StoreLink { context: context.clone(), actor: actor.clone(), link, tested, now: context.clock.now() };
    context.db.of(account_id).run(work).await
}

/// Looks for what stands in the way. Gives the integration that this very request made, if it did.
struct PrecheckLink {
    actor: AuditActor,
    link: Arc<NewLink>,
}

impl Transaction for PrecheckLink {
    const NAME: &'static str = "precheck_link";
    type Output = Option<IntegrationId>;
    type Error = IntegrationError;

    async fn run(&self, tx: &mut Tx) -> Result<Option<IntegrationId>, IntegrationError> {
        match find_existing(tx, &self.link, None).await? {
            Some(ExistingLink::Repeated(id)) => {
                record_repeat(tx, &self.actor, id).await?;
                Ok(Some(id))
            }
            Some(ExistingLink::Disabled(_)) | None => Ok(None),
        }
    }
}

/// Makes a link, or takes it up again, and queues its first run.
struct StoreLink {
    context: IntegrationContext,
    actor: AuditActor,
    link: Arc<NewLink>,
    tested: TestedCredentials,
    now: DateTime<Utc>,
}

impl Transaction for StoreLink {
    const NAME: &'static str = "store_link";
    type Output = IntegrationId;
    type Error = IntegrationError;

    async fn run(&self, tx: &mut Tx) -> Result<IntegrationId, IntegrationError> {
        let Self { context, actor, link, tested, now } = self;
        let (account_id, now) = (tx.account_id(), *now);
        let existing = find_existing(tx, link, tested.company_id.as_deref()).await?;
        let enablement = LinkSettings {
            organization: link.organization.clone(),
            company_id: tested.company_id.clone(),
            request_id: link.request_id,
            is_sync_on: link.is_sync_on,
            period_seconds: link.period_seconds,
            options: link.options.clone(),
            descriptor: context.crms.descriptor(link.organization.provider),
        };
        let (id, transition) = match existing {
            Some(ExistingLink::Repeated(id)) => {
                record_repeat(tx, actor, id).await?;
                return Ok(id);
            }
            Some(ExistingLink::Disabled(known)) => {
                let transition = known.state.apply(ControlEvent::Enable(enablement), now)?;
                integrations::save_transition(tx, account_id, known.id, &transition, now).await?;
                let sealed = tested.seal(context, account_id, known.id)?;
                access::replace(tx, account_id, known.id, &sealed, now).await?;
                (known.id, transition)
            }
            None => {
                let id = IntegrationId(context.ids.new_v7(now));
                let transition = ControlState::enable_new(enablement, now);
                let sealed = tested.seal(context, account_id, id)?;
                integrations::insert(tx, account_id, id, &transition.state, &sealed, now).await?;
                (id, transition)
            }
        };
        let mut started = None;
        if let Some(kind) = transition.starts_run {
            let run_id = SyncRunId(context.ids.new_v7(now));
            if !sync_runs::enqueue(tx, account_id, id, run_id, kind, None, now).await? {
                return Err(StoreError::Conflict.into());
            }
            started = Some(run_id);
        }
        let fields: &[&str] = if tested.credentials.is_some() { &["credentials"] } else { &[] };
        audit::insert(tx, account_id, actor, AuditTarget::integration(id, started), AuditResult::Done, fields).await?;
        Ok(id)
    }
}

async fn record_repeat(tx: &mut Tx, actor: &AuditActor, id: IntegrationId) -> Result<(), StoreError> {
    let (account_id, target) = (tx.account_id(), AuditTarget::integration(id, None));
    audit::insert(tx, account_id, actor, target, AuditResult::Unchanged, &[]).await
}

async fn find_existing(
    tx: &mut Tx,
    link: &NewLink,
    company_id: Option<&str>,
) -> Result<Option<ExistingLink>, IntegrationError> {
    let account_id = tx.account_id();
    let mut known = integrations::lock_link(tx, account_id, &link.organization, link.request_id).await?;
    if known.as_ref().is_some_and(|known| known.state.organization != link.organization) {
        return Err(IntegrationError::RequestIdReused);
    }
    // Linked before under another name: the same by the CRM's own number.
    if let (None, Some(company_id)) = (&known, company_id)
        && let Some(id) = integrations::find_by_company(tx, account_id, link.organization.provider, company_id).await?
    {
        known = integrations::lock(tx, account_id, id).await?;
    }
    let Some(known) = known else { return Ok(None) };
    match known.state.may_enable() {
        Ok(()) => Ok(Some(ExistingLink::Disabled(Box::new(known)))),
        Err(TransitionRefused::AlreadyEnabled)
            if link.request_id.is_some() && known.state.request_id == link.request_id =>
        {
            Ok(Some(ExistingLink::Repeated(known.id)))
        }
        Err(TransitionRefused::AlreadyEnabled) => Err(IntegrationError::Exists(known.id)),
        Err(refused) => Err(refused.into()),
    }
}
