//! `contact-sync sync`: connects CRMs and watches their copies. Credentials come from files and the
//! environment, never from the command line, where others could read them.

mod connection;
mod credentials;
mod rejected;
mod status;
mod wishes;

use std::process::ExitCode;

use clap::Subcommand;
use prost::{Message, Name};
use tonic::Code;

use self::{
    connection::{AuthorizedArgs, ConnectionArgs, IntegrationOption, period},
    credentials::CredentialArgs,
    status::StatusArgs,
    wishes::SyncOptionsArgs,
};
use super::client::{
    AccountOption, ClientOptions, ClientSecrets, ServiceClient, advice,
    failure::CommandFailure,
    json,
    show::{self, LabelledLines, count},
    watch,
};
use crate::{
    domain::{
        ids::{IntegrationId, SyncRunId},
        provider::Provider,
    },
    rpc::pb,
};

/// Connect CRMs, and start, watch and stop the copying of their contacts
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SyncArgs {
    #[command(subcommand)]
    command: SyncCommand,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

#[derive(Debug, Clone, Subcommand)]
enum SyncCommand {
    /// Try a connection, and store nothing
    Test(TestArgs),
    /// Link the account to a CRM, and start the first copy
    Enable(Box<EnableArgs>),
    /// Show the account's integrations, or one with its newest runs
    Status(StatusArgs),
    /// Start a run now, also while the CRM refuses the credentials
    Trigger(TriggerArgs),
    /// Follow a run until it has ended
    Watch(RunArgs),
    /// Stop a run; what it has copied stays
    Cancel(RunArgs),
    /// Choose what is copied, and whether deletions are mirrored
    Options(WishesArgs),
    /// Make the deletions that a sweep held back because they were too many
    ConfirmDeletions(ConfirmArgs),
    /// Switch copying on
    On(OptionsArgs),
    /// Switch copying off, and keep what is copied
    Off(OptionsArgs),
    /// Bring new credentials
    Credentials(Box<CredentialsArgs>),
    /// Get the address at which an administrator lets this service into a CRM
    Authorize(AuthorizeArgs),
    /// Show what could not be read, or have it asked for again
    Rejected(rejected::RejectedArgs),
    /// Show what has become of one record of the CRM
    Trace(rejected::TraceArgs),
    /// Unlink the account from a CRM
    Disable(DisableArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct TestArgs {
    #[command(flatten)]
    account: AccountOption,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    credentials: CredentialArgs,
}

#[derive(Debug, Clone, clap::Args)]
struct EnableArgs {
    #[command(flatten)]
    account: AccountOption,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    wishes: SyncOptionsArgs,
    /// Copy nothing: only records that are clicked or reported are known
    #[arg(long)]
    off: bool,
    /// From the end of a run to the next, 1m to 24h [default: the server's, 30m]
    #[arg(long, value_name = "TIME", value_parser = period)]
    period: Option<prost_types::Duration>,
    /// Follow the first copy until it has ended
    #[arg(long, conflicts_with = "off")]
    watch: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct TriggerArgs {
    #[command(flatten)]
    integration: IntegrationOption,
    /// Read everything again, and not only what has changed
    #[arg(long, conflicts_with = "sweep")]
    full: bool,
    /// Read everything again, and ask for each record held here that does not come
    #[arg(long)]
    sweep: bool,
    /// Start no run: have the CRM asked for this one record, as its kind and id: user/35436
    #[arg(long, value_name = "KIND/ID", value_parser = rejected::record_key, conflicts_with_all = ["full", "sweep", "watch"])]
    record: Option<rejected::Record>,
    /// Follow the run until it has ended
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    account: AccountOption,
    /// Run, as `sync trigger` and `sync status` show it
    #[arg(long, value_name = "ID")]
    run: SyncRunId,
}

#[derive(Debug, Clone, clap::Args)]
struct OptionsArgs {
    #[command(flatten)]
    integration: IntegrationOption,
    /// From the end of a run to the next, 1m to 24h [default: as it is]
    #[arg(long, value_name = "TIME", value_parser = period)]
    period: Option<prost_types::Duration>,
}

#[derive(Debug, Clone, clap::Args)]
struct WishesArgs {
    #[command(flatten)]
    integration: IntegrationOption,
    #[command(flatten)]
    wishes: SyncOptionsArgs,
}

#[derive(Debug, Clone, clap::Args)]
struct ConfirmArgs {
    #[command(flatten)]
    integration: IntegrationOption,
    /// The number of deletions held back, as `sync status` shows it
    #[arg(long, value_name = "NUMBER")]
    held: i64,
    /// Follow the sweep until it has ended
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct CredentialsArgs {
    #[command(flatten)]
    integration: IntegrationOption,
    #[command(flatten)]
    credentials: CredentialArgs,
}

#[derive(Debug, Clone, clap::Args)]
struct AuthorizeArgs {
    #[command(flatten)]
    account: AccountOption,
    #[command(flatten)]
    crm: AuthorizedArgs,
    /// The integration that has lost its authorization; without it a new one is made
    #[arg(long, value_name = "ID")]
    integration: Option<IntegrationId>,
    /// Salesforce: where the administrator logs in: My Domain, or test.salesforce.com
    #[arg(long, value_name = "HOST")]
    salesforce_host: Option<String>,
}

#[derive(Debug, Clone, clap::Args)]
struct DisableArgs {
    #[command(flatten)]
    integration: IntegrationOption,
    /// Remove what was copied, too
    #[arg(long)]
    purge: bool,
}

/// Asks the server, and prints its answer.
pub(super) async fn run(args: SyncArgs, client: &ServiceClient, secrets: &ClientSecrets) -> anyhow::Result<ExitCode> {
    match args.command {
        SyncCommand::Test(args) => test(args, client, secrets).await,
        SyncCommand::Enable(args) => enable(*args, client, secrets).await,
        SyncCommand::Status(args) => status::status(args, client).await,
        SyncCommand::Trigger(args) => trigger(args, client).await,
        SyncCommand::Watch(args) => watch::report(client, &args.account.id.to_string(), &args.run.to_string()).await,
        SyncCommand::Cancel(args) => cancel(args, client).await,
        SyncCommand::Options(args) => {
            args.wishes.refuse_others(provider_of(&args.integration, client).await?)?;
            let mut changed = options(pb::SyncMode::Unspecified, None);
            args.wishes.put_into(&mut changed);
            update(args.integration, changed, client).await
        }
        SyncCommand::ConfirmDeletions(args) => confirm_deletions(args, client).await,
        SyncCommand::On(args) => update(args.integration, options(pb::SyncMode::On, args.period), client).await,
        SyncCommand::Off(args) => update(args.integration, options(pb::SyncMode::Off, args.period), client).await,
        SyncCommand::Authorize(args) => authorize(args, client).await,
        SyncCommand::Credentials(args) => renew(*args, client, secrets).await,
        SyncCommand::Rejected(args) => rejected::run(args, client).await,
        SyncCommand::Trace(args) => rejected::trace(args, client).await,
        SyncCommand::Disable(args) => disable(args, client).await,
    }
}

async fn test(args: TestArgs, client: &ServiceClient, secrets: &ClientSecrets) -> anyhow::Result<ExitCode> {
    let (provider, connection) = args.connection.parts(args.credentials.host())?;
    let request = pb::TestConnectionRequest {
        account_id: args.account.id.to_string(),
        provider: pb::Provider::from(provider).into(),
        connection: Some(connection),
        credentials: Some(args.credentials.required(provider, secrets)?.tell(client)),
    };
    let answer = client.syncs().test_connection(request).await?.into_inner();
    let mut lines = LabelledLines::default();
    lines.add("connection", if answer.ok { "works" } else { "does not work" });
    lines.add("reason", &answer.reason);
    lines.add("message", advice::message(&answer.reason, &answer.message));
    let mut details: Vec<_> = answer.metadata.iter().collect();
    details.sort();
    for (key, value) in details {
        lines.add(&show::clean(key), value);
    }
    if !answer.ok {
        lines.add(
            "next",
            advice::next_step(Code::FailedPrecondition, &answer.reason, &answer.metadata).unwrap_or_default(),
        );
    }
    if answer.estimated_contacts > 0 {
        lines.add("contacts", format!("about {}", count(answer.estimated_contacts)));
    }
    for field in &answer.text_fields {
        lines.add("text field", show::clean(&format!("{} ({})", field.key, field.title)));
    }
    client.print(&json::of(&answer), lines)?;
    Ok(if answer.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn enable(args: EnableArgs, client: &ServiceClient, secrets: &ClientSecrets) -> anyhow::Result<ExitCode> {
    let account_id = args.account.id.to_string();
    let (provider, connection) = args.connection.parts(args.credentials.host())?;
    args.wishes.refuse_others(provider)?;
    // The server tries what it is given; with sync off it needs nothing.
    let brought = if args.off {
        args.credentials.optional(provider, secrets)?
    } else {
        Some(args.credentials.required(provider, secrets)?)
    };
    let credentials = brought.map(|brought| brought.tell(client));
    let mode = if args.off { pb::SyncMode::Off } else { pb::SyncMode::On };
    let mut chosen = options(mode, args.period);
    args.wishes.put_into(&mut chosen);
    let request = pb::EnableSyncRequest {
        account_id: account_id.clone(),
        provider: pb::Provider::from(provider).into(),
        connection: Some(connection),
        credentials,
        options: Some(chosen),
        request_id: String::new(),
    };
    let answer = client.syncs().enable_sync(request).await?.into_inner();
    let run_id = answer.integration.as_ref().map(|integration| integration.current_sync_run_id.clone());
    let watched = run_id.filter(|run_id| args.watch && !run_id.is_empty());
    // A program reads one kind of object; every run names its integration.
    if watched.is_none() || !client.is_json() {
        print_integration(client, &answer, answer.integration.as_ref())?;
    }
    match watched {
        Some(run_id) => watch::report(client, &account_id, &run_id).await,
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn trigger(args: TriggerArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let account_id = args.integration.account.id.to_string();
    if let Some(record) = args.record {
        return rejected::look(args.integration, record, client).await;
    }
    let kind = match (args.full, args.sweep) {
        (true, _) => pb::SyncKind::Initial,
        (_, true) => pb::SyncKind::Sweep,
        _ => pb::SyncKind::Unspecified,
    };
    let request = pb::TriggerSyncRequest {
        account_id: account_id.clone(),
        integration_id: args.integration.id.to_string(),
        kind: kind.into(),
        ..Default::default()
    };
    let answer = client.syncs().trigger_sync(request).await?.into_inner();
    if let Some(run) = answer.sync_run.as_ref().filter(|_| args.watch) {
        return watch::report(client, &account_id, &run.id).await;
    }
    let mut lines = run_lines(answer.sync_run.as_ref());
    if answer.already_running {
        lines.add("note", "it was under way already; no other was started");
    }
    client.print(&json::of(&answer), lines)?;
    Ok(ExitCode::SUCCESS)
}

async fn cancel(args: RunArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let request =
        pb::CancelSyncRunRequest { account_id: args.account.id.to_string(), sync_run_id: args.run.to_string() };
    let answer = client.syncs().cancel_sync_run(request).await?.into_inner();
    client.print(&json::of(&answer), run_lines(answer.sync_run.as_ref()))?;
    Ok(ExitCode::SUCCESS)
}

fn run_lines(run: Option<&pb::SyncRun>) -> LabelledLines {
    let mut lines = LabelledLines::default();
    if let Some(run) = run {
        show::run(&mut lines, run);
    }
    lines
}

async fn confirm_deletions(args: ConfirmArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let account_id = args.integration.account.id.to_string();
    let request = pb::ConfirmDeletionsRequest {
        account_id: account_id.clone(),
        integration_id: args.integration.id.to_string(),
        held_deletions: args.held,
    };
    let answer = client.syncs().confirm_deletions(request).await?.into_inner();
    if let Some(run) = answer.sync_run.as_ref().filter(|_| args.watch) {
        return watch::report(client, &account_id, &run.id).await;
    }
    client.print(&json::of(&answer), run_lines(answer.sync_run.as_ref()))?;
    Ok(ExitCode::SUCCESS)
}

fn options(mode: pb::SyncMode, period: Option<prost_types::Duration>) -> pb::IntegrationOptions {
    pb::IntegrationOptions { sync: mode.into(), period, ..Default::default() }
}

async fn update(
    integration: IntegrationOption,
    options: pb::IntegrationOptions,
    client: &ServiceClient,
) -> anyhow::Result<ExitCode> {
    let request = pb::UpdateSyncRequest {
        account_id: integration.account.id.to_string(),
        integration_id: integration.id.to_string(),
        options: Some(options),
        ..Default::default()
    };
    let answer = client.syncs().update_sync(request).await?.into_inner();
    print_integration(client, &answer, answer.integration.as_ref())
}

async fn renew(args: CredentialsArgs, client: &ServiceClient, secrets: &ClientSecrets) -> anyhow::Result<ExitCode> {
    let provider = provider_of(&args.integration, client).await?;
    let request = pb::UpdateSyncRequest {
        account_id: args.integration.account.id.to_string(),
        integration_id: args.integration.id.to_string(),
        salesforce_host: args.credentials.host().unwrap_or_default(),
        credentials: Some(args.credentials.required(provider, secrets)?.tell(client)),
        options: None,
    };
    let answer = client.syncs().update_sync(request).await?.into_inner();
    print_integration(client, &answer, answer.integration.as_ref())
}

async fn authorize(args: AuthorizeArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let (provider, connection) = args.crm.parts(args.salesforce_host)?;
    let request = pb::StartAuthorizationRequest {
        account_id: args.account.id.to_string(),
        provider: pb::Provider::from(provider).into(),
        connection: Some(connection),
        integration_id: args.integration.map(|id| id.to_string()).unwrap_or_default(),
        options: None,
    };
    let answer = client.syncs().start_authorization(request).await?.into_inner();
    let text =
        format!("Let an administrator of the CRM open this within ten minutes, once:\n\n  {}\n", answer.authorize_url);
    client.print(&json::of(&answer), text)?;
    Ok(ExitCode::SUCCESS)
}

async fn provider_of(integration: &IntegrationOption, client: &ServiceClient) -> anyhow::Result<Provider> {
    let request = pb::GetIntegrationRequest {
        account_id: integration.account.id.to_string(),
        integration_id: integration.id.to_string(),
    };
    let found = client.syncs().get_integration(request).await?.into_inner().integration.unwrap_or_default();
    found.provider().known().ok_or_else(|| {
        let what = "the integration is of a CRM that this client does not know".to_owned();
        let next = "use a client of the server's version; `contact-sync --version` tells this one's".to_owned();
        CommandFailure { what, next }.into()
    })
}

async fn disable(args: DisableArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let copied_data = if args.purge { pb::CopiedData::Purge } else { pb::CopiedData::Keep };
    let request = pb::DisableSyncRequest {
        account_id: args.integration.account.id.to_string(),
        integration_id: args.integration.id.to_string(),
        copied_data: copied_data.into(),
    };
    let answer = client.syncs().disable_sync(request).await?.into_inner();
    print_integration(client, &answer, answer.integration.as_ref())
}

fn print_integration<A: Message + Name>(
    client: &ServiceClient,
    answer: &A,
    integration: Option<&pb::Integration>,
) -> anyhow::Result<ExitCode> {
    let mut lines = LabelledLines::default();
    if let Some(integration) = integration {
        show::integration(&mut lines, integration);
    }
    client.print(&json::of(answer), lines)?;
    Ok(ExitCode::SUCCESS)
}
