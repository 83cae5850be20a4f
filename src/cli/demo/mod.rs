//! `contact-sync demo`: the main job before one's eyes. A private PostgreSQL, simulated CRMs and
//! the service, all started by this process, and then a story of real calls over gRPC in which
//! every answer is checked. Invariant: lies in a folder of its own below the data directory, and
//! never touches what a real service keeps there.

mod browser;
mod calls;
mod crms;
mod fresh;
mod look_aside;
mod narrator;
mod people;
mod pipedrive;
mod salesforce;
mod stage;
mod story;
mod sync_off;
mod trust;
mod zendesk;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, anyhow, bail};

use self::{narrator::DemoNarrator, stage::DemoStage, story::DemoResult};
use super::client::{ACCOUNT_VARIABLE, SERVER_VARIABLE, failure};
use crate::{config::Config, domain::clock::Clock, lifecycle::ShutdownSignals};

/// Most people that are generated for one CRM.
const CONTACTS_MAX: u64 = 1_000_000;

/// Tell the main job as a story of real calls, then go on serving for calls of your own
///
/// Starts a private PostgreSQL, a simulated Zendesk, Salesforce and Pipedrive, and the service,
/// copies the contacts, and asks everything that a call router, an automation engine, an agent and
/// an administrator ask. Ends with code 1 if an answer is not what it should be. Needs PostgreSQL's
/// programs and nothing else; lies in the folder `demo` of the data directory.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DemoArgs {
    /// End after the story, instead of serving on
    #[arg(long)]
    once: bool,
    /// How many people to generate in each CRM, besides those of the story
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(..=CONTACTS_MAX))]
    contacts: u64,
}

/// Sets the stage, tells the story, and serves on until a signal comes.
pub(super) async fn run(
    args: DemoArgs,
    config: Config,
    clock: Arc<dyn Clock>,
    has_colour: bool,
) -> anyhow::Result<ExitCode> {
    let mut signals = ShutdownSignals::listen().context("cannot listen for signals")?;
    let mut narrator = DemoNarrator::new(has_colour);
    let contacts = usize::try_from(args.contacts).context("--contacts")?;
    let stage = tokio::select! {
        stage = Box::pin(DemoStage::set(config, clock, contacts, &mut narrator)) => stage?,
        name = signals.next() => bail!("stopped by {name} while starting"),
    };
    let told = tokio::select! {
        told = Box::pin(story::tell(&stage, &mut narrator)) => told,
        name = signals.next() => Err(anyhow!("stopped by {name} before the story's end")),
    };
    let code = match told {
        Err(error) => {
            eprintln!("{}", failure::describe(&error));
            narrator.say(&format!("The service's log is {}.", stage.log_file.display()));
            ExitCode::FAILURE
        }
        Ok(_) if !narrator.sum_up() => {
            narrator.say(&format!("The service's log is {}.", stage.log_file.display()));
            ExitCode::FAILURE
        }
        Ok(told) if args.once => {
            narrator.say(&format!(
                "Without --once it serves on for calls of your own. Data and log of account {} are in {}.",
                told.account_id,
                stage.dir.display()
            ));
            ExitCode::SUCCESS
        }
        Ok(told) => {
            invite(&stage, &told, &narrator);
            tokio::select! {
                _ = signals.next() => ExitCode::SUCCESS,
                () = stage.failed() => {
                    eprintln!("error  the service has stopped by itself; see {}", stage.log_file.display());
                    ExitCode::FAILURE
                }
            }
        }
    };
    stage.stop(&mut signals).await?;
    Ok(code)
}

/// How to go on.
fn invite(stage: &DemoStage, told: &DemoResult, narrator: &DemoNarrator) {
    narrator.heading("Your turn: in another terminal");
    if let Some(dir) = std::env::current_exe().ok().and_then(|path| path.parent().map(|dir| dir.display().to_string()))
    {
        narrator.command(&format!("export PATH=\"{dir}:$PATH\""));
    }
    narrator.command(&format!("export CONTACT_SYNC_DATA_DIR=\"{}\"", stage.dir.display()));
    narrator.command(&format!("export {ACCOUNT_VARIABLE}={}", told.account_id));
    if stage.service.address.port() != 50051 {
        narrator.command(&format!("export {SERVER_VARIABLE}={}", stage.url()));
    }
    narrator.command("contact-sync match '+1 310 867 5309' --call-id my-call");
    narrator.command("contact-sync sync status");
    narrator.gap();
    narrator.say("Add yourself to Zendesk, copy what is new, and call:");
    narrator.command(&format!(
        "curl -u {}/token:{} -H 'Content-Type: application/json' \\\n    -d '{{\"user\":{{\"name\":\"Me\",\"phone\":\"+1 503 \
         555 0177\"}}}}' \\\n    {}/api/v2/users",
        crm_simulator::zendesk::DEFAULT_EMAIL,
        crm_simulator::zendesk::DEFAULT_API_TOKEN,
        stage.crms.zendesk_url
    ));
    narrator.command(&format!("contact-sync sync trigger --watch \\\n    --integration {}", told.zendesk_id));
    narrator.command("contact-sync match 5035550177");
    narrator.gap();
    narrator.fact("gRPC", &format!("{}, see proto/contactsync/v1", stage.url()));
    narrator.fact("Token", "contact-sync token --all-accounts");
    for (crm, url) in [
        ("Zendesk", &stage.crms.zendesk_url),
        ("Salesforce", &stage.crms.salesforce_url),
        ("Pipedrive", &stage.crms.pipedrive_url),
    ] {
        narrator.fact(crm, &format!("{url}, simulated"));
    }
    narrator.fact("Data and log", &format!("{}; remove it to forget everything", stage.dir.display()));
    narrator.gap();
    narrator.say("Ctrl-C stops everything.");
}
