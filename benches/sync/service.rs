//! The service: the real binary in a process of its own, asked over gRPC, with its log read for
//! what a run says of itself.

use std::{fs, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use contact_sync::rpc::pb::{
    self, account_service_client::AccountServiceClient, sync_service_client::SyncServiceClient,
};
use serde_json::Value;
use tokio::time::timeout;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::{
    crm::{Crm, Provider},
    process::{Scratch, ServiceProcess},
};

/// A run that takes longer than this hangs.
const RUN_MAX: Duration = Duration::from_hours(2);

/// What a run says of itself, and the service of the run.
pub(crate) struct RunFigures {
    pub created: u64,
    pub updated: u64,
    /// From its start to its end.
    pub seconds: f64,
    pub pages: u64,
    pub fetch_seconds: f64,
    pub normalize_seconds: f64,
    pub apply_seconds: f64,
}

/// A running service, and one account with one integration.
pub(crate) struct Service {
    process: ServiceProcess,
    _scratch: Scratch,
    channel: Channel,
    account_id: String,
    integration_id: String,
}

impl Service {
    pub(crate) async fn start(database_url: &str, crm: &Crm) -> anyhow::Result<Self> {
        let scratch = Scratch::make()?;
        let base_url = match crm.provider {
            Provider::Zendesk => "CONTACT_SYNC_PROVIDERS__ZENDESK__BASE_URL",
            Provider::Salesforce => "CONTACT_SYNC_PROVIDERS__SALESFORCE__BASE_URL",
            Provider::Pipedrive => "CONTACT_SYNC_PROVIDERS__PIPEDRIVE__BASE_URL",
        };
        // Runs begin when they are asked for.
        let settings = vec![("CONTACT_SYNC_SYNC__PERIOD_SECONDS", "86400".to_owned()), (base_url, crm.url.clone())];
        let process = ServiceProcess::start(database_url, &scratch, settings).await?;
        let channel = Endpoint::from_shared(format!("http://{}", process.address))?.connect_lazy();
        let nothing = String::new();
        Ok(Self { process, _scratch: scratch, channel, account_id: nothing.clone(), integration_id: nothing })
    }

    /// A new account, linked to this CRM; its first copy is due at once.
    pub(crate) async fn enable(&mut self, crm: &Crm) -> anyhow::Result<()> {
        let account = pb::CreateAccountRequest {
            display_name: "Bench".to_owned(),
            default_region: "US".to_owned(),
            ..Default::default()
        };
        let mut accounts = AccountServiceClient::new(self.channel.clone());
        let account = accounts.create_account(self.with_token(account)?).await?.into_inner().account;
        self.account_id = account.context("no account")?.id;
        let request = self.with_token(crm.enable_request(self.account_id.clone()))?;
        let integration = self.syncs().enable_sync(request).await?.into_inner().integration;
        self.integration_id = integration.context("no integration")?.id;
        Ok(())
    }

    /// Starts a run and waits for its end.
    pub(crate) async fn trigger(&mut self) -> anyhow::Result<RunFigures> {
        let request = pb::TriggerSyncRequest {
            account_id: self.account_id.clone(),
            integration_id: self.integration_id.clone(),
            ..Default::default()
        };
        self.syncs().trigger_sync(self.with_token(request)?).await?;
        self.ended_run().await
    }

    /// Waits for the end of the run that is queued or under way.
    pub(crate) async fn ended_run(&mut self) -> anyhow::Result<RunFigures> {
        let is_end =
            |event: &Value| event["message"] == "sync run is complete" || event["message"] == "sync run failed";
        let ended = timeout(RUN_MAX, self.process.log.next_event(is_end)).await.context("a run does not end")??;
        if ended["message"] != "sync run is complete" {
            bail!("a run failed: {}", ended["error"]);
        }
        let run_id = ended["sync_run.id"].as_str().context("the log does not say which run")?;
        let request = pb::GetSyncRunRequest { account_id: self.account_id.clone(), sync_run_id: run_id.to_owned() };
        let run = self.syncs().get_sync_run(self.with_token(request)?).await?.into_inner().sync_run;
        let run = run.context("no run")?;
        let counts = run.counts.context("no counts")?;
        let (Some(start), Some(end)) = (run.start_time, run.end_time) else { bail!("a run without times") };
        let number = |name: &str| ended[name].as_u64().ok_or_else(|| anyhow!("the log does not say {name}"));
        let seconds = |name: &str| Ok::<f64, anyhow::Error>(Duration::from_millis(number(name)?).as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a span of hours at most")]
        let took = (end.seconds - start.seconds) as f64 + f64::from(end.nanos - start.nanos) / 1e9;
        Ok(RunFigures {
            created: u64::try_from(counts.created)?,
            updated: u64::try_from(counts.updated)?,
            seconds: took,
            pages: number("pages")?,
            fetch_seconds: seconds("fetch_ms")?,
            normalize_seconds: seconds("normalize_ms")?,
            apply_seconds: seconds("apply_ms")?,
        })
    }

    /// The most memory that it ever had, MB.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<f64> {
        let id = self.process.child.id().context("the service has ended")?;
        let status =
            fs::read_to_string(format!("/proc/{id}/status")).context("peak memory can be read on Linux only")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("VmHWM")?;
        Ok(kib * 1_024.0 / 1e6)
    }

    /// Ends it as an operator does.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let id = i32::try_from(self.process.child.id().context("the service has ended")?)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM)?;
        while self.process.log.next_event(|_| false).await.is_ok() {}
        let status = self.process.child.wait().await?;
        ensure!(status.success(), "the service ended with {status}");
        Ok(())
    }

    fn syncs(&self) -> SyncServiceClient<Channel> {
        SyncServiceClient::new(self.channel.clone())
    }

    fn with_token<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.process.token).parse()?);
        Ok(request)
    }
}
