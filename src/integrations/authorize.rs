//! `StartAuthorization` and what follows it: an administrator is sent to the CRM, and comes back
//! with a code that is worth credentials.
//!
//! Invariant: whoever comes back shows the secret that this service gave out, once and within ten
//! minutes; of it only a hash is stored, and what was asked for lies sealed. The secret binds the
//! code to the account and the request that it was begun with.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng as _;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use super::{
    context::IntegrationContext,
    enable::{NewLink, store_link},
    error::IntegrationError,
    update::{SyncUpdate, store_update},
    verify::{TestedCredentials, probe},
};
use crate::{
    credentials::{AUTHORIZATION, CredentialsError},
    crm::{CrmError, oauth::AuthorizationFlow},
    domain::{
        audit::{AuditActor, AuditResult, AuditTarget, RefusedAction},
        ids::{AccountId, IntegrationId},
        integration::{Integration, Organization},
        options::{Options, OptionsChange, PushWish},
        provider::Provider,
    },
    store::{self, StoreError, Transaction, Tx, access, audit, authorizations},
    vault::SealScope,
};

/// How long an administrator has.
const LIFE: TimeDelta = TimeDelta::minutes(10);
const SECRET_BYTES: usize = 32;
/// Longest `state` taken; ours have 80 characters.
const STATE_BYTES_MAX: usize = 128;
/// Longest code taken; the vendors' have some hundred characters.
const CODE_BYTES_MAX: usize = 4_096;

/// What an administrator is to authorize.
pub struct AuthorizationRequest {
    /// The CRM.
    pub provider: Provider,
    /// Its organisation; `None`: whichever the administrator chooses.
    pub organization: Option<Organization>,
    /// Salesforce: where to log in.
    pub host: Option<String>,
    /// An integration that has lost its authorization; `None`: a new one is made, unless the
    /// organisation is linked already.
    pub integration_id: Option<IntegrationId>,
    /// A new integration copies contacts.
    pub is_sync_on: bool,
    /// Of a new integration: from the end of a run to the next.
    pub period_seconds: i32,
    /// Of a new integration: what is copied and mirrored.
    pub options: Options,
}

/// Where to send the administrator.
pub struct StartedAuthorization {
    /// The CRM's page of consent. Whoever opens it decides which organisation is linked: for the
    /// administrator alone.
    pub authorize_url: String,
    /// Until then, and once.
    pub expires_at: DateTime<Utc>,
}

/// With what an administrator came back.
pub enum ConsentOutcome {
    /// Consent.
    Code(SecretString),
    /// No consent.
    Refused,
    /// The CRM does not let its client ask for what was asked for.
    ScopeRefused,
}

/// Why nothing came of it. Nothing was changed.
#[derive(Debug, Error)]
pub enum AuthorizeError {
    /// The secret was never given out, is used, was changed on its way, or its row is removed.
    #[error("this authorization is not known, was used already, or is over")]
    Unknown,
    /// Came back too late.
    #[error("this authorization took longer than ten minutes")]
    Expired,
    /// The administrator said no, or the CRM did.
    #[error("the CRM was not allowed to give access")]
    Refused,
    /// Its client may not ask for what pushed changes need.
    #[error("the CRM does not let its OAuth client ask for what pushed changes need")]
    ScopeRefused,
    /// It was another organisation, this one, than the one that is to be authorized.
    #[error("another organisation was chosen, {0}, than the one that is to be authorized")]
    OtherOrganization(String),
    /// The code, or the access that it brought, leads nowhere; or it could not be stored.
    #[error("the authorization could not be completed")]
    Integration(#[from] IntegrationError),
}

impl AuthorizeError {
    /// For the audit; `None`: it was not refused, but could not be done.
    const fn refusal_reason(&self) -> Option<&'static str> {
        match self {
            Self::Unknown => Some("AUTHORIZATION_UNKNOWN"),
            Self::Expired => Some("AUTHORIZATION_EXPIRED"),
            Self::Refused | Self::ScopeRefused => Some("AUTHORIZATION_REFUSED"),
            Self::OtherOrganization(_) => Some("OTHER_ORGANIZATION"),
            Self::Integration(IntegrationError::Crm(error)) => Some(error.reason()),
            Self::Integration(IntegrationError::PurgeRunning) => Some("PURGE_RUNNING"),
            Self::Integration(IntegrationError::Disabled) => Some("INTEGRATION_DISABLED"),
            Self::Integration(IntegrationError::NothingCopied(_)) => Some("INVALID_ARGUMENT"),
            Self::Integration(_) => None,
        }
    }
}

impl From<StoreError> for AuthorizeError {
    fn from(error: StoreError) -> Self {
        Self::Integration(error.into())
    }
}

impl From<CrmError> for AuthorizeError {
    fn from(error: CrmError) -> Self {
        Self::Integration(error.into())
    }
}

/// What waits, sealed, for the administrator to come back.
#[derive(Serialize, Deserialize)]
struct AuthorizationPlan {
    /// As the audit names whoever has begun it, and the call's id.
    #[serde(default)]
    begun_by: Option<String>,
    #[serde(default)]
    request_id: Uuid,
    verifier: String,
    #[serde(default)]
    wants_push: bool,
    host: Option<String>,
    is_sync_on: bool,
    period_seconds: i32,
    options: Options,
}

/// Begins an authorization.
pub async fn start_authorization(
    context: &IntegrationContext,
    actor: &AuditActor,
    account_id: AccountId,
    request: AuthorizationRequest,
) -> Result<StartedAuthorization, IntegrationError> {
    store::accounts::find(&context.db, account_id).await?.ok_or(IntegrationError::AccountNotFound)?;
    let redirect_uri = context.callback_url.as_deref().ok_or(IntegrationError::CallbackUnknown)?;
    let (organization, push) = requested_organization(context, account_id, &request).await?;
    let wants_push = push != PushWish::Off;
    let (secret, verifier) = (new_secret(context), new_secret(context));
    let state = SecretString::from(format!("{}.{}", account_id.0.simple(), secret.expose_secret()));
    let way = AuthorizationFlow {
        provider: request.provider,
        organization: &organization,
        host: request.host.as_deref(),
        redirect_uri,
        wants_push,
        verifier: &verifier,
    };
    let authorize_url = context.crms.authorize_url(way, &state)?;
    let plan = AuthorizationPlan {
        begun_by: actor.subject.as_deref().map(str::to_owned),
        request_id: actor.request_id,
        verifier: verifier.expose_secret().to_owned(),
        wants_push,
        host: request.host.clone(),
        is_sync_on: request.is_sync_on,
        period_seconds: request.period_seconds,
        options: request.options,
    };
    let now = context.clock.now();
    let expires_at = now + LIFE;
    let new = authorizations::PendingAuthorization {
        provider: request.provider,
        organization,
        integration_id: request.integration_id,
        sealed: seal_plan(context, account_id, request.integration_id, &plan)?,
        expires_at,
    };
    let work = BeginAuthorization { actor: actor.clone(), state_hash: hash(secret.expose_secret()), new, now };
    context.db.of(account_id).run(work).await?;
    Ok(StartedAuthorization { authorize_url, expires_at })
}

/// Stores an authorization, unless too many are open.
struct BeginAuthorization {
    actor: AuditActor,
    state_hash: [u8; 32],
    new: authorizations::PendingAuthorization,
    now: DateTime<Utc>,
}

impl Transaction for BeginAuthorization {
    const NAME: &'static str = "begin_authorization";
    type Output = ();
    type Error = IntegrationError;

    async fn run(&self, tx: &mut Tx) -> Result<(), IntegrationError> {
        let Self { actor, state_hash, new, now } = self;
        let account_id = tx.account_id();
        if !authorizations::insert(tx, account_id, state_hash, new, *now).await? {
            return Err(IntegrationError::TooManyAuthorizations);
        }
        let target = AuditTarget { integration_id: new.integration_id, ..AuditTarget::default() };
        Ok(audit::insert(tx, account_id, actor, target, AuditResult::Done, &[]).await?)
    }
}

/// An integration's own, or the one that was named, or none yet; and whether it is to push.
async fn requested_organization(
    context: &IntegrationContext,
    account_id: AccountId,
    request: &AuthorizationRequest,
) -> Result<(String, PushWish), IntegrationError> {
    let Some(integration_id) = request.integration_id else {
        let named = request.organization.as_ref().map(|organization| organization.name.clone());
        return Ok((named.unwrap_or_default(), request.options.push));
    };
    let known = context.get(account_id, integration_id).await?;
    if !known.freshness.is_enabled {
        return Err(IntegrationError::Disabled);
    }
    if known.freshness.provider != request.provider {
        return Err(IntegrationError::OtherProvider);
    }
    Ok((known.organization, known.options.push))
}

/// Ends an authorization: `state` and the outcome as the browser brought them. Done in a task of
/// its own: a code works once, and what it brings must not be lost with the browser's connection.
pub async fn complete_authorization(
    context: &IntegrationContext,
    state: &str,
    outcome: ConsentOutcome,
) -> Result<Integration, AuthorizeError> {
    let (account_id, secret) = split_state(state).ok_or(AuthorizeError::Unknown)?;
    let taken = authorizations::take(&context.db, account_id, &hash(secret)).await?.ok_or(AuthorizeError::Unknown)?;
    let own = context.clone();
    let id = context.db.task(async move { redeem_or_note(&own, account_id, taken, outcome).await }).await?;
    context.wake.notify_one();
    Ok(context.get(account_id, id).await?)
}

/// Whoever began it acts by whoever comes back.
async fn redeem_or_note(
    context: &IntegrationContext,
    account_id: AccountId,
    taken: authorizations::PendingAuthorization,
    outcome: ConsentOutcome,
) -> Result<IntegrationId, AuthorizeError> {
    let plan = open_plan(context, account_id, &taken)?;
    let now = context.clock.now();
    let actor = AuditActor {
        event_id: context.ids.new_v7(now),
        called_at: now,
        subject: plan.begun_by.as_deref().map(Arc::from),
        method: "AuthorizationCallback",
        request_id: plan.request_id,
    };
    let target = AuditTarget { integration_id: taken.integration_id, ..AuditTarget::default() };
    let redeemed = redeem(context, &actor, account_id, taken, plan, outcome).await;
    if let Some(reason) = redeemed.as_ref().err().and_then(AuthorizeError::refusal_reason) {
        context.refusals.note(account_id, RefusedAction { actor, target, reason: reason.to_owned() });
    }
    redeemed
}

async fn redeem(
    context: &IntegrationContext,
    actor: &AuditActor,
    account_id: AccountId,
    taken: authorizations::PendingAuthorization,
    plan: AuthorizationPlan,
    outcome: ConsentOutcome,
) -> Result<IntegrationId, AuthorizeError> {
    if actor.called_at >= taken.expires_at {
        return Err(AuthorizeError::Expired);
    }
    let code = match outcome {
        ConsentOutcome::Code(code) => code,
        ConsentOutcome::ScopeRefused if plan.wants_push => return Err(AuthorizeError::ScopeRefused),
        ConsentOutcome::Refused | ConsentOutcome::ScopeRefused => return Err(AuthorizeError::Refused),
    };
    if !(1..=CODE_BYTES_MAX).contains(&code.expose_secret().len()) {
        return Err(AuthorizeError::Unknown);
    }
    let way = AuthorizationFlow {
        provider: taken.provider,
        organization: &taken.organization,
        host: plan.host.as_deref(),
        redirect_uri: context.callback_url.as_deref().ok_or(IntegrationError::CallbackUnknown)?,
        wants_push: plan.wants_push,
        verifier: &plan.verifier.into(),
    };
    let (organization, granted) = context.crms.exchange(way, &code, context.clock.now()).await?;
    let is_renamed = organization.name != taken.organization;
    if !taken.organization.is_empty()
        && is_renamed
        && !is_same_company(context, account_id, &taken, granted.access.company_id.as_deref()).await?
    {
        return Err(AuthorizeError::OtherOrganization(organization.name));
    }
    let options = match taken.integration_id {
        Some(id) => context.get(account_id, id).await?.options,
        None => plan.options.clone(),
    };
    let probe = probe(context, &organization, &options, granted.access.clone()).await?;
    let mut tested = TestedCredentials {
        credentials: granted.credentials,
        access: Some(granted.access),
        organization_name: None,
        company_id: probe.company_id,
    };
    if let Some(id) = taken.integration_id {
        tested.organization_name = is_renamed.then_some(organization.name);
        store_update(context, actor, account_id, id, authorized_again(&options), tested).await?;
        return Ok(id);
    }
    let link = NewLink {
        organization,
        credentials: None,
        is_sync_on: plan.is_sync_on,
        period_seconds: plan.period_seconds,
        options: plan.options,
        request_id: None,
    };
    let again = TestedCredentials { company_id: None, ..tested.clone() };
    match store_link(context, actor, account_id, Arc::new(link), tested).await {
        // Linked already: it has new credentials now, and keeps its own options.
        Err(IntegrationError::Exists(id)) => {
            let options = context.get(account_id, id).await?.options;
            store_update(context, actor, account_id, id, authorized_again(&options), again).await?;
            Ok(id)
        }
        stored => Ok(stored?),
    }
}

/// An integration that is older than the wish for pushed changes wishes it with a new
/// authorization, which may allow what the old one did not.
fn authorized_again(options: &Options) -> SyncUpdate {
    let push = (options.push == PushWish::Unasked).then_some(PushWish::On);
    SyncUpdate { options: OptionsChange { push, ..OptionsChange::default() }, ..SyncUpdate::default() }
}

/// By the CRM's own number, whatever the organisation is called now.
async fn is_same_company(
    context: &IntegrationContext,
    account_id: AccountId,
    taken: &authorizations::PendingAuthorization,
    company_id: Option<&str>,
) -> Result<bool, StoreError> {
    let (Some(id), Some(company_id)) = (taken.integration_id, company_id) else { return Ok(false) };
    let stored = access::find(&context.db, account_id, id).await?;
    Ok(stored.and_then(|stored| stored.company_id).as_deref() == Some(company_id))
}

fn new_secret(context: &IntegrationContext) -> SecretString {
    let mut bytes = [0; SECRET_BYTES];
    context.ids.with_rng(|rng| rng.fill_bytes(&mut bytes));
    URL_SAFE_NO_PAD.encode(bytes).into()
}

fn seal_plan(
    context: &IntegrationContext,
    account_id: AccountId,
    integration_id: Option<IntegrationId>,
    plan: &AuthorizationPlan,
) -> Result<Vec<u8>, CredentialsError> {
    let plaintext = SecretString::from(serde_json::to_string(plan).map_err(|_| CredentialsError::Form)?);
    let scope = scope(account_id, integration_id);
    Ok(context.ids.with_rng(|rng| context.vault.key_ring.seal(rng, &scope, &plaintext))?)
}

fn open_plan(
    context: &IntegrationContext,
    account_id: AccountId,
    taken: &authorizations::PendingAuthorization,
) -> Result<AuthorizationPlan, IntegrationError> {
    let scope = scope(account_id, taken.integration_id);
    let plaintext = context.vault.key_ring.open(&scope, &taken.sealed).map_err(CredentialsError::Vault)?;
    Ok(serde_json::from_str(plaintext.expose_secret()).map_err(|_| CredentialsError::Form)?)
}
fn scope(account_id: AccountId, integration_id: Option<IntegrationId>) -> SealScope<'static> {
    let integration = integration_id.map_or(Uuid::nil(), |id| id.0);
    SealScope { account: account_id.0, integration, field: AUTHORIZATION }
}

fn split_state(state: &str) -> Option<(AccountId, &str)> {
    let (account, secret) = state.split_once('.').filter(|_| state.len() <= STATE_BYTES_MAX)?;
    Some((account.parse().ok()?, secret))
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}
