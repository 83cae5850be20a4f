//! The service as it is shipped, but that it polls once a day: the real binary in a process of its
//! own, with its listener for what CRMs push.

use std::{net, time::Duration};

use anyhow::{Context as _, bail};
use contact_sync::{
    domain::provider::Provider,
    rpc::pb::{
        self, account_service_client::AccountServiceClient, caller_service_client::CallerServiceClient,
        sync_service_client::SyncServiceClient,
    },
};
use tokio::{
    process::Child,
    time::{sleep, timeout},
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    crms::Crms,
    process::{Scratch, ServiceProcess},
};

/// What takes longer than this hangs.
const PATIENCE: Duration = Duration::from_mins(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// An account's link to a CRM.
#[derive(Clone)]
pub(crate) struct Link {
    pub account_id: String,
    pub integration_id: String,
    pub provider: Provider,
}

/// A running service; ends with this.
pub(crate) struct Service {
    _child: Child,
    _scratch: Scratch,
    pub(crate) client: Client,
}

/// What asks it.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
    token: String,
}

impl Service {
    pub(crate) async fn start(database_url: &str, crms: &Crms) -> anyhow::Result<Self> {
        let scratch = Scratch::make()?;
        // Its webhooks name the port before it is bound.
        let http = net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut settings = crms.settings(scratch.path())?;
        settings.extend([
            ("CONTACT_SYNC_HTTP__LISTEN", http.to_string()),
            ("CONTACT_SYNC_HTTP__PUBLIC_URL", format!("http://{http}")),
            ("CONTACT_SYNC_SYNC__PERIOD_SECONDS", "86400".to_owned()),
        ]);
        let ServiceProcess { child, mut log, address, token } =
            ServiceProcess::start(database_url, &scratch, settings).await?;
        #[expect(clippy::disallowed_methods, reason = "ends with the service")]
        tokio::spawn(async move { log.next_event(|_| false).await });
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
        Ok(Self { _child: child, _scratch: scratch, client: Client { channel, token } })
    }
}

impl Client {
    /// A new account.
    pub(crate) async fn account(&self, look_aside_ms: i32) -> anyhow::Result<String> {
        let request = pb::CreateAccountRequest {
            display_name: "Bench".to_owned(),
            default_region: "US".to_owned(),
            look_aside_ms,
            ..Default::default()
        };
        let mut accounts = AccountServiceClient::new(self.channel.clone());
        let account = accounts.create_account(self.with_token(request)?).await?.into_inner().account;
        Ok(account.context("no account")?.id)
    }

    /// Links it to a CRM; its first copy is due at once.
    pub(crate) async fn link(&self, provider: Provider, account_id: &str, pushes: bool) -> anyhow::Result<Link> {
        let request = Crms::enable_request(provider, account_id, pushes);
        let integration = self.syncs().enable_sync(self.with_token(request)?).await?.into_inner().integration;
        let integration_id = integration.context("no integration")?.id;
        Ok(Link { account_id: account_id.to_owned(), integration_id, provider })
    }

    /// Its last run, once that has ended.
    pub(crate) async fn ended_run(&self, link: &Link) -> anyhow::Result<pb::SyncRun> {
        let ended = async {
            loop {
                let request = pb::ListSyncRunsRequest {
                    account_id: link.account_id.clone(),
                    integration_id: link.integration_id.clone(),
                    page_size: 1,
                    ..Default::default()
                };
                let runs = self.syncs().list_sync_runs(self.with_token(request)?).await?.into_inner().sync_runs;
                let run = runs.into_iter().next().context("no run")?;
                match run.state() {
                    pb::SyncRunState::Queued | pb::SyncRunState::Running => sleep(LOOK_EVERY).await,
                    pb::SyncRunState::Succeeded => return Ok(run),
                    other => bail!("a run ended as {}", other.as_str_name()),
                }
            }
        };
        timeout(PATIENCE, ended).await.context("a run does not end")?
    }

    /// Until its CRM pushes.
    pub(crate) async fn pushed(&self, link: &Link) -> anyhow::Result<()> {
        let pushed = async {
            loop {
                let request = pb::GetIntegrationRequest {
                    account_id: link.account_id.clone(),
                    integration_id: link.integration_id.clone(),
                };
                let answer = self.syncs().get_integration(self.with_token(request)?).await?.into_inner();
                let push = answer.integration.and_then(|integration| integration.push).unwrap_or_default();
                if push.state() == pb::PushState::Active {
                    return anyhow::Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(PATIENCE, pushed).await.with_context(|| format!("{} does not push", link.provider.as_str()))?
    }

    /// Copies everything again, unless that is under way.
    pub(crate) async fn copy_again(&self, link: &Link) -> anyhow::Result<()> {
        let request = pb::TriggerSyncRequest {
            account_id: link.account_id.clone(),
            integration_id: link.integration_id.clone(),
            kind: pb::SyncKind::Initial.into(),
            ..Default::default()
        };
        // One that is under way is as good.
        let _ = self.syncs().trigger_sync(self.with_token(request)?).await;
        Ok(())
    }

    /// Copies it no more.
    pub(crate) async fn switch_off(&self, link: &Link) -> anyhow::Result<()> {
        let options = pb::IntegrationOptions { sync: pb::SyncMode::Off.into(), ..Default::default() };
        let request = pb::UpdateSyncRequest {
            account_id: link.account_id.clone(),
            integration_id: link.integration_id.clone(),
            options: Some(options),
            ..Default::default()
        };
        self.syncs().update_sync(self.with_token(request)?).await?;
        Ok(())
    }

    /// Who calls, within so long.
    pub(crate) async fn call(
        &self,
        account_id: &str,
        number: &str,
        deadline: Duration,
    ) -> anyhow::Result<Result<pb::MatchCallerResponse, Status>> {
        let mut request = self.with_token(pb::MatchCallerRequest {
            account_id: account_id.to_owned(),
            phone_number: number.to_owned(),
            on_no_match: pb::OnNoMatch::LookupOnly.into(),
            ..Default::default()
        })?;
        request.set_timeout(deadline);
        let answer = CallerServiceClient::new(self.channel.clone()).match_caller(request).await;
        Ok(answer.map(tonic::Response::into_inner))
    }

    fn syncs(&self) -> SyncServiceClient<Channel> {
        SyncServiceClient::new(self.channel.clone())
    }

    fn with_token<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        Ok(request)
    }
}
