//! `SyncService`: integrations and their runs.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    audit::audited,
    convert,
    deadline::deadline,
    methods::TokenScope,
    page_token, parse,
    pb::{self, sync_service_server::SyncService},
    rejected,
    request_caller::caller,
    start_authorization, status,
    sync_requests::{list_filter, new_link, trial, update_of},
    together::ReadTogether,
    watchers::{WatchPlace, WatchRoom},
};
use crate::{
    domain::{
        audit::AuditTarget,
        clock::Clock,
        descriptor::Descriptors,
        ids::{AccountId, IntegrationId, SyncRunId},
        sync_run::SyncRun,
    },
    integrations::{self, IntegrationContext, IntegrationError},
    store::{self, Db},
    sync::{RecordInspector, SyncControl},
};

/// From look to look while nothing is known to have changed.
const WATCH_POLL: Duration = Duration::from_millis(200);

/// Serves integrations.
pub struct SyncRpc {
    /// Links and options.
    pub integrations: IntegrationContext,
    /// Runs.
    pub control: SyncControl,
    /// Records, held or rejected.
    pub inspector: RecordInspector,
    /// The API's pool.
    pub db: Db,
    /// What is known of the CRMs.
    pub descriptors: Descriptors,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who watches now.
    pub watchers: WatchRoom,
    /// Ends the watchers when the server drains.
    pub stop: CancellationToken,
    /// From the end of a run to the next, unless the request says otherwise.
    pub period_default_seconds: i32,
}

#[tonic::async_trait]
impl SyncService for SyncRpc {
    async fn test_connection(
        &self,
        request: Request<pb::TestConnectionRequest>,
    ) -> Result<Response<pb::TestConnectionResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let (account_id, (organization, credentials)) =
            (account_id, trial(&self.descriptors, request.into_inner())).together()?;
        store::accounts::find(&self.db, account_id).await?.ok_or_else(status::account_not_found)?;

        let tried = integrations::test_connection(&self.integrations, &organization, credentials).await;

        let answer = match tried {
            Ok(probe) => pb::TestConnectionResponse {
                ok: true,
                estimated_contacts: probe.estimated_contacts.unwrap_or(0),
                text_fields: probe
                    .text_fields
                    .into_iter()
                    .map(|field| pb::TextField { key: field.key, title: field.title })
                    .collect(),
                ..Default::default()
            },
            Err(IntegrationError::Crm(error)) => pb::TestConnectionResponse {
                ok: false,
                reason: error.reason().to_owned(),
                message: error.to_string(),
                estimated_contacts: 0,
                metadata: owned(&error.details()),
                text_fields: Vec::new(),
            },
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(answer))
    }

    async fn enable_sync(
        &self,
        request: Request<pb::EnableSyncRequest>,
    ) -> Result<Response<pb::EnableSyncResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let link = new_link(&self.descriptors, request.into_inner(), self.period_default_seconds);
        let (account_id, link) = (account_id, link).together()?;

        let integration = integrations::enable(&self.integrations, call.actor(), account_id, link).await?;

        Ok(Response::new(pb::EnableSyncResponse {
            integration: Some(convert::integration(integration, self.clock.now())),
        }))
    }

    async fn update_sync(
        &self,
        request: Request<pb::UpdateSyncRequest>,
    ) -> Result<Response<pb::UpdateSyncResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let request = request.into_inner();
        let integration_id: Result<IntegrationId, Status> = parse::id("integration_id", &request.integration_id);
        let (account_id, integration_id) = (account_id, integration_id).together()?;
        call.aim(AuditTarget::integration(integration_id, None));
        let known = store::integrations::find(&self.db, account_id, integration_id)
            .await?
            .ok_or(IntegrationError::IntegrationNotFound)?;
        let update = update_of(self.descriptors[known.freshness.provider], request)?;

        let integration =
            integrations::update(&self.integrations, call.actor(), account_id, integration_id, update).await?;

        Ok(Response::new(pb::UpdateSyncResponse {
            integration: Some(convert::integration(integration, self.clock.now())),
        }))
    }

    async fn start_authorization(
        &self,
        request: Request<pb::StartAuthorizationRequest>,
    ) -> Result<Response<pb::StartAuthorizationResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let wanted = start_authorization::authorization_request(
            &self.descriptors,
            request.into_inner(),
            self.period_default_seconds,
        );
        let (account_id, wanted) = (account_id, wanted).together()?;
        call.aim(AuditTarget { integration_id: wanted.integration_id, ..AuditTarget::default() });

        let started = integrations::start_authorization(&self.integrations, call.actor(), account_id, wanted).await?;

        Ok(Response::new(pb::StartAuthorizationResponse {
            authorize_url: started.authorize_url,
            expire_time: Some(convert::timestamp(started.expires_at)),
        }))
    }

    async fn disable_sync(
        &self,
        request: Request<pb::DisableSyncRequest>,
    ) -> Result<Response<pb::DisableSyncResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let request = request.into_inner();
        let integration_id: Result<IntegrationId, Status> = parse::id("integration_id", &request.integration_id);
        let purge = match pb::CopiedData::try_from(request.copied_data) {
            Ok(pb::CopiedData::Unspecified | pb::CopiedData::Keep) => Ok(false),
            Ok(pb::CopiedData::Purge) => Ok(true),
            Err(_) => Err(status::invalid("copied_data", "must be COPIED_DATA_KEEP or COPIED_DATA_PURGE")),
        };
        let (account_id, integration_id, purge) = (account_id, integration_id, purge).together()?;
        call.aim(AuditTarget::integration(integration_id, None));

        let integration =
            integrations::disable(&self.integrations, call.actor(), account_id, integration_id, purge).await?;

        Ok(Response::new(pb::DisableSyncResponse {
            integration: Some(convert::integration(integration, self.clock.now())),
        }))
    }

    async fn trigger_sync(
        &self,
        request: Request<pb::TriggerSyncRequest>,
    ) -> Result<Response<pb::TriggerSyncResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let request = request.into_inner();
        let integration_id: Result<IntegrationId, Status> = parse::id("integration_id", &request.integration_id);
        let record = rejected::asked(&self.descriptors, &request);
        let (account_id, integration_id, kind, request_id, record) = (
            account_id,
            integration_id,
            parse::sync_kind(request.kind),
            parse::request_id(&request.request_id),
            record,
        )
            .together()?;
        call.aim(AuditTarget::integration(integration_id, None));

        if record.is_some() {
            let (object_type, record_id) = (&request.object_type, &request.record_id);
            let asked =
                self.control.look_at_record(call.actor(), account_id, integration_id, object_type, record_id).await?;
            return Ok(Response::new(rejected::asked_record(asked, self.clock.now())));
        }
        let triggered = self.control.trigger(call.actor(), account_id, integration_id, kind, request_id).await?;

        let sync_run = Some(convert::sync_run(triggered.run, self.clock.now()));
        Ok(Response::new(pb::TriggerSyncResponse {
            sync_run,
            already_running: triggered.already_running,
            ..Default::default()
        }))
    }

    async fn confirm_deletions(
        &self,
        request: Request<pb::ConfirmDeletionsRequest>,
    ) -> Result<Response<pb::ConfirmDeletionsResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let request = request.into_inner();
        let integration_id: Result<IntegrationId, Status> = parse::id("integration_id", &request.integration_id);
        let held = Some(request.held_deletions).filter(|held| *held > 0);
        let held = held
            .ok_or_else(|| status::invalid("held_deletions", "must be the number that GetIntegration shows, above 0"));
        let (account_id, integration_id, held) = (account_id, integration_id, held).together()?;
        call.aim(AuditTarget::integration(integration_id, None));

        let run = self.control.confirm_deletions(call.actor(), account_id, integration_id, held).await?;

        let sync_run = Some(convert::sync_run(run, self.clock.now()));
        Ok(Response::new(pb::ConfirmDeletionsResponse { sync_run }))
    }

    async fn get_integration(
        &self,
        request: Request<pb::GetIntegrationRequest>,
    ) -> Result<Response<pb::GetIntegrationResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let integration_id = parse::id("integration_id", &request.get_ref().integration_id);
        let (account_id, integration_id): (AccountId, IntegrationId) = (account_id, integration_id).together()?;

        let found = store::integrations::find(&self.db, account_id, integration_id).await?;

        let integration = found.ok_or(IntegrationError::IntegrationNotFound)?;
        Ok(Response::new(pb::GetIntegrationResponse {
            integration: Some(convert::integration(integration, self.clock.now())),
        }))
    }

    async fn list_integrations(
        &self,
        request: Request<pb::ListIntegrationsRequest>,
    ) -> Result<Response<pb::ListIntegrationsResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id)?;
        let request = request.into_inner();
        let account = account_id.to_string();
        let after = page_token::decode_id("ListIntegrations", &[&account], &request.page_token);
        let (size, after) = (page_token::page_size(request.page_size), after).together()?;

        let mut integrations = store::integrations::list(&self.db, account_id, after, convert::limit(size)).await?;

        if integrations.is_empty() {
            store::accounts::find(&self.db, account_id).await?.ok_or_else(status::account_not_found)?;
        }
        let next = convert::cut_page(&mut integrations, size).map(|last| {
            page_token::encode("ListIntegrations", &[&account], &[&last.freshness.integration_id.to_string()])
        });
        let now = self.clock.now();
        let integrations = integrations.into_iter().map(|integration| convert::integration(integration, now)).collect();
        Ok(Response::new(pb::ListIntegrationsResponse { integrations, next_page_token: next.unwrap_or_default() }))
    }

    async fn get_sync_run(
        &self,
        request: Request<pb::GetSyncRunRequest>,
    ) -> Result<Response<pb::GetSyncRunResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let run_id = parse::id("sync_run_id", &request.get_ref().sync_run_id);
        let (account_id, run_id): (AccountId, SyncRunId) = (account_id, run_id).together()?;

        let run = find_run(&self.db, account_id, run_id).await?;

        Ok(Response::new(pb::GetSyncRunResponse { sync_run: Some(convert::sync_run(run, self.clock.now())) }))
    }

    async fn list_sync_runs(
        &self,
        request: Request<pb::ListSyncRunsRequest>,
    ) -> Result<Response<pb::ListSyncRunsResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let request = request.into_inner();
        let ids = (account_id, parse::id("integration_id", &request.integration_id)).together();
        let filter = list_filter(&ids);
        let filter = filter.each_ref().map(String::as_str);
        let before = match &ids {
            Ok(_) => page_token::decode_id("ListSyncRuns", &filter, &request.page_token),
            Err(_) => Ok(None),
        };
        let ((account_id, integration_id), size, before) =
            (ids, page_token::page_size(request.page_size), before).together()?;
        store::integrations::find(&self.db, account_id, integration_id)
            .await?
            .ok_or(IntegrationError::IntegrationNotFound)?;

        let mut runs =
            store::sync_runs::list(&self.db, account_id, integration_id, before, convert::limit(size)).await?;

        let next = convert::cut_page(&mut runs, size)
            .map(|last| page_token::encode("ListSyncRuns", &filter, &[&last.id.to_string()]));
        let now = self.clock.now();
        let sync_runs = runs.into_iter().map(|run| convert::sync_run(run, now)).collect();
        Ok(Response::new(pb::ListSyncRunsResponse { sync_runs, next_page_token: next.unwrap_or_default() }))
    }

    async fn cancel_sync_run(
        &self,
        request: Request<pb::CancelSyncRunRequest>,
    ) -> Result<Response<pb::CancelSyncRunResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let run_id = parse::id("sync_run_id", &request.get_ref().sync_run_id);
        let (account_id, run_id): (AccountId, SyncRunId) = (account_id, run_id).together()?;
        call.aim(AuditTarget::sync_run(run_id));

        let run = self.control.cancel(call.actor(), account_id, run_id).await?;

        Ok(Response::new(pb::CancelSyncRunResponse { sync_run: Some(convert::sync_run(run, self.clock.now())) }))
    }

    async fn list_rejected_records(
        &self,
        request: Request<pb::ListRejectedRecordsRequest>,
    ) -> Result<Response<pb::ListRejectedRecordsResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let with_content = caller(&request)?.has(TokenScope::ContactsRead);

        let page = rejected::list(&self.inspector, account_id, request.into_inner(), with_content).await?;

        Ok(Response::new(page))
    }

    async fn retry_rejected_records(
        &self,
        request: Request<pb::RetryRejectedRecordsRequest>,
    ) -> Result<Response<pb::RetryRejectedRecordsResponse>, Status> {
        let call = audited(&request)?;
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let request = request.into_inner();
        let integration_id: Result<IntegrationId, Status> = parse::id("integration_id", &request.integration_id);
        let key = rejected::retried(&self.descriptors, &request.object_type, &request.record_id);
        let (account_id, integration_id, key) = (account_id, integration_id, key).together()?;
        call.aim(AuditTarget::integration(integration_id, None));

        let retried = self.control.retry_rejected(call.actor(), account_id, integration_id, key).await?;

        let (run, already_running) =
            retried.triggered.map_or((None, false), |triggered| (Some(triggered.run), triggered.already_running));
        Ok(Response::new(pb::RetryRejectedRecordsResponse {
            retried: i64::try_from(retried.count).unwrap_or(i64::MAX),
            sync_run: run.map(|run| convert::sync_run(run, self.clock.now())),
            already_running,
        }))
    }

    async fn trace_record(
        &self,
        request: Request<pb::TraceRecordRequest>,
    ) -> Result<Response<pb::TraceRecordResponse>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let with_content = caller(&request)?.has(TokenScope::ContactsRead);
        let pb::TraceRecordRequest { integration_id, object_type, record_id, .. } = request.into_inner();
        let integration_id: Result<IntegrationId, Status> = parse::id("integration_id", &integration_id);
        let (account_id, integration_id) = (account_id, integration_id).together()?;

        let trace = self.inspector.trace(account_id, integration_id, &object_type, &record_id, with_content).await?;

        Ok(Response::new(rejected::trace(trace)))
    }

    type WatchSyncRunStream = Pin<Box<dyn Stream<Item = Result<pb::WatchSyncRunResponse, Status>> + Send>>;

    async fn watch_sync_run(
        &self,
        request: Request<pb::WatchSyncRunRequest>,
    ) -> Result<Response<Self::WatchSyncRunStream>, Status> {
        let account_id = caller(&request)?.authorize(&request.get_ref().account_id);
        let run_id = parse::id("sync_run_id", &request.get_ref().sync_run_id);
        let (account_id, run_id): (AccountId, SyncRunId) = (account_id, run_id).together()?;
        let place = self.watchers.enter(account_id, deadline(&request))?;
        find_run(&self.db, account_id, run_id).await?;

        let watch = Watch {
            db: self.db.clone(),
            clock: Arc::clone(&self.clock),
            account_id,
            run_id,
            last: None,
            stop: self.stop.clone(),
            _place: place,
        };

        Ok(Response::new(Box::pin(futures_util::stream::unfold(Some(watch), next_change))))
    }
}

/// A follower of one run.
struct Watch {
    db: Db,
    clock: Arc<dyn Clock>,
    account_id: AccountId,
    run_id: SyncRunId,
    last: Option<SyncRun>,
    stop: CancellationToken,
    _place: WatchPlace,
}

/// Waits for a change and sends it; ends after the run's end, after an error, and when the server
/// drains.
async fn next_change(watch: Option<Watch>) -> Option<(Result<pb::WatchSyncRunResponse, Status>, Option<Watch>)> {
    let mut watch = watch?;
    if watch.last.as_ref().is_some_and(|run| run.state.is_finished()) {
        return None;
    }
    loop {
        match find_run(&watch.db, watch.account_id, watch.run_id).await {
            Err(error) => return Some((Err(error), None)),
            Ok(run) if watch.last.as_ref() != Some(&run) => {
                watch.last = Some(run.clone());
                let response = pb::WatchSyncRunResponse { sync_run: Some(convert::sync_run(run, watch.clock.now())) };
                return Some((Ok(response), Some(watch)));
            }
            Ok(_) => {}
        }
        tokio::select! {
            () = watch.stop.cancelled() => return Some((Err(status::unavailable("SHUTTING_DOWN", "the server is shutting down; watch again", None)), None)),
            () = sleep(WATCH_POLL) => {}
        }
    }
}

fn owned(details: &[(&str, &str)]) -> HashMap<String, String> {
    details.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn find_run(db: &Db, account_id: AccountId, run_id: SyncRunId) -> Result<SyncRun, Status> {
    let found = store::sync_runs::find(db, account_id, run_id).await?;
    found.ok_or_else(|| crate::sync::TriggerError::RunNotFound.into())
}
