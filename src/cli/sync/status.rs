//! `contact-sync sync status`: the account's integrations, or one with its newest runs.

use std::process::ExitCode;

use tonic::Status;

use crate::{
    cli::client::{
        AccountOption, ServiceClient, json,
        show::{self, LabelledLines},
    },
    domain::ids::IntegrationId,
    rpc::pb,
};

/// Entries asked for at once.
pub(super) const PAGE_SIZE: i32 = 200;
/// Runs that `status` shows.
const RUNS_SHOWN: usize = 5;
/// Newest runs among which `status` looks for the last one that failed: about a day of them.
const RUNS_LOOKED_AT: i32 = 50;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    account: AccountOption,
    /// Only this integration, with its newest runs
    #[arg(long, value_name = "ID")]
    integration: Option<IntegrationId>,
}

/// Asks the server, and prints its answer.
pub(super) async fn status(args: StatusArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let account_id = args.account.id.to_string();
    let Some(integration_id) = args.integration else { return list(account_id, client).await };
    let integration_id = integration_id.to_string();
    let request = pb::GetIntegrationRequest { account_id: account_id.clone(), integration_id: integration_id.clone() };
    let answer = client.syncs().get_integration(request).await?.into_inner();
    let mut runs = newest_runs(account_id, integration_id, client).await?;
    let mut lines = LabelledLines::default();
    if let Some(integration) = &answer.integration {
        show::integration(&mut lines, integration);
    }
    show::last_failure(&mut lines, &runs.sync_runs);
    runs.sync_runs.truncate(RUNS_SHOWN);
    let mut text = lines.to_string();
    for run in &runs.sync_runs {
        let mut lines = LabelledLines::default();
        show::run(&mut lines, run);
        text = format!("{text}\n{lines}");
    }
    client.print(&json::both(&answer, &runs), text)?;
    Ok(ExitCode::SUCCESS)
}

async fn newest_runs(
    account_id: String,
    integration_id: String,
    client: &ServiceClient,
) -> Result<pb::ListSyncRunsResponse, Status> {
    let request =
        pb::ListSyncRunsRequest { account_id, integration_id, page_size: RUNS_LOOKED_AT, ..Default::default() };
    Ok(client.syncs().list_sync_runs(request).await?.into_inner())
}

async fn list(account_id: String, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let mut integrations = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListIntegrationsRequest { account_id: account_id.clone(), page_size: PAGE_SIZE, page_token };
        let page = client.syncs().list_integrations(request).await?.into_inner();
        integrations.extend(page.integrations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let answer = pb::ListIntegrationsResponse { integrations, ..Default::default() };
    let mut text = Vec::new();
    for integration in answer.integrations.iter().filter(|_| !client.is_json()) {
        let mut lines = LabelledLines::default();
        show::integration(&mut lines, integration);
        let runs = newest_runs(account_id.clone(), integration.id.clone(), client).await?;
        show::last_failure(&mut lines, &runs.sync_runs);
        text.push(lines.to_string());
    }
    if text.is_empty() {
        text.push("This account has no integration yet; `contact-sync sync enable` makes one.".to_owned());
    }
    client.print(&json::of(&answer), text.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}
